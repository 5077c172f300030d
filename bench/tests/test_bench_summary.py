"""The figures that the benchmark reports, from samples that are made up."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from aioxide_bench import catalogue, environment, plot, table
from aioxide_bench.catalogue import (
    FLOOR,
    PYTHON_CONTENDERS,
    PYTHON_TLS_CONTENDERS,
    Contender,
    Role,
    Row,
)
from aioxide_bench.environment import packages
from aioxide_bench.measure import (
    Cores,
    Launch,
    MeasurementFailed,
    Sample,
    Session,
    Timing,
    sum_of,
)
from aioxide_bench.prepare import python_packages
from aioxide_bench.progress import Progress
from aioxide_bench.rounds import Outcome, Schedule, run_rounds, run_turns, shuffled
from aioxide_bench.summary import Line, Result, summarise, verdict

ROW = Row("protocol-1k", "protocol", 1024, 16, quick=True)
OURS, ASYNCIO, UVLOOP, RLOOP = PYTHON_CONTENDERS[:4]


def sample(cpu_us: float) -> Sample:
    """A window of one second with a thousand requests."""
    return Sample(
        requests=1000,
        elapsed_ns=10**9,
        server_cpu_ns=int(cpu_us * 1e6),
        client_cpu_ns=10**8,
        p50_ns=100_000,
        p99_ns=200_000,
        left_open=0,
    )


def outcome(contender: Contender, *cpu_us: float) -> Outcome:
    return Outcome(contender, [sample(each) for each in cpu_us])


def line(result: Result, contender: Contender) -> Line:
    return next(line for line in result.lines if line.contender is contender)


def test_ratios_are_medians_of_the_rounds_ratios() -> None:
    # The machine is twice as slow in the second round: medians move, the ratio does not.
    result = summarise(
        ROW,
        [
            outcome(OURS, 8, 16, 8),
            outcome(ASYNCIO, 12, 24, 12),
            outcome(UVLOOP, 10, 20, 10),
            outcome(FLOOR, 6, 12, 8),
        ],
    )
    assert result.best_peer is UVLOOP
    figures = line(result, OURS).figures
    assert figures is not None
    assert figures.cost == 8
    assert (figures.cost_low, figures.cost_high) == (8, 12)
    assert figures.to_best_peer == 0.8
    assert figures.to_floor == 8 / 6
    assert verdict(result) == "won"


def test_a_contender_that_failed_or_is_missing_is_shown_and_not_compared() -> None:
    broken = outcome(UVLOOP, 1)
    broken.failure = "closed early"
    result = summarise(
        ROW,
        [outcome(OURS, 8, 8), outcome(ASYNCIO, 7, 7), broken, Outcome(RLOOP, missing="no wheel")],
    )
    assert result.best_peer is ASYNCIO
    assert verdict(result) == "lost"
    block = table.row_block(result)
    assert "failed: closed early" in block
    assert "missing: no wheel" in block


def test_every_round_has_every_contender_once_until_it_fails() -> None:
    order: list[str] = []

    def measure(contender: Contender) -> Sample:
        order.append(contender.name)
        if contender is RLOOP and order.count("rloop") == 2:
            raise MeasurementFailed("stalled")
        return sample(10)

    contenders = [OURS, UVLOOP, RLOOP]
    outcomes = run_rounds(ROW, contenders, {}, 4, 1, measure, lambda number, contender: None)
    rounds = [set(order[0:3]), set(order[3:6]), set(order[6:8]), set(order[8:10])]
    assert rounds == [{"aioxide", "uvloop", "rloop"}] * 2 + [{"aioxide", "uvloop"}] * 2
    assert [len(each.samples) for each in outcomes] == [4, 4, 1]
    assert outcomes[2].failure == "stalled"


def turns(*cpu_us: float) -> Sample:
    return sum_of([sample(each) for each in cpu_us], left_open=0)


def test_a_rounds_ratio_is_the_median_of_its_cycles_ratios() -> None:
    # The machine slows down between two cycles: the ratio does not see it.
    peer = Outcome(UVLOOP, [turns(10, 10, 15, 15), turns(15, 15, 15, 10)])
    ours = Outcome(OURS, [turns(8, 8, 12, 12), turns(12, 12, 12, 8)])
    figures = line(summarise(ROW, [ours, peer]), OURS).figures
    assert figures is not None
    assert figures.to_best_peer == pytest.approx(0.8)
    assert [figures.ratio_low, figures.ratio_high] == [pytest.approx(0.8)] * 2
    # Nor do the costs: a cycle is slow more often than not, and so they are those of a slow one.
    assert [figures.cost_low, figures.cost_high] == [pytest.approx(12)] * 2


def test_a_sample_of_turns_is_read_back_as_it_was_written() -> None:
    for written in (turns(8, 9), sample(10)):
        assert Sample.from_json(json.loads(json.dumps(written.as_json()))) == written


class Turns:
    """A session whose turns cost what they are given, one after the other."""

    def __init__(self, contender: Contender, log: list[str], fails_at: int | None = None) -> None:
        self.name, self.log, self.fails_at = contender.name, log, fails_at
        self.samples: list[Sample] = []

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.append(f"{self.name} is gone")

    def begin(self) -> None:
        self.log.append(f"{self.name} begins")

    def turn(self, timing: Timing) -> Sample:
        self.log.append(self.name)
        if len(self.samples) == self.fails_at:
            raise MeasurementFailed("stalled")
        self.samples.append(sample(10))
        return self.samples[-1]

    def rest(self) -> None:
        pass

    def end(self) -> Sample:
        return sum_of(self.samples, 0)


def test_contenders_take_turns_and_are_alive_together() -> None:
    log: list[str] = []
    schedule = Schedule(2, 5, 0.1, 3, Timing(0, 1))

    def start(contender: Contender) -> Any:
        return Turns(contender, log, fails_at=1 if contender is RLOOP else None)

    def steady(outcomes: Sequence[Outcome]) -> bool:
        return len(outcomes[0].samples) >= 4

    seen: list[int] = []
    outcomes = run_turns(ROW, [OURS, UVLOOP, RLOOP], {}, schedule, 1, start, steady, seen.append)
    # Two were asked for, and the result was steady after four.
    assert seen == [0, 1, 2, 3]
    first = log[: log.index("aioxide is gone")]
    assert {*first[:3]} == {"aioxide begins", "uvloop begins", "rloop begins"}
    assert {*first[3:6]} == {"aioxide", "uvloop", "rloop"}
    assert {*first[9:11]} == {"aioxide", "uvloop"}
    assert [len(each.samples) for each in outcomes] == [4, 4, 0]
    assert [len(each.turns) for each in outcomes[0].samples] == [3] * 4
    assert outcomes[2].failure == "stalled"
    assert log.count("rloop is gone") == 1


def test_a_round_whose_turns_are_too_long_has_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))

    def any_session(contender: Contender) -> Any:
        return Turns(contender, [])

    # A cycle takes a second, and should take 0.2.
    schedule = Schedule(1, 1, 0.1, 50, Timing(0, 0.1))
    outcomes = run_turns(
        ROW, [OURS, UVLOOP], {}, schedule, 1, any_session, lambda _: True, lambda _: None
    )
    turns = [len(each.samples[0].turns) for each in outcomes]
    assert turns[0] == turns[1] == 18


def test_a_session_says_what_went_wrong(tmp_path: Path) -> None:
    launch = Launch((sys.executable, "-c", "import sys; sys.exit('no loop')"))
    row = next(row for row in catalogue.rows() if row.in_process)
    with Session(launch, (), row, Cores(None, None), None) as session:
        session.begin()
        with pytest.raises(MeasurementFailed, match=r"ended with status 1\nno loop"):
            session.turn(Timing(0, 0.01))


def test_a_turn_in_which_nothing_happened_is_taken_again_and_longer() -> None:
    program = """
import sys
for line in sys.stdin:
    window = float(line.split()[1])
    print('{"requests": %d, "elapsed_ns": 1, "server_cpu_ns": 1}' % (window > 1), flush=True)
"""
    launch = Launch((sys.executable, "-c", program))
    row = next(row for row in catalogue.rows() if row.in_process)
    with Session(launch, (), row, Cores(None, None), None) as session:
        assert session.turn(Timing(0, 0.3)).requests == 1
        with pytest.raises(MeasurementFailed, match="no request"):
            session.turn(Timing(0, 0.01))


def test_the_picture_is_xml_and_names_every_contender() -> None:
    result = summarise(
        ROW, [outcome(OURS, 8), Outcome(UVLOOP, missing="<none>"), outcome(FLOOR, 6)]
    )
    picture = ElementTree.fromstring(plot.picture([result, result, result], "a & b"))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "a & b" in texts
    assert texts.count("aioxide") == texts.count("raw-epoll") == texts.count("missing") == 3


def test_rows_are_selected_by_pattern() -> None:
    keys = [row.key for row in catalogue.select(catalogue.rows(), ["streams-*", "rust-1k-1"])]
    assert keys == ["streams-1k", "streams-100k", "rust-1k-1"]


def test_another_setting_of_ours_is_shown_and_neither_wins_nor_loses() -> None:
    row = Row("tls-handshakes", "protocol", 1024, 16, quick=False, tls=True, handshakes=True)
    ours, variant, peer = PYTHON_TLS_CONTENDERS[:3]
    assert [each.role for each in (ours, variant, peer)] == [Role.OURS, Role.VARIANT, Role.PEER]
    result = summarise(row, [outcome(variant, 5), outcome(ours, 500), outcome(peer, 400)])
    assert result.best_peer is peer
    assert verdict(result) == "lost"
    block = table.row_block(result)
    assert "aioxide-portable: 200,000 handshakes/s of one core" in block
    assert "aioxide: 2,000 handshakes/s of one core" in block


def test_rows_over_tls_have_contenders_that_speak_it() -> None:
    rows = {row.key: row for row in catalogue.rows()}
    for key, row in rows.items():
        names = [contender.name for contender in row.contenders]
        assert row.tls == ("tls-" in key)
        assert row.tls == ("rloop" not in names and FLOOR not in row.contenders), key
    assert [key for key, row in rows.items() if row.tls and row.quick] == ["tls-protocol-1k"]


def test_a_server_over_a_unix_socket_is_told_its_path() -> None:
    launch = Launch(("server",), has_modes=True)
    command = launch.command_for("protocol", 1024, None, path=Path("/run/socket"))
    assert command[1:3] == ["--path", "/run/socket"]
    assert [row.key for row in catalogue.rows() if row.unix] == ["unix-1k"]


def test_datagrams_have_a_floor_of_their_own() -> None:
    (row,) = [row for row in catalogue.rows() if row.datagrams]
    assert FLOOR not in row.contenders
    assert row.contenders[-1].role is Role.FLOOR


def test_datagrams_that_were_lost_are_told() -> None:
    lossy = outcome(UVLOOP, 5)
    lossy.samples[0] = replace(lossy.samples[0], resent=3)
    assert "uvloop lost 3 datagrams" in table.row_block(summarise(ROW, [outcome(OURS, 4), lossy]))


def test_connections_are_counted_for_a_core() -> None:
    row = Row("connect-1k", "protocol", 1024, 16, quick=True, handshakes=True)
    block = table.row_block(summarise(row, [outcome(OURS, 20), outcome(UVLOOP, 25)]))
    assert "aioxide: 50,000 connections/s of one core" in block


def test_web_rows_run_every_loop_and_no_floor() -> None:
    rows = [row for row in catalogue.rows() if row.http]
    assert [row.key for row in rows] == ["uvicorn-hello", "aiohttp-hello"]
    assert rows[0].title == "ASGI hello, uvicorn with httptools, 13 bytes, 16 connections"
    for row in rows:
        assert [c.loop for c in row.contenders] == [c.loop for c in PYTHON_CONTENDERS if c.loop]
        assert all(c.program == "hello.py" for c in row.contenders)
    assert {"uvloop", "uvicorn", "httptools"} <= {*python_packages(rows[0].contenders)}


def test_operations_are_told_in_nanoseconds() -> None:
    row = next(row for row in catalogue.rows() if row.key == "loop-sleep-zero")
    ours, peer = row.contenders[:2]
    result = summarise(row, [outcome(ours, 0.25), outcome(peer, 0.5)])
    block = table.row_block(result)
    assert "CPU ns/operation" in block
    assert "250.00" in block and "500.00" in block
    assert "CPU ns/operation        250.00" in table.closing_table([result])
    assert "250.0 ns/operation" in plot.picture([result], "")


def test_bulk_is_told_in_mebibytes() -> None:
    row = next(row for row in catalogue.rows() if row.key == "bulk-send")
    assert row.title == "Bulk, the server sends, 1 connection"
    assert [row.bulk for row in catalogue.rows() if row.bulk] == ["receive", "send", "send"]
    # A thousand KiB in a second, each of which costs a microsecond.
    block = table.row_block(summarise(row, [outcome(row.contenders[0], 1)]))
    assert "CPU µs/MiB" in block and "MiB/s" in block
    assert "1024.00" in block


def test_the_works_of_the_program_are_those_of_the_rows() -> None:
    program = (Path(catalogue.__file__).parent.parent / "servers" / "in_process.py").read_text()
    for row in catalogue.rows():
        if row.in_process:
            assert f'    "{row.mode}": ' in program


def test_a_loop_over_another_needs_the_packages_of_both() -> None:
    assert packages("aiofastnet+uvloop") == ["aiofastnet", "uvloop"]
    assert packages("aiofastnet+asyncio") == ["aiofastnet"]
    assert packages("asyncio") == []


def test_an_environment_without_pip_is_installed_for_by_another_interpreters_pip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands: list[list[str]] = []

    def run(command: Sequence[str], patience: float = 0) -> subprocess.CompletedProcess[str]:
        commands.append([*command])
        lacks_pip = command[0] in ("/env/bin/python", "base") and "pip" in command
        return subprocess.CompletedProcess([*command], int(lacks_pip), "", "no pip")

    monkeypatch.setattr(environment, "run", run)
    environment.Environment(Path("/env"), "base", Progress()).install_ours(Path("a.whl"))
    install = next(command for command in commands if "a.whl" in command)
    assert install[:5] == [sys.executable, "-m", "pip", "--python", "/env/bin/python"]


def test_the_same_seed_gives_the_same_order() -> None:
    things = list(range(20))
    assert shuffled(things, "1 a") == shuffled(things, "1 a") != shuffled(things, "1 b")
    assert sorted(shuffled(things, "1 a")) == things
