"""Running a program on the loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from aioxide._loop import Loop

T = TypeVar("T")


def new_event_loop() -> Loop:
    """Make an event loop: the factory for `asyncio.run(..., loop_factory=...)` and `asyncio.Runner`."""
    return Loop()


if sys.version_info >= (3, 11):

    def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
        """Run a coroutine on a new aioxide loop, as asyncio.run() does on asyncio's."""
        with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:  # type: ignore[arg-type]
            return runner.run(main)

else:

    def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
        """Run a coroutine on a new aioxide loop, as asyncio.run() does on asyncio's."""
        from aioxide._policy import EventLoopPolicy

        before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(EventLoopPolicy())
        try:
            return asyncio.run(main, debug=debug)
        finally:
            asyncio.set_event_loop_policy(before)
