"""Pipes for the tests: both ends of each kind, a transport on one, and waits for the other.

And names of Unix sockets, which have a file in the same directory or none at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
import termios
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .support import Loop, Recorder, turns

#: More bytes than a pipe or a Unix socket takes (64 KiB, some 200 KiB), so that a writer queues.
LARGE = 1024 * 1024

#: The smallest room that the kernel gives a pipe: one page.
SMALL_PIPE = 4096


class End(Protocol):
    """One end: anything with a descriptor that can be closed, as asyncio asks of a pipe."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class Ends(NamedTuple):
    """Both ends, open, and in blocking mode as far as the kind allows."""

    reading: Any
    writing: Any


def anonymous(directory: Path) -> Ends:
    """os.pipe() as two file objects."""
    reading, writing = os.pipe()
    return Ends(os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0))


def fifo(directory: Path) -> Ends:
    """A named pipe."""
    path = directory / "fifo"
    os.mkfifo(path)
    # A reader that does not block may come first; then the writer finds it.
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return Ends(os.fdopen(reading, "rb", 0), os.fdopen(os.open(path, os.O_WRONLY), "wb", 0))


def pair(directory: Path) -> Ends:
    """Two connected sockets; data goes one way only."""
    return Ends(*socket.socketpair())


def terminal() -> Ends:
    """A pseudo-terminal that changes nothing: the master reads what the slave is given."""
    master, slave = os.openpty()
    tty.setraw(slave)
    return Ends(os.fdopen(master, "r+b", 0), os.fdopen(slave, "r+b", 0))


#: The kinds between which a transport sees no difference.
KINDS: list[Callable[[Path], Ends]] = [anonymous, fifo, pair]


class Counted:
    """A pipe object that asyncio knows nothing of: it has fileno() and counts close()."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.closed = 0

    def fileno(self) -> int:
        return self.end.fileno()

    def close(self) -> None:
        self.closed += 1
        self.end.close()


def is_closed(end: End) -> bool:
    """Whether the object, of whichever kind, has been closed."""
    try:
        return end.fileno() == -1
    except ValueError:
        return True


async def until_closed(end: End) -> None:
    while not is_closed(end):
        await turns(1)


def shrink(end: End) -> None:
    """Make a pipe's room small."""
    fcntl.fcntl(end.fileno(), fcntl.F_SETPIPE_SZ, SMALL_PIPE)


def put(end: End, data: bytes) -> None:
    """Write all of it, now."""
    assert os.write(end.fileno(), data) == len(data)


def fill(end: End) -> int:
    """Write until the kernel takes no more; returns the number of bytes it took."""
    os.set_blocking(end.fileno(), False)
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += os.write(end.fileno(), b"f" * 65536)
    return total


def take(end: End) -> bytes:
    """What can be read without waiting."""
    os.set_blocking(end.fileno(), False)
    parts = []
    with contextlib.suppress(BlockingIOError):
        while data := os.read(end.fileno(), 1 << 20):
            parts.append(data)
    return b"".join(parts)


def unread(pipe: End) -> int:
    """How many bytes a pipe holds, asked at either end."""
    answer = fcntl.ioctl(pipe.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


async def readable(loop: Loop, end: End) -> None:
    """Wait until there is something to read, or the end of it."""
    seen = asyncio.Event()
    number = end.fileno()
    loop.add_reader(number, seen.set)
    try:
        await seen.wait()
    finally:
        loop.remove_reader(number)


async def _pieces(loop: Loop, end: End) -> AsyncIterator[bytes]:
    os.set_blocking(end.fileno(), False)
    while True:
        await readable(loop, end)
        with contextlib.suppress(BlockingIOError):
            piece = os.read(end.fileno(), 1 << 20)
            yield piece
            if not piece:
                return


async def read_all(loop: Loop, end: End) -> bytes:
    """Everything until the writing end is closed."""
    return b"".join([piece async for piece in _pieces(loop, end)])


async def read_exactly(loop: Loop, end: End, count: int) -> bytes:
    """The next `count` bytes."""
    os.set_blocking(end.fileno(), False)
    data = b""
    while len(data) < count:
        await readable(loop, end)
        with contextlib.suppress(BlockingIOError):
            piece = os.read(end.fileno(), count - len(data))
            assert piece, f"end after {len(data)} of {count} bytes"
            data += piece
    return data


@contextlib.contextmanager
def both(ends: Ends) -> Iterator[Ends]:
    """Ends that are closed, however far a test got."""
    try:
        yield ends
    finally:
        for end in ends:
            if not is_closed(end):
                end.close()


@contextlib.asynccontextmanager
async def reading(
    loop: Loop, protocol: asyncio.BaseProtocol, ends: Ends
) -> AsyncIterator[tuple[Any, Any]]:
    """A transport on the reading end, and the writing end; both closed afterwards."""
    with both(ends):
        transport, made = await loop.connect_read_pipe(lambda: protocol, ends.reading)
        assert made is protocol
        try:
            yield transport, ends.writing
        finally:
            transport.close()
            await until_closed(ends.reading)
            await turns()


@contextlib.asynccontextmanager
async def writing(
    loop: Loop, protocol: asyncio.BaseProtocol, ends: Ends
) -> AsyncIterator[tuple[Any, Any]]:
    """A transport on the writing end, and the reading end; both closed afterwards."""
    with both(ends):
        transport, made = await loop.connect_write_pipe(lambda: protocol, ends.writing)
        assert made is protocol
        try:
            yield transport, ends.reading
        finally:
            # CPython's loop does not bear an abort() once closing has begun; the reader's going
            # away ends that as well.
            if not transport.is_closing():
                transport.abort()
            if not is_closed(ends.reading):
                ends.reading.close()
            await until_closed(ends.writing)
            await turns()


def flow(protocol: Recorder) -> list[str]:
    """The calls of flow control, in order."""
    return [call[0] for call in protocol.calls if call[0].endswith("_writing")]


def abstract_name() -> bytes:
    """A name of a Unix socket that is not in the file system, and that nobody else has."""
    return b"\0aioxide-test-" + os.urandom(8).hex().encode()


def listening_at(name: str | bytes, backlog: int = 16) -> socket.socket:
    """A listening, non-blocking Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(name)
    sock.listen(backlog)
    sock.setblocking(False)
    return sock
