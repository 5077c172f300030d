"""Many measurements: in each round every contender once, in an order that changes.

A shared machine is faster at one moment and slower at the next. Contenders measured in the same
round, seconds apart, meet nearly the same machine, so ratios are formed within rounds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .catalogue import Contender, Row
from .measure import MeasurementFailed, Sample

T = TypeVar("T")


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


Measure = Callable[[Contender], Sample]
Notice = Callable[[int, Contender], None]


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


def shuffled(things: Sequence[T], seed: str) -> list[T]:
    """The same things in another order, which the seed decides."""
    order = list(things)
    random.Random(seed).shuffle(order)
    return order
