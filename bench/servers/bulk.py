"""One connection and as many bytes as it takes, on any event loop.

The program is the same for every contender; only `--loop` differs. It keeps the contract of the
benchmark's servers, except for what it does with a connection: `receive` takes all there is and, at
the end, says how much it was; `send` takes a block of `--size` bytes and sends it over and over;
`sendfile` fills a file with the block and sends that over and over.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import traceback
from typing import BinaryIO, cast

from echo import BACKLOG, HOST, end_of_input, new_event_loop

# Bytes of the file, which is a whole number of blocks.
FILE = 16 << 20

# Blocks that are written before the loop gets its turn, even when the socket takes them all: so the
# client's end of file is noticed.
BLOCKS = 16

# Iterations between two files in which the loop may notice the client's end of file.
TURNS = 3


class Receive(asyncio.Protocol):
    """Counts what arrives."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def eof_received(self) -> None:
        self.transport.write(str(self.received).encode())


class Send(Receive):
    """Writes the block for as long as the transport does not ask it to pause."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.size = size
        self.block = bytearray()
        self.paused = False
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.block += data
        if len(self.block) == self.size:
            self.begin(bytes(self.block))

    def begin(self, block: bytes) -> None:
        self.ready = block
        self.write()

    def write(self) -> None:
        for _ in range(BLOCKS):
            if self.paused or self.ended:
                return
            self.transport.write(self.ready)
        self.loop.call_soon(self.write)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.loop.call_soon(self.write)

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True


class SendFile(Send):
    """Sends the file, again and again."""

    def begin(self, block: bytes) -> None:
        file = os.fdopen(os.memfd_create("bulk"), "w+b")
        file.write(block * (FILE // len(block)))
        file.flush()
        self.sending = self.loop.create_task(self.send(file))

    async def send(self, file: BinaryIO) -> None:
        try:
            with file:
                while not self.ended:
                    await self.loop.sendfile(self.transport, file, 0, FILE)
                    # Nothing is received meanwhile: the loop looks for an end in between.
                    for _ in range(TURNS):
                        await asyncio.sleep(0)
        except Exception:
            # The client sees the end at once, and the runner says why.
            traceback.print_exc()
            self.transport.abort()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """It is the loop that sends."""

    def resume_writing(self) -> None:
        """It is the loop that sends."""

    def eof_received(self) -> bool:  # type: ignore[override]
        # The transport stays open until the file has been sent.
        self.ended = True
        return True


async def serve(mode: str, size: int) -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    factories = {
        "receive": Receive,
        "send": lambda: Send(size),
        "sendfile": lambda: SendFile(size),
    }
    server = await loop.create_server(factories[mode], HOST, 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await end_of_input(loop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", default="asyncio", help="as servers/echo.py takes it")
    parser.add_argument("--mode", required=True, choices=("receive", "send", "sendfile"))
    parser.add_argument("--size", type=int, default=64 * 1024, help="bytes of a block")
    parser.add_argument("--core", type=int, help="the core to run on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    loop = new_event_loop(options.loop)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(serve(options.mode, options.size))
    finally:
        loop.close()


if __name__ == "__main__":
    main()
