"""Steps of descriptors and plain sockets: readers, writers, `sock_*`."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from ..support import listening
from .connections import OfEnd
from .ends import NOT_HERE, SocketEnd, TransportEnd
from .programs import Dice, Holding, Step, Table
from .world import World


@dataclass(frozen=True)
class AddReader(Holding):
    """A reader that receives; it performs the steps once, and goes at the end of the stream."""

    end: int
    size: int

    def perform(self, world: World) -> object:
        end = world.ends.get(self.end)
        if isinstance(end, TransportEnd):
            return self._refused(world, end)
        if not isinstance(end, SocketEnd) or end.lost or "recv" in end.busy:
            return None
        steps = list(self.steps)

        def readable() -> None:
            with world.on(end.line):
                try:
                    data = end.sock.recv(self.size)
                except BlockingIOError:
                    return
                except OSError as error:
                    world.note("receiving raised", error)
                    data = b""
                end.take(data)
                if not data:
                    world.note("removed", world.loop.remove_reader(end.sock))
                    end.busy.discard("reader")
                todo, steps[:] = steps[:], []
                world.perform(todo)

        world.loop.add_reader(end.sock, readable)
        end.busy.add("reader")
        return None

    def _refused(self, world: World, end: TransportEnd) -> object:
        """A transport's descriptor is the transport's, until it closes."""
        if not end.made or end.transport.is_closing():
            return None
        return world.loop.add_reader(end.transport.get_extra_info("socket"), print)

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        shapes = ["socket"] if dice.chance(0.9) else []
        end = dice.end(*shapes, sends=False)
        if end is None:
            return None
        return cls(end, dice.pick([1000, 1 << 18]), steps=dice.nested())


@dataclass(frozen=True)
class AddWriter(Holding):
    """A writer that goes after some calls, the last of which performs the steps."""

    end: int
    calls: int

    def perform(self, world: World) -> object:
        end = world.ends.get(self.end)
        if not isinstance(end, SocketEnd) or end.lost or "sendall" in end.busy:
            return None
        left = self.calls
        line = f"{end.line}, writer"

        def writable() -> None:
            nonlocal left
            left -= 1
            with world.on(line):
                world.note("writable")
                if left == 0:
                    world.note("removed", world.loop.remove_writer(end.sock))
                    end.busy.discard("writer")
                    world.perform(self.steps)

        world.loop.add_writer(end.sock, writable)
        end.busy.add("writer")
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("socket", sends=True)
        return None if end is None else cls(end, dice.number(1, 3), steps=dice.nested())


@dataclass(frozen=True)
class Remove(OfEnd):
    """Take back a reader or a writer, if there is one."""

    what: str

    def operate(self, end: Any) -> object:
        if not isinstance(end, SocketEnd) or end.lost:
            return NOT_HERE
        # An operation that waits does so with a reader or a writer.
        if {"reader": "recv", "writer": "sendall"}[self.what] in end.busy:
            return NOT_HERE
        end.busy.discard(self.what)
        remove = getattr(end.world.loop, f"remove_{self.what}")
        return remove(end.sock)

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("socket")
        return None if end is None else cls(end, dice.pick(["reader", "writer"]))


@dataclass(frozen=True)
class SockRecv(OfEnd):
    """Receive in a task."""

    task: int
    size: int
    into: bool

    def operate(self, end: Any) -> object:
        if not isinstance(end, SocketEnd) or end.lost or {"recv", "reader"} & end.busy:
            return NOT_HERE
        end.world.start(self.task, lambda: self._receive(end))
        end.busy.add("recv")
        # Not in the coroutine: a task that is cancelled before it begins has no coroutine.
        end.world.tasks[self.task].add_done_callback(lambda _: end.busy.discard("recv"))
        return None

    async def _receive(self, end: SocketEnd) -> object:
        loop = end.world.loop
        if self.into:
            buffer = bytearray(self.size)
            count = await loop.sock_recv_into(end.sock, buffer)
            data = bytes(buffer[:count])
        else:
            data = await loop.sock_recv(end.sock, self.size)
        end.eof = not data
        if data:
            end.take(data)
        return "data" if data else "the end"

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("socket")
        if end is None:
            return None
        return cls(end, dice.new(dice.tasks), dice.pick([1, 10, 1000, 1 << 20]), dice.chance(0.4))


@dataclass(frozen=True)
class SockSendall(OfEnd):
    """Send in a task."""

    task: int
    size: int

    def operate(self, end: Any) -> object:
        if not isinstance(end, SocketEnd) or end.lost or {"sendall", "writer"} & end.busy:
            return NOT_HERE
        if end.torn:
            return NOT_HERE
        end.world.start(self.task, lambda: self._send(end))
        end.busy.add("sendall")
        end.world.tasks[self.task].add_done_callback(lambda _: end.busy.discard("sendall"))
        return None

    async def _send(self, end: SocketEnd) -> None:
        data = end.output(self.size)
        end.took(self.size)
        try:
            await end.world.loop.sock_sendall(end.sock, data)
        except BaseException:
            # Nobody knows how much of it was sent.
            end.torn = True
            raise

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("socket")
        if end is None:
            return None
        size = dice.size()
        dice.wrote(end, size)
        return cls(end, dice.new(dice.tasks), size)


@dataclass(frozen=True)
class Listen(Step):
    """A listening socket of the program's own."""

    listener: int

    def perform(self, world: World) -> object:
        if self.listener in world.listeners:
            return None
        sock = listening()
        world.listeners[self.listener] = sock
        world.clean_up.callback(sock.close)
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        return None if dice.listeners else cls(dice.new(dice.listeners))


@dataclass(frozen=True)
class SockConnect(Step):
    """Connect to a listening socket, and accept there: a connection of two plain sockets."""

    connection: int
    listener: int
    tasks: tuple[int, int]

    def perform(self, world: World) -> object:
        listener = world.listeners.get(self.listener)
        first = 2 * self.connection
        if first in world.ends or set(self.tasks) & set(world.tasks):
            return None
        # One socket takes one operation at a time.
        if listener is None or self.listener in world.accepting:
            return None
        loop = world.loop
        address = listener.getsockname()
        world.accepting.add(self.listener)

        async def connect() -> object:
            sock = socket.socket()
            world.clean_up.callback(sock.close)
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            SocketEnd(world, first, sock)
            return "connected"

        async def accept() -> object:
            sock, _ = await loop.sock_accept(listener)
            world.clean_up.callback(sock.close)
            SocketEnd(world, first + 1, sock)
            return sock.gettimeout()

        world.start(self.tasks[0], connect, ends=True)
        world.start(self.tasks[1], accept)
        world.tasks[self.tasks[1]].add_done_callback(
            lambda _: world.accepting.discard(self.listener)
        )
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        listener = dice.any(dice.listeners)
        if listener is None or not dice.may_connect():
            return None
        connection = dice.new_connection("socket", "socket")
        return cls(connection, listener, (dice.new(dice.tasks), dice.new(dice.tasks)))


OPERATIONS: Table = [
    (AddReader.draw, 8),
    (AddWriter.draw, 6),
    (Remove.draw, 4),
    (SockRecv.draw, 8),
    (SockSendall.draw, 6),
]
