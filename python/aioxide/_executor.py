"""Calls that block, on threads."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from aioxide._room import Room

T = TypeVar("T")


class ExecutorMethods(Room):
    """`run_in_executor` and the default executor."""

    def __init__(self) -> None:
        self._default_executor: Executor | None = None
        self._executor_shutdown_called = False
        super().__init__()

    def run_in_executor(  # type: ignore[override]  # 3.10 cannot spell the types of *args
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call func(*args) in an executor; return a future of its result."""
        self._check_closed()
        if self.get_debug():
            self._check_callback(func, "run_in_executor")
        if executor is None:
            executor = self._usable_default_executor()
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    def _usable_default_executor(self) -> Executor:
        if self._executor_shutdown_called:
            raise RuntimeError("Executor shutdown has been called")
        if self._default_executor is None:
            self._default_executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
        return self._default_executor

    def set_default_executor(self, executor: Executor) -> None:
        """Set the executor of run_in_executor(None, ...)."""
        if not isinstance(executor, ThreadPoolExecutor):
            if sys.version_info >= (3, 11):
                raise TypeError("executor must be ThreadPoolExecutor instance")
            warnings.warn(
                "Using the default executor that is not an instance of "
                "ThreadPoolExecutor is deprecated and will be prohibited "
                "in Python 3.9",
                DeprecationWarning,
                stacklevel=2,
            )
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Let the default executor finish its work, for `timeout` seconds at the most."""
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        future = self.create_future()
        thread = threading.Thread(target=self._shut_down, args=(executor, future))
        thread.start()
        try:
            await asyncio.wait_for(future, timeout)
        except (TimeoutError, asyncio.TimeoutError):
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    def _shut_down(self, executor: Executor, future: asyncio.Future[None]) -> None:
        """Runs on a thread of its own."""
        try:
            executor.shutdown(wait=True)
            if not self.is_closed():
                self.call_soon_threadsafe(_finish, future)
        except Exception as error:
            if not self.is_closed() and not future.cancelled():
                self.call_soon_threadsafe(future.set_exception, error)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
