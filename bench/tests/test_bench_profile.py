"""Whose the samples of a profile are, and what they say beside the ratios that are wanted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from aioxide_bench import catalogue, perf, profile_page
from aioxide_bench.cargo import SetupError
from aioxide_bench.catalogue import TARGETS, Contender, Role, Row, Target
from aioxide_bench.measure import Sample
from aioxide_bench.owners import Owner, Shares, owner, shares
from aioxide_bench.profile import Part, Profile, RowProfile, block, read, write
from aioxide_bench.publish import BEGIN, END, publish
from aioxide_bench.record import write as write_results
from aioxide_bench.rounds import Outcome
from aioxide_bench.summary import Result, summarise, target_verdict

PACKAGES = "/env/lib/python3.14/site-packages"
LOOP = [f"{PACKAGES}/uvloop", f"{PACKAGES}/uvloop.libs"]
ROW = next(row for row in catalogue.rows() if row.key == "protocol-1k")


@pytest.mark.parametrize(
    ("place", "whose"),
    [
        ("[kernel.kallsyms]", Owner.KERNEL),
        ("[nf_tables]", Owner.KERNEL),
        ("/usr/bin/python3.14", Owner.INTERPRETER),
        ("/usr/lib/libpython3.14.so.1.0", Owner.INTERPRETER),
        (
            "/usr/lib/python3.14/lib-dynload/_asyncio.cpython-314-x86_64-linux-gnu.so",
            Owner.INTERPRETER,
        ),
        ("/usr/lib/libcrypto.so.3", Owner.OPENSSL),
        ("/usr/lib/libssl.so.3", Owner.OPENSSL),
        ("/usr/lib/libc.so.6", Owner.C_LIBRARY),
        ("/usr/lib/ld-linux-x86-64.so.2", Owner.C_LIBRARY),
        ("[vdso]", Owner.C_LIBRARY),
        (f"{PACKAGES}/uvloop/loop.cpython-314-x86_64-linux-gnu.so", Owner.LOOP),
        (f"{PACKAGES}/uvloop.libs/libuv.so.1", Owner.LOOP),
        (f"{PACKAGES}/httptools/parser/parser.cpython-314-x86_64-linux-gnu.so", Owner.MODULES),
        ("[unknown]", Owner.UNKNOWN),
        ("/bin/other", Owner.UNKNOWN),
    ],
)
def test_a_sample_belongs_to_whom_its_file_belongs_to(place: str, whose: Owner) -> None:
    assert owner(place, LOOP) is whose


def test_a_program_from_rust_owns_what_is_compiled_into_it() -> None:
    assert owner("/target/release/tokio-server", ["/target/release/tokio-server"]) is Owner.LOOP
    assert owner("/usr/lib/libc.so.6", ["/target/release/tokio-server"]) is Owner.C_LIBRARY


def test_samples_are_split_and_the_largest_of_the_kernel_are_named() -> None:
    lines = [
        *[" ffffffff815a2ec1 tcp_sendmsg ([kernel.kallsyms])"] * 3,
        *[" ffffffff815a2ec2 fdget ([kernel.kallsyms])"] * 2,
        " ffffffff815a2ec3 a ([kernel.kallsyms])",
        " ffffffff815a2ec4 b ([kernel.kallsyms])",
        f"     7fc673cba29b std::f<(a, b)>::g ({PACKAGES}/uvloop/loop.so)",
        "     7fc673cba29b [unknown] (/lib/libc.so.6 (deleted))",
        "     7fc673cba29b _PyEval_EvalFrameDefault (/usr/bin/python3.14)",
        "",
        "no sample",
    ]
    split = shares(lines, LOOP)
    assert split.samples == 10
    assert split.owners == {
        Owner.KERNEL: 0.7,
        Owner.INTERPRETER: 0.1,
        Owner.C_LIBRARY: 0.1,
        Owner.LOOP: 0.1,
    }
    assert split.kernel[:2] == (("tcp_sendmsg", 0.3), ("fdget", 0.2))
    assert len(split.kernel) == 3


def profile_of(ratio: float, of_loop: float) -> RowProfile:
    ours = Shares(100, {Owner.KERNEL: 1 - of_loop, Owner.LOOP: of_loop}, (("fdget", 0.5),))
    peer = Shares(100, {Owner.KERNEL: 0.9, Owner.LOOP: 0.1}, ())
    return RowProfile(
        ROW.key,
        (
            Part("aioxide", Role.OURS, 4 * ratio, ratio, ours),
            Part("uvloop", Role.PEER, 4.0, 1.0, peer),
        ),
    )


def test_what_a_loop_of_no_cost_would_take_stands_beside_what_is_wanted() -> None:
    assert profile_of(1.0, 0.2).without_the_loop == pytest.approx(0.8)
    assert "0.80 of the best peer if aioxide cost nothing" in block(ROW, profile_of(1.0, 0.2))
    assert profile_page.reach(0.90, 0.80, Target(0.90)) == "met"
    assert "below what a loop of no cost takes" in profile_page.reach(1.0, 0.95, Target(0.90))
    assert profile_page.reach(1.0, 0.80, Target(0.90)).startswith("50% of aioxide's own part")
    assert profile_page.reach(1.0, 0.80, None) == ""


def test_what_a_loop_as_cheap_as_the_floor_would_take_stands_there_too() -> None:
    without_floor = profile_of(1.0, 0.2)
    assert without_floor.with_the_floor_s_loop is None
    floor = Part("raw-epoll", Role.FLOOR, 3.0, None, Shares(10, {Owner.LOOP: 0.2}, ()))
    whole = RowProfile(ROW.key, (*without_floor.parts, floor))
    # 0.2 of 3.0, of the 4.0 that the best peer costs.
    assert whole.with_the_floor_s_loop == pytest.approx(0.8 + 0.15)
    text = profile_page.reach(1.0, 0.80, Target(0.90), 0.95)
    assert "below what a loop as cheap as the floor takes" in text
    assert profile_page.reach(1.0, 0.80, Target(0.90), 0.85).startswith("50% of")


def test_a_profile_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    whole = Profile({"cpu": "a"}, {"python": "CPython 3.14.1"}, (profile_of(1.0, 0.2),))
    write(tmp_path / "profile.json", whole)
    assert read(tmp_path / "profile.json") == whole
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SetupError, match="holds no profile"):
        read(tmp_path / "other.json")


def test_targets_are_those_of_rows_that_there_are() -> None:
    assert {*TARGETS} <= {row.key for row in catalogue.rows()}


def result(row: Row, ours: float, peer: float, floor: float) -> tuple[Result, list[Outcome]]:
    contenders = (
        (Contender("aioxide", Role.OURS), ours),
        (Contender("uvloop", Role.PEER), peer),
        (Contender("raw-epoll", Role.FLOOR), floor),
    )
    outcomes = [Outcome(c, [Sample(1000, 10**9, int(cost * 1e6))]) for c, cost in contenders]
    return summarise(row, outcomes), outcomes


def test_a_target_is_met_when_both_of_its_ratios_are() -> None:
    # 0.90 of the best peer, and 1.08 of the floor.
    assert target_verdict(result(ROW, 9, 10, 9)[0]) == "met"
    assert target_verdict(result(ROW, 9, 10, 8)[0]) == "missed"
    assert target_verdict(result(ROW, 9.1, 10, 9)[0]) == "missed"
    without = next(row for row in catalogue.rows() if row.key == "bulk-send")
    assert target_verdict(result(without, 9, 10, 9)[0]) == ""


def test_a_profile_is_published_and_stays(tmp_path: Path) -> None:
    machine = {"cpu": "a", "cores": 2, "kernel": "b", "libc": "c", "load_average": 0, "rustc": "d"}
    about: dict[str, Any] = {
        "machine": machine,
        "versions": {"python": "CPython 3.14.1"},
        "settings": {"rounds": 4, "most_rounds": 8, "seconds": 0.3, "turn": 0.016},
    }
    results, profiled = tmp_path / "results.json", tmp_path / "profile.json"
    write_results(results, about, [result(ROW, 10, 10, 9)])
    write(profiled, Profile(machine, about["versions"], (profile_of(1.0, 0.2),)))
    page, folder = tmp_path / "README.md", tmp_path / "figures"
    page.write_text(BEGIN + END)
    for profiles in ([profiled], []):
        publish([results], profiles, folder, page)
        text = page.read_text()
        assert "](figures/cpython-3.14-profile.md)" in text
        assert "medians of 4 to 8 rounds (windows of 16 ms in turns, 0.3 s a round)" in text
        assert "| 1.00 (1.00 .. 1.00) | level | 0.90, 1.08 of the floor | missed |" in text
        shown = (folder / "cpython-3.14-profile.md").read_text()
        assert (
            "| Protocol, 1 KiB (`protocol-1k`) | 1.00 | 0.80 |  | 0.90 | 50% of aioxide's" in shown
        )
        assert "| aioxide | `fdget` 50.0% |" in shown
    stranger = tmp_path / "stranger.json"
    write(stranger, Profile(machine, {"python": "CPython 3.11.1"}, ()))
    with pytest.raises(SetupError, match=r"no run, of cpython-3\.11"):
        publish([results], [stranger], folder, page)


def test_without_perf_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SetupError, match="linux-perf"):
        perf.check()


def test_without_permission_it_is_said_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "paranoid").write_text("2\n")
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/perf")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(perf, "PARANOID", tmp_path / "paranoid")
    with pytest.raises(SetupError, match=r"set kernel\.perf_event_paranoid to 1"):
        perf.check()
