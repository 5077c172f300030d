"""`create_unix_connection` and `create_unix_server`: arguments, and errors in asyncio's words."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from aioxide._aioxide import OpenSocket
from aioxide._endpoints import check_tls_timeouts
from aioxide._room import Room
from aioxide._server import Server
from aioxide._sockets import check_not_tls
from aioxide._streams import factory_of_ours
from aioxide._tls import tls_options

P = TypeVar("P", bound=asyncio.BaseProtocol)

#: A path. One that begins with a NUL is an abstract name, which leaves no file behind.
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


#: Whether a server's file goes with it if the program does not say: since Python 3.13.
_CLEANS_UP = sys.version_info >= (3, 13)


class UnixMethods(Room):
    """Transports and servers over Unix sockets."""

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], P],
        path: Path | None = None,
        *,
        ssl: Any = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to a path, or take a connected socket; return (transport, protocol)."""
        if ssl and server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        check_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        tls = None
        if ssl:
            tls = tls_options(
                ssl, False, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
            )
        if path is None:
            connected = _unix_socket(sock, "no path and sock were specified")
        elif sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        else:
            connected = await self._connect_unix(os.fspath(path))
        return await self._make_connection(protocol_factory, connected, tls)

    async def _connect_unix(self, path: str | bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await self.sock_connect(sock, path)
        except BaseException:
            sock.close()
            raise
        return sock

    async def create_unix_server(  # type: ignore[override]  # on every Python the newest signature
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: Path | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = _CLEANS_UP,
    ) -> Server:
        """Listen on a path, or on a bound socket; return the server.

        A socket's file that another server has left at the path is replaced.  Closing the server
        removes its own, unless `cleanup_socket` is false or another file has taken its place.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        tls = None
        if ssl is not None:
            tls = tls_options(ssl, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        listener: OpenSocket | socket.socket
        if path is None:
            listener = _unix_socket(sock, "path was not specified, and no sock specified")
            listener.setblocking(False)
        elif sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        else:
            listener = self._listener_at(os.fspath(path))
        server = Server(self, factory_of_ours(protocol_factory), [listener], backlog, tls)
        if cleanup_socket:
            server._cleanup_socket()
        if start_serving:
            await server.start_serving()
        return server

    def _listener_at(self, path: str | bytes) -> OpenSocket:
        if not path:
            # The kernel would choose a name: nobody means that by an empty path.
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        try:
            return self._bind_unix(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            message = f"Address {path!r} is already in use"
            raise OSError(errno.EADDRINUSE, message) from None


def _unix_socket(sock: socket.socket | None, missing: str) -> socket.socket:
    """The socket that the program gave."""
    if sock is None:
        raise ValueError(missing)
    check_not_tls(sock)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    return sock
