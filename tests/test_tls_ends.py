"""How TLS connections end: by us, by the peer, in good order and not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import pytest

from .support import (
    BIG,
    BufferedRecorder,
    Errors,
    Loop,
    Recorder,
    fill,
    oracle_never,
    oracle_since,
    records,
    reset,
    turns,
    unix_pair,
)
from .tls import VERSIONS, Peer, Tls

SIDES = pytest.mark.parametrize("side", ["client", "server"])
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS)

#: Seconds: closing that stalls is given up after these.
SOON = 0.1


async def answered(peer: Peer) -> bytes:
    """What comes before the other side's `close_notify`, which is answered."""
    received = await peer.read_all()
    await peer.say_goodbye()
    return received


# ---- by us ----


@SIDES
@EACH_VERSION
async def test_close_says_goodbye_and_waits(loop: Loop, tls: Tls, side: str, version: Any) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, side, version=version) as (transport, peer):
        transport.close()
        assert transport.is_closing()
        transport.close()
        assert await peer.read_all() == b""
        await turns(5)
        assert not protocol.lost
        await peer.say_goodbye()
        await protocol.until_lost()
        await peer.stream_ended()
    assert protocol.error is None


@EACH_VERSION
async def test_close_flushes(loop: Loop, tls: Tls, version: Any) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, version=version) as (transport, peer):
        transport.write(b"x" * BIG)
        transport.writelines([b"y", b"z"])
        transport.close()
        assert await answered(peer) == b"x" * BIG + b"yz"
        await protocol.until_lost()
    assert protocol.error is None


async def test_close_after_many_small_writes(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, peer):
        for _ in range(1000):
            transport.write(b"piece")
        transport.close()
        assert await answered(peer) == b"piece" * 1000


@SIDES
async def test_close_in_connection_made(loop: Loop, tls: Tls, side: str) -> None:
    class Closing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"goodbye")
            self.transport.close()

    protocol = Closing()
    async with tls.connected(loop, protocol, side) as (transport, peer):
        assert transport.is_closing()
        assert await answered(peer) == b"goodbye"
        await protocol.until_lost()
    assert protocol.error is None


@pytest.mark.parametrize("make", [Recorder, BufferedRecorder])
async def test_close_in_a_receiving_callback(loop: Loop, tls: Tls, make: type[Any]) -> None:
    class Closing(make):  # type: ignore[misc]
        def note(self, *call: Any) -> None:
            super().note(*call)
            if call[0] in ("data_received", "buffer_updated"):
                self.transport.write(b"enough")
                self.transport.close()

    protocol = Closing()
    async with tls.connected(loop, protocol) as (_, peer):
        await peer.write(b"text")
        assert await answered(peer) == b"enough"
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.received == b"text"


@pytest.mark.parametrize("make", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("size", [6, BIG])
async def test_close_in_a_callback_with_the_end_behind_the_bytes(
    loop: Loop, tls: Tls, make: type[Any], size: int
) -> None:
    """Closing finds the peer's end, inside of the program's own callback."""

    class Closing(make):  # type: ignore[misc]
        def note(self, *call: Any) -> None:
            super().note(*call)
            if call[0] in ("data_received", "buffer_updated"):
                self.transport.write(b"x" * size)
                self.transport.close()

    protocol = Closing()
    async with tls.connected(loop, protocol, "server") as (transport, peer):
        transport.pause_reading()
        peer.object.write(b"text")
        with pytest.raises(ssl.SSLWantReadError):
            peer.object.unwrap()
        await peer.flush()
        transport.resume_reading()
        assert await peer.read_exactly(size) == b"x" * size
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.received == b"text"
    received = "data_received" if make is Recorder else "buffer_updated"
    expected = ["connection_made", received, "eof_received", "connection_lost"]
    assert [name for name in protocol.names if name in expected] == expected


async def test_close_in_eof_received(loop: Loop, tls: Tls) -> None:
    class Closing(Recorder):
        def eof_received(self) -> bool:
            self.transport.write(b"you too")
            self.transport.close()
            return super().eof_received()

    protocol = Closing()
    async with tls.connected(loop, protocol) as (_, peer):
        await peer.say_goodbye()
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.names == ["connection_made", "eof_received", "connection_lost"]


@pytest.mark.parametrize("turns_before", [0, 2])
async def test_a_drain_after_the_end_of_a_stream(loop: Loop, tls: Tls, turns_before: int) -> None:
    """A server that answers a peer which has gone is told so at the same time on both loops."""
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    async with tls.connected(loop, protocol, "server") as (transport, peer):
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)

        async def answer() -> bool:
            assert await reader.read() == b""
            await turns(turns_before)
            writer.write(b"too late")
            try:
                await writer.drain()
            except ConnectionResetError:
                return False
            return True

        answering = asyncio.ensure_future(answer())
        await peer.say_goodbye()
        assert await answering is (turns_before == 0)


async def test_close_while_reading_is_paused(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        transport.close()
        assert await answered(peer) == b""
        await protocol.until_lost()
    assert protocol.error is None


@oracle_never("connection_lost() is given the session's error")
async def test_close_drops_what_was_not_read(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        await peer.write(b"nobody reads this")
        await turns(5)
        transport.close()
        with contextlib.suppress(OSError):
            await answered(peer)
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.received == b""


@oracle_never("connection_lost() is given the session's error")
@EACH_VERSION
async def test_whoever_talks_on_after_close_is_cut_off(loop: Loop, tls: Tls, version: Any) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, version=version) as (transport, peer):
        transport.close()
        await turns(3)
        with contextlib.suppress(ConnectionError):
            while not protocol.lost:
                await peer.write(b"and another thing")
                await turns(1)
    assert protocol.error is None
    assert protocol.received == b""


def narrow_pair() -> tuple[socket.socket, socket.socket]:
    """A connection that takes little at a time."""
    left, right = unix_pair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return left, right


@oracle_never("it drops the output")
@pytest.mark.parametrize("size", [50_000, BIG])
async def test_close_flushes_to_a_peer_that_talks_on(loop: Loop, tls: Tls, size: int) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, make_pair=narrow_pair) as (transport, peer):
        transport.write(b"y" * size)
        transport.close()
        for _ in range(5):
            await peer.write(b"x" * 10_000)
            await turns(3)
        assert await answered(peer) == b"y" * size
        await protocol.until_lost()
        assert protocol.received == b""
    assert protocol.error is None


async def test_close_while_the_peer_floods_and_does_not_read(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, ssl_shutdown_timeout=SOON) as (transport, peer):

        async def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await peer.write(b"x" * 100_000)

        flooding = asyncio.ensure_future(flood())
        await protocol.until_received(1_000_000)
        transport.write(b"y" * BIG)
        transport.close()
        await protocol.until_lost()
        await flooding
    assert isinstance(protocol.error, OSError)


@SIDES
async def test_abort(loop: Loop, tls: Tls, side: str) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, side) as (transport, peer):
        transport.abort()
        assert transport.is_closing()
        assert not protocol.lost
        transport.abort()
        await protocol.until_lost()
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            await peer.read()
    assert protocol.error is None
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_abort_drops_what_is_queued(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, _):
        transport.write(b"x" * BIG * 2)
        transport.abort()
        await protocol.until_lost()
        assert transport.get_write_buffer_size() == 0
    assert protocol.error is None


@pytest.mark.parametrize("where", ["connection_made", "data_received", "pause_writing"])
async def test_abort_in_a_callback(loop: Loop, tls: Tls, where: str) -> None:
    class Aborting(Recorder):
        def note(self, *call: Any) -> None:
            super().note(*call)
            if call[0] == where:
                self.transport.abort()

    protocol = Aborting()
    async with tls.connected(loop, protocol, "server") as (transport, peer):
        for _ in range(3):
            transport.write(b"x" * BIG)
        with contextlib.suppress(OSError):
            await peer.write(b"text")
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.calls[-1] == ("connection_lost", None)


async def test_abort_while_closing(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, _):
        transport.write(b"x" * BIG * 2)
        transport.close()
        await turns()
        transport.abort()
        await protocol.until_lost()
    assert protocol.error is None


# ---- by the peer ----


@SIDES
@EACH_VERSION
async def test_the_peer_says_goodbye(loop: Loop, tls: Tls, side: str, version: Any) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, side, version=version) as (transport, peer):
        await peer.write(b"last words")
        await peer.say_goodbye()
        await protocol.until_lost()
        assert transport.is_closing()
        assert await peer.read_all() == b""
        await peer.stream_ended()
    assert protocol.error is None
    assert protocol.received == b"last words"
    names = ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert protocol.names == names


async def test_text_and_goodbye_in_one_segment(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (_, peer):
        text = peer.encrypted(b"text")
        with contextlib.suppress(ssl.SSLError):
            peer.object.unwrap()
        await loop.sock_sendall(peer.sock, text + peer.outgoing.read())
        peer.end()
        await protocol.until_lost()
    assert protocol.error is None
    names = ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert protocol.names == names


async def test_a_goodbye_waits_for_who_has_paused(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        await peer.write(b"text")
        await peer.say_goodbye()
        await turns(10)
        assert protocol.names == ["connection_made"]
        transport.resume_reading()
        await protocol.until_lost()
    assert protocol.received == b"text"
    assert protocol.error is None


async def test_eof_received_cannot_keep_it_open(
    loop: Loop, tls: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    protocol = Recorder()
    protocol.keep_open = True
    async with tls.connected(loop, protocol) as (_, peer):
        await peer.say_goodbye()
        await protocol.until_lost()
    text = "returning true from eof_received() has no effect when using ssl"
    assert text in records(caplog, "WARNING")


async def test_streams_end(loop: Loop, tls: Tls) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    async with tls.connected(loop, protocol) as (transport, peer):
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        await peer.write(b"text")
        await peer.say_goodbye()
        assert await reader.read() == b"text"
        writer.close()
        await writer.wait_closed()


# ---- without a goodbye ----


@SIDES
@EACH_VERSION
async def test_an_end_between_two_records_is_one(
    loop: Loop, tls: Tls, side: str, version: Any
) -> None:
    """So blocking sockets of the `ssl` module end when they are closed."""
    protocol = Recorder()
    async with tls.connected(loop, protocol, side, version=version) as (_, peer):
        await peer.write(b"text")
        peer.end()
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.received == b"text"
    names = ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert protocol.names == names


@oracle_never("it passes for an end in good order")
@EACH_VERSION
@pytest.mark.parametrize("left", [1, 3, 5, 20])
async def test_an_end_within_a_record_is_an_error(
    loop: Loop, tls: Tls, version: Any, left: int
) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, version=version) as (_, peer):
        await peer.write(b"text")
        await loop.sock_sendall(peer.sock, peer.encrypted(b"cut off here")[:left])
        peer.end()
        await protocol.until_lost()
    assert isinstance(protocol.error, ssl.SSLEOFError)
    assert protocol.error.errno == ssl.SSL_ERROR_EOF
    assert "EOF occurred in violation of protocol" in str(protocol.error)
    assert protocol.received == b"text"


@pytest.mark.skipif(not hasattr(ssl, "OP_IGNORE_UNEXPECTED_EOF"), reason="since OpenSSL 3")
async def test_a_context_that_does_not_care(loop: Loop, tls: Tls) -> None:
    context = tls.client()
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    protocol = Recorder()
    async with tls.connected(loop, protocol, context=context) as (_, peer):
        await loop.sock_sendall(peer.sock, peer.encrypted(b"cut off here")[:10])
        peer.end()
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.names == ["connection_made", "eof_received", "connection_lost"]


async def test_an_end_waits_for_who_has_paused(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        await peer.write(b"text" * 1000)
        peer.end()
        await turns(10)
        assert protocol.names == ["connection_made"]
        transport.resume_reading()
        await protocol.until_lost()
    assert protocol.received == b"text" * 1000
    assert protocol.error is None


async def test_what_was_written_before_the_end_leaves(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        peer.end()
        await protocol.until(lambda: "eof_received" in protocol.names)
        assert await peer.read_exactly(BIG) == b"x" * BIG
        await protocol.until_lost()
    assert protocol.error is None


async def test_what_was_written_before_close_leaves_after_the_peers_end(
    loop: Loop, tls: Tls
) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * 2 * BIG)
        transport.close()
        peer.end()
        assert await peer.read_exactly(2 * BIG) == b"x" * 2 * BIG
        await protocol.until_lost()


@SIDES
async def test_a_reset(loop: Loop, tls: Tls, side: str) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, side) as (_, peer):
        reset(peer.sock)
        await protocol.until_lost()
    assert isinstance(protocol.error, ConnectionResetError)
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_a_reset_while_closing(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG * 2)
        transport.close()
        reset(peer.sock)
        await protocol.until_lost()
    assert isinstance(protocol.error, ConnectionError)


async def test_a_peer_that_closes_both_ways_while_we_write(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG * 2)
        await turns(3)
        peer.sock.close()
        await protocol.until_lost()
    assert protocol.error is None or isinstance(protocol.error, ConnectionError)


@EACH_VERSION
@pytest.mark.parametrize("make", [Recorder, BufferedRecorder])
async def test_a_broken_record(loop: Loop, tls: Tls, make: type[Any], version: Any) -> None:
    protocol = make()
    async with tls.connected(loop, protocol, version=version) as (_, peer):
        await peer.write(b"text")
        await protocol.until_received(4)
        record = bytearray(peer.encrypted(b"more"))
        record[-1] ^= 1
        await loop.sock_sendall(peer.sock, record)
        await protocol.until_lost()
    assert isinstance(protocol.error, ssl.SSLError)
    # OpenSSL has changed its mind about the word.
    assert protocol.error.reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
    assert "eof_received" not in protocol.names


@oracle_never("it closes without sending the alert")
async def test_whoever_sends_a_broken_record_is_told(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (_, peer):
        record = bytearray(peer.encrypted(b"text"))
        record[-1] ^= 1
        await loop.sock_sendall(peer.sock, record)
        with pytest.raises(ssl.SSLError) as caught:
            await peer.read()
        assert "BAD_RECORD_MAC" in (caught.value.reason or "")
        await protocol.until_lost()


@oracle_never("what came before in the same go is lost")
async def test_text_before_a_broken_record_is_received(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (_, peer):
        text = peer.encrypted(b"text")
        record = bytearray(peer.encrypted(b"more"))
        record[-1] ^= 1
        await loop.sock_sendall(peer.sock, text + record)
        await protocol.until_lost()
    assert isinstance(protocol.error, ssl.SSLError)
    assert protocol.received == b"text"


async def test_plain_text_in_the_middle(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (_, peer):
        await loop.sock_sendall(peer.sock, b"QUIT\r\n")
        await protocol.until_lost()
    assert isinstance(protocol.error, ssl.SSLError)


# ---- times ----


@SIDES
async def test_a_goodbye_that_nobody_answers(loop: Loop, tls: Tls, side: str) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, side, ssl_shutdown_timeout=SOON) as (transport, _):
        transport.close()
        await protocol.until_lost()
    assert isinstance(protocol.error, TimeoutError)
    assert str(protocol.error) == "SSL shutdown timed out"


async def test_output_that_nobody_takes(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, ssl_shutdown_timeout=SOON) as (transport, _):
        transport.write(b"x" * BIG * 2)
        transport.close()
        await protocol.until_lost()
    assert isinstance(protocol.error, TimeoutError)


@oracle_never("the time is for all of the output")
async def test_output_that_is_taken_slowly_arrives(loop: Loop, tls: Tls) -> None:
    size = 4 * 1024 * 1024
    protocol = Recorder()
    async with tls.connected(loop, protocol, ssl_shutdown_timeout=SOON) as (transport, peer):
        transport.write(b"x" * size)
        transport.close()
        begun = loop.time()
        received = 0
        while received < size:
            received += len(await peer.read())
            await asyncio.sleep(SOON / 50)
        assert loop.time() > begun + 2 * SOON
        assert await answered(peer) == b""
        await protocol.until_lost()
    assert protocol.error is None


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("goodbye", [False, True])
@pytest.mark.parametrize("size", [300_000, 2 * BIG])
@oracle_since((3, 14, 10), "what is left in the transport below is waited for for ever")
async def test_a_peer_that_has_ended_and_does_not_read(
    loop: Loop, tls: Tls, size: int, goodbye: bool, closed: bool
) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, ssl_shutdown_timeout=SOON) as (transport, peer):
        fill(transport.get_extra_info("socket")._sock)
        transport.write(b"x" * size)
        if closed:
            transport.close()
        await turns(3)
        if goodbye:
            await peer.say_goodbye()
        else:
            peer.end()
        await protocol.until_lost()
    assert isinstance(protocol.error, TimeoutError)


async def test_no_report_of_what_is_ordinary(loop: Loop, tls: Tls, errors: Errors) -> None:
    """Peers that reset, break records or stall are no fault of the program."""
    for _ in range(3):
        protocol = Recorder()
        async with tls.connected(loop, protocol) as (transport, peer):
            transport.pause_reading()
            fill(peer.sock)
            transport.resume_reading()
            await protocol.until_lost()
    assert errors.take() == []
