"""Running a server of a third-party library as a process, and ending it.

The tests of this folder are skipped where the libraries are missing: the suite needs none of them.
To run them all, install::

    aiohttp>=3.9
    uvicorn>=0.30
    h11>=0.14
    httptools>=0.6
    websockets>=13

The servers are programs, so that the tests hold to what a user types, and so that a crash of the
server is an exit status and not the end of the suite.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds that a server gets to come up, and to go down: libraries take one to be imported.
PATIENCE = 10.0


class Served:
    """A server that runs: its port, and, when it has ended, what it printed and its status."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.output = ""
        self.status: int | None = None


def _default_interrupt() -> None:
    # A shell's background jobs ignore SIGINT, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def serving(directory: Path, *arguments: object) -> Iterator[Served]:
    """Run ``python arguments`` until the block ends, then interrupt it as Ctrl-C does.

    The server says its port by a line ``PORT n`` on standard output.
    """
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", *map(str, arguments)],
            stdout=printed,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            preexec_fn=_default_interrupt,
        )
        try:
            served = Served(_port(process, printed.fileno()))
            yield served
            process.send_signal(signal.SIGINT)
            served.status = process.wait(PATIENCE)
            served.output = _text(printed.fileno())
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _text(fd: int) -> str:
    return os.pread(fd, 1 << 20, 0).decode()


def _port(process: subprocess.Popen[bytes], fd: int) -> int:
    """Wait for the line that says it. Only looks: the server's end shows at once."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        for line in _text(fd).splitlines():
            if line.startswith("PORT "):
                return int(line.split()[1])
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"the server did not come up:\n{_text(fd)}")


def wait_for_port(port: int) -> None:
    """Wait until the server listens: uvicorn says that it starts before it does."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    """One request on a connection that is kept."""
    return ask(connection, "GET", path, None)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
) -> tuple[int, bytes]:
    """One request with a body, and the whole answer."""
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


def check_serving(port: int, pieces_size: int) -> None:
    """Kept connections, a large body, a chunked one of `pieces_size`, clients that go away."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(20):
        assert get(client, "/") == (200, b"hello")
    body = bytes(range(256)) * 20_000
    assert ask(client, "POST", "/", body) == (200, body)
    status, pieces = get(client, "/pieces")
    assert (status, len(pieces)) == (200, pieces_size)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as rude:
            rude.sendall(b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
            assert rude.recv(10)
    assert get(client, "/") == (200, b"hello")
    client.close()
