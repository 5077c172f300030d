"""Builds the wheel twice: the first one counts what a loop does, the second is compiled with that.

The compiler learns from the counts which branches are taken, what is worth inlining, and which
functions stand beside each other in memory. It needs the tool that merges the counts, which must be
of the compiler's own version: `rustup component add llvm-tools`.

    python scripts/profiled_wheel.py --python target/venv/bin/python --out target/profiled/wheel
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: What the training imports beside aioxide.
NEEDED = "trustme"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="the interpreter that the wheel is for")
    parser.add_argument("--maturin", default="maturin", help="the program that builds wheels")
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "profiled")
    parser.add_argument("--out", type=Path, required=True, help="folder of the wheel")
    parser.add_argument("--seconds", type=float, default=0.5, help="training for each kind of work")
    options = parser.parse_args()
    merge = merging_tool()
    python, maturin = program(options.python), program(options.maturin)
    if not succeeds([python, "-c", f"import {NEEDED}"]):
        sys.exit(f"{python} needs the package {NEEDED} for the training: install it there")
    out, work = options.out.absolute(), options.work.absolute()
    counts, merged, unpacked = work / "counts", work / "merged.profdata", work / "unpacked"
    for folder in (counts, unpacked):
        shutil.rmtree(folder, ignore_errors=True)

    print("==> building the wheel that counts")
    wheel = build(maturin, python, f"-Cprofile-generate={counts}", work)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    print("==> training")
    training = [python, str(ROOT / "scripts" / "training.py")]
    run([*training, "--seconds", str(options.seconds)], PYTHONPATH=str(unpacked))
    run([str(merge), "merge", "--output", str(merged), str(counts)])

    print("==> building the wheel with the counts")
    wheel = build(maturin, python, f"-Cprofile-use={merged}", work)
    out.mkdir(parents=True, exist_ok=True)
    print(shutil.copy(wheel, out))


def program(name: str) -> str:
    """Where a program is: a path, or a name that the shell would find."""
    path = shutil.which(name)
    if path is None:
        sys.exit(f"there is no program {name}")
    return os.path.abspath(path)


def merging_tool() -> Path:
    """The `llvm-profdata` of the compiler that builds."""
    folder = Path(answer(["rustc", "--print", "target-libdir"])).parent / "bin"
    tool = folder / "llvm-profdata"
    if not tool.exists():
        sys.exit(f"there is no {tool}: install it with `rustup component add llvm-tools`")
    return tool


def build(maturin: str, python: str, flag: str, work: Path) -> Path:
    """Builds a wheel with a flag for the compiler, which its dependencies are compiled with too."""
    built = work / "built"
    shutil.rmtree(built, ignore_errors=True)
    # With a target that is named, programs that run during the build are not compiled with it.
    command = [maturin, "build", "--quiet", "--release", "--locked", "--target", host()]
    command += ["--interpreter", python, "--out", str(built)]
    flags = "\x1f".join([*os.environ.get("RUSTFLAGS", "").split(), flag])
    run(command, CARGO_ENCODED_RUSTFLAGS=flags, CARGO_TARGET_DIR=str(work / "cargo"))
    (wheel,) = built.glob("*.whl")
    return wheel


def host() -> str:
    """The compiler's name for this machine."""
    lines = answer(["rustc", "--version", "--verbose"]).splitlines()
    return next(line.split()[1] for line in lines if line.startswith("host:"))


def answer(command: Sequence[str]) -> str:
    """What a program prints."""
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{' '.join(command)} failed: {error}")


def succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def run(command: Sequence[str], **environment: str) -> None:
    """Runs a program in the project's folder. If it fails, nothing can go on."""
    inherited = dict(os.environ)
    # It would send the counts elsewhere.
    inherited.pop("LLVM_PROFILE_FILE", None)
    try:
        done = subprocess.run(command, cwd=ROOT, env=inherited | environment)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error}")
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with status {done.returncode}")


if __name__ == "__main__":
    main()
