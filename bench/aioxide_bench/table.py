"""Results as text: a block per row while the run goes on, one table at its end."""

from __future__ import annotations

from collections.abc import Sequence

from .catalogue import Role, Unit
from .summary import Figures, Line, Result, verdict

# Columns of a contender's name.
NAME = 20


def headings(unit: Unit) -> str:
    return (
        f"  {'':<{NAME}}{unit.rate:>12}{unit.heading:>20}{'middle half':>22}"
        f"{'p50 µs':>10}{'p99 µs':>10}{'to best peer':>14}{'to floor':>10}"
    )


def row_block(result: Result) -> str:
    """One row, contender by contender."""
    best = result.best_peer.name if result.best_peer else None
    lines = [f"{result.row.title}   [{result.row.key}]", headings(result.row.unit)]
    lines += [contender_line(line, best) for line in result.lines]
    lines += [
        f"  note: {line.contender.name} left {line.left_open} connections open after the client's"
        " end of file"
        for line in result.lines
        if line.left_open
    ]
    lines += [
        f"  note: {line.contender.name} lost {line.resent} datagrams, which were sent again"
        for line in result.lines
        if line.resent
    ]
    if result.row.handshakes:
        what = "handshakes" if result.row.tls else "connections"
        lines += [
            f"  {line.contender.name}: {1e6 / line.figures.cost:,.0f} {what}/s of one core"
            for line in result.lines
            if line.figures
        ]
    return "\n".join(lines)


def contender_line(line: Line, best: str | None) -> str:
    if line.figures is None:
        reason = (line.reason or "").replace("\n", "\n" + " " * 14)
        return f"  {line.contender.name:<{NAME}}  {line.status}: {reason}"
    f = line.figures
    middle_half = f"{f.cost_low:.2f} .. {f.cost_high:.2f}"
    mark = "  best peer" if line.contender.name == best else ""
    rate = f"{f.rate:,.0f}" if f.rate else "-"
    return (
        f"  {line.contender.name:<{NAME}}{rate:>12}{f.cost:>20.2f}{middle_half:>22}"
        f"{latency(f.p50_us):>10}{latency(f.p99_us):>10}"
        f"{times(f.to_best_peer):>14}{times(f.to_floor):>10}{mark}"
    )


def closing_table(results: Sequence[Result]) -> str:
    """One line per row: ours, the best peer, the floor."""
    lines = [
        "Server CPU per request (or what the row counts); a ratio below 1 means that aioxide costs"
        " less.",
        f"  {'row':<25}{'figure':<20}{'aioxide':>10}{'best peer':>28}{'ratio':>8}{'floor':>10}"
        f"{'ratio':>8}",
    ]
    for result in results:
        ours = figures_of(result.line(Role.OURS))
        floor = figures_of(result.line(Role.FLOOR))
        best = result.best_line
        peer = f"{best.contender.name} {cost(best.figures)}" if best else "-"
        lines.append(
            f"  {result.row.key:<25}{result.row.unit.heading:<20}{cost(ours):>10}{peer:>28}"
            f"{times(ours.to_best_peer if ours else None):>8}"
            f"{cost(floor):>10}{times(ours.to_floor if ours else None):>8}  {verdict(result)}"
        )
    return "\n".join([*lines, f"  {tally(results)}"])


def tally(results: Sequence[Result]) -> str:
    """How many rows were won, and which were not."""
    verdicts = [verdict(result) for result in results]
    parts = [f"{verdicts.count('won')} of {len(results)} rows won"]
    for word in dict.fromkeys(v for v in verdicts if v and v != "won"):
        keys = [r.row.key for r, v in zip(results, verdicts, strict=True) if v == word]
        parts.append(f"{len(keys)} {word} ({', '.join(keys)})")
    return "; ".join(parts)


def figures_of(line: Line | None) -> Figures | None:
    return line.figures if line else None


def cost(figures: Figures | None) -> str:
    return f"{figures.cost:.2f}" if figures else "-"


def latency(microseconds: float) -> str:
    """A latency; none of a program that nobody asks."""
    return f"{microseconds:.1f}" if microseconds else "-"


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
