"""Connecting to a Unix socket whose listener has no room for another client.

The kernel says EAGAIN, nothing is under way, and the descriptor is ready all the time. CPython's
loop waits for readiness, and takes the socket for a connected one. aioxide waits for room.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .connections import Keeper, close, served
from .pipes import listening_at
from .support import Loop, Recorder, open_descriptors, oracle_never, turns

pytestmark = oracle_never("it reports connections that are none")

#: Seconds: some attempts long, and short for a test.
SOME_ATTEMPTS = 0.02


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a socket may be; nothing is there."""
    return str(tmp_path / "socket")


@contextlib.contextmanager
def full(path: str) -> Iterator[socket.socket]:
    """A listener with room for one client, which is there."""
    with listening_at(path, 0) as listener, socket.socket(socket.AF_UNIX) as first:
        first.connect(path)
        yield listener


@contextlib.contextmanager
def unconnected() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        yield sock


def make_room(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.close()


async def test_a_connection_waits_for_room(loop: Loop, path: str) -> None:
    with full(path) as listener:
        protocol = Recorder()
        connecting = loop.create_task(loop.create_unix_connection(lambda: protocol, path))
        done, _ = await asyncio.wait([connecting], timeout=SOME_ATTEMPTS)
        assert not done
        assert protocol.calls == []
        make_room(listener)
        transport, _ = await connecting
        assert transport.get_extra_info("peername") == path
        peer, _ = await loop.sock_accept(listener)
        with peer:
            await loop.sock_sendall(peer, b"welcome")
            assert await protocol.until_received(7) == b"welcome"
        await protocol.until_lost()


@pytest.mark.parametrize("form", [str, str.encode, lambda path: bytearray(path.encode())])
async def test_sock_connect_waits_for_room(loop: Loop, path: str, form: type[str]) -> None:
    with full(path) as listener, unconnected() as sock:
        connecting = loop.create_task(loop.sock_connect(sock, form(path)))
        await turns(2)
        assert not connecting.done()
        make_room(listener)
        await connecting
        assert sock.getpeername() == path


async def test_nobody_waits_any_more(loop: Loop, path: str) -> None:
    with full(path):
        before = open_descriptors()
        connecting = loop.create_task(loop.create_unix_connection(Recorder, path))
        await turns(2)
        assert len(open_descriptors()) == len(before) + 1
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await turns()
        assert open_descriptors() == before


async def test_a_listener_that_goes_away(loop: Loop, path: str) -> None:
    with full(path) as listener:
        connecting = loop.create_task(loop.create_unix_connection(Recorder, path))
        await turns(2)
        listener.close()
        with pytest.raises(ConnectionRefusedError, match=r"^\[Errno 111\] Connection refused$"):
            await connecting


async def test_a_socket_that_is_closed_meanwhile(loop: Loop, path: str) -> None:
    """What gets its number next is left alone."""
    with full(path) as listener:
        with unconnected() as sock:
            connecting = loop.create_task(loop.sock_connect(sock, path))
            await turns(2)
            number = sock.fileno()
        with unconnected() as other:
            assert other.fileno() == number
            make_room(listener)
            with pytest.raises(OSError) as caught:
                await connecting
            assert caught.value.errno == errno.EBADF
            with pytest.raises(OSError, match=r"^\[Errno 107\]"):
                other.getpeername()


async def test_more_clients_at_once_than_fit(loop: Loop, path: str) -> None:
    keeper = Keeper()
    server = await loop.create_unix_server(keeper, path, backlog=1)
    made = await asyncio.gather(*(loop.create_unix_connection(Recorder, path) for _ in range(50)))
    await served(keeper, 50)
    for number, (transport, protocol) in enumerate(made):
        transport.write(b"%d" % number)
        await close(protocol)
    for protocol in keeper.made:
        await protocol.until_lost()
    expected = {b"%d" % number for number in range(50)}
    assert {bytes(protocol.received) for protocol in keeper.made} == expected
    server.close()
    await server.wait_closed()
