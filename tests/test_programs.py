"""Whole programs, unchanged, under ``python`` and under ``python -m aioxide``.

Each prints the same under both; the expected lines stand here, so that equality is never the
equality of two empty outputs.  Servers take port 0 and say which port they got.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from .support import oracle_when

PROGRAMS = Path(__file__).parent.parent / "examples"

#: Seconds for one program: far more than it needs.
TIMEOUT = 15

#: From 3.14 on, get_event_loop() makes no loop for a main thread; ``-m aioxide`` gives it one.
module_level_loop = oracle_when(sys.version_info < (3, 14), "there is no current loop")


def command(kind: str, program: str, *arguments: object) -> list[str]:
    module = ["-m", "aioxide"] if kind == "aioxide" else []
    # Unfinished business would be told as a warning; get_event_loop() at module level is not ours.
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning"]
    path = str(PROGRAMS / program)
    return [sys.executable, *warnings, *module, path, *map(str, arguments)]


def run(kind: str, program: str, *arguments: object, typed: str = "") -> list[str]:
    """Run a program to its end; the lines it printed."""
    done = subprocess.run(
        command(kind, program, *arguments),
        input=typed,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


@contextlib.contextmanager
def server(kind: str, program: str, output: list[str], *arguments: object) -> Iterator[int]:
    """Run a server while the body runs, then wait for its end; `output` gets what it printed.

    Its last argument is the port 0.
    """
    process = subprocess.Popen(
        command(kind, program, *arguments, 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        assert first.startswith("listening on "), process.stderr.read()
        yield int(first.split()[-1])
        rest, errors = process.communicate(timeout=TIMEOUT)
        assert errors == ""
        assert process.returncode == 0
        output.extend(rest.splitlines())
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_quit(kind: str) -> None:
    printed: list[str] = []
    with server(kind, "quit_server.py", printed) as port:
        said = run(kind, "quit_client.py", port, typed="hello world\nquit\n")
    assert said == ["understood", "server: understood"]
    assert printed == [
        "client from 127.0.0.1",
        "client: connected",
        "client: hello world",
        "client: quit",
    ]


def test_echo_by_protocols(kind: str) -> None:
    printed: list[str] = []
    with server(kind, "echo_server.py", printed) as port:
        said = run(kind, "echo_client.py", port)
    assert said == [
        "sent 'Good morning!'",
        "received 'Good morning!'",
        "end of stream",
        "connection lost: None",
    ]
    assert printed == [
        "connection from 127.0.0.1",
        "received 'Good morning!'",
        "closing the connection",
        "connection lost: None",
        "server closed",
    ]


@module_level_loop
def test_a_message_in_parts(kind: str) -> None:
    printed: list[str] = []
    with server(kind, "parts_server.py", printed) as port:
        said = run(kind, "parts_client.py", port)
    assert said == [
        "connected to 127.0.0.1",
        "sending b'The message '",
        "sending b'is sent '",
        "sending b'in parts.'",
        "received b'The message is sent in parts.'",
        "received end of stream",
        "completed: True",
        "closing the loop",
    ]
    assert printed == [
        "connection accepted",
        "received b'The message is sent in parts.'",
        "received end of stream",
        "closing",
        "closing the server",
        "closing the loop",
    ]


def test_echo_by_streams(kind: str) -> None:
    printed: list[str] = []
    with server(kind, "streams_server.py", printed) as port:
        said = run(kind, "streams_client.py", port)
    assert said == ["sending 'Good evening!'", "received 'Good evening!'", "closed"]
    assert printed == [
        "received 'Good evening!' from 127.0.0.1",
        "closing the connection",
        "server cancelled",
    ]


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_signals_end(kind: str, sig: signal.Signals) -> None:
    """The client that is connected is served on; another one is refused."""
    process = subprocess.Popen(
        command(kind, "signals.py", 0), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            address = ("127.0.0.1", int(process.stdout.readline().split()[-1]))
            with socket.create_connection(address, TIMEOUT) as client:
                client.sendall(b"before")
                assert client.recv(100) == b"before"
                process.send_signal(sig)
                assert process.stdout.readline() == f"received {sig.name}\n"
                assert process.stdout.readline() == "no new clients, but 1 to finish\n"
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(address, TIMEOUT)
                client.sendall(b"after")
                assert client.recv(100) == b"after"
            rest, errors = process.communicate(timeout=TIMEOUT)
            assert (rest, errors) == ("the last client has gone\n", "")
            assert process.returncode == 0
        finally:
            process.kill()


def test_echo_on_a_unix_socket(kind: str) -> None:
    assert run(kind, "unix_echo.py") == [
        "listening on socket",
        "server received 'Hello!'",
        "client received 'Hello!'",
        "server received 'Goodbye!'",
        "client received 'Goodbye!'",
        "closing the connection",
        "server closed",
    ]


@module_level_loop
def test_ten_futures(kind: str) -> None:
    assert run(kind, "ten_futures.py") == ["25", "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]"]


def test_multicast(kind: str) -> None:
    printed: list[str] = []
    with server(kind, "multicast.py", printed, "listen") as port:
        said = run(kind, "multicast.py", "send", port)
    assert said == ["sending 'hello'", "sending 'goodbye'"]
    assert printed == [
        "heard 'hello' from 127.0.0.1",
        "heard 'goodbye' from 127.0.0.1",
        "closed: None",
    ]


def test_echo_by_datagrams(kind: str) -> None:
    assert run(kind, "udp_echo.py") == [
        "client: sending 'once'",
        "server: 'once'",
        "client: received 'once'",
        "client: sending 'twice'",
        "server: 'twice'",
        "client: received 'twice'",
        "client: closed",
    ]


def test_lines_of_a_command(kind: str) -> None:
    script = "echo one; echo; echo three; exit 3"
    printed = run(kind, "subprocess_lines.py", "/bin/sh", "-c", script)
    assert printed == ["1: one", "2: ", "3: three", "return code 3"]


def test_lines_through_pipes(kind: str) -> None:
    assert run(kind, "pipes.py", typed="hello\npipes\nend") == ["HELLO", "PIPES", "END"]


def test_a_file_that_is_sent(kind: str) -> None:
    assert run(kind, "sendfile.py") == [
        "sent 1000000 bytes of the file",
        "position 1000000",
        "received 1000011 bytes",
        "in order: True",
    ]


@pytest.fixture(scope="module")
def web_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The standard library's HTTP server, as ``python -m http.server`` starts it."""
    directory = tmp_path_factory.mktemp("web")
    (directory / "page.txt").write_text("Hello from a file.\n")
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    # Serving HTTP on 127.0.0.1 port 12345 (http://127.0.0.1:12345/) ...
    words = process.stdout.readline().split()
    yield int(words[words.index("port") + 1])
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    "style", ["callbacks", "session", "waiter", "reader", "reader_and_writer", "streams"]
)
def test_http_get(kind: str, web_port: int, style: str) -> None:
    assert run(kind, "http_get.py", style, web_port) == ["HTTP/1.0 200 OK", "Hello from a file."]


def test_tls_echo(kind: str) -> None:
    assert sorted(run(kind, "tls_echo.py")) == sorted(
        [
            "client trusts (('DNS', 'localhost'),)",
            "server speaks TLSv1.3",
            "server received 'Hello!'",
            "client received 'Hello!'",
            "server received 'Goodbye!'",
            "client received 'Goodbye!'",
            "closing the connection",
            "a stranger's client refuses: unable to get local issuer certificate",
            "server closed",
        ]
    )


def test_https_get(kind: str, tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("Hello from a file.\n")
    authority = trustme.CA()
    certificates = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(certificates))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as web:
        web.socket = context.wrap_socket(web.socket, server_side=True)
        serving = threading.Thread(target=web.serve_forever)
        serving.start()
        try:
            url = f"https://localhost:{web.server_port}/page.txt"
            printed = run(kind, "https_get.py", url, certificates)
        finally:
            web.shutdown()
            serving.join()
    assert printed == ["HTTP/1.0 200 OK", "Hello from a file."]
