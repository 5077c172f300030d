"""add_reader, add_writer and their removal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from .connections import connected
from .support import Loop, Recorder, drain_now, fill, turns, unix_pair

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = unix_pair()
    with left, right:
        yield left, right


async def test_a_loop_that_was_used_looks_in_every_iteration(loop: Loop, pair: Pair) -> None:
    """What a program sends by itself is there when it has given way, whatever ran before."""
    left, right = pair
    calls: list[bytes] = []
    for _ in range(5):
        await turns(100)
        loop.add_reader(left, lambda: calls.append(left.recv(10)))
        for number in range(1, 11):
            right.send(b"x")
            await turns(2)
            assert len(calls) == number
        loop.remove_reader(left)
        calls.clear()


async def test_an_event_comes_however_long_the_loop_was_busy_with_itself(
    loop: Loop, pair: Pair
) -> None:
    left, right = pair
    calls: list[bytes] = []
    loop.add_reader(left, lambda: calls.append(left.recv(10)))
    for number in range(1, 11):
        await turns(1000)
        right.send(b"x")
        await turns(20)
        assert len(calls) == number
    loop.remove_reader(left)


async def test_a_reader_is_called_while_there_is_something(loop: Loop, pair: Pair) -> None:
    """Level-triggered: once per iteration until the data is taken."""
    left, right = pair
    calls: list[bytes] = []
    done = loop.create_future()

    def read_one() -> None:
        calls.append(left.recv(1))
        if len(calls) == 3:
            done.set_result(None)

    loop.add_reader(left, read_one)
    right.send(b"abc")
    await done
    await turns(3)
    assert calls == [b"a", b"b", b"c"]
    assert loop.remove_reader(left) is True


async def test_a_reader_is_called_at_end_of_stream(loop: Loop, pair: Pair) -> None:
    left, right = pair
    done = loop.create_future()

    def read_once() -> None:
        loop.remove_reader(left)
        done.set_result(left.recv(1))

    loop.add_reader(left, read_once)
    right.close()
    assert await done == b""


async def test_a_writer_is_called_while_there_is_room(loop: Loop, pair: Pair) -> None:
    left, _ = pair
    count = 0
    done = loop.create_future()

    def writable() -> None:
        nonlocal count
        count += 1
        if count == 3:
            loop.remove_writer(left)
            done.set_result(None)

    loop.add_writer(left, writable)
    await done
    await turns(3)
    assert count == 3


async def test_a_writer_waits_for_room(loop: Loop, pair: Pair) -> None:
    left, right = pair
    fill(left)
    calls: list[str] = []
    writable = loop.create_future()

    def note() -> None:
        calls.append("writable")
        loop.remove_writer(left)
        writable.set_result(None)

    loop.add_writer(left, note)
    await turns(3)
    assert calls == []
    drain_now(right)
    await writable
    assert calls == ["writable"]


async def test_arguments_are_passed(loop: Loop, pair: Pair) -> None:
    left, _ = pair
    done = loop.create_future()

    def note(*args: object) -> None:
        loop.remove_writer(left)
        done.set_result(args)

    loop.add_writer(left, note, 1, "two")
    assert await done == (1, "two")


async def test_removal_tells_whether_there_was_one(loop: Loop, pair: Pair) -> None:
    left, _ = pair
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is False
    loop.add_reader(left, print)
    assert loop.remove_writer(left) is False
    loop.add_writer(left, print)
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is True
    assert loop.remove_writer(left) is False


async def test_a_second_callback_replaces_the_first(loop: Loop, pair: Pair) -> None:
    left, right = pair
    calls: list[str] = []
    loop.add_reader(left, calls.append, "first")
    loop.add_reader(left, calls.append, "second")
    loop.add_writer(left, calls.append, "first writer")
    loop.add_writer(left, calls.append, "second writer")
    right.send(b"x")
    await turns(2)
    assert calls == ["second", "second writer"]
    loop.remove_reader(left)
    loop.remove_writer(left)


async def test_a_removed_callback_does_not_run_even_when_due(loop: Loop, pair: Pair) -> None:
    """Removal cancels a callback that this iteration has already made ready."""
    left, right = pair
    other, peer = unix_pair()
    calls: list[str] = []

    def first_one_wins(name: str) -> None:
        calls.append(name)
        loop.remove_reader(left)
        loop.remove_reader(other)

    with other, peer:
        loop.add_reader(left, first_one_wins, "left")
        loop.add_reader(other, first_one_wins, "other")
        right.send(b"x")
        peer.send(b"x")
        await turns(3)
    assert len(calls) == 1


async def test_reader_and_writer_are_independent(loop: Loop, pair: Pair) -> None:
    left, right = pair
    calls: list[str] = []
    loop.add_reader(left, calls.append, "reader")
    loop.add_writer(left, calls.append, "writer")
    await turns(2)
    assert set(calls) == {"writer"}
    loop.remove_writer(left)
    right.send(b"x")
    calls.clear()
    await turns(2)
    assert set(calls) == {"reader"}
    loop.remove_reader(left)


async def test_a_descriptor_number_serves_as_well_as_an_object(loop: Loop, pair: Pair) -> None:
    left, right = pair
    done = loop.create_future()
    loop.add_reader(left.fileno(), done.set_result, "by number")
    right.send(b"x")
    assert await done == "by number"
    assert loop.remove_reader(left) is True, "and the object finds what the number added"


async def test_any_object_with_fileno(loop: Loop) -> None:
    class Wrapped:
        def __init__(self, fd: int) -> None:
            self._fd = fd

        def fileno(self) -> int:
            return self._fd

    reading, writing = os.pipe()
    try:
        wrapped = Wrapped(reading)
        done = loop.create_future()
        loop.add_reader(wrapped, done.set_result, "pipe")
        os.write(writing, b"x")
        assert await done == "pipe"
        assert loop.remove_reader(wrapped) is True
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("thing", ["text", None, object(), 1.5])
async def test_other_things_are_refused(loop: Any, thing: Any) -> None:
    text = rf"^Invalid file object: {re.escape(repr(thing))}$"
    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(ValueError, match=text):
            method(thing, print)
    for method in (loop.remove_reader, loop.remove_writer):
        with pytest.raises(ValueError, match=text):
            method(thing)


async def test_bad_descriptors(loop: Loop) -> None:
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(ValueError, match=r"^Invalid file descriptor: -1$"):
            add(-1, print)
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(OSError, match=r"^\[Errno 9\] Bad file descriptor$"):
            add(reading, print)
    assert loop.remove_reader(reading) is False


async def test_a_closed_socket_is_refused(loop: Loop, pair: Pair) -> None:
    left, _ = pair
    left.close()
    with pytest.raises(ValueError, match=r"^Invalid file descriptor: -1$"):
        loop.add_reader(left, print)


async def test_a_regular_file_cannot_be_polled(loop: Loop, tmp_path: Any) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)


async def test_a_descriptor_closed_under_its_reader_is_harmless(loop: Loop) -> None:
    """The kernel forgets it; removal still answers and the number can be used again."""
    left, right = unix_pair()
    with right:
        number = left.fileno()
        loop.add_reader(left, print)
        left.close()
        await turns(2)
        assert loop.remove_reader(number) is True
    again, peer = unix_pair()
    with again, peer:
        done = loop.create_future()
        loop.add_reader(again, done.set_result, "used again")
        peer.send(b"x")
        assert await done == "used again"
        loop.remove_reader(again)


async def test_a_transports_descriptor_is_not_for_readers(loop: Any) -> None:
    async with connected(loop, Recorder()) as (transport, _):
        sock = transport.get_extra_info("socket")
        number = sock.fileno()
        text = rf"^File descriptor {number} is used by transport <.*>$"
        for method in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=text):
                method(number, print)
        for method in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match=text):
                method(number)
        with pytest.raises(RuntimeError, match=r"^File descriptor <asyncio\.TransportSocket "):
            loop.add_reader(sock, print)


async def test_readers_can_add_readers(loop: Loop, pair: Pair) -> None:
    left, right = pair
    done = loop.create_future()

    def second() -> None:
        loop.remove_reader(left)
        done.set_result(left.recv(1))

    def first() -> None:
        left.recv(1)
        loop.add_reader(left, second)

    loop.add_reader(left, first)
    right.send(b"12")
    assert await done == b"2"


async def test_many_descriptors(loop: Loop) -> None:
    pairs = [unix_pair() for _ in range(100)]
    got: list[int] = []
    done = asyncio.Event()

    def read(number: int) -> None:
        got.append(number)
        loop.remove_reader(pairs[number][0])
        if len(got) == len(pairs):
            done.set()

    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left, read, number)
        right.send(b"x")
    await done.wait()
    assert sorted(got) == list(range(100))
    for left, right in pairs:
        left.close()
        right.close()


async def test_a_number_whose_last_file_lives_on_is_its_new_owner_s(loop: Loop) -> None:
    """What happens on a socket that was closed here, and lives on elsewhere, concerns nobody."""
    ours, peer = unix_pair()
    with peer:
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await turns()
        peer.send(b"head")
        assert await receiving == b"head"
        number = ours.fileno()
        with ours.dup():
            ours.close()
            reading, writing = os.pipe()
            if reading != number:
                os.dup2(reading, number)
                os.close(reading)
            called: list[bytes] = []
            loop.add_reader(number, lambda: called.append(os.read(number, 10)))
            os.set_blocking(number, False)
            for _ in range(3):
                peer.send(b"tail")
                await turns()
            assert called == []
            os.write(writing, b"text")
            while not called:
                await asyncio.sleep(0)
            assert called == [b"text"]
            loop.remove_reader(number)
            os.close(number)
            os.close(writing)


async def test_connecting_on_a_number_whose_last_file_lives_on(loop: Loop) -> None:
    """A connect is over when it is over, not when the socket before it could be written to."""
    ours, peer = unix_pair()
    with peer, socket.socket() as full, contextlib.ExitStack() as waiting:
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await turns()
        peer.send(b"head")
        assert await receiving == b"head"
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # The queue of a listener that accepts nobody has room for one; further ones wait.
        for _ in range(3):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with ours.dup():
            ours.close()
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            connecting = asyncio.ensure_future(loop.sock_connect(sock, full.getsockname()))
            for _ in range(3):
                peer.send(b"tail")
                await turns()
            assert not connecting.done()
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
