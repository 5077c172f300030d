"""`sock_sendfile` and `sendfile`: by the kernel where it can, else by reading and writing."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from asyncio import constants
from asyncio.exceptions import SendfileNotAvailableError
from typing import Any, cast

from aioxide._aioxide import SocketTransport
from aioxide._room import Room

#: Bytes that are read at once for a transport where the kernel does not help: asyncio's figure.
_BLOCK = 16 * 1024

#: What `loop.sendfile` makes of transports that do not say.
_UNSUPPORTED = constants._SendfileMode.UNSUPPORTED


class SendfileMethods(Room):
    """Files as output."""

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send a file, or `count` bytes of it; return how many were sent."""
        self._check_socket(sock)
        _check_range(sock.type, file, offset, count)
        try:
            descriptor = _regular_file(file)
            if not (count or os.fstat(descriptor).st_size):
                return 0
            return await self._sock_sendfile(sock, file, offset, count)
        except SendfileNotAvailableError:
            if not fallback:
                raise
        sent = 0
        try:
            async for block in self._blocks(
                file, offset, count, constants.SENDFILE_FALLBACK_READBUFFER_SIZE
            ):
                await self.sock_sendall(sock, block)
                sent += len(block)
            return sent
        finally:
            _set_position(file, offset, sent)

    async def sendfile(
        self,
        transport: asyncio.WriteTransport,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send a file, or `count` bytes of it, through a transport; return how many were sent."""
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = getattr(transport, "_sendfile_compatible", _UNSUPPORTED)
        if mode is _UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        # The class of the compiled module; the object shows another.
        ours = issubclass(type(transport), SocketTransport)
        if mode is constants._SendfileMode.TRY_NATIVE and ours:
            try:
                _check_range(socket.SOCK_STREAM, file, offset, count)
                descriptor = _regular_file(file)
                if not (count or os.fstat(descriptor).st_size):
                    return 0
                return await self._sendfile(cast(Any, transport), descriptor, offset, count)
            except SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(
                f"fallback is disabled and native sendfile is not "
                f"supported for transport {transport!r}"
            )
        sent = 0
        sender = _FileSender(transport)
        try:
            async for block in self._blocks(file, offset, count, _BLOCK):
                transport.write(block)
                await sender.drain()
                sent += len(block)
            return sent
        finally:
            _set_position(file, offset, sent)
            await sender.restore()

    async def _blocks(self, file: Any, offset: int, count: int | None, size: int) -> Any:
        """What a file has, block by block. Each is used before the next is asked for."""
        if hasattr(file, "seek"):
            file.seek(offset)
        buffer = bytearray(min(count, size) if count else size)
        left = count
        while left is None or left > 0:
            view = memoryview(buffer)[: len(buffer) if left is None else left]
            read = await self.run_in_executor(None, file.readinto, view)
            if not read:
                return
            yield view[:read]
            if left is not None:
                left -= read


class _FileSender(asyncio.Protocol):
    """The protocol of a transport while a file is written to it."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._was_reading = transport.is_reading()
        self._was_paused = transport._protocol_paused
        self._room: asyncio.Future[None] | None = None
        transport.pause_reading()
        transport.set_protocol(self)
        if self._was_paused:
            self._room = transport._loop.create_future()

    async def drain(self) -> None:
        """Wait until more can be written."""
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._room is not None:
            await self._room

    async def restore(self) -> None:
        """Give the transport its protocol back."""
        self._transport.set_protocol(self._protocol)
        if self._was_reading:
            self._transport.resume_reading()
        if self._room is not None:
            # Nobody waits for it any more.
            self._room.cancel()
        if self._was_paused:
            self._protocol.resume_writing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise RuntimeError("Invalid state: connection should have been established already.")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_exception(exc or ConnectionError("Connection is closed by peer"))
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._room is None:
            self._room = self._transport._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> None:
        raise RuntimeError("Invalid state: reading should be paused")


def _check_range(kind: int, file: Any, offset: Any, count: Any) -> None:
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if kind != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


def _regular_file(file: Any) -> int:
    """The descriptor of a file that the kernel may be able to send."""
    try:
        descriptor: int = file.fileno()
        os.fstat(descriptor)
    except (AttributeError, io.UnsupportedOperation, OSError):
        raise SendfileNotAvailableError("not a regular file") from None
    return descriptor


def _set_position(file: Any, offset: int, sent: int) -> None:
    """Leave the file's position behind the last byte that was sent."""
    if sent > 0 and hasattr(file, "seek"):
        file.seek(offset + sent)
