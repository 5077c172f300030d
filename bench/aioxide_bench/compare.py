"""The command `compare`: all contenders in all rows, as table, JSON and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import idle_memory, machine, plot, record
from .catalogue import Contender, Role, Row
from .environment import Environment, interpreter
from .measure import Cores, Sample, Session, Timing
from .prepare import Prepared, prepare
from .progress import Estimate, Progress
from .rounds import Outcome, Schedule, run_rounds, run_turns
from .summary import Result, is_steady, summarise
from .table import closing_table, row_block

# Seconds of a turn: of its warm-up, in which caches fill again, and of its window. All contenders
# have had one within a fraction of a second.
TURN = Timing(0.004, 0.016)

# Rounds are added to those that were asked for, until the middle half of the ratio to the best peer
# is no wider than this, or there are this many times as many.
STEADY = 0.03
MORE = 2

# Seconds that a contender takes in a round beyond its turns: two processes start and end. Seconds
# that a turn takes beyond its phases. And for each connection of a row of memory.
OVERHEAD = 0.3
TURN_OVERHEAD = 0.001
IDLE, IDLE_TLS = 0.00015, 0.003

# Rounds that a row takes, by those that were asked for: some need more.
USUAL = 1.4

# Above this many others at work, the figures are worth little.
BUSY = 1.5


@dataclass(frozen=True)
class Settings:
    """A run, as the command line has it."""

    rows: Sequence[Row]
    # Names of the contenders that take part.
    contenders: Sequence[str]
    rounds: int
    # Of a round: of each contender's warm-up, and of all its windows together.
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


def schedule(settings: Settings) -> Schedule:
    return Schedule(
        rounds=settings.rounds,
        most_rounds=settings.rounds * MORE,
        warm_up=settings.timing.warm_up,
        turns=max(1, round(settings.timing.window / TURN.window)),
        turn=TURN,
    )


def guess(row: Row, settings: Settings, prepared: Prepared) -> float:
    """Seconds that a row will take."""
    able = sum(c in prepared.launches for c in settings.taking_part(row))
    usual = 1 if row.idle else USUAL
    return able * rounds_of(row, settings) * usual * guess_of_one(row, settings)


def guess_of_one(row: Row, settings: Settings) -> float:
    """Seconds of a contender in a round."""
    if row.idle:
        return OVERHEAD + 2 * row.connections * (IDLE_TLS if row.tls else IDLE)
    plan = schedule(settings)
    turn = plan.turn.warm_up + plan.turn.window + TURN_OVERHEAD
    return OVERHEAD + plan.warm_up + plan.turns * turn


def measure_row(
    row: Row,
    settings: Settings,
    prepared: Prepared,
    cores: Cores,
    progress: Progress,
    estimate: Estimate,
) -> list[Outcome]:
    contenders, missing = settings.taking_part(row), prepared.missing
    if row.idle:
        return measure_idle(row, settings, prepared, progress, estimate)
    able = sum(c in prepared.launches for c in contenders)

    def notice(number: int) -> None:
        progress.step(f"{row.title}: round {number + 1} (about {estimate} left)")
        estimate.done(able * guess_of_one(row, settings))

    def start(contender: Contender) -> Session:
        launch = prepared.launches[contender]
        return Session(launch, prepared.load, row, cores, prepared.certificate)

    def steady(outcomes: Sequence[Outcome]) -> bool:
        return is_steady(summarise(row, outcomes), STEADY)

    return run_turns(
        row, contenders, missing, schedule(settings), settings.seed, start, steady, notice
    )


def measure_idle(
    row: Row, settings: Settings, prepared: Prepared, progress: Progress, estimate: Estimate
) -> list[Outcome]:
    """Memory does not depend on what the machine does: nobody takes turns."""
    rounds = rounds_of(row, settings)

    def notice(number: int, contender: Contender) -> None:
        progress.step(
            f"{row.title}: round {number + 1} of {rounds}, {contender.name} (about {estimate} left)"
        )

    def measure_one(contender: Contender) -> Sample:
        try:
            launch = prepared.launches[contender]
            return idle_memory.measure(launch, row, prepared.certificate)
        finally:
            estimate.done(guess_of_one(row, settings))

    contenders, missing = settings.taking_part(row), prepared.missing
    if reason := idle_memory.why_impossible(row):
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
    return f"{where}; median of {settings['rounds']} rounds or more, in turns"


def settings_record(settings: Settings, cores: Cores) -> dict[str, Any]:
    return {
        "rounds": settings.rounds,
        "seconds": settings.timing.window,
        "warm_up": settings.timing.warm_up,
        "turn_warm_up": TURN.warm_up,
        "turn": TURN.window,
        "steady": STEADY,
        "most_rounds": settings.rounds * MORE,
        "seed": settings.seed,
        "heap": settings.heap,
        "server_core": cores.server,
        "client_core": cores.client,
    }
