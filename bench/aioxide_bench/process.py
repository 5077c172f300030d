"""Child processes: what they complained about, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from types import TracebackType
from typing import IO

# Seconds that a child gets to end by itself before it is killed.
END_PATIENCE = 3.0

# Lines of a child's standard error that a message quotes.
TAIL_LINES = 12


class Child:
    """A process that ends with the `with` block. Its standard error goes to an unnamed file."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        # The child outlived its patience, so that its status says nothing.
        self._killed = False
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                env={**os.environ, **(environment or {})},
            )
        except OSError:
            self._complaints.close()
            raise

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
        self._complaints.close()

    def end(self) -> None:
        """Ends standard input, which asks the child to end, and reaps it."""
        self.close_input()
        try:
            self.process.wait(END_PATIENCE)
        except subprocess.TimeoutExpired:
            self._killed = True
        finally:
            # Does nothing to a process that has ended.
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def close_input(self) -> None:
        """Asks the child to end."""
        if self.process.stdin:
            # What could not be written to a child that has ended is nobody's loss.
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def obituary(self, what: str = "server") -> str:
        """Ends the child, and says how it ended unless all was well, and its last complaints."""
        self.end()
        status = self.process.returncode
        if self._killed:
            end = f"the {what} did not end within {END_PATIENCE:.0f} s when asked to"
        else:
            end = fate(what, status) if status else ""
        return f"{end}\n{self._complaints_tail()}".strip()

    def _complaints_tail(self) -> str:
        # pread leaves the offset alone, which the child shares.
        descriptor = self._complaints.fileno()
        text = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-TAIL_LINES:])


def fate(what: str, status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"the {what} ended with status {status}"
    try:
        return f"the {what} was ended by {signal.Signals(-status).name}"
    except ValueError:
        # A real-time signal has no name.
        return f"the {what} was ended by signal {-status}"
