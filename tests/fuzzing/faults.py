"""Loops with a fault each, to see that the fuzzer finds faults."""

from __future__ import annotations

import asyncio
import os
from asyncio import selector_events
from collections.abc import Callable
from typing import Any

Fault = Callable[[], asyncio.AbstractEventLoop]

#: By what is wrong with them.
FAULTS: dict[str, Fault] = {}


class Transport(selector_events._SelectorSocketTransport):  # type: ignore[name-defined,misc]
    """A transport without a fault."""


class Faulty(asyncio.SelectorEventLoop):
    """A loop whose stream transports are of a class of its own."""

    transport: type[Transport] = Transport

    def _make_socket_transport(self, *args: Any, **options: Any) -> Any:
        return self.transport(self, *args, **options)


def fault(sentence: str) -> Callable[[type[Faulty]], type[Faulty]]:
    def add(made: type[Faulty]) -> type[Faulty]:
        FAULTS[sentence] = made
        return made

    return add


@fault("the end of the stream is not told")
class EndsSilently(Faulty):
    class transport(Transport):
        def _read_ready__on_eof(self) -> None:
            self.close()


@fault("connection_lost() comes from inside close()")
class LosesAtOnce(Faulty):
    class transport(Transport):
        def close(self) -> None:
            lost = not self._buffer and not self._closing
            super().close()
            if lost and self._protocol is not None:
                self._protocol_connected = False
                self._protocol.connection_lost(None)


@fault("nobody is asked to pause")
class NeverFull(Faulty):
    class transport(Transport):
        def _maybe_pause_protocol(self) -> None:
            pass


@fault("a byte is not as it was sent")
class Garbles(Faulty):
    class transport(Transport):
        def write(self, data: Any) -> None:
            super().write(bytes(data)[::-1] if isinstance(data, (bytes, bytearray)) else data)


@fault("a timer that is due does not wait for its turn")
class Overtakes(Faulty):
    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, **options: Any
    ) -> Any:
        if delay == 0:
            handle = super().call_later(0, callback, *args, **options)
            handle.cancel()
            super().call_soon(callback, *args, **options)
            return handle
        return super().call_later(delay, callback, *args, **options)


@fault("a report lacks what it is about")
class ReportsLittle(Faulty):
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        context.pop("handle", None)
        super().call_exception_handler(context)


@fault("a descriptor stays open")
class Leaks(Faulty):
    def _make_socket_transport(self, sock: Any, *args: Any, **options: Any) -> Any:
        LEAKED.append(os.dup(sock.fileno()))
        return super()._make_socket_transport(sock, *args, **options)


#: What `Leaks` leaves.
LEAKED: list[int] = []


def clean_up() -> None:
    """Take away what the faulty loops have left."""
    while LEAKED:
        os.close(LEAKED.pop())
