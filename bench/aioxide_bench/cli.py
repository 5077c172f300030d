"""The command line."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import catalogue
from .cargo import BENCH, SetupError
from .compare import Settings, compare
from .measure import Timing
from .side_by_side import side_by_side

COMMANDS = ("compare", "side-by-side")

# Rounds, seconds of a measured window, seconds of warm-up. All rows take about 9 minutes with the
# first, the quick rows about 90 seconds with the second.
FULL = (5, 1.0, 0.25)
QUICK = (3, 0.3, 0.1)


def main() -> int:
    arguments = sys.argv[1:]
    # `compare` may be left out.
    if not arguments or (arguments[0] not in COMMANDS and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "compare")
    options = parser().parse_args(arguments)
    try:
        if options.command == "side-by-side":
            return side_by_side(options.python, options.seconds, options.heap)
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
        help="state of the C library's allocator in the Python servers; see README.md",
    )
    add_compare(commands.add_parser("compare", parents=[common], help="all contenders (default)"))
    demo = commands.add_parser("side-by-side", parents=[common], help="asyncio and aioxide only")
    demo.add_argument("--seconds", type=positive, default=10.0, help="of all together (10)")
    return top


def add_compare(command: argparse.ArgumentParser) -> None:
    keys = ", ".join(row.key for row in catalogue.rows())
    names = ", ".join(catalogue.CONTENDER_NAMES)
    target = Path(os.environ.get("CARGO_TARGET_DIR", BENCH.parent / "target"))
    add = command.add_argument
    add("--quick", action="store_true", help="fewer rows, rounds and seconds: about 90 s")
    add("--rows", metavar="KEYS", help=f"comma-separated, * allowed: {keys}")
    add("--contenders", metavar="NAMES", help=f"comma-separated: {names}")
    add("--rounds", type=count, help=f"({FULL[0]}, quick {QUICK[0]})")
    add("--seconds", type=positive, help=f"of a window ({FULL[1]}, quick {QUICK[1]})")
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


def settings(options: argparse.Namespace) -> Settings:
    if options.wheel and not options.wheel.is_file():
        raise SetupError(f"there is no wheel {options.wheel}")
    rounds, window, warm_up = QUICK if options.quick else FULL
    names = split(options.contenders) or catalogue.CONTENDER_NAMES
    if unknown := [name for name in names if name not in catalogue.CONTENDER_NAMES]:
        raise SetupError(f"there is no contender {unknown[0]}")
    rows = catalogue.rows(options.connections)
    if options.rows:
        rows = catalogue.select(rows, split(options.rows))
    elif options.quick:
        rows = [row for row in rows if row.quick]
    if not rows:
        raise SetupError(f"no row fits {options.rows}; see --help")
    return Settings(
        rows=rows,
        contenders=names,
        rounds=options.rounds or rounds,
        timing=Timing(warm_up, options.seconds or window),
        seed=options.seed,
        heap=options.heap,
        python=options.python,
        wheel=options.wheel,
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
