"""Streams: one message sent, its echo read."""

import asyncio
import sys


async def talk(message):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    print("sending", repr(message))
    writer.write(message.encode())
    await writer.drain()
    data = await reader.read(100)
    print("received", repr(data.decode()))
    writer.close()
    await writer.wait_closed()
    print("closed")


asyncio.run(talk("Good evening!"))
