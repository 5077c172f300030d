"""Layer 1: sock_recv, sock_recv_into and sock_sendall, and cancelling every operation."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .connections import connected
from .support import (
    BIG,
    Loop,
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
