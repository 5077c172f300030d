"""Each callback has a copy of the context in which it was scheduled, also where that is empty."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from .support import Errors, Loop, turns

SEEN: contextvars.ContextVar[int] = contextvars.ContextVar("SEEN")


def context_of(handle: asyncio.Handle) -> contextvars.Context:
    """`get_context()`, which asyncio's handles have since Python 3.12."""
    context: contextvars.Context = handle._context  # type: ignore[attr-defined]
    return context


def empty(run: Callable[[], object]) -> Any:
    """Runs it in a context in which nothing is set."""
    return contextvars.Context().run(run)


def in_one_iteration(loop: Loop, schedule: Callable[[], object]) -> None:
    """Runs what it schedules in an empty context, and no more."""
    empty(schedule)
    empty(lambda: loop.call_soon(loop.stop))
    loop.run_forever()


def test_what_a_callback_sets_is_seen_by_no_other(loop: Loop) -> None:
    seen: list[int | None] = []

    def callback(number: int) -> None:
        seen.append(SEEN.get(None))
        assert len(contextvars.copy_context()) == 0
        SEEN.set(number)
        assert len(contextvars.copy_context()) == 1

    in_one_iteration(loop, lambda: [loop.call_soon(callback, number) for number in range(5)])
    assert seen == [None] * 5
    assert SEEN.get(None) is None


def test_what_is_set_afterwards_is_not_seen(loop: Loop) -> None:
    seen: list[int | None] = []

    def schedule() -> None:
        loop.call_soon(lambda: seen.append(SEEN.get(None)))
        SEEN.set(1)
        loop.call_soon(lambda: seen.append(SEEN.get(None)))
        SEEN.set(2)

    in_one_iteration(loop, schedule)
    assert seen == [None, 1]


def test_a_callback_passes_on_what_it_has_set(loop: Loop) -> None:
    seen: list[int | None] = []

    def first() -> None:
        SEEN.set(1)
        loop.call_soon(second)
        loop.call_later(0, second)

    def second() -> None:
        seen.append(SEEN.get(None))
        if len(seen) == 2:
            loop.stop()

    empty(lambda: loop.call_soon(first))
    loop.run_forever()
    assert seen == [1, 1]


def test_the_context_of_a_handle_is_always_the_same_object(loop: Loop) -> None:
    handles: list[asyncio.Handle] = []
    met: list[contextvars.Context] = []

    def callback() -> None:
        # While it runs, first asked for then.
        (handle,) = handles
        met.append(context_of(handle))
        SEEN.set(1)
        assert met[0][SEEN] == 1

    in_one_iteration(loop, lambda: handles.append(loop.call_soon(callback)))
    assert context_of(handles[0]) is met[0]
    assert met[0][SEEN] == 1


def test_a_context_that_was_asked_for_before_is_the_one_it_runs_in(loop: Loop) -> None:
    asked: list[contextvars.Context] = []

    def schedule() -> None:
        handle = loop.call_soon(SEEN.set, 3)
        context = context_of(handle)
        assert len(context) == 0
        context.run(SEEN.set, 2)
        assert context_of(handle) is context
        other = loop.call_soon(lambda: None)
        assert context_of(other) is not context
        asked.append(context)

    in_one_iteration(loop, schedule)
    assert asked[0][SEEN] == 3


def test_a_context_that_somebody_keeps_is_nobody_elses(loop: Loop) -> None:
    kept: list[contextvars.Context] = []
    handles: list[asyncio.Handle] = []
    seen: list[int | None] = []

    def schedule() -> None:
        handles.append(loop.call_soon(lambda: kept.append(context_of(handles[0]))))
        loop.call_soon(lambda: kept[0].run(SEEN.set, 1))
        loop.call_soon(lambda: seen.append(SEEN.get(None)))

    in_one_iteration(loop, schedule)
    assert seen == [None]
    assert kept[0][SEEN] == 1


def test_a_handle_cannot_be_run_from_inside_its_own_callback(
    loop: Loop, errors: Errors, caplog: pytest.LogCaptureFixture
) -> None:
    handles: list[asyncio.Handle] = []
    runs: list[int] = []

    def callback() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            handles[0]._run()

    in_one_iteration(loop, lambda: handles.append(loop.call_soon(callback)))
    assert runs == [0]
    # Since Python 3.12 the handler is called in that context: it cannot be, and that is logged.
    assert "is already entered" in caplog.text + str(errors.take())


def test_callbacks_of_other_threads_have_copies_of_theirs(loop: Loop) -> None:
    seen: list[int | None] = []

    def send() -> None:
        loop.call_soon_threadsafe(lambda: seen.append(SEEN.get(None)))
        SEEN.set(1)
        loop.call_soon_threadsafe(lambda: seen.append(SEEN.get(None)))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=empty, args=(send,))
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == [None, 1]


@pytest.mark.parametrize("kept", [False, True])
def test_what_a_callback_leaves_in_its_context_is_freed_with_its_handle(
    loop: Loop, kept: bool
) -> None:
    class Value:
        pass

    value: contextvars.ContextVar[Value] = contextvars.ContextVar("value")
    freed: list[int] = []
    handles: list[asyncio.Handle] = []

    def callback() -> None:
        it = Value()
        weakref.finalize(it, freed.append, 1)
        value.set(it)

    def schedule() -> None:
        handle = loop.call_soon(callback)
        if kept:
            handles.append(handle)

    in_one_iteration(loop, schedule)
    assert len(freed) == (0 if kept else 1)
    handles.clear()
    gc.collect()
    assert len(freed) == 1


async def test_tasks_steps_and_futures_callbacks_run_in_their_contexts(loop: Loop) -> None:
    seen: list[int | None] = []

    async def task(number: int) -> None:
        SEEN.set(number)
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append(SEEN.get())
        future = loop.create_future()
        future.add_done_callback(lambda _: seen.append(SEEN.get() * 10))
        SEEN.set(-1)
        future.set_result(None)
        await turns(2)

    await asyncio.gather(task(1), task(2))
    assert seen == [1, 2, 1, 2, 1, 2, 10, 20]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_the_name_of_the_keyword_may_be_any_string(loop: Loop, method: str) -> None:
    seen: list[int | None] = []
    context = contextvars.Context()
    context.run(SEEN.set, 5)
    call = getattr(loop, method)
    for _ in range(3):
        # A string object of its own, as asyncio's tasks in C have one.
        call(lambda: seen.append(SEEN.get(None)), **{"".join(["con", "text"]): context})
    for wrong in ("contexts", "contexu"):
        with pytest.raises(TypeError):
            call(seen.append, 1, **{wrong: context})
    in_one_iteration(loop, lambda: None)
    assert seen == [5, 5, 5]


def test_a_callback_may_raise_in_an_empty_context(loop: Loop, errors: Errors) -> None:
    seen: list[int | None] = []

    def fail() -> None:
        SEEN.set(1)
        raise ValueError("failed")

    def schedule() -> None:
        loop.call_soon(fail)
        loop.call_soon(lambda: seen.append(SEEN.get(None)))

    in_one_iteration(loop, schedule)
    assert str(errors.take_one()["exception"]) == "failed"
    assert seen == [None]
