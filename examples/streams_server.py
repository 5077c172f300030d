"""Streams: one message echoed, the connection closed, and the server after it."""

import asyncio
import sys


async def main():
    done = asyncio.Event()

    async def echo(reader, writer):
        data = await reader.read(100)
        print("received", repr(data.decode()), "from", writer.get_extra_info("peername")[0])
        writer.write(data)
        await writer.drain()
        print("closing the connection")
        writer.close()
        await writer.wait_closed()
        done.set()

    server = await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1]))
    ports = ", ".join(str(sock.getsockname()[1]) for sock in server.sockets)
    print("listening on", ports, flush=True)
    async with server:
        serving = asyncio.ensure_future(server.serve_forever())
        await done.wait()
        serving.cancel()
        try:
            await serving
        except asyncio.CancelledError:
            print("server cancelled")


asyncio.run(main())
