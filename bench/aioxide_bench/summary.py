"""From samples to figures: medians, spreads, and ratios formed within cycles of turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .catalogue import Contender, Quantity, Role, Row, Unit
from .measure import Sample
from .rounds import Outcome


@dataclass(frozen=True)
class Figures:
    """One contender in one row: medians over the rounds."""

    # Units of the row in a second, 0 where nothing is asked for.
    rate: float
    # What the row compares, in the row's unit.
    cost: float
    # The middle half of the rounds lies between these.
    cost_low: float
    cost_high: float
    # Latencies, 0 where nothing is asked for.
    p50_us: float
    p99_us: float
    # Cost divided by that of the best peer, and by that of the floor; None without one.
    to_best_peer: float | None
    to_floor: float | None
    # The middle half of the rounds' ratios to the best peer lies between these.
    ratio_low: float | None = None
    ratio_high: float | None = None


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
    # The peer with the lowest median cost.
    best_peer: Contender | None

    def line(self, role: Role) -> Line | None:
        """The line of the only contender with this role: ours, or the floor."""
        return next((line for line in self.lines if line.contender.role is role), None)

    @property
    def best_line(self) -> Line | None:
        """The line of the best peer."""
        return next((line for line in self.lines if line.contender is self.best_peer), None)


def summarise(row: Row, outcomes: Sequence[Outcome]) -> Result:
    complete = [outcome for outcome in outcomes if outcome.complete]
    costs = dict(zip(map(id, complete), costs_of_rounds(complete, row.unit), strict=True))
    peers = [outcome for outcome in complete if outcome.contender.role is Role.PEER]
    best = min(peers, key=lambda peer: statistics.median(costs[id(peer)]), default=None)
    floor = next((o for o in complete if o.contender.role is Role.FLOOR), None)
    lines = tuple(
        Line(
            outcome.contender,
            figures(outcome, costs[id(outcome)], best, floor, row.unit)
            if outcome.complete
            else None,
            status(outcome),
            outcome.missing or outcome.failure,
            max((sample.left_open for sample in outcome.samples), default=0),
            sum(sample.resent for sample in outcome.samples),
        )
        for outcome in outcomes
    )
    return Result(row, lines, best.contender if best else None)


def costs_of_rounds(outcomes: Sequence[Outcome], unit: Unit) -> list[list[float]]:
    """What each round says of each contender.

    Of contenders that take turns it is the median of their turns, each divided by what its cycle
    costs them all (the geometric mean), times what a cycle usually costs. Otherwise the median of
    one contender might be of turns in which the machine was quick, and that of another not.
    """
    samples = [sample for outcome in outcomes for sample in outcome.samples]
    if not all(sample.turns for sample in samples):
        return [[cost(sample, unit) for sample in outcome.samples] for outcome in outcomes]
    # Round, contender, cycle.
    turns = [
        [[cost(turn, unit) for turn in outcome.samples[number].turns] for outcome in outcomes]
        for number in range(min((len(o.samples) for o in outcomes), default=0))
    ]
    levels = [
        [statistics.geometric_mean(cycle) for cycle in zip(*each, strict=True)] for each in turns
    ]
    usual = statistics.median([level for each in levels for level in each]) if levels else 0.0
    return [
        [
            usual * statistics.median(c / level for c, level in zip(each[i], of, strict=True))
            for each, of in zip(turns, levels, strict=True)
        ]
        for i in range(len(outcomes))
    ]


def figures(
    outcome: Outcome,
    costs: Sequence[float],
    best: Outcome | None,
    floor: Outcome | None,
    unit: Unit,
) -> Figures:
    samples = outcome.samples
    low, high = middle_half(costs)
    rate = statistics.median(s.requests_per_second for s in samples) / unit.requests
    to_best, to_floor = ratios(outcome, best, unit), ratios(outcome, floor, unit)
    ratio_low, ratio_high = middle_half(to_best) if to_best else (None, None)
    return Figures(
        rate=0 if unit.quantity is Quantity.MEMORY else rate,
        cost=statistics.median(costs),
        cost_low=low,
        cost_high=high,
        p50_us=statistics.median(s.p50_ns for s in samples) / 1e3,
        p99_us=statistics.median(s.p99_ns for s in samples) / 1e3,
        to_best_peer=statistics.median(to_best) if to_best else None,
        to_floor=statistics.median(to_floor) if to_floor else None,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
    )


def cost(sample: Sample, unit: Unit) -> float:
    """What a row with this unit compares: of a sample of turns their median."""
    if sample.turns:
        return statistics.median(cost(turn, unit) for turn in sample.turns)
    if unit.quantity is Quantity.P50:
        return sample.p50_ns / 1e3 * unit.factor
    if unit.quantity is Quantity.P99:
        return sample.p99_ns / 1e3 * unit.factor
    if unit.quantity is Quantity.MEMORY:
        return sample.resident_kib / sample.requests * unit.factor
    return sample.cpu_us * unit.factor


def ratios(outcome: Outcome, base: Outcome | None, unit: Unit) -> list[float]:
    """The ratio of each round; none without a base."""
    if base is None:
        return []
    pairs = zip(outcome.samples, base.samples, strict=True)
    return [ratio(sample, other, unit) for sample, other in pairs]


def ratio(sample: Sample, other: Sample, unit: Unit) -> float:
    """Of a round: the median of the ratios of its cycles, each between two turns that were taken a
    fraction of a second apart."""
    if not sample.turns or not other.turns:
        return cost(sample, unit) / cost(other, unit)
    pairs = zip(sample.turns, other.turns, strict=True)
    return statistics.median(cost(turn, unit) / cost(of_other, unit) for turn, of_other in pairs)


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


# Ratios this close to 1 are level whatever the rounds say: no run is finer than that.
LEVEL = 0.01


def verdict(result: Result) -> str:
    """Won, lost or level against the best peer; nothing where there is no pair to compare.

    Level is a ratio that reads 0.99 to 1.01 with two digits, and one that the rounds do not agree
    on: whose middle half has 1 in it.
    """
    line = result.line(Role.OURS)
    if line is None:
        return ""
    f = line.figures
    if f is None:
        return line.status
    if f.to_best_peer is None:
        return ""
    low, high = f.ratio_low or f.to_best_peer, f.ratio_high or f.to_best_peer
    if low <= 1 <= high or abs(round(f.to_best_peer, 2) - 1) <= LEVEL + 1e-9:
        return "level"
    return "won" if f.to_best_peer < 1 else "lost"


def target_verdict(result: Result) -> str:
    """Met or missed, as the ratios read with two digits; nothing without a target or a ratio."""
    target, line = result.row.target, result.line(Role.OURS)
    f = line.figures if line else None
    if target is None or f is None or f.to_best_peer is None:
        return ""
    pairs = [(f.to_best_peer, target.to_best_peer)]
    if target.to_floor is not None and f.to_floor is not None:
        pairs.append((f.to_floor, target.to_floor))
    met = all(round(ratio, 2) <= wanted + 1e-9 for ratio, wanted in pairs)
    return "met" if met else "missed"


def is_steady(result: Result, width: float) -> bool:
    """Whether the middle half of the rounds' ratios to the best peer is no wider than this, or
    there is no such ratio."""
    line = result.line(Role.OURS)
    f = line.figures if line else None
    if f is None or f.ratio_low is None or f.ratio_high is None:
        return True
    return f.ratio_high - f.ratio_low <= width
