"""`start_tls`: TLS on connections that stand, in both directions, over all kinds of transports."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pytest

from .connections import end
from .support import (
    BIG,
    BufferedRecorder,
    Loop,
    Recorder,
    oracle_never,
    tcp_pair,
    turns,
    unix_pair,
)
from .tls import NAME, Peer, Tls

SIDES = pytest.mark.parametrize("side", ["client", "server"])

#: Seconds: what stalls is given up after these.
SOON = 0.1

WRITER_STARTS = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="StreamWriter.start_tls() is there since 3.11"
)


async def upgraded(
    loop: Loop, tls: Tls, transport: Any, protocol: Any, peer_socket: Any, side: str, **options: Any
) -> tuple[asyncio.Transport, Peer]:
    """Put TLS on both ends of a connection."""
    other = "client" if side == "server" else "server"
    peer = Peer(loop, peer_socket, tls.context(other), other == "server")
    if side == "client":
        options.setdefault("server_hostname", NAME)
    made, _ = await asyncio.gather(
        loop.start_tls(
            transport, protocol, tls.context(side), server_side=side == "server", **options
        ),
        peer.handshake(),
    )
    assert made is not None
    return made, peer


# ---- the upgrade ----


@SIDES
@pytest.mark.parametrize("make_pair", [tcp_pair, unix_pair])
@pytest.mark.parametrize("make", [Recorder, BufferedRecorder])
async def test_both_sides(
    loop: Loop, tls: Tls, side: str, make_pair: Callable[[], Any], make: type[Any]
) -> None:
    left, right = make_pair()
    with right:
        protocol: Recorder | BufferedRecorder = make()
        before, _ = await loop.create_connection(lambda: protocol, sock=left)
        before.write(b"STARTTLS\n")
        assert await loop.sock_recv(right, 100) == b"STARTTLS\n"
        transport, peer = await upgraded(loop, tls, before, protocol, right, side)
        assert transport is not before
        assert transport.get_protocol() is protocol
        assert transport.get_extra_info("cipher") == peer.object.cipher()
        assert transport.get_extra_info("socket").fileno() == left.fileno()
        transport.write(b"secret")
        assert await peer.read_exactly(6) == b"secret"
        await peer.write(b"likewise")
        assert await protocol.until_received(8) == b"likewise"
        transport.close()
        assert await peer.read_all() == b""
        await peer.say_goodbye()
        await protocol.until_lost()
    assert protocol.error is None
    assert [name for name in protocol.names if name != "get_buffer"][:1] == ["connection_made"]
    assert protocol.names.count("connection_made") == 1
    await turns()


@oracle_never("the transport below resumes who was never paused: an AssertionError")
async def test_what_was_written_before_is_sent_in_clear(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    with right:
        before, protocol = await loop.create_connection(Recorder, sock=left)
        before.write(b"x" * BIG)
        upgrading = asyncio.ensure_future(
            loop.start_tls(before, protocol, tls.client(), server_hostname=NAME)
        )
        received = 0
        while received < BIG:
            piece = await loop.sock_recv(right, min(BIG - received, 1 << 20))
            assert piece == b"x" * len(piece)
            received += len(piece)
        peer = Peer(loop, right, tls.server(), True)
        await peer.handshake()
        transport = await upgrading
        assert transport is not None
        transport.write(b"secret")
        assert await peer.read_exactly(6) == b"secret"
        transport.abort()
        await turns()


async def test_a_paused_transport_reads_the_handshake(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    with right:
        before, protocol = await loop.create_connection(Recorder, sock=left)
        before.pause_reading()
        transport, peer = await upgraded(loop, tls, before, protocol, right, "client")
        await peer.write(b"text")
        assert await protocol.until_received(4) == b"text"
        transport.abort()
        await turns()


@pytest.mark.parametrize("context", [None, True, "context", ssl])
async def test_a_context_is_asked_for(loop: Loop, tls: Tls, context: Any) -> None:
    left, right = tcp_pair()
    with right:
        before, protocol = await loop.create_connection(Recorder, sock=left)
        with pytest.raises(TypeError, match="sslcontext is expected to be an instance of"):
            await loop.start_tls(before, protocol, context)
        before.write(b"as before")
        assert await loop.sock_recv(right, 100) == b"as before"
        await end(before)


async def test_not_every_transport_can(loop: Loop, tls: Tls) -> None:
    with pytest.raises(TypeError, match=r"transport .* is not supported by start_tls\(\)"):
        await loop.start_tls(asyncio.Transport(), Recorder(), tls.client(), server_hostname=NAME)


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
async def test_times_have_to_be_positive(loop: Any, tls: Tls, name: str) -> None:
    left, right = tcp_pair()
    with right:
        before, protocol = await loop.create_connection(Recorder, sock=left)
        with pytest.raises(ValueError, match=f"^{name} should be a positive number, got 0"):
            await loop.start_tls(before, protocol, tls.client(), server_hostname=NAME, **{name: 0})
        await end(before)


# ---- failures ----


async def test_a_closing_transport(loop: Loop, tls: Tls) -> None:
    """It is no error to come too late, but there is no new transport."""
    left, right = tcp_pair()
    with right:
        before, protocol = await loop.create_connection(Recorder, sock=left)
        before.close()
        assert (
            await loop.start_tls(
                before, protocol, tls.client(), server_hostname=NAME, ssl_handshake_timeout=5
            )
            is None
        )
        await turns()
    assert not any(name == "data_received" for name in protocol.names)


async def test_a_server_that_nobody_trusts(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    with right:
        before, protocol = await loop.create_connection(Recorder, sock=left)
        peer = Peer(loop, right, tls.server(tls.certificates.strange), True)
        shaking = asyncio.ensure_future(peer.handshake())
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.start_tls(before, protocol, tls.client(), server_hostname=NAME)
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await shaking
        assert before.is_closing()
        await turns()
        assert left.fileno() == -1


async def test_a_peer_that_is_silent(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    with right:
        before, protocol = await loop.create_connection(Recorder, sock=left)
        with pytest.raises(ConnectionAbortedError, match="is taking longer than"):
            await loop.start_tls(
                before, protocol, tls.client(), server_hostname=NAME, ssl_handshake_timeout=SOON
            )
        await turns()
        assert left.fileno() == -1


async def test_a_peer_that_ends_instead(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    before, protocol = await loop.create_connection(Recorder, sock=left)
    right.close()
    with pytest.raises(ConnectionResetError):
        await loop.start_tls(before, protocol, tls.client(), server_hostname=NAME)
    await turns()
    assert left.fileno() == -1


async def test_whoever_is_cancelled_closes_the_transport(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    with right:
        before, protocol = await loop.create_connection(Recorder, sock=left)
        upgrading = asyncio.ensure_future(
            loop.start_tls(before, protocol, tls.client(), server_hostname=NAME)
        )
        assert await loop.sock_recv(right, 1 << 16)
        upgrading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upgrading
        assert before.is_closing()
        assert await loop.sock_recv(right, 100) == b""
        await turns()
        assert left.fileno() == -1


# ---- streams ----


class SmtpLike:
    """A small server that speaks in lines, and upgrades when it is asked to."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.heard: list[tuple[bytes, bool]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            secret = writer.get_extra_info("sslcontext") is not None
            self.heard.append((line, secret))
            if line == b"STARTTLS\r\n":
                writer.write(b"220 go ahead\r\n")
                await writer.drain()
                await writer.start_tls(self.context)
            elif line == b"QUIT\r\n":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 " + line)
        writer.close()
        await writer.wait_closed()


@WRITER_STARTS
async def test_a_conversation_that_becomes_secret(loop: Loop, tls: Tls) -> None:
    smtp = SmtpLike(tls.server())
    server = await asyncio.start_server(smtp.serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.readline() == b"220 ready\r\n"
        writer.write(b"EHLO\r\n")
        assert await reader.readline() == b"250 EHLO\r\n"
        writer.write(b"STARTTLS\r\n")
        assert await reader.readline() == b"220 go ahead\r\n"
        await writer.start_tls(tls.client(), server_hostname=NAME)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        for number in range(20):
            writer.write(b"%d\r\n" % number)
            assert await reader.readline() == b"250 %d\r\n" % number
        writer.write(b"QUIT\r\n")
        assert await reader.readline() == b"221 bye\r\n"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await turns()
    assert smtp.heard[:2] == [(b"EHLO\r\n", False), (b"STARTTLS\r\n", False)]
    assert smtp.heard[-1] == (b"QUIT\r\n", True)


@WRITER_STARTS
@oracle_never("what the reader has taken already is lost to the handshake")
async def test_a_client_that_does_not_wait(loop: Loop, tls: Tls) -> None:
    """Its first flight comes with its last line, and the reader takes both."""
    smtp = SmtpLike(tls.server())
    server = await asyncio.start_server(smtp.serve, "127.0.0.1", 0)
    async with server:
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as sock:
            sock.setblocking(False)
            peer = Peer(loop, sock, tls.client(), False)
            assert await loop.sock_recv(sock, 100) == b"220 ready\r\n"
            with pytest.raises(ssl.SSLWantReadError):
                peer.object.do_handshake()
            await loop.sock_sendall(sock, b"STARTTLS\r\n" + peer.outgoing.read())
            assert await loop.sock_recv(sock, 14) == b"220 go ahead\r\n"
            await peer.handshake()
            await peer.write(b"QUIT\r\n")
            assert await peer.read_all() == b"221 bye\r\n"
            await peer.say_goodbye()
            await peer.stream_ended()
        await turns()
    assert smtp.heard[-1] == (b"QUIT\r\n", True)


@WRITER_STARTS
async def test_a_stream_that_is_told_after_the_upgrade(loop: Loop, tls: Tls) -> None:
    """drain(), and what the reader is fed, go through the new transport."""
    left, right = tcp_pair()
    with right:
        reader, writer = await asyncio.open_connection(sock=left)
        peer = Peer(loop, right, tls.server(), True)
        await asyncio.gather(writer.start_tls(tls.client(), server_hostname=NAME), peer.handshake())
        sending = asyncio.ensure_future(peer.write(b"x" * BIG))
        assert await reader.readexactly(BIG) == b"x" * BIG
        await sending
        for _ in range(4):
            writer.write(b"y" * BIG)
        draining = asyncio.ensure_future(writer.drain())
        await turns(10)
        assert not draining.done()
        await peer.read_exactly(4 * BIG)
        await draining
        await peer.say_goodbye()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await turns()


class Asks(asyncio.Protocol):
    """How drivers of databases begin: one byte says whether there will be TLS."""

    def __init__(self, loop: Loop) -> None:
        self.answered: asyncio.Future[bool] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")

    def data_received(self, data: bytes) -> None:
        self.answered.set_result(data == b"S")


@pytest.mark.parametrize("answer", [b"S", b"N"])
async def test_a_driver_that_asks_with_one_protocol_and_talks_with_another(
    loop: Loop, tls: Tls, answer: bytes
) -> None:
    left, right = tcp_pair()
    with right:
        asking = Asks(loop)
        transport, _ = await loop.create_connection(lambda: asking, sock=left)
        assert len(await loop.sock_recv(right, 100)) == 8
        await loop.sock_sendall(right, answer)
        protocol = Recorder()
        if await asking.answered:
            transport, peer = await upgraded(loop, tls, transport, asking, right, "client")
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            await peer.write(b"welcome")
        else:
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            await loop.sock_sendall(right, b"welcome")
        assert await protocol.until_received(7) == b"welcome"
        transport.abort()
        await protocol.until_lost()
        await turns()


# ---- over other transports ----


@SIDES
async def test_tls_inside_tls(loop: Loop, tls: Tls, side: str) -> None:
    """A proxy that is spoken to in secret, and a server behind it."""
    protocol = Recorder()
    async with tls.connected(loop, protocol, side) as (outer, outer_peer):
        context = tls.context("client" if side == "server" else "server")
        inner_peer = Peer(loop, outer_peer.sock, context, side == "client")

        async def flush() -> None:
            if inner_peer.outgoing.pending:
                await outer_peer.write(inner_peer.outgoing.read())

        async def step(step: Callable[..., Any], *arguments: Any) -> Any:
            while True:
                try:
                    result = step(*arguments)
                except ssl.SSLWantReadError:
                    await flush()
                    inner_peer.incoming.write(await outer_peer.read())
                else:
                    await flush()
                    return result

        name = None if side == "server" else NAME
        upgrade = loop.start_tls(
            outer, protocol, tls.context(side), server_side=side == "server", server_hostname=name
        )
        inner, _ = await asyncio.gather(upgrade, step(inner_peer.object.do_handshake))
        assert inner is not None
        assert inner.get_extra_info("peername") == outer.get_extra_info("peername")
        assert inner.get_extra_info("ssl_object") is not outer.get_extra_info("ssl_object")
        text = bytes(range(256)) * 2000
        inner.write(text)
        received = b""
        while len(received) < len(text):
            received += await step(inner_peer.object.read, 1 << 16)
        assert received == text
        await step(inner_peer.object.write, b"answer")
        assert await protocol.until_received(6) == b"answer"
        inner.close()
        with contextlib.suppress(ssl.SSLZeroReturnError):
            assert await step(inner_peer.object.read, 100) == b""
        with contextlib.suppress(ssl.SSLError):
            inner_peer.object.unwrap()
        await flush()
        await outer_peer.read_all()
        await outer_peer.say_goodbye()
        await protocol.until_lost()
    assert protocol.error is None


async def test_tls_inside_tls_between_two_of_ours(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    client, server = Recorder(), Recorder()
    transports: list[Any] = [None, None]
    transports[0], _ = await loop.create_connection(lambda: client, sock=left)
    transports[1], _ = await loop.create_connection(lambda: server, sock=right)
    for _ in range(3):
        transports[:] = await asyncio.gather(
            loop.start_tls(transports[0], client, tls.client(), server_hostname=NAME),
            loop.start_tls(transports[1], server, tls.server(), server_side=True),
        )
    transports[0].write(b"x" * BIG)
    transports[1].write(b"y" * 1000)
    assert await server.until_received(BIG) == b"x" * BIG
    assert await client.until_received(1000) == b"y" * 1000
    transports[0].close()
    await client.until_lost()
    await server.until_lost()
    await turns()
    assert (client.error, server.error) == (None, None)


class Passing(asyncio.Transport):
    """A transport of the program's own, in Python: it passes on to another, and is a protocol."""

    _start_tls_compatible = True

    def __init__(self, below: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.below = below
        self.protocol: Any = protocol
        self.written = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.below.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert isinstance(self.protocol, asyncio.BaseProtocol)
        return self.protocol

    def write(self, data: Any) -> None:
        self.written += len(data)
        self.below.write(data)

    def is_closing(self) -> bool:
        return self.below.is_closing()

    def close(self) -> None:
        self.below.close()

    def abort(self) -> None:
        self.below.abort()

    def _force_close(self, exc: BaseException | None) -> None:
        self.below.abort()

    def pause_reading(self) -> None:
        self.below.pause_reading()

    def resume_reading(self) -> None:
        self.below.resume_reading()


class PassingUp(asyncio.Protocol):
    """The lower half of it."""

    passing: Passing

    def data_received(self, data: bytes) -> None:
        protocol = self.passing.protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            while data:
                buffer = memoryview(protocol.get_buffer(len(data)))
                count = min(len(buffer), len(data))
                buffer[:count] = data[:count]
                protocol.buffer_updated(count)
                data = data[count:]
        else:
            protocol.data_received(data)

    def eof_received(self) -> bool | None:
        answer: bool | None = self.passing.protocol.eof_received()
        return answer

    def connection_lost(self, exc: BaseException | None) -> None:
        self.passing.protocol.connection_lost(exc)


@SIDES
async def test_over_a_transport_of_the_programs_own(loop: Loop, tls: Tls, side: str) -> None:
    left, right = tcp_pair()
    with right:
        up = PassingUp()
        below, _ = await loop.create_connection(lambda: up, sock=left)
        protocol = Recorder()
        up.passing = Passing(below, protocol)
        protocol.connection_made(up.passing)
        transport, peer = await upgraded(loop, tls, up.passing, protocol, right, side)
        transport.write(b"secret")
        assert await peer.read_exactly(6) == b"secret"
        await peer.write(b"likewise")
        assert await protocol.until_received(8) == b"likewise"
        assert up.passing.written > 500, "a handshake went through it"
        transport.close()
        assert await peer.read_all() == b""
        await peer.say_goodbye()
        await protocol.until_lost()
        await turns()
    assert protocol.error is None


@WRITER_STARTS
async def test_a_server_upgrades_many_at_a_time(loop: Loop, tls: Tls) -> None:
    smtp = SmtpLike(tls.server())
    context = tls.client()

    async def client(address: Any, number: int) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        await reader.readline()
        writer.write(b"STARTTLS\r\n")
        await reader.readline()
        await writer.start_tls(context, server_hostname=NAME)
        writer.write(b"%d\r\n" % number)
        answer = await reader.readline()
        writer.write(b"QUIT\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    server = await asyncio.start_server(smtp.serve, "127.0.0.1", 0)
    async with server:
        address = server.sockets[0].getsockname()
        answers = await asyncio.gather(*(client(address, number) for number in range(30)))
        await turns()
    assert answers == [b"250 %d\r\n" % number for number in range(30)]
