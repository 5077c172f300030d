"""Connections for the tests: transports, servers, clients and streams, ended when the test ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from .support import BIG, Loop, Recorder, listening, tcp_pair, turns

P = TypeVar("P", bound=asyncio.BaseProtocol)


async def connect_socket(loop: Loop, sock: socket.socket, protocol: P) -> asyncio.Transport:
    """Put a transport on a connected socket; returns when connection_made() has been called."""
    transport, made = await loop.create_connection(lambda: protocol, sock=sock)
    assert made is protocol
    return transport


async def end(transport: asyncio.WriteTransport) -> None:
    """Abort what is still open.  (Before 3.14.10 an abort() after the very end is an error.)"""
    if transport.get_extra_info("socket").fileno() != -1:
        transport.abort()
    await turns()


@contextlib.asynccontextmanager
async def connected(
    loop: Loop,
    protocol: asyncio.BaseProtocol,
    make_pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair,
) -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A transport for `protocol`, and the plain socket at the other end of its connection."""
    ours, peer = make_pair()
    with peer:
        transport = await connect_socket(loop, ours, protocol)
        try:
            yield transport, peer
        finally:
            await end(transport)


@contextlib.asynccontextmanager
async def serving(
    loop: Loop, factory: Callable[[], asyncio.BaseProtocol], **options: Any
) -> AsyncIterator[tuple[asyncio.Server, tuple[str, int]]]:
    """A server on the loopback interface and its address; closed with its clients at the end."""
    server = await loop.create_server(factory, "127.0.0.1", 0, **options)
    address = server.sockets[0].getsockname()
    try:
        yield server, address
    finally:
        server.close()
        await server.wait_closed()
        await turns()


class Keeper:
    """A protocol factory that keeps the protocols it made."""

    def __init__(self) -> None:
        self.made: list[Recorder] = []

    def __call__(self) -> Recorder:
        self.made.append(Recorder())
        return self.made[-1]


async def connect(loop: Loop, address: Any) -> Recorder:
    """A recording client, connected."""
    _, protocol = await loop.create_connection(Recorder, *address[:2])
    return protocol


async def served(keeper: Keeper, count: int = 1) -> None:
    """Wait until the server has made connection_made() of its first `count` clients happen."""
    while sum(bool(protocol.calls) for protocol in keeper.made) < count:
        await turns(1)


async def close(protocol: Recorder) -> None:
    """Close a connection and see it end."""
    protocol.transport.close()
    await protocol.until_lost()


@contextlib.asynccontextmanager
async def stream(
    loop: Loop, **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]]:
    """A stream pair of open_connection(), and the plain socket at the other end."""
    with listening() as listener:
        reader, writer = await asyncio.open_connection(*listener.getsockname(), **options)
        peer, _ = await loop.sock_accept(listener)
    with peer:
        try:
            yield reader, writer, peer
        finally:
            await end(writer.transport)
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def queue_much(transport: asyncio.Transport) -> None:
    """Write more than the kernel takes, so that something is queued."""
    transport.write(b"q" * BIG)
    assert transport.get_write_buffer_size() > 0
