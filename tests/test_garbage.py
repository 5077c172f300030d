"""What the garbage collector must find: loops, servers and transports that nobody closed."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import socket
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .support import Loop, LoopFactory, fill, oracle_since, turns

#: How often each thing is made: enough that one left over by accident is not all of them.
TIMES = 20


class Kept:
    """Something that an abandoned loop refers to, and that refers back to the loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop


class KeptDeadline(float, Kept):
    """A time on the loop's clock, that a timer's handle gives back."""


class KeptSocket(socket.socket):
    """A socket of the program's own make."""

    kept: Kept


class KeptBuffer(bytearray):
    """Memory of the program's own make."""

    kept: Kept


class KeptProtocol(asyncio.Protocol, Kept):
    """A protocol that knows its loop and its transport."""

    def __init__(self, loop: Loop) -> None:
        Kept.__init__(self, loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


def with_callback(loop: Loop) -> Kept:
    kept = Kept(loop)
    loop.call_soon(id, kept)
    return kept


def with_timer(loop: Loop) -> Kept:
    kept = Kept(loop)
    loop.call_later(3600, id, kept)
    return kept


def with_timer_that_was_cancelled(loop: Loop) -> Kept:
    """A circle through the deadline that the handle was given."""
    deadline: Any = KeptDeadline(loop.time() + 3600)
    deadline.handle = loop.call_at(deadline, int)
    deadline.handle.cancel()
    return deadline  # type: ignore[no-any-return]


def with_handle_that_ran(loop: Loop) -> Kept:
    """A circle through a handle: a recycled one must be seen like any other."""
    kept: Any = Kept(loop)
    loop.call_soon(int)
    kept.handle = loop.call_soon(id, kept)
    loop.call_soon(loop.stop)
    loop.run_forever()
    return kept  # type: ignore[no-any-return]


def with_reader(loop: Loop) -> Kept:
    kept: Any = Kept(loop)
    kept.pair = socket.socketpair()
    loop.add_reader(kept.pair[0], id, kept)
    return kept  # type: ignore[no-any-return]


def with_server(loop: Loop) -> Kept:
    kept: Any = Kept(loop)
    making = loop.create_server(lambda: KeptProtocol(kept.loop), "127.0.0.1", 0)
    kept.server = loop.run_until_complete(making)
    return kept  # type: ignore[no-any-return]


def with_transport(loop: Loop) -> Kept:
    protocol: Any = KeptProtocol(loop)
    ours, protocol.peer = socket.socketpair()
    loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
    return protocol  # type: ignore[no-any-return]


def with_operation(loop: Loop) -> Kept:
    """A receive that waits; its task is not run to an end."""
    kept: Any = Kept(loop)
    kept.pair = socket.socketpair()
    kept.pair[0].setblocking(False)

    async def receive() -> None:
        await loop.sock_recv(kept.pair[0], 100)

    kept.task = loop.create_task(receive())
    kept.task._log_destroy_pending = False
    loop.call_soon(loop.stop)
    loop.run_forever()
    return kept  # type: ignore[no-any-return]


def with_buffer(loop: Loop, begin: Callable[[socket.socket, KeptBuffer], Any]) -> Kept:
    """An operation that waits, and whose buffer alone refers to its task."""
    kept: Any = Kept(loop)
    ours, kept.peer = socket.socketpair()
    ours.setblocking(False)
    fill(ours)
    buffer = KeptBuffer(100)
    buffer.kept = kept

    async def operate() -> None:
        await begin(ours, buffer)

    kept.task = loop.create_task(operate())
    kept.task._log_destroy_pending = False
    loop.call_soon(loop.stop)
    loop.run_forever()
    return kept  # type: ignore[no-any-return]


def with_receive_into(loop: Loop) -> Kept:
    return with_buffer(loop, loop.sock_recv_into)


def with_sendall(loop: Loop) -> Kept:
    return with_buffer(loop, loop.sock_sendall)


@pytest.fixture
def quiet_collector() -> Iterator[None]:
    """Abandoning is the point here: no warning is an error."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


def alive() -> int:
    gc.collect()
    return sum(isinstance(thing, Kept) for thing in gc.get_objects())


@pytest.mark.parametrize(
    "abandon",
    [
        with_callback,
        with_timer,
        with_timer_that_was_cancelled,
        with_handle_that_ran,
        with_reader,
        with_server,
        with_transport,
        with_operation,
        with_receive_into,
        with_sendall,
    ],
)
@oracle_since((3, 11), "its __del__ may find its sockets collected before it")
@pytest.mark.usefixtures("quiet_collector")
def test_an_abandoned_loop_is_collected(
    loop_factory: LoopFactory, abandon: Callable[[Loop], Kept]
) -> None:
    before = alive()
    for _ in range(TIMES):
        abandon(loop_factory())
    assert alive() == before


@pytest.mark.parametrize("abandon", [with_operation, with_receive_into, with_sendall])
@pytest.mark.usefixtures("quiet_collector")
def test_what_waited_on_a_closed_loop_is_collected(
    loop_factory: LoopFactory, abandon: Callable[[Loop], Kept]
) -> None:
    before = alive()
    for _ in range(TIMES):
        loop = loop_factory()
        abandon(loop)
        loop.close()
    assert alive() == before


@pytest.mark.usefixtures("quiet_collector")
def test_a_closed_server_is_collected(loop: Loop) -> None:
    before = alive()
    for _ in range(TIMES):
        kept: Any = with_server(loop)
        kept.server.close()
        loop.run_until_complete(kept.server.wait_closed())
        del kept
    assert alive() == before


@pytest.mark.usefixtures("quiet_collector")
def test_a_closed_server_over_a_socket_of_the_program_s_is_collected(loop: Loop) -> None:
    before = alive()
    for _ in range(TIMES):
        kept: Any = Kept(loop)
        sock = KeptSocket()
        sock.bind(("127.0.0.1", 0))
        making = loop.create_server(asyncio.Protocol, sock=sock)
        sock.kept = kept
        kept.server = loop.run_until_complete(making)
        kept.server.close()
        loop.run_until_complete(turns())
        del kept, sock
    assert alive() == before


async def test_a_refused_connection_leaves_no_circle(loop: Loop) -> None:
    """Neither the exception nor what its frames refer to waits for the collector."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        gc.collect()
        gc.disable()
        try:
            with contextlib.suppress(ConnectionRefusedError):
                await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            await turns(1)  # the handle of this step still has the future that failed
            refused = [
                thing for thing in gc.get_objects() if isinstance(thing, ConnectionRefusedError)
            ]
        finally:
            gc.enable()
        assert refused == []


async def test_a_handle_that_somebody_keeps_is_collected_while_the_loop_runs(loop: Loop) -> None:
    """Circles through handles that have run, that were cancelled, and that are timers."""

    class Owner:
        def __init__(self, how: str) -> None:
            schedule: dict[str, Callable[..., asyncio.Handle]] = {
                "soon": loop.call_soon,
                "threadsafe": loop.call_soon_threadsafe,
                "later": lambda call: loop.call_later(0, call),
                "cancelled": loop.call_soon,
            }
            self.handle = schedule[how](self.call)
            if how == "cancelled":
                variable.set(self)
                self.handle = loop.call_soon(self.call, context=contextvars.copy_context())
                variable.set(None)
                self.handle.cancel()

        def call(self) -> None:
            pass

    variable: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("variable")
    alive: weakref.WeakSet[Owner] = weakref.WeakSet()
    for how in ["soon", "threadsafe", "later", "cancelled"]:
        for _ in range(TIMES):
            alive.add(Owner(how))
    await turns(4)
    await asyncio.sleep(0.001)
    gc.collect()
    assert not alive
