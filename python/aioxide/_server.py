"""Servers."""

from __future__ import annotations

import asyncio
from typing import Any

from aioxide._aioxide import BaseServer


class Server(BaseServer, asyncio.AbstractServer):
    """Listening sockets, and the transports of their clients.

    It serves until it is closed, whether the program keeps the object or not.
    """

    _serving_forever: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} sockets={self.sockets!r}>"

    async def start_serving(self) -> None:
        """Listen and accept; nothing happens when it does already."""
        if self._is_closed():
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Serve until close() is called or this coroutine is cancelled, which closes the server."""
        if self._serving_forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._is_closed():
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._serving_forever = asyncio.get_running_loop().create_future()
        try:
            await self._serving_forever
        except asyncio.CancelledError:
            self.close()
            self.close_clients()
            await self.wait_closed()
            raise
        finally:
            self._serving_forever = None

    def close(self) -> None:
        """Close the listening sockets. Clients go on."""
        self._close()
        waiting, self._serving_forever = self._serving_forever, None
        if waiting is not None and not waiting.done():
            waiting.cancel()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its last client's connection is lost."""
        waiting = self._wait_closed()
        if waiting is not None:
            await waiting

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self.close()
        await self.wait_closed()
