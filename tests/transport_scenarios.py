"""Scenarios of test_differential.py: transports, protocols, servers."""

from __future__ import annotations

import socket
from typing import Any

from .connections import connected
from .scenarios import Note, scenario
from .support import (
    BIG,
    BufferedRecorder,
    Loop,
    Recorder,
    drain_now,
    read_all,
    readable,
    tcp_pair,
    turns,
)


class Noting(Recorder):
    """A recorder that notes its calls in the trace, under a name."""

    def __init__(self, note: Note, name: str = "") -> None:
        super().__init__()
        self._note, self._name = note, name

    def note(self, *call: Any) -> None:
        self._note(self._name, *call)
        super().note(*call)


@scenario
async def a_connection_from_begin_to_end(loop: Loop, note: Note) -> None:
    protocol = Noting(note)
    async with connected(loop, protocol) as (transport, peer):
        note("created")
        peer.send(b"hello")
        await protocol.until_received(5)
        transport.write(b"answer")
        note(await loop.sock_recv(peer, 100))
        peer.close()
        await protocol.until_lost()
        note(transport.is_closing())


@scenario
async def callbacks_around_connection_made(loop: Loop, note: Note) -> None:
    """connection_made, the first data and the creator, among callbacks scheduled beside them."""
    left, right = tcp_pair()
    protocol = Noting(note)
    with right:
        right.send(b"early")
        task = loop.create_task(loop.create_connection(lambda: protocol, sock=left))
        task.add_done_callback(lambda _: note("created"))
        for number in range(3):
            loop.call_soon(note, "soon", number)
        await protocol.until_received(5)
        transport, _ = await task
        transport.close()
        loop.call_soon(note, "after close")
        await protocol.until_lost()


@scenario
async def a_half_close_from_the_peer(loop: Loop, note: Note) -> None:
    protocol = Noting(note)
    protocol.keep_open = True
    async with connected(loop, protocol) as (transport, peer):
        peer.send(b"all of it")
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: protocol.names[-1] == "eof_received")
        note(transport.is_closing(), transport.is_reading())
        transport.write(b"answer")
        transport.close()
        note(await read_all(loop, peer))
        await protocol.until_lost()


@scenario
async def a_half_close_to_the_peer(loop: Loop, note: Note) -> None:
    protocol = Noting(note)
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"all of it")
        transport.write_eof()
        note(await read_all(loop, peer))
        peer.send(b"answer")
        await protocol.until_received(6)
        peer.close()
        await protocol.until_lost()


@scenario
async def pausing_and_resuming(loop: Loop, note: Note) -> None:
    protocol = Noting(note)
    async with connected(loop, protocol) as (transport, peer):
        for number in range(3):
            transport.pause_reading()
            note(transport.is_reading())
            peer.send(b"%d" % number)
            await readable(loop, transport.get_extra_info("socket"))
            await turns(2)
            note("resuming", len(protocol.received))
            transport.resume_reading()
            await protocol.until_received(number + 1)


@scenario
async def flow_control(loop: Loop, note: Note) -> None:
    protocol = Noting(note)
    async with connected(loop, protocol) as (transport, peer):
        for limits in ((None, None), (1000, 0), (0, None)):
            transport.set_write_buffer_limits(*limits)
            note(transport.get_write_buffer_limits())
            transport.write(b"x" * BIG)
            note("written")
            received = 0
            while received < BIG:
                received += len(await loop.sock_recv(peer, 1 << 20))
            await protocol.until(lambda: protocol.names[-1] == "resume_writing")


@scenario
async def closing_with_data_queued(loop: Loop, note: Note) -> None:
    protocol = Noting(note)
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.close()
        loop.call_soon(note, "soon")
        note(len(await read_all(loop, peer)))
        await protocol.until_lost()


@scenario
async def aborting_with_data_queued(loop: Loop, note: Note) -> None:
    protocol = Noting(note)
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.abort()
        loop.call_soon(note, "soon")
        note(transport.get_write_buffer_size(), transport.is_closing())
        await protocol.until_lost()
        drain_now(peer)


@scenario
async def failing_protocol_callbacks(loop: Loop, note: Note) -> None:
    class Failing(Noting):
        def note(self, *call: Any) -> None:
            super().note(*call)
            raise LookupError(call[0])

    for end in (b"data", b""):
        protocol = Failing(note)
        left, right = tcp_pair()
        with right:
            await loop.create_connection(lambda protocol=protocol: protocol, sock=left)  # type: ignore[misc]
            right.send(end) if end else right.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            await turns(3)


@scenario
async def switching_protocols(loop: Loop, note: Note) -> None:
    class Buffered(BufferedRecorder):
        def note(self, *call: Any) -> None:
            note("buffered", *call)
            super().note(*call)

    first, second, third = Noting(note, "first"), Buffered(), Noting(note, "third")
    async with connected(loop, first) as (transport, peer):
        for protocol in (second, third, first):
            peer.send(b"12345")
            current: Any = transport.get_protocol()
            already = len(current.received)
            await current.until_received(already + 5)
            transport.set_protocol(protocol)
        peer.close()
        await first.until_lost()


@scenario
async def a_server_and_three_clients(loop: Loop, note: Note) -> None:
    """One after the other, so that the order is the program's."""
    served: list[Noting] = []

    def factory() -> Noting:
        note("factory")
        served.append(Noting(note, f"server {len(served)}"))
        return served[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    note(server.is_serving())
    for number in range(3):
        with socket.create_connection(server.sockets[0].getsockname()) as sock:
            sock.setblocking(False)
            await loop.sock_sendall(sock, b"%d" % number)
            while len(served) <= number:
                await turns(1)
            await served[number].until_received(1)
        await served[number].until_lost()
    server.close()
    note(server.is_serving(), server.sockets)
    await server.wait_closed()
