"""What TLS connections leave behind: nothing, however they end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from .connections import serving
from .support import (
    BIG,
    Loop,
    LoopFactory,
    Recorder,
    open_descriptors,
    oracle_since,
    reset,
    tcp_pair,
    turns,
)
from .tls import Peer, Tls, wrap

#: How many connections are broken of each kind.
TIMES = 60

#: Objects that may come up meanwhile without being connections.
SLACK = 40


async def garbage(loop: Loop, tls: Tls, sock: socket.socket) -> None:
    await loop.sock_sendall(sock, b"this is no handshake\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        await loop.sock_recv(sock, 100)


async def nothing(loop: Loop, tls: Tls, sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionResetError):
        await loop.sock_recv(sock, 100)


async def half(loop: Loop, tls: Tls, sock: socket.socket) -> None:
    """A client's first flight, and no more."""
    peer = Peer(loop, sock, tls.client(), False)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.object.do_handshake()
    await peer.flush()
    await loop.sock_recv(sock, 1 << 16)
    reset(sock)


async def distrust(loop: Loop, tls: Tls, sock: socket.socket) -> None:
    # It trusts nobody. The default context would read the system's authorities anew for each
    # connection, which takes longer than the connection.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    peer = Peer(loop, sock, context, False)
    with contextlib.suppress(ssl.SSLError):
        await peer.handshake()


async def cut_off(loop: Loop, tls: Tls, sock: socket.socket) -> None:
    peer = Peer(loop, sock, tls.client(), False)
    await peer.handshake()
    await loop.sock_sendall(sock, peer.encrypted(b"cut off")[:10])
    reset(sock)


async def flooding(loop: Loop, tls: Tls, sock: socket.socket) -> None:
    peer = Peer(loop, sock, tls.client(), False)
    await peer.handshake()
    await peer.write(b"x" * 100_000)
    reset(sock)


BREAKS = [garbage, nothing, half, distrust, cut_off, flooding]


@pytest.mark.parametrize("break_off", BREAKS)
async def test_broken_connections_leave_nothing(
    loop: Loop, tls: Tls, break_off: Callable[..., Any]
) -> None:
    async with serving(loop, Recorder, ssl=tls.server()) as (_, address):

        async def client() -> None:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
                await break_off(loop, tls, sock)

        async def settled() -> tuple[set[str], int]:
            """What is open, and how many objects there are, when all connections have ended."""
            count = -1
            while True:
                await turns(10)
                gc.collect()
                found = {name for name in open_descriptors() if "socket" in name}
                if len(found) == count:
                    return found, len(gc.get_objects())
                count = len(found)

        for _ in range(3):
            await client()
        descriptors, objects = await settled()
        for _ in range(TIMES):
            await client()
        descriptors_after, objects_after = await settled()
        assert len(descriptors_after) == len(descriptors)
        assert objects_after <= objects + SLACK


async def test_ended_connections_are_collected(loop: Loop, tls: Tls) -> None:
    kept: list[Any] = []
    for _ in range(5):
        protocol = Recorder()
        context = tls.client()
        async with tls.connected(loop, protocol, context=context) as (transport, peer):
            kept += map(weakref.ref, (protocol, context, transport.get_extra_info("ssl_object")))
            transport.write(b"x" * BIG)
            transport.close()
            await peer.read_all()
            await peer.say_goodbye()
            await protocol.until_lost()
        del protocol, context, transport, peer
    await turns()
    gc.collect()
    assert [thing() for thing in kept] == [None] * 15


@oracle_since((3, 14, 10), "the exception keeps all")
async def test_a_failed_handshake_leaves_no_circle(loop: Loop, tls: Tls) -> None:
    """Nothing has to wait for the collector."""
    kept: list[Any] = []

    async def fail(sock: socket.socket) -> None:
        context = tls.client()
        kept.append(weakref.ref(context))
        with contextlib.suppress(ssl.SSLError):
            await wrap(loop, sock, Recorder(), "client", context)

    left, right = tcp_pair()
    gc.collect()
    gc.disable()
    try:
        with right:
            peer = Peer(loop, right, tls.server(tls.certificates.strange), True)
            await asyncio.gather(fail(left), peer.handshake(), return_exceptions=True)
        await turns()
        assert kept[0]() is None
    finally:
        gc.enable()


async def test_an_unclosed_transport_warns(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    peer = Peer(loop, right, tls.server(), True)
    transport, _ = await asyncio.gather(
        wrap(loop, left, Recorder(), "client", tls.client()), peer.handshake()
    )
    transport.pause_reading()
    await turns()
    del transport
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        right.close()
        await turns(5)
        for task in asyncio.all_tasks(loop):
            assert task is asyncio.current_task(loop)
        gc.collect()
        await turns(5)
        gc.collect()
    assert any(
        issubclass(warning.category, ResourceWarning) and "unclosed" in str(warning.message)
        for warning in caught
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("stage", ["handshake", "open", "closing"])
def test_a_loop_is_closed_under_its_connections(
    loop_factory: LoopFactory, tls: Tls, stage: str
) -> None:
    """They end when nobody has them any more."""
    loop = loop_factory()
    left, right = tcp_pair()

    async def connect() -> None:
        making = asyncio.ensure_future(wrap(loop, left, Recorder(), "client", tls.client()))
        if stage == "handshake":
            await turns(5)
            making.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await making
            return
        await Peer(loop, right, tls.server(), True).handshake()
        transport = await making
        transport.write(b"x" * BIG)
        if stage == "closing":
            transport.close()

    loop.run_until_complete(connect())
    loop.close()
    gc.collect()
    left.close()
    with right:
        right.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while right.recv(1 << 20):
                pass


@pytest.mark.parametrize("session_ends", ["by the peer", "by us"])
async def test_a_lost_connection_leaves_no_circle(loop: Loop, tls: Tls, session_ends: str) -> None:
    """A protocol that keeps its transport is freed with it, without the collector."""
    protocol = Recorder()
    context = tls.client()
    gone: list[weakref.ref[Any]] = [weakref.ref(protocol), weakref.ref(context)]
    gc.collect()
    gc.disable()
    try:
        async with tls.connected(loop, protocol, context=context) as (transport, peer):
            assert protocol.transport is transport
            if session_ends == "by us":
                transport.close()
                assert await peer.read() == b""
            await peer.say_goodbye()
            await protocol.until_lost()
        await turns()
        del transport, protocol, context
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()
