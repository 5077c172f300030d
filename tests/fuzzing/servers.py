"""Steps of servers, and of connections to them."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..support import refusing_port
from .connections import TRANSPORTS, made
from .ends import new_end
from .programs import Dice, Step, Table
from .world import World


@dataclass(frozen=True)
class Serve(Step):
    """A server on the loopback interface; a task makes it."""

    server: int
    task: int
    shape: str
    family: str = "tcp"
    #: Whether it accepts at once.
    start: bool = True

    def perform(self, world: World) -> object:
        if self.server in world.servers or self.task in world.tasks:
            return None
        expected = world.expected.setdefault(self.server, deque())

        # It does not fail: CPython's would leave the accepted socket to the collector.
        def factory() -> asyncio.BaseProtocol:
            number = expected.popleft()
            world.note_on(f"server {self.server}", "factory for", number)
            return new_end(world, number, self.shape)[1]()

        async def serve() -> object:
            loop = world.loop
            if self.family == "tcp":
                server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=self.start)
                port = server.sockets[0].getsockname()[1]
                world.addresses[self.server] = port
            else:
                path = str(world.directory() / f"server {self.server}")
                server = await loop.create_unix_server(factory, path, start_serving=self.start)
                world.addresses[self.server] = path
            world.servers[self.server] = server
            return state(server)

        world.start(self.task, serve, ends=True)
        if self.family == "unix":
            # One of CPython's that is cancelled leaves its socket to the collector.
            world.protected.add(self.task)
        return None

    @classmethod
    def draw(cls, dice: Dice, family: str = "tcp") -> Step | None:
        if len(dice.servers) >= 2:
            return None
        server = len(dice.servers)
        dice.servers[server] = dice.pick(TRANSPORTS)
        task = dice.new(dice.tasks)
        return cls(server, task, dice.servers[server], family, dice.chance(0.8))


@dataclass(frozen=True)
class Dial(Step):
    """A connection to a server, or to an address that refuses it."""

    connection: int
    server: int
    shape: str
    task: int
    family: str = "tcp"

    def perform(self, world: World) -> object:
        number = 2 * self.connection
        if number in world.ends or self.task in world.tasks:
            return None
        address = world.addresses.get(self.server)
        _, factory = new_end(world, number, self.shape)
        loop = world.loop
        expected = world.expected.setdefault(self.server, deque())
        expected.append(number + 1)

        async def dial() -> str:
            if self.family == "unix":
                path = address or str(world.directory() / "nobody")
                return await made(loop.create_unix_connection(factory, path))
            if address is not None:
                return await made(loop.create_connection(factory, "127.0.0.1", address))
            with refusing_port() as port:
                return await made(loop.create_connection(factory, "127.0.0.1", port))

        def not_made(task: asyncio.Task[None]) -> None:
            if not world.ends[number].made and number + 1 in expected:
                expected.remove(number + 1)

        world.start(self.task, dial, ends=True)
        world.tasks[self.task].add_done_callback(not_made)
        return None

    @classmethod
    def draw(cls, dice: Dice, family: str = "tcp") -> Step | None:
        server = dice.any(list(dice.servers))
        if server is None or not dice.may_connect():
            return None
        left = dice.pick(TRANSPORTS)
        connection = dice.new_connection(left, dice.servers[server])
        return cls(connection, server, left, dice.new(dice.tasks), family)


async def start_serving(server: Any) -> object:
    # A closed one of CPython's trips over its missing sockets, with a TypeError.
    return await server.start_serving() if server.sockets else "closed"


def state(server: Any) -> str:
    return f"serving={server.is_serving()} sockets={len(server.sockets)}"


@dataclass(frozen=True)
class Serving(Step):
    """An operation of a server; some of them are tasks."""

    server: int
    what: str
    task: int

    def perform(self, world: World) -> object:
        server: Any = world.servers.get(self.server)
        if server is None:
            return None
        # What only newer versions of CPython have, or do in this way.
        since = {
            "close_clients": (3, 13),
            "abort_clients": (3, 13),
            "wait_closed": (3, 12, 1),
            # Until 3.14 it does not close the clients when it is cancelled.
            "serve_forever": (3, 14),
        }
        if sys.version_info < since.get(self.what, ()):
            return None
        if self.what == "start_serving":
            world.start(self.task, lambda: start_serving(server), ends=True)
            return None
        if self.what in ("serve_forever", "wait_closed"):
            world.start(self.task, getattr(server, self.what))
            return None
        if self.what != "ask":
            getattr(server, self.what)()
        if self.what == "close" and isinstance(address := world.addresses.get(self.server), str):
            # Before 3.13 CPython's leaves the file.
            Path(address).unlink(missing_ok=True)
        return state(server)

    @classmethod
    def draw(cls, dice: Dice) -> Step | None:
        server = dice.any(list(dice.servers))
        if server is None:
            return None
        what = dice.pick(
            ["close"] * 2
            + ["start_serving"] * 2
            + ["ask", "serve_forever", "wait_closed", "close_clients", "abort_clients"]
        )
        return cls(server, what, dice.new(dice.tasks))


OPERATIONS: Table = [
    (Serving.draw, 8),
]
