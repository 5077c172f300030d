"""Layer 1: sock_connect and sock_accept over every stream family."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from .support import Loop, listening, oracle_since, read_exactly, refusing_port, turns


async def test_connect_and_accept(loop: Loop) -> None:
    with listening() as listener, socket.socket() as client:
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await turns(1)
        await loop.sock_connect(client, listener.getsockname())
        connection, address = await accepting
        with connection:
            assert address == client.getsockname()
            assert connection.gettimeout() == 0, "an accepted socket is non-blocking"
            assert not connection.get_inheritable()
            await loop.sock_sendall(client, b"ping")
            assert await read_exactly(loop, connection, 4) == b"ping"


async def test_accept_what_already_waits(loop: Loop) -> None:
    with listening() as listener, socket.create_connection(listener.getsockname()) as client:
        connection, address = await loop.sock_accept(listener)
        connection.close()
        assert address == client.getsockname()


async def test_connect_by_name(loop: Loop) -> None:
    """A host name in the address is resolved by the loop, off the loop's thread."""
    with listening() as listener, socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
        assert client.getpeername() == listener.getsockname()


async def test_connect_over_ipv6(loop: Loop) -> None:
    with listening(socket.AF_INET6) as listener, socket.socket(socket.AF_INET6) as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("::1", listener.getsockname()[1]))
        connection, address = await loop.sock_accept(listener)
        connection.close()
        assert len(address) == 4


async def test_connect_to_a_unix_path(loop: Loop, tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, path)
        connection, _ = await loop.sock_accept(listener)
        with connection:
            await loop.sock_sendall(connection, b"unix")
            assert await read_exactly(loop, client, 4) == b"unix"


async def test_connect_to_an_abstract_name(loop: Loop) -> None:
    name = b"\0aioxide-test-" + os.urandom(8).hex().encode()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(name)
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, name)
        connection, _ = await loop.sock_accept(listener)
        connection.close()


async def test_connect_refused(loop: Loop) -> None:
    with refusing_port() as port, socket.socket() as client:
        client.setblocking(False)
        text = rf"^\[Errno 111\] Connect call failed \('127\.0\.0\.1', {port}\)$"
        with pytest.raises(ConnectionRefusedError, match=text):
            await loop.sock_connect(client, ("127.0.0.1", port))


async def test_connect_to_a_name_that_does_not_resolve(loop: Loop) -> None:
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(socket.gaierror):
            await loop.sock_connect(client, ("no.such.host.invalid", 80))


async def test_a_blocking_socket_works_without_debug_mode(loop: Loop) -> None:
    """Not checked: the calls block the loop, as they do on CPython's, but they do succeed."""
    with listening() as listener, socket.socket() as client:
        await loop.sock_connect(client, listener.getsockname())
        connection, _ = await loop.sock_accept(listener)
        with connection:
            await loop.sock_sendall(client, b"x")
            assert await loop.sock_recv(connection, 1) == b"x"
            connection.send(b"y")
            assert await loop.sock_recv(client, 1) == b"y"


async def test_cancelled_connect_can_be_closed(loop: Loop) -> None:
    """A backlog that is full leaves the connect waiting."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        tasks = []
        for sock in waiting:
            sock.setblocking(False)
            tasks.append(loop.create_task(loop.sock_connect(sock, listener.getsockname())))
        await turns(5)
        assert not tasks[-1].done()
        for task, sock in zip(tasks, waiting, strict=True):
            task.cancel()
            await asyncio.wait([task])
            assert loop.remove_writer(sock) is False
            sock.close()


@oracle_since((3, 14, 10), "it accepts the connection and drops it")
async def test_a_cancelled_accept_takes_no_connection(loop: Loop) -> None:
    """Cancelled in the same iteration in which the listener became ready."""
    with listening() as listener:
        task = loop.create_task(loop.sock_accept(listener))
        await turns(1)
        with socket.create_connection(listener.getsockname()) as client:
            loop.call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            connection, address = await loop.sock_accept(listener)
            connection.close()
            assert address == client.getsockname()
