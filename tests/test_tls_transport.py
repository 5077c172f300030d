"""The transport that a program has of a TLS connection: what it says, writing, reading."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from .connections import serving
from .support import (
    BIG,
    BufferedRecorder,
    Errors,
    Loop,
    Recorder,
    oracle_never,
    readable,
    records,
    turns,
)
from .tls import NAME, VERSIONS, Tls

SIDES = pytest.mark.parametrize("side", ["client", "server"])

# ---- what it says ----


@SIDES
async def test_extra_info(loop: Loop, tls: Tls, side: str) -> None:
    context = tls.context(side)
    async with tls.connected(loop, Recorder(), side, context=context) as (transport, peer):
        info = transport.get_extra_info
        seen = info("ssl_object")
        assert isinstance(seen, ssl.SSLObject)
        assert info("sslcontext") is context
        assert seen.context is context
        assert seen.server_side == (side == "server")
        assert seen.version() == "TLSv1.3"
        assert info("cipher") == seen.cipher() == peer.object.cipher()
        assert info("compression") is None
        assert info("peercert") == seen.getpeercert()
        assert bool(info("peercert")) == (side == "client")
        assert info("sockname") == peer.sock.getpeername()
        assert info("peername") == peer.sock.getsockname()
        assert info("socket").fileno() > 0
        assert info("socket").getsockname() == info("sockname")
        assert info("nothing") is None
        assert info("nothing", "default") == "default"


async def test_extra_info_after_the_end(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        names = ["ssl_object", "sslcontext", "cipher", "peercert", "compression"]
        before = [transport.get_extra_info(name) for name in names]
        transport.close()
        assert [transport.get_extra_info(name) for name in names] == before
        assert transport.get_extra_info("peername") == peer.sock.getsockname()
        assert await peer.read_all() == b""
        await peer.say_goodbye()
        await protocol.until_lost()
        await turns()
        assert [transport.get_extra_info(name) for name in names] == before


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_what_is_written_through_the_object_leaves_first(
    loop: Loop, tls: Tls, elsewhere: bool
) -> None:
    """By the loop's thread, or by another while the loop does not use the session."""

    class Answering(Recorder):
        def data_received(self, data: bytes) -> None:
            session = self.transport.get_extra_info("ssl_object")
            if elsewhere:
                thread = threading.Thread(target=session.write, args=(b"written, ",))
                thread.start()
                thread.join()
            else:
                session.write(b"written, ")
            self.transport.write(data)

    async with tls.connected(loop, Answering()) as (_, peer):
        for _ in range(3):
            await peer.write(b"echoed")
            assert await peer.read_exactly(len(b"written, echoed")) == b"written, echoed"


async def test_another_thread_is_not_given_what_was_received(loop: Loop, tls: Tls) -> None:
    """Reading through the object finds nothing: it came for the protocol."""
    seen: list[BaseException] = []

    def read(session: ssl.SSLObject) -> None:
        try:
            session.read(10)
        except ssl.SSLError as error:
            seen.append(error)

    class Reading(Recorder):
        def data_received(self, data: bytes) -> None:
            session = self.transport.get_extra_info("ssl_object")
            thread = threading.Thread(target=read, args=(session,))
            thread.start()
            thread.join()
            super().data_received(data)

    protocol = Reading()
    async with tls.connected(loop, protocol) as (_, peer):
        await peer.write(b"one")
        await protocol.until_received(3)
        await peer.write(b"two")
        assert await protocol.until_received(6) == b"onetwo"
    assert [type(error) for error in seen] == [ssl.SSLWantReadError] * 2


@oracle_never("it forgets the transport below")
async def test_addresses_after_the_end(loop: Loop, tls: Tls) -> None:
    """As without TLS."""
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, _):
        names = ["sockname", "peername"]
        before = [transport.get_extra_info(name) for name in names]
        transport.abort()
        await protocol.until_lost()
        assert [transport.get_extra_info(name) for name in names] == before
        assert transport.get_extra_info("socket").fileno() == -1


async def test_the_object_tells_what_connection_it_is(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, peer):
        seen = transport.get_extra_info("ssl_object")
        assert seen.getpeercert(True) == ssl.PEM_cert_to_DER_cert(
            tls.certificates.server.cert_chain_pems[0].bytes().decode()
        )
        assert seen.server_hostname == "localhost"
        assert seen.shared_ciphers() is None
        assert seen.selected_alpn_protocol() is None
        for kind in ("tls-unique",):
            ours, theirs = seen.get_channel_binding(kind), peer.object.get_channel_binding(kind)
            assert ours == theirs
            assert ours
        assert seen.pending() == 0


async def test_it_is_a_transport(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, _):
        assert isinstance(transport, asyncio.Transport)
        assert "ssl" in type(transport).__name__.lower() or "ssl" in repr(transport).lower()
        assert "ssl" in transport.__class__.__name__.lower()
        assert not transport.is_closing()
        assert transport.is_reading()
        assert transport.get_protocol() is not None


@SIDES
async def test_it_cannot_be_ended_one_way(loop: Loop, tls: Tls, side: str) -> None:
    async with tls.connected(loop, Recorder(), side) as (transport, peer):
        assert transport.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            transport.write_eof()
        transport.write(b"still works")
        assert await peer.read_exactly(11) == b"still works"


# ---- writing ----


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [1, 16_384, 16_385, 65_536, 100_000, BIG])
async def test_bytes_like_objects_of_any_size(
    loop: Loop, tls: Tls, wrap: Callable[[bytes], Any], size: int
) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    async with tls.connected(loop, Recorder()) as (transport, peer):
        transport.write(wrap(data))
        assert await peer.read_exactly(size) == data


async def test_many_writes_keep_their_order(loop: Loop, tls: Tls) -> None:
    pieces = [b"%d," % number for number in range(5000)]
    async with tls.connected(loop, Recorder()) as (transport, peer):
        for number, piece in enumerate(pieces):
            if number % 1000 == 0:
                await turns(1)
            transport.write(piece)
        transport.close()
        assert await peer.read_all() == b"".join(pieces)
        await peer.say_goodbye()


async def test_writes_of_all_sizes_keep_their_order(loop: Loop, tls: Tls) -> None:
    sizes = [1, 20_000, 3, 16_384, 16_383, 2, 600_000, 5, 70_000, 1, 1]
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    async with tls.connected(loop, Recorder()) as (transport, peer):
        for piece in pieces:
            transport.write(piece)
        transport.writelines(pieces)
        assert await peer.read_exactly(2 * sum(sizes)) == b"".join(pieces) * 2


class Echo(Recorder):
    """Sends back what it gets."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


@pytest.mark.parametrize("version", VERSIONS)
async def test_many_connections_work_in_turns(
    loop: Loop, tls: Tls, version: ssl.TLSVersion
) -> None:
    """More than those of a loop that keep OpenSSL's buffers, in several orders; with records that
    come in pieces, while others work."""
    sizes = [1, 1000, 16_385, 100_000, 3]
    async with (
        serving(loop, Echo, ssl=tls.server(version=version)) as (_, address),
        contextlib.AsyncExitStack() as stack,
    ):
        protocols = []
        for _ in range(45):
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=tls.client(), server_hostname=NAME
            )
            stack.callback(transport.abort)
            protocols.append(protocol)
        expected = [b""] * len(protocols)

        async def exchange(chosen: list[int], size: int) -> None:
            for number in chosen:
                data = bytes([number]) * size
                expected[number] += data
                protocols[number].transport.write(data)
            for number in chosen:
                assert await protocols[number].until_received(len(expected[number]))

        everyone = list(range(len(protocols)))
        for size in sizes:
            # All at once, some over and over, one after the other.
            await exchange(everyone, size)
            for _ in range(3):
                await exchange(everyone[:20], size)
            for number in everyone[::-5]:
                await exchange([number], size)
        assert [protocol.received for protocol in protocols] == expected
        for protocol in protocols:
            protocol.transport.close()
        for protocol in protocols:
            await protocol.until_lost()
            assert protocol.error is None


async def test_writelines(loop: Loop, tls: Tls) -> None:
    pieces: list[Any] = [b"a" * 10, bytearray(b"b" * 200_000), memoryview(b"c" * 300_000), b"d"]
    async with tls.connected(loop, Recorder()) as (transport, peer):
        transport.writelines(pieces)
        transport.writelines([])
        transport.writelines(piece for piece in [b"1", b"2"])
        transport.close()
        assert await peer.read_all() == b"".join(pieces) + b"12"
        await peer.say_goodbye()


async def test_an_empty_write_is_nothing(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, peer):
        transport.write(b"")
        transport.write(bytearray())
        transport.write(memoryview(b""))
        transport.write(b"text")
        assert await peer.read() == b"text"


@pytest.mark.parametrize("data", ["text", 42, None, [b"list"]])
async def test_other_types_are_refused(loop: Loop, tls: Tls, data: Any) -> None:
    text = rf"^data: expecting a bytes-like instance, got {type(data).__name__}$"
    async with tls.connected(loop, Recorder()) as (transport, peer):
        with pytest.raises(TypeError, match=text):
            transport.write(data)
        transport.write(b"still works")
        assert await peer.read_exactly(11) == b"still works"


@oracle_never("it ends the connection")
async def test_writelines_wants_bytes(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, peer):
        with pytest.raises(TypeError):
            transport.writelines(["text"])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            transport.writelines(42)  # type: ignore[arg-type]
        transport.write(b"still works")
        assert await peer.read_exactly(11) == b"still works"


@oracle_never("what is queued is the caller's buffer")
@pytest.mark.parametrize("lines", [False, True])
async def test_a_mutable_buffer_is_copied_when_queued(loop: Loop, tls: Tls, lines: bool) -> None:
    async with tls.connected(loop, Recorder()) as (transport, peer):
        data = bytearray(b"a" * BIG)
        more = bytearray(b"b" * 10)
        if lines:
            transport.writelines([data, more])
        else:
            transport.write(data)
            transport.write(more)
        data[:] = b"!" * 5
        more.clear()
        assert await peer.read_exactly(BIG + 10) == b"a" * BIG + b"b" * 10


async def test_a_small_mutable_buffer_may_change_at_once(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, peer):
        data = bytearray(b"first")
        for text in (b"first", b"second", b"third"):
            data[:] = text
            transport.write(data)
        data.clear()
        assert await peer.read_exactly(16) == b"firstsecondthird"


async def test_views_that_are_not_bytes_are_sent_as_bytes(loop: Loop, tls: Tls) -> None:
    import array

    numbers = array.array("I", [1, 2, 3])
    async with tls.connected(loop, Recorder()) as (transport, peer):
        transport.write(memoryview(numbers).cast("B"))
        assert await peer.read_exactly(12) == numbers.tobytes()


@oracle_never("it is refused in OpenSSL, or measured in items")
async def test_a_view_of_numbers_is_measured_in_bytes(loop: Loop, tls: Tls) -> None:
    import array

    numbers = array.array("I", range(10_000))
    async with tls.connected(loop, Recorder()) as (transport, peer):
        transport.write(memoryview(numbers))
        assert await peer.read_exactly(40_000) == numbers.tobytes()


async def test_writing_after_close_is_dropped(
    loop: Loop, tls: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    async with tls.connected(loop, Recorder()) as (transport, peer):
        transport.write(b"before")
        transport.close()
        for _ in range(8):
            transport.write(b"after")
        transport.writelines([b"after"])
        assert await peer.read_all() == b"before"
        await peer.say_goodbye()
    assert records(caplog, "WARNING")[0] == "SSL connection is closed"


async def test_what_data_received_writes_is_sent_in_one_go(loop: Loop, tls: Tls) -> None:
    class Talking(Recorder):
        def data_received(self, data: bytes) -> None:
            for _ in range(100):
                self.transport.write(b"a little ")

    async with tls.connected(loop, Talking()) as (_, peer):
        await peer.write(b"go")
        assert await peer.read_exactly(900) == b"a little " * 100


# ---- flow control of writing ----


async def test_the_water_marks_are_asyncios(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, _):
        assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
        assert transport.get_write_buffer_size() == 0


async def test_other_water_marks(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, _):
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=1000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        transport.set_write_buffer_limits(high=10, low=5)
        assert transport.get_write_buffer_limits() == (5, 10)
        transport.set_write_buffer_limits(0)
        assert transport.get_write_buffer_limits() == (0, 0)
        with pytest.raises(ValueError, match=r"^high \(5\) must be >= low \(10\) must be >= 0$"):
            transport.set_write_buffer_limits(high=5, low=10)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits()[0] >= 16 * 1024


async def test_a_peer_that_does_not_read_pauses_the_writer(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        written = 0
        while "pause_writing" not in protocol.names:
            transport.write(b"x" * 65_536)
            written += 65_536
            assert written < 16 * BIG
            await turns(2)
        assert transport.get_write_buffer_size() >= 512 * 1024
        assert "resume_writing" not in protocol.names
        assert await peer.read_exactly(written) == b"x" * written
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")
        assert protocol.names == ["connection_made", "pause_writing", "resume_writing"]
        assert transport.get_write_buffer_size() <= 128 * 1024


@oracle_never("it looks at the transport below at the next write")
async def test_one_large_write_pauses_at_once(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG * 2)
        assert protocol.names == ["connection_made", "pause_writing"]
        assert await peer.read_exactly(BIG * 2) == b"x" * BIG * 2
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")


async def test_drain_waits_for_the_peer(loop: Loop, tls: Tls) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    async with tls.connected(loop, protocol) as (transport, peer):
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        for _ in range(4):
            writer.write(b"x" * BIG)
        draining = asyncio.ensure_future(writer.drain())
        await turns(10)
        assert not draining.done()
        await peer.read_exactly(4 * BIG)
        await draining


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
async def test_flow_control_raises(loop: Loop, tls: Tls, errors: Errors, name: str) -> None:
    class Raising(Recorder):
        def note(self, *call: Any) -> None:
            super().note(*call)
            if call[0] == name:
                raise ZeroDivisionError(name)

    protocol = Raising()
    async with tls.connected(loop, protocol) as (transport, peer):
        for _ in range(4):
            transport.write(b"x" * BIG)
        assert await peer.read_exactly(4 * BIG) == b"x" * 4 * BIG
        await protocol.until(lambda: "resume_writing" in protocol.names)
        transport.write(b"y")
        assert await peer.read_exactly(1) == b"y"
    context = errors.take_one()
    assert context["message"] == f"protocol.{name}() failed"
    assert isinstance(context["exception"], ZeroDivisionError)


# ---- reading ----


async def test_pause_and_resume_reading(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        assert not transport.is_reading()
        transport.pause_reading()
        await peer.write(b"patience")
        await readable(loop, transport.get_extra_info("socket"))
        await turns(5)
        assert protocol.received == b""
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.until_received(8) == b"patience"


async def test_a_pause_in_data_received_keeps_the_rest(loop: Loop, tls: Tls) -> None:
    class Pausing(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            return memoryview(super().get_buffer(sizehint))

        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    protocol = Pausing(10)
    text = bytes(range(100))
    async with tls.connected(loop, protocol) as (transport, peer):
        await peer.write(text)
        for count in range(10, 101, 10):
            assert await protocol.until_received(count) == text[:count]
            await turns(3)
            assert len(protocol.received) == count
            transport.resume_reading()


async def test_a_paused_reader_stalls_its_peer(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.pause_reading()
        sending = asyncio.ensure_future(peer.write(b"x" * BIG))
        await turns(30)
        assert not sending.done()
        assert protocol.received == b""
        transport.resume_reading()
        assert await protocol.until_received(BIG) == b"x" * BIG
        await sending


async def test_writing_goes_on_while_reading_is_paused(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, peer):
        transport.pause_reading()
        transport.write(b"x" * BIG)
        assert await peer.read_exactly(BIG) == b"x" * BIG
        assert not transport.is_reading()


@oracle_never("the end of the handshake is not sent")
async def test_paused_in_connection_made(loop: Loop, tls: Tls) -> None:
    class Pausing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    protocol = Pausing()
    async with tls.connected(loop, protocol) as (transport, peer):
        await peer.write(b"later")
        await turns(10)
        assert protocol.names == ["connection_made"]
        transport.resume_reading()
        assert await protocol.until_received(5) == b"later"


async def test_the_read_marks_can_be_set(loop: Loop, tls: Tls) -> None:
    async with tls.connected(loop, Recorder()) as (transport, _):
        anything: Any = transport
        assert anything.get_read_buffer_limits() == (64 * 1024, 256 * 1024)
        anything.set_read_buffer_limits(high=1000, low=100)
        assert anything.get_read_buffer_limits() == (100, 1000)
        anything.set_read_buffer_limits()
        assert anything.get_read_buffer_limits() == (64 * 1024, 256 * 1024)
        with pytest.raises(ValueError, match=r"^high \(5\) must be >= low \(10\) must be >= 0$"):
            anything.set_read_buffer_limits(high=5, low=10)
        assert anything.get_read_buffer_size() == 0


# ---- another protocol ----


async def test_another_protocol_in_mid_stream(loop: Loop, tls: Tls) -> None:
    first, second = Recorder(), Recorder()
    async with tls.connected(loop, first) as (transport, peer):
        await peer.write(b"one")
        await first.until_received(3)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        await peer.write(b"two")
        assert await second.until_received(3) == b"two"
        assert first.received == b"one"
        assert second.names == ["data_received"]
        transport.close()
        assert await peer.read_all() == b""
        await peer.say_goodbye()
        await second.until_lost()
    assert not first.lost


async def test_another_kind_of_protocol_in_mid_stream(loop: Loop, tls: Tls) -> None:
    second = BufferedRecorder()

    class First(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.set_protocol(second)

    first = First()
    async with tls.connected(loop, first) as (transport, peer):
        await peer.write(b"one")
        await first.until_received(3)
        await peer.write(b"two")
        assert await second.until_received(3) == b"two"
        third = Recorder()
        transport.set_protocol(third)
        await peer.write(b"three")
        assert await third.until_received(5) == b"three"
    assert first.received == b"one"
    assert second.received == b"two"


# ---- exceptions out of callbacks ----


@pytest.mark.parametrize("make", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("version", VERSIONS)
async def test_receiving_raises(
    loop: Loop, tls: Tls, errors: Errors, make: type[Any], version: Any
) -> None:
    class Raising(make):  # type: ignore[misc]
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError("data_received")

        def buffer_updated(self, nbytes: int) -> None:
            raise ZeroDivisionError("buffer_updated")

    protocol = Raising()
    async with tls.connected(loop, protocol, version=version) as (_, peer):
        await peer.write(b"text")
        await protocol.until_lost()
    assert isinstance(protocol.error, ZeroDivisionError)
    context = errors.take_one()
    assert context["message"] == "Fatal error on SSL protocol"
    assert context["exception"] is protocol.error


async def test_get_buffer_raises(loop: Loop, tls: Tls, errors: Errors) -> None:
    class Raising(BufferedRecorder):
        armed = False

        def get_buffer(self, sizehint: int) -> bytearray:
            if self.armed:
                raise ZeroDivisionError("get_buffer")
            return super().get_buffer(sizehint)

    protocol = Raising()
    async with tls.connected(loop, protocol) as (_, peer):
        protocol.armed = True
        await peer.write(b"text")
        await protocol.until_lost()
    assert isinstance(protocol.error, ZeroDivisionError)
    assert errors.take_one()["exception"] is protocol.error


async def test_eof_received_raises(loop: Loop, tls: Tls, errors: Errors) -> None:
    class Raising(Recorder):
        def eof_received(self) -> bool:
            raise ZeroDivisionError("eof_received")

    protocol = Raising()
    async with tls.connected(loop, protocol) as (_, peer):
        await peer.say_goodbye()
        await protocol.until_lost()
    assert isinstance(protocol.error, ZeroDivisionError)
    context = errors.take_one()
    assert context["message"] == "Error calling eof_received()"
    assert context["exception"] is protocol.error


async def test_connection_lost_raises(loop: Loop, tls: Tls, errors: Errors) -> None:
    class Raising(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise ZeroDivisionError("connection_lost")

    protocol = Raising()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.close()
        assert await peer.read_all() == b""
        await peer.say_goodbye()
        await protocol.until_lost()
    assert isinstance(errors.take_one()["exception"], ZeroDivisionError)
