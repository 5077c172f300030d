"""What asyncio's loop has and this one does not have yet. Each method says its name."""

from __future__ import annotations

from typing import Any, NoReturn

from aioxide._aioxide import BaseLoop

_COROUTINES = (
    "connect_read_pipe",
    "connect_write_pipe",
    "create_datagram_endpoint",
    "create_unix_connection",
    "create_unix_server",
    "sendfile",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendfile",
    "sock_sendto",
    "start_tls",
    "subprocess_exec",
    "subprocess_shell",
)

_METHODS = ("add_signal_handler", "remove_signal_handler")


class UnbuiltMethods(BaseLoop):
    """Refusals."""


def _refuse(name: str) -> NoReturn:
    raise NotImplementedError(f"aioxide.Loop.{name}() is not built yet")


def _coroutine(name: str) -> Any:
    async def unbuilt(self: UnbuiltMethods, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(name)

    return unbuilt


def _method(name: str) -> Any:
    def unbuilt(self: UnbuiltMethods, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(name)

    return unbuilt


for _name in _COROUTINES:
    setattr(UnbuiltMethods, _name, _coroutine(_name))
for _name in _METHODS:
    setattr(UnbuiltMethods, _name, _method(_name))
