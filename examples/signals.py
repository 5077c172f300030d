"""Signals: an echo server that SIGINT and SIGTERM end gently. Its clients may finish."""

import asyncio
import signal
import sys


async def main():
    told = asyncio.Event()
    clients = set()

    def end(sig):
        print("received", signal.Signals(sig).name, flush=True)
        told.set()

    async def echo(reader, writer):
        clients.add(asyncio.current_task())
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        clients.remove(asyncio.current_task())

    for sig in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sig, end, sig)
    server = await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1]))
    print("listening on", server.sockets[0].getsockname()[1], flush=True)
    await told.wait()
    server.close()
    print("no new clients, but", len(clients), "to finish", flush=True)
    if clients:
        await asyncio.wait(clients)
    print("the last client has gone")


asyncio.run(main())
