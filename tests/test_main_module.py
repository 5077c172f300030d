"""What the package offers beside the loop: ``python -m aioxide``, run(), install(), the policy.

These tests are about aioxide alone; there is no oracle but ``python`` itself.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def package() -> Any:
    """The package under test; without it every test here fails."""
    import aioxide

    return aioxide


class Programs:
    """Writes programs into a directory and runs them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def python(self, *arguments: object, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            input=typed,
            capture_output=True,
            text=True,
            timeout=15,
            cwd=self.directory,
        )

    def output(self, text: str, *arguments: object) -> list[str]:
        """What a program prints under ``-m aioxide``, it having ended well and silently."""
        path = self.write("program.py", text)
        done = self.python("-W", "error", "-m", "aioxide", path, *arguments)
        assert done.stderr == ""
        assert done.returncode == 0
        return done.stdout.splitlines()


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


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


def test_new_event_loop(package: Any) -> None:
    loop = package.new_event_loop()
    assert isinstance(loop, package.Loop)
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"
    loop.close()
    loop = package.Loop()
    assert re.match(r"^<\w*Loop running=False closed=False debug=False>$", repr(loop))
    loop.close()


def test_the_loop_can_be_subclassed(package: Any) -> None:
    class Mine(package.Loop):  # type: ignore[misc]
        greeting = "hello"

        def call_soon(self, *args: Any, **options: Any) -> Any:
            self.counted = getattr(self, "counted", 0) + 1
            return super().call_soon(*args, **options)

    loop = Mine()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert (loop.counted, loop.greeting) == (1, "hello")
    loop.close()


def test_run(package: Any) -> None:
    async def main() -> tuple[bool, bool]:
        loop = asyncio.get_running_loop()
        return isinstance(loop, package.Loop), loop.get_debug()

    assert package.run(main()) == (True, False)
    assert package.run(main(), debug=True) == (True, True)


def test_run_passes_the_exception_on(package: Any) -> None:
    async def main() -> None:
        raise LookupError("out of run()")

    with pytest.raises(LookupError, match=r"^out of run\(\)$"):
        package.run(main())


def test_run_cancels_what_is_left_and_closes_the_loop(package: Any) -> None:
    seen: list[Any] = []

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("cancelled")

    async def main() -> None:
        seen.append(asyncio.get_running_loop())
        seen.append(asyncio.ensure_future(forever()))
        await asyncio.sleep(0)

    package.run(main())
    loop, task, last = seen
    assert loop.is_closed()
    assert task.cancelled()
    assert last == "cancelled"


def test_run_refuses_to_nest(package: Any) -> None:
    async def inner() -> None:
        """Never started."""

    async def main() -> None:
        coroutine = inner()
        with pytest.raises(RuntimeError, match=r"cannot be called from a running event loop"):
            package.run(coroutine)
        coroutine.close()

    package.run(main())


def test_install(programs: Programs) -> None:
    text = """
        import asyncio, aioxide, warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            aioxide.install()

        async def main():
            print(isinstance(asyncio.get_running_loop(), aioxide.Loop))

        asyncio.run(main())
    """
    done = programs.python("-W", "error", programs.write("program.py", text))
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_policy(package: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = package.EventLoopPolicy()
        assert isinstance(policy, asyncio.AbstractEventLoopPolicy)
    loop = policy.new_event_loop()
    assert isinstance(loop, package.Loop)
    policy.set_event_loop(loop)
    assert policy.get_event_loop() is loop
    policy.set_event_loop(None)
    loop.close()


def test_importing_changes_nothing(programs: Programs) -> None:
    text = """
        import asyncio, aioxide

        async def main():
            print(isinstance(asyncio.get_running_loop(), aioxide.Loop))

        asyncio.run(main())
    """
    done = programs.python("-W", "error", programs.write("program.py", text))
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_version(package: Any) -> None:
    assert package.__version__ == importlib.metadata.version("aioxide")
