"""TLS for the tests: certificates, contexts, and a peer that is driven by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import trustme

from .support import Loop, tcp_pair, turns

T = TypeVar("T")

#: The name that the tests' servers have.
NAME = "localhost"

#: Bytes that are asked of a socket in one go.
CHUNK = 1 << 16

#: The versions of TLS that are tested.
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def sessions() -> list[str]:
    """How aioxide can do TLS here: with OpenSSL driven directly, if that is to be had."""
    import aioxide

    names = ["portable"]
    if aioxide.tls_session().name == "openssl":
        names.append("openssl")
    return names


@contextlib.contextmanager
def in_use(session: str) -> Iterator[None]:
    """Have the TLS of new connections done in this way."""
    from aioxide._aioxide import _use_portable_tls

    import aioxide

    before = aioxide.tls_session().name
    _use_portable_tls(session == "portable")
    assert aioxide.tls_session().name == session
    try:
        yield
    finally:
        _use_portable_tls(before == "portable")


class Certificates:
    """What is made once for all tests."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        #: Somebody whom nobody trusts.
        self.stranger = trustme.CA()
        self.server = self.authority.issue_cert(NAME, "127.0.0.1")
        self.other = self.authority.issue_cert("other.example")
        self.client = self.authority.issue_cert("client.example")
        self.strange = self.stranger.issue_cert(NAME)
        #: Files, for programs.
        self.server_file = folder / "server.pem"
        self.authority_file = folder / "authority.pem"
        self.server.private_key_and_cert_chain_pem.write_to_path(str(self.server_file))
        self.authority.cert_pem.write_to_path(str(self.authority_file))


def only(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    """Let a context speak this version and no other."""
    if version is not None:
        context.minimum_version = version
        context.maximum_version = version
    return context


class Tls:
    """The fixture `tls`: contexts, and connections whose other end is driven by hand."""

    def __init__(self, certificates: Certificates) -> None:
        self.certificates = certificates

    # ---- contexts ----

    def server(
        self,
        certificate: trustme.LeafCert | None = None,
        *,
        version: ssl.TLSVersion | None = None,
        asks: ssl.VerifyMode = ssl.CERT_NONE,
    ) -> ssl.SSLContext:
        """A server's context. `asks` says whether it wants a certificate of the client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (certificate or self.certificates.server).configure_cert(context)
        self.certificates.authority.configure_trust(context)
        context.verify_mode = asks
        return only(context, version)

    def client(
        self,
        certificate: trustme.LeafCert | None = None,
        *,
        version: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """A client's context, which trusts the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.certificates.authority.configure_trust(context)
        if certificate is not None:
            certificate.configure_cert(context)
        return only(context, version)

    def context(self, side: str, **options: Any) -> ssl.SSLContext:
        return self.server(**options) if side == "server" else self.client(**options)

    # ---- connections ----

    @contextlib.asynccontextmanager
    async def connected(
        self,
        loop: Loop,
        protocol: asyncio.BaseProtocol,
        side: str = "client",
        *,
        context: ssl.SSLContext | None = None,
        peer_context: ssl.SSLContext | None = None,
        version: ssl.TLSVersion | None = None,
        make_pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair,
        **options: Any,
    ) -> AsyncIterator[tuple[asyncio.Transport, Peer]]:
        """A TLS transport for `protocol`, on this side of a connection, and the peer."""
        ours, theirs = make_pair()
        other = "client" if side == "server" else "server"
        context = context or self.context(side)
        with theirs:
            peer = Peer(
                loop,
                theirs,
                peer_context or self.context(other, version=version),
                other == "server",
            )
            shaken = asyncio.ensure_future(peer.handshake())
            try:
                transport = await wrap(loop, ours, protocol, side, context, **options)
            except BaseException:
                shaken.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await shaken
                raise
            try:
                await shaken
                yield transport, peer
            finally:
                transport.abort()
                await turns()


async def wrap(
    loop: Loop,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    side: str,
    context: ssl.SSLContext,
    **options: Any,
) -> asyncio.Transport:
    """Put a TLS transport on one side of a connected socket."""
    if side == "client":
        options.setdefault("server_hostname", NAME)
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=sock, ssl=context, **options
        )
    else:
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, sock, ssl=context, **options
        )
    return transport


class Peer:
    """One end of a TLS connection, by hand: a plain socket and an `SSLObject`.

    It sends what it is told to send, and nothing else.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        name = None if server_side else server_hostname or NAME
        self.object = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side, server_hostname=name
        )

    async def flush(self) -> None:
        """Send what the session has to say."""
        if self.outgoing.pending:
            await self.loop.sock_sendall(self.sock, self.outgoing.read())

    async def _session(self, step: Callable[..., T], *arguments: Any) -> T:
        """A step of the session, which may have to send and to receive."""
        while True:
            try:
                result = step(*arguments)
            except ssl.SSLWantReadError:
                await self.flush()
                received = await self.loop.sock_recv(self.sock, CHUNK)
                if received:
                    self.incoming.write(received)
                else:
                    self.incoming.write_eof()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self.flush()
                raise
            else:
                await self.flush()
                return result

    async def handshake(self) -> None:
        await self._session(self.object.do_handshake)

    async def read(self, count: int = CHUNK) -> bytes:
        """Some bytes; none at the other side's `close_notify`. Its end without one is an error."""
        try:
            return await self._session(self.object.read, count)
        except ssl.SSLZeroReturnError:
            return b""

    async def read_exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = await self.read(min(count - len(data), CHUNK))
            assert piece, f"end of stream after {len(data)} of {count} bytes"
            data += piece
        return bytes(data)

    async def read_all(self) -> bytes:
        """Everything that comes before the other side's `close_notify`."""
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
        return b"".join(pieces)

    async def write(self, data: bytes) -> None:
        assert await self._session(self.object.write, data) == len(data)

    def encrypted(self, data: bytes) -> bytes:
        """The records of some bytes, which are not sent."""
        self.object.write(data)
        return self.outgoing.read()

    async def say_goodbye(self) -> None:
        """Send our `close_notify`; the other side's is not waited for."""
        with contextlib.suppress(ssl.SSLError):
            self.object.unwrap()
        await self.flush()

    def end(self) -> None:
        """End the stream below."""
        self.sock.shutdown(socket.SHUT_WR)

    async def stream_ended(self) -> None:
        """Wait until the other side has ended the stream below."""
        while await self.loop.sock_recv(self.sock, CHUNK):
            pass
