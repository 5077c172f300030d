"""Layer 1: sock_recvfrom, sock_recvfrom_into and sock_sendto."""

from __future__ import annotations

import array
import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .datagrams import (
    DatagramRecorder,
    abstract_name,
    connected_udp_pair,
    deaf_port,
    endpoint,
    fill_socket,
    numbered,
    udp_socket,
    unix_datagram_pair,
    unix_socket,
)
from .support import (
    Loop,
    open_descriptors,
    oracle_never,
    oracle_since,
    tcp_pair,
    turns,
    unix_pair,
)

# aioxide has them on 3.10 too.
pytestmark = oracle_since((3, 11), "there are no such methods")

#: Where two sockets send to each other: the sockets, and the address of each.
Ends = tuple[socket.socket, socket.socket, Any, Any]

#: More than the payload of any UDP datagram over IPv4, which is 65,507 bytes.
TOO_BIG = 66_000


def udp_ends() -> Ends:
    left, right = udp_socket(), udp_socket()
    return left, right, left.getsockname(), right.getsockname()


def udp6_ends() -> Ends:
    left, right = udp_socket(socket.AF_INET6), udp_socket(socket.AF_INET6)
    return left, right, left.getsockname(), right.getsockname()


def unix_ends() -> Ends:
    left, right = unix_socket(abstract_name()), unix_socket(abstract_name())
    return left, right, left.getsockname(), right.getsockname()


@pytest.fixture(params=[udp_ends, udp6_ends, unix_ends])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    found = request.param()
    with found[0], found[1]:
        yield found


# Receiving


async def test_there_and_back(loop: Loop, ends: Ends) -> None:
    left, right, left_address, right_address = ends
    assert await loop.sock_sendto(left, b"question", right_address) == 8
    assert await loop.sock_recvfrom(right, 100) == (b"question", left_address)
    assert await loop.sock_sendto(right, b"answer", left_address) == 6
    buffer = bytearray(100)
    assert await loop.sock_recvfrom_into(left, buffer) == (6, right_address)
    assert buffer[:7] == b"answer\0"


async def test_receive_waits(loop: Loop, ends: Ends) -> None:
    left, right, left_address, right_address = ends
    task = loop.create_task(loop.sock_recvfrom(left, 100))
    await turns(3)
    assert not task.done()
    right.sendto(b"now", left_address)
    assert await task == (b"now", right_address)
    assert loop.remove_reader(left) is False, "nothing stays registered"


async def test_receive_into_waits(loop: Loop, ends: Ends) -> None:
    left, right, left_address, right_address = ends
    buffer = bytearray(b"........")
    task = loop.create_task(loop.sock_recvfrom_into(left, memoryview(buffer)[2:6]))
    await turns(3)
    assert not task.done()
    right.sendto(b"now", left_address)
    assert await task == (3, right_address)
    assert buffer == b"..now..."
    assert loop.remove_reader(left) is False


async def test_the_types_of_what_is_received(loop: Loop) -> None:
    left, right, left_address, _ = udp_ends()
    with left, right:
        for waits in (False, True):
            task = loop.create_task(loop.sock_recvfrom(left, 100))
            if waits:
                await turns(2)
            right.sendto(b"x", left_address)
            found = await task
            assert type(found) is tuple
            assert type(found[0]) is bytes
            assert type(found[1]) is tuple


async def test_datagrams_keep_their_borders_and_order(loop: Loop, ends: Ends) -> None:
    left, right, left_address, right_address = ends
    for data in numbered(10):
        right.sendto(data, left_address)
    found = [await loop.sock_recvfrom(left, 100) for _ in range(10)]
    assert found == [(data, right_address) for data in numbered(10)]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_empty_datagram(loop: Loop, ends: Ends, waits: bool) -> None:
    left, right, left_address, right_address = ends
    task = loop.create_task(loop.sock_recvfrom(left, 100))
    if waits:
        await turns(2)
    assert await loop.sock_sendto(right, b"", left_address) == 0
    assert await task == (b"", right_address)
    into = loop.create_task(loop.sock_recvfrom_into(left, bytearray(10)))
    if waits:
        await turns(2)
    await loop.sock_sendto(right, b"", left_address)
    assert await into == (0, right_address)


@pytest.mark.parametrize("waits", [False, True])
async def test_what_is_too_long_is_cut_off(loop: Loop, ends: Ends, waits: bool) -> None:
    """The rest of the datagram is gone, it does not come with the next one."""
    left, right, left_address, right_address = ends
    task = loop.create_task(loop.sock_recvfrom(left, 3))
    if waits:
        await turns(2)
    right.sendto(b"abcdef", left_address)
    assert await task == (b"abc", right_address)
    buffer = bytearray(3)
    into = loop.create_task(loop.sock_recvfrom_into(left, buffer))
    if waits:
        await turns(2)
    right.sendto(b"ghijkl", left_address)
    right.sendto(b"next", left_address)
    assert await into == (3, right_address)
    assert buffer == b"ghi"
    assert await loop.sock_recvfrom(left, 100) == (b"next", right_address)


@pytest.mark.parametrize("waits", [False, True])
async def test_receiving_nothing_takes_a_datagram(loop: Loop, waits: bool) -> None:
    left, right, left_address, right_address = udp_ends()
    with left, right:
        task = loop.create_task(loop.sock_recvfrom(left, 0))
        if waits:
            await turns(2)
            assert not task.done()
        right.sendto(b"gone", left_address)
        assert await task == (b"", right_address)
        into = loop.create_task(loop.sock_recvfrom_into(left, bytearray()))
        if waits:
            await turns(2)
            assert not into.done()
        right.sendto(b"gone too", left_address)
        assert await into == (0, right_address)
        right.sendto(b"next", left_address)
        assert await loop.sock_recvfrom(left, 10) == (b"next", right_address)


@pytest.mark.parametrize("waits", [False, True])
async def test_receive_a_part_of_the_buffer(loop: Loop, ends: Ends, waits: bool) -> None:
    """By position and by name; zero is all of it."""
    left, right, left_address, right_address = ends
    for options, expected in (((2,), b"ab...."), ((0,), b"abcd.."), ((6,), b"abcd..")):
        buffer = bytearray(b"......")
        task = loop.create_task(loop.sock_recvfrom_into(left, buffer, *options))
        if waits:
            await turns(2)
        right.sendto(b"abcd", left_address)
        assert await task == (min(4, options[0] or 4), right_address)
        assert buffer == expected
    right.sendto(b"abcd", left_address)
    into = loop.sock_recvfrom_into(sock=left, buf=bytearray(10), nbytes=1)
    assert await into == (1, right_address)
    right.sendto(b"abcd", left_address)
    assert await loop.sock_recvfrom(sock=left, bufsize=2) == (b"ab", right_address)


async def test_receive_into_an_array(loop: Loop) -> None:
    left, right, left_address, right_address = udp_ends()
    with left, right:
        numbers = array.array("B", [0, 0, 0])
        right.sendto(b"\1\2", left_address)
        assert await loop.sock_recvfrom_into(left, numbers) == (2, right_address)
        assert numbers.tolist() == [1, 2, 0]


async def test_a_sender_without_a_name(loop: Loop) -> None:
    left, right = unix_datagram_pair()
    with left, right:
        right.send(b"x")
        assert await loop.sock_recvfrom(left, 10) == (b"x", None)
        right.send(b"y")
        assert await loop.sock_recvfrom_into(left, bytearray(10)) == (1, None)


async def test_a_large_datagram(loop: Loop, ends: Ends) -> None:
    left, right, left_address, right_address = ends
    data = bytes(range(256)) * 240
    task = loop.create_task(loop.sock_recvfrom(left, 1 << 16))
    assert await loop.sock_sendto(right, data, left_address) == len(data)
    assert await task == (data, right_address)


async def test_two_sockets_at_once(loop: Loop, ends: Ends) -> None:
    left, right, left_address, right_address = ends

    async def count(sock: socket.socket, address: Any) -> list[bytes]:
        found = []
        for data in numbered(200):
            await loop.sock_sendto(sock, data, address)
            found.append((await loop.sock_recvfrom(sock, 100))[0])
        return found

    counts = [count(left, right_address), count(right, left_address)]
    assert await asyncio.gather(*counts) == [numbered(200), numbered(200)]


@oracle_never("the second takes the place of the first, which waits for ever")
async def test_two_receivers_take_turns(loop: Loop, ends: Ends) -> None:
    left, right, left_address, right_address = ends
    first = loop.create_task(loop.sock_recvfrom(left, 10))
    await turns(2)
    second = loop.create_task(loop.sock_recvfrom_into(left, bytearray(10)))
    await turns(2)
    right.sendto(b"1", left_address)
    assert await first == (b"1", right_address)
    await turns(2)
    assert not second.done()
    right.sendto(b"22", left_address)
    assert await second == (2, right_address)


async def test_receiving_after_a_refusal(loop: Loop) -> None:
    with deaf_port() as port, udp_socket() as sock:
        sock.connect(("127.0.0.1", port))
        for receive in (
            lambda: loop.sock_recvfrom(sock, 10),
            lambda: loop.sock_recvfrom_into(sock, bytearray(10)),
        ):
            task = loop.create_task(receive())
            await turns(2)
            sock.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError, match=r"^\[Errno 111\] Connection refused$"):
                await task


# Sending


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
async def test_what_can_be_sent(loop: Loop, wrap: Callable[[bytes], Any]) -> None:
    left, right, left_address, right_address = udp_ends()
    with left, right:
        assert await loop.sock_sendto(left, wrap(b"content"), right_address) == 7
        assert await loop.sock_recvfrom(right, 100) == (b"content", left_address)


async def test_views_are_sent_as_bytes(loop: Loop) -> None:
    numbers = array.array("I", [1, 2, 3])
    left, right, _, right_address = udp_ends()
    with left, right:
        for data in (numbers, memoryview(numbers)):
            assert await loop.sock_sendto(left, data, right_address) == 12
            assert (await loop.sock_recvfrom(right, 100))[0] == numbers.tobytes()


async def test_an_ipv6_address_of_two_parts(loop: Loop) -> None:
    left, right, left_address, right_address = udp6_ends()
    with left, right:
        await loop.sock_sendto(left, b"x", right_address[:2])
        assert await loop.sock_recvfrom(right, 10) == (b"x", left_address)


async def test_a_name_is_resolved_at_once(loop: Loop) -> None:
    left, right, left_address, right_address = udp_ends()
    with left, right:
        await loop.sock_sendto(left, b"x", ("localhost", right_address[1]))
        assert await loop.sock_recvfrom(right, 10) == (b"x", left_address)
        with pytest.raises(socket.gaierror):
            await loop.sock_sendto(left, b"x", ("no.such.host.invalid", 1))


async def test_an_unbound_sender(loop: Loop) -> None:
    with udp_socket() as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        await loop.sock_sendto(sender, b"x", receiver.getsockname())
        _, address = await loop.sock_recvfrom(receiver, 10)
        assert address == ("127.0.0.1", sender.getsockname()[1])


async def test_an_address_beside_that_of_the_peer(loop: Loop) -> None:
    """A connected UDP socket sends where it is told to."""
    left, right = connected_udp_pair()
    with left, right, udp_socket() as other:
        await loop.sock_sendto(left, b"x", other.getsockname())
        assert await loop.sock_recvfrom(other, 10) == (b"x", left.getsockname())


@pytest.mark.parametrize("make_ends", [udp_ends, unix_ends])
async def test_too_big_a_datagram(loop: Loop, make_ends: Callable[[], Ends]) -> None:
    left, right, left_address, right_address = make_ends()
    with left, right:
        with pytest.raises(OSError, match=r"^\[Errno 90\] Message too long$") as caught:
            await loop.sock_sendto(left, bytes(1_000_000), right_address)
        assert caught.value.errno == 90
        await loop.sock_sendto(left, b"small", right_address)
        assert await loop.sock_recvfrom(right, 10) == (b"small", left_address)


async def test_just_too_big_a_datagram(loop: Loop) -> None:
    left, right, left_address, right_address = udp_ends()
    with left, right:
        assert await loop.sock_sendto(left, bytes(65_507), right_address) == 65_507
        assert await loop.sock_recvfrom(right, TOO_BIG) == (bytes(65_507), left_address)
        with pytest.raises(OSError, match=r"^\[Errno 90\] Message too long$"):
            await loop.sock_sendto(left, bytes(65_508), right_address)


async def test_sending_waits_for_room(loop: Loop) -> None:
    left, right, left_address, right_address = unix_ends()
    with left, right:
        filled = fill_socket(left, right_address)
        task = loop.create_task(loop.sock_sendto(left, b"waited", right_address))
        await turns(5)
        assert not task.done()
        expected = [*filled, b"waited"]
        found = [await loop.sock_recvfrom(right, 100) for _ in expected]
        assert found == [(data, left_address) for data in expected]
        assert await task == 6
        assert loop.remove_writer(left) is False, "nothing stays registered"


async def test_sending_waits_for_room_on_a_connected_socket(loop: Loop) -> None:
    left, right, _, right_address = unix_ends()
    with left, right:
        left.connect(right_address)
        filled = fill_socket(left, right_address)
        task = loop.create_task(loop.sock_sendto(left, b"waited", right_address))
        await turns(5)
        assert not task.done()
        for _ in filled:
            await loop.sock_recvfrom(right, 100)
        assert await task == 6
        assert (await loop.sock_recvfrom(right, 100))[0] == b"waited"


async def test_many_in_order(loop: Loop) -> None:
    """A sender that waits all the time."""
    left, right, left_address, right_address = unix_ends()
    with left, right:

        async def send() -> None:
            for data in numbered(2000):
                await loop.sock_sendto(left, data, right_address)

        task = loop.create_task(send())
        found = [await loop.sock_recvfrom(right, 100) for _ in range(2000)]
        await task
        assert found == [(data, left_address) for data in numbered(2000)]


async def test_the_peer_goes_while_a_sender_waits(loop: Loop) -> None:
    left, right, _, right_address = unix_ends()
    with left, right:
        fill_socket(left, right_address)
        task = loop.create_task(loop.sock_sendto(left, b"waited", right_address))
        await turns(2)
        right.close()
        with pytest.raises(ConnectionRefusedError, match=r"^\[Errno 111\] Connection refused$"):
            await task


async def test_sending_and_receiving_at_once_on_one_socket(loop: Loop) -> None:
    """A sender that waits does not hold up a receiver, nor the other way round."""
    left, right, left_address, right_address = unix_ends()
    with left, right:
        filled = fill_socket(left, right_address)
        sending = loop.create_task(loop.sock_sendto(left, b"out", right_address))
        receiving = loop.create_task(loop.sock_recvfrom(left, 10))
        await turns(2)
        await loop.sock_sendto(right, b"in", left_address)
        assert await receiving == (b"in", right_address)
        assert not sending.done()
        for _ in filled:
            await loop.sock_recvfrom(right, 10)
        assert await sending == 3


# Cancellation


@pytest.mark.parametrize("name", ["sock_recvfrom", "sock_recvfrom_into", "sock_sendto"])
async def test_cancelled_while_waiting(loop: Loop, name: str) -> None:
    """The socket stays open and usable, and nothing is lost that arrives afterwards."""
    left, right, left_address, right_address = unix_ends()
    with left, right:
        filled = fill_socket(left, right_address)
        operations: dict[str, Callable[[], Any]] = {
            "sock_recvfrom": lambda: loop.sock_recvfrom(left, 10),
            "sock_recvfrom_into": lambda: loop.sock_recvfrom_into(left, bytearray(10)),
            "sock_sendto": lambda: loop.sock_sendto(left, b"cancelled", right_address),
        }
        before = open_descriptors()
        task = loop.create_task(operations[name]())
        await turns(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(1)
        assert loop.remove_reader(left) is False, "nothing stays registered"
        assert loop.remove_writer(left) is False
        assert open_descriptors() == before
        right.sendto(b"after", left_address)
        assert await loop.sock_recvfrom(left, 10) == (b"after", right_address)
        sending = loop.create_task(loop.sock_sendto(left, b"sent", right_address))
        expected = [*filled, b"sent"]
        assert [(await loop.sock_recvfrom(right, 10))[0] for _ in expected] == expected
        await sending


async def test_cancelled_before_the_first_step(loop: Loop) -> None:
    left, right, left_address, right_address = udp_ends()
    with left, right:
        right.sendto(b"kept", left_address)
        task = loop.create_task(loop.sock_recvfrom(left, 10))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sending = loop.create_task(loop.sock_sendto(left, b"never", right_address))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert await loop.sock_recvfrom(left, 10) == (b"kept", right_address)
        with pytest.raises(BlockingIOError):
            right.recv(10)


async def test_a_cancelled_receiver_takes_no_datagram(loop: Loop) -> None:
    """Cancelled in the same iteration in which the socket became readable."""
    left, right, left_address, right_address = udp_ends()
    with left, right:
        task = loop.create_task(loop.sock_recvfrom(left, 10))
        await turns(1)
        right.sendto(b"kept", left_address)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recvfrom(left, 10) == (b"kept", right_address)


async def test_a_timeout_around_a_receive(loop: Loop) -> None:
    left, right, left_address, right_address = udp_ends()
    with left, right:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recvfrom(left, 1), 0.001)
        right.sendto(b"x", left_address)
        assert await loop.sock_recvfrom(left, 1) == (b"x", right_address)


# Wrong sockets, wrong arguments


async def test_a_stream_socket_receives_without_an_address(loop: Loop) -> None:
    for left, right in (tcp_pair(), unix_pair()):
        with left, right:
            right.send(b"stream")
            assert await loop.sock_recvfrom(left, 3) == (b"str", None)
            buffer = bytearray(10)
            task = loop.create_task(loop.sock_recvfrom_into(left, buffer))
            assert await task == (3, None)
            waiting = loop.create_task(loop.sock_recvfrom(left, 3))
            await turns(2)
            right.close()
            assert await waiting == (b"", None), "the end of the stream"


async def test_a_connected_stream_socket_sends_to_its_peer(loop: Loop) -> None:
    """TCP ignores the address; a Unix stream socket refuses it."""
    left, right = tcp_pair()
    with left, right:
        assert await loop.sock_sendto(left, b"abc", ("127.0.0.1", 1)) == 3
        assert await loop.sock_recv(right, 10) == b"abc"
    left, right = unix_pair()
    with left, right:
        text = r"^\[Errno 106\] Transport endpoint is already connected$"
        with pytest.raises(OSError, match=text):
            await loop.sock_sendto(left, b"abc", abstract_name())


async def test_an_unconnected_stream_socket(loop: Loop) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(BrokenPipeError, match=r"^\[Errno 32\] Broken pipe$"):
            await loop.sock_sendto(sock, b"abc", ("127.0.0.1", 1))
        text = r"^\[Errno 107\] Transport endpoint is not connected$"
        with pytest.raises(OSError, match=text):
            await loop.sock_recvfrom(sock, 1)


async def test_a_closed_socket(loop: Loop) -> None:
    sock = udp_socket()
    address = sock.getsockname()
    sock.close()
    for operation in (
        lambda: loop.sock_recvfrom(sock, 1),
        lambda: loop.sock_recvfrom_into(sock, bytearray(1)),
        lambda: loop.sock_sendto(sock, b"x", address),
    ):
        with pytest.raises(OSError, match=r"^\[Errno 9\] Bad file descriptor$"):
            await operation()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((-1,), ValueError, r"^negative buffersize in recvfrom$"),
        (("1",), TypeError, r"^'str' object cannot be interpreted as an integer$"),
        ((None,), TypeError, r"^'NoneType' object cannot be interpreted as an integer$"),
        ((1 << 70,), OverflowError, ""),
    ],
)
async def test_wrong_sizes(loop: Any, arguments: Any, error: type[Exception], text: str) -> None:
    left, right, left_address, right_address = udp_ends()
    with left, right:
        with pytest.raises(error, match=text or None):
            await loop.sock_recvfrom(left, *arguments)
        right.sendto(b"x", left_address)
        with pytest.raises(error, match=text or None):
            await loop.sock_recvfrom(left, *arguments)
        assert await loop.sock_recvfrom(left, 1) == (b"x", right_address)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((b"read only",), TypeError, r"read-write bytes-like object, not bytes$"),
        ((bytearray(2), 3), ValueError, r"^nbytes is greater than the length of the buffer$"),
        ((bytearray(2), -1), ValueError, r"^negative buffersize in recvfrom_into$"),
        ((bytearray(2), "1"), TypeError, r"^'str' object cannot be interpreted as an integer$"),
        ((None,), TypeError, ""),
        ((10,), TypeError, ""),
    ],
)
async def test_wrong_buffers(loop: Any, arguments: Any, error: type[Exception], text: str) -> None:
    """Refused at once, and no datagram is taken."""
    left, right, left_address, right_address = udp_ends()
    with left, right:
        with pytest.raises(error, match=text or None):
            await loop.sock_recvfrom_into(left, *arguments)
        right.sendto(b"x", left_address)
        with pytest.raises(error, match=text or None):
            await loop.sock_recvfrom_into(left, *arguments)
        assert await loop.sock_recvfrom(left, 1) == (b"x", right_address)


@pytest.mark.parametrize(
    ("data", "address", "error", "text"),
    [
        ("text", ("127.0.0.1", 9), TypeError, r"^a bytes-like object is required, not 'str'$"),
        (None, ("127.0.0.1", 9), TypeError, r"^a bytes-like object is required, not 'NoneType'$"),
        (b"x", None, TypeError, r"AF_INET address must be tuple, not NoneType$"),
        (b"x", "127.0.0.1", TypeError, r"AF_INET address must be tuple, not str$"),
        (b"x", ("127.0.0.1",), TypeError, r"AF_INET address must be a pair \(host, port\)$"),
        (
            b"x",
            ("127.0.0.1", "9"),
            TypeError,
            r"^'str' object cannot be interpreted as an integer$",
        ),
        (b"x", ("127.0.0.1", 70_000), OverflowError, r"port must be 0-65535\.$"),
        (b"x", ("127.0.0.1", 0), OSError, r"^\[Errno 22\] Invalid argument$"),
        (b"x", ("127.255.255.255", 9), PermissionError, r"^\[Errno 13\] Permission denied$"),
        (b"x", ("::1", 9), socket.gaierror, r"^\[Errno -9\] "),
    ],
)
async def test_wrong_things_to_send(
    loop: Any, data: Any, address: Any, error: type[Exception], text: str
) -> None:
    with udp_socket() as sock, pytest.raises(error, match=text) as caught:
        await loop.sock_sendto(sock, data, address)
    assert type(caught.value) is error


async def test_a_unix_address_that_nobody_has(loop: Loop, tmp_path: Any) -> None:
    with unix_socket() as sock:
        with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] No such file or directory$"):
            await loop.sock_sendto(sock, b"x", str(tmp_path / "nobody"))
        with pytest.raises(ConnectionRefusedError, match=r"^\[Errno 111\] Connection refused$"):
            await loop.sock_sendto(sock, b"x", abstract_name())


async def test_the_number_of_arguments(loop: Any) -> None:
    with udp_socket() as sock:
        for operation, arguments in (
            (loop.sock_recvfrom, ()),
            (loop.sock_recvfrom_into, ()),
            (loop.sock_sendto, (b"x",)),
            (loop.sock_sendto, (b"x", 0, sock.getsockname())),
        ):
            with pytest.raises(TypeError):
                await operation(sock, *arguments)


async def test_a_blocking_socket_in_debug_mode(loop: Loop) -> None:
    with udp_socket() as sock:
        sock.setblocking(True)
        address = sock.getsockname()
        loop.set_debug(True)
        try:
            for operation in (
                lambda: loop.sock_recvfrom(sock, 1),
                lambda: loop.sock_recvfrom_into(sock, bytearray(1)),
                lambda: loop.sock_sendto(sock, b"x", address),
            ):
                with pytest.raises(ValueError, match=r"^the socket must be non-blocking$"):
                    await operation()
            sock.settimeout(1)
            with pytest.raises(ValueError, match=r"^the socket must be non-blocking$"):
                await loop.sock_recvfrom(sock, 1)
        finally:
            loop.set_debug(False)


async def test_a_blocking_socket_works_without_debug_mode(loop: Loop) -> None:
    with udp_socket() as sock:
        sock.setblocking(True)
        address = sock.getsockname()
        assert await loop.sock_sendto(sock, b"xy", address) == 2
        assert await loop.sock_recvfrom(sock, 10) == (b"xy", address)


async def test_an_ssl_socket(loop: Loop) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with context.wrap_socket(socket.socket(), server_hostname="name") as sock:
        sock.setblocking(False)
        for operation in (
            lambda: loop.sock_recvfrom(sock, 1),
            lambda: loop.sock_recvfrom_into(sock, bytearray(1)),
            lambda: loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
        ):
            with pytest.raises(TypeError, match=r"^Socket cannot be of type SSLSocket$"):
                await operation()


async def test_a_transports_socket_is_refused(loop: Loop) -> None:
    """When there is nothing to receive, so that the operation would have to wait."""
    async with endpoint(loop, DatagramRecorder()) as transport:
        number = transport.get_extra_info("socket").fileno()
        impostor = socket.socket(fileno=number)
        try:
            impostor.setblocking(False)
            text = rf"^File descriptor {number} is used by transport <"
            with pytest.raises(RuntimeError, match=text):
                await loop.sock_recvfrom(impostor, 1)
            with pytest.raises(RuntimeError, match=text):
                await loop.sock_recvfrom_into(impostor, bytearray(1))
        finally:
            impostor.detach()
