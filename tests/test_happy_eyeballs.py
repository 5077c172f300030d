"""Connecting to names with several addresses: in which order, which one wins, what is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .connections import Keeper, close, served, serving
from .support import (
    Loop,
    Recorder,
    listening,
    open_descriptors,
    oracle_since,
    refusing_port,
    turns,
)

Address = tuple[Any, ...]

#: A delay between attempts that is short for a test.
SHORT = 0.01

#: One that no test can wait for.
ENDLESS = 1000.0


class Names:
    """Stands for a loop's getaddrinfo(): the addresses of names, and what was asked.

    Other hosts are answered truthfully.
    """

    def __init__(self, *addresses: Address, **others: list[Address] | Exception) -> None:
        self._addresses: dict[str, Any] = {"name": list(addresses), **others}
        self.asked: list[tuple[Any, ...]] = []

    async def __call__(self, host: Any, port: Any, **options: Any) -> Any:
        self.asked.append((host, port, options))
        if host not in self._addresses:
            return socket.getaddrinfo(host, port, **options)
        addresses = self._addresses[host]
        if isinstance(addresses, Exception):
            raise addresses
        return [
            (
                socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                address,
            )
            for address in addresses
        ]


async def connect(loop: Any, names: Names, monkeypatch: Any, **options: Any) -> Recorder:
    """Connect to the name that `names` knows."""
    monkeypatch.setattr(loop, "getaddrinfo", names)
    protocol: Recorder
    _, protocol = await loop.create_connection(Recorder, "name", 1, **options)
    return protocol


@contextlib.contextmanager
def silent(count: int = 1) -> Iterator[list[Address]]:
    """Addresses that do not answer: their listeners' queues are full, so the kernel drops SYNs."""
    with contextlib.ExitStack() as stack:
        addresses = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            addresses.append(listener.getsockname())
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(addresses[-1])
        yield addresses


@contextlib.contextmanager
def refusing(*hosts: str) -> Iterator[list[Address]]:
    """Addresses that refuse, all different."""
    with contextlib.ExitStack() as stack:
        addresses: list[Address] = []
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = stack.enter_context(socket.socket(family))
            sock.bind((host, 0))
            addresses.append(sock.getsockname())
        yield addresses


def addresses_in(error: BaseException) -> list[Address]:
    """The hosts and ports that an error's text names, in its order."""
    found = re.findall(r"Connect call failed \('([^']+)', (\d+)", str(error))
    return [(host, int(port)) for host, port in found]


def peer_of(protocol: Recorder) -> Any:
    return protocol.transport.get_extra_info("peername")


# Who wins.


async def test_the_next_address_is_tried_when_the_first_is_silent(
    loop: Loop, monkeypatch: Any
) -> None:
    async with serving(loop, Recorder) as (_, address):
        with silent() as (mute,):
            before = open_descriptors()
            names = Names(mute, address)
            protocol = await connect(loop, names, monkeypatch, happy_eyeballs_delay=SHORT)
            assert peer_of(protocol) == address
            await turns()
            added = len(open_descriptors()) - len(before)
            assert added <= 2, "one end here, and one at the server; the loser's is closed"
            await close(protocol)


async def test_without_a_delay_the_first_address_is_waited_for(
    loop: Loop, monkeypatch: Any
) -> None:
    with silent() as (mute,), listening() as listener:
        names = Names(mute, listener.getsockname())
        task = loop.create_task(connect(loop, names, monkeypatch))
        await turns(10)
        assert not task.done()
        with pytest.raises(BlockingIOError):
            listener.accept()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_delay_is_waited_for(loop: Loop, monkeypatch: Any) -> None:
    with silent() as (mute,), listening() as listener:
        names = Names(mute, listener.getsockname())
        task = loop.create_task(connect(loop, names, monkeypatch, happy_eyeballs_delay=ENDLESS))
        await turns(10)
        with pytest.raises(BlockingIOError):
            listener.accept()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_failure_does_not_wait_for_the_delay(loop: Loop, monkeypatch: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        with refusing("127.0.0.1", "127.0.0.2", "::1") as refusals:
            names = Names(*refusals, address)
            protocol = await connect(loop, names, monkeypatch, happy_eyeballs_delay=ENDLESS)
            assert peer_of(protocol) == address
            await close(protocol)


async def test_the_first_that_answers_is_enough(loop: Loop, monkeypatch: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        with listening() as other:
            names = Names(address, other.getsockname())
            protocol = await connect(loop, names, monkeypatch, happy_eyeballs_delay=ENDLESS)
            assert peer_of(protocol) == address
            await turns()
            with pytest.raises(BlockingIOError):
                other.accept()
            await close(protocol)


async def test_the_last_of_many(loop: Loop, monkeypatch: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        with silent(5) as mutes, refusing("127.0.0.1", "127.0.0.1") as refusals:
            before = open_descriptors()
            names = Names(*mutes[:3], *refusals, *mutes[3:], address)
            protocol = await connect(loop, names, monkeypatch, happy_eyeballs_delay=0.001)
            assert peer_of(protocol) == address
            await turns()
            assert len(open_descriptors()) - len(before) <= 2
            await close(protocol)


async def test_a_delay_of_nothing(loop: Loop, monkeypatch: Any) -> None:
    """All may be tried at once; one connection remains."""
    keeper = Keeper()
    async with serving(loop, keeper) as (_, one), serving(loop, keeper) as (_, two):
        before = open_descriptors()
        protocol = await connect(loop, Names(one, two), monkeypatch, happy_eyeballs_delay=0)
        assert peer_of(protocol) in (one, two)
        protocol.transport.write(b"hello")
        while not any(made.received for made in keeper.made):
            await turns(1)
        for made in keeper.made:
            if not made.received:
                await made.until_lost()
        await close(protocol)
        await served(keeper)
        for made in keeper.made:
            await made.until_lost()
        await turns()
        assert open_descriptors() == before


async def test_both_families(loop: Loop, monkeypatch: Any) -> None:
    server = await loop.create_server(Recorder, "::1", 0)
    address = server.sockets[0].getsockname()
    with silent(2) as mutes:
        names = Names(*mutes, address)
        protocol = await connect(loop, names, monkeypatch, happy_eyeballs_delay=SHORT)
        assert peer_of(protocol) == address
        await close(protocol)
    server.close()
    await server.wait_closed()


async def test_through_streams(loop: Any, monkeypatch: Any) -> None:
    with silent() as (mute,), listening() as listener:
        monkeypatch.setattr(loop, "getaddrinfo", Names(mute, listener.getsockname()))
        _, writer = await asyncio.open_connection("name", 1, happy_eyeballs_delay=SHORT)
        assert writer.get_extra_info("peername") == listener.getsockname()
        writer.close()
        await writer.wait_closed()


async def test_one_address(loop: Loop, monkeypatch: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        names = Names(address)
        protocol = await connect(loop, names, monkeypatch, happy_eyeballs_delay=SHORT)
        assert peer_of(protocol) == address
        await close(protocol)
    with refusing("127.0.0.1") as (address,), pytest.raises(ConnectionRefusedError):
        await connect(loop, Names(address), monkeypatch, happy_eyeballs_delay=SHORT)


async def test_many_races_at_once(loop: Any, monkeypatch: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        with silent() as (mute,):
            monkeypatch.setattr(loop, "getaddrinfo", Names(mute, address))
            before = open_descriptors()
            made = await asyncio.gather(
                *(
                    loop.create_connection(Recorder, "name", 1, happy_eyeballs_delay=SHORT)
                    for _ in range(20)
                )
            )
            assert {peer_of(protocol) for _, protocol in made} == {address}
            for _, protocol in made:
                await close(protocol)
            await turns(5)
            assert len(open_descriptors() - before) <= 20, "the server's ends may linger"


# In which order.


#: Two families; the digits number the addresses of each.
LISTED = ["4a", "4b", "4c", "6a", "6b"]


@pytest.mark.parametrize(
    ("options", "listed", "tried"),
    [
        ({}, LISTED, LISTED),
        ({"interleave": 0}, LISTED, LISTED),
        ({"interleave": 1}, LISTED, ["4a", "6a", "4b", "6b", "4c"]),
        ({"interleave": 2}, LISTED, ["4a", "4b", "6a", "4c", "6b"]),
        ({"interleave": 3}, LISTED, LISTED),
        ({"interleave": 9}, LISTED, ["4a", "4b", "4c", "6a", "6b"]),
        ({"interleave": 1}, ["6a", "4a", "6b", "4b"], ["6a", "4a", "6b", "4b"]),
        ({"interleave": 1}, ["4a", "6b", "6a", "4b"], ["4a", "6b", "4b", "6a"]),
        ({"interleave": 2}, ["6a", "6b", "4a", "4b"], ["6a", "6b", "4a", "4b"]),
        ({"interleave": 1}, ["4b", "4a"], ["4b", "4a"]),
        ({"happy_eyeballs_delay": ENDLESS}, LISTED, ["4a", "6a", "4b", "6b", "4c"]),
        ({"happy_eyeballs_delay": ENDLESS, "interleave": 0}, LISTED, LISTED),
        (
            {"happy_eyeballs_delay": ENDLESS, "interleave": 2},
            LISTED,
            ["4a", "4b", "6a", "4c", "6b"],
        ),
    ],
)
async def test_the_order_of_attempts(
    loop: Loop, monkeypatch: Any, options: dict[str, Any], listed: list[str], tried: list[str]
) -> None:
    """All refuse, and the error names them in the order in which they were tried."""
    hosts = {"4": "127.0.0.1", "6": "::1"}
    with refusing(*(hosts[name[0]] for name in listed)) as refusals:
        by_name = dict(zip(listed, refusals, strict=True))
        with pytest.raises(OSError, match=r"^Multiple exceptions: ") as caught:
            await connect(loop, Names(*refusals), monkeypatch, **options)
    assert addresses_in(caught.value) == [by_name[name][:2] for name in tried]


# What is told when nobody answers.


@pytest.mark.parametrize("delay", [None, SHORT])
async def test_the_text_of_several_errors(
    loop: Loop, monkeypatch: Any, delay: float | None
) -> None:
    """A broadcast address fails at once, the other one is refused."""
    with refusing("127.0.0.1") as (refused,):
        names = Names(("255.255.255.255", 1), refused)
        with pytest.raises(OSError) as caught:
            await connect(loop, names, monkeypatch, happy_eyeballs_delay=delay)
    assert str(caught.value) == (
        "Multiple exceptions: [Errno 101] Network is unreachable, "
        f"[Errno 111] Connect call failed {refused}"
    )
    assert type(caught.value) is OSError


@pytest.mark.parametrize("delay", [None, SHORT])
async def test_equal_errors_are_told_once(
    loop: Loop, monkeypatch: Any, delay: float | None
) -> None:
    names = Names(("255.255.255.255", 1), ("255.255.255.255", 2))
    with pytest.raises(OSError, match=r"^\[Errno 101\] Network is unreachable$") as caught:
        await connect(loop, names, monkeypatch, happy_eyeballs_delay=delay)
    assert caught.value.errno == 101


@pytest.mark.parametrize("delay", [None, SHORT])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups of exceptions came with 3.11")
@oracle_since((3, 12), "the parameter is not known")
async def test_all_errors(loop: Loop, monkeypatch: Any, delay: float | None, count: int) -> None:
    text = r"^create_connection failed"
    with (
        refusing(*["127.0.0.1"] * count) as refusals,
        pytest.raises(Exception, match=text) as caught,
    ):
        await connect(
            loop, Names(*refusals), monkeypatch, happy_eyeballs_delay=delay, all_errors=True
        )
    group: Any = caught.value
    assert type(group).__name__ == "ExceptionGroup"
    assert group.message == "create_connection failed"
    assert [type(error) for error in group.exceptions] == [ConnectionRefusedError] * count
    assert [addresses_in(error) for error in group.exceptions] == [[a] for a in refusals]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups of exceptions came with 3.11")
@oracle_since((3, 12), "the parameter is not known")
async def test_all_errors_of_a_success(loop: Loop, monkeypatch: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        with refusing("127.0.0.1") as (refused,):
            names = Names(refused, address)
            protocol = await connect(loop, names, monkeypatch, all_errors=True)
            await close(protocol)


async def test_a_silent_address_and_one_that_refuses(loop: Loop, monkeypatch: Any) -> None:
    """The refusal does not end the waiting for the other."""
    with silent() as (mute,), refusing("127.0.0.1") as (refused,):
        names = Names(mute, refused)
        task = loop.create_task(connect(loop, names, monkeypatch, happy_eyeballs_delay=0.001))
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert not done
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()


# Cancellation, and nothing left.


@pytest.mark.parametrize("delay", [None, 0.001])
async def test_cancelled_midway(loop: Loop, monkeypatch: Any, delay: float | None) -> None:
    """Every attempt's socket is closed, once: what gets its number next is left alone."""
    attempts = 1 if delay is None else 3
    with silent(3) as mutes:
        before = open_descriptors()
        names = Names(*mutes)
        task = loop.create_task(connect(loop, names, monkeypatch, happy_eyeballs_delay=delay))
        while len(open_descriptors()) < len(before) + attempts:
            await turns(1)
        assert len(open_descriptors()) == len(before) + attempts
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        assert open_descriptors() == before
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(socket.socket()) for _ in range(3)]
            await turns(5)
            assert all(os.fstat(other.fileno()) for other in others)


async def test_within_a_timeout(loop: Loop, monkeypatch: Any) -> None:
    with silent(2) as mutes:
        before = open_descriptors()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(
                connect(loop, Names(*mutes), monkeypatch, happy_eyeballs_delay=0.001), 0.02
            )
        await turns()
        assert open_descriptors() == before


async def test_cancelled_before_it_starts(loop: Loop, monkeypatch: Any) -> None:
    before = open_descriptors()
    names = Names(("127.0.0.1", 1))
    task = loop.create_task(connect(loop, names, monkeypatch, happy_eyeballs_delay=SHORT))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names.asked == []
    assert open_descriptors() == before


async def test_cancelled_while_the_name_is_looked_up(loop: Any, monkeypatch: Any) -> None:
    asked = asyncio.Event()

    async def lookup(*args: Any, **options: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(loop, "getaddrinfo", lookup)
    task = loop.create_task(loop.create_connection(Recorder, "name", 1))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_loop_that_is_closed_midway(loop: Any, monkeypatch: Any) -> None:
    """With its tasks cancelled first, as asyncio.run() does it."""
    with silent(2) as mutes:
        before = open_descriptors()

        async def main() -> None:
            names = Names(*mutes)
            task = loop.create_task(connect(loop, names, monkeypatch, happy_eyeballs_delay=0.001))
            while len(open_descriptors()) < len(before) + 2:
                await turns(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await turns()

        loop.run_until_complete(main())
        loop.close()
        sockets = {name for name in open_descriptors() if ":socket:" in name}
        assert sockets <= before


@pytest.mark.parametrize("delay", [None, SHORT])
@oracle_since((3, 14), "the socket is left to the garbage collector")
async def test_an_exception_from_the_factory(
    loop: Any, monkeypatch: Any, delay: float | None
) -> None:
    def factory() -> Recorder:
        raise LookupError("no protocol")

    with listening() as listener, refusing("127.0.0.1") as (refused,):
        monkeypatch.setattr(loop, "getaddrinfo", Names(refused, listener.getsockname()))
        before = open_descriptors()
        with pytest.raises(LookupError, match=r"^no protocol$"):
            await loop.create_connection(factory, "name", 1, happy_eyeballs_delay=delay)
        await turns()
        assert open_descriptors() == before


# Names, and what is asked about them.


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", int), (b"127.0.0.1", int), ("::1", int), ("127.0.0.1", str), ("::1", str)],
)
async def test_a_numeric_host_is_not_looked_up(
    loop: Any, monkeypatch: Any, host: Any, port: Any
) -> None:
    """Nor is a thread started for it."""
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with listening(family) as listener:
        names = Names()
        monkeypatch.setattr(loop, "getaddrinfo", names)
        monkeypatch.setattr(loop, "run_in_executor", None)
        threads = set(os.listdir("/proc/self/task"))
        number = port(listener.getsockname()[1])
        _, protocol = await loop.create_connection(Recorder, host, number)
        assert peer_of(protocol) == listener.getsockname()
        assert names.asked == []
        assert set(os.listdir("/proc/self/task")) <= threads
        await close(protocol)


async def test_a_numeric_host_of_a_server_is_not_looked_up(loop: Any, monkeypatch: Any) -> None:
    names = Names()
    monkeypatch.setattr(loop, "getaddrinfo", names)
    server = await loop.create_server(Recorder, ["127.0.0.1", "::1"], 0)
    assert len(server.sockets) == 2
    assert names.asked == []
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("host", ["localhost", b"localhost"])
async def test_a_name_as_text_and_as_bytes(loop: Any, host: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        _, protocol = await loop.create_connection(Recorder, host, address[1])
        assert peer_of(protocol) == address
        await close(protocol)


async def test_the_name_of_a_port(loop: Any) -> None:
    with contextlib.suppress(OSError):
        port = socket.getservbyname("discard", "tcp")
        with pytest.raises(ConnectionRefusedError, match=rf"\('127\.0\.0\.1', {port}\)$"):
            await loop.create_connection(Recorder, "127.0.0.1", "discard")
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "127.0.0.1", "no-such-service")


async def test_what_is_asked_about_a_name(loop: Any, monkeypatch: Any) -> None:
    names = Names(other=[("127.0.0.1", 0)])
    monkeypatch.setattr(loop, "getaddrinfo", names)
    with pytest.raises(OSError, match=r"^getaddrinfo\(\) returned empty list$"):
        await loop.create_connection(
            Recorder,
            "name",
            "http",
            family=socket.AF_INET,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_CANONNAME,
        )
    assert names.asked == [
        (
            "name",
            "http",
            {
                "family": socket.AF_INET,
                "type": socket.SOCK_STREAM,
                "proto": socket.IPPROTO_TCP,
                "flags": socket.AI_CANONNAME,
            },
        )
    ]


async def test_no_host_is_this_one(loop: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        _, protocol = await loop.create_connection(
            Recorder, None, address[1], family=socket.AF_INET
        )
        assert peer_of(protocol) == address
        await close(protocol)


@pytest.mark.parametrize("delay", [None, SHORT])
@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), LookupError("unknown")])
async def test_an_error_of_the_lookup(
    loop: Loop, monkeypatch: Any, error: Exception, delay: float | None
) -> None:
    names = Names(name=error)
    with pytest.raises(type(error), match="unknown") as caught:
        await connect(loop, names, monkeypatch, happy_eyeballs_delay=delay)
    assert caught.value is error


def link_local() -> str | None:
    """A link-local address of this machine with its zone."""
    table = Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else ():
        address, _, _, scope, _, device = line.split()
        if scope == "20":
            text = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address))
            return f"{text}%{device}"
    return None


@pytest.mark.skipif(link_local() is None, reason="this machine has no link-local address")
async def test_an_address_with_a_zone(loop: Loop) -> None:
    host = link_local()
    assert host is not None
    index = socket.if_nametoindex(host.partition("%")[2])
    server = await loop.create_server(Recorder, host, 0)
    address = server.sockets[0].getsockname()
    assert address[3] == index
    _, protocol = await loop.create_connection(Recorder, host, address[1])
    assert peer_of(protocol) == address
    await close(protocol)
    with socket.socket(socket.AF_INET6) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        assert sock.getpeername() == address
    await turns()
    server.close()
    await server.wait_closed()


# Local addresses.


@pytest.mark.parametrize("delay", [None, SHORT])
async def test_a_local_address(loop: Loop, monkeypatch: Any, delay: float | None) -> None:
    async with serving(loop, Recorder) as (_, address):
        with refusing("127.0.0.1") as (refused,):
            protocol = await connect(
                loop,
                Names(refused, address),
                monkeypatch,
                local_addr=("127.0.0.2", 0),
                happy_eyeballs_delay=delay,
            )
        assert protocol.transport.get_extra_info("sockname")[0] == "127.0.0.2"
        await close(protocol)


@oracle_since((3, 12), "families are not compared")
async def test_several_local_addresses(loop: Loop, monkeypatch: Any) -> None:
    """The first of the right family that can be bound."""
    async with serving(loop, Recorder) as (_, address):
        with listening() as taken:
            names = Names(address, local=[("::1", 0, 0, 0), taken.getsockname(), ("127.0.0.3", 0)])
            protocol = await connect(loop, names, monkeypatch, local_addr=("local", 0))
        assert protocol.transport.get_extra_info("sockname")[0] == "127.0.0.3"
        await close(protocol)


@oracle_since((3, 13), "the text of the error is another one, in 3.12.1 too")
async def test_no_local_address_can_be_bound(loop: Loop, monkeypatch: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        with listening() as one, listening() as two:
            taken = [one.getsockname(), two.getsockname()]
            before = open_descriptors()
            with pytest.raises(OSError) as caught:
                names = Names(address, local=taken)
                await connect(loop, names, monkeypatch, local_addr=("local", 0))
            assert open_descriptors() == before
    texts = [
        f"[Errno 98] error while attempting to bind on address {address}: "
        "[errno 98] address already in use"
        for address in taken
    ]
    assert str(caught.value) == f"Multiple exceptions: {', '.join(texts)}"


@pytest.mark.parametrize("delay", [None, SHORT])
@oracle_since((3, 12), "families are not compared")
async def test_no_local_address_of_the_family(
    loop: Loop, monkeypatch: Any, delay: float | None
) -> None:
    async with serving(loop, Recorder) as (_, address):
        before = open_descriptors()
        with pytest.raises(OSError) as caught:
            await connect(
                loop,
                Names(address),
                monkeypatch,
                local_addr=("::1", 0),
                happy_eyeballs_delay=delay,
            )
        assert open_descriptors() == before
    expected = f"no matching local address with family={socket.AF_INET!r} found"
    assert str(caught.value) == expected


@oracle_since((3, 12), "families are not compared")
async def test_a_local_address_chooses_the_family(loop: Loop, monkeypatch: Any) -> None:
    """Addresses of the other family fail, and the next one is tried."""
    server = await loop.create_server(Recorder, "::1", 0)
    address = server.sockets[0].getsockname()
    with listening() as other:
        names = Names(other.getsockname(), address)
        protocol = await connect(loop, names, monkeypatch, local_addr=("::1", 0))
        assert peer_of(protocol) == address
        await close(protocol)
    server.close()
    await server.wait_closed()


async def test_a_local_name_without_addresses(loop: Loop, monkeypatch: Any) -> None:
    names = Names(("127.0.0.1", 1), nothing=[])
    with pytest.raises(OSError, match=r"^getaddrinfo\(\) returned empty list$"):
        await connect(loop, names, monkeypatch, local_addr=("nothing", 0))
    assert [asked[0] for asked in names.asked] == ["name", "nothing"]


# Servers of several addresses.


async def test_a_server_of_a_name_with_several_addresses(loop: Any, monkeypatch: Any) -> None:
    addresses: list[Address] = [("127.0.0.1", 0), ("127.0.0.2", 0), ("::1", 0, 0, 0)]
    monkeypatch.setattr(loop, "getaddrinfo", Names(*addresses))
    server = await loop.create_server(Recorder, "name", 0)
    hosts = sorted(sock.getsockname()[0] for sock in server.sockets)
    assert hosts == ["127.0.0.1", "127.0.0.2", "::1"]
    server.close()
    await server.wait_closed()


async def test_a_server_of_several_hosts(loop: Any, monkeypatch: Any) -> None:
    """Addresses that come up twice are used once."""
    names = Names(("127.0.0.1", 0), ("127.0.0.2", 0), other=[("127.0.0.2", 0), ("127.0.0.3", 0)])
    monkeypatch.setattr(loop, "getaddrinfo", names)
    server = await loop.create_server(Recorder, ["name", "other", "name"], 0)
    hosts = sorted(sock.getsockname()[0] for sock in server.sockets)
    assert hosts == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    server.close()
    await server.wait_closed()


async def test_a_server_one_of_whose_names_has_no_address(loop: Any, monkeypatch: Any) -> None:
    before = open_descriptors()
    monkeypatch.setattr(loop, "getaddrinfo", Names(("127.0.0.1", 0), nothing=[]))
    with pytest.raises(OSError, match=r"^getaddrinfo\('nothing'\) returned empty list$"):
        await loop.create_server(Recorder, ["name", "nothing"], 0)
    assert open_descriptors() == before


async def test_a_server_one_of_whose_addresses_is_taken(loop: Any, monkeypatch: Any) -> None:
    with listening() as taken:
        before = open_descriptors()
        names = Names(("127.0.0.2", 0), taken.getsockname())
        monkeypatch.setattr(loop, "getaddrinfo", names)
        with pytest.raises(OSError, match=r"^\[Errno 98\] error while attempting to bind"):
            await loop.create_server(Recorder, "name", 0)
        assert open_descriptors() == before


# sock_connect.


@pytest.mark.parametrize("rest", [(), (0,), (0, 0)])
async def test_sock_connect_over_ipv6(loop: Any, rest: tuple[int, ...]) -> None:
    with listening(socket.AF_INET6) as listener, socket.socket(socket.AF_INET6) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (*listener.getsockname()[:2], *rest))
        assert sock.getpeername() == listener.getsockname()


async def test_sock_connect_looks_up_names(loop: Any, monkeypatch: Any) -> None:
    with listening() as listener, socket.socket() as sock:
        sock.setblocking(False)
        names = Names(listener.getsockname())
        monkeypatch.setattr(loop, "getaddrinfo", names)
        await loop.sock_connect(sock, ("name", 1))
        assert sock.getpeername() == listener.getsockname()
        ((host, port, options),) = names.asked
        assert (host, port) == ("name", 1)
        assert options["family"] == socket.AF_INET
        assert options["type"] == socket.SOCK_STREAM


async def test_sock_connect_to_a_unix_path_that_is_not_there(loop: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        with pytest.raises(FileNotFoundError):
            await loop.sock_connect(sock, str(tmp_path / "nothing"))


async def test_sock_connect_cancelled_while_nobody_answers(loop: Any) -> None:
    with silent() as (mute,), socket.socket() as sock:
        sock.setblocking(False)
        task = loop.create_task(loop.sock_connect(sock, mute))
        await turns()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not loop.remove_writer(sock)
        assert sock.fileno() != -1, "it is the caller's"


async def test_sock_connect_refused_names_the_address(loop: Any) -> None:
    with refusing_port() as port, socket.socket() as sock:
        sock.setblocking(False)
        text = rf"^\[Errno 111\] Connect call failed \('127\.0\.0\.1', {port}\)$"
        with pytest.raises(ConnectionRefusedError, match=text):
            await loop.sock_connect(sock, ("127.0.0.1", port))
