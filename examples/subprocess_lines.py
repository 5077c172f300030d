"""Runs a command: prints what it writes line by line, as it comes, and how it has ended."""

import asyncio
import sys


async def main(program, *arguments):
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    number = 0
    async for line in process.stdout:
        number += 1
        print(f"{number}: {line.decode().rstrip()}", flush=True)
    print("return code", await process.wait())


asyncio.run(main(*sys.argv[1:]))
