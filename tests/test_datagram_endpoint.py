"""create_datagram_endpoint: every form of it, and every way in which it fails."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from .datagrams import (
    DatagramRecorder,
    abstract_name,
    connected_udp_pair,
    endpoint,
    receive,
    receive_now,
    udp_socket,
    unix_datagram_pair,
    unix_socket,
)
from .support import Loop, listening, open_descriptors, oracle_never, oracle_since, records, turns

#: A multicast group of the range that stays within a site.
GROUP = "239.255.77.88"


# Its forms


async def test_a_local_address(loop: Loop) -> None:
    protocol = DatagramRecorder()
    transport, made = await loop.create_datagram_endpoint(
        lambda: protocol, local_addr=("127.0.0.1", 0)
    )
    assert made is protocol
    assert protocol.calls == [("connection_made",)]
    assert protocol.transport is transport
    host, port = transport.get_extra_info("sockname")
    assert host == "127.0.0.1"
    assert port > 0
    transport.close()
    await protocol.until_lost()


async def test_the_addresses_by_position(loop: Loop) -> None:
    """The protocol factory, the local address, the remote address."""
    with udp_socket() as peer:
        transport, protocol = await loop.create_datagram_endpoint(
            DatagramRecorder, ("127.0.0.2", 0), peer.getsockname()
        )
        assert transport.get_extra_info("sockname")[0] == "127.0.0.2"
        assert transport.get_extra_info("peername") == peer.getsockname()
        transport.close()
        await protocol.until_lost()


async def test_a_remote_address(loop: Loop) -> None:
    with udp_socket() as peer:
        address = peer.getsockname()
        async with endpoint(loop, DatagramRecorder(), remote_addr=address) as transport:
            assert transport.get_extra_info("peername") == address
            transport.sendto(b"x")
            sender = transport.get_extra_info("sockname")
            assert sender[0] == "127.0.0.1"
            assert await loop.sock_recv(peer, 10) == b"x"
            peer.sendto(b"reply", sender)
            assert await transport.get_protocol().until_received(1) == [b"reply"]


async def test_an_address_family_alone(loop: Loop) -> None:
    """Bound when the first datagram is sent."""
    with udp_socket() as peer:
        async with endpoint(loop, DatagramRecorder(), family=socket.AF_INET) as transport:
            assert transport.get_extra_info("sockname") == ("0.0.0.0", 0)
            assert transport.get_extra_info("peername") is None
            transport.sendto(b"x", peer.getsockname())
            assert await receive(loop, peer, 1) == [b"x"]


async def test_an_address_family_and_a_protocol(loop: Loop) -> None:
    options = {"family": socket.AF_INET6, "proto": socket.IPPROTO_UDP}
    async with endpoint(loop, DatagramRecorder(), **options) as transport:
        sock = transport.get_extra_info("socket")
        assert (sock.family, sock.proto) == (socket.AF_INET6, socket.IPPROTO_UDP)


async def test_an_address_family_with_addresses(loop: Loop) -> None:
    options = {"family": socket.AF_INET, "local_addr": ("localhost", 0)}
    async with endpoint(loop, DatagramRecorder(), **options) as transport:
        assert transport.get_extra_info("sockname")[0] == "127.0.0.1"


async def test_ipv6(loop: Loop) -> None:
    with udp_socket(socket.AF_INET6) as peer:
        protocol = DatagramRecorder()
        options = {"local_addr": ("::1", 0), "remote_addr": peer.getsockname()[:2]}
        async with endpoint(loop, protocol, **options) as transport:
            assert transport.get_extra_info("peername") == peer.getsockname()
            transport.sendto(b"x")
            _, sender = await receive_from(loop, peer)
            assert sender == transport.get_extra_info("sockname")


async def receive_from(loop: Loop, sock: socket.socket) -> Any:
    """A datagram and its sender, on every version."""
    ready = loop.create_future()
    loop.add_reader(sock, ready.set_result, None)
    await ready
    loop.remove_reader(sock)
    return sock.recvfrom(1 << 16)


async def test_names(loop: Loop) -> None:
    with udp_socket() as peer:
        port = peer.getsockname()[1]
        options = {"local_addr": ("localhost", 0), "remote_addr": ("localhost", port)}
        async with endpoint(loop, DatagramRecorder(), **options, family=socket.AF_INET) as it:
            assert it.get_extra_info("sockname")[0] == "127.0.0.1"
            assert it.get_extra_info("peername") == ("127.0.0.1", port)
            it.sendto(b"x", ("127.0.0.1", port))
            assert await receive(loop, peer, 1) == [b"x"]


async def test_a_port_as_text(loop: Any) -> None:
    with udp_socket() as peer:
        host, port = peer.getsockname()
        async with endpoint(loop, DatagramRecorder(), remote_addr=(host, str(port))) as transport:
            assert transport.get_extra_info("peername") == (host, port)


async def test_flags_are_for_the_resolver(loop: Any) -> None:
    """AI_PASSIVE makes "no host" every interface; without it it is the loopback interface."""
    options = {"local_addr": (None, 0), "family": socket.AF_INET}
    async with endpoint(loop, DatagramRecorder(), **options) as transport:
        assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
    options["flags"] = socket.AI_PASSIVE
    async with endpoint(loop, DatagramRecorder(), **options) as transport:
        assert transport.get_extra_info("sockname")[0] == "0.0.0.0"


async def test_reuse_port(loop: Loop) -> None:
    options: dict[str, Any] = {"local_addr": ("127.0.0.1", 0), "reuse_port": True}
    async with endpoint(loop, DatagramRecorder(), **options) as first:
        sock = first.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
        address = first.get_extra_info("sockname")
        options["local_addr"] = address
        async with endpoint(loop, DatagramRecorder(), **options) as second:
            assert second.get_extra_info("sockname") == address


async def test_what_is_not_asked_for_is_not_set(loop: Loop) -> None:
    async with endpoint(loop, DatagramRecorder()) as transport:
        sock = transport.get_extra_info("socket")
        for option in (socket.SO_REUSEPORT, socket.SO_REUSEADDR, socket.SO_BROADCAST):
            assert sock.getsockopt(socket.SOL_SOCKET, option) == 0
        assert os.get_inheritable(sock.fileno()) is False
        assert sock.gettimeout() == 0
        assert os.get_blocking(sock.fileno()) is False


async def test_allow_broadcast(loop: Loop) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.255.255.255", 0))
        peer.setblocking(False)
        options = {"local_addr": ("127.0.0.1", 0), "allow_broadcast": True}
        async with endpoint(loop, DatagramRecorder(), **options) as transport:
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
            transport.sendto(b"everybody", peer.getsockname())
            assert await receive(loop, peer, 1) == [b"everybody"]


async def test_a_remote_address_to_broadcast_to(loop: Loop) -> None:
    """The socket is not connected, so that answers from everybody are heard."""
    protocol = DatagramRecorder()
    with socket.socket(type=socket.SOCK_DGRAM) as peer, udp_socket() as answering:
        peer.bind(("127.255.255.255", 0))
        peer.setblocking(False)
        address = peer.getsockname()
        options = {"remote_addr": address, "allow_broadcast": True}
        async with endpoint(loop, protocol, **options) as transport:
            assert transport.get_extra_info("peername") is None
            transport.sendto(b"everybody")
            transport.sendto(b"again", address)
            text = rf"^Invalid address: must be None or {re.escape(repr(address))}$"
            with pytest.raises(ValueError, match=text):
                transport.sendto(b"x", answering.getsockname())
            port = transport.get_extra_info("socket").getsockname()[1]
            assert await receive(loop, peer, 2) == [b"everybody", b"again"]
            answering.sendto(b"here", ("127.0.0.1", port))
            await protocol.until_received(1)
    assert [data for data, _ in protocol.received] == [b"here"]


async def test_a_bound_socket(loop: Loop) -> None:
    sock = udp_socket()
    sock.setblocking(True)
    address = sock.getsockname()
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol, sock=sock) as transport:
        assert sock.gettimeout() == 0
        assert transport.get_extra_info("sockname") == address
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("socket").fileno() == sock.fileno()
        with udp_socket() as peer:
            peer.sendto(b"x", address)
            await protocol.until_received(1)
    assert sock.fileno() == -1, "the transport owns the socket"


async def test_a_connected_socket(loop: Loop) -> None:
    sock, peer = connected_udp_pair()
    with peer:
        protocol = DatagramRecorder()
        async with endpoint(loop, protocol, sock=sock) as transport:
            assert transport.get_extra_info("peername") == peer.getsockname()
            transport.sendto(b"there")
            assert await receive(loop, peer, 1) == [b"there"]
            peer.send(b"back")
            await protocol.until_received(1)
            assert protocol.received == [(b"back", peer.getsockname())]


async def test_an_unbound_socket(loop: Loop) -> None:
    with udp_socket() as peer:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        async with endpoint(loop, DatagramRecorder(), sock=sock) as transport:
            transport.sendto(b"x", peer.getsockname())
            assert await receive(loop, peer, 1) == [b"x"]


@oracle_since((3, 13), "only datagram sockets are let in")
async def test_a_packet_socket(loop: Loop) -> None:
    """What is no stream is taken for datagrams: here SOCK_SEQPACKET, connected."""
    left, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    protocol = DatagramRecorder()
    with peer:
        async with endpoint(loop, protocol, sock=left):
            peer.send(b"one")
            peer.send(b"two")
            assert await protocol.until_received(2) == [b"one", b"two"]


async def test_what_the_socket_of_a_pair_receives(loop: Loop) -> None:
    left, peer = unix_datagram_pair()
    with peer:
        async with endpoint(loop, DatagramRecorder(), sock=left) as transport:
            peer.send(b"x")
            assert await transport.get_protocol().until_received(1) == [b"x"]


async def test_false_options_go_with_a_socket(loop: Loop) -> None:
    options: dict[str, Any] = {"reuse_port": False, "allow_broadcast": False, "family": 0}
    async with endpoint(loop, DatagramRecorder(), sock=udp_socket(), **options) as transport:
        assert not transport.is_closing()


# Multicast


def member(group: str) -> socket.socket:
    """A socket that hears a group on the loopback interface."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((group, 0))
    request = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton("127.0.0.1"))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    return sock


async def test_multicast(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol, sock=member(GROUP)) as listener:
        group = listener.get_extra_info("sockname")
        assert group[0] == GROUP
        async with endpoint(loop, DatagramRecorder()) as transport:
            sock = transport.get_extra_info("socket")
            interface = socket.inet_aton("127.0.0.1")
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            transport.sendto(b"to the group", group)
            await protocol.until_received(1)
            assert protocol.received == [(b"to the group", sock.getsockname())]


async def test_a_sender_to_a_group(loop: Loop) -> None:
    """A group as the remote address, over a socket that was prepared for it."""
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol, sock=member(GROUP)) as listener:
        sock = udp_socket()
        interface = socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        sock.connect(listener.get_extra_info("sockname"))
        async with endpoint(loop, DatagramRecorder(), sock=sock) as transport:
            transport.sendto(b"1")
            transport.sendto(b"2")
            assert await protocol.until_received(2) == [b"1", b"2"]


# Unix sockets


@pytest.fixture(params=["path", "abstract"])
def make_name(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """A maker of names for Unix sockets."""
    if request.param == "abstract":
        return abstract_name
    numbers = iter(range(100))
    return lambda: str(tmp_path / f"socket{next(numbers)}")


def shown(name: str) -> str | bytes:
    """A Unix socket's name as the system tells it: an abstract one is bytes."""
    return os.fsencode(name) if name.startswith("\0") else name


async def test_a_unix_server_and_its_client(loop: Loop, make_name: Callable[[], str]) -> None:
    name, reply_to = make_name(), make_name()
    server, client = DatagramRecorder(), DatagramRecorder()
    async with endpoint(loop, server, family=socket.AF_UNIX, local_addr=name) as serving:
        assert serving.get_extra_info("sockname") == shown(name)
        assert serving.get_extra_info("peername") is None
        options = {"local_addr": reply_to, "remote_addr": name}
        async with endpoint(loop, client, family=socket.AF_UNIX, **options) as transport:
            assert transport.get_extra_info("sockname") == shown(reply_to)
            assert transport.get_extra_info("peername") == shown(name)
            transport.sendto(b"question")
            await server.until_received(1)
            assert server.received == [(b"question", shown(reply_to))]
            serving.sendto(b"answer", server.received[0][1])
            await client.until_received(1)
            assert client.received == [(b"answer", shown(name))]


async def test_an_unnamed_unix_client(loop: Loop, make_name: Callable[[], str]) -> None:
    name = make_name()
    server = DatagramRecorder()
    async with endpoint(loop, server, family=socket.AF_UNIX, local_addr=name):
        client = DatagramRecorder()
        async with endpoint(loop, client, family=socket.AF_UNIX, remote_addr=name) as transport:
            transport.sendto(b"1")
            transport.sendto(b"2")
            assert await server.until_received(2) == [b"1", b"2"]
    assert server.received == [(b"1", None), (b"2", None)]


async def test_the_remote_address_of_a_unix_client(
    loop: Loop, make_name: Callable[[], str]
) -> None:
    """It is as the program wrote it that sendto() takes it, and shows it."""
    name = make_name()
    with unix_socket(name) as peer:
        options = {"family": socket.AF_UNIX, "remote_addr": name}
        async with endpoint(loop, DatagramRecorder(), **options) as transport:
            transport.sendto(b"x", name)
            assert await receive(loop, peer, 1) == [b"x"]
            text = rf"^Invalid address: must be None or {re.escape(name)}$"
            for other in (name + "x", os.fsencode(name), (name, 0)):
                with pytest.raises(ValueError, match=text):
                    transport.sendto(b"x", other)


async def test_a_unix_socket_without_a_name(loop: Loop) -> None:
    async with endpoint(loop, DatagramRecorder(), family=socket.AF_UNIX) as transport:
        assert transport.get_extra_info("sockname") == ""
        assert transport.get_extra_info("peername") is None
    left, peer = unix_datagram_pair()
    with peer:
        async with endpoint(loop, DatagramRecorder(), sock=left) as transport:
            assert transport.get_extra_info("sockname") == ""
            assert transport.get_extra_info("peername") == ""


async def test_an_unconnected_unix_client(loop: Loop, make_name: Callable[[], str]) -> None:
    name = make_name()
    with unix_socket(name) as peer:
        async with endpoint(loop, DatagramRecorder(), family=socket.AF_UNIX) as transport:
            transport.sendto(b"x", name)
            transport.sendto(b"y", os.fsencode(name))
            assert await receive(loop, peer, 2) == [b"x", b"y"]


async def test_a_given_unix_socket(loop: Loop, make_name: Callable[[], str]) -> None:
    name = make_name()
    protocol = DatagramRecorder()
    with unix_socket() as peer:
        async with endpoint(loop, protocol, sock=unix_socket(name)) as transport:
            assert transport.get_extra_info("sockname") == shown(name)
            peer.sendto(b"x", name)
            await protocol.until_received(1)


async def test_a_stale_path_is_removed(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    unix_socket(path).close()
    assert os.path.exists(path)
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol, family=socket.AF_UNIX, local_addr=path):
        with unix_socket() as peer:
            peer.sendto(b"x", path)
            await protocol.until_received(1)
    assert os.path.exists(path), "the path stays, as asyncio leaves it"


async def test_the_path_of_a_living_socket_is_taken_over(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    protocol = DatagramRecorder()
    with unix_socket(path) as former, unix_socket() as peer:
        async with endpoint(loop, protocol, family=socket.AF_UNIX, local_addr=path):
            peer.sendto(b"x", path)
            await protocol.until_received(1)
            assert receive_now(former) == []


async def test_a_file_is_not_removed(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    before = open_descriptors()
    with pytest.raises(OSError, match=r"^\[Errno 98\] Address already in use$"):
        await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, local_addr=str(path)
        )
    assert path.read_text() == "precious"
    assert open_descriptors() == before


async def test_a_path_in_no_directory(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere" / "socket")
    before = open_descriptors()
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] No such file or directory$"):
        await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, local_addr=path
        )
    assert open_descriptors() == before


async def test_a_path_that_cannot_be_examined(
    loop: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That is logged; the bind then fails, or does not."""
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "socket")
    with pytest.raises(NotADirectoryError, match=r"^\[Errno 20\] Not a directory$"):
        await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, local_addr=path
        )
    (message,) = records(caplog, "ERROR")
    assert message == (
        f"Unable to check or remove stale UNIX socket {path!r}: "
        f"NotADirectoryError(20, 'Not a directory')"
    )


async def test_a_path_that_is_too_long(loop: Loop) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match=r"AF_UNIX path too long$"):
        await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, local_addr="/" + "x" * 200
        )
    assert open_descriptors() == before


async def test_a_remote_path_that_does_not_exist(loop: Loop, tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] No such file or directory$"):
        await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, remote_addr=str(tmp_path / "nobody")
        )
    assert open_descriptors() == before


async def test_a_remote_path_that_nobody_reads(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    unix_socket(path).close()
    with pytest.raises(ConnectionRefusedError, match=r"^\[Errno 111\] Connection refused$"):
        await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, remote_addr=path
        )
    assert os.path.exists(path), "only a local address is removed"


async def test_a_remote_path_of_a_stream_socket(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(path)
        stream.listen()
        text = r"^\[Errno 91\] Protocol wrong type for socket$"
        with pytest.raises(OSError, match=text):
            await loop.create_datagram_endpoint(
                DatagramRecorder, family=socket.AF_UNIX, remote_addr=path
            )


# Arguments that are wrong


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, ValueError, r"^unexpected address family$"),
        ({"local_addr": None, "remote_addr": None}, ValueError, r"^unexpected address family$"),
        ({"local_addr": (), "flags": 1}, ValueError, r"^unexpected address family$"),
        ({"proto": socket.IPPROTO_UDP}, ValueError, r"^unexpected address family$"),
        (
            {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 1)},
            ValueError,
            r"^can not get address information$",
        ),
        (
            {"local_addr": ("127.0.0.1", 0), "family": socket.AF_INET6},
            socket.gaierror,
            r"^\[Errno -9\] Address family for hostname not supported$",
        ),
        (
            {"remote_addr": ("::1", 1), "family": socket.AF_INET},
            socket.gaierror,
            r"^\[Errno -9\] Address family for hostname not supported$",
        ),
        ({"remote_addr": ("no.such.host.invalid", 1)}, socket.gaierror, r"^\[Errno -\d\] "),
        (
            {"local_addr": ("", 0)},
            socket.gaierror,
            r"^\[Errno -2\] Name or service not known$",
        ),
        (
            {"family": 9999},
            OSError,
            r"^\[Errno 97\] Address family not supported by protocol$",
        ),
        (
            {"family": socket.AF_INET, "proto": socket.IPPROTO_TCP},
            OSError,
            r"^\[Errno 93\] Protocol not supported$",
        ),
        (
            {"local_addr": ("127.0.0.1", 0), "remote_addr": ("127.255.255.255", 9)},
            PermissionError,
            r"^\[Errno 13\] (Connect call failed \('127\.255\.255\.255', 9\)|Permission denied)$",
        ),
        (
            {"local_addr": ("192.0.2.1", 0)},
            OSError,
            r"^\[Errno 99\] Cannot assign requested address$",
        ),
        ({"local_addr": b"\0x", "family": socket.AF_UNIX}, TypeError, r"^string is expected$"),
        ({"local_addr": Path("x"), "family": socket.AF_UNIX}, TypeError, r"^string is expected$"),
        ({"remote_addr": ("x", 1), "family": socket.AF_UNIX}, TypeError, r"^string is expected$"),
        (
            {"local_addr": "\0x", "remote_addr": b"\0y", "family": socket.AF_UNIX},
            TypeError,
            r"^string is expected$",
        ),
    ],
)
async def test_wrong_arguments(
    loop: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    before = open_descriptors()
    with pytest.raises(error, match=text) as caught:
        await loop.create_datagram_endpoint(DatagramRecorder, **options)
    assert type(caught.value) is error
    assert open_descriptors() == before


NOT_A_PAIR = TypeError if sys.version_info >= (3, 11) else AssertionError


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", 1, ["127.0.0.1", 1], ("127.0.0.1",), ("::1", 1, 0, 0), {"host": 1}, b"x"],
)
@pytest.mark.parametrize("name", ["local_addr", "remote_addr"])
async def test_an_address_is_a_pair(loop: Any, name: str, address: Any) -> None:
    with pytest.raises(NOT_A_PAIR, match=r"^2-tuple is expected$"):
        await loop.create_datagram_endpoint(DatagramRecorder, **{name: address})


async def test_an_empty_address_beside_a_good_one(loop: Any) -> None:
    """Nothing is None only."""
    with pytest.raises(NOT_A_PAIR, match=r"^2-tuple is expected$"):
        await loop.create_datagram_endpoint(
            DatagramRecorder, local_addr=("127.0.0.1", 0), remote_addr=()
        )


@pytest.mark.parametrize("value", [True, False, None])
@pytest.mark.skipif(sys.version_info < (3, 11), reason="refused or warned of before")
async def test_reuse_address_is_gone(loop: Any, value: bool | None) -> None:
    """It was never safe for UDP."""
    text = r"create_datagram_endpoint\(\) got an unexpected keyword argument 'reuse_address'$"
    with pytest.raises(TypeError, match=text):
        await loop.create_datagram_endpoint(
            DatagramRecorder, local_addr=("127.0.0.1", 0), reuse_address=value
        )


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"local_addr": ("127.0.0.1", 0)}, "local_addr=('127.0.0.1', 0)"),
        ({"remote_addr": ("127.0.0.1", 1)}, "remote_addr=('127.0.0.1', 1)"),
        ({"family": 1}, "family=1"),
        ({"proto": 17}, "proto=17"),
        ({"flags": 8}, "flags=8"),
        ({"reuse_port": True}, "reuse_port=True"),
        ({"allow_broadcast": True}, "allow_broadcast=True"),
        (
            {
                "allow_broadcast": True,
                "reuse_port": 1,
                "flags": 8,
                "proto": 17,
                "family": 2,
                "remote_addr": ("127.0.0.1", 1),
                "local_addr": ("127.0.0.1", 0),
            },
            "local_addr=('127.0.0.1', 0), remote_addr=('127.0.0.1', 1), family=2, proto=17, "
            "flags=8, reuse_port=1, allow_broadcast=True",
        ),
    ],
)
@oracle_since((3, 11), "reuse_address is always in the list")
async def test_a_socket_with_anything_else(loop: Any, options: dict[str, Any], shown: str) -> None:
    text = f"socket modifier keyword arguments can not be used when sock is specified. ({shown})"
    with udp_socket() as sock:
        sock.setblocking(True)
        with pytest.raises(ValueError, match=rf"^{re.escape(text)}$"):
            await loop.create_datagram_endpoint(DatagramRecorder, sock=sock, **options)
        assert sock.fileno() != -1, "a refused socket stays the caller's"
        assert sock.gettimeout() is None


async def test_a_stream_socket(loop: Loop) -> None:
    """Also with other arguments: the socket is looked at first."""
    kind = "datagram socket" if sys.version_info >= (3, 13) else "UDP Socket"
    with listening() as sock:
        text = rf"^A {kind} was expected, got {re.escape(repr(sock))}$"
        with pytest.raises(ValueError, match=text):
            await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        with pytest.raises(ValueError, match=text):
            await loop.create_datagram_endpoint(
                DatagramRecorder, sock=sock, local_addr=("127.0.0.1", 0)
            )
        assert sock.fileno() != -1


async def test_a_closed_socket(loop: Loop) -> None:
    sock = udp_socket()
    sock.close()
    with pytest.raises(OSError, match=r"^\[Errno 9\] Bad file descriptor$"):
        await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)


@pytest.mark.parametrize("port", [65_536, 70_000, -1, "70000"])
@pytest.mark.parametrize(("name", "call"), [("local_addr", "bind"), ("remote_addr", "connect")])
async def test_a_port_out_of_range(loop: Any, name: str, call: str, port: Any) -> None:
    """Such a port is not cut to 16 bits, which would make it another one."""
    before = open_descriptors()
    with pytest.raises(OverflowError, match=rf"^{call}\(\): port must be 0-65535\.$"):
        await loop.create_datagram_endpoint(DatagramRecorder, **{name: ("127.0.0.1", port)})
    assert open_descriptors() == before


async def test_reuse_port_on_a_unix_socket(loop: Loop) -> None:
    """New kernels refuse it."""
    with unix_socket() as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError:
            pass
        else:
            pytest.skip("this kernel does not")
    text = (
        r"^reuse_port not supported by socket module, "
        r"SO_REUSEPORT defined but not implemented\.$"
    )
    before = open_descriptors()
    with pytest.raises(ValueError, match=text):
        await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, local_addr=abstract_name(), reuse_port=True
        )
    assert open_descriptors() == before


async def test_a_local_address_that_is_taken(loop: Loop) -> None:
    with udp_socket() as taken:
        before = open_descriptors()
        with pytest.raises(OSError, match=r"^\[Errno 98\] Address already in use$") as caught:
            await loop.create_datagram_endpoint(DatagramRecorder, local_addr=taken.getsockname())
        assert caught.value.errno == 98
        assert open_descriptors() == before


# Names with several addresses


class Names:
    """Replaces a loop's getaddrinfo(): each name has the addresses that were given for it."""

    def __init__(self, names: dict[str, list[Any]]) -> None:
        self._names = names
        self.asked: list[dict[str, int]] = []

    async def __call__(self, host: Any, port: Any, **options: Any) -> Any:
        self.asked.append(options)
        return [
            (
                socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
                socket.SOCK_DGRAM,
                socket.IPPROTO_UDP,
                "",
                address,
            )
            for address in self._names[host]
        ]


async def test_what_the_resolver_is_asked(loop: Any, monkeypatch: Any) -> None:
    names = Names({"local.name": [("127.0.0.1", 0)], "remote.name": [("127.0.0.1", 9)]})
    monkeypatch.setattr(loop, "getaddrinfo", names)
    options = {"family": socket.AF_INET, "proto": 17, "flags": socket.AI_NUMERICSERV}
    addresses = {"local_addr": ("local.name", 0), "remote_addr": ("remote.name", 9)}
    async with endpoint(loop, DatagramRecorder(), **addresses, **options) as transport:
        assert transport.get_extra_info("peername") == ("127.0.0.1", 9)
    assert names.asked == [{**options, "type": socket.SOCK_DGRAM}] * 2


async def test_the_first_family_that_can_be_bound(loop: Any, monkeypatch: Any) -> None:
    with udp_socket(socket.AF_INET6) as taken:
        names = Names({"some.name": [taken.getsockname(), ("127.0.0.1", 0)]})
        monkeypatch.setattr(loop, "getaddrinfo", names)
        before = open_descriptors()
        async with endpoint(loop, DatagramRecorder(), local_addr=("some.name", 1)) as transport:
            assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
            assert len(open_descriptors()) == len(before) + 1, "the socket that failed is closed"


async def test_the_first_family_comes_first(loop: Any, monkeypatch: Any) -> None:
    names = Names({"some.name": [("::1", 0, 0, 0), ("127.0.0.1", 0)]})
    monkeypatch.setattr(loop, "getaddrinfo", names)
    async with endpoint(loop, DatagramRecorder(), local_addr=("some.name", 1)) as transport:
        assert transport.get_extra_info("sockname")[0] == "::1"


async def test_the_last_address_of_a_family_counts(loop: Any, monkeypatch: Any) -> None:
    """There is one try for each family."""
    names = Names({"some.name": [("127.0.0.3", 0), ("127.0.0.2", 0)]})
    monkeypatch.setattr(loop, "getaddrinfo", names)
    async with endpoint(loop, DatagramRecorder(), local_addr=("some.name", 1)) as transport:
        assert transport.get_extra_info("sockname")[0] == "127.0.0.2"


async def test_the_family_that_both_ends_have(loop: Any, monkeypatch: Any) -> None:
    names = Names(
        {
            "both": [("::1", 0, 0, 0), ("127.0.0.1", 0)],
            "old": [("127.0.0.1", 9)],
        }
    )
    monkeypatch.setattr(loop, "getaddrinfo", names)
    options = {"local_addr": ("both", 0), "remote_addr": ("old", 9)}
    async with endpoint(loop, DatagramRecorder(), **options) as transport:
        assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
        assert transport.get_extra_info("peername") == ("127.0.0.1", 9)


async def test_the_first_error_is_raised(loop: Any, monkeypatch: Any) -> None:
    with udp_socket(socket.AF_INET6) as taken:
        names = Names({"some.name": [taken.getsockname(), ("192.0.2.1", 0)]})
        monkeypatch.setattr(loop, "getaddrinfo", names)
        before = open_descriptors()
        with pytest.raises(OSError, match=r"^\[Errno 98\] Address already in use$"):
            await loop.create_datagram_endpoint(DatagramRecorder, local_addr=("some.name", 1))
        assert open_descriptors() == before


async def test_a_name_without_addresses(loop: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(loop, "getaddrinfo", Names({"some.name": []}))
    with pytest.raises(OSError, match=r"^getaddrinfo\(\) returned empty list$"):
        await loop.create_datagram_endpoint(DatagramRecorder, remote_addr=("some.name", 1))


# Failures and cancellation


def no_protocol() -> DatagramRecorder:
    raise LookupError("no protocol")


@oracle_never("the socket is left to the garbage collector")
async def test_an_exception_from_the_factory_is_the_callers(loop: Loop) -> None:
    before = open_descriptors()
    for options in (
        {"local_addr": ("127.0.0.1", 0)},
        {"remote_addr": ("127.0.0.1", 9)},
        {"family": socket.AF_UNIX, "local_addr": abstract_name()},
    ):
        with pytest.raises(LookupError, match=r"^no protocol$"):
            await loop.create_datagram_endpoint(no_protocol, **options)
        assert open_descriptors() == before


async def test_an_exception_from_the_factory_and_a_given_socket(loop: Loop) -> None:
    """The socket is still the caller's."""
    with udp_socket() as sock, udp_socket() as peer:
        with pytest.raises(LookupError, match=r"^no protocol$"):
            await loop.create_datagram_endpoint(no_protocol, sock=sock)
        peer.sendto(b"x", sock.getsockname())
        assert await receive(loop, sock, 1) == [b"x"]


async def test_the_factory_is_called_when_there_is_a_socket(loop: Loop) -> None:
    """And not when there is none."""
    calls = []

    def factory() -> DatagramRecorder:
        calls.append("factory")
        return DatagramRecorder()

    with udp_socket() as taken, pytest.raises(OSError):
        await loop.create_datagram_endpoint(factory, local_addr=taken.getsockname())
    assert calls == []


async def test_cancelled_while_a_name_is_resolved(loop: Any, monkeypatch: Any) -> None:
    asked = asyncio.Event()

    async def never(*args: Any, **options: Any) -> Any:
        asked.set()
        await loop.create_future()

    monkeypatch.setattr(loop, "getaddrinfo", never)
    before = open_descriptors()
    task = loop.create_task(
        loop.create_datagram_endpoint(no_protocol, remote_addr=("some.name", 1))
    )
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_descriptors() == before


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_cancelled_at_any_step(loop: Loop, steps: int) -> None:
    """Either there is no transport, or it ends as every other does; no descriptor is left."""
    made: list[DatagramRecorder] = []

    def factory() -> DatagramRecorder:
        made.append(DatagramRecorder())
        return made[-1]

    with udp_socket() as peer:
        before = open_descriptors()
        task = loop.create_task(
            loop.create_datagram_endpoint(factory, remote_addr=peer.getsockname())
        )
        await turns(steps)
        task.cancel()
        try:
            transport, _ = await task
        except asyncio.CancelledError:
            pass
        else:
            transport.close()
        await turns(4)
        assert open_descriptors() == before
    for protocol in made:
        assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_cancelled_with_a_given_socket(loop: Loop) -> None:
    """Cancelled before connection_made() came back: the transport closes the socket, once."""
    protocol = DatagramRecorder()
    sock = udp_socket()
    task = loop.create_task(loop.create_datagram_endpoint(lambda: protocol, sock=sock))
    await turns(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await protocol.until_lost()
    await turns(2)
    assert sock.fileno() == -1
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_descriptors_return_to_where_they_began(loop: Loop) -> None:
    before = open_descriptors()
    for _ in range(100):
        async with endpoint(loop, DatagramRecorder()) as transport:
            transport.sendto(b"x", transport.get_extra_info("sockname"))
    assert open_descriptors() == before


# Debug mode


@pytest.mark.parametrize(
    ("given", "level"), [("local_addr", "INFO"), ("remote_addr", "DEBUG"), ("sock", "DEBUG")]
)
async def test_debug_mode_logs_what_was_created(
    loop: Loop, caplog: pytest.LogCaptureFixture, given: str, level: str
) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")
    address = ("127.0.0.1", 9 if given == "remote_addr" else 0)
    options = {given: udp_socket() if given == "sock" else address}
    loop.set_debug(True)
    async with endpoint(loop, DatagramRecorder(), **options):
        loop.set_debug(False)
        found = [text for text in records(caplog, level) if text.startswith("Datagram endpoint ")]
    remote = re.escape(f"remote_addr={address if given == 'remote_addr' else None}")
    local = re.escape(f"local_addr={address} ") if given == "local_addr" else ""
    pattern = rf"Datagram endpoint {local}{remote} created: \(<\w+ fd=.*>, <.*>\)"
    assert len(found) == 1
    assert re.fullmatch(pattern, found[0])


async def test_two_loops_talk(loop: Loop, loop_factory: Callable[[], Loop]) -> None:
    """Endpoints of two loops, each in a thread of its own."""
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol) as transport:
        address = transport.get_extra_info("sockname")

        async def send() -> None:
            sender = DatagramRecorder()
            async with endpoint(other, sender, remote_addr=address) as its_transport:
                its_transport.sendto(b"hello")

        other = loop_factory()
        thread = threading.Thread(target=lambda: other.run_until_complete(send()))
        thread.start()
        try:
            assert await protocol.until_received(1) == [b"hello"]
        finally:
            await waited(loop, thread)
            other.close()


def waited(loop: Loop, thread: threading.Thread) -> Awaitable[None]:
    return loop.run_in_executor(None, thread.join)
