"""The demonstration's first half: an echo server and its client, in Rust and in Python.

Runs each server on a port that the kernel chooses, lets its client talk to it, and shows side by
side what both have printed.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

#: Seconds for one program: far more than it needs.
TIMEOUT = 30

PROGRAMS = Path(__file__).resolve().parent.parent / "examples"


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server; give its process and the line in which it names its port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().rstrip()
    finally:
        process.terminate()
        process.wait(TIMEOUT)
        if process.stdout is not None:
            process.stdout.close()


def show(title: str, server: list[str], client: list[str], server_ends: bool) -> None:
    """Let a client talk to a server; print what each of them says."""
    print(f"\n{title}")
    with running(server) as (process, greeting):
        found = re.search(r"(\d+)\s*$", greeting)
        if found is None:
            sys.exit(f"the server did not say its port, but: {greeting!r}")
        print(f"  server | {greeting}")
        done = subprocess.run(
            [*client, found[1]], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True
        )
        for line in done.stdout.splitlines():
            print(f"  client | {line}")
        if not server_ends:
            process.terminate()
        said, _ = process.communicate(timeout=TIMEOUT)
        for line in said.splitlines():
            print(f"  server | {line}")


def main() -> None:
    """Both languages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=Path, required=True, help="folder of the Rust examples")
    examples = parser.parse_args().examples.resolve()
    show(
        "Rust: a streams server and client on the engine",
        [str(examples / "echo_server"), "0"],
        [str(examples / "echo_client")],
        server_ends=False,
    )
    python = [sys.executable, "-m", "aioxide"]
    show(
        "Python: a protocol server and client, unchanged, under `python -m aioxide`",
        [*python, str(PROGRAMS / "echo_server.py"), "0"],
        [*python, str(PROGRAMS / "echo_client.py")],
        server_ends=True,
    )
    print()


if __name__ == "__main__":
    main()
