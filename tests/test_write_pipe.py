"""connect_write_pipe: the transport of a pipe's writing end."""

from __future__ import annotations

import array
import asyncio
import contextvars
import errno
import gc
import logging
import os
import re
import socket
import weakref
from asyncio.streams import FlowControlMixin
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .pipes import (
    KINDS,
    LARGE,
    SMALL_PIPE,
    Counted,
    Ends,
    anonymous,
    both,
    fill,
    flow,
    is_closed,
    pair,
    put,
    read_all,
    read_exactly,
    shrink,
    take,
    terminal,
    until_closed,
    writing,
)
from .support import (
    Errors,
    Loop,
    LoopFactory,
    Recorder,
    open_descriptors,
    oracle_never,
    records,
    turns,
)

WARNING = "pipe closed by peer or os.write(pipe, data) raised exception."


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Ends:
    """Transports are the same over every kind of pipe."""
    made: Ends = request.param(tmp_path)
    return made


@pytest.fixture
def pipe(tmp_path: Path) -> Ends:
    """One pipe, where the kind does not matter."""
    return anonymous(tmp_path)


def queue_much(transport: Any) -> None:
    """Write more than the kernel takes, so that something is queued."""
    transport.write(b"q" * LARGE)
    assert transport.get_write_buffer_size() > 0


# ---- writing ----


async def test_the_calls_of_a_pipe(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        assert protocol.transport is transport
        assert protocol.calls == [("connection_made",)]
        transport.write(b"hello")
        assert await read_exactly(loop, peer, 5) == b"hello"
        transport.close()
        assert await read_all(loop, peer) == b""
        await protocol.until_lost()
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [1, 100_000, LARGE])
async def test_bytes_like_objects_of_any_size(
    loop: Loop, ends: Ends, wrap: Callable[[bytes], Any], size: int
) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    async with writing(loop, Recorder(), ends) as (transport, peer):
        transport.write(wrap(data))
        assert await read_exactly(loop, peer, size) == data


async def test_many_writes_keep_their_order(loop: Loop, ends: Ends) -> None:
    pieces = [b"%07d," % number for number in range(LARGE // 8)]
    async with writing(loop, Recorder(), ends) as (transport, peer):
        for piece in pieces:
            transport.write(piece)
        transport.close()
        assert await read_all(loop, peer) == b"".join(pieces)


async def test_a_small_write_is_not_queued(loop: Loop, pipe: Ends) -> None:
    """It is in the pipe at the end of the iteration."""
    async with writing(loop, Recorder(), pipe) as (transport, peer):
        transport.write(b"one")
        transport.write(b"two")
        assert transport.get_write_buffer_size() == 0
        await turns(1)
        assert take(peer) == b"onetwo"


async def test_writelines(loop: Loop, ends: Ends) -> None:
    pieces: list[Any] = [
        b"a" * 10,
        bytearray(b"b" * 200_000),
        memoryview(b"c" * 300_000),
        b"",
        b"d",
    ]
    async with writing(loop, Recorder(), ends) as (transport, peer):
        transport.writelines(pieces)
        transport.writelines([])
        transport.writelines(bytes([letter]) for letter in b"xyz")
        transport.close()
        assert await read_all(loop, peer) == b"".join(pieces) + b"xyz"


async def test_writelines_is_one_write(loop: Loop) -> None:
    """Up to PIPE_BUF it is atomic: the lines of several processes do not mix."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader.setblocking(False)
    async with writing(loop, Recorder(), Ends(reader, writer)) as (transport, _):
        transport.writelines([b"one ", b"line ", b"of pieces"])
        transport.writelines([b"x" * 3000, b"y" * 3000])
        await turns(1)
        assert reader.recv(10_000) == b"one line of pieces"
        assert reader.recv(10_000) == b"x" * 3000 + b"y" * 3000


async def test_writelines_after_write_keeps_the_order(loop: Loop, pipe: Ends) -> None:
    async with writing(loop, Recorder(), pipe) as (transport, peer):
        transport.write(b"1" * LARGE)
        transport.writelines([b"2" * 10, b"3" * 10])
        transport.write(b"4")
        transport.close()
        assert await read_all(loop, peer) == b"1" * LARGE + b"2" * 10 + b"3" * 10 + b"4"


async def test_an_empty_write_is_nothing(loop: Loop, ends: Ends) -> None:
    async with writing(loop, Recorder(), ends) as (transport, peer):
        for nothing in (b"", bytearray(), memoryview(b"")):
            transport.write(nothing)
        transport.writelines([])
        transport.writelines([b"", b""])
        transport.close()
        assert await read_all(loop, peer) == b""


@pytest.mark.parametrize("data", ["text", 42, None, [b"list"]])
async def test_other_types_are_refused(loop: Loop, pipe: Ends, data: Any) -> None:
    """CPython asserts it; what matters is that the pipe goes on."""
    async with writing(loop, Recorder(), pipe) as (transport, peer):
        with pytest.raises((TypeError, AssertionError)):
            transport.write(data)
        transport.write(b"still works")
        assert await read_exactly(loop, peer, 11) == b"still works"


async def test_writelines_wants_bytes(loop: Loop, pipe: Ends) -> None:
    async with writing(loop, Recorder(), pipe) as (transport, peer):
        with pytest.raises(TypeError):
            transport.writelines(["text"])
        with pytest.raises(TypeError):
            transport.writelines(42)
        transport.write(b"x")
        assert await read_exactly(loop, peer, 1) == b"x"


async def test_a_mutable_buffer_is_copied_when_queued(loop: Loop, ends: Ends) -> None:
    """The caller may change, and resize, its bytearray as soon as write() returns."""
    async with writing(loop, Recorder(), ends) as (transport, peer):
        data, more = bytearray(b"a" * LARGE), bytearray(b"b" * 10)
        transport.write(data)
        transport.write(more)
        data[:] = b"!" * 5
        more.clear()
        transport.close()
        assert await read_all(loop, peer) == b"a" * LARGE + b"b" * 10


async def test_a_mutable_buffer_is_copied_when_written(loop: Loop, pipe: Ends) -> None:
    async with writing(loop, Recorder(), pipe) as (transport, peer):
        data = bytearray(b"first")
        view = memoryview(bytearray(b"second"))
        transport.write(data)
        transport.write(view)
        data[:] = b"!!!!!!!!"
        view[:] = b"??????"
        view.release()
        assert await read_exactly(loop, peer, 11) == b"firstsecond"


@oracle_never("it counts items where the kernel counts bytes")
async def test_views_that_are_not_bytes_are_sent_as_bytes(loop: Loop, pipe: Ends) -> None:
    numbers = array.array("I", [1, 2, 3])
    async with writing(loop, Recorder(), pipe) as (transport, peer):
        transport.write(memoryview(numbers))
        assert await read_exactly(loop, peer, 12) == numbers.tobytes()


async def test_writing_inside_connection_made(loop: Loop, ends: Ends) -> None:
    class Greeting(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"hello")
            transport.close()

    protocol = Greeting()
    async with writing(loop, protocol, ends) as (_, peer):
        assert await read_all(loop, peer) == b"hello"
        await protocol.until_lost()


# ---- flow control ----


async def test_the_default_limits(loop: Loop, pipe: Ends) -> None:
    async with writing(loop, Recorder(), pipe) as (transport, _):
        assert transport.get_write_buffer_limits() == (16384, 65536)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, (16384, 65536)),
        ({"high": 1001}, (250, 1001)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 1000, "low": 999}, (999, 1000)),
        ({"high": 0}, (0, 0)),
    ],
)
async def test_the_rules_of_the_limits(
    loop: Loop, pipe: Ends, limits: dict[str, int], expected: tuple[int, int]
) -> None:
    async with writing(loop, Recorder(), pipe) as (transport, _):
        transport.set_write_buffer_limits(1, 1)
        transport.set_write_buffer_limits(**limits)
        assert transport.get_write_buffer_limits() == expected


async def test_impossible_limits(loop: Loop, pipe: Ends) -> None:
    text = r"^high \(1\) must be >= low \(2\) must be >= 0$"
    async with writing(loop, Recorder(), pipe) as (transport, _):
        with pytest.raises(ValueError, match=text):
            transport.set_write_buffer_limits(1, 2)
        assert transport.get_write_buffer_limits() == (16384, 65536)


async def test_pause_above_high_then_resume_at_low(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        transport.write(b"x" * LARGE)
        assert protocol.names == ["connection_made", "pause_writing"], "inside write() itself"
        transport.write(b"y" * 100_000)
        assert flow(protocol) == ["pause_writing"], "once, however much is written"
        await read_exactly(loop, peer, LARGE + 100_000)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")
        assert transport.get_write_buffer_size() == 0
    assert flow(protocol) == ["pause_writing", "resume_writing"]


async def test_a_pipe_resumes_only_when_all_is_written(loop: Loop, pipe: Ends) -> None:
    """Unlike a socket's transport: the low-water mark plays no part."""
    sizes: list[int] = []

    class Watching(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            sizes.append(self.transport.get_write_buffer_size())

    protocol = Watching()
    shrink(pipe.writing)
    async with writing(loop, protocol, pipe) as (transport, peer):
        transport.set_write_buffer_limits(high=4 * SMALL_PIPE, low=3 * SMALL_PIPE)
        transport.write(b"x" * 10 * SMALL_PIPE)
        await read_exactly(loop, peer, 10 * SMALL_PIPE)
        await protocol.until(lambda: sizes)
    assert sizes == [0]


async def test_the_buffer_size_counts_what_the_kernel_did_not_take(loop: Loop, pipe: Ends) -> None:
    shrink(pipe.writing)
    async with writing(loop, Recorder(), pipe) as (transport, peer):
        assert transport.get_write_buffer_size() == 0
        transport.write(b"x" * 3 * SMALL_PIPE)
        assert transport.get_write_buffer_size() == 2 * SMALL_PIPE
        transport.write(b"y" * 1000)
        assert transport.get_write_buffer_size() == 2 * SMALL_PIPE + 1000
        await read_exactly(loop, peer, 3 * SMALL_PIPE + 1000)
        await turns()
        assert transport.get_write_buffer_size() == 0


async def test_high_zero_pauses_whenever_something_is_queued(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        transport.set_write_buffer_limits(high=0)
        filled = fill(ends.writing)
        assert flow(protocol) == []
        transport.write(b"1")
        assert flow(protocol) == ["pause_writing"]
        await read_exactly(loop, peer, filled + 1)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")
        assert transport.get_write_buffer_size() == 0


async def test_exactly_high_does_not_pause(loop: Loop, pipe: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, pipe) as (transport, _):
        fill(pipe.writing)
        transport.set_write_buffer_limits(high=1000)
        transport.write(b"x" * 1000)
        assert transport.get_write_buffer_size() == 1000
        assert flow(protocol) == []
        transport.write(b"x")
        assert flow(protocol) == ["pause_writing"]


async def test_new_limits_below_the_queue_pause_at_once(loop: Loop, pipe: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, pipe) as (transport, _):
        transport.set_write_buffer_limits(high=2 * LARGE)
        queue_much(transport)
        assert flow(protocol) == []
        transport.set_write_buffer_limits(high=10)
        assert flow(protocol) == ["pause_writing"]


async def test_writing_inside_resume_writing(loop: Loop, pipe: Ends) -> None:
    """A producer that refills in resume_writing() is paused again, and nothing is lost."""

    class Producer(Recorder):
        rounds = 3

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.rounds:
                self.rounds -= 1
                self.transport.write(b"r" * LARGE)

    protocol = Producer()
    async with writing(loop, protocol, pipe) as (transport, peer):
        transport.write(b"s" * LARGE)
        assert await read_exactly(loop, peer, 4 * LARGE) == b"s" * LARGE + b"r" * 3 * LARGE
        await protocol.until(lambda: len(flow(protocol)) == 8)
    assert flow(protocol) == ["pause_writing", "resume_writing"] * 4


@oracle_never("its connection is lost twice, and what is queued meanwhile is dropped")
@pytest.mark.parametrize("how", ["close", "write_eof"])
async def test_closing_inside_resume_writing(loop: Loop, pipe: Ends, how: str) -> None:
    class Last(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.write(b"r" * LARGE)
            getattr(self.transport, how)()

    protocol = Last()
    async with writing(loop, protocol, pipe) as (transport, peer):
        transport.write(b"s" * LARGE)
        assert await read_all(loop, peer) == b"s" * LARGE + b"r" * LARGE
        await protocol.until_lost()
        await turns()
    assert protocol.error is None
    assert protocol.names.count("connection_lost") == 1


async def test_abort_while_paused_does_not_resume(loop: Loop, pipe: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, pipe) as (transport, _):
        queue_much(transport)
        transport.abort()
        await protocol.until_lost()
    assert protocol.names == ["connection_made", "pause_writing", "connection_lost"]


async def test_close_while_paused_resumes_then_ends(loop: Loop, pipe: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, pipe) as (transport, peer):
        queue_much(transport)
        transport.close()
        await read_exactly(loop, peer, LARGE)
        await protocol.until_lost()
    assert protocol.names == [
        "connection_made",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ]


async def test_an_exception_out_of_pause_writing(loop: Loop, pipe: Ends, errors: Errors) -> None:
    """It is reported, not raised by write(), and the pipe goes on."""

    class Failing(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            raise LookupError("pause")

        def resume_writing(self) -> None:
            super().resume_writing()
            raise LookupError("resume")

    protocol = Failing()
    async with writing(loop, protocol, pipe) as (transport, peer):
        queue_much(transport)
        context = errors.take_one()
        assert context["message"] == "protocol.pause_writing() failed"
        assert sorted(context) == ["exception", "message", "protocol", "transport"]
        assert context["transport"] is transport
        await read_exactly(loop, peer, LARGE)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")
        assert errors.take_one()["message"] == "protocol.resume_writing() failed"
        transport.write(b"x")
        assert await read_exactly(loop, peer, 1) == b"x"


# ---- the end ----


@pytest.mark.parametrize("how", ["close", "write_eof"])
async def test_close_and_write_eof_are_one(loop: Loop, ends: Ends, how: str) -> None:
    """connection_lost comes from the loop, once, never inside the call."""
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        assert transport.can_write_eof() is True
        assert transport.is_closing() is False
        getattr(transport, how)()
        transport.close()
        transport.write_eof()
        assert transport.is_closing() is True
        assert not protocol.lost
        await protocol.until_lost()
        transport.close()
        transport.write_eof()
        await turns()
        assert is_closed(ends.writing)
        assert await read_all(loop, peer) == b""
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


@pytest.mark.parametrize("how", ["close", "write_eof"])
async def test_the_end_comes_behind_what_is_queued(loop: Loop, ends: Ends, how: str) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        queue_much(transport)
        getattr(transport, how)()
        await turns(5)
        assert not protocol.lost
        assert await read_all(loop, peer) == b"q" * LARGE
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.names[-1] == "connection_lost"


async def test_abort_drops_what_is_queued(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        queue_much(transport)
        transport.abort()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert not protocol.lost
        await protocol.until_lost()
        assert len(await read_all(loop, peer)) < LARGE
    assert protocol.error is None


async def test_what_the_pipe_took_is_there_after_an_abort(loop: Loop, ends: Ends) -> None:
    async with writing(loop, Recorder(), ends) as (transport, peer):
        transport.write(b"goodbye")
        transport.abort()
        assert await read_all(loop, peer) == b"goodbye"


@oracle_never("the connection is lost twice, and the second time is an AttributeError")
@pytest.mark.parametrize("first", ["close", "abort", "queue and close"])
async def test_abort_once_closing(loop: Loop, ends: Ends, first: str) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, _):
        if first == "queue and close":
            queue_much(transport)
        getattr(transport, first.split()[-1])()
        transport.abort()
        await protocol.until_lost()
        await turns()
        transport.abort()
        await turns()
    assert protocol.names.count("connection_lost") == 1
    assert protocol.error is None


async def test_abort_after_close_drops_what_close_would_flush(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        queue_much(transport)
        transport.close()
        await turns()
        transport.abort()
        await protocol.until_lost()
        assert len(await read_all(loop, peer)) < LARGE
    assert protocol.error is None


async def test_the_pipe_is_closed_after_connection_lost(loop: Loop, ends: Ends) -> None:
    open_inside: list[bool] = []

    class Looking(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            open_inside.append(not is_closed(ends.writing))
            super().connection_lost(exc)

    protocol = Looking()
    async with writing(loop, protocol, ends) as (transport, _):
        transport.close()
        assert not is_closed(ends.writing)
        await protocol.until_lost()
        await turns(1)
        assert is_closed(ends.writing)
    assert open_inside == [True]


@pytest.mark.parametrize("how", ["close", "write_eof", "abort", "reader", "queue"])
async def test_the_pipe_object_is_closed_once(loop: Loop, pipe: Ends, how: str) -> None:
    """Any object with fileno() and close() is a pipe."""
    counted = Counted(pipe.writing)
    protocol = Recorder()
    async with writing(loop, protocol, Ends(pipe.reading, counted)) as (transport, peer):
        if how == "reader":
            peer.close()
        elif how == "queue":
            queue_much(transport)
            transport.close()
            await read_all(loop, peer)
        else:
            getattr(transport, how)()
        await protocol.until_lost()
        transport.close()
        await turns()
    assert counted.closed == 1


async def test_write_after_the_end_is_dropped(
    loop: Loop, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    """The first five are dropped silently, then each is logged."""
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        transport.close()
        for _ in range(5):
            transport.write(b"dropped")
        assert records(caplog, "WARNING") == []
        transport.write(b"")
        transport.write(b"dropped")
        transport.writelines([b"dropped", b"too"])
        assert records(caplog, "WARNING") == [WARNING] * 2
        await protocol.until_lost()
        transport.write(b"dropped")
        assert records(caplog, "WARNING") == [WARNING] * 3
        assert await read_all(loop, peer) == b""


async def test_write_while_the_end_waits_is_dropped(loop: Loop, ends: Ends) -> None:
    """Unlike a socket's transport: a pipe's takes nothing more once it is closing."""
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        queue_much(transport)
        transport.write_eof()
        queued = transport.get_write_buffer_size()
        transport.write(b"too late")
        assert transport.get_write_buffer_size() == queued
        assert await read_all(loop, peer) == b"q" * LARGE
        await protocol.until_lost()


async def test_descriptors_return_to_where_they_began(loop: Loop, tmp_path: Path) -> None:
    before = open_descriptors()
    for how in ("close", "abort", "write_eof"):
        async with writing(loop, Recorder(), anonymous(tmp_path)) as (transport, _):
            transport.write(b"x")
            getattr(transport, how)()
    assert open_descriptors() == before


# ---- the reader goes away ----


async def test_a_reader_that_leaves_is_noticed(loop: Loop, ends: Ends) -> None:
    """Without a word written: nothing was lost, so it is no error."""
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        peer.close()
        await protocol.until_lost()
        assert transport.is_closing()
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_a_reader_that_leaves_with_data_unread(loop: Loop, pipe: Ends) -> None:
    """What is in the kernel is no longer this end's: no error either."""
    protocol = Recorder()
    async with writing(loop, protocol, pipe) as (transport, peer):
        transport.write(b"never read")
        await turns()
        peer.close()
        await protocol.until_lost()
    assert protocol.error is None


@pytest.mark.parametrize("closing", [False, True])
async def test_a_reader_that_leaves_with_something_queued(
    loop: Loop, ends: Ends, closing: bool
) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        queue_much(transport)
        if closing:
            transport.close()
        peer.close()
        await protocol.until_lost()
        assert transport.get_write_buffer_size() == 0
    assert isinstance(protocol.error, BrokenPipeError)
    assert protocol.names == ["connection_made", "pause_writing", "connection_lost"]


async def test_a_reader_that_was_gone_before(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    ends.reading.close()
    async with writing(loop, protocol, ends):
        await protocol.until_lost()
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_a_write_to_a_reader_that_is_gone(
    loop: Loop, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    """No exception from write(), and no report: the protocol hears it in connection_lost()."""
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        peer.close()
        transport.write(b"x")
        await protocol.until_lost()
    assert isinstance(protocol.error, BrokenPipeError)
    assert protocol.error.errno == errno.EPIPE
    assert protocol.names == ["connection_made", "connection_lost"]
    assert records(caplog, "WARNING") == []


async def test_many_writes_to_a_reader_that_is_gone(
    loop: Loop, pipe: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    """Once it is known, five are dropped silently, the one that told it among them."""
    protocol = Recorder()
    async with writing(loop, protocol, pipe) as (transport, peer):
        peer.close()
        await protocol.until_lost()
        for _ in range(7):
            transport.write(b"x")
    assert records(caplog, "WARNING") == [WARNING] * 2
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_a_socket_whose_peer_speaks_counts_as_gone(loop: Loop, tmp_path: Path) -> None:
    """Whatever can be read from a writing end says that the other side is over."""
    protocol = Recorder()
    async with writing(loop, protocol, pair(tmp_path)) as (_, peer):
        put(peer, b"hello")
        await protocol.until_lost()
    assert protocol.error is None


# ---- what a transport tells ----


async def test_class_and_extra_info(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, _):
        assert isinstance(transport, asyncio.WriteTransport)
        assert transport.get_extra_info("pipe") is ends.writing
        for name in ("socket", "peername", "sockname", "no such thing"):
            assert transport.get_extra_info(name) is None
        assert transport.get_extra_info("no such thing", "default") == "default"
        assert transport.get_protocol() is protocol
        transport.close()
        await protocol.until_lost()
        await turns(1)
        assert transport.get_extra_info("pipe") is ends.writing
        assert transport.get_protocol() is None
        assert transport.get_write_buffer_size() == 0


async def test_repr(loop: Loop, ends: Ends) -> None:
    number = ends.writing.fileno()
    protocol = Recorder()
    async with writing(loop, protocol, ends) as (transport, peer):
        assert re.match(rf"^<\w+ fd={number} idle bufsize=0>$", repr(transport))
        queue_much(transport)
        assert re.match(rf"^<\w+ fd={number} polling bufsize=\d{{5,}}>$", repr(transport))
        transport.close()
        assert re.match(rf"^<\w+ closing fd={number} polling bufsize=\d{{5,}}>$", repr(transport))
        await read_all(loop, peer)
        await protocol.until_lost()
        await turns(1)
        assert re.match(rf"^<\w+ closed fd={number} closed>$", repr(transport))


async def test_the_descriptor_does_not_block(loop: Loop, ends: Ends) -> None:
    async with writing(loop, Recorder(), ends):
        assert os.get_blocking(ends.writing.fileno()) is False


async def test_set_protocol(loop: Loop, pipe: Ends) -> None:
    """Whoever is the protocol at that time is told; connection_made is not repeated."""
    first, second = Recorder(), Recorder()
    async with writing(loop, first, pipe) as (transport, peer):
        queue_much(transport)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        await read_exactly(loop, peer, LARGE)
        await second.until(lambda: second.calls)
        transport.close()
        await second.until_lost()
    assert first.names == ["connection_made", "pause_writing"]
    assert second.names == ["resume_writing", "connection_lost"]


async def test_the_transport_lets_go_after_connection_lost(loop: Loop, pipe: Ends) -> None:
    with both(pipe):
        transport, protocol = await loop.connect_write_pipe(Recorder, pipe.writing)
        transport.close()
        await protocol.until_lost()
        await turns(2)
        reference = weakref.ref(protocol)
        del protocol.transport, protocol
        gc.collect()
        assert reference() is None
        assert transport.get_protocol() is None


async def test_the_context_of_the_callbacks(loop: Loop, ends: Ends) -> None:
    """That of the creator, as it was then; but pause_writing runs in that of whoever writes."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[tuple[str, str]] = []

    class Looking(Recorder):
        def note(self, *call: Any) -> None:
            seen.append((call[0], variable.get()))
            super().note(*call)

    protocol = Looking()
    variable.set("creator's")
    async with writing(loop, protocol, ends) as (transport, peer):
        variable.set("writer's")
        queue_much(transport)
        peer.close()
        await protocol.until_lost()
    assert seen == [
        ("connection_made", "creator's"),
        ("pause_writing", "writer's"),
        ("connection_lost", "creator's"),
    ]


# ---- what goes wrong ----


async def test_a_regular_file_is_refused(loop: Loop, tmp_path: Path) -> None:
    """And stays as it was: open and blocking."""
    text = r"^Pipe transport is only for pipes, sockets and character devices$"
    protocol = Recorder()
    with open(tmp_path / "file", "wb", 0) as file:
        with pytest.raises(ValueError, match=text):
            await loop.connect_write_pipe(lambda: protocol, file)
        gc.collect()
        assert os.get_blocking(file.fileno()) is True
        assert file.write(b"content") == 7
    await turns()
    assert protocol.calls == []


@oracle_never("the half-made transport complains when it is freed")
@pytest.mark.parametrize("kind_of_pipe", [anonymous, pair])
async def test_a_closed_pipe_object(
    loop: Loop, tmp_path: Path, kind_of_pipe: Callable[[Path], Ends]
) -> None:
    with both(kind_of_pipe(tmp_path)) as ends:
        ends.writing.close()
        with pytest.raises((ValueError, OSError)) as caught:
            await loop.connect_write_pipe(Recorder, ends.writing)
        if isinstance(caught.value, OSError):
            assert caught.value.errno == errno.EBADF
        else:
            assert str(caught.value) == "I/O operation on closed file"


@oracle_never("the half-made transport complains when it is freed")
@pytest.mark.parametrize("pipe_object", [0, "pipe", None])
async def test_what_is_no_pipe_object(loop: Any, pipe_object: object) -> None:
    name = type(pipe_object).__name__
    with pytest.raises(AttributeError, match=rf"^'{name}' object has no attribute 'fileno'$"):
        await loop.connect_write_pipe(Recorder, pipe_object)


async def test_an_exception_from_the_factory_is_the_callers(loop: Loop, pipe: Ends) -> None:
    """And the pipe stays the caller's."""

    def factory() -> Recorder:
        raise LookupError("no protocol")

    with both(pipe):
        with pytest.raises(LookupError, match=r"^no protocol$"):
            await loop.connect_write_pipe(factory, pipe.writing)
        await turns()
        put(pipe.writing, b"x")
        assert pipe.reading.read(1) == b"x"


async def test_cancelled_while_connecting(loop: Loop, ends: Ends) -> None:
    """The transport exists already: it ends, and closes the pipe."""
    protocol = Recorder()
    with both(ends):
        task = loop.create_task(loop.connect_write_pipe(lambda: protocol, ends.writing))
        await turns(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.until_lost()
        await turns()
        assert is_closed(ends.writing)
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_an_exception_out_of_connection_made(loop: Loop, pipe: Ends, errors: Errors) -> None:
    """It is reported, and the pipe goes on."""

    class Failing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise LookupError("made")

    async with writing(loop, Failing(), pipe) as (transport, peer):
        transport.write(b"x")
        assert await read_exactly(loop, peer, 1) == b"x"
        context = errors.take_one()
        assert repr(context["exception"]) == "LookupError('made')"
        assert context["message"].startswith("Exception in callback ")


@pytest.mark.parametrize("queued", [False, True])
async def test_an_exception_out_of_connection_lost(
    loop: Loop, ends: Ends, errors: Errors, queued: bool
) -> None:
    """The pipe is closed all the same."""

    class Failing(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise LookupError("lost")

    protocol = Failing()
    async with writing(loop, protocol, ends) as (transport, peer):
        if queued:
            queue_much(transport)
        transport.close()
        await read_all(loop, peer)
        await protocol.until_lost()
        await turns(1)
        assert is_closed(ends.writing)
        assert repr(errors.take_one()["exception"]) == "LookupError('lost')"


async def test_the_wrong_end(loop: Loop, pipe: Ends) -> None:
    """Writing to it fails; nothing but the protocol hears of it."""
    protocol = Recorder()
    async with writing(loop, protocol, Ends(pipe.writing, pipe.reading)) as (transport, _):
        transport.write(b"x")
        await protocol.until_lost()
    assert isinstance(protocol.error, OSError)
    assert protocol.error.errno == errno.EBADF


# ---- devices ----


async def test_a_terminal(loop: Loop) -> None:
    """As a program's standard output is."""
    master, slave = terminal()
    protocol = Recorder()
    async with writing(loop, protocol, Ends(master, slave)) as (transport, peer):
        transport.write(b"shown")
        assert await read_exactly(loop, peer, 5) == b"shown"
        transport.close()
        await protocol.until_lost()
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_much_to_a_terminal(loop: Loop) -> None:
    master, slave = terminal()
    protocol = Recorder()
    data = b"".join(b"%07d\n" % number for number in range(20_000))
    async with writing(loop, protocol, Ends(master, slave)) as (transport, peer):
        transport.write(data)
        assert transport.get_write_buffer_size() > 0
        assert await read_exactly(loop, peer, len(data)) == data
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")


async def test_a_terminal_is_not_watched_for_its_reader(loop: Loop) -> None:
    """A character device says nothing of who reads it: the next write does."""
    master, slave = terminal()
    protocol = Recorder()
    async with writing(loop, protocol, Ends(master, slave)) as (transport, peer):
        peer.close()
        await turns(5)
        assert protocol.calls == [("connection_made",)]
        transport.write(b"x")
        await protocol.until_lost()
    assert isinstance(protocol.error, OSError)
    assert protocol.error.errno == errno.EIO


async def test_a_terminal_with_something_to_read(loop: Loop) -> None:
    """What is typed meanwhile is no reason to end."""
    master, slave = terminal()
    protocol = Recorder()
    async with writing(loop, protocol, Ends(master, slave)) as (transport, peer):
        put(peer, b"typed")
        await turns(5)
        assert not transport.is_closing()
        transport.write(b"shown")
        assert await read_exactly(loop, peer, 5) == b"shown"


async def test_a_terminal_both_ways(loop: Loop) -> None:
    """Two transports over one descriptor, each with its direction."""
    master, slave = terminal()
    typed, shown = Recorder(), Recorder()
    async with writing(loop, shown, Ends(master, slave)) as (output, peer):
        entry, _ = await loop.connect_read_pipe(lambda: typed, slave)
        put(peer, b"typed")
        assert await typed.until_received(5) == b"typed"
        output.write(b"x" * 100_000)
        assert await read_exactly(loop, peer, 100_000) == b"x" * 100_000
        put(peer, b"more")
        assert await typed.until_received(9) == b"typedmore"
        entry.close()
        output.close()
        await typed.until_lost()
        await shown.until_lost()


async def test_a_device_that_cannot_be_watched(loop: Loop) -> None:
    """epoll refuses /dev/null, but it takes everything at once."""
    protocol = Recorder()
    device = os.fdopen(os.open(os.devnull, os.O_WRONLY), "wb", 0)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, device)
    transport.write(b"x" * LARGE)
    await turns()
    assert transport.get_write_buffer_size() == 0
    transport.close()
    await protocol.until_lost()
    await until_closed(device)
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_a_device_that_is_full(loop: Loop) -> None:
    protocol = Recorder()
    device = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", 0)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, device)
    transport.write(b"x")
    await protocol.until_lost()
    await until_closed(device)
    assert isinstance(protocol.error, OSError)
    assert protocol.error.errno == errno.ENOSPC


# ---- what is forgotten ----


async def test_a_forgotten_transport_warns_and_closes(loop: Loop) -> None:
    """One that waits for nothing: its device is not watched and nothing is queued."""
    master, slave = terminal()
    counted = Counted(slave)
    with both(Ends(master, slave)):
        transport, protocol = await loop.connect_write_pipe(Recorder, counted)
        await turns(2)
        with pytest.warns(ResourceWarning, match=r"^unclosed transport <"):
            del protocol.transport, transport, protocol
            gc.collect()
        assert counted.closed == 1


async def test_a_watching_transport_need_not_be_held(loop: Loop, pipe: Ends) -> None:
    """The loop waits for the reader to leave, and holds the transport meanwhile."""
    lost = asyncio.Event()

    class Telling(asyncio.BaseProtocol):
        def connection_lost(self, exc: BaseException | None) -> None:
            lost.set()

    with both(pipe):
        await loop.connect_write_pipe(Telling, pipe.writing)
        gc.collect()
        await turns()
        pipe.reading.close()
        await lost.wait()
        await until_closed(pipe.writing)


async def test_what_is_written_outlives_the_transport(loop: Loop, pipe: Ends) -> None:
    """A program may drop the transport right after it has closed it."""
    with both(pipe):
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipe.writing)
        transport.write(b"w" * LARGE)
        transport.close()
        del transport
        gc.collect()
        assert await read_all(loop, pipe.reading) == b"w" * LARGE
        await until_closed(pipe.writing)


def test_a_loop_that_is_closed_with_an_open_pipe(loop_factory: LoopFactory, pipe: Ends) -> None:
    loop = loop_factory()
    with both(pipe):
        transport, protocol = loop.run_until_complete(
            loop.connect_write_pipe(Recorder, pipe.writing)
        )
        loop.close()
        with pytest.warns(ResourceWarning, match=r"^unclosed transport <"):
            del protocol.transport, transport, protocol
            gc.collect()
        assert is_closed(pipe.writing)


# ---- streams and files over it ----


async def test_a_stream_writer(loop: Loop, ends: Ends) -> None:
    """The way that asyncio's own programs write to a pipe."""
    protocol = FlowControlMixin()
    async with writing(loop, protocol, ends) as (transport, peer):
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        writer.write(b"one ")
        writer.writelines([b"two ", b"three"])
        await writer.drain()
        assert await read_exactly(loop, peer, 13) == b"one two three"
        assert writer.can_write_eof()
        writer.write_eof()
        assert writer.is_closing()
        assert await read_all(loop, peer) == b""


async def test_drain_waits_for_the_reader(loop: Loop, ends: Ends) -> None:
    protocol = FlowControlMixin()
    async with writing(loop, protocol, ends) as (transport, peer):
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        writer.write(b"x" * LARGE)
        draining = loop.create_task(writer.drain())
        await turns(5)
        assert not draining.done()
        await read_exactly(loop, peer, LARGE)
        await draining
        writer.close()


async def test_drain_hears_that_the_reader_has_left(loop: Loop, ends: Ends) -> None:
    protocol = FlowControlMixin()
    async with writing(loop, protocol, ends) as (transport, peer):
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        writer.write(b"x" * LARGE)
        draining = loop.create_task(writer.drain())
        await turns(2)
        peer.close()
        with pytest.raises(BrokenPipeError):
            await draining
        with pytest.raises(ConnectionResetError, match=r"^Connection lost$"):
            await writer.drain()


async def test_wait_closed_of_a_stream_writer(loop: Loop, ends: Ends) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    async with writing(loop, protocol, ends) as (transport, peer):
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        writer.write(b"x" * LARGE)
        writer.close()
        closing = loop.create_task(writer.wait_closed())
        await turns(3)
        assert not closing.done()
        assert await read_all(loop, peer) == b"x" * LARGE
        await closing


@pytest.mark.parametrize("mode", ["wb", "w"])
async def test_a_buffered_file_object(loop: Loop, mode: str) -> None:
    """Only its descriptor is used."""
    other, number = os.pipe()
    ends = Ends(os.fdopen(other, "rb", 0), os.fdopen(number, mode))
    async with writing(loop, Recorder(), ends) as (transport, peer):
        transport.write(b"data")
        transport.close()
        assert await read_all(loop, peer) == b"data"
    assert ends.writing.closed


async def test_debug_mode_says_what_happens(
    loop: Loop, pipe: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="asyncio")
    loop.set_debug(True)
    protocol = Recorder()
    number = pipe.writing.fileno()
    async with writing(loop, protocol, pipe) as (_, peer):
        peer.close()
        await protocol.until_lost()
    debug, info = records(caplog, "DEBUG"), records(caplog, "INFO")
    pattern = rf"^Write pipe {number} connected: \(<.*>, <.*>\)$"
    assert any(re.match(pattern, text) for text in debug)
    assert any(text.endswith("> was closed by peer") for text in info)
