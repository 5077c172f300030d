"""Debug mode: what it looks for."""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import constants, coroutines
from asyncio.log import logger
from typing import Any

from aioxide._aioxide import Handle
from aioxide._room import Room


def _is_coroutine_function(callback: Any) -> bool:
    """asyncio's own question: it knows more kinds than `inspect`, and its name has changed."""
    name = "_iscoroutinefunction" if sys.version_info >= (3, 14) else "iscoroutinefunction"
    return bool(getattr(coroutines, name)(callback))


def track_coroutines(enabled: bool) -> None:
    """Remember where coroutines are made, for the message that one was never awaited."""
    depth = constants.DEBUG_STACK_DEPTH if enabled else 0
    sys.set_coroutine_origin_tracking_depth(depth)


def refuse_coroutine(callback: Any, method: str) -> None:
    """Raise if a callback is something that one awaits: calling it would do nothing."""
    if asyncio.iscoroutine(callback) or _is_coroutine_function(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")


class DebugMethods(Room):
    """`set_debug` and the checks that it turns on."""

    def __init__(self) -> None:
        super().__init__()
        self._set_debug(coroutines._is_debug_mode())  # type: ignore[attr-defined]

    def set_debug(self, enabled: bool) -> None:
        """Turn debug mode on or off."""
        self._set_debug(bool(enabled))
        if self.is_running():
            self.call_soon_threadsafe(track_coroutines, enabled)

    @property
    def _debug(self) -> bool:
        """Whether debug mode is on, for what of the loop's methods is asyncio's own."""
        return self.get_debug()

    @_debug.setter
    def _debug(self, enabled: bool) -> None:
        self._set_debug(bool(enabled))

    def _check_callback(self, callback: Any, method: str) -> None:
        refuse_coroutine(callback, method)
        if not callable(callback):
            raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")

    def _check_thread(self) -> None:
        if self._thread_id is not None and self._thread_id != threading.get_ident():
            raise RuntimeError(
                "Non-thread-safe operation invoked on an event loop other than the current one"
            )

    def _log_slow(self, what: Handle | str, seconds: float) -> None:
        """Called by the engine when a callback took longer than slow_callback_duration."""
        logger.warning("Executing %s took %.3f seconds", _describe(what), seconds)


def _describe(what: Handle | str) -> str:
    """A step of a task is shown as the task."""
    if isinstance(what, str):
        return what
    owner = getattr(what._callback, "__self__", None)
    return repr(owner if isinstance(owner, asyncio.Task) else what)
