"""The stream transport's life: the order of calls, reading, and what it tells about itself."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
from asyncio.trsock import TransportSocket
from typing import Any

import pytest

from .support import (
    BIG,
    BufferedRecorder,
    Loop,
    Recorder,
    connect_socket,
    connected,
    oracle_since,
    read_all,
    readable,
    reset,
    serving,
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
        fill_by(transport)
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
        fill_by(transport)
        transport.abort()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0, "what was queued is dropped"
        assert not protocol.lost
        await protocol.until_lost()
        assert protocol.error is None
        assert len(await read_all(loop, peer)) < BIG


def fill_by(transport: asyncio.Transport) -> None:
    """Write more than the kernel takes, so that something is queued."""
    transport.write(b"q" * BIG)
    assert transport.get_write_buffer_size() > 0


async def test_abort_after_close_drops_what_close_would_flush(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        fill_by(transport)
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
        fill_by(transport)
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


async def test_pause_and_resume_reading(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.send(b"kept by the kernel")
        await readable(loop, transport.get_extra_info("socket"))
        await turns(3)
        assert protocol.received == b"", "nothing arrives while paused"
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.until_received(18) == b"kept by the kernel"


async def test_pausing_and_resuming_twice_is_harmless(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.resume_reading()
        transport.pause_reading()
        transport.pause_reading()
        transport.resume_reading()
        transport.resume_reading()
        peer.send(b"x")
        await protocol.until_received(1)
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()


async def test_pausing_in_data_received_stops_at_once(loop: Loop) -> None:
    class OneByOne(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    protocol = OneByOne()
    async with connected(loop, protocol) as (transport, peer):
        peer.send(b"first")
        await protocol.until_received(5)
        peer.send(b"second")
        await readable(loop, transport.get_extra_info("socket"))
        await turns(3)
        assert protocol.received == b"first"
        transport.resume_reading()
        await protocol.until_received(11)


@oracle_since((3, 11), "reading is armed all the same")
async def test_pausing_in_connection_made_holds_everything_back(loop: Loop) -> None:
    class Paused(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    protocol = Paused()
    left, right = tcp_pair()
    with right:
        right.send(b"early")
        transport = await connect_socket(loop, left, protocol)
        await turns(3)
        assert protocol.received == b""
        transport.resume_reading()
        await protocol.until_received(5)
        transport.close()
        await turns(2)


async def test_a_paused_transport_does_not_see_eof(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        peer.shutdown(socket.SHUT_WR)
        await readable(loop, transport.get_extra_info("socket"))
        await turns(3)
        assert protocol.names == ["connection_made"]
        transport.resume_reading()
        await protocol.until_lost()
    assert protocol.names == ["connection_made", "eof_received", "connection_lost"]


async def test_closing_a_paused_transport(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        peer.send(b"unread")
        transport.close()
        await protocol.until_lost()
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_set_protocol_sends_what_comes_to_the_new_one(loop: Loop) -> None:
    first, second, third = Recorder(), BufferedRecorder(), Recorder()
    async with connected(loop, first) as (transport, peer):
        assert transport.get_protocol() is first
        peer.send(b"one")
        await first.until_received(3)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        peer.send(b"two!")
        await second.until_received(4)
        transport.set_protocol(third)
        peer.send(b"three")
        await third.until_received(5)
        transport.close()
        await third.until_lost()
    assert first.names == ["connection_made", "data_received"]
    assert second.names == ["get_buffer", "buffer_updated"]
    assert third.names == ["data_received", "connection_lost"]


async def test_extra_info_over_tcp(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, peer):
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("sockname") == peer.getpeername()
        assert transport.get_extra_info("no such thing") is None
        assert transport.get_extra_info("no such thing", "default") == "default"
        assert transport.get_extra_info("sslcontext") is None
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, TransportSocket)
        assert (sock.family, sock.type, sock.proto) == (peer.family, peer.type, peer.proto)
        assert sock.getsockname() == peer.getpeername()
        assert sock.getpeername() == peer.getsockname()
        assert sock.gettimeout() == 0
        assert sock.fileno() > 2
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert transport.get_extra_info("socket").fileno() == sock.fileno()


async def test_extra_info_after_close(loop: Loop) -> None:
    """Addresses are remembered; the socket object says that it is closed."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        names = peer.getsockname(), peer.getpeername()
        transport.close()
        await protocol.until_lost()
        await turns(1)
        assert transport.get_extra_info("peername") == names[0]
        assert transport.get_extra_info("sockname") == names[1]
        assert transport.get_extra_info("socket").fileno() == -1


async def test_class_and_repr(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, _):
        assert isinstance(transport, asyncio.Transport)
        number = transport.get_extra_info("socket").fileno()
        pattern = rf"^<\w+ fd={number} read=polling write=<idle, bufsize=0>>$"
        assert re.match(pattern, repr(transport))
        transport.pause_reading()
        assert "read=idle" in repr(transport)
        fill_by(transport)
        assert re.search(r"write=<polling, bufsize=\d{5,}>", repr(transport))
        transport.close()
        assert re.match(rf"^<\w+ closing fd={number} ", repr(transport))
        transport.abort()
        await protocol.until_lost()
        await turns(1)
        assert re.match(rf"^<\w+ closed fd={number}>$", repr(transport))


async def test_a_forgotten_transport_warns_and_closes(loop: Loop) -> None:
    """The loop does not keep a paused, idle transport alive; dropping it is the program's bug."""
    left, right = tcp_pair()
    with right:
        protocol = Recorder()
        transport = await connect_socket(loop, left, protocol)
        transport.pause_reading()
        await turns(2)
        with pytest.warns(ResourceWarning, match=r"^unclosed transport <"):
            del protocol.transport, transport
            del protocol
            gc.collect()
        assert await loop.sock_recv(right, 1) == b""


async def test_the_transport_lets_go_after_connection_lost(loop: Loop) -> None:
    """Protocol and loop are released: nothing is kept alive by a transport that is held."""
    import weakref

    protocol = Recorder()
    async with connected(loop, protocol) as (transport, _):
        transport.close()
        await protocol.until_lost()
        await turns(2)
        assert transport.get_protocol() is None
        reference = weakref.ref(protocol)
        del protocol.transport
        del protocol
        gc.collect()
    assert reference() is None
