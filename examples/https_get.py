"""HTTPS GET with streams: ``https_get.py URL [CERTIFICATES]``.

CERTIFICATES is a file of those whom to trust; without it the system's are trusted.
"""

import asyncio
import ssl
import sys
import urllib.parse


async def get(url, certificates):
    address = urllib.parse.urlsplit(url)
    context = ssl.create_default_context(cafile=certificates)
    reader, writer = await asyncio.open_connection(
        address.hostname, address.port or 443, ssl=context
    )
    request = f"GET {address.path or '/'} HTTP/1.0\r\nHost: {address.netloc}\r\n\r\n"
    writer.write(request.encode())
    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    print(head.split(b"\r\n")[0].decode())
    print(body.decode(errors="replace"), end="")
    writer.close()
    await writer.wait_closed()


asyncio.run(get(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
