"""perf, which samples a process by the CPU's clock."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from .cargo import SetupError
from .environment import run, tail
from .process import TAIL_LINES

# Samples a second of CPU time. A prime, so that it does not keep step with a timer.
FREQUENCY = 3989

# Seconds that perf gets to begin, and to end.
PATIENCE = 10.0

# Above this setting, only root sees what the kernel does.
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
KERNEL_SEEN = 1


def check() -> None:
    """Says what has to be installed or set, unless perf can sample here."""
    if shutil.which("perf") is None:
        raise SetupError(
            "perf was not found: install linux-perf (Debian) or linux-tools-generic (Ubuntu)"
        )
    try:
        level = int(PARANOID.read_text())
    except (OSError, ValueError):
        level = KERNEL_SEEN
    if level > KERNEL_SEEN and os.geteuid() != 0:
        raise SetupError(
            f"perf does not see the kernel here: be root, or set kernel.perf_event_paranoid to"
            f" {KERNEL_SEEN} (it is {level})"
        )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        done = run([*record(Path(folder) / "perf.data"), "--", "true"])
    if done.returncode != 0:
        raise SetupError(
            f"perf cannot sample here (kernel.perf_event_paranoid is {level}):\n{tail(done)}"
        )


def record(file: Path) -> list[str]:
    return ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "-o", str(file)]


class Sampling:
    """Samples a process for as long as the `with` block lasts."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._file = folder / "perf.data"
        self._complaints = folder / "perf.stderr"
        with self._complaints.open("wb") as complaints:
            self._perf = subprocess.Popen(
                [*record(self._file), "-p", str(pid)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
            )

    def __enter__(self) -> Sampling:
        # It has begun when its file has a head.
        until = time.monotonic() + PATIENCE
        while not (self._file.exists() and self._file.stat().st_size):
            if self._perf.poll() is not None or time.monotonic() > until:
                self._end()
                raise SetupError(f"perf did not begin:\n{self._complained()}")
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def lines(self) -> list[str]:
        """What was sampled, a line each, after the block."""
        command = ["perf", "script", "--no-inline", "-F", "ip,sym,dso", "-i", str(self._file)]
        done = run(command)
        if done.returncode != 0:
            raise SetupError(f"perf's samples could not be read:\n{tail(done)}")
        return done.stdout.splitlines()

    def _end(self) -> None:
        self._perf.send_signal(signal.SIGINT)
        try:
            self._perf.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._perf.kill()
            self._perf.wait()

    def _complained(self) -> str:
        return "\n".join(self._complaints.read_text(errors="replace").splitlines()[-TAIL_LINES:])
