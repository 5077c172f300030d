"""Which Pythons there are, and aioxide for each of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

#: The versions that aioxide is built for.
VERSIONS = ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14))

#: What builds the wheel, as pyproject.toml asks for it.
BUILDER = "maturin>=1.9,<2"

#: CPython's asyncio tests.
SUITE = "test.test_asyncio"

PROJECT = Path(__file__).resolve().parent.parent

#: Seconds to ask an interpreter what it is.
PROBE_SECONDS = 60

PROBE = """
import importlib.util, json, platform, sys, sysconfig
def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
print(json.dumps({
    "version": sys.version_info[:3],
    "cpython": sys.implementation.name == "cpython",
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "suite": has("test.test_asyncio"),
    "aioxide": has("aioxide"),
}))
"""


class Unusable(Exception):
    """Why an interpreter is passed over."""


class NotBuilt(Exception):
    """The wheel could not be built."""


@dataclass(frozen=True)
class Interpreter:
    """A Python to test on."""

    path: str
    version: tuple[int, int, int]
    #: A folder that has aioxide. None: the interpreter has it itself.
    site: Path | None = None
    #: The package of the tests.
    suite: str = SUITE

    @property
    def name(self) -> str:
        return "Python " + ".".join(map(str, self.version))


def probe(path: str, installed: bool) -> Interpreter:
    """Ask an interpreter what it is."""
    command = shutil.which(path)
    if command is None:
        raise Unusable("there is no such command")
    # The processes have folders of their own. Links stay: a virtual environment is one.
    path = os.path.abspath(command)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [path, "-c", PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            env=environment,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"it does not run: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise Unusable(f"it does not run: {said[-1] if said else done.returncode}")
    found = json.loads(done.stdout)
    if not found["cpython"] or tuple(found["version"][:2]) not in VERSIONS:
        raise Unusable("aioxide is not built for it")
    if found["free_threaded"]:
        raise Unusable("aioxide is not built for free-threaded Pythons")
    if not found["suite"]:
        raise Unusable("it comes without its test suite (test.test_asyncio)")
    if installed and not found["aioxide"]:
        raise Unusable("aioxide is not installed in it")
    major, minor, micro = found["version"]
    return Interpreter(path, (major, minor, micro))


def on_this_machine() -> list[str]:
    """The command of every version that is on the path."""
    commands = (shutil.which(f"python{major}.{minor}") for major, minor in VERSIONS)
    return [command for command in commands if command is not None]


def builder(build: Path) -> str:
    """The program that builds wheels: the one of `make`'s environment, or one installed here."""
    for environment in (build.parent / "venv", build / "tools"):
        if (environment / "bin" / "maturin").exists():
            return str(environment / "bin" / "maturin")
    tools = build / "tools"
    said = ""
    # Not every Python has what it takes to make an environment with pip in it.
    for python in [sys.executable, *on_this_machine(), *filter(None, [shutil.which("python3")])]:
        shutil.rmtree(tools, ignore_errors=True)
        pip = [str(tools / "bin" / "python"), "-m", "pip", "install", "--quiet", BUILDER]
        try:
            for command in ([python, "-m", "venv", str(tools)], pip):
                subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            continue
        return str(tools / "bin" / "maturin")
    shutil.rmtree(tools, ignore_errors=True)
    raise NotBuilt(f"no Python here makes an environment that has {BUILDER}:\n{said}")


def build_wheel(interpreter: Interpreter, build: Path, maturin: str) -> Path:
    """Build the wheel for an interpreter. The second time takes a moment if nothing has changed."""
    place = build / "cp{}{}".format(*interpreter.version)
    shutil.rmtree(place / "wheel", ignore_errors=True)
    command = [maturin, "build", "--quiet", "--release", "--locked"]
    command += ["--interpreter", interpreter.path, "--out", str(place / "wheel")]
    # Of its own, because what is compiled for one Python does not serve another.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(place / "cargo")}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise NotBuilt(f"{interpreter.name}: no wheel:\n{done.stdout}{done.stderr}")
    (wheel,) = (place / "wheel").glob("*.whl")
    return wheel


def unpacked(interpreter: Interpreter, wheel: Path, build: Path) -> Interpreter:
    """An interpreter with the wheel beside it.

    A wheel is an archive: it need not be installed, and not every Python can make an environment.
    """
    site = build / "cp{}{}".format(*interpreter.version) / "site"
    shutil.rmtree(site, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return replace(interpreter, site=site.resolve())
