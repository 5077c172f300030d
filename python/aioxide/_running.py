"""Running, stopping and closing the loop; asynchronous generators."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
import weakref
from asyncio import events
from asyncio.log import logger
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Any, TypeVar, cast

from aioxide._debugging import track_coroutines
from aioxide._room import Room

T = TypeVar("T")


def _stop_loop(future: asyncio.Future[Any]) -> None:
    """The done callback of `run_until_complete`'s future."""
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        # It leaves the loop by itself: stopping would end the next run instead.
        return
    future.get_loop().stop()


class RunningMethods(Room):
    """`run_forever` and what surrounds it."""

    def __init__(self) -> None:
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_shutdown_called = False
        super().__init__()

    def _check_running(self) -> None:
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if events._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def run_forever(self) -> None:
        """Run until stop() is called."""
        self._check_closed()
        self._check_running()
        hooks = sys.get_asyncgen_hooks()
        tracking = sys.get_coroutine_origin_tracking_depth()
        track_coroutines(self.get_debug())
        self._look_at_clock()
        self._thread_id = threading.get_ident()
        try:
            self._hear_signals()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_begins, finalizer=self._asyncgen_is_dropped
            )
            events._set_running_loop(self)
            self._run()
        finally:
            self._thread_id = None
            self._stop_hearing_signals()
            events._set_running_loop(None)
            sys.set_coroutine_origin_tracking_depth(tracking)
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run until the future is done; return its result or raise its exception."""
        self._check_closed()
        self._check_running()
        given_future = asyncio.isfuture(future)
        waited: Any = asyncio.ensure_future(cast(Awaitable[T], future), loop=self)
        if not given_future:
            # The task is ours: whoever interrupts the loop need not hear that it is pending.
            waited._log_destroy_pending = False
        waited.add_done_callback(_stop_loop)
        try:
            self.run_forever()
        except BaseException:
            if not given_future and waited.done() and not waited.cancelled():
                # The exception that left the loop is the task's: it counts as retrieved.
                waited.exception()
            raise
        finally:
            waited.remove_done_callback(_stop_loop)
        if not waited.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return cast(T, waited.result())

    def close(self) -> None:
        """Drop what is queued and free what the loop holds. A running loop cannot be closed."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if not self.is_closed():
            if self.get_debug():
                logger.debug("Close %r", self)
            self._close()
            self._executor_shutdown_called = True
            executor, self._default_executor = self._default_executor, None
            if executor is not None:
                executor.shutdown(wait=False)
        # Fails on other threads than the main one where there are handlers; these are then removed
        # by the next close().
        self._close_signals()

    def __del__(self) -> None:
        if not self.is_closed() and not sys.is_finalizing():
            warnings.warn(
                f"unclosed event loop {self!r}", ResourceWarning, stacklevel=1, source=self
            )
            if not self.is_running():
                self.close()

    # ---- asynchronous generators ----

    def _asyncgen_begins(self, agen: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {agen!r} was scheduled after "
                f"loop.shutdown_asyncgens() call",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
        self._asyncgens.add(agen)

    def _asyncgen_is_dropped(self, agen: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(agen)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, agen.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Close every asynchronous generator that was not run to its end."""
        self._asyncgens_shutdown_called = True
        closing = list(self._asyncgens)
        self._asyncgens.clear()
        results = await asyncio.gather(*[agen.aclose() for agen in closing], return_exceptions=True)
        for agen, result in zip(closing, results, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": f"an error occurred during closing of "
                        f"asynchronous generator {agen!r}",
                        "exception": result,
                        "asyncgen": agen,
                    }
                )
