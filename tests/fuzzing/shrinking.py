"""Taking out of a program what does not matter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from .programs import Holding, Program, Step


def shrink(program: Program, fails: Callable[[Program], bool]) -> Program:
    """A program that still fails, and does not without any one of its steps."""
    size = len(program.steps)
    while size:
        smaller = next((p for p in _without(program, size) if fails(p)), None)
        if smaller is not None:
            program = smaller
            size = min(size, len(program.steps))
        else:
            size //= 2
    while True:
        smaller = next((p for p in _simpler(program) if fails(p)), None)
        if smaller is None:
            return program
        program = smaller


def _without(program: Program, size: int) -> Iterator[Program]:
    """The program without `size` steps of its top, wherever they stand."""
    for start in range(0, len(program.steps), size):
        steps = program.steps[:start] + program.steps[start + size :]
        yield dataclasses.replace(program, steps=steps)


def _simpler(program: Program) -> Iterator[Program]:
    """The programs that are one step, or the debug mode, less."""
    if program.debug:
        yield dataclasses.replace(program, debug=False)
    for steps in _fewer(program.steps):
        yield dataclasses.replace(program, steps=steps)


def _fewer(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    for index, step in enumerate(steps):
        before, after = steps[:index], steps[index + 1 :]
        yield before + after
        if isinstance(step, Holding):
            for inside in _fewer(step.steps):
                yield (*before, dataclasses.replace(step, steps=inside), *after)
