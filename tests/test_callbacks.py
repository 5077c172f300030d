"""call_soon and handles: order, cancellation, contexts, and the iteration."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import re
import threading
import weakref
from typing import Any

import pytest

from .support import Errors, Loop, turns, unix_pair


def go(loop: Loop) -> None:
    """Run until a stop that is scheduled now; everything scheduled before it has run then."""
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("timers", [False, True])
def test_a_chain_of_handles_is_given_up_at_once(loop: Loop, timers: bool) -> None:
    """Each is an argument of the next: nested ends would take all of the stack."""
    handle: asyncio.Handle | None = None
    for _ in range(300_000):
        given = handle
        if timers:
            handle = loop.call_later(0, lambda *_: None, given)
        else:
            handle = loop.call_soon(lambda *_: None, given)
        del given
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert handle is not None
    del handle


async def test_call_soon_is_first_in_first_out(loop: Loop) -> None:
    calls: list[int] = []
    for number in range(100):
        loop.call_soon(calls.append, number)
    await turns(1)
    assert calls == list(range(100))


async def test_a_callback_scheduled_by_a_callback_runs_in_the_next_iteration(loop: Loop) -> None:
    calls: list[str] = []

    def first() -> None:
        calls.append("first")
        loop.call_soon(calls.append, "third")

    loop.call_soon(first)
    loop.call_soon(calls.append, "second")
    await turns(1)
    assert calls == ["first", "second"]
    await turns(1)
    assert calls == ["first", "second", "third"]


async def test_arguments_are_passed_on(loop: Loop) -> None:
    calls: list[tuple[Any, ...]] = []

    def callback(*args: Any) -> None:
        calls.append(args)

    loop.call_soon(callback)
    loop.call_soon(callback, 1)
    loop.call_soon(callback, 1, None, "three", [4])
    loop.call_later(0, callback, "later")
    loop.call_at(0, callback, "at", "two")
    await turns(2)
    assert sorted(calls, key=str) == sorted(
        [(), (1,), (1, None, "three", [4]), ("later",), ("at", "two")], key=str
    )


@pytest.mark.parametrize("count", range(5))
async def test_a_handle_shows_and_passes_its_arguments(loop: Loop, count: int) -> None:
    args = tuple(range(count))
    calls: list[tuple[int, ...]] = []

    def call(*args: int) -> None:
        calls.append(args)

    handles: list[Any] = [
        loop.call_soon(call, *args),
        loop.call_soon(call, *args, context=contextvars.copy_context()),
        loop.call_soon_threadsafe(call, *args),
        loop.call_later(0, call, *args),
        loop.call_at(loop.time(), call, *args),
    ]
    assert [handle._args for handle in handles] == [args] * len(handles)
    assert all(handle._callback is call for handle in handles)
    await turns(3)
    assert calls == [args] * len(handles)


async def test_a_callback_may_be_given_by_its_name(loop: Loop) -> None:
    done = loop.create_future()
    schedule: Any = loop.call_soon
    schedule(callback=lambda: done.set_result(None))
    await done


async def test_keywords_are_refused(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.call_soon(print, end="")  # type: ignore[call-arg]


async def test_cancel_keeps_a_callback_from_running(loop: Loop) -> None:
    calls: list[str] = []
    handles: list[asyncio.Handle] = [
        loop.call_soon(calls.append, "soon"),
        loop.call_later(0, calls.append, "later"),
        loop.call_at(0, calls.append, "at"),
        loop.call_soon_threadsafe(calls.append, "threadsafe"),
    ]
    assert not any(handle.cancelled() for handle in handles)
    for handle in handles:
        handle.cancel()
        handle.cancel()
    assert all(handle.cancelled() for handle in handles)
    await turns(3)
    assert calls == []


async def test_a_callback_can_cancel_the_next_one(loop: Loop) -> None:
    calls: list[str] = []
    handles: list[asyncio.Handle] = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(calls.append, "cancelled"))
    loop.call_soon(calls.append, "kept")
    await turns(1)
    assert calls == ["kept"]


async def test_cancel_after_the_call_does_nothing(loop: Loop) -> None:
    calls: list[str] = []
    handle = loop.call_soon(calls.append, "ran")
    timer = loop.call_later(0, calls.append, "timer")
    await turns(2)
    assert not handle.cancelled()
    handle.cancel()
    timer.cancel()
    assert handle.cancelled()
    assert timer.cancelled()
    await turns(1)
    assert calls == ["ran", "timer"]


async def test_handle_classes(loop: Loop) -> None:
    soon = loop.call_soon(lambda: None)
    assert isinstance(soon, asyncio.Handle)
    assert isinstance(loop.call_soon_threadsafe(lambda: None), asyncio.Handle)
    timer = loop.call_later(0, lambda: None)
    assert isinstance(timer, asyncio.Handle)
    assert isinstance(timer, asyncio.TimerHandle)
    assert not isinstance(soon, asyncio.TimerHandle)
    await turns(2)


def noop(*args: object) -> None:
    """A callback with a name for the tests of repr."""


async def test_handle_repr_names_the_callback(loop: Loop) -> None:
    soon = loop.call_soon(noop, 1, "two")
    assert re.match(r"^<\w*Handle noop\(1, 'two'\) at .*test_callbacks\.py:\d+>$", repr(soon)) or (
        re.match(r"^<\w*Handle noop\(\) at .*test_callbacks\.py:\d+>$", repr(soon))
    )
    timer = loop.call_at(5e9, noop)
    assert re.match(
        r"^<TimerHandle when=5000000000\.0 noop\(\) at .*test_callbacks\.py:\d+>$", repr(timer)
    )
    partial = loop.call_soon(functools.partial(noop, 1))
    assert "noop" in repr(partial)
    assert "functools.partial" not in repr(partial)
    for handle in (soon, timer, partial):
        handle.cancel()
    assert re.match(r"^<\w*Handle cancelled>$", repr(soon))
    assert re.match(r"^<TimerHandle cancelled when=5000000000\.0>$", repr(timer))


def test_not_callable_is_reported_when_it_is_called(loop: Loop, errors: Errors) -> None:
    """Outside debug mode nothing checks the callback until it runs."""
    loop.call_soon(42)  # type: ignore[arg-type]
    go(loop)
    context = errors.take_one()
    assert isinstance(context["exception"], TypeError)
    assert context["message"].startswith("Exception in callback ")


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_debug_mode_checks_the_callback(loop: Loop, method: str) -> None:
    loop.set_debug(True)
    schedule: Any = getattr(loop, method)
    if method in ("call_later", "call_at"):
        schedule = functools.partial(schedule, 0)
    #: call_later is call_at with another clock, and says so.
    name = {"call_later": "call_at"}.get(method, method)

    async def coroutine_function() -> None:
        """Never started."""

    with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {name}\(\)$"):
        schedule(coroutine_function)
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {name}\(\)$"):
        schedule(coroutine)
    coroutine.close()
    text = rf"^a callable object was expected by {name}\(\), got 42$"
    with pytest.raises(TypeError, match=text):
        schedule(42)


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_a_callback_runs_in_a_copy_of_the_callers_context(loop: Loop) -> None:
    seen: list[str] = []

    def look_and_set() -> None:
        seen.append(variable.get())
        variable.set("by callback")

    variable.set("by caller")
    loop.call_soon(look_and_set)
    loop.call_soon(look_and_set)
    loop.call_later(0, look_and_set)
    loop.call_soon_threadsafe(look_and_set)
    variable.set("changed later")
    await turns(2)
    assert seen == ["by caller"] * 4
    assert variable.get() == "changed later"


async def test_a_given_context_is_used_itself(loop: Loop) -> None:
    context = contextvars.copy_context()
    seen: list[str] = []

    def count() -> None:
        seen.append(variable.get())
        variable.set(f"call {len(seen)}")

    loop.call_soon(count, context=context)
    loop.call_soon_threadsafe(count, context=context)
    loop.call_later(0, count, context=context)
    loop.call_at(loop.time() + 1e-5, count, context=context)
    while len(seen) < 4:
        await turns(1)
    assert seen == ["unset", "call 1", "call 2", "call 3"]
    assert context[variable] == "call 4"


async def test_callbacks_may_outnumber_any_batch(loop: Loop) -> None:
    """A long chain and a wide batch both run to the end."""
    count = 0

    def chain() -> None:
        nonlocal count
        count += 1
        if count < 5000:
            loop.call_soon(chain)
        else:
            done.set_result(None)

    done = loop.create_future()
    chain()
    await done
    assert count == 5000


async def test_input_output_runs_after_ready_and_before_timers(loop: Loop) -> None:
    """One iteration: what was ready, then descriptors in the poll's order, then due timers."""
    calls: list[str] = []
    left, right = unix_pair()
    with left, right:
        right.send(b"x")

        def on_readable() -> None:
            calls.append("reader")
            loop.remove_reader(left)

        loop.add_reader(left, on_readable)
        loop.call_later(0, calls.append, "timer")
        loop.call_soon(calls.append, "soon")
        await turns(2)
    assert calls == ["soon", "reader", "timer"]


async def test_a_reader_runs_before_a_writer_of_the_same_descriptor(loop: Loop) -> None:
    calls: list[str] = []
    left, right = unix_pair()
    with left, right:
        right.send(b"x")

        def note(name: str) -> None:
            calls.append(name)
            (loop.remove_reader if name == "reader" else loop.remove_writer)(left)

        loop.add_writer(left, note, "writer")
        loop.add_reader(left, note, "reader")
        await turns(2)
    assert calls == ["reader", "writer"]


async def test_the_end_of_a_handle_is_told_to_its_weak_references(loop: Loop) -> None:
    ended: list[int] = []
    for number in range(3):
        handle = loop.call_soon(int)
        weakref.finalize(handle, ended.append, number)
        reference = weakref.ref(handle)
        assert reference() is handle
        del handle
        assert reference() is not None  # the loop has it
        await turns(1)
        assert reference() is None
        assert ended == list(range(number + 1))


async def test_a_handle_that_ends_on_another_thread_lets_go_of_its_callback(loop: Loop) -> None:
    class Argument:
        pass

    argument = Argument()
    alive = weakref.ref(argument)
    kept = [loop.call_soon(id, argument)]
    del argument
    await turns(1)
    seen: list[bool] = [alive() is not None]

    def end() -> None:
        kept.clear()
        seen.append(alive() is not None)

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert seen == [True, False]


async def test_a_callback_gets_hold_of_its_own_handle(loop: Loop) -> None:
    """Only a weak reference leads to it, while it runs."""
    found: list[asyncio.Handle | None] = []

    def callback() -> None:
        handle = weak()
        assert handle is not None
        handle.cancel()
        found.append(handle)

    weak = weakref.ref(loop.call_soon(callback))
    await turns(2)
    (handle,) = found
    assert handle is weak()
    assert handle is not None and handle.cancelled()
    found.clear()
    del handle
    assert weak() is None


async def test_the_handle_of_a_callback_that_raises_is_given_to_the_handler(
    loop: Loop, errors: Errors
) -> None:
    class Raised(Exception):
        pass

    def callback(number: int) -> None:
        raise Raised(number)

    for number in range(3):
        loop.call_soon(callback, number)
    await turns(2)
    reports = errors.take()
    assert [str(context["exception"]) for context in reports] == ["0", "1", "2"]
    handles = [context["handle"] for context in reports]
    assert all(isinstance(handle, asyncio.Handle) for handle in handles)
    assert all("callback(" in repr(handle) for handle in handles)
    assert len(set(map(id, handles))) == 3
    weak = [weakref.ref(handle) for handle in handles]
    del reports, handles
    gc.collect()
    assert [each() for each in weak] == [None, None, None]


def test_what_leaves_the_loop_leaves_the_rest_of_the_queue(loop: Loop) -> None:
    calls: list[str] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    loop.call_soon(calls.append, "before")
    loop.call_soon(interrupted)
    loop.call_soon(calls.append, "after")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert calls == ["before"]
    go(loop)
    assert calls == ["before", "after"]


async def test_what_ends_with_a_callback_may_schedule_another(loop: Loop) -> None:
    """The last reference to an argument is its handle's."""
    calls: list[int] = []

    class Argument:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            calls.append(self.number)
            if self.number:
                loop.call_soon(id, Argument(self.number - 1))

    loop.call_soon(id, Argument(3))
    await turns(6)
    assert calls == [3, 2, 1, 0]


def test_a_callback_whose_context_is_entered_already_is_not_called(
    loop: Loop, errors: Errors, caplog: pytest.LogCaptureFixture
) -> None:
    context = contextvars.copy_context()
    calls: list[int] = []
    loop.call_soon(calls.append, 1, context=context)
    loop.call_soon(calls.append, 2)
    context.run(go, loop)
    assert calls == [2]
    # Some versions call the handler in the same context, and log that this fails too.
    told = [str(report["exception"]) for report in errors.take()]
    assert any("is already entered" in text for text in [*told, caplog.text])
