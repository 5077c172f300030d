"""create_connection when a name has several addresses: which one answers, and which errors."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from .connections import close, serving
from .support import Loop, Recorder, refusing_port


class Names:
    """Replaces a loop's getaddrinfo(), so that one name has several addresses."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self._addresses = addresses

    async def __call__(self, host: Any, port: Any, **options: Any) -> Any:
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6 if ":" in address[0] else socket.AF_INET, *stream, address)
            for address in self._addresses
        ]


async def test_the_first_address_that_answers(loop: Any, monkeypatch: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        with refusing_port() as port:
            names = Names(("127.0.0.1", port), ("127.0.0.2", port), address)
            monkeypatch.setattr(loop, "getaddrinfo", names)
            _, protocol = await loop.create_connection(Recorder, "some.name", 1)
        assert protocol.transport.get_extra_info("peername") == address
        await close(protocol)


async def test_all_addresses_fail(loop: Any, monkeypatch: Any) -> None:
    with refusing_port() as port:
        monkeypatch.setattr(loop, "getaddrinfo", Names(("127.0.0.1", port), ("127.0.0.2", port)))
        text = (
            rf"^Multiple exceptions: \[Errno 111\] Connect call failed \('127\.0\.0\.1', {port}\),"
            rf" \[Errno 111\] Connect call failed \('127\.0\.0\.2', {port}\)$"
        )
        with pytest.raises(OSError, match=text):
            await loop.create_connection(Recorder, "some.name", 1)


async def test_all_addresses_fail_alike(loop: Any, monkeypatch: Any) -> None:
    """Equal texts are raised as one exception, not as a list."""
    with refusing_port() as port:
        monkeypatch.setattr(loop, "getaddrinfo", Names(("127.0.0.1", port), ("127.0.0.1", port)))
        with pytest.raises(ConnectionRefusedError, match=r"^\[Errno 111\] Connect call failed"):
            await loop.create_connection(Recorder, "some.name", 1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the parameter came with 3.12")
async def test_all_errors_as_a_group(loop: Any, monkeypatch: Any) -> None:
    with refusing_port() as port:
        monkeypatch.setattr(loop, "getaddrinfo", Names(("127.0.0.1", port), ("127.0.0.2", port)))
        with pytest.raises(
            Exception, match=r"^create_connection failed( \(2 sub-exceptions\))?$"
        ) as caught:
            await loop.create_connection(Recorder, "some.name", 1, all_errors=True)
        group: Any = caught.value
        assert type(group).__name__ == "ExceptionGroup"
        assert [type(error) for error in group.exceptions] == [ConnectionRefusedError] * 2


async def test_no_address_at_all(loop: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(loop, "getaddrinfo", Names())
    with pytest.raises(OSError, match=r"^getaddrinfo\(\) returned empty list$"):
        await loop.create_connection(Recorder, "some.name", 1)


async def test_happy_eyeballs_takes_the_one_that_answers(loop: Any, monkeypatch: Any) -> None:
    async with serving(loop, Recorder) as (_, address):
        with refusing_port() as port:
            monkeypatch.setattr(loop, "getaddrinfo", Names(("127.0.0.1", port), address))
            _, protocol = await loop.create_connection(
                Recorder, "some.name", 1, happy_eyeballs_delay=0.01
            )
        assert protocol.transport.get_extra_info("peername") == address
        await close(protocol)


async def test_happy_eyeballs_all_fail(loop: Any, monkeypatch: Any) -> None:
    with refusing_port() as port:
        monkeypatch.setattr(loop, "getaddrinfo", Names(("127.0.0.1", port), ("127.0.0.2", port)))
        with pytest.raises(OSError, match=r"Connect call failed"):
            await loop.create_connection(Recorder, "some.name", 1, happy_eyeballs_delay=0.01)


async def test_a_name_that_does_not_resolve(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "no.such.host.invalid", 80)
