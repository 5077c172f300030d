"""asyncio.create_subprocess_exec and create_subprocess_shell: processes as streams."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from .processes import (
    CAT,
    DEVNULL,
    PIPE,
    STDOUT,
    no_traces,
    pipe,
    python,
    sh,
    wait_until_dead,
    wait_until_stopped,
)
from .support import BIG, Loop, LoopFactory, open_descriptors, oracle_since, turns

Process = asyncio.subprocess.Process

#: More than a pipe takes, in both directions.
MUCH = 1 << 20

#: Both directions, and the errors, as streams.
ALL: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with no_traces():
        yield


async def run(*command: str, **options: Any) -> Any:
    """Start a program; what comes back is a Process, and Any to the type checker."""
    return await asyncio.create_subprocess_exec(*command, **options)


@contextlib.asynccontextmanager
async def running(*command: str, **options: Any) -> AsyncIterator[tuple[Any, Any, Any]]:
    """A process with its standard input and output; killed at the end if it still runs."""
    process = await run(*command, **{"stdin": PIPE, "stdout": PIPE, **options})
    try:
        yield process, process.stdin, process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                await stream.read()
        await closed(process)
        await turns(5)


async def closed(process: Any) -> None:
    """See the end of standard input, whatever it is.  (3.10's asyncio reports it otherwise.)"""
    if process.stdin is not None:
        process.stdin.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await process.stdin.wait_closed()


# Whole programs.


async def test_a_program_from_start_to_end(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("tr", "a-z", "A-Z", **ALL)
    assert await process.communicate(b"hello") == (b"HELLO", b"")
    assert process.returncode == 0


async def test_a_shell_command_from_start_to_end(loop: Loop) -> None:
    command = "read line; echo $line; echo bad >&2; exit 4"
    process = await asyncio.create_subprocess_shell(command, **ALL)
    assert await process.communicate(b"hello\n") == (b"hello\n", b"bad\n")
    assert process.returncode == 4


async def test_what_a_process_tells(loop: Loop) -> None:
    async with running(*sh("echo $$; read line")) as (process, stdin, stdout):
        assert isinstance(process, Process)
        assert isinstance(stdin, asyncio.StreamWriter)
        assert isinstance(stdout, asyncio.StreamReader)
        assert process.stderr is None
        assert process.pid == int(await stdout.readline())
        assert process.returncode is None
        assert repr(process) == f"<Process {process.pid}>"
        stdin.write(b"\n")
        assert await process.wait() == 0
        assert process.returncode == 0


async def test_without_pipes(loop: Loop, capfd: Any) -> None:
    process = await run(*sh("echo out; echo err >&2; exit 2"))
    assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
    assert await process.wait() == 2
    assert await process.communicate() == (None, None)
    assert capfd.readouterr() == ("out\n", "err\n")


async def test_errors_into_the_output(loop: Loop) -> None:
    process = await run(*sh("echo out; echo err >&2"), stdout=PIPE, stderr=STDOUT)
    assert process.stderr is None
    assert await process.communicate() == (b"out\nerr\n", None)


@pytest.mark.parametrize(
    ("script", "returncode"), [("exit 0", 0), ("exit 255", 255), ("kill -KILL $$", -9)]
)
async def test_return_codes(loop: Loop, script: str, returncode: int) -> None:
    process = await run(*sh(script))
    assert await process.wait() == returncode
    assert process.returncode == returncode


async def test_one_after_the_other(loop: Loop) -> None:
    """A pipeline, its pipe made by the program."""
    with pipe() as (reading, writing):
        first = await run(*sh("echo one; echo two"), stdout=writing)
        writing.close()
        second = await run("sort", "-r", stdin=reading, stdout=PIPE)
        assert await second.communicate() == (b"two\none\n", None)
    assert await first.wait() == 0


async def test_fifty_at_once(loop: Loop) -> None:
    async def one(number: int) -> tuple[bytes, int | None]:
        process = await run(*sh(f"cat; exit {number}"), stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(b"%d" % number)
        return output, process.returncode

    results = await asyncio.gather(*(one(number) for number in range(50)))
    assert results == [(b"%d" % number, number) for number in range(50)]


async def test_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    process = await run(CAT, **ALL)
    assert await process.communicate(b"hello") == (b"hello", b"")


# communicate().


async def test_much_in_both_directions(loop: Loop) -> None:
    """No deadlock: each side would block if the other did not go on."""
    data = bytes(range(256)) * (MUCH // 256)
    process = await run(CAT, stdin=PIPE, stdout=PIPE)
    assert await process.communicate(data) == (data, None)


async def test_much_output_and_many_errors(loop: Loop) -> None:
    script = f"head -c {MUCH} /dev/zero >&2; head -c {MUCH} /dev/zero; head -c {MUCH} /dev/zero >&2"
    process = await run(*sh(script), **ALL)
    output, errors = await process.communicate()
    assert (len(output), len(errors)) == (MUCH, 2 * MUCH)


@pytest.mark.parametrize("kind_of_bytes", [bytes, bytearray, memoryview])
async def test_kinds_of_input(loop: Loop, kind_of_bytes: Any) -> None:
    process = await run(CAT, stdin=PIPE, stdout=PIPE)
    assert await process.communicate(kind_of_bytes(b"some input")) == (b"some input", None)


async def test_empty_input_is_the_end_of_input(loop: Loop) -> None:
    process = await run(CAT, stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"") == (b"", None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's Process closes it since 3.12")
async def test_no_input_is_the_end_of_input(loop: Loop) -> None:
    process = await run(CAT, stdin=PIPE, stdout=PIPE)
    assert await process.communicate() == (b"", None)


async def test_input_that_nobody_reads(loop: Loop) -> None:
    process = await run(*sh("exit 3"), stdin=PIPE, stdout=PIPE)
    assert await process.communicate(bytes(BIG)) == (b"", None)
    assert process.returncode == 3
    await closed(process)


async def test_input_that_is_read_in_part(loop: Loop) -> None:
    process = await run("head", "-c", "10", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"x" * BIG) == (b"x" * 10, None)
    assert process.returncode == 0
    await closed(process)


async def test_a_child_that_closes_its_input(loop: Loop) -> None:
    process = await run(*sh("exec <&-; echo closed; exit 5"), stdin=PIPE, stdout=PIPE)
    assert await process.communicate(bytes(BIG)) == (b"closed\n", None)
    assert process.returncode == 5
    await closed(process)


async def test_killed_while_communicating(loop: Loop) -> None:
    process = await run(*sh("echo before; exec cat"), stdin=PIPE, stdout=PIPE)
    stdout = process.stdout
    assert await stdout.readline() == b"before\n"
    process.send_signal(signal.SIGSTOP)
    wait_until_stopped(process.pid)
    task = loop.create_task(process.communicate(bytes(BIG)))
    await turns()
    process.kill()
    output, _ = await task
    assert len(output) < BIG
    assert process.returncode == -signal.SIGKILL
    await closed(process)


async def test_a_cancelled_communicate(loop: Loop) -> None:
    async with running(CAT) as (process, _, _):
        task = loop.create_task(process.communicate(b"hello"))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await process.wait() in (0, -signal.SIGPIPE)


async def test_communicate_within_a_timeout(loop: Loop) -> None:
    with pipe() as (reading, _):
        async with running(CAT, stdin=reading, stdout=DEVNULL) as (process, _, _):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(process.communicate(), 0.01)


# wait() and signals.


async def test_wait_is_for_everybody(loop: Loop) -> None:
    async with running(CAT) as (process, stdin, _):
        waiting = [loop.create_task(process.wait()) for _ in range(3)]
        await turns()
        assert not any(task.done() for task in waiting)
        stdin.close()
        assert await asyncio.gather(*waiting) == [0, 0, 0]
        assert await process.wait() == 0
        assert await process.wait() == 0


async def test_a_cancelled_wait_does_not_harm_another(loop: Loop) -> None:
    async with running(CAT) as (process, stdin, _):
        first, second = loop.create_task(process.wait()), loop.create_task(process.wait())
        await turns()
        first.cancel()
        await turns()
        assert first.cancelled()
        stdin.close()
        assert await second == 0


@oracle_since((3, 14), "wait() is for the pipes, too")
async def test_wait_does_not_wait_for_the_pipes(loop: Loop) -> None:
    """A grandchild keeps them."""
    with pipe() as (reading, writing):
        process = await run(*sh("exec 3<&0; cat <&3 & exit 6"), stdin=reading, stdout=PIPE)
        reading.close()
        stdout = process.stdout
        assert await process.wait() == 6
        assert not stdout.at_eof()
        writing.write(b"late")
        writing.close()
        assert await stdout.read() == b"late"


async def test_wait_within_a_timeout(loop: Loop) -> None:
    async with running(CAT) as (process, _, _):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 0.01)
        assert process.returncode is None
        process.kill()
        assert await process.wait() == -signal.SIGKILL


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with 3.11")
async def test_within_a_timeout_that_cleans_up(loop: Loop) -> None:
    async with running(CAT) as (process, _, stdout):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                try:
                    await stdout.read()
                finally:
                    process.terminate()
        assert await process.wait() == -signal.SIGTERM


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup came with 3.11")
async def test_processes_of_a_task_group(loop: Loop) -> None:
    """One task fails, the other's process is cleaned up by its cancelled task."""
    returncodes = []

    async def patient() -> None:
        async with running(CAT) as (process, _, _):
            try:
                await process.wait()
            finally:
                process.terminate()
                returncodes.append(await process.wait())

    async def hasty() -> None:
        async with running(*sh("exit 1")) as (process, _, _):
            if await process.wait() == 1:
                raise LookupError("failed")

    with pytest.raises(Exception, match=r"^unhandled errors in a TaskGroup") as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(patient())
            group.create_task(hasty())
    assert [type(error) for error in getattr(caught.value, "exceptions", ())] == [LookupError]
    assert returncodes == [-signal.SIGTERM]


@pytest.mark.parametrize("name", ["terminate", "kill"])
async def test_signals(loop: Loop, name: str) -> None:
    async with running(CAT) as (process, _, stdout):
        getattr(process, name)()
        expected = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL}[name]
        assert await process.wait() == -expected
        assert await stdout.read() == b""


async def test_send_signal(loop: Loop) -> None:
    script = "trap 'echo caught; exit 7' HUP; echo ready; while read line; do :; done"
    async with running(*sh(script)) as (process, stdin, stdout):
        assert await stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        stdin.write(b"\n")
        assert await stdout.readline() == b"caught\n"
        assert await process.wait() == 7


async def test_signals_when_everything_is_over(loop: Loop) -> None:
    process = await run(*sh("exit 0"), stdout=PIPE)
    await process.communicate()
    await turns(5)
    for call in (process.terminate, process.kill):
        with pytest.raises(ProcessLookupError):
            call()
    with pytest.raises(ProcessLookupError):
        process.send_signal(signal.SIGHUP)


# The streams.


async def test_lines(loop: Loop) -> None:
    async with running(CAT) as (_, stdin, stdout):
        for word in (b"one\n", b"two\n", b"three\n"):
            stdin.write(word)
            await stdin.drain()
            assert await stdout.readline() == word
        stdin.close()
        assert await stdout.readline() == b""
        assert stdout.at_eof()


async def test_an_iteration_over_lines(loop: Loop) -> None:
    async with running(*sh("for i in 1 2 3 4 5; do echo $i; done; printf end")) as (_, _, stdout):
        assert [line async for line in stdout] == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"end"]


async def test_exact_numbers_of_bytes(loop: Loop) -> None:
    async with running(*sh(f"head -c {MUCH + 5} /dev/zero; printf abc")) as (_, _, stdout):
        assert await stdout.readexactly(MUCH) == bytes(MUCH)
        assert await stdout.readuntil(b"a") == bytes(5) + b"a"
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await stdout.readexactly(10)
        assert caught.value.partial == b"bc"


async def test_two_streams_are_read_in_turn(loop: Loop) -> None:
    script = "while read line; do echo $line; echo $line >&2; done"
    async with running(*sh(script), stderr=PIPE) as (process, stdin, stdout):
        for number in range(20):
            line = b"%d\n" % number
            stdin.write(line)
            assert await stdout.readline() == line
            assert await process.stderr.readline() == line


async def test_a_line_over_the_limit(loop: Loop) -> None:
    async with running(*sh("head -c 1000 /dev/zero"), limit=100) as (_, _, stdout):
        with pytest.raises(ValueError, match="limit"):
            await stdout.readline()


async def test_reading_pauses_when_much_is_unread(loop: Loop) -> None:
    limit = 1000
    async with running(*sh(f"head -c {MUCH} /dev/zero"), limit=limit) as (_, _, stdout):
        while not stdout._paused:
            await turns(1)
        assert 2 * limit < len(stdout._buffer) <= 2 * limit + 256 * 1024
        unread = len(stdout._buffer)
        await turns(10)
        assert len(stdout._buffer) == unread
        assert len(await stdout.read()) == MUCH


async def test_drain_waits_for_the_child(loop: Loop) -> None:
    async with running(CAT, stdout=DEVNULL) as (process, stdin, _):
        process.send_signal(signal.SIGSTOP)
        wait_until_stopped(process.pid)
        stdin.write(bytes(BIG))
        task = loop.create_task(stdin.drain())
        await turns()
        assert not task.done()
        process.send_signal(signal.SIGCONT)
        await task
        stdin.close()
        assert await process.wait() == 0


async def test_drain_when_the_child_dies(loop: Loop) -> None:
    async with running(CAT, stdout=DEVNULL) as (process, stdin, _):
        process.send_signal(signal.SIGSTOP)
        wait_until_stopped(process.pid)
        stdin.write(bytes(BIG))
        task = loop.create_task(stdin.drain())
        await turns()
        process.kill()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await task


async def test_drain_after_the_child_has_died(loop: Loop) -> None:
    async with running(*sh("exit 0"), stdout=DEVNULL) as (process, stdin, _):
        await process.wait()
        await turns(5)
        stdin.write(b"nobody reads this")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await stdin.drain()


async def test_closing_standard_input(loop: Loop) -> None:
    async with running(CAT) as (process, stdin, stdout):
        stdin.write(b"before the end")
        assert not stdin.is_closing()
        stdin.close()
        assert stdin.is_closing()
        await stdin.wait_closed()
        assert await stdout.read() == b"before the end"
        assert await process.wait() == 0


async def test_the_end_of_standard_input(loop: Loop) -> None:
    async with running(CAT) as (process, stdin, stdout):
        stdin.writelines([b"some ", b"lines"])
        assert stdin.can_write_eof()
        stdin.write_eof()
        assert await stdout.read() == b"some lines"
        assert await process.wait() == 0


async def test_wait_closed_of_broken_standard_input(loop: Loop) -> None:
    async with running(CAT, stdout=DEVNULL) as (process, stdin, _):
        process.send_signal(signal.SIGSTOP)
        wait_until_stopped(process.pid)
        stdin.write(bytes(BIG))
        process.kill()
        await process.wait()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await stdin.wait_closed()


async def test_standard_input_in_pieces(loop: Loop) -> None:
    async with running("wc", "-c") as (_, stdin, stdout):
        for _ in range(100):
            stdin.write(bytes(50_000))
            await stdin.drain()
        stdin.close()
        assert int(await stdout.read()) == 5_000_000


# Errors, cancellation, ends.


@pytest.mark.parametrize(
    ("command", "options", "error", "text"),
    [
        (["true"], {"universal_newlines": True}, ValueError, r"^universal_newlines must be False$"),
        (["true"], {"text": True}, ValueError, r"^text must be False$"),
        (["true"], {"encoding": "ascii"}, ValueError, r"^encoding must be None$"),
        (["true"], {"errors": "strict"}, ValueError, r"^errors must be None$"),
        (["true"], {"shell": True}, ValueError, r"^shell must be False$"),
        (["true"], {"bufsize": 4096}, ValueError, r"^bufsize must be 0$"),
        (["no-such-program"], {}, FileNotFoundError, r"No such file or directory: 'no-such-pro"),
        (["/etc"], {}, PermissionError, r"Permission denied: '/etc'$"),
        ([5], {}, TypeError, r"expected str, bytes or os\.PathLike object, not int"),
        (["true", 5], {}, TypeError, r"expected str, bytes or os\.PathLike object, not int"),
        (["a\0b"], {}, ValueError, r"embedded null byte"),
    ],
)
async def test_wrong_arguments(
    loop: Loop, command: Any, options: dict[str, Any], error: Any, text: str
) -> None:
    before = open_descriptors()
    with pytest.raises(error, match=text):
        await run(*command, **ALL, **options)
    assert open_descriptors() == before


async def test_a_shell_command_is_a_string(loop: Loop) -> None:
    with pytest.raises(ValueError, match=r"^cmd must be a string$"):
        await asyncio.create_subprocess_shell(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^shell must be True$"):
        await asyncio.create_subprocess_shell("true", shell=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "cancel_twice",
    [False, pytest.param(True, marks=oracle_since((3, 12), "a thread waits for the child"))],
)
async def test_cancelled_while_starting(loop: Loop, cancel_twice: bool) -> None:
    """The process is killed and seen to end, whether or not there is patience for it."""
    before = open_descriptors()
    task = loop.create_task(run(CAT, **ALL))
    await turns(1)
    assert len(open_descriptors()) > len(before)
    task.cancel()
    if cancel_twice:
        await turns(1)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while open_descriptors() != before:
        await turns(1)


async def test_cancelled_before_starting(loop: Loop) -> None:
    task = loop.create_task(run(CAT, **ALL))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_starting_within_a_timeout_that_has_passed(loop: Loop) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        process = await asyncio.wait_for(run(*sh("exit 0")), 1e-9)
        await process.wait()
    await turns(5)


async def test_a_process_that_dies_while_nobody_looks(loop: Loop) -> None:
    process = await run(*sh("echo out; exit 9"), stdout=PIPE)
    wait_until_dead(process.pid)
    assert await process.communicate() == (b"out\n", None)
    assert process.returncode == 9


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with 3.11")
@oracle_since((3, 14), "the transport's finaliser fails when the loop is closed")
def test_a_program_that_ends_before_its_process(loop_factory: LoopFactory) -> None:
    """The process is killed with its transport."""
    with pipe() as (reading, _):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            process = runner.run(run(CAT, stdin=reading, stdout=DEVNULL))
        popen = process._transport.get_extra_info("subprocess")
        with pytest.warns(ResourceWarning, match=r"^unclosed transport <\w+ pid=\d+ running"):
            del process
            gc.collect()
        assert popen.wait() == -signal.SIGKILL


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with 3.11")
def test_a_program_that_fails_while_its_process_runs(loop_factory: LoopFactory) -> None:
    async def main() -> None:
        async with running(CAT):
            raise LookupError("failed")

    with (
        pytest.raises(LookupError, match=r"^failed$"),
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        runner.run(main())


async def test_arguments_arrive_as_they_are(loop: Loop, tmp_path: Path) -> None:
    words = ["", "two words", "'quoted'", "$HOME", "*", "ü", "new\nline"]
    program = "import sys; sys.stdout.buffer.write(ascii(sys.argv[1:]).encode())"
    process = await run(*python(program), *words, stdout=PIPE, cwd=tmp_path)
    output, _ = await process.communicate()
    assert output.decode() == ascii(words)


async def test_processes_in_debug_mode_name_no_secrets(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """Arguments may be passwords: only the program's name is logged."""
    caplog.set_level("DEBUG", "asyncio")
    loop.set_debug(True)
    process = await run("true", "secret", **ALL)
    await process.communicate(b"")
    assert re.search("execute program 'true'", caplog.text)
    assert "secret" not in caplog.text
