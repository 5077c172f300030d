"""The package itself: run(), install(), the policy, the loop class, the version."""

from __future__ import annotations

import asyncio
import importlib.metadata
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import aioxide
import pytest
from aioxide import _aioxide

from .running import Programs


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


def test_the_training_of_a_profiled_wheel_runs() -> None:
    """Its programs are what the compiler learns from; each of them comes to its end."""
    program = Path(__file__).parent.parent / "scripts" / "training.py"
    subprocess.run([sys.executable, str(program), "--seconds", "0.01"], check=True, timeout=60)


def test_the_version_says_whether_a_profile_guided_the_compiler() -> None:
    command = [sys.executable, "-m", "aioxide", "--version"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    guided = " (profile-guided)" if _aioxide.__profiled__ else ""
    assert said == f"aioxide {aioxide.__version__}{guided}\n"
