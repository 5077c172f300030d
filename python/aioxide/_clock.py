"""A clock of the program's own: `time` overridden in a subclass, or replaced on a loop."""

from __future__ import annotations

from typing import Any

from aioxide._room import Room


class ClockMethods(Room):
    """What makes timers go by the loop's `time()`, as asyncio's do, whoever wrote it.

    The engine asks its own clock, and this one only when it was told that there is one: when the
    loop begins to run, and when the attribute is set or deleted.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "time":
            self._look_at_clock()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name == "time":
            self._look_at_clock()

    def _look_at_clock(self) -> None:
        self._use_own_clock("time" in vars(self))
