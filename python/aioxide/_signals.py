"""Signals: handlers that run in the loop, and waking the loop for any signal.

*Facts.* When a signal comes, the interpreter's own handler, in C, does two things. It notes that a
handler of the `signal` module is due, which the main thread calls between two bytecodes. And it
writes the signal's number to the wake-up descriptor, if the process has one (it can have one).

*What follows.* A loop that sets the descriptor and reads it is woken by a signal that comes just
before it sleeps, and learns the numbers in their order. There are two reasons to set it:

* The loop runs in the main thread. It sets the descriptor for the length of the run, unless
  somebody has set one: that one stays.
* The loop has handlers. Then it sets the descriptor at once, in the place of whatever was there, as
  asyncio does: whoever asks last is told. When the last handler was removed, what was there comes
  back (on asyncio's loop it does not).

*Choice.* The descriptor is a pipe, where asyncio has a pair of sockets: a number takes one byte of
a pipe, and some 800 of a socket's buffer. So 65,536 signals can wait where there would be room for
278. One whose number does not fit wakes the loop all the same: what is full can be read.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import warnings
from asyncio.log import logger
from collections.abc import Callable
from types import FrameType
from typing import Any

from aioxide._aioxide import Handle
from aioxide._debugging import refuse_coroutine
from aioxide._room import Room

#: Numbers that are read from the pipe at once.
_AT_ONCE = 4096


class SignalMethods(Room):
    """`add_signal_handler`, and the pipe that tells of signals."""

    #: The reading end and the writing end; made when they are needed first.
    _signal_pipe: tuple[io.FileIO, io.FileIO] | None = None

    #: The wake-up descriptor that the first handler has displaced.
    _displaced: _Wakeup | None = None

    def __init__(self) -> None:
        self._signal_handlers: dict[int, Handle] = {}
        super().__init__()

    # ---- handlers ----

    def add_signal_handler(  # type: ignore[override]  # 3.10 cannot spell the types of *args
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        """Call callback(*args) in the loop whenever the signal comes; one callback per signal.

        The program calls this in the main thread, before the loop runs or while it does.
        """
        refuse_coroutine(callback, "add_signal_handler")
        _check_signal(sig)
        self._check_closed()
        try:
            self._take_wakeup_descriptor()
        except (ValueError, OSError) as error:
            raise RuntimeError(str(error)) from error
        self._signal_handlers[sig] = self._make_handle(callback, *args)
        try:
            _set_handler(sig, _do_nothing)
            # System calls of the program go on after the signal, where the kernel can do that.
            signal.siginterrupt(sig, False)
        except (RuntimeError, OSError):
            del self._signal_handlers[sig]
            self._stop_hearing_signals()
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Take a handler back: the signal does what it did by default. Whether there was one."""
        _check_signal(sig)
        if sig not in self._signal_handlers:
            return False
        _set_handler(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        del self._signal_handlers[sig]
        try:
            self._stop_hearing_signals()
        except (ValueError, RuntimeError) as error:
            logger.info("set_wakeup_fd(-1) failed: %s", error)
        return True

    def _handle_signal(self, sig: int) -> None:
        """Queue the handler of a signal that has come."""
        handle = self._signal_handlers.get(sig)
        if handle is None:
            # A signal of the signal module's alone, or of a handler that is gone by now.
            return
        if handle._cancelled:
            self.remove_signal_handler(sig)
        else:
            self._queue(handle)

    def _close_signals(self) -> None:
        """Remove the handlers that are left, and the pipe: called when the loop is closed."""
        if self._signal_pipe is None:
            return
        if not sys.is_finalizing():
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        elif self._signal_handlers:
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage, "
                "skipping signal handlers removal",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self._signal_handlers.clear()
            self._stop_hearing_signals()
        for end in self._signal_pipe:
            end.close()
        self._signal_pipe = None

    # ---- the pipe ----

    def _hear_signals(self) -> None:
        """Let any signal end the loop's sleep: called when a run begins.

        A loop for which there is no descriptor left goes without.
        """
        if not _in_main_thread():
            return
        with contextlib.suppress(OSError):
            writer = self._signal_writer()
            before = _Wakeup(signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False))
            before.put_back()

    def _take_wakeup_descriptor(self) -> None:
        """Let the loop's handlers be told of signals: nobody else is."""
        ours = self._signal_writer().fileno()
        before = signal.set_wakeup_fd(ours)
        if before != ours:
            self._displaced = None if before == -1 else _Wakeup(before)

    def _stop_hearing_signals(self) -> None:
        """Give the descriptor up, if no reason for it is left."""
        if self._signal_pipe is None or self._signal_handlers or not _in_main_thread():
            return
        if self.is_running() and self._displaced is None:
            return
        current = _Wakeup(signal.set_wakeup_fd(-1))
        if current.fd != self._signal_pipe[1].fileno():
            current.put_back()
        elif self._displaced is not None:
            self._displaced.put_back()
        self._displaced = None

    def _signal_writer(self) -> io.FileIO:
        """The end that the interpreter writes to."""
        if self._signal_pipe is None:
            reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._signal_pipe = io.FileIO(reading), io.FileIO(writing, "w")
            self.add_reader(self._signal_pipe[0], self._read_signals, self._signal_pipe[0])
            _let_children_go()
        return self._signal_pipe[1]

    def _read_signals(self, reader: io.FileIO) -> None:
        while numbers := reader.read(_AT_ONCE):
            for number in numbers:
                self._handle_signal(number)


class _Wakeup:
    """A wake-up descriptor that somebody had set, or -1."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._file = _file_of(fd)

    def put_back(self) -> None:
        """Set it again, unless it was closed: its number may name another file by now."""
        if self._file is not None and self._file == _file_of(self.fd):
            with contextlib.suppress(ValueError, OSError):
                signal.set_wakeup_fd(self.fd)


def _file_of(fd: int) -> tuple[int, int] | None:
    """What a descriptor refers to; None for one that is not open."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_signal(sig: int) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


def _set_handler(sig: int, handler: Any) -> None:
    """`signal.signal`, with a word about signals that the kernel keeps for itself."""
    try:
        signal.signal(sig, handler)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise RuntimeError(f"sig {sig:d} cannot be caught") from error
        raise


def _do_nothing(signum: int, frame: FrameType | None) -> None:
    """The `signal` module's handler of a signal that has one in the loop.

    There must be one, or the interpreter would not write the number.
    """


def _in_main_thread() -> bool:
    """Whether this thread may set the wake-up descriptor."""
    return threading.current_thread() is threading.main_thread()


_children_let_go = False


def _let_children_go() -> None:
    """See to it that a child of fork(2) does not write its signals to its parent's pipe.

    asyncio does since 3.12. Before that, a child that is terminated would terminate its parent.
    """
    global _children_let_go
    if sys.version_info < (3, 12) and not _children_let_go:
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        _children_let_go = True
