"""Standard input to standard output in capitals; both must be pipes, sockets or terminals."""

import asyncio
import sys


async def reader_of(loop, pipe):
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def writer_of(loop, pipe):
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipe
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def main():
    loop = asyncio.get_running_loop()
    reader = await reader_of(loop, sys.stdin)
    writer = await writer_of(loop, sys.stdout)
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()
    await writer.wait_closed()


asyncio.run(main())
