"""Ctrl-C for `run` on Python 3.10, as asyncio's Runner has it since 3.11.

The first one cancels the main task, which cleans up; KeyboardInterrupt comes after. The second one
does not wait for that.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupts:
    """The Ctrl-Cs of one run."""

    def __init__(self) -> None:
        self.count = 0
        self._task: asyncio.Task[Any] | None = None

    def cancel(self, main: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """What to run in the place of `main`."""
        if not asyncio.iscoroutine(main):
            return main
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return main
        signal.signal(signal.SIGINT, self._interrupt)
        return self._run(main)

    async def _run(self, main: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.current_task()
        return await main

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1 and self._task is not None and not self._task.done():
            self._task.cancel()
            self._task.get_loop().call_soon_threadsafe(lambda: None)
            return
        raise KeyboardInterrupt

    def give_back(self) -> None:
        """Let Ctrl-C do what it did before, unless somebody else has it by now."""
        # Methods are made anew each time that one asks for them: equal, but not the same.
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
