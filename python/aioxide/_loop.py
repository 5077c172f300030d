"""The event loop's class: asyncio's interface, room by room."""

from __future__ import annotations

import types

from aioxide import _aioxide
from aioxide._clock import ClockMethods
from aioxide._datagrams import DatagramMethods
from aioxide._debugging import DebugMethods
from aioxide._endpoints import EndpointMethods
from aioxide._exceptions import ExceptionMethods
from aioxide._executor import ExecutorMethods
from aioxide._names import NameMethods
from aioxide._pipes import PipeMethods
from aioxide._room import Room
from aioxide._running import RunningMethods
from aioxide._sendfile import SendfileMethods
from aioxide._signals import SignalMethods
from aioxide._sockets import SocketMethods
from aioxide._subprocess import SubprocessMethods
from aioxide._tasks import TaskMethods
from aioxide._tls import TlsMethods
from aioxide._unix import UnixMethods


@_aioxide._own_methods
class Loop(
    RunningMethods,
    ClockMethods,
    SignalMethods,
    TaskMethods,
    ExecutorMethods,
    ExceptionMethods,
    DebugMethods,
    NameMethods,
    SocketMethods,
    EndpointMethods,
    UnixMethods,
    DatagramMethods,
    PipeMethods,
    SendfileMethods,
    SubprocessMethods,
    TlsMethods,
):
    """An asyncio event loop over aioxide's engine.

    The base class below all these rooms, `BaseLoop`, is compiled: callbacks, timers, readers and
    writers, and the operations that the coroutines here await.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bind()

    def __repr__(self) -> str:
        return (
            f"<{self.__class__.__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )


def _take_names(loop_class: type[Loop]) -> None:
    """Let messages name the class that programs know, not the room that a method stands in."""
    for room in loop_class.__mro__:
        if issubclass(room, Room) and room.__module__.startswith("aioxide."):
            for method in vars(room).values():
                # A function of another module's is asyncio's own.
                if isinstance(method, types.FunctionType) and method.__module__ == room.__module__:
                    method.__qualname__ = f"{loop_class.__name__}.{method.__name__}"


_take_names(Loop)
