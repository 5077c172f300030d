"""`connect_read_pipe` and `connect_write_pipe`."""

from __future__ import annotations

import asyncio
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar, cast

from aioxide._room import Room

P = TypeVar("P", bound=asyncio.BaseProtocol)


class PipeMethods(Room):
    """Transports over one end of a pipe."""

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.ReadTransport, P]:
        """Read from a pipe, a socket or a terminal; return (transport, protocol)."""
        transport, protocol = await self._connect_pipe(protocol_factory, pipe, for_writing=False)
        return cast(asyncio.ReadTransport, transport), protocol

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.WriteTransport, P]:
        """Write to a pipe, a socket or a terminal; return (transport, protocol)."""
        transport, protocol = await self._connect_pipe(protocol_factory, pipe, for_writing=True)
        return cast(asyncio.WriteTransport, transport), protocol

    async def _connect_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any, *, for_writing: bool
    ) -> tuple[asyncio.BaseTransport, P]:
        protocol = protocol_factory()
        transport, made = self._start_pipe(protocol, pipe, for_writing)
        try:
            await made
        except BaseException:
            transport.close()
            raise
        if self.get_debug():
            kind = "Write" if for_writing else "Read"
            logger.debug("%s pipe %r connected: (%r, %r)", kind, pipe.fileno(), transport, protocol)
        return cast(asyncio.BaseTransport, transport), protocol
