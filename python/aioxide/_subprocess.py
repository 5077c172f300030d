"""`subprocess_exec` and `subprocess_shell`: Popen starts the process, the engine does the rest."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import warnings
from asyncio import events
from asyncio.log import logger
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from aioxide._room import Room

P = TypeVar("P", bound=asyncio.SubprocessProtocol)


class SubprocessMethods(Room):
    """Child processes."""

    async def subprocess_shell(  # type: ignore[override]  # the options of Popen are spelt out there
        self,
        protocol_factory: Callable[[], P],
        cmd: str | bytes,
        *,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: bool = False,
        shell: bool = True,
        bufsize: int = 0,
        encoding: str | None = None,
        errors: str | None = None,
        text: bool | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, P]:
        """Run a command line with the shell; return (transport, protocol)."""
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        if universal_newlines:
            raise ValueError("universal_newlines must be False")
        if not shell:
            raise ValueError("shell must be True")
        _check_binary(bufsize, encoding, errors, text)
        what = f"run shell command {cmd!r}"
        return await self._start_process(
            protocol_factory, what, cmd, True, stdin, stdout, stderr, kwargs
        )

    async def subprocess_exec(  # type: ignore[override]  # the options of Popen are spelt out there
        self,
        protocol_factory: Callable[[], P],
        program: Any,
        *args: Any,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: bool = False,
        shell: bool = False,
        bufsize: int = 0,
        encoding: str | None = None,
        errors: str | None = None,
        text: bool | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, P]:
        """Run a program; return (transport, protocol)."""
        if universal_newlines:
            raise ValueError("universal_newlines must be False")
        if shell:
            raise ValueError("shell must be False")
        _check_binary(bufsize, encoding, errors, text)
        what = f"execute program {program!r}"
        return await self._start_process(
            protocol_factory, what, (program, *args), False, stdin, stdout, stderr, kwargs
        )

    async def _start_process(
        self,
        protocol_factory: Callable[[], P],
        what: str,
        command: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        options: dict[str, Any],
    ) -> tuple[asyncio.SubprocessTransport, P]:
        protocol = protocol_factory()
        debug = self.get_debug()
        if debug:
            # Not the arguments: they may hold a password, and may be long.
            logger.debug(" ".join([what, *_describe_streams(stdin, stdout, stderr)]))
        with _child_watcher() as watcher:
            popen: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                shell=shell,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                bufsize=0,
                **options,
            )
            try:
                transport, made = self._start_subprocess(protocol, popen, watcher is not None)
            except BaseException:
                popen.kill()
                popen.wait()
                raise
            if watcher is not None:
                watcher.add_child_handler(popen.pid, self._process_ended, transport)
        if debug:
            program = command if isinstance(command, (bytes, str)) else command[0]
            logger.debug("process %r created: pid %s", program, popen.pid)
        try:
            await made
        except BaseException:
            transport.close()
            await asyncio.shield(transport._wait())
            raise
        if debug:
            logger.info("%s: %r", what, transport)
        return cast(asyncio.SubprocessTransport, transport), protocol

    def _process_ended(self, pid: int, return_code: int, transport: Any) -> None:
        """What a child watcher calls, on any thread."""
        self.call_soon_threadsafe(transport._exited, return_code)


@contextlib.contextmanager
def _child_watcher() -> Iterator[Any]:
    """The child watcher that the program has set, if it is one that reaps whoever ends.

    Python had watchers up to 3.13. The kinds that wait for a child by its number are not needed
    here: that is what the engine does.
    """
    if sys.version_info >= (3, 14):
        yield None
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            watcher = events.get_child_watcher()
    except NotImplementedError:  # a policy that has none
        yield None
        return
    # Entered before the process is started: it may end before the watcher is told of it.
    with watcher as entered:
        # asyncio asks one of the two, depending on the version.
        asked = watcher if sys.version_info >= (3, 12) else entered
        if not asked.is_active():
            raise RuntimeError(
                "asyncio.get_child_watcher() is not activated, subprocess support is not installed."
            )
        reaping = (asyncio.SafeChildWatcher, asyncio.FastChildWatcher)
        yield watcher if isinstance(watcher, reaping) else None


def _check_binary(
    bufsize: int, encoding: str | None, errors: str | None, text: bool | None
) -> None:
    """Refuse what would put text or buffers between the process and the transport."""
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")


def _describe_streams(stdin: Any, stdout: Any, stderr: Any) -> list[str]:
    described = []
    if stdin is not None:
        described.append(f"stdin={_describe_stream(stdin)}")
    if stdout is not None and stderr == subprocess.STDOUT:
        described.append(f"stdout=stderr={_describe_stream(stdout)}")
        return described
    if stdout is not None:
        described.append(f"stdout={_describe_stream(stdout)}")
    if stderr is not None:
        described.append(f"stderr={_describe_stream(stderr)}")
    return described


def _describe_stream(stream: Any) -> str:
    if stream == subprocess.PIPE:
        return "<pipe>"
    if stream == subprocess.STDOUT:
        return "<stdout>"
    return repr(stream)
