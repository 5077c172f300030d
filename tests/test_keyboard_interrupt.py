"""SIGINT reaches a program: blocked in the loop, busy in it, or in the task of a runner."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

PREAMBLE = """
    import asyncio, os, signal, sys, threading

    if sys.argv[1] == "aioxide":
        import aioxide
        new_event_loop = aioxide.new_event_loop
    else:
        new_event_loop = asyncio.SelectorEventLoop

    def ready():
        print("ready", flush=True)
"""


def interrupted(kind: str, program: str) -> tuple[int, str, str]:
    """Run a program, send SIGINT when it says ``ready``; its exit code and what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PREAMBLE) + textwrap.dedent(program), kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=15)
        return process.returncode, output, errors
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_blocked_in_run_forever(kind: str) -> None:
    """KeyboardInterrupt comes out of run_forever(), and the loop can be used again."""
    program = """
        loop = new_event_loop()
        loop.call_soon(ready)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", loop.is_running())
        print(loop.run_until_complete(asyncio.sleep(0, "usable")))
        loop.close()
    """
    assert interrupted(kind, program) == (0, "interrupted False\nusable\n", "")


def test_blocked_with_a_far_timer(kind: str) -> None:
    program = """
        loop = new_event_loop()
        loop.call_soon(ready)
        loop.call_later(3600, print, "too late")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
    """
    assert interrupted(kind, program) == (0, "interrupted\n", "")


def test_a_busy_loop(kind: str) -> None:
    """A program that always has something ready is interrupted as well."""
    program = """
        loop = new_event_loop()

        def spin():
            loop.call_soon(spin)

        loop.call_soon(ready)
        loop.call_soon(spin)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
    """
    assert interrupted(kind, program) == (0, "interrupted\n", "")


def test_an_uncaught_interrupt_ends_the_program(kind: str) -> None:
    program = """
        loop = new_event_loop()
        loop.call_soon(ready)
        loop.run_forever()
    """
    code, output, errors = interrupted(kind, program)
    assert code == -signal.SIGINT
    assert output == ""
    assert "KeyboardInterrupt" in errors


@pytest.mark.skipif(sys.version_info < (3, 11), reason="came with 3.11")
def test_a_runner_cancels_the_main_task(kind: str) -> None:
    """The main coroutine gets CancelledError and cleans up; KeyboardInterrupt comes after."""
    program = """
        async def main():
            try:
                asyncio.get_running_loop().call_soon(ready)
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                print("cancelled")
                await asyncio.sleep(0)
                print("cleaned up")
                raise

        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """
    assert interrupted(kind, program) == (0, "cancelled\ncleaned up\ninterrupted\n", "")


def test_a_signal_handler_runs_while_the_loop_sleeps(kind: str) -> None:
    """A handler of the signal module is called although no callback is due."""
    program = """
        loop = new_event_loop()

        def handler(signum, frame):
            print("handled")
            loop.call_soon_threadsafe(loop.stop)

        signal.signal(signal.SIGINT, handler)
        loop.call_soon(ready)
        loop.run_forever()
        loop.close()
    """
    assert interrupted(kind, program) == (0, "handled\n", "")


def test_a_server_is_interrupted(kind: str) -> None:
    program = """
        async def main():
            server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
            asyncio.get_running_loop().call_soon(ready)
            async with server:
                await server.serve_forever()

        loop = new_event_loop()
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            try:
                loop.run_until_complete(task)
            except asyncio.CancelledError:
                print("server cancelled")
        loop.close()
    """
    assert interrupted(kind, program) == (0, "server cancelled\n", "")
