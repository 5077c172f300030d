"""The classes over asyncio's streams, whose coroutine functions are compiled.

They are empty but for one property: the compiled module puts the functions in, and gives the
classes to readers and writers of its connections. They have the names of asyncio's, which is what
messages show.
"""

from __future__ import annotations

import asyncio
import types
from asyncio import streams
from typing import Any

from aioxide import _aioxide


class StreamReader(asyncio.StreamReader):
    """A reader of a connection of this package's loops."""

    __slots__ = ()

    # What was received may stand there as `bytes` until somebody looks.
    _buffer = property(
        _aioxide._reader_buffer, _aioxide._set_reader_buffer, _aioxide._set_reader_buffer
    )


class StreamWriter(asyncio.StreamWriter):
    """Likewise, a writer."""

    __slots__ = ()


#: What the compiled module does itself, or rests on: the names for readers, writers and protocols,
#: each with the class that it is written in.
_REPLACED: tuple[tuple[tuple[type, str], ...], ...] = (
    tuple(
        (streams.StreamReader, name)
        for name in (
            "read",
            "readexactly",
            "readuntil",
            "readline",
            "exception",
            "feed_data",
            "_wakeup_waiter",
            "_wait_for_data",
            "_maybe_resume_transport",
        )
    ),
    ((streams.StreamWriter, "drain"), (streams.StreamWriter, "write")),
    (
        (streams.StreamReaderProtocol, "connection_made"),
        (streams.StreamReaderProtocol, "data_received"),
        (streams.FlowControlMixin, "_drain_helper"),
    ),
)

#: What else the protocol must have as it came: a property.
_STREAM_READER = "_stream_reader"


def _is_asyncios() -> bool:
    """Whether nobody has put something else in the place of asyncio's functions before us."""
    for of, name in (replaced for group in _REPLACED for replaced in group):
        function = vars(of).get(name)
        if (
            not isinstance(function, types.FunctionType)
            or function.__globals__ is not vars(streams)
            or function.__qualname__ != f"{of.__name__}.{name}"
        ):
            return False
    return True


class _Nowhere:
    """Loop and future of a model: what asyncio's constructors ask of them."""

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> _Nowhere:
        return self

    def set_result(self, result: object) -> None:
        pass

    def done(self) -> bool:
        return False


def _models() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReaderProtocol]:
    """Objects of asyncio's classes that show how the interpreter keeps their attributes."""
    nowhere: Any = _Nowhere()
    reader = asyncio.StreamReader(loop=nowhere)
    protocol = asyncio.StreamReaderProtocol(reader, loop=nowhere)
    return reader, asyncio.StreamWriter(nowhere, protocol, reader, nowhere), protocol


def _stand_over_asyncios() -> None:
    for ours, asyncios in (
        (StreamReader, streams.StreamReader),
        (StreamWriter, streams.StreamWriter),
    ):
        ours.__module__ = streams.__name__
        ours.__doc__ = asyncios.__doc__
    of_reader, of_writer, of_protocol = ([name for _, name in group] for group in _REPLACED)
    of_protocol.append(_STREAM_READER)
    _aioxide._use_streams(
        StreamReader,
        StreamWriter,
        streams.StreamReaderProtocol,
        (of_reader, of_writer, of_protocol),
        _models(),
    )


if _is_asyncios():
    _stand_over_asyncios()
