"""The command `compare`: all contenders in all rows, as table, JSON and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import idle_memory, machine, plot, record
from .catalogue import Contender, Role, Row
from .environment import Environment, interpreter
from .measure import Cores, Sample, Timing, measure
from .prepare import Prepared, prepare
from .progress import Estimate, Progress
from .rounds import Outcome, run_rounds
from .summary import Result, summarise
from .table import closing_table, row_block

# Seconds that a measurement takes beyond its phases: two processes start and end. And for each
# connection of a row of memory.
OVERHEAD = 0.5
IDLE, IDLE_TLS = 0.00015, 0.003

# Above this many others at work, the figures are worth little.
BUSY = 1.5


@dataclass(frozen=True)
class Settings:
    """A run, as the command line has it."""

    rows: Sequence[Row]
    # Names of the contenders that take part.
    contenders: Sequence[str]
    rounds: int
    timing: Timing
    seed: int
    heap: str
    python: str
    wheel: Path | None
    build_folder: Path
    out_folder: Path

    def taking_part(self, row: Row) -> list[Contender]:
        return [c for c in row.contenders if c.name in self.contenders]


def compare(settings: Settings) -> int:
    """Runs the comparison. The exit status is 1 if a server of ours failed or nothing was
    measured; a peer that fails is a fact about the peer."""
    progress = Progress()
    about: dict[str, Any] = {"machine": machine.facts()}
    if about["machine"]["load_average"] > BUSY:
        progress.say(
            f"this machine is busy (load {about['machine']['load_average']}): expect spread"
        )
    environment = Environment(
        settings.build_folder / "bench-venv", interpreter(settings.python), progress
    )
    contenders = dict.fromkeys(c for row in settings.rows for c in settings.taking_part(row))
    prepared = prepare(
        settings.rows, list(contenders), environment, settings.wheel, settings.heap, progress
    )
    cores = Cores.of_this_machine()
    measured = measure_rows(settings, prepared, cores, progress)
    if not measured:
        progress.say("nothing was measured")
        return 1
    about |= {"versions": prepared.versions, "settings": settings_record(settings, cores)}
    write_results(settings.out_folder, about, measured, progress)
    failed = [line for result, _ in measured for line in result.lines if line.status == "failed"]
    return 1 if any(line.contender.role is not Role.PEER for line in failed) else 0


def measure_rows(
    settings: Settings, prepared: Prepared, cores: Cores, progress: Progress
) -> list[tuple[Result, list[Outcome]]]:
    """Measures row after row. An interrupt keeps the rows that are complete."""
    estimate = Estimate()
    works = list(dict.fromkeys(row.work for row in settings.rows))
    estimate.expect(sum(guess(work, settings, prepared) for work in works))
    progress.say(f"\n{len(settings.rows)} rows: about {estimate} on a machine that is idle")
    # What was measured, for the rows that are read off the same samples.
    outcomes: dict[Row, list[Outcome]] = {}
    measured = []
    for number, row in enumerate(settings.rows):
        left = [work for work in works if work not in outcomes]
        estimate.expect(sum(guess(work, settings, prepared) for work in left))
        progress.say(f"\n({number + 1} of {len(settings.rows)}) about {estimate} left")
        try:
            if row.work not in outcomes:
                outcomes[row.work] = measure_row(row, settings, prepared, cores, progress, estimate)
        except KeyboardInterrupt:
            progress.say("interrupted: the rows so far are the result")
            break
        result = summarise(row, outcomes[row.work])
        progress.say(row_block(result))
        measured.append((result, outcomes[row.work]))
    return measured


def rounds_of(row: Row, settings: Settings) -> int:
    return min(settings.rounds, idle_memory.ROUNDS) if row.idle else settings.rounds


def guess(row: Row, settings: Settings, prepared: Prepared) -> float:
    """Seconds that a row will take."""
    able = sum(c in prepared.launches for c in settings.taking_part(row))
    return able * rounds_of(row, settings) * guess_of_one(row, settings.timing)


def guess_of_one(row: Row, timing: Timing) -> float:
    """Seconds of one measurement."""
    if row.idle:
        return OVERHEAD + 2 * row.connections * (IDLE_TLS if row.tls else IDLE)
    return timing.warm_up + timing.window + OVERHEAD


def measure_row(
    row: Row,
    settings: Settings,
    prepared: Prepared,
    cores: Cores,
    progress: Progress,
    estimate: Estimate,
) -> list[Outcome]:
    rounds = rounds_of(row, settings)

    def notice(number: int, contender: Contender) -> None:
        progress.step(
            f"{row.title}: round {number + 1} of {rounds}, {contender.name} (about {estimate} left)"
        )

    def measure_one(contender: Contender) -> Sample:
        launch, certificate = prepared.launches[contender], prepared.certificate
        try:
            if row.idle:
                return idle_memory.measure(launch, row, certificate)
            return measure(launch, prepared.load, row, settings.timing, cores, certificate)
        finally:
            estimate.done(guess_of_one(row, settings.timing))

    contenders = settings.taking_part(row)
    missing = prepared.missing
    if row.idle and (reason := idle_memory.why_impossible(row)):
        missing = dict.fromkeys(contenders, reason)
    return run_rounds(row, contenders, missing, rounds, settings.seed, measure_one, notice)


def write_results(
    folder: Path,
    about: dict[str, Any],
    measured: Sequence[tuple[Result, Sequence[Outcome]]],
    progress: Progress,
) -> None:
    """The closing table, and the two files."""
    results = [result for result, _ in measured]
    progress.say("\n" + closing_table(results))
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder / "results.json", about, measured)
    (folder / "results.svg").write_text(plot.picture(results, subtitle(about)))
    progress.say(f"\nwritten: {folder / 'results.json'}, {folder / 'results.svg'}")


def subtitle(about: dict[str, Any]) -> str:
    machine_facts, versions, settings = about["machine"], about["versions"], about["settings"]
    python = versions.get("python", "")
    where = ", ".join(filter(None, [machine_facts["cpu"], machine_facts["kernel"], python]))
    return f"{where}; median of {settings['rounds']} interleaved rounds"


def settings_record(settings: Settings, cores: Cores) -> dict[str, Any]:
    return {
        "rounds": settings.rounds,
        "seconds": settings.timing.window,
        "warm_up": settings.timing.warm_up,
        "seed": settings.seed,
        "heap": settings.heap,
        "server_core": cores.server,
        "client_core": cores.client,
    }
