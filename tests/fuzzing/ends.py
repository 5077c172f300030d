"""Ends of connections: protocols, streams, and plain sockets.

All have the same operations; what one does not have it answers with `NOT_HERE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import socket
import sys
from typing import TYPE_CHECKING, Any

from ..support import reset
from .programs import BIG, Step
from .world import VARIABLE, Entry, Loop, World

if TYPE_CHECKING:
    from collections.abc import Callable

#: What an operation answers that this shape of end does not have.
NOT_HERE = "not here"

#: Bytes asked for as the socket buffers of connections, so that BIG does not fit and what is less
#: than 64 KiB always does.  The kernel doubles it.
SOCKET_BUFFER = 96 * 1024

#: Whether CPython's loop has faults of which the newest is free.
OLD = sys.version_info < (3, 14, 10)

#: What is sent, repeated; each end begins at a place of its own.
PATTERN = random.Random("pattern").randbytes(65521)


def pattern(end: int, start: int, size: int) -> bytes:
    """What `end` sends as its bytes from `start` on."""
    start = (start + 1009 * end) % len(PATTERN)
    copies = (start + size) // len(PATTERN) + 1
    return (PATTERN * copies)[start : start + size]


class Received(Entry):
    """Bytes that came one after the other."""

    def __init__(self, moment: int, end: End) -> None:
        super().__init__(moment, "")
        self.end = end
        self.first = end.received
        self.upto = self.first

    @property
    def text(self) -> str:
        """Which; of much, the kernel decides where they begin and end."""
        peer = self.end.peer
        first, upto = (
            place if peer is None or peer.sent < BIG or place in peer.boundaries else "some"
            for place in (self.first, self.upto)
        )
        return f"received {first} to {upto}"


class End:
    """One end of a connection, made or not."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.line = f"end {number}"
        #: How many bytes were given to be sent, and after which writes.
        self.sent = 0
        self.boundaries = {0}
        #: Set when what is sent has no pattern any more: a cancelled `sock_sendall`.
        self.torn = False
        self.received = 0
        self.made = False
        self.eof = False
        self.lost = False
        #: What to do in which callback, once, when so many bytes have been received.
        self.reactions: list[tuple[str, int, tuple[Step, ...]]] = []
        world.ends[number] = self

    @property
    def peer(self) -> End | None:
        return self.world.ends.get(self.number ^ 1)

    def note(self, *what: object) -> None:
        self.world.note_on(self.line, *what)

    def output(self, size: int) -> bytes:
        """The next bytes to send."""
        return pattern(self.number, self.sent, size)

    def took(self, size: int) -> None:
        """So many bytes of `output` are being sent."""
        self.sent += size
        self.boundaries.add(self.sent)

    def take(self, data: bytes | bytearray | memoryview) -> None:
        """Note bytes that were received."""
        lines = self.world.lines.setdefault(self.line, [])
        expected = pattern(self.number ^ 1, self.received, len(data))
        if self.peer is not None and not self.peer.torn and data != expected:
            self.note("received WRONG bytes")
        self.world.activity += 1
        last = lines[-1] if lines else None
        if not isinstance(last, Received) or last.moment != self.world.moment:
            last = Received(self.world.moment, self)
            lines.append(last)
        self.received += len(data)
        last.upto = self.received

    def awaits(self) -> str | None:
        """What must still happen here, if anything."""
        return None

    # ---- operations ----

    def write(self, data: Any) -> object:
        return NOT_HERE

    def writelines(self, pieces: Any) -> object:
        return NOT_HERE

    def write_eof(self) -> object:
        return NOT_HERE

    def close(self) -> object:
        return NOT_HERE

    def abort(self) -> object:
        return NOT_HERE

    def pause_reading(self) -> object:
        return NOT_HERE

    def resume_reading(self) -> object:
        return NOT_HERE

    def state(self) -> object:
        return NOT_HERE


class TransportEnd(End):
    """An end that has a transport."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        #: What eof_received() answers.
        self.keep_open = False
        self.transport: Any = None
        #: The callback that its protocol is in.
        self.inside = ""
        #: Whether CPython's transport goes on to count what an abort() has dropped.
        self.counts_on = False

    def awaits(self) -> str | None:
        peer = self.peer
        if not self.made or self.eof or self.lost or peer is None:
            return None
        if not self.transport.is_reading():
            return None
        if peer.lost:
            return "the end"
        return "bytes" if self.received < peer.sent and not peer.torn else None

    # ---- operations ----

    @property
    def ended(self) -> bool:
        """After the very end write() and abort() of CPython's fail, before 3.14.10."""
        return self.lost and OLD

    def write(self, data: Any) -> object:
        return self.transport.write(data) if self.made and not self.ended else NOT_HERE

    def writelines(self, pieces: Any) -> object:
        if OLD and self.made:
            # CPython's fills a buffer that nobody empties, and does not pause the protocol.
            if self.transport.is_closing():
                return NOT_HERE
            if sum(map(len, pieces)) >= BIG:
                return self.write(b"".join(pieces))
        return self._writelines(pieces)

    def _writelines(self, pieces: Any) -> object:
        return self.transport.writelines(pieces) if self.made else NOT_HERE

    def write_eof(self) -> object:
        return self.transport.write_eof() if self.made else NOT_HERE

    def close(self) -> object:
        return self.transport.close() if self.made else NOT_HERE

    def abort(self) -> object:
        return self.transport.abort() if self.made and not self.ended else NOT_HERE

    def pause_reading(self) -> object:
        return self.transport.pause_reading() if self.made else NOT_HERE

    def resume_reading(self) -> object:
        # After the end CPython's reads again, and tells the protocol of the same end again.
        if not self.made or self.eof:
            return NOT_HERE
        return self.transport.resume_reading()

    def state(self) -> object:
        transport = self.transport
        if not self.made:
            return NOT_HERE
        return (
            f"closing={transport.is_closing()} reading={transport.is_reading()}"
            f" queued={transport.get_write_buffer_size() > 0}"
            f" limits={transport.get_write_buffer_limits()} eof={transport.can_write_eof()}"
            f" open={transport.get_extra_info('socket').fileno() >= 0}"
        )


class Recording:
    """The callbacks of a protocol that notes them and performs what the program wants in them."""

    def __init__(self, end: TransportEnd, tag: str = "") -> None:
        self.end = end
        #: Tells the protocols apart that one end has had.
        self.tag = tag

    def called(self, name: str, *arguments: object) -> None:
        """Note a call, and do what the program wants to be done in it."""
        end = self.end
        step = end.world.step
        if step:
            end.note(f"inside {step}:")
        if name != "received":
            end.note(self.tag + name, *arguments)
        before, end.inside = end.inside, name
        try:
            with end.world.on(end.line):
                # Not in the context of the caller.  CPython's calls data_received() in that of the
                # last resume_reading(), aioxide in that in which the transport was made.
                contextvars.Context().run(end.world.perform, self._reaction(name))
        finally:
            end.inside = before

    def _reaction(self, name: str) -> tuple[Step, ...]:
        """What to do in this call, which is taken."""
        for index, (on, after, steps) in enumerate(self.end.reactions):
            if on == name and self.end.received >= after:
                del self.end.reactions[index]
                return steps
        return ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.end.made = True
        self.end.transport = transport
        if (sock := transport.get_extra_info("socket")) is not None:
            prepare(self.end.world.loop, sock)
        self.called("connection_made", VARIABLE.get())

    def connection_lost(self, exc: Exception | None) -> None:
        self.end.lost = True
        self.called("connection_lost", exc)

    def eof_received(self) -> bool | None:
        self.end.eof = True
        self.called("eof_received")
        return self.end.keep_open

    def pause_writing(self) -> None:
        self.called("pause_writing")

    def resume_writing(self) -> None:
        self.called("resume_writing")


class RecordingProtocol(Recording, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.end.take(data)
        self.called("received")


class RecordingBuffered(Recording, asyncio.BufferedProtocol):
    def __init__(self, end: TransportEnd, tag: str, size: int) -> None:
        super().__init__(end, tag)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.end.take(memoryview(self.buffer)[:nbytes])
        self.called("received")


class RecordingStream(Recording, asyncio.StreamReaderProtocol):
    """asyncio's own, with its calls noted before it acts on them."""

    def __init__(
        self,
        end: StreamEnd,
        reader: asyncio.StreamReader,
        connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any] | None,
    ) -> None:
        Recording.__init__(self, end)
        asyncio.StreamReaderProtocol.__init__(self, reader, connected, loop=end.world.loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Recording.connection_made(self, transport)
        asyncio.StreamReaderProtocol.connection_made(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        Recording.connection_lost(self, exc)
        asyncio.StreamReaderProtocol.connection_lost(self, exc)

    def data_received(self, data: bytes) -> None:
        self.end.take(data)
        asyncio.StreamReaderProtocol.data_received(self, data)

    def eof_received(self) -> bool | None:
        Recording.eof_received(self)
        return asyncio.StreamReaderProtocol.eof_received(self)

    def pause_writing(self) -> None:
        Recording.pause_writing(self)
        asyncio.StreamReaderProtocol.pause_writing(self)

    def resume_writing(self) -> None:
        Recording.resume_writing(self)
        asyncio.StreamReaderProtocol.resume_writing(self)


class ProtocolEnd(TransportEnd):
    """An end with a protocol of the program's."""

    #: How many protocols it has had.
    protocols = 0

    def new_protocol(self, buffer: int | None) -> asyncio.BaseProtocol:
        """A protocol, buffered if `buffer` says how large."""
        tag = f"#{self.protocols} " if self.protocols else ""
        self.protocols += 1
        if buffer is None:
            return RecordingProtocol(self, tag)
        return RecordingBuffered(self, tag, buffer)


class StreamEnd(TransportEnd):
    """An end with a reader and a writer."""

    #: Bytes in the reader above which it pauses the transport, twice this.
    LIMIT = 3000

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.reader = asyncio.StreamReader(limit=self.LIMIT, loop=world.loop)
        self.writer: Any = None
        #: How many bytes the program has read.
        self.read = 0

    def new_protocol(self) -> asyncio.BaseProtocol:
        protocol: RecordingStream

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writer = writer
            self.note("connected", reader is self.reader)

        protocol = RecordingStream(self, self.reader, connected)
        return protocol

    def write(self, data: Any) -> object:
        return self.writer.write(data) if self.writer and not self.ended else NOT_HERE

    def _writelines(self, pieces: Any) -> object:
        return self.writer.writelines(pieces) if self.writer else NOT_HERE

    def write_eof(self) -> object:
        return self.writer.write_eof() if self.writer else NOT_HERE

    def close(self) -> object:
        return self.writer.close() if self.writer else NOT_HERE

    def consumed(self, data: bytes) -> str:
        """What to note of bytes that the program has read."""
        right = pattern(self.number ^ 1, self.read, len(data)) == data
        self.read += len(data)
        return f"{len(data)} bytes{'' if right else ', WRONG'}"


class SocketEnd(End):
    """A plain, non-blocking socket."""

    def __init__(self, world: World, number: int, sock: Any) -> None:
        super().__init__(world, number)
        self.sock = sock
        self.made = True
        #: The operations of the loop that are under way on it, and its reader and writer.
        self.busy: set[str] = set()
        world.clean_up.callback(sock.close)
        if isinstance(sock, socket.socket):
            prepare(world.loop, sock)

    def write(self, data: Any) -> object:
        if self.torn or self.lost or "sendall" in self.busy:
            return NOT_HERE
        sent = self.sock.send(data)
        self.took(sent)
        return "all" if sent == len(data) else "a part"

    def write_eof(self) -> object:
        return self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> object:
        return self._close(self.sock.close)

    def abort(self) -> object:
        """End with a reset."""
        return self._close(lambda: reset(self.sock))

    def _close(self, close: Callable[[], object]) -> object:
        # On CPython's loop an operation on a socket that is closed under it waits for ever, and
        # its number stays in the selector.
        if self.busy or self.lost:
            return NOT_HERE
        self.lost = True
        close()
        return None

    def drain(self) -> object:
        """Receive what is there."""
        if "recv" in self.busy:
            return NOT_HERE
        with contextlib.suppress(BlockingIOError):
            while data := self.sock.recv(1 << 18):
                self.take(data)
            self.eof = True
            return "the end"
        return None


def prepare(loop: Loop, sock: Any) -> None:
    """Give the buffers of a connection their size, the kernel would let them grow; and let small
    pieces go at once, which CPython's loop sees to for some sockets only.
    """
    if sock.type != socket.SOCK_STREAM:
        return
    size = getattr(loop, "socket_buffer", SOCKET_BUFFER)
    with contextlib.suppress(OSError):  # the peer has reset it already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def new_end(
    world: World, number: int, shape: str, buffer: int | None = None
) -> tuple[TransportEnd, Callable[[], asyncio.BaseProtocol]]:
    """An end with a transport, and the factory of its protocol."""
    if shape == "stream":
        stream = StreamEnd(world, number)
        return stream, stream.new_protocol
    end = ProtocolEnd(world, number)
    return end, lambda: end.new_protocol(buffer if shape == "buffered" else None)
