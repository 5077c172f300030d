"""What asyncio's loop has and this one does not have yet. Each method says its name."""

from __future__ import annotations

from typing import Any, NoReturn

from aioxide._room import Room


def _refuse(name: str) -> NoReturn:
    raise NotImplementedError(f"aioxide.Loop.{name}() is not built yet")


class UnbuiltMethods(Room):
    """Refusals."""

    async def connect_read_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("connect_read_pipe")

    async def connect_write_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("connect_write_pipe")

    async def create_datagram_endpoint(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("create_datagram_endpoint")

    async def create_unix_connection(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("create_unix_connection")

    async def create_unix_server(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("create_unix_server")

    async def sendfile(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("sendfile")

    async def sock_recvfrom(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("sock_recvfrom")

    async def sock_recvfrom_into(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("sock_recvfrom_into")

    async def sock_sendfile(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("sock_sendfile")

    async def sock_sendto(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("sock_sendto")

    async def start_tls(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("start_tls")

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("subprocess_exec")

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("subprocess_shell")
