"""Unix sockets: clients, given sockets, operations on sockets, and streams."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .connections import Keeper, close, connect_socket, connected, served
from .pipes import abstract_name, listening_at
from .support import (
    BIG,
    Loop,
    Recorder,
    open_descriptors,
    oracle_since,
    read_all,
    read_exactly,
    turns,
    unix_pair,
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a socket may be; nothing is there."""
    return str(tmp_path / "socket")


FORMS: list[Callable[[str], Any]] = [str, os.fsencode, Path]
FORM_NAMES = ["str", "bytes", "Path"]


# ---- create_unix_connection ----


@pytest.mark.parametrize("form", FORMS, ids=FORM_NAMES)
async def test_a_path_in_every_form(loop: Any, path: str, form: Callable[[str], Any]) -> None:
    with listening_at(path) as listener:
        transport, protocol = await loop.create_unix_connection(Recorder, form(path))
        assert isinstance(transport, asyncio.Transport)
        assert protocol.calls == [("connection_made",)]
        peer, _ = await loop.sock_accept(listener)
        with peer:
            transport.write(b"ping")
            assert await read_exactly(loop, peer, 4) == b"ping"
            await loop.sock_sendall(peer, b"pong")
            assert await protocol.until_received(4) == b"pong"
        await protocol.until_lost()
    assert protocol.error is None


@pytest.mark.parametrize("form", [bytes, os.fsdecode], ids=["bytes", "str"])
async def test_an_abstract_name(loop: Any, form: Callable[[bytes], Any]) -> None:
    name = abstract_name()
    with listening_at(name) as listener:
        transport, protocol = await loop.create_unix_connection(Recorder, form(name))
        assert transport.get_extra_info("peername") == name
        peer, _ = await loop.sock_accept(listener)
        peer.close()
        await protocol.until_lost()


async def test_a_path_that_is_not_unicode(loop: Any, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe"
    with listening_at(path) as listener:
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        assert transport.get_extra_info("peername") == os.fsdecode(path)
        peer, _ = await loop.sock_accept(listener)
        peer.close()
        await protocol.until_lost()


async def test_a_path_relative_to_the_working_directory(
    loop: Loop, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(os.path.dirname(path))
    with listening_at("socket"):
        transport, protocol = await loop.create_unix_connection(Recorder, "socket")
        assert transport.get_extra_info("peername") == "socket"
        await close(protocol)


async def test_extra_info(loop: Loop, path: str) -> None:
    with listening_at(path) as listener:
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        peer, _ = await loop.sock_accept(listener)
        with peer:
            assert transport.get_extra_info("peername") == path
            assert transport.get_extra_info("sockname") == ""
            sock = transport.get_extra_info("socket")
            assert (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
            assert sock.gettimeout() == 0
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            assert struct.unpack("iii", credentials) == (os.getpid(), os.getuid(), os.getgid())
            assert re.match(
                rf"^<\w+ fd={sock.fileno()} read=polling write=<idle, bufsize=0>>$",
                repr(transport),
            )
        await protocol.until_lost()
        await turns(1)
        assert transport.get_extra_info("peername") == path


async def test_a_given_socket(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await loop.create_unix_connection(Recorder, sock=ours)
        assert ours.gettimeout() == 0
        assert transport.get_extra_info("socket").fileno() == ours.fileno()
        assert transport.get_extra_info("peername") == ""
        assert transport.get_extra_info("sockname") == ""
        peer.send(b"hello")
        assert await protocol.until_received(5) == b"hello"
        await close(protocol)
        await turns(1)
        assert ours.fileno() == -1, "the transport owns the socket"


async def test_a_given_socket_that_is_not_connected(loop: Loop) -> None:
    """A transport on it reads at once, and hears that there is no connection."""
    sock = socket.socket(socket.AF_UNIX)
    _, protocol = await loop.create_unix_connection(Recorder, sock=sock)
    assert protocol.transport.get_extra_info("peername") is None
    await protocol.until_lost()
    assert isinstance(protocol.error, OSError)
    assert protocol.error.errno == errno.EINVAL


async def test_nobody_at_the_path(loop: Loop, path: str) -> None:
    before = open_descriptors()
    text = r"^\[Errno 2\] No such file or directory$"
    with pytest.raises(FileNotFoundError, match=text) as caught:
        await loop.create_unix_connection(Recorder, path)
    assert caught.value.errno == errno.ENOENT
    assert open_descriptors() == before


@pytest.mark.parametrize("what", ["a socket that was left", "a bound socket", "a regular file"])
async def test_refused(loop: Loop, path: str, what: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        if what == "a regular file":
            Path(path).write_text("content")
        else:
            sock.bind(path)
        if what == "a socket that was left":
            sock.close()
        before = open_descriptors()
        text = r"^\[Errno 111\] Connection refused$"
        with pytest.raises(ConnectionRefusedError, match=text):
            await loop.create_unix_connection(Recorder, path)
        assert open_descriptors() == before


async def test_an_abstract_name_that_nobody_has(loop: Any) -> None:
    with pytest.raises(ConnectionRefusedError, match=r"^\[Errno 111\] Connection refused$"):
        await loop.create_unix_connection(Recorder, abstract_name())


async def test_a_socket_of_another_type(loop: Loop, path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        text = r"^\[Errno 91\] Protocol wrong type for socket$"
        with pytest.raises(OSError, match=text):
            await loop.create_unix_connection(Recorder, path)


@pytest.mark.parametrize("form", FORMS, ids=FORM_NAMES)
async def test_a_path_that_is_too_long(loop: Any, path: str, form: Callable[[str], Any]) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match=r"^AF_UNIX path too long$"):
        await loop.create_unix_connection(Recorder, form(path + "x" * 100))
    assert open_descriptors() == before


@pytest.mark.parametrize("wrong", [1, 1.5, ["path"]])
async def test_what_is_no_path(loop: Any, wrong: object) -> None:
    name = type(wrong).__name__
    text = rf"^expected str, bytes or os\.PathLike object, not {name}$"
    with pytest.raises(TypeError, match=text):
        await loop.create_unix_connection(Recorder, wrong)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, r"^no path and sock were specified$"),
        (
            {"path": "path", "sock": "unix"},
            r"^path and sock can not be specified at the same time$",
        ),
        ({"sock": "tcp"}, r"^A UNIX Domain Stream Socket was expected, got <socket\.socket "),
        ({"sock": "datagram"}, r"^A UNIX Domain Stream Socket was expected, got <socket\.socket "),
        (
            {"path": "path", "server_hostname": "name"},
            r"^server_hostname is only meaningful with ssl$",
        ),
        (
            {"path": "path", "ssl_handshake_timeout": 1},
            r"^ssl_handshake_timeout is only meaningful with ssl$",
        ),
        (
            {"path": "path", "ssl": True},
            r"^you have to pass server_hostname when using ssl$",
        ),
        # What is wrong in several ways is told in this order.
        (
            {"path": "path", "sock": "unix", "ssl_handshake_timeout": 1},
            r"^ssl_handshake_timeout is only meaningful with ssl$",
        ),
    ],
)
async def test_wrong_arguments(loop: Any, options: dict[str, Any], text: str) -> None:
    families = {
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
        "tcp": (socket.AF_INET, socket.SOCK_STREAM),
        "datagram": (socket.AF_UNIX, socket.SOCK_DGRAM),
    }
    with socket.socket(*families[options.get("sock", "unix")]) as sock:
        if "sock" in options:
            options = {**options, "sock": sock}
        with pytest.raises(ValueError, match=text):
            await loop.create_unix_connection(Recorder, **options)
        assert sock.fileno() != -1, "a refused socket stays the caller's"


@oracle_since((3, 11), "no such parameter")
async def test_a_shutdown_timeout_wants_ssl(loop: Any, path: str) -> None:
    text = r"^ssl_shutdown_timeout is only meaningful with ssl$"
    with pytest.raises(ValueError, match=text):
        await loop.create_unix_connection(Recorder, path, ssl_shutdown_timeout=1)
    with pytest.raises(ValueError, match=text):
        await loop.create_unix_server(Recorder, path, ssl_shutdown_timeout=1)


@pytest.mark.parametrize("given", [False, True])
@oracle_since((3, 14), "the socket is left to the garbage collector")
async def test_an_exception_from_the_factory_is_the_callers(
    loop: Loop, path: str, given: bool
) -> None:
    """And the socket is closed, a given one too."""

    def factory() -> Recorder:
        raise LookupError("no protocol")

    with listening_at(path):
        ours, peer = socket.socketpair()
        with peer, ours:
            before = open_descriptors()
            with pytest.raises(LookupError, match=r"^no protocol$"):
                if given:
                    await loop.create_unix_connection(factory, sock=ours)
                else:
                    await loop.create_unix_connection(factory, path)
            if given:
                assert ours.fileno() == -1
            else:
                assert open_descriptors() == before


async def test_cancelled_at_every_step(loop: Loop, path: str) -> None:
    """Whatever await it is at, no descriptor is left."""
    with listening_at(path, 64) as listener:
        before = open_descriptors()
        for steps in range(6):
            task = loop.create_task(loop.create_unix_connection(Recorder, path))
            await turns(steps)
            if task.done():
                task.result()[0].close()
            else:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await turns()
            assert open_descriptors() == before
        listener.close()


async def test_cancelled_with_a_given_socket(loop: Loop) -> None:
    """Cancelled before connection_made() came back: the transport closes the socket, once."""
    protocol = Recorder()
    ours, peer = socket.socketpair()
    with peer:
        task = loop.create_task(loop.create_unix_connection(lambda: protocol, sock=ours))
        await turns(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.until_lost()
        await turns(2)
        assert ours.fileno() == -1
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_many_at_once(loop: Loop, path: str) -> None:
    keeper = Keeper()
    server = await loop.create_unix_server(keeper, path)
    made = await asyncio.gather(*(loop.create_unix_connection(Recorder, path) for _ in range(50)))
    await served(keeper, 50)
    for number, (transport, protocol) in enumerate(made):
        transport.write(b"%d" % number)
        await close(protocol)
    for protocol in keeper.made:
        await protocol.until_lost()
    expected = {b"%d" % number for number in range(50)}
    assert {bytes(protocol.received) for protocol in keeper.made} == expected
    server.close()
    await server.wait_closed()


# ---- connections ----


async def test_much_data_both_ways(loop: Loop, path: str) -> None:
    data = os.urandom(BIG)

    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

        def pause_writing(self) -> None:
            self.transport.pause_reading()

        def resume_writing(self) -> None:
            self.transport.resume_reading()

    server = await loop.create_unix_server(Echo, path)
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    transport.write(data)
    transport.write_eof()
    assert await protocol.until_received(BIG) == data
    await protocol.until_lost()
    server.close()
    await server.wait_closed()


async def test_half_close(loop: Loop) -> None:
    protocol = Recorder()
    protocol.keep_open = True
    async with connected(loop, protocol, unix_pair) as (transport, peer):
        transport.write(b"last words")
        transport.write_eof()
        assert await read_all(loop, peer) == b"last words"
        await loop.sock_sendall(peer, b"reply")
        assert await protocol.until_received(5) == b"reply"
        peer.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: protocol.names[-1] == "eof_received")
        assert not transport.is_closing()


async def test_a_peer_that_leaves_without_reading(loop: Loop) -> None:
    """The kernel says so: it is a reset, not an end of stream."""
    protocol = Recorder()
    async with connected(loop, protocol, unix_pair) as (transport, peer):
        transport.write(b"unread")
        await turns()
        peer.close()
        await protocol.until_lost()
    assert isinstance(protocol.error, ConnectionResetError)
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_a_write_to_a_peer_that_is_gone(loop: Loop) -> None:
    protocol = Recorder()
    async with connected(loop, protocol, unix_pair) as (transport, peer):
        transport.pause_reading()
        peer.close()
        transport.write(b"x")
        await protocol.until_lost()
    assert isinstance(protocol.error, BrokenPipeError)


async def test_connect_accepted_socket(loop: Loop, path: str) -> None:
    with listening_at(path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        sock, _ = await loop.sock_accept(listener)
        transport, protocol = await loop.connect_accepted_socket(Recorder, sock)
        assert transport.get_extra_info("sockname") == path
        assert transport.get_extra_info("peername") == ""
        client.send(b"hello")
        assert await protocol.until_received(5) == b"hello"
        await close(protocol)


async def test_connect_accepted_socket_wants_a_stream(loop: Loop) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        pytest.raises(ValueError, match=r"^A Stream Socket was expected, got <socket\.socket "),
    ):
        await loop.connect_accepted_socket(Recorder, sock)


async def test_create_connection_takes_a_unix_socket(loop: Loop) -> None:
    protocol = Recorder()
    ours, peer = unix_pair()
    with peer:
        await connect_socket(loop, ours, protocol)
        peer.send(b"hello")
        assert await protocol.until_received(5) == b"hello"
        await close(protocol)


# ---- operations on sockets ----


async def test_sock_connect_and_sock_accept(loop: Loop, path: str) -> None:
    with listening_at(path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await turns(1)
        await loop.sock_connect(client, path)
        connection, address = await accepting
        with connection:
            assert address == ""
            assert connection.gettimeout() == 0
            assert connection.family == socket.AF_UNIX
            assert not connection.get_inheritable()
            assert connection.getsockname() == path
            await loop.sock_sendall(client, b"ping")
            assert await read_exactly(loop, connection, 4) == b"ping"


@pytest.mark.parametrize("abstract", [False, True])
async def test_the_address_of_a_client_that_has_one(loop: Loop, path: str, abstract: bool) -> None:
    name: Any = abstract_name() if abstract else path + ".client"
    with listening_at(path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        client.bind(name)
        await loop.sock_connect(client, path)
        connection, address = await loop.sock_accept(listener)
        connection.close()
        assert address == name


@pytest.mark.parametrize("form", [str, os.fsencode], ids=["str", "bytes"])
async def test_sock_connect_takes_text_and_bytes(
    loop: Any, path: str, form: Callable[[str], Any]
) -> None:
    with listening_at(path), socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        assert await loop.sock_connect(client, form(path)) is None
        assert client.getpeername() == path


async def test_sock_connect_fails(loop: Loop, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] No such file or directory$"):
            await loop.sock_connect(client, path)
        with pytest.raises(OSError, match=r"^AF_UNIX path too long$"):
            await loop.sock_connect(client, path + "x" * 100)
        with listening_at(path):
            await loop.sock_connect(client, path)
            text = r"^\[Errno 106\] Transport endpoint is already connected$"
            with pytest.raises(OSError, match=text):
                await loop.sock_connect(client, path)
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as other:
            other.setblocking(False)
            bound.bind(path)
            with pytest.raises(ConnectionRefusedError, match=r"^\[Errno 111\] Connection refused$"):
                await loop.sock_connect(other, path)


async def test_sock_connect_wants_an_address_of_the_family(loop: Any) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        with pytest.raises(TypeError):
            await loop.sock_connect(client, ("127.0.0.1", 80))


async def test_a_cancelled_sock_accept_leaves_nothing(loop: Loop, path: str) -> None:
    with listening_at(path) as listener, socket.socket(socket.AF_UNIX) as client:
        task = loop.create_task(loop.sock_accept(listener))
        await turns(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.remove_reader(listener) is False
        client.connect(path)
        connection, _ = await loop.sock_accept(listener)
        connection.close()


async def test_sock_accept_on_a_socket_that_does_not_listen(loop: Loop, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.setblocking(False)
        with pytest.raises(OSError, match=r"^\[Errno 22\] Invalid argument$"):
            await loop.sock_accept(sock)


# ---- streams ----


@pytest.mark.parametrize("form", [*FORMS, "abstract"], ids=[*FORM_NAMES, "abstract"])
async def test_streams(loop: Loop, path: str, form: Any) -> None:
    name: Any = abstract_name() if form == "abstract" else form(path)

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(shout, name) as server:
        reader, writer = await asyncio.open_unix_connection(name)
        writer.write(b"one\ntwo\n")
        assert await reader.readline() == b"ONE\n"
        assert await reader.readline() == b"TWO\n"
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
    await turns()


async def test_streams_over_given_sockets(loop: Loop, path: str) -> None:
    greeted = loop.create_future()

    def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()
        greeted.set_result(writer)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    server = await asyncio.start_unix_server(greet, sock=listener)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    reader, writer = await asyncio.open_unix_connection(sock=client, limit=7)
    assert await reader.read() == b"hello"
    await (await greeted).wait_closed()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_streams_that_find_nobody(loop: Loop, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        await asyncio.open_unix_connection(path)
