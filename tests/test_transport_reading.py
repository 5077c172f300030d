"""Pausing and resuming, switching the protocol, and end of stream at a paused transport."""

from __future__ import annotations

import asyncio
import os
import socket

from .connections import connect_socket, connected
from .support import BufferedRecorder, Loop, Recorder, oracle_since, readable, tcp_pair, turns


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


async def test_urgent_data_hides_nothing(loop: Loop) -> None:
    """A receive ends before an urgent byte, whatever has come behind it."""
    protocol = Recorder()
    async with connected(loop, protocol, tcp_pair) as (_, peer):
        for number in range(3):
            peer.send(b"abc")
            peer.send(b"!", socket.MSG_OOB)
            peer.send(b"def")
            assert await protocol.until_received(6 * (number + 1)) == b"abcdef" * (number + 1)


async def test_messages_of_every_size_arrive(loop: Loop) -> None:
    """Around the sizes at which the loop receives in another way."""
    protocol = Recorder()
    async with connected(loop, protocol, tcp_pair) as (_, peer):
        total = 0
        for size in (1, 16384, 16385, 100, 65536, 122879, 122880, 122881, 262144, 300000, 2, 40000):
            payload = os.urandom(size)
            await loop.sock_sendall(peer, payload)
            total += size
            assert (await protocol.until_received(total))[total - size :] == payload


async def test_a_socket_that_lives_on_disturbs_nobody(loop: Loop) -> None:
    """The duplicate of a closed transport's socket gets bytes; the number is another's then."""
    first, second = Recorder(), Recorder()
    async with connected(loop, first, tcp_pair) as (transport, peer):
        duplicate = transport.get_extra_info("socket").dup()
        with duplicate:
            transport.close()
            await first.until_lost()
            await turns(2)
            async with connected(loop, second, tcp_pair) as (_, other):
                peer.send(b"to the duplicate")
                other.send(b"to the transport")
                assert await second.until_received(16) == b"to the transport"
                assert duplicate.recv(100) == b"to the duplicate"
    assert first.received == b""
