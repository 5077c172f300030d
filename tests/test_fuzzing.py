"""The bounded run of the differential fuzzer, what it has found before, and whether it can find.

`tests/fuzzing` says what it is; ``python -m tests.fuzzing --seeds 20000`` runs it for longer.
"""

from __future__ import annotations

from typing import Any

import pytest

from .fuzzing import (
    callbacks,
    connections,
    datagrams,
    descriptors,
    pipes,
    programs,
    servers,
    streams,
)
from .fuzzing.faults import FAULTS, Fault, clean_up
from .fuzzing.judging import Verdict, judge
from .fuzzing.kinds import KINDS, draw
from .fuzzing.programs import Program
from .fuzzing.regressions import REGRESSIONS
from .fuzzing.shrinking import shrink
from .support import LoopFactory

#: Seeds of one test, and how many such tests there are for each kind of programs.
SEEDS = 20
RUNS = {"tcp": 10, "unix": 4, "datagrams": 4, "pipes": 4, "callbacks": 2}

#: Seeds within which each fault must be found.
FINDING = 200


@pytest.mark.parametrize(
    ("sort", "first"), [(sort, run * SEEDS) for sort, runs in RUNS.items() for run in range(runs)]
)
def test_random_programs_see_the_same(package: Any, sort: str, first: int) -> None:
    for seed in range(first, first + SEEDS):
        print(f"{sort}, seed {seed}")  # is shown if it hangs
        program = draw(sort, seed)
        judgement = judge(program, package.new_event_loop)
        if judgement.verdict is Verdict.DIFFERENT:
            pytest.fail(f"seed {seed} sees something else\n{judgement}\n{program}")


@pytest.mark.parametrize("sentence", REGRESSIONS)
def test_what_was_found(loop_factory: LoopFactory, sentence: str) -> None:
    judgement = judge(REGRESSIONS[sentence], loop_factory)
    assert judgement.verdict is Verdict.EQUAL, f"not true: {sentence}\n{judgement}"


def differs(program: Program, fault: Fault) -> bool:
    return judge(program, fault).verdict is Verdict.DIFFERENT


def first_different(fault: Fault) -> Program:
    """The first program to which a fault makes a difference."""
    for seed in range(FINDING):
        program = draw("tcp", seed)
        if differs(program, fault):
            return program
    pytest.fail("the fault was not found")


@pytest.mark.parametrize("sentence", FAULTS)
def test_a_faulty_loop_is_found_out(sentence: str) -> None:
    try:
        first_different(FAULTS[sentence])
    finally:
        clean_up()


def test_a_program_is_shrunk_to_what_makes_the_difference() -> None:
    fault = FAULTS["the end of the stream is not told"]
    small = shrink(first_different(fault), lambda program: differs(program, fault))
    assert len(small.steps) <= 4
    assert "eof_received" in str(judge(small, fault))


@pytest.mark.parametrize("sort", KINDS)
def test_a_program_is_printed_as_source(sort: str) -> None:
    names: dict[str, Any] = {}
    for module in (programs, callbacks, connections, datagrams, descriptors):
        names.update(vars(module))
    for module in (pipes, servers, streams):
        names.update(vars(module))
    for seed in range(SEEDS):
        program = draw(sort, seed)
        assert eval(str(program), names) == program
