"""``python -m aioxide``: any program, unchanged, on this loop."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from .running import Programs


def test_asyncio_run_uses_this_loop(programs: Programs) -> None:
    """And nothing on the way warns, although 3.14 deprecates policies."""
    text = """
        import asyncio, aioxide

        async def main():
            loop = asyncio.get_running_loop()
            print(isinstance(loop, aioxide.Loop))
            await asyncio.sleep(0)

        asyncio.run(main())
        asyncio.run(main())
    """
    assert programs.output(text) == ["True", "True"]


@pytest.mark.parametrize(
    "expression",
    [
        "asyncio.get_event_loop()",
        "asyncio.new_event_loop()",
        "asyncio.Future().get_loop()",
        "asyncio.Runner().__enter__().get_loop()",
    ],
)
def test_every_way_to_a_loop_gives_this_one(programs: Programs, expression: str) -> None:
    if "Runner" in expression and sys.version_info < (3, 11):
        assert not hasattr(asyncio, "Runner")
        return
    text = f"""
        import asyncio, aioxide, sys

        loop = {expression}
        print(isinstance(loop, aioxide.Loop), loop.run_until_complete(asyncio.sleep(0, "ran")))
        loop.close()
    """
    assert programs.output(text) == ["True ran"]


def test_the_module_level_loop_stays_the_same(programs: Programs) -> None:
    text = """
        import asyncio

        loop = asyncio.get_event_loop()
        future = asyncio.Future()
        print(asyncio.get_event_loop() is loop, future.get_loop() is loop)
        loop.call_soon(future.set_result, 1)
        print(loop.run_until_complete(future))
        loop.close()
    """
    assert programs.output(text) == ["True True", "1"]


def test_the_program_sees_itself(programs: Programs) -> None:
    """Name, arguments, path and file are those that ``python program.py`` gives."""
    text = """
        import os, sys

        print(__name__, __file__ == os.path.abspath(sys.argv[0]), sys.argv[1:])
        print(sys.path[0] == os.path.dirname(os.path.abspath(__file__)))
        print(sys.modules["__main__"].__dict__ is globals())
        print(__spec__, __package__ in (None, ""))
    """
    path = programs.write("program.py", text)
    plain = programs.python(path, "-x", "--", "-m", "two words")
    ours = programs.python("-m", "aioxide", path, "-x", "--", "-m", "two words")
    assert ours.stderr == ""
    assert ours.stdout == plain.stdout
    assert ours.stdout.splitlines()[0] == "__main__ True ['-x', '--', '-m', 'two words']"


def test_a_relative_path(programs: Programs) -> None:
    programs.write("folder/helper.py", "VALUE = 'helped'")
    programs.write("folder/program.py", "import sys, helper; print(helper.VALUE, sys.argv)")
    done = programs.python("-m", "aioxide", "folder/program.py", "1")
    assert done.stdout == "helped ['folder/program.py', '1']\n"


def test_a_module(programs: Programs) -> None:
    text = """
        import asyncio, aioxide, os, sys

        async def main():
            return isinstance(asyncio.get_running_loop(), aioxide.Loop)

        print(__name__, __package__, os.path.basename(sys.argv[0]), sys.argv[1:])
        print(asyncio.run(main()))
    """
    programs.write("package/__init__.py", "")
    programs.write("package/__main__.py", text)
    programs.write("package/module.py", text)
    done = programs.python("-m", "aioxide", "-m", "package.module", "-v", "x")
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["__main__ package module.py ['-v', 'x']", "True"]
    done = programs.python("-m", "aioxide", "-m", "package")
    assert done.stdout.splitlines() == ["__main__ package __main__.py []", "True"]


def test_standard_input_is_the_programs(programs: Programs) -> None:
    path = programs.write("program.py", "print(input().upper())")
    assert programs.python("-m", "aioxide", path, typed="typed\n").stdout == "TYPED\n"


@pytest.mark.parametrize(
    ("statement", "code", "told"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('goodbye')", 1, "goodbye\n"),
        ("asyncio.run(leave())", 4, ""),
    ],
)
def test_exit_codes(programs: Programs, statement: str, code: int, told: str) -> None:
    text = f"""
        import asyncio, sys

        async def leave():
            sys.exit(4)

        {statement}
    """
    done = programs.python("-m", "aioxide", programs.write("program.py", text))
    assert (done.returncode, done.stderr) == (code, told)


def test_an_exception_shows_its_traceback(programs: Programs) -> None:
    text = """
        import asyncio

        async def main():
            raise LookupError("from the program")

        asyncio.run(main())
    """
    path = programs.write("program.py", text)
    done = programs.python("-m", "aioxide", path)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "LookupError: from the program"
    assert f'File "{path}", line 7, in <module>' in done.stderr
    assert f'File "{path}", line 5, in main' in done.stderr


def test_a_syntax_error_is_the_programs(programs: Programs) -> None:
    path = programs.write("program.py", "this is no python\n")
    done = programs.python("-m", "aioxide", path)
    assert done.returncode == 1
    assert f'File "{path}", line 1' in done.stderr
    assert done.stderr.splitlines()[-1].startswith("SyntaxError: ")


def test_an_interrupt_ends_it_as_python_does(programs: Programs) -> None:
    text = """
        import asyncio, os, signal

        async def main():
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
            await asyncio.get_running_loop().create_future()

        asyncio.run(main())
    """
    path = programs.write("program.py", text)
    plain = programs.python(path)
    ours = programs.python("-m", "aioxide", path)
    assert ours.returncode == plain.returncode == -signal.SIGINT
    assert ours.stderr.splitlines()[-1].startswith("KeyboardInterrupt")


def test_a_missing_program(programs: Programs) -> None:
    done = programs.python("-m", "aioxide", "no_such_program.py")
    assert done.returncode != 0
    assert "no_such_program.py" in done.stderr


def test_no_program_at_all(programs: Programs) -> None:
    done = programs.python("-m", "aioxide")
    assert done.returncode == 2
    assert "usage" in done.stderr.lower()
