"""create_server and the Server object."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from .support import (
    Loop,
    Recorder,
    listening,
    oracle_since,
    read_all,
    serving,
    turns,
)

#: Server.close_clients() and abort_clients() came with 3.13.
needs_close_clients = oracle_since((3, 13), "no such method")
#: wait_closed() really waits since 3.12.1.
needs_waiting = oracle_since((3, 12, 1), "wait_closed() does not wait for clients")


class Keeper:
    """A protocol factory that keeps the protocols it made."""

    def __init__(self) -> None:
        self.made: list[Recorder] = []

    def __call__(self) -> Recorder:
        self.made.append(Recorder())
        return self.made[-1]


async def connect(loop: Loop, address: Any) -> Recorder:
    _, protocol = await loop.create_connection(Recorder, *address[:2])
    return protocol


async def served(keeper: Keeper, count: int = 1) -> None:
    """Wait until the server has made connection_made() of its first `count` clients happen."""
    while sum(bool(protocol.calls) for protocol in keeper.made) < count:
        await turns(1)


async def test_port_zero_is_a_free_port(loop: Loop) -> None:
    keeper = Keeper()
    async with serving(loop, keeper) as (server, address):
        assert address[0] == "127.0.0.1"
        assert address[1] != 0
        assert isinstance(server, asyncio.AbstractServer)
        assert server.is_serving()
        assert server.get_loop() is loop
        client = await connect(loop, address)
        await served(keeper)
        (protocol,) = keeper.made
        peer = client.transport.get_extra_info("sockname")
        assert protocol.transport.get_extra_info("peername") == peer
        client.transport.close()
        await protocol.until_lost()


@pytest.mark.parametrize("host", [None, ""])
async def test_no_host_is_every_interface(loop: Loop, host: str | None) -> None:
    server = await loop.create_server(Recorder, host, 0)
    families = {sock.family for sock in server.sockets}
    assert socket.AF_INET in families
    for sock in server.sockets:
        assert sock.getsockname()[0] in ("0.0.0.0", "::")
    server.close()
    await server.wait_closed()


async def test_a_list_of_hosts(loop: Loop) -> None:
    keeper = Keeper()
    server = await loop.create_server(keeper, ["127.0.0.1", "::1", "127.0.0.1"], 0)
    assert [sock.getsockname()[0] for sock in server.sockets].count("127.0.0.1") == 1
    assert {sock.family for sock in server.sockets} == {socket.AF_INET, socket.AF_INET6}
    clients = [await connect(loop, sock.getsockname()) for sock in server.sockets]
    await served(keeper, 2)
    for client in clients:
        client.transport.close()
    for protocol in keeper.made:
        await protocol.until_lost()
    server.close()
    await server.wait_closed()


async def test_a_family(loop: Loop) -> None:
    server = await loop.create_server(Recorder, None, 0, family=socket.AF_INET6)
    assert [sock.family for sock in server.sockets] == [socket.AF_INET6]
    server.close()
    await server.wait_closed()


async def test_ipv6_sockets_are_for_ipv6_only(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "::1", 0)
    (sock,) = server.sockets
    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    server.close()
    await server.wait_closed()


async def test_a_given_socket(loop: Loop) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(Recorder, sock=sock)
    assert sock.gettimeout() == 0
    assert [s.fileno() for s in server.sockets] == [sock.fileno()]
    client = await connect(loop, sock.getsockname())
    client.transport.close()
    server.close()
    assert sock.fileno() == -1, "the server owns the socket"
    await server.wait_closed()


async def test_options_of_the_listening_socket(loop: Loop) -> None:
    def option(server: asyncio.Server, name: int) -> int:
        return server.sockets[0].getsockopt(socket.SOL_SOCKET, name)

    async with serving(loop, Recorder) as (server, _):
        assert option(server, socket.SO_REUSEADDR) == 1
        assert option(server, socket.SO_REUSEPORT) == 0
        assert option(server, socket.SO_KEEPALIVE) == 0
    async with serving(loop, Recorder, reuse_port=True, reuse_address=False) as (server, address):
        assert option(server, socket.SO_REUSEADDR) == 0
        assert option(server, socket.SO_REUSEPORT) == 1
        second = await loop.create_server(Recorder, *address, reuse_port=True)
        second.close()
        await second.wait_closed()


@oracle_since((3, 13), "no such parameter")
async def test_keep_alive(loop: Loop) -> None:
    async with serving(loop, Recorder, keep_alive=True) as (server, _):
        assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_sockets_are_wrapped(loop: Loop) -> None:
    from asyncio.trsock import TransportSocket

    async with serving(loop, Recorder) as (server, _):
        assert isinstance(server.sockets, tuple)
        assert all(isinstance(sock, TransportSocket) for sock in server.sockets)
    assert server.sockets == ()


async def test_a_taken_address(loop: Loop) -> None:
    async with serving(loop, Recorder) as (_, address):
        text = re.escape(f"[Errno 98] error while attempting to bind on address {address!r}: ")
        ending = r"(\[errno 98\] )?address already in use$"
        with pytest.raises(OSError, match=f"^{text}{ending}") as caught:
            await loop.create_server(Recorder, *address)
        assert caught.value.errno == 98


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, ValueError, r"^Neither host/port nor sock were specified$"),
        (
            {"host": "127.0.0.1", "port": 0, "sock": "stream"},
            ValueError,
            r"^host/port and sock can not be specified at the same time$",
        ),
        ({"sock": "datagram"}, ValueError, r"^A Stream Socket was expected, got <socket\.socket "),
        ({"ssl": True}, TypeError, r"^ssl argument must be an SSLContext or None$"),
        (
            {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 1},
            ValueError,
            r"^ssl_handshake_timeout is only meaningful with ssl$",
        ),
    ],
)
async def test_wrong_arguments(
    loop: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    kinds = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM}
    with socket.socket(type=kinds[options.get("sock", "stream")]) as sock:
        if "sock" in options:
            options = {**options, "sock": sock}
        with pytest.raises(error, match=text):
            await loop.create_server(Recorder, **options)


async def test_an_unresolvable_host(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.create_server(Recorder, "no.such.host.invalid", 0)


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
        await turns(3)
        assert not any(waiter.done() for waiter in waiters)
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


async def test_factories_may_be_any_callable(loop: Loop) -> None:
    factories: list[Callable[[], asyncio.BaseProtocol]] = [Recorder, lambda: Recorder(), Keeper()]
    for factory in factories:
        async with serving(loop, factory) as (_, address):
            client = await connect(loop, address)
            client.transport.close()
            await client.until_lost()
            await turns(4)
