"""The classes over asyncio's streams, whose coroutine functions are compiled.

They are empty but for one property: the compiled module puts the functions in. Readers and writers
of a server are made of these classes; a reader that asyncio has made is given its class later. They
have the names of asyncio's, which is what messages show.
"""

from __future__ import annotations

import asyncio
import types
from asyncio import streams
from collections.abc import Callable
from typing import Any, TypeVar

from aioxide import _aioxide

P = TypeVar("P", bound=asyncio.BaseProtocol)


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


_Model = tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReaderProtocol]


def _model(reader: type[asyncio.StreamReader], writer: type[asyncio.StreamWriter]) -> _Model:
    """Objects that show how the interpreter keeps the attributes of these classes."""
    nowhere: Any = _Nowhere()
    a_reader = reader(loop=nowhere)
    protocol = asyncio.StreamReaderProtocol(a_reader, loop=nowhere)
    return a_reader, writer(nowhere, protocol, a_reader, nowhere), protocol


def _connection_made() -> tuple[Callable[..., object], dict[str, Any]] | None:
    """asyncio's function, which makes a writer, with our class in the place of its own."""
    function = streams.StreamReaderProtocol.connection_made
    if function.__closure__ is not None or function.__defaults__ is not None:
        return None
    names = {**vars(streams), "StreamWriter": StreamWriter}
    return types.FunctionType(function.__code__, names, function.__name__), vars(streams)


#: The code of the factories that `asyncio.start_server` and its like give to `create_server`.
_FACTORIES = frozenset(
    code
    for start in (streams.start_server, getattr(streams, "start_unix_server", None))
    for code in getattr(getattr(start, "__code__", None), "co_consts", ())
    if isinstance(code, types.CodeType)
    and code.co_name == "factory"
    and sorted(code.co_freevars) == ["client_connected_cb", "limit", "loop"]
)


def factory_of_ours(factory: Callable[[], P]) -> Callable[[], P]:
    """Where `factory` is that of asyncio's streams, one that makes readers of our class.

    An object that gets its class later has its attributes twice: in a dictionary, and in the room
    for them that it was made with.
    """
    if (
        type(factory) is not types.FunctionType
        or factory.__code__ not in _FACTORIES
        or factory.__globals__ is not vars(streams)
        or factory.__closure__ is None
    ):
        return factory
    names = factory.__code__.co_freevars
    given: dict[str, Any] = {
        name: cell.cell_contents for name, cell in zip(names, factory.__closure__, strict=True)
    }
    callback, limit, loop = given["client_connected_cb"], given["limit"], given["loop"]

    def ours() -> Any:
        if loop.get_debug() or not _aioxide._makes_readers():
            return factory()
        reader = StreamReader(limit=limit, loop=loop)
        return streams.StreamReaderProtocol(reader, callback, loop=loop)

    return ours


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
        [
            _model(asyncio.StreamReader, asyncio.StreamWriter),
            _model(StreamReader, StreamWriter),
        ],
        _connection_made(),
    )


if _is_asyncios():
    _stand_over_asyncios()
