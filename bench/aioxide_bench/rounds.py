"""Many measurements: in each round every contender, in an order that changes.

A shared machine is faster at one moment and slower at the next: what a virtual core can do jumps by
half, with whatever its host gives to others, and stays there for a tenth of a second or for many.
So the contenders of a row are alive at the same time and take turns that are shorter than that, and
ratios are formed between turns of one cycle, which meet nearly the same machine. Each round has
fresh processes, since where a process's memory lies makes a difference too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from .catalogue import Contender, Row
from .measure import MeasurementFailed, Sample, Session, Timing

T = TypeVar("T")

# Where turns are longer than they should be (a program that works in large batches), a round ends
# early, for all: when its cycles have taken this many times as long, and there were this many.
LONGEST = 1.5
FEWEST = 3


@dataclass
class Outcome:
    """What became of one contender in one row."""

    contender: Contender
    # One sample per round, for as long as the contender did not fail.
    samples: list[Sample] = field(default_factory=list)
    # Why it did not take part at all.
    missing: str | None = None
    # Why it dropped out.
    failure: str | None = None

    @property
    def complete(self) -> bool:
        return self.missing is None and self.failure is None and bool(self.samples)


@dataclass(frozen=True)
class Schedule:
    """How often contenders are measured."""

    # With fresh processes each. There are more, up to the limit, until the result is steady.
    rounds: int
    most_rounds: int
    # Seconds for which each contender warms up at the beginning of a round.
    warm_up: float
    # Turns of each contender in a round, and their lengths.
    turns: int
    turn: Timing


Open = Callable[[Contender], Session]
Measure = Callable[[Contender], Sample]
Notice = Callable[[int, Contender], None]


def run_turns(
    row: Row,
    contenders: Sequence[Contender],
    missing: Mapping[Contender, str],
    schedule: Schedule,
    seed: int,
    start: Open,
    is_steady: Callable[[Sequence[Outcome]], bool],
    notice: Callable[[int], None],
) -> list[Outcome]:
    """Measures all contenders of a row in turns. `notice` is told the round to come."""
    outcomes = [Outcome(c, missing=missing.get(c)) for c in contenders]
    for number in range(schedule.most_rounds):
        if number >= schedule.rounds and is_steady(outcomes):
            break
        notice(number)
        run_round(outcomes, schedule, f"{seed} {row.key} {number}", start)
    return outcomes


def run_round(outcomes: Sequence[Outcome], schedule: Schedule, seed: str, start: Open) -> None:
    """One round: all who can start, warm up, and take their turns."""
    with ExitStack() as stack:
        sessions: list[tuple[Outcome, Session]] = []

        def attempt(outcome: Outcome, step: Callable[[], T]) -> T | None:
            """What the step gives. Who fails is out of this round and of those to come."""
            if outcome.missing is not None or outcome.failure is not None:
                return None
            try:
                return step()
            except (MeasurementFailed, OSError) as failed:
                outcome.failure = str(failed) or type(failed).__name__
                return None

        # All start before the first is waited for: they use both cores then.
        for outcome in shuffled(outcomes, seed):
            session = attempt(outcome, partial(start, outcome.contender))
            if session is not None:
                stack.enter_context(session)
                sessions.append((outcome, session))
        for outcome, session in sessions:
            attempt(outcome, session.begin)
        # The first turn counts as little as its window is long.
        lengths = [Timing(schedule.warm_up, schedule.turn.window)]
        lengths += [schedule.turn] * (schedule.turns - 1)
        began = time.monotonic()
        for cycle, timing in enumerate(lengths):
            if cycle >= FEWEST and time.monotonic() - began > LONGEST * sum_of(lengths, sessions):
                break
            for outcome, session in shuffled(sessions, f"{seed} {cycle}"):
                attempt(outcome, partial(session.turn, timing))
        # Some servers have to be waited for: all at the same time.
        for outcome, session in sessions:
            attempt(outcome, session.rest)
        for outcome, session in sessions:
            sample = attempt(outcome, session.end)
            if sample is not None:
                outcome.samples.append(sample)


def run_rounds(
    row: Row,
    contenders: Sequence[Contender],
    missing: Mapping[Contender, str],
    rounds: int,
    seed: int,
    measure: Measure,
    notice: Notice,
) -> list[Outcome]:
    """Measures all contenders of a row. `notice` is told the round and contender to come."""
    outcomes = [Outcome(c, missing=missing.get(c)) for c in contenders]
    for number in range(rounds):
        for outcome in shuffled(outcomes, f"{seed} {row.key} {number}"):
            if outcome.missing is not None or outcome.failure is not None:
                continue
            notice(number, outcome.contender)
            try:
                outcome.samples.append(measure(outcome.contender))
            except (MeasurementFailed, OSError) as failed:
                outcome.failure = str(failed) or type(failed).__name__
    return outcomes


def sum_of(lengths: Sequence[Timing], sessions: Sequence[object]) -> float:
    """Seconds that all turns of all of these take."""
    return len(sessions) * sum(timing.warm_up + timing.window for timing in lengths)


def shuffled(things: Sequence[T], seed: str) -> list[T]:
    """The same things in another order, which the seed decides."""
    order = list(things)
    random.Random(seed).shuffle(order)
    return order
