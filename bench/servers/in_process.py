"""What a loop's own operations cost, with no network: one operation over and over, on any loop.

It is a server of nobody: for each line of its input, which gives the seconds of a warm-up and of a
window, it does its work for that long and prints one line of JSON with the operations done in the
window and the time they took. It ends when its input does. Works come in batches, so that the
clocks are read seldom.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable

from echo import new_event_loop

# Operations of a batch: long enough that what surrounds them does not show, short enough that a
# batch ends near the end of the window.
BATCH = 20_000

# Timers that are set and cancelled in one batch, before the loop runs again.
CANCELLED = 200_000

# Timers that fire in one batch, and the seconds in which they are due.
FIRED = 10_000
FIRED_WITHIN = 0.01

# Tasks of one `gather`.
GATHERED = 100

# Returns the operations done.
Work = Callable[[], Awaitable[int]]


async def call_soon_chain() -> int:
    """Each callback schedules the next: an iteration of the loop for each."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = BATCH

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done
    return BATCH


async def call_soon_batch() -> int:
    """Callbacks that are all scheduled before the first runs."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def step() -> None:
        pass

    for _ in range(BATCH):
        loop.call_soon(step)
    loop.call_soon(done.set_result, None)
    await done
    return BATCH


async def timers_cancelled() -> int:
    """Timers that are set, and cancelled long before they are due."""
    loop = asyncio.get_running_loop()

    def never() -> None:
        pass

    for timer in [loop.call_later(3600 + i % 97, never) for i in range(CANCELLED)]:
        timer.cancel()
    await asyncio.sleep(0)
    return CANCELLED


async def timers_fired() -> int:
    """Timers that are set in no order, and fire in order."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = FIRED

    def fire() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    now = loop.time()
    for i in range(FIRED):
        loop.call_at(now + FIRED_WITHIN * (i * 7919 % FIRED) / FIRED, fire)
    await done
    return FIRED


async def sleep_zero() -> int:
    """A task that gives way, again and again."""
    for _ in range(BATCH):
        await asyncio.sleep(0)
    return BATCH


async def future_await() -> int:
    """A future whose result comes by `call_soon`, awaited."""
    loop = asyncio.get_running_loop()
    for _ in range(BATCH):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
    return BATCH


async def gather_tasks() -> int:
    """Tasks that give way once, gathered. An operation is a task."""

    async def task() -> None:
        await asyncio.sleep(0)

    for _ in range(BATCH // GATHERED):
        await asyncio.gather(*(task() for _ in range(GATHERED)))
    return BATCH


async def call_soon_threadsafe() -> int:
    """Callbacks from another thread, which sends them as fast as it can."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def step() -> None:
        pass

    def send() -> None:
        for _ in range(BATCH):
            loop.call_soon_threadsafe(step)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=send)
    thread.start()
    await done
    thread.join()
    return BATCH


WORKS: dict[str, Work] = {
    "call-soon-chain": call_soon_chain,
    "call-soon-batch": call_soon_batch,
    "timers-cancelled": timers_cancelled,
    "timers-fired": timers_fired,
    "sleep-zero": sleep_zero,
    "future-await": future_await,
    "gather-100": gather_tasks,
    "threadsafe": call_soon_threadsafe,
}


async def repeat(work: Work, seconds: float) -> dict[str, int]:
    """Works for at least this long. The clocks are those of the process, all threads included."""
    started, used = time.monotonic_ns(), time.process_time_ns()
    operations = 0
    while time.monotonic_ns() - started < seconds * 1e9:
        operations += await work()
    return {
        "requests": operations,
        "elapsed_ns": time.monotonic_ns() - started,
        "server_cpu_ns": time.process_time_ns() - used,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", default="asyncio", help="as servers/echo.py takes it")
    parser.add_argument("--mode", required=True, choices=WORKS)
    parser.add_argument("--core", type=int, help="the core to run on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    loop = new_event_loop(options.loop)
    asyncio.set_event_loop(loop)
    work = WORKS[options.mode]
    try:
        for line in sys.stdin:
            warm_up, window = map(float, line.split())
            loop.run_until_complete(repeat(work, warm_up))
            gc.collect()
            print(json.dumps(loop.run_until_complete(repeat(work, window))), flush=True)
    finally:
        loop.close()


if __name__ == "__main__":
    main()
