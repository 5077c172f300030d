"""Running a program on the loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from aioxide._loop import Loop

T = TypeVar("T")


def _check_not_running() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("aioxide.run() cannot be called from a running event loop")


def new_event_loop() -> Loop:
    """Make an event loop: the `loop_factory` of asyncio.run() and asyncio.Runner."""
    return Loop()


if sys.version_info >= (3, 11):

    def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
        """Run a coroutine on a new aioxide loop, as asyncio.run() does on asyncio's."""
        _check_not_running()
        with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
            return runner.run(main)

else:

    def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
        """Run a coroutine on a new aioxide loop, as asyncio.run() does on asyncio's."""
        _check_not_running()
        from aioxide._interrupts import Interrupts
        from aioxide._policy import EventLoopPolicy

        interrupts = Interrupts()
        before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(EventLoopPolicy())
        try:
            return asyncio.run(interrupts.cancel(main), debug=debug)
        except asyncio.CancelledError:
            if interrupts.count == 0:
                raise
            raise KeyboardInterrupt from None
        finally:
            interrupts.give_back()
            asyncio.set_event_loop_policy(before)
