"""Running one class of tests in a process, and reading what came back."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.interpreters import Interpreter

#: Seconds for one test. The slowest needs ten on a quiet machine; whatever reaches this, hangs.
TEST_SECONDS = 60.0

#: Seconds for one process of a class. It bounds what the limit of one test cannot catch, as a
#: process that does not end.
CLASS_SECONDS = 600.0

#: Seconds to list a module's tests: an import.
LIST_SECONDS = 120.0

#: Seconds after which a thread that waits for a process sees that the command was interrupted.
INTERRUPT_SECONDS = 0.2

#: How much of a process's output is kept when it has crashed.
OUTPUT_KEPT = 6000

CHILD = Path(__file__).with_name("child.py")

#: The name under which the end of a process is noted, beside its tests.
END = "(end of the process)"

MODES = ("normal", "debug")

#: Set when the command is given up: the processes are ended, and no more are started.
interrupted = threading.Event()


@dataclass(frozen=True)
class Class:
    """A class of tests, on one interpreter and in one mode."""

    interpreter: Interpreter
    mode: str
    module: str
    name: str


@dataclass
class Result:
    """What became of one test."""

    #: passed, failed, skipped; hung, crashed; missing when the process never came to it.
    outcome: str
    detail: str = ""
    #: Outcomes of its subtests.
    parts: dict[str, str] = field(default_factory=dict)
    #: How many loops it made, ours and the standard library's. Counted on aioxide only.
    aioxide: int = 0
    standard: int = 0

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


Results = dict[str, Result]


class Incomplete(Exception):
    """An interpreter cannot be asked for its tests."""


def environment(mode: str) -> dict[str, str]:
    """Nothing of Python's settings comes from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if mode == "debug":
        kept["PYTHONASYNCIODEBUG"] = "1"
    return kept


def list_modules(interpreter: Interpreter) -> list[str]:
    """The modules of the suite that an interpreter has."""
    modules: list[str] = _asked(interpreter, "modules")
    return modules


def list_tests(interpreter: Interpreter, module: str) -> dict[str, list[str]]:
    """The tests of a module on the standard loop, by class; none if the module is not for here."""
    classes: dict[str, list[str]] = _asked(interpreter, "list", module)
    return classes


def _child(interpreter: Interpreter, *options: str) -> list[str | Path]:
    """The command of the half that runs inside an interpreter."""
    command: list[str | Path] = [interpreter.path, *options, CHILD, "--suite", interpreter.suite]
    return command if interpreter.site is None else [*command, "--site", interpreter.site]


def _asked(interpreter: Interpreter, *question: str) -> Any:
    done = subprocess.run(
        [*_child(interpreter, "-W", "ignore"), *question],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=LIST_SECONDS,
        env=environment("normal"),
        cwd="/",
    )
    if done.returncode != 0:
        raise Incomplete(f"{interpreter.name}: no answer to {question}:\n{done.stderr}")
    return json.loads(done.stdout)


def run_class(
    of: Class,
    names: Iterable[str],
    on_aioxide: bool,
    test_seconds: float = TEST_SECONDS,
    class_seconds: float = CLASS_SECONDS,
) -> Results:
    """Run tests of a class. A process that crashes or hangs is followed by one for what is left."""
    results: Results = {}
    left = list(names)
    while left and not interrupted.is_set():
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            process = Process(of, on_aioxide, Path(folder), test_seconds, class_seconds)
            found = process.run(left)
        results.update(found)
        after = [name for name in left if name not in found]
        if process.finished or len(after) == len(left):
            reason = process.fixture or Result("missing", process.output)
            results.update({name: reason for name in after})
            break
        left = after
    return results


class Process:
    """One process of a class."""

    def __init__(
        self,
        of: Class,
        on_aioxide: bool,
        folder: Path,
        test_seconds: float,
        class_seconds: float,
    ) -> None:
        self.of = of
        self.on_aioxide = on_aioxide
        self.folder = folder
        self.test_seconds = test_seconds
        self.class_seconds = class_seconds
        #: Whether it came to the end of its tests.
        self.finished = False
        #: What a failed or skipped setUpClass means for every test behind it.
        self.fixture: Result | None = None
        self.output = ""

    def command(self) -> list[str | Path]:
        command = [*_child(self.of.interpreter, "-X", "faulthandler"), "run"]
        if self.on_aioxide:
            command.append("--aioxide")
        command += ["--results", self.folder / "results", "--patience", str(self.test_seconds)]
        return [*command, self.of.module, self.of.name]

    def run(self, names: list[str]) -> Results:
        """Run these tests; give the results of those that it came to."""
        place = self.folder / "cwd"
        place.mkdir()
        (self.folder / "names").write_text("\n".join(names))
        with (
            (self.folder / "names").open() as given,
            (self.folder / "output").open("w") as output,
        ):
            process = subprocess.Popen(
                self.command(),
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=place,
                env=environment(self.of.mode),
                start_new_session=True,
            )
            ended = False
            try:
                ended = has_ended(process.pid, self.class_seconds)
            finally:
                # And whatever its tests have started. Nobody has waited for it yet, so that the
                # number is still its own.
                os.killpg(process.pid, signal.SIGKILL)
                status = process.wait()
        text = (self.folder / "output").read_text(errors="replace")
        self.output = shortened(text)
        return self.read(status if ended else None)

    def read(self, status: int | None) -> Results:
        """What the process has written; `status` is None if it did not end in time."""
        results: Results = {}
        parts: dict[str, dict[str, str]] = {}
        running: str | None = None
        for event in events(self.folder / "results"):
            match event["event"]:
                case "start":
                    running = event["test"]
                case "part":
                    parts.setdefault(event["test"], {})[event["part"]] = event["outcome"]
                case "end":
                    running = None
                    results[event["test"]] = Result(
                        event["outcome"],
                        event["detail"],
                        parts.get(event["test"], {}),
                        event["aioxide"],
                        event["standard"],
                    )
                case "fixture":
                    self.fixture = Result(event["outcome"], event["detail"])
                case "done":
                    self.finished = True
        if running is not None:
            results[running] = Result(self.ending(status), self.output, parts.get(running, {}))
        elif self.finished and status != 0:
            results[END] = Result(self.ending(status), self.output)
        return results

    def ending(self, status: int | None) -> str:
        """What an end in the middle means. A test that takes too long ends its process itself."""
        return "hung" if status is None or self.output.startswith("Timeout (") else "crashed"


def has_ended(pid: int, seconds: float) -> bool:
    """Whether a child ends in this time. It is not waited for: its number stays taken."""
    until = time.monotonic() + seconds
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while time.monotonic() < until and not interrupted.is_set():
            if poll.poll(INTERRUPT_SECONDS * 1000):
                return True
        return False
    finally:
        os.close(descriptor)


def shortened(output: str) -> str:
    """The stacks that faulthandler has shown, newest call first; without any, the last words."""
    shown = re.search(r"^(Timeout \(|Fatal Python error:)", output, re.MULTILINE)
    return output[shown.start() :][:OUTPUT_KEPT] if shown else output[-OUTPUT_KEPT:]


def events(file: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file of results."""
    if not file.exists():
        return
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return  # the process ended in the middle of it
