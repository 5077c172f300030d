"""call_soon_threadsafe: waking a sleeping loop from other threads, and in order."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from .support import Loop, turns

#: Seconds that another thread may take.
PATIENCE = 10


def start(target: object, *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
    thread.start()
    return thread


async def test_it_wakes_a_loop_that_has_nothing_to_do(loop: Loop) -> None:
    future = loop.create_future()
    thread = start(lambda: loop.call_soon_threadsafe(future.set_result, "woken"))
    assert await future == "woken"
    thread.join()


async def test_it_wakes_a_loop_that_waits_for_a_timer(loop: Loop) -> None:
    timer = loop.call_later(3600, lambda: None)
    future = loop.create_future()
    thread = start(lambda: loop.call_soon_threadsafe(future.set_result, "woken"))
    assert await future == "woken"
    thread.join()
    timer.cancel()


async def test_callbacks_run_in_the_loops_thread(loop: Loop) -> None:
    here = threading.get_ident()
    future = loop.create_future()
    thread = start(
        lambda: loop.call_soon_threadsafe(lambda: future.set_result(threading.get_ident()))
    )
    assert await future == here
    thread.join()


async def test_each_threads_calls_keep_their_order(loop: Loop) -> None:
    threads, calls_each = 4, 500
    seen: dict[int, list[int]] = {number: [] for number in range(threads)}
    done = loop.create_future()
    finished = 0

    def finish() -> None:
        nonlocal finished
        finished += 1
        if finished == threads:
            done.set_result(None)

    def work(number: int) -> None:
        for call in range(calls_each):
            loop.call_soon_threadsafe(seen[number].append, call)
        loop.call_soon_threadsafe(finish)

    workers = [start(work, number) for number in range(threads)]
    await done
    for worker in workers:
        worker.join()
    assert all(calls == list(range(calls_each)) for calls in seen.values())


async def test_from_the_loops_own_thread_it_keeps_order_with_call_soon(loop: Loop) -> None:
    calls: list[int] = []
    loop.call_soon(calls.append, 1)
    loop.call_soon_threadsafe(calls.append, 2)
    loop.call_soon(calls.append, 3)
    await asyncio.sleep(0)
    assert calls == [1, 2, 3]


async def test_a_handle_can_be_cancelled_from_another_thread(loop: Loop) -> None:
    """A callback cancelled before its turn never runs, whichever thread cancels."""
    calls: list[str] = []
    future = loop.create_future()

    def work() -> None:
        handle = loop.call_soon_threadsafe(calls.append, "cancelled")
        handle.cancel()
        assert handle.cancelled()
        loop.call_soon_threadsafe(future.set_result, None)

    # The loop is busy here, in join(), so the callback cannot have run before it is cancelled.
    start(work).join()
    await future
    assert calls == []


async def test_calls_made_while_the_loop_is_busy_are_kept(loop: Loop) -> None:
    calls: list[int] = []
    start(lambda: [loop.call_soon_threadsafe(calls.append, n) for n in range(3)]).join()
    assert calls == []
    await asyncio.sleep(0)
    assert calls == [0, 1, 2]


def test_calls_made_before_the_loop_runs_are_kept(loop: Loop) -> None:
    calls: list[str] = []
    start(lambda: loop.call_soon_threadsafe(calls.append, "before")).join()
    loop.run_until_complete(asyncio.sleep(0))
    assert calls == ["before"]


def test_stop_from_another_thread(loop: Loop) -> None:
    started = threading.Event()
    loop.call_soon(started.set)

    def work() -> None:
        started.wait()
        loop.call_soon_threadsafe(loop.stop)

    thread = start(work)
    loop.run_forever()
    thread.join()
    assert not loop.is_running()


def test_a_loop_closed_meanwhile_refuses(loop: Loop) -> None:
    """A thread that is late gets the exception; nothing is lost silently and nothing aborts."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as exc:
            raised.append(exc)

    loop.close()
    start(work).join()
    assert [str(exc) for exc in raised] == ["Event loop is closed"]


async def test_run_coroutine_threadsafe(loop: Loop) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    def work() -> int:
        return asyncio.run_coroutine_threadsafe(double(21), loop).result(timeout=20)

    assert await loop.run_in_executor(None, work) == 42


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before 3.14 nobody waits")
async def test_who_cancels_a_handle_that_runs_waits_until_it_has_run(loop: Loop) -> None:
    events: list[str] = []
    running, cancelling = threading.Event(), threading.Event()

    def run() -> None:
        running.set()
        assert cancelling.wait(PATIENCE)
        handle.cancelled()  # This thread need not wait.
        events.append("has run")

    def cancel() -> None:
        assert running.wait(PATIENCE)
        cancelling.set()
        handle.cancel()
        events.append("cancelled")

    thread = threading.Thread(target=cancel)
    thread.start()
    handle = loop.call_soon_threadsafe(run)
    await turns(2)
    await loop.run_in_executor(None, thread.join)
    assert events == ["has run", "cancelled"]
    assert handle.cancelled()
