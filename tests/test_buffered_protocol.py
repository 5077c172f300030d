"""BufferedProtocol: the transport receives into the protocol's own buffer."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from typing import Any

import pytest

from .connections import connected
from .support import BufferedRecorder, Errors, Loop, Recorder, readable, turns


async def test_the_calls_of_a_connection(loop: Loop) -> None:
    protocol = BufferedRecorder(size=100)
    async with connected(loop, protocol) as (_, peer):
        peer.send(b"hello")
        await protocol.until_received(5)
        peer.close()
        await protocol.until_lost()
    assert protocol.calls == [
        ("connection_made",),
        ("get_buffer", -1),
        ("buffer_updated", 5),
        ("get_buffer", -1),
        ("eof_received",),
        ("connection_lost", None),
    ]


async def test_the_bytes_are_in_the_protocols_buffer(loop: Loop) -> None:
    protocol = BufferedRecorder(size=8)
    async with connected(loop, protocol) as (_, peer):
        peer.send(b"abc")
        await protocol.until_received(3)
        assert protocol.buffer == b"abc\0\0\0\0\0"


async def test_a_small_buffer_gets_it_in_pieces(loop: Loop) -> None:
    protocol = BufferedRecorder(size=3)
    async with connected(loop, protocol) as (_, peer):
        peer.send(b"abcdefgh")
        assert await protocol.until_received(8) == b"abcdefgh"
    updates = [call[1] for call in protocol.calls if call[0] == "buffer_updated"]
    assert updates == [3, 3, 2]


async def test_a_view_of_a_part_of_a_buffer(loop: Loop) -> None:
    class Tail(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            return memoryview(self.buffer)[4:6]

        def buffer_updated(self, nbytes: int) -> None:
            self.received += self.buffer[4 : 4 + nbytes]
            self.changed()

    protocol = Tail(size=10)
    async with connected(loop, protocol) as (_, peer):
        peer.send(b"xyz")
        assert await protocol.until_received(3) == b"xyz"
    assert protocol.buffer == b"\0\0\0\0zy\0\0\0\0"


async def test_the_buffer_may_change_from_call_to_call(loop: Loop) -> None:
    """Only the buffer of this call is used, and it is released before buffer_updated()."""

    class Growing(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.buffer = bytearray(len(self.received) + 1)
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.buffer.clear()

    protocol = Growing()
    async with connected(loop, protocol) as (_, peer):
        peer.send(b"0123456789")
        assert await protocol.until_received(10) == b"0123456789"


async def test_pausing_in_buffer_updated(loop: Loop) -> None:
    class OneByOne(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    protocol = OneByOne(size=2)
    async with connected(loop, protocol) as (transport, peer):
        peer.send(b"abcd")
        await protocol.until_received(2)
        await readable(loop, transport.get_extra_info("socket"))
        await turns(3)
        assert protocol.received == b"ab"
        transport.resume_reading()
        await protocol.until_received(4)


async def test_eof_received_true_keeps_it_open(loop: Loop) -> None:
    protocol = BufferedRecorder()
    protocol.keep_open = True
    async with connected(loop, protocol) as (transport, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: protocol.names[-1] == "eof_received")
        transport.write(b"reply")
        assert await loop.sock_recv(peer, 100) == b"reply"


@pytest.mark.parametrize(
    ("buffer", "error"),
    [(bytearray(), RuntimeError), (b"read only", TypeError), (None, TypeError), (42, TypeError)],
)
async def test_unusable_buffers(
    loop: Loop, errors: Errors, buffer: object, error: type[Exception]
) -> None:
    """Reported, and the connection is lost with the exception."""

    class Bad(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            return buffer

    protocol = Bad()
    async with connected(loop, protocol) as (transport, peer):
        peer.send(b"x")
        await protocol.until_lost()
        context = errors.take_one()
        assert set(context) == {"message", "exception", "transport", "protocol"}
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        assert isinstance(context["exception"], error)
        assert context["exception"] is protocol.error
        if error is RuntimeError:
            assert str(protocol.error) == "get_buffer() returned an empty buffer"
        if buffer == b"read only":
            assert context["message"] == "Fatal read error on socket transport"
        else:
            assert context["message"] == "Fatal error: protocol.get_buffer() call failed."


async def test_switching_inside_data_received(loop: Loop) -> None:
    """What comes after the switch goes to the new protocol's buffer."""
    buffered = BufferedRecorder()

    class Switching(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.set_protocol(buffered)

    protocol = Switching()
    async with connected(loop, protocol) as (_, peer):
        peer.send(b"header")
        await protocol.until_received(6)
        peer.send(b"body")
        assert await buffered.until_received(4) == b"body"
    assert protocol.received == b"header"


async def test_a_subclass_of_both_is_buffered(loop: Loop) -> None:
    """isinstance of BufferedProtocol decides, as in CPython's set_protocol()."""

    class Both(BufferedRecorder, asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise AssertionError("not called")

    protocol = Both()
    async with connected(loop, protocol) as (_, peer):
        peer.send(b"x")
        await protocol.until_received(1)


async def test_its_callbacks_share_a_context(loop: Loop) -> None:
    """What get_buffer() sets is seen by buffer_updated(), and by those that come later."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    class Setting(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> bytearray:
            variable.set(variable.get() + 1)
            return super().get_buffer(sizehint)

        def buffer_updated(self, nbytes: int) -> None:
            seen.append(variable.get())
            super().buffer_updated(nbytes)

    protocol = Setting(size=8)
    async with connected(loop, protocol) as (_, peer):
        for number in range(3):
            peer.send(b"a")
            await protocol.until_received(number + 1)
    assert seen == [1, 2, 3]
    assert variable.get() == 0
