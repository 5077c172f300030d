"""Datagrams for the tests: a recording protocol, peers to talk to, and endpoints that end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .support import Call, Changes, Loop, oracle_when, turns

#: A datagram transport.  The type of asyncio knows neither its flow control nor its reading side.
DatagramTransport = Any

#: A datagram as a protocol or a socket receives it: the bytes, and where they came from.
Datagram = tuple[bytes, Any]

#: What is added to a queued datagram's length in get_write_buffer_size().
HEADER = 8

#: CPython 3.13 added the header when a datagram was queued, and at first did not take it off.
counts_down = oracle_when(
    sys.version_info[:2] != (3, 13), "3.13: what a queue counts does not go down to zero again"
)


class DatagramRecorder(Changes, asyncio.DatagramProtocol):
    """A datagram protocol that records each call as a tuple: name, then arguments."""

    transport: DatagramTransport

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.received: list[Datagram] = []

    @property
    def names(self) -> list[str]:
        """The calls without their arguments, repeated ones once."""
        names = [call[0] for call in self.calls]
        return [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n]

    @property
    def data(self) -> list[bytes]:
        """What was received, without the addresses."""
        return [data for data, _ in self.received]

    @property
    def errors(self) -> list[OSError]:
        return [call[1] for call in self.calls if call[0] == "error_received"]

    @property
    def losses(self) -> list[BaseException | None]:
        """The arguments of connection_lost(): one when all is well."""
        return [call[1] for call in self.calls if call[0] == "connection_lost"]

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        self.changed()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.note("connection_made")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("connection_lost", exc)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.received.append((data, addr))
        self.note("datagram_received", data, addr)

    def error_received(self, exc: Exception) -> None:
        self.note("error_received", exc)

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    async def until_received(self, count: int) -> list[bytes]:
        await self.until(lambda: len(self.received) >= count)
        return self.data

    async def until_error(self, count: int = 1) -> OSError:
        """Wait for the `count`-th error; returns the last one."""
        await self.until(lambda: len(self.errors) >= count)
        return self.errors[-1]

    async def until_lost(self) -> None:
        await self.until(lambda: self.losses)


class Echo(DatagramRecorder):
    """Sends back what it gets."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def finish(protocol: DatagramRecorder) -> None:
    """Abort what is still open, and see that the protocol heard of its end once."""
    if not protocol.losses:
        protocol.transport.abort()
        await protocol.until_lost()
    await turns()
    assert len(protocol.losses) == 1


@contextlib.asynccontextmanager
async def endpoint(
    loop: Loop, protocol: DatagramRecorder, **options: Any
) -> AsyncIterator[DatagramTransport]:
    """An endpoint, at a free port of the loopback interface when nothing else is asked for."""
    options = options or {"local_addr": ("127.0.0.1", 0)}
    transport, made = await loop.create_datagram_endpoint(lambda: protocol, **options)
    assert made is protocol
    try:
        yield transport
    finally:
        await finish(protocol)


def udp_socket(family: int = socket.AF_INET) -> socket.socket:
    """A non-blocking UDP socket at a free port of the loopback interface."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.setblocking(False)
    return sock


def abstract_name() -> str:
    """The name of a Unix socket that needs no file."""
    return f"\0aioxide-test-{os.urandom(8).hex()}"


def unix_socket(name: str | None = None) -> socket.socket:
    """A non-blocking Unix datagram socket, bound to `name` if there is one."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if name is not None:
        sock.bind(name)
    sock.setblocking(False)
    return sock


def unix_datagram_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected Unix datagram sockets without names."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def connected_udp_pair() -> tuple[socket.socket, socket.socket]:
    """Two UDP sockets that are connected to each other."""
    left, right = udp_socket(), udp_socket()
    left.connect(right.getsockname())
    right.connect(left.getsockname())
    return left, right


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A UDP port to which nobody listens: what is sent there is answered by an ICMP error.

    It is held by a socket that hears one peer only, which is itself.
    """
    with udp_socket() as sock:
        sock.connect(sock.getsockname())
        yield sock.getsockname()[1]


@contextlib.asynccontextmanager
async def sending(
    loop: Loop, protocol: DatagramRecorder, connect: bool = True
) -> AsyncIterator[tuple[DatagramTransport, socket.socket]]:
    """An endpoint for Unix datagrams, connected unless said otherwise, and its peer's socket.

    The kernel queues few datagrams for a peer that does not read: this is what makes a sendto()
    wait.
    """
    name = abstract_name()
    with unix_socket(name) as peer:
        options = {"remote_addr": name} if connect else {}
        async with endpoint(loop, protocol, family=socket.AF_UNIX, **options) as transport:
            yield transport, peer


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def fill_endpoint(transport: DatagramTransport, address: Any = None) -> int:
    """Send numbered datagrams until one is queued; returns how many were sent, with that one."""
    count = 0
    while not transport.get_write_buffer_size():
        transport.sendto(b"%d" % count, address)
        count += 1
    return count


def fill_socket(sock: socket.socket, address: Any) -> list[bytes]:
    """Send numbered datagrams until the kernel takes no more; returns those that it took."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.sendto(b"%d" % count, address)
            count += 1
    return numbered(count)


def receive_now(sock: socket.socket) -> list[bytes]:
    """The datagrams that can be received without waiting."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(1 << 20))
    return found


async def receive(loop: Loop, sock: socket.socket, count: int) -> list[bytes]:
    """The next `count` datagrams.  Also an empty one is a datagram."""
    return [await loop.sock_recv(sock, 1 << 20) for _ in range(count)]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop go round until a condition holds that nothing tells about."""
    while not condition():
        await turns(1)
