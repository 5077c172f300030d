"""Steps of connections: how they are made, and the operations of their ends."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import Any, ClassVar

from ..support import tcp_pair, unix_pair
from .ends import NOT_HERE, ProtocolEnd, SocketEnd, TransportEnd, new_end, prepare
from .programs import Dice, Holding, Step, Table
from .world import World

#: Shapes of ends that have a transport.
TRANSPORTS = ("protocol", "buffered", "stream")


@dataclass(frozen=True)
class Connect(Step):
    """A connection of two sockets of this process.

    An end that is no plain socket gets a transport, which is made by a task.
    """

    connection: int
    left: str
    right: str
    tasks: tuple[int, int]
    family: str = "tcp"
    #: The size of the buffers of buffered protocols.
    buffer: int = 1000
    #: Whether the right end's transport is made by `connect_accepted_socket`.
    accepted: bool = False

    def perform(self, world: World) -> object:
        first = 2 * self.connection
        if first in world.ends:
            return None
        left, right = tcp_pair() if self.family == "tcp" else unix_pair()
        prepare(world.loop, left)
        prepare(world.loop, right)
        self._end(world, first, self.left, left, self.tasks[0])
        self._end(world, first + 1, self.right, right, self.tasks[1])
        return None

    def _end(self, world: World, number: int, shape: str, sock: socket.socket, task: int) -> None:
        if shape == "socket":
            SocketEnd(world, number, sock)
            return
        # A task that is cancelled before it begins leaves the socket to us.
        world.clean_up.callback(sock.close)
        _, factory = new_end(world, number, shape, self.buffer)
        loop = world.loop
        if self.accepted and number % 2:
            making = lambda: made(loop.connect_accepted_socket(factory, sock))  # noqa: E731
        else:
            making = lambda: made(loop.create_connection(factory, sock=sock))  # noqa: E731
        world.start(task, making, ends=True)

    @classmethod
    def draw(cls, dice: Dice, family: str = "tcp") -> Step | None:
        if not dice.may_connect():
            return None
        left = dice.pick(TRANSPORTS)
        right = dice.pick((*TRANSPORTS, "socket"))
        return cls(
            dice.new_connection(left, right),
            left,
            right,
            (dice.new(dice.tasks), dice.new(dice.tasks)),
            family,
            dice.buffer(),
            dice.chance(0.3),
        )


async def made(making: Any) -> str:
    """What to note of a coroutine that makes a transport and a protocol."""
    transport, protocol = await making
    return f"made {transport.get_protocol() is protocol}"


@dataclass(frozen=True)
class OfEnd(Step):
    """An operation of one end."""

    #: Whether it is about sending, or about receiving; None if about both.
    sends: ClassVar[bool | None] = None

    end: int

    def perform(self, world: World) -> object:
        end = world.ends.get(self.end)
        return None if end is None else self.operate(end)

    def operate(self, end: Any) -> object:
        raise NotImplementedError

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end(sends=cls.sends)
        return None if end is None else cls(end)


@dataclass(frozen=True)
class Write(OfEnd):
    sends = True

    size: int
    #: How the bytes are given.
    wrap: str = "bytes"

    def operate(self, end: Any) -> object:
        data: Any = end.output(self.size)
        if self.wrap == "bytearray":
            data = bytearray(data)
        elif self.wrap == "memoryview":
            data = memoryview(data)
        answer = end.write(data)
        if answer is None:
            end.took(self.size)
        return answer

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end(sends=cls.sends)
        if end is None:
            return None
        size = dice.size()
        dice.wrote(end, size)
        return cls(end, size, dice.pick(["bytes"] * 4 + ["bytearray", "memoryview"]))


@dataclass(frozen=True)
class WriteLines(OfEnd):
    sends = True

    sizes: tuple[int, ...]

    def operate(self, end: Any) -> object:
        data = memoryview(end.output(sum(self.sizes)))
        pieces = []
        for size in self.sizes:
            pieces.append(bytes(data[:size]))
            data = data[size:]
        answer = end.writelines(pieces)
        if answer is None:
            for size in self.sizes:
                end.took(size)
        return answer

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end(sends=cls.sends)
        if end is None:
            return None
        sizes = [dice.number(0, 2000) for _ in range(dice.number(0, 4))]
        # At most one system call is tried at once on both loops: a second one to a peer that is
        # gone would find that out.
        if sizes and dice.chance(0.2):
            sizes[0] = dice.big()
        dice.wrote(end, sum(sizes))
        return cls(end, tuple(sizes))


@dataclass(frozen=True)
class WriteEof(OfEnd):
    sends = True

    def operate(self, end: Any) -> object:
        return end.write_eof()


@dataclass(frozen=True)
class Close(OfEnd):
    def operate(self, end: Any) -> object:
        return end.close()


@dataclass(frozen=True)
class Abort(OfEnd):
    def operate(self, end: Any) -> object:
        return end.abort()


@dataclass(frozen=True)
class PauseReading(OfEnd):
    sends = False

    def operate(self, end: Any) -> object:
        return end.pause_reading()


@dataclass(frozen=True)
class ResumeReading(OfEnd):
    sends = False

    def operate(self, end: Any) -> object:
        return end.resume_reading()


@dataclass(frozen=True)
class Ask(OfEnd):
    """Every question that a transport answers."""

    def operate(self, end: Any) -> object:
        return end.state()


@dataclass(frozen=True)
class Limits(OfEnd):
    """Water marks: far from what the kernel may have left of BIG bytes."""

    sends = True

    high: int | None
    low: int | None

    def operate(self, end: Any) -> object:
        if not isinstance(end, TransportEnd) or not end.made:
            return NOT_HERE
        if not hasattr(end.transport, "set_write_buffer_limits"):
            return NOT_HERE  # the reading end of a pipe
        if end.transport.is_closing() and end.counts_on:
            return NOT_HERE
        end.transport.set_write_buffer_limits(self.high, self.low)
        return end.transport.get_write_buffer_limits()

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end(*TRANSPORTS, sends=cls.sends)
        if end is None:
            return None
        high = dice.pick([None, 0, 1, 1000, 60_000, 1 << 24])
        return cls(end, high, dice.pick([None, None, 0, 1, 900, 70_000, -1]))


@dataclass(frozen=True)
class WriteWrong(OfEnd):
    """What is not bytes."""

    sends = True

    what: str

    def operate(self, end: Any) -> object:
        if not isinstance(end, TransportEnd):
            return NOT_HERE
        wrong: dict[str, Any] = {"text": "text", "number": 3, "none": None, "list": [b"x"]}
        return end.write(wrong[self.what])

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end(*TRANSPORTS, sends=cls.sends)
        return None if end is None else cls(end, dice.pick(["text", "number", "none", "list"]))


@dataclass(frozen=True)
class KeepOpen(OfEnd):
    """What eof_received() answers from now on."""

    sends = False

    keep: bool

    def operate(self, end: Any) -> object:
        if not isinstance(end, TransportEnd):
            return NOT_HERE
        end.keep_open = self.keep
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("protocol", "buffered", sends=cls.sends)
        return None if end is None else cls(end, dice.chance(0.8))


@dataclass(frozen=True)
class SetProtocol(OfEnd):
    """Another protocol takes over; a buffered one if `buffer` says how large."""

    buffer: int | None

    def operate(self, end: Any) -> object:
        if not isinstance(end, ProtocolEnd) or not end.made or end.lost:
            return NOT_HERE
        protocol = end.new_protocol(self.buffer)
        end.transport.set_protocol(protocol)
        return end.transport.get_protocol() is protocol

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("protocol", "buffered", sends=cls.sends)
        if end is None:
            return None
        return cls(end, dice.pick([None, dice.buffer()]))


@dataclass(frozen=True)
class Mark(OfEnd):
    """A callback of the next iteration, on the end's line: where does it stand?"""

    def operate(self, end: Any) -> object:
        end.world.loop.call_soon(end.note, "mark")
        return None


@dataclass(frozen=True)
class React(Holding):
    """Do something in a callback of the end's protocol, once: in the next one of this name when so
    many bytes have been received.
    """

    end: int
    on: str
    after: int

    def perform(self, world: World) -> object:
        end = world.ends.get(self.end)
        if not isinstance(end, TransportEnd):
            return None
        end.reactions.append((self.on, self.after, self.steps))
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        on = dice.pick(
            ["received"] * 4
            + ["connection_made", "eof_received", "eof_received"]
            + ["connection_lost", "pause_writing", "resume_writing"]
        )
        sends = {"received": False, "eof_received": False, "pause_writing": True}.get(on)
        end = dice.end(*TRANSPORTS, sends=sends)
        if end is None:
            return None
        steps = dice.nested_for(on)
        after = 0
        if on == "received":
            # When all that is written here has come, so that it does not matter in which pieces.
            write = Write(end ^ 1, dice.size())
            dice.wrote(write.end, write.size)
            dice.next.append(write)
            after = dice.written[end ^ 1]
        return cls(end, on, after, steps=steps)


@dataclass(frozen=True)
class Drain(OfEnd):
    """Receive what has arrived at a plain socket."""

    sends = False

    def operate(self, end: Any) -> object:
        return end.drain() if isinstance(end, SocketEnd) and not end.lost else NOT_HERE

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("socket", sends=cls.sends)
        return None if end is None else cls(end)


@dataclass(frozen=True)
class Receive(OfEnd):
    """Receive a little of what has arrived at a plain socket."""

    sends = False

    size: int

    def operate(self, end: Any) -> object:
        if not isinstance(end, SocketEnd) or end.lost or "recv" in end.busy:
            return NOT_HERE
        with contextlib.suppress(BlockingIOError):
            data = end.sock.recv(self.size)
            if not data:
                end.eof = True
                return "the end"
            end.take(data)
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("socket", sends=cls.sends)
        return None if end is None else cls(end, dice.number(1, 500))


#: Steps that any connection can do.
OPERATIONS: Table = [
    (Write.draw, 20),
    (WriteLines.draw, 5),
    (WriteEof.draw, 5),
    (Close.draw, 5),
    (Abort.draw, 3),
    (PauseReading.draw, 5),
    (ResumeReading.draw, 6),
    (Ask.draw, 6),
    (Limits.draw, 6),
    (WriteWrong.draw, 1),
    (KeepOpen.draw, 4),
    (SetProtocol.draw, 3),
    (Mark.draw, 3),
    (React.draw, 14),
    (Drain.draw, 6),
    (Receive.draw, 2),
]
