"""loop.sendfile: a file to a stream transport, in order with what is written."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any

import pytest

from .connections import connected, queue_much, serving
from .processes import pipe
from .support import (
    BIG,
    BufferedRecorder,
    Errors,
    Loop,
    Recorder,
    drain_now,
    oracle_never,
    oracle_since,
    read_all,
    read_exactly,
    reset,
    tcp_pair,
    turns,
    unix_pair,
)

#: What the small files hold; no two offsets look alike.
DATA = bytes(range(256)) * 40 + b"the end"

#: Opens a file with the given contents, in one of the ways that sendfile knows.
Opener = Callable[[bytes], Any]


@pytest.fixture(params=[tcp_pair, unix_pair])
def make_pair(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def open_file(tmp_path: Path, later: Any) -> Opener:
    """Opens regular files, which the kernel sends."""

    def open_with(contents: bytes) -> IO[bytes]:
        path = tmp_path / "file"
        path.write_bytes(contents)
        file = path.open("rb")
        later(file.close)
        return file

    return open_with


@pytest.fixture(params=["file", "memory"])
def open_any(request: pytest.FixtureRequest, open_file: Opener) -> Opener:
    """Opens files of both kinds; what is in memory has to be sent by hand."""
    return open_file if request.param == "file" else io.BytesIO


@contextlib.asynccontextmanager
async def sending(
    loop: Any, file: Any, protocol: Recorder | None = None
) -> AsyncIterator[tuple[asyncio.Transport, socket.socket, asyncio.Task[int]]]:
    """A transport in the middle of a sendfile, and its peer, which has not read yet."""
    async with connected(loop, protocol or Recorder()) as (transport, peer):
        task = loop.create_task(loop.sendfile(transport, file))
        await asyncio.wait([loop.create_task(loop.sock_recv(peer, 1))])
        assert not task.done()
        try:
            yield transport, peer, task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await task


# What is sent.


async def test_a_whole_file(loop: Any, make_pair: Any, open_any: Opener) -> None:
    file = open_any(DATA)
    async with connected(loop, Recorder(), make_pair) as (transport, peer):
        assert await loop.sendfile(transport, file) == len(DATA)
        assert file.tell() == len(DATA)
        transport.close()
        assert await read_all(loop, peer) == DATA


@pytest.mark.parametrize(
    ("offset", "count"),
    [(100, None), (0, 1), (300, 20), (0, len(DATA) + 1), (len(DATA) - 3, 1_000_000), (5, 20_000)],
)
async def test_a_part_of_a_file(
    loop: Any, open_any: Opener, offset: int, count: int | None
) -> None:
    file = open_any(DATA)
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]
    async with connected(loop, Recorder()) as (transport, peer):
        assert await loop.sendfile(transport, file, offset, count) == len(expected)
        assert file.tell() == offset + len(expected)
        transport.close()
        assert await read_all(loop, peer) == expected


@pytest.mark.parametrize("offset", [0, 10])
async def test_an_empty_file(loop: Any, open_any: Opener, offset: int) -> None:
    async with connected(loop, Recorder()) as (transport, peer):
        assert await loop.sendfile(transport, open_any(b""), offset) == 0
        transport.close()
        assert await read_all(loop, peer) == b""


async def test_in_order_with_what_is_written(loop: Any, make_pair: Any, open_any: Opener) -> None:
    async with connected(loop, Recorder(), make_pair) as (transport, peer):
        transport.write(b"before")
        await loop.sendfile(transport, open_any(DATA))
        transport.write(b"between")
        await loop.sendfile(transport, open_any(DATA), 0, 10)
        transport.write(b"after")
        transport.close()
        assert await read_all(loop, peer) == b"before" + DATA + b"between" + DATA[:10] + b"after"


async def test_after_what_is_queued(loop: Any, open_any: Opener) -> None:
    """Pending writes go first, and the protocol hears of them as ever."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        queue_much(transport)
        assert protocol.names == ["connection_made", "pause_writing"]
        task = loop.create_task(loop.sendfile(transport, open_any(DATA)))
        await turns()
        assert not task.done()
        assert await read_exactly(loop, peer, BIG + len(DATA)) == b"q" * BIG + DATA
        assert await task == len(DATA)
        assert transport.get_write_buffer_size() == 0
        await turns()
    assert protocol.names == [
        "connection_made",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ]


async def test_a_big_file_to_a_slow_reader(loop: Any, make_pair: Any, open_any: Opener) -> None:
    contents = os.urandom(BIG)
    file = open_any(contents)
    async with connected(loop, Recorder(), make_pair) as (transport, peer):
        task = loop.create_task(loop.sendfile(transport, file))
        got = bytearray()
        while len(got) < BIG:
            got += await loop.sock_recv(peer, 100_000)
            await turns(1)
        assert await task == BIG
        assert got == contents
        assert file.tell() == BIG


async def test_from_a_server(loop: Any, open_any: Opener) -> None:
    class Serving(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.task = loop.create_task(self.serve(transport))

        async def serve(self, transport: Any) -> None:
            await loop.sendfile(transport, open_any(DATA))
            transport.close()

    async with serving(loop, Serving) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == DATA
        writer.close()
        await writer.wait_closed()


async def test_to_a_stream_writer(loop: Any, open_any: Opener) -> None:
    left, right = tcp_pair()
    with right:
        _, writer = await asyncio.open_connection(sock=left)
        writer.write(b"head ")
        await writer.drain()
        await loop.sendfile(writer.transport, open_any(DATA))
        writer.write(b" tail")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await read_all(loop, right) == b"head " + DATA + b" tail"


async def test_on_many_connections_at_once(loop: Any, open_file: Opener) -> None:
    contents = os.urandom(1 << 20)
    file = open_file(contents)

    async def one() -> None:
        async with connected(loop, Recorder()) as (transport, peer):
            task = loop.create_task(loop.sendfile(transport, file))
            assert await read_exactly(loop, peer, len(contents)) == contents
            assert await task == len(contents)

    await asyncio.gather(*(one() for _ in range(20)))


# What happens meanwhile.


async def test_writing_is_refused_meanwhile(loop: Any, open_file: Opener) -> None:
    async with sending(loop, open_file(bytes(BIG))) as (transport, peer, task):
        with pytest.raises(RuntimeError, match=r"^unable to write; sendfile is in progress$"):
            transport.write(b"not now")
        with pytest.raises(
            RuntimeError, match=r"^unable to write(lines)?; sendfile is in progress$"
        ):
            transport.writelines([b"not", b"now"])
        await read_exactly(loop, peer, BIG - 1)
        assert await task == BIG
        transport.write(b"now")
        assert await read_exactly(loop, peer, 3) == b"now"


async def test_writing_is_refused_while_the_queue_is_sent(loop: Any, open_file: Opener) -> None:
    async with connected(loop, Recorder()) as (transport, peer):
        queue_much(transport)
        task = loop.create_task(loop.sendfile(transport, open_file(DATA)))
        await turns(1)
        with pytest.raises(RuntimeError, match=r"^unable to write; sendfile is in progress$"):
            transport.write(b"not now")
        await read_exactly(loop, peer, BIG + len(DATA))
        await task


async def test_reading_is_paused_meanwhile(loop: Any, open_any: Opener) -> None:
    protocol = Recorder()
    async with sending(loop, open_any(bytes(BIG)), protocol) as (transport, peer, task):
        assert not transport.is_reading()
        peer.send(b"waits")
        await turns()
        assert protocol.received == b""
        await read_exactly(loop, peer, BIG - 1)
        await task
        assert transport.is_reading()
        assert await protocol.until_received(5) == b"waits"
        assert transport.get_protocol() is protocol


async def test_reading_that_was_paused_stays_so(loop: Any, open_any: Opener) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        peer.send(b"waits")
        await loop.sendfile(transport, open_any(DATA))
        assert not transport.is_reading()
        await turns()
        assert protocol.received == b""
        transport.resume_reading()
        assert await protocol.until_received(5) == b"waits"


async def test_eof_is_heard_afterwards(loop: Any, open_any: Opener) -> None:
    protocol = Recorder()
    protocol.keep_open = True
    async with sending(loop, open_any(bytes(BIG)), protocol) as (_, peer, task):
        peer.shutdown(socket.SHUT_WR)
        await turns()
        assert "eof_received" not in protocol.names
        await read_exactly(loop, peer, BIG - 1)
        assert await task == BIG
        await protocol.until(lambda: "eof_received" in protocol.names)


async def test_with_a_buffered_protocol(loop: Any, open_any: Opener) -> None:
    protocol = BufferedRecorder()
    async with connected(loop, protocol) as (transport, peer):
        await loop.sendfile(transport, open_any(DATA))
        peer.send(b"hello")
        assert await protocol.until_received(5) == b"hello"
        assert await read_exactly(loop, peer, len(DATA)) == DATA
        assert transport.get_protocol() is protocol


@oracle_never("KeyError")
async def test_a_second_one_is_refused_meanwhile(loop: Any, open_file: Opener) -> None:
    file = open_file(bytes(BIG))
    async with sending(loop, file) as (transport, peer, task):
        with pytest.raises(RuntimeError):
            await loop.sendfile(transport, file)
        await read_exactly(loop, peer, BIG - 1)
        assert await task == BIG


async def test_the_file_is_sent_by_hand_through_another_protocol(loop: Any) -> None:
    """It takes the place of the program's, which hears nothing of the pauses in between."""
    protocol = Recorder()
    async with sending(loop, io.BytesIO(bytes(BIG)), protocol) as (transport, peer, task):
        assert transport.get_protocol() is not protocol
        await read_exactly(loop, peer, BIG - 1)
        assert await task == BIG
        assert transport.get_protocol() is protocol
        await turns()
        assert protocol.names == ["connection_made"]


async def test_by_hand_while_the_protocol_is_paused(loop: Any) -> None:
    """It is resumed at the end."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        queue_much(transport)
        task = loop.create_task(loop.sendfile(transport, io.BytesIO(DATA)))
        assert await read_exactly(loop, peer, BIG + len(DATA)) == b"q" * BIG + DATA
        await task
        await turns()
    assert protocol.names == [
        "connection_made",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ]


# Without the kernel.


async def test_without_the_kernel_only_if_that_is_allowed(loop: Any) -> None:
    file = io.BytesIO(DATA)
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^not a regular file$"):
            await loop.sendfile(transport, file, fallback=False)
        assert transport.is_reading()
        assert transport.get_protocol() is protocol
        transport.write(b"usable")
        assert await read_exactly(loop, peer, 6) == b"usable"
        assert file.tell() == 0


async def test_an_exception_while_reading_the_file(loop: Any) -> None:
    class Unreadable:
        def readinto(self, buffer: Any) -> int:
            raise LookupError("unreadable")

    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        with pytest.raises(LookupError, match=r"^unreadable$"):
            await loop.sendfile(transport, Unreadable())
        assert transport.get_protocol() is protocol
        transport.write(b"usable")
        assert await read_exactly(loop, peer, 6) == b"usable"
        peer.send(b"both ways")
        assert await protocol.until_received(9) == b"both ways"


# What is refused.


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"count": 0}, ValueError, "count must be a positive integer (got 0)"),
        ({"count": "1"}, TypeError, "count must be a positive integer (got '1')"),
        ({"offset": -1}, ValueError, "offset must be a non-negative integer (got -1)"),
        ({"offset": 1.5}, TypeError, "offset must be a non-negative integer (got 1.5)"),
    ],
)
async def test_wrong_arguments(
    loop: Any, open_any: Opener, options: dict[str, Any], error: Any, text: str
) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        with pytest.raises(error, match=f"^{re.escape(text)}$"):
            await loop.sendfile(transport, open_any(DATA), **options)
        assert transport.is_reading()
        transport.write(b"usable")
        assert await read_exactly(loop, peer, 6) == b"usable"


async def test_a_text_file(loop: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    async with connected(loop, Recorder()) as (transport, _):
        with (
            path.open("r") as file,
            pytest.raises(ValueError, match=r"^file should be opened in binary mode$"),
        ):
            await loop.sendfile(transport, file)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_transport_that_is_closing(loop: Any, open_any: Opener, end: str) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        getattr(transport, end)()
        for fallback in (True, False):
            with pytest.raises(RuntimeError, match=r"^Transport is closing$"):
                await loop.sendfile(transport, open_any(DATA), fallback=fallback)


@pytest.mark.parametrize("fallback", [True, False])
async def test_a_datagram_transport(loop: Any, open_any: Opener, fallback: bool) -> None:
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    with pytest.raises(RuntimeError, match=r"^sendfile is not supported for transport <"):
        await loop.sendfile(transport, open_any(DATA), fallback=fallback)
    transport.close()
    await turns()


async def test_a_pipe_transport(loop: Any, open_any: Opener) -> None:
    with pipe() as (_, writing):
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writing)
        with pytest.raises(RuntimeError, match=r"^sendfile is not supported for transport <"):
            await loop.sendfile(transport, open_any(DATA))
        transport.close()
        await turns()


async def test_a_transport_of_somebody_else(loop: Any, open_any: Opener) -> None:
    class Foreign(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

    text = r"^sendfile is not supported for transport <.*\.Foreign object at .*>$"
    with pytest.raises(RuntimeError, match=text):
        await loop.sendfile(Foreign(), open_any(DATA))


# What goes wrong meanwhile.


async def test_cancelled_midway(loop: Any, open_file: Opener) -> None:
    """The transport is as before, and what is written next follows what was sent."""
    contents = os.urandom(BIG)
    protocol = Recorder()
    async with sending(loop, open_file(contents), protocol) as (transport, peer, task):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.is_reading()
        got = b""
        while piece := drain_now(peer):
            got += piece
            await turns()
        assert got == contents[1 : 1 + len(got)]
        transport.write(b"usable")
        assert await read_exactly(loop, peer, 6) == b"usable"
        peer.send(b"both ways")
        assert await protocol.until_received(9) == b"both ways"


async def test_cancelled_midway_by_hand(loop: Any) -> None:
    file = io.BytesIO(bytes(BIG))
    protocol = Recorder()
    async with sending(loop, file, protocol) as (transport, peer, task):
        await read_exactly(loop, peer, 100_000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.is_reading()
        assert transport.get_protocol() is protocol
        assert 0 < file.tell() < BIG
        transport.close()
        assert len(await read_all(loop, peer)) < BIG


@oracle_never("sendfile stays in progress for ever")
async def test_cancelled_while_the_queue_is_sent(loop: Any, open_file: Opener) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        queue_much(transport)
        task = loop.create_task(loop.sendfile(transport, open_file(DATA)))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read_exactly(loop, peer, BIG) == b"q" * BIG
        await turns()
        assert drain_now(peer) == b""
        transport.write(b"usable")
        assert await read_exactly(loop, peer, 6) == b"usable"


async def test_a_reset_midway(loop: Any, open_file: Opener) -> None:
    """The sender gets the error, and the protocol hears of it when reading goes on."""
    protocol = Recorder()
    file = open_file(bytes(BIG))
    async with sending(loop, file, protocol) as (_, peer, task):
        reset(peer)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await task
        assert 0 < file.tell() < BIG
        await protocol.until_lost()


async def test_a_reset_midway_by_hand(loop: Any) -> None:
    protocol = Recorder()
    file = io.BytesIO(bytes(BIG))
    async with sending(loop, file, protocol) as (transport, peer, task):
        reset(peer)
        with pytest.raises(ConnectionError):
            await task
        assert file.tell() < BIG
        await protocol.until_lost()
        assert transport.is_closing()
    assert isinstance(protocol.error, ConnectionError)


@oracle_never("it sets the result of its own future twice, which is reported")
async def test_a_reset_while_the_queue_is_sent(loop: Any, open_any: Opener) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        queue_much(transport)
        task = loop.create_task(loop.sendfile(transport, open_any(DATA)))
        await turns()
        reset(peer)
        with pytest.raises(ConnectionError):
            await task
        await protocol.until_lost()
    assert isinstance(protocol.error, ConnectionError)


async def test_an_abort_while_the_queue_is_sent(loop: Any, open_file: Opener) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, _):
        queue_much(transport)
        task = loop.create_task(loop.sendfile(transport, open_file(DATA)))
        await turns()
        transport.abort()
        with pytest.raises(ConnectionError, match=r"^Connection is closed by peer$"):
            await task
    assert protocol.error is None


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_transport_is_closed_midway_by_hand(loop: Any, end: str) -> None:
    protocol = Recorder()
    async with sending(loop, io.BytesIO(bytes(BIG)), protocol) as (transport, peer, task):
        getattr(transport, end)()
        if end == "close":
            await read_all(loop, peer)
        with pytest.raises(ConnectionError):
            await task
        await protocol.until_lost()
    assert protocol.error is None


@pytest.mark.parametrize("end", ["close", "abort"])
@oracle_never("the sender waits for ever")
async def test_the_transport_is_closed_midway(loop: Any, open_file: Opener, end: str) -> None:
    protocol = Recorder()
    async with sending(loop, open_file(bytes(BIG)), protocol) as (transport, _, task):
        getattr(transport, end)()
        with pytest.raises(ConnectionError):
            await task
        await protocol.until_lost()
    assert protocol.error is None


async def test_the_loop_goes_on_serving_others(loop: Any, open_any: Opener, errors: Errors) -> None:
    """While one connection waits for its reader, another one is quick."""
    async with sending(loop, open_any(bytes(BIG))) as (_, peer, task):
        protocol = Recorder()
        async with connected(loop, protocol) as (_, other):
            other.send(b"quick")
            assert await protocol.until_received(5) == b"quick"
        assert not task.done()
        await read_exactly(loop, peer, BIG - 1)
        assert await task == BIG
    assert errors.take() == []


@oracle_since((3, 14), "the position of a file that is sent by hand counts")
async def test_the_position_before_does_not_matter(loop: Any, open_any: Opener) -> None:
    file = open_any(DATA)
    file.read(17)
    async with connected(loop, Recorder()) as (transport, peer):
        assert await loop.sendfile(transport, file) == len(DATA)
        assert await read_exactly(loop, peer, len(DATA)) == DATA


async def test_in_debug_mode(loop: Loop, open_any: Opener) -> None:
    loop.set_debug(True)
    async with connected(loop, Recorder()) as (transport, peer):
        assert await loop.sendfile(transport, open_any(DATA)) == len(DATA)
        assert await read_exactly(loop, peer, len(DATA)) == DATA
