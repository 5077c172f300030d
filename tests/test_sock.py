"""Layer 1: sock_recv, sock_recv_into and sock_sendall, and cancelling every operation."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import socket
import ssl
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .connections import connected
from .support import (
    BIG,
    Loop,
    LoopFactory,
    Recorder,
    fill,
    listening,
    read_all,
    read_exactly,
    reset,
    tcp_pair,
    turns,
    unix_pair,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[tcp_pair, unix_pair])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    left, right = request.param()
    with left, right:
        yield left, right


async def test_receive_what_is_there(loop: Loop, pair: Pair) -> None:
    left, right = pair
    right.send(b"hello")
    await loop.sock_sendall(right, b" there")
    assert await read_exactly(loop, left, 11) == b"hello there"


async def test_receive_waits(loop: Loop, pair: Pair) -> None:
    left, right = pair
    task = loop.create_task(loop.sock_recv(left, 100))
    await turns(3)
    assert not task.done()
    right.send(b"now")
    assert await task == b"now"


async def test_receive_at_most_what_was_asked(loop: Loop, pair: Pair) -> None:
    left, right = pair
    right.send(b"abcdef")
    assert await loop.sock_recv(left, 2) == b"ab"
    assert await loop.sock_recv(left, 100) == b"cdef"


@pytest.mark.parametrize("how", ["close", "throw", "send"])
async def test_what_was_left_by_hand_takes_nothing(loop: Loop, pair: Pair, how: str) -> None:
    """An operation whose coroutine has ended without it leaves what comes to the next one."""
    left, right = pair
    abandoned = loop.sock_recv(left, 100)
    abandoned.send(None)
    if how == "close":
        abandoned.close()
    elif how == "throw":
        with pytest.raises(KeyError):
            abandoned.throw(KeyError("x"))
    else:
        with pytest.raises(RuntimeError, match="await wasn't used with future"):
            abandoned.send(None)
    task = loop.create_task(loop.sock_recv(left, 100))
    await turns(1)
    right.send(b"for the next")
    assert await asyncio.wait_for(task, 10) == b"for the next"


async def test_end_of_stream_is_empty(loop: Loop, pair: Pair) -> None:
    left, right = pair
    task = loop.create_task(loop.sock_recv(left, 100))
    await turns(1)
    right.shutdown(socket.SHUT_WR)
    assert await task == b""
    assert await loop.sock_recv(left, 100) == b""


async def test_receive_into_a_buffer(loop: Loop, pair: Pair) -> None:
    left, right = pair
    buffer = bytearray(b"........")
    task = loop.create_task(loop.sock_recv_into(left, memoryview(buffer)[2:6]))
    await turns(1)
    right.send(b"123456")
    assert await task == 4
    assert buffer == b"..1234.."
    assert await loop.sock_recv_into(left, buffer) == 2
    assert buffer == b"561234.."


async def test_receive_into_reports_end_of_stream(loop: Loop, pair: Pair) -> None:
    left, right = pair
    right.close()
    assert await loop.sock_recv_into(left, bytearray(1)) == 0


async def test_receive_into_wants_a_writable_buffer(loop: Loop, pair: Pair) -> None:
    left, right = pair
    right.send(b"x")
    with pytest.raises(TypeError):
        await loop.sock_recv_into(left, b"read only")


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
async def test_send_everything(loop: Loop, pair: Pair, wrap: Callable[[bytes], Any]) -> None:
    """More than the kernel takes at once; the reader drains while the sender waits."""
    left, right = pair
    data = bytes(range(256)) * (BIG // 256)
    task = loop.create_task(loop.sock_sendall(left, wrap(data)))
    assert await read_exactly(loop, right, len(data)) == data
    await task


async def test_send_nothing(loop: Loop, pair: Pair) -> None:
    left, right = pair
    await loop.sock_sendall(left, b"")
    left.close()
    assert await read_all(loop, right) == b""


async def test_send_wants_bytes(loop: Loop, pair: Pair) -> None:
    left, _ = pair
    with pytest.raises(TypeError, match=r"bytes-like object is required, not 'str'"):
        await loop.sock_sendall(left, "text")  # type: ignore[arg-type]


async def test_send_to_a_peer_that_is_gone(loop: Loop, pair: Pair) -> None:
    left, right = pair
    fill(left)
    task = loop.create_task(loop.sock_sendall(left, b"x" * BIG))
    await turns(2)
    reset(right)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await task


async def test_receive_after_a_reset(loop: Loop) -> None:
    left, right = tcp_pair()
    with left:
        task = loop.create_task(loop.sock_recv(left, 1))
        await turns(2)
        reset(right)
        with pytest.raises(ConnectionResetError):
            await task


@pytest.mark.parametrize("name", ["sock_recv", "sock_recv_into", "sock_sendall", "sock_accept"])
async def test_cancelled_while_waiting(loop: Loop, name: str) -> None:
    """The socket stays open and usable, and nothing is lost that arrives afterwards."""
    left, right = tcp_pair()
    listener = listening()
    with left, right, listener:
        if name == "sock_sendall":
            fill(left)
        operations: dict[str, Callable[[], Any]] = {
            "sock_recv": lambda: loop.sock_recv(left, 10),
            "sock_recv_into": lambda: loop.sock_recv_into(left, bytearray(10)),
            "sock_sendall": lambda: loop.sock_sendall(left, b"x" * BIG),
            "sock_accept": lambda: loop.sock_accept(listener),
        }
        task = loop.create_task(operations[name]())
        await turns(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(1)
        watched = listener if name == "sock_accept" else left
        assert loop.remove_reader(watched) is False, "nothing stays registered"
        assert loop.remove_writer(watched) is False
        if name == "sock_accept":
            with socket.create_connection(listener.getsockname()):
                connection, _ = await loop.sock_accept(listener)
                connection.close()
        else:
            right.send(b"after")
            assert await loop.sock_recv(left, 10) == b"after"


async def test_cancelled_before_the_first_step(loop: Loop) -> None:
    left, right = unix_pair()
    with left, right:
        right.send(b"kept")
        task = loop.create_task(loop.sock_recv(left, 10))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recv(left, 10) == b"kept"


async def test_a_timeout_around_a_receive(loop: Loop) -> None:
    left, right = unix_pair()
    with left, right:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(left, 1), 0.001)
        right.send(b"x")
        assert await loop.sock_recv(left, 1) == b"x"


async def test_sending_and_receiving_at_once_on_one_socket(loop: Loop, pair: Pair) -> None:
    left, right = pair
    data = b"d" * BIG

    async def exchange(sock: socket.socket) -> bytes:
        sending = loop.create_task(loop.sock_sendall(sock, data))
        received = await read_exactly(loop, sock, len(data))
        await sending
        return received

    at_left, at_right = await asyncio.gather(exchange(left), exchange(right))
    assert at_left == at_right == data


async def test_a_transports_socket_is_refused(loop: Loop) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        number = transport.get_extra_info("socket").fileno()
        impostor = socket.socket(fileno=number)
        try:
            impostor.setblocking(False)
            with pytest.raises(RuntimeError, match=rf"^File descriptor {number} is used by"):
                await loop.sock_recv(impostor, 1)
        finally:
            impostor.detach()


async def test_a_closed_socket_is_an_error(loop: Loop) -> None:
    left, right = unix_pair()
    right.close()
    left.close()
    with pytest.raises(OSError, match=r"^\[Errno 9\] Bad file descriptor$"):
        await loop.sock_recv(left, 1)
    with pytest.raises(OSError, match=r"^\[Errno 9\] Bad file descriptor$"):
        await loop.sock_sendall(left, b"x")


async def test_wait_again_and_again(loop: Loop, pair: Pair) -> None:
    left, right = pair
    for size in (1, 1000, 3, 70_000, 2):
        data = b"d" * size
        receiving = loop.create_task(read_exactly(loop, left, size))
        await turns(2)
        await loop.sock_sendall(right, data)
        assert await receiving == data


async def test_what_comes_while_nobody_waits(loop: Loop, pair: Pair) -> None:
    left, right = pair
    for _ in range(3):
        receiving = loop.create_task(loop.sock_recv(left, 10))
        await turns(2)
        right.send(b"one")
        assert await receiving == b"one"
        right.send(b"two")
        await turns(5)
        assert await loop.sock_recv(left, 10) == b"two"
    right.close()
    await turns(5)
    assert await loop.sock_recv(left, 10) == b""


@pytest.mark.parametrize("keep", [False, True], ids=["closed", "duplicated"])
async def test_a_number_that_is_used_again(loop: Loop, keep: bool) -> None:
    """The next socket gets the number of the one before; what that one still hears is not its."""
    numbers = set()
    kept: list[socket.socket] = []
    for round_ in range(5):
        left, right = unix_pair()
        numbers.add(left.fileno())
        receiving = loop.create_task(loop.sock_recv(left, 10))
        await turns(3)
        assert not receiving.done()
        for old in kept:
            if old.fileno() != -1:
                old.send(b"for another")
        await turns(3)
        assert not receiving.done()
        right.send(b"%d" % round_)
        assert await receiving == b"%d" % round_
        if keep:
            kept += [left.dup(), right]
        else:
            right.close()
        left.close()
    if not keep:
        assert len(numbers) == 1
    for old in kept:
        old.close()


async def test_a_number_that_another_object_takes_over(loop: Loop) -> None:
    left, right = unix_pair()
    with right:
        receiving = loop.create_task(loop.sock_recv(left, 10))
        await turns(2)
        right.send(b"first")
        assert await receiving == b"first"
        with socket.socket(fileno=left.detach()) as heir:
            receiving = loop.create_task(loop.sock_recv(heir, 10))
            await turns(2)
            right.send(b"second")
            assert await receiving == b"second"


async def test_a_socket_of_the_programs_own_class(loop: Loop) -> None:
    """It may become another one, under the number that it had."""

    class Reconnecting(socket.socket):
        def reconnect(self) -> socket.socket:
            near, far = unix_pair()
            number = self.detach()
            os.dup2(near.fileno(), number)
            near.close()
            socket.socket.__init__(self, fileno=number)
            self.setblocking(False)
            return far

    with Reconnecting(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        for _ in range(3):
            with sock.reconnect() as far:
                receiving = loop.create_task(loop.sock_recv(sock, 10))
                await turns(2)
                far.send(b"here")
                assert await receiving == b"here"


async def test_a_reader_after_a_receive(loop: Loop, pair: Pair) -> None:
    """It is called as long as there is something, and a receive waits again after it."""
    left, right = pair

    def readable(calls: list[None], called: asyncio.Future[None]) -> None:
        calls.append(None)
        if len(calls) == 3:
            called.set_result(None)

    for _ in range(2):
        receiving = loop.create_task(loop.sock_recv(left, 10))
        await turns(2)
        right.send(b"x")
        assert await receiving == b"x"
        called = loop.create_future()
        loop.add_reader(left, readable, [], called)
        right.send(b"y")
        await called
        assert loop.remove_reader(left) is True
        assert await loop.sock_recv(left, 10) == b"y"


async def test_a_writer_while_a_receive_waits(loop: Loop, pair: Pair) -> None:
    left, right = pair
    receiving = loop.create_task(loop.sock_recv(left, 10))
    await turns(2)
    writable = loop.create_future()

    def ready() -> None:
        if not writable.done():
            writable.set_result(None)

    loop.add_writer(left, ready)
    await writable
    right.send(b"x")
    assert await receiving == b"x"
    assert loop.remove_writer(left) is True


def receive(loop: Loop, sock: socket.socket) -> asyncio.Task[Any]:
    return loop.create_task(loop.sock_recv(sock, 10))


def receive_into(loop: Loop, sock: socket.socket) -> asyncio.Task[Any]:
    return loop.create_task(loop.sock_recv_into(sock, bytearray(10)))


@pytest.mark.parametrize("removes_first", [False, True])
@pytest.mark.parametrize("begin", [receive, receive_into])
async def test_a_reader_displaces_a_receive(
    loop: Loop,
    pair: Pair,
    begin: Callable[[Loop, socket.socket], asyncio.Task[Any]],
    removes_first: bool,
) -> None:
    """The last one that asks is told; the receive stays pending, and can be cancelled."""
    left, right = pair
    received: asyncio.Queue[bytes] = asyncio.Queue()
    receiving = [begin(loop, left), begin(loop, left)]
    await turns(2)
    if removes_first:
        loop.remove_reader(left)
    loop.add_reader(left, lambda: received.put_nowait(left.recv(10)))
    await turns(3)
    right.send(b"one")
    assert await received.get() == b"one"
    for task in receiving:
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    right.send(b"two")
    assert await received.get() == b"two"
    assert loop.remove_reader(left) is True
    right.send(b"three")
    assert await loop.sock_recv(left, 10) == b"three"


async def test_a_writer_displaces_a_send(loop: Loop, pair: Pair) -> None:
    left, right = pair
    filled = fill(left)
    sending = loop.create_task(loop.sock_sendall(left, b"x"))
    await turns(2)
    writable: asyncio.Queue[None] = asyncio.Queue()
    loop.add_writer(left, writable.put_nowait, None)
    await turns(3)
    assert not sending.done()
    await read_exactly(loop, right, filled)
    await writable.get()
    assert not sending.done()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert loop.remove_writer(left) is True


async def test_a_reader_displaces_an_accept(loop: Loop) -> None:
    with listening() as listener:
        accepting = loop.create_task(loop.sock_accept(listener))
        await turns(2)
        accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
        loop.add_reader(listener, lambda: accepted.put_nowait(listener.accept()[0]))
        await turns(3)
        for _ in range(2):
            with socket.create_connection(listener.getsockname()):
                (await accepted.get()).close()
            accepting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await accepting
        assert loop.remove_reader(listener) is True


async def test_a_receive_displaces_a_reader(loop: Loop, pair: Pair) -> None:
    left, right = pair
    loop.add_reader(left, pytest.fail)
    receiving = receive(loop, left)
    await turns(2)
    right.send(b"x")
    assert await receiving == b"x"
    assert loop.remove_reader(left) is False


@pytest.mark.parametrize("begin", [receive, receive_into])
def test_a_loop_is_closed_while_a_receive_is_displaced(
    loop_factory: LoopFactory,
    pair: Pair,
    begin: Callable[[Loop, socket.socket], asyncio.Task[Any]],
) -> None:
    loop = loop_factory()
    sock = pair[0].dup()
    sock.setblocking(False)

    async def displace(sock: socket.socket) -> asyncio.Task[Any]:
        task = begin(loop, sock)
        await turns(2)
        loop.add_reader(sock, id, None)
        await turns(3)
        return task

    task = loop.run_until_complete(displace(sock))
    loop.close()
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    sock.close()
    seen = weakref.ref(sock)
    del sock, task
    gc.collect()
    assert seen() is None


async def test_a_transport_over_a_socket_that_has_received(loop: Loop, pair: Pair) -> None:
    left, right = pair
    with left.dup() as sock:
        receiving = loop.create_task(loop.sock_recv(sock, 10))
        await turns(2)
        right.send(b"x")
        assert await receiving == b"x"
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        right.send(b"hello")
        assert await protocol.until_received(5) == b"hello"
        transport.close()
        await protocol.until_lost()


async def test_cancelled_when_it_could_have_received(loop: Loop, pair: Pair) -> None:
    left, right = pair
    task = loop.create_task(loop.sock_recv(left, 10))
    await turns(2)
    right.send(b"kept")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await loop.sock_recv(left, 10) == b"kept"


async def test_cancelled_with_a_message(loop: Loop, pair: Pair) -> None:
    left, _ = pair
    task = loop.create_task(loop.sock_recv(left, 10))
    await turns(2)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    if sys.version_info >= (3, 11):
        assert caught.value.args == ("enough",)


async def test_cancelled_by_whoever_runs_before(loop: Loop) -> None:
    """Two sockets are ready at once, and the task of the first cancels that of the second."""
    first, second = tcp_pair(), tcp_pair()
    with first[0], first[1], second[0], second[1]:
        other = loop.create_task(loop.sock_recv(second[0], 10))

        async def receive_and_cancel() -> bytes:
            data = await loop.sock_recv(first[0], 10)
            other.cancel()
            return data

        task = loop.create_task(receive_and_cancel())
        await turns(2)
        first[1].send(b"x")
        assert await task == b"x"
        with pytest.raises(asyncio.CancelledError):
            await other
        second[1].send(b"y")
        assert await loop.sock_recv(second[0], 10) == b"y"


async def test_a_task_goes_on_in_its_own_context(loop: Loop, pair: Pair) -> None:
    left, right = pair
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")

    async def receive() -> tuple[bytes, str]:
        variable.set("inside")
        data = await loop.sock_recv(left, 10)
        assert asyncio.current_task() is task
        return data, variable.get()

    task = loop.create_task(receive())
    await turns(2)
    right.send(b"x")
    assert await task == (b"x", "inside")
    assert variable.get() == "outside"


async def test_an_exception_after_a_wait(loop: Loop, pair: Pair) -> None:
    left, right = pair

    async def receive() -> None:
        await loop.sock_recv(left, 10)
        raise LookupError("after")

    task = loop.create_task(receive())
    await turns(2)
    right.send(b"x")
    with pytest.raises(LookupError, match="after"):
        await task


def test_an_interrupt_after_a_wait(loop: Loop, pair: Pair) -> None:
    """It leaves the loop, which runs on afterwards; nobody else's bytes are lost."""
    left, right = pair
    other = tcp_pair()

    async def receive() -> None:
        await loop.sock_recv(left, 10)
        raise KeyboardInterrupt

    async def main() -> bytes:
        return await received

    with other[0], other[1]:
        received = loop.create_task(loop.sock_recv(other[0], 10))
        task = loop.create_task(receive())
        loop.call_soon(loop.call_soon, lambda: right.send(b"x"))
        loop.call_soon(loop.call_soon, lambda: other[1].send(b"y"))
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert loop.run_until_complete(main()) == b"y"
        with pytest.raises(KeyboardInterrupt):
            task.result()


async def test_what_is_not_awaited_does_nothing(loop: Loop, pair: Pair) -> None:
    left, right = pair
    right.send(b"x")
    assert inspect.iscoroutinefunction(loop.sock_recv)
    assert inspect.iscoroutinefunction(loop.sock_sendall)
    loop.sock_recv(left, 1).close()
    received, _ = await asyncio.gather(loop.sock_recv(left, 1), loop.sock_sendall(left, b"y"))
    assert received == b"x"


async def test_operations_by_hand(loop: Loop, pair: Pair) -> None:
    """What a coroutine yields while it waits is what a task would wait for."""
    left, right = pair
    coroutine = loop.sock_recv(left, 10)
    waiter = coroutine.send(None)
    assert waiter._asyncio_future_blocking is True
    assert waiter.get_loop() is loop
    assert (waiter.done(), waiter.cancelled()) == (False, False)
    with pytest.raises(asyncio.InvalidStateError):
        waiter.result()
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        coroutine.send(None)
    assert waiter.cancel() is True
    assert waiter.cancel() is False
    assert (waiter.done(), waiter.cancelled()) == (True, True)
    right.send(b"x")
    assert await loop.sock_recv(left, 10) == b"x"


async def test_debug_mode_names_a_slow_task(
    loop: Loop, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    left, right = pair
    loop.set_debug(True)
    try:

        async def slow() -> None:
            await loop.sock_recv(left, 10)
            loop.slow_callback_duration = 0.0

        task = loop.create_task(slow(), name="the slow one")
        await turns(2)
        right.send(b"x")
        await task
        await turns(1)
    finally:
        loop.slow_callback_duration = 0.1
        loop.set_debug(False)
    assert any(
        "Executing" in record.message and "the slow one" in record.message
        for record in caplog.records
    )


@pytest.mark.parametrize("name", ["sock_recv", "sock_recv_into", "sock_sendall"])
async def test_sockets_that_are_refused(loop: Loop, pair: Pair, name: str) -> None:
    left, _ = pair
    argument: Any = {"sock_recv": 1, "sock_recv_into": bytearray(1), "sock_sendall": b"x"}[name]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with (
        socket.socket() as plain,
        context.wrap_socket(plain) as over_tls,
        pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"),
    ):
        await getattr(loop, name)(over_tls, argument)
    left.setblocking(True)
    loop.set_debug(True)
    try:
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await getattr(loop, name)(left, argument)
    finally:
        loop.set_debug(False)


async def test_nothing_keeps_a_socket(loop: Loop) -> None:
    """A socket that has waited, or whose wait was cancelled, is the program's alone."""
    left, right = unix_pair()
    receiving = loop.create_task(loop.sock_recv(left, 10))
    await turns(2)
    right.send(b"x")
    await receiving
    receiving = loop.create_task(loop.sock_recv(left, 10))
    await turns(2)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await turns(1)
    del receiving
    left.close()
    right.close()
    gone = weakref.ref(left)
    del left
    gc.collect()
    assert gone() is None
