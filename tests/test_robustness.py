"""Bad peers and exhausted descriptors: nothing leaks, nothing stops, nothing dies."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from .connections import serving
from .support import (
    BIG,
    BufferedRecorder,
    Loop,
    Recorder,
    open_descriptors,
    read_exactly,
    reset,
    turns,
)


class Echo(Recorder):
    """Sends back what it gets."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Echoes:
    """A factory that counts the connections that are open."""

    def __init__(self) -> None:
        self.open = 0
        self.served = 0
        self.errors: list[BaseException | None] = []

    def __call__(self) -> Echo:
        echoes = self

        class Counted(Echo):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                echoes.open += 1
                echoes.served += 1
                super().connection_made(transport)

            def connection_lost(self, exc: BaseException | None) -> None:
                echoes.open -= 1
                echoes.errors.append(exc)

        return Counted()

    async def idle(self, served: int) -> None:
        while self.served < served or self.open:
            await turns(1)


async def client(loop: Loop, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, address)
    return sock


async def polite(loop: Loop, sock: socket.socket) -> None:
    await loop.sock_sendall(sock, b"hello")
    assert await read_exactly(loop, sock, 5) == b"hello"
    sock.close()


async def resetting(loop: Loop, sock: socket.socket) -> None:
    await loop.sock_sendall(sock, b"hello")
    reset(sock)


async def silent(loop: Loop, sock: socket.socket) -> None:
    sock.close()


async def half_closing(loop: Loop, sock: socket.socket) -> None:
    await loop.sock_sendall(sock, b"hello")
    sock.shutdown(socket.SHUT_WR)
    assert await read_exactly(loop, sock, 5) == b"hello"
    assert await loop.sock_recv(sock, 1) == b""
    sock.close()


async def dribbling(loop: Loop, sock: socket.socket) -> None:
    for byte in b"dribble":
        await loop.sock_sendall(sock, bytes([byte]))
        assert await read_exactly(loop, sock, 1) == bytes([byte])
    sock.close()


Behaviour = Callable[[Loop, socket.socket], Any]


@pytest.mark.parametrize("behave", [polite, resetting, silent, half_closing, dribbling])
async def test_descriptors_and_objects_return_to_where_they_began(
    loop: Loop, behave: Behaviour
) -> None:
    """Two hundred connections, ten at a time, after a first round that warms everything up."""
    echoes = Echoes()
    async with serving(loop, echoes) as (_, address):

        async def one() -> None:
            await behave(loop, await client(loop, address))

        async def rounds(count: int) -> None:
            served = echoes.served
            for _ in range(count):
                await asyncio.gather(*(one() for _ in range(10)))
            await echoes.idle(served + 10 * count)
            await turns(5)
            echoes.errors.clear()
            gc.collect()

        await rounds(2)
        descriptors, objects = open_descriptors(), len(gc.get_objects())
        await rounds(20)
        assert open_descriptors() == descriptors
        # Not one object per connection is left; a few may belong to caches.
        assert len(gc.get_objects()) - objects < 100


async def test_a_peer_that_does_not_read_holds_up_nobody_else(loop: Loop) -> None:
    class Flood(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"x" * BIG)

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async with serving(loop, Flood) as (_, address):
        stalled = await client(loop, address)
        brisk = await client(loop, address)
        await loop.sock_sendall(brisk, b"end")
        received = await read_exactly(loop, brisk, BIG + 3)
        assert received[-3:] == b"end"
        brisk.close()
        reset(stalled)
        await turns(20)


@pytest.mark.parametrize("make", [Recorder, BufferedRecorder])
async def test_a_reset_with_data_in_flight(loop: Loop, make: type[Any]) -> None:
    """The error reaches connection_lost(), once, whichever call notices it."""
    protocol = make()
    async with serving(loop, lambda: protocol) as (_, address):
        sock = await client(loop, address)
        await protocol.until(lambda: protocol.calls)
        protocol.transport.write(b"x" * BIG)
        sock.send(b"y" * 1000)
        reset(sock)
        await protocol.until_lost()
        await turns(3)
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))


async def test_connections_aborted_before_accept(loop: Loop) -> None:
    """A client that reset while it waited in the backlog does not keep the next one waiting."""
    echoes = Echoes()
    server = await loop.create_server(echoes, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    # The loop does not run here, so all of these wait in the backlog together.
    for _ in range(5):
        reset(socket.create_connection(address))
    with socket.create_connection(address) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, b"hello")
        assert await read_exactly(loop, sock, 5) == b"hello"
    await echoes.idle(1)
    server.close()
    await server.wait_closed()
    await turns(5)


EXHAUSTED = """
    import asyncio, resource, socket, sys

    async def main(loop):
        contexts = []
        reported = asyncio.Event()

        def handler(loop, context):
            contexts.append(context)
            reported.set()

        loop.set_exception_handler(handler)

        class Hello(asyncio.Protocol):
            def connection_made(self, transport):
                transport.write(b"hello")
                transport.close()

        server = await loop.create_server(Hello, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        client = socket.create_connection(address)
        # The connection waits in the backlog; from here on no descriptor is to be had.
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                taken.append(socket.socket())
        except OSError:
            pass
        await reported.wait()
        context = contexts[0]
        print(context["message"])
        print(sorted(context))
        print(type(context["exception"]).__name__, context["exception"].errno)
        print(type(context["socket"]).__name__, server.is_serving())
        for sock in taken:
            sock.close()
        client.setblocking(False)
        print(await loop.sock_recv(client, 5))
        client.close()
        server.close()
        await server.wait_closed()

    if sys.argv[1] == "aioxide":
        import aioxide
        loop = aioxide.new_event_loop()
    else:
        loop = asyncio.SelectorEventLoop()
    loop.run_until_complete(main(loop))
    loop.close()
"""


def test_out_of_descriptors(kind: str) -> None:
    """EMFILE in accept is reported; when descriptors are free again (1 s) the client is served."""
    program = textwrap.dedent(EXHAUSTED)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, kind],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "socket.accept() out of system resource",
        "['exception', 'message', 'socket']",
        "OSError 24",
        "TransportSocket True",
        "b'hello'",
    ]


async def test_many_transports_at_once(loop: Loop) -> None:
    echoes = Echoes()
    async with serving(loop, echoes, backlog=256) as (_, address):
        made = await asyncio.gather(
            *(loop.create_connection(Recorder, *address) for _ in range(200))
        )
        for number, (transport, _) in enumerate(made):
            transport.write(b"%d" % number)
        for number, (transport, protocol) in enumerate(made):
            text = b"%d" % number
            assert await protocol.until_received(len(text)) == text
            transport.close()
        await echoes.idle(200)
    assert echoes.errors == [None] * 200


async def test_cancelling_everything_in_the_middle(loop: Loop) -> None:
    """Tasks cancelled at whatever await they are at leave no descriptor behind."""
    echoes = Echoes()
    async with serving(loop, echoes) as (_, address):

        async def work() -> None:
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(b"hello")
                await writer.drain()
                await reader.readexactly(5)
            finally:
                writer.close()

        await work()
        await echoes.idle(1)
        before = open_descriptors()
        for steps in range(12):
            task = loop.create_task(work())
            await turns(steps)
            task.cancel()
            await asyncio.wait([task])
        while echoes.open or open_descriptors() != before:
            await turns(1)
