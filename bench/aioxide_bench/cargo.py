"""The Rust programs of the benchmark, built by cargo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).absolute().parent.parent


class SetupError(Exception):
    """Something that the run needs cannot be had. The message says what."""


@dataclass(frozen=True)
class Built:
    """A program, and the versions of the packages that were built into it."""

    path: str
    versions: dict[str, str]


def build(binary: str, features: Sequence[str] = ()) -> Built:
    """Builds one program in release mode. Cargo's own progress goes to standard error."""
    command = [cargo(), "build", "--release", "--manifest-path", str(BENCH / "Cargo.toml")]
    command += ["--bin", binary, "--message-format", "json-render-diagnostics"]
    if features:
        command += ["--features", ",".join(features)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SetupError(f"cargo could not build {binary}; its messages are above")
    path = None
    versions = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") != "compiler-artifact":
            continue
        # A package id ends in `#1.54.1` or `#tokio@1.54.1`.
        versions[message["target"]["name"]] = (
            message["package_id"].rpartition("#")[2].rpartition("@")[2]
        )
        if message["target"]["name"] == binary and message.get("executable"):
            path = message["executable"]
    if path is None:
        raise SetupError(f"cargo built no program {binary}")
    return Built(path, versions)


def cargo() -> str:
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    found = shutil.which("cargo") or shutil.which("cargo", path=home / "bin")
    if found is None:
        raise SetupError("cargo was not found: the load generator is a Rust program")
    return found
