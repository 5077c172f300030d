"""create_connection and connect_accepted_socket."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from typing import Any

import pytest

from .connections import close, serving
from .support import Loop, Recorder, listening, open_descriptors, oracle_since, refusing_port, turns


async def test_host_and_port(loop: Loop) -> None:
    async with serving(loop, Recorder) as (_, address):
        transport, protocol = await loop.create_connection(Recorder, *address)
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(protocol, Recorder)
        assert protocol.calls == [("connection_made",)]
        assert transport.get_extra_info("peername") == address
        await close(protocol)


async def test_a_name(loop: Loop) -> None:
    async with serving(loop, Recorder) as (_, address):
        _, protocol = await loop.create_connection(Recorder, "localhost", address[1])
        assert protocol.transport.get_extra_info("peername") == address
        await close(protocol)


async def test_a_port_as_text(loop: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        _, protocol = await loop.create_connection(Recorder, "127.0.0.1", str(address[1]))
        await close(protocol)


async def test_ipv6(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "::1", 0)
    address = server.sockets[0].getsockname()
    _, protocol = await loop.create_connection(Recorder, "::1", address[1])
    peername = protocol.transport.get_extra_info("peername")
    assert peername == ("::1", address[1], 0, 0)
    await close(protocol)
    server.close()
    await server.wait_closed()


async def test_a_family_that_the_host_does_not_have(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "127.0.0.1", 80, family=socket.AF_INET6)


async def test_a_connected_socket(loop: Loop) -> None:
    async with serving(loop, Recorder) as (_, address):
        sock = socket.create_connection(address)
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        assert sock.gettimeout() == 0
        assert transport.get_extra_info("socket").fileno() == sock.fileno()
        await close(protocol)
        await turns(1)
        assert sock.fileno() == -1, "the transport owns the socket"


async def test_a_local_address(loop: Loop) -> None:
    async with serving(loop, Recorder) as (_, address):
        _, protocol = await loop.create_connection(Recorder, *address, local_addr=("127.0.0.2", 0))
        assert protocol.transport.get_extra_info("sockname")[0] == "127.0.0.2"
        await close(protocol)


async def test_a_local_address_that_is_taken(loop: Loop) -> None:
    with listening() as taken:
        local = taken.getsockname()
        async with serving(loop, Recorder) as (_, address):
            with pytest.raises(OSError, match="error while attempting to bind") as caught:
                await loop.create_connection(Recorder, *address, local_addr=local)
    assert caught.value.errno == 98
    assert re.match(
        rf"^\[Errno 98\] error while attempting to bind on address {re.escape(repr(local))}: "
        r"(\[errno 98\] )?address already in use$",
        str(caught.value),
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the message came with 3.12")
async def test_no_local_address_of_the_family(loop: Loop) -> None:
    async with serving(loop, Recorder) as (_, address):
        text = r"^no matching local address with family=.*AF_INET.* found$"
        with pytest.raises(OSError, match=text):
            await loop.create_connection(Recorder, *address, local_addr=("::1", 0))


async def test_refused(loop: Loop) -> None:
    with refusing_port() as port:
        text = rf"^\[Errno 111\] Connect call failed \('127\.0\.0\.1', {port}\)$"
        with pytest.raises(ConnectionRefusedError, match=text) as caught:
            await loop.create_connection(Recorder, "127.0.0.1", port)
        assert caught.value.errno == 111


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, r"^host and port was not specified and no sock specified$"),
        (
            {"host": "127.0.0.1", "port": 1, "sock": "stream"},
            r"^host/port and sock can not be specified at the same time$",
        ),
        (
            {"port": 1, "sock": "stream"},
            r"^host/port and sock can not be specified at the same time$",
        ),
        ({"sock": "datagram"}, r"^A Stream Socket was expected, got <socket\.socket "),
        (
            {"host": "127.0.0.1", "port": 1, "server_hostname": "name"},
            r"^server_hostname is only meaningful with ssl$",
        ),
        (
            {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1},
            r"^ssl_handshake_timeout is only meaningful with ssl$",
        ),
        ({"sock": "stream", "ssl": True}, r"^You must set server_hostname when using ssl without"),
    ],
)
async def test_wrong_arguments(loop: Any, options: dict[str, Any], text: str) -> None:
    kinds = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM}
    with socket.socket(type=kinds[options.get("sock", "stream")]) as sock:
        if "sock" in options:
            options = {**options, "sock": sock}
        with pytest.raises(ValueError, match=text):
            await loop.create_connection(Recorder, **options)
        assert sock.fileno() != -1, "a refused socket stays the caller's"


@pytest.mark.parametrize("given", [False, True])
@oracle_since((3, 14), "the socket is left to the garbage collector")
async def test_an_exception_from_the_factory_is_the_callers(loop: Loop, given: bool) -> None:
    """And the socket is closed, a given one too."""

    def factory() -> Recorder:
        raise LookupError("no protocol")

    with listening() as listener:
        address = listener.getsockname()
        sock = socket.create_connection(address) if given else None
        before = open_descriptors()
        with pytest.raises(LookupError, match=r"^no protocol$"):
            if sock is None:
                await loop.create_connection(factory, *address)
            else:
                await loop.create_connection(factory, sock=sock)
        if sock is None:
            assert open_descriptors() == before
        else:
            assert sock.fileno() == -1


async def test_cancelled_while_connecting(loop: Loop) -> None:
    """The half-made connection's descriptor is closed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for sock in fillers:
            sock.setblocking(False)
            sock.connect_ex(address)
        await turns(3)
        before = open_descriptors()
        task = loop.create_task(loop.create_connection(Recorder, *address))
        await turns(3)
        assert not task.done()
        assert len(open_descriptors()) == len(before) + 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_descriptors() == before
        for sock in fillers:
            sock.close()


async def test_cancelled_with_a_given_socket(loop: Loop) -> None:
    """Cancelled before connection_made() came back: the transport closes the socket, once."""
    protocol = Recorder()
    async with serving(loop, Recorder) as (_, address):
        sock = socket.create_connection(address)
        task = loop.create_task(loop.create_connection(lambda: protocol, sock=sock))
        await turns(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.until_lost()
        await turns(2)
        assert sock.fileno() == -1
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_connect_accepted_socket(loop: Loop) -> None:
    with listening() as listener, socket.create_connection(listener.getsockname()) as client:
        sock, _ = await loop.sock_accept(listener)
        transport, protocol = await loop.connect_accepted_socket(Recorder, sock)
        client.send(b"hello")
        assert await protocol.until_received(5) == b"hello"
        assert transport is protocol.transport
        await close(protocol)


async def test_connect_accepted_socket_wants_a_stream(loop: Loop) -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sock,
        pytest.raises(ValueError, match=r"^A Stream Socket was expected, got <socket\.socket "),
    ):
        await loop.connect_accepted_socket(Recorder, sock)


async def test_many_at_once(loop: Loop) -> None:
    async with serving(loop, Recorder) as (_, address):
        made = await asyncio.gather(
            *(loop.create_connection(Recorder, *address) for _ in range(50))
        )
        for _, protocol in made:
            await close(protocol)
        await turns(5)


async def test_an_unconnected_socket(loop: Loop) -> None:
    """A transport on it reads at once, and hears that there is no connection."""
    sock = socket.socket()
    protocol = Recorder()
    await loop.create_connection(lambda: protocol, sock=sock)
    assert protocol.transport.get_extra_info("peername") is None
    await protocol.until_lost()
    assert isinstance(protocol.error, OSError)
    assert protocol.error.errno == 107
