"""create_server in all its forms, and what it refuses."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from .connections import Keeper, connect, served, serving
from .support import Loop, Recorder, oracle_since, turns


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


async def test_factories_may_be_any_callable(loop: Loop) -> None:
    factories: list[Callable[[], asyncio.BaseProtocol]] = [Recorder, lambda: Recorder(), Keeper()]
    for factory in factories:
        async with serving(loop, factory) as (_, address):
            client = await connect(loop, address)
            client.transport.close()
            await client.until_lost()
            await turns(4)
