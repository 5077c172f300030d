"""Steps of pipes: transports over their ends."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .connections import made
from .ends import NOT_HERE, ProtocolEnd, SocketEnd
from .programs import Dice, Step
from .world import World


class PipeEnd(ProtocolEnd):
    """A transport over one end."""

    def new_protocol(self, buffer: int | None = None) -> asyncio.BaseProtocol:
        """Never a buffered one: pipes do not know them."""
        return super().new_protocol(None)

    def abort(self) -> object:
        # Once it is closing, an abort() of CPython's loses the connection a second time.
        if not self.made or self.transport.is_closing() or not hasattr(self.transport, "abort"):
            return NOT_HERE
        return self.transport.abort()

    def close(self) -> object:
        # So does a close() in resume_writing(), which comes before CPython's has seen that
        # everything is written.
        if not self.made or self.inside == "resume_writing":
            return NOT_HERE
        return self.transport.close()

    def write_eof(self) -> object:
        if not self.made or self.inside == "resume_writing" or not self.writes:
            return NOT_HERE
        return self.transport.write_eof()

    @property
    def writes(self) -> bool:
        return self.number % 2 == 0

    def write(self, data: Any) -> object:
        if not self.made or not self.writes or not isinstance(data, (bytes, bytearray, memoryview)):
            return NOT_HERE  # CPython's asserts that it is bytes
        return self.transport.write(data)

    def _writelines(self, pieces: Any) -> object:
        return self.transport.writelines(pieces) if self.made and self.writes else NOT_HERE

    def pause_reading(self) -> object:
        return super().pause_reading() if not self.writes else NOT_HERE

    def resume_reading(self) -> object:
        return super().resume_reading() if not self.writes else NOT_HERE

    def awaits(self) -> str | None:
        # Before 3.11 nobody can be asked whether it reads.
        if self.writes or not self.made or sys.version_info < (3, 11):
            return None
        return super().awaits()

    def state(self) -> object:
        transport = self.transport
        if not self.made:
            return NOT_HERE
        state = f"closing={transport.is_closing()}"
        if self.writes:
            return (
                f"{state} queued={transport.get_write_buffer_size() > 0}"
                f" limits={transport.get_write_buffer_limits()} eof={transport.can_write_eof()}"
            )
        return f"{state} reading={sys.version_info >= (3, 11) and transport.is_reading()}"


class File:
    """An end of a pipe, with those methods of a socket that make sense."""

    def __init__(self, number: int) -> None:
        self._number = number
        os.set_blocking(number, False)

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        if self._number >= 0:
            os.close(self._number)
        self._number = -1

    def recv(self, size: int) -> bytes:
        return os.read(self._number, size)

    def send(self, data: bytes) -> int:
        return os.write(self._number, data)


class FileEnd(SocketEnd):
    """An end of a pipe that is no transport's."""

    def write_eof(self) -> object:
        return NOT_HERE

    def abort(self) -> object:
        return self.close()


@dataclass(frozen=True)
class Pipe(Step):
    """A pipe, or a pair of sockets that is used as one.

    The left end is the one that is written to.
    """

    connection: int
    left: str
    right: str
    tasks: tuple[int, int]
    sort: str

    def perform(self, world: World) -> object:
        first = 2 * self.connection
        if first in world.ends:
            return None
        if self.sort == "pipe":
            reading, writing = os.pipe()
        else:
            reading, writing = (sock.detach() for sock in socket.socketpair())
        self._end(world, first, self.left, writing, self.tasks[0])
        self._end(world, first + 1, self.right, reading, self.tasks[1])
        return None

    def _end(self, world: World, number: int, shape: str, descriptor: int, task: int) -> None:
        file = File(descriptor)
        world.clean_up.callback(file.close)
        if shape == "file":
            FileEnd(world, number, file)
            return
        end = PipeEnd(world, number)
        loop = world.loop
        connect: Callable[..., Any] = (
            loop.connect_read_pipe if number % 2 else loop.connect_write_pipe
        )
        world.start(task, lambda: made(connect(end.new_protocol, file)), ends=True)

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        if not dice.may_connect():
            return None
        shapes = ["pipe", "pipe", "file"]
        left, right = dice.pick(shapes), dice.pick(shapes)
        shapes_of = {"pipe": "protocol", "file": "socket"}
        connection = dice.new_connection(shapes_of[left], shapes_of[right])
        tasks = dice.new(dice.tasks), dice.new(dice.tasks)
        return cls(connection, left, right, tasks, dice.pick(["pipe", "pipe", "sockets"]))
