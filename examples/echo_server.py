"""Protocols: sends back the first message, closes, and ends when that connection has ended."""

import asyncio
import sys


class Echo(asyncio.Protocol):
    def __init__(self, done):
        self.done = done

    def connection_made(self, transport):
        self.transport = transport
        print("connection from", transport.get_extra_info("peername")[0])

    def data_received(self, data):
        print("received", repr(data.decode()))
        self.transport.write(data)
        print("closing the connection")
        self.transport.close()

    def connection_lost(self, exc):
        print("connection lost:", exc)
        self.done()


async def main():
    loop = asyncio.get_event_loop()
    server = await loop.create_server(
        lambda: Echo(server.close), "127.0.0.1", int(sys.argv[1]), start_serving=False
    )
    print("listening on", server.sockets[0].getsockname()[1], flush=True)
    async with server:
        try:
            await server.serve_forever()
        except asyncio.CancelledError:
            print("server closed")


asyncio.run(main())
