"""sock_sendfile: a file to a socket, by the kernel or by hand."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from .support import (
    BIG,
    Loop,
    drain_now,
    oracle_since,
    read_all,
    read_exactly,
    reset,
    tcp_pair,
    turns,
    unix_pair,
)

#: What the small files hold; no two offsets look alike.
DATA = bytes(range(256)) * 40 + b"the end"

#: Two non-blocking connected sockets: ours, and the peer's.
Pair = tuple[socket.socket, socket.socket]

#: Opens a file with the given contents, in one of the ways that sendfile knows.
Opener = Callable[[bytes], Any]


@pytest.fixture(params=[tcp_pair, unix_pair])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    left, right = request.param()
    with left, right:
        yield left, right


@pytest.fixture
def open_file(tmp_path: Path, later: Any) -> Opener:
    """Opens regular files, which the kernel sends."""

    def open_with(contents: bytes) -> IO[bytes]:
        path = tmp_path / "file"
        path.write_bytes(contents)
        file = path.open("rb")
        later(file.close)
        return file

    return open_with


@pytest.fixture(params=["file", "memory"])
def open_any(request: pytest.FixtureRequest, open_file: Opener) -> Opener:
    """Opens files of both kinds; what is in memory has to be sent by hand."""
    return open_file if request.param == "file" else io.BytesIO


class Reading:
    """A file of the program's own that can be read, and nothing else."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = list(pieces)

    def readinto(self, buffer: Any) -> int:
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        buffer[: len(piece)] = piece
        return len(piece)


async def received(loop: Loop, pair: Pair) -> bytes:
    """What the peer has got, our end being closed for it."""
    pair[0].shutdown(socket.SHUT_WR)
    return await read_all(loop, pair[1])


# What is sent.


async def test_a_whole_file(loop: Any, pair: Pair, open_any: Opener) -> None:
    file = open_any(DATA)
    assert await loop.sock_sendfile(pair[0], file) == len(DATA)
    assert file.tell() == len(DATA)
    assert await received(loop, pair) == DATA


@pytest.mark.parametrize(
    ("offset", "count"),
    [
        (100, None),
        (0, 1),
        (0, 1000),
        (300, 20),
        (0, len(DATA)),
        (0, len(DATA) + 1),
        (len(DATA) - 3, 3),
        (len(DATA) - 3, 1_000_000),
    ],
)
async def test_a_part_of_a_file(
    loop: Any, pair: Pair, open_any: Opener, offset: int, count: int | None
) -> None:
    file = open_any(DATA)
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]
    assert await loop.sock_sendfile(pair[0], file, offset, count) == len(expected)
    assert file.tell() == offset + len(expected)
    assert await received(loop, pair) == expected


async def test_an_empty_file(loop: Any, pair: Pair, open_any: Opener) -> None:
    file = open_any(b"")
    assert await loop.sock_sendfile(pair[0], file) == 0
    assert await loop.sock_sendfile(pair[0], file, 0, 10) == 0
    assert file.tell() == 0
    assert await received(loop, pair) == b""


@pytest.mark.parametrize("beyond", [0, 1, 10_000])
@pytest.mark.parametrize("count", [None, 10])
@oracle_since((3, 14), "the file's position stays where it was")
async def test_an_offset_beyond_the_end(
    loop: Any, pair: Pair, open_any: Opener, beyond: int, count: int | None
) -> None:
    file = open_any(DATA)
    offset = len(DATA) + beyond
    assert await loop.sock_sendfile(pair[0], file, offset, count) == 0
    assert file.tell() == offset
    assert await received(loop, pair) == b""


@oracle_since((3, 14), "what is sent by hand is sent from there")
async def test_the_position_before_does_not_matter(loop: Any, pair: Pair, open_any: Opener) -> None:
    file = open_any(DATA)
    file.read(17)
    assert await loop.sock_sendfile(pair[0], file) == len(DATA)
    assert await received(loop, pair) == DATA


async def test_one_after_the_other(loop: Any, pair: Pair, open_any: Opener) -> None:
    file = open_any(DATA)
    for offset in range(0, len(DATA), 1000):
        await loop.sock_sendfile(pair[0], file, offset, 1000)
    assert await received(loop, pair) == DATA


async def test_between_other_data(loop: Any, pair: Pair, open_any: Opener) -> None:
    await loop.sock_sendall(pair[0], b"before")
    await loop.sock_sendfile(pair[0], open_any(DATA))
    await loop.sock_sendall(pair[0], b"after")
    assert await received(loop, pair) == b"before" + DATA + b"after"


async def test_a_big_file_to_a_slow_reader(loop: Any, pair: Pair, open_any: Opener) -> None:
    contents = os.urandom(BIG)
    file = open_any(contents)
    task = loop.create_task(loop.sock_sendfile(pair[0], file))
    got = bytearray()
    while len(got) < BIG:
        got += await loop.sock_recv(pair[1], 100_000)
        await turns(1)
    assert await task == BIG
    assert got == contents
    assert file.tell() == BIG


async def test_a_file_that_is_sent_twice_at_once(loop: Any, open_file: Opener) -> None:
    contents = os.urandom(BIG)
    file = open_file(contents)
    first, second = tcp_pair(), tcp_pair()
    with first[0], first[1], second[0], second[1]:
        tasks = [loop.create_task(loop.sock_sendfile(pair[0], file)) for pair in (first, second)]
        for pair in (first, second):
            assert await read_exactly(loop, pair[1], BIG) == contents
        assert await asyncio.gather(*tasks) == [BIG, BIG]


async def test_a_file_without_a_buffer(loop: Any, pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with open(path, "rb", buffering=0) as file:
        assert await loop.sock_sendfile(pair[0], file, 5) == len(DATA) - 5
        assert file.tell() == len(DATA)
    assert await received(loop, pair) == DATA[5:]


async def test_a_file_that_is_written_too(loop: Any, pair: Pair, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+b") as file:
        file.write(DATA)
        file.flush()
        assert await loop.sock_sendfile(pair[0], file, fallback=False) == len(DATA)
    assert await received(loop, pair) == DATA


async def test_the_kernel_sends_without_a_thread(
    loop: Any, pair: Pair, open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "run_in_executor", None)
    assert await loop.sock_sendfile(pair[0], open_file(DATA)) == len(DATA)
    assert await received(loop, pair) == DATA


# By hand.


async def test_without_the_kernel_only_if_that_is_allowed(loop: Any, pair: Pair) -> None:
    file = io.BytesIO(DATA)
    with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^not a regular file$"):
        await loop.sock_sendfile(pair[0], file, fallback=False)
    assert file.tell() == 0
    assert await received(loop, pair) == b""


async def test_a_regular_file_needs_no_fallback(loop: Any, pair: Pair, open_file: Opener) -> None:
    assert await loop.sock_sendfile(pair[0], open_file(DATA), fallback=False) == len(DATA)
    assert await received(loop, pair) == DATA


async def test_an_object_that_can_only_be_read(loop: Any, pair: Pair) -> None:
    file = Reading(b"one", b"two", b"three")
    assert await loop.sock_sendfile(pair[0], file) == 11
    assert await received(loop, pair) == b"onetwothree"


async def test_a_descriptor_that_is_none(loop: Any, pair: Pair) -> None:
    class Wrong(Reading):
        def fileno(self) -> int:
            return 1_000_000

    with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^not a regular file$"):
        await loop.sock_sendfile(pair[0], Wrong(b"data"), fallback=False)
    assert await loop.sock_sendfile(pair[0], Wrong(b"data")) == 4
    assert await received(loop, pair) == b"data"


async def test_an_exception_while_reading(loop: Any, pair: Pair) -> None:
    with pytest.raises(LookupError, match=r"^unreadable$"):
        await loop.sock_sendfile(pair[0], Reading(b"one", LookupError("unreadable")))
    assert await received(loop, pair) == b"one"


# What goes wrong.


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"count": 0}, ValueError, "count must be a positive integer (got 0)"),
        ({"count": -1}, ValueError, "count must be a positive integer (got -1)"),
        ({"count": "1"}, TypeError, "count must be a positive integer (got '1')"),
        ({"count": 2.0}, TypeError, "count must be a positive integer (got 2.0)"),
        ({"offset": -1}, ValueError, "offset must be a non-negative integer (got -1)"),
        ({"offset": "1"}, TypeError, "offset must be a non-negative integer (got '1')"),
        ({"offset": None}, TypeError, "offset must be a non-negative integer (got None)"),
        ({"offset": -1, "count": 0}, ValueError, "count must be a positive integer (got 0)"),
    ],
)
@pytest.mark.parametrize("fallback", [True, False])
async def test_wrong_arguments(
    loop: Any, open_file: Opener, options: dict[str, Any], error: Any, text: str, fallback: bool
) -> None:
    left, right = unix_pair()
    with left, right:
        with pytest.raises(error, match=f"^{re.escape(text)}$"):
            await loop.sock_sendfile(left, open_file(DATA), fallback=fallback, **options)
        assert drain_now(right) == b""


async def test_a_text_file(loop: Any, pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    with (
        path.open("r") as file,
        pytest.raises(ValueError, match=r"^file should be opened in binary mode$"),
    ):
        await loop.sock_sendfile(pair[0], file)


async def test_a_datagram_socket(loop: Any, open_file: Opener) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with pytest.raises(ValueError, match=r"^only SOCK_STREAM type sockets are supported$"):
            await loop.sock_sendfile(sock, open_file(DATA))


async def test_a_tls_socket(loop: Any, open_file: Opener) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with socket.socket() as sock, context.wrap_socket(sock, do_handshake_on_connect=False) as tls:
        tls.setblocking(False)
        with pytest.raises(TypeError, match=r"^Socket cannot be of type SSLSocket$"):
            await loop.sock_sendfile(tls, open_file(DATA))


async def test_debug_mode_wants_a_non_blocking_socket(
    loop: Any, pair: Pair, open_file: Opener
) -> None:
    loop.set_debug(True)
    pair[0].setblocking(True)
    with pytest.raises(ValueError, match=r"^the socket must be non-blocking$"):
        await loop.sock_sendfile(pair[0], open_file(DATA))


async def test_a_closed_file(loop: Any, pair: Pair, open_any: Opener) -> None:
    file = open_any(DATA)
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        await loop.sock_sendfile(pair[0], file)


async def test_a_closed_socket(loop: Any, pair: Pair, open_any: Opener) -> None:
    pair[0].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await loop.sock_sendfile(pair[0], open_any(DATA))


async def test_a_peer_that_has_gone(loop: Any, pair: Pair, open_any: Opener) -> None:
    pair[1].close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(10):
            await loop.sock_sendfile(pair[0], open_any(DATA))


async def test_a_socket_that_cannot_send(loop: Any, pair: Pair, open_file: Opener) -> None:
    """The kernel's refusal at the very start means that it should be tried by hand."""
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(asyncio.SendfileNotAvailableError, match=r"^os\.sendfile call failed$"):
        await loop.sock_sendfile(pair[0], open_file(DATA), fallback=False)
    with pytest.raises(BrokenPipeError):
        await loop.sock_sendfile(pair[0], open_file(DATA))


async def test_a_peer_that_resets_midway(loop: Any, open_any: Opener) -> None:
    """The position tells how much the kernel has taken."""
    left, right = tcp_pair()
    with left, right:
        file = open_any(bytes(BIG))
        task = loop.create_task(loop.sock_sendfile(left, file))
        got = len(await read_exactly(loop, right, BIG // 4))
        assert not task.done()
        reset(right)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await task
        assert got - 16 * 1024 <= file.tell() < BIG


async def test_cancelled_midway(loop: Any, pair: Pair, open_file: Opener) -> None:
    """What was sent until then arrives, nothing else, and the socket can be used again."""
    contents = os.urandom(BIG)
    file = open_file(contents)
    task = loop.create_task(loop.sock_sendfile(pair[0], file))
    got = await read_exactly(loop, pair[1], 100_000)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while piece := drain_now(pair[1]):
        got += piece
        await turns()
    assert len(got) < BIG
    assert got == contents[: len(got)]
    assert file.tell() in (0, len(got))
    await loop.sock_sendall(pair[0], b"usable")
    assert await received(loop, pair) == b"usable"


async def test_cancelled_midway_by_hand(loop: Any, pair: Pair) -> None:
    file = io.BytesIO(bytes(BIG))
    task = loop.create_task(loop.sock_sendfile(pair[0], file))
    got = await read_exactly(loop, pair[1], 1_000_000)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    got += await received(loop, pair)
    assert 0 < file.tell() <= len(got) < BIG


async def test_cancelled_before_it_starts(loop: Any, pair: Pair, open_any: Opener) -> None:
    file = open_any(DATA)
    task = loop.create_task(loop.sock_sendfile(pair[0], file))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await received(loop, pair) == b""


async def test_nothing_keeps_the_file_or_the_socket(loop: Any, open_file: Opener) -> None:
    """Afterwards both can be closed, and the descriptors used by others."""
    left, right = unix_pair()
    file = open_file(bytes(BIG))
    with left, right:
        task = loop.create_task(loop.sock_sendfile(left, file))
        await turns()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not loop.remove_writer(left)
    file.close()
    await turns()


async def test_a_socket_that_a_transport_has(loop: Any, open_file: Opener) -> None:
    left, right = unix_pair()
    with right:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport "):
            await loop.sock_sendfile(left, open_file(bytes(BIG)))
        transport.abort()
        await turns()
