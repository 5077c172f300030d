"""``uvicorn app:app --loop aioxide:new_event_loop``, as uvicorn's users start it."""

from __future__ import annotations

import socket

import pytest

from ..running import Programs
from .serving import check_serving, serving, wait_for_port

APP = """
    import asyncio
    import os

    import aioxide

    async def lifespan(receive, send):
        assert (await receive())["type"] == "lifespan.startup"
        assert isinstance(asyncio.get_running_loop(), aioxide.Loop)
        await send({"type": "lifespan.startup.complete"})
        print("PORT", os.environ["APP_PORT"])
        assert (await receive())["type"] == "lifespan.shutdown"
        print("CLEANED")
        await send({"type": "lifespan.shutdown.complete"})

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return await lifespan(receive, send)
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(50 if scope["path"] == "/pieces" else 0):
            piece = {"type": "http.response.body", "body": b"x" * 10_000, "more_body": True}
            await send(piece)
        await send({"type": "http.response.body", "body": body or b"hello"})
"""


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_it_serves(programs: Programs, parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept connections, large and chunked bodies, clients that go away, lifespan, and Ctrl-C."""
    pytest.importorskip("uvicorn")
    pytest.importorskip(parser)
    programs.write("app.py", APP)
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    monkeypatch.setenv("APP_PORT", str(port))
    command = ["-m", "uvicorn", "app:app", "--loop", "aioxide:new_event_loop", "--http", parser]
    quiet = ["--port", port, "--log-level", "warning"]
    with serving(programs.directory, *command, *quiet) as served:
        wait_for_port(served.port)
        check_serving(served.port, pieces_size=500_005)
    assert served.output.splitlines()[-1] == "CLEANED"
    # Some versions of uvicorn end by SIGINT itself, so that the shell sees it.
    assert served.status in (0, -2, 130)
