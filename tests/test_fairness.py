"""Nobody starves: not behind endless callbacks, nor behind a connection that is always ready."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from .connections import connected, serving
from .support import Loop, Recorder, tcp_pair, turns
from .tls import NAME, Tls

#: Exchanges that have to come through while others keep the loop busy.
EXCHANGES = 20

#: What a busy connection is sent, over and over.
FLOOD = bytes(64 * 1024)


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Sink(asyncio.Protocol):
    """Takes what it gets."""

    def __init__(self) -> None:
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)


class Chain:
    """Callbacks of which each queues the next."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.going = True

    def __call__(self) -> None:
        if self.going:
            self.loop.call_soon(self)


@contextlib.contextmanager
def endless_chains(loop: Loop, count: int = 10) -> Iterator[None]:
    chains = [Chain(loop) for _ in range(count)]
    for chain in chains:
        chain()
    try:
        yield
    finally:
        for chain in chains:
            chain.going = False


async def exchange(loop: Loop, address: tuple[str, int], context: ssl.SSLContext | None) -> None:
    """Many small exchanges, one after the other."""
    transport, protocol = await loop.create_connection(
        Recorder, *address, ssl=context, server_hostname=NAME if context else None
    )
    for number in range(1, EXCHANGES + 1):
        transport.write(b"x")
        await protocol.until_received(number)
    transport.close()
    await protocol.until_lost()


@pytest.mark.parametrize("over", ["tcp", "tls"])
async def test_connections_beside_endless_callbacks(loop: Loop, tls: Tls, over: str) -> None:
    server, client = (tls.server(), tls.client()) if over == "tls" else (None, None)
    async with serving(loop, Echo, ssl=server) as (_, address):
        with endless_chains(loop):
            await exchange(loop, address, client)


async def test_streams_beside_endless_callbacks(loop: Loop) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        with endless_chains(loop):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for _ in range(EXCHANGES):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
            writer.close()
            await writer.wait_closed()


async def test_sockets_beside_endless_callbacks(loop: Loop) -> None:
    left, right = tcp_pair()
    with left, right, endless_chains(loop):
        for _ in range(EXCHANGES):
            receiving = asyncio.ensure_future(loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            await loop.sock_sendall(right, b"x")
            assert await receiving == b"x"


async def test_timers_beside_endless_callbacks(loop: Loop) -> None:
    with endless_chains(loop):
        for _ in range(EXCHANGES):
            await asyncio.sleep(0.001)


async def test_callbacks_from_other_threads_beside_endless_callbacks(loop: Loop) -> None:
    with endless_chains(loop):
        for _ in range(EXCHANGES):
            called = asyncio.Event()
            threading.Thread(target=loop.call_soon_threadsafe, args=(called.set,)).start()
            await called.wait()


@contextlib.asynccontextmanager
async def flooded(loop: Loop, protocol: Sink) -> AsyncIterator[None]:
    """A connection on which another thread sends as fast as it can."""
    going = True

    def flood(peer: socket.socket) -> None:
        peer.setblocking(True)
        with contextlib.suppress(OSError):
            while going:
                peer.sendall(FLOOD)

    async with connected(loop, protocol) as (_, peer):
        thread = threading.Thread(target=flood, args=(peer,))
        thread.start()
        try:
            yield
        finally:
            going = False
            peer.shutdown(socket.SHUT_RDWR)
            await loop.run_in_executor(None, thread.join)


async def test_connections_beside_a_flooded_one(loop: Loop) -> None:
    sink = Sink()
    async with flooded(loop, sink), serving(loop, Echo) as (_, address):
        await exchange(loop, address, None)
        before = sink.received
        while sink.received == before:
            await asyncio.sleep(0)


async def test_callbacks_beside_flooded_connections(loop: Loop) -> None:
    """Each turn of the loop gives a connection its share, and comes to an end."""
    sinks = [Sink(), Sink()]
    async with flooded(loop, sinks[0]), flooded(loop, sinks[1]):
        for sink in sinks:
            for _ in range(EXCHANGES):
                before = sink.received
                while sink.received == before:
                    await asyncio.sleep(0)


async def test_a_connection_that_answers_itself_for_ever(loop: Loop) -> None:
    """Two ends of a connection in the same loop keep each other busy; others are served."""
    async with serving(loop, Echo) as (_, address):
        busy = [(await loop.create_connection(Echo, *address))[0] for _ in range(4)]
        for transport in busy:
            transport.write(FLOOD)
        await exchange(loop, address, None)
        await asyncio.sleep(0.001)
        for transport in busy:
            transport.abort()
        await turns()


#: Rounds of a crowd of connections, more than a loop needs to take it for usual.
CROWDED = 200


async def test_an_event_beside_a_crowd(loop: Loop) -> None:
    """A loop whose looks at the network usually find several events may leave out the one after
    them: what comes meanwhile is called one iteration later than on asyncio, never two."""
    pairs = [socket.socketpair() for _ in range(4)]
    done = loop.create_future()
    rounds = iterations = answered = sent_in = 0

    def iteration() -> None:
        nonlocal iterations
        iterations += 1
        if not done.done():
            loop.call_soon(iteration)

    def readable(inner: socket.socket) -> None:
        nonlocal rounds, answered, sent_in
        inner.recv(1)
        if rounds == CROWDED:
            done.set_result(iterations - sent_in)
            return
        answered += 1
        if answered == len(pairs):
            answered = 0
            rounds += 1
            # In the end a single event comes, while those of the crowd are handled.
            sent_in = iterations
            for _, outer in pairs if rounds < CROWDED else pairs[:1]:
                outer.send(b"x")

    for inner, outer in pairs:
        loop.add_reader(inner, readable, inner)
        outer.send(b"x")
    loop.call_soon(iteration)
    try:
        assert 1 <= await done <= 2
    finally:
        for inner, outer in pairs:
            loop.remove_reader(inner)
            inner.close()
            outer.close()
