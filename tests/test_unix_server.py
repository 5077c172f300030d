"""create_unix_server: what is bound, what is served, and what becomes of the socket's file."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import sys
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from .connections import Keeper, close, served
from .pipes import abstract_name
from .support import Loop, Recorder, open_descriptors, oracle_never, oracle_since, records, turns

#: The file is removed since 3.13, unless cleanup_socket=False.
needs_cleanup = oracle_since((3, 13), "the socket's file is left")
needs_waiting = oracle_since((3, 12, 1), "wait_closed() does not wait for clients")
needs_close_clients = oracle_since((3, 13), "no such method")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a socket may be; nothing is there."""
    return str(tmp_path / "socket")


async def create(loop: Any, factory: Any, *arguments: Any, **options: Any) -> asyncio.Server:
    """A server that removes its file: the default since 3.13, and to be asked for before."""
    if sys.version_info < (3, 13) and type(loop).__module__.startswith("aioxide"):
        options.setdefault("cleanup_socket", True)
    server: asyncio.Server = await loop.create_unix_server(factory, *arguments, **options)
    return server


@contextlib.asynccontextmanager
async def serving(
    loop: Any, factory: Callable[[], asyncio.BaseProtocol], *arguments: Any, **options: Any
) -> AsyncIterator[asyncio.Server]:
    """A server; closed with its clients at the end."""
    server = await create(loop, factory, *arguments, **options)
    try:
        yield server
    finally:
        server.close()
        await server.wait_closed()
        await turns()


async def connect(loop: Any, path: Any) -> Recorder:
    """A recording client, connected."""
    _, protocol = await loop.create_unix_connection(Recorder, path)
    assert isinstance(protocol, Recorder)
    return protocol


async def greet(loop: Any, keeper: Keeper, path: Any) -> None:
    """See that a server serves."""
    count = len(keeper.made)
    client = await connect(loop, path)
    await served(keeper, count + 1)
    keeper.made[-1].transport.write(b"hello")
    assert await client.until_received(5) == b"hello"
    await close(client)
    await keeper.made[-1].until_lost()


# ---- what is bound ----


@pytest.mark.parametrize("form", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
async def test_a_path_in_every_form(loop: Loop, path: str, form: Callable[[str], Any]) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, form(path)) as server:
        assert isinstance(server, asyncio.AbstractServer)
        assert server.is_serving()
        assert server.get_loop() is loop
        await greet(loop, keeper, path)


@pytest.mark.parametrize("form", [bytes, os.fsdecode], ids=["bytes", "str"])
async def test_an_abstract_name(loop: Loop, form: Callable[[bytes], Any]) -> None:
    keeper = Keeper()
    name = abstract_name()
    async with serving(loop, keeper, form(name)) as server:
        assert server.sockets[0].getsockname() == name
        await greet(loop, keeper, name)
    with pytest.raises(ConnectionRefusedError):
        await connect(loop, name)


@needs_cleanup
async def test_a_path_that_is_not_unicode(loop: Loop, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe"
    keeper = Keeper()
    async with serving(loop, keeper, path) as server:
        assert server.sockets[0].getsockname() == os.fsdecode(path)
        await greet(loop, keeper, path)
    assert not os.path.exists(path)


@needs_cleanup
@pytest.mark.parametrize("form", [str, os.fsencode], ids=["str", "bytes"])
async def test_the_longest_names(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[str], Any]
) -> None:
    """107 bytes of a path, 108 of an abstract name: what fits into the kernel's structure."""
    monkeypatch.chdir(tmp_path)
    path, other = "p" * 107, "q" * 107
    keeper = Keeper()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    async with serving(loop, keeper, form(path)) as server:
        assert server.sockets[0].getsockname() == path
        await greet(loop, keeper, form(path))
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(other)
        sock.connect(path)
        _, client = await loop.create_unix_connection(Recorder, sock=sock)
        await served(keeper, 2)
        assert keeper.made[1].transport.get_extra_info("peername") == other
        assert keeper.made[1].transport.get_extra_info("sockname") == path
        await close(client)
        await keeper.made[1].until_lost()
    assert not os.path.exists(path)
    name = abstract_name().ljust(108, b"n")
    async with serving(loop, keeper, name) as server:
        assert server.sockets[0].getsockname() == name
        await greet(loop, keeper, name)


async def test_sockets(loop: Loop, path: str) -> None:
    async with serving(loop, Recorder, path) as server:
        (sock,) = server.sockets
        assert isinstance(sock, TransportSocket)
        assert (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
        assert sock.getsockname() == path
        assert sock.gettimeout() == 0
        assert "sockets=" in repr(server)
        assert path in repr(server)
    assert server.sockets == ()


async def test_extra_info_of_a_client(loop: Loop, path: str) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, path):
        client = await connect(loop, path)
        await served(keeper)
        transport = keeper.made[0].transport
        assert transport.get_extra_info("sockname") == path
        assert transport.get_extra_info("peername") == ""
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, TransportSocket)
        assert sock.family == socket.AF_UNIX
        assert sock.gettimeout() == 0
        await close(client)
        await keeper.made[0].until_lost()


async def test_the_name_of_a_client_that_has_one(loop: Loop, path: str) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, path):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path + ".client")
        sock.connect(path)
        _, client = await loop.create_unix_connection(Recorder, sock=sock)
        await served(keeper)
        assert keeper.made[0].transport.get_extra_info("peername") == path + ".client"
        assert client.transport.get_extra_info("sockname") == path + ".client"
        await close(client)
        await keeper.made[0].until_lost()


@pytest.mark.parametrize("listens", [False, True])
async def test_a_given_socket(loop: Loop, path: str, listens: bool) -> None:
    keeper = Keeper()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    if listens:
        sock.listen()
    async with serving(loop, keeper, sock=sock) as server:
        assert sock.gettimeout() == 0
        assert [s.fileno() for s in server.sockets] == [sock.fileno()]
        await greet(loop, keeper, path)
    assert sock.fileno() == -1, "the server owns the socket"


async def test_start_serving_later(loop: Loop, path: str) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, path, start_serving=False) as server:
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await connect(loop, path)
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        await greet(loop, keeper, path)


async def test_the_backlog(loop: Loop, path: str) -> None:
    """One more than it says may wait while the loop does something else."""
    keeper = Keeper()
    async with serving(loop, keeper, path, backlog=2):
        clients = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        results = []
        for client in clients:
            client.setblocking(False)
            results.append(client.connect_ex(path))
        assert results == [0, 0, 0, errno.EAGAIN]
        await served(keeper, 3)
        for client in clients:
            client.close()
        for protocol in keeper.made:
            await protocol.until_lost()


# ---- what stands at the path ----


async def test_a_socket_that_was_left_is_replaced(loop: Loop, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    assert os.path.exists(path)
    keeper = Keeper()
    async with serving(loop, keeper, path):
        await greet(loop, keeper, path)


async def test_a_socket_that_is_served_is_replaced(loop: Loop, path: str) -> None:
    """The file says nothing of who listens; the first server has no way in any more."""
    first, second = Keeper(), Keeper()
    async with serving(loop, first, path), serving(loop, second, path):
        await greet(loop, second, path)
        assert first.made == []


@pytest.mark.parametrize("form", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
@pytest.mark.parametrize("what", ["a file", "a directory", "a pipe"])
async def test_what_is_no_socket_is_not_replaced(
    loop: Any, path: str, what: str, form: Callable[[str], Any]
) -> None:
    if what == "a file":
        Path(path).write_text("content")
    elif what == "a directory":
        os.mkdir(path)
    else:
        os.mkfifo(path)
    before = open_descriptors()
    inode = os.stat(path).st_ino
    name = os.fspath(form(path))
    text = re.escape(f"[Errno 98] Address {name!r} is already in use")
    with pytest.raises(OSError, match=f"^{text}$") as caught:
        await loop.create_unix_server(Recorder, form(path))
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.__suppress_context__
    assert os.stat(path).st_ino == inode
    assert open_descriptors() == before


@pytest.mark.parametrize("form", [bytes, os.fsdecode], ids=["bytes", "str"])
async def test_an_abstract_name_that_is_taken(loop: Any, form: Callable[[bytes], Any]) -> None:
    name = form(abstract_name())
    text = re.escape(f"[Errno 98] Address {name!r} is already in use")
    async with serving(loop, Recorder, name):
        with pytest.raises(OSError, match=f"^{text}$"):
            await loop.create_unix_server(Recorder, name)


async def test_a_directory_that_is_not_there(loop: Loop, tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] No such file or directory$"):
        await loop.create_unix_server(Recorder, tmp_path / "none" / "socket")
    assert open_descriptors() == before


async def test_a_directory_that_is_a_file(
    loop: Loop, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What stands there could not be found out: that is logged, and binding is tried."""
    Path(path).write_text("content")
    name = path + "/socket"
    with pytest.raises(NotADirectoryError, match=r"^\[Errno 20\] Not a directory$"):
        await loop.create_unix_server(Recorder, name)
    assert records(caplog, "ERROR") == [
        f"Unable to check or remove stale UNIX socket {name!r}: "
        "NotADirectoryError(20, 'Not a directory')"
    ]


@pytest.mark.parametrize("form", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
async def test_a_path_that_is_too_long(loop: Any, path: str, form: Callable[[str], Any]) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match=r"^AF_UNIX path too long$"):
        await loop.create_unix_server(Recorder, form(path + "x" * 100))
    assert open_descriptors() == before


@pytest.mark.parametrize("path_with_nul", ["a\0b", b"a\0b"])
@oracle_never("the socket is left to the garbage collector")
async def test_a_path_with_a_nul(
    loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path_with_nul: Any
) -> None:
    """Nothing is made at the path before it."""
    monkeypatch.chdir(tmp_path)
    before = open_descriptors()
    with pytest.raises(ValueError, match="embedded null"):
        await loop.create_unix_server(Recorder, path_with_nul)
    assert os.listdir(tmp_path) == []
    assert open_descriptors() == before


@pytest.mark.parametrize("wrong", [1, 1.5, ["path"]])
async def test_what_is_no_path(loop: Any, wrong: object) -> None:
    name = type(wrong).__name__
    text = rf"^expected str, bytes or os\.PathLike object, not {name}$"
    with pytest.raises(TypeError, match=text):
        await loop.create_unix_server(Recorder, wrong)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, ValueError, r"^path was not specified, and no sock specified$"),
        (
            {"path": "path", "sock": "unix"},
            ValueError,
            r"^path and sock can not be specified at the same time$",
        ),
        (
            {"sock": "tcp"},
            ValueError,
            r"^A UNIX Domain Stream Socket was expected, got <socket\.socket ",
        ),
        (
            {"sock": "datagram"},
            ValueError,
            r"^A UNIX Domain Stream Socket was expected, got <socket\.socket ",
        ),
        ({"ssl": True}, TypeError, r"^ssl argument must be an SSLContext or None$"),
        ({"ssl": False}, TypeError, r"^ssl argument must be an SSLContext or None$"),
        (
            {"path": "path", "ssl_handshake_timeout": 1},
            ValueError,
            r"^ssl_handshake_timeout is only meaningful with ssl$",
        ),
    ],
)
async def test_wrong_arguments(
    loop: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    families = {
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
        "tcp": (socket.AF_INET, socket.SOCK_STREAM),
        "datagram": (socket.AF_UNIX, socket.SOCK_DGRAM),
    }
    with socket.socket(*families[options.get("sock", "unix")]) as sock:
        if "sock" in options:
            options = {**options, "sock": sock}
        with pytest.raises(error, match=text):
            await loop.create_unix_server(Recorder, **options)
        assert sock.fileno() != -1, "a refused socket stays the caller's"


# ---- what becomes of the file ----


@needs_cleanup
@pytest.mark.parametrize("start_serving", [False, True])
async def test_the_file_is_removed_by_close(loop: Loop, path: str, start_serving: bool) -> None:
    """At once, not when the last client has gone."""
    server = await create(loop, Recorder, path, start_serving=start_serving)
    assert os.path.exists(path)
    server.close()
    assert not os.path.exists(path)
    server.close()
    await server.wait_closed()


@needs_cleanup
@pytest.mark.parametrize("how", ["async with", "serve_forever"])
async def test_the_file_is_removed_by_whatever_closes(loop: Loop, path: str, how: str) -> None:
    server = await create(loop, Recorder, path)
    if how == "async with":
        async with server:
            assert os.path.exists(path)
    else:
        task = loop.create_task(server.serve_forever())
        await turns(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not os.path.exists(path)


@needs_cleanup
async def test_the_file_of_a_given_socket_is_removed(loop: Loop, path: str) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    async with serving(loop, Recorder, sock=sock):
        assert os.path.exists(path)
    assert not os.path.exists(path)


@needs_cleanup
@pytest.mark.parametrize("given", [False, True])
async def test_the_file_is_kept_on_request(loop: Loop, path: str, given: bool) -> None:
    options: dict[str, Any] = {"path": path}
    if given:
        options = {"sock": socket.socket(socket.AF_UNIX)}
        options["sock"].bind(path)
    async with serving(loop, Recorder, cleanup_socket=False, **options):
        pass
    assert os.path.exists(path)
    with pytest.raises(ConnectionRefusedError):
        await connect(loop, path)


@needs_cleanup
async def test_a_file_that_is_gone_already(
    loop: Loop, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(loop, Recorder, path):
        os.unlink(path)
    assert records(caplog, "ERROR") == []


@needs_cleanup
async def test_a_file_that_is_another_servers_by_now(loop: Loop, path: str) -> None:
    """The first to close leaves the second's."""
    keeper = Keeper()
    first = await create(loop, Recorder, path)
    async with serving(loop, keeper, path):
        first.close()
        await first.wait_closed()
        await greet(loop, keeper, path)
    assert not os.path.exists(path)


@needs_cleanup
async def test_a_file_that_is_something_else_by_now(loop: Loop, path: str) -> None:
    async with serving(loop, Recorder, path):
        os.rename(path, path + ".moved")
        Path(path).write_text("content")
    assert Path(path).read_text() == "content"
    assert os.path.exists(path + ".moved")


@needs_cleanup
async def test_a_file_that_cannot_be_removed(
    loop: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the server is closed all the same."""
    directory = tmp_path / "directory"
    directory.mkdir()
    path = str(directory / "socket")
    async with serving(loop, Recorder, path) as server:
        os.unlink(path)
        directory.rmdir()
        directory.write_text("a file")
        server.close()
        assert not server.is_serving()
    assert records(caplog, "ERROR") == [
        f"Unable to clean up listening UNIX socket {path!r}: "
        "NotADirectoryError(20, 'Not a directory')"
    ]


# ---- serving ----


async def test_close_stops_accepting_and_keeps_clients(loop: Loop, path: str) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, path) as server:
        client = await connect(loop, path)
        await served(keeper)
        server.close()
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            await connect(loop, path)
        keeper.made[0].transport.write(b"still here")
        assert await client.until_received(10) == b"still here"
        await close(client)
        await keeper.made[0].until_lost()


@needs_waiting
async def test_wait_closed_waits_for_clients(loop: Loop, path: str) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, path) as server:
        client = await connect(loop, path)
        await served(keeper)
        server.close()
        waiter = loop.create_task(server.wait_closed())
        await turns()
        assert not waiter.done()
        await close(client)
        await waiter
        assert keeper.made[0].lost


@needs_close_clients
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_ending_all_clients(loop: Loop, path: str, method: str) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, path) as server:
        clients = [await connect(loop, path) for _ in range(3)]
        await served(keeper, 3)
        server.close()
        getattr(server, method)()
        await server.wait_closed()
        for protocol in [*keeper.made, *clients]:
            await protocol.until_lost()
        assert [protocol.error for protocol in keeper.made] == [None] * 3


async def test_serve_forever(loop: Loop, path: str) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, path, start_serving=False) as server:
        task = loop.create_task(server.serve_forever())
        await turns(2)
        assert server.is_serving()
        await greet(loop, keeper, path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.sockets == ()


async def test_clients_that_waited_before_the_loop_looked(loop: Loop, path: str) -> None:
    """Those that have come and gone by then are served, and lost."""
    keeper = Keeper()
    async with serving(loop, keeper, path):
        for number in range(5):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.send(b"%d" % number)
        await served(keeper, 5)
        for protocol in keeper.made:
            await protocol.until_lost()
        assert [bytes(protocol.received) for protocol in keeper.made] == [
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
        ]


async def test_descriptors_return_to_where_they_began(loop: Loop, path: str) -> None:
    before = open_descriptors()
    for _ in range(3):
        keeper = Keeper()
        async with serving(loop, keeper, path):
            for _ in range(5):
                await greet(loop, keeper, path)
    assert open_descriptors() == before


@oracle_never("the socket is left to the garbage collector")
async def test_a_factory_that_fails(loop: Loop, path: str) -> None:
    """Its client loses the connection, the server goes on."""
    keeper = Keeper()
    failures = [LookupError("no protocol")]

    def factory() -> Recorder:
        if failures:
            raise failures.pop()
        return keeper()

    async with serving(loop, factory, path):
        client = await connect(loop, path)
        await client.until_lost()
        await greet(loop, keeper, path)
