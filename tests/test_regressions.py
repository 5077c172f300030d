"""Faults that reviewers and first users have found; each test names the rule that was broken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

import pytest

from .connections import connected
from .support import BIG, Errors, Loop, LoopFactory, Recorder, oracle_never, turns


async def test_a_datagram_is_received_whole(loop: Loop) -> None:
    """However large the room, and whether the datagram comes before the call or during it."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as receiver,
        socket.socket(type=socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        sender.connect(receiver.getsockname())
        for size in (0, 1, 1000, 40_000):
            waiting = loop.create_task(loop.sock_recv(receiver, 65536))
            await turns(1)
            sender.send(b"x" * size)
            assert await waiting == b"x" * size
            sender.send(b"y" * size)
            assert await loop.sock_recv(receiver, 65536) == b"y" * size


async def test_a_lost_connection_is_not_resumed(loop: Loop) -> None:
    """drain() must learn that the connection was lost, not that there is room."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        transport.write(b"x" * BIG)
        assert protocol.names[-1] == "pause_writing"
        peer.close()
        await protocol.until_lost()
    assert protocol.names[1:] == ["pause_writing", "connection_lost"]


@oracle_never("its transports wait for the collector")
async def test_what_is_written_outlives_the_transport(loop: Loop) -> None:
    """A program may drop a paused transport right after a write that does not fit."""
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    with peer:
        ours.setblocking(False)
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += ours.send(b"f" * 65536)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.pause_reading()
        transport.write(b"w" * 4000)
        del transport, ours
        received = 0
        with pytest.warns(ResourceWarning, match="unclosed"):
            while received < filled + 4000:
                received += len(await loop.sock_recv(peer, 65536))
            await turns(3)
            assert await loop.sock_recv(peer, 1) == b""


@oracle_never("its transports wait for the collector")
def test_a_drop_does_not_disturb_an_exception(loop: Loop) -> None:
    """The last reference to a transport may die while an exception is on its way."""
    ours, peer = socket.socketpair()
    with peer:
        made = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        made[0].pause_reading()
        loop.run_until_complete(turns(2))
        transports: list[Any] = [made[0]]
        del made, ours
        with pytest.warns(ResourceWarning, match="unclosed"), pytest.raises(TypeError, match="int"):
            int(transports.pop())


@oracle_never("this closes aioxide's way")
def test_a_forked_child_does_not_deafen_its_parent(loop: Loop) -> None:
    """Closing an inherited loop must not touch the queue that is shared with the parent."""

    def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hi")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        child = os.fork()
        if child == 0:
            asyncio.events._set_running_loop(None)
            with contextlib.suppress(BaseException):
                loop._close()  # type: ignore[attr-defined]
            os._exit(0)
        os.waitpid(child, 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await asyncio.wait_for(reader.readexactly(2), 5) == b"hi"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


@oracle_never("its transports wait for the collector")
def test_a_transport_of_a_closed_loop(loop_factory: LoopFactory) -> None:
    """It says so, and is freed."""
    loop = loop_factory()
    ours, peer = socket.socketpair()
    with peer:
        made = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        transport = made[0]
        transport.pause_reading()
        loop.run_until_complete(turns(2))
        loop.close()
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            transport.resume_reading()
        number = ours.fileno()
        with pytest.warns(ResourceWarning, match="unclosed"):
            del made, transport, ours
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


@oracle_never("it leaves the clients to the collector")
async def test_a_factory_that_closes_the_server(loop: Loop) -> None:
    """What was accepted, but not served yet, is dropped."""
    made: list[asyncio.BaseTransport] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    def factory() -> Protocol:
        server.close()
        return Protocol()

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [socket.create_connection(address) for _ in range(3)]
    await turns(5)
    await server.wait_closed()
    assert made == []
    for client in clients:
        client.close()


@pytest.mark.parametrize("callback", ["connection_made", "connection_lost"])
def test_an_interrupt_from_the_exception_handler(loop: Loop, errors: Errors, callback: str) -> None:
    """It leaves the loop, whatever the handler was called for."""

    class Failing(asyncio.Protocol):
        pass

    transports: list[asyncio.BaseTransport] = []

    def fail(*args: object) -> None:
        transports.extend(arg for arg in args if isinstance(arg, asyncio.BaseTransport))
        raise LookupError(callback)

    def interrupt(loop: Loop, context: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    setattr(Failing, callback, fail)
    loop.set_exception_handler(interrupt)
    ours, peer = socket.socketpair()
    peer.close()
    with ours, pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(loop.create_connection(Failing, sock=ours))
        loop.run_until_complete(turns(10))
    loop.set_exception_handler(errors.record)
    for transport in transports:
        transport.close()
    loop.run_until_complete(turns(10))
    errors.take()


@oracle_never("its receive waits for ever")
async def test_a_receive_does_not_follow_a_number(loop: Loop) -> None:
    """A socket that is closed under a receive: what gets its number next keeps its bytes."""
    first, first_peer = socket.socketpair()
    first.setblocking(False)
    waiting = loop.create_task(loop.sock_recv(first, 100))
    await turns(2)
    number = first.fileno()
    first.close()
    second, second_peer = socket.socketpair()
    assert second.fileno() == number, "the kernel gives the lowest number that is free"
    second_peer.send(b"secret")
    protocol = Recorder()
    transport, _ = await loop.create_connection(lambda: protocol, sock=second)
    assert await protocol.until_received(6) == b"secret"
    with pytest.raises(OSError, match="Bad file descriptor"):
        await waiting
    transport.close()
    await protocol.until_lost()
    first_peer.close()
    second_peer.close()


async def test_sockets_of_transports_are_non_blocking(loop: Loop) -> None:
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    listener: Any = server.sockets[0]
    assert listener._sock.gettimeout() == 0
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    assert transport.get_extra_info("socket")._sock.gettimeout() == 0
    transport.close()
    await turns(3)
    server.close()
    await server.wait_closed()


async def test_a_port_is_not_cut_to_16_bits(loop: Loop) -> None:
    with pytest.raises(OverflowError, match=r"port must be 0-65535"):
        await loop.create_connection(asyncio.Protocol, "127.0.0.1", 70_000)
    with pytest.raises(OverflowError, match=r"port must be 0-65535"):
        await loop.create_server(asyncio.Protocol, "127.0.0.1", 70_000)


def test_set_debug_takes_any_truth(loop: Loop) -> None:
    loop.set_debug(1)  # type: ignore[arg-type]
    assert loop.get_debug()
    loop.set_debug(None)  # type: ignore[arg-type]
    assert not loop.get_debug()


def test_a_reader_is_taken_back_by_its_closed_socket(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    with peer:
        loop.add_reader(ours, print)
        ours.close()
        assert loop.remove_reader(ours)
        assert not loop.remove_reader(peer)


def test_a_deadline_is_shown_as_it_was_given(loop: Loop) -> None:
    handle = loop.call_at(5, print)
    assert isinstance(handle.when(), int)
    handle.cancel()


def test_the_loops_own_time_counts(loop_factory: LoopFactory) -> None:
    """call_later() asks time(), which a subclass may have replaced."""
    loop = loop_factory()
    loop.time = lambda: 1000.0  # type: ignore[method-assign]
    handle = loop.call_later(5, print)
    assert handle.when() == 1005.0
    loop.close()
