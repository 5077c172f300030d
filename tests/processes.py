"""Child processes of the tests: commands, a recording protocol, and what may not be left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from io import FileIO
from typing import Any, cast

from .support import Call, Changes, Loop, open_descriptors

CAT = "/bin/cat"
PIPE = asyncio.subprocess.PIPE
DEVNULL = asyncio.subprocess.DEVNULL
STDOUT = asyncio.subprocess.STDOUT

#: Options of a process that has no pipes.
NO_PIPES: dict[str, Any] = {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": DEVNULL}


def sh(script: str) -> tuple[str, ...]:
    """The command that runs a shell script."""
    return ("/bin/sh", "-c", script)


def python(program: str) -> tuple[str, ...]:
    """The command that runs a Python program, started as quickly as Python can."""
    return (sys.executable, "-I", "-S", "-c", program)


class ProcessRecorder(Changes, asyncio.SubprocessProtocol):
    """A subprocess protocol that records each call as a tuple: name, then arguments."""

    transport: asyncio.SubprocessTransport

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        #: What came out of each descriptor of the child.
        self.received: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}

    @property
    def names(self) -> list[str]:
        """The calls without their arguments, repeated ones once."""
        names = [call[0] for call in self.calls]
        return [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n]

    @property
    def exited(self) -> bool:
        return ("process_exited",) in self.calls

    @property
    def lost(self) -> bool:
        return "connection_lost" in self.names

    def pipe_is_lost(self, fd: int) -> bool:
        return any(call[:2] == ("pipe_connection_lost", fd) for call in self.calls)

    def pipe_error(self, fd: int) -> BaseException | None:
        """What pipe_connection_lost() was given for the child's descriptor `fd`, once."""
        (call,) = (call for call in self.calls if call[:2] == ("pipe_connection_lost", fd))
        return cast("BaseException | None", call[2])

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        self.changed()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.SubprocessTransport", transport)
        self.note("connection_made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.received[fd] += data
        self.note("pipe_data_received", fd, bytes(data))

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.note("pipe_connection_lost", fd, exc)

    def process_exited(self) -> None:
        self.note("process_exited")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("connection_lost", exc)

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    @property
    def pid(self) -> int:
        return self.transport.get_pid()

    @property
    def returncode(self) -> int | None:
        return self.transport.get_returncode()

    @property
    def stdin(self) -> asyncio.WriteTransport:
        return cast("asyncio.WriteTransport", self.transport.get_pipe_transport(0))

    @property
    def stdout(self) -> asyncio.ReadTransport:
        return cast("asyncio.ReadTransport", self.transport.get_pipe_transport(1))

    async def until_received(self, count: int, fd: int = 1) -> bytes:
        await self.until(lambda: len(self.received[fd]) >= count)
        return bytes(self.received[fd])

    async def until_exited(self) -> None:
        await self.until(lambda: self.exited)

    async def until_lost(self) -> None:
        """Wait for the end, and close what has ended: a transport wants that also then."""
        await self.until(lambda: self.lost)
        self.transport.close()


async def start(
    loop: Loop, *command: Any, protocol: ProcessRecorder | None = None, **options: Any
) -> ProcessRecorder:
    """Start a command; every standard descriptor is a pipe unless the options say otherwise."""
    recorder = protocol or ProcessRecorder()
    program, *arguments = command
    transport, made = await loop.subprocess_exec(lambda: recorder, program, *arguments, **options)
    assert made is recorder
    assert recorder.transport is transport
    return recorder


@contextlib.asynccontextmanager
async def running(loop: Loop, *command: Any, **options: Any) -> AsyncIterator[ProcessRecorder]:
    """A process, closed and seen to end when the test ends."""
    protocol = await start(loop, *command, **options)
    try:
        yield protocol
    finally:
        protocol.transport.close()
        await protocol.until_lost()


@contextlib.contextmanager
def pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """The two ends of a pipe, the one to read from first; closed at the end."""
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
        yield reader, writer


def wait_until_stopped(pid: int) -> None:
    """Block until a child has been stopped by a signal."""
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def wait_until_dead(pid: int) -> None:
    """Block until a child has exited, and leave its status for whoever watches it."""
    with contextlib.suppress(ChildProcessError):  # A thread that watches it was quicker.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def children() -> str:
    """What is left of this process's children, as a word."""
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return "none"
    return "a zombie" if pid else "a running process"


@contextlib.contextmanager
def no_traces() -> Iterator[None]:
    """What runs inside leaves no child, no zombie and no descriptor behind.

    CPython's loop never closes its descriptors of children that outlive it, so they do not count.
    """

    def descriptors() -> set[str]:
        return {name for name in open_descriptors() if not name.endswith("[pidfd]")}

    before = descriptors()
    yield
    assert children() == "none"
    assert descriptors() == before
