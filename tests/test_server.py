"""The Server object: serving, closing, and waiting for its clients."""

from __future__ import annotations

import asyncio
import gc
import re
import socket

import pytest

from .connections import Keeper, connect, served, serving
from .support import Loop, Recorder, listening, oracle_since, read_all, turns

#: Server.close_clients() and abort_clients() came with 3.13.
needs_close_clients = oracle_since((3, 13), "no such method")
#: wait_closed() really waits since 3.12.1.
needs_waiting = oracle_since((3, 12, 1), "wait_closed() does not wait for clients")


async def test_start_serving_later(loop: Loop) -> None:
    keeper = Keeper()
    server = await loop.create_server(keeper, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving()
    address = server.sockets[0].getsockname()
    with pytest.raises(ConnectionRefusedError):
        await connect(loop, address)
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    client = await connect(loop, address)
    await served(keeper)
    client.transport.close()
    await keeper.made[0].until_lost()
    server.close()
    assert not server.is_serving()
    await server.wait_closed()


async def test_close_stops_accepting_and_keeps_clients(loop: Loop) -> None:
    keeper = Keeper()
    async with serving(loop, keeper) as (server, address):
        client = await connect(loop, address)
        await served(keeper)
        server.close()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(loop, address)
        keeper.made[0].transport.write(b"still here")
        assert await client.until_received(10) == b"still here"
        client.transport.close()
        await keeper.made[0].until_lost()


@needs_waiting
async def test_wait_closed_waits_for_close_and_for_clients(loop: Loop) -> None:
    keeper = Keeper()
    async with serving(loop, keeper) as (server, address):
        client = await connect(loop, address)
        await served(keeper)
        waiters = [loop.create_task(server.wait_closed()) for _ in range(2)]
        await turns(3)
        server.close()
        waiters.append(loop.create_task(server.wait_closed()))
        await turns(3)
        assert not any(waiter.done() for waiter in waiters), "also when asked after close()"
        client.transport.close()
        await asyncio.wait(waiters)
        assert keeper.made[0].lost
        await server.wait_closed()


@needs_waiting
async def test_wait_closed_waits_for_close_when_there_are_no_clients(loop: Loop) -> None:
    async with serving(loop, Recorder) as (server, _):
        waiter = loop.create_task(server.wait_closed())
        await turns(3)
        assert not waiter.done()
        server.close()
        await waiter


@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
@needs_close_clients
async def test_ending_all_clients(loop: Loop, method: str) -> None:
    keeper = Keeper()
    async with serving(loop, keeper) as (server, address):
        clients = [await connect(loop, address) for _ in range(3)]
        await served(keeper, 3)
        server.close()
        getattr(server, method)()
        await server.wait_closed()
        for protocol in [*keeper.made, *clients]:
            await protocol.until_lost()
        assert [protocol.error for protocol in keeper.made] == [None] * 3


@needs_close_clients
async def test_close_clients_flushes_and_abort_clients_does_not(loop: Loop) -> None:
    data = b"x" * 8_000_000
    for method, complete in (("close_clients", True), ("abort_clients", False)):
        keeper = Keeper()
        async with serving(loop, keeper) as (server, address):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, address)
                await served(keeper)
                keeper.made[0].transport.write(data)
                getattr(server, method)()
                try:
                    received = await read_all(loop, client)
                except ConnectionResetError:
                    received = b""
                assert (received == data) is complete
                await keeper.made[0].until_lost()


async def test_serve_forever_until_cancelled(loop: Loop) -> None:
    """Cancelling closes the server, and the cancellation goes on to the caller."""
    server = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
    task = loop.create_task(server.serve_forever())
    await turns(2)
    assert server.is_serving()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()
    assert server.sockets == ()


@oracle_since((3, 14), "it waits for the clients to go by themselves")
async def test_cancelling_serve_forever_closes_the_clients(loop: Loop) -> None:
    keeper = Keeper()
    async with serving(loop, keeper) as (server, address):
        task = loop.create_task(server.serve_forever())
        client = await connect(loop, address)
        await served(keeper)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert keeper.made[0].lost
        await client.until_lost()


async def test_serve_forever_ends_when_closed(loop: Loop) -> None:
    async with serving(loop, Recorder) as (server, _):
        task = loop.create_task(server.serve_forever())
        await turns(2)
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_serve_forever_once(loop: Loop) -> None:
    async with serving(loop, Recorder) as (server, _):
        task = loop.create_task(server.serve_forever())
        await turns(1)
        text = r"^server <.*> is already being awaited on serve_forever\(\)$"
        with pytest.raises(RuntimeError, match=text):
            await server.serve_forever()
        task.cancel()
        await asyncio.wait([task])


async def test_serve_forever_after_close(loop: Loop) -> None:
    async with serving(loop, Recorder) as (server, _):
        server.close()
        with pytest.raises(RuntimeError, match=r"^server <.*> is closed$"):
            await server.serve_forever()


async def test_async_with_closes(loop: Loop) -> None:
    async with await loop.create_server(Recorder, "127.0.0.1", 0) as server:
        assert server.is_serving()
    assert not server.is_serving()
    assert server.sockets == ()


async def test_repr(loop: Loop) -> None:
    async with serving(loop, Recorder) as (server, _):
        assert re.match(
            r"^<\w*Server sockets=\(?\[?<asyncio\.TransportSocket |^<Server ", repr(server)
        )
        assert "sockets=" in repr(server)


async def test_the_server_need_not_be_held(loop: Loop) -> None:
    """The loop serves on although the program dropped the Server object."""
    keeper = Keeper()
    listener = listening()
    await loop.create_server(keeper, sock=listener)
    gc.collect()
    client = await connect(loop, listener.getsockname())
    await served(keeper)
    client.transport.close()
    await keeper.made[0].until_lost()
    loop.remove_reader(listener)
    listener.close()


async def test_a_burst_of_clients(loop: Loop) -> None:
    """Many at once: every one is served, in any number of iterations."""
    keeper = Keeper()
    async with serving(loop, keeper) as (_, address):
        clients = await asyncio.gather(*(connect(loop, address) for _ in range(50)))
        await served(keeper, 50)
        for client in clients:
            client.transport.close()
        for protocol in keeper.made:
            await protocol.until_lost()


async def test_a_crowd_after_clients_who_came_one_by_one(loop: Loop) -> None:
    """Nobody is left in the kernel's queue, whatever the events before have had."""
    keeper = Keeper()
    async with serving(loop, keeper) as (_, address):
        clients = []
        for size in (1, 1, 1, 50, 1, 1, 20):
            clients += await asyncio.gather(*(connect(loop, address) for _ in range(size)))
            await served(keeper, len(clients))
        for client in clients:
            client.transport.close()
        for protocol in keeper.made:
            await protocol.until_lost()
