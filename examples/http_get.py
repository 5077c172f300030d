"""HTTP GET in six styles, from bare callbacks to streams: ``http_get.py STYLE PORT``."""

import asyncio
import sys

HOST = "localhost"
REQUEST = b"GET /page.txt HTTP/1.0\r\nHost: localhost\r\n\r\n"

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


def show(response):
    """The status line and the body; the headers hold dates."""
    head, _, body = response.partition(b"\r\n\r\n")
    print(head.split(b"\r\n")[0].decode())
    print(body.decode(), end="")


class Collect(asyncio.Protocol):
    """Keeps what comes; what to do at the end is the subclass's or the caller's."""

    def __init__(self, at_end):
        self.data = b""
        self.at_end = at_end

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data

    def connection_lost(self, exc):
        self.at_end()


def callbacks(port):
    """The request is sent by connection_made(); connection_lost() stops the loop."""

    class Get(Collect):
        def connection_made(self, transport):
            transport.write(REQUEST)

    protocol = Get(loop.stop)
    loop.run_until_complete(loop.create_connection(lambda: protocol, HOST, port))
    loop.run_forever()
    show(protocol.data)


def session(port):
    """The request is sent by whoever has the transport; the loop is stopped as before."""
    protocol = Collect(loop.stop)

    async def get():
        transport, _ = await loop.create_connection(lambda: protocol, HOST, port)
        transport.write(REQUEST)

    loop.run_until_complete(get())
    loop.run_forever()
    show(protocol.data)


def waiter(port):
    """A future takes the place of stopping the loop."""

    async def get():
        ended = loop.create_future()
        protocol = Collect(lambda: ended.set_result(None))
        transport, _ = await loop.create_connection(lambda: protocol, HOST, port)
        transport.write(REQUEST)
        await ended
        show(protocol.data)

    loop.run_until_complete(get())


class Reader(asyncio.Protocol):
    """A protocol with a buffer and a coroutine that waits for more of it."""

    def __init__(self):
        self.buffer = bytearray()
        self.ended = False
        self.waiting = None

    def data_received(self, data):
        self.buffer.extend(data)
        self.wake()

    def eof_received(self):
        self.ended = True
        self.wake()

    def wake(self):
        if self.waiting is not None:
            self.waiting.set_result(None)
            self.waiting = None

    async def block(self):
        if not self.buffer and not self.ended:
            self.waiting = loop.create_future()
            await self.waiting
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    async def read(self):
        blocks = []
        while block := await self.block():
            blocks.append(block)
        return b"".join(blocks)


class Writer:
    """The writing half of a transport."""

    def __init__(self, transport):
        self.transport = transport

    def write(self, data):
        self.transport.write(data)


def reader(port):
    async def get():
        protocol = Reader()
        transport, _ = await loop.create_connection(lambda: protocol, HOST, port)
        transport.write(REQUEST)
        show(await protocol.read())

    loop.run_until_complete(get())


def reader_and_writer(port):
    async def open_connection():
        protocol = Reader()
        transport, _ = await loop.create_connection(lambda: protocol, HOST, port)
        return protocol, Writer(transport)

    async def get():
        incoming, outgoing = await open_connection()
        outgoing.write(REQUEST)
        show(await incoming.read())

    loop.run_until_complete(get())


def streams(port):
    async def get():
        incoming, outgoing = await asyncio.open_connection(HOST, port)
        outgoing.write(REQUEST)
        show(await incoming.read(-1))
        outgoing.close()

    loop.run_until_complete(get())


STYLES = {
    style.__name__: style
    for style in (callbacks, session, waiter, reader, reader_and_writer, streams)
}
STYLES[sys.argv[1]](int(sys.argv[2]))
loop.close()
