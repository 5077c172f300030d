"""The event loop policy: how programs that do not choose a loop get this one."""

from __future__ import annotations

import asyncio
import sys

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
