"""TLS connections: who makes them, what they are asked, what goes through them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import sys
from pathlib import Path
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
    oracle_when,
    tcp_pair,
    turns,
    unix_pair,
)
from .tls import NAME, VERSIONS, Peer, Tls, wrap

SIDES = pytest.mark.parametrize("side", ["client", "server"])

#: What is sent to be compared at the other end.
TEXT = bytes(range(256)) * 1024


class Echo(Recorder):
    """Sends back what it gets."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


# ---- who makes them ----


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_echo_between_two_protocols(loop: Loop, tls: Tls, version: Any) -> None:
    async with serving(loop, Echo, ssl=tls.server()) as (_, address):
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=tls.client(version=version), server_hostname=NAME
        )
        transport.write(TEXT)
        assert await protocol.until_received(len(TEXT)) == TEXT
        transport.close()
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.names == ["connection_made", "data_received", "eof_received", "connection_lost"]


async def test_who_closes_is_told_of_the_answer(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        transport.close()
        assert await peer.read_all() == b""
        await peer.say_goodbye()
        await protocol.until_lost()
    assert protocol.names == ["connection_made", "eof_received", "connection_lost"]


async def test_the_name_of_the_server_is_the_host_that_was_asked_for(loop: Loop, tls: Tls) -> None:
    names: list[Any] = []
    context = tls.server()
    context.sni_callback = lambda _, name, __: names.append(name)
    async with serving(loop, Echo, ssl=context) as (_, address):
        for host in (NAME, "127.0.0.1"):
            transport, protocol = await loop.create_connection(
                Recorder, host, address[1], ssl=tls.client(), family=socket.AF_INET
            )
            transport.close()
            await protocol.until_lost()
    assert names == [NAME, None], "an address is no name that could be asked for"


async def test_streams(loop: Loop, tls: Tls) -> None:
    ended = loop.create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set_result(rest)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server())
    async with server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(
            *address, ssl=tls.client(), server_hostname=NAME
        )
        writer.write(b"hello\nand good")
        assert await reader.readline() == b"HELLO\n"
        assert not reader.at_eof()
        writer.write(b"bye")
        writer.close()
        await writer.wait_closed()
        assert await ended == b"and goodbye"


async def test_over_a_unix_socket(loop: Any, tls: Tls, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = await loop.create_unix_server(Echo, path, ssl=tls.server())
    transport, protocol = await loop.create_unix_connection(
        Recorder, path, ssl=tls.client(), server_hostname=NAME
    )
    transport.write(TEXT)
    assert await protocol.until_received(len(TEXT)) == TEXT
    assert transport.get_extra_info("peername") == path
    transport.close()
    await protocol.until_lost()
    server.close()
    await server.wait_closed()
    await turns()


@SIDES
@pytest.mark.parametrize("make_pair", [tcp_pair, unix_pair])
async def test_over_a_connected_socket(loop: Loop, tls: Tls, side: str, make_pair: Any) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol, side, make_pair=make_pair) as (transport, peer):
        await peer.write(b"question")
        assert await protocol.until_received(8) == b"question"
        transport.write(b"answer")
        assert await peer.read_exactly(6) == b"answer"


async def test_both_ends_on_one_loop(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    client, server = Recorder(), Recorder()
    await asyncio.gather(
        wrap(loop, left, client, "client", tls.client()),
        wrap(loop, right, server, "server", tls.server()),
    )
    client.transport.write(TEXT)
    server.transport.write(TEXT)
    assert await client.until_received(len(TEXT)) == TEXT
    assert await server.until_received(len(TEXT)) == TEXT
    client.transport.close()
    await client.until_lost()
    await server.until_lost()
    assert (client.error, server.error) == (None, None)
    assert server.names[-2:] == ["eof_received", "connection_lost"]


async def test_the_default_context_trusts_nobody_of_ours(loop: Loop, tls: Tls) -> None:
    async with serving(loop, Echo, ssl=tls.server()) as (_, address):
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(Recorder, *address, ssl=True, server_hostname=NAME)


async def test_connection_made_comes_after_the_handshake(loop: Loop, tls: Tls) -> None:
    seen: list[Any] = []

    class Looking(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            seen.append(transport.get_extra_info("cipher"))
            seen.append(transport.get_extra_info("ssl_object").version())

    left, right = tcp_pair()
    protocol = Looking()
    with right:
        making = asyncio.ensure_future(wrap(loop, left, protocol, "client", tls.client()))
        await turns(5)
        assert protocol.calls == []
        peer = Peer(loop, right, tls.server(), True)
        await peer.handshake()
        transport = await making
        assert protocol.transport is transport
        assert seen[0] == peer.object.cipher()
        assert seen[1] == peer.object.version()
        transport.abort()
        await turns()


async def test_what_connection_made_writes_is_sent(loop: Loop, tls: Tls) -> None:
    class Greeting(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"220 ")
            self.transport.writelines([b"ready", b"\r\n"])

    async with tls.connected(loop, Greeting(), "server") as (_, peer):
        assert await peer.read_exactly(11) == b"220 ready\r\n"


async def test_what_comes_with_the_end_of_the_handshake_is_received(loop: Loop, tls: Tls) -> None:
    """A client of TLS 1.3 may send at once."""
    left, right = tcp_pair()
    protocol = Recorder()
    with right:
        making = asyncio.ensure_future(wrap(loop, left, protocol, "server", tls.server()))
        peer = Peer(loop, right, tls.client(version=ssl.TLSVersion.TLSv1_3), False)
        flush = peer.flush

        async def hold_back() -> None:
            """The last flight waits for the text."""
            if not peer.object.version() or peer.object.cipher() is None:
                await flush()

        peer.flush = hold_back  # type: ignore[method-assign]
        await peer.handshake()
        peer.flush = flush  # type: ignore[method-assign]
        await peer.write(b"hello")
        transport = await making
        assert await protocol.until_received(5) == b"hello"
        assert protocol.names == ["connection_made", "data_received"]
        transport.abort()
        await turns()


# ---- what they are asked ----


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ssl_handshake_timeout": 0}, ValueError, "^ssl_handshake_timeout should be a positive"),
        ({"ssl_handshake_timeout": -1}, ValueError, "^ssl_handshake_timeout should be a positive"),
        ({"ssl_shutdown_timeout": 0}, ValueError, "^ssl_shutdown_timeout should be a positive"),
        ({"ssl_shutdown_timeout": -2}, ValueError, "^ssl_shutdown_timeout should be a positive"),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_times_have_to_be_positive(
    loop: Any, tls: Tls, options: Any, error: Any, text: str
) -> None:
    left, right = tcp_pair()
    with left, right:
        with pytest.raises(error, match=text):
            await wrap(loop, left, Recorder(), "client", tls.client(), **options)
        await turns()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_server_needs_a_context(loop: Any, tls: Tls) -> None:
    left, right = tcp_pair()
    with left, right:
        with pytest.raises(ValueError, match=r"^Server side SSL needs a valid SSLContext$"):
            await loop.connect_accepted_socket(Recorder, left, ssl=True)
        await turns()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_context_has_to_be_one(loop: Any, tls: Tls) -> None:
    left, right = tcp_pair()
    with left, right:
        with pytest.raises(AttributeError, match="wrap_bio"):
            await loop.create_connection(Recorder, sock=left, ssl="context", server_hostname=NAME)
        await turns()


async def test_a_socket_needs_a_name_or_an_empty_one(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    text = "^You must set server_hostname when using ssl wit"
    with left, right, pytest.raises(ValueError, match=text):
        await loop.create_connection(Recorder, sock=left, ssl=tls.client())


async def test_an_empty_name_is_no_name(loop: Loop, tls: Tls) -> None:
    context = tls.client()
    context.check_hostname = False
    names: list[Any] = []
    theirs = tls.server()
    theirs.sni_callback = lambda _, name, __: names.append(name)
    async with tls.connected(
        loop, Recorder(), context=context, peer_context=theirs, server_hostname=""
    ):
        assert names == [None]


# ---- what goes through them ----


@SIDES
@pytest.mark.parametrize("version", VERSIONS)
async def test_much_in_both_directions(loop: Loop, tls: Tls, side: str, version: Any) -> None:
    protocol = Recorder()
    digest = hashlib.sha256(TEXT * 32).digest()
    async with tls.connected(loop, protocol, side, version=version) as (transport, peer):
        for _ in range(32):
            transport.write(TEXT)
        received = await peer.read_exactly(len(TEXT) * 32)
        assert hashlib.sha256(received).digest() == digest
        sending = asyncio.ensure_future(peer.write(TEXT * 32))
        await protocol.until_received(len(TEXT) * 32)
        await sending
        assert hashlib.sha256(protocol.received).digest() == digest


async def test_records_that_come_byte_by_byte(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (_, peer):
        for byte in peer.encrypted(b"first") + peer.encrypted(b"second"):
            await loop.sock_sendall(peer.sock, bytes([byte]))
            await turns(2)
        assert await protocol.until_received(11) == b"firstsecond"


async def test_many_small_records_are_delivered_together(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (_, peer):
        records = b"".join(peer.encrypted(b"%04d" % number) for number in range(500))
        await loop.sock_sendall(peer.sock, records)
        assert await protocol.until_received(2000) == b"".join(b"%04d" % n for n in range(500))
        assert len(protocol.calls) < 100


async def test_what_was_received_in_one_go_is_one_piece(loop: Loop, tls: Tls) -> None:
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (_, peer):
        await loop.sock_sendall(peer.sock, peer.encrypted(b"one ") + peer.encrypted(b"two"))
        await protocol.until_received(7)
        assert protocol.calls[1:] == [("data_received", b"one two")]


async def test_a_record_without_text_is_nothing(loop: Loop, tls: Tls) -> None:
    """TLS 1.2's empty records are how some hide what they send."""
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (_, peer):
        peer.object.write(b"")
        await peer.write(b"text")
        assert await protocol.until_received(4) == b"text"
        assert protocol.names == ["connection_made", "data_received"]


async def test_data_received_is_given_bytes(loop: Loop, tls: Tls) -> None:
    types = []

    class Looking(Recorder):
        def data_received(self, data: bytes) -> None:
            types.append(type(data))
            super().data_received(data)

    protocol = Looking()
    async with tls.connected(loop, protocol) as (_, peer):
        await peer.write(b"x" * 100_000)
        await protocol.until_received(100_000)
        assert set(types) == {bytes}


class Viewed(BufferedRecorder):
    """A buffered protocol that lends a view of its buffer."""

    def get_buffer(self, sizehint: int) -> Any:
        return memoryview(super().get_buffer(sizehint))


@pytest.mark.parametrize("size", [1, 100, 16384, 65536])
@pytest.mark.parametrize(
    "make",
    [
        Viewed,
        pytest.param(
            BufferedRecorder,
            marks=oracle_never("the second record goes to a copy of the bytearray's rest"),
        ),
    ],
)
async def test_a_buffered_protocol_is_given_text_in_its_own_buffer(
    loop: Loop, tls: Tls, make: type[BufferedRecorder], size: int
) -> None:
    protocol = make(size)
    text = TEXT[: max(1000, min(size * 3, len(TEXT)))]
    async with tls.connected(loop, protocol) as (transport, peer):
        await peer.write(text)
        assert await protocol.until_received(len(text)) == text
        assert max(call[1] for call in protocol.calls if call[0] == "buffer_updated") <= size
        transport.write(b"fine")
        assert await peer.read_exactly(4) == b"fine"


@pytest.mark.parametrize("answer", [b"", bytearray()])
@oracle_never("it takes an empty buffer for the peer's end")
async def test_a_buffered_protocol_has_to_give_room(
    loop: Loop, tls: Tls, errors: Errors, answer: Any
) -> None:
    class Roomless(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            return answer

    protocol = Roomless()
    async with tls.connected(loop, protocol) as (_, peer):
        # It may have been asked for room already.
        with contextlib.suppress(ConnectionError):
            await peer.write(b"text")
        await protocol.until_lost()
    assert isinstance(protocol.error, RuntimeError)
    assert str(protocol.error) == "get_buffer() returned an empty buffer"
    assert errors.take_one()["message"] == "Fatal error on SSL protocol"


async def test_a_context_serves_many_connections(loop: Loop, tls: Tls) -> None:
    context, theirs = tls.client(), tls.server()
    for _ in range(3):
        async with tls.connected(loop, Recorder(), context=context, peer_context=theirs) as (
            transport,
            peer,
        ):
            transport.write(b"again")
            assert await peer.read_exactly(5) == b"again"


async def test_a_server_with_many_clients(loop: Loop, tls: Tls) -> None:
    async def client(address: Any, number: int) -> bytes:
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=NAME)
        writer.write(b"%d\n" % number)
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return answer

    context = tls.client()
    async with serving(loop, Echo, ssl=tls.server(), backlog=100) as (_, address):
        answers = await asyncio.gather(*(client(address, number) for number in range(60)))
    assert answers == [b"%d\n" % number for number in range(60)]


@oracle_never("it closes the transports below TLS")
async def test_close_clients_says_goodbye(loop: Any, tls: Tls) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=tls.server())
    left = socket.socket()
    left.setblocking(False)
    with left:
        await loop.sock_connect(left, server.sockets[0].getsockname())
        peer = Peer(loop, left, tls.client(), False)
        await peer.handshake()
        server.close()
        await turns()
        server.close_clients()
        assert await peer.read_all() == b""
        await peer.say_goodbye()
        await server.wait_closed()
    await turns()


@oracle_when(sys.version_info >= (3, 13), "before 3.13: no abort_clients()")
async def test_abort_clients_says_nothing(loop: Any, tls: Tls) -> None:
    protocol = Recorder()
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=tls.server())
    left = socket.socket()
    left.setblocking(False)
    with left:
        await loop.sock_connect(left, server.sockets[0].getsockname())
        peer = Peer(loop, left, tls.client(), False)
        await peer.handshake()
        # The server has to have come as far.
        await peer.write(b"x")
        await protocol.until_received(1)
        server.close()
        await turns(10)
        server.abort_clients()
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            await peer.read_all()
        await server.wait_closed()
    await turns()


async def test_sendfile_reads_and_writes(loop: Any, tls: Tls, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(TEXT * 8)
    async with tls.connected(loop, Recorder()) as (transport, peer):
        with path.open("rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(transport, file, 10))
            assert await peer.read_exactly(len(TEXT) * 8 - 10) == (TEXT * 8)[10:]
            assert await sending == len(TEXT) * 8 - 10
            assert file.tell() == len(TEXT) * 8
        transport.write(b"behind")
        assert await peer.read_exactly(6) == b"behind"


async def test_sendfile_without_a_fallback(loop: Any, tls: Tls, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    async with tls.connected(loop, Recorder()) as (transport, peer):
        with path.open("rb") as file:
            with pytest.raises(RuntimeError, match="fallback is disabled and native sendfile"):
                await loop.sendfile(transport, file, fallback=False)
            transport.write(b"still works")
            assert await peer.read_exactly(11) == b"still works"


@oracle_never("it may go on for ever, writing to nobody")
async def test_sendfile_with_a_peer_that_leaves(loop: Any, tls: Tls, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * BIG * 2)
    protocol = Recorder()
    async with tls.connected(loop, protocol) as (transport, peer):
        with path.open("rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await peer.read_exactly(1000)
            peer.sock.close()
            with pytest.raises(ConnectionError):
                await sending
        await protocol.until_lost()
