"""asyncio's streams where aioxide does the work of their functions: whatever a program changes,
looks at or interrupts, it sees what it sees on CPython's loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import socket
import sys
import types
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from .connections import stream
from .support import BIG, Errors, Loop, listening, oracle_never, read_exactly, turns
from .tls import Tls

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


@contextlib.asynccontextmanager
async def served(loop: Loop, **options: Any) -> AsyncIterator[tuple[Reader, Writer, socket.socket]]:
    """The streams of a server's client, and the plain socket at the other end."""
    made: asyncio.Future[tuple[Reader, Writer]] = loop.create_future()

    def connected(reader: Reader, writer: Writer) -> None:
        made.set_result((reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
    async with server:
        with socket.socket() as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, server.sockets[0].getsockname())
            reader, writer = await made
            try:
                yield reader, writer, peer
            finally:
                writer.transport.abort()
                await turns()


@contextlib.asynccontextmanager
async def over_tls(loop: Loop, tls: Tls) -> AsyncIterator[tuple[Reader, Writer, Reader, Writer]]:
    """The streams of a server's client and the client's own, over TLS."""
    made: asyncio.Future[tuple[Reader, Writer]] = loop.create_future()

    def connected(reader: Reader, writer: Writer) -> None:
        made.set_result((reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls.server())
    async with server:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=tls.client(), server_hostname="localhost"
        )
        try:
            yield (*await made, reader, writer)
        finally:
            for end in (writer, (await made)[1]):
                end.transport.abort()
            await turns()


async def buffered(reader: Any, count: int) -> None:
    """Wait until the reader has so many bytes."""
    while len(reader._buffer) < count:
        await asyncio.sleep(0)


def seen(reader: Any) -> Any:
    """The reader, as a program sees it that looks at what is not public."""
    return reader


@contextlib.contextmanager
def patched(of: Any, name: str, value: Any) -> Iterator[None]:
    """Put something else in the place of an attribute, for a time."""
    before = vars(of)[name]
    setattr(of, name, value)
    try:
        yield
    finally:
        setattr(of, name, before)


# ---- what the objects are ----


async def test_objects_are_asyncios(loop: Loop) -> None:
    async with served(loop) as (reader, writer, _):
        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer, asyncio.StreamWriter)
        for thing in (reader, writer):
            assert type(thing).__name__ in ("StreamReader", "StreamWriter")
            assert type(thing).__module__ == "asyncio.streams"
        assert repr(reader).startswith("<StreamReader transport=<")
        assert repr(writer).startswith("<StreamWriter transport=<")
        assert type(seen(reader)._buffer) is bytearray


async def test_functions_are_coroutine_functions(loop: Loop) -> None:
    async with served(loop) as (reader, writer, _):
        functions: list[Callable[..., Any]] = [
            reader.read,
            reader.readexactly,
            reader.readline,
            reader.readuntil,
            writer.drain,
        ]
        for function in functions:
            assert inspect.iscoroutinefunction(function)
            assert inspect.ismethod(function)
            of = Writer if function == writer.drain else Reader
            original = getattr(of, function.__name__)
            assert function.__doc__ == original.__doc__
            assert function.__qualname__ == original.__qualname__
            assert str(inspect.signature(type(reader).read)) == "(self, n=-1)"


async def test_what_a_call_gives_is_awaitable_once(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        peer.send(b"abc")
        await buffered(reader, 3)
        call: Any = reader.read(2)
        assert all((asyncio.iscoroutine(call), inspect.isawaitable(call)))
        assert call.__name__ == "read"
        assert call.__qualname__ == "StreamReader.read"
        assert "StreamReader.read" in repr(call)
        assert await call == b"ab"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await call
        with pytest.raises(StopIteration) as stopped:
            reader.read(2).send(None)
        assert stopped.value.value == b"c"


async def test_nothing_is_done_before_it_is_awaited(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        peer.send(b"abc")
        await buffered(reader, 3)
        first, second = reader.read(1), reader.read(2)
        assert await second == b"ab"
        assert await first == b"c"
        closed = reader.read(1)
        closed.close()
        with pytest.raises(RuntimeError):
            await closed


async def test_what_is_never_awaited_is_told(loop: Loop) -> None:
    async with served(loop) as (reader, _, _):
        with pytest.warns(
            RuntimeWarning, match=r"coroutine 'StreamReader\.read' was never awaited"
        ):
            _ = reader.read(1)
            del _
            gc.collect()


async def test_throwing_into_what_was_not_begun(loop: Loop) -> None:
    async with served(loop) as (reader, _, _):
        call = reader.read(1)
        with pytest.raises(KeyError):
            call.throw(KeyError("x"))
        assert vars(reader)["_waiter"] is None


async def test_wrong_arguments(loop: Loop) -> None:
    async with served(loop) as (reader, writer, _):
        for wrong in (
            lambda: reader.read(1, 2),  # type: ignore[call-arg]
            lambda: reader.read(m=1),  # type: ignore[call-arg]
            lambda: reader.readexactly(),  # type: ignore[call-arg]
            lambda: reader.readline(1),  # type: ignore[call-arg]
            lambda: writer.drain(1),  # type: ignore[call-arg]
            lambda: type(reader).read(),  # type: ignore[call-arg]
        ):
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
            await reader.readexactly(-1)
        with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
            await reader.readuntil(b"")
        assert await reader.read(0) == b""
        assert await reader.readexactly(0) == b""


async def test_arguments_by_name(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        peer.send(b"abcdef;")
        assert await reader.read(n=1) == b"a"
        assert await reader.readexactly(n=2) == b"bc"
        assert await reader.readuntil(separator=b";") == b"def;"


# ---- reading ----


async def test_reading_waits_and_goes_on(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        cases: list[tuple[Callable[[], Any], list[bytes], bytes]] = [
            (lambda: reader.read(10), [b"abc"], b"abc"),
            (lambda: reader.readexactly(6), [b"a", b"bcd", b"ef"], b"abcdef"),
            (lambda: reader.readline(), [b"one", b" two", b"\n"], b"one two\n"),
            (lambda: reader.readuntil(b"--"), [b"x-", b"-"], b"x--"),
        ]
        for question, pieces, answer in cases:
            task = loop.create_task(question())
            got = 0
            for piece in pieces:
                await turns()
                assert not task.done()
                peer.send(piece)
                got += len(piece)
                while not task.done() and len(seen(reader)._buffer) < got:
                    await asyncio.sleep(0)
            assert await task == answer


async def test_reading_in_pieces_keeps_the_rest(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        peer.send(b"0123456789\nabc")
        await buffered(reader, 14)
        assert await reader.read(3) == b"012"
        assert await reader.readexactly(2) == b"34"
        assert await reader.readuntil(b"7") == b"567"
        assert await reader.readline() == b"89\n"
        assert bytes(seen(reader)._buffer) == b"abc"
        peer.send(b"def")
        assert await reader.readexactly(6) == b"abcdef"


async def test_iterating_over_lines(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        peer.send(b"one\ntwo\nthree")
        peer.shutdown(socket.SHUT_WR)
        assert [line async for line in reader] == [b"one\n", b"two\n", b"three"]


async def test_much_arrives_whole(loop: Loop) -> None:
    data = bytes(range(256)) * (BIG // 256)
    async with served(loop) as (reader, _, peer):
        sending = loop.create_task(loop.sock_sendall(peer, data))
        got = b"".join([await reader.read(70_000) for _ in range(3)])
        got += await reader.readexactly(BIG - len(got) - 5)
        got += await reader.readexactly(5)
        assert got == data
        await sending


async def test_the_end(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        reading = loop.create_task(reader.readexactly(10))
        peer.send(b"abc")
        await buffered(reader, 3)
        assert not reader.at_eof()
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reading
        assert (caught.value.partial, caught.value.expected) == (b"abc", 10)
        assert reader.at_eof()
        assert await reader.read(5) == b""
        assert await reader.readline() == b""
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readuntil(b"x")


async def test_the_end_while_reading_waits(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        reading = loop.create_task(reader.read(10))
        await turns()
        peer.shutdown(socket.SHUT_WR)
        assert await reading == b""


async def test_an_end_that_the_program_feeds(loop: Loop) -> None:
    async with served(loop) as (reader, _, _):
        reading = loop.create_task(reader.readline())
        await turns()
        reader.feed_data(b"abc")
        reader.feed_eof()
        assert await reading == b"abc"
        assert reader.at_eof()


async def test_data_after_an_end_that_the_program_fed(loop: Loop, errors: Errors) -> None:
    async with served(loop) as (reader, writer, peer):
        reader.feed_eof()
        peer.send(b"abc")
        while not (told := errors.take()):
            await asyncio.sleep(0)
        assert isinstance(told[0]["exception"], AssertionError)
        assert "data_received" in told[0]["message"]
        await turns()
        assert writer.is_closing()


async def test_an_exception_that_is_set(loop: Loop) -> None:
    async with served(loop) as (reader, writer, peer):
        reading = loop.create_task(reader.read(1))
        await turns()
        reader.set_exception(KeyError("x"))
        with pytest.raises(KeyError):
            await reading
        peer.send(b"abc")
        await buffered(reader, 3)
        for question in (
            reader.read(1),
            reader.readexactly(1),
            reader.readline(),
            reader.readuntil(b"a"),
            writer.drain(),
        ):
            with pytest.raises(KeyError):
                await question


async def test_an_exception_after_the_data_costs_no_data(loop: Loop) -> None:
    async with served(loop) as (reader, _, _):
        reading = loop.create_task(reader.read(10))
        await turns()
        reader.feed_data(b"abc")
        reader.set_exception(KeyError("x"))
        assert await reading == b"abc"


async def test_two_at_once_are_refused(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        reading = loop.create_task(reader.read(10))
        await turns()
        for name, question in (
            ("read", reader.read(1)),
            ("readexactly", reader.readexactly(1)),
            ("readuntil", reader.readline()),
        ):
            with pytest.raises(RuntimeError) as caught:
                await question
            assert str(caught.value) == (
                f"{name}() called while another coroutine is already waiting for incoming data"
            )
        peer.send(b"abc")
        assert await reading == b"abc"


async def test_one_that_comes_between_takes_the_data(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        notes = []

        async def take(name: str) -> None:
            notes.append((name, await reader.read(10)))

        first = loop.create_task(take("first"))
        await turns()
        reader.feed_data(b"abc")
        # The first was woken, and is not the next to run.
        await take("second")
        peer.send(b"")
        await first
        assert notes == [("second", b"abc"), ("first", b"")]


async def test_cancelling_loses_nothing(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        for question in (reader.read, reader.readexactly):
            reading = loop.create_task(question(3))
            await turns()
            assert vars(reader)["_waiter"] is not None
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert vars(reader)["_waiter"] is None
            # Cancelled when the data is there already, and the task is not yet awake.
            reading = loop.create_task(question(3))
            await turns()
            reader.feed_data(b"xyz")
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert await question(3) == b"xyz"
        peer.send(b"abc")
        assert await reader.read(3) == b"abc"


async def test_data_for_a_future_that_was_cancelled(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        reading = loop.create_task(reader.read(3))
        await turns()
        vars(reader)["_waiter"].cancel()
        reader.feed_data(b"a")
        peer.send(b"bc")
        with pytest.raises(asyncio.CancelledError):
            await reading
        await buffered(reader, 3)
        assert await reader.read(3) == b"abc"


async def test_waiting_with_a_limit_of_time(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(3), 0.001)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readexactly(3), 0)
        peer.send(b"abc")
        assert await asyncio.wait_for(reader.readexactly(3), 60) == b"abc"
        peer.send(b"d")
        assert (await asyncio.gather(reader.read(1), asyncio.sleep(0, "x")))[0] == b"d"


async def test_closing_what_waits(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        waiting = reader.read(3)
        waiting.send(None)
        assert vars(reader)["_waiter"] is not None
        waiting.close()
        assert vars(reader)["_waiter"] is None
        waiting = reader.readline()
        waiting.send(None)
        del waiting
        gc.collect()
        assert vars(reader)["_waiter"] is None
        peer.send(b"abc")
        assert await reader.read(3) == b"abc"


async def test_what_was_searched_for_a_separator_is_not_searched_again(loop: Loop) -> None:
    async with served(loop) as (reader, _, _):
        for separator in (b"\n", b"--"):
            reading = loop.create_task(reader.readuntil(separator))
            await turns()
            reader.feed_data(b"abcd")
            await turns()
            # Nobody looks there any more: the position can be seen without a clock.
            seen(reader)._buffer[:2] = separator.ljust(2, b"x")
            reader.feed_data(b"ef")
            await turns()
            assert not reading.done()
            reader.feed_data(separator + b"rest")
            assert await reading == separator.ljust(2, b"x") + b"cdef" + separator
            # The next call begins at the beginning.
            seen(reader)._buffer[:2] = separator.ljust(2, b"x")
            assert await reader.readuntil(separator) == separator
            seen(reader)._buffer.clear()


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\r\n\r\n", b"aab", b"--------"])
async def test_a_separator_that_comes_in_pieces(loop: Loop, separator: bytes) -> None:
    line = b"".join(separator[:length] + b"x" for length in range(len(separator))) + separator
    async with served(loop) as (reader, _, _):
        for size in (1, 2, 3, 5, len(line)):
            reading = loop.create_task(reader.readuntil(separator))
            await turns()
            for at in range(0, len(line), size):
                assert not reading.done()
                reader.feed_data(line[at : at + size])
                await turns()
            assert await reading == line
            assert not seen(reader)._buffer


async def test_a_separator_in_a_buffer_that_is_another_one(loop: Loop) -> None:
    async with served(loop) as (reader, _, _):
        reading = loop.create_task(reader.readline())
        await turns()
        reader.feed_data(b"abc")
        await turns()
        seen(reader)._buffer = bytearray(b"defgh")
        reader.feed_data(b"\nrest")
        assert await reading == b"defgh\n"
        assert await reader.read(10) == b"rest"


@oracle_never("it looks only behind what it has searched, in whatever buffer")
@pytest.mark.parametrize("how", ["another", "shorter"])
async def test_a_separator_before_what_was_searched(loop: Loop, how: str) -> None:
    async with served(loop) as (reader, _, _):
        reading = loop.create_task(reader.readline())
        await turns()
        reader.feed_data(b"abcdef")
        await turns()
        if how == "another":
            seen(reader)._buffer = bytearray(b"g\nhijkl")
            reader.feed_data(b"m")
        else:
            assert await reader.read(5) == b"abcde"
            reader.feed_data(b"\n")
        assert await reading == {"another": b"g\n", "shorter": b"f\n"}[how]


async def test_a_limit_that_a_line_in_pieces_reaches(loop: Loop) -> None:
    async with served(loop, limit=8) as (reader, _, _):
        reading = loop.create_task(reader.readuntil(b"--"))
        await turns()
        for piece in (b"abc", b"def", b"gh"):
            reader.feed_data(piece)
            await turns()
            assert not reading.done()
        reader.feed_data(b"ij")
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reading
        assert caught.value.consumed == 9
        assert await reader.read(100) == b"abcdefghij"


# ---- limits ----


async def test_a_slow_reader_pauses_its_peer(loop: Loop) -> None:
    async with served(loop, limit=1000) as (reader, writer, peer):
        sending = loop.create_task(loop.sock_sendall(peer, b"x" * BIG))
        while not vars(reader)["_paused"]:
            await asyncio.sleep(0)
        transport: Any = writer.transport
        assert not transport.is_reading()
        there = len(seen(reader)._buffer)
        assert there > 2000
        await turns(10)
        assert len(seen(reader)._buffer) == there
        assert await reader.readexactly(there - 1001) == b"x" * (there - 1001)
        assert not transport.is_reading()
        assert await reader.read(1) == b"x"
        assert transport.is_reading()
        assert not vars(reader)["_paused"]
        rest = BIG - there + 1000
        assert await reader.readexactly(rest) == b"x" * rest
        await sending


async def test_a_paused_reader_that_wants_more_resumes(loop: Loop) -> None:
    async with served(loop, limit=10) as (reader, _, peer):
        peer.send(b"x" * 100)
        await buffered(reader, 100)
        assert vars(reader)["_paused"]
        reading = loop.create_task(reader.readexactly(150))
        await turns()
        assert not vars(reader)["_paused"]
        peer.send(b"y" * 50)
        assert await reading == b"x" * 100 + b"y" * 50


async def test_a_transport_that_cannot_pause(loop: Loop) -> None:
    async with served(loop, limit=10) as (reader, _, peer):

        class Stubborn:
            asked = 0

            def pause_reading(self) -> None:
                self.asked += 1
                raise NotImplementedError

        stubborn = Stubborn()
        vars(reader)["_transport"] = stubborn
        for _ in range(2):
            before = len(seen(reader)._buffer)
            peer.send(b"x" * 100)
            await buffered(reader, before + 100)
        assert stubborn.asked == 1
        assert vars(reader)["_transport"] is None
        assert not vars(reader)["_paused"]


async def test_lines_that_are_too_long(loop: Loop) -> None:
    async with served(loop, limit=10) as (reader, _, peer):
        peer.send(b"0123456789ab")
        await buffered(reader, 12)
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(b";")
        assert caught.value.consumed == 12
        peer.send(b";ab")
        await buffered(reader, 15)
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(b";")
        assert caught.value.consumed == 12
        peer.send(b"\nnext")
        await buffered(reader, 20)
        with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit"):
            await reader.readline()
        assert await reader.readexactly(4) == b"next"


async def test_a_line_that_becomes_too_long_while_it_is_awaited(loop: Loop) -> None:
    async with served(loop, limit=5) as (reader, _, peer):
        reading = loop.create_task(reader.readuntil(b";"))
        await turns()
        peer.send(b"0123456789")
        with pytest.raises(asyncio.LimitOverrunError):
            await reading
        assert await reader.readexactly(10) == b"0123456789"


async def test_a_view_of_the_buffer(loop: Loop, errors: Errors) -> None:
    async with served(loop) as (reader, _, peer):
        peer.send(b"abc")
        await buffered(reader, 3)
        with memoryview(seen(reader)._buffer) as view:
            with pytest.raises(BufferError):
                await reader.read(2)
            with pytest.raises(BufferError):
                await reader.read(3)
            assert bytes(view) == b"abc"
            peer.send(b"def")
            while not (told := errors.take()):
                await asyncio.sleep(0)
            assert isinstance(told[0]["exception"], BufferError)


async def test_buffers_do_not_share_what_they_hold(loop: Loop) -> None:
    async with served(loop) as (one, _, left), served(loop) as (two, _, right):
        for size in (1, 100, 1000, 5000, 3, 100_000, 10):
            left.send(b"l" * size)
            right.send(b"r" * size)
            await asyncio.gather(buffered(one, min(size, 50_000)), buffered(two, min(size, 50_000)))
            assert await one.readexactly(size) == b"l" * size
            assert await two.readexactly(size) == b"r" * size
            assert not seen(one)._buffer
            seen(one)._buffer += b"own"
            assert bytes(seen(one)._buffer) == b"own"
            seen(one)._buffer.clear()


# ---- writing ----


async def test_drain_waits_for_room(loop: Loop) -> None:
    async with served(loop) as (_, writer, peer):
        writer.write(b"x" * BIG)
        drains = [loop.create_task(writer.drain()) for _ in range(2)]
        await turns()
        assert not any(task.done() for task in drains)
        await read_exactly(loop, peer, BIG)
        await asyncio.gather(*drains)


async def test_drain_gives_way_when_the_writer_closes(loop: Loop) -> None:
    async with served(loop) as (_, writer, _):
        writer.close()
        notes: list[str] = []
        loop.call_soon(notes.append, "other")
        with contextlib.suppress(ConnectionResetError):
            await writer.drain()
        assert notes == ["other"]
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await writer.drain()


# ---- what programs change ----


class NotingReader(asyncio.StreamReader):
    """A reader that notes what it is fed and asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.notes: list[str] = []

    def feed_data(self, data: Any) -> None:
        self.notes.append("feed_data")
        super().feed_data(data)

    async def read(self, n: int = -1) -> bytes:
        self.notes.append("read")
        return await super().read(n)


async def with_protocol(
    loop: Loop, reader: Reader, make: Callable[..., asyncio.StreamReaderProtocol]
) -> tuple[asyncio.StreamReaderProtocol, Writer, socket.socket]:
    with listening() as listener:
        transport, protocol = await loop.create_connection(
            lambda: make(reader, loop=loop), *listener.getsockname()
        )
        peer, _ = await loop.sock_accept(listener)
    return protocol, Writer(transport, protocol, reader, loop), peer


async def test_a_reader_of_the_programs_class(loop: Loop) -> None:
    reader = NotingReader(loop=loop)
    _, writer, peer = await with_protocol(loop, reader, asyncio.StreamReaderProtocol)
    with peer:
        assert type(reader) is NotingReader
        peer.send(b"abc")
        assert await reader.read(3) == b"abc"
        assert sorted(reader.notes) == ["feed_data", "read"]
        writer.transport.abort()
        await turns()


async def test_a_protocol_of_the_programs_class(loop: Loop) -> None:
    notes = []

    class Protocol(asyncio.StreamReaderProtocol):
        def data_received(self, data: bytes) -> None:
            notes.append(data)
            super().data_received(data.upper())

    reader = asyncio.StreamReader(loop=loop)
    _, writer, peer = await with_protocol(loop, reader, Protocol)
    with peer:
        peer.send(b"abc")
        assert await reader.read(3) == b"ABC"
        assert notes == [b"abc"]
        writer.transport.abort()
        await turns()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "name", ["feed_data", "_wakeup_waiter", "_wait_for_data", "_maybe_resume_transport", "read"]
)
async def test_a_function_of_the_readers_class_is_replaced(
    loop: Loop, name: str, when: str
) -> None:
    notes = []
    original = getattr(Reader, name)

    def noting(*args: Any, **kwargs: Any) -> Any:
        notes.append(name)
        return original(*args, **kwargs)

    async def use(reader: Reader, peer: socket.socket) -> None:
        reading = loop.create_task(reader.read(3))
        await turns()
        peer.send(b"abc")
        assert await reading == b"abc"

    if when == "before":
        with patched(Reader, name, noting):
            async with served(loop) as (reader, _, peer):
                await use(reader, peer)
                assert notes
    else:
        async with served(loop) as (reader, _, peer):
            await use(reader, peer)
            assert not notes
            with patched(Reader, name, noting):
                await use(reader, peer)
                assert notes
            notes.clear()
            await use(reader, peer)
            assert not notes


async def test_a_function_of_the_protocols_class_is_replaced(loop: Loop) -> None:
    notes = []
    original = asyncio.StreamReaderProtocol.data_received

    def noting(self: asyncio.StreamReaderProtocol, data: bytes) -> None:
        notes.append(data)
        original(self, data)

    async with served(loop) as (reader, _, peer):
        peer.send(b"a")
        assert await reader.read(3) == b"a"
        with patched(asyncio.StreamReaderProtocol, "data_received", noting):
            peer.send(b"b")
            assert await reader.read(3) == b"b"
        peer.send(b"c")
        assert await reader.read(3) == b"c"
        assert notes == [b"b"]


async def test_drain_is_replaced(loop: Loop) -> None:
    notes: list[Any] = []

    async def drain(self: Writer) -> None:
        notes.append(self)

    async def helper(self: Any) -> None:
        notes.append("helper")

    async with served(loop) as (_, writer, _):
        await writer.drain()
        with patched(Writer, "drain", drain):
            await writer.drain()
        with patched(asyncio.streams.FlowControlMixin, "_drain_helper", helper):
            await writer.drain()
        await writer.drain()
        assert notes == [writer, "helper"]
        notes.clear()


async def test_what_is_no_function_is_put_on_the_class(loop: Loop) -> None:
    class Callable_:
        def __call__(self, *args: Any) -> Any:
            return args

    async with served(loop) as (reader, _, _):
        with patched(Reader, "read", Callable_()):
            assert reader.read(7) == (7,)  # type: ignore[comparison-overlap]
        with patched(Reader, "read", staticmethod(lambda *args: args)):
            assert reader.read(7) == (7,)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("name", ["feed_data", "_wakeup_waiter", "_wait_for_data", "read"])
async def test_a_function_is_put_on_a_reader(loop: Loop, name: str) -> None:
    async with served(loop) as (reader, _, peer):
        notes = []
        original = getattr(reader, name)

        def noting(*args: Any, **kwargs: Any) -> Any:
            notes.append(name)
            return original(*args, **kwargs)

        setattr(reader, name, noting)
        reading = loop.create_task(reader.read(3))
        await turns()
        peer.send(b"abc")
        assert await reading == b"abc"
        assert notes
        delattr(reader, name)


async def test_functions_are_put_on_a_protocol_and_a_writer(loop: Loop) -> None:
    async with served(loop) as (reader, writer, peer):
        notes: list[Any] = []
        protocol: Any = writer.transport.get_protocol()
        original = protocol.data_received

        def data_received(data: bytes) -> None:
            notes.append(data)
            original(data)

        async def helper() -> None:
            notes.append("helper")

        protocol.data_received = data_received
        protocol._drain_helper = helper
        peer.send(b"abc")
        assert await reader.read(3) == b"abc"
        await writer.drain()
        assert notes == [b"abc", "helper"]
        del protocol.data_received, protocol._drain_helper


async def test_attributes_are_put_on_a_reader(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        reader.name = "mine"  # type: ignore[attr-defined]
        peer.send(b"abc")
        assert await reader.read(3) == b"abc"
        assert vars(reader)["name"] == "mine"


async def test_a_buffer_of_the_programs_class(loop: Loop) -> None:
    class Buffer(bytearray):
        extended = 0

        def extend(self, data: Any) -> None:
            self.extended += 1
            super().extend(data)

    async with served(loop) as (reader, _, peer):
        buffer = Buffer()
        seen(reader)._buffer = buffer
        peer.send(b"abc")
        assert await reader.read(3) == b"abc"
        assert buffer.extended == 1


async def test_a_reader_that_gets_another_class(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        reader.__class__ = NotingReader
        reader.notes = []  # type: ignore[attr-defined]
        peer.send(b"abc")
        assert await reader.read(3) == b"abc"
        assert sorted(vars(reader)["notes"]) == ["feed_data", "read"]


async def test_a_class_over_the_readers(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        over = types.new_class("Over", (type(reader),))
        reader.__class__ = over
        peer.send(b"abcd")
        assert await reader.read(2) == b"ab"
        assert await reader.readexactly(2) == b"cd"


async def test_another_protocol_is_set(loop: Loop) -> None:
    async with served(loop) as (first, writer, peer):
        peer.send(b"one")
        assert await first.read(10) == b"one"
        second = asyncio.StreamReader(loop=loop)
        second.set_transport(writer.transport)
        before = writer.transport.get_protocol()
        writer.transport.set_protocol(asyncio.StreamReaderProtocol(second, loop=loop))
        peer.send(b"two")
        assert await second.read(10) == b"two"
        received = []

        class Plain(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.append(data)

        writer.transport.set_protocol(Plain())
        peer.send(b"three")
        while not received:
            await asyncio.sleep(0)
        writer.transport.set_protocol(before)
        peer.send(b"four")
        assert await first.read(10) == b"four"
        assert received == [b"three"]


async def test_the_callback_of_a_server_is_the_programs(loop: Loop) -> None:
    seen: asyncio.Future[Any] = loop.create_future()

    def connected(reader: Reader, writer: Writer) -> None:
        protocol: Any = writer.transport.get_protocol()
        seen.set_result(protocol._client_connected_cb)
        writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        with socket.socket() as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, server.sockets[0].getsockname())
            assert await seen is connected
            await turns()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio's streams tell since 3.14")
async def test_the_callback_of_a_server_raises(loop: Loop, errors: Errors) -> None:
    def connected(reader: Reader, writer: Writer) -> None:
        raise KeyError("x")

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        with socket.socket() as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, server.sockets[0].getsockname())
            while not (told := errors.take()):
                await asyncio.sleep(0)
            assert isinstance(told[0]["exception"], KeyError)
            peer.close()
            await turns()
            gc.collect()
            await turns()
    errors.take()


async def test_a_future_of_the_programs_loop(loop: Loop) -> None:
    made = []
    original = loop.create_future

    def create_future() -> asyncio.Future[Any]:
        made.append(original())
        return made[-1]

    async with served(loop) as (reader, _, peer):
        loop.create_future = create_future  # type: ignore[method-assign]
        try:
            reading = loop.create_task(reader.read(3))
            await turns()
            assert vars(reader)["_waiter"] in made
            peer.send(b"abc")
            assert await reading == b"abc"
        finally:
            del loop.create_future


class Awaited:
    """What a loop may give for a future: it is awaited, and a reader wakes it. No iterator."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future
        self.cancelled = future.cancelled
        self.set_result = future.set_result

    def __await__(self) -> Generator[Any, None, None]:
        return self.future.__await__()


class Stubborn(asyncio.Future[None]):
    """A future of whose wait nothing makes an end but its result."""

    caught = 0

    def __await__(self) -> Generator[Any, None, None]:
        while not self.done():
            self._asyncio_future_blocking = True
            try:
                yield self
            except asyncio.CancelledError:
                self.caught += 1
            except KeyError:
                return

    def __iter__(self) -> Generator[Any, None, None]:
        return self.__await__()

    def cancel(self, msg: Any = None) -> bool:
        return False


@contextlib.contextmanager
def making(reader: Reader, make: Callable[[], Any]) -> Iterator[None]:
    """Give the reader a loop that makes such futures."""

    class Other:
        create_future = staticmethod(make)

    before = vars(reader)["_loop"]
    vars(reader)["_loop"] = Other()
    try:
        yield
    finally:
        vars(reader)["_loop"] = before


async def test_a_future_that_is_only_awaited(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        with making(reader, lambda: Awaited(loop.create_future())):
            questions: list[Callable[[], Any]] = [lambda: reader.read(4), reader.readline]
            for question in questions:
                reading = loop.create_task(question())
                await turns()
                assert type(vars(reader)["_waiter"]) is Awaited
                peer.send(b"abc\n")
                assert await reading == b"abc\n"
                assert vars(reader)["_waiter"] is None


async def test_what_cannot_be_awaited(loop: Loop) -> None:
    class Odd:
        def __await__(self) -> Any:
            return 5

    async with served(loop) as (reader, _, _):
        for make in (object, Odd):
            with making(reader, make), pytest.raises(TypeError):
                await reader.read(1)
            assert vars(reader)["_waiter"] is None


async def test_a_wait_that_outlives_what_is_thrown_into_it(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        with making(reader, lambda: Stubborn(loop=loop)):
            call = reader.readline()
            waiter: Any = call.send(None)
            for times in range(1, 4):
                thrown: Any = call.throw(asyncio.CancelledError())
                assert thrown is waiter is vars(reader)["_waiter"]
                assert waiter.caught == times
            reader.feed_data(b"abc\n")
            with pytest.raises(StopIteration) as stopped:
                call.send(None)
            assert stopped.value.value == b"abc\n"
            # In a task, which throws when the future is done.
            reading = loop.create_task(reader.readline())
            await turns()
            waiter = vars(reader)["_waiter"]
            reading.cancel()
            await turns()
            assert not reading.done()
            peer.send(b"abc\n")
            assert await reading == b"abc\n"
            assert waiter.caught == 1
            assert vars(reader)["_waiter"] is None


async def test_a_wait_that_ends_with_what_is_thrown_into_it(loop: Loop) -> None:
    async with served(loop) as (reader, _, _):
        with making(reader, lambda: Stubborn(loop=loop)):
            call = reader.readexactly(3)
            first = call.send(None)
            # Bytes are still missing: it waits again.
            second: Any = call.throw(KeyError("x"))
            assert first is not second
            assert vars(reader)["_waiter"] is second
            seen(reader)._buffer.extend(b"abcd")
            with pytest.raises(StopIteration) as stopped:
                call.throw(KeyError("x"))
            assert stopped.value.value == b"abc"
            assert vars(reader)["_waiter"] is None
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                call.throw(KeyError("x"))
            # `read()` looks at nothing but the buffer after its wait.
            seen(reader)._buffer.clear()
            call = reader.read(3)
            call.send(None)
            with pytest.raises(StopIteration) as stopped:
                call.throw(KeyError("x"))
            assert stopped.value.value == b""


@pytest.mark.filterwarnings("ignore:the .* signature of throw")
@pytest.mark.parametrize("begun", [False, True])
async def test_what_throw_is_called_with(loop: Loop, begun: bool) -> None:
    class Odd(KeyError):
        pass

    odd = Odd(1)
    traceback: Any = None
    try:
        raise ValueError
    except ValueError as error:
        traceback = error.__traceback__
    cases: list[tuple[tuple[Any, ...], type[BaseException], tuple[Any, ...]]] = [
        ((KeyError,), KeyError, ()),
        ((KeyError("x"),), KeyError, ("x",)),
        ((KeyError, None), KeyError, ()),
        ((KeyError, "x"), KeyError, ("x",)),
        ((KeyError, ("x", "y")), KeyError, ("x", "y")),
        ((KeyError, ()), KeyError, ()),
        ((KeyError, odd), Odd, (1,)),
        ((Odd, KeyError("x")), Odd, (KeyError("x"),)),
        ((KeyError, "x", None), KeyError, ("x",)),
        ((KeyError, "x", traceback), KeyError, ("x",)),
    ]
    async with served(loop) as (reader, _, _):
        for args, kind, expected in cases:
            call: Any = reader.read(1)
            if begun:
                call.send(None)
            with pytest.raises(kind) as caught:
                call.throw(*args)
            assert type(caught.value) is kind
            assert repr(caught.value.args) == repr(expected)
            frames = []
            at = caught.value.__traceback__
            while at is not None:
                frames.append(at)
                at = at.tb_next
            assert (traceback in frames) == (len(args) == 3 and args[2] is not None)
            assert vars(reader)["_waiter"] is None
            with pytest.raises(RuntimeError):
                call.send(None)


@pytest.mark.filterwarnings("ignore:the .* signature of throw")
async def test_what_throw_is_not_called_with(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        call: Any = reader.read(3)
        for args in (
            (),
            (1, 2, 3, 4),
            (5,),
            (int,),
            (KeyError("x"), "y"),
            (KeyError, "x", 5),
        ):
            with pytest.raises(TypeError):
                call.throw(*args)
        # It has not noticed.
        reading = loop.create_task(call)
        await turns()
        with pytest.raises(TypeError):
            call.throw()
        assert not reading.done()
        peer.send(b"abc")
        assert await reading == b"abc"
        with pytest.raises(TypeError):
            call.throw()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="coroutines say since 3.11 that they wait")
async def test_what_inspect_sees(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        for count in (3, -1):
            call: Any = reader.read(count)
            assert not call.cr_suspended
            assert call.cr_origin is None
            reading = loop.create_task(call)
            await turns()
            assert call.cr_suspended
            assert not call.cr_running
            assert inspect.getcoroutinestate(call) == inspect.CORO_SUSPENDED
            assert "read" in repr(reading)
            peer.send(b"abc")
            if count < 0:
                peer.shutdown(socket.SHUT_WR)
            assert await reading == b"abc"
            assert not call.cr_suspended
            assert call.cr_frame is None
            assert inspect.getcoroutinestate(call) == inspect.CORO_CLOSED
            reading.get_stack()


# ---- memory ----


async def test_a_reader_goes_with_its_last_reference(loop: Loop) -> None:
    reader = asyncio.StreamReader(loop=loop)
    gone = weakref.ref(reader)
    _, writer, peer = await with_protocol(loop, reader, asyncio.StreamReaderProtocol)
    gc.disable()
    try:
        with peer:
            peer.send(b"abc")
            assert await reader.read(3) == b"abc"
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readexactly(1), 0.001)
            await writer.drain()
            await turns()
            vars(writer)["_reader"] = None
            del reader
            assert gone() is None
            # Nobody wants it.
            peer.send(b"abc")
            await turns(10)
            writer.transport.abort()
            await turns()
    finally:
        gc.enable()


async def test_collecting_all_the_time(loop: Loop) -> None:
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        async with served(loop) as (reader, writer, peer):
            for size in (1, 10, 1000, 50_000):
                reading = loop.create_task(reader.readexactly(size))
                await turns()
                await loop.sock_sendall(peer, b"x" * size)
                assert await reading == b"x" * size
                writer.write(b"y" * size)
                await writer.drain()
                assert await read_exactly(loop, peer, size) == b"y" * size
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(reader.readline(), 0.001)
    finally:
        gc.set_threshold(*threshold)


async def test_circles_are_found(loop: Loop) -> None:
    class Sentinel:
        pass

    async with served(loop) as (reader, _, _):
        sentinel: Any = Sentinel()
        gone = weakref.ref(sentinel)
        sentinel.call = reader.read(1)
        lone: Any = asyncio.StreamReader(loop=loop)
        lone.__class__ = type(reader)
        lone.sentinel = sentinel
        lone.call = lone.read(1)
        lone.call.send(None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            del sentinel, lone
            gc.collect()
        assert gone() is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's writers warn since 3.11")
async def test_a_writer_that_is_forgotten_warns(loop: Loop) -> None:
    with listening() as listener, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        peer, _ = await loop.sock_accept(listener)
        with peer:
            peer.send(b"abc")
            assert await reader.read(3) == b"abc"
            await writer.drain()
            del reader, writer
            gc.collect()
            await turns()
            assert await loop.sock_recv(peer, 1) == b""
        assert str(caught[0].message).startswith("unclosed <StreamWriter transport=<")
        await turns()


# ---- other ways to be ----


async def test_over_tls(loop: Loop, tls: Tls) -> None:
    async with over_tls(loop, tls) as (reader, writer, their_reader, their_writer):
        for size in (1, 1000, 20_000, 300_000, 5):
            data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            their_writer.write(data)
            got = await reader.readexactly(size)
            assert got == data
            writer.write(got)
            await writer.drain()
            assert await their_reader.readexactly(size) == data
        their_writer.write(b"line\nrest")
        assert await reader.readline() == b"line\n"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), 0.001)
        their_writer.close()
        assert await reader.read() == b"rest"


async def test_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    async with served(loop) as (reader, writer, peer):
        assert type(reader) is asyncio.StreamReader
        peer.send(b"abc\n")
        assert await reader.readline() == b"abc\n"
        await writer.drain()
        loop.set_debug(False)
        peer.send(b"abc\n")
        assert await reader.readline() == b"abc\n"
    async with served(loop) as (reader, _, peer):
        loop.set_debug(True)
        peer.send(b"abc\n")
        assert await reader.readline() == b"abc\n"


async def test_a_client(loop: Loop) -> None:
    async with stream(loop) as (reader, writer, peer):
        for size in (1, 5000, 100_000):
            sending = loop.create_task(loop.sock_sendall(peer, b"x" * size))
            assert await reader.readexactly(size) == b"x" * size
            await sending
            writer.write(b"y" * size)
            await writer.drain()
            assert await read_exactly(loop, peer, size) == b"y" * size


async def test_contexts_are_the_readers(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        tasks = set()

        async def read() -> bytes:
            task = asyncio.current_task()
            tasks.add(task)
            data = await reader.read(3)
            tasks.add(asyncio.current_task())
            return data

        reading = loop.create_task(read())
        await turns()
        peer.send(b"abc")
        assert await reading == b"abc"
        assert tasks == {reading}


async def test_what_was_received_whole_is_a_buffer_for_whoever_looks(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        # So that the reader has been read from as programs do.
        peer.send(b"first")
        assert await reader.read(100) == b"first"
        for size in (3, 1000, 50_000):
            for whole in (reader.read, reader.readexactly):
                peer.send(b"x" * size)
                await buffered(reader, size)
                buffer = seen(reader)._buffer
                assert type(buffer) is bytearray
                assert len(buffer) == size
                buffer[0:1] = b"y"
                buffer += b"z"
                assert seen(reader)._buffer is buffer
                assert await whole(size + 1) == b"y" + b"x" * (size - 1) + b"z"
                assert not reader.at_eof()
                assert seen(reader)._buffer == b""
        seen(reader)._buffer = bytearray(b"own")
        assert await reader.read(2) == b"ow"
        assert await reader.read(2) == b"n"
        del seen(reader)._buffer
        with pytest.raises(AttributeError, match="object has no attribute '_buffer'"):
            print(seen(reader)._buffer)
        seen(reader)._buffer = bytearray()


@pytest.mark.parametrize("size", [3, 700, 20_000])
async def test_parts_of_what_was_received_whole(loop: Loop, size: int) -> None:
    async with served(loop) as (reader, _, peer):
        line = b"l" * size + b"\n"
        for _ in range(3):
            peer.send(b"all")
            assert await reader.read(100) == b"all"
            # Looked at by one and taken by others, in pieces and with more coming behind.
            peer.send(line + b"rest")
            await buffered(reader, len(line) + 4)
            assert await reader.readline() == line
            peer.send(b"more" + line)
            await buffered(reader, 4 + 4 + len(line))
            assert await reader.readexactly(8) == b"restmore"
            assert await reader.readuntil(b"l\n") == line
            # Missing its end at first; the end comes in two pieces.
            reading = loop.create_task(reader.readuntil(b"ab"))
            await turns()
            for piece in (line + b"a", b"b", b"tail"):
                peer.send(piece)
                await turns()
            assert await reading == line + b"ab"
            assert await reader.read(10) == b"tail"


async def test_what_was_read_is_the_programs(loop: Loop) -> None:
    async with served(loop) as (reader, writer, peer):
        kept = []
        hashes = []
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for turn in range(600):
            message = b"%04d" % turn * (150 + turn % 7)
            peer.send(message)
            got = await reader.readexactly(len(message))
            if turn % 3 == 0:
                kept.append((turn, got))
                hashes.append(hash(got))
            else:
                # Kept by the transport, as long as it wants to.
                writer.write(got)
        for (turn, got), known in zip(kept, hashes, strict=True):
            assert got == b"%04d" % turn * (150 + turn % 7)
            assert hash(bytes(bytearray(got))) == known
        sent = [b"%04d" % turn * (150 + turn % 7) for turn in range(600) if turn % 3]
        await writer.drain()
        assert await read_exactly(loop, peer, sum(map(len, sent))) == b"".join(sent)


async def test_the_waiter_of_a_read_is_a_future(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        notes: list[str] = []
        reading = loop.create_task(reader.read(3))
        await turns()
        waiter: Any = vars(reader)["_waiter"]
        assert asyncio.isfuture(waiter)
        assert waiter.get_loop() is loop
        assert not waiter.done() and not waiter.cancelled()
        for ask in (waiter.result, waiter.exception):
            with pytest.raises(asyncio.InvalidStateError):
                ask()

        def told(future: Any) -> None:
            notes.append("told" if future is waiter else "odd")

        waiter.add_done_callback(told)
        waiter.add_done_callback(print)
        assert waiter.remove_done_callback(print) == 1
        assert waiter.remove_done_callback(print) == 0
        reader.feed_data(b"abc")
        assert waiter.done() and not waiter.cancelled()
        assert waiter.result() is None and waiter.exception() is None
        assert waiter.remove_done_callback(told) == 0
        assert waiter.cancel() is False
        with pytest.raises(asyncio.InvalidStateError):
            waiter.set_result(None)
        loop.call_soon(notes.append, "behind")
        assert await reading == b"abc"
        await turns()
        assert notes == ["told", "behind"]

        # Ended by hand, in every way.
        ends: list[Callable[[Any], object]] = [
            lambda future: future.set_result(None),
            lambda future: future.set_exception(KeyError("x")),
            lambda future: future.set_exception(KeyError),
            lambda future: future.cancel(),
            lambda future: future.cancel(msg="enough"),
        ]
        for end in ends:
            reading = loop.create_task(reader.read(3))
            await turns()
            waiter = vars(reader)["_waiter"]
            end(waiter)
            try:
                notes.append(repr(await reading))
            except BaseException as error:
                notes.append(type(error).__name__)
            assert vars(reader)["_waiter"] is None
        assert notes[2:] == ["b''", "KeyError", "KeyError", "CancelledError", "CancelledError"]
        with pytest.raises(TypeError):
            reading = loop.create_task(reader.read(3))
            await turns()
            try:
                vars(reader)["_waiter"].set_exception(5)
            finally:
                peer.send(b"end")
                assert await reading == b"end"


async def test_a_read_goes_on_in_its_turn(loop: Loop) -> None:
    async with served(loop) as (reader, _, _peer):
        for question in (lambda: reader.read(3), lambda: reader.readexactly(3), reader.readline):
            notes: list[str] = []

            async def read(notes: list[str] = notes, question: Any = question) -> None:
                await question()
                notes.append("read")
                loop.call_soon(notes.append, "after")

            reading = loop.create_task(read())
            await turns()
            loop.call_soon(notes.append, "before")
            reader.feed_data(b"ab\n")
            loop.call_soon(notes.append, "behind")
            assert notes == []
            await reading
            await turns()
            assert notes == ["before", "read", "behind", "after"]


async def test_cancelling_what_was_woken(loop: Loop) -> None:
    """Data and the cancellation in one iteration, in either order: no byte is lost."""
    async with served(loop) as (reader, _, peer):
        for cancel_first in (False, True):
            for question in (reader.read, reader.readexactly):
                reading = loop.create_task(question(3))
                await turns()
                steps: list[Callable[[], Any]] = [lambda: reader.feed_data(b"abc"), reading.cancel]
                for step in reversed(steps) if cancel_first else steps:
                    loop.call_soon(step)
                with pytest.raises(asyncio.CancelledError):
                    await reading
                assert vars(reader)["_waiter"] is None
                peer.send(b"def")
                await buffered(reader, 6)
                assert await reader.readexactly(6) == b"abcdef"


async def test_another_write_in_the_place_of_a_writers(loop: Loop) -> None:
    async with served(loop) as (_, writer, peer):
        notes: list[bytes] = []
        original = asyncio.StreamWriter.write

        def write(self: Writer, data: bytes) -> None:
            notes.append(data)
            original(self, data)

        with patched(asyncio.StreamWriter, "write", write):
            writer.write(b"one")
        writer.write(data=b"two")
        vars(writer)["write"] = notes.append
        writer.write(b"three")
        del vars(writer)["write"]
        transport = writer.transport
        vars(transport)["write"] = notes.append
        writer.write(b"four")
        del vars(transport)["write"]
        assert writer.write(b"five") is None  # type: ignore[func-returns-value]
        with pytest.raises(TypeError):
            writer.write()  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            writer.write("text")  # type: ignore[arg-type]
        assert notes == [b"one", b"three", b"four"]
        assert await read_exactly(loop, peer, 10) == b"onetwofive"


async def test_a_function_in_a_transports_dictionary_is_called(loop: Loop) -> None:
    """Put there with no attribute set; a server's writer asks `write` and `is_closing`."""
    async with served(loop) as (_, writer, peer):
        transport: Any = writer.transport
        write = transport.write
        vars(transport)["write"] = lambda data: write(data.upper())
        writer.write(b"hello")
        assert await read_exactly(loop, peer, 5) == b"HELLO"
        del vars(transport)["write"]
        asked: list[str] = []
        transport.is_closing = lambda: asked.append("is_closing")
        await writer.drain()
        assert asked == ["is_closing"]
        del transport.is_closing
        writer.write(b"hello")
        assert await read_exactly(loop, peer, 5) == b"hello"


@pytest.mark.parametrize("name", ["StreamReader", "StreamWriter"])
async def test_a_server_makes_its_streams_of_the_modules_classes(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Even those that stand there only after the server was started."""
    mine = type("Mine", (getattr(asyncio.streams, name),), {})
    made: asyncio.Queue[tuple[Reader, Writer]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *streams: made.put_nowait(streams), "127.0.0.1", 0)
    async with server:
        for replaced in (False, True):
            if replaced:
                monkeypatch.setattr(asyncio.streams, name, mine)
            with socket.create_connection(server.sockets[0].getsockname()):
                streams = await made.get()
                assert (mine in map(type, streams)) is replaced
                streams[1].transport.abort()
                await turns()


async def test_each_end_has_an_exception_of_its_own(loop: Loop) -> None:
    """Whoever asks step by step may keep the `StopIteration` in which a result comes."""
    async with served(loop) as (reader, _, peer):
        kept: list[StopIteration] = []
        for data in (b"one", b"two", b"three"):
            peer.sendall(data)
            while not reader._buffer:  # type: ignore[attr-defined]
                await turns()
            with pytest.raises(StopIteration) as raised:
                next(reader.read(100).__await__())
            kept.append(raised.value)
        assert [end.value for end in kept] == [b"one", b"two", b"three"]
        assert [end.args for end in kept] == [(b"one",), (b"two",), (b"three",)]


async def test_an_exception_that_was_handled_does_not_stick_to_a_result(loop: Loop) -> None:
    async with served(loop) as (reader, _, peer):
        for _ in range(3):
            peer.sendall(b"data")
            try:
                raise ValueError
            except ValueError:
                assert await reader.read(100) == b"data"
