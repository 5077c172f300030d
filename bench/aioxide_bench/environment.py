"""The Python side of the comparison: an environment of its own with the loops to compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cargo import BENCH, SetupError
from .progress import Progress

# The loop that comes with the interpreter.
BUILT_IN = "asyncio"

# The loop under test, which is not fetched from anywhere.
OURS = "aioxide"

# Makes a loop as servers/echo.py does, and throws it away.
TRY_LOOP = """
import sys
sys.path.insert(0, sys.argv[1])
import echo
echo.new_event_loop(sys.argv[2]).close()
"""

# Prints which files the ssl module's OpenSSL, the C library and the program loader are.
FIND_OPENSSL = """
import ssl
with open("/proc/self/maps") as maps:
    files = {line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}
for start in ("libssl.", "libc.", "ld-"):
    print(next(file for file in files if file.rpartition("/")[2].startswith(start)))
"""

# Seconds that a command gets: a loop that hangs, or an index that does not answer, is missing.
PATIENCE = 600.0
IMPORT_PATIENCE = 30.0


def interpreter(python: str) -> str:
    """The interpreter itself behind a name, a link or a launcher script: it is the process whose
    CPU time is read."""
    code = "import sys; assert sys.version_info >= (3, 10); print(sys.executable)"
    done = run([python, "-c", code])
    if done.returncode != 0:
        raise SetupError(f"{python} is not a Python of version 3.10 or later:\n{tail(done)}")
    return done.stdout.strip()


@dataclass(frozen=True)
class OpenSsl:
    """Where an interpreter has its OpenSSL from."""

    library: str
    libc: str
    loader: str

    def command(self, program: str) -> tuple[str, ...]:
        """Starts a program that loads this OpenSSL. An interpreter may have brought a C library of
        its own, which its OpenSSL needs: the program runs on that, by the interpreter's loader."""
        folders = dict.fromkeys(os.path.dirname(file) for file in (self.libc, self.library))
        loading = (self.loader, "--library-path", ":".join(folders), program)
        return (*loading, "--library", self.library)


class Environment:
    """A virtual environment in the build folder, kept from run to run."""

    def __init__(self, folder: Path, python: str, progress: Progress) -> None:
        self._base = python
        self.folder = folder
        self._progress = progress
        self.python = str(folder / "bin" / "python")

    def create(self) -> None:
        """Makes the environment, anew if it belongs to another interpreter or is broken."""
        version = "import sys; print(sys.version)"
        there = run([self.python, "-c", version]) if Path(self.python).exists() else None
        if there and there.stdout == run([self._base, "-c", version]).stdout and there.stdout:
            return
        self._progress.say(f"creating the benchmark's environment in {self.folder}")
        make = [self._base, "-m", "venv", "--clear", str(self.folder)]
        if run(make).returncode == 0:
            return
        # An interpreter that comes without pip: another one's installs for it.
        done = run([*make, "--without-pip"])
        if done.returncode != 0:
            raise SetupError(f"no virtual environment could be made:\n{tail(done)}")

    def install_peer(self, loop: str) -> str | None:
        """Makes a loop of the package index importable. Returns why that failed, or None."""
        if self._why_missing(loop) is None:
            return None
        self._progress.say(f"installing {' and '.join(packages(loop))}")
        # Wheels only: building a peer from its source would take longer than the benchmark.
        done = self._pip("install", "--only-binary", ":all:", *packages(loop))
        if done.returncode != 0:
            return f"pip could not install it: {last_line(done)}"
        return self._why_missing(loop)

    def install_packages(self, packages: Sequence[str]) -> str | None:
        """Makes packages that are named as their modules importable. Returns why that failed, or
        None."""
        code = f"import {', '.join(packages)}"
        if run([self.python, "-c", code]).returncode == 0:
            return None
        self._progress.say(f"installing {' and '.join(packages)}")
        done = self._pip("install", "--only-binary", ":all:", *packages)
        if done.returncode != 0:
            return f"pip could not install it: {last_line(done)}"
        done = run([self.python, "-c", code])
        return None if done.returncode == 0 else last_line(done)

    def install_ours(self, wheel: Path | None) -> str | None:
        """Makes aioxide importable, from the wheel or else from where the base interpreter has it.
        Returns why that failed, or None."""
        link = self._link()
        if link.is_symlink():
            link.unlink()
        elif wheel is None:
            # A wheel of an earlier run is not what this run is about.
            self._pip("uninstall", "--yes", OURS)
        if wheel is None:
            return self._link_ours(link)
        self._progress.say(f"installing {wheel.name}")
        done = self._pip("install", "--force-reinstall", "--no-deps", str(wheel))
        if done.returncode != 0:
            return f"pip could not install {wheel}: {last_line(done)}"
        return self._why_missing(OURS)

    def versions(self, packages: Sequence[str]) -> dict[str, str]:
        """The interpreter's version, and those of the packages that it has."""
        return versions(self.python, packages)

    def openssl(self) -> OpenSsl | None:
        """The OpenSSL that the `ssl` module has loaded, if it is a library of its own."""
        self.create()
        done = run([self.python, "-c", FIND_OPENSSL])
        return OpenSsl(*done.stdout.splitlines()) if done.returncode == 0 else None

    def _link_ours(self, link: Path) -> str | None:
        code = f"import {OURS}, os; print(os.path.dirname(os.path.abspath({OURS}.__file__)))"
        found = run([self._base, "-c", code])
        if found.returncode != 0:
            return f"no --wheel was given, and {self._base} has none: {last_line(found)}"
        link.symlink_to(found.stdout.strip())
        self._progress.say(f"using {OURS} as {self._base} has it, in {found.stdout.strip()}")
        return self._why_missing(OURS)

    def _link(self) -> Path:
        code = "import sysconfig; print(sysconfig.get_path('platlib'))"
        return Path(run([self.python, "-c", code]).stdout.strip()) / OURS

    def _why_missing(self, loop: str) -> str | None:
        return why_missing(self.python, loop)

    def _pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([*self._pip_command(), "--disable-pip-version-check", "-q", *arguments])

    def _pip_command(self) -> list[str]:
        """The environment's own pip, or that of the interpreter below it, or the runner's."""
        for python in (self.python, self._base, sys.executable):
            if run([python, "-m", "pip", "--version"]).returncode == 0:
                other = [] if python == self.python else ["--python", self.python]
                return [python, "-m", "pip", *other]
        return [self.python, "-m", "pip"]


def why_missing(python: str, loop: str) -> str | None:
    """Why an interpreter cannot make this loop, or None if it can."""
    done = run([python, "-c", TRY_LOOP, str(BENCH / "servers"), loop], IMPORT_PATIENCE)
    return None if done.returncode == 0 else last_line(done)


def packages(loop: str) -> list[str]:
    """The packages that a loop is made of, but for what comes with the interpreter."""
    return [package for package in loop.split("+") if package != BUILT_IN]


def versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    code = """
import importlib.metadata, json, platform, ssl, sys
found = {"python": platform.python_implementation() + " " + platform.python_version()}
found["openssl"] = ssl.OPENSSL_VERSION
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
if "aioxide" in found:
    import aioxide._aioxide
    if aioxide._aioxide.__profiled__:
        found["aioxide"] += " (profile-guided)"
print(json.dumps(found))
"""
    done = run([python, "-c", code, *packages])
    found: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def run(command: Sequence[str], patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end. One that cannot be started, or does not end, has failed."""
    try:
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=patience,
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no end within {patience:.0f} s")


def tail(done: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return tail(done).rpartition("\n")[2] or f"exit status {done.returncode}"
