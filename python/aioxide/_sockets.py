"""Layer 1: operations on sockets that the program owns.

Each operation is tried first; only when it would block is there something to await.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aioxide._room import Room

T = TypeVar("T")

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

try:
    import ssl
except ImportError:  # an interpreter without OpenSSL has no such sockets
    _TLS_SOCKETS: tuple[type, ...] = ()
else:
    _TLS_SOCKETS = (ssl.SSLSocket,)


def check_not_tls(sock: socket.socket) -> None:
    """Refuse the ssl module's sockets: they have a protocol of their own."""
    if isinstance(sock, _TLS_SOCKETS):
        raise TypeError("Socket cannot be of type SSLSocket")


class SocketMethods(Room):
    """`sock_recv` and its like."""

    def _check_socket(self, sock: socket.socket) -> None:
        check_not_tls(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")

    # The abstract class calls it nbytes, asyncio's loop n.
    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to n bytes; b"" is the peer's end."""
        received = self._sock_recv(sock, n)
        return received if isinstance(received, bytes) else await received

    async def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> int:
        """Receive into buf; return how many bytes."""
        received = self._sock_recv_into(sock, buf)
        return received if isinstance(received, int) else await received

    async def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> None:
        """Send all of data."""
        sending = self._sock_sendall(sock, data)
        if sending is not None:
            await sending

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram; return it, cut to bufsize, and the sender's address."""
        self._check_socket(sock)
        return await self._attempt(sock, lambda: sock.recvfrom(bufsize))

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: WriteableBuffer, nbytes: int = 0
    ) -> tuple[int, Any]:
        """Receive a datagram into buf; return how many bytes, and the sender's address."""
        self._check_socket(sock)
        if not nbytes:
            nbytes = len(buf)  # type: ignore[arg-type]  # a buffer has a length, or it is refused
        return await self._attempt(sock, lambda: sock.recvfrom_into(buf, nbytes))

    async def sock_sendto(self, sock: socket.socket, data: ReadableBuffer, address: Any) -> int:
        """Send a datagram; return how many bytes."""
        self._check_socket(sock)
        return await self._attempt(sock, lambda: sock.sendto(data, address), for_writing=True)

    async def _attempt(
        self,
        sock: socket.socket,
        call: Callable[[], T],
        *,
        for_writing: bool = False,
    ) -> T:
        """Make a call of the socket's until it does not block, each time when it is ready."""
        done: list[T] = []
        while not _at_once(lambda: done.append(call())):
            await self._sock_ready(sock, for_writing)
        return done[0]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect to address. A host that is a name is resolved first."""
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            infos = await self._resolve(
                address, family=sock.family, type=sock.type, proto=sock.proto
            )
            address = infos[0][4]
        if _at_once(sock.connect, address):
            return
        if sock.family == socket.AF_UNIX:
            # The listener has no room, and no event will tell that it has.
            await self._sock_connect_unix(sock, address)
        else:
            await self._sock_ready(sock, True)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number != 0:
                raise OSError(number, f"Connect call failed {address}")

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection; return its socket, non-blocking, and the peer's address."""
        self._check_socket(sock)
        connection, address = await self._attempt(sock, lambda: sock.accept())
        connection.setblocking(False)
        return connection, address


def _at_once(call: Callable[..., object], *args: Any) -> bool:
    """Whether a call can be made without waiting; it is made then.

    A function of its own, so that what comes later has no BlockingIOError in its traceback.
    """
    try:
        call(*args)
    except (BlockingIOError, InterruptedError):
        return False
    return True
