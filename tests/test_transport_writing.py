"""Writing to a stream transport: what is accepted, what is sent, what happens after the end."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from .connections import connected
from .support import (
    BIG,
    Loop,
    Recorder,
    oracle_never,
    oracle_since,
    oracle_when,
    read_all,
    read_exactly,
    records,
    reset,
    turns,
    unix_pair,
)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [1, 100_000, BIG])
async def test_bytes_like_objects_of_any_size(
    loop: Loop, wrap: Callable[[bytes], Any], size: int
) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    async with connected(loop, Recorder()) as (transport, peer):
        transport.write(wrap(data))
        assert await read_exactly(loop, peer, size) == data


async def test_many_writes_keep_their_order(loop: Loop) -> None:
    pieces = [b"%d," % number for number in range(5000)]
    async with connected(loop, Recorder()) as (transport, peer):
        for piece in pieces:
            transport.write(piece)
        transport.close()
        assert await read_all(loop, peer) == b"".join(pieces)


@oracle_when(sys.version_info < (3, 12), "since 3.12 it keeps a view of the caller's buffer")
async def test_pieces_of_every_size_in_one_callback_keep_their_order(loop: Loop) -> None:
    sizes = [10_000, 65_536, 1, 300_000, 4096, 20_000, 65_536, 65_536, 5, 600_000, 16_385, 100]
    async with connected(loop, Recorder()) as (transport, peer):
        for turn in range(3):
            expected = b""
            for number, size in enumerate(sizes):
                piece = bytes([turn * len(sizes) + number]) * size
                expected += piece
                changed = bytearray(piece)
                transport.write(changed if number % 3 == 2 else piece)
                changed[:] = bytes(size)
            assert await read_exactly(loop, peer, len(expected)) == expected
        assert transport.get_write_buffer_size() == 0


async def test_a_program_that_writes_without_end_is_told_to_pause(loop: Loop) -> None:
    recorder = Recorder()
    async with connected(loop, recorder) as (transport, _peer):
        written = 0
        while "pause_writing" not in recorder.names and written < 64 << 20:
            transport.write(bytes(65_536))
            written += 65_536
        assert "pause_writing" in recorder.names
        transport.abort()


@oracle_since((3, 12), "one send(), then the rest is joined")
async def test_writelines(loop: Loop) -> None:
    pieces: list[Any] = [
        b"a" * 10,
        bytearray(b"b" * 200_000),
        memoryview(b"c" * 3_000_000),
        b"",
        b"d",
    ]
    async with connected(loop, Recorder()) as (transport, peer):
        transport.writelines(pieces)
        transport.writelines([])
        transport.close()
        assert await read_all(loop, peer) == b"".join(pieces)


async def test_writelines_after_write_keeps_the_order(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, peer):
        transport.write(b"1" * BIG)
        transport.writelines([b"2" * 10, b"3" * 10])
        transport.write(b"4")
        transport.close()
        assert await read_all(loop, peer) == b"1" * BIG + b"2" * 10 + b"3" * 10 + b"4"


async def test_more_pieces_than_one_system_call_takes(loop: Loop) -> None:
    """IOV_MAX is 1024."""
    pieces = [b"%05d" % number for number in range(3000)]
    async with connected(loop, Recorder()) as (transport, peer):
        transport.write(b"x" * BIG)
        for piece in pieces:
            transport.write(piece)
        transport.close()
        assert await read_all(loop, peer) == b"x" * BIG + b"".join(pieces)


async def test_close_flushes(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.close()
        assert await read_all(loop, peer) == b"x" * BIG
        await protocol.until_lost()
    assert protocol.error is None


async def test_what_the_kernel_would_take_is_sent_before_an_abort(loop: Loop) -> None:
    """abort() drops what is *queued*; a small write to an idle socket is not queued."""
    async with connected(loop, Recorder(), unix_pair) as (transport, peer):
        transport.write(b"goodbye")
        transport.abort()
        assert await read_all(loop, peer) == b"goodbye"


async def test_an_empty_write_is_nothing(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, peer):
        transport.write(b"")
        transport.writelines([])
        transport.close()
        assert await read_all(loop, peer) == b""


@pytest.mark.parametrize("data", ["text", 42, None, [b"list"]])
async def test_other_types_are_refused(loop: Loop, data: Any) -> None:
    name = type(data).__name__
    text = (
        r"^data argument must be a (bytes-like|bytes, bytearray, or memoryview) object,"
        rf" not '{name}'$"
    )
    async with connected(loop, Recorder()) as (transport, peer):
        with pytest.raises(TypeError, match=text):
            transport.write(data)
        transport.write(b"still works")
        assert await read_exactly(loop, peer, 11) == b"still works"


async def test_writelines_wants_bytes(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        with pytest.raises(TypeError):
            transport.writelines(["text"])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            transport.writelines(42)  # type: ignore[arg-type]


@oracle_never("since 3.12 it keeps a view of the caller's buffer")
@pytest.mark.parametrize("lines", [False, True])
async def test_a_mutable_buffer_is_copied_when_queued(loop: Loop, lines: bool) -> None:
    """The caller may change, and resize, its bytearray as soon as write() returns."""
    async with connected(loop, Recorder()) as (transport, peer):
        data = bytearray(b"a" * BIG)
        more = bytearray(b"b" * 10)
        if lines:
            transport.writelines([data, more])
        else:
            transport.write(data)
            transport.write(more)
        data[:] = b"!" * 5
        more.clear()
        transport.close()
        assert await read_all(loop, peer) == b"a" * BIG + b"b" * 10


async def test_a_memoryview_may_be_released_after_a_small_write(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, peer):
        buffer = bytearray(b"view")
        view = memoryview(buffer)
        transport.write(view)
        await turns(2)
        view.release()
        buffer.clear()
        assert await read_exactly(loop, peer, 4) == b"view"


async def test_views_that_are_not_bytes_are_sent_as_bytes(loop: Loop) -> None:
    import array

    numbers = array.array("I", [1, 2, 3])
    async with connected(loop, Recorder()) as (transport, peer):
        transport.write(memoryview(numbers))
        assert await read_exactly(loop, peer, 12) == numbers.tobytes()


async def test_write_eof_half_closes(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        assert transport.can_write_eof() is True
        transport.write(b"last words")
        transport.write_eof()
        transport.write_eof()
        assert await read_all(loop, peer) == b"last words"
        assert not transport.is_closing()
        peer.send(b"reply")
        assert await protocol.until_received(5) == b"reply"


async def test_write_eof_waits_for_the_queue(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.write_eof()
        assert await read_all(loop, peer) == b"x" * BIG
        peer.send(b"reply")
        await protocol.until_received(5)


async def test_write_after_write_eof_is_refused(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
            transport.write(b"x")


@oracle_since((3, 12), "writelines() is write(), and says so")
async def test_writelines_after_write_eof_is_refused(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        transport.write_eof()
        text = r"^Cannot call writelines\(\) after write_eof\(\)$"
        with pytest.raises(RuntimeError, match=text):
            transport.writelines([b"x"])


async def test_write_eof_after_close_does_nothing(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        transport.close()
        transport.write_eof()
        await turns(2)
        transport.write_eof()


async def test_close_after_write_eof(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x")
        transport.write_eof()
        transport.close()
        await protocol.until_lost()
        assert await read_all(loop, peer) == b"x"
    assert protocol.error is None


async def test_write_after_close_is_dropped(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """The first five are dropped silently, then each is logged."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.close()
        for _ in range(4):
            transport.write(b"dropped")
        assert records(caplog, "WARNING") == []
        transport.write(b"dropped")
        transport.write(b"dropped")
        assert records(caplog, "WARNING") == ["socket.send() raised exception."] * 2
        await protocol.until_lost()
        transport.write(b"dropped")
        assert records(caplog, "WARNING") == ["socket.send() raised exception."] * 3
        assert await read_all(loop, peer) == b""


async def test_write_while_close_flushes_is_queued_behind(loop: Loop) -> None:
    """close() with a queue: the connection is not lost yet, so a write still goes out."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.close()
        transport.write(b"after close")
        assert await read_all(loop, peer) == b"x" * BIG + b"after close"
        await protocol.until_lost()


async def test_a_write_to_a_peer_that_is_gone(loop: Loop) -> None:
    """No exception from write(): the protocol hears it in connection_lost()."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        reset(peer)
        transport.write(b"x")
        await protocol.until_lost()
        assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_writing_in_connection_made_and_data_received(loop: Loop) -> None:
    class Greeting(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"hello ")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(data.upper())
            self.transport.close()

    async with connected(loop, Greeting()) as (_, peer):
        peer.send(b"world")
        assert await read_all(loop, peer) == b"hello WORLD"


async def test_write_eof_in_eof_received(loop: Loop) -> None:
    """End of stream answered with end of stream, the connection closing after it."""

    class Polite(Recorder):
        def eof_received(self) -> bool:
            self.transport.write_eof()
            return super().eof_received()

    protocol = Polite()
    async with connected(loop, protocol) as (_, peer):
        peer.send(b"bye")
        peer.shutdown(socket.SHUT_WR)
        assert await read_all(loop, peer) == b""
        await protocol.until_lost()
    assert protocol.error is None
