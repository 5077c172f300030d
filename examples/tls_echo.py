"""TLS: a protocol server and a streams client, with a certificate that is made on the spot.

Needs the package trustme, which makes certificates.
"""

import asyncio
import ssl

import trustme


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        print("server speaks", transport.get_extra_info("ssl_object").version())

    def data_received(self, data):
        print("server received", repr(data.decode()))
        self.transport.write(data)

    def connection_lost(self, exc):
        print("closing the connection")


async def talk(port, context):
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    print("client trusts", writer.get_extra_info("peercert")["subjectAltName"])
    for message in b"Hello!", b"Goodbye!":
        writer.write(message)
        answer = await reader.readexactly(len(message))
        print("client received", repr(answer.decode()))
    writer.close()
    await writer.wait_closed()


async def main():
    # Somebody whom the client trusts says who the server is.
    authority = trustme.CA()
    for_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(for_server)
    for_client = ssl.create_default_context()
    authority.configure_trust(for_client)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "localhost", 0, family=2, ssl=for_server)
    port = server.sockets[0].getsockname()[1]
    async with server:
        await talk(port, for_client)
        try:
            await talk(port, ssl.create_default_context())
        except ssl.SSLCertVerificationError as error:
            print("a stranger's client refuses:", error.verify_message)
    print("server closed")


asyncio.run(main())
