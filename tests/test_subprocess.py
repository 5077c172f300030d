"""subprocess_exec and subprocess_shell: the process's transport, its pipes and its protocol."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import weakref
from asyncio import base_events
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from .processes import (
    CAT,
    DEVNULL,
    NO_PIPES,
    PIPE,
    STDOUT,
    ProcessRecorder,
    no_traces,
    pipe,
    python,
    running,
    sh,
    start,
    wait_until_dead,
    wait_until_stopped,
)
from .support import (
    BIG,
    Errors,
    Loop,
    LoopFactory,
    Run,
    open_descriptors,
    oracle_never,
    oracle_since,
    records,
    turns,
)

#: The child has a thread watching it on CPython's older loops, which may take its status first.
WATCHED_BY_A_THREAD = "a thread waits for the child and may be quicker"


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with no_traces():
        yield


# The calls of a process.


async def test_the_calls_of_a_process(loop: Loop) -> None:
    protocol = await start(loop, *sh("echo out; echo err >&2; exit 3"))
    await protocol.until_lost()
    assert protocol.calls[0] == ("connection_made",)
    assert protocol.calls[-1] == ("connection_lost", None)
    assert protocol.calls.count(("process_exited",)) == 1
    assert protocol.received == {1: b"out\n", 2: b"err\n"}
    for fd in (0, 1, 2):
        assert protocol.pipe_error(fd) is None
    for fd in (1, 2):
        about = [call[0] for call in protocol.calls if call[1:2] == (fd,)]
        assert about == ["pipe_data_received", "pipe_connection_lost"]
    assert len(protocol.calls) == 8
    assert protocol.returncode == 3


async def test_the_calls_of_a_process_without_pipes(loop: Loop) -> None:
    protocol = await start(loop, *sh("exit 0"), **NO_PIPES)
    await protocol.until_lost()
    assert protocol.calls == [("connection_made",), ("process_exited",), ("connection_lost", None)]


async def test_connection_made_comes_before_the_creator_goes_on(loop: Loop) -> None:
    protocol = ProcessRecorder()
    transport, _ = await loop.subprocess_exec(lambda: protocol, CAT)
    assert protocol.calls == [("connection_made",)]
    assert protocol.transport is transport
    assert isinstance(transport, asyncio.SubprocessTransport)
    transport.close()
    await protocol.until_lost()


async def test_a_conversation(loop: Loop) -> None:
    async with running(loop, CAT) as protocol:
        for word in (b"one", b"two", b"three"):
            before = len(protocol.received[1])
            protocol.stdin.write(word)
            await protocol.until_received(before + len(word))
        protocol.stdin.close()
        await protocol.until_lost()
    assert protocol.received == {1: b"onetwothree", 2: b""}
    assert protocol.pipe_error(0) is None
    assert protocol.returncode == 0


async def test_a_shell_command(loop: Loop) -> None:
    protocol = ProcessRecorder()
    transport, made = await loop.subprocess_shell(
        lambda: protocol, "read line; echo $line | tr a-z A-Z; exit 9"
    )
    assert made is protocol
    assert isinstance(transport, asyncio.SubprocessTransport)
    protocol.stdin.write(b"hello\n")
    await protocol.until_lost()
    assert protocol.received[1] == b"HELLO\n"
    assert protocol.returncode == 9


async def test_a_shell_command_of_bytes(loop: Loop) -> None:
    protocol = ProcessRecorder()
    await loop.subprocess_shell(lambda: protocol, b"echo bytes", stdin=None)
    await protocol.until_lost()
    assert protocol.received[1] == b"bytes\n"


@pytest.mark.parametrize("kind_of_path", [str, os.fsencode, Path])
async def test_kinds_of_programs_and_arguments(loop: Loop, kind_of_path: Any) -> None:
    protocol = await start(loop, kind_of_path("/bin/echo"), kind_of_path("word"), stdin=None)
    await protocol.until_lost()
    assert protocol.received[1] == b"word\n"


async def test_a_program_is_looked_for_in_the_path(loop: Loop) -> None:
    protocol = await start(loop, "cat", stdin=DEVNULL)
    await protocol.until_lost()
    assert protocol.returncode == 0


async def test_a_protocol_that_overrides_nothing(loop: Loop) -> None:
    transport, protocol = await loop.subprocess_exec(asyncio.SubprocessProtocol, *sh("echo out"))
    assert type(protocol) is asyncio.SubprocessProtocol
    pid = transport.get_pid()
    assert pid is not None
    wait_until_dead(pid)
    while transport.get_returncode() is None:
        await turns(1)
    transport.close()
    await turns(5)


async def test_the_pipes_may_end_before_the_process(loop: Loop) -> None:
    async with running(loop, *sh("exec 1>&- 2>&-; read line; exit 5")) as protocol:
        await protocol.until(lambda: protocol.pipe_is_lost(1) and protocol.pipe_is_lost(2))
        await turns()
        assert not protocol.exited
        assert protocol.returncode is None
        protocol.stdin.write(b"\n")
        await protocol.until_lost()
    assert protocol.returncode == 5
    assert protocol.names[-1] == "connection_lost"


async def test_the_process_may_end_before_the_pipes(loop: Loop) -> None:
    """A grandchild keeps them; it ends when the pipe does that this test holds."""
    with pipe() as (reading, writing):
        protocol = await start(loop, *sh("exec 3<&0; cat <&3 & exit 4"), stdin=reading)
        reading.close()
        await protocol.until_exited()
        await turns()
        assert protocol.names == ["connection_made", "process_exited"]
        assert protocol.returncode == 4
        writing.write(b"late")
        await protocol.until_received(4)
        writing.close()
        await protocol.until_lost()
    assert protocol.names == [
        "connection_made",
        "process_exited",
        "pipe_data_received",
        "pipe_connection_lost",
        "connection_lost",
    ]


async def test_all_output_comes_before_its_pipe_is_lost(loop: Loop) -> None:
    protocol = await start(loop, *sh("head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2"))
    await protocol.until_lost()
    assert (len(protocol.received[1]), len(protocol.received[2])) == (3_000_000, 2_000_000)
    assert not any(protocol.received[1])


# The exit status.


@pytest.mark.parametrize("code", [0, 1, 127, 255])
async def test_exit_codes(loop: Loop, code: int) -> None:
    protocol = await start(loop, *sh(f"exit {code}"), **NO_PIPES)
    await protocol.until_lost()
    assert protocol.returncode == code
    assert protocol.transport.get_extra_info("subprocess").returncode == code


async def test_the_code_is_known_when_the_protocol_hears_of_the_exit(loop: Loop) -> None:
    class Asking(ProcessRecorder):
        def process_exited(self) -> None:
            self.note("process_exited", self.returncode)

    protocol = Asking()
    await start(loop, *sh("exit 6"), protocol=protocol, **NO_PIPES)
    await protocol.until_lost()
    assert ("process_exited", 6) in protocol.calls


async def test_the_code_of_a_signal_is_negative(loop: Loop) -> None:
    protocol = await start(loop, *sh("kill -USR1 $$"), **NO_PIPES)
    await protocol.until_lost()
    assert protocol.returncode == -signal.SIGUSR1


@oracle_since((3, 12), WATCHED_BY_A_THREAD)
async def test_a_child_that_somebody_else_has_waited_for(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    protocol = await start(loop, *sh("read line; exit 7"))
    protocol.stdin.write(b"\n")
    assert os.waitstatus_to_exitcode(os.waitpid(protocol.pid, 0)[1]) == 7
    await protocol.until_lost()
    assert protocol.returncode == 255, "nobody knows"
    (warning,) = records(caplog, "WARNING")
    assert re.search(rf"child process pid {protocol.pid} .*will report returncode 255$", warning)


async def test_children_that_the_kernel_forgets(loop: Loop) -> None:
    """With SIGCHLD ignored there is no status, but the end is still noticed."""
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        protocol = await start(loop, *sh("read line; exit 7"))
        protocol.stdin.write(b"\n")
        await protocol.until_lost()
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert protocol.returncode == 255


def test_a_process_that_ends_while_the_loop_stands_still(loop: Loop, run: Run) -> None:
    protocol = run(start(loop, *sh("read line; echo out; exit 8")))
    protocol.stdin.write(b"\n")
    wait_until_dead(protocol.pid)
    assert protocol.returncode is None
    assert protocol.calls == [("connection_made",)]
    run(protocol.until_lost())
    assert protocol.returncode == 8
    assert protocol.received[1] == b"out\n"


# What the transport tells.


async def test_the_transport_tells_about_the_process(loop: Loop) -> None:
    protocol = await start(loop, *sh("echo $$; read line"))
    transport = protocol.transport
    await protocol.until_received(2)
    assert transport.get_pid() == int(protocol.received[1])
    assert transport.get_returncode() is None
    process = transport.get_extra_info("subprocess")
    assert isinstance(process, subprocess.Popen)
    assert process.pid == transport.get_pid()
    assert transport.get_extra_info("nothing") is None
    assert transport.get_extra_info("nothing", 5) == 5
    assert transport.get_protocol() is protocol
    assert not transport.is_closing()
    protocol.stdin.write(b"\n")
    await protocol.until_lost()
    assert transport.get_returncode() == 0
    assert transport.get_pid() == int(protocol.received[1]), "also afterwards"


async def test_the_pipes_transports(loop: Loop) -> None:
    async with running(loop, CAT, stderr=DEVNULL) as protocol:
        transport = protocol.transport
        assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        assert transport.get_pipe_transport(1) is transport.get_pipe_transport(1)
        for fd in (2, 3, -1):
            assert transport.get_pipe_transport(fd) is None
        for fd in (0, 1):
            pipe_transport = transport.get_pipe_transport(fd)
            assert pipe_transport is not None
            assert pipe_transport.get_extra_info("pipe").fileno() >= 0
            assert not pipe_transport.is_closing()
    for fd in (0, 1):
        pipe_transport = transport.get_pipe_transport(fd)
        assert pipe_transport is not None
        assert pipe_transport.is_closing()


async def test_representation(loop: Loop) -> None:
    async with running(loop, CAT) as protocol:
        pid = protocol.pid
        assert re.match(
            rf"^<\w+ pid={pid} running stdin=<\w+ .*> stdout=<\w+ .*> stderr=<\w+ .*>>$",
            repr(protocol.transport),
        )
        protocol.transport.close()
        assert re.match(rf"^<\w+ closed pid={pid} running ", repr(protocol.transport))
    assert re.match(rf"^<\w+ closed pid={pid} returncode=-9 ", repr(protocol.transport))


async def test_representation_without_pipes(loop: Loop) -> None:
    with pipe() as (reading, writing):
        options = {**NO_PIPES, "stdin": reading}
        protocol = await start(loop, *sh("read line; exit 3"), **options)
        assert re.match(rf"^<\w+ pid={protocol.pid} running>$", repr(protocol.transport))
        writing.write(b"\n")
        await protocol.until_exited()
        assert re.match(rf"^<\w+ pid={protocol.pid} returncode=3>$", repr(protocol.transport))
        await protocol.until_lost()


async def test_the_protocol_can_be_exchanged(loop: Loop) -> None:
    first, second = ProcessRecorder(), ProcessRecorder()
    await start(loop, CAT, protocol=first, stderr=DEVNULL)
    transport = second.transport = first.transport
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    second.stdin.write(b"to the second")
    await second.until_received(13)
    second.stdin.close()
    await second.until_lost()
    assert first.calls == [("connection_made",)]
    assert ("process_exited",) in second.calls


# Signals to the process.


async def test_terminate(loop: Loop) -> None:
    async with running(loop, CAT) as protocol:
        protocol.transport.terminate()
        await protocol.until_lost()
    assert protocol.returncode == -signal.SIGTERM


async def test_kill(loop: Loop) -> None:
    async with running(loop, *sh("trap '' TERM; echo ready; read line")) as protocol:
        await protocol.until_received(6)
        protocol.transport.terminate()
        protocol.transport.kill()
        await protocol.until_lost()
    assert protocol.returncode == -signal.SIGKILL


async def test_send_signal(loop: Loop) -> None:
    script = "trap 'echo caught' USR1; echo ready; read line; read line"
    async with running(loop, *sh(script)) as protocol:
        await protocol.until_received(6)
        protocol.transport.send_signal(signal.SIGUSR1)
        protocol.stdin.write(b"\n")
        assert await protocol.until_received(13) == b"ready\ncaught\n"
        protocol.stdin.write(b"\n")
        await protocol.until_lost()


async def test_signals_that_are_none(loop: Loop) -> None:
    async with running(loop, CAT) as protocol:
        with pytest.raises(OSError, match="Invalid argument"):
            protocol.transport.send_signal(999)
        with pytest.raises(TypeError):
            protocol.transport.send_signal("TERM")  # type: ignore[arg-type]
        protocol.transport.send_signal(0)  # Only asks whether the process is there.
        assert protocol.returncode is None


async def test_signals_between_the_exit_and_the_end_of_the_pipes(loop: Loop) -> None:
    """The number may be another process's by now: nothing is sent, and that is no error."""
    with pipe() as (reading, writing):
        protocol = await start(loop, *sh("exec 3<&0; cat <&3 & exit 0"), stdin=reading)
        await protocol.until_exited()
        protocol.transport.send_signal(signal.SIGUSR1)
        protocol.transport.terminate()
        protocol.transport.kill()
        assert not protocol.lost
        writing.close()
        await protocol.until_lost()


@pytest.mark.parametrize("name", ["terminate", "kill", "send_signal"])
async def test_signals_after_everything_is_over(loop: Loop, name: str) -> None:
    protocol = await start(loop, *sh("exit 0"))
    await protocol.until_lost()
    arguments = [signal.SIGTERM] if name == "send_signal" else []
    with pytest.raises(ProcessLookupError):
        getattr(protocol.transport, name)(*arguments)


# Closing.


async def test_close_kills_and_closes_the_pipes(loop: Loop) -> None:
    protocol = await start(loop, CAT)
    transport = protocol.transport
    transport.close()
    assert transport.is_closing()
    assert protocol.calls == [("connection_made",)], "the protocol is told by the loop"
    transport.close()
    await protocol.until_lost()
    assert protocol.returncode == -signal.SIGKILL
    assert sorted(protocol.calls[1:4]) == [("pipe_connection_lost", fd, None) for fd in (0, 1, 2)]
    assert protocol.calls[4:] == [("process_exited",), ("connection_lost", None)]
    transport.close()
    assert transport.is_closing()


async def test_close_after_the_end(loop: Loop) -> None:
    protocol = await start(loop, *sh("exit 3"))
    await protocol.until(lambda: protocol.lost)
    assert not protocol.transport.is_closing()
    protocol.transport.close()
    assert protocol.transport.is_closing()
    await turns()
    assert protocol.returncode == 3
    assert protocol.calls.count(("connection_lost", None)) == 1


async def test_close_leaves_a_grandchild_alone(loop: Loop) -> None:
    """It closes the pipes and waits for nobody but the child."""
    with pipe() as (reading, writing), pipe() as (told, telling):
        program = f"""if True:
            import os
            if os.fork() == 0:
                os.write({telling.fileno()}, os.read(0, 100))
        """
        command = python(program)
        protocol = await start(loop, *command, stdin=reading, pass_fds=[telling.fileno()])
        telling.close()
        await protocol.until_exited()
        protocol.transport.close()
        await protocol.until_lost()
        writing.write(b"still there")
        assert told.read(100) == b"still there"
    assert protocol.returncode == 0


async def test_close_with_much_to_write(loop: Loop) -> None:
    protocol = await start(loop, *sh("read line; read line"), stdout=DEVNULL, stderr=DEVNULL)
    protocol.transport.send_signal(signal.SIGSTOP)
    wait_until_stopped(protocol.pid)
    protocol.stdin.write(b"x" * BIG)
    protocol.transport.close()
    await protocol.until_lost()
    assert protocol.returncode == -signal.SIGKILL
    assert isinstance(protocol.pipe_error(0), (BrokenPipeError, ConnectionResetError))


@oracle_never("close() takes the status, and the watcher then knows only 255")
async def test_close_of_a_dead_child_that_is_not_noticed_yet(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    protocol = await start(loop, *sh("exit 7"), **NO_PIPES)
    wait_until_dead(protocol.pid)
    protocol.transport.close()
    await protocol.until_lost()
    assert protocol.returncode == 7
    assert records(caplog, "WARNING") == []


async def test_close_from_within_the_callbacks(loop: Loop) -> None:
    class Closing(ProcessRecorder):
        def note(self, *call: Any) -> None:
            super().note(*call)
            self.transport.close()

    protocol = await start(loop, CAT, protocol=Closing())
    await protocol.until_lost()
    assert protocol.returncode == -signal.SIGKILL
    assert protocol.names == [
        "connection_made",
        "pipe_connection_lost",
        "process_exited",
        "connection_lost",
    ]


@oracle_since((3, 14), "the transport's finaliser fails when the loop is closed")
def test_a_loop_closed_while_a_process_runs(loop: Loop, run: Run) -> None:
    """The process is killed when its transport is collected, which warns."""
    with pipe() as (reading, _):
        protocol = run(start(loop, CAT, stdin=reading, stdout=DEVNULL, stderr=DEVNULL))
        process = protocol.transport.get_extra_info("subprocess")
        loop.close()
        assert process.poll() is None
        with pytest.warns(ResourceWarning, match=r"^unclosed transport <\w+ pid=\d+ running"):
            del protocol
            gc.collect()
        assert process.wait() == -signal.SIGKILL


@oracle_never("its descriptor of the child is never closed")
def test_a_loop_closed_while_a_process_runs_keeps_no_descriptor(
    loop_factory: LoopFactory,
) -> None:
    before = open_descriptors()
    loop = loop_factory()
    with pipe() as (reading, _):
        protocol = loop.run_until_complete(
            start(loop, CAT, stdin=reading, stdout=DEVNULL, stderr=DEVNULL)
        )
        process = protocol.transport.get_extra_info("subprocess")
        loop.close()
        protocol.transport.close()
        assert process.wait() == -signal.SIGKILL
    assert open_descriptors() == before


@oracle_since((3, 14), "closing the pipes fails when the loop is closed")
def test_close_after_the_loop_kills_the_process(loop: Loop, run: Run) -> None:
    with pipe() as (reading, _):
        protocol = run(start(loop, CAT, stdin=reading, stdout=DEVNULL, stderr=DEVNULL))
        process = protocol.transport.get_extra_info("subprocess")
        loop.close()
        protocol.transport.close()
        assert process.wait() == -signal.SIGKILL
        assert protocol.calls == [("connection_made",)]


async def test_a_transport_that_is_forgotten(loop: Loop) -> None:
    """The loop holds it: the process runs on, and its protocol hears of its end."""
    protocol = await start(loop, CAT)
    stdin, transport = protocol.stdin, weakref.ref(protocol.transport)
    del protocol.transport
    gc.collect()
    alive = transport()
    assert alive is not None
    protocol.transport = alive
    stdin.close()
    await protocol.until_lost()
    assert ("process_exited",) in protocol.calls


# Standard descriptors.


async def test_devnull(loop: Loop) -> None:
    script = "import os, sys\nsys.exit(0 if os.read(0, 1) == b'' and os.write(1, b'x') else 1)"
    protocol = await start(loop, *python(script), **NO_PIPES)
    await protocol.until_lost()
    assert protocol.returncode == 0


async def test_standard_descriptors_are_inherited(loop: Loop, capfd: Any) -> None:
    protocol = await start(
        loop, *sh("echo out; echo err >&2"), stdin=None, stdout=None, stderr=None
    )
    await protocol.until_lost()
    assert capfd.readouterr() == ("out\n", "err\n")
    assert protocol.names == ["connection_made", "process_exited", "connection_lost"]


async def test_errors_into_the_output(loop: Loop) -> None:
    protocol = await start(loop, *sh("echo out; echo err >&2"), stderr=STDOUT)
    assert protocol.transport.get_pipe_transport(2) is None
    await protocol.until_lost()
    assert protocol.received == {1: b"out\nerr\n", 2: b""}


async def test_files_and_descriptors(loop: Loop, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"from a file")
    with source.open("rb") as reading, target.open("wb") as writing:
        protocol = await start(loop, CAT, stdin=reading, stdout=writing.fileno(), stderr=None)
        for fd in (0, 1, 2):
            assert protocol.transport.get_pipe_transport(fd) is None
        await protocol.until_lost()
        assert not reading.closed
    assert target.read_bytes() == b"from a file"


async def test_something_that_is_no_file(loop: Any) -> None:
    before = open_descriptors()
    with pytest.raises(AttributeError, match="fileno"):
        await loop.subprocess_exec(ProcessRecorder, CAT, stdin=object())
    assert open_descriptors() == before


@oracle_since((3, 12), "the child's standard input is a socket")
async def test_standard_input_is_a_pipe(loop: Loop) -> None:
    protocol = await start(loop, *sh("test -p /dev/stdin"))
    await protocol.until_lost()
    assert protocol.returncode == 0


async def test_the_childs_ends_are_blocking(loop: Loop) -> None:
    script = "import os, sys\nsys.exit(sum(os.get_blocking(fd) for fd in (0, 1, 2)))"
    protocol = await start(loop, *python(script))
    await protocol.until_lost()
    assert protocol.returncode == 3


async def test_the_child_inherits_nothing_else(loop: Loop) -> None:
    """Neither the loop's descriptors nor other processes' pipes."""
    async with running(loop, CAT):
        protocol = await start(loop, *sh("exec ls /proc/self/fd"))
        await protocol.until_lost()
    assert protocol.received[1].split() == [b"0", b"1", b"2", b"3"]


async def test_standard_input_ends_although_another_child_was_started_since(loop: Loop) -> None:
    async with running(loop, CAT) as first, running(loop, CAT):
        first.stdin.close()
        await first.until_lost()
    assert first.returncode == 0


# Writing to the process, reading from it.


async def test_a_child_that_does_not_read(loop: Loop) -> None:
    """What it has not read when it ends is an error of its standard input, and no report."""
    protocol = await start(loop, *sh("read line; exit 3"))
    protocol.stdin.write(b"\n" * BIG)
    await protocol.until_lost()
    assert isinstance(protocol.pipe_error(0), (BrokenPipeError, ConnectionResetError))
    assert protocol.returncode == 3


async def test_writing_after_the_child_has_gone(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    protocol = await start(loop, *sh("exit 0"))
    stdin = protocol.stdin
    await protocol.until(lambda: protocol.pipe_is_lost(0))
    for _ in range(10):
        stdin.write(b"nobody reads this")
    await protocol.until_lost()
    assert protocol.pipe_error(0) is None
    assert records(caplog, "ERROR") == []


async def test_write_eof(loop: Loop) -> None:
    async with running(loop, CAT) as protocol:
        assert protocol.stdin.can_write_eof()
        protocol.stdin.write(b"the end")
        protocol.stdin.write_eof()
        await protocol.until_lost()
    assert protocol.received[1] == b"the end"
    assert protocol.returncode == 0


async def test_standard_input_is_flushed_before_it_is_closed(loop: Loop) -> None:
    async with running(loop, CAT) as protocol:
        protocol.stdin.write(bytes(BIG))
        assert protocol.stdin.get_write_buffer_size() > 0
        protocol.stdin.close()
        await protocol.until_lost()
    assert len(protocol.received[1]) == BIG
    assert protocol.pipe_error(0) is None


async def test_abort_of_standard_input(loop: Loop) -> None:
    async with running(loop, *sh("wc -c >&2"), stdout=DEVNULL) as protocol:
        protocol.stdin.write(bytes(BIG))
        protocol.stdin.abort()
        await protocol.until_lost()
    assert protocol.pipe_error(0) is None
    assert int(protocol.received[2]) < BIG


async def test_the_protocol_is_paused_and_resumed(loop: Loop) -> None:
    async with running(loop, CAT, stdout=DEVNULL, stderr=DEVNULL) as protocol:
        protocol.transport.send_signal(signal.SIGSTOP)
        wait_until_stopped(protocol.pid)
        protocol.stdin.write(bytes(BIG))
        assert protocol.names == ["connection_made", "pause_writing"]
        assert 0 < protocol.stdin.get_write_buffer_size() <= BIG
        protocol.transport.send_signal(signal.SIGCONT)
        await protocol.until(lambda: "resume_writing" in protocol.names)
        assert protocol.names == ["connection_made", "pause_writing", "resume_writing"]


async def test_output_waits_while_reading_is_paused(loop: Loop) -> None:
    async with running(loop, CAT, stderr=DEVNULL) as protocol:
        protocol.stdout.pause_reading()
        protocol.stdin.write(b"hello")
        with open(os.dup(protocol.stdout.get_extra_info("pipe").fileno()), "rb") as same:
            there = asyncio.Event()
            loop.add_reader(same, there.set)
            await there.wait()
            loop.remove_reader(same)
        await turns()
        assert protocol.received[1] == b""
        protocol.stdout.resume_reading()
        assert await protocol.until_received(5) == b"hello"


async def test_a_childs_output_can_be_refused(loop: Loop) -> None:
    """Its next write raises SIGPIPE, which is not ignored in children."""
    async with running(loop, "yes", stdin=DEVNULL, stderr=DEVNULL) as protocol:
        await protocol.until_received(1)
        protocol.stdout.close()
        await protocol.until_lost()
    assert protocol.returncode == -signal.SIGPIPE


@pytest.mark.parametrize("method", ["subprocess_exec", "subprocess_shell"])
async def test_what_blocks_while_a_process_starts_is_known_by_its_place(
    loop: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Popen reads a pipe until the child runs. Libraries that refuse calls which block the loop let
    it pass below asyncio's own method, by the names of its file and its function.
    """
    callers = []
    read = os.read

    def note_callers(fd: int, count: int) -> bytes:
        frame = sys._getframe(1)
        while frame is not None:
            callers.append((frame.f_code.co_filename, frame.f_code.co_name))
            frame = cast("FrameType", frame.f_back)
        return read(fd, count)

    protocol = ProcessRecorder()
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", note_callers)
        # posix_spawn(), with which there is no such pipe, is for those that stay where they are.
        await getattr(loop, method)(lambda: protocol, "true", cwd="/", **NO_PIPES)
    await protocol.until_lost()
    assert (base_events.__file__, method) in callers


# Errors before there is a process.


@pytest.mark.parametrize("method", ["subprocess_exec", "subprocess_shell"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"bufsize": 1}, "bufsize must be 0"),
        ({"bufsize": -1}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
        ({"universal_newlines": True, "text": True, "errors": "x"}, "universal_newlines must be"),
        ({"bufsize": 4, "text": True}, "bufsize must be 0"),
    ],
)
async def test_options_that_are_refused(
    loop: Any, method: str, options: dict[str, Any], text: str
) -> None:
    made = []
    with pytest.raises(ValueError, match=rf"^{text}"):
        await getattr(loop, method)(lambda: made.append(1), "true", **options)
    assert made == [], "the factory is called when everything else is right"


async def test_the_other_method_is_refused(loop: Any) -> None:
    with pytest.raises(ValueError, match=r"^shell must be False$"):
        await loop.subprocess_exec(ProcessRecorder, "true", shell=True)
    with pytest.raises(ValueError, match=r"^shell must be True$"):
        await loop.subprocess_shell(ProcessRecorder, "true", shell=False)


@pytest.mark.parametrize("cmd", [["true"], 5, None, Path("true")])
async def test_a_shell_command_is_a_string(loop: Any, cmd: Any) -> None:
    with pytest.raises(ValueError, match=r"^cmd must be a string$"):
        await loop.subprocess_shell(ProcessRecorder, cmd)


@pytest.mark.parametrize("program", [5, None, ["true"]])
async def test_a_program_is_a_path(loop: Any, program: Any) -> None:
    before = open_descriptors()
    with pytest.raises(TypeError, match=r"expected str, bytes or os.PathLike object, not "):
        await loop.subprocess_exec(ProcessRecorder, program)
    assert open_descriptors() == before


async def test_an_option_that_does_not_exist(loop: Any) -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'nonsense'"):
        await loop.subprocess_exec(ProcessRecorder, "true", nonsense=1)


async def test_a_program_is_needed(loop: Any) -> None:
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'program'$"):
        await loop.subprocess_exec(ProcessRecorder)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'cmd'$"):
        await loop.subprocess_shell(ProcessRecorder)


@pytest.mark.parametrize(
    ("program", "options", "error", "subject"),
    [
        ("no-such-program-anywhere", {}, FileNotFoundError, "no-such-program-anywhere"),
        ("/etc/passwd", {}, PermissionError, "/etc/passwd"),
        (CAT, {"cwd": "/no/such/directory"}, FileNotFoundError, "/no/such/directory"),
    ],
)
async def test_a_program_that_cannot_be_started(
    loop: Loop, program: str, options: dict[str, Any], error: type[OSError], subject: str
) -> None:
    before = open_descriptors()
    protocol = ProcessRecorder()
    with pytest.raises(error) as caught:
        await start(loop, program, protocol=protocol, **options)
    assert caught.value.filename == subject
    await turns()
    assert protocol.calls == []
    assert open_descriptors() == before


async def test_a_shell_finds_no_program(loop: Loop) -> None:
    protocol = ProcessRecorder()
    await loop.subprocess_shell(lambda: protocol, "no-such-program-anywhere")
    await protocol.until_lost()
    assert protocol.returncode == 127
    assert b"not found" in protocol.received[2]


async def test_an_exception_from_the_factory(loop: Loop) -> None:
    def factory() -> ProcessRecorder:
        raise LookupError("no protocol")

    with pytest.raises(LookupError, match=r"^no protocol$"):
        await loop.subprocess_exec(factory, CAT)


async def test_cancelled_while_starting(loop: Loop) -> None:
    """The process is killed, and seen to end."""
    before = open_descriptors()
    protocol = ProcessRecorder()
    task = loop.create_task(start(loop, CAT, protocol=protocol))
    await turns(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns(10)
    assert open_descriptors() == before


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Only so many more descriptors can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        highest = max(int(name.partition(":")[0]) for name in open_descriptors())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + count + 1, hard))
        fillers = []
        with contextlib.suppress(OSError):
            while True:
                fillers.append(stack.enter_context(open("/dev/null")))
        for filler in fillers[len(fillers) - count :]:
            filler.close()
        yield


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Popen leaves its first pipes open")
async def test_when_descriptors_run_out(loop: Loop) -> None:
    """At whichever of the many that a process needs: it fails, and leaves nothing, or works."""
    before = open_descriptors()
    failures = 0
    for count in range(14):
        protocol = ProcessRecorder()
        try:
            with room_for(count):
                await start(loop, CAT, protocol=protocol)
        except OSError as exc:
            assert exc.errno == errno.EMFILE
            assert protocol.calls == []
            failures += 1
        else:
            protocol.transport.close()
            await protocol.until_lost()
        await turns(5)
        assert open_descriptors() == before
    assert 0 < failures < 14


# Options of Popen.


async def test_a_directory(loop: Loop, tmp_path: Path) -> None:
    protocol = await start(loop, "/bin/pwd", "-P", cwd=tmp_path)
    await protocol.until_lost()
    assert protocol.received[1].decode() == f"{tmp_path.resolve()}\n"


async def test_an_environment(loop: Loop) -> None:
    protocol = await start(loop, *sh("echo $WORD-$HOME"), env={"WORD": "given"})
    await protocol.until_lost()
    assert protocol.received[1] == b"given-\n"


async def test_descriptors_that_are_passed_on(loop: Loop) -> None:
    with pipe() as (reading, writing):
        program = f"import os; os.write({writing.fileno()}, b'passed')"
        protocol = await start(loop, *python(program), pass_fds=[writing.fileno()])
        writing.close()
        assert reading.read() == b"passed"
        await protocol.until_lost()
    assert protocol.returncode == 0


async def test_a_session_of_its_own(loop: Loop) -> None:
    async with running(loop, CAT, start_new_session=True) as protocol:
        assert os.getsid(protocol.pid) == protocol.pid
    async with running(loop, CAT) as protocol:
        assert os.getsid(protocol.pid) == os.getsid(0)


async def test_another_name_for_the_program(loop: Loop) -> None:
    protocol = await start(loop, "a name", "-c", "echo $0", executable="/bin/sh")
    await protocol.until_lost()
    assert protocol.received[1] == b"a name\n"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_function_called_in_the_child(loop: Loop) -> None:
    protocol = await start(loop, *sh("exit 0"), preexec_fn=lambda: os.write(1, b"in the child"))
    await protocol.until_lost()
    assert protocol.received[1] == b"in the child"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_function_that_fails_in_the_child(loop: Loop) -> None:
    before = open_descriptors()
    with pytest.raises(subprocess.SubprocessError, match=r"^Exception occurred in preexec_fn\.$"):
        await start(loop, CAT, preexec_fn=lambda: 1 // 0)
    assert open_descriptors() == before


# Exceptions from the protocol.


class Raising(ProcessRecorder):
    """Raises in one of its methods, after having noted the call."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def note(self, *call: Any) -> None:
        super().note(*call)
        if call[0] == self.name:
            raise LookupError(self.name)


CALLS = [
    "connection_made",
    "pipe_data_received",
    "pipe_connection_lost",
    "process_exited",
    "connection_lost",
]


@pytest.mark.parametrize("name", CALLS)
async def test_an_exception_is_reported_and_the_process_goes_on(
    loop: Loop, errors: Errors, name: str
) -> None:
    protocol = Raising(name)
    await start(loop, *sh("echo out"), protocol=protocol, stdin=DEVNULL, stderr=DEVNULL)
    await protocol.until_lost()
    await turns()
    context = errors.take_one()
    assert context["message"].startswith("Exception in callback ")
    assert isinstance(context["exception"], LookupError)
    assert sorted(call[0] for call in protocol.calls) == sorted(CALLS)
    assert protocol.returncode == 0


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_the_loop(
    loop: Loop, run: Run, name: str, error: type[BaseException]
) -> None:
    """And the next run goes on where this one has ended."""

    class Interrupting(Raising):
        def note(self, *call: Any) -> None:
            try:
                super().note(*call)
            except LookupError:
                raise error(name) from None

    async def main() -> None:
        await start(loop, *sh("echo out"), protocol=protocol, stdin=DEVNULL, stderr=DEVNULL)
        await protocol.until(lambda: protocol.lost)
        await turns()

    protocol = Interrupting(name)
    task = loop.create_task(main())
    with pytest.raises(error, match=f"^{name}$"):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    protocol.transport.close()
    assert sorted(call[0] for call in protocol.calls) == sorted(CALLS)
    assert protocol.returncode == 0


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
async def test_an_exception_from_flow_control_is_reported(
    loop: Loop, errors: Errors, name: str
) -> None:
    async with running(loop, CAT, protocol=Raising(name), stdout=DEVNULL) as protocol:
        protocol.transport.send_signal(signal.SIGSTOP)
        wait_until_stopped(protocol.pid)
        protocol.stdin.write(bytes(BIG))
        protocol.transport.send_signal(signal.SIGCONT)
        await protocol.until(lambda: "resume_writing" in protocol.names)
        protocol.stdin.close()
        await protocol.until_lost()
    context = errors.take_one()
    assert context["message"] == f"protocol.{name}() failed"
    assert isinstance(context["exception"], LookupError)
    assert protocol.returncode == 0


# Many, and elsewhere.


async def test_a_hundred_processes_at_once(loop: Loop) -> None:
    protocols = await asyncio.gather(
        *(start(loop, *sh(f"read line; echo $line; exit {i}")) for i in range(100))
    )
    for i, protocol in enumerate(protocols):
        protocol.stdin.write(b"%d\n" % i)
    for protocol in protocols:
        await protocol.until_lost()
    assert [protocol.returncode for protocol in protocols] == list(range(100))
    assert [int(protocol.received[1]) for protocol in protocols] == list(range(100))


@pytest.mark.parametrize("threads", [1, 2])
def test_loops_in_other_threads(loop_factory: LoopFactory, threads: int) -> None:
    together = threading.Barrier(threads)

    async def main(loop: Loop) -> int | None:
        together.wait()
        first = await start(loop, CAT)
        second = await start(loop, *sh("exit 12"), **NO_PIPES)
        first.stdin.write(b"x")
        await first.until_received(1)
        first.transport.terminate()
        await first.until_lost()
        await second.until_lost()
        assert first.returncode == -signal.SIGTERM
        return second.returncode

    def work(_: int) -> int | None:
        loop = loop_factory()
        try:
            return loop.run_until_complete(main(loop))
        finally:
            loop.close()

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(work, range(threads))) == [12] * threads


async def test_a_handler_of_sigchld(loop: Loop) -> None:
    """It is the program's: processes are noticed with it and without it."""
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGCHLD, heard.set)
    try:
        protocol = await start(loop, *sh("exit 2"))
        await heard.wait()
        await protocol.until_lost()
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)
    assert protocol.returncode == 2


async def test_other_children_are_left_alone(loop: Loop) -> None:
    other = subprocess.Popen(sh("exit 21"))
    protocol = await start(loop, *sh("exit 22"))
    await protocol.until_lost()
    assert other.wait() == 21
    assert protocol.returncode == 22


async def test_no_thread_is_needed(loop: Loop, kind: str) -> None:
    if kind == "asyncio" and sys.version_info < (3, 12):
        pytest.skip(f"CPython's loop differs here: {WATCHED_BY_A_THREAD}")
    before = set(os.listdir("/proc/self/task"))
    async with running(loop, CAT):
        assert set(os.listdir("/proc/self/task")) <= before


# Debug mode.


async def test_debug_mode_logs_the_life_of_a_process(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "asyncio")
    loop.set_debug(True)
    protocol = await start(loop, *sh("read line; exit 3"), stderr=STDOUT)
    protocol.stdin.write(b"\n")
    await protocol.until_lost()
    about = rf"<\w+ pid={protocol.pid} .*>"
    for text in (
        r"DEBUG .* execute program '/bin/sh' stdin=<pipe> stdout=stderr=<pipe>",
        rf"DEBUG .* process '/bin/sh' created: pid {protocol.pid}",
        rf"INFO .* execute program '/bin/sh': {about}",
        rf"INFO .* {about} exited with return code 3",
    ):
        assert re.search(rf"^{text}$", caplog.text, re.MULTILINE)


async def test_debug_mode_logs_shell_commands(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "asyncio")
    loop.set_debug(True)
    protocol = ProcessRecorder()
    await loop.subprocess_shell(lambda: protocol, "exit 3", stdin=DEVNULL, stderr=None)
    await protocol.until_lost()
    for text in (
        rf"DEBUG .* run shell command 'exit 3' stdin={DEVNULL} stdout=<pipe>",
        rf"DEBUG .* process 'exit 3' created: pid {protocol.pid}",
        rf"INFO .* run shell command 'exit 3': <\w+ pid={protocol.pid} .*>",
    ):
        assert re.search(rf"^{text}$", caplog.text, re.MULTILINE)


async def test_debug_mode_warns_of_a_close_that_kills(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    protocol = await start(loop, CAT, stdin=PIPE)
    protocol.transport.close()
    await protocol.until_lost()
    text = rf"^WARNING .* Close running child process: kill <\w+ .*pid={protocol.pid} running "
    assert re.search(text, caplog.text, re.MULTILINE)
