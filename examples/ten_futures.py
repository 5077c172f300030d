"""Ten futures of a loop fetched while the module loads, completed by callbacks."""

import asyncio

loop = asyncio.get_event_loop()


async def main(loop):
    futures = {str(number): loop.create_future() for number in range(10)}

    def complete(number):
        futures[str(number)].set_result(number**2)

    for number in range(10):
        loop.call_soon(complete, number)
    print(await futures["5"])
    print([await future for future in futures.values()])


loop.run_until_complete(main(loop))
