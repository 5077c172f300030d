"""A program on one loop, from the making of the loop to what it has left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from .ends import NOT_HERE, SocketEnd, TransportEnd
from .programs import Interrupt, Program
from .world import Endless, Trace, World, drive

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

#: No callback is reported as slow.
NEVER_SLOW = 1000.0


def run(program: Program, factory: LoopFactory) -> Trace:
    """What the program saw."""
    # What was there before is no matter of this run, and is not looked at by its collection.
    gc.freeze()
    before = _descriptors()
    world = World(factory())
    try:
        with _noted(world):
            _run_in(world, program)
            world.close()
            gc.collect()
        left = len(_descriptors() - before)
        if left:
            world.note_on("left", f"{left} descriptors")
    finally:
        gc.unfreeze()
    return world.trace()


def _run_in(world: World, program: Program) -> None:
    loop = world.loop
    loop.set_debug(program.debug)
    loop.slow_callback_duration = NEVER_SLOW
    loop.set_exception_handler(world.report)
    try:
        _run_to_end(world, drive(world, program.steps))
        _run_to_end(world, _end(world))
        loop.run_until_complete(loop.shutdown_default_executor())
    except Endless:
        world.lines = {"endless": []}
    loop.close()
    world.clean_up.close()


def _run_to_end(world: World, driving: Any) -> None:
    """Run the loop until the driver is done, again after whatever ends it before."""
    task = world.loop.create_task(driving)
    while not task.done():
        try:
            world.loop.run_until_complete(task)
        except Interrupt as interrupt:
            world.note_on("loop", "left by", interrupt)
        except RuntimeError as error:
            world.note_on("loop", "left by", error)
    task.result()


async def _end(world: World) -> None:
    """End everything that a program may have left open."""
    await world.settle()
    loop = world.loop
    with world.on("end"):
        for _, end in sorted(world.ends.items()):
            world.note(end.line, end.state())
    for task in list(world.tasks.values()):
        task.cancel()
    await world.turns(3)
    for end in list(world.ends.values()):
        if isinstance(end, SocketEnd) and not end.lost:
            loop.remove_reader(end.sock)
            loop.remove_writer(end.sock)
            end.busy.clear()
            end.close()
        elif isinstance(end, TransportEnd):
            end.reactions.clear()
            if end.abort() == NOT_HERE:
                end.close()
    for server in world.servers.values():
        server.close()
    for handle in world.handles.values():
        handle.cancel()
    world.awaited.clear()
    await world.settle()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        world.note_on("left", f"{len(left)} tasks")


@contextlib.contextmanager
def _noted(world: World) -> Iterator[None]:
    """Note warnings, log records, and exceptions that nobody could be given."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            world.note_on("log", record.levelname, record.getMessage().split("\n", 1)[0])

    def unraisable(what: Any) -> None:
        world.note_on("unraisable", what.exc_value)

    logger = logging.getLogger("asyncio")
    handler = Handler(logging.WARNING)
    propagate, hook = logger.propagate, sys.unraisablehook
    logger.addHandler(handler)
    logger.propagate = False
    sys.unraisablehook = unraisable
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            world.note_on("warnings", warning.category.__name__, str(warning.message))
    finally:
        logger.removeHandler(handler)
        logger.propagate, sys.unraisablehook = propagate, hook


def _descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))
