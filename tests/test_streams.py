"""Layer 3 on this loop: open_connection, start_server, StreamReader and StreamWriter."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from .support import (
    BIG,
    Errors,
    Loop,
    end,
    listening,
    oracle_since,
    read_all,
    read_exactly,
    reset,
    turns,
)

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


@contextlib.asynccontextmanager
async def stream(loop: Loop, **options: Any) -> AsyncIterator[tuple[Reader, Writer, socket.socket]]:
    """A stream pair of open_connection(), and the plain socket at the other end."""
    with listening() as listener:
        reader, writer = await asyncio.open_connection(*listener.getsockname(), **options)
        peer, _ = await loop.sock_accept(listener)
    with peer:
        try:
            yield reader, writer, peer
        finally:
            await end(writer.transport)
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_read_up_to_n(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"abcdef")
        assert await reader.readexactly(1) == b"a"
        assert await reader.read(2) == b"bc"
        assert await reader.read(100) == b"def"
        assert await reader.read(0) == b""
        peer.close()
        assert await reader.read(100) == b""


async def test_read_until_end(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        task = loop.create_task(reader.read())
        await loop.sock_sendall(peer, b"x" * 300_000)
        await turns(2)
        assert not task.done()
        peer.close()
        assert await task == b"x" * 300_000
        assert reader.at_eof()


async def test_at_eof_needs_an_empty_buffer(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        assert not reader.at_eof()
        peer.send(b"x")
        peer.shutdown(socket.SHUT_WR)
        assert await reader.readexactly(1) == b"x"
        assert await reader.read(1) == b""
        assert reader.at_eof()


async def test_readline(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"one\ntwo\r\n\nrest")
        peer.close()
        assert [await reader.readline() for _ in range(5)] == [
            b"one\n",
            b"two\r\n",
            b"\n",
            b"rest",
            b"",
        ]


async def test_lines_by_async_for(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"one\ntwo\nrest")
        peer.close()
        assert [line async for line in reader] == [b"one\n", b"two\n", b"rest"]


async def test_readexactly(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        task = loop.create_task(reader.readexactly(6))
        await turns(1)
        peer.send(b"abc")
        await turns(3)
        assert not task.done()
        peer.send(b"defg")
        assert await task == b"abcdef"
        assert await reader.readexactly(0) == b""
        with pytest.raises(ValueError, match=r"^readexactly size can not be less than zero$"):
            await reader.readexactly(-1)


async def test_readexactly_at_end_tells_what_there_was(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"abc")
        peer.close()
        text = r"^3 bytes read on a total of 10 expected bytes$"
        with pytest.raises(asyncio.IncompleteReadError, match=text) as caught:
            await reader.readexactly(10)
        assert caught.value.partial == b"abc"
        assert caught.value.expected == 10
        assert await reader.read() == b""


async def test_readuntil(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"one||two|")
        assert await reader.readuntil(b"||") == b"one||"
        task = loop.create_task(reader.readuntil(b"||"))
        await turns(3)
        peer.send(b"|three")
        assert await task == b"two||"
        peer.close()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil(b"||")
        assert caught.value.partial == b"three"
        assert caught.value.expected is None


@pytest.mark.skipif(sys.version_info < (3, 13), reason="several separators came with 3.13")
async def test_readuntil_one_of_several(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"a;b--c;")
        assert await reader.readuntil((b"--", b";")) == b"a;"
        assert await reader.readuntil((b"--", b";")) == b"b--"


async def test_a_limit_overrun_keeps_the_data(loop: Loop) -> None:
    async with stream(loop, limit=10) as (reader, _, peer):
        peer.send(b"x" * 15 + b"\n")
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(b"\n")
        assert caught.value.consumed == 15
        assert await reader.readexactly(16) == b"x" * 15 + b"\n"


async def test_a_line_over_the_limit_is_dropped(loop: Loop) -> None:
    """readline() differs from readuntil(): ValueError, and the line is consumed."""
    async with stream(loop, limit=10) as (reader, _, peer):
        peer.send(b"x" * 15 + b"\nnext\n")
        with pytest.raises(ValueError, match=r"^Separator is found, but chunk is longer than"):
            await reader.readline()
        assert await reader.readline() == b"next\n"


async def test_reading_pauses_above_twice_the_limit(loop: Loop) -> None:
    """And resumes when the buffer is at the limit again."""
    async with stream(loop, limit=1000) as (reader, writer, peer):
        sender = loop.create_task(loop.sock_sendall(peer, b"x" * BIG))
        transport = cast("asyncio.Transport", writer.transport)
        while transport.is_reading():
            await turns(1)
        assert await reader.readexactly(BIG) == b"x" * BIG
        await sender
        peer.close()
        assert await reader.read() == b""


async def test_only_one_coroutine_may_wait(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        task = loop.create_task(reader.read(1))
        await turns(1)
        text = r"^read\(\) called while another coroutine is already waiting for incoming data$"
        with pytest.raises(RuntimeError, match=text):
            await reader.read(1)
        peer.send(b"x")
        assert await task == b"x"


async def test_a_cancelled_read_loses_nothing(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), 0.001)
        peer.send(b"later")
        assert await reader.readexactly(5) == b"later"


async def test_a_reset_raises_in_the_reader(loop: Loop) -> None:
    async with stream(loop) as (reader, writer, peer):
        task = loop.create_task(reader.read())
        await turns(1)
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await task
        assert isinstance(reader.exception(), ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        with pytest.raises(ConnectionResetError):
            await writer.drain()


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


@oracle_since((3, 12), "the client is left open")
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
