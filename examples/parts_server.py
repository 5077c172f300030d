"""A loop fetched while the module loads, run_forever(), and end of stream answered in kind."""

import asyncio
import sys

loop = asyncio.get_event_loop()


class PartsServer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.received = b""
        print("connection accepted")

    def data_received(self, data):
        self.received += data
        self.transport.write(data)

    def eof_received(self):
        print("received", self.received)
        print("received end of stream")
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def connection_lost(self, error):
        print("closing" if error is None else f"error: {error}")
        super().connection_lost(error)
        loop.stop()


server = loop.run_until_complete(loop.create_server(PartsServer, "localhost", int(sys.argv[1])))
print("listening on", server.sockets[0].getsockname()[1], flush=True)
try:
    loop.run_forever()
finally:
    print("closing the server")
    server.close()
    loop.run_until_complete(server.wait_closed())
    print("closing the loop")
    loop.close()
