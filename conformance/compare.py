"""The verdict on two runs of one class. Knows no process and no file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from conformance.processes import END, Result, Results

#: What is noted of a test that no process came to.
MISSING = Result("missing")


@dataclass(frozen=True)
class Difference:
    """A test that passes on the standard loop and does not pass on aioxide."""

    test: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class NotHeld:
    """A test that does not pass on the standard loop, here and now."""

    test: str
    outcome: str
    aioxide: str
    detail: str


@dataclass
class Comparison:
    """The counts of some tests, and what stands out."""

    total: int = 0
    standard: int = 0
    aioxide: int = 0
    #: Of those that pass on aioxide, how many make no loop at all: arguments, names, plain classes.
    without_loop: int = 0
    differences: list[Difference] = field(default_factory=list)
    not_held: list[NotHeld] = field(default_factory=list)

    def add(self, other: Comparison) -> None:
        self.total += other.total
        self.standard += other.standard
        self.aioxide += other.aioxide
        self.without_loop += other.without_loop
        self.differences += other.differences
        self.not_held += other.not_held


def compare(of: str, names: Iterable[str], standard: Results, aioxide: Results) -> Comparison:
    """Compare the runs of a class, `of` being its name."""
    found = Comparison()
    for name in names:
        test = f"{of}.{name}"
        oracle = standard.get(name, MISSING)
        ours = aioxide.get(name, MISSING)
        proved = ours.passed and not ours.standard
        found.total += 1
        found.standard += oracle.passed
        found.aioxide += proved
        found.without_loop += proved and not ours.aioxide
        if not oracle.passed:
            found.not_held.append(NotHeld(test, oracle.outcome, ours.outcome, oracle.detail))
        if not oracle.passed or ours.passed:
            found.differences += _differing_parts(test, oracle, ours)
        if not oracle.passed:
            continue
        if not ours.passed:
            found.differences.append(Difference(test, ours.outcome, ours.detail))
        elif not proved:
            detail = "It made a loop of the standard library's, and has proved nothing of aioxide."
            found.differences.append(Difference(test, "passed elsewhere", detail))
    if END in aioxide and END not in standard:
        ending = aioxide[END]
        found.differences.append(Difference(f"{of} {END}", ending.outcome, ending.detail))
    return found


def _differing_parts(test: str, oracle: Result, ours: Result) -> Iterable[Difference]:
    """The subtests that pass on the standard loop, of a test that is not a difference as a whole.

    One that is missing from a test that passes has another name here: it shows an object.
    """
    for part, outcome in oracle.parts.items():
        here = ours.parts.get(part, "passed" if ours.passed else "missing")
        if outcome == "passed" and here != "passed":
            yield Difference(f"{test} {part}", here, ours.detail)
