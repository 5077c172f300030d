"""What a transport tells about itself, and what it lets go of at the end."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
from asyncio.trsock import TransportSocket

import pytest

from .connections import connect_socket, connected, queue_much
from .support import Loop, Recorder, tcp_pair, turns


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
        queue_much(transport)
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
