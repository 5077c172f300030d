"""A clock of the program's own: timers go by `loop.time()`, whoever wrote it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from .support import LoopFactory, turns


class Oops(Exception):
    """Raised by a clock."""


class Clock:
    """Goes when it is told to."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stopwatch(loop_factory: LoopFactory) -> Iterator[Any]:
    """A loop of a class whose clock begins at zero."""
    plain = loop_factory()
    plain.close()

    class StopwatchLoop(type(plain)):  # type: ignore[misc]
        _begun = plain.time()

        def time(self) -> float:
            return float(super().time() - self._begun)

    loop = StopwatchLoop()
    yield loop
    loop.close()


async def test_timers_go_by_a_clock_that_is_set_on_the_loop(loop: Any) -> None:
    clock = loop.time = Clock(1000)
    calls: list[str] = []
    loop.call_later(5, calls.append, "second")
    loop.call_at(1002, calls.append, "first")
    await turns()
    assert calls == []
    clock.now = 1001.5
    await turns()
    assert calls == []
    clock.now = 1002
    await turns()
    assert calls == ["first"], "a timer is due when the clock says its very time"
    clock.now = 5000
    await turns()
    assert calls == ["first", "second"]


async def test_a_sleep_ends_when_the_clock_says_so(loop: Any) -> None:
    clock = loop.time = Clock()
    sleeping = asyncio.ensure_future(asyncio.sleep(3600))
    await turns()
    assert not sleeping.done()
    clock.now = 3600
    await turns()
    assert sleeping.done()


async def test_a_clock_that_is_taken_away_again(loop: Any) -> None:
    with mock.patch.object(loop, "time", Clock()):
        loop.call_later(1, int)
        await turns()
    before = loop.time()
    await asyncio.sleep(0.001)
    assert loop.time() > before > 1


async def test_the_loops_own_method_may_be_set_again(loop: Any) -> None:
    own = loop.time
    loop.time = Clock()
    loop.time = own
    await asyncio.sleep(0.001)


def test_timers_go_by_the_clock_of_a_subclass(stopwatch: Any) -> None:
    """By the loop's own they would all be due at once."""

    async def main() -> None:
        timer = stopwatch.call_at(3600, int)
        begun = stopwatch.time()
        assert begun < 100
        await asyncio.sleep(0.005)
        assert stopwatch.time() - begun >= 0.005 - 1e-6
        timer.cancel()

    stopwatch.run_until_complete(main())


def test_timers_go_by_the_clock_that_the_class_has_when_the_loop_begins_to_run(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(1000)
    calls: list[str] = []

    async def main() -> None:
        loop.call_at(1001, calls.append, "due")
        await turns()
        assert calls == []
        clock.now = 1001
        await turns()
        assert calls == ["due"]

    with monkeypatch.context() as patch:
        patch.setattr(type(loop), "time", lambda self: clock())
        loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(0.001))


def test_what_a_clock_raises_leaves_the_loop(loop: Any) -> None:
    def broken() -> float:
        raise Oops

    calls: list[str] = []
    timer = loop.call_later(3600, int)
    loop.call_soon(calls.append, "ran")
    loop.call_soon(loop.stop)
    loop.time = broken
    with pytest.raises(Oops):
        loop.run_forever()
    assert calls == []
    del loop.time
    loop.run_forever()
    assert calls == ["ran"]
    timer.cancel()
