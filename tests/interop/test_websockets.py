"""An echo server of the websockets library, and its client, both on this loop."""

from __future__ import annotations

import pytest

from ..running import Programs
from .serving import serving

SERVER = """
    import asyncio

    import aioxide
    from websockets.asyncio.server import serve

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async def main():
        assert isinstance(asyncio.get_running_loop(), aioxide.Loop)
        async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
            print("PORT", server.sockets[0].getsockname()[1])
            try:
                await server.serve_forever()
            finally:
                print("CLEANED")

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
"""

CLIENT = """
    import asyncio
    import sys

    from websockets.asyncio.client import connect

    async def main():
        url = f"ws://127.0.0.1:{sys.argv[1]}"
        async with connect(url, max_size=None) as connection:
            for size in [0, 1, 125, 126, 65535, 65536, 1_000_000]:
                await connection.send(bytes(size))
                assert await connection.recv() == bytes(size)
            await connection.send("text")
            print(await connection.recv())
            await (await connection.ping())
        many = [await connect(url) for _ in range(20)]
        for connection in many:
            connection.transport.abort()
        async with connect(url) as connection:
            await connection.send("after the others have gone")
            print(await connection.recv())

    asyncio.run(main())
"""


@pytest.mark.parametrize("client_loop", ["asyncio", "aioxide"])
def test_it_echoes(programs: Programs, client_loop: str) -> None:
    """Every size of frame, pings, clients that go away, and Ctrl-C with a client connected."""
    pytest.importorskip("websockets.asyncio.server")
    server = programs.write("server.py", SERVER)
    client = programs.write("client.py", CLIENT)
    with serving(programs.directory, "-m", "aioxide", server) as served:
        runner = ["-m", "aioxide"] if client_loop == "aioxide" else []
        done = programs.python(*runner, client, served.port)
        assert done.stderr == ""
        assert done.stdout.splitlines() == ["text", "after the others have gone"]
    assert served.output.splitlines()[-1] == "CLEANED"
    assert served.status == 0
