"""A running program: its things, its lines, and how it waits."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import re
import shutil
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .programs import BIG, Interrupt, Pause, Raise, Step

if TYPE_CHECKING:
    from .ends import End

Loop = asyncio.AbstractEventLoop

#: What a program saw: the entries of each line, in order.
Trace = dict[str, list[str]]

#: Iterations of the loop in which nothing is noted, after which nothing more is expected.  The
#: longest silence is that of a connection that is made: about six iterations.  A loop that takes
#: longer says so (`moods.Moody.quiet`).
QUIET = 14

#: Seconds that `settle` waits for what must come.  It comes within milliseconds.
PATIENCE = 3.0

#: Entries after which a program does not end any more.  None has a thousand.
ENDLESS = 20_000

#: The errors of a connection that was reset.
RESET = r"ConnectionResetError\(104, [\w ]*\)|BrokenPipeError\((32, [\w ]*)?\)"

#: The line of the program's own steps, and of the callbacks that these schedule.
MAIN = "program"

#: Copied with the contexts of callbacks.
VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE", default=0)


class Endless(SystemExit):
    """Leaves the loop of a program that does not end."""


class Entry:
    """One thing that was seen, in one moment."""

    def __init__(self, moment: int, what: str) -> None:
        self.moment = moment
        self.what = what

    @property
    def text(self) -> str:
        return self.what


class World:
    """What a program has while it runs."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.lines: dict[str, list[Entry]] = {}
        #: The line to which steps and callbacks write now.
        self.line = MAIN
        #: The step that is being performed.
        self.step = ""
        #: Counts `Settle`.
        self.moment = 0
        #: Counts what is seen.
        self.activity = 0
        #: Whether it was too much; then nothing is noted any more.
        self.endless = False
        #: Timers and threads that have not called back yet, by the name of their line.
        self.awaited: set[str] = set()
        self.ends: dict[int, End] = {}
        self.handles: dict[int, asyncio.Handle] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        #: Those that are not cancelled.
        self.protected: set[int] = set()
        self.servers: dict[int, asyncio.Server] = {}
        #: Where servers are to be found.
        self.addresses: dict[int, Any] = {}
        #: The ends that the next connections of a server will be.
        self.expected: dict[int, deque[int]] = {}
        self.listeners: dict[int, socket.socket] = {}
        #: The listening sockets on which `sock_accept` is under way.
        self.accepting: set[int] = set()
        #: Closes what the program has opened, at its end.
        self.clean_up = contextlib.ExitStack()
        #: Whether the exception handler fails.
        self.handler_fails = False
        self._directory: Path | None = None

    # ---- noting ----

    def note(self, *what: object) -> None:
        """Add an entry to the current line."""
        self.note_on(self.line, *what)

    def note_on(self, line: str, *what: object) -> None:
        if self.endless:
            return
        self.activity += 1
        if self.activity > ENDLESS:
            self.endless = True
            raise Endless
        text = " ".join(self.plain(item) for item in what)
        self.lines.setdefault(line, []).append(Entry(self.moment, text))

    @contextlib.contextmanager
    def on(self, line: str) -> Iterator[None]:
        """What is noted meanwhile stands on `line`."""
        before, self.line = self.line, line
        try:
            yield
        finally:
            self.line = before

    def plain(self, what: object) -> str:
        """A text that is the same in every run and on every loop."""
        if isinstance(what, BaseException):
            text = f"{type(what).__name__}({', '.join(map(str, what.args))})"
        else:
            text = what if isinstance(what, str) else repr(what)
        # Addresses, descriptors and names of classes are the loop's own.
        text = re.sub(r"0x[0-9a-f]+", "0x", text)
        text = re.sub(r"\b(fd|fd=|file descriptor |descriptor )\d+", r"\1N", text, flags=re.I)
        text = re.sub(r"<\w*(Transport|Server|Loop)\b[^>]*>", r"<\1>", text)
        text = re.sub(r"\('127\.0\.0\.1', \d+\)", "ADDRESS", text)
        # CPython has had both words; and before 3.12 writelines() was write().
        text = text.replace("bytes, bytearray, or memoryview object", "bytes-like object")
        if sys.version_info < (3, 12):
            text = text.replace("Cannot call writelines()", "Cannot call write()")
        if any(end.sent >= BIG for end in self.ends.values()):
            # How far an end gets behind so many bytes is up to the kernel, and with it which error
            # a reset is.
            text = re.sub(RESET, "a reset", text)
        return text if self._directory is None else text.replace(str(self._directory), "DIRECTORY")

    def trace(self) -> Trace:
        return {
            line: [f"{entry.moment}: {entry.text}" for entry in entries]
            for line, entries in self.lines.items()
        }

    # ---- performing ----

    def perform(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Raise):
                self.note("raises", step.error)
                raise step.exception()
            before, self.step = self.step, type(step).__name__
            try:
                result = step.perform(self)
            except Exception as error:
                self.note(self.step, "raised", error)
            else:
                if result is not None:
                    self.note(self.step, result)
            finally:
                self.step = before

    def start(
        self,
        number: int,
        coroutine: Callable[[], Coroutine[Any, Any, object]],
        *,
        ends: bool = False,
    ) -> None:
        """Run a coroutine as a task; what comes of it is noted on a line of its own.

        `ends` says that it does by itself, so that `settle` waits for it.
        """
        line = f"task {number}"

        async def run() -> None:
            try:
                result = await coroutine()
            except asyncio.CancelledError:
                self.note_on(line, "cancelled")
                raise
            except Exception as error:
                self.note_on(line, "raised", error)
            else:
                self.note_on(line, "returned", result)

        if number in self.tasks:
            self.note("a task has this number")
            return
        self.tasks[number] = self.loop.create_task(run())
        if ends:
            self.awaited.add(line)
            self.tasks[number].add_done_callback(lambda _: self.awaited.discard(line))

    def report(self, loop: Loop, context: dict[str, Any]) -> None:
        """The exception handler."""
        # CPython's does not know the name any more if the callback was cancelled while it ran.
        message = re.sub(r"(Exception in callback) .*", r"\1", context["message"])
        self.note_on("reports", message, sorted(context), context.get("exception"))
        if self.handler_fails:
            raise LookupError("the handler fails")

    # ---- waiting ----

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        enough = getattr(self.loop, "quiet", QUIET)
        last, quiet, until = self.activity, 0, time.monotonic() + PATIENCE
        while quiet < enough or (awaited := self._awaits()) is not None:
            if quiet >= enough and time.monotonic() > until:
                self.note(f"waited in vain for {awaited}")
                break
            await asyncio.sleep(0 if quiet < enough else 0.0005)
            quiet = quiet + 1 if self.activity == last else 0
            last = self.activity
        self.moment += 1

    def _awaits(self) -> str | None:
        """Something that must still happen."""
        for line in sorted(self.awaited):
            return line
        for end in self.ends.values():
            if (awaited := end.awaits()) is not None:
                return f"{awaited} at {end.line}"
        return None

    # ---- things ----

    def directory(self) -> Path:
        """A directory for socket files, removed at the end."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="fuzzing-"))
        return self._directory

    def close(self) -> None:
        """Drop everything, and the loop too: aioxide's has some descriptors until it is freed."""
        del self.loop
        if self._directory is not None:
            shutil.rmtree(self._directory)
        # Entries of received bytes refer to ends, and so to transports.
        for entries in self.lines.values():
            entries[:] = [Entry(entry.moment, entry.text) for entry in entries]
        for things in (self.ends, self.handles, self.tasks, self.servers, self.listeners):
            things.clear()


async def drive(world: World, steps: Iterable[Step]) -> None:
    """Perform the steps of a program."""
    for step in steps:
        try:
            if isinstance(step, Pause):
                await step.wait(world)
            else:
                world.perform([step])
        except Interrupt as interrupt:
            world.note("interrupted", interrupt)
