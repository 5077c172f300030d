"""`create_connection` and `create_server`: arguments, names, and errors in asyncio's words."""

from __future__ import annotations

import asyncio
import builtins
import collections.abc
import itertools
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from aioxide._aioxide import OpenSocket, TlsOptions
from aioxide._names import AddressInfo
from aioxide._room import Room
from aioxide._server import Server
from aioxide._sockets import check_not_tls
from aioxide._streams import factory_of_ours
from aioxide._tls import tls_options

P = TypeVar("P", bound=asyncio.BaseProtocol)


class EndpointMethods(Room):
    """From addresses to transports."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], P],
        host: str | bytes | None = None,
        port: str | bytes | int | None = None,
        *,
        ssl: Any = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[Any, ...] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to a host and port, or take a connected socket; return (transport, protocol)."""
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl and not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        check_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            check_not_tls(sock)
        tls = None
        if ssl:
            name = host if server_hostname is None else server_hostname
            tls = tls_options(ssl, False, name, ssl_handshake_timeout, ssl_shutdown_timeout)
        connected: OpenSocket | socket.socket
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            remote = await self._resolve_some((host, port), family, proto, flags)
            local = None
            if local_addr is not None:
                local = await self._resolve_some(local_addr, family, proto, flags)
            result = await self._connect(remote, local, happy_eyeballs_delay, interleave)
            if isinstance(result, list):
                errors = result.copy()
                # The future that gave the list lives a little longer: no circle through it.
                result.clear()
                try:
                    raise _connection_error(errors, all_errors)
                finally:
                    # The exceptions have this frame in their tracebacks: no circle.
                    del errors
            connected = result
        else:
            connected = _stream_socket(
                sock, "host and port was not specified and no sock specified"
            )
        return await self._make_connection(protocol_factory, connected, tls)

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], P],
        sock: socket.socket,
        *,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Make a transport of a connection that was accepted elsewhere."""
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        check_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        check_not_tls(sock)
        tls = None
        if ssl:
            tls = tls_options(ssl, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        return await self._make_connection(protocol_factory, sock, tls)

    async def _make_connection(
        self,
        protocol_factory: Callable[[], P],
        connected: OpenSocket | socket.socket,
        tls: TlsOptions | None = None,
    ) -> tuple[asyncio.Transport, P]:
        try:
            if not isinstance(connected, OpenSocket):
                connected.setblocking(False)
            protocol = protocol_factory()
            transport, made = self._start_transport(protocol, connected, tls)
        except BaseException:
            connected.close()
            raise
        try:
            await made
        except BaseException:
            # Nobody asks for its result any more.
            made.cancel()
            transport.close()
            raise
        finally:
            # Its exception has this frame in its traceback: a circle, which would keep all.
            del made
        if self.get_debug():
            logger.debug("%r connected: (%r, %r)", self, transport, protocol)
        return cast(asyncio.Transport, transport), protocol

    async def create_server(  # type: ignore[override]  # one signature for four overloads
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | bytes | Sequence[str | bytes | None] | None = None,
        port: str | bytes | int | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Listen on a host and port, or on a bound socket; return the server."""
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            check_not_tls(sock)
        tls = None
        if ssl is not None:
            tls = tls_options(ssl, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        sockets: Sequence[OpenSocket | socket.socket]
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            infos = await self._resolve_listeners(host, port, family, flags)
            sockets, passed_over = self._bind_all(
                infos,
                True if reuse_address is None else bool(reuse_address),
                bool(reuse_port),
                bool(keep_alive),
            )
            if self.get_debug():
                for error in passed_over:
                    logger.warning("create_server() passed over an address: %s", error)
            if not sockets:
                raise OSError(f"could not bind on any address out of {[i[4] for i in infos]!r}")
        else:
            sockets = [_stream_socket(sock, "Neither host/port nor sock were specified")]
        for given in sockets:
            if not isinstance(given, OpenSocket):
                given.setblocking(False)
        server = Server(self, factory_of_ours(protocol_factory), sockets, backlog, tls)
        if start_serving:
            await server.start_serving()
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def _resolve_some(
        self, address: tuple[Any, ...], family: int, proto: int, flags: int
    ) -> list[AddressInfo]:
        check_port(address[1], "connect")
        infos: list[AddressInfo] = await self._resolve(
            address, family=family, proto=proto, flags=flags
        )
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        return infos

    async def _resolve_listeners(
        self, host: Any, port: Any, family: int, flags: int
    ) -> list[AddressInfo]:
        """The addresses of every host, each once, in order."""
        check_port(port, "bind")
        if host == "":
            hosts: Iterable[Any] = [None]
        elif isinstance(host, (str, bytes)) or not isinstance(host, collections.abc.Iterable):
            hosts = [host]
        else:
            hosts = list(host)

        async def resolve(host: Any) -> list[AddressInfo]:
            infos: list[AddressInfo] = await self._resolve((host, port), family=family, flags=flags)
            if not infos:
                raise OSError(f"getaddrinfo({host!r}) returned empty list")
            return infos

        resolved = await asyncio.gather(*map(resolve, hosts))
        return list(dict.fromkeys(itertools.chain.from_iterable(resolved)))


def check_port(port: Any, call: str) -> None:
    """Refuse what the resolver would cut to 16 bits, in the words of the socket module."""
    if isinstance(port, (str, bytes)) and port.isdigit():
        port = int(port)
    if isinstance(port, int) and not 0 <= port <= 0xFFFF:
        raise OverflowError(f"{call}(): port must be 0-65535.")


def check_tls_timeouts(
    ssl: Any, handshake_timeout: float | None, shutdown_timeout: float | None
) -> None:
    """Refuse the times that TLS may take where there is none."""
    if handshake_timeout is not None and not ssl:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if shutdown_timeout is not None and not ssl:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def _stream_socket(sock: socket.socket | None, missing: str) -> socket.socket:
    """The socket that the program gave."""
    if sock is None:
        raise ValueError(missing)
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")
    return sock


def _connection_error(errors: list[OSError], all_errors: bool) -> BaseException:
    """What is raised when no address could be connected to."""
    if all_errors and sys.version_info >= (3, 11):
        return builtins.ExceptionGroup("create_connection failed", errors)
    first = str(errors[0])
    if all(str(error) == first for error in errors):
        return errors[0]
    return OSError("Multiple exceptions: {}".format(", ".join(map(str, errors))))
