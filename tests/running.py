"""Running programs of the tests as processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path


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
