"""Socket operations on a socket left in blocking mode; what to say is read from standard input."""

import asyncio
import socket
import sys


async def main():
    loop = asyncio.get_event_loop()
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    await loop.sock_connect(connection, ("127.0.0.1", int(sys.argv[1])))
    await loop.sock_sendall(connection, b"connected")
    print((await loop.sock_recv(connection, 1024)).decode())
    while True:
        words = input()
        await loop.sock_sendall(connection, words.encode())
        if words == "quit":
            break
        print("server:", (await loop.sock_recv(connection, 1024)).decode())
    connection.close()


asyncio.run(main())
