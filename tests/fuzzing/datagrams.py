"""Steps of datagrams: endpoints, and what is sent from one to the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..datagrams import deaf_port, udp_socket, unix_socket
from .connections import (
    Abort,
    Ask,
    Close,
    Limits,
    Mark,
    OfEnd,
    PauseReading,
    React,
    ResumeReading,
    made,
)
from .ends import NOT_HERE, Recording, SocketEnd, TransportEnd, pattern
from .programs import Dice, Draw, Step, Table
from .world import World


class DatagramEnd(TransportEnd):
    """An end with a datagram transport; it counts datagrams, not bytes."""

    #: Where datagrams for it go.
    address: Any = None

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.counts_on = True

    def output(self, size: int) -> bytes:
        return pattern(self.number, 31 * self.sent, size)

    def new_protocol(self) -> asyncio.BaseProtocol:
        return RecordingDatagrams(self)

    def awaits(self) -> str | None:
        return None

    @property
    def of_ip(self) -> bool:
        return isinstance(self.address, tuple)

    def sendto(self, data: Any, address: Any) -> object:
        # After close() CPython's still sends if it was made with a socket; after the end that is an
        # AttributeError.
        if not self.made or self.transport.is_closing():
            return NOT_HERE
        # It fails, in words of the socket module's that tell of the family.
        if address is None and self.transport.get_extra_info("peername") is None:
            return NOT_HERE
        return self.transport.sendto(data, address)

    def abort(self) -> object:
        return self.transport.abort() if self.made and not self.lost else NOT_HERE

    def state(self) -> object:
        transport = self.transport
        if not self.made:
            return NOT_HERE
        # Before 3.14 what is queued is not counted as the newest does.
        counts = sys.version_info >= (3, 14) and not transport.is_closing()
        queued = counts and transport.get_write_buffer_size() > 0
        return (
            f"closing={transport.is_closing()} reading={self.reads()} queued={queued}"
            f" limits={transport.get_write_buffer_limits()}"
            f" open={transport.get_extra_info('socket').fileno() >= 0}"
        )

    # Before 3.11 datagram transports cannot be paused.

    def reads(self) -> object:
        return sys.version_info >= (3, 11) and self.transport.is_reading()

    def pause_reading(self) -> object:
        return super().pause_reading() if sys.version_info >= (3, 11) else NOT_HERE

    def resume_reading(self) -> object:
        return super().resume_reading() if sys.version_info >= (3, 11) else NOT_HERE

    def got(self, data: bytes, address: Any) -> None:
        """Note a datagram."""
        self.received += 1
        self.note(describe(self, data, address))


class RecordingDatagrams(Recording, asyncio.DatagramProtocol):
    end: DatagramEnd

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.end.got(data, addr)
        self.called("received")

    def error_received(self, exc: Exception) -> None:
        self.called("error_received", exc)


class DatagramSocketEnd(SocketEnd):
    """A plain datagram socket."""

    def __init__(self, world: World, number: int, sock: socket.socket) -> None:
        super().__init__(world, number, sock)
        self.address = sock.getsockname()

    def output(self, size: int) -> bytes:
        return pattern(self.number, 31 * self.sent, size)

    @property
    def of_ip(self) -> bool:
        return isinstance(self.address, tuple)

    def sendto(self, data: Any, address: Any) -> object:
        if self.lost:
            return NOT_HERE
        return self.sock.send(data) if address is None else self.sock.sendto(data, address)

    def drain(self) -> object:
        if "recv" in self.busy:
            return NOT_HERE
        with contextlib.suppress(BlockingIOError):
            while True:
                self.note(describe(self, *self.sock.recvfrom(1 << 16)))
        return None


def describe(end: Any, data: bytes, address: Any) -> str:
    """What to note of a datagram that `end` has received."""
    whence = "the peer" if end.peer and address == end.peer.address else "elsewhere"
    return f"datagram of {len(data)} bytes, sum {zlib.crc32(data)}, from {whence}"


@dataclass(frozen=True)
class Endpoints(Step):
    """Two ends that send datagrams to each other.

    Both are bound.  If they are connected to each other, their sockets are made first; else the
    transports make them, the left one first, and only the right one has a remote address.
    """

    connection: int
    left: str
    right: str
    task: int
    family: str
    connected: bool

    def perform(self, world: World) -> object:
        if 2 * self.connection in world.ends or self.task in world.tasks:
            return None
        world.start(self.task, lambda: self._make(world), ends=True)
        return None

    async def _make(self, world: World) -> str:
        first = 2 * self.connection
        if not self.connected:
            left = await self._end(world, first, self.left, local_addr=self._name(world, first))
            local = self._name(world, first + 1)
            right = await self._end(
                world, first + 1, self.right, local_addr=local, remote_addr=left.address
            )
            return f"made {left.made} {right.made}"
        sockets = [self._socket(world, number) for number in (first, first + 1)]
        sockets[0].connect(sockets[1].getsockname())
        sockets[1].connect(sockets[0].getsockname())
        left = await self._end(world, first, self.left, sock=sockets[0])
        right = await self._end(world, first + 1, self.right, sock=sockets[1])
        return f"made {left.made} {right.made}"

    def _name(self, world: World, number: int) -> Any:
        if self.family == "udp":
            return "127.0.0.1", 0
        return str(world.directory() / f"end {number}")

    def _socket(self, world: World, number: int) -> socket.socket:
        sock = udp_socket() if self.family == "udp" else unix_socket(self._name(world, number))
        world.clean_up.callback(sock.close)
        return sock

    async def _end(self, world: World, number: int, shape: str, **options: Any) -> Any:
        if shape == "datagram socket":
            sock = options.get("sock") or self._socket(world, number)
            if "remote_addr" in options:
                sock.connect(options["remote_addr"])
            return DatagramSocketEnd(world, number, sock)
        end = DatagramEnd(world, number)
        if self.family == "unix" and "sock" not in options:
            options["family"] = socket.AF_UNIX
        await made(world.loop.create_datagram_endpoint(end.new_protocol, **options))
        end.address = end.transport.get_extra_info("sockname")
        return end

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        if not dice.may_connect():
            return None
        shapes = ["datagram", "datagram", "datagram socket"]
        left, right = dice.pick(shapes), dice.pick(shapes)
        connection = dice.new_connection(left, right)
        family = dice.pick(["udp", "unix"])
        return cls(connection, left, right, dice.new(dice.tasks), family, dice.chance(0.5))


@dataclass(frozen=True)
class ToNobody(Step):
    """An endpoint whose datagrams are refused."""

    connection: int
    task: int

    def perform(self, world: World) -> object:
        number = 2 * self.connection
        if number in world.ends or self.task in world.tasks:
            return None
        end = DatagramEnd(world, number)
        port = world.clean_up.enter_context(deaf_port())
        making: dict[str, Any] = {"remote_addr": ("127.0.0.1", port)}
        loop = world.loop

        async def make() -> str:
            return await made(loop.create_datagram_endpoint(end.new_protocol, **making))

        world.start(self.task, make, ends=True)
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        if not dice.may_connect():
            return None
        return cls(dice.new_connection("datagram", "nobody"), dice.new(dice.tasks))


@dataclass(frozen=True)
class SendTo(OfEnd):
    """Send datagrams: to the peer, by its address or by none, or to a wrong address."""

    size: int
    where: str
    count: int = 1

    def operate(self, end: Any) -> object:
        if not isinstance(end, (DatagramEnd, DatagramSocketEnd)):
            return NOT_HERE
        # Before 3.13 CPython's sends no empty ones; and before 3.14 its flow control does not
        # count as the newest does.
        if self.size == 0 and sys.version_info < (3, 13):
            return NOT_HERE
        if self.count > 1 and sys.version_info < (3, 14):
            return NOT_HERE
        # Many are for the queue of a Unix socket.  Of many to a port some get lost.
        if self.count > 1 and end.of_ip:
            return NOT_HERE
        peer: Any = end.peer
        address = {
            "peer": getattr(peer, "address", None),
            "none": None,
            "wrong": ("127.0.0.1", 9) if end.of_ip else str(end.world.directory() / "nobody"),
        }
        for _ in range(self.count):
            data = end.output(self.size)
            answer = end.sendto(data, address[self.where])
            end.sent += 1
        return answer

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("datagram", "datagram", "datagram socket")
        if end is None:
            return None
        size = dice.pick([0, 1, 20, 500, 5000])
        where = dice.pick(["peer", "peer", "peer", "none", "none", "wrong"])
        # 40 are more than a Unix socket's queue takes.
        return cls(end, size, where, 40 if dice.chance(0.15) else 1)


@dataclass(frozen=True)
class SendWrong(OfEnd):
    """What is not bytes."""

    def operate(self, end: Any) -> object:
        wrong: Any = "text"
        return end.sendto(wrong, None) if isinstance(end, DatagramEnd) else NOT_HERE

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("datagram")
        return None if end is None else cls(end)


@dataclass(frozen=True)
class SockRecvFrom(OfEnd):
    """Receive a datagram in a task."""

    task: int
    into: bool

    def operate(self, end: Any) -> object:
        if not isinstance(end, DatagramSocketEnd) or end.lost or end.busy:
            return NOT_HERE
        if sys.version_info < (3, 11):
            return NOT_HERE
        end.world.start(self.task, lambda: self._receive(end))
        end.busy.add("recv")
        end.world.tasks[self.task].add_done_callback(lambda _: end.busy.discard("recv"))
        return None

    async def _receive(self, end: DatagramSocketEnd) -> str:
        loop: Any = end.world.loop
        if self.into:
            buffer = bytearray(6000)
            count, address = await loop.sock_recvfrom_into(end.sock, buffer)
            data = bytes(buffer[:count])
        else:
            data, address = await loop.sock_recvfrom(end.sock, 6000)
        return describe(end, data, address)

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("datagram socket")
        return None if end is None else cls(end, dice.new(dice.tasks), dice.chance(0.5))


@dataclass(frozen=True)
class SockSendTo(OfEnd):
    """Send a datagram in a task, which waits if the peer's queue is full."""

    task: int
    size: int

    def operate(self, end: Any) -> object:
        if not isinstance(end, DatagramSocketEnd) or end.lost or "sendall" in end.busy:
            return NOT_HERE
        peer: Any = end.peer
        if sys.version_info < (3, 11) or peer is None:
            return NOT_HERE
        data, address = end.output(self.size), peer.address
        end.sent += 1
        loop: Any = end.world.loop
        end.world.start(self.task, lambda: loop.sock_sendto(end.sock, data, address))
        end.busy.add("sendall")
        end.world.tasks[self.task].add_done_callback(lambda _: end.busy.discard("sendall"))
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("datagram socket")
        if end is None:
            return None
        return cls(end, dice.new(dice.tasks), dice.pick([1, 20, 5000]))


@dataclass(frozen=True)
class DrainDatagrams(OfEnd):
    """Receive the datagrams that have arrived at a plain socket."""

    def operate(self, end: Any) -> object:
        return end.drain() if isinstance(end, DatagramSocketEnd) and not end.lost else NOT_HERE

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("datagram socket")
        return None if end is None else cls(end)


def react(dice: Dice) -> Step | None:
    """Do something in a callback of a datagram protocol, once."""
    end = dice.end("datagram")
    if end is None:
        return None
    on = dice.pick(
        ["received"] * 4
        + ["error_received", "connection_made", "connection_lost"]
        + ["pause_writing", "resume_writing"]
    )
    return React(end, on, 0, steps=dice.nested_for(on))


def _of_datagrams(step: Callable[[int], Step]) -> Draw:
    def draw(dice: Dice) -> Step | None:
        end = dice.end("datagram")
        return None if end is None else step(end)

    return draw


def limits(dice: Dice) -> Step | None:
    end = dice.end("datagram")
    if end is None:
        return None
    return Limits(end, dice.pick([None, 0, 1, 1 << 24]), dice.pick([None, 0, 1, -1]))


OPERATIONS: Table = [
    (SendTo.draw, 25),
    (SendWrong.draw, 1),
    (react, 10),
    (limits, 4),
    (_of_datagrams(Close), 4),
    (_of_datagrams(Abort), 3),
    (_of_datagrams(Ask), 5),
    (_of_datagrams(Mark), 3),
    (_of_datagrams(PauseReading), 4),
    (_of_datagrams(ResumeReading), 5),
    (DrainDatagrams.draw, 6),
    (SockRecvFrom.draw, 5),
    (SockSendTo.draw, 4),
]
