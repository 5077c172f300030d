"""The stream transport's life: the order of calls, and how it ends."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from .connections import connect_socket, connected, queue_much, serving
from .support import (
    BIG,
    Loop,
    Recorder,
    oracle_since,
    read_all,
    readable,
    reset,
    tcp_pair,
    turns,
    unix_pair,
)


@pytest.fixture(params=[tcp_pair, unix_pair])
def make_pair(request: pytest.FixtureRequest) -> Any:
    """Transports are the same over every stream socket."""
    return request.param


async def test_the_calls_of_a_connection(loop: Loop, make_pair: Any) -> None:
    protocol = Recorder()
    async with connected(loop, protocol, make_pair) as (transport, peer):
        assert protocol.transport is transport
        peer.send(b"hello")
        await protocol.until_received(5)
        peer.close()
        await protocol.until_lost()
    assert protocol.calls == [
        ("connection_made",),
        ("data_received", b"hello"),
        ("eof_received",),
        ("connection_lost", None),
    ]


async def test_connection_made_then_reading_then_the_creator(loop: Loop) -> None:
    """Data that waits already is delivered after connection_made, and never before it."""
    left, right = tcp_pair()
    right.send(b"early")
    protocol = Recorder()
    transport = await connect_socket(loop, left, protocol)
    assert protocol.calls[0] == ("connection_made",)
    await protocol.until_received(5)
    assert protocol.calls == [("connection_made",), ("data_received", b"early")]
    right.close()
    transport.close()
    await protocol.until_lost()


async def test_nagle_is_off_at_both_ends(loop: Loop) -> None:
    served = Recorder()
    async with serving(loop, lambda: served) as (_, address):
        transport, _ = await loop.create_connection(Recorder, *address)
        await served.until(lambda: served.calls)
        for end in (transport, served.transport):
            sock = end.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        transport.close()
        await served.until_lost()


@oracle_since((3, 14, 10), "AttributeError, the transport having forgotten its loop")
async def test_abort_after_everything_is_over_does_nothing(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        queue_much(transport)
        transport.close()
        await read_all(loop, peer)
        await protocol.until_lost()
        await turns(2)
        transport.abort()
        transport.close()
        await turns(2)
    assert protocol.names.count("connection_lost") == 1


async def test_eof_closes_unless_the_protocol_keeps_it_open(loop: Loop) -> None:
    protocol = Recorder()
    protocol.keep_open = True
    async with connected(loop, protocol) as (transport, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: protocol.names[-1] == "eof_received")
        await turns(3)
        assert not transport.is_closing()
        transport.write(b"still writing")
        transport.close()
        assert await read_all(loop, peer) == b"still writing"
        await protocol.until_lost()
    assert protocol.names == ["connection_made", "eof_received", "connection_lost"]


async def test_eof_is_received_once(loop: Loop) -> None:
    protocol = Recorder()
    protocol.keep_open = True
    async with connected(loop, protocol) as (transport, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: protocol.names[-1] == "eof_received")
        transport.pause_reading()
        await turns(3)
        assert [call[0] for call in protocol.calls].count("eof_received") == 1


async def test_a_reset_reaches_connection_lost(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (_, peer):
        reset(peer)
        await protocol.until_lost()
    assert protocol.names == ["connection_made", "connection_lost"]
    assert isinstance(protocol.error, ConnectionResetError)


async def test_a_reset_while_writing_reaches_connection_lost(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        transport.write(b"x" * BIG)
        await turns(2)
        reset(peer)
        await protocol.until_lost()
    assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert [call[0] for call in protocol.calls].count("connection_lost") == 1


async def test_close_is_followed_by_connection_lost_none(loop: Loop) -> None:
    """connection_lost comes from the loop, once, and never inside close()."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        assert not transport.is_closing()
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert not protocol.lost
        await turns(2)
        assert protocol.calls == [("connection_made",), ("connection_lost", None)]
        transport.abort()
        transport.close()
        await turns(2)
        assert await read_all(loop, peer) == b""
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_close_sends_a_fin_while_the_transport_is_held(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.close()
        assert await loop.sock_recv(peer, 1) == b""
        assert transport.get_extra_info("socket").fileno() == -1


async def test_abort_is_followed_by_connection_lost_none(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        queue_much(transport)
        transport.abort()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0, "what was queued is dropped"
        assert not protocol.lost
        await protocol.until_lost()
        assert protocol.error is None
        assert len(await read_all(loop, peer)) < BIG


async def test_abort_after_close_drops_what_close_would_flush(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        queue_much(transport)
        transport.close()
        await turns(3)
        assert not protocol.lost, "close() waits for the queue"
        transport.abort()
        await protocol.until_lost()
        assert protocol.error is None
        assert len(await read_all(loop, peer)) < BIG
    assert protocol.names.count("connection_lost") == 1


async def test_nothing_is_received_after_close(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        queue_much(transport)
        transport.close()
        assert not transport.is_reading()
        peer.send(b"too late")
        await readable(loop, transport.get_extra_info("socket"))
        await turns(3)
        transport.abort()
        await protocol.until_lost()
    assert protocol.received == b""


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
async def test_closing_inside_a_callback(loop: Loop, how: str, where: str) -> None:
    inside: list[bool] = []

    class Closing(Recorder):
        def note(self, *call: Any) -> None:
            super().note(*call)
            if call[0] == where:
                getattr(self.transport, how)()
                inside.append(self.lost)

    protocol = Closing()
    left, right = tcp_pair()
    with right:
        right.send(b"data")
        right.shutdown(socket.SHUT_WR)
        await loop.create_connection(lambda: protocol, sock=left)
        await protocol.until_lost()
        await turns(3)
    steps = ["connection_made", "data_received", "eof_received"]
    assert protocol.names == [*steps[: steps.index(where) + 1], "connection_lost"]
    assert protocol.error is None
    assert inside == [False]


async def test_closing_inside_connection_lost_does_nothing(loop: Loop) -> None:
    class Closing(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            self.transport.close()
            self.transport.abort()

    protocol = Closing()
    async with connected(loop, protocol) as (transport, _):
        transport.close()
        await protocol.until_lost()
        await turns(3)
    assert protocol.names == ["connection_made", "connection_lost"]
