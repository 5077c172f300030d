"""A multicast group on this machine: ``listen PORT`` until a goodbye, or ``send PORT``."""

import asyncio
import socket
import sys

# A group of the range that stays within an organisation (RFC 2365).
GROUP = "239.255.77.2"
INTERFACE = "127.0.0.1"


class Listener(asyncio.DatagramProtocol):
    def __init__(self, closed):
        self.closed = closed

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        print("heard", repr(data.decode()), "from", peer[0])
        if data == b"goodbye":
            self.transport.close()

    def connection_lost(self, error):
        print("closed:", error)
        self.closed.set_result(None)


async def listen(port):
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", port))
    membership = socket.inet_aton(GROUP) + socket.inet_aton(INTERFACE)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    print("listening on", sock.getsockname()[1], flush=True)
    closed = loop.create_future()
    await loop.create_datagram_endpoint(lambda: Listener(closed), sock=sock)
    await closed


async def send(port):
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(INTERFACE))
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock)
    for word in ("hello", "goodbye"):
        print("sending", repr(word))
        transport.sendto(word.encode(), (GROUP, port))
    transport.close()


roles = {"listen": listen, "send": send}
asyncio.run(roles[sys.argv[1]](int(sys.argv[2])))
