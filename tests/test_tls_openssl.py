"""Conversations with OpenSSL's own command, `openssl s_client` and `openssl s_server`."""

from __future__ import annotations

import _ssl
import asyncio
import contextlib
import ctypes
import shutil
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aioxide
import pytest

from .connections import serving
from .support import Changes, Loop, Recorder, listening, oracle_never
from .tls import NAME, VERSIONS, Tls

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")

#: The number of the library that an error is of, when it is of none of OpenSSL's.
ERR_LIB_USER = 128

EACH_VERSION = pytest.mark.parametrize("version", VERSIONS)

#: How the command is told what to speak.
OPTIONS = {ssl.TLSVersion.TLSv1_2: "-tls1_2", ssl.TLSVersion.TLSv1_3: "-tls1_3"}


class Command(Changes, asyncio.SubprocessProtocol):
    """The command's conversation with its user."""

    def __init__(self) -> None:
        super().__init__()
        self.output = b""
        self.closed: set[int] = set()
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self.transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output += data
        self.changed()

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.closed.add(fd)
        self.changed()

    def process_exited(self) -> None:
        self.ended = True
        self.changed()

    def type(self, text: bytes) -> None:
        typed = self.transport.get_pipe_transport(0)
        assert isinstance(typed, asyncio.WriteTransport)
        typed.write(text)

    async def until_output(self, text: bytes) -> None:
        await self.until(lambda: text in self.output or self.ended)
        assert text in self.output, self.output

    async def until_ended(self) -> None:
        await self.until(lambda: self.ended and {1, 2} <= self.closed)


@contextlib.asynccontextmanager
async def openssl(loop: Loop, *arguments: object) -> AsyncIterator[Command]:
    transport, command = await loop.subprocess_exec(Command, "openssl", *map(str, arguments))
    try:
        yield command
    finally:
        with contextlib.suppress(ProcessLookupError):
            transport.kill()
        await command.until_ended()
        transport.close()


@contextlib.asynccontextmanager
async def s_client(loop: Loop, tls: Tls, address: Any, *options: str) -> AsyncIterator[Command]:
    place = "{}:{}".format(*address)
    trust = tls.certificates.authority_file
    arguments = ("-connect", place, "-CAfile", trust, "-servername", NAME, *options)
    async with openssl(loop, "s_client", "-verify_return_error", *arguments) as command:
        yield command


@contextlib.asynccontextmanager
async def s_server(loop: Loop, tls: Tls, *options: str) -> AsyncIterator[tuple[Command, int]]:
    """The server, listening; it takes one connection."""
    with listening() as sock:
        port: int = sock.getsockname()[1]
    place = f"127.0.0.1:{port}"
    files = ("-cert", tls.certificates.server_file, "-naccept", "1")
    async with openssl(loop, "s_server", "-accept", place, *files, *options) as command:
        await command.until_output(b"ACCEPT")
        yield command, port


class Greeting(Recorder):
    """Says something first, and answers with what it got."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(b"welcome\n")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data.upper())


@EACH_VERSION
async def test_its_client(loop: Loop, tls: Tls, version: ssl.TLSVersion) -> None:
    protocol = Greeting()
    async with (
        serving(loop, lambda: protocol, ssl=tls.server()) as (_, address),
        s_client(loop, tls, address, OPTIONS[version], "-quiet") as command,
    ):
        await command.until_output(b"welcome\n")
        command.type(b"hello\n")
        await command.until_output(b"HELLO\n")
        protocol.transport.close()
        await protocol.until_lost()
        await command.until_ended()
    assert protocol.received == b"hello\n"
    assert protocol.error is None


@EACH_VERSION
async def test_its_client_leaves(loop: Loop, tls: Tls, version: ssl.TLSVersion) -> None:
    protocol = Greeting()
    async with (
        serving(loop, lambda: protocol, ssl=tls.server()) as (_, address),
        s_client(loop, tls, address, OPTIONS[version]) as command,
    ):
        await command.until_output(b"welcome\n")
        # On a line of its own: the command's letter for leaving.
        command.type(b"Q\n")
        await protocol.until_lost()
        await command.until_ended()
    assert protocol.error is None
    assert protocol.names[-2:] == ["eof_received", "connection_lost"]


def leave_an_error_behind() -> None:
    """What other users of OpenSSL do: an error stays in this thread's queue."""
    crypto = ctypes.CDLL(_ssl.__file__)
    crypto.ERR_new()
    crypto.ERR_set_error(ERR_LIB_USER, 1, None)


@pytest.mark.skipif(
    ssl.OPENSSL_VERSION_INFO < (3,) or not hasattr(_ssl, "__file__"),
    reason="needs an OpenSSL 3 that can be called",
)
@oracle_never("an SSLObject takes it for its own")
@EACH_VERSION
async def test_an_error_of_somebody_else(loop: Loop, tls: Tls, version: ssl.TLSVersion) -> None:
    """It is no failure of the connection, neither in its middle nor at its end."""
    if aioxide.tls_session().name != "openssl":
        pytest.skip("an SSLObject takes it for its own")

    class Careless(Greeting):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            leave_an_error_behind()

    protocol = Careless()
    async with (
        serving(loop, lambda: protocol, ssl=tls.server()) as (_, address),
        s_client(loop, tls, address, OPTIONS[version]) as command,
    ):
        await command.until_output(b"welcome\n")
        for word in (b"one", b"two"):
            command.type(word + b"\n")
            await command.until_output(word.upper())
        command.type(b"Q\n")
        await protocol.until_lost()
        await command.until_ended()
    assert protocol.error is None
    assert protocol.received == b"one\ntwo\n"
    assert protocol.names[-2:] == ["eof_received", "connection_lost"]


@EACH_VERSION
async def test_its_server(loop: Loop, tls: Tls, version: ssl.TLSVersion) -> None:
    async with s_server(loop, tls, OPTIONS[version], "-rev") as (_, port):
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port, ssl=tls.client(), server_hostname=NAME
        )
        assert transport.get_extra_info("ssl_object").version().replace(".", "") in (
            "TLSv12",
            "TLSv13",
        )
        transport.write(b"hello\n")
        assert await protocol.until_received(6) == b"olleh\n"
        transport.close()
        await protocol.until_lost()
        assert protocol.error is None


async def test_a_renegotiation_is_refused(loop: Loop, tls: Tls) -> None:
    """A client of TLS 1.2 that asks for another handshake."""
    protocol = Greeting()
    context = tls.server(version=ssl.TLSVersion.TLSv1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION
    async with (
        serving(loop, lambda: protocol, ssl=context) as (_, address),
        s_client(loop, tls, address, "-tls1_2") as command,
    ):
        await command.until_output(b"welcome\n")
        command.type(b"R\n")
        await command.until_output(b"RENEGOTIATING")
        await command.until_ended()
        await protocol.until_lost()
    assert b"no renegotiation" in command.output
    # The command takes the refusal for a failure, and says so.
    assert isinstance(protocol.error, ssl.SSLError)
    assert protocol.received == b""


async def test_a_renegotiation_in_mid_stream(loop: Loop, tls: Tls) -> None:
    """Our reading has to write, and our writing has to read."""
    protocol = Greeting()
    context = tls.server(version=ssl.TLSVersion.TLSv1_2)
    context.options &= ~ssl.OP_NO_RENEGOTIATION
    allowed = getattr(ssl, "OP_ALLOW_CLIENT_RENEGOTIATION", 1 << 8)
    context.options |= allowed
    async with (
        serving(loop, lambda: protocol, ssl=context) as (_, address),
        s_client(loop, tls, address, "-tls1_2") as command,
    ):
        await command.until_output(b"welcome\n")
        command.type(b"R\n")
        await command.until_output(b"RENEGOTIATING")
        for word in (b"one", b"two"):
            command.type(word + b"\n")
            await command.until_output(word.upper() + b"\n")
        command.type(b"Q\n")
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.received == b"one\ntwo\n"


@pytest.mark.parametrize("letter", [b"k", b"K"])
async def test_new_keys(loop: Loop, tls: Tls, letter: bytes) -> None:
    """TLS 1.3: the client's new keys, or new ones for both."""
    protocol = Greeting()
    async with (
        serving(loop, lambda: protocol, ssl=tls.server()) as (_, address),
        s_client(loop, tls, address, "-tls1_3") as command,
    ):
        await command.until_output(b"welcome\n")
        for word in (b"one", b"two"):
            command.output = b""
            command.type(letter + b"\n")
            await command.until_output(b"KEYUPDATE")
            command.type(word + b"\n")
            await command.until_output(word.upper() + b"\n")
        command.type(b"Q\n")
        await protocol.until_lost()
    assert protocol.error is None
    assert protocol.received == b"one\ntwo\n"


async def test_new_keys_for_our_client(loop: Loop, tls: Tls) -> None:
    async with s_server(loop, tls, "-tls1_3") as (command, port):
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port, ssl=tls.client(), server_hostname=NAME
        )
        transport.write(b"first\n")
        await command.until_output(b"first\n")
        command.type(b"K\n")
        transport.write(b"second\n")
        await command.until_output(b"second\n")
        # The letter was read by now; what comes with it is taken for a part of the command.
        command.type(b"one\n")
        await protocol.until_received(4)
        transport.write(b"third\n")
        await command.until_output(b"third\n")
        assert protocol.received == b"one\n"
        transport.close()
        await protocol.until_lost()
        assert protocol.error is None
