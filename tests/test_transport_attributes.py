"""Transports are objects like others: programs set attributes on them, and replace methods."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from .connections import connect_socket, connected, serving
from .datagrams import DatagramRecorder, endpoint
from .pipes import anonymous, reading, writing
from .processes import CAT, running
from .support import Loop, Recorder, tcp_pair, turns

KINDS = ["socket", "datagram", "read pipe", "write pipe", "process", "stdin", "stdout"]


@contextlib.asynccontextmanager
async def transport_of(loop: Loop, kind: str, directory: Path) -> AsyncIterator[Any]:
    """A transport of each kind."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        if kind == "socket":
            transport, _ = await enter(connected(loop, Recorder()))
            yield transport
        elif kind == "datagram":
            yield await enter(endpoint(loop, DatagramRecorder()))
        elif kind == "read pipe":
            transport, _ = await enter(reading(loop, Recorder(), anonymous(directory)))
            yield transport
        elif kind == "write pipe":
            transport, _ = await enter(writing(loop, Recorder(), anonymous(directory)))
            yield transport
        else:
            process = await enter(running(loop, CAT))
            yield {"stdin": process.stdin, "stdout": process.stdout}.get(kind, process.transport)


@pytest.mark.parametrize("what", KINDS)
async def test_attributes_are_set_and_deleted(loop: Loop, what: str, tmp_path: Path) -> None:
    async with transport_of(loop, what, tmp_path) as transport:
        assert not hasattr(transport, "peer_name_of_mine")
        transport.peer_name_of_mine = "Alice"
        assert transport.peer_name_of_mine == "Alice"
        assert vars(transport)["peer_name_of_mine"] == "Alice"
        del transport.peer_name_of_mine
        assert not hasattr(transport, "peer_name_of_mine")
        with pytest.raises(AttributeError):
            del transport.peer_name_of_mine


@pytest.mark.parametrize("what", KINDS)
async def test_a_function_stands_in_for_a_method(loop: Loop, what: str, tmp_path: Path) -> None:
    async with transport_of(loop, what, tmp_path) as transport:
        with mock.patch.object(transport, "is_closing") as is_closing:
            assert transport.is_closing() is is_closing.return_value
            is_closing.assert_called_once_with()
        assert transport.is_closing() is False


async def test_streams_write_with_the_function_that_stands_in(loop: Loop) -> None:
    ours, peer = tcp_pair()
    with peer:
        _, writer = await asyncio.open_connection(sock=ours)
        transport: Any = writer.transport
        write = transport.write
        transport.write = lambda data: write(data.upper())
        for _ in range(5):  # often enough for an interpreter that adapts to what it sees
            writer.write(b"hello")
            assert await loop.sock_recv(peer, 100) == b"HELLO"
        del transport.write
        writer.write(b"hello")
        assert await loop.sock_recv(peer, 100) == b"hello"
        writer.close()
        await writer.wait_closed()


async def test_attributes_live_as_long_as_the_connection(loop: Loop) -> None:
    """The program may drop the transport; while the loop serves it, it is the same object."""
    ours, peer = tcp_pair()
    with peer:
        transport: Any = await connect_socket(loop, ours, asyncio.Protocol())
        transport.name_of_mine = "Alice"
        reference = weakref.ref(transport)
        del transport
        gc.collect()
        kept = reference()
        assert kept is not None
        assert kept.name_of_mine == "Alice"
        kept.close()
        del kept
        await turns()
    gc.collect()
    assert reference() is None


async def test_a_circle_through_an_attribute_is_garbage(loop: Loop) -> None:
    ours, peer = tcp_pair()
    with peer:
        transport: Any = await connect_socket(loop, ours, asyncio.Protocol())
        transport.pause_reading()
        await turns(2)
        transport.itself = transport
        with pytest.warns(ResourceWarning, match=r"^unclosed transport <"):
            del transport
            gc.collect()
        assert await loop.sock_recv(peer, 1) == b""


@pytest.fixture
def collecting_all_the_time() -> Iterator[None]:
    """The garbage collector looks whenever something is made."""
    before = gc.get_threshold()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.usefixtures("collecting_all_the_time")
async def test_the_garbage_collector_may_look_while_one_is_made(
    loop: Loop, what: str, tmp_path: Path
) -> None:
    for _ in range(5):
        async with transport_of(loop, what, tmp_path) as transport:
            transport.itself = transport


@pytest.mark.usefixtures("collecting_all_the_time")
async def test_the_garbage_collector_may_look_while_clients_come_and_go(loop: Loop) -> None:
    def tagged(protocol: Any) -> Callable[[asyncio.BaseTransport], None]:
        made = protocol.connection_made

        def connection_made(transport: Any) -> None:
            transport.protocol_of_mine = protocol
            made(transport)

        return connection_made

    def factory() -> Recorder:
        protocol: Any = Recorder()
        protocol.connection_made = tagged(protocol)
        return protocol  # type: ignore[no-any-return]

    async with serving(loop, factory) as (_, address):
        for _ in range(50):
            transport, protocol = await loop.create_connection(Recorder, *address)
            transport.write(b"hello")
            transport.close()
            await protocol.until_lost()
