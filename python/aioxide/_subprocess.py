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
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aioxide._room import Room

P = TypeVar("P", bound=asyncio.BaseProtocol)


class SubprocessMethods(Room):
    """Child processes.

    The two methods are asyncio's own: they check the arguments and write the log as each version
    does, and libraries that look for what blocks a loop know them by their place.
    """

    if TYPE_CHECKING:

        async def subprocess_shell(
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
        ) -> tuple[asyncio.SubprocessTransport, P]: ...

        async def subprocess_exec(
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
        ) -> tuple[asyncio.SubprocessTransport, P]: ...

    else:
        subprocess_shell = asyncio.BaseEventLoop.subprocess_shell
        subprocess_exec = asyncio.BaseEventLoop.subprocess_exec
        _log_subprocess = asyncio.BaseEventLoop._log_subprocess

    async def _make_subprocess_transport(
        self,
        protocol: asyncio.SubprocessProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **options: Any,
    ) -> asyncio.SubprocessTransport:
        """Start a process; both methods call it."""
        with _child_watcher() as watcher:
            popen: subprocess.Popen[bytes] = subprocess.Popen(
                args,
                shell=shell,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                bufsize=bufsize,
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
        if self.get_debug():
            program = args if isinstance(args, (bytes, str)) else args[0]
            logger.debug("process %r created: pid %s", program, popen.pid)
        try:
            await made
        except BaseException:
            transport.close()
            await asyncio.shield(transport._wait())
            raise
        return cast(asyncio.SubprocessTransport, transport)

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
