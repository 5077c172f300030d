"""Datagrams: an echo server and its client, each an endpoint."""

import asyncio


class Server(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        print("server:", repr(data.decode()))
        self.transport.sendto(data, peer)


class Client(asyncio.DatagramProtocol):
    def __init__(self, words, closed):
        self.words = words
        self.closed = closed

    def connection_made(self, transport):
        self.transport = transport
        self.say()

    def say(self):
        if self.words:
            word = self.words.pop(0)
            print("client: sending", repr(word))
            self.transport.sendto(word.encode())
        else:
            self.transport.close()

    def datagram_received(self, data, peer):
        print("client: received", repr(data.decode()))
        self.say()

    def error_received(self, error):
        print("client:", error)

    def connection_lost(self, error):
        print("client: closed")
        self.closed.set_result(None)


async def main():
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    closed = loop.create_future()
    await loop.create_datagram_endpoint(
        lambda: Client(["once", "twice"], closed),
        remote_addr=server.get_extra_info("sockname"),
    )
    await closed
    server.close()


asyncio.run(main())
