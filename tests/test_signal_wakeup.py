"""The interpreter's wake-up descriptor: who has it when, and what is read from it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from .support import Loop, LoopFactory, open_descriptors, oracle_never, oracle_since


def wakeup_descriptor() -> int:
    """The descriptor that is set, or -1."""
    current = signal.set_wakeup_fd(-1)
    if current != -1:
        signal.set_wakeup_fd(current)
    return current


@pytest.fixture
def foreign() -> Iterator[int]:
    """A descriptor that somebody else than the loop has set."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(writing)
    yield writing
    signal.set_wakeup_fd(-1)
    os.close(reading)
    os.close(writing)


def send(*signals: int) -> None:
    for sig in signals:
        os.kill(os.getpid(), sig)


def test_nobody_has_it_after_a_run(loop: Loop) -> None:
    loop.run_until_complete(asyncio.sleep(0))
    assert wakeup_descriptor() == -1


def test_a_foreign_descriptor_stays_without_handlers(loop: Loop, foreign: int) -> None:
    async def main() -> int:
        return wakeup_descriptor()

    assert loop.run_until_complete(main()) == foreign
    assert wakeup_descriptor() == foreign


def test_a_handler_takes_it_from_whoever_had_it(loop: Loop, foreign: int) -> None:
    loop.add_signal_handler(signal.SIGUSR1, int)
    taken = wakeup_descriptor()
    assert taken not in (-1, foreign)
    loop.run_until_complete(asyncio.sleep(0))
    assert wakeup_descriptor() == taken


def test_the_last_handler_gives_it_up(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.add_signal_handler(signal.SIGUSR2, int)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert wakeup_descriptor() != -1
    loop.remove_signal_handler(signal.SIGUSR2)
    assert wakeup_descriptor() == -1


def test_a_signal_that_cannot_be_caught_leaves_it_unset(loop: Loop) -> None:
    with pytest.raises(RuntimeError):
        loop.add_signal_handler(signal.SIGKILL, int)
    assert wakeup_descriptor() == -1


def test_a_handler_that_goes_during_a_run_leaves_the_loop_awake(loop: Loop) -> None:
    """A plain handler of the signal module still ends the loop's sleep."""
    seen: list[int] = []

    async def main() -> None:
        done = loop.create_future()

        def handler(signum: int, frame: object) -> None:
            seen.append(signum)
            loop.call_soon_threadsafe(done.set_result, None)

        loop.add_signal_handler(signal.SIGUSR1, int)
        loop.remove_signal_handler(signal.SIGUSR1)
        before = signal.signal(signal.SIGUSR2, handler)
        try:
            loop.call_soon(send, signal.SIGUSR2)
            await done
        finally:
            signal.signal(signal.SIGUSR2, before)

    loop.run_until_complete(main())
    assert seen == [signal.SIGUSR2]
    assert wakeup_descriptor() == -1


def test_closing_the_loop_gives_everything_back(loop_factory: LoopFactory) -> None:
    before = open_descriptors()
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.close()
    assert wakeup_descriptor() == -1
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    del loop
    assert open_descriptors() == before


@oracle_never("it leaves none behind")
def test_it_is_given_back_during_a_run(loop: Loop, foreign: int) -> None:
    async def main() -> None:
        loop.add_signal_handler(signal.SIGUSR1, int)
        assert wakeup_descriptor() != foreign
        loop.remove_signal_handler(signal.SIGUSR1)
        assert wakeup_descriptor() == foreign

    loop.run_until_complete(main())
    assert wakeup_descriptor() == foreign


def test_it_is_not_given_to_a_file_of_the_same_number(loop: Loop) -> None:
    """The owner has closed it meanwhile, and the number is another's."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    others = os.pipe2(os.O_NONBLOCK)
    try:
        signal.set_wakeup_fd(writing)
        loop.add_signal_handler(signal.SIGUSR1, int)
        os.dup2(others[1], writing)
        loop.remove_signal_handler(signal.SIGUSR1)
        assert wakeup_descriptor() == -1
    finally:
        for descriptor in (reading, writing, *others):
            os.close(descriptor)


def test_two_loops_that_close_in_the_order_in_which_they_came(loop_factory: LoopFactory) -> None:
    first, second = loop_factory(), loop_factory()
    first.add_signal_handler(signal.SIGUSR1, int)
    second.add_signal_handler(signal.SIGUSR2, int)
    first.close()
    second.close()
    assert wakeup_descriptor() == -1


@oracle_never("its pair of sockets has room for 278 signals")
def test_many_signals_hide_none(loop: Loop) -> None:
    """One signal is not lost behind a thousand of another that the loop had no time to read."""
    seen: list[int] = []

    async def main() -> None:
        last = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
        loop.add_signal_handler(signal.SIGUSR2, last.set_result, None)
        send(*[signal.SIGUSR1] * 1000, signal.SIGUSR2)
        await last

    loop.run_until_complete(main())
    assert len(seen) == 1000


def test_a_full_descriptor_wakes_the_loop(loop: Loop) -> None:
    """The number does not fit; the loop reads all the others at once."""
    seen: list[int] = []

    async def main() -> None:
        done = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
        loop.add_signal_handler(signal.SIGUSR2, done.set_result, None)
        writer = wakeup_descriptor()
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, bytes([signal.SIGUSR1]) * 4096)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, bytes([signal.SIGUSR1]))
        send(signal.SIGUSR2)
        while not seen:
            await asyncio.sleep(0)
        send(signal.SIGUSR2)
        await done

    loop.run_until_complete(main())


@oracle_never("it forgets the handler first, and then fails")
def test_another_thread_cannot_close_a_loop_with_handlers(loop_factory: LoopFactory) -> None:
    """Everything stays as it is, for the main thread to close."""
    before = open_descriptors()
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, int)
    raised: list[str] = []

    def close(loop: Loop) -> None:
        try:
            loop.close()
        except ValueError as error:
            raised.append(str(error))

    thread = threading.Thread(target=close, args=(loop,))
    thread.start()
    thread.join()
    assert raised == ["signal only works in main thread of the main interpreter"]
    assert wakeup_descriptor() != -1
    loop.close()
    assert wakeup_descriptor() == -1
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    del loop
    assert open_descriptors() == before


@oracle_since((3, 12), "the child writes its signals to the parent's loop")
def test_a_child_keeps_its_signals_to_itself(loop: Loop) -> None:
    seen: list[str] = []

    async def main() -> None:
        loop.add_signal_handler(signal.SIGTERM, seen.append, "SIGTERM")
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitpid(child, 0) == (child, 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert seen == []
        done = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, done.set_result, None)
        send(signal.SIGTERM)
        await done

    loop.run_until_complete(main())


def test_a_loop_that_is_closed_while_the_interpreter_ends(
    loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handlers cannot be removed any more; that is told."""
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, int)
    with monkeypatch.context() as ending:
        ending.setattr(sys, "is_finalizing", lambda: True)
        with pytest.warns(ResourceWarning, match="^Closing the loop <.*> on interpreter shutdown"):
            loop.close()
    assert signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)


def test_a_loop_in_another_thread_hears_what_the_main_thread_has_set(
    loop: Loop,
) -> None:
    """Handlers are the main thread's to add; any thread may run the loop."""
    seen: list[str] = []

    def handler() -> None:
        seen.append(threading.current_thread().name)
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler)
    thread = threading.Thread(target=loop.run_forever, name="the loop's")
    thread.start()
    send(signal.SIGUSR1)
    thread.join()
    assert seen == ["the loop's"]
