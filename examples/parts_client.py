"""A Future made while the module loads, and a protocol factory with keyword arguments."""

import asyncio
import functools
import sys

PARTS = [b"The message ", b"is sent ", b"in parts."]

loop = asyncio.get_event_loop()


class PartsClient(asyncio.Protocol):
    def __init__(self, parts, completed):
        super().__init__()
        self.parts = parts
        self.completed = completed
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport
        print("connected to", *transport.get_extra_info("peername")[:1])
        for part in self.parts:
            transport.write(part)
            print("sending", part)
        if transport.can_write_eof():
            transport.write_eof()

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        print("received", self.received)
        print("received end of stream")
        self.transport.close()
        if not self.completed.done():
            self.completed.set_result(True)


completed = asyncio.Future()
factory = functools.partial(PartsClient, parts=PARTS, completed=completed)
connecting = loop.create_connection(factory, "localhost", int(sys.argv[1]))
try:
    loop.run_until_complete(connecting)
    print("completed:", loop.run_until_complete(completed))
finally:
    print("closing the loop")
    loop.close()
