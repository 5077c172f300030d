"""One echo server in seven ways of asyncio, on any event loop: over TCP, TLS, a Unix socket, UDP.

The program is the same for every contender; only `--loop` differs. It keeps the contract of the
benchmark's servers: pin to `--core`, print the port (or the `--path`), echo until each client's end
of file, end when standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import cast

HOST = "127.0.0.1"

# Connections that may wait to be accepted: more than any row has, so that no connect is retried.
BACKLOG = 1024

# Bytes asked for at once where the program asks: what asyncio's own transports ask for.
RECEIVE_BUFFER = 256 * 1024

MODES = ("protocol", "buffered", "tenwrites", "streams", "readexactly", "sockets", "datagrams")

StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# Writes in which the mode `tenwrites` sends one reply.
WRITES = 10


class Echo(asyncio.Protocol):
    """Mode `protocol`: what arrives is written back in one piece."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoInPieces(Echo):
    """Mode `tenwrites`: a reply is written in ten pieces, as programs do that format a reply."""

    def __init__(self, size: int) -> None:
        self.piece = -(-size // WRITES)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), self.piece):
            self.transport.write(data[start : start + self.piece])


class BufferedEcho(asyncio.BufferedProtocol):
    """Mode `buffered`: the loop receives into the protocol's own buffer."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(RECEIVE_BUFFER))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A copy, because the buffer is filled again while the transport may still hold the reply.
        self.transport.write(bytes(self.buffer[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    """Mode `datagrams`: each goes back to where it came from."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Mode `streams`: read what there is, write it, drain."""
    while data := await reader.read(RECEIVE_BUFFER):
        writer.write(data)
        await writer.drain()
    writer.close()


async def echo_exactly(
    size: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Mode `readexactly`: read a whole request, write it, drain."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            writer.write(await reader.readexactly(size))
            await writer.drain()
    writer.close()


async def echo_socket(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    """Mode `sockets`: the loop's operations on a bare socket."""
    with connection:
        while data := await loop.sock_recv(connection, RECEIVE_BUFFER):
            await loop.sock_sendall(connection, data)


async def accept_sockets(listener: socket.socket) -> None:
    """Accepts for the mode `sockets`, one task per connection, until cancelled."""
    loop = asyncio.get_running_loop()
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setblocking(False)
        # The transports of the other modes do the same.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(echo_socket(loop, connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def protocol_factory(mode: str, size: int) -> Callable[[], asyncio.BaseProtocol] | None:
    """The factory of the modes that are a protocol."""
    factories: dict[str, Callable[[], asyncio.BaseProtocol]] = {
        "protocol": Echo,
        "tenwrites": lambda: EchoInPieces(size),
        "buffered": BufferedEcho,
    }
    return factories.get(mode)


def stream_handler(mode: str, size: int) -> StreamHandler | None:
    """The handler of the modes that are a pair of streams."""
    handlers: dict[str, StreamHandler] = {
        "streams": echo_stream,
        "readexactly": functools.partial(echo_exactly, size),
    }
    return handlers.get(mode)


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """The loop of a module that has `new_event_loop`, or `over+base`: the loop of `base` with the
    transports of `over`, a module that has `loop_factory`."""
    over, _, base = name.rpartition("+")
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(base).new_event_loop
    if over:
        factory = importlib.import_module(over).loop_factory(factory)
    return factory()


def server_context(certificate: str) -> ssl.SSLContext:
    """The `ssl` module's own choices, and the key and the certificate in this file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def serve(mode: str, size: int, context: ssl.SSLContext | None, path: str | None) -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    accepting: asyncio.Task[None] | None = None
    factory = protocol_factory(mode, size)
    if mode == "datagrams":
        endpoint, _ = await loop.create_datagram_endpoint(DatagramEcho, local_addr=(HOST, 0))
        print(endpoint.get_extra_info("sockname")[1], flush=True)
        await end_of_input(loop)
        endpoint.close()
        return
    if factory and path is not None:
        await loop.create_unix_server(factory, path, backlog=BACKLOG, ssl=context)
        print(path, flush=True)
        await end_of_input(loop)
        return
    if factory:
        server = await loop.create_server(factory, HOST, 0, backlog=BACKLOG, ssl=context)
        listener = server.sockets[0]
    elif handler := stream_handler(mode, size):
        server = await asyncio.start_server(handler, HOST, 0, backlog=BACKLOG, ssl=context)
        listener = server.sockets[0]
    else:
        listener = socket.create_server((HOST, 0), backlog=BACKLOG)
        listener.setblocking(False)
        accepting = loop.create_task(accept_sockets(listener))
    print(listener.getsockname()[1], flush=True)
    await end_of_input(loop)
    if accepting is not None:
        accepting.cancel()
        await asyncio.wait([accepting])


async def end_of_input(loop: asyncio.AbstractEventLoop) -> None:
    """Waits for standard input to end, on the loop: a second thread would slow system calls."""
    ended = loop.create_future()
    descriptor = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            ended.set_result(None)

    loop.add_reader(descriptor, readable)
    await ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--loop", default="asyncio", help="module that has new_event_loop(), or over+module"
    )
    parser.add_argument("--mode", default="protocol", choices=MODES)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a request")
    parser.add_argument("--core", type=int, help="the core to run on")
    parser.add_argument("--certificate", help="PEM file of a key and its certificate: serve TLS")
    parser.add_argument("--path", help="the Unix socket to serve on, with a mode of protocols")
    options = parser.parse_args()
    if options.certificate and options.mode == "sockets":
        parser.error("a bare socket has no TLS")
    if options.path and protocol_factory(options.mode, options.size) is None:
        parser.error(f"the mode {options.mode} has no Unix socket")
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    # Before the context is made: a loop may have to see that happen (rsloop does).
    loop = new_event_loop(options.loop)
    context = server_context(options.certificate) if options.certificate else None
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(serve(options.mode, options.size, context, options.path))
    finally:
        loop.close()


if __name__ == "__main__":
    main()
