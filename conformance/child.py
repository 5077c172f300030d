"""The half that runs inside the interpreter under test: lists tests, or runs those of one class.

    child.py modules                           prints the names of the suite's modules, as JSON
    child.py list MODULE                       prints a module's tests by class, as JSON
    child.py run --results FILE MODULE CLASS   runs; reads the names of the tests from its input

What happens is written to FILE as it happens, one JSON object in a line, so that a process that
crashes or hangs loses nothing of what came before:

    {"event": "start", "test": name}
    {"event": "part", "test": name, "part": subtest, "outcome": ..., "detail": ...}
    {"event": "end", "test": name, "outcome": ..., "detail": ..., "aioxide": n, "standard": n}
    {"event": "fixture", "test": what, "outcome": ..., "detail": ...}     setUpClass and its like
    {"event": "done"}

The numbers are of the loops that the test has made, ours and the standard library's.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import traceback
import unittest
import warnings
from pathlib import Path
from typing import Any, TextIO

#: From the best outcome to the worst; a test that has several is given the worst.
OUTCOMES = ("passed", "skipped", "failed")


class Recorder(unittest.TestResult):
    """Writes what happens."""

    def __init__(self, file: TextIO, patience: float, loops: Any) -> None:
        super().__init__()
        self.file = file
        self.patience = patience
        self.loops = loops
        self.running: str | None = None
        self.before = (0, 0)
        self.process = os.getpid()

    def write(self, **event: Any) -> None:
        if os.getpid() != self.process:
            return  # a test's own child, which came back here
        self.file.write(json.dumps(event) + "\n")
        self.file.flush()

    def made(self) -> tuple[int, int]:
        """The loops that this process has made, ours and the standard library's."""
        return (self.loops.aioxide, self.loops.standard) if self.loops else (0, 0)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        # What an earlier test has left is not found, and warned about, in the middle of this one.
        gc.collect()
        self.running = method(test)
        self.outcome = "passed"
        self.detail = ""
        self.before = self.made()
        self.write(event="start", test=self.running)
        # Shows every thread's stack and ends the process, whatever holds the interpreter.
        faulthandler.dump_traceback_later(self.patience, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        ours, standard = (now - then for now, then in zip(self.made(), self.before))  # noqa: B905
        self.write(
            event="end",
            test=self.running,
            outcome=self.outcome,
            detail=self.detail,
            aioxide=ours,
            standard=standard,
        )
        self.running = None

    def note(self, test: Any, outcome: str, detail: str) -> None:
        if self.running is None:
            self.write(event="fixture", test=str(test), outcome=outcome, detail=detail)
        elif OUTCOMES.index(outcome) > OUTCOMES.index(self.outcome):
            self.outcome, self.detail = outcome, detail

    def addError(self, test: Any, err: Any) -> None:
        self.note(test, "failed", described(err))

    def addFailure(self, test: Any, err: Any) -> None:
        self.note(test, "failed", described(err))

    def addSkip(self, test: Any, reason: str) -> None:
        if hasattr(test, "_subDescription"):
            self.part(test, "skipped", reason)
        else:
            self.note(test, "skipped", reason)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self.note(test, "failed", "unexpected success")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is None:
            self.part(subtest, "passed", "")
        else:
            self.part(subtest, "failed", described(err))

    def part(self, subtest: Any, outcome: str, detail: str) -> None:
        name = subtest._subDescription()
        self.write(event="part", test=self.running, part=name, outcome=outcome, detail=detail)
        if outcome == "failed":
            self.note(subtest, outcome, f"{name}: {detail}")


def described(err: Any) -> str:
    return "".join(traceback.format_exception(*err))


def method(test: unittest.TestCase) -> str:
    return test.id().rpartition(".")[2]


def tests_of(suite: Any) -> list[unittest.TestCase]:
    """A suite's tests, in its order."""
    if isinstance(suite, unittest.TestSuite):
        return [test for part in suite for test in tests_of(part)]
    return [suite]


def load(suite: str, module: str) -> list[unittest.TestCase]:
    loaded = importlib.import_module(f"{suite}.{module}")
    return tests_of(unittest.defaultTestLoader.loadTestsFromModule(loaded))


def list_modules(suite: str) -> list[str]:
    package = importlib.import_module(suite)
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if name.startswith("test_"))


def list_tests(suite: str, module: str) -> dict[str, list[str]]:
    """The tests of a module by class. A module that is for another system has none."""
    classes: dict[str, list[str]] = {}
    try:
        for test in load(suite, module):
            classes.setdefault(type(test).__qualname__, []).append(method(test))
    except unittest.SkipTest:
        return {}
    return classes


def run_tests(tests: list[unittest.TestCase], recorder: Recorder) -> None:
    with warnings.catch_warnings():
        # As the standard library's own runner does.
        warnings.simplefilter("default")
        unittest.TestSuite(tests).run(recorder)
    recorder.write(event="done")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description="Runs inside the interpreter under test.")
    top.add_argument("--suite", required=True, help="the package of the tests")
    top.add_argument("--site", help="a folder that has aioxide")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("modules")
    commands.add_parser("list").add_argument("module")
    run = commands.add_parser("run")
    run.add_argument("--aioxide", action="store_true", help="put aioxide's loop in place")
    run.add_argument("--results", type=Path, required=True)
    run.add_argument("--patience", type=float, required=True, help="seconds for one test")
    run.add_argument("module")
    run.add_argument("of_class")
    return top


def put_aioxide_in_place() -> type[Any]:
    """Install the stand-ins; give what counts the loops that are made."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from conformance import standin

    del sys.path[0]
    standin.install()
    return standin.Made


def main() -> None:
    options = parser().parse_args()
    # A shell lets what it runs in the background ignore interrupts, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Nothing beside this file may be mistaken for a module of the standard library.
    del sys.path[0]
    if options.site is not None:
        sys.path.insert(0, options.site)
    match options.command:
        case "modules":
            print(json.dumps(list_modules(options.suite)))
        case "list":
            print(json.dumps(list_tests(options.suite, options.module)))
        case "run":
            made = put_aioxide_in_place() if options.aioxide else None
            names = set(sys.stdin.read().split())
            tests = [
                test
                for test in load(options.suite, options.module)
                if type(test).__qualname__ == options.of_class and method(test) in names
            ]
            with open(options.results, "a", encoding="utf-8") as file:
                run_tests(tests, Recorder(file, options.patience, made))


if __name__ == "__main__":
    main()
