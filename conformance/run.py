"""The command: `python -m conformance.run`, or `make conformance`. `--help` says the options."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import os
import signal
import sys
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from conformance import excluded, interpreters, processes, report
from conformance.compare import Comparison, compare
from conformance.interpreters import Interpreter, NotBuilt, Unusable
from conformance.processes import MODES, Class, Incomplete, Results

#: Exit statuses beside 0: aioxide differs; nothing could be said.
DIFFERENT = 1
NOTHING_SAID = 2

#: Tests of a class, by class, by module.
Tests = dict[str, dict[str, list[str]]]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m conformance.run",
        description="CPython's own asyncio tests with aioxide's loop, compared with the standard "
        "loop. Exits with 1 if a test passes there and not here.",
    )
    add = top.add_argument
    add(
        "--python",
        action="append",
        metavar="PATH",
        help="an interpreter, may be given again (each of 3.10 to 3.14 that is on the path)",
    )
    how = top.add_mutually_exclusive_group()
    how.add_argument("--wheel", type=Path, help="of aioxide, for the one interpreter; not built")
    how.add_argument(
        "--installed", action="store_true", help="the interpreters have aioxide; nothing is built"
    )
    add("--build", type=Path, default=_target(), help="folder of the wheels (target/conformance)")
    add("--module", action="append", help="only this module, as in test_streams; may be repeated")
    add(
        "--match",
        action="append",
        metavar="PATTERN",
        help="only tests whose module.Class.test has this in it, or fits it if there is a * in it",
    )
    add("--mode", choices=(*MODES, "both"), default="both", help="asyncio's debug mode (both)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (one per CPU)")
    add("--json", type=Path, metavar="OUT", help="write everything to this file too")
    add(
        "--excluded",
        action="store_true",
        help="run what the list leaves out, and say which of its entries pass: they can go",
    )
    return top


def _target() -> Path:
    target = os.environ.get("CARGO_TARGET_DIR")
    return (Path(target) if target else interpreters.PROJECT / "target") / "conformance"


def chosen_interpreters(options: argparse.Namespace) -> list[Interpreter]:
    """Those that can be tested on, each with aioxide. One that was asked for has to be usable."""
    paths = options.python or interpreters.on_this_machine()
    found = []
    for path in paths:
        try:
            found.append(interpreters.probe(path, options.installed))
        except Unusable as why:
            if options.python:
                raise Unusable(f"{path}: {why}") from None
            print(f"passed over {path}: {why}")
    if options.installed or not found:
        return found
    build = options.build.resolve()
    if options.wheel is not None:
        if len(found) != 1:
            raise NotBuilt("--wheel is for one interpreter: name it with --python")
        return [interpreters.unpacked(found[0], options.wheel, build)]
    maturin = interpreters.builder(build)
    ready = []
    for interpreter in found:
        print(f"==> building the wheel for {interpreter.name} (the first time takes minutes)")
        wheel = interpreters.build_wheel(interpreter, build, maturin)
        ready.append(interpreters.unpacked(interpreter, wheel, build))
    return ready


def wanted(name: str, patterns: list[str] | None) -> bool:
    """Whether `--match` asks for this test."""
    return not patterns or any(
        fnmatch.fnmatchcase(name, pattern) if "*" in pattern else pattern in name
        for pattern in patterns
    )


def discover(
    interpreter: Interpreter, options: argparse.Namespace, pool: ThreadPoolExecutor
) -> Tests:
    """The tests that were asked for."""
    modules = options.module or processes.list_modules(interpreter)
    listed = pool.map(lambda module: processes.list_tests(interpreter, module), modules)
    tests: Tests = {}
    for module, classes in zip(modules, listed, strict=True):
        for of, names in classes.items():
            asked = [name for name in names if wanted(f"{module}.{of}.{name}", options.match)]
            if asked:
                tests.setdefault(module, {})[of] = asked
    return tests


@dataclasses.dataclass
class Pending:
    """A class whose two runs are under way."""

    of: Class
    names: list[str]
    standard: Future[Results]
    aioxide: Future[Results]


def run_mode(
    interpreter: Interpreter,
    mode: str,
    tests: Tests,
    pool: ThreadPoolExecutor,
    the_excluded: bool = False,
) -> report.Run:
    """Run the tests of an interpreter in one mode, on both loops."""
    run = report.Run(interpreter.name, mode)
    left_out = excluded.for_version(interpreter.version)
    pending = []
    for module, classes in tests.items():
        for name, test_names in classes.items():
            of = Class(interpreter, mode, module, name)
            names = []
            for test in test_names:
                full_name = f"{module}.{name}.{test}"
                entry = excluded.find(left_out, full_name)
                if entry is not None:
                    run.excluded.setdefault(module, Counter())[entry.heading] += 1
                    run.by_pattern.setdefault(entry.excluded.pattern, []).append(full_name)
                if (entry is not None) == the_excluded:
                    names.append(test)
            if names:
                standard = pool.submit(processes.run_class, of, names, False)
                ours = pool.submit(processes.run_class, of, names, True)
                pending.append(Pending(of, names, standard, ours))
    for one in pending:
        of_class = f"{one.of.module}.{one.of.name}"
        compared = compare(of_class, one.names, one.standard.result(), one.aioxide.result())
        run.modules.setdefault(one.of.module, Comparison()).add(compared)
    return run


def show(run: report.Run) -> None:
    parts = (report.table(run), report.left_out(run), report.not_held(run), report.differences(run))
    print(f"\n{run.title}\n")
    print("\n\n".join(part for part in parts if part), flush=True)


def status(runs: list[report.Run]) -> int:
    """The command's exit status."""
    if any(run.whole.differences for run in runs):
        return DIFFERENT
    if not runs or not all(run.whole.standard for run in runs):
        return NOTHING_SAID
    # A test that no process of the standard loop came to: the fault is this program's.
    lost = any(test.outcome == "missing" for run in runs for test in run.whole.not_held)
    return NOTHING_SAID if lost else 0


def run_all(options: argparse.Namespace) -> list[report.Run]:
    """Each interpreter in each mode; what came of it is shown as it comes."""
    found = chosen_interpreters(options)
    modes = MODES if options.mode == "both" else (options.mode,)
    runs = []
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            for interpreter in found:
                tests = discover(interpreter, options, pool)
                for mode in modes:
                    print(f"==> {interpreter.name}, {mode} mode", flush=True)
                    run = run_mode(interpreter, mode, tests, pool, options.excluded)
                    runs.append(run)
                    if options.excluded:
                        print(report.needless(run), flush=True)
                    else:
                        show(run)
        except BaseException:
            processes.interrupted.set()
            pool.shutdown(cancel_futures=True)
            raise
    return runs


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    processes.interrupted.clear()
    try:
        runs = run_all(options)
    except (Unusable, NotBuilt, Incomplete) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return NOTHING_SAID
    except KeyboardInterrupt:
        return 130
    if options.json:
        options.json.write_text(json.dumps([report.as_json(run) for run in runs], indent=1))
    if options.excluded:
        return 0
    print()
    for run in runs:
        print(report.summary(run))
    result = status(runs)
    if result == NOTHING_SAID:
        print("conformance: tests were not compared", file=sys.stderr)
    return result


if __name__ == "__main__":
    # Ended from outside, it takes its processes along, as it does when it is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
