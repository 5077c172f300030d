"""An exception raised in each protocol callback: what is reported, and what the connection does.

The expected reports are what CPython's loop really gives, recorded by running these tests on it.
"""

from __future__ import annotations

import asyncio
import gc
import re
import socket
from typing import Any

import pytest

from .connections import connect_socket, connected, serving
from .support import (
    BIG,
    BufferedRecorder,
    Errors,
    Loop,
    Recorder,
    oracle_never,
    read_all,
    read_exactly,
    tcp_pair,
    turns,
)


class Oops(Exception):
    """Raised by the protocols under test."""


def failing(base: type[Any], callback: str) -> Any:
    """A recording protocol whose `callback` raises after it has recorded its call."""

    def fail(self: Any, *args: Any) -> Any:
        getattr(base, callback)(self, *args)
        raise Oops(callback)

    return type("Failing", (base,), {callback: fail})()


def check(context: dict[str, Any], message: str, transport: Any, protocol: Any) -> None:
    """A transport's report: four keys, nothing else."""
    assert set(context) == {"message", "exception", "transport", "protocol"}
    assert context["message"] == message
    assert isinstance(context["exception"], Oops)
    assert context["transport"] is transport
    assert context["protocol"] is protocol


async def test_data_received(loop: Loop, errors: Errors) -> None:
    protocol = failing(Recorder, "data_received")
    async with connected(loop, protocol) as (transport, peer):
        peer.send(b"x")
        await protocol.until_lost()
        message = "Fatal error: protocol.data_received() call failed."
        check(errors.take_one(), message, transport, protocol)
        assert isinstance(protocol.error, Oops)
        assert await read_all(loop, peer) == b""
    assert protocol.names == ["connection_made", "data_received", "connection_lost"]


async def test_get_buffer(loop: Loop, errors: Errors) -> None:
    protocol = failing(BufferedRecorder, "get_buffer")
    async with connected(loop, protocol) as (transport, peer):
        peer.send(b"x")
        await protocol.until_lost()
        message = "Fatal error: protocol.get_buffer() call failed."
        check(errors.take_one(), message, transport, protocol)
        assert isinstance(protocol.error, Oops)
    assert protocol.names == ["connection_made", "get_buffer", "connection_lost"]


async def test_buffer_updated(loop: Loop, errors: Errors) -> None:
    protocol = failing(BufferedRecorder, "buffer_updated")
    async with connected(loop, protocol) as (transport, peer):
        peer.send(b"x")
        await protocol.until_lost()
        message = "Fatal error: protocol.buffer_updated() call failed."
        check(errors.take_one(), message, transport, protocol)
    assert protocol.names == ["connection_made", "get_buffer", "buffer_updated", "connection_lost"]


@pytest.mark.parametrize("base", [Recorder, BufferedRecorder])
async def test_eof_received(loop: Loop, errors: Errors, base: type[Any]) -> None:
    protocol = failing(base, "eof_received")
    async with connected(loop, protocol) as (transport, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.until_lost()
        message = "Fatal error: protocol.eof_received() call failed."
        check(errors.take_one(), message, transport, protocol)
        assert isinstance(protocol.error, Oops)


async def test_pause_writing(loop: Loop, errors: Errors) -> None:
    """Reported, not fatal: write() returns and the data goes out."""
    protocol = failing(Recorder, "pause_writing")
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        check(errors.take_one(), "protocol.pause_writing() failed", transport, protocol)
        assert not transport.is_closing()
        await read_exactly(loop, peer, BIG)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")


async def test_resume_writing(loop: Loop, errors: Errors) -> None:
    protocol = failing(Recorder, "resume_writing")
    async with connected(loop, protocol) as (transport, peer):
        transport.write(b"x" * BIG)
        await read_exactly(loop, peer, BIG)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")
        check(errors.take_one(), "protocol.resume_writing() failed", transport, protocol)
        transport.write(b"goes on")
        assert await read_exactly(loop, peer, 7) == b"goes on"


async def test_connection_made(loop: Loop, errors: Errors) -> None:
    """A callback like any other: reported as such, and the connection goes on."""
    protocol = failing(Recorder, "connection_made")
    left, right = tcp_pair()
    with right:
        transport = await connect_socket(loop, left, protocol)
        context = errors.take_one()
        assert set(context) == {"message", "exception", "handle"}
        assert re.match(r"^Exception in callback .*\.fail\(.*\)", context["message"])
        assert isinstance(context["exception"], Oops)
        right.send(b"and on")
        assert await protocol.until_received(6) == b"and on"
        transport.close()
        await protocol.until_lost()


async def test_connection_lost(loop: Loop, errors: Errors) -> None:
    """Reported as a callback; the socket is closed all the same."""
    protocol = failing(Recorder, "connection_lost")
    async with connected(loop, protocol) as (transport, peer):
        transport.close()
        await protocol.until_lost()
        await turns(2)
        context = errors.take_one()
        assert set(context) == {"message", "exception", "handle"}
        assert re.match(r"^Exception in callback .*connection_lost\(.*\)", context["message"])
        assert isinstance(context["exception"], Oops)
        assert await read_all(loop, peer) == b""
        assert transport.get_extra_info("socket").fileno() == -1


async def test_connection_lost_lets_the_server_close(loop: Loop, errors: Errors) -> None:
    """The client detaches from its server although connection_lost() raised."""
    protocol = failing(Recorder, "connection_lost")
    async with serving(loop, lambda: protocol) as (_, address):
        with socket.create_connection(address):
            await protocol.until(lambda: protocol.calls)
        await protocol.until_lost()
    assert isinstance(errors.take_one()["exception"], Oops)


def no_protocol() -> Any:
    raise Oops("factory")


@oracle_never("the accepted socket is left to the garbage collector")
async def test_the_servers_factory(loop: Loop, errors: Errors) -> None:
    """Silent outside debug mode; the client's connection is closed; the server serves on."""
    async with serving(loop, no_protocol) as (server, address):
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, address)
            assert await read_all(loop, client) == b""
        assert server.is_serving()
        assert errors.take() == []


@pytest.mark.filterwarnings("ignore")
async def test_the_servers_factory_in_debug_mode(loop: Loop, errors: Errors) -> None:
    """CPython's loop forgets the accepted socket, hence the filter."""
    async with serving(loop, no_protocol) as (_, address):
        loop.set_debug(True)
        with socket.create_connection(address):
            while not (contexts := errors.take()):
                await turns(1)
        loop.set_debug(False)
        (context,) = contexts
        assert set(context) == {"message", "exception"}
        assert context["message"] == "Error on transport creation for incoming connection"
        assert isinstance(context["exception"], Oops)
        context.clear()
        contexts.clear()
        gc.collect()


async def test_connection_made_on_a_server(loop: Loop, errors: Errors) -> None:
    protocol = failing(Recorder, "connection_made")
    async with serving(loop, lambda: protocol) as (_, address):
        with socket.create_connection(address) as client:
            client.send(b"still received")
            await protocol.until_received(14)
            context = errors.take_one()
            assert context["message"].startswith("Exception in callback ")
        await protocol.until_lost()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exits_go_through(loop: Loop, error: type[BaseException]) -> None:
    """KeyboardInterrupt and SystemExit out of data_received() end the run, not the connection."""

    class Leaving(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.received) == 1:
                raise error

    protocol = Leaving()
    left, right = tcp_pair()
    transport = loop.run_until_complete(connect_socket(loop, left, protocol))
    right.send(b"1")
    with pytest.raises(error):
        loop.run_forever()

    async def rest() -> None:
        right.send(b"2")
        assert await protocol.until_received(2) == b"12"
        transport.close()
        await protocol.until_lost()

    loop.run_until_complete(rest())
    right.close()


async def test_cancelled_error_is_an_error_here(loop: Loop, errors: Errors) -> None:
    """asyncio.CancelledError out of a protocol is reported as any other BaseException."""

    class Cancelling(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise asyncio.CancelledError

    protocol = Cancelling()
    async with connected(loop, protocol) as (_, peer):
        peer.send(b"x")
        await protocol.until_lost()
    assert isinstance(errors.take_one()["exception"], asyncio.CancelledError)
