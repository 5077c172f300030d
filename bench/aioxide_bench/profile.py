"""The command `profile`: where a server's CPU time goes, and whose it is.

Of each row, aioxide, the best peer and the floor: what a request costs is measured without perf,
then the server is sampled under the same load, and the shares of the samples are shares of that
cost. perf makes the machine slower, but not one owner more than another.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import machine, perf, record
from .cargo import SetupError
from .catalogue import Contender, Quantity, Role, Row
from .compare import Settings, measure_row
from .environment import Environment, interpreter, packages, run
from .measure import Cores, MeasurementFailed, Session, Timing
from .owners import Owner, Shares, shares
from .prepare import Prepared, prepare
from .progress import Estimate, Progress
from .summary import Result, summarise
from .table import times

# Raised when a field changes its meaning.
FORMAT = 1

# Seconds before the samples count: the server is warm.
WARM_UP = Timing(0.3, 0.05)

WIDTH = 12


@dataclass(frozen=True)
class Part:
    """One contender of a row: what it costs, in the row's unit, and whose that is."""

    name: str
    role: Role
    cost: float
    # To the best peer's.
    ratio: float | None
    shares: Shares

    def cost_of(self, owner: Owner) -> float:
        return self.cost * self.shares.of(owner)


@dataclass(frozen=True)
class RowProfile:
    """What a row's profile is made of. `key` is the row's."""

    key: str
    parts: tuple[Part, ...]

    def part(self, role: Role) -> Part | None:
        return next((part for part in self.parts if part.role is role), None)

    @property
    def without_the_loop(self) -> float | None:
        """The ratio to the best peer that would be left if aioxide's own code cost nothing."""
        ours = self.part(Role.OURS)
        if ours is None or ours.ratio is None:
            return None
        return ours.ratio * (1 - ours.shares.of(Owner.LOOP))

    @property
    def with_the_floor_s_loop(self) -> float | None:
        """The ratio that would be left if aioxide's own code cost what the floor's does.

        To enter the kernel and to leave it is in it."""
        ours, floor, without = self.part(Role.OURS), self.part(Role.FLOOR), self.without_the_loop
        if ours is None or floor is None or not ours.ratio or without is None:
            return None
        return without + floor.cost_of(Owner.LOOP) * ours.ratio / ours.cost


@dataclass(frozen=True)
class Profile:
    """A whole run, as its file tells it."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    rows: tuple[RowProfile, ...]


def profile(settings: Settings, seconds: float, results: Path | None) -> int:
    """Profiles the rows. With the results of a run, the costs and the best peers are theirs;
    otherwise they are measured first, among the contenders that were asked for."""
    perf.check()
    progress = Progress()
    known = {r.row.key: r for r in record.read(results).results} if results else {}
    rows = [row for row in settings.rows if row.unit.quantity is Quantity.CPU]
    if not rows:
        raise SetupError("none of these rows is about CPU time")
    environment = Environment(
        settings.build_folder / "bench-venv", interpreter(settings.python), progress
    )
    wanted = dict.fromkeys(c for row in rows for c in taking_part(row, settings, known))
    prepared = prepare(rows, list(wanted), environment, settings.wheel, settings.heap, progress)
    cores = Cores.of_this_machine()
    facts = machine.facts()
    settings.out_folder.mkdir(parents=True, exist_ok=True)
    file = settings.out_folder / "profile.json"
    found: list[RowProfile] = []
    for number, row in enumerate(rows):
        progress.say(f"\n({number + 1} of {len(rows)}) {row.title}   [{row.key}]")
        try:
            result = known.get(row.key) or plain(row, settings, prepared, cores, progress)
            one = profile_row(row, result, prepared, environment, cores, seconds, progress)
        except KeyboardInterrupt:
            progress.say("interrupted: the rows so far are the result")
            break
        progress.say(block(row, one))
        found.append(one)
        # However it ends, the rows so far are there.
        write(file, Profile(facts, prepared.versions, tuple(found)))
    progress.say(f"\nwritten: {file}")
    return 0 if any(one.parts for one in found) else 1


def taking_part(row: Row, settings: Settings, known: Mapping[str, Result]) -> list[Contender]:
    """Those that have to be installed for a row."""
    result = known.get(row.key)
    if result is None:
        return settings.taking_part(row)
    names = {contender.name for contender in shown(result)}
    return [contender for contender in row.contenders if contender.name in names]


def shown(result: Result) -> list[Contender]:
    """Ours, the best peer, the floor: those with figures."""
    best = result.best_line
    lines = [result.line(Role.OURS), best, result.line(Role.FLOOR)]
    return [line.contender for line in lines if line and line.figures]


def plain(
    row: Row, settings: Settings, prepared: Prepared, cores: Cores, progress: Progress
) -> Result:
    """The row without perf."""
    return summarise(row, measure_row(row, settings, prepared, cores, progress, Estimate()))


def profile_row(
    row: Row,
    result: Result,
    prepared: Prepared,
    environment: Environment,
    cores: Cores,
    seconds: float,
    progress: Progress,
) -> RowProfile:
    parts = []
    for name in [contender.name for contender in shown(result)]:
        contender = next(c for c in row.contenders if c.name == name)
        figures = next(x.figures for x in result.lines if x.contender.name == name)
        if figures is None or contender not in prepared.launches:
            progress.say(f"  {name}: {prepared.missing.get(contender, 'has no figures')}")
            continue
        progress.step(f"{row.title}: {name}")
        try:
            lines = sample(row, contender, prepared, cores, seconds)
        except (MeasurementFailed, OSError) as failed:
            progress.say(f"  {name} failed: {failed}")
            continue
        split = shares(lines, files_of(contender, prepared, environment))
        if not split.samples:
            progress.say(f"  {name}: perf has no sample of it")
            continue
        parts.append(Part(name, contender.role, figures.cost, figures.to_best_peer, split))
    return RowProfile(row.key, tuple(parts))


def sample(
    row: Row, contender: Contender, prepared: Prepared, cores: Cores, seconds: float
) -> list[str]:
    """A warm server under the row's load, as perf sees it."""
    launch = prepared.launches[contender]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Session(launch, prepared.load, row, cores, prepared.certificate) as session,
    ):
        session.begin()
        session.turn(WARM_UP)
        with perf.Sampling(session.server_pid, Path(folder)) as sampling:
            session.turn(Timing(0, seconds))
        lines = sampling.lines()
        session.end()
        return lines


def files_of(contender: Contender, prepared: Prepared, environment: Environment) -> list[str]:
    """The folders of the loop's packages, or the program's file."""
    if contender.loop is None:
        name = contender.binary or ""
        command = prepared.launches[contender].command
        return [str(Path(each).resolve()) for each in command if Path(each).name == name]
    code = """
import importlib, os, sys
for name in sys.argv[1:]:
    print(os.path.dirname(os.path.realpath(importlib.import_module(name).__file__)))
"""
    # asyncio's loop is Python, and so the interpreter's.
    done = run([environment.python, "-c", code, *packages(contender.loop)])
    folders = done.stdout.split("\n")[:-1]
    return [*folders, *(f"{folder}.libs" for folder in folders)]


def block(row: Row, one: RowProfile) -> str:
    """A row's profile as text."""
    used = [owner for owner in Owner if any(part.shares.of(owner) for part in one.parts)]
    names = "".join(f"{owner.value:>{max(WIDTH, len(owner.value) + 2)}}" for owner in used)
    lines = [f"  {row.unit.heading:<20}{'all':>9}{names}"]
    for part in one.parts:
        cells = (
            f"{part.cost_of(owner):.2f} {part.shares.of(owner):4.0%}".rjust(
                max(WIDTH, len(owner.value) + 2)
            )
            for owner in used
        )
        lines.append(f"  {part.name:<20}{part.cost:>9.2f}{''.join(cells)}")
    for part in one.parts:
        largest = ", ".join(f"{symbol} {share:.1%}" for symbol, share in part.shares.kernel)
        lines.append(f"  {part.name}, largest in the kernel: {largest or 'none'}")
    if one.without_the_loop is not None:
        lines.append(f"  {times(one.without_the_loop)} of the best peer if aioxide cost nothing")
    return "\n".join(lines)


def write(path: Path, whole: Profile) -> None:
    rows = [
        {
            "key": one.key,
            "contenders": [
                {
                    "name": part.name,
                    "role": part.role.value,
                    "cost": part.cost,
                    "ratio": part.ratio,
                    "samples": part.shares.samples,
                    "owners": {owner.value: share for owner, share in part.shares.owners.items()},
                    "kernel": part.shares.kernel,
                }
                for part in one.parts
            ],
        }
        for one in whole.rows
    ]
    about = {"format": FORMAT, "machine": dict(whole.machine), "versions": dict(whole.versions)}
    path.write_text(json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> Profile:
    """What [`write`] has written."""
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise SetupError(f"{path} has format {content['format']}, not {FORMAT}")
        rows = tuple(
            RowProfile(each["key"], tuple(map(part_of, each["contenders"])))
            for each in content["rows"]
        )
        return Profile(content["machine"], content["versions"], rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{path} holds no profile: {error!r}") from error


def part_of(content: Mapping[str, Any]) -> Part:
    owners = {Owner(name): share for name, share in content["owners"].items()}
    kernel = tuple((symbol, share) for symbol, share in content["kernel"])
    split = Shares(content["samples"], owners, kernel)
    return Part(content["name"], Role(content["role"]), content["cost"], content["ratio"], split)
