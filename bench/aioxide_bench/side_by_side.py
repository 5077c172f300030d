"""The command `side-by-side`: one Python echo server on asyncio's loop and on aioxide.

A demonstration of about ten seconds that needs no environment, no peer and no network: only the
load generator, and an interpreter that has aioxide.
"""

from __future__ import annotations

from .cargo import SetupError, build
from .catalogue import CONNECTIONS, KIB, PYTHON_CONTENDERS, Contender, Role, Row
from .environment import interpreter, why_missing
from .measure import Cores, Sample, Timing, measure
from .prepare import python_launch
from .progress import Progress
from .rounds import Outcome, run_rounds
from .summary import Figures, summarise

# Seconds per measurement, its phases and the start of its two processes included. Two make a round.
SLICE = 1.0
WARM_UP = 0.15
OVERHEAD = 0.3

SEED = 1


def side_by_side(python: str, seconds: float, heap: str) -> int:
    progress = Progress()
    python = interpreter(python)
    contenders = {c.name: c for c in PYTHON_CONTENDERS if c.name in ("asyncio", "aioxide")}
    for name in contenders:
        if reason := why_missing(python, name):
            raise SetupError(
                f"{python} cannot run {name}: {reason}. After `make demo`,"
                " --python target/venv/bin/python can."
            )
    row = Row("side-by-side", "protocol", KIB, CONNECTIONS, quick=True)
    load = (build("load").path,)
    launches = {c: python_launch(python, name, heap) for name, c in contenders.items()}
    rounds = max(2, round(seconds / (2 * SLICE)))
    timing = Timing(WARM_UP, max(0.1, seconds / (2 * rounds) - WARM_UP - OVERHEAD))
    cores = Cores.of_this_machine()
    progress.say(
        f"One Python echo server (bench/servers/echo.py), {row.connections} connections that send"
        f" {row.size // KIB} KiB and wait for it,\non asyncio's event loop and on aioxide in turn:"
        f" {rounds} slices of {seconds / (2 * rounds):.1f} s each."
    )

    def measure_one(contender: Contender) -> Sample:
        sample = measure(launches[contender], load, row, timing, cores, certificate=None)
        progress.say(
            f"  {contender.name:<8}{sample.requests_per_second:>10,.0f} requests/s"
            f"{sample.cpu_us:>8.1f} µs of server CPU per request"
        )
        return sample

    def notice(number: int, contender: Contender) -> None:
        progress.step(f"  slice {number + 1} of {rounds}: {contender.name} ...")

    outcomes = run_rounds(row, list(contenders.values()), {}, rounds, SEED, measure_one, notice)
    return report(row, outcomes, progress)


def report(row: Row, outcomes: list[Outcome], progress: Progress) -> int:
    """The medians, and the ratio in words. The exit status is 1 if either loop failed."""
    for outcome in outcomes:
        if outcome.failure:
            progress.say(f"{outcome.contender.name} failed: {outcome.failure}")
    result = summarise(row, outcomes)
    figures = {x.contender.role: x.figures for x in result.lines if x.figures}
    if len(figures) < 2:
        return 1
    ours, theirs = figures[Role.OURS], figures[Role.PEER]
    progress.say("\nMedians, every byte of every reply checked:")
    for name, f in (("asyncio", theirs), ("aioxide", ours)):
        progress.say(
            f"  {name:<8}{f.rate:>10,.0f} requests/s{f.cost:>8.1f} µs of server"
            f" CPU per request   p50 {f.p50_us:.0f} µs   p99 {f.p99_us:.0f} µs"
        )
    progress.say(sentence(ours, theirs))
    return 0


def sentence(ours: Figures, theirs: Figures) -> str:
    speed = ours.rate / theirs.rate
    cost = ours.to_best_peer or ours.cost / theirs.cost
    return (
        f"On aioxide the same program serves {speed:.2f} times the requests per second and uses"
        f" {cost:.2f} of the CPU time per request."
    )
