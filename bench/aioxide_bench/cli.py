"""The command line."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from . import catalogue
from .cargo import BENCH, SetupError
from .compare import Settings, compare
from .idle_memory import ROUNDS as IDLE_ROUNDS
from .measure import Timing
from .profile import profile
from .publish import publish
from .side_by_side import side_by_side

COMMANDS = ("compare", "side-by-side", "idle-memory", "profile", "publish")

# Rounds, seconds of all windows of a round, seconds of warm-up. With all contenders all rows take
# not quite 25 minutes with the first, the quick rows three with the second.
FULL = (4, 0.3, 0.15)
QUICK = (3, 0.2, 0.1)

# Rounds that a profile measures without perf, unless it has results; seconds that perf samples.
PLAIN_ROUNDS = 2
PROFILED = 3.0


def main() -> int:
    arguments = sys.argv[1:]
    # `compare` may be left out.
    if not arguments or (arguments[0] not in COMMANDS and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "compare")
    options = parser().parse_args(arguments)
    try:
        if options.command == "side-by-side":
            return side_by_side(options.python, options.seconds, options.heap)
        if options.command == "idle-memory":
            return compare(idle_settings(options))
        if options.command == "profile":
            return profile(profile_settings(options), options.seconds, options.results)
        if options.command == "publish":
            return publish(options.results, options.profile, options.figures, options.readme)
        return compare(settings(options))
    except SetupError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="bench/run.py", description="aioxide's benchmark")
    commands = top.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--python", default=sys.executable, help="the interpreter (this one)")
    common.add_argument(
        "--heap",
        choices=("settled", "fresh"),
        default="settled",
        help="state of the C library's allocator in the Python servers; see bench/README.md",
    )
    add_compare(commands.add_parser("compare", parents=[common], help="all contenders (default)"))
    demo = commands.add_parser("side-by-side", parents=[common], help="asyncio and aioxide only")
    demo.add_argument("--seconds", type=positive, default=10.0, help="of all together (10)")
    add_idle_memory(commands.add_parser("idle-memory", help="the rows of memory alone"))
    add_profile(
        commands.add_parser("profile", parents=[common], help="whose the CPU time is, by perf")
    )
    add_publish(commands.add_parser("publish", help="results as README.md shows them"))
    return top


def add_compare(command: argparse.ArgumentParser) -> None:
    keys = ", ".join(row.key for row in catalogue.rows())
    names = ", ".join(catalogue.CONTENDER_NAMES)
    target = target_folder()
    add = command.add_argument
    add("--quick", action="store_true", help="fewer rows, rounds and seconds: about 3 min")
    add("--rows", metavar="KEYS", help=f"comma-separated, * allowed: {keys}")
    add("--contenders", metavar="NAMES", help=f"comma-separated: {names}")
    add("--rounds", type=count, help=f"({FULL[0]}, quick {QUICK[0]})")
    add("--seconds", type=positive, help=f"of the windows of a round ({FULL[1]}, quick {QUICK[1]})")
    add(
        "--connections",
        type=count,
        default=catalogue.CONNECTIONS,
        help=f"of the Python rows ({catalogue.CONNECTIONS})",
    )
    add("--seed", type=int, default=1, help="of the order within the rounds (1)")
    add("--wheel", type=Path, help="of aioxide; without it, the one that --python has")
    add("--build", type=Path, default=target, help="folder of the environment (target)")
    add("--out", type=Path, default=target / "bench", help="folder of the results (target/bench)")


def add_idle_memory(command: argparse.ArgumentParser) -> None:
    contenders = (*catalogue.IDLE_CONTENDERS, *catalogue.IDLE_TLS_CONTENDERS)
    names = ", ".join(dict.fromkeys(c.name for c in contenders))
    plain, tls = catalogue.IDLE_CONNECTIONS, catalogue.IDLE_TLS_CONNECTIONS
    add = command.add_argument
    add("--python", default=sys.executable, help="the interpreter (this one)")
    add("--contenders", metavar="NAMES", help=f"comma-separated: {names}")
    add("--rounds", type=count, default=IDLE_ROUNDS, help=f"({IDLE_ROUNDS})")
    add("--connections", type=count, help=f"that are idle ({plain}, over TLS {tls})")
    add("--seed", type=int, default=1, help="of the order within the rounds (1)")
    add("--wheel", type=Path, help="of aioxide; without it, the one that --python has")
    add("--build", type=Path, default=target_folder(), help="folder of the environment (target)")
    out = target_folder() / "bench" / "idle-memory"
    add("--out", type=Path, default=out, help="folder of the results (target/bench/idle-memory)")


def add_profile(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--rows", metavar="KEYS", help="comma-separated, * allowed (all that are about CPU time)")
    add("--contenders", metavar="NAMES", help="among which the best peer is looked for")
    add("--results", metavar="FILE", type=Path, help="a run whose costs and best peers are used")
    add("--seconds", type=positive, default=PROFILED, help=f"that perf samples ({PROFILED})")
    add("--connections", type=count, default=catalogue.CONNECTIONS, help="of the Python rows")
    add("--seed", type=int, default=1, help="of the order within the rounds (1)")
    add("--wheel", type=Path, help="of aioxide; without it, the one that --python has")
    add("--build", type=Path, default=target_folder(), help="folder of the environment (target)")
    out = target_folder() / "bench"
    add("--out", type=Path, default=out, help="folder of profile.json (target/bench)")


def add_publish(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--results",
        metavar="FILE",
        type=Path,
        nargs="+",
        default=[target_folder() / "bench" / "results.json"],
        help="of runs, in the order in which they are to be shown (target/bench/results.json)",
    )
    add(
        "--profile",
        metavar="FILE",
        type=Path,
        nargs="*",
        default=[],
        help="profiles of such runs (profile.json), one for an interpreter",
    )
    add("--figures", type=Path, default=BENCH / "figures", help="their folder (bench/figures)")
    add(
        "--readme",
        type=Path,
        default=BENCH.parent / "README.md",
        help="the page that shows them between its marks (README.md)",
    )


def target_folder() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", BENCH.parent / "target"))


def idle_settings(options: argparse.Namespace) -> Settings:
    rows = [row for row in catalogue.rows() if row.idle]
    if options.connections:
        rows = [dataclasses.replace(row, connections=options.connections) for row in rows]
    return Settings(
        rows=rows,
        contenders=contender_names(options),
        rounds=options.rounds,
        timing=Timing(FULL[2], FULL[1]),
        seed=options.seed,
        heap="fresh",
        python=options.python,
        wheel=wheel(options),
        build_folder=options.build,
        out_folder=options.out,
    )


def contender_names(options: argparse.Namespace) -> tuple[str, ...]:
    names = split(options.contenders) or catalogue.CONTENDER_NAMES
    if unknown := [name for name in names if name not in catalogue.CONTENDER_NAMES]:
        raise SetupError(f"there is no contender {unknown[0]}")
    return names


def wheel(options: argparse.Namespace) -> Path | None:
    path: Path | None = options.wheel
    if path and not path.is_file():
        raise SetupError(f"there is no wheel {path}")
    return path


def settings(options: argparse.Namespace) -> Settings:
    rounds, window, warm_up = QUICK if options.quick else FULL
    rows = catalogue.rows(options.connections)
    if options.rows:
        rows = catalogue.select(rows, split(options.rows))
    elif options.quick:
        rows = [row for row in rows if row.quick]
    if not rows:
        raise SetupError(f"no row fits {options.rows}; see --help")
    return Settings(
        rows=rows,
        contenders=contender_names(options),
        rounds=options.rounds or rounds,
        timing=Timing(warm_up, options.seconds or window),
        seed=options.seed,
        heap=options.heap,
        python=options.python,
        wheel=wheel(options),
        build_folder=options.build,
        out_folder=options.out,
    )


def profile_settings(options: argparse.Namespace) -> Settings:
    rows = catalogue.rows(options.connections)
    if options.rows:
        rows = catalogue.select(rows, split(options.rows))
    return Settings(
        rows=rows,
        contenders=contender_names(options),
        rounds=PLAIN_ROUNDS,
        timing=Timing(FULL[2], FULL[1]),
        seed=options.seed,
        heap=options.heap,
        python=options.python,
        wheel=wheel(options),
        build_folder=options.build,
        out_folder=options.out,
    )


def split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return value
