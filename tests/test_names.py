"""getaddrinfo and getnameinfo: the answers of the socket module, without blocking the loop."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from .support import Loop, records

STREAM = socket.SOCK_STREAM


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1", 80),
        ("127.0.0.1", "80"),
        ("127.0.0.1", "http"),
        ("127.0.0.1", None),
        (b"127.0.0.1", b"80"),
        ("::1", 80),
        ("::ffff:127.0.0.1", 80),
        ("fe80::1%lo", 80),
        ("localhost", 80),
        (None, 80),
        ("", 80),
        ("0.0.0.0", 0),
        ("127.1", 80),
    ],
)
async def test_it_answers_as_the_socket_module(loop: Any, host: Any, port: Any) -> None:
    choices: list[dict[str, Any]] = [
        {},
        {"type": STREAM},
        {"type": STREAM, "proto": socket.IPPROTO_TCP},
        {"flags": socket.AI_PASSIVE, "type": STREAM},
    ]
    for options in choices:
        expected: Any
        try:
            expected = socket.getaddrinfo(host, port, **options)
        except OSError as exc:
            with pytest.raises(type(exc)):
                await loop.getaddrinfo(host, port, **options)
        else:
            answer = await loop.getaddrinfo(host, port, **options)
            assert answer == expected
            assert [type(item[0]) for item in answer] == [type(item[0]) for item in expected]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_one_family(loop: Loop, family: socket.AddressFamily) -> None:
    answer = await loop.getaddrinfo(None, 80, family=family, type=STREAM)
    assert {item[0] for item in answer} == {family}
    assert answer == socket.getaddrinfo(None, 80, family=family, type=STREAM)


@pytest.mark.parametrize(
    ("host", "options", "code"),
    [
        ("no.such.host.invalid", {}, None),
        ("127.0.0.1", {"family": socket.AF_INET6}, None),
        ("not numeric", {"flags": socket.AI_NUMERICHOST}, socket.EAI_NONAME),
    ],
)
async def test_failure_is_gaierror(
    loop: Loop, host: str, options: dict[str, Any], code: int | None
) -> None:
    with pytest.raises(socket.gaierror) as caught:
        await loop.getaddrinfo(host, 80, **options)
    assert code is None or caught.value.errno == code


async def test_an_unknown_service(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.getaddrinfo("127.0.0.1", "no-such-service")


async def test_family_and_the_rest_are_keywords(loop: Loop) -> None:
    with pytest.raises(TypeError):
        await loop.getaddrinfo("127.0.0.1", 80, socket.AF_INET)  # type: ignore[call-arg]


@pytest.mark.parametrize("address", [("127.0.0.1", 80), ("::1", 80, 0, 0), ("127.0.0.1", 1)])
async def test_getnameinfo(loop: Loop, address: Any) -> None:
    for flags in (0, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV, socket.NI_NUMERICHOST):
        assert await loop.getnameinfo(address, flags) == socket.getnameinfo(address, flags)
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    assert await loop.getnameinfo(address, numeric) == (address[0], str(address[1]))


async def test_getnameinfo_of_a_name_fails(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.getnameinfo(("no.such.host.invalid", 80))


async def test_many_at_once(loop: Loop) -> None:
    answers = await asyncio.gather(
        *(loop.getaddrinfo("localhost", 80, type=STREAM) for _ in range(50))
    )
    assert all(answer == answers[0] for answer in answers)


async def test_a_cancelled_lookup(loop: Loop) -> None:
    task = loop.create_task(loop.getaddrinfo("localhost", 80))
    await asyncio.sleep(0)
    # The answer may have come already; then there is nothing to cancel, and it is kept.
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        assert await task


async def test_debug_mode_logs_lookups(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="asyncio")
    loop.set_debug(True)
    await loop.getaddrinfo("127.0.0.1", 80, type=STREAM)
    messages = records(caplog, "DEBUG")
    assert "Get address info 127.0.0.1:80, type=<SocketKind.SOCK_STREAM: 1>" in messages
    assert any(text.startswith("Getting address info 127.0.0.1:80, ") for text in messages)
