"""What every room of the loop's class stands on, and what the rooms use of each other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any

from aioxide._aioxide import BaseLoop


class Room(BaseLoop, asyncio.AbstractEventLoop):
    """A part of the loop's class."""

    _thread_id: int | None = None
    _default_executor: Executor | None = None
    _executor_shutdown_called: bool
    _check_callback: Callable[[Any, str], None]
    _check_socket: Callable[[socket.socket], None]
    _hear_signals: Callable[[], None]
    _stop_hearing_signals: Callable[[], None]
    _look_at_clock: Callable[[], None]
    _close_signals: Callable[[], None]
    _resolve: Callable[..., Coroutine[Any, Any, list[Any]]]
    _make_connection: Callable[..., Coroutine[Any, Any, tuple[asyncio.Transport, Any]]]
