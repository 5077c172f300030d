"""Steps of the loop itself: callbacks, timers, threads, contexts, errors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .programs import Dice, Holding, Step
from .world import MAIN, VARIABLE, World


def _ran(world: World, line: str, number: int, steps: tuple[Step, ...]) -> Callable[[], None]:
    """The callback of handle `number`."""

    def run() -> None:
        world.awaited.discard(line)
        with world.on(line):
            world.note(f"handle {number} runs", VARIABLE.get())
            world.perform(steps)

    return run


@dataclass(frozen=True)
class CallSoon(Holding):
    """A callback of the next iteration, or of the one after; its order is that of the calls."""

    handle: int
    how: str = "soon"

    def perform(self, world: World) -> object:
        loop = world.loop
        # Beside the program's own steps, which are performed while callbacks run.
        line = "callbacks" if world.line == MAIN else world.line
        run = _ran(world, line, self.handle, self.steps)
        schedule: dict[str, Callable[[], asyncio.Handle]] = {
            "soon": lambda: loop.call_soon(run),
            "threadsafe": lambda: loop.call_soon_threadsafe(run),
            "later": lambda: loop.call_later(0, run),
            "past": lambda: loop.call_at(loop.time() - 1, run),
        }
        world.handles[self.handle] = schedule[self.how]()
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        how = dice.pick(["soon", "soon", "soon", "threadsafe", "later", "past"])
        return cls(dice.new(dice.handles), how, steps=dice.nested())


@dataclass(frozen=True)
class CallLater(Holding):
    """A timer, on a line of its own: how it stands to anything else depends on the machine."""

    handle: int
    milliseconds: float

    def perform(self, world: World) -> object:
        line = f"timer {self.handle}"
        run = _ran(world, line, self.handle, self.steps)
        world.handles[self.handle] = world.loop.call_later(self.milliseconds / 1000, run)
        if self.milliseconds < 1000:
            world.awaited.add(line)
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        milliseconds = dice.pick([1, 2, 3.5, 1e6])
        return cls(dice.new(dice.handles), milliseconds, steps=dice.nested())


@dataclass(frozen=True)
class Timers(Step):
    """Several timers at once, some of them cancelled; they run in the order of their deadlines."""

    number: int
    milliseconds: tuple[float, ...]
    cancelled: tuple[int, ...]

    def perform(self, world: World) -> object:
        base = world.loop.time()
        line = f"timers {self.number}"
        handles = []
        for number, delay in enumerate(self.milliseconds):
            awaited = f"{line}, number {number}"

            def run(number: int = number, awaited: str = awaited) -> None:
                world.awaited.discard(awaited)
                world.note_on(line, number)

            world.awaited.add(awaited)
            handles.append(world.loop.call_at(base + delay / 1000, run))
        for number in self.cancelled:
            handles[number].cancel()
            world.awaited.discard(f"{line}, number {number}")
        return [handle.cancelled() for handle in handles]

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        count = dice.number(1, 8)
        delays = [number / 4 for number in dice.random.sample(range(-4, 16), count)]
        cancelled = [number for number in range(count) if dice.chance(0.25)]
        return cls(dice.new(dice.handles), tuple(delays), tuple(cancelled))


@dataclass(frozen=True)
class CallSoonOnThread(Holding):
    """`call_soon_threadsafe` on another thread, which begins to run now."""

    handle: int
    joined: bool
    safe: bool = True

    def perform(self, world: World) -> object:
        line = f"thread {self.handle}"
        run = _ran(world, line, self.handle, self.steps)
        loop = world.loop
        refused: list[BaseException] = []

        def call() -> None:
            if not self.joined:
                time.sleep(0.001)
            try:
                (loop.call_soon_threadsafe if self.safe else loop.call_soon)(run)
            except RuntimeError as error:
                refused.append(error)

        # Without debug mode a call that is not thread-safe is not refused, but may not be noticed.
        if not self.safe and not loop.get_debug():
            return None
        if self.safe:
            world.awaited.add(line)
        thread = threading.Thread(target=call)
        thread.start()
        if self.joined or not self.safe:
            thread.join()
        else:
            world.clean_up.callback(thread.join)
        return refused[0] if refused else None

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        safe = dice.chance(0.9)
        return cls(dice.new(dice.handles), dice.chance(0.5), safe, steps=dice.nested())


@dataclass(frozen=True)
class Cancel(Step):
    """Cancel a handle, which may have run."""

    handle: int

    def perform(self, world: World) -> object:
        handle = world.handles.get(self.handle)
        if handle is None:
            return None
        before = handle.cancelled()
        handle.cancel()
        for awaited in (f"timer {self.handle}", f"thread {self.handle}"):
            world.awaited.discard(awaited)
        return before, handle.cancelled()

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        handle = dice.any(dice.handles)
        return None if handle is None else cls(handle)


@dataclass(frozen=True)
class SetVariable(Step):
    """Set the context variable: in this context, and in copies that are made from now on."""

    value: int

    def perform(self, world: World) -> object:
        VARIABLE.set(self.value)
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        return cls(dice.number(1, 99))


@dataclass(frozen=True)
class Stop(Step):
    """Stop the loop at the end of this iteration; it is run again at once."""

    def perform(self, world: World) -> object:
        world.loop.stop()
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        return cls()


@dataclass(frozen=True)
class Report(Step):
    """Call the exception handler, which from now on fails or does not."""

    fails: bool

    def perform(self, world: World) -> object:
        world.handler_fails = self.fails
        world.loop.call_exception_handler({"message": "from the program"})
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        return cls(dice.chance(0.3))


@dataclass(frozen=True)
class CancelTask(Step):
    """Cancel a task, which may be done."""

    task: int

    def perform(self, world: World) -> object:
        task = world.tasks.get(self.task)
        return None if task is None or self.task in world.protected else task.cancel()

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        task = dice.any(dice.tasks)
        return None if task is None else cls(task)


@dataclass(frozen=True)
class InExecutor(Step):
    """A call on a thread of the pool."""

    task: int
    fails: bool

    def perform(self, world: World) -> object:
        def call() -> str:
            if self.fails:
                raise LookupError("in the executor")
            return "a result"

        async def execute() -> str:
            return await world.loop.run_in_executor(None, call)

        world.start(self.task, execute, ends=True)
        return None

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        return cls(dice.new(dice.tasks), dice.chance(0.3))


@dataclass(frozen=True)
class Refused(Step):
    """Calls that the loop refuses.  (3.13.0's forgets that it runs if it is run again.)"""

    what: str

    def perform(self, world: World) -> object:
        loop = world.loop
        calls: dict[str, Callable[[], object]] = {
            "close": loop.close,
            "no callback": lambda: loop.call_soon(None),  # type: ignore[arg-type]
            "no handler": lambda: loop.set_exception_handler(3),  # type: ignore[arg-type]
        }
        return calls[self.what]()

    @classmethod
    def draw(cls, dice: Dice) -> Step:
        return cls(dice.pick(["close", "no callback", "no handler"]))
