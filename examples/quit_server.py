"""Socket operations: answers every message with the same words until the client says ``quit``."""

import asyncio
import socket
import sys


async def attend(loop, connection, finished):
    text = ""
    while text != "quit":
        text = (await loop.sock_recv(connection, 1024)).decode()
        print("client:", text, flush=True)
        await loop.sock_sendall(connection, b"understood")
    connection.close()
    finished.set_result(None)


async def main():
    loop = asyncio.get_event_loop()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(5)
    listener.setblocking(False)
    print("listening on", listener.getsockname()[1], flush=True)

    connection, (host, _) = await loop.sock_accept(listener)
    print("client from", host, flush=True)
    finished = loop.create_future()
    task = loop.create_task(attend(loop, connection, finished))
    await finished
    await task
    listener.close()


asyncio.run(main())
