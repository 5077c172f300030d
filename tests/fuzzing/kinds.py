"""The kinds of programs: which steps they are made of, and how often each."""

from __future__ import annotations

import functools

from . import callbacks, connections, datagrams, descriptors, pipes, servers, streams
from .programs import Dice, Draw, Program, Settle, Step, Table, Turns

CALLBACKS: Table = [
    (callbacks.CallSoon.draw, 12),
    (callbacks.CallLater.draw, 3),
    (callbacks.Timers.draw, 2),
    (callbacks.CallSoonOnThread.draw, 2),
    (callbacks.Cancel.draw, 3),
    (callbacks.SetVariable.draw, 3),
    (callbacks.Stop.draw, 1),
    (callbacks.Report.draw, 1),
    (callbacks.CancelTask.draw, 4),
    (callbacks.InExecutor.draw, 1),
    (callbacks.Refused.draw, 1),
    (Turns.draw, 3),
]


def _family(family: str) -> Table:
    """Connections and servers of one address family."""
    return [
        (functools.partial(connections.Connect.draw, family=family), 3),
        (functools.partial(servers.Serve.draw, family=family), 2),
        (functools.partial(servers.Dial.draw, family=family), 6),
    ]


def _begin(family: str) -> Draw:
    """How a program begins: with a connection, or with a server and a client, ..."""

    def begin(dice: Dice) -> Step | None:
        sort = dice.number(1, 10)
        if sort <= 6:
            return connections.Connect.draw(dice, family)
        if sort <= 9:
            serve = servers.Serve.draw(dice, family)
            dial = servers.Dial.draw(dice, family)
            dice.next += [Settle(), dial] if dial else []
            return serve
        return descriptors.Listen.draw(dice)

    return begin


SOCKETS: Table = [
    (descriptors.Listen.draw, 2),
    (descriptors.SockConnect.draw, 5),
    *descriptors.OPERATIONS,
]

STREAMS: Table = [
    *connections.OPERATIONS,
    *servers.OPERATIONS,
    *streams.OPERATIONS,
]

ENDPOINTS: Table = [
    (datagrams.Endpoints.draw, 4),
    (datagrams.ToNobody.draw, 2),
    *datagrams.OPERATIONS,
]

PIPES: Table = [
    (pipes.Pipe.draw, 5),
    *connections.OPERATIONS,
    (descriptors.AddReader.draw, 6),
    (descriptors.AddWriter.draw, 4),
    (descriptors.Remove.draw, 3),
]

#: By name: how a program begins, and the steps that follow.
KINDS: dict[str, tuple[Draw, Table]] = {
    "tcp": (_begin("tcp"), [*CALLBACKS, *_family("tcp"), *SOCKETS, *STREAMS]),
    "unix": (_begin("unix"), [*CALLBACKS, *_family("unix"), *SOCKETS, *STREAMS]),
    "datagrams": (datagrams.Endpoints.draw, [*CALLBACKS, *ENDPOINTS]),
    "pipes": (pipes.Pipe.draw, [*CALLBACKS, *PIPES]),
    "callbacks": (callbacks.CallSoon.draw, CALLBACKS),
}


def draw(kind: str, seed: int) -> Program:
    """The program that a seed stands for."""
    begin, table = KINDS[kind]
    dice = Dice(f"{kind} {seed}", table, one_way=kind == "pipes")
    steps: list[Step] = [begin(dice) or Settle(), *dice.next, Settle()]
    dice.next.clear()
    calm = dice.pick([0.2, 0.5, 0.9])
    for _ in range(dice.number(3, 30)):
        steps.append(dice.step())
        if not dice.next and dice.chance(calm):
            steps.append(Settle())
    return Program(kind, tuple(steps), debug=dice.chance(0.1))
