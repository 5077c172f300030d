"""The classes that objects of the compiled module show as theirs.

`asyncio.BaseTransport` has slots, so a compiled class cannot derive from it. `isinstance` also
looks at an object's `__class__`, and that is one of these.
"""

from __future__ import annotations

import asyncio


class SocketTransport(asyncio.Transport):
    """A transport over a connected stream socket."""

    __slots__ = ()
