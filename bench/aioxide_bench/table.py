"""Results as text: a block per row while the run goes on, one table at its end."""

from __future__ import annotations

from collections.abc import Sequence

from .catalogue import Role, Unit
from .summary import Figures, Line, Result

# Columns of a contender's name.
NAME = 20


def headings(unit: Unit) -> str:
    return (
        f"  {'':<{NAME}}{unit.rate:>12}{'CPU ' + unit.cost:>18}{'middle half':>20}"
        f"{'p50 µs':>10}{'p99 µs':>10}{'to best peer':>14}{'to floor':>10}"
    )


def row_block(result: Result) -> str:
    """One row, contender by contender."""
    best = result.best_peer.name if result.best_peer else None
    lines = [f"{result.row.title}   [{result.row.key}]", headings(result.row.unit)]
    lines += [contender_line(line, best, result.row.unit) for line in result.lines]
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
            f"  {line.contender.name}: {1e6 / line.figures.cpu_us:,.0f} {what}/s of one core"
            for line in result.lines
            if line.figures
        ]
    return "\n".join(lines)


def contender_line(line: Line, best: str | None, unit: Unit) -> str:
    if line.figures is None:
        reason = (line.reason or "").replace("\n", "\n" + " " * 14)
        return f"  {line.contender.name:<{NAME}}  {line.status}: {reason}"
    f = line.figures
    low, high = f.cpu_us_low * unit.cost_factor, f.cpu_us_high * unit.cost_factor
    middle_half = f"{low:.2f} .. {high:.2f}"
    mark = "  best peer" if line.contender.name == best else ""
    return (
        f"  {line.contender.name:<{NAME}}{f.requests_per_second / unit.requests:>12,.0f}"
        f"{f.cpu_us * unit.cost_factor:>18.2f}"
        f"{middle_half:>20}{latency(f.p50_us):>10}{latency(f.p99_us):>10}"
        f"{times(f.to_best_peer):>14}{times(f.to_floor):>10}{mark}"
    )


def closing_table(results: Sequence[Result]) -> str:
    """One line per row: ours, the best peer, the floor. CPU in µs per request."""
    lines = [
        "Server CPU per request (or what the row counts); a ratio below 1 means that aioxide costs"
        " less.",
        f"  {'row':<22}{'CPU':<14}{'aioxide':>10}{'best peer':>26}{'ratio':>8}{'floor':>10}"
        f"{'ratio':>8}",
    ]
    for result in results:
        ours = figures_of(result.line(Role.OURS))
        floor = figures_of(result.line(Role.FLOOR))
        best = next((x for x in result.lines if x.contender is result.best_peer), None)
        unit = result.row.unit
        peer = f"{best.contender.name} {cost(best.figures, unit)}" if best else "-"
        lines.append(
            f"  {result.row.key:<22}{unit.cost:<14}{cost(ours, unit):>10}{peer:>26}"
            f"{times(ours.to_best_peer if ours else None):>8}"
            f"{cost(floor, unit):>10}{times(ours.to_floor if ours else None):>8}  {verdict(result)}"
        )
    return "\n".join(lines)


def verdict(result: Result) -> str:
    """Won or lost against the best peer, in one word; nothing where there is no pair to compare."""
    line = result.line(Role.OURS)
    if line is None:
        return ""
    if line.figures is None:
        return line.status
    if line.figures.to_best_peer is None:
        return ""
    return "won" if line.figures.to_best_peer < 1 else "lost"


def figures_of(line: Line | None) -> Figures | None:
    return line.figures if line else None


def cost(figures: Figures | None, unit: Unit) -> str:
    return f"{figures.cpu_us * unit.cost_factor:.2f}" if figures else "-"


def latency(microseconds: float) -> str:
    """A latency; none of a program that nobody asks."""
    return f"{microseconds:.1f}" if microseconds else "-"


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
