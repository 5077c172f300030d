"""What a program is: steps, and the dice that draw them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")

#: More bytes than the kernel takes for one connection; see `ends.SOCKET_BUFFER`.
BIG = 1024 * 1024


@dataclass(frozen=True)
class Step:
    """One operation of a program.

    A step names what it is about by number.  If there is no such thing it does nothing, so a
    program is a program whatever steps are taken out of it.
    """

    def perform(self, world: World) -> object:
        """Do it; what is returned is noted, unless it is None.  What it raises is noted too."""
        raise NotImplementedError

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        """One such step with random fields; None if the program has nothing to do it with."""
        raise NotImplementedError


@dataclass(frozen=True)
class Holding(Step):
    """A step that holds others, which are performed in a callback."""

    steps: tuple[Step, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Pause(Step):
    """A step that takes time.  It stands at the top of a program only."""

    async def wait(self, world: World) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Settle(Pause):
    """Wait until nothing is under way any more, and begin the next moment."""

    async def wait(self, world: World) -> None:
        await world.settle()


@dataclass(frozen=True)
class Turns(Pause):
    """Let the loop go round a few times, with whatever is under way."""

    count: int

    async def wait(self, world: World) -> None:
        await world.turns(self.count)

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        return cls(dice.number(1, 4))


@dataclass(frozen=True)
class Program:
    """What a seed stands for, or what is left of it when it has been shrunk."""

    kind: str
    steps: tuple[Step, ...]
    debug: bool = False

    def __str__(self) -> str:
        """As source, a step on each line."""
        lines = [f"    {step!r}," for step in self.steps]
        options = ", debug=True" if self.debug else ""
        return "\n".join([f"Program({self.kind!r}, (", *lines, f"){options})"])


#: A way to draw a step; it gives None if there is nothing to do it with.
Draw = Callable[["Dice"], "Step | None"]

#: Ways, and how often each is taken, compared with others.
Table = Sequence[tuple[Draw, int]]


class Dice:
    """Draws steps, and remembers what the program has to do things with."""

    def __init__(self, seed: str, table: Table, one_way: bool = False) -> None:
        self.random = random.Random(seed)
        self._draws = [draw for draw, _ in table]
        # Each program prefers some steps and lacks others, so that in some programs such stand
        # beside each other as seldom do.
        self._weights = [weight * self.pick([0, 1, 1, 4]) for _, weight in table]
        #: How many connections the program may have: with few, more happens to each.
        self.connections = self.pick([1, 1, 1, 2, 2, 4])
        #: Whether bytes only go from the left end of a connection to the right one.
        self.one_way = one_way
        #: The shapes of ends, by number; connection n has the ends 2n and 2n + 1.
        self.ends: dict[int, str] = {}
        #: The shapes of the ends that servers make, by the servers' numbers.
        self.servers: dict[int, str] = {}
        #: Numbers of listening sockets, handles, tasks.
        self.listeners: list[int] = []
        self.handles: list[int] = []
        self.tasks: list[int] = []
        #: Bytes that each end has written so far, if every step does what it says.
        self.written: dict[int, int] = {}
        #: Steps that belong behind the one that is being drawn.
        self.next: list[Step] = []
        self._depth = 0
        self._big = 0

    # ---- numbers ----

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def pick(self, values: Sequence[T]) -> T:
        return self.random.choice(values)

    def size(self) -> int:
        """How much to write: mostly little, sometimes more than the kernel takes."""
        sort = self.random.random()
        if sort < 0.6:
            return self.number(1, 20)
        if sort < 0.8:
            return self.number(21, 2000)
        if sort < 0.87:
            return self.number(15_000, 20_000)
        return self.big() if sort < 0.97 else 0

    def big(self) -> int:
        """BIG, a few times; it takes its time."""
        self._big += 1
        return BIG if self._big <= 3 else 20

    def buffer(self) -> int:
        """The size of a buffered protocol's buffer; an empty one is a mistake."""
        return self.pick([1000, 1000, 5000, 70_000]) if self.chance(0.95) else 0

    # ---- things ----

    def wrote(self, end: int, size: int) -> None:
        self.written[end] = self.written.get(end, 0) + size

    @staticmethod
    def new(numbers: list[int]) -> int:
        numbers.append(len(numbers))
        return numbers[-1]

    def may_connect(self) -> bool:
        return len(self.ends) < 2 * self.connections

    def new_connection(self, left: str, right: str) -> int:
        connection = len(self.ends) // 2
        self.ends[2 * connection] = left
        self.ends[2 * connection + 1] = right
        return connection

    def any(self, numbers: Sequence[int]) -> int | None:
        return self.pick(numbers) if numbers else None

    def end(self, *shapes: str, sends: bool | None = None) -> int | None:
        """An end of one of these shapes, or of any; if bytes go one way only, one that sends, or
        one that receives.
        """
        ends = [n for n, shape in self.ends.items() if not shapes or shape in shapes]
        if self.one_way and sends is not None:
            ends = [n for n in ends if (n % 2 == 0) == sends]
        return self.any(ends)

    # ---- steps ----

    def step(self) -> Step:
        """A step that has something to do it with."""
        if self.next:
            return self.next.pop(0)
        for _ in range(100):
            (draw,) = self.random.choices(self._draws, self._weights)
            step = draw(self)
            if step is not None:
                return step
        return Settle()

    def nested(self, most: int = 3) -> tuple[Step, ...]:
        """Steps for a callback; few, and fewer the deeper it stands."""
        if self._depth >= 2:
            return ()
        self._depth += 1
        steps = [self.step() for _ in range(self.number(0, most))]
        self._depth -= 1
        inside = [step for step in steps if not isinstance(step, Pause)]
        if self.chance(0.12):
            inside.append(Raise(self.pick(["LookupError", "OSError", "Interrupt"])))
        return tuple(inside)

    def nested_for(self, callback: str) -> tuple[Step, ...]:
        """Steps for this callback of a protocol."""
        steps = self.nested()
        # An interrupt leaves the loop.  In the next run CPython's tells the same end again; after
        # resume_writing() it cannot go on; pause_writing() lets it out of write().
        if callback in ("eof_received", "pause_writing", "resume_writing"):
            return tuple(step for step in steps if step != Raise("Interrupt"))
        return steps


class Interrupt(KeyboardInterrupt):
    """What leaves a loop."""


@dataclass(frozen=True)
class Raise(Step):
    """Raise out of the callback in which this stands."""

    error: str

    def exception(self) -> BaseException:
        errors = {"LookupError": LookupError, "OSError": OSError, "Interrupt": Interrupt}
        return errors[self.error]("deliberate")
