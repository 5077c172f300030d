"""call_later and call_at: order of deadlines, never early, and strange times."""

from __future__ import annotations

import asyncio
import math

import pytest

from .support import Loop, oracle_never, oracle_since, turns


async def test_timers_run_by_deadline_not_by_creation(loop: Loop) -> None:
    calls: list[str] = []
    now = loop.time()
    loop.call_at(now + 0.003, calls.append, "third")
    loop.call_at(now + 0.001, calls.append, "first")
    loop.call_at(now + 0.002, calls.append, "second")
    done = loop.create_future()
    loop.call_at(now + 0.004, done.set_result, None)
    await done
    assert calls == ["first", "second", "third"]


async def test_equal_deadlines_run_in_order_of_creation_pairwise(loop: Loop) -> None:
    calls: list[int] = []
    when = loop.time() + 0.001
    loop.call_at(when, calls.append, 1)
    loop.call_at(when, calls.append, 2)
    done = loop.create_future()
    loop.call_at(when + 0.001, done.set_result, None)
    await done
    assert calls == [1, 2]


@oracle_never("heapq does not keep the order of equal deadlines")
async def test_equal_deadlines_run_in_order_of_creation(loop: Loop) -> None:
    calls: list[int] = []
    when = loop.time() + 0.001
    for number in range(50):
        loop.call_at(when, calls.append, number)
    done = loop.create_future()
    loop.call_at(when + 0.001, done.set_result, None)
    await done
    assert calls == list(range(50))


async def test_past_deadlines_run_oldest_first(loop: Loop) -> None:
    calls: list[float] = []
    now = loop.time()
    for when in (now - 1, -5.0, now - 2, 0):
        loop.call_at(when, calls.append, when)
    await turns(2)
    assert calls == [-5.0, 0, now - 2, now - 1]


async def test_a_timer_is_never_early(loop: Loop) -> None:
    """A callback runs when the clock has reached its deadline (to the clock's resolution)."""
    early: list[float] = []
    done = loop.create_future()
    delays = [0, 1e-9, 1e-6, 1e-4, 0.0005, 0.001, 0.0015, 0.005, 0.01]
    ran: list[float] = []

    def check(deadline: float) -> None:
        ran.append(deadline)
        if loop.time() < deadline:
            early.append(deadline - loop.time())
        if len(ran) == len(delays):
            done.set_result(None)

    for delay in delays:
        loop.call_at(when := loop.time() + delay, check, when)
    await done
    # One nanosecond of clock resolution is allowed by the rule; a float of uptime is coarser.
    assert [gap for gap in early if gap > 1e-8] == []


async def test_call_later_zero_gives_a_timer_handle(loop: Loop) -> None:
    before = loop.time()
    handle = loop.call_later(0, lambda: None)
    assert isinstance(handle, asyncio.TimerHandle)
    assert before <= handle.when() <= loop.time()
    handle.cancel()


async def test_ready_callbacks_run_before_timers_that_are_due(loop: Loop) -> None:
    """Timers are appended after what is ready already: call_later(0) first, call_soon wins."""
    calls: list[str] = []
    loop.call_later(0, calls.append, "timer")
    loop.call_soon(calls.append, "soon")
    await turns(2)
    assert calls == ["soon", "timer"]


async def test_negative_delays_are_due(loop: Loop) -> None:
    calls: list[str] = []
    handle = loop.call_later(-10, calls.append, "past")
    assert handle.when() < loop.time()
    await turns(2)
    assert calls == ["past"]


async def test_when_is_what_was_asked(loop: Loop) -> None:
    assert loop.call_at(123, print).when() == 123
    handle = loop.call_at(loop.time() + 1000.5, print)
    assert handle.when() > loop.time() + 999
    handle.cancel()
    assert handle.when() > loop.time() + 999, "a cancelled timer still tells its time"
    first = loop.call_at(123.25, print)
    assert first.when() == 123.25
    for timer in (first, handle):
        timer.cancel()


async def test_a_far_deadline_does_not_overflow(loop: Loop) -> None:
    handles = [loop.call_later(delay, print) for delay in (1e9, 1e18, math.inf)]
    await turns(2)
    assert handles[2].when() == math.inf
    for handle in handles:
        handle.cancel()


@oracle_since((3, 11), "an AssertionError")
async def test_none_is_no_deadline(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.call_at(None, print)  # type: ignore[arg-type]


async def test_none_is_no_delay(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.call_later(None, print)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        loop.call_later("1", print)  # type: ignore[arg-type]


async def test_many_cancelled_timers_do_not_disturb_the_rest(loop: Loop) -> None:
    calls: list[int] = []
    done = loop.create_future()
    now = loop.time()
    handles = [loop.call_at(now + 0.001 + n * 1e-6, calls.append, n) for n in range(1000)]
    loop.call_at(now + 0.005, done.set_result, None)
    for number, handle in enumerate(handles):
        if number % 10:
            handle.cancel()
    await done
    assert calls == list(range(0, 1000, 10))


async def test_timer_handles_compare_by_time(loop: Loop) -> None:
    early = loop.call_at(1e6, print)
    late = loop.call_at(2e6, print)
    assert early < late
    assert early <= late
    assert late > early
    assert late >= early
    assert early != late
    assert early == loop.call_at(1e6, print)
    assert hash(early) == hash(1e6)
