"""What is printed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from conformance.compare import Comparison

#: Lines of a failure's detail that are shown.
DETAIL_LINES = 12


#: "no loop": of those that pass on aioxide, how many make no loop at all.
HEAD = ("module", "standard loop", "aioxide", "no loop", "differ", "left out")


@dataclass
class Run:
    """What came of one interpreter in one mode."""

    interpreter: str
    mode: str
    modules: dict[str, Comparison] = field(default_factory=dict)
    #: Of each module, how many tests the list leaves out, by heading.
    excluded: dict[str, Counter[str]] = field(default_factory=dict)
    #: The tests that each pattern of the list leaves out.
    by_pattern: dict[str, list[str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.interpreter}, {self.mode} mode"

    @property
    def whole(self) -> Comparison:
        whole = Comparison()
        for comparison in self.modules.values():
            whole.add(comparison)
        return whole

    @property
    def excluded_in_all(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for counts in self.excluded.values():
            counted.update(counts)
        return counted


def table(run: Run) -> str:
    """Passed and total of each module, on both loops."""
    rows: list[tuple[str, ...]] = [HEAD]
    for module in sorted(run.modules.keys() | run.excluded.keys()):
        left_out = run.excluded.get(module, Counter()).total()
        rows.append(_row(module, run.modules.get(module, Comparison()), left_out))
    rows.append(_row("all of them", run.whole, run.excluded_in_all.total()))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(name: str, found: Comparison, left_out: int) -> tuple[str, ...]:
    return (
        name,
        f"{found.standard}/{found.total}",
        f"{found.aioxide}/{found.total}",
        str(found.without_loop or ""),
        str(len(found.differences) or ""),
        str(left_out or ""),
    )


def left_out(run: Run) -> str:
    """The list's headings, with the number of tests under each."""
    counts = run.excluded_in_all
    if not counts:
        return ""
    lines = [f"{count:6}  {heading}" for heading, count in counts.most_common()]
    return "\n".join([f"Left out, {counts.total()} in all:", *lines])


def not_held(run: Run) -> str:
    """The tests that do not pass on the standard loop; those that it skips are only counted."""
    tests = run.whole.not_held
    skipped = sum(test.outcome == "skipped" for test in tests)
    lines = [f"Skipped by the standard loop's run: {skipped}"] if skipped else []
    others = [test for test in tests if test.outcome != "skipped"]
    if others:
        lines.append(
            "Not held against aioxide, because they do not pass on the standard loop here:"
        )
    for test in others:
        lines.append(f"  {test.test}: {test.outcome}; on aioxide {test.aioxide}")
        lines.append(f"      {last_line(test.detail)}")
    return "\n".join(lines)


def differences(run: Run) -> str:
    """Each difference with the end of what was said."""
    lines = []
    for difference in run.whole.differences:
        lines.append(f"DIFFERENCE {difference.test}: {difference.outcome} on aioxide")
        said = [line for line in difference.detail.splitlines() if line.strip()]
        # An exception's end says most, and of stacks the beginning.
        ended = difference.outcome in {"hung", "crashed"}
        said = said[:DETAIL_LINES] if ended else said[-DETAIL_LINES:]
        lines += [f"    {line}" for line in said]
    return "\n".join(lines)


def needless(run: Run) -> str:
    """Of a run of what the list leaves out: the entries with tests that pass all the same."""
    whole = run.whole
    failing = {difference.test for difference in whole.differences}
    failing |= {test.test for test in whole.not_held}
    lines = [f"{run.title}: of {whole.total} tests that are left out, {whole.aioxide} pass here."]
    for pattern, tests in run.by_pattern.items():
        passing = [test for test in tests if test not in failing]
        if len(passing) == len(tests):
            lines.append(f"  {pattern}: all {len(tests)}")
        elif passing:
            lines.append(f"  {pattern}: {len(passing)} of {len(tests)}")
            lines += [f"      {test}" for test in passing]
    return "\n".join(lines)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def summary(run: Run) -> str:
    """One line."""
    whole = run.whole
    count = len(whole.differences)
    said = "no difference" if count == 0 else f"{count} difference{'s' * (count > 1)}"
    return (
        f"{run.title}: standard loop {whole.standard}/{whole.total}, "
        f"aioxide {whole.aioxide}/{whole.total}, {said}"
    )


def as_json(run: Run) -> dict[str, object]:
    """Everything, for other programs."""
    return {
        "interpreter": run.interpreter,
        "mode": run.mode,
        "modules": {
            name: {
                "total": found.total,
                "standard": found.standard,
                "aioxide": found.aioxide,
                "without_loop": found.without_loop,
                "differences": [vars(difference) for difference in found.differences],
                "not_held": [vars(test) for test in found.not_held],
            }
            for name, found in run.modules.items()
        },
        "excluded": {name: dict(counts) for name, counts in run.excluded.items()},
    }
