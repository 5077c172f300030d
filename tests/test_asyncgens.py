"""Asynchronous generators: the loop's hooks, and closing what was left half-way."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator

import pytest

from .support import Errors, Loop, turns


async def counting(log: list[str]) -> AsyncIterator[int]:
    """Counts for ever; its clean-up needs the loop."""
    try:
        for number in range(1_000_000):
            yield number
    finally:
        await asyncio.sleep(0)
        log.append("closed")


def test_the_hooks_are_set_only_while_running(loop: Loop) -> None:
    before = sys.get_asyncgen_hooks()

    async def main() -> None:
        hooks = sys.get_asyncgen_hooks()
        assert hooks.firstiter is not None
        assert hooks.finalizer is not None
        assert hooks != before

    loop.run_until_complete(main())
    assert sys.get_asyncgen_hooks() == before


async def test_shutdown_closes_generators_that_are_half_way(loop: Loop) -> None:
    log: list[str] = []
    generators = [counting(log) for _ in range(3)]
    for generator in generators:
        assert await generator.__anext__() == 0
    assert log == []
    await loop.shutdown_asyncgens()
    assert log == ["closed"] * 3


async def test_shutdown_without_generators(loop: Loop) -> None:
    await loop.shutdown_asyncgens()
    await loop.shutdown_asyncgens()


async def test_a_forgotten_generator_is_closed_by_the_loop(loop: Loop) -> None:
    log: list[str] = []
    generator = counting(log)
    await generator.__anext__()
    del generator
    gc.collect()
    await turns(5)
    assert log == ["closed"]


async def test_an_exception_while_closing_is_reported(loop: Loop, errors: Errors) -> None:
    async def failing() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise LookupError("in clean-up")

    generator = failing()
    await generator.__anext__()
    await loop.shutdown_asyncgens()
    context = errors.take_one()
    assert context["message"] == (
        f"an error occurred during closing of asynchronous generator {generator!r}"
    )
    assert str(context["exception"]) == "in clean-up"
    assert context["asyncgen"] is generator


async def test_a_generator_started_after_shutdown_warns(loop: Loop) -> None:
    log: list[str] = []
    await loop.shutdown_asyncgens()
    generator = counting(log)
    text = r"^asynchronous generator .* was scheduled after loop\.shutdown_asyncgens\(\) call$"
    with pytest.warns(ResourceWarning, match=text):
        await generator.__anext__()
    await generator.aclose()  # type: ignore[attr-defined]
