"""CPython's loop in a bad mood: the network at its worst, within what asyncio promises.

What a mood does must never be a fault, such as to drop what was written: the same fault of aioxide
would pass for a race.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from asyncio import selector_events
from typing import Any

#: How many polls an event is kept back at most.
LATENESS = 2

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
        self._late: dict[int, int] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and 0 < timeout < OVERSLEEPING:
            if self._dice.random() < 0.3:
                timeout += self._dice.random() * OVERSLEEPING
            time.sleep(timeout)
            timeout = 0
        events = []
        for key, mask in super().select(timeout):
            late = self._late.get(key.fd, 0)
            if late < LATENESS and self._dice.random() < 0.4:
                self._late[key.fd] = late + 1
                continue
            self._late.pop(key.fd, None)
            events.append((key, mask))
        self._dice.shuffle(events)
        return events


class Moody(asyncio.SelectorEventLoop):
    """An oracle with a seed.

    Events are late, names take time to resolve, bytes come in small pieces, and (with odd seeds)
    what is written leaves at the end of the iteration.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.delays_writes = seed % 2 == 1
        self.delayed: list[Moodily] = []
        #: How much the kernel takes.
        self.socket_buffer = self.dice.choice([64, 128, 192]) * 1024
        super().__init__(LateSelector(self.dice))

    async def _ensure_resolved(self, *args: Any, **options: Any) -> Any:
        await self._dawdle()
        return await super()._ensure_resolved(*args, **options)  # type: ignore[misc]

    async def sock_recv(self, *args: Any) -> bytes:
        received = await super().sock_recv(*args)
        await self._dawdle()
        return received

    async def sock_recv_into(self, *args: Any) -> int:
        received = await super().sock_recv_into(*args)
        await self._dawdle()
        return received

    async def sock_sendall(self, *args: Any) -> None:
        await super().sock_sendall(*args)
        await self._dawdle()

    async def _dawdle(self) -> None:
        """Nobody has said in how many iterations a thing is done."""
        for _ in range(self.dice.randrange(3)):
            await asyncio.sleep(0)

    def _make_socket_transport(self, *args: Any, **options: Any) -> Any:
        return Moodily(self, *args, **options)

    def _run_once(self) -> None:
        try:
            super()._run_once()  # type: ignore[misc]
        finally:
            delayed, self.delayed = self.delayed, []
            for transport in delayed:
                transport.flush()


class Moodily(selector_events._SelectorSocketTransport):  # type: ignore[name-defined,misc]
    """A transport of a loop in a bad mood."""

    def __init__(self, loop: Moody, *args: Any, **options: Any) -> None:
        self._mood = loop
        self._piece = loop.dice.choice([1, 3, 30, 1000, 256 * 1024])
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
        if self._may_wait:
            for data in list_of_data:
                self.write(data)
        else:
            self.flush()
            super().writelines(list_of_data)

    @property
    def _may_wait(self) -> bool:
        ends = self._closing or self._conn_lost or self._eof
        return self._mood.delays_writes and not self._buffer and not ends

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

    def _fatal_error(self, *args: Any) -> None:
        self.flush()
        super()._fatal_error(*args)

    def get_write_buffer_size(self) -> int:
        self.flush()
        size: int = super().get_write_buffer_size()
        return size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super().set_write_buffer_limits(high, low)
        self.flush()
