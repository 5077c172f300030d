"""What asyncio's loop has and this one does not have yet. Each method says its name."""

from __future__ import annotations

from typing import Any, NoReturn

from aioxide._room import Room


def _refuse(name: str) -> NoReturn:
    raise NotImplementedError(f"aioxide.Loop.{name}() is not built yet")


class UnbuiltMethods(Room):
    """Refusals."""

    async def start_tls(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("start_tls")
