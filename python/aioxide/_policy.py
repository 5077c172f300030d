"""The event loop policy: how programs that do not choose a loop get this one."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from aioxide._loop import Loop

if sys.version_info >= (3, 14):
    # Policies are on their way out; their public names warn, and asyncio itself uses these.
    from asyncio.events import _set_event_loop_policy as set_policy
    from asyncio.unix_events import _DefaultEventLoopPolicy as _DefaultPolicy
else:
    from asyncio import DefaultEventLoopPolicy as _DefaultPolicy
    from asyncio import set_event_loop_policy as set_policy


class EventLoopPolicy(_DefaultPolicy):
    """asyncio's policy, with aioxide's loops."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Make an event loop."""
        return Loop()


def install() -> None:
    """Make aioxide's loop the one that asyncio makes from now on, in this process."""
    set_policy(EventLoopPolicy())


class ProgramPolicy(EventLoopPolicy):
    """The policy of a program that is run from here.

    A program that asks for a loop before it runs one gets one, in the main thread: CPython has
    made that a warning in 3.12 and an error in 3.14, and the programs are older than that.
    """

    _local: Any

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of this thread."""
        if self._local._loop is None and threading.current_thread() is threading.main_thread():
            self.set_event_loop(self.new_event_loop())
        return super().get_event_loop()


def install_for_program() -> None:
    """Install the policy of a program that `python -m aioxide` runs."""
    set_policy(ProgramPolicy())
