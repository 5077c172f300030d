"""TLS: what `ssl=` and its companions mean, and `start_tls`."""

from __future__ import annotations

import asyncio
import os
from typing import Any, NamedTuple, cast

from aioxide._aioxide import (
    SocketTransport,
    SSLTransport,
    TlsOptions,
    _use_portable_tls,
    _why_portable_tls,
)
from aioxide._room import Room

#: Seconds that a handshake may take if the program does not say: asyncio's figure.
_HANDSHAKE_TIMEOUT = 60.0

#: Seconds that closing may stand still if the program does not say: asyncio's figure.
_SHUTDOWN_TIMEOUT = 30.0


#: Set to "portable", it keeps a process from driving OpenSSL directly.
_VARIABLE = "AIOXIDE_TLS_SESSION"


class TlsSession(NamedTuple):
    """How the TLS of new connections is done."""

    #: "openssl": OpenSSL's sessions are driven directly; "portable": through the `ssl` module's
    #: objects. Both give the same results.
    name: str
    #: Why it is that one.
    reason: str


def tls_session() -> TlsSession:
    """Say how the TLS of new connections is done, and why.

    It is `openssl` wherever that is safe. With `AIOXIDE_TLS_SESSION=portable` in the environment
    when aioxide is imported, it is `portable`.
    """
    why_portable = _why_portable_tls()
    if why_portable is None:
        return TlsSession("openssl", "the ssl module's OpenSSL was found, and is as expected")
    return TlsSession("portable", why_portable)


def _obey_environment() -> None:
    wanted = os.environ.get(_VARIABLE)
    if wanted not in (None, "", "openssl", "portable"):
        raise ImportError(f"{_VARIABLE} is {wanted!r}: it can be 'openssl' or 'portable'")
    _use_portable_tls(wanted == "portable")


_obey_environment()


class TlsMethods(Room):
    """TLS on connections that stand."""

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport | None:
        """Put TLS between a transport and its protocol; return the transport to use from now on.
        There is none when the old one was closing.

        What the peer has sent of its handshake already, and a stream's reader has taken for text,
        goes to the handshake.
        """
        import ssl

        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        # The classes of the compiled module; the objects show others.
        if not issubclass(type(transport), (SocketTransport, SSLTransport)):
            # A transport of the program's own: asyncio's layer, which is written in Python, fits.
            upgrade = asyncio.BaseEventLoop.start_tls
            timeouts = {"ssl_handshake_timeout": ssl_handshake_timeout}
            if ssl_shutdown_timeout is not None:
                timeouts["ssl_shutdown_timeout"] = ssl_shutdown_timeout
            made = await upgrade(
                cast(Any, self),
                cast(Any, transport),
                protocol,
                sslcontext,
                server_side=server_side,
                server_hostname=server_hostname,
                **cast(Any, timeouts),
            )
            return cast(asyncio.Transport, made)
        options = tls_options(
            sslcontext,
            server_side,
            server_hostname,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        received = _take_received(protocol)
        was_closing = transport.is_closing()
        layer, established = self._start_tls(cast(Any, transport), protocol, options, received)
        try:
            await established
        except BaseException as error:
            established.cancel()
            transport.close()
            if was_closing and isinstance(error, ConnectionAbortedError):
                # As in asyncio: it is no error to come too late.
                return None
            raise
        finally:
            # As in _make_connection(): no circle through the exception's traceback.
            del established
        return cast(asyncio.Transport, layer)


def tls_options(
    context: Any,
    server_side: bool,
    server_hostname: Any,
    handshake_timeout: float | None,
    shutdown_timeout: float | None,
) -> TlsOptions:
    """Make of the arguments that say how TLS is to be what the engine wants to know.

    `context` is an `ssl.SSLContext`, or true for the default one of a client.
    """
    handshake = _positive("ssl_handshake_timeout", handshake_timeout, _HANDSHAKE_TIMEOUT)
    shutdown = _positive("ssl_shutdown_timeout", shutdown_timeout, _SHUTDOWN_TIMEOUT)
    if isinstance(context, bool):
        import ssl

        if server_side:
            raise ValueError("Server side SSL needs a valid SSLContext")
        context = ssl.create_default_context()
        if not server_hostname:
            context.check_hostname = False
    name = server_hostname if server_hostname and not server_side else None
    return TlsOptions(context, server_side, name, handshake, shutdown)


def _positive(name: str, seconds: float | None, default: float) -> float:
    if seconds is None:
        return default
    if seconds <= 0:
        raise ValueError(f"{name} should be a positive number, got {seconds}")
    return seconds


def _take_received(protocol: asyncio.BaseProtocol) -> bytes:
    """What a stream's reader holds: the peer was faster than the program."""
    if not isinstance(protocol, asyncio.StreamReaderProtocol):
        return b""
    reader = cast(Any, protocol)._stream_reader
    if reader is None:
        return b""
    received = bytes(reader._buffer)
    reader._buffer.clear()
    return received
