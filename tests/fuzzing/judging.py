"""Whether a program sees the same on both loops, and if not, whether that is aioxide's fault."""

from __future__ import annotations

import asyncio
import enum
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from .moods import Moody
from .programs import Program
from .running import LoopFactory, run
from .world import Trace

#: How often the oracle is asked again, in how many moods, before a difference counts.
MOODS = 24

#: How often a difference must be seen.
TIMES = 4


class Verdict(enum.Enum):
    EQUAL = "equal"
    #: The oracle itself does not always see the same.
    RACY = "racy"
    #: Seen, but not again.
    UNSTEADY = "unsteady"
    DIFFERENT = "different"


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    expected: Trace
    seen: Trace

    def __str__(self) -> str:
        return "\n".join(differences(self.expected, self.seen))


def oracle() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop()


def judge(program: Program, factory: LoopFactory) -> Judgement:
    """Compare a loop with the oracle; only if they differ is the oracle asked for more."""
    expected = run(program, oracle)
    seen = run(program, factory)
    if seen == expected:
        return Judgement(Verdict.EQUAL, expected, seen)
    if is_racy(program, expected):
        return Judgement(Verdict.RACY, expected, seen)
    for _ in range(1, TIMES):
        again = run(program, factory)
        if again == expected:
            return Judgement(Verdict.UNSTEADY, expected, seen)
    return Judgement(Verdict.DIFFERENT, expected, seen)


def is_racy(program: Program, expected: Trace) -> bool:
    """Whether the oracle may see something else."""
    if run(program, oracle) != expected:
        return True
    return any(run(program, functools.partial(Moody, mood)) != expected for mood in range(MOODS))


def differences(expected: Trace, seen: Trace) -> Iterator[str]:
    """The lines that are not equal, side by side from their first difference on."""
    for line in sorted({*expected, *seen}):
        left, right = expected.get(line, []), seen.get(line, [])
        if left == right:
            continue
        same = 0
        while same < min(len(left), len(right)) and left[same] == right[same]:
            same += 1
        yield f"--- {line}, after {same} equal entries"
        for entry in left[max(0, same - 2) : same]:
            yield f"      both: {entry}"
        for entry in left[same : same + 5]:
            yield f"    oracle: {entry}"
        for entry in right[same : same + 5]:
            yield f"      seen: {entry}"
