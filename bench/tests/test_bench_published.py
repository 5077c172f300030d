"""Rows that compare something else than CPU time, and what is published of a run."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from aioxide_bench import catalogue, cli, compare, environment, idle_memory, overview, record, table
from aioxide_bench.cargo import SetupError
from aioxide_bench.catalogue import MEMORY, Contender, Quantity, Role, Row, Unit
from aioxide_bench.measure import Launch, MeasurementFailed, Sample, Timing, sample_of
from aioxide_bench.prepare import Prepared
from aioxide_bench.process import fate
from aioxide_bench.publish import BEGIN, END, PICTURES, publish
from aioxide_bench.rounds import Outcome
from aioxide_bench.summary import Result, summarise, verdict

OURS = Contender("aioxide", Role.OURS, loop="aioxide")
PEER = Contender("uvloop", Role.PEER, loop="uvloop")
OTHER = Contender("rloop", Role.PEER, loop="rloop")
FLOOR = Contender("raw-epoll", Role.FLOOR)

P99 = Row("a", "protocol", 1024, 1, quick=False, unit=Unit("request", quantity=Quantity.P99))
IDLE = Row("b", "protocol", 1024, 5000, quick=False, unit=MEMORY)


def sample(cpu_us: float = 10, p99_us: float = 30, kib: int = 0) -> Sample:
    cpu_ns, p99_ns = int(cpu_us * 1e6), int(p99_us * 1e3)
    return Sample(1000, 10**9, cpu_ns, p50_ns=p99_ns // 2, p99_ns=p99_ns, resident_kib=kib)


def result(row: Row, ours: Sample, peer: Sample) -> tuple[Result, list[Outcome]]:
    outcomes = [
        Outcome(OURS, [ours]),
        Outcome(PEER, [peer]),
        Outcome(OTHER, failure="crashed\nNotImplementedError: <no|pipe>"),
        Outcome(FLOOR, [sample(5, 20, 1)]),
    ]
    return summarise(row, outcomes), outcomes


def test_a_row_of_latency_compares_latencies_whatever_the_cpu_time() -> None:
    of_latency, _ = result(P99, sample(cpu_us=50, p99_us=20), sample(cpu_us=10, p99_us=40))
    assert verdict(of_latency) == "won"
    ours = of_latency.line(Role.OURS)
    assert ours and ours.figures
    assert (ours.figures.cost, ours.figures.to_best_peer) == (20, 0.5)
    assert "p99 µs" in table.row_block(of_latency).splitlines()[1]


def test_a_row_of_memory_compares_kib_for_each_connection() -> None:
    of_memory, _ = result(IDLE, sample(kib=3000), sample(kib=4000))
    block = table.row_block(of_memory)
    assert "memory KiB/connection" in block
    assert "3.00" in block and "4.00" in block and "0.75" in block
    # How fast they were opened is the client's affair.
    assert "1,000" not in block


def test_a_ratio_within_a_hundredth_of_one_is_level() -> None:
    for cost, outcome in ((984, "won"), (986, "level"), (1014, "level"), (1016, "lost")):
        assert verdict(result(P99, sample(p99_us=cost), sample(p99_us=1000))[0]) == outcome


def test_a_ratio_on_which_the_rounds_do_not_agree_is_level() -> None:
    for ours, outcome in (
        ((9, 9, 9, 11), "won"),
        ((9, 9, 9.1, 11, 11), "level"),
        ((9, 11, 11, 11), "lost"),
    ):
        outcomes = [
            Outcome(OURS, [sample(p99_us=each) for each in ours]),
            Outcome(PEER, [sample(p99_us=10) for _ in ours]),
        ]
        assert verdict(summarise(P99, outcomes)) == outcome, ours


def test_both_percentiles_are_read_off_the_same_samples() -> None:
    rows = {row.key: row for row in catalogue.rows()}
    assert rows["latency-streams-1k-p50"].work == rows["latency-streams-1k-p99"].work
    assert rows["latency-rust-1k-p50"].work == rows["rust-1k-1"].work
    assert rows["latency-streams-1k-p50"].work != rows["latency-protocol-1k-p50"].work
    assert rows["idle-protocol"].work != rows["protocol-1k"].work


def test_every_row_is_in_a_picture() -> None:
    shown = {section for _, _, sections in PICTURES for section in sections}
    assert {row.section for row in catalogue.rows()} == shown
    labels = [(row.section, row.unit.quantity, row.label) for row in catalogue.rows()]
    assert len(set(labels)) == len(labels)


def test_idle_rows_say_when_there_are_too_few_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    reason = idle_memory.why_impossible(IDLE)
    assert reason is not None
    assert "10,100 descriptors" in reason and "4,096" in reason and "--connections 1998" in reason
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    assert idle_memory.why_impossible(IDLE) is None


def test_a_report_of_which_no_ratio_can_be_formed_is_a_failure() -> None:
    assert sample_of('{"requests": 2, "elapsed_ns": 3, "server_cpu_ns": 4}') == Sample(2, 3, 4)
    for report, complaint in (
        ("", "no report"),
        ('{"requests": 1}', "no report"),
        ('{"requests": 0, "elapsed_ns": 1, "server_cpu_ns": 1}', "no request"),
        ('{"requests": 1, "elapsed_ns": 1, "server_cpu_ns": 0}', "clocks"),
    ):
        with pytest.raises(MeasurementFailed, match=complaint):
            sample_of(report)


def test_how_a_process_ended_is_told_in_words() -> None:
    assert fate("server", 1) == "the server ended with status 1"
    assert fate("server", -11) == "the server was ended by SIGSEGV"
    assert fate("program", -40) == "the program was ended by signal 40"


def test_a_command_that_does_not_end_has_failed() -> None:
    done = environment.run(["sleep", "60"], patience=0.05)
    assert done.returncode != 0
    assert "no end" in done.stderr


def test_openssl_is_loaded_by_the_loader_of_its_interpreter() -> None:
    found = environment.OpenSsl("/py/ssl/libssl.so.3", "/py/lib/libc.so.6", "/py/lib/ld.so")
    assert found.command("server") == (
        *("/py/lib/ld.so", "--library-path", "/py/lib:/py/ssl", "server"),
        *("--library", "/py/ssl/libssl.so.3"),
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The file of a run with a row that is won and one that is lost."""
    about: dict[str, Any] = {
        "machine": {
            "cpu": "a & b",
            "cores": 2,
            "kernel": "Linux 6",
            "libc": "glibc 2",
            "load_average": 0.1,
            "rustc": "rustc 1.90 (a)",
        },
        "versions": {"python": "CPython 3.14.1", "uvloop": "0.23"},
        "settings": {"rounds": 1, "seconds": 0.8},
    }
    measured = [
        result(P99, sample(p99_us=20), sample(p99_us=40)),
        result(IDLE, sample(kib=9000), sample(kib=4000)),
    ]
    path = tmp_path / "results.json"
    record.write(path, about, measured)
    return path


def test_results_are_read_back_as_they_were_written(results: Path) -> None:
    run = record.read(results)
    won, lost = run.results
    assert (won.row, lost.row) == (P99, IDLE)
    assert (verdict(won), verdict(lost)) == ("won", "lost")
    assert won.best_peer is not None and won.best_peer.name == "uvloop"
    assert won.best_line is won.lines[1]
    assert won.lines[2].figures is None and "NotImplementedError" in (won.lines[2].reason or "")


def test_a_page_shows_what_was_measured_between_its_marks(results: Path, tmp_path: Path) -> None:
    page, folder = tmp_path / "README.md", tmp_path / "pictures" / "new"
    page.write_text(f"before\n{BEGIN}\nold figures\n{END}\nafter\n")
    for _ in range(2):
        assert publish([results], [], folder, page) == 0
        text = page.read_text()
        assert text.startswith(f"before\n{BEGIN}\n\n### CPython 3.14.1\n")
        assert text.endswith(f"\n\n{END}\nafter\n")
        assert "old figures" not in text
    assert "Of 2 rows 1 are won, 1 lost.\n" in text
    assert "- **aioxide takes more than the best peer** in *Memory of idle connections*: " in text
    assert "Protocol, 5,000 idle connections 2.25.\n" in text
    assert (
        "- **Peers without figures**, and why: rloop: NotImplementedError: <no|pipe> (p99: " in text
    )
    assert (
        "| 20.0 (20.0 .. 20.0) | uvloop 40.0 (40.0 .. 40.0) | 0.50 (0.50 .. 0.50) | won | 20.0"
        " | 1.00 |"
    ) in text
    assert "| 2.25 (2.25 .. 2.25) | **lost** |" in text
    assert "](pictures/new/cpython-3.14-loop.svg)" in text
    assert "](pictures/new/cpython-3.14.md)" in text
    full = (folder / "cpython-3.14.md").read_text()
    assert "- rloop, failed: NotImplementedError: <no|pipe>: p99: Protocol, 1 KiB" in full
    picture = ElementTree.parse(folder / "cpython-3.14-loop.svg").getroot()
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "0.50 won" in texts and "2.25 lost" in texts


def test_runs_of_two_interpreters_stand_one_after_the_other(results: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(results.read_text().replace("CPython 3.14.1", "CPython 3.11.7"))
    page = tmp_path / "README.md"
    page.write_text(f"{BEGIN}{END}")
    publish([results, other], [], tmp_path / "figures", page)
    text = page.read_text()
    assert text.index("### CPython 3.14.1") < text.index("### CPython 3.11.7")
    assert text.count("<details open>") == 1
    with pytest.raises(SetupError, match=r"two of the runs are of cpython-3\.14"):
        publish([results, results], [], tmp_path / "figures", page)


def test_a_page_without_marks_is_left_alone(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"text {BEGIN} more")
    with pytest.raises(SetupError, match="has no marks"):
        publish([results], [], tmp_path / "figures", page)
    assert page.read_text() == f"text {BEGIN} more"


def test_peers_beyond_the_axis_stand_at_its_edge() -> None:
    far, _ = result(P99, sample(p99_us=20), sample(p99_us=40))
    picture = overview.picture([far], "heading", "subtitle")
    assert 'class="mark mark-uvloop"' in picture
    assert overview.place_of(7) == overview.AXIS_END == overview.place_of(2)


@pytest.mark.parametrize(
    ("rows", "lengths", "minutes"),
    [
        (catalogue.rows(), cli.FULL, 25),
        ([row for row in catalogue.rows() if row.quick], cli.QUICK, 3.2),
    ],
)
def test_a_run_with_all_contenders_takes_as_long_as_is_said(
    rows: list[Row], lengths: tuple[int, float, float], minutes: float, tmp_path: Path
) -> None:
    rounds, window, warm_up = lengths
    settings = compare.Settings(
        rows=rows,
        contenders=catalogue.CONTENDER_NAMES,
        rounds=rounds,
        timing=Timing(warm_up, window),
        seed=1,
        heap="settled",
        python="python",
        wheel=None,
        build_folder=tmp_path,
        out_folder=tmp_path,
    )
    prepared = Prepared(())
    prepared.launches = {c: Launch(()) for row in rows for c in row.contenders}
    works = dict.fromkeys(row.work for row in rows)
    seconds = sum(compare.guess(work, settings, prepared) for work in works)
    assert 0.85 * minutes < seconds / 60 < minutes
