"""The conformance run's own logic: it sees each kind of difference, and nothing else.

Small suites are written here, run on both loops, and compared, as CPython's suite is. Each test of
them that has to fail on aioxide asks which loop it has.
"""

from __future__ import annotations

import importlib.util
import os
import select
import sys
import textwrap
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance import excluded, interpreters, report, run
from conformance.compare import Comparison, compare
from conformance.excluded import Excluded, Heading
from conformance.interpreters import Interpreter
from conformance.processes import END, Class, Result, list_modules, list_tests, run_class

VERSION = (sys.version_info.major, sys.version_info.minor, sys.version_info.micro)

#: What each suite begins with.
HEAD = """
import asyncio, os, time, unittest

def on_aioxide():
    loop = asyncio.new_event_loop()
    loop.close()
    return type(loop).__mro__[1].__module__.startswith("aioxide")

class Case(unittest.TestCase):
"""

#: The stand-ins take the helpers of CPython's suite too, which some distributions leave out.
needs_suite = pytest.mark.skipif(
    importlib.util.find_spec("test.test_asyncio") is None, reason="this Python has no test suite"
)


class Suite:
    """A suite of one module and one class, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.interpreter = Interpreter(sys.executable, VERSION, site=folder, suite="suite")

    def write(self, tests: str) -> None:
        package = self.folder / "suite"
        package.mkdir()
        (package / "__init__.py").touch()
        text = HEAD + textwrap.indent(textwrap.dedent(tests), "    ")
        (package / "test_made.py").write_text(text)

    def run(
        self,
        on_aioxide: bool,
        mode: str = "normal",
        test_seconds: float = 15,
        class_seconds: float = 15,
    ) -> dict[str, Result]:
        of = Class(self.interpreter, mode, "test_made", "Case")
        names = list_tests(self.interpreter, "test_made")["Case"]
        return run_class(of, names, on_aioxide, test_seconds, class_seconds)

    def command(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """The exit status of the whole command."""
        monkeypatch.setattr(run, "chosen_interpreters", lambda options: [self.interpreter])
        return run.main(["--mode", "normal"])


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def passed(**parts: str) -> Result:
    return Result("passed", parts=parts, aioxide=1)


# ---- the verdict ----


def test_a_test_that_passes_on_both_loops_is_no_difference() -> None:
    found = compare("m.C", ["test_a"], {"test_a": passed()}, {"test_a": passed()})
    assert (found.total, found.standard, found.aioxide) == (1, 1, 1)
    assert not found.differences and not found.not_held


@pytest.mark.parametrize("outcome", ["failed", "skipped", "hung", "crashed", "missing"])
def test_whatever_else_becomes_of_it_on_aioxide_is_a_difference(outcome: str) -> None:
    found = compare("m.C", ["test_a"], {"test_a": passed()}, {"test_a": Result(outcome, "why")})
    (difference,) = found.differences
    assert (difference.test, difference.outcome) == ("m.C.test_a", outcome)
    assert difference.detail == "why"
    assert found.aioxide == 0


def test_a_test_that_no_process_came_to_is_a_difference() -> None:
    found = compare("m.C", ["test_a"], {"test_a": passed()}, {})
    assert [difference.outcome for difference in found.differences] == ["missing"]


@pytest.mark.parametrize("outcome", ["failed", "skipped", "hung", "crashed"])
def test_what_the_standard_loop_does_not_pass_is_not_held_against_aioxide(outcome: str) -> None:
    found = compare("m.C", ["test_a"], {"test_a": Result(outcome)}, {"test_a": Result("failed")})
    assert not found.differences
    assert [test.outcome for test in found.not_held] == [outcome]


def test_a_part_that_passes_there_and_not_here_is_a_difference_all_the_same() -> None:
    standard = Result("failed", parts={"[one]": "failed", "[two]": "passed"})
    ours = Result("failed", parts={"[one]": "failed", "[two]": "failed"})
    found = compare("m.C", ["test_a"], {"test_a": standard}, {"test_a": ours})
    assert [difference.test for difference in found.differences] == ["m.C.test_a [two]"]


def test_a_part_that_is_skipped_here_is_a_difference() -> None:
    standard = passed(**{"[one]": "passed", "[<object at 1>]": "passed"})
    ours = passed(**{"[one]": "skipped", "[<object at 2>]": "passed"})
    found = compare("m.C", ["test_a"], {"test_a": standard}, {"test_a": ours})
    assert [difference.test for difference in found.differences] == ["m.C.test_a [one]"]


def test_a_loop_of_the_standard_librarys_proves_nothing() -> None:
    found = compare(
        "m.C", ["test_a"], {"test_a": passed()}, {"test_a": Result("passed", standard=1)}
    )
    assert [difference.outcome for difference in found.differences] == ["passed elsewhere"]
    assert found.aioxide == 0


def test_a_process_that_ends_badly_behind_its_tests_is_a_difference() -> None:
    ours = {"test_a": passed(), END: Result("crashed")}
    found = compare("m.C", ["test_a"], {"test_a": passed()}, ours)
    assert [difference.outcome for difference in found.differences] == ["crashed"]
    assert not compare("m.C", ["test_a"], ours, ours).differences


# ---- the exit status ----


def status_of(comparison: Comparison) -> int:
    return run.status([report.Run("Python", "normal", {"m": comparison})])


def test_the_status_says_what_was_found() -> None:
    fine = compare("m.C", ["test_a"], {"test_a": passed()}, {"test_a": passed()})
    assert status_of(fine) == 0
    assert status_of(compare("m.C", ["test_a"], {"test_a": passed()}, {})) == run.DIFFERENT
    both_fail = compare("m.C", ["test_a"], {"test_a": Result("failed")}, {})
    fine.add(both_fail)
    assert status_of(fine) == 0


def test_nothing_compared_is_not_a_success() -> None:
    assert run.status([]) == run.NOTHING_SAID
    assert status_of(Comparison()) == run.NOTHING_SAID
    one_lost = compare("m.C", ["test_a", "test_b"], {"test_a": passed()}, {"test_a": passed()})
    assert status_of(one_lost) == run.NOTHING_SAID


# ---- the list ----


def test_an_entry_leaves_out_what_its_pattern_fits_in_its_versions() -> None:
    heading = Heading("why", (Excluded("m.*.test_a*", "because", since=(3, 11), before=(3, 13)),))
    entries = excluded.for_version((3, 12, 4), [heading])
    found = excluded.find(entries, "m.C.test_ab")
    assert found is not None and found.heading == "why"
    assert excluded.find(entries, "m.C.test_b") is None
    assert excluded.find(entries, "other.C.test_a") is None
    for version in ((3, 10, 14), (3, 13, 0)):
        assert excluded.for_version(version, [heading]) == []


def test_every_entry_names_tests_of_one_module_and_has_a_reason() -> None:
    for heading in excluded.LIST:
        assert heading.title
        for entry in heading.tests:
            module = entry.pattern.partition(".")[0]
            assert module.startswith("test_") and "*" not in module
            assert entry.reason and entry.since < entry.before


@pytest.mark.parametrize(
    ("patterns", "fits"),
    [(None, True), (["Epoll"], True), (["test_x"], False), (["m.*.test_a"], True), (["*b"], False)],
)
def test_match_takes_a_part_of_the_name_or_a_pattern(patterns: list[str], fits: bool) -> None:
    assert run.wanted("m.EpollTests.test_a", patterns) is fits


# ---- processes ----


@needs_suite
def test_the_loops_are_the_ones_that_are_meant(suite: Suite) -> None:
    suite.write("""
        def test_loop(self):
            self.assertEqual(on_aioxide(), False)
        def test_selector_loop_with_a_selector(self):
            import selectors
            loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
            self.assertNotIn("aioxide", str(type(loop).__mro__))
            loop.close()
        def test_run(self):
            async def main():
                return str(type(asyncio.get_running_loop()).__mro__)
            self.assertNotIn("aioxide", asyncio.run(main()))
        def test_nothing(self):
            pass
    """)
    standard, ours = suite.run(False), suite.run(True)
    assert {result.outcome for result in standard.values()} == {"passed"}
    assert {name for name, result in ours.items() if not result.passed} == {
        "test_loop",
        "test_selector_loop_with_a_selector",
        "test_run",
    }
    assert [ours[name].aioxide for name in sorted(ours)] == [1, 0, 1, 1]


@needs_suite
def test_a_hidden_standard_loop_is_counted(suite: Suite) -> None:
    suite.write("""
        def test_hidden(self):
            found = asyncio.AbstractEventLoop.__subclasses__()
            (base,) = [kind for kind in found if kind.__module__ == "asyncio.base_events"]
            base().close()
    """)
    assert suite.run(True)["test_hidden"].standard == 1


@needs_suite
def test_what_a_test_says_of_itself_is_kept(suite: Suite) -> None:
    suite.write("""
        def test_a_skip(self):
            self.skipTest("not today")
        def test_b_parts(self):
            for part in range(3):
                with self.subTest(part=part):
                    self.assertNotEqual(part, 1)
        def test_b_skipped_part(self):
            for part in range(2):
                with self.subTest(part=part):
                    if part == 0:
                        self.skipTest("not this one")
        @unittest.expectedFailure
        def test_c_expected(self):
            self.fail()
        @unittest.expectedFailure
        def test_d_unexpected(self):
            pass
        def test_e_error(self):
            raise KeyError("its detail")
    """)
    results = suite.run(False)
    outcomes = [results[name].outcome for name in sorted(results)]
    assert outcomes == ["skipped", "failed", "passed", "passed", "failed", "failed"]
    assert results["test_a_skip"].detail == "not today"
    parts = results["test_b_parts"].parts
    assert parts == {"(part=0)": "passed", "(part=1)": "failed", "(part=2)": "passed"}
    parts = results["test_b_skipped_part"].parts
    assert parts == {"(part=0)": "skipped", "(part=1)": "passed"}
    assert "KeyError: 'its detail'" in results["test_e_error"].detail


@needs_suite
def test_a_hang_and_a_crash_lose_nothing_of_what_stands_around_them(suite: Suite) -> None:
    suite.write("""
        def test_a(self):
            pass
        def test_b_hangs(self):
            while True:
                time.sleep(60)
        def test_c(self):
            pass
        def test_d_crashes(self):
            os.abort()
        def test_e(self):
            self.fail()
    """)
    results = suite.run(True, test_seconds=1)
    outcomes = [results[name].outcome for name in sorted(results)]
    assert outcomes == ["passed", "hung", "passed", "crashed", "failed"]
    assert "in test_b_hangs" in results["test_b_hangs"].detail
    assert "in test_d_crashes" in results["test_d_crashes"].detail


@needs_suite
def test_a_process_that_never_ends_is_ended_with_its_children(suite: Suite, tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    suite.write(f"""
        def test_a(self):
            held = os.open({str(held)!r}, os.O_WRONLY)
            if os.fork() == 0:
                os.write(held, b"the child's")
                time.sleep(60)
                os._exit(0)
            os.close(held)
        def test_b_ends_no_more(self):
            import threading
            threading.Thread(target=time.sleep, args=(60,)).start()
    """)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    try:
        results = suite.run(False, class_seconds=6)
        assert results["test_b_ends_no_more"].passed
        assert results[END].outcome == "hung"
        # A process that is killed still runs for a moment. Its end of the pipe goes with it, long
        # before it would end by itself.
        os.set_blocking(reader, True)
        assert os.read(reader, 100) == b"the child's"
        assert select.select([reader], [], [], 30)[0], "the child was not ended"
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


@needs_suite
def test_a_class_that_cannot_be_set_up_takes_its_tests_along(suite: Suite) -> None:
    suite.write("""
        @classmethod
        def setUpClass(cls):
            if on_aioxide():
                raise ValueError("no class today")
        def test_a(self):
            pass
    """)
    assert suite.run(False)["test_a"].passed
    ours = suite.run(True)["test_a"]
    assert ours.outcome == "failed"
    assert "no class today" in ours.detail


@needs_suite
def test_debug_mode_is_asyncios_and_nothing_else_comes_from_outside(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    suite.write("""
        def test_debug(self):
            loop = asyncio.new_event_loop()
            loop.close()
            self.assertTrue(loop.get_debug())
        def test_clean(self):
            self.assertNotIn("PYTHONPATH", os.environ)
            self.assertEqual(os.listdir(), [])
    """)
    for on_aioxide in (False, True):
        normal, debug = (suite.run(on_aioxide, mode) for mode in ("normal", "debug"))
        assert (normal["test_debug"].outcome, debug["test_debug"].outcome) == ("failed", "passed")
        assert normal["test_clean"].passed and debug["test_clean"].passed


@needs_suite
def test_what_a_test_leaves_is_not_found_in_the_next(suite: Suite) -> None:
    suite.write("""
        def test_a_leaves_a_file(self):
            left = [open(os.devnull)]
            left.append(left)
        def test_b_warns_of_nothing(self):
            import gc, warnings
            with warnings.catch_warnings(record=True) as warned:
                gc.collect()
            self.assertEqual(warned, [])
    """)
    assert all(result.passed for result in suite.run(False).values())


# ---- the command ----


@needs_suite
def test_no_difference_is_a_success(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.write("""
        def test_a(self):
            on_aioxide()
        def test_fails_on_both(self):
            self.fail("not here")
    """)
    assert suite.command(monkeypatch) == 0
    said = capsys.readouterr().out
    assert "test_made.Case.test_fails_on_both: failed; on aioxide failed" in said
    assert "standard loop 1/2, aioxide 1/2, no difference" in said


@needs_suite
def test_a_difference_fails_the_command(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.write("""
        def test_a(self):
            pass
        def test_differs(self):
            self.assertFalse(on_aioxide(), "told apart")
    """)
    assert suite.command(monkeypatch) == run.DIFFERENT
    said = capsys.readouterr().out
    assert "DIFFERENCE test_made.Case.test_differs: failed on aioxide" in said
    assert "told apart" in said
    assert "standard loop 2/2, aioxide 1/2, 1 difference" in said


@needs_suite
def test_what_the_list_has_is_not_run_and_is_counted(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.write("""
        def test_a(self):
            pass
        def test_differs(self):
            self.assertFalse(on_aioxide())
    """)
    heading = Heading("why it is left out", (Excluded("test_made.*.test_differs", "a reason"),))
    entries = excluded.for_version(VERSION, [heading])
    monkeypatch.setattr(excluded, "for_version", lambda version: entries)
    assert suite.command(monkeypatch) == 0
    said = capsys.readouterr().out
    assert "1  why it is left out" in said
    assert "standard loop 1/1, aioxide 1/1" in said


@needs_suite
def test_the_left_out_can_be_run_too(suite: Suite) -> None:
    suite.write("""
        def test_a(self):
            pass
        def test_b(self):
            pass
        def test_differs(self):
            self.assertFalse(on_aioxide())
    """)
    with ThreadPoolExecutor(2) as pool, pytest.MonkeyPatch.context() as patch:
        patterns = ("test_made.*.test_b", "test_made.*.test_d*")
        heading = Heading("why", tuple(Excluded(pattern, "a reason") for pattern in patterns))
        entries = excluded.for_version(VERSION, [heading])
        patch.setattr(excluded, "for_version", lambda version: entries)
        tests = {"test_made": list_tests(suite.interpreter, "test_made")}
        found = run.run_mode(suite.interpreter, "normal", tests, pool, the_excluded=True)
    assert (found.whole.total, found.whole.aioxide) == (2, 1)
    said = report.needless(found)
    assert "test_made.*.test_b: all 1" in said
    assert "test_made.*.test_d*" not in said


# ---- interpreters ----


def test_an_interpreter_is_asked_what_it_is() -> None:
    try:
        found = interpreters.probe(sys.executable, installed=True)
    except interpreters.Unusable as why:
        assert "test suite" in str(why)
    else:
        assert found.version == VERSION


@pytest.mark.parametrize(
    ("path", "why"), [("false", "does not run"), ("/nowhere/python3", "no such command")]
)
def test_what_is_no_interpreter_is_not_taken(path: str, why: str) -> None:
    with pytest.raises(interpreters.Unusable, match=why):
        interpreters.probe(path, installed=False)


def test_an_interpreter_that_was_asked_for_has_to_be_usable() -> None:
    assert run.main(["--python", "/nowhere/python3"]) == run.NOTHING_SAID


@needs_suite
def test_the_suites_modules_are_found() -> None:
    modules = list_modules(Interpreter(sys.executable, VERSION))
    assert {"test_events", "test_tasks", "test_unix_events"} <= set(modules)


def test_a_wheel_is_unpacked_beside_the_interpreter(tmp_path: Path) -> None:
    wheel = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("made/__init__.py", "")
    ready = interpreters.unpacked(Interpreter("python", VERSION), wheel, tmp_path / "build")
    assert ready.site is not None and (ready.site / "made" / "__init__.py").exists()
