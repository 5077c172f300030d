"""connect_read_pipe: the transport of a pipe's reading end."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import logging
import os
import re
import termios
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .pipes import (
    KINDS,
    LARGE,
    Counted,
    Ends,
    anonymous,
    both,
    is_closed,
    pair,
    put,
    reading,
    terminal,
    unread,
    until_closed,
)
from .support import (
    Errors,
    Loop,
    LoopFactory,
    Recorder,
    open_descriptors,
    oracle_never,
    oracle_since,
    records,
    turns,
)

needs_is_reading = oracle_since((3, 11), "no such method on a read pipe")
#: What the loop does before that: it watches the descriptor although nobody wants to read.
needs_respect = oracle_since((3, 11), "connection_made() is not asked before reading begins")


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Ends:
    """Transports are the same over every kind of pipe."""
    made: Ends = request.param(tmp_path)
    return made


@pytest.fixture
def pipe(tmp_path: Path) -> Ends:
    """One pipe, where the kind does not matter."""
    return anonymous(tmp_path)


async def until_called(protocol: Recorder, name: str) -> None:
    await protocol.until(lambda: protocol.names[-1] == name)


async def test_the_calls_of_a_pipe(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, peer):
        assert protocol.transport is transport
        put(peer, b"hello")
        await protocol.until_received(5)
        peer.close()
        await protocol.until_lost()
    assert protocol.calls == [
        ("connection_made",),
        ("data_received", b"hello"),
        ("eof_received",),
        ("connection_lost", None),
    ]


async def test_the_creator_hears_after_connection_made(loop: Loop, pipe: Ends) -> None:
    """Data that waits already is delivered after connection_made, and never before it."""
    protocol = Recorder()
    put(pipe.writing, b"early")
    async with reading(loop, protocol, pipe):
        assert protocol.calls[0] == ("connection_made",)
        await protocol.until_received(5)
        assert protocol.calls == [("connection_made",), ("data_received", b"early")]


async def test_data_and_its_end_wait_together(loop: Loop, ends: Ends) -> None:
    """A writer that was gone before anybody read is heard to its end."""
    protocol = Recorder()
    put(ends.writing, b"last words")
    ends.writing.close()
    async with reading(loop, protocol, ends):
        await protocol.until_lost()
    assert protocol.received == b"last words"
    assert protocol.names == ["connection_made", "data_received", "eof_received", "connection_lost"]


async def test_a_writer_that_said_nothing(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    ends.writing.close()
    async with reading(loop, protocol, ends):
        await protocol.until_lost()
    assert protocol.calls == [("connection_made",), ("eof_received",), ("connection_lost", None)]


async def test_much_data_keeps_its_order(loop: Loop, ends: Ends) -> None:
    data = b"".join(b"%07d," % number for number in range(LARGE // 8))
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (_, peer):

        def write_all() -> None:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(peer.fileno(), rest) :]

        await loop.run_in_executor(None, write_all)
        assert await protocol.until_received(len(data)) == data


async def test_what_is_delivered_is_bytes(loop: Loop, pipe: Ends) -> None:
    kinds: list[type] = []

    class Looking(Recorder):
        def data_received(self, data: bytes) -> None:
            kinds.append(type(data))
            super().data_received(data)

    protocol = Looking()
    async with reading(loop, protocol, pipe) as (_, peer):
        put(peer, b"x")
        await protocol.until_received(1)
    assert kinds == [bytes]


async def test_what_was_delivered_may_be_kept(loop: Loop, pipe: Ends) -> None:
    pieces: list[bytes] = []

    class Keeping(Recorder):
        def data_received(self, data: bytes) -> None:
            pieces.append(data)
            super().data_received(data)

    protocol = Keeping()
    async with reading(loop, protocol, pipe) as (_, peer):
        for number in range(5):
            put(peer, b"%d" % number)
            await protocol.until_received(number + 1)
    assert pieces == [b"0", b"1", b"2", b"3", b"4"]


async def test_the_end_closes_whatever_the_protocol_answers(loop: Loop, ends: Ends) -> None:
    """There is no other direction for which the pipe could be kept open."""
    protocol = Recorder()
    protocol.keep_open = True
    async with reading(loop, protocol, ends) as (transport, peer):
        peer.close()
        await protocol.until_lost()
        assert transport.is_closing()
    assert protocol.error is None


async def test_a_named_pipe_waits_for_its_first_writer(loop: Loop, tmp_path: Path) -> None:
    """No writer yet is not the end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    ours = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
    protocol = Recorder()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, ours)
    await turns(5)
    assert protocol.calls == [("connection_made",)]
    with open(path, "wb", 0) as writer:
        writer.write(b"here I am")
        await protocol.until_received(9)
    await protocol.until_lost()
    assert transport.is_closing()
    assert protocol.names[-2:] == ["eof_received", "connection_lost"]
    await until_closed(ours)


# ---- pausing ----


@needs_is_reading
async def test_is_reading(loop: Loop, ends: Ends) -> None:
    async with reading(loop, Recorder(), ends) as (transport, _):
        assert transport.is_reading() is True
        transport.pause_reading()
        assert transport.is_reading() is False
        transport.resume_reading()
        assert transport.is_reading() is True
        transport.close()
        assert transport.is_reading() is False


async def test_nothing_is_received_while_paused(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, peer):
        transport.pause_reading()
        put(peer, b"wait")
        await turns(5)
        assert protocol.received == b""
        transport.resume_reading()
        assert await protocol.until_received(4) == b"wait"


async def test_the_end_waits_while_paused(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, peer):
        transport.pause_reading()
        peer.close()
        await turns(5)
        assert protocol.calls == [("connection_made",)]
        transport.resume_reading()
        await protocol.until_lost()
    assert protocol.names == ["connection_made", "eof_received", "connection_lost"]


async def test_pausing_and_resuming_twice_is_once(loop: Loop, pipe: Ends) -> None:
    protocol = Recorder()
    async with reading(loop, protocol, pipe) as (transport, peer):
        transport.resume_reading()
        transport.pause_reading()
        transport.pause_reading()
        transport.resume_reading()
        transport.resume_reading()
        put(peer, b"x")
        await protocol.until_received(1)


async def test_pausing_inside_data_received(loop: Loop, ends: Ends) -> None:
    class Pausing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    protocol = Pausing()
    async with reading(loop, protocol, ends) as (transport, peer):
        put(peer, b"one")
        await protocol.until_received(3)
        put(peer, b"two")
        await turns(5)
        assert protocol.received == b"one"
        transport.resume_reading()
        assert await protocol.until_received(6) == b"onetwo"


@needs_respect
async def test_pausing_inside_connection_made(loop: Loop, ends: Ends) -> None:
    class Pausing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    protocol = Pausing()
    put(ends.writing, b"x")
    async with reading(loop, protocol, ends) as (transport, _):
        await turns(5)
        assert protocol.calls == [("connection_made",)]
        transport.resume_reading()
        await protocol.until_received(1)


async def test_pausing_and_resuming_after_close_do_nothing(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, peer):
        put(peer, b"x")
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        await protocol.until_lost()
        transport.pause_reading()
        transport.resume_reading()
        await turns()
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


# ---- closing ----


async def test_close(loop: Loop, ends: Ends) -> None:
    """connection_lost comes from the loop, once, never inside close(); no eof_received."""
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, _):
        assert transport.is_closing() is False
        transport.close()
        transport.close()
        assert transport.is_closing() is True
        assert not protocol.lost
        await protocol.until_lost()
        transport.close()
        await turns()
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_close_drops_what_was_not_read(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, peer):
        put(peer, b"too late")
        transport.close()
        await protocol.until_lost()
    assert protocol.received == b""


async def test_the_writer_notices_close(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, peer):
        transport.close()
        await until_closed(ends.reading)
        with pytest.raises(BrokenPipeError):
            os.write(peer.fileno(), b"x")


async def test_the_pipe_is_closed_after_connection_lost(loop: Loop, ends: Ends) -> None:
    """It is open while connection_lost() runs, and closed when that has returned."""
    open_inside: list[bool] = []

    class Looking(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            open_inside.append(not is_closed(ends.reading))
            super().connection_lost(exc)

    protocol = Looking()
    async with reading(loop, protocol, ends) as (transport, _):
        transport.close()
        assert not is_closed(ends.reading)
        await protocol.until_lost()
        await turns(1)
        assert is_closed(ends.reading)
    assert open_inside == [True]


@pytest.mark.parametrize("how", ["close", "end"])
async def test_the_pipe_object_is_closed_once(loop: Loop, pipe: Ends, how: str) -> None:
    """Any object with fileno() and close() is a pipe."""
    counted = Counted(pipe.reading)
    protocol = Recorder()
    async with reading(loop, protocol, Ends(counted, pipe.writing)) as (transport, peer):
        if how == "end":
            peer.close()
        else:
            transport.close()
        await protocol.until_lost()
        transport.close()
        await turns()
    assert counted.closed == 1


@pytest.mark.parametrize("where", ["data_received", "eof_received"])
async def test_closing_inside_a_callback(loop: Loop, ends: Ends, where: str) -> None:
    class Closing(Recorder):
        def note(self, *call: Any) -> None:
            super().note(*call)
            if call[0] == where:
                self.transport.close()

    protocol = Closing()
    put(ends.writing, b"data")
    ends.writing.close()
    async with reading(loop, protocol, ends):
        await protocol.until_lost()
    steps = ["connection_made", "data_received", "eof_received"]
    assert protocol.names == [*steps[: steps.index(where) + 1], "connection_lost"]
    assert protocol.error is None


@needs_respect
async def test_closing_inside_connection_made(loop: Loop, ends: Ends) -> None:
    class Closing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.close()

    protocol = Closing()
    put(ends.writing, b"data")
    async with reading(loop, protocol, ends):
        await protocol.until_lost()
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_closing_inside_connection_lost_does_nothing(loop: Loop, ends: Ends) -> None:
    class Closing(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            self.transport.close()

    protocol = Closing()
    async with reading(loop, protocol, ends) as (_, peer):
        peer.close()
        await protocol.until_lost()
        await turns()
    assert protocol.names == ["connection_made", "eof_received", "connection_lost"]


async def test_descriptors_return_to_where_they_began(loop: Loop, tmp_path: Path) -> None:
    before = open_descriptors()
    for _ in range(5):
        protocol = Recorder()
        async with reading(loop, protocol, anonymous(tmp_path)) as (_, peer):
            put(peer, b"x")
            await protocol.until_received(1)
            peer.close()
            await protocol.until_lost()
    assert open_descriptors() == before


# ---- what a transport tells ----


async def test_class_and_extra_info(loop: Loop, ends: Ends) -> None:
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, _):
        assert isinstance(transport, asyncio.ReadTransport)
        assert not isinstance(transport, asyncio.WriteTransport)
        assert transport.get_extra_info("pipe") is ends.reading
        for name in ("socket", "peername", "sockname", "no such thing"):
            assert transport.get_extra_info(name) is None
        assert transport.get_extra_info("no such thing", "default") == "default"
        assert transport.get_protocol() is protocol
        transport.close()
        await protocol.until_lost()
        await turns(1)
        assert transport.get_extra_info("pipe") is ends.reading
        assert transport.get_protocol() is None


async def test_repr(loop: Loop, ends: Ends) -> None:
    number = ends.reading.fileno()
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, _):
        assert re.match(rf"^<\w+ fd={number} polling>$", repr(transport))
        transport.pause_reading()
        assert re.match(rf"^<\w+ fd={number} idle>$", repr(transport))
        transport.close()
        assert re.match(rf"^<\w+ closing fd={number} idle>$", repr(transport))
        await protocol.until_lost()
        await turns(1)
        assert re.match(rf"^<\w+ closed fd={number} closed>$", repr(transport))


async def test_the_descriptor_does_not_block(loop: Loop, ends: Ends) -> None:
    async with reading(loop, Recorder(), ends):
        assert os.get_blocking(ends.reading.fileno()) is False


async def test_set_protocol(loop: Loop, ends: Ends) -> None:
    """Whoever is the protocol at that time is told; connection_made is not repeated."""
    first, second = Recorder(), Recorder()
    async with reading(loop, first, ends) as (transport, peer):
        put(peer, b"first")
        await first.until_received(5)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        put(peer, b"second")
        await second.until_received(6)
        peer.close()
        await second.until_lost()
    assert first.names == ["connection_made", "data_received"]
    assert second.names == ["data_received", "eof_received", "connection_lost"]


async def test_set_protocol_inside_data_received(loop: Loop, pipe: Ends) -> None:
    second = Recorder()

    class Handing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.set_protocol(second)

    first = Handing()
    async with reading(loop, first, pipe) as (_, peer):
        put(peer, b"one")
        await first.until_received(3)
        put(peer, b"two")
        await second.until_received(3)
    assert first.received == b"one"
    assert second.received == b"two"


async def test_the_transport_lets_go_after_connection_lost(loop: Loop, pipe: Ends) -> None:
    """The protocol is released: nothing is kept alive by a transport that is held."""
    with both(pipe):
        transport, protocol = await loop.connect_read_pipe(Recorder, pipe.reading)
        transport.close()
        await protocol.until_lost()
        await turns(2)
        reference = weakref.ref(protocol)
        del protocol.transport, protocol
        gc.collect()
        assert reference() is None
        assert transport.get_protocol() is None


async def test_the_context_of_the_callbacks(loop: Loop, ends: Ends) -> None:
    """All of them run in that of the creator, as it was then."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[tuple[str, str]] = []

    class Looking(Recorder):
        def note(self, *call: Any) -> None:
            seen.append((call[0], variable.get()))
            super().note(*call)

    protocol = Looking()
    variable.set("creator's")
    async with reading(loop, protocol, ends) as (_, peer):
        variable.set("later")
        put(peer, b"x")
        await protocol.until_received(1)
        peer.close()
        await protocol.until_lost()
    assert seen == [
        ("connection_made", "creator's"),
        ("data_received", "creator's"),
        ("eof_received", "creator's"),
        ("connection_lost", "creator's"),
    ]


# ---- what goes wrong ----


async def test_a_regular_file_is_refused(loop: Loop, tmp_path: Path) -> None:
    """And stays as it was: open and blocking."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    protocol = Recorder()
    with open(path, "rb", 0) as file:
        with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
            await loop.connect_read_pipe(lambda: protocol, file)
        gc.collect()
        assert os.get_blocking(file.fileno()) is True
        assert file.read() == b"content"
    await turns()
    assert protocol.calls == []


@oracle_never("the half-made transport complains when it is freed")
@pytest.mark.parametrize("kind_of_pipe", [anonymous, pair])
async def test_a_closed_pipe_object(
    loop: Loop, tmp_path: Path, kind_of_pipe: Callable[[Path], Ends]
) -> None:
    with both(kind_of_pipe(tmp_path)) as ends:
        ends.reading.close()
        with pytest.raises((ValueError, OSError)) as caught:
            await loop.connect_read_pipe(Recorder, ends.reading)
        if isinstance(caught.value, OSError):
            assert caught.value.errno == errno.EBADF
        else:
            assert str(caught.value) == "I/O operation on closed file"


@oracle_never("the half-made transport complains when it is freed")
@pytest.mark.parametrize("pipe_object", [0, "pipe", None])
async def test_what_is_no_pipe_object(loop: Any, pipe_object: object) -> None:
    name = type(pipe_object).__name__
    with pytest.raises(AttributeError, match=rf"^'{name}' object has no attribute 'fileno'$"):
        await loop.connect_read_pipe(Recorder, pipe_object)


async def test_an_exception_from_the_factory_is_the_callers(loop: Loop, pipe: Ends) -> None:
    """And the pipe stays the caller's."""

    def factory() -> Recorder:
        raise LookupError("no protocol")

    with both(pipe):
        with pytest.raises(LookupError, match=r"^no protocol$"):
            await loop.connect_read_pipe(factory, pipe.reading)
        await turns()
        put(pipe.writing, b"x")
        assert pipe.reading.read(1) == b"x"


async def test_cancelled_while_connecting(loop: Loop, ends: Ends) -> None:
    """The transport exists already: it ends, and closes the pipe."""
    protocol = Recorder()
    with both(ends):
        task = loop.create_task(loop.connect_read_pipe(lambda: protocol, ends.reading))
        await turns(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.until_lost()
        await turns()
        assert is_closed(ends.reading)
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_an_exception_out_of_connection_made(loop: Loop, pipe: Ends, errors: Errors) -> None:
    """It is reported, and the pipe goes on."""

    class Failing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise LookupError("made")

    protocol = Failing()
    async with reading(loop, protocol, pipe) as (_, peer):
        put(peer, b"x")
        await protocol.until_received(1)
        context = errors.take_one()
        assert repr(context["exception"]) == "LookupError('made')"
        assert context["message"].startswith("Exception in callback ")


async def test_an_exception_out_of_data_received(loop: Loop, ends: Ends, errors: Errors) -> None:
    """It is reported, and the pipe goes on: nothing of it is broken."""

    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"bad":
                raise LookupError("data")

    protocol = Failing()
    async with reading(loop, protocol, ends) as (transport, peer):
        put(peer, b"bad")
        await protocol.until_received(3)
        await turns(1)
        context = errors.take_one()
        assert repr(context["exception"]) == "LookupError('data')"
        assert context["message"].startswith("Exception in callback ")
        assert not transport.is_closing()
        put(peer, b"good")
        assert await protocol.until_received(7) == b"badgood"


async def test_an_exception_out_of_eof_received(loop: Loop, ends: Ends, errors: Errors) -> None:
    class Failing(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            raise LookupError("end")

    protocol = Failing()
    async with reading(loop, protocol, ends) as (_, peer):
        peer.close()
        await protocol.until_lost()
        assert repr(errors.take_one()["exception"]) == "LookupError('end')"
    assert protocol.error is None


async def test_an_exception_out_of_connection_lost(loop: Loop, ends: Ends, errors: Errors) -> None:
    """The pipe is closed all the same."""

    class Failing(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise LookupError("lost")

    protocol = Failing()
    async with reading(loop, protocol, ends) as (transport, _):
        transport.close()
        await protocol.until_lost()
        await turns(1)
        assert is_closed(ends.reading)
        assert repr(errors.take_one()["exception"]) == "LookupError('lost')"


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_must_leave_the_loop_leaves_it(
    loop: Loop, pipe: Ends, exception: type[BaseException]
) -> None:
    class Leaving(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise exception

    protocol = Leaving()
    with both(pipe):
        transport, _ = loop.run_until_complete(
            loop.connect_read_pipe(lambda: protocol, pipe.reading)
        )
        put(pipe.writing, b"x")
        with pytest.raises(exception):
            loop.run_forever()
        assert protocol.received == b"x"
        transport.close()
        loop.run_until_complete(protocol.until_lost())
        loop.run_until_complete(turns())


async def test_an_error_of_reading_is_reported(loop: Loop, tmp_path: Path, errors: Errors) -> None:
    """A socket whose peer left without reading what it was sent."""
    ends = pair(tmp_path)
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (transport, peer):
        put(ends.reading, b"unread")
        peer.close()
        await protocol.until_lost()
        context = errors.take_one()
        assert context["message"] == "Fatal read error on pipe transport"
        assert sorted(context) == ["exception", "message", "protocol", "transport"]
        assert context["exception"] is protocol.error
        assert context["transport"] is transport
        assert context["protocol"] is protocol
    assert isinstance(protocol.error, ConnectionResetError)
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_the_wrong_end(loop: Loop, pipe: Ends, errors: Errors) -> None:
    """It can be watched, but not read: seen when the other end is closed."""
    protocol = Recorder()
    async with reading(loop, protocol, Ends(pipe.writing, pipe.reading)) as (_, peer):
        peer.close()
        await protocol.until_lost()
        assert errors.take_one()["exception"] is protocol.error
    assert isinstance(protocol.error, OSError)
    assert protocol.error.errno == errno.EBADF


async def test_a_device_that_cannot_be_watched(loop: Loop, errors: Errors) -> None:
    """epoll refuses /dev/null: reported, and nothing comes of it."""
    protocol = Recorder()
    device = os.fdopen(os.open(os.devnull, os.O_RDONLY), "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, device)
    await turns()
    assert isinstance(errors.take_one()["exception"], PermissionError)
    transport.close()
    await protocol.until_lost()
    await until_closed(device)
    assert protocol.received == b""


# ---- terminals ----


async def test_the_master_of_a_terminal(loop: Loop) -> None:
    """Its end is EIO, which is not worth a report."""
    protocol = Recorder()
    async with reading(loop, protocol, terminal()) as (_, slave):
        put(slave, b"typed")
        await protocol.until_received(5)
        slave.close()
        await protocol.until_lost()
    assert protocol.names == ["connection_made", "data_received", "connection_lost"]
    assert isinstance(protocol.error, OSError)
    assert protocol.error.errno == errno.EIO


async def test_the_slave_of_a_terminal(loop: Loop) -> None:
    """As a program's standard input is."""
    master, slave = terminal()
    protocol = Recorder()
    async with reading(loop, protocol, Ends(slave, master)) as (_, peer):
        put(peer, b"typed\n")
        assert await protocol.until_received(6) == b"typed\n"
        peer.close()
        await protocol.until_lost()
    assert protocol.names == [
        "connection_made",
        "data_received",
        "eof_received",
        "connection_lost",
    ]


async def test_a_terminal_in_line_mode(loop: Loop) -> None:
    """A line is delivered when it is complete; Ctrl-D is the end."""
    master, slave = os.openpty()
    ends = Ends(os.fdopen(slave, "r+b", 0), os.fdopen(master, "r+b", 0))
    modes = termios.tcgetattr(slave)
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (_, peer):
        put(peer, b"half a li")
        await turns(5)
        assert protocol.received == b""
        put(peer, b"ne\n")
        assert await protocol.until_received(12) == b"half a line\n"
        put(peer, b"\x04")
        await protocol.until_lost()
    assert protocol.names[-2:] == ["eof_received", "connection_lost"]


# ---- what is forgotten ----


async def test_a_forgotten_transport_warns_and_closes(loop: Loop, ends: Ends) -> None:
    """The loop does not keep a paused transport alive; dropping it is the program's bug."""
    counted = Counted(ends.reading)
    with both(ends):
        transport, protocol = await loop.connect_read_pipe(Recorder, counted)
        transport.pause_reading()
        await turns(2)
        with pytest.warns(ResourceWarning, match=r"^unclosed transport <"):
            del protocol.transport, transport, protocol
            gc.collect()
        assert counted.closed == 1
        with pytest.raises(BrokenPipeError):
            os.write(ends.writing.fileno(), b"x")


async def test_a_reading_transport_need_not_be_held(loop: Loop, pipe: Ends) -> None:
    """The loop holds what it reads from, and its protocol."""
    received = asyncio.Event()

    class Telling(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.set()

    with both(pipe):
        await loop.connect_read_pipe(Telling, pipe.reading)
        gc.collect()
        put(pipe.writing, b"x")
        await received.wait()
        pipe.writing.close()
        await until_closed(pipe.reading)


def test_a_loop_that_is_closed_with_an_open_pipe(loop_factory: LoopFactory, pipe: Ends) -> None:
    loop = loop_factory()
    with both(pipe):
        transport, protocol = loop.run_until_complete(
            loop.connect_read_pipe(Recorder, pipe.reading)
        )
        loop.close()
        with pytest.warns(ResourceWarning, match=r"^unclosed transport <"):
            del protocol.transport, transport, protocol
            gc.collect()
        assert is_closed(pipe.reading)


# ---- streams and files over it ----


async def until_buffered(reader: Any, count: int) -> None:
    while len(reader._buffer) < count:
        await turns(1)


async def test_a_stream_reader(loop: Loop, ends: Ends) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    async with reading(loop, protocol, ends) as (_, peer):
        put(peer, b"one\ntwo\nexactlythe rest")
        peer.close()
        assert await reader.readline() == b"one\n"
        assert await reader.readuntil(b"o\n") == b"two\n"
        assert await reader.readexactly(7) == b"exactly"
        assert await reader.read() == b"the rest"
        assert reader.at_eof()


async def test_a_stream_reader_pauses_its_pipe(loop: Loop, pipe: Ends) -> None:
    """What exceeds twice the limit stays in the kernel, and nothing is lost."""
    reader = asyncio.StreamReader(limit=10)
    protocol = asyncio.StreamReaderProtocol(reader)
    async with reading(loop, protocol, pipe) as (transport, peer):
        put(peer, b"x" * 21)
        await until_buffered(reader, 21)
        put(peer, b"y" * 5)
        await turns(5)
        await until_buffered(reader, 21)
        assert unread(peer) == 5
        assert await reader.readexactly(21) == b"x" * 21
        assert await reader.readexactly(5) == b"y" * 5
        assert not transport.is_closing()


async def test_a_stream_reader_hears_an_error(loop: Loop, tmp_path: Path, errors: Errors) -> None:
    ends = pair(tmp_path)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    async with reading(loop, protocol, ends) as (_, peer):
        put(ends.reading, b"unread")
        peer.close()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        errors.take_one()


@pytest.mark.parametrize("mode", ["rb", "r"])
async def test_a_buffered_file_object(loop: Loop, mode: str) -> None:
    """Only its descriptor is used."""
    number, other = os.pipe()
    ends = Ends(os.fdopen(number, mode), os.fdopen(other, "wb", 0))
    protocol = Recorder()
    async with reading(loop, protocol, ends) as (_, peer):
        put(peer, b"data")
        assert await protocol.until_received(4) == b"data"
    assert ends.reading.closed


async def test_debug_mode_says_what_happens(
    loop: Loop, pipe: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="asyncio")
    loop.set_debug(True)
    protocol = Recorder()
    number = pipe.reading.fileno()
    async with reading(loop, protocol, pipe) as (transport, peer):
        transport.pause_reading()
        transport.resume_reading()
        peer.close()
        await protocol.until_lost()
    debug, info = records(caplog, "DEBUG"), records(caplog, "INFO")
    assert any(re.match(rf"^Read pipe {number} connected: \(<.*>, <.*>\)$", text) for text in debug)
    assert any(text.endswith("> pauses reading") for text in debug)
    assert any(text.endswith("> resumes reading") for text in debug)
    assert any(text.endswith("> was closed by peer") for text in info)
