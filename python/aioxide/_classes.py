"""The classes that transports show as theirs.

asyncio's transports have slots, so no class can derive both from them and from a compiled class.
`isinstance` also looks at an object's `__class__`, and that is one of these.
"""

from __future__ import annotations

import asyncio


class SocketTransport(asyncio.Transport):
    """A transport over a connected stream socket."""

    __slots__ = ()


class SSLTransport(asyncio.Transport):
    """A transport over TLS."""

    __slots__ = ()


class DatagramTransport(asyncio.Transport, asyncio.DatagramTransport):
    """A transport of datagrams. On CPython's loop it passes for the other kind too."""

    __slots__ = ()


class ReadPipeTransport(asyncio.ReadTransport):
    """A transport over the reading end of a pipe."""

    __slots__ = ()


class WritePipeTransport(asyncio.WriteTransport):
    """A transport over the writing end of a pipe."""

    __slots__ = ()


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process."""

    __slots__ = ()
