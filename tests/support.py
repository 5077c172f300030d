"""What the tests share: recording protocols, socket pairs, and waits that need no sleeping."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar, cast

import pytest

Loop = asyncio.AbstractEventLoop
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Context = dict[str, Any]
Call = tuple[Any, ...]
T = TypeVar("T")

#: More bytes than two loopback socket buffers take, so that a writer has to queue.
BIG = 8 * 1024 * 1024

#: Bytes asked for as the socket buffers of tcp_pair(): the kernel doubles it, far below BIG.
SOCKET_BUFFER = 128 * 1024


class Run(Protocol):
    """The ``run`` fixture."""

    def __call__(self, main: Coroutine[Any, Any, T], /) -> T: ...


def oracle_when(holds: bool, reason: str) -> pytest.MarkDecorator:
    """CPython's loop does this only under a condition; aioxide always does."""
    return pytest.mark.oracle(holds, reason)


def oracle_since(version: tuple[int, ...], reason: str) -> pytest.MarkDecorator:
    """CPython's loop does this only from `version` on; aioxide does it on every version."""
    return oracle_when(sys.version_info[:3] >= version, f"before {version}: {reason}")


def oracle_never(reason: str) -> pytest.MarkDecorator:
    """CPython's loop does not do this in any version."""
    return oracle_when(False, reason)


class Errors:
    """An exception handler that keeps the contexts it was given."""

    def __init__(self) -> None:
        self._contexts: list[Context] = []

    def record(self, loop: Loop, context: Context) -> None:
        self._contexts.append(context)

    def take(self) -> list[Context]:
        """All contexts since the last call."""
        contexts, self._contexts = self._contexts, []
        return contexts

    def take_one(self) -> Context:
        """The only context since the last call."""
        (context,) = self.take()
        return context


async def turns(count: int = 3) -> None:
    """Let the loop go round: what was due by now has happened, and follow-ups of it."""
    for _ in range(count):
        await asyncio.sleep(0)


class Changes:
    """Lets coroutines wait until a condition holds; whoever changes something says `changed()`."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def changed(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


class _Recording(Changes):
    """What every recording protocol records: its calls, and what came of them."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.received = bytearray()
        #: What eof_received() answers.
        self.keep_open = False

    @property
    def names(self) -> list[str]:
        """The calls without their arguments, repeated ones (pieces of a stream) once."""
        names = [call[0] for call in self.calls]
        return [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n]

    @property
    def lost(self) -> bool:
        return any(call[0] == "connection_lost" for call in self.calls)

    @property
    def error(self) -> BaseException | None:
        """The argument of connection_lost()."""
        (call,) = (call for call in self.calls if call[0] == "connection_lost")
        return cast("BaseException | None", call[1])

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        self.changed()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.note("connection_made")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("connection_lost", exc)

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def eof_received(self) -> bool:
        self.note("eof_received")
        return self.keep_open

    async def until_received(self, count: int) -> bytes:
        await self.until(lambda: len(self.received) >= count)
        return bytes(self.received)

    async def until_lost(self) -> None:
        await self.until(lambda: self.lost)


class Recorder(_Recording, asyncio.Protocol):
    """A streaming protocol that records each call as a tuple: name, then arguments."""

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.note("data_received", bytes(data))


class BufferedRecorder(_Recording, asyncio.BufferedProtocol):
    """A buffered protocol that records each call, with one buffer of its own."""

    def __init__(self, size: int = 64 * 1024) -> None:
        super().__init__()
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> bytearray:
        self.note("get_buffer", sizehint)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]
        self.note("buffer_updated", nbytes)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking TCP sockets on the loopback interface.

    Their buffers have a fixed size; the kernel would otherwise let them grow under a test.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.socket()
        for sock in (listener, left):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        left.connect(listener.getsockname())
        right, _ = listener.accept()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def unix_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking Unix stream sockets."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def listening(family: int = socket.AF_INET) -> socket.socket:
    """A non-blocking listening socket on a free loopback port."""
    sock = socket.socket(family)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.listen(16)
    sock.setblocking(False)
    return sock


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that refuses connections: bound for the time of the test, but not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def reset(sock: socket.socket) -> None:
    """Close so that the peer gets an RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def fill(sock: socket.socket) -> int:
    """Send until the kernel takes no more; returns the number of bytes it took."""
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += sock.send(b"f" * 65536)
    return total


def drain_now(sock: socket.socket) -> bytes:
    """What can be received without waiting."""
    parts = []
    with contextlib.suppress(BlockingIOError):
        while data := sock.recv(1 << 20):
            parts.append(data)
    return b"".join(parts)


async def read_all(loop: Loop, sock: socket.socket) -> bytes:
    """Everything the peer sends before its FIN."""
    parts = []
    while data := await loop.sock_recv(sock, 1 << 20):
        parts.append(data)
    return b"".join(parts)


async def read_exactly(loop: Loop, sock: socket.socket, count: int) -> bytes:
    """The next `count` bytes."""
    data = b""
    while len(data) < count:
        piece = await loop.sock_recv(sock, count - len(data))
        assert piece, f"end of stream after {len(data)} of {count} bytes"
        data += piece
    return data


async def readable(loop: Loop, sock: socket.socket) -> None:
    """Wait until the kernel has something for `sock`, also when a transport owns the descriptor."""
    duplicate = os.dup(sock.fileno())
    seen = asyncio.Event()
    loop.add_reader(duplicate, seen.set)
    try:
        await seen.wait()
    finally:
        loop.remove_reader(duplicate)
        os.close(duplicate)


def open_descriptors() -> set[str]:
    """What this process has open, as the descriptors' numbers and targets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{name}:{os.readlink(f'/proc/self/fd/{name}')}")
    return found


def records(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    """The messages that asyncio logged at `level`."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "asyncio" and record.levelname == level
    ]
