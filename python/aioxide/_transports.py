"""The classes of transports, which the compiled module makes its objects of.

Each is over a compiled class, which does all the work. What is added is a `__dict__`: as on
asyncio's transports, programs can set attributes and put functions of their own in the place of
methods. `_own_methods` keeps calls as quick as on a compiled class. And `__class__` is what
`isinstance` looks at; `_classes.py` says why it is another. `_watch_attributes` and `__dict__`
note that a program sets attributes, so that a stream's writer knows whether it has to look.
"""

from __future__ import annotations

from typing import Any, cast

from aioxide import _aioxide, _classes


@_aioxide._watch_attributes
@_aioxide._own_methods
class SocketTransport(_aioxide.SocketTransport):
    """A transport over a connected stream socket."""

    __class__ = cast(Any, _classes.SocketTransport)
    __dict__ = cast(Any, property(_aioxide._attributes))


@_aioxide._watch_attributes
@_aioxide._own_methods
class SSLTransport(_aioxide.SSLTransport):
    """A transport over TLS."""

    __class__ = cast(Any, _classes.SSLTransport)
    __dict__ = cast(Any, property(_aioxide._attributes))


@_aioxide._own_methods
class DatagramTransport(_aioxide.DatagramTransport):
    """A transport of datagrams."""

    __class__ = cast(Any, _classes.DatagramTransport)


@_aioxide._own_methods
class ReadPipeTransport(_aioxide.ReadPipeTransport):
    """A transport over the reading end of a pipe."""

    __class__ = cast(Any, _classes.ReadPipeTransport)


@_aioxide._own_methods
class WritePipeTransport(_aioxide.WritePipeTransport):
    """A transport over the writing end of a pipe."""

    __class__ = cast(Any, _classes.WritePipeTransport)


@_aioxide._own_methods
class SubprocessTransport(_aioxide.SubprocessTransport):
    """A child process."""

    __class__ = cast(Any, _classes.SubprocessTransport)
