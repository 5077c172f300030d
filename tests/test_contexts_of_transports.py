"""What a callback sets in the context of its transport is seen by the next one, and by no other
transport's.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import socket

import pytest

SEEN: contextvars.ContextVar[int] = contextvars.ContextVar("SEEN")


class Counting(asyncio.Protocol):
    """Counts its receives in its context, and sends the count."""

    def __init__(self, lost: asyncio.Future[None]) -> None:
        self.lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # In a copy of the transport's context: seen by no other callback.
        SEEN.set(100)

    def data_received(self, data: bytes) -> None:
        if data == b"+":
            SEEN.set(SEEN.get(0) + 1)
        self.transport.write(b"%d\n" % SEEN.get(0))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


@pytest.mark.parametrize("set_before", [False, True])
def test_each_transport_has_a_context_of_its_own(
    loop: asyncio.AbstractEventLoop, set_before: bool
) -> None:
    other: contextvars.ContextVar[int] = contextvars.ContextVar("other")

    async def ask(client: socket.socket, what: bytes) -> bytes:
        await loop.sock_sendall(client, what)
        return await loop.sock_recv(client, 100)

    async def main() -> None:
        if set_before:
            other.set(1)
        clients = []
        lost: list[asyncio.Future[None]] = [loop.create_future() for _ in range(3)]
        for future in lost:
            server_side, client = socket.socketpair()
            server_side.setblocking(False)
            client.setblocking(False)
            await loop.connect_accepted_socket(functools.partial(Counting, future), server_side)
            clients.append(client)
        first, second, third = clients
        assert await ask(first, b"?") == b"0\n"
        assert await ask(first, b"+") == b"1\n"
        assert await ask(second, b"?") == b"0\n"
        assert await ask(first, b"+") == b"2\n"
        assert await ask(second, b"+") == b"1\n"
        assert await ask(third, b"?") == b"0\n"
        assert await ask(first, b"?") == b"2\n"
        for client in clients:
            client.close()
        await asyncio.gather(*lost)

    loop.run_until_complete(main())


class Leaving(asyncio.Protocol):
    """Leaves something in its context when it receives, and says what it finds there in the end."""

    def __init__(self, then: asyncio.Future[int]) -> None:
        self.then = then

    def data_received(self, data: bytes) -> None:
        SEEN.set(7)

    def connection_lost(self, exc: Exception | None) -> None:
        self.then.set_result(SEEN.get(0))


def test_connection_lost_sees_what_data_received_has_set(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> tuple[int, int]:
        results = []
        for data in (b"x", b""):
            server_side, client = socket.socketpair()
            server_side.setblocking(False)
            then: asyncio.Future[int] = loop.create_future()
            with client:
                await loop.connect_accepted_socket(functools.partial(Leaving, then), server_side)
                client.sendall(data)
            results.append(await then)
        return results[0], results[1]

    assert loop.run_until_complete(main()) == (7, 0)
