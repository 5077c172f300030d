"""Puts aioxide's loop wherever asyncio names its own. Runs inside the interpreter under test.

The tests make loops in many ways: `asyncio.SelectorEventLoop(selector)`, `asyncio.run()`,
`asyncio.new_event_loop()`, `base_events.BaseEventLoop()`, and `TestLoop`, the loop with a clock of
its own that the suite's helpers define. All of them give aioxide's loop, so that each test that
looks at behaviour looks at ours.

The loops that are made are counted. A test that passes on a loop of the standard library, which it
found in some way that is not known here, has proved nothing about aioxide.
"""

from __future__ import annotations

import asyncio
import heapq
import importlib
import socket
import sys
from asyncio import base_events, selector_events, unix_events
from collections.abc import Callable, Generator, Mapping, Set
from contextvars import Context
from typing import Any

import aioxide

#: The classes in whose place ours stands.
STANDARD: tuple[type, ...] = (
    base_events.BaseEventLoop,
    selector_events.BaseSelectorEventLoop,
    unix_events.SelectorEventLoop,
)


class Made:
    """How many loops of each kind this process has made."""

    aioxide = 0
    standard = 0


class SelectorEventLoop(aioxide.Loop):
    """aioxide's loop. The selector that a test wants it to use is closed: there is none inside."""

    def __init__(self, selector: Any = None) -> None:
        Made.aioxide += 1
        super().__init__()
        close = getattr(selector, "close", None)
        if close is not None:
            close()

    def _run_once(self) -> None:
        """One iteration, in which nothing is waited for: how some tests let a callback run."""
        aioxide.Loop.stop(self)
        aioxide.Loop._run(self)

    def _stop_serving(self, sock: socket.socket) -> None:
        """How one test puts its socket away."""
        self.remove_reader(sock)
        sock.close()


class TestLoop(SelectorEventLoop):
    """aioxide's loop under the clock of the suite's helper of this name.

    Time stands still unless the test's generator moves it: after each iteration the generator is
    sent the time of each timer that was made in it, and gives the seconds to go forward. Timers are
    kept here, and one that is due is queued behind what waits already, as a timer of the loop is.
    All else is the loop's own: the queue, its order, futures, tasks, exceptions.
    """

    _clock_resolution = 1e-9

    def __init__(self, gen: Callable[[], Generator[Any, Any, Any]] | None = None) -> None:
        super().__init__()
        self._now: float = 0
        self._stopping = False
        #: The times of the timers that were made since the generator was sent any.
        self._asked: list[float] = []
        #: A heap of time, order and timer.
        self._scheduled: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        #: What waits for the next iteration. Some tests run the loop until nothing does.
        self._ready: list[asyncio.Handle] = []
        self._scripted = gen is not None
        self._script = (gen or _nothing_to_say)()
        next(self._script)

    def time(self) -> float:
        return self._now

    def advance_time(self, advance: float) -> None:
        if advance:
            self._now += advance

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:  # type: ignore[override]
        handle = super().call_soon(*args, **kwargs)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if delay is None:
            raise TypeError("delay must not be None")
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if when is None:
            raise TypeError("when cannot be None")
        self._check_closed()
        if self.get_debug():
            self._check_thread()
            self._check_callback(callback, "call_at")
        self._asked.append(when)
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._scheduled, (when, self._timers_made, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A timer tells its loop. It is looked at when it is due."""

    def stop(self) -> None:
        self._stopping = True

    def _run(self) -> None:
        try:
            while True:
                self._run_once()
                if self._stopping:
                    return
        finally:
            self._stopping = False

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0][0] < self._now + self._clock_resolution:
            self.call_soon(_fire, heapq.heappop(self._scheduled)[2])
        self._ready.clear()
        super()._run_once()
        asked, self._asked = self._asked, []
        for when in asked:
            self.advance_time(self._script.send(when))

    def close(self) -> None:
        super().close()
        if self._scripted:
            try:
                self._script.send(0)
            except StopIteration:
                pass
            else:
                raise AssertionError("the test's clock was not asked as often as it says")


def _nothing_to_say() -> Generator[Any, Any, Any]:
    """The clock of a test that says nothing of time: the first timer ends it."""
    yield


def _fire(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()


class Mockable:
    """A name in aioxide's modules, which is what a test has put in its place in asyncio's.

    The tests look at what is logged by mocking `asyncio.base_events.logger`, and let a system call
    fail by mocking `asyncio.unix_events.signal`. aioxide uses the same logger and the same modules
    under names of its own, and this makes what it says and asks go to the mock.
    """

    #: What is followed, and what of it; an empty set is all of it. Not the socket module: aioxide's
    #: sockets are made below Python.
    NAMES: Mapping[str, Set[str]] = {"logger": set(), "signal": set(), "sys": {"is_finalizing"}}
    WHERE = (base_events, selector_events, unix_events)

    def __init__(self, name: str, real: object) -> None:
        self._name = name
        self._real = real

    def __getattr__(self, attribute: str) -> Any:
        followed = self.NAMES[self._name]
        if followed and attribute not in followed:
            return getattr(self._real, attribute)
        there = (getattr(module, self._name, self._real) for module in self.WHERE)
        mocks = (value for value in there if value is not self._real)
        return getattr(next(mocks, self._real), attribute)


def _follow_mocks() -> None:
    real = {name: getattr(unix_events, name) for name in Mockable.NAMES}
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("aioxide."):
            for name, value in real.items():
                if getattr(module, name, None) is value:
                    setattr(module, name, Mockable(name, value))


def _show_server() -> None:
    """Two names by which a test sees that a server has ended, beside those that everybody uses."""

    def waiters(server: aioxide.Server) -> list[Any] | None:
        return [] if server._active_count or not server._is_closed() else None

    setattr(aioxide.Server, "_sockets", property(lambda server: server.sockets or None))  # noqa: B010
    setattr(aioxide.Server, "_waiters", property(waiters))  # noqa: B010


def _count_standard_loops() -> None:
    original = base_events.BaseEventLoop.__init__

    def counted(self: Any, *args: Any, **kwargs: Any) -> None:
        Made.standard += 1
        original(self, *args, **kwargs)

    base_events.BaseEventLoop.__init__ = counted  # type: ignore[method-assign]


def install() -> None:
    """Take the places. Before the tests are imported, because they take names from asyncio."""
    _count_standard_loops()
    _follow_mocks()
    _show_server()
    for name, module in list(sys.modules.items()):
        if name == "asyncio" or name.startswith("asyncio."):
            for attribute, value in list(vars(module).items()):
                if any(value is standard for standard in STANDARD):
                    setattr(module, attribute, SelectorEventLoop)
                elif getattr(value, "_loop_factory", None) in STANDARD:
                    value._loop_factory = SelectorEventLoop
    utils = importlib.import_module("test.test_asyncio.utils")
    setattr(utils, "TestLoop", TestLoop)  # noqa: B010
