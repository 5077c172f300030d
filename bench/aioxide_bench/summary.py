"""From samples to figures: medians, spreads, and ratios formed within rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .catalogue import Contender, Role, Row
from .rounds import Outcome


@dataclass(frozen=True)
class Figures:
    """One contender in one row: medians over the rounds. CPU is the server's, per request."""

    requests_per_second: float
    cpu_us: float
    # The middle half of the rounds lies between these.
    cpu_us_low: float
    cpu_us_high: float
    p50_us: float
    p99_us: float
    # CPU divided by that of the best peer, and by that of the floor; None without one.
    to_best_peer: float | None
    to_floor: float | None


@dataclass(frozen=True)
class Line:
    """One contender of a row: its figures, or why it has none."""

    contender: Contender
    figures: Figures | None
    status: str
    reason: str | None
    # Most connections that the server left open after the client's end of file, in any round.
    left_open: int
    # Datagrams that the client sent again because no echo came, in all rounds.
    resent: int = 0


@dataclass(frozen=True)
class Result:
    """One row, summed up."""

    row: Row
    lines: tuple[Line, ...]
    # The peer with the lowest median CPU per request.
    best_peer: Contender | None

    def line(self, role: Role) -> Line | None:
        """The line of the only contender with this role: ours, or the floor."""
        return next((line for line in self.lines if line.contender.role is role), None)


def summarise(row: Row, outcomes: Sequence[Outcome]) -> Result:
    complete = [outcome for outcome in outcomes if outcome.complete]
    peers = [outcome for outcome in complete if outcome.contender.role is Role.PEER]
    best = min(peers, key=median_cpu, default=None)
    floor = next((o for o in complete if o.contender.role is Role.FLOOR), None)
    lines = tuple(
        Line(
            outcome.contender,
            figures(outcome, best, floor) if outcome.complete else None,
            status(outcome),
            outcome.missing or outcome.failure,
            max((sample.left_open for sample in outcome.samples), default=0),
            sum(sample.resent for sample in outcome.samples),
        )
        for outcome in outcomes
    )
    return Result(row, lines, best.contender if best else None)


def figures(outcome: Outcome, best: Outcome | None, floor: Outcome | None) -> Figures:
    cpu = [sample.cpu_us for sample in outcome.samples]
    low, high = middle_half(cpu)
    return Figures(
        requests_per_second=statistics.median(s.requests_per_second for s in outcome.samples),
        cpu_us=statistics.median(cpu),
        cpu_us_low=low,
        cpu_us_high=high,
        p50_us=statistics.median(s.p50_ns for s in outcome.samples) / 1e3,
        p99_us=statistics.median(s.p99_ns for s in outcome.samples) / 1e3,
        to_best_peer=ratio(outcome, best),
        to_floor=ratio(outcome, floor),
    )


def ratio(outcome: Outcome, base: Outcome | None) -> float | None:
    """The median of the rounds' ratios, each between two samples taken seconds apart."""
    if base is None:
        return None
    pairs = zip(outcome.samples, base.samples, strict=True)
    return statistics.median(sample.cpu_us / other.cpu_us for sample, other in pairs)


def median_cpu(outcome: Outcome) -> float:
    return statistics.median(sample.cpu_us for sample in outcome.samples)


def middle_half(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return quartiles[0], quartiles[2]


def status(outcome: Outcome) -> str:
    if outcome.missing:
        return "missing"
    return "ok" if outcome.complete else "failed"
