"""An unchanged aiohttp server under ``python -m aioxide``."""

from __future__ import annotations

import pytest

from ..running import Programs
from .serving import check_serving, serving

SERVER = """
    import asyncio
    import socket

    import aioxide
    from aiohttp import web

    async def hello(request):
        return web.Response(text="hello")

    async def echo(request):
        return web.Response(body=await request.read())

    async def pieces(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for number in range(100):
            await response.write(b"%03d" % number * 1000)
        await response.write_eof()
        return response

    async def started(app):
        assert isinstance(asyncio.get_running_loop(), aioxide.Loop)
        print("PORT", listener.getsockname()[1])

    async def cleaned(app):
        print("CLEANED")

    listener = socket.create_server(("127.0.0.1", 0))
    app = web.Application(client_max_size=1 << 30)
    app.add_routes([web.get("/", hello), web.post("/", echo), web.get("/pieces", pieces)])
    app.on_startup.append(started)
    app.on_cleanup.append(cleaned)
    web.run_app(app, sock=listener, print=None)
"""


def test_it_serves(programs: Programs) -> None:
    """Kept connections, large and chunked bodies, clients that go away, and Ctrl-C."""
    pytest.importorskip("aiohttp")
    program = programs.write("server.py", SERVER)
    with serving(programs.directory, "-m", "aioxide", program) as served:
        check_serving(served.port, pieces_size=300_000)
    assert served.output.splitlines()[-1] == "CLEANED"
    assert served.status == 0


CLIENT = """
    import asyncio
    import sys

    import aiohttp

    async def main():
        url = f"http://127.0.0.1:{sys.argv[1]}"
        async with aiohttp.ClientSession() as session:
            async def one(number):
                async with session.post(url, data=b"%d" % number) as response:
                    return int(await response.read())

            print(await asyncio.gather(*map(one, range(50))) == list(range(50)))
            async with session.get(url + "/pieces") as response:
                print(len(await response.read()))

    asyncio.run(main())
"""


def test_its_client_too(programs: Programs) -> None:
    pytest.importorskip("aiohttp")
    program = programs.write("server.py", SERVER)
    with serving(programs.directory, "-m", "aioxide", program) as served:
        client = programs.write("client.py", CLIENT)
        done = programs.python("-m", "aioxide", client, served.port)
        assert (done.stdout.split(), done.stderr) == (["True", "300000"], "")
    assert served.status == 0
