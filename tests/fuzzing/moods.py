"""CPython's loop in a bad mood: the network at its worst, within what asyncio promises.

What a mood does must never be a fault, such as to drop what was written: the same fault of aioxide
would pass for a race.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from asyncio import selector_events, unix_events
from collections.abc import Callable
from typing import Any

#: How many polls an event is kept back at most, in one mood or another.
LATENESS = (2, 2, 8)

#: Seconds by which a sleep may be too long.  What is longer is slept in the usual way.
OVERSLEEPING = 0.004

#: Bytes of output that may wait for the end of the iteration.
LITTLE = 16 * 1024


class LateSelector(selectors.EpollSelector):
    """Keeps events back for a poll or two, and shuffles them.  Readiness is level-triggered, so
    nothing gets lost.  Sleeps to the microsecond, or too long, where others round to milliseconds.
    """

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice
        self._latest = dice.choice(LATENESS)
        #: How often each event, of a descriptor's one side, has been kept back.
        self._late: dict[tuple[int, int], int] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and 0 < timeout < OVERSLEEPING:
            if self._dice.random() < 0.3:
                timeout += self._dice.random() * OVERSLEEPING
            time.sleep(timeout)
            timeout = 0
        events = [
            (key, side)
            for key, mask in super().select(timeout)
            for side in (selectors.EVENT_READ, selectors.EVENT_WRITE)
            if mask & side and not self._is_late(key.fd, side)
        ]
        self._dice.shuffle(events)
        return events

    def _is_late(self, fd: int, side: int) -> bool:
        late = self._late.pop((fd, side), 0)
        if late < self._latest and self._dice.random() < self._latest / (self._latest + 2):
            self._late[fd, side] = late + 1
            return True
        return False


class Moody(asyncio.SelectorEventLoop):
    """An oracle with a seed.

    Events are late, names take time to resolve, bytes come in small pieces and datagrams together.
    With odd seeds what is written leaves at the end of the iteration, and a transport that has
    written all before it ends is lost in an iteration of its own.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.delays = seed % 2 == 1
        #: Iterations in which nothing happens; see `world.QUIET`.
        self.quiet = 40
        self.delayed: list[SlowSocket] = []
        #: How much the kernel takes.
        self.socket_buffer = self.dice.choice([64, 128, 192]) * 1024
        super().__init__(LateSelector(self.dice))

    async def _ensure_resolved(self, *args: Any, **options: Any) -> Any:
        await self._dawdle()
        return await super()._ensure_resolved(*args, **options)  # type: ignore[misc]

    async def sock_recv(self, *args: Any) -> bytes:
        await self._dawdle()
        received = await super().sock_recv(*args)
        await self._dawdle()
        return received

    async def sock_recv_into(self, *args: Any) -> int:
        await self._dawdle()
        received = await super().sock_recv_into(*args)
        await self._dawdle()
        return received

    async def sock_sendall(self, *args: Any) -> None:
        await self._dawdle()
        await super().sock_sendall(*args)
        await self._dawdle()

    async def _dawdle(self) -> None:
        """Nobody has said in how many iterations a thing is done."""
        for _ in range(self.dice.randrange(3)):
            await asyncio.sleep(0)

    def _make_socket_transport(self, *args: Any, **options: Any) -> Any:
        return SlowSocket(self, *args, **options)

    def _make_datagram_transport(self, *args: Any, **options: Any) -> Any:
        return ManyAtOnce(self, *args, **options)

    def _make_write_pipe_transport(self, *args: Any, **options: Any) -> Any:
        return SlowPipe(self, *args, **options)

    def _run_once(self) -> None:
        try:
            super()._run_once()  # type: ignore[misc]
        finally:
            delayed, self.delayed = self.delayed, []
            for transport in delayed:
                transport.flush()


class ManyAtOnce(selector_events._SelectorDatagramTransport):  # type: ignore[name-defined,misc]
    """Receives several datagrams before it delivers the first."""

    def __init__(self, *args: Any, **options: Any) -> None:
        #: What has been received and not delivered: datagrams with their addresses, and errors.
        self._arrived: list[Any] = []
        super().__init__(*args, **options)

    def _read_ready(self) -> None:
        self._receive(self._loop.dice.choice([1, 2, 16]))
        try:
            while self._arrived and self._delivers():
                what = self._arrived.pop(0)
                if isinstance(what, OSError):
                    self._protocol.error_received(what)
                else:
                    self._protocol.datagram_received(*what)
        finally:
            self._go_on()

    def _receive(self, most: int) -> None:
        try:
            while self._delivers() and len(self._arrived) < most:
                self._arrived.append(self._sock.recvfrom(self.max_size))
        except BlockingIOError:
            pass
        except OSError as error:
            self._arrived.append(error)

    def _delivers(self) -> bool:
        return not (self._conn_lost or getattr(self, "_paused", False))

    def _go_on(self) -> None:
        """Nobody will say again that these have arrived."""
        if self._arrived and self._delivers():
            self._loop.call_soon(self._read_ready)

    def resume_reading(self) -> None:
        super().resume_reading()
        self._go_on()


class Slowly:
    """What is lost because all is written is lost in an iteration of its own."""

    _loop: Any
    _conn_lost: int
    _writing = False

    def _write_ready(self) -> None:
        self._while_writing(super()._write_ready)  # type: ignore[misc]

    def _write_sendmsg(self) -> None:
        """What `_write_ready` is since 3.12."""
        self._while_writing(super()._write_sendmsg)  # type: ignore[misc]

    def _while_writing(self, write: Callable[[], None]) -> None:
        self._writing = self._loop.delays
        try:
            write()
        finally:
            self._writing = False

    def _call_connection_lost(self, error: Any) -> None:
        if not self._writing:
            super()._call_connection_lost(error)  # type: ignore[misc]
            return
        self._conn_lost = self._conn_lost or 1
        self._loop.call_soon(super()._call_connection_lost, error)  # type: ignore[misc]


class SlowPipe(Slowly, unix_events._UnixWritePipeTransport):  # type: ignore[name-defined,misc]
    """The writing end of a pipe."""


class SlowSocket(Slowly, selector_events._SelectorSocketTransport):  # type: ignore[name-defined,misc]
    """A transport that receives little at once, and keeps what it is given to send for a while."""

    def __init__(self, loop: Moody, *args: Any, **options: Any) -> None:
        self._mood = loop
        self._piece = loop.dice.choice([1, 30, 1000, 256 * 1024, 256 * 1024])
        self._pieces = 0
        self._waiting = b""
        super().__init__(loop, *args, **options)

    @property
    def max_size(self) -> int:
        """How much to receive at once; not always little, because a program may send much."""
        self._pieces += 1
        return self._piece if self._pieces <= 500 else 256 * 1024

    def write(self, data: Any) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            super().write(data)
            return
        if not self._may_wait:
            self.flush()
            super().write(data)
            return
        self._waiting += data
        if len(self._waiting) > min(LITTLE, self._high_water):
            self.flush()
        else:
            self._mood.delayed.append(self)

    def writelines(self, list_of_data: Any) -> None:
        if self._mood.delays and not (self._conn_lost or self._eof):
            for data in list_of_data:
                self.write(data)
        else:
            self.flush()
            super().writelines(list_of_data)

    @property
    def _may_wait(self) -> bool:
        ends = self._closing or self._conn_lost or self._eof
        return self._mood.delays and not self._buffer and not ends

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, b""
        if waiting and self._sock is not None:
            super().write(waiting)

    # Whoever could notice that something waits flushes.

    def write_eof(self) -> None:
        self.flush()
        super().write_eof()

    def close(self) -> None:
        self.flush()
        super().close()

    def abort(self) -> None:
        self.flush()
        super().abort()

    def _fatal_error(self, exc: BaseException, message: str) -> None:
        if message.startswith("Fatal error"):  # out of a callback: the connection is well
            self.flush()
        self._waiting = b""
        super()._fatal_error(exc, message)

    def get_write_buffer_size(self) -> int:
        self.flush()
        size: int = super().get_write_buffer_size()
        return size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super().set_write_buffer_limits(high, low)
        self.flush()
