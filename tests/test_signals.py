"""add_signal_handler and remove_signal_handler: signals as callbacks of the loop."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .running import Programs
from .support import (
    Changes,
    Errors,
    Loop,
    LoopFactory,
    open_descriptors,
    oracle_never,
    oracle_since,
    turns,
)

#: Signals that a program may handle, of every sort.  (SIGALRM is the watchdog's.)
CATCHABLE = [
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGWINCH,
    signal.SIGCHLD,
    signal.SIGRTMIN,
    signal.SIGRTMIN + 5,
    signal.SIGRTMAX,
]


def wakeup_descriptor() -> int:
    """What signal.set_wakeup_fd() was last given."""
    number = signal.set_wakeup_fd(-1)
    if number != -1:
        signal.set_wakeup_fd(number)
    return number


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After the loop was closed, signals do what they did before."""

    def dispositions() -> dict[int, Any]:
        return {number: signal.getsignal(number) for number in signal.valid_signals()}

    before = dispositions(), wakeup_descriptor()
    yield
    after = dispositions(), wakeup_descriptor()
    for number, disposition in before[0].items():
        if after[0][number] != disposition:
            signal.signal(number, disposition)
    signal.set_wakeup_fd(before[1])
    assert after == before


def send(number: int) -> None:
    """Send this process a signal; the interpreter has noted it when this returns."""
    signal.raise_signal(number)


class Calls(Changes):
    """Handlers that note what they were called with."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []

    def note(self, *arguments: Any) -> None:
        self.made.append(arguments[0] if len(arguments) == 1 else arguments)
        self.changed()

    async def until_made(self, count: int) -> list[Any]:
        await self.until(lambda: len(self.made) >= count)
        return self.made


# ---- handling ----


@pytest.mark.parametrize("number", CATCHABLE)
async def test_a_handler_is_called(loop: Loop, number: int) -> None:
    calls = Calls()
    loop.add_signal_handler(number, calls.note, "called")
    send(number)
    assert await calls.until_made(1) == ["called"]
    assert loop.remove_signal_handler(number) is True


async def test_the_arguments_are_those_given(loop: Loop) -> None:
    """Not the number and the frame that a handler of the signal module gets."""
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note)
    loop.add_signal_handler(signal.SIGUSR2, calls.note, 1, "two", None)
    send(signal.SIGUSR1)
    send(signal.SIGUSR2)
    assert await calls.until_made(2) == [(), (1, "two", None)]


async def test_a_handler_is_called_by_the_loop(loop: Loop) -> None:
    """Never inside what the signal interrupts, but in the loop's thread and order."""
    calls = Calls()
    thread = threading.get_ident()

    def handler() -> None:
        assert asyncio.get_running_loop() is loop
        assert threading.get_ident() == thread
        assert asyncio.current_task() is None
        calls.note("handler")

    loop.add_signal_handler(signal.SIGUSR1, handler)
    send(signal.SIGUSR1)
    assert calls.made == []
    loop.call_soon(calls.note, "callback")
    await calls.until_made(2)
    assert calls.made == ["callback", "handler"]


async def test_a_signal_wakes_a_sleeping_loop(loop: Loop) -> None:
    """Nothing else is due: only the signal can end the sleep."""
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note, "awake")
    sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
    sender.start()
    assert await calls.until_made(1) == ["awake"]
    sender.join()


async def test_a_signal_to_another_thread(loop: Loop) -> None:
    """Whichever thread the kernel chooses, the handler runs in the loop's."""
    calls = Calls()
    thread = threading.get_ident()
    loop.add_signal_handler(signal.SIGUSR1, lambda: calls.note(threading.get_ident()))
    sender = threading.Thread(
        target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    )
    sender.start()
    assert await calls.until_made(1) == [thread]
    sender.join()


async def test_the_end_of_a_child(loop: Loop) -> None:
    calls = Calls()
    loop.add_signal_handler(signal.SIGCHLD, calls.note, "child")
    child = subprocess.Popen([sys.executable, "-S", "-c", "pass"])
    await calls.until_made(1)
    assert child.wait() == 0
    assert calls.made == ["child"]


async def test_each_signal_is_a_call(loop: Loop) -> None:
    """Those that the kernel delivers one by one are not merged."""
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note, 1)
    for _ in range(5):
        send(signal.SIGUSR1)
    await calls.until_made(5)
    await turns(5)
    assert calls.made == [1] * 5


async def test_the_order_is_that_of_the_signals(loop: Loop) -> None:
    calls = Calls()
    for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGTERM):
        loop.add_signal_handler(number, calls.note, number)
    order = [signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2]
    for number in order:
        send(number)
    assert await calls.until_made(5) == order


async def test_signals_that_were_blocked(loop: Loop) -> None:
    """The kernel merges ordinary ones that wait, and queues real-time ones."""
    calls = Calls()
    numbers = {signal.SIGUSR1, signal.SIGRTMIN}
    for number in numbers:
        loop.add_signal_handler(number, calls.note, number)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        for _ in range(3):
            send(signal.SIGUSR1)
            send(signal.SIGRTMIN)
        await turns(5)
        assert calls.made == []
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    await calls.until_made(4)
    await turns(5)
    assert sorted(calls.made) == [signal.SIGUSR1] + [signal.SIGRTMIN] * 3


async def test_a_signal_inside_a_handler(loop: Loop) -> None:
    calls = Calls()

    def handler() -> None:
        calls.note(len(calls.made))
        if len(calls.made) < 3:
            send(signal.SIGUSR1)
            assert len(calls.made) < 3, "not called from within"

    loop.add_signal_handler(signal.SIGUSR1, handler)
    send(signal.SIGUSR1)
    assert await calls.until_made(3) == [0, 1, 2]


async def test_a_new_handler_replaces_the_old_one(loop: Loop) -> None:
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note, "old")
    loop.add_signal_handler(signal.SIGUSR1, calls.note, "new")
    send(signal.SIGUSR1)
    await calls.until_made(1)
    await turns()
    assert calls.made == ["new"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


async def test_a_handler_that_was_replaced_since_the_signal(loop: Loop) -> None:
    """Whoever handles the signal when the loop hears of it."""
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note, "old")
    send(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGUSR1, calls.note, "new")
    await calls.until_made(1)
    await turns()
    assert calls.made == ["new"]


async def test_a_handler_that_was_removed_since_the_signal(loop: Loop) -> None:
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note, "removed")
    loop.add_signal_handler(signal.SIGUSR2, calls.note, "heard")
    send(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR1)
    send(signal.SIGUSR2)
    await calls.until_made(1)
    await turns()
    assert calls.made == ["heard"]


async def test_a_handler_that_is_removed_by_the_one_before(loop: Loop) -> None:
    """The loop has heard of both signals by then: what is queued runs."""
    calls = Calls()

    def handler() -> None:
        calls.note(loop.remove_signal_handler(signal.SIGUSR2))

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.add_signal_handler(signal.SIGUSR2, calls.note, "queued")
    send(signal.SIGUSR1)
    send(signal.SIGUSR2)
    assert await calls.until_made(2) == [True, "queued"]


async def test_a_handler_that_removes_itself(loop: Loop) -> None:
    calls = Calls()

    def handler() -> None:
        calls.note(loop.remove_signal_handler(signal.SIGUSR1))

    loop.add_signal_handler(signal.SIGUSR1, handler)
    send(signal.SIGUSR1)
    assert await calls.until_made(1) == [True]
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


async def test_a_handler_that_replaces_itself(loop: Loop) -> None:
    calls = Calls()

    def handler() -> None:
        calls.note("first")
        loop.add_signal_handler(signal.SIGUSR1, calls.note, "second")

    loop.add_signal_handler(signal.SIGUSR1, handler)
    send(signal.SIGUSR1)
    await calls.until_made(1)
    send(signal.SIGUSR1)
    assert await calls.until_made(2) == ["first", "second"]


async def test_a_handler_that_stops_waiting(loop: Loop) -> None:
    """What programs do: set an event that somebody waits for."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.call_soon(send, signal.SIGTERM)
    await stop.wait()
    stop.clear()
    loop.call_soon(send, signal.SIGINT)
    await stop.wait()


def test_a_handler_that_stops_the_loop(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGTERM, loop.stop)
    loop.call_soon(send, signal.SIGTERM)
    loop.run_forever()
    assert loop.remove_signal_handler(signal.SIGTERM)


async def test_the_context_of_a_handler(loop: Loop) -> None:
    """That of whoever added it, as it was then; what a call changes, the next one sees."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    calls = Calls()

    def handler() -> None:
        calls.note(variable.get())
        variable.set("handler's")

    variable.set("adder's")
    loop.add_signal_handler(signal.SIGUSR1, handler)
    variable.set("later")
    send(signal.SIGUSR1)
    send(signal.SIGUSR1)
    assert await calls.until_made(2) == ["adder's", "handler's"]
    assert variable.get() == "later"


async def test_a_busy_loop_hears_signals(loop: Loop) -> None:
    calls = Calls()

    def spin() -> None:
        if not calls.made:
            loop.call_soon(spin)

    loop.add_signal_handler(signal.SIGUSR1, calls.note, "heard")
    loop.call_soon(spin)
    loop.call_soon(send, signal.SIGUSR1)
    await calls.until_made(1)


async def test_an_exchange_is_not_disturbed(loop: Loop) -> None:
    """Signals by the hundred while sockets are at work."""
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note, 1)
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        for number in range(300):
            receiving = loop.create_task(loop.sock_recv(right, 10))
            send(signal.SIGUSR1)
            await loop.sock_sendall(left, b"%d" % number)
            assert await receiving == b"%d" % number
    assert await calls.until_made(300) == [1] * 300


# ---- exceptions ----


async def test_an_exception_out_of_a_handler(loop: Loop, errors: Errors) -> None:
    """It is reported as any callback's, and the handler stays."""
    calls = Calls()

    def handler() -> None:
        calls.note("called")
        raise LookupError("handler")

    loop.add_signal_handler(signal.SIGUSR1, handler)
    for count in (1, 2):
        send(signal.SIGUSR1)
        await calls.until_made(count)
        await turns(1)
        context = errors.take_one()
        assert sorted(context) == ["exception", "handle", "message"]
        assert repr(context["exception"]) == "LookupError('handler')"
        assert re.match(r"^Exception in callback .*handler\(\) at .*", context["message"])


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_must_leave_the_loop_leaves_it(loop: Loop, exception: type[BaseException]) -> None:
    def handler() -> None:
        raise exception

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.call_soon(send, signal.SIGUSR1)
    with pytest.raises(exception):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


# ---- registering ----


def test_removing_gives_back_the_default(loop: Loop) -> None:
    for number in CATCHABLE:
        loop.add_signal_handler(number, int)
        handled = signal.getsignal(number)
        assert handled not in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
        assert loop.remove_signal_handler(number) is True
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        assert signal.getsignal(number) is default
        assert loop.remove_signal_handler(number) is False


def test_removing_gives_back_the_default_and_nothing_else(loop: Loop) -> None:
    """A handler that the program had set before is gone."""
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_keyboard_interrupt_comes_back(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGINT, int)
    send(signal.SIGINT)
    loop.run_until_complete(turns(5))
    loop.remove_signal_handler(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_closing_the_loop_gives_back_the_defaults(loop: Loop) -> None:
    for number in CATCHABLE:
        loop.add_signal_handler(number, int)
    loop.run_until_complete(turns())
    loop.close()
    for number in CATCHABLE:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        assert signal.getsignal(number) is default
        assert loop.remove_signal_handler(number) is False
    assert wakeup_descriptor() == -1


def test_closing_a_loop_that_never_ran(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_closing_leaves_what_others_have_set(loop_factory: LoopFactory) -> None:
    def others(number: int, frame: object) -> None:
        pass

    signal.signal(signal.SIGUSR2, others)
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.run_until_complete(turns())
    loop.close()
    assert signal.getsignal(signal.SIGUSR2) is others
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def test_handlers_do_not_keep_descriptors(loop_factory: LoopFactory) -> None:
    loop_factory().close()
    before = open_descriptors()
    for _ in range(3):
        loop = loop_factory()
        loop.add_signal_handler(signal.SIGUSR1, int)
        loop.add_signal_handler(signal.SIGUSR2, int)
        send(signal.SIGUSR1)
        loop.run_until_complete(turns())
        loop.close()
    assert open_descriptors() == before


def test_a_signal_before_the_first_run(loop: Loop) -> None:
    """A handler that was added before the loop runs hears what came meanwhile."""
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note, "early")
    send(signal.SIGUSR1)
    assert calls.made == []
    assert loop.run_until_complete(calls.until_made(1)) == ["early"]


def test_a_signal_between_two_runs(loop: Loop) -> None:
    calls = Calls()

    async def add() -> None:
        loop.add_signal_handler(signal.SIGUSR1, calls.note, "between")

    loop.run_until_complete(add())
    send(signal.SIGUSR1)
    assert calls.made == []
    assert loop.run_until_complete(calls.until_made(1)) == ["between"]


def test_two_loops_one_after_the_other(loop_factory: LoopFactory) -> None:
    for name in ("first", "second"):
        loop = loop_factory()
        calls = Calls()
        loop.add_signal_handler(signal.SIGUSR1, calls.note, name)
        loop.call_soon(send, signal.SIGUSR1)
        assert loop.run_until_complete(calls.until_made(1)) == [name]
        loop.close()


def test_a_signal_of_a_loop_that_was_closed_meanwhile(loop_factory: LoopFactory) -> None:
    """Nobody hears it, and it disturbs nobody."""
    calls = Calls()
    first = loop_factory()
    first.add_signal_handler(signal.SIGUSR1, calls.note, "first")
    send(signal.SIGUSR1)
    first.close()
    second = loop_factory()
    second.add_signal_handler(signal.SIGUSR1, calls.note, "second")
    second.run_until_complete(turns(5))
    assert calls.made == []
    send(signal.SIGUSR1)
    assert second.run_until_complete(calls.until_made(1)) == ["second"]
    second.close()


@oracle_never("whoever asks last has the wake-up descriptor, and nobody after that")
@pytest.mark.parametrize("first_to_close", [0, 1])
def test_two_loops_at_the_same_time(loop_factory: LoopFactory, first_to_close: int) -> None:
    """When the loop that asked last is closed, the other one is told again."""
    calls = Calls()
    numbers = [signal.SIGUSR1, signal.SIGUSR2]
    loops = [loop_factory(), loop_factory()]
    for loop, number in zip(loops, numbers, strict=True):
        loop.add_signal_handler(number, calls.note, number)
    send(signal.SIGUSR2)
    loops[1].run_until_complete(calls.until_made(1))
    loops[first_to_close].close()
    left = 1 - first_to_close
    send(numbers[left])
    loops[left].run_until_complete(calls.until_made(2))
    loops[left].close()
    assert calls.made == [signal.SIGUSR2, numbers[left]]


def test_a_loop_that_was_forgotten(loop_factory: LoopFactory) -> None:
    """Whether or not its handler refers to it: the collector closes it."""
    for circle in (False, True):
        loop: Any = loop_factory()
        loop.add_signal_handler(signal.SIGUSR1, loop.stop if circle else int)
        with pytest.warns(ResourceWarning, match="unclosed event loop"):
            del loop
            gc.collect()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        assert wakeup_descriptor() == -1


def test_handlers_of_the_signal_module_work_beside(loop: Loop) -> None:
    calls = Calls()
    signal.signal(signal.SIGUSR2, lambda number, frame: calls.note("signal module's"))

    async def main() -> None:
        loop.add_signal_handler(signal.SIGUSR1, calls.note, "loop's")
        send(signal.SIGUSR2)
        send(signal.SIGUSR1)
        await calls.until_made(2)

    loop.run_until_complete(main())
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    assert calls.made == ["signal module's", "loop's"]


def test_a_signal_that_is_taken_away_by_the_signal_module(loop: Loop) -> None:
    """The last one to ask has it."""
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note, "loop's")
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    send(signal.SIGUSR1)
    loop.run_until_complete(turns(5))
    assert calls.made == []
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def flags_of(number: int) -> int:
    """The sa_flags of the kernel's action for a signal, as the C library keeps them."""
    action = (ctypes.c_byte * 512)()
    assert ctypes.CDLL(None).sigaction(number, None, action) == 0
    # The handler's address and the mask of 1024 bits come first.
    offset = ctypes.sizeof(ctypes.c_void_p) + 1024 // 8
    return ctypes.c_int.from_buffer(action, offset).value


def test_interrupted_system_calls_go_on(loop: Loop) -> None:
    """SA_RESTART: a library's system call does not fail because of a signal."""
    restart = 0x10000000
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    assert flags_of(signal.SIGUSR1) & restart == 0
    loop.add_signal_handler(signal.SIGUSR1, int)
    assert flags_of(signal.SIGUSR1) & restart == restart
    loop.remove_signal_handler(signal.SIGUSR1)


# ---- the wake-up descriptor ----


def test_the_wakeup_descriptor_is_given_back(loop: Loop) -> None:
    """By the last handler's removal, and after a run."""
    assert wakeup_descriptor() == -1
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.add_signal_handler(signal.SIGUSR2, int)
    loop.run_until_complete(turns())
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)
    loop.run_until_complete(turns())
    assert wakeup_descriptor() == -1


def test_a_refused_signal_leaves_the_wakeup_descriptor(loop: Loop) -> None:
    with pytest.raises(RuntimeError):
        loop.add_signal_handler(signal.SIGKILL, int)
    assert wakeup_descriptor() == -1


def test_the_programs_wakeup_descriptor_stays(loop: Loop) -> None:
    """A run without handlers leaves it alone."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        loop.run_until_complete(turns())
        assert wakeup_descriptor() == theirs.fileno()
        signal.set_wakeup_fd(-1)


@oracle_never("it takes the descriptor, and leaves none behind")
@pytest.mark.parametrize("how", ["remove", "close"])
def test_the_programs_wakeup_descriptor_comes_back(loop: Loop, how: str) -> None:
    ours, theirs = socket.socketpair()
    calls = Calls()
    with ours, theirs:
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        loop.add_signal_handler(signal.SIGUSR1, calls.note, "called")
        send(signal.SIGUSR1)
        assert loop.run_until_complete(calls.until_made(1)) == ["called"]
        if how == "remove":
            loop.remove_signal_handler(signal.SIGUSR1)
        else:
            loop.close()
        assert wakeup_descriptor() == theirs.fileno()
        signal.set_wakeup_fd(-1)


# ---- what is refused ----


async def coroutine_function() -> None:
    pass


def test_coroutines_are_refused(loop: Loop) -> None:
    text = r"^coroutines cannot be used with add_signal_handler\(\)$"
    coroutine = coroutine_function()
    refused: Any
    for refused in (coroutine_function, coroutine):
        with pytest.raises(TypeError, match=text):
            loop.add_signal_handler(signal.SIGUSR1, refused)
    coroutine.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@pytest.mark.parametrize("method", ["add", "remove"])
@pytest.mark.parametrize("number", ["SIGUSR1", 1.5, None])
def test_what_is_no_number_is_refused(loop: Any, method: str, number: object) -> None:
    with pytest.raises(TypeError, match=rf"^sig must be an int, not {number!r}$"):
        if method == "add":
            loop.add_signal_handler(number, int)
        else:
            loop.remove_signal_handler(number)


@pytest.mark.parametrize("method", ["add", "remove"])
@pytest.mark.parametrize("number", [0, -1, 32, 33, signal.NSIG, 1000, 1 << 70])
def test_what_is_no_signal_is_refused(loop: Loop, method: str, number: int) -> None:
    """32 and 33 belong to the C library."""
    with pytest.raises(ValueError, match=rf"^invalid signal number {number}$"):
        if method == "add":
            loop.add_signal_handler(number, int)
        else:
            loop.remove_signal_handler(number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_cannot_be_caught_is_refused(loop: Loop, number: signal.Signals) -> None:
    calls = Calls()
    loop.add_signal_handler(signal.SIGUSR1, calls.note, "unharmed")
    with pytest.raises(RuntimeError, match=rf"^sig {int(number)} cannot be caught$"):
        loop.add_signal_handler(number, int)
    assert loop.remove_signal_handler(number) is False
    send(signal.SIGUSR1)
    assert loop.run_until_complete(calls.until_made(1)) == ["unharmed"]


def test_a_closed_loop_refuses(loop: Loop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.add_signal_handler(signal.SIGUSR1, int)
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def in_a_thread(function: Callable[[], object]) -> BaseException | None:
    """What a function raises in another thread."""
    raised: list[BaseException | None] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return raised[0]


def test_another_thread_is_refused(loop: Loop) -> None:
    error = in_a_thread(lambda: loop.add_signal_handler(signal.SIGUSR1, int))
    assert isinstance(error, RuntimeError)
    assert str(error) == "set_wakeup_fd only works in main thread of the main interpreter"
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert in_a_thread(lambda: loop.remove_signal_handler(signal.SIGUSR1)) is None


def test_another_thread_cannot_remove(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, int)
    error = in_a_thread(lambda: loop.remove_signal_handler(signal.SIGUSR1))
    assert isinstance(error, ValueError)
    assert str(error) == "signal only works in main thread of the main interpreter"
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)


def test_a_loop_in_another_thread_runs_without_signals(loop_factory: LoopFactory) -> None:
    """And is refused handlers, while that of the main thread goes on."""
    calls = Calls()
    outer = loop_factory()
    outer.add_signal_handler(signal.SIGUSR1, calls.note, "main thread's")

    def inside() -> None:
        loop = loop_factory()
        try:
            with pytest.raises(RuntimeError, match=r"^set_wakeup_fd only works in main thread"):
                loop.add_signal_handler(signal.SIGUSR1, calls.note, "other's")
            loop.run_until_complete(turns())
        finally:
            loop.close()

    assert in_a_thread(inside) is None
    send(signal.SIGUSR1)
    assert outer.run_until_complete(calls.until_made(1)) == ["main thread's"]
    outer.close()


# ---- whole programs ----

PREAMBLE = """
    import asyncio, os, signal, sys, threading

    if sys.argv[1] == "aioxide":
        import aioxide
        new_event_loop, run = aioxide.new_event_loop, aioxide.run
    else:
        new_event_loop, run = asyncio.SelectorEventLoop, asyncio.run

    def from_outside(number):
        "Send this process a signal from a thread, so that nothing else wakes the loop."
        threading.Thread(target=os.kill, args=(os.getpid(), number)).start()
"""


@pytest.fixture
def output(kind: str, tmp_path: Path) -> Callable[[str], list[str]]:
    """Run a program on this kind of loop; what it prints, it having ended well and silently."""
    programs = Programs(tmp_path)

    def run(text: str) -> list[str]:
        program = textwrap.dedent(PREAMBLE) + textwrap.dedent(text)
        done = programs.python("-W", "error", programs.write("program.py", program), kind)
        assert done.stderr == ""
        assert done.returncode == 0
        return done.stdout.splitlines()

    return run


Output = Callable[[str], list[str]]


def test_ctrl_c_with_a_handler(output: Output) -> None:
    """The handler is called, and run() ends as any other does."""
    program = """
        async def main():
            loop = asyncio.get_running_loop()
            stop = asyncio.Event()
            loop.add_signal_handler(signal.SIGINT, stop.set)
            from_outside(signal.SIGINT)
            await stop.wait()
            print("stopped")
            return "result"

        print(run(main()))
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        print(signal.set_wakeup_fd(-1))
    """
    assert output(program) == ["stopped", "result", "True", "-1"]


@oracle_since((3, 11), "run() lets KeyboardInterrupt out where it stands")
def test_ctrl_c_without_a_handler(output: Output) -> None:
    """The main task is cancelled, cleans up, and KeyboardInterrupt comes after."""
    program = """
        async def main():
            from_outside(signal.SIGINT)
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                print("cancelled")
                await asyncio.sleep(0)
                print("cleaned up")
                raise

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        print(signal.set_wakeup_fd(-1))
    """
    assert output(program) == ["cancelled", "cleaned up", "interrupted", "True", "-1"]


def test_ctrl_c_after_a_handler_was_removed(output: Output) -> None:
    """KeyboardInterrupt is back, though not the runner's way of it."""
    program = """
        async def main():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGINT, print, "handled")
            loop.remove_signal_handler(signal.SIGINT)
            from_outside(signal.SIGINT)
            await loop.create_future()

        try:
            run(main())
        except KeyboardInterrupt:
            print("interrupted")
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """
    assert output(program) == ["interrupted", "True"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="came with 3.11")
def test_a_runner_with_handlers(output: Output) -> None:
    """SIGINT is the handler's while there is one, and the runner's in the next run."""
    program = """
        async def handled():
            loop = asyncio.get_running_loop()
            stop = asyncio.Event()
            loop.add_signal_handler(signal.SIGINT, stop.set)
            from_outside(signal.SIGINT)
            await stop.wait()
            loop.remove_signal_handler(signal.SIGINT)
            return "handled"

        async def cancelled():
            from_outside(signal.SIGINT)
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                print("cancelled")
                raise

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            print(runner.run(handled()))
            print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
            try:
                runner.run(cancelled())
            except KeyboardInterrupt:
                print("interrupted")
            print(runner.run(handled()))
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """
    assert output(program) == ["handled", "True", "cancelled", "interrupted", "handled", "True"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="came with 3.11")
def test_a_runner_beside_other_handlers(output: Output) -> None:
    """A handler of another signal does not take SIGINT from the runner."""
    program = """
        async def main():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, from_outside, signal.SIGINT)
            from_outside(signal.SIGTERM)
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                print("cancelled")
                raise

        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """
    assert output(program) == ["cancelled", "interrupted", "True"]


def test_a_terminated_program_ends_in_order(output: Output) -> None:
    program = """
        async def main():
            task = asyncio.current_task()
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
            from_outside(signal.SIGTERM)
            try:
                await loop.create_future()
            finally:
                print("cleaned up")

        try:
            run(main())
        except asyncio.CancelledError:
            print("cancelled")
    """
    assert output(program) == ["cleaned up", "cancelled"]


def test_a_removed_handler_does_not_protect(kind: str, tmp_path: Path) -> None:
    """The default of SIGTERM ends the process again."""
    programs = Programs(tmp_path)
    text = """
        loop = new_event_loop()
        loop.add_signal_handler(signal.SIGTERM, loop.stop)
        os.kill(os.getpid(), signal.SIGTERM)
        loop.run_forever()
        loop.remove_signal_handler(signal.SIGTERM)
        print("still here", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
    """
    program = textwrap.dedent(PREAMBLE) + textwrap.dedent(text)
    done = programs.python(programs.write("program.py", program), kind)
    assert done.stdout == "still here\n"
    assert done.returncode == -signal.SIGTERM


def test_a_program_that_forgets_to_close(kind: str, tmp_path: Path) -> None:
    """A loop with handlers at the interpreter's end harms nothing."""
    programs = Programs(tmp_path)
    text = """
        loop = new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.run_forever()
        print("end")
    """
    program = textwrap.dedent(PREAMBLE) + textwrap.dedent(text)
    done = programs.python(programs.write("program.py", program), kind)
    assert done.stdout == "end\n"
    assert done.returncode == 0


# ---- fork ----


@oracle_since((3, 12), "the child keeps the parent's running loop and wake-up descriptor")
def test_a_forked_child_has_a_loop_of_its_own(output: Output) -> None:
    """Its signals are its own, and the parent's handlers and loop are unharmed."""
    program = """
        def child():
            # Handled by nobody, for the child has not asked: above all not by the parent.
            os.kill(os.getpid(), signal.SIGUSR1)

            async def main():
                loop = asyncio.get_running_loop()
                heard = asyncio.Event()
                loop.add_signal_handler(signal.SIGUSR1, heard.set)
                os.kill(os.getpid(), signal.SIGUSR1)
                await heard.wait()
                reader, writer = await asyncio.open_connection(sock=ours)
                writer.write(b"from the child")
                writer.close()
                await writer.wait_closed()

            loop = new_event_loop()
            loop.run_until_complete(main())
            loop.close()

        import socket
        ours, theirs = socket.socketpair()

        async def main():
            loop = asyncio.get_running_loop()
            calls = []
            heard = asyncio.Event()

            def handler():
                calls.append("parent's")
                heard.set()

            loop.add_signal_handler(signal.SIGUSR1, handler)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    child()
                    code = 0
                finally:
                    os._exit(code)
            ours.close()
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            for _ in range(5):
                await asyncio.sleep(0)
            print(calls)
            theirs.setblocking(False)
            print(await loop.sock_recv(theirs, 100))
            from_outside(signal.SIGUSR1)
            await heard.wait()
            print(calls)

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        theirs.close()
        print(signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL)
    """
    assert output(program) == ["0", "[]", "b'from the child'", '["parent\'s"]', "True"]


@oracle_since((3, 12), "the child keeps the parent's wake-up descriptor")
def test_a_forked_child_of_a_loop_that_does_not_run(output: Output) -> None:
    program = """
        loop = new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, print, "parent's")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.kill(os.getpid(), signal.SIGUSR1)
                other = new_event_loop()
                other.add_signal_handler(signal.SIGUSR2, other.stop)
                other.call_soon(os.kill, os.getpid(), signal.SIGUSR2)
                other.run_forever()
                other.close()
                code = 0
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        for _ in range(5):
            loop.run_until_complete(asyncio.sleep(0))
        loop.add_signal_handler(signal.SIGUSR2, loop.stop)
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR2)
        loop.run_forever()
        loop.close()
        print("end")
    """
    assert output(program) == ["0", "end"]
