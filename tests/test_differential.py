"""The same scenario on CPython's loop and on the loop under test: the traces must be equal.

A scenario is a coroutine function that gets the loop and a `note`; what it notes, in order, is its
trace.  Nothing is asserted about the trace itself but that it is long enough to mean something.
(With the parameter ``asyncio`` CPython's loop is compared with itself: the scenario is
deterministic.)
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from . import transport_scenarios
from .scenarios import SCENARIOS, Scenario
from .support import Errors, LoopFactory, turns


def plain(what: tuple[Any, ...]) -> tuple[Any, ...]:
    """Exceptions do not compare; their texts do."""
    return tuple(repr(item) if isinstance(item, BaseException) else item for item in what)


def trace(factory: LoopFactory, scenario: Scenario) -> list[tuple[Any, ...]]:
    """Run a scenario on a fresh loop; what it noted, and what the loop reported."""
    noted: list[tuple[Any, ...]] = []
    errors = Errors()
    loop = factory()
    loop.set_exception_handler(errors.record)
    try:
        loop.run_until_complete(scenario(loop, lambda *what: noted.append(plain(what))))
        loop.run_until_complete(turns(3))
    finally:
        loop.close()
    for context in errors.take():
        noted.append(("reported", sorted(context), type(context["exception"]).__name__))
    return noted


#: Importing the module has added its scenarios to the list.
assert transport_scenarios.__name__


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda function: str(function.__name__))
def test_equal_traces(loop_factory: LoopFactory, scenario: Scenario) -> None:
    expected = trace(asyncio.SelectorEventLoop, scenario)
    assert len(expected) >= 2
    assert trace(loop_factory, scenario) == expected
