"""Steps of streams: what a program asks a reader and a writer, each in a task."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .ends import StreamEnd
from .programs import Dice, Step, Table
from .world import World


@dataclass(frozen=True)
class Read(Step):
    """A question to the reader."""

    end: int
    task: int
    how: str
    size: int

    def perform(self, world: World) -> object:
        end = world.ends.get(self.end)
        if not isinstance(end, StreamEnd):
            return None
        world.start(self.task, lambda: self._read(end))
        return None

    async def _read(self, end: StreamEnd) -> str:
        reader = end.reader
        try:
            if self.how == "readexactly":
                data = await reader.readexactly(self.size)
            elif self.how == "readline":
                data = await reader.readline()
            elif self.how == "readuntil":
                data = await reader.readuntil(b"ab")
            else:
                data = await reader.read(self.size)
        except asyncio.IncompleteReadError as error:
            return f"incomplete: {end.consumed(error.partial)}, {error.expected} expected"
        return f"{end.consumed(data)}, at_eof={reader.at_eof()}"

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("stream")
        if end is None:
            return None
        how = dice.pick(["read", "read", "readexactly", "readexactly", "readline", "readuntil"])
        size = dice.pick([0, 1, 5, 20, 2500, -1]) if how == "read" else dice.pick([0, 1, 15, 4000])
        return cls(end, dice.new(dice.tasks), how, size)


@dataclass(frozen=True)
class Writing(Step):
    """What one waits for at a writer."""

    end: int
    task: int
    what: str

    def perform(self, world: World) -> object:
        end = world.ends.get(self.end)
        if not isinstance(end, StreamEnd) or end.writer is None:
            return None
        world.start(self.task, getattr(end.writer, self.what))
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        end = dice.end("stream")
        if end is None:
            return None
        return cls(end, dice.new(dice.tasks), dice.pick(["drain", "drain", "wait_closed"]))


OPERATIONS: Table = [
    (Read.draw, 10),
    (Writing.draw, 5),
]
