"""A web server that greets, with uvicorn or aiohttp, on any event loop.

The program is the same for every contender; only `--loop` differs. It keeps the contract of the
benchmark's servers, except that it answers requests of HTTP/1.1: with `Hello, world!`, over and
over, cut off at `--size`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from echo import BACKLOG, HOST, end_of_input, new_event_loop

GREETING = b"Hello, world!"


def announce(port: int) -> None:
    """Tells the runner that connections are welcome: those that come early wait in the socket."""
    print(port, flush=True)


async def serve_uvicorn(listener: socket.socket, body: bytes) -> None:
    """An ASGI application, with the parser httptools."""
    uvicorn = importlib.import_module("uvicorn")
    port = listener.getsockname()[1]
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(body)).encode()),
    ]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    end = {"type": "http.response.body", "body": body}

    async def application(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        await send(start)
        await send(end)

    config = uvicorn.Config(
        application,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
    )
    server = uvicorn.Server(config)
    announce(port)
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    await end_of_input(asyncio.get_running_loop())
    server.should_exit = True
    await serving


async def serve_aiohttp(listener: socket.socket, body: bytes) -> None:
    """An application of one route."""
    web = importlib.import_module("aiohttp.web")
    # A loop may take the socket over and leave nothing in the listener's hands.
    port = listener.getsockname()[1]

    async def greet(request: object) -> Any:
        return web.Response(body=body, content_type="text/plain")

    application = web.Application()
    application.router.add_get("/", greet)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    announce(port)
    await end_of_input(asyncio.get_running_loop())
    await runner.cleanup()


MODES = {"uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", default="asyncio", help="as servers/echo.py takes it")
    parser.add_argument("--mode", required=True, choices=MODES)
    parser.add_argument("--size", type=int, default=len(GREETING), help="bytes of a body")
    parser.add_argument("--core", type=int, help="the core to run on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    body = (GREETING * (options.size // len(GREETING) + 1))[: options.size]
    loop = new_event_loop(options.loop)
    asyncio.set_event_loop(loop)
    # With its protocol by name, which is what asyncio's loop looks at before it turns Nagle's
    # algorithm off; uvicorn sends a head and a body, and would wait for an acknowledgement.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind((HOST, 0))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        try:
            loop.run_until_complete(MODES[options.mode](listener, body))
        finally:
            loop.close()


if __name__ == "__main__":
    main()
