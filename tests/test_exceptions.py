"""An exception out of any callback: reported, never fatal; what the exception handler gets."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable
from typing import Any

import pytest

from .support import Context, Errors, Loop, records, turns, unix_pair


class Oops(Exception):
    """Raised by the callbacks under test."""


def oops(*args: object) -> None:
    raise Oops("from a callback")


def by_descriptor(loop: Loop, direction: str) -> None:
    """The callback of a descriptor that is ready at once fails, once."""
    left, right = unix_pair()
    right.send(b"x")

    def fail() -> None:
        loop.call_soon(clean_up)
        oops()

    def clean_up() -> None:
        getattr(loop, f"remove_{direction}")(left)
        left.close()
        right.close()

    getattr(loop, f"add_{direction}")(left, fail)


def by_done_callback(loop: Loop) -> None:
    future = loop.create_future()
    future.add_done_callback(oops)
    future.set_result(None)


WAYS: dict[str, Callable[[Loop], object]] = {
    "call_soon": lambda loop: loop.call_soon(oops),
    "call_later": lambda loop: loop.call_later(0, oops),
    "call_at": lambda loop: loop.call_at(loop.time(), oops, 1, "two"),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(oops),
    "add_reader": lambda loop: by_descriptor(loop, "reader"),
    "add_writer": lambda loop: by_descriptor(loop, "writer"),
    "done_callback": by_done_callback,
}


@pytest.mark.parametrize("way", WAYS)
async def test_it_is_reported_and_the_loop_goes_on(loop: Loop, errors: Errors, way: str) -> None:
    WAYS[way](loop)
    await turns(3)
    context = errors.take_one()
    assert set(context) == {"message", "exception", "handle"}
    callback = r"(oops|by_descriptor\.<locals>\.fail)\(.*\)"
    pattern = rf"^Exception in callback {callback} at .*test_exceptions\.py:\d+$"
    assert re.match(pattern, context["message"])
    assert isinstance(context["exception"], Oops)
    assert context["exception"].__traceback__ is not None
    assert isinstance(context["handle"], asyncio.Handle)
    assert await asyncio.sleep(0, "alive") == "alive"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exits_leave_run_forever(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, way: str, error: type[BaseException]
) -> None:
    """KeyboardInterrupt and SystemExit go through to the caller; the loop can run again."""

    def leave(*args: object) -> None:
        raise error("out")

    monkeypatch.setattr(f"{__name__}.Oops", error)
    calls: list[str] = []
    WAYS[way](loop)
    loop.call_later(0.0, loop.call_soon, calls.append, "kept for the next run")
    with pytest.raises(error):
        loop.run_forever()
    assert not loop.is_running()
    loop.run_until_complete(turns(4))
    assert calls == ["kept for the next run"]


def test_exits_leave_run_until_complete_through_a_task(loop: Loop) -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    assert not loop.is_running()
    loop.run_until_complete(asyncio.sleep(0))


async def test_callbacks_after_the_failing_one_run_in_the_same_iteration(
    loop: Loop, errors: Errors
) -> None:
    calls: list[str] = []
    loop.call_soon(oops)
    loop.call_soon(calls.append, "same iteration")
    await turns(1)
    assert calls == ["same iteration"]
    assert len(errors.take()) == 1


async def test_base_exceptions_are_reported_too(loop: Loop, errors: Errors) -> None:
    class Strange(BaseException):
        """Neither an Exception nor an exit."""

    def fail() -> None:
        raise Strange

    loop.call_soon(fail)
    loop.call_soon(asyncio.CancelledError)
    await turns(1)
    assert isinstance(errors.take_one()["exception"], Strange)


def test_the_handler_is_set_got_and_unset(loop: Loop) -> None:
    def handler(loop: Loop, context: Context) -> None:
        """Never called."""

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    text = r"^A callable object or None is expected, got 'no handler'$"
    with pytest.raises(TypeError, match=text):
        loop.set_exception_handler("no handler")  # type: ignore[arg-type]


async def test_the_handler_gets_the_loop_and_the_same_context(loop: Loop) -> None:
    got: list[tuple[Any, Any]] = []
    loop.set_exception_handler(lambda *args: got.append(args))
    context = {"message": "called by hand", "own key": 1}
    loop.call_exception_handler(context)
    assert got[0][0] is loop
    assert got[0][1] is context


async def test_a_failing_handler_is_logged_and_survived(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(loop: Loop, context: Context) -> None:
        raise LookupError("in the handler")

    loop.set_exception_handler(failing)
    loop.call_soon(oops)
    await turns(1)
    (message,) = records(caplog, "ERROR")
    assert message.startswith("Unhandled error in exception handler\ncontext: {'message': ")
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exits_leave_through_the_handler(loop: Loop, error: type[BaseException]) -> None:
    def leaving(loop: Loop, context: Context) -> None:
        raise error

    loop.set_exception_handler(leaving)
    loop.call_soon(oops)
    with pytest.raises(error):
        loop.run_forever()


async def test_the_default_handler_logs(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_exception_handler(None)
    loop.call_soon(oops, 1)
    await turns(1)
    (record,) = caplog.records
    assert record.name == "asyncio"
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Oops)
    first, second = record.getMessage().split("\n")
    assert first.startswith("Exception in callback oops(")
    assert re.match(r"^handle: <Handle oops\(.*\) at .*test_exceptions\.py:\d+>$", second)


def test_the_default_handlers_text(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """Message, then the other keys in alphabetical order with their reprs."""
    loop.default_exception_handler({"zebra": "z", "message": "What happened", "ant": [1]})
    loop.default_exception_handler({"exception": None})
    loop.default_exception_handler({"message": "", "exception": ValueError("v")})
    assert records(caplog, "ERROR") == [
        "What happened\nant: [1]\nzebra: 'z'",
        "Unhandled exception in event loop",
        "Unhandled exception in event loop",
    ]
    assert caplog.records[2].exc_info is not None
    assert not caplog.records[0].exc_info


async def test_a_handler_may_defer_to_the_default(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def deferring(loop: Loop, context: Context) -> None:
        loop.default_exception_handler({**context, "message": "deferred"})

    loop.set_exception_handler(deferring)
    loop.call_soon(oops)
    await turns(1)
    (message,) = records(caplog, "ERROR")
    assert message.startswith("deferred\nhandle: ")


async def test_debug_mode_adds_where_it_came_from(loop: Loop, errors: Errors) -> None:
    loop.set_debug(True)
    loop.call_soon(oops)
    await turns(1)
    context = errors.take_one()
    assert set(context) == {"message", "exception", "handle", "source_traceback"}
    frames = [frame.name for frame in context["source_traceback"]]
    assert frames[-1] == "test_debug_mode_adds_where_it_came_from"


async def test_debug_text_of_the_default_handler(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """A report made inside a callback tells where that callback was scheduled."""
    loop.set_exception_handler(None)
    loop.set_debug(True)
    loop.call_soon(lambda: loop.call_exception_handler({"message": "by hand"}))
    await turns(1)
    (message,) = records(caplog, "ERROR")
    assert message.startswith(
        "by hand\nhandle_traceback: Handle created at (most recent call last)"
    )
    assert "test_debug_text_of_the_default_handler" in message


async def test_no_report_keeps_the_loop_alive_for_ever(loop: Loop, errors: Errors) -> None:
    """A reported exception is not kept by the loop after the report."""
    import weakref

    class Payload:
        """Held by the failing callback's arguments."""

    payload = Payload()
    reference = weakref.ref(payload)
    loop.call_soon(oops, payload)
    del payload
    await turns(1)
    errors.take()
    gc.collect()
    assert reference() is None
