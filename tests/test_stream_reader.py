"""StreamReader on this loop: every way to read, the limit, end of stream, and resets."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any, cast

import pytest

from .connections import stream
from .support import BIG, Loop, reset, turns


async def test_read_up_to_n(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"abcdef")
        assert await reader.readexactly(1) == b"a"
        assert await reader.read(2) == b"bc"
        assert await reader.read(100) == b"def"
        assert await reader.read(0) == b""
        peer.close()
        assert await reader.read(100) == b""


async def test_read_until_end(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        task = loop.create_task(reader.read())
        await loop.sock_sendall(peer, b"x" * 300_000)
        await turns(2)
        assert not task.done()
        peer.close()
        assert await task == b"x" * 300_000
        assert reader.at_eof()


async def test_at_eof_needs_an_empty_buffer(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        assert not reader.at_eof()
        peer.send(b"x")
        peer.shutdown(socket.SHUT_WR)
        assert await reader.readexactly(1) == b"x"
        assert await reader.read(1) == b""
        assert reader.at_eof()


async def test_readline(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"one\ntwo\r\n\nrest")
        peer.close()
        assert [await reader.readline() for _ in range(5)] == [
            b"one\n",
            b"two\r\n",
            b"\n",
            b"rest",
            b"",
        ]


async def test_lines_by_async_for(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"one\ntwo\nrest")
        peer.close()
        assert [line async for line in reader] == [b"one\n", b"two\n", b"rest"]


async def test_readexactly(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        task = loop.create_task(reader.readexactly(6))
        await turns(1)
        peer.send(b"abc")
        await turns(3)
        assert not task.done()
        peer.send(b"defg")
        assert await task == b"abcdef"
        assert await reader.readexactly(0) == b""
        with pytest.raises(ValueError, match=r"^readexactly size can not be less than zero$"):
            await reader.readexactly(-1)


async def test_readexactly_at_end_tells_what_there_was(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"abc")
        peer.close()
        text = r"^3 bytes read on a total of 10 expected bytes$"
        with pytest.raises(asyncio.IncompleteReadError, match=text) as caught:
            await reader.readexactly(10)
        assert caught.value.partial == b"abc"
        assert caught.value.expected == 10
        assert await reader.read() == b""


async def test_readuntil(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"one||two|")
        assert await reader.readuntil(b"||") == b"one||"
        task = loop.create_task(reader.readuntil(b"||"))
        await turns(3)
        peer.send(b"|three")
        assert await task == b"two||"
        peer.close()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil(b"||")
        assert caught.value.partial == b"three"
        assert caught.value.expected is None


@pytest.mark.skipif(sys.version_info < (3, 13), reason="several separators came with 3.13")
async def test_readuntil_one_of_several(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        peer.send(b"a;b--c;")
        # Type checkers know the running version's signature alone.
        newer = cast(Any, reader)
        assert await newer.readuntil((b"--", b";")) == b"a;"
        assert await newer.readuntil((b"--", b";")) == b"b--"


async def test_a_limit_overrun_keeps_the_data(loop: Loop) -> None:
    async with stream(loop, limit=10) as (reader, _, peer):
        peer.send(b"x" * 15 + b"\n")
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(b"\n")
        assert caught.value.consumed == 15
        assert await reader.readexactly(16) == b"x" * 15 + b"\n"


async def test_a_line_over_the_limit_is_dropped(loop: Loop) -> None:
    """readline() differs from readuntil(): ValueError, and the line is consumed."""
    async with stream(loop, limit=10) as (reader, _, peer):
        peer.send(b"x" * 15 + b"\nnext\n")
        with pytest.raises(ValueError, match=r"^Separator is found, but chunk is longer than"):
            await reader.readline()
        assert await reader.readline() == b"next\n"


async def test_reading_pauses_above_twice_the_limit(loop: Loop) -> None:
    """And resumes when the buffer is at the limit again."""
    async with stream(loop, limit=1000) as (reader, writer, peer):
        sender = loop.create_task(loop.sock_sendall(peer, b"x" * BIG))
        transport = cast("asyncio.Transport", writer.transport)
        while transport.is_reading():
            await turns(1)
        assert await reader.readexactly(BIG) == b"x" * BIG
        await sender
        peer.close()
        assert await reader.read() == b""


async def test_only_one_coroutine_may_wait(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        task = loop.create_task(reader.read(1))
        await turns(1)
        text = r"^read\(\) called while another coroutine is already waiting for incoming data$"
        with pytest.raises(RuntimeError, match=text):
            await reader.read(1)
        peer.send(b"x")
        assert await task == b"x"


async def test_a_cancelled_read_loses_nothing(loop: Loop) -> None:
    async with stream(loop) as (reader, _, peer):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), 0.001)
        peer.send(b"later")
        assert await reader.readexactly(5) == b"later"


async def test_a_reset_raises_in_the_reader(loop: Loop) -> None:
    async with stream(loop) as (reader, writer, peer):
        task = loop.create_task(reader.read())
        await turns(1)
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await task
        assert isinstance(reader.exception(), ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        with pytest.raises(ConnectionResetError):
            await writer.drain()
