"""Scenarios of test_differential.py: callbacks, timers, descriptors, tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from .support import Loop, turns, unix_pair

Note = Callable[..., None]
Scenario = Callable[[Loop, Note], Coroutine[Any, Any, None]]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


@scenario
async def callbacks_that_schedule_callbacks(loop: Loop, note: Note) -> None:
    def fan_out(name: str, depth: int) -> None:
        note(name)
        if depth:
            for child in "ab":
                loop.call_soon(fan_out, name + child, depth - 1)

    for root in "xyz":
        loop.call_soon(fan_out, root, 3)
    await turns(6)


@scenario
async def iterations_are_counted(loop: Loop, note: Note) -> None:
    """Which iteration each callback runs in."""
    iteration = 0

    def tick() -> None:
        nonlocal iteration
        iteration += 1
        if iteration < 10:
            loop.call_soon(tick)

    loop.call_soon(tick)
    loop.call_soon(lambda: note("soon", iteration))
    loop.call_soon(lambda: loop.call_soon(lambda: note("soon in soon", iteration)))
    loop.call_later(0, lambda: note("later", iteration))
    loop.call_later(0, lambda: loop.call_soon(lambda: note("soon in later", iteration)))
    loop.call_soon(lambda: loop.call_later(0, lambda: note("later in soon", iteration)))
    future = loop.create_future()
    future.add_done_callback(lambda _: note("done callback", iteration))
    loop.call_soon(future.set_result, None)
    loop.call_soon_threadsafe(lambda: note("threadsafe", iteration))
    await turns(12)


@scenario
async def timers_and_ready_callbacks(loop: Loop, note: Note) -> None:
    now = loop.time()
    for offset in (0.004, 0.001, 0.003, 0.002):
        loop.call_at(now + offset, note, "timer", offset)
        loop.call_soon(note, "soon", offset)
    await asyncio.sleep(0.008)


@scenario
async def timers_that_cancel_timers(loop: Loop, note: Note) -> None:
    now = loop.time()
    handles = [loop.call_at(now + n * 0.001, note, "ran", n) for n in range(1, 7)]
    loop.call_at(now + 0.0015, handles[2].cancel)
    loop.call_at(now + 0.0025, handles[4].cancel)
    await asyncio.sleep(0.009)
    note([handle.cancelled() for handle in handles])


@scenario
async def cancelling_callbacks_of_the_same_iteration(loop: Loop, note: Note) -> None:
    handles: list[asyncio.Handle] = []

    def cancel(number: int) -> None:
        note("cancel", number)
        handles[number].cancel()

    for number in range(6):
        loop.call_soon(cancel, number)
    handles.extend(loop.call_soon(note, "ran", number) for number in range(8))
    await turns(2)


@scenario
async def failing_callbacks_between_others(loop: Loop, note: Note) -> None:
    def fail(number: int) -> None:
        note("failing", number)
        raise LookupError(number)

    for number in range(3):
        loop.call_soon(note, "before", number)
        loop.call_soon(fail, number)
        loop.call_later(0, fail, number + 10)
    await turns(4)


@scenario
async def a_reader_among_callbacks_and_timers(loop: Loop, note: Note) -> None:
    left, right = unix_pair()

    def read() -> None:
        note("read", left.recv(1))
        loop.call_soon(note, "soon in reader")

    with left, right:
        loop.add_reader(left, read)
        right.send(b"abc")
        loop.call_soon(note, "soon")
        loop.call_later(0, note, "timer")
        await turns(6)
        note(loop.remove_reader(left), loop.remove_reader(left))


@scenario
async def reader_and_writer_of_one_descriptor(loop: Loop, note: Note) -> None:
    left, right = unix_pair()
    with left, right:
        loop.add_writer(left, note, "writable")
        loop.add_reader(left, lambda: note("readable", left.recv(1)))
        right.send(b"ab")
        await turns(4)
        note(loop.remove_writer(left))
        right.send(b"c")
        await turns(2)
        note(loop.remove_reader(left))


@scenario
async def replacing_readers_while_they_are_due(loop: Loop, note: Note) -> None:
    left, right = unix_pair()

    def first() -> None:
        note("first")
        loop.add_reader(left, second)

    def second() -> None:
        note("second", left.recv(1))
        loop.remove_reader(left)

    with left, right:
        loop.add_reader(left, first)
        right.send(b"x")
        await turns(5)


@scenario
async def tasks_and_futures(loop: Loop, note: Note) -> None:
    async def worker(name: str, wait: asyncio.Future[str], rounds: int) -> str:
        for number in range(rounds):
            note(name, number)
            await asyncio.sleep(0)
        note(name, await wait)
        return name

    wait: asyncio.Future[str] = loop.create_future()
    tasks = [
        loop.create_task(worker(name, wait, rounds))
        for name, rounds in zip("abc", (3, 1, 2), strict=True)
    ]
    loop.call_later(0.001, wait.set_result, "released")
    note(await asyncio.gather(*tasks))


@scenario
async def cancelled_tasks(loop: Loop, note: Note) -> None:
    async def worker(name: str) -> None:
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            note(name, "cancelled")
            await asyncio.sleep(0)
            note(name, "cleaned up")
            raise

    tasks = [loop.create_task(worker(name)) for name in "abc"]
    await turns(1)
    for task in tasks:
        loop.call_soon(task.cancel)
    note(await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5) != [])


@scenario
async def socket_operations(loop: Loop, note: Note) -> None:
    left, right = unix_pair()
    with left, right:
        receiving = loop.create_task(loop.sock_recv(left, 10))
        receiving.add_done_callback(lambda _: note("received"))
        loop.call_soon(note, "soon")
        loop.call_later(0.001, right.send, b"data")
        note(await receiving)
        receiving = loop.create_task(loop.sock_recv(left, 10))
        await turns(2)
        receiving.cancel()
        note((await asyncio.wait([receiving]))[0] == {receiving})
        await loop.sock_sendall(right, b"more")
        note(await loop.sock_recv(left, 10))
