"""Debug mode: slow callbacks, wrong threads, blocking sockets, where things were made."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from .support import Loop, LoopFactory, records, turns, unix_pair


def test_set_and_get(loop: Loop) -> None:
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_the_attribute_behind_it(loop: Any) -> None:
    """asyncio's own methods look at it, and so do programs that were written for its loops."""
    loop.set_debug(True)
    assert loop._debug is True
    loop._debug = False
    assert loop.get_debug() is False


@pytest.mark.parametrize(("value", "debug"), [("1", True), ("", False)])
def test_the_environment_sets_it(
    loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch, value: str, debug: bool
) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", value)
    loop = loop_factory()
    assert loop.get_debug() is debug
    loop.close()


def slow() -> None:
    """Takes longer than the threshold that the test sets, by construction."""
    end = time.monotonic() + 0.002
    while time.monotonic() < end:
        pass


def test_the_slow_callback_threshold(loop: Any) -> None:
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 0.5
    assert loop.slow_callback_duration == 0.5


async def test_a_slow_callback_is_logged(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.001
    loop.call_soon(slow)
    await turns(1)
    messages = [text for text in records(caplog, "WARNING") if "slow" in text]
    assert len(messages) == 1
    pattern = (
        r"^Executing <Handle slow\(\) at .*test_debug\.py:\d+"
        r" created at .*test_debug\.py:\d+> took 0\.\d{3} seconds$"
    )
    assert re.match(pattern, messages[0])


async def test_a_slow_task_step_is_logged_as_its_task(
    loop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow_step() -> None:
        slow()

    loop.set_debug(True)
    loop.slow_callback_duration = 0.001
    await loop.create_task(slow_step(), name="the slow one")
    messages = [text for text in records(caplog, "WARNING") if "the slow one" in text]
    assert len(messages) == 1
    assert re.match(
        r"^Executing <Task \w+ name='the slow one' coro=<.*slow_step\(\) .* took 0\.\d{3} seconds$",
        messages[0],
    )


async def test_a_quick_callback_is_not_logged(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 3600
    loop.call_soon(slow)
    await turns(1)
    assert records(caplog, "WARNING") == []


async def test_without_debug_nothing_is_logged(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    loop.slow_callback_duration = 0.001
    loop.call_soon(slow)
    await turns(1)
    assert records(caplog, "WARNING") == []


def in_a_thread(function: Callable[[], object]) -> BaseException | None:
    """What `function` raises when another thread calls it."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            function()
        except BaseException as exc:
            raised.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return raised[0] if raised else None


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
async def test_a_foreign_thread_is_refused(loop: Loop, method: str) -> None:
    loop.set_debug(True)
    arguments: list[Any] = [print] if method == "call_soon" else [0, print]
    error = in_a_thread(lambda: getattr(loop, method)(*arguments))
    assert isinstance(error, RuntimeError)
    assert str(error) == (
        "Non-thread-safe operation invoked on an event loop other than the current one"
    )


def test_a_loop_that_does_not_run_has_no_thread(loop: Loop) -> None:
    loop.set_debug(True)
    assert in_a_thread(lambda: loop.call_soon(int)) is None


async def test_without_debug_a_foreign_thread_is_not_noticed(loop: Loop) -> None:
    """Not safe, but neither refused nor fatal: here the loop's thread waits in join()."""
    calls: list[str] = []
    assert in_a_thread(lambda: loop.call_soon(calls.append, "called")) is None
    await turns(2)
    assert calls == ["called"]


def operations(loop: Any, sock: socket.socket) -> dict[str, Callable[[], Any]]:
    return {
        "sock_recv": lambda: loop.sock_recv(sock, 1),
        "sock_recv_into": lambda: loop.sock_recv_into(sock, bytearray(1)),
        "sock_sendall": lambda: loop.sock_sendall(sock, b"x"),
        "sock_connect": lambda: loop.sock_connect(sock, ("127.0.0.1", 1)),
        "sock_accept": lambda: loop.sock_accept(sock),
    }


@pytest.mark.parametrize("name", operations(None, None))  # type: ignore[arg-type]
async def test_socket_operations_want_non_blocking_sockets(loop: Loop, name: str) -> None:
    loop.set_debug(True)
    left, right = socket.socketpair()
    with left, right, pytest.raises(ValueError, match=r"^the socket must be non-blocking$"):
        await operations(loop, left)[name]()


async def test_non_blocking_sockets_are_served(loop: Loop) -> None:
    loop.set_debug(True)
    left, right = unix_pair()
    with left, right:
        await loop.sock_sendall(left, b"x")
        assert await loop.sock_recv(right, 1) == b"x"


async def test_handles_tell_where_they_were_made(loop: Loop) -> None:
    loop.set_debug(True)
    handle = loop.call_soon(slow)
    timer = loop.call_later(3600, slow)
    here = r"created at .*test_debug\.py:\d+>$"
    assert re.search(here, repr(handle))
    assert re.search(here, repr(timer))
    handle.cancel()
    timer.cancel()
    assert repr(handle).startswith("<Handle cancelled slow() at "), "the callback is still shown"
    assert repr(timer).startswith("<TimerHandle cancelled when=")
    assert "slow() at " in repr(timer)


async def test_futures_tell_where_they_were_made(loop: Loop) -> None:
    loop.set_debug(True)
    future: Any = loop.create_future()
    assert re.search(r"created at .*:\d+>$", repr(future))
    frames = [frame.name for frame in future._source_traceback]
    assert "test_futures_tell_where_they_were_made" in frames


def test_coroutine_origins_are_tracked_while_running(loop: Loop) -> None:
    import sys

    depths: list[int] = []
    loop.set_debug(True)
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert depths == [10]
    assert sys.get_coroutine_origin_tracking_depth() == 0


async def test_switched_on_while_running(loop: Loop) -> None:
    """Origin tracking follows set_debug() in the next iteration."""
    import sys

    loop.set_debug(True)
    assert sys.get_coroutine_origin_tracking_depth() == 0
    await turns(1)
    assert sys.get_coroutine_origin_tracking_depth() == 10
    loop.set_debug(False)
    await turns(1)
    assert sys.get_coroutine_origin_tracking_depth() == 0


async def test_an_exchange_works_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"in debug mode")
    writer.write_eof()
    assert await reader.read() == b"in debug mode"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await turns(3)
