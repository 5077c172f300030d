"""A Unix socket: a server and its client, in a directory that is gone in the end."""

import asyncio
import os
import tempfile


async def talk(path):
    reader, writer = await asyncio.open_unix_connection(path)
    for message in "Hello!", "Goodbye!":
        writer.write(f"{message}\n".encode())
        answer = await reader.readline()
        print("client received", repr(answer.decode().rstrip()))
    writer.close()
    await writer.wait_closed()


async def main(path):
    done = asyncio.Event()

    async def echo(reader, writer):
        async for line in reader:
            print("server received", repr(line.decode().rstrip()))
            writer.write(line)
            await writer.drain()
        print("closing the connection")
        writer.close()
        await writer.wait_closed()
        done.set()

    server = await asyncio.start_unix_server(echo, path)
    print("listening on", os.path.basename(server.sockets[0].getsockname()))
    async with server:
        await talk(path)
        await done.wait()
    print("server closed")


with tempfile.TemporaryDirectory() as directory:
    asyncio.run(main(os.path.join(directory, "socket")))
