"""StreamWriter, open_connection and start_server on this loop."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .connections import stream
from .support import (
    BIG,
    Errors,
    Loop,
    listening,
    read_all,
    read_exactly,
    reset,
    turns,
)

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


async def test_write_writelines_and_eof(loop: Loop) -> None:
    async with stream(loop) as (reader, writer, peer):
        writer.write(b"one ")
        writer.writelines([b"two ", bytearray(b"three")])
        await writer.drain()
        assert writer.can_write_eof()
        writer.write_eof()
        assert await read_all(loop, peer) == b"one two three"
        peer.send(b"reply")
        peer.close()
        assert await reader.read() == b"reply"


async def test_drain_waits_for_the_peer(loop: Loop) -> None:
    async with stream(loop) as (_, writer, peer):
        writer.write(b"x" * BIG)
        drains = [loop.create_task(writer.drain()) for _ in range(2)]
        await turns(3)
        assert not any(task.done() for task in drains)
        await read_exactly(loop, peer, BIG)
        await asyncio.gather(*drains)
        await writer.drain()


async def test_drain_fails_when_the_connection_is_lost(loop: Loop) -> None:
    async with stream(loop) as (_, writer, peer):
        writer.write(b"x" * BIG)
        task = loop.create_task(writer.drain())
        await turns(2)
        reset(peer)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await task


async def test_close_and_wait_closed(loop: Loop) -> None:
    async with stream(loop) as (_, writer, peer):
        writer.write(b"x" * BIG)
        assert not writer.is_closing()
        writer.close()
        assert writer.is_closing()
        closed = loop.create_task(writer.wait_closed())
        await turns(3)
        assert not closed.done(), "the buffer is flushed first"
        assert len(await read_all(loop, peer)) == BIG
        await closed


async def test_extra_info_and_transport(loop: Loop) -> None:
    async with stream(loop) as (_, writer, peer):
        assert writer.get_extra_info("peername") == peer.getsockname()
        assert writer.get_extra_info("nothing", 7) == 7
        assert isinstance(writer.transport, asyncio.Transport)


async def upper(reader: Reader, writer: Writer) -> None:
    """A client_connected_cb: answers everything in capitals."""
    while data := await reader.read(1000):
        writer.write(data.upper())
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def exchange(server: asyncio.AbstractServer, data: bytes) -> bytes:
    """What the server answers to `data` and an end of stream."""
    sockets: Any = server.sockets  # type: ignore[attr-defined]
    reader, writer = await asyncio.open_connection(*sockets[0].getsockname()[:2])
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def stopped(server: asyncio.AbstractServer) -> None:
    server.close()
    await server.wait_closed()
    await turns(5)


async def test_a_server_with_a_coroutine(loop: Loop) -> None:
    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    assert await exchange(server, b"hello") == b"HELLO"
    answers = await asyncio.gather(*(exchange(server, b"%d a" % n) for n in range(20)))
    assert answers == [b"%d A" % n for n in range(20)]
    await stopped(server)


async def test_a_server_with_a_plain_callback(loop: Loop) -> None:
    def callback(reader: Reader, writer: Writer) -> None:
        writer.write(b"plain")
        writer.close()

    server = await asyncio.start_server(callback, "127.0.0.1", 0)
    assert await exchange(server, b"") == b"plain"
    await stopped(server)


async def test_a_server_with_a_limit(loop: Loop) -> None:
    seen: list[BaseException] = []

    async def callback(reader: Reader, writer: Writer) -> None:
        try:
            await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as exc:
            seen.append(exc)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(callback, "127.0.0.1", 0, limit=5)
    assert await exchange(server, b"0123456789\n") == b""
    assert len(seen) == 1
    await stopped(server)


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="the streams are asyncio's own: older ones say nothing"
)
async def test_an_exception_in_the_callback_is_reported(loop: Loop, errors: Errors) -> None:
    async def callback(reader: Reader, writer: Writer) -> None:
        raise LookupError("in the callback")

    server = await asyncio.start_server(callback, "127.0.0.1", 0)
    assert await exchange(server, b"") == b"", "the connection is closed"
    await stopped(server)
    context = errors.take_one()
    assert context["message"] == "Unhandled exception in client_connected_cb"
    assert isinstance(context["exception"], LookupError)
    assert isinstance(context["transport"], asyncio.Transport)


async def test_an_exception_in_a_plain_callback_is_reported(loop: Loop, errors: Errors) -> None:
    def callback(reader: Reader, writer: Writer) -> None:
        writer.close()
        raise LookupError("in the callback")

    server = await asyncio.start_server(callback, "127.0.0.1", 0)
    assert await exchange(server, b"") == b""
    await stopped(server)
    context = errors.take_one()
    texts = ("Exception in callback ", "Unhandled exception in client_connected_cb")
    assert context["message"].startswith(texts), "the second since 3.14"
    assert isinstance(context["exception"], LookupError)


Method = Callable[[Reader, bytes], None]


async def test_a_subclassed_reader_is_respected(loop: Loop) -> None:
    """A shortcut past the reader's methods must not skip an override of feed_data()."""
    fed: list[bytes] = []

    class Counting(asyncio.StreamReader):
        def feed_data(self, data: Any) -> None:
            fed.append(bytes(data))
            super().feed_data(data)

    await with_reader(loop, Counting(loop=loop))
    assert b"".join(fed) == b"counted"


async def test_a_patched_reader_is_respected(loop: Loop, monkeypatch: Any) -> None:
    """Patched on the object, and on the class."""
    fed: list[bytes] = []
    original = asyncio.StreamReader.feed_data

    def counting(self: Reader, data: Any) -> None:
        fed.append(bytes(data))
        original(self, data)

    reader = asyncio.StreamReader(loop=loop)
    monkeypatch.setattr(reader, "feed_data", lambda data: counting(reader, data))
    await with_reader(loop, reader)
    monkeypatch.setattr(asyncio.StreamReader, "feed_data", counting)
    await with_reader(loop, asyncio.StreamReader(loop=loop))
    assert b"".join(fed) == b"countedcounted"


async def test_a_subclassed_protocol_is_respected(loop: Loop) -> None:
    calls: list[str] = []

    class Noting(asyncio.StreamReaderProtocol):
        def data_received(self, data: bytes) -> None:
            calls.append("data_received")
            super().data_received(data)

        def eof_received(self) -> bool | None:
            calls.append("eof_received")
            return super().eof_received()

    await with_reader(loop, asyncio.StreamReader(loop=loop), Noting)
    assert calls == ["data_received", "eof_received"]


async def with_reader(
    loop: Loop, reader: Reader, make: type[Any] = asyncio.StreamReaderProtocol
) -> None:
    """Receive ``counted`` and an end of stream through `reader`, the way open_connection() does."""
    with listening() as listener:
        protocol = make(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, *listener.getsockname())
        peer, _ = await loop.sock_accept(listener)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    peer.send(b"counted")
    assert await reader.readexactly(7) == b"counted"
    peer.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_open_connection_errors_are_the_callers(loop: Loop) -> None:
    operations: list[Callable[[], Awaitable[Any]]] = [
        lambda: asyncio.open_connection("no.such.host.invalid", 80),
        lambda: asyncio.start_server(upper, "no.such.host.invalid", 80),
    ]
    for operation in operations:
        with pytest.raises(socket.gaierror):
            await operation()
