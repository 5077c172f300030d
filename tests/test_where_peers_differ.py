"""What asyncio's loop does and other loops for Python do not: each test is one such sentence.

Seen with uvloop 0.23.0, rloop 0.5.0, zuvloop 0.0.17 and rsloop 0.1.66, on CPython 3.14.10 and
x86-64 Linux, each test in a process of its own (CONTRIBUTING.md says how).  "All" is all four.

==================================================  =============================================
Sentence                                            Who fails it
==================================================  =============================================
Nothing that a program does ends its process
- an exception out of a stream protocol             rloop: get_buffer aborts, connection_made leaves
                                                    the loop, others are not reported; uvloop: other
                                                    reports, and after connection_made no reading;
                                                    zuvloop: other reports; rsloop: others, or none
- an exception out of a client's factory            rloop aborts
- an exception out of a server's factory            rloop aborts; uvloop serves nobody any more;
                                                    zuvloop, rsloop report what asyncio does not
- an exception out of a datagram protocol           rloop, rsloop do not report it; uvloop gives a
                                                    context without a message, or prints it;
                                                    zuvloop gives another report
- a transport's descriptor given to add_reader()    rloop aborts; rsloop takes it; zuvloop:
                                                    FileExistsError
- calls from a foreign thread                       rloop aborts in write()
- calls from a foreign thread in debug mode         rloop, zuvloop, rsloop do not refuse them
- a regular file given to connect_read_pipe()       uvloop aborts; rloop and rsloop take it, and
                                                    rloop closes it; zuvloop has another message
How a connection ends
- close() puts a FIN on the wire                    rloop: not while the transport is held
- a reset reaches connection_lost()                 rloop: not at all; rsloop: as RuntimeError
- connection_lost() comes once, from the loop       rloop calls it inside close() and abort()
Classes
- stream, pipe and subprocess transports            uvloop, rloop, rsloop
- datagram transports                               uvloop, rloop, rsloop
- handles                                           all
- servers, transports' sockets                      uvloop, rloop, rsloop
Descriptors
- create_connection(sock=) that is cancelled        none of the four
- a pipe that was refused                           uvloop aborts; rloop, rsloop do not refuse it
- a pipe is closed once, by its own object          rsloop does not close it
Writing
- the low-water mark is 16 KiB                      uvloop: 16 bytes
- a write after close warns and is dropped          all: no warning
- a buffer that is queued is copied                 uvloop, also for a pipe
Time
- timers are never early                            uvloop: by up to half a millisecond
- equal deadlines fire in order                     rloop, rsloop; uvloop at times
- deadlines fire in order, however near             uvloop: not within a millisecond
- a delay of nothing gives a TimerHandle            uvloop, rloop, rsloop
- the loop's time is the monotonic clock's          uvloop: that of a while ago, in milliseconds;
                                                    rloop, rsloop: that since the loop was made
- no spinning while a deadline is near              none of the four
- a loop sleeps until its deadline                  rsloop wakes twenty times a second
Servers
- wait_closed() waits for clients                   uvloop, rloop
- serve_forever() ends by close()                   uvloop: never; rsloop: without CancelledError
Datagrams
- a refusal is told and the endpoint lives          rloop
- an empty datagram is sent                         uvloop, rloop
- an IPv6 address has four parts                    rloop: two
Names
- an IPv6 zone survives getaddrinfo()               uvloop
- numeric hosts need no thread                      uvloop, rsloop
Errors, signals, processes
- the exception handler gets the loop               rloop: the context alone; rsloop: a context with
                                                    a text for a handle
- SIGCHLD can be handled                            uvloop, rsloop refuse it; rloop cannot take the
                                                    handler back
- a subprocess runs no fork hooks                   uvloop runs all three kinds
==================================================  =============================================
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .connections import serving
from .datagrams import DatagramRecorder, deaf_port, endpoint, udp_socket
from .pipes import LARGE, Counted, anonymous, both
from .pipes import read_exactly as read_exactly_from_pipe
from .processes import ProcessRecorder, sh
from .running import Programs
from .support import (
    BIG,
    Changes,
    Context,
    Loop,
    Recorder,
    fill,
    oracle_since,
    oracle_when,
    read_all,
    read_exactly,
    records,
    reset,
    tcp_pair,
    turns,
)

#: Said to every program that is run here: the maker of its loop, and what a test adds.
PREAMBLE = """
import asyncio, contextlib, os, pkgutil, signal, socket, sys, threading, time

loop = pkgutil.resolve_name(sys.argv[1])()
argument = sys.argv[-1]

reports = []

def report(*arguments):
    context = arguments[-1]
    reports.append(context)
    print("report:", context["message"])
    print("  of:", repr(context.get("exception")))

loop.set_exception_handler(report)

async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)

def pair():
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    return ours, peer
"""

POSTSCRIPT = """
loop.run_until_complete(main())
print("ran to its end")
loop.close()
"""

#: Seconds by which a deadline may be off: a nanosecond, or what a float of a long uptime is off by.
ROUNDING = 1e-6

Output = Callable[..., "list[str]"]


@pytest.fixture
def output(loop_maker: str, tmp_path: Path) -> Output:
    """What a program prints that is a coroutine function `main`, and comes to its end.

    It is a process of its own: what it proves is that nothing ends the process.
    """
    programs = Programs(tmp_path)

    def run(program: str, argument: str = "") -> list[str]:
        text = PREAMBLE + textwrap.dedent(program) + POSTSCRIPT
        done = programs.python(programs.write("program.py", text), loop_maker, argument)
        assert (done.returncode, done.stderr) == (0, "")
        *lines, last = done.stdout.splitlines()
        assert last == "ran to its end"
        return lines

    return run


@contextlib.asynccontextmanager
async def connected(
    loop: Loop, protocol: Recorder
) -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A TCP transport and its peer's socket; asks nothing of the transport in the end but that."""
    ours, peer = tcp_pair()
    with peer:
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        try:
            yield transport, peer
        finally:
            if not protocol.lost:
                transport.abort()
                await protocol.until_lost()
            await turns()


# ---- nothing that a program does ends its process ----


STREAM = """
    class Oops(Exception):
        pass

    def fail(*arguments):
        raise Oops(argument)

    class Protocol(asyncio.BufferedProtocol if "buffer" in argument else asyncio.Protocol):
        buffer = bytearray(100)
        lost = None

        def connection_made(self, transport):
            pass

        def get_buffer(self, hint):
            return self.buffer

        def connection_lost(self, error):
            self.lost = repr(error)

    async def main():
        setattr(Protocol, argument, fail)
        ours, peer = pair()
        transport, protocol = await loop.create_connection(Protocol, sock=ours)
        if argument.endswith("_writing"):
            transport.write(b"x" * 1_000_000)
            received = 0
            while received < 1_000_000:
                received += len(await loop.sock_recv(peer, 65536))
        await loop.sock_sendall(peer, b"data")
        await turns(5)
        peer.close()
        if argument == "connection_lost":
            while not reports:
                await turns(1)
        else:
            while protocol.lost is None:
                await turns(1)
            print("lost:", protocol.lost)
"""

FATAL = "report: Fatal error: protocol.{}() call failed."


@pytest.mark.parametrize(
    ("callback", "message", "end"),
    [
        ("connection_made", "report: Exception in callback", "None"),
        ("data_received", FATAL, "Oops('data_received')"),
        ("eof_received", FATAL, "Oops('eof_received')"),
        ("get_buffer", FATAL, "Oops('get_buffer')"),
        ("buffer_updated", FATAL, "Oops('buffer_updated')"),
        ("pause_writing", "report: protocol.{}() failed", "None"),
        ("resume_writing", "report: protocol.{}() failed", "None"),
        ("connection_lost", "report: Exception in callback", None),
    ],
)
def test_an_exception_out_of_a_stream_protocol_is_reported(
    output: Output, callback: str, message: str, end: str | None
) -> None:
    reported, error, *rest = output(STREAM, callback)
    assert reported.startswith(message.format(callback))
    assert error == f"  of: Oops('{callback}')"
    assert rest == ([f"lost: {end}"] if end else [])


def test_an_exception_out_of_a_clients_factory_is_the_callers(output: Output) -> None:
    program = """
        def factory():
            raise LookupError("factory")

        async def main():
            ours, peer = pair()
            try:
                await loop.create_connection(factory, sock=ours)
            except LookupError as error:
                print(repr(error))
    """
    assert output(program) == ["LookupError('factory')"]


def test_an_exception_out_of_a_servers_factory_leaves_it_serving(output: Output) -> None:
    program = """
        class Greeter(asyncio.Protocol):
            def connection_made(self, transport):
                transport.write(b"hello")
                transport.close()

        calls = []

        def factory():
            calls.append(True)
            if len(calls) == 1:
                raise LookupError("factory")
            return Greeter()

        async def main():
            server = await loop.create_server(factory, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            with socket.create_connection(address), socket.create_connection(address) as second:
                second.setblocking(False)
                print(await loop.sock_recv(second, 5))
            server.close()
    """
    assert output(program) == ["b'hello'"]


DATAGRAM = """
    class Oops(Exception):
        pass

    def fail(*arguments):
        calls.append(argument)
        raise Oops(argument)

    calls = []

    async def main():
        Protocol = type("Protocol", (asyncio.DatagramProtocol,), {argument: fail})
        nobody = socket.socket(type=socket.SOCK_DGRAM)
        nobody.bind(("127.0.0.1", 0))
        nobody.connect(nobody.getsockname())
        transport, _ = await loop.create_datagram_endpoint(
            Protocol, remote_addr=nobody.getsockname()
        )
        if argument == "datagram_received":
            nobody.connect(transport.get_extra_info("sockname"))
            nobody.send(b"data")
        else:
            transport.sendto(b"refused")
        while not calls:
            await turns(1)
        await turns(3)
        print(transport.is_closing())
        transport.close()
        await turns(3)
"""


@pytest.mark.parametrize("callback", ["datagram_received", "error_received"])
def test_an_exception_out_of_a_datagram_protocol_is_reported(output: Output, callback: str) -> None:
    reported, error, closing = output(DATAGRAM, callback)
    assert reported.startswith("report: Exception in callback")
    assert error == f"  of: Oops('{callback}')"
    assert closing == "False", "the endpoint lives"


def test_a_transports_descriptor_is_not_for_readers_and_writers(output: Output) -> None:
    program = """
        async def main():
            ours, peer = pair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            number = transport.get_extra_info("socket").fileno()
            for method, *arguments in (
                (loop.add_reader, number, print),
                (loop.add_writer, number, print),
                (loop.remove_reader, number),
                (loop.remove_writer, number),
            ):
                try:
                    method(*arguments)
                except RuntimeError as error:
                    print(str(error).replace(str(number), "N").partition(" <")[0])
            transport.close()
            await turns(3)
    """
    assert output(program) == ["File descriptor N is used by transport"] * 4


def test_a_foreign_thread_may_call_what_is_the_loops(output: Output) -> None:
    """It is not safe to, and it takes effect when the loop wakes; but nothing dies of it."""
    program = """
        called = []

        def foreign():
            loop.call_soon(called.append, "soon")
            loop.call_later(0, called.append, "later")
            loop.call_later(3600, called.append, "never").cancel()
            transport.write(b"from a thread")
            transport.pause_reading()
            transport.resume_reading()
            transport.close()
            future.set_result("set")
            try:
                loop.run_forever()
            except RuntimeError:
                print("refused")
            loop.call_soon_threadsafe(woken.set)

        async def main():
            global future, transport, woken
            woken = asyncio.Event()
            future = loop.create_future()
            ours, peer = pair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            thread = threading.Thread(target=foreign)
            thread.start()
            await woken.wait()
            thread.join()
            await turns(5)
            print(sorted(called), await future)
            print(await loop.sock_recv(peer, 100), await loop.sock_recv(peer, 100))
    """
    assert output(program) == [
        "refused",
        "['later', 'soon'] set",
        "b'from a thread' b''",
    ]


async def test_a_foreign_thread_is_refused_in_debug_mode(loop: Loop) -> None:
    refused: list[str] = []

    def foreign() -> None:
        calls: list[Callable[[], object]] = [
            lambda: loop.call_soon(int),
            lambda: loop.call_later(0, int),
            lambda: loop.call_at(0, int),
        ]
        for call in calls:
            try:
                call()
            except RuntimeError as error:
                refused.append(str(error))

    loop.set_debug(True)
    thread = threading.Thread(target=foreign)
    thread.start()
    thread.join()
    loop.set_debug(False)
    text = "Non-thread-safe operation invoked on an event loop other than the current one"
    assert refused == [text] * 3


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_a_regular_file_is_no_pipe(output: Output, method: str) -> None:
    """The file stays as it was: open, blocking, and its owner's."""
    program = """
        async def main():
            with open("file", "w+b", 0) as file:
                file.write(b"content")
                file.seek(0)
                try:
                    await getattr(loop, argument)(asyncio.Protocol, file)
                except ValueError as error:
                    print(error)
                await turns(3)
                print(os.get_blocking(file.fileno()), file.read())
    """
    assert output(program, method) == [
        "Pipe transport is for pipes/sockets only."
        if method == "connect_read_pipe"
        else "Pipe transport is only for pipes, sockets and character devices",
        "True b'content'",
    ]


# ---- how a connection ends ----


async def test_close_puts_a_fin_on_the_wire_while_the_program_holds_the_transport(
    loop: Loop,
) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.close()
        assert await asyncio.wait_for(read_all(loop, peer), 5) == b""
        assert transport.is_closing()


async def test_what_is_written_before_close_comes_before_the_fin(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.close()
        assert len(await asyncio.wait_for(read_all(loop, peer), 10)) == BIG
        await protocol.until_lost()
        assert protocol.error is None


@pytest.mark.parametrize("paused", [False, True])
async def test_a_reset_reaches_connection_lost_with_the_error(loop: Loop, paused: bool) -> None:
    """Also when the transport only writes."""
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        if paused:
            transport.pause_reading()
            transport.write(b"x" * BIG)
            await turns()
        reset(peer)
        await asyncio.wait_for(protocol.until_lost(), 5)
        await turns()
        assert [call[0] for call in protocol.calls].count("connection_lost") == 1
        assert isinstance(protocol.error, (ConnectionResetError, BrokenPipeError))


class Closing(Recorder):
    """Closes its transport in one of its callbacks, in every way that it is given."""

    def __init__(self, where: str, how: tuple[str, ...]) -> None:
        super().__init__()
        self.where, self.how = where, how
        #: What was called before close() or abort() had returned.
        self.inside: list[Any] = []

    def note(self, *call: Any) -> None:
        super().note(*call)
        if call[0] == self.where:
            for method in self.how:
                before = len(self.calls)
                getattr(self.transport, method)()
                self.inside.extend(self.calls[before:])


@pytest.mark.parametrize("how", [("close",), ("abort",), ("close", "abort", "close")])
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
async def test_connection_lost_is_called_once_and_from_the_loop(
    loop: Loop, where: str, how: tuple[str, ...]
) -> None:
    """Never inside close() or abort()."""
    protocol = Closing(where, how)
    ours, peer = tcp_pair()
    with ours, peer:
        peer.send(b"data")
        peer.shutdown(socket.SHUT_WR)
        await loop.create_connection(lambda: protocol, sock=ours)
        await asyncio.wait_for(protocol.until_lost(), 5)
        await turns(5)
    assert protocol.inside == []
    losses = [call for call in protocol.calls if call[0] == "connection_lost"]
    assert losses == [("connection_lost", None)]


# ---- classes ----


async def test_transports_are_instances_of_asyncios_classes(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, _):
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.ReadTransport)
        assert isinstance(transport, asyncio.WriteTransport)
    process = ProcessRecorder()
    await loop.subprocess_exec(lambda: process, *sh("read line"))
    try:
        assert isinstance(process.transport, asyncio.SubprocessTransport)
        assert isinstance(process.transport.get_pipe_transport(0), asyncio.WriteTransport)
        assert isinstance(process.transport.get_pipe_transport(1), asyncio.ReadTransport)
    finally:
        process.transport.close()
        await process.until_lost()


@oracle_since((3, 12), "asyncio's datagram transport derives from Transport alone")
async def test_a_datagram_transport_is_an_instance_of_asyncios_class(loop: Loop) -> None:
    async with endpoint(loop, DatagramRecorder()) as transport:
        assert isinstance(transport, asyncio.DatagramTransport)


async def test_handles_are_instances_of_asyncios_classes(loop: Loop) -> None:
    soon = loop.call_soon(int)
    threadsafe = loop.call_soon_threadsafe(int)
    later = loop.call_later(3600, int)
    due = loop.call_later(0, int)
    at = loop.call_at(loop.time() + 3600, int)
    for handle in (soon, threadsafe, later, due, at):
        assert isinstance(handle, asyncio.Handle)
    for timer in (later, due, at):
        assert isinstance(timer, asyncio.TimerHandle)
        timer.cancel()


async def test_a_server_is_an_instance_of_asyncios_class(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    try:
        assert isinstance(server, asyncio.AbstractServer)
    finally:
        server.close()
        await server.wait_closed()


async def test_a_transports_socket_is_a_transport_socket(loop: Loop) -> None:
    from asyncio.trsock import TransportSocket

    async with connected(loop, Recorder()) as (transport, _):
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, TransportSocket)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    async with serving(loop, Recorder) as (server, _):
        (listener,) = server.sockets
        assert isinstance(listener, TransportSocket)


# ---- descriptors ----


@contextlib.contextmanager
def not_closed_by_another() -> Iterator[None]:
    """What opens next gets the lowest number that is free; nobody but its owner may close it."""
    numbers = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
    marks = [os.fstat(number) for number in numbers]
    yield
    gc.collect()
    assert [os.fstat(number) for number in numbers] == marks
    for number in numbers:
        os.close(number)


@pytest.mark.parametrize("steps", range(4))
async def test_a_cancelled_create_connection_closes_its_socket_once(loop: Loop, steps: int) -> None:
    protocol = Recorder()
    ours, peer = tcp_pair()
    with peer:
        creating = loop.create_task(loop.create_connection(lambda: protocol, sock=ours))
        await turns(steps)
        if creating.done():
            creating.result()[0].close()
        else:
            creating.cancel()
            await asyncio.wait([creating])
        await turns(5)
        if steps:
            assert ours.fileno() == -1, "the socket itself was closed, not its number alone"
        with not_closed_by_another():
            ours.close()
            del creating, ours
            gc.collect()
            await turns(5)


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
async def test_a_pipe_that_was_refused_is_closed_by_its_owner_alone(
    loop: Loop, tmp_path: Path, method: str
) -> None:
    with (tmp_path / "file").open("w+b", 0) as file:
        number = file.fileno()
        with pytest.raises(ValueError, match="Pipe transport"):
            await getattr(loop, method)(Recorder, file)
        gc.collect()
        await turns()
        os.fstat(number)
        assert not file.closed
    with not_closed_by_another():
        await turns(5)


async def test_a_pipe_is_closed_once_and_by_its_own_object(loop: Loop, tmp_path: Path) -> None:
    with both(anonymous(tmp_path)) as ends:
        pipe = Counted(ends.reading)
        protocol = Recorder()
        transport, _ = await loop.connect_read_pipe(lambda: protocol, pipe)
        transport.close()
        await protocol.until_lost()
        await turns()
        assert pipe.closed == 1
        assert ends.reading.closed
        with not_closed_by_another():
            del transport, protocol.transport
            gc.collect()
            await turns()


# ---- writing ----


async def test_the_low_water_mark_is_16_kib(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


async def test_a_write_after_close_warns_and_is_dropped(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    protocol = Recorder()
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"before")
        transport.close()
        for _ in range(10):
            transport.write(b"after")
        assert set(records(caplog, "WARNING")) == {"socket.send() raised exception."}
        assert await asyncio.wait_for(read_all(loop, peer), 5) == b"before"
        await protocol.until_lost()
        assert protocol.error is None


@oracle_when(sys.version_info < (3, 12), "since 3.12 it keeps a view of the caller's buffer")
@pytest.mark.parametrize("as_view", [False, True])
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_a_buffer_that_is_queued_is_copied(loop: Loop, method: str, as_view: bool) -> None:
    """What the program does to it afterwards is not sent."""
    async with connected(loop, Recorder()) as (transport, peer):
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same:
            filled = fill(same)
        data = bytearray(b"o" * 100_000)
        given: Any = memoryview(data) if as_view else data
        if method == "write":
            transport.write(given)
        else:
            transport.writelines([given[:50_000], given[50_000:]])
        data[:] = b"n" * len(data)
        received = await read_exactly(loop, peer, filled + len(data))
        assert received[filled:] == b"o" * len(data)


@pytest.mark.parametrize("as_view", [False, True])
async def test_a_buffer_that_is_queued_for_a_pipe_is_copied(
    loop: Loop, tmp_path: Path, as_view: bool
) -> None:
    protocol = Recorder()
    with both(anonymous(tmp_path)) as ends:
        transport, _ = await loop.connect_write_pipe(lambda: protocol, ends.writing)
        data = bytearray(b"o" * LARGE)
        transport.write(memoryview(data) if as_view else data)
        assert transport.get_write_buffer_size() > 0
        data[:] = b"n" * len(data)
        assert await read_exactly_from_pipe(loop, ends.reading, LARGE) == b"o" * LARGE
        transport.abort()
        await protocol.until_lost()
        await turns()


# ---- time ----


async def test_a_timer_is_never_early(loop: Loop) -> None:
    """By the clock of the system, and to its resolution."""
    early: list[float] = []
    for number in range(30):
        delay = 0.0004 + number * 0.0001
        done = loop.create_future()
        begin = time.monotonic()
        loop.call_later(delay, done.set_result, None)
        await done
        early.append(begin + delay - time.monotonic())
    assert max(early) < ROUNDING


async def test_equal_deadlines_fire_in_order(loop: Loop) -> None:
    for _ in range(20):
        calls: list[int] = []
        when = loop.time() + 0.001
        loop.call_at(when, calls.append, 1)
        loop.call_at(when, calls.append, 2)
        done = loop.create_future()
        loop.call_at(when + 0.0005, done.set_result, None)
        await done
        assert calls == [1, 2]


async def test_deadlines_fire_in_order_however_near_they_are(loop: Loop) -> None:
    calls: list[int] = []
    now = loop.time() + 0.001
    for number in reversed(range(10)):
        loop.call_at(now + number * 0.00001, calls.append, number)
    done = loop.create_future()
    loop.call_at(now + 0.001, done.set_result, None)
    await done
    assert calls == list(range(10))


async def test_a_delay_of_nothing_gives_a_timer_handle(loop: Loop) -> None:
    handle = loop.call_later(0, int)
    assert isinstance(handle, asyncio.TimerHandle)
    assert handle.when() <= loop.time()
    handle.cancel()
    assert handle.cancelled()


async def test_the_loops_time_is_the_monotonic_clocks(loop: Loop) -> None:
    for _ in range(5):
        before = time.monotonic()
        now = loop.time()
        assert before <= now <= time.monotonic()
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass


async def test_a_loop_does_not_spin_while_a_deadline_is_near(loop: Loop) -> None:
    """Deadlines of which a clock of milliseconds sees the last part only."""
    begin, used = time.monotonic(), time.thread_time()
    for _ in range(100):
        await asyncio.sleep(0.0019)
    share = (time.thread_time() - used) / (time.monotonic() - begin)
    assert share < 0.3


async def test_a_loop_sleeps_until_its_deadline(loop: Loop) -> None:
    """It does not wake before, to see whether there is anything."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    await asyncio.sleep(0.3)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < 5


# ---- servers ----


@oracle_since((3, 12, 1), "wait_closed() does not wait for clients")
async def test_wait_closed_waits_for_clients(loop: Loop) -> None:
    served = Recorder()
    server = await loop.create_server(lambda: served, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        await served.until(lambda: served.calls)
        server.close()
        waiters = [asyncio.ensure_future(server.wait_closed())]
        await turns(5)
        waiters.append(asyncio.ensure_future(server.wait_closed()))
        await turns(5)
        early = [waiter.done() for waiter in waiters]
        served.transport.close()
        await asyncio.wait(waiters, timeout=5)
        assert early == [False, False], "also when asked after close()"
        assert served.lost


async def test_serve_forever_ends_when_the_server_is_closed(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    serving = asyncio.ensure_future(server.serve_forever())
    await turns()
    server.close()
    await asyncio.wait([serving], timeout=2)
    ended = serving.done()
    serving.cancel()
    await asyncio.wait([serving])
    assert ended
    assert serving.cancelled()


# ---- datagrams ----


async def test_a_refusal_is_told_and_the_endpoint_lives(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with deaf_port() as port:
        async with endpoint(loop, protocol, remote_addr=("127.0.0.1", port)) as transport:
            for count in (1, 2):
                transport.sendto(b"nobody hears this")
                error = await asyncio.wait_for(protocol.until_error(count), 5)
                assert isinstance(error, ConnectionRefusedError)
                assert not transport.is_closing()
    assert protocol.losses == [None]


@oracle_since((3, 13), "empty datagrams are not sent")
@pytest.mark.parametrize("connect", [False, True])
async def test_an_empty_datagram_is_sent(loop: Loop, connect: bool) -> None:
    with udp_socket() as peer:
        address = peer.getsockname()
        options = {"remote_addr": address} if connect else {"local_addr": ("127.0.0.1", 0)}
        async with endpoint(loop, DatagramRecorder(), **options) as transport:
            for data in (b"", b"after"):
                transport.sendto(data, None if connect else address)
            received = [await asyncio.wait_for(loop.sock_recv(peer, 100), 5) for _ in range(2)]
            assert received == [b"", b"after"]


async def test_an_ipv6_address_has_four_parts(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol, local_addr=("::1", 0)) as transport:
        address = transport.get_extra_info("sockname")
        assert len(address) == 4
        with udp_socket(socket.AF_INET6) as peer:
            peer.sendto(b"hello", address)
            await asyncio.wait_for(protocol.until_received(1), 5)
            assert protocol.received == [(b"hello", peer.getsockname())]
            transport.sendto(b"answer", peer.getsockname())
            assert await loop.sock_recv(peer, 100) == b"answer"


# ---- names ----


async def test_an_ipv6_zone_survives_getaddrinfo(loop: Loop) -> None:
    expected: Any = socket.getaddrinfo("fe80::1%lo", 80, type=socket.SOCK_STREAM)
    assert expected[0][4][3] == socket.if_nametoindex("lo")
    assert await loop.getaddrinfo("fe80::1%lo", 80, type=socket.SOCK_STREAM) == expected


def test_numeric_hosts_need_no_thread(output: Output) -> None:
    program = """
        async def main():
            before = len(os.listdir("/proc/self/task"))
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            endpoint, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, ("127.0.0.1", 0), ("127.0.0.1", 9)
            )
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
            print(len(os.listdir("/proc/self/task")) - before)
            transport.close()
            endpoint.close()
            server.close()
            await turns(10)
    """
    assert output(program) == ["0"]


# ---- errors, signals, processes ----


async def test_the_exception_handler_gets_the_loop_and_the_context(loop: Loop) -> None:
    calls: list[tuple[Any, ...]] = []
    loop.set_exception_handler(lambda *arguments: calls.append(arguments))

    def fail() -> None:
        raise LookupError("reported")

    handle = loop.call_soon(fail)
    await turns(2)
    ((given, context),) = calls
    assert given is loop
    assert isinstance(context["exception"], LookupError)
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback")
    mine: Context = {"message": "mine"}
    loop.call_exception_handler(mine)
    assert calls[1:] == [(loop, mine)]


async def test_sigchld_can_be_handled(loop: Loop) -> None:
    heard: list[str] = []
    changes = Changes()

    def handler(word: str) -> None:
        heard.append(word)
        changes.changed()

    loop.add_signal_handler(signal.SIGCHLD, handler, "heard")
    try:
        protocol = ProcessRecorder()
        await loop.subprocess_exec(lambda: protocol, *sh("exit 3"))
        await asyncio.wait_for(changes.until(lambda: heard), 5)
        await asyncio.wait_for(protocol.until_lost(), 5)
        assert protocol.returncode == 3
        heard.clear()
        os.kill(os.getpid(), signal.SIGCHLD)
        await asyncio.wait_for(changes.until(lambda: heard), 5)
    finally:
        assert loop.remove_signal_handler(signal.SIGCHLD)


def test_a_subprocess_runs_no_fork_hooks(output: Output) -> None:
    """Neither in this process nor in the child, as long as it is given no preexec_fn."""
    program = """
        def hook(name):
            def run():
                os.write(1, name.encode() + b" ran\\n")
            return run

        os.register_at_fork(
            before=hook("before"),
            after_in_parent=hook("after in parent"),
            after_in_child=hook("after in child"),
        )

        class Protocol(asyncio.SubprocessProtocol):
            def connection_lost(self, error):
                ended.set_result(None)

        async def main():
            global ended
            ended = loop.create_future()
            transport, _ = await loop.subprocess_exec(Protocol, "/bin/sh", "-c", "exit 5")
            await ended
            print(transport.get_returncode())
            transport.close()
    """
    assert output(program) == ["5"]
