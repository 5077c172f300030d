"""The datagram transport: sending, receiving, flow control, errors, and how it ends."""

from __future__ import annotations

import array
import asyncio
import contextlib
import contextvars
import errno
import gc
import re
import socket
import struct
import weakref
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

import pytest

from .datagrams import (
    HEADER,
    DatagramRecorder,
    DatagramTransport,
    Echo,
    abstract_name,
    connected_udp_pair,
    counts_down,
    deaf_port,
    endpoint,
    fill_endpoint,
    finish,
    numbered,
    receive,
    receive_now,
    sending,
    udp_socket,
    unix_datagram_pair,
    unix_socket,
    until,
)
from .support import (
    Errors,
    Loop,
    LoopFactory,
    open_descriptors,
    oracle_never,
    oracle_since,
    readable,
    records,
    turns,
)

has_pausing = oracle_since((3, 11), "datagram transports cannot be paused")

#: More than the payload of any UDP datagram over IPv4, which is 65,507 bytes.
TOO_BIG = 66_000


# Sending and receiving


async def test_the_calls_of_an_endpoint(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            assert protocol.transport is transport
            peer.sendto(b"hello", transport.get_extra_info("sockname"))
            await protocol.until_received(1)
            transport.close()
            await protocol.until_lost()
        assert protocol.calls == [
            ("connection_made",),
            ("datagram_received", b"hello", peer.getsockname()),
            ("connection_lost", None),
        ]


async def test_sendto_an_address(loop: Loop) -> None:
    async with endpoint(loop, DatagramRecorder()) as transport:
        with udp_socket() as first, udp_socket() as second:
            assert transport.sendto(b"one", first.getsockname()) is None
            transport.sendto(b"two", second.getsockname())
            sockname = transport.get_extra_info("sockname")
            assert await receive(loop, first, 1) == [b"one"]
            assert second.recvfrom(10) == (b"two", sockname)


async def test_sendto_the_connected_peer(loop: Loop) -> None:
    """Without an address, with None, and with the peer's own address, by position and by name."""
    with udp_socket() as peer:
        address = peer.getsockname()
        async with endpoint(loop, DatagramRecorder(), remote_addr=address) as transport:
            transport.sendto(b"1")
            transport.sendto(b"2", None)
            transport.sendto(b"3", address)
            transport.sendto(data=b"4", addr=address)
            assert await receive(loop, peer, 4) == [b"1", b"2", b"3", b"4"]


async def test_sendto_another_address_than_the_peers(loop: Loop) -> None:
    with udp_socket() as peer:
        address = peer.getsockname()
        async with endpoint(loop, DatagramRecorder(), remote_addr=address) as transport:
            text = rf"^Invalid address: must be None or {re.escape(repr(address))}$"
            for other in (("127.0.0.1", 1), ("127.0.0.2", address[1]), "elsewhere"):
                with pytest.raises(ValueError, match=text):
                    transport.sendto(b"x", other)
            transport.sendto(b"still fine")
            assert await receive(loop, peer, 1) == [b"still fine"]


async def test_a_peer_that_is_not_ours_is_not_heard(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with udp_socket() as peer, udp_socket() as stranger:
        async with endpoint(loop, protocol, remote_addr=peer.getsockname()) as transport:
            stranger.sendto(b"strange", transport.get_extra_info("sockname"))
            peer.sendto(b"familiar", transport.get_extra_info("sockname"))
            await protocol.until_received(1)
            assert protocol.received == [(b"familiar", peer.getsockname())]


async def test_sendto_on_a_given_connected_socket(loop: Loop) -> None:
    """The transport was not told the peer, so it checks no address; the peer gets it anyway."""
    left, peer = connected_udp_pair()
    with peer, udp_socket() as other:
        async with endpoint(loop, DatagramRecorder(), sock=left) as transport:
            transport.sendto(b"1")
            transport.sendto(b"2", other.getsockname())
            assert await receive(loop, peer, 2) == [b"1", b"2"]
            assert receive_now(other) == []


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
async def test_what_can_be_sent(loop: Loop, wrap: Callable[[bytes], Any]) -> None:
    with udp_socket() as peer:
        async with endpoint(loop, DatagramRecorder()) as transport:
            transport.sendto(wrap(b"content"), peer.getsockname())
            assert await receive(loop, peer, 1) == [b"content"]


async def test_views_are_sent_as_bytes(loop: Loop) -> None:
    """Also one whose items are no bytes, and one that is a part of something."""
    numbers = array.array("I", [1, 2, 3])
    with udp_socket() as peer:
        async with endpoint(loop, DatagramRecorder()) as transport:
            transport.sendto(memoryview(numbers), peer.getsockname())
            transport.sendto(memoryview(b"abcdef")[2:4], peer.getsockname())
            assert await receive(loop, peer, 2) == [numbers.tobytes(), b"cd"]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("text", "str"),
        (None, "NoneType"),
        (1, "int"),
        ([b"x"], "list"),
        (array.array("b"), "array"),
    ],
)
async def test_what_cannot_be_sent(loop: Loop, data: Any, name: str) -> None:
    async with endpoint(loop, DatagramRecorder()) as transport:
        address = transport.get_extra_info("sockname")
        text = rf"^data argument must be a bytes-like object, not '(array\.)?{name}'$"
        with pytest.raises(TypeError, match=text):
            transport.sendto(data, address)
        assert not transport.is_closing()


@oracle_since((3, 13), "empty datagrams are not sent")
async def test_an_empty_datagram_is_sent(loop: Loop) -> None:
    with udp_socket() as peer:
        async with endpoint(loop, DatagramRecorder()) as transport:
            transport.sendto(b"", peer.getsockname())
            transport.sendto(b"after", peer.getsockname())
            assert await receive(loop, peer, 2) == [b"", b"after"]


async def test_an_empty_datagram_is_received(loop: Loop) -> None:
    """It is no end of anything."""
    protocol = DatagramRecorder()
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            for data in (b"", b"after", b""):
                peer.sendto(data, transport.get_extra_info("sockname"))
            assert await protocol.until_received(3) == [b"", b"after", b""]


@pytest.mark.parametrize("size", [60 * 1024, 65_507])
async def test_large_datagrams_stay_whole(loop: Loop, size: int) -> None:
    protocol = DatagramRecorder()
    data = bytes(range(256)) * (size // 256) + b"." * (size % 256)
    async with endpoint(loop, Echo()) as echo, endpoint(loop, protocol) as transport:
        for round_trip in range(1, 4):
            transport.sendto(data, echo.get_extra_info("sockname"))
            assert await protocol.until_received(round_trip) == [data] * round_trip


async def test_larger_than_udp_over_a_unix_socket(loop: Loop) -> None:
    protocol = DatagramRecorder()
    data = bytes(range(256)) * 600
    name = abstract_name()
    async with endpoint(loop, protocol, local_addr=name, family=socket.AF_UNIX):
        sender = DatagramRecorder()
        async with endpoint(loop, sender, remote_addr=name, family=socket.AF_UNIX) as transport:
            transport.sendto(data)
            await protocol.until_received(1)
            assert protocol.data[0] == data
            assert sender.errors == []


async def test_what_is_larger_than_256_kib_is_cut_off(loop: Loop) -> None:
    """A Unix socket can carry more than a transport asks the kernel for."""
    protocol = DatagramRecorder()
    name = abstract_name()
    with unix_socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        if peer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 1 << 20:
            pytest.skip("the system does not allow such buffers")
        async with endpoint(loop, protocol, local_addr=name, family=socket.AF_UNIX):
            peer.sendto(b"x" * 300_000, name)
            peer.sendto(b"next", name)
            assert await protocol.until_received(2) == [b"x" * 256 * 1024, b"next"]


async def test_datagrams_of_different_sizes_keep_their_borders(loop: Loop) -> None:
    protocol = DatagramRecorder()
    sizes = [1, 60_000, 0, 3, 1400, 30_000, 2]
    sent = [bytes([index]) * size for index, size in enumerate(sizes)]
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            for data in sent:
                peer.sendto(data, transport.get_extra_info("sockname"))
            assert await protocol.until_received(len(sent)) == sent


async def test_datagrams_that_wait_come_after_connection_made(loop: Loop) -> None:
    protocol = DatagramRecorder()
    sock = udp_socket()
    with udp_socket() as peer:
        for data in numbered(3):
            peer.sendto(data, sock.getsockname())
        async with endpoint(loop, protocol, sock=sock):
            assert protocol.calls[0] == ("connection_made",)
            assert await protocol.until_received(3) == numbered(3)


async def test_sending_in_connection_made(loop: Loop) -> None:
    class Greeting(DatagramRecorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.sendto(b"hello")

    with udp_socket() as peer:
        async with endpoint(loop, Greeting(), remote_addr=peer.getsockname()):
            assert await receive(loop, peer, 1) == [b"hello"]


async def test_an_endpoint_that_talks_to_itself(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol) as transport:
        address = transport.get_extra_info("sockname")
        transport.sendto(b"me", address)
        await protocol.until_received(1)
        assert protocol.received == [(b"me", address)]


async def test_ipv6_addresses_have_four_parts(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with udp_socket(socket.AF_INET6) as peer:
        async with endpoint(loop, protocol, local_addr=("::1", 0)) as transport:
            sockname = transport.get_extra_info("sockname")
            assert sockname == ("::1", sockname[1], 0, 0)
            peer.sendto(b"in", sockname)
            await protocol.until_received(1)
            assert protocol.received == [(b"in", peer.getsockname())]
            transport.sendto(b"four", peer.getsockname())
            transport.sendto(b"two", peer.getsockname()[:2])
            assert await receive(loop, peer, 2) == [b"four", b"two"]


async def test_an_ipv6_peer(loop: Loop) -> None:
    """Its address has four parts, and the first two alone are another address."""
    with udp_socket(socket.AF_INET6) as peer:
        address = peer.getsockname()
        async with endpoint(loop, DatagramRecorder(), remote_addr=address[:2]) as transport:
            assert transport.get_extra_info("peername") == address
            transport.sendto(b"x", address)
            text = rf"^Invalid address: must be None or {re.escape(repr(address))}$"
            with pytest.raises(ValueError, match=text):
                transport.sendto(b"y", address[:2])
            assert await receive(loop, peer, 1) == [b"x"]


async def test_a_name_in_sendto(loop: Loop) -> None:
    """It is resolved at once, by the system."""
    with udp_socket() as peer:
        async with endpoint(loop, DatagramRecorder()) as transport:
            transport.sendto(b"by name", ("localhost", peer.getsockname()[1]))
            assert await receive(loop, peer, 1) == [b"by name"]


async def test_an_unnamed_sender_has_no_address(loop: Loop) -> None:
    protocol = DatagramRecorder()
    name = abstract_name()
    with unix_socket() as peer:
        async with endpoint(loop, protocol, local_addr=name, family=socket.AF_UNIX):
            peer.sendto(b"anonymous", name)
            await protocol.until_received(1)
    assert protocol.received == [(b"anonymous", None)]


async def test_receiving_over_a_socket_pair(loop: Loop) -> None:
    protocol = DatagramRecorder()
    left, peer = unix_datagram_pair()
    with peer:
        async with endpoint(loop, protocol, sock=left):
            peer.send(b"x")
            peer.send(b"y")
            assert await protocol.until_received(2) == [b"x", b"y"]


@oracle_never("a peer without a name is taken for none: TypeError, the address being None")
async def test_sending_over_a_socket_pair(loop: Loop) -> None:
    left, peer = unix_datagram_pair()
    with peer:
        async with endpoint(loop, DatagramRecorder(), sock=left) as transport:
            transport.sendto(b"x")
            transport.sendto(b"y")
            assert await receive(loop, peer, 2) == [b"x", b"y"]


async def test_a_socket_of_another_family(loop: Loop) -> None:
    """Here the kernel is the peer: it acknowledges a request that asks for nothing."""
    protocol = DatagramRecorder()
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)
    sock.bind((0, 0))
    sockname = sock.getsockname()
    async with endpoint(loop, protocol, sock=sock) as transport:
        assert transport.get_extra_info("sockname") == sockname
        assert transport.get_extra_info("peername") == (0, 0)
        # struct nlmsghdr: length, NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, number, port.
        transport.sendto(struct.pack("=IHHII", 16, 1, 5, 1, 0), (0, 0))
        await protocol.until_received(1)
        assert [address for _, address in protocol.received] == [(0, 0)]


# Errors of the network


async def test_too_big_a_datagram_is_an_error_received(loop: Loop) -> None:
    """Reported inside sendto(); the endpoint lives on."""
    protocol = DatagramRecorder()
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            transport.sendto(b"x" * TOO_BIG, peer.getsockname())
            (error,) = protocol.errors
            assert type(error) is OSError
            assert (error.errno, str(error)) == (90, "[Errno 90] Message too long")
            assert transport.get_write_buffer_size() == 0
            assert not transport.is_closing()
            transport.sendto(b"small", peer.getsockname())
            assert await receive(loop, peer, 1) == [b"small"]
            peer.sendto(b"reply", transport.get_extra_info("sockname"))
            await protocol.until_received(1)
    assert protocol.names == [
        "connection_made",
        "error_received",
        "datagram_received",
        "connection_lost",
    ]


async def test_too_big_a_datagram_in_the_queue(loop: Loop) -> None:
    """It is an error when its turn comes; what stands behind it is sent."""
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        sent = fill_endpoint(transport)
        transport.sendto(b"x" * 1_000_000)
        transport.sendto(b"behind")
        assert protocol.errors == []
        assert await receive(loop, peer, sent + 1) == [*numbered(sent), b"behind"]
        assert (await protocol.until_error()).errno == errno.EMSGSIZE
        assert len(protocol.errors) == 1


async def test_a_refusal_is_an_error_received(loop: Loop) -> None:
    """A connected UDP socket hears that nobody listens; the endpoint lives on."""
    protocol = DatagramRecorder()
    with deaf_port() as port:
        async with endpoint(loop, protocol, remote_addr=("127.0.0.1", port)) as transport:
            for count in range(1, 4):
                transport.sendto(b"anybody?")
                error = await protocol.until_error(count)
                assert type(error) is ConnectionRefusedError
                assert str(error) == "[Errno 111] Connection refused"
            await turns(5)
            assert len(protocol.errors) == 3
            assert not transport.is_closing()
    assert protocol.names == ["connection_made", "error_received", "connection_lost"]


async def test_a_refusal_then_a_peer(loop: Loop) -> None:
    """Somebody begins to listen after a refusal."""
    protocol = DatagramRecorder()
    with udp_socket() as peer:
        address = peer.getsockname()
        async with endpoint(loop, protocol, remote_addr=address) as transport:
            peer.close()
            transport.sendto(b"anybody?")
            await protocol.until_error()
            with socket.socket(type=socket.SOCK_DGRAM) as again:
                again.setblocking(False)
                again.bind(address)
                transport.sendto(b"now?")
                assert await receive(loop, again, 1) == [b"now?"]
                again.sendto(b"yes", transport.get_extra_info("sockname"))
                assert await protocol.until_received(1) == [b"yes"]


async def test_nobody_tells_an_unconnected_socket_of_a_refusal(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with deaf_port() as port, udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            transport.sendto(b"anybody?", ("127.0.0.1", port))
            await turns(5)
            transport.sendto(b"x", peer.getsockname())
            assert await receive(loop, peer, 1) == [b"x"]
    assert protocol.errors == []


async def test_an_address_that_the_system_refuses(loop: Loop) -> None:
    """Whatever is an OSError, a name that does not resolve too, leaves the endpoint alive."""
    protocol = DatagramRecorder()
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            transport.sendto(b"x", ("127.0.0.1", 0))
            transport.sendto(b"x", ("no.such.host.invalid", 1))
            transport.sendto(b"x", ("::1", 1))
            transport.sendto(b"x", ("127.255.255.255", 9))
            kinds = [type(error) for error in protocol.errors]
            assert kinds == [OSError, socket.gaierror, socket.gaierror, PermissionError]
            assert protocol.errors[0].errno == errno.EINVAL
            transport.sendto(b"fine", peer.getsockname())
            assert await receive(loop, peer, 1) == [b"fine"]


@pytest.mark.parametrize(
    ("address", "error", "text"),
    [
        (None, TypeError, ""),
        ("127.0.0.1", TypeError, r"AF_INET address must be tuple, not str$"),
        (("127.0.0.1",), TypeError, r"AF_INET address must be a pair \(host, port\)$"),
        (("127.0.0.1", "80"), TypeError, r"'str' object cannot be interpreted as an integer$"),
        (("127.0.0.1", 70_000), OverflowError, r"port must be 0-65535\.$"),
        (("127.0.0.1", -1), OverflowError, r"port must be 0-65535\.$"),
    ],
)
async def test_an_address_that_is_none(
    loop: Loop, errors: Errors, address: Any, error: type[Exception], text: str
) -> None:
    """sendto() raises nothing: this is an error of the program, and ends the endpoint."""
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol) as transport:
        transport.sendto(b"x", address)
        assert transport.is_closing()
        assert protocol.names == ["connection_made"]
        await protocol.until_lost()
        context = errors.take_one()
        assert set(context) == {"message", "exception", "transport", "protocol"}
        assert context["message"] == "Fatal write error on datagram transport"
        assert type(context["exception"]) is error
        assert re.search(text, str(context["exception"]))
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        assert protocol.losses == [context["exception"]]


async def test_a_unix_peer_that_is_gone(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        peer.close()
        transport.sendto(b"x")
        assert [type(error) for error in protocol.errors] == [ConnectionRefusedError]
        assert not transport.is_closing()


async def test_a_unix_peer_that_goes_while_datagrams_are_queued(loop: Loop) -> None:
    """Each of them is an error; the endpoint lives, and its queue is empty."""
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        fill_endpoint(transport)
        transport.sendto(b"second")
        transport.sendto(b"third")
        peer.close()
        await protocol.until_error(3)
        await turns(3)
        assert type(protocol.errors[0]) is ConnectionRefusedError
        assert len(protocol.errors) == 3
        assert not transport.is_closing()
        assert protocol.losses == []


async def test_a_path_that_nobody_has(loop: Loop, tmp_path: Any) -> None:
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol, family=socket.AF_UNIX) as transport:
        transport.sendto(b"x", str(tmp_path / "nobody"))
        assert [type(error) for error in protocol.errors] == [FileNotFoundError]


# Flow control


async def test_the_limits(loop: Loop) -> None:
    """As for streams."""
    async with endpoint(loop, DatagramRecorder()) as transport:
        assert transport.get_write_buffer_size() == 0
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        text = r"^high \(1\) must be >= low \(2\) must be >= 0$"
        with pytest.raises(ValueError, match=text):
            transport.set_write_buffer_limits(1, 2)
        assert transport.get_write_buffer_limits() == (100, 400)


@pytest.mark.parametrize("connect", [True, False])
async def test_what_the_kernel_does_not_take_is_queued(loop: Loop, connect: bool) -> None:
    protocol = DatagramRecorder()
    async with sending(loop, protocol, connect) as (transport, peer):
        address = None if connect else peer.getsockname()
        sent = fill_endpoint(transport, address)
        for data in numbered(50, sent):
            transport.sendto(data, address)
        assert await receive(loop, peer, sent + 50) == numbered(sent + 50)
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_a_queue_for_several_addresses(loop: Loop) -> None:
    """The first one that has to wait holds up those behind it, to whomever they go."""
    protocol = DatagramRecorder()
    with unix_socket(abstract_name()) as other:
        async with sending(loop, protocol, connect=False) as (transport, peer):
            sent = fill_endpoint(transport, peer.getsockname())
            transport.sendto(b"to the other", other.getsockname())
            await turns(3)
            assert receive_now(other) == []
            assert await receive(loop, peer, sent) == numbered(sent)
            assert await receive(loop, other, 1) == [b"to the other"]


@oracle_since((3, 14), "the header is not counted, or only upwards")
async def test_each_queued_datagram_counts_a_header(loop: Loop) -> None:
    async with sending(loop, DatagramRecorder()) as (transport, peer):
        sent = fill_endpoint(transport)
        expected = len(b"%d" % (sent - 1)) + HEADER
        assert transport.get_write_buffer_size() == expected
        transport.sendto(b"x" * 100)
        transport.sendto(b"")
        assert transport.get_write_buffer_size() == expected + 100 + 2 * HEADER
        await receive(loop, peer, sent)
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert (await receive(loop, peer, 2))[1] == b""


async def test_the_buffer_size_counts_bytes_of_items(loop: Loop) -> None:
    """What is queued of a memoryview is a copy in bytes."""
    numbers = array.array("I", range(100))
    async with sending(loop, DatagramRecorder()) as (transport, peer):
        sent = fill_endpoint(transport)
        transport.sendto(memoryview(numbers))
        assert (await receive(loop, peer, sent + 1))[-1] == numbers.tobytes()


async def test_a_queued_datagram_is_a_copy(loop: Loop) -> None:
    async with sending(loop, DatagramRecorder()) as (transport, peer):
        sent = fill_endpoint(transport)
        buffer = bytearray(b"before")
        transport.sendto(buffer)
        transport.sendto(memoryview(buffer))
        buffer[:] = b"AFTER!"
        buffer.clear()
        assert (await receive(loop, peer, sent + 2))[-2:] == [b"before", b"before"]


@counts_down
async def test_pause_above_high_then_resume_at_low(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        transport.set_write_buffer_limits(high=1000, low=100)
        sent = fill_endpoint(transport)
        assert protocol.names == ["connection_made"]
        transport.sendto(b"x" * 1000)
        assert protocol.names == ["connection_made", "pause_writing"], "inside sendto() itself"
        transport.sendto(b"y" * 1000)
        await receive(loop, peer, sent)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")
        assert transport.get_write_buffer_size() <= 100
        await receive(loop, peer, 2)
    assert protocol.calls == [
        ("connection_made",),
        ("pause_writing",),
        ("resume_writing",),
        ("connection_lost", None),
    ]


@counts_down
async def test_high_zero_pauses_whenever_something_is_queued(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        transport.set_write_buffer_limits(high=0)
        for _ in range(3):
            sent = fill_endpoint(transport)
            assert protocol.names[-1] == "pause_writing"
            await receive(loop, peer, sent)
            await protocol.until(lambda: protocol.names[-1] == "resume_writing")
            assert transport.get_write_buffer_size() == 0


@oracle_since((3, 14), "the header is not counted, or only upwards")
async def test_empty_datagrams_are_held_back_too(loop: Loop) -> None:
    """The header makes a flood of them reach the limit."""
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        transport.set_write_buffer_limits(high=10 * HEADER)
        sent = fill_endpoint(transport)
        while protocol.names[-1] != "pause_writing":
            transport.sendto(b"")
            sent += 1
        await receive(loop, peer, sent)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")


@counts_down
async def test_ten_thousand_in_order_under_flow_control(loop: Loop) -> None:
    """A sender that stops while it is told to, and a receiver that reads all the time."""
    receiver, sender = DatagramRecorder(), DatagramRecorder()
    name = abstract_name()
    async with (
        endpoint(loop, receiver, family=socket.AF_UNIX, local_addr=name),
        endpoint(loop, sender, family=socket.AF_UNIX, remote_addr=name) as transport,
    ):
        transport.set_write_buffer_limits(high=500)
        for data in numbered(10_000):
            await sender.until(lambda: sender.names[-1] != "pause_writing")
            transport.sendto(data)
            assert transport.get_write_buffer_size() < 600
        assert await receiver.until_received(10_000) == numbered(10_000)
    assert "pause_writing" in sender.names
    assert sender.errors == []


async def test_ten_thousand_in_one_go(loop: Loop) -> None:
    receiver, sender = DatagramRecorder(), DatagramRecorder()
    name = abstract_name()
    async with (
        endpoint(loop, receiver, family=socket.AF_UNIX, local_addr=name),
        endpoint(loop, sender, family=socket.AF_UNIX, remote_addr=name) as transport,
    ):
        for data in numbered(10_000):
            transport.sendto(data)
        assert await receiver.until_received(10_000) == numbered(10_000)


async def test_a_thousand_over_udp(loop: Loop) -> None:
    """Fifty at a time, which the kernel has room for: none is lost and none overtakes."""
    receiver, sender = DatagramRecorder(), DatagramRecorder()
    async with endpoint(loop, receiver) as target, endpoint(loop, sender) as transport:
        address = target.get_extra_info("sockname")
        for start in range(0, 1000, 50):
            for data in numbered(50, start):
                transport.sendto(data, address)
            await receiver.until_received(start + 50)
        assert receiver.data == numbered(1000)


async def test_many_round_trips(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with endpoint(loop, Echo()) as echo:
        address = echo.get_extra_info("sockname")
        async with endpoint(loop, protocol, remote_addr=address) as transport:
            for count, data in enumerate(numbered(500), 1):
                transport.sendto(data)
                await protocol.until_received(count)
    assert protocol.received == [(data, address) for data in numbered(500)]


async def test_many_endpoints_at_once(loop: Loop) -> None:
    """Each gets what was sent to it, and afterwards no descriptor is left."""
    before = open_descriptors()
    with udp_socket() as peer:
        made = await asyncio.gather(
            *(
                loop.create_datagram_endpoint(DatagramRecorder, local_addr=("127.0.0.1", 0))
                for _ in range(50)
            )
        )
        for index, (transport, _) in enumerate(made):
            peer.sendto(b"%d" % index, transport.get_extra_info("sockname"))
        for index, (_, protocol) in enumerate(made):
            assert await protocol.until_received(1) == [b"%d" % index]
        for transport, protocol in made:
            transport.close()
            await protocol.until_lost()
    await turns(1)
    assert open_descriptors() == before


# What a protocol may do while it is called


async def test_close_in_datagram_received(loop: Loop) -> None:
    """What waits behind is not delivered."""

    class Once(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    protocol = Once()
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            for data in numbered(10):
                peer.sendto(data, transport.get_extra_info("sockname"))
            await protocol.until_lost()
    assert protocol.names == ["connection_made", "datagram_received", "connection_lost"]
    assert protocol.data == [b"0"]


@has_pausing
async def test_pause_reading_in_datagram_received(loop: Loop) -> None:
    """Each datagram pauses: they come one by one, as they are asked for."""

    class OneByOne(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.pause_reading()

    protocol = OneByOne()
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            for data in numbered(5):
                peer.sendto(data, transport.get_extra_info("sockname"))
            for count in range(1, 6):
                await protocol.until_received(count)
                await turns(3)
                assert protocol.data == numbered(count)
                transport.resume_reading()


async def test_set_protocol_in_datagram_received(loop: Loop) -> None:
    """The next datagram is the new protocol's, also when both waited at once."""
    second = DatagramRecorder()

    class First(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.set_protocol(second)

    first = First()
    with udp_socket() as peer:
        transport, _ = await loop.create_datagram_endpoint(
            lambda: first, local_addr=("127.0.0.1", 0)
        )
        second.transport = transport
        assert transport.get_protocol() is first
        for data in numbered(3):
            peer.sendto(data, transport.get_extra_info("sockname"))
        assert await second.until_received(2) == [b"1", b"2"]
        assert transport.get_protocol() is second
        await finish(second)
    assert first.calls[1:] == [("datagram_received", b"0", peer_of(first))]


def peer_of(protocol: DatagramRecorder) -> Any:
    """Where the first datagram came from."""
    return protocol.received[0][1]


class Batch(DatagramRecorder):
    """Calls a function with its transport and the sender's address at its first datagram.

    Several are waiting when it comes, so that a transport may have received all of them at once.
    """

    def __init__(self, answer: Callable[[DatagramTransport, Any], None]) -> None:
        super().__init__()
        self._answer = answer

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        if data == b"0":
            self._answer(self.transport, addr)

    async def provoke(self, peer: socket.socket, count: int = 3) -> None:
        """Send it its datagrams."""
        for data in numbered(count):
            peer.sendto(data, self.transport.get_extra_info("sockname"))
        await self.until(lambda: self.data or self.losses)
        await turns(3)


async def test_what_is_sent_in_datagram_received_does_not_wait(loop: Loop) -> None:
    """Whoever looks finds that it has left."""
    found: list[bytes] = []
    sizes: list[int] = []

    def answer(transport: DatagramTransport, addr: Any) -> None:
        transport.sendto(b"answer", addr)
        sizes.append(transport.get_write_buffer_size())
        found.extend(receive_now(peer))

    protocol = Batch(answer)
    with udp_socket() as peer:
        async with endpoint(loop, protocol):
            await protocol.provoke(peer)
    assert (found, sizes) == ([b"answer"], [0])


async def test_abort_after_an_answer_in_datagram_received(loop: Loop) -> None:
    """The answer had left before."""

    def answer(transport: DatagramTransport, addr: Any) -> None:
        transport.sendto(b"goodbye", addr)
        transport.abort()

    protocol = Batch(answer)
    with udp_socket() as peer:
        async with endpoint(loop, protocol):
            await protocol.provoke(peer)
            assert receive_now(peer) == [b"goodbye"]
    assert protocol.data == [b"0"]


async def test_close_after_an_answer_in_datagram_received(loop: Loop) -> None:
    def answer(transport: DatagramTransport, addr: Any) -> None:
        transport.sendto(b"goodbye", addr)
        transport.close()

    protocol = Batch(answer)
    with udp_socket() as peer:
        async with endpoint(loop, protocol):
            await protocol.provoke(peer)
            assert receive_now(peer) == [b"goodbye"]
    assert protocol.names == ["connection_made", "datagram_received", "connection_lost"]


async def test_an_error_of_sendto_in_datagram_received_comes_at_once(loop: Loop) -> None:
    seen: list[int] = []

    def answer(transport: DatagramTransport, addr: Any) -> None:
        transport.sendto(b"x" * TOO_BIG, addr)
        seen.append(len(protocol.errors))

    protocol = Batch(answer)
    with udp_socket() as peer:
        async with endpoint(loop, protocol):
            await protocol.provoke(peer)
    assert seen == [1]
    assert protocol.data == numbered(3)


async def test_large_answers_that_the_kernel_takes_do_not_pause(loop: Loop) -> None:
    """Together they are above the high-water mark; but none of them had to wait."""

    def answer(transport: DatagramTransport, addr: Any) -> None:
        for _ in range(3):
            transport.sendto(b"x" * 40_000, addr)

    protocol = Batch(answer)
    with udp_socket() as peer:
        async with endpoint(loop, protocol):
            await protocol.provoke(peer)
            assert receive_now(peer) == [b"x" * 40_000] * 3
    assert protocol.names == ["connection_made", "datagram_received", "connection_lost"]


async def test_close_in_connection_made(loop: Loop) -> None:
    class Short(DatagramRecorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.close()

    protocol = Short()
    async with endpoint(loop, protocol):
        await protocol.until_lost()
    assert protocol.calls == [("connection_made",), ("connection_lost", None)]


async def test_abort_in_pause_writing(loop: Loop) -> None:
    class Impatient(DatagramRecorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.abort()

    protocol = Impatient()
    async with sending(loop, protocol) as (transport, _):
        transport.set_write_buffer_limits(high=0)
        fill_endpoint_or_close(transport)
        await protocol.until_lost()
    assert protocol.names == ["connection_made", "pause_writing", "connection_lost"]


def fill_endpoint_or_close(transport: Any) -> None:
    while not transport.is_closing():
        transport.sendto(b"x")


async def test_sendto_in_error_received(loop: Loop) -> None:
    class Retrying(DatagramRecorder):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.sendto(b"smaller")

    with udp_socket() as peer:
        async with endpoint(loop, Retrying(), remote_addr=peer.getsockname()) as transport:
            transport.sendto(b"x" * TOO_BIG)
            assert await receive(loop, peer, 1) == [b"smaller"]


# Pausing


@has_pausing
async def test_pausing_and_resuming(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            address = transport.get_extra_info("sockname")
            assert transport.is_reading() is True
            transport.pause_reading()
            transport.pause_reading()
            assert transport.is_reading() is False
            peer.sendto(b"kept by the kernel", address)
            await readable(loop, transport.get_extra_info("socket"))
            await turns(3)
            assert protocol.data == []
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading() is True
            assert await protocol.until_received(1) == [b"kept by the kernel"]
            transport.close()
            assert transport.is_reading() is False
            transport.pause_reading()
            transport.resume_reading()
            assert transport.is_reading() is False


@has_pausing
async def test_paused_in_connection_made(loop: Loop) -> None:
    class Paused(DatagramRecorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    protocol = Paused()
    sock = udp_socket()
    with udp_socket() as peer:
        peer.sendto(b"early", sock.getsockname())
        async with endpoint(loop, protocol, sock=sock) as transport:
            await turns(3)
            assert protocol.data == []
            transport.resume_reading()
            await protocol.until_received(1)


@has_pausing
async def test_an_error_waits_while_reading_is_paused(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with deaf_port() as port:
        async with endpoint(loop, protocol, remote_addr=("127.0.0.1", port)) as transport:
            transport.pause_reading()
            transport.sendto(b"anybody?")
            await turns(5)
            assert protocol.errors == []
            transport.resume_reading()
            assert type(await protocol.until_error()) is ConnectionRefusedError


@has_pausing
async def test_sending_goes_on_while_reading_is_paused(loop: Loop) -> None:
    async with sending(loop, DatagramRecorder()) as (transport, peer):
        transport.pause_reading()
        sent = fill_endpoint(transport)
        assert await receive(loop, peer, sent) == numbered(sent)


# The end


async def test_close_sends_what_is_queued(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        sent = fill_endpoint(transport)
        for data in numbered(100, sent):
            transport.sendto(data)
        transport.close()
        transport.close()
        assert transport.is_closing()
        await turns(3)
        assert protocol.losses == [], "not before the queue is empty"
        assert await receive(loop, peer, sent + 100) == numbered(sent + 100)
        await protocol.until_lost()
        await turns(2)
        assert transport.get_extra_info("socket").fileno() == -1
    assert protocol.losses == [None]


async def test_close_receives_no_more(loop: Loop) -> None:
    """Also not while it still sends."""
    protocol = DatagramRecorder()
    name, ours = abstract_name(), abstract_name()
    options = {"local_addr": ours, "remote_addr": name, "family": socket.AF_UNIX}
    with unix_socket(name) as peer:
        async with endpoint(loop, protocol, **options) as transport:
            sent = fill_endpoint(transport)
            transport.close()
            peer.sendto(b"too late", ours)
            await turns(3)
            assert await receive(loop, peer, sent) == numbered(sent)
            await protocol.until_lost()
    assert protocol.names == ["connection_made", "connection_lost"]


async def test_abort_drops_what_is_queued(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        sent = fill_endpoint(transport)
        transport.sendto(b"never")
        transport.abort()
        assert transport.is_closing()
        assert protocol.losses == [], "from the loop, not from abort()"
        await protocol.until_lost()
        assert receive_now(peer) == numbered(sent - 1)
    assert protocol.losses == [None]


async def test_abort_while_close_waits(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        sent = fill_endpoint(transport)
        transport.close()
        transport.abort()
        transport.abort()
        await protocol.until_lost()
        assert receive_now(peer) == numbered(sent - 1)
    assert protocol.losses == [None]


async def test_close_comes_from_the_loop(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol) as transport:
        assert transport.is_closing() is False
        transport.close()
        transport.abort()
        assert transport.is_closing() is True
        assert protocol.losses == []
        await protocol.until_lost()
        await turns(2)
        transport.close()
        assert transport.is_closing() is True
    assert protocol.losses == [None]


async def test_close_with_a_queue_that_cannot_be_sent(loop: Loop) -> None:
    """Its errors are received before the end."""
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        fill_endpoint(transport)
        transport.sendto(b"second")
        transport.close()
        peer.close()
        await protocol.until_lost()
        assert len(protocol.errors) == 2
    assert protocol.names == ["connection_made", "error_received", "connection_lost"]
    assert protocol.losses == [None]


async def test_sendto_while_close_flushes_is_queued_behind(loop: Loop) -> None:
    async with sending(loop, DatagramRecorder()) as (transport, peer):
        sent = fill_endpoint(transport)
        transport.close()
        transport.sendto(b"after close")
        assert await receive(loop, peer, sent + 1) == [*numbered(sent), b"after close"]


async def test_sendto_a_peer_after_close_is_dropped(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """The first five are dropped silently, then each is logged."""
    protocol = DatagramRecorder()
    with udp_socket() as peer:
        async with endpoint(loop, protocol, remote_addr=peer.getsockname()) as transport:
            transport.close()
            for _ in range(4):
                transport.sendto(b"dropped")
            assert records(caplog, "WARNING") == []
            transport.sendto(b"dropped")
            assert records(caplog, "WARNING") == ["socket.send() raised exception."]
            await protocol.until_lost()
            await turns(1)
            transport.sendto(b"dropped")
            assert records(caplog, "WARNING") == ["socket.send() raised exception."] * 2
            assert receive_now(peer) == []


async def test_sendto_is_still_checked_after_close(loop: Loop) -> None:
    with udp_socket() as peer:
        async with endpoint(loop, DatagramRecorder(), remote_addr=peer.getsockname()) as transport:
            transport.close()
            with pytest.raises(TypeError, match=r"^data argument must be a bytes-like object"):
                transport.sendto("text")
            with pytest.raises(ValueError, match=r"^Invalid address: must be None or "):
                transport.sendto(b"x", ("127.0.0.1", 1))


@oracle_never("AttributeError, its socket having gone")
async def test_sendto_an_address_after_the_end_is_dropped(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            transport.close()
            await protocol.until_lost()
            await turns(1)
            for _ in range(3):
                transport.sendto(b"dropped", peer.getsockname())
            assert receive_now(peer) == []
    assert protocol.names == ["connection_made", "connection_lost"]


@oracle_never("AttributeError, its loop having gone")
async def test_abort_after_a_flush_does_nothing(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, peer):
        sent = fill_endpoint(transport)
        transport.close()
        await receive(loop, peer, sent)
        await protocol.until_lost()
        await turns(2)
        transport.abort()
    assert protocol.losses == [None]


async def test_the_transport_lets_go_after_connection_lost(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol) as transport:
        transport.close()
        await protocol.until_lost()
        await turns(2)
        assert transport.get_protocol() is None
    reference = weakref.ref(protocol)
    del protocol.transport
    del protocol
    gc.collect()
    assert reference() is None


async def test_a_forgotten_transport_receives_on(loop: Loop) -> None:
    """While it reads, the loop keeps it."""
    protocol = DatagramRecorder()
    await loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0))
    address = protocol.transport.get_extra_info("sockname")
    reference = weakref.ref(protocol.transport)
    del protocol.transport
    gc.collect()
    with udp_socket() as peer:
        for count, data in enumerate(numbered(3), 1):
            peer.sendto(data, address)
            await protocol.until_received(count)
            gc.collect()
    protocol.transport = reference()
    await finish(protocol)


@has_pausing
async def test_a_forgotten_transport_warns_and_closes(loop: Loop) -> None:
    """The loop does not keep a paused, idle transport alive; dropping it is the program's bug."""
    before = open_descriptors()
    transport: Any
    transport, protocol = await loop.create_datagram_endpoint(
        DatagramRecorder, local_addr=("127.0.0.1", 0)
    )
    transport.pause_reading()
    await turns(2)
    with pytest.warns(ResourceWarning, match=r"^unclosed transport <"):
        del protocol.transport, transport
        del protocol
        gc.collect()
    assert open_descriptors() == before


def test_a_loop_is_closed_with_an_endpoint_open(loop_factory: LoopFactory) -> None:
    """Somebody has to close its socket, and the program is told that it did not."""
    before = open_descriptors()
    loop = loop_factory()
    made = loop.create_datagram_endpoint(DatagramRecorder, local_addr=("127.0.0.1", 0))
    transport, protocol = loop.run_until_complete(made)
    with pytest.warns(ResourceWarning, match="unclosed"):
        loop.close()
        del loop, made, transport, protocol
        gc.collect()
    assert open_descriptors() == before


# What it tells about itself


async def test_extra_info_over_udp(loop: Loop) -> None:
    with udp_socket() as peer:
        address = peer.getsockname()
        async with endpoint(loop, DatagramRecorder(), remote_addr=address) as transport:
            peer.connect(transport.get_extra_info("sockname"))
            assert transport.get_extra_info("sockname") == peer.getpeername()
            assert transport.get_extra_info("peername") == address
            assert transport.get_extra_info("no such thing") is None
            assert transport.get_extra_info("no such thing", "default") == "default"
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, TransportSocket)
            assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_DGRAM)
            assert sock.getsockname() == peer.getpeername()
            assert sock.getpeername() == address
            assert sock.gettimeout() == 0
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1


async def test_an_unconnected_socket_has_no_peer(loop: Loop) -> None:
    async with endpoint(loop, DatagramRecorder()) as transport:
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("peername", "default") is None


async def test_extra_info_after_close(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with udp_socket() as peer:
        address = peer.getsockname()
        async with endpoint(loop, protocol, remote_addr=address) as transport:
            sockname = transport.get_extra_info("sockname")
            transport.close()
            await protocol.until_lost()
            await turns(1)
            assert transport.get_extra_info("sockname") == sockname
            assert transport.get_extra_info("peername") == address
            assert transport.get_extra_info("socket").fileno() == -1


@oracle_since((3, 12), "its class does not derive from DatagramTransport")
async def test_its_class(loop: Loop) -> None:
    async with endpoint(loop, DatagramRecorder()) as transport:
        assert isinstance(transport, asyncio.DatagramTransport)


async def test_its_class_in_every_version(loop: Loop) -> None:
    async with endpoint(loop, DatagramRecorder()) as transport:
        assert isinstance(transport, asyncio.BaseTransport)


async def test_repr(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with sending(loop, protocol) as (transport, _):
        await turns(1)
        number = transport.get_extra_info("socket").fileno()
        pattern = rf"^<\w+ fd={number} read=polling write=<idle, bufsize=0>>$"
        assert re.match(pattern, repr(transport))
        fill_endpoint(transport)
        size = transport.get_write_buffer_size()
        assert f"write=<polling, bufsize={size}>" in repr(transport)
        transport.close()
        assert re.match(rf"^<\w+ closing fd={number} read=idle ", repr(transport))
        transport.abort()
        await protocol.until_lost()
        await turns(1)
        assert re.match(rf"^<\w+ closed fd={number}>$", repr(transport))


@has_pausing
async def test_repr_while_paused(loop: Loop) -> None:
    async with endpoint(loop, DatagramRecorder()) as transport:
        transport.pause_reading()
        assert " read=idle " in repr(transport)
        transport.resume_reading()
        assert " read=polling " in repr(transport)


async def test_its_descriptor_is_its_own(loop: Loop) -> None:
    """Neither add_reader() nor add_writer() may have it, nor their counterparts."""
    async with endpoint(loop, DatagramRecorder()) as transport:
        sock = transport.get_extra_info("socket")
        text = rf"^File descriptor {sock.fileno()} is used by transport <"
        for operation in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=text):
                operation(sock.fileno(), print)
        for removal in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match=text):
                removal(sock.fileno())


async def test_its_descriptor_is_free_afterwards(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol) as transport:
        number = transport.get_extra_info("socket").fileno()
        transport.close()
        await protocol.until_lost()
        await turns(1)
        assert loop.remove_reader(number) is False


# Contexts

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Contextual(DatagramRecorder):
    """Notes in which context it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, str] = {}

    def note(self, *call: Any) -> None:
        self.seen[call[0]] = variable.get()
        super().note(*call)


async def test_the_creators_context(loop: Loop) -> None:
    """What is received comes in the creator's context, whoever has made the loop turn since."""
    protocol = Contextual()
    variable.set("creator")
    with deaf_port() as port, udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            variable.set("later")
            peer.sendto(b"x", transport.get_extra_info("sockname"))
            await protocol.until_received(1)
        assert protocol.seen["connection_made"] == "creator"
        assert protocol.seen["datagram_received"] == "creator"
        refused = Contextual()
        variable.set("creator")
        async with endpoint(loop, refused, remote_addr=("127.0.0.1", port)) as transport:
            variable.set("later")
            transport.sendto(b"anybody?")
            await refused.until_error()
    assert refused.seen["error_received"] == "creator"


async def test_a_context_of_each_call(loop: Loop) -> None:
    """What connection_made() sets is not seen in datagram_received()."""

    class Setting(Contextual):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            variable.set("connection_made")

    protocol = Setting()
    variable.set("creator")
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            peer.sendto(b"x", transport.get_extra_info("sockname"))
            await protocol.until_received(1)
    assert protocol.seen["datagram_received"] == "creator"
    assert variable.get() == "creator"


async def test_the_senders_context(loop: Loop) -> None:
    """pause_writing() and the errors of sendto() come inside sendto()."""
    protocol = Contextual()
    variable.set("creator")
    async with sending(loop, protocol) as (transport, _):
        transport.set_write_buffer_limits(high=0)
        variable.set("sender")
        transport.sendto(b"x" * 1_000_000)
        fill_endpoint(transport)
    assert protocol.seen["error_received"] == "sender"
    assert protocol.seen["pause_writing"] == "sender"


# Exceptions out of the protocol


class Oops(Exception):
    """Raised by the protocols under test."""


def failing(callback: str) -> Any:
    """A recording protocol whose `callback` raises after it has recorded its call."""

    def fail(self: Any, *args: Any) -> Any:
        getattr(DatagramRecorder, callback)(self, *args)
        raise Oops(callback)

    return type("Failing", (DatagramRecorder,), {callback: fail})()


def check_callback(context: dict[str, Any]) -> None:
    """The report of a callback of the loop that has failed."""
    assert set(context) == {"message", "exception", "handle"}
    assert context["message"].startswith("Exception in callback ")
    assert isinstance(context["exception"], Oops)


async def test_datagram_received_raises(loop: Loop, errors: Errors) -> None:
    """Reported for each datagram; the endpoint goes on."""
    protocol = failing("datagram_received")
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            for data in numbered(3):
                peer.sendto(data, transport.get_extra_info("sockname"))
            assert await protocol.until_received(3) == numbered(3)
            contexts = errors.take()
            assert len(contexts) == 3
            for context in contexts:
                check_callback(context)
            assert not transport.is_closing()
            transport.sendto(b"goes on", peer.getsockname())
            assert await receive(loop, peer, 1) == [b"goes on"]
    assert protocol.losses == [None]


async def test_error_received_raises_while_receiving(loop: Loop, errors: Errors) -> None:
    protocol = failing("error_received")
    with deaf_port() as port:
        async with endpoint(loop, protocol, remote_addr=("127.0.0.1", port)) as transport:
            transport.sendto(b"anybody?")
            await protocol.until_error()
            check_callback(errors.take_one())
            assert not transport.is_closing()
    assert protocol.losses == [None]


async def test_error_received_raises_in_sendto(loop: Loop) -> None:
    """It was called there, so its exception is the sender's."""
    protocol = failing("error_received")
    with udp_socket() as peer:
        async with endpoint(loop, protocol, remote_addr=peer.getsockname()) as transport:
            with pytest.raises(Oops):
                transport.sendto(b"x" * TOO_BIG)
            transport.sendto(b"goes on")
            assert await receive(loop, peer, 1) == [b"goes on"]


async def test_error_received_raises_while_the_queue_is_sent(loop: Loop, errors: Errors) -> None:
    """Reported; what stands behind is sent."""
    protocol = failing("error_received")
    async with sending(loop, protocol) as (transport, peer):
        sent = fill_endpoint(transport)
        transport.sendto(b"x" * 1_000_000)
        transport.sendto(b"behind")
        assert await receive(loop, peer, sent + 1) == [*numbered(sent), b"behind"]
        check_callback(errors.take_one())


async def test_connection_made_raises(loop: Loop, errors: Errors) -> None:
    protocol = failing("connection_made")
    with udp_socket() as peer:
        async with endpoint(loop, protocol) as transport:
            check_callback(errors.take_one())
            peer.sendto(b"and on", transport.get_extra_info("sockname"))
            assert await protocol.until_received(1) == [b"and on"]


async def test_connection_lost_raises(loop: Loop, errors: Errors) -> None:
    protocol = failing("connection_lost")
    async with endpoint(loop, protocol) as transport:
        transport.close()
        await protocol.until_lost()
        await turns(2)
        check_callback(errors.take_one())
        assert transport.get_extra_info("socket").fileno() == -1


async def test_connection_lost_raises_after_a_flush(loop: Loop, errors: Errors) -> None:
    protocol = failing("connection_lost")
    async with sending(loop, protocol) as (transport, peer):
        sent = fill_endpoint(transport)
        transport.close()
        assert await receive(loop, peer, sent) == numbered(sent)
        await protocol.until_lost()
        await turns(2)
        check_callback(errors.take_one())
        assert transport.get_extra_info("socket").fileno() == -1


@pytest.mark.parametrize("callback", ["pause_writing", "resume_writing"])
@counts_down
async def test_flow_control_raises(loop: Loop, errors: Errors, callback: str) -> None:
    """Reported, not fatal."""
    protocol = failing(callback)
    async with sending(loop, protocol) as (transport, peer):
        transport.set_write_buffer_limits(high=0)
        sent = fill_endpoint(transport)
        assert await receive(loop, peer, sent) == numbered(sent)
        await protocol.until(lambda: protocol.names[-1] == "resume_writing")
        context = errors.take_one()
        assert set(context) == {"message", "exception", "transport", "protocol"}
        assert context["message"] == f"protocol.{callback}() failed"
        assert isinstance(context["exception"], Oops)
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        transport.sendto(b"goes on")
        assert await receive(loop, peer, 1) == [b"goes on"]


async def test_a_protocol_without_the_method(loop: Loop, errors: Errors) -> None:
    """That it lacks a method is noticed, and reported, when the method is called."""
    transport: DatagramTransport
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.BaseProtocol,
        local_addr=("127.0.0.1", 0),
    )
    with udp_socket() as peer:
        peer.sendto(b"x", transport.get_extra_info("sockname"))
        peer.sendto(b"y", transport.get_extra_info("sockname"))
        await turns(5)
    contexts = errors.take()
    assert len(contexts) == 2
    for context in contexts:
        assert set(context) == {"message", "exception", "handle"}
        text = "'BaseProtocol' object has no attribute 'datagram_received'"
        assert isinstance(context["exception"], AttributeError)
        assert str(context["exception"]) == text
    with pytest.raises(AttributeError, match=r"'error_received'$"):
        transport.sendto(b"x" * TOO_BIG, ("127.0.0.1", 9))
    transport.close()
    await turns(3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exits_go_through(loop: Loop, error: type[BaseException]) -> None:
    """They end the run, not the endpoint, and no datagram is lost by it."""

    class Leaving(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"0":
                raise error

    protocol = Leaving()
    loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0))
    )
    with udp_socket() as peer:
        for data in numbered(3):
            peer.sendto(data, protocol.transport.get_extra_info("sockname"))
        with pytest.raises(error):
            loop.run_forever()
        delivered = protocol.data
        loop.run_until_complete(protocol.until_received(3))
    loop.run_until_complete(finish(protocol))
    assert delivered == [b"0"]
    assert protocol.data == numbered(3)


async def test_addresses_of_many_peers(loop: Loop) -> None:
    """More than are remembered; answers reach whom they are for, at once and later."""
    protocol = DatagramRecorder()
    async with endpoint(loop, protocol) as transport:
        address = transport.get_extra_info("sockname")
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(udp_socket()) for _ in range(100)]
            for turn in range(2):
                for peer in peers:
                    peer.sendto(b"hello", address)
                    await protocol.until(lambda: protocol.received)
                    data, sender = protocol.received.pop()
                    assert (data, sender) == (b"hello", peer.getsockname())
                    assert type(sender) is tuple
                    transport.sendto(b"%d" % turn, sender)
                    assert await receive(loop, peer, 1) == [b"%d" % turn]
            for peer in peers:
                transport.sendto(b"later", peer.getsockname())
                assert await receive(loop, peer, 1) == [b"later"]
