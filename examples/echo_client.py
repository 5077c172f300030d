"""Protocols: sends one message from connection_made() and waits for the connection to be lost."""

import asyncio
import sys


class Client(asyncio.Protocol):
    def __init__(self, message, lost):
        self.message = message
        self.lost = lost

    def connection_made(self, transport):
        transport.write(self.message.encode())
        print("sent", repr(self.message))

    def data_received(self, data):
        print("received", repr(data.decode()))

    def eof_received(self):
        print("end of stream")

    def connection_lost(self, exc):
        print("connection lost:", exc)
        self.lost.set_result(True)


async def main():
    loop = asyncio.get_running_loop()
    lost = loop.create_future()
    transport, _ = await loop.create_connection(
        lambda: Client("Good morning!", lost), "127.0.0.1", int(sys.argv[1])
    )
    try:
        await lost
    finally:
        transport.close()


asyncio.run(main())
