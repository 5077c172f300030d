"""The work by which the compiler learns what a loop does: typical programs on the loopback.

A profile-guided build (`make profiled-wheel`) runs this on a wheel that counts, and then compiles
again with the counts. What the counts do not show is taken to be rare. So each kind of work gets
the same time, and all that a program does often has to be here. The programs are of the kinds that
the documentation names, not those of the benchmark; client and server share the loop, but for one
client that is a thread, so that the loop sleeps.

    python scripts/training.py --seconds 0.5
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aioxide

#: Connections of each kind of work that has several.
CONNECTIONS = 8

SMALL, LARGE = 1_000, 100_000

Work = Callable[["Clock"], Awaitable[None]]


class Clock:
    """Says when the time of a piece of work is over."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def goes_on(self) -> bool:
        return time.monotonic() < self._end


# ---- protocols ----


class Echo(asyncio.Protocol):
    """Sends back what it gets, in one write."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("peername")

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoInParts(Echo):
    """Sends back what it gets, in ten writes or as a list of parts."""

    def data_received(self, data: bytes) -> None:
        part = len(data) // 10 + 1
        parts = [data[at : at + part] for at in range(0, len(data), part)]
        if data[0] & 1:
            self.transport.writelines(parts)
        else:
            for one in parts:
                self.transport.write(one)


class BufferedEcho(asyncio.BufferedProtocol):
    """Lends its own buffer to the loop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = bytearray(256 * 1024)
        self.view = memoryview(self.buffer)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.view

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.view[:nbytes]))


class WebServer(asyncio.Protocol):
    """What HTTP servers do for each request: a timer is cancelled and set again, a task handles
    the request, head and body are written apart, and flow control is kept."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.idle: asyncio.TimerHandle | None = None
        self.may_write = asyncio.Event()
        self.may_write.set()
        transport.get_extra_info("sockname")
        transport.set_write_buffer_limits(high=64 * 1024)

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def data_received(self, data: bytes) -> None:
        if self.idle is not None:
            self.idle.cancel()
        task = self.loop.create_task(self.handle(data))
        task.add_done_callback(self.handled)

    async def handle(self, data: bytes) -> None:
        await self.may_write.wait()
        self.transport.write(data[:500])
        self.transport.write(data[500:])

    def handled(self, task: asyncio.Task[None]) -> None:
        task.result()
        if not self.transport.is_closing():
            self.loop.time()
            self.idle = self.loop.call_later(5, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.idle is not None:
            self.idle.cancel()


class Asker(asyncio.Protocol):
    """A client that sends the same again whenever all of it has come back."""

    def __init__(self, size: int, clock: Clock) -> None:
        self.message, self.clock = bytes(range(256)) * (size // 256 + 1), clock
        self.message = self.message[:size]
        self.missing = 0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        # Both kinds of answer in parts.
        self.message = bytes([self.message[0] ^ 1]) + self.message[1:]
        self.missing = len(self.message)
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing == 0:
            if self.clock.goes_on():
                self.ask()
            else:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)


def protocols(
    factory: Callable[[], asyncio.BaseProtocol], size: int, tls: Tls | None = None
) -> Work:
    """Many connections that ask and wait for the answer, over TCP."""

    async def work(clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=tls.server if tls else None)
        port = server.sockets[0].getsockname()[1]
        askers = [
            await loop.create_connection(
                lambda: Asker(size, clock),
                "127.0.0.1",
                port,
                ssl=tls.client if tls else None,
                server_hostname="localhost" if tls else None,
            )
            for _ in range(CONNECTIONS)
        ]
        await asyncio.gather(*(asker.closed for _, asker in askers))
        server.close()
        await server.wait_closed()

    return work


async def unix_sockets(clock: Clock) -> None:
    """The same over Unix sockets."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        server = await loop.create_unix_server(Echo, path)
        askers = [
            await loop.create_unix_connection(lambda: Asker(SMALL, clock), path)
            for _ in range(CONNECTIONS)
        ]
        await asyncio.gather(*(asker.closed for _, asker in askers))
        server.close()
        await server.wait_closed()


async def short_connections(clock: Clock) -> None:
    """Each message has a connection of its own."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()[:2]
    over = Clock(0)
    while clock.goes_on():
        pairs = [
            await loop.create_connection(lambda: Asker(SMALL, over), *address)
            for _ in range(CONNECTIONS)
        ]
        await asyncio.gather(*(asker.closed for _, asker in pairs))
    server.close()
    await server.wait_closed()


async def one_slow_client(clock: Clock) -> None:
    """A client that works alone, in a thread: the loop sleeps before each message."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()[:2]

    def client() -> None:
        with socket.create_connection(address) as connection:
            while clock.goes_on():
                connection.sendall(bytes(SMALL))
                connection.recv(SMALL, socket.MSG_WAITALL)

    await loop.run_in_executor(None, client)
    server.close()
    await server.wait_closed()


# ---- streams ----


def streams(size: int, how: str, tls: Tls | None = None) -> Work:
    """Stream servers that read what comes, a length, or a line, and their clients."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while data := await read(reader):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def read(reader: asyncio.StreamReader) -> bytes:
        if how == "some":
            return await reader.read(65536)
        return await (reader.readline() if how == "line" else reader.readexactly(size))

    async def ask(port: int, clock: Clock) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            port,
            ssl=tls.client if tls else None,
            server_hostname="localhost" if tls else None,
        )
        message = bytes(size - 1) + b"\n"
        while clock.goes_on():
            writer.write(message)
            await writer.drain()
            await reader.readexactly(size)
        writer.close()
        await writer.wait_closed()

    async def work(clock: Clock) -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server if tls else None)
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*(ask(port, clock) for _ in range(CONNECTIONS)))
        server.close()
        await server.wait_closed()

    return work


async def bulk(clock: Clock) -> None:
    """As much as goes through in both directions, with flow control; and a file."""
    loop = asyncio.get_running_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 18):
            writer.write(bytes(1 << 16))
            await writer.drain()
        file.seek(0)
        await loop.sendfile(writer.transport, file)
        writer.close()

    with tempfile.TemporaryFile() as file:
        file.write(bytes(1 << 20))
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        reading = loop.create_task(drink(reader))
        while clock.goes_on():
            writer.write(bytes(1 << 16))
            await writer.drain()
        writer.write_eof()
        await reading
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()


async def drink(reader: asyncio.StreamReader) -> None:
    """Reads to the end."""
    while await reader.read(1 << 18):
        pass


# ---- sockets ----


def raw_sockets(size: int) -> Work:
    """The loop's socket operations."""

    async def serve(connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            while data := await loop.sock_recv(connection, 65536):
                await loop.sock_sendall(connection, data)

    async def ask(address: tuple[str, int], clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        buffer = bytearray(size)
        with socket.socket() as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
            while clock.goes_on():
                await loop.sock_sendall(connection, buffer)
                missing = size
                while missing:
                    missing -= await loop.sock_recv_into(connection, buffer)

    async def work(clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            asking = [
                loop.create_task(ask(listener.getsockname(), clock)) for _ in range(CONNECTIONS)
            ]
            serving = [
                loop.create_task(serve((await loop.sock_accept(listener))[0])) for _ in asking
            ]
            await asyncio.gather(*asking, *serving)

    return work


class DatagramEcho(asyncio.DatagramProtocol):
    """Sends each datagram back to its sender."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


class DatagramAsker(asyncio.DatagramProtocol):
    """A connected client of it, with one datagram under way."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport
        transport.sendto(bytes(SMALL))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.clock.goes_on():
            self.transport.sendto(data)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)


async def datagrams(clock: Clock) -> None:
    """UDP. On the loopback nothing is lost while so few are under way."""
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(DatagramEcho, local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    askers = [
        await loop.create_datagram_endpoint(lambda: DatagramAsker(clock), remote_addr=address)
        for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(asker.closed for _, asker in askers))
    server.close()


# ---- the loop alone ----


async def callbacks(clock: Clock) -> None:
    """One by one, many at once, from another thread, and with a time."""
    loop = asyncio.get_running_loop()

    def step(left: int, done: asyncio.Future[None]) -> None:
        if left:
            loop.call_soon(step, left - 1, done)
        else:
            done.set_result(None)

    def nothing() -> None:
        pass

    def from_outside(done: asyncio.Future[None]) -> None:
        for _ in range(1_000):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    while clock.goes_on():
        chain, batch, other, timers = (loop.create_future() for _ in range(4))
        loop.call_soon(step, 1_000, chain)
        for _ in range(1_000):
            loop.call_soon(nothing)
        loop.call_soon(batch.set_result, None)
        thread = threading.Thread(target=from_outside, args=(other,))
        thread.start()
        for later in [loop.call_later(60, nothing) for _ in range(1_000)]:
            later.cancel()
        for number in range(1_000):
            loop.call_later(number * 1e-6, nothing)
        loop.call_later(1e-3, timers.set_result, None)
        await asyncio.gather(chain, batch, other, timers)
        thread.join()


async def tasks(clock: Clock) -> None:
    """Tasks that yield, that wait for futures and for each other, and locks and queues."""
    loop = asyncio.get_running_loop()

    async def produce(queue: asyncio.Queue[int]) -> None:
        for number in range(100):
            await queue.put(number)

    async def yield_often() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    async def nothing() -> None:
        pass

    while clock.goes_on():
        for _ in range(100):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=3)
        producing = loop.create_task(produce(queue))
        for _ in range(100):
            await asyncio.wait_for(queue.get(), 5)
        await producing
        await asyncio.gather(*(nothing() for _ in range(100)))
        await asyncio.gather(*(yield_often() for _ in range(3)))


# ---- everything ----


class Tls:
    """Contexts of both ends, with a certificate made here."""

    def __init__(self) -> None:
        import trustme

        authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


async def train(seconds: float) -> None:
    """All kinds of work, each for this long."""
    tls = Tls()
    kinds: list[Work] = [
        protocols(Echo, SMALL),
        protocols(Echo, LARGE),
        protocols(EchoInParts, SMALL),
        protocols(EchoInParts, LARGE),
        protocols(BufferedEcho, SMALL),
        protocols(BufferedEcho, LARGE),
        protocols(WebServer, SMALL),
        unix_sockets,
        short_connections,
        one_slow_client,
        streams(SMALL, "some"),
        streams(LARGE, "some"),
        streams(SMALL, "exactly"),
        streams(SMALL, "line"),
        bulk,
        raw_sockets(SMALL),
        raw_sockets(LARGE),
        datagrams,
        callbacks,
        tasks,
        protocols(Echo, SMALL, tls),
        protocols(Echo, LARGE, tls),
        streams(SMALL, "some", tls),
    ]
    for kind in kinds:
        await kind(Clock(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each kind of work")
    aioxide.run(train(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
