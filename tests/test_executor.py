"""run_in_executor, the default executor and its shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from .support import Loop, oracle_since


@contextlib.contextmanager
def held(loop: Loop) -> Iterator[tuple[asyncio.Future[None], threading.Event]]:
    """A job that is running in the default executor until the event is set (at the end anyway)."""
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        leave.wait()

    future = loop.run_in_executor(None, work)
    entered.wait()
    try:
        yield future, leave
    finally:
        leave.set()


async def test_the_function_runs_in_another_thread(loop: Loop) -> None:
    assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()


async def test_arguments_and_result_are_passed(loop: Loop) -> None:
    assert await loop.run_in_executor(None, divmod, 7, 2) == (3, 1)


async def test_the_exception_is_raised_by_await(loop: Loop) -> None:
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, divmod, 7, 0)


async def test_it_returns_a_future_of_the_loop(loop: Loop) -> None:
    future = loop.run_in_executor(None, int)
    assert asyncio.isfuture(future)
    assert future.get_loop() is loop
    assert await future == 0


async def test_a_given_executor_is_used(loop: Loop) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        name = await loop.run_in_executor(executor, lambda: threading.current_thread().name)
    assert name.startswith("mine")


async def test_any_object_with_submit_serves_as_executor(loop: Loop) -> None:
    class Immediate(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(fn(*args, **kwargs))
            return future

    assert await loop.run_in_executor(Immediate(), max, 1, 2) == 2


async def test_the_default_executor_names_its_threads(loop: Loop) -> None:
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert name.startswith("asyncio_")


async def test_set_default_executor(loop: Loop) -> None:
    executor = ThreadPoolExecutor(1, thread_name_prefix="own-default")
    loop.set_default_executor(executor)
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert name.startswith("own-default")


def test_set_default_executor_wants_a_thread_pool(loop: Loop) -> None:
    if sys.version_info >= (3, 11):
        with pytest.raises(TypeError, match=r"^executor must be ThreadPoolExecutor instance$"):
            loop.set_default_executor(object())  # type: ignore[arg-type]
    else:
        with pytest.warns(DeprecationWarning):
            loop.set_default_executor(ThreadPoolSubstitute())  # type: ignore[arg-type]


class ThreadPoolSubstitute:
    """Not a ThreadPoolExecutor; its shutdown is called by the loop's close()."""

    def shutdown(self, wait: bool = True) -> None:
        pass


async def test_cancelling_the_future_leaves_the_thread(loop: Loop) -> None:
    """A running function cannot be stopped; its result is dropped without a report."""
    with held(loop) as (future, _):
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future


async def test_shutdown_waits_for_running_work(loop: Loop) -> None:
    with held(loop) as (future, leave):
        loop.call_soon(leave.set)
        await loop.shutdown_default_executor()
        assert leave.is_set()
        await future


async def test_after_shutdown_the_default_executor_is_refused(loop: Loop) -> None:
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
        loop.run_in_executor(None, int)
    with ThreadPoolExecutor(1) as executor:
        assert await loop.run_in_executor(executor, int) == 0, "another executor still works"


async def test_shutdown_without_an_executor_returns_at_once(loop: Loop) -> None:
    await loop.shutdown_default_executor()
    await loop.shutdown_default_executor()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the parameter came with 3.12")
@oracle_since((3, 13), "3.12 waits for ever")
async def test_shutdown_gives_up_after_its_timeout(loop: Any) -> None:
    text = r"^The executor did not finishing joining its threads within 0\.001 seconds\.$"
    with held(loop) as (future, leave):
        with pytest.warns(RuntimeWarning, match=text):
            await loop.shutdown_default_executor(timeout=0.001)
        leave.set()
        await future


def test_debug_mode_checks_the_function(loop: Loop) -> None:
    loop.set_debug(True)

    async def coroutine_function() -> None:
        """Never started."""

    with pytest.raises(TypeError, match=r"^coroutines cannot be used with run_in_executor\(\)$"):
        loop.run_in_executor(None, coroutine_function)
    text = r"^a callable object was expected by run_in_executor\(\), got 42$"
    with pytest.raises(TypeError, match=text):
        loop.run_in_executor(None, 42)  # type: ignore[arg-type]


def test_close_does_not_wait_for_the_executor(loop: Loop) -> None:
    with held(loop) as (future, _):
        loop.close()
        assert not future.done()


async def test_to_thread(loop: Loop) -> None:
    assert await asyncio.to_thread(sum, [1, 2, 3]) == 6


async def test_many_jobs_at_once(loop: Loop) -> None:
    results = await asyncio.gather(*(loop.run_in_executor(None, pow, n, 2) for n in range(200)))
    assert results == [n * n for n in range(200)]
