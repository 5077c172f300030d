"""run_forever, run_until_complete, stop, close, and what each says when it may not be called."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import threading
import time
from typing import Any

import pytest

from .support import Errors, Loop, LoopFactory, oracle_when


def test_a_new_loop_is_open_and_idle(loop: Loop) -> None:
    assert not loop.is_running()
    assert not loop.is_closed()
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_run_until_complete_returns_the_result(loop: Loop) -> None:
    async def main() -> str:
        assert loop.is_running()
        assert asyncio.get_running_loop() is loop
        return "done"

    assert loop.run_until_complete(main()) == "done"
    assert not loop.is_running()


def test_run_until_complete_raises_the_exception(loop: Loop) -> None:
    async def main() -> None:
        raise LookupError("from main")

    with pytest.raises(LookupError, match="from main"):
        loop.run_until_complete(main())


def test_run_until_complete_takes_a_future(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(future.set_result, 7)
    assert loop.run_until_complete(future) == 7
    assert loop.run_until_complete(future) == 7, "a completed future ends at once"


def test_run_until_complete_takes_an_awaitable(loop: Loop) -> None:
    class Awaitable:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    assert loop.run_until_complete(Awaitable()) == "awaited"


def test_run_until_complete_refuses_other_things(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(42)  # type: ignore[arg-type]


def test_run_until_complete_refuses_another_loops_future(
    loop: Loop, loop_factory: LoopFactory
) -> None:
    other = loop_factory()
    try:
        with pytest.raises(ValueError, match=r"^The future belongs to a different loop"):
            loop.run_until_complete(other.create_future())
    finally:
        other.close()


def test_a_stopped_loop_leaves_the_future_incomplete(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(future)
    assert not future.done()


def test_run_until_complete_leaves_no_stop_behind(loop: Loop) -> None:
    """Its own done-callback is removed when the loop was stopped by someone else."""
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    calls: list[int] = []
    loop.call_soon(future.set_result, None)
    for number in range(3):
        loop.call_soon(calls.append, number)

    async def several_turns() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    loop.run_until_complete(several_turns())
    assert calls == [0, 1, 2]


def test_stop_before_run_runs_one_iteration(loop: Loop) -> None:
    calls: list[str] = []

    def first() -> None:
        calls.append("first")
        loop.call_soon(calls.append, "next iteration")

    loop.call_soon(first)
    loop.stop()
    loop.run_forever()
    assert calls == ["first"]
    loop.stop()
    loop.run_forever()
    assert calls == ["first", "next iteration"]


def test_stop_lets_the_iteration_finish(loop: Loop) -> None:
    calls: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(calls.append, "same iteration")
    loop.run_forever()
    assert calls == ["same iteration"]


def test_stop_is_forgotten_after_the_run(loop: Loop) -> None:
    """Two stops in one iteration end one run, not two."""
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()

    async def main() -> str:
        await asyncio.sleep(0)
        return "ran"

    assert loop.run_until_complete(main()) == "ran"


def test_run_forever_again_after_stop(loop: Loop) -> None:
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert not loop.is_running()


def test_the_running_loop_is_set_only_while_running(loop: Loop) -> None:
    seen: list[object] = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [loop]
    with pytest.raises(RuntimeError, match=r"^no running event loop$"):
        asyncio.get_running_loop()


@oracle_when(sys.version_info[:3] != (3, 13, 0), "run_forever() in run_forever() forgets the loop")
def test_a_running_loop_cannot_be_run(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
            loop.run_forever()
        future = loop.create_future()
        with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
            loop.run_until_complete(future)

    loop.run_until_complete(main())


def test_loops_do_not_nest(loop: Loop, loop_factory: LoopFactory) -> None:
    other = loop_factory()

    async def main() -> None:
        with pytest.raises(
            RuntimeError, match=r"^Cannot run the event loop while another loop is running$"
        ):
            other.run_forever()

    try:
        loop.run_until_complete(main())
    finally:
        other.close()


def test_loops_run_side_by_side_in_threads(loop: Loop, loop_factory: LoopFactory) -> None:
    results: list[str] = []

    def other_thread() -> None:
        other = loop_factory()
        results.append(other.run_until_complete(asyncio.sleep(0, "other")))
        other.close()

    async def main() -> None:
        thread = threading.Thread(target=other_thread)
        thread.start()
        await loop.run_in_executor(None, thread.join)

    loop.run_until_complete(main())
    assert results == ["other"]


def test_a_running_loop_cannot_be_closed(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"^Cannot close a running event loop$"):
            loop.close()

    loop.run_until_complete(main())


def test_close_is_idempotent(loop: Loop) -> None:
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()


def test_a_closed_loop_refuses_work(loop: Loop) -> None:
    loop.close()

    async def never() -> None:
        """Never started."""

    coroutine = never()
    for refused in (
        lambda: loop.run_forever(),
        lambda: loop.run_until_complete(coroutine),
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.run_in_executor(None, print),
        lambda: loop.create_task(coroutine),
        lambda: loop.add_reader(0, print),
        lambda: loop.add_writer(0, print),
    ):
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            refused()
    coroutine.close()


def test_a_closed_loop_still_answers(loop: Loop) -> None:
    """What needs no kernel works after close: time, futures, handlers, the debug flag."""
    loop.close()
    assert loop.time() > 0
    assert not loop.create_future().done()
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(0) is False
    loop.stop()
    loop.set_debug(True)
    assert loop.get_debug()
    loop.set_exception_handler(None)


def test_close_drops_scheduled_callbacks(loop: Loop, errors: Errors) -> None:
    calls: list[str] = []
    loop.call_soon(calls.append, "soon")
    loop.call_later(0, calls.append, "later")
    loop.close()
    gc.collect()
    assert calls == []


def test_an_unclosed_loop_warns(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    text = re.escape(f"unclosed event loop {loop!r}")
    with pytest.warns(ResourceWarning, match=text):
        del loop
        gc.collect()


def test_time_is_the_monotonic_clock(loop: Loop) -> None:
    before = time.monotonic()
    now = loop.time()
    after = time.monotonic()
    assert isinstance(now, float)
    assert before <= now <= after


def test_repr_tells_the_state(loop: Loop) -> None:
    pattern = r"^<\w+ running={} closed={} debug={}>$"
    assert re.match(pattern.format(False, False, False), repr(loop))

    async def main() -> str:
        return repr(loop)

    assert re.match(pattern.format(True, False, False), loop.run_until_complete(main()))
    loop.set_debug(True)
    assert re.match(pattern.format(False, False, True), repr(loop))
    loop.close()
    assert re.match(pattern.format(False, True, True), repr(loop))


def test_run_from_inside_a_thread_without_a_current_loop(loop: Loop) -> None:
    """A loop runs in any thread, whichever made it."""
    result: list[int] = []
    thread = threading.Thread(
        target=lambda: result.append(loop.run_until_complete(asyncio.sleep(0, 5)))
    )
    thread.start()
    thread.join()
    assert result == [5]
