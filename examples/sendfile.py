"""A file that goes to a client without passing through the program, between two words that do."""

import asyncio
import tempfile

SIZE = 1_000_000


async def main():
    loop = asyncio.get_running_loop()

    with tempfile.TemporaryFile() as file:
        file.write(b"x" * SIZE)

        async def send(reader, writer):
            writer.write(b"before")
            print("sent", await loop.sendfile(writer.transport, file), "bytes of the file")
            writer.write(b"after")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(send, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            received = await reader.read()
            writer.close()
            await writer.wait_closed()
        await server.wait_closed()
        print("position", file.tell())

    print("received", len(received), "bytes")
    print("in order:", received == b"before" + b"x" * SIZE + b"after")


asyncio.run(main())
