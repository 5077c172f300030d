"""The handshake: what is agreed on, and all the ways in which it fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from .connections import Keeper, serving
from .support import (
    Errors,
    Loop,
    Recorder,
    open_descriptors,
    oracle_never,
    reset,
    tcp_pair,
    turns,
    unix_pair,
)
from .tls import NAME, VERSIONS, Peer, Tls, only, wrap

SIDES = pytest.mark.parametrize("side", ["client", "server"])
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS)

#: The peer is told why there will be no connection.
ALERTS = oracle_never("it closes without sending the alert")

#: Seconds: a handshake that stalls is given up after these.
SOON = 0.1


async def failing(
    loop: Loop, tls: Tls, side: str, context: ssl.SSLContext, theirs: ssl.SSLContext
) -> tuple[BaseException | None, BaseException | None, Recorder]:
    """A handshake that does not come about: our error, the peer's, and our protocol."""
    left, right = tcp_pair()
    protocol = Recorder()
    with right:
        peer = Peer(loop, right, theirs, side == "client")

        async def shake() -> None:
            await peer.handshake()
            # What the other side says to it may come later (TLS 1.3).
            await peer.read()

        ours, other = await asyncio.gather(
            wrap(loop, left, protocol, side, context), shake(), return_exceptions=True
        )
        await turns()
    assert left.fileno() == -1
    return (
        ours if isinstance(ours, BaseException) else None,
        other if isinstance(other, BaseException) else None,
        protocol,
    )


# ---- certificates ----


@ALERTS
@EACH_VERSION
async def test_nobody_trusts_a_stranger(loop: Loop, tls: Tls, version: Any) -> None:
    theirs = tls.server(tls.certificates.strange, version=version)
    ours, other, protocol = await failing(loop, tls, "client", tls.client(), theirs)
    assert isinstance(ours, ssl.SSLCertVerificationError)
    assert ours.verify_code == 20
    assert "unable to get local issuer certificate" in ours.verify_message
    assert isinstance(other, ssl.SSLError)
    assert other.reason == "TLSV1_ALERT_UNKNOWN_CA"
    assert protocol.calls == []


@EACH_VERSION
async def test_a_server_with_another_name_is_refused(loop: Loop, tls: Tls, version: Any) -> None:
    theirs = tls.server(tls.certificates.other, version=version)
    ours, other, protocol = await failing(loop, tls, "client", tls.client(), theirs)
    assert isinstance(ours, ssl.SSLCertVerificationError)
    assert "Hostname mismatch" in ours.verify_message
    assert isinstance(other, ssl.SSLError)
    assert protocol.calls == []


async def test_names_are_not_looked_at_when_nobody_wants_it(loop: Loop, tls: Tls) -> None:
    context = tls.client()
    context.check_hostname = False
    theirs = tls.server(tls.certificates.other)
    async with tls.connected(loop, Recorder(), context=context, peer_context=theirs) as (
        transport,
        _,
    ):
        names = transport.get_extra_info("peercert")["subjectAltName"]
        assert names == (("DNS", "other.example"),)


async def test_an_unverified_certificate_is_an_empty_one(loop: Loop, tls: Tls) -> None:
    context = tls.client()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    theirs = tls.server(tls.certificates.strange)
    async with tls.connected(loop, Recorder(), context=context, peer_context=theirs) as (
        transport,
        _,
    ):
        assert transport.get_extra_info("peercert") == {}
        assert transport.get_extra_info("ssl_object").getpeercert(True)


@EACH_VERSION
async def test_a_client_that_shows_its_certificate(loop: Loop, tls: Tls, version: Any) -> None:
    async with tls.connected(
        loop,
        Recorder(),
        "server",
        context=tls.server(asks=ssl.CERT_REQUIRED),
        peer_context=tls.client(tls.certificates.client, version=version),
    ) as (transport, _):
        names = transport.get_extra_info("peercert")["subjectAltName"]
        assert names == (("DNS", "client.example"),)
    async with tls.connected(
        loop,
        Recorder(),
        context=tls.client(tls.certificates.client, version=version),
        peer_context=tls.server(asks=ssl.CERT_REQUIRED),
    ) as (_, peer):
        certificate = peer.object.getpeercert()
        assert certificate and certificate["subjectAltName"] == names


@EACH_VERSION
async def test_a_server_refuses_a_client_without_one(loop: Loop, tls: Tls, version: Any) -> None:
    context = tls.server(asks=ssl.CERT_REQUIRED)
    ours, other, protocol = await failing(loop, tls, "server", context, tls.client(version=version))
    assert isinstance(ours, ssl.SSLError)
    assert ours.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert isinstance(other, ssl.SSLError)
    assert protocol.calls == []


async def test_a_client_without_one_hears_it_in_the_handshake(loop: Loop, tls: Tls) -> None:
    theirs = tls.server(asks=ssl.CERT_REQUIRED, version=ssl.TLSVersion.TLSv1_2)
    ours, _, protocol = await failing(loop, tls, "client", tls.client(), theirs)
    assert isinstance(ours, ssl.SSLError)
    assert protocol.calls == []


async def test_a_client_without_one_hears_it_after_the_handshake(
    loop: Loop, tls: Tls, errors: Errors
) -> None:
    """In TLS 1.3 the client's half is over by then."""
    left, right = tcp_pair()
    protocol = Recorder()
    theirs = tls.server(asks=ssl.CERT_REQUIRED, version=ssl.TLSVersion.TLSv1_3)
    with right:
        peer = Peer(loop, right, theirs, True)
        _, shaken = await asyncio.gather(
            wrap(loop, left, protocol, "client", tls.client()),
            peer.handshake(),
            return_exceptions=True,
        )
        assert isinstance(shaken, ssl.SSLError)
        await protocol.until_lost()
    assert isinstance(protocol.error, ssl.SSLError)
    assert protocol.error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert protocol.names == ["connection_made", "connection_lost"]
    await turns()


# ---- what is agreed on ----


async def test_versions_that_have_nothing_in_common(loop: Loop, tls: Tls) -> None:
    ours, other, protocol = await failing(
        loop,
        tls,
        "client",
        tls.client(version=ssl.TLSVersion.TLSv1_3),
        tls.server(version=ssl.TLSVersion.TLSv1_2),
    )
    assert isinstance(ours, ssl.SSLError)
    assert isinstance(other, ssl.SSLError)
    assert protocol.calls == []


@SIDES
@pytest.mark.parametrize(
    ("wanted", "agreed"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["x"], None)]
)
async def test_alpn(loop: Loop, tls: Tls, side: str, wanted: list[str], agreed: Any) -> None:
    contexts = {"client": tls.client(), "server": tls.server()}
    contexts["client"].set_alpn_protocols(wanted)
    contexts["server"].set_alpn_protocols(["h2", "http/1.1"])
    ours = contexts.pop(side)
    (theirs,) = contexts.values()
    async with tls.connected(loop, Recorder(), side, context=ours, peer_context=theirs) as (
        transport,
        peer,
    ):
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
        assert peer.object.selected_alpn_protocol() == agreed


async def test_a_name_chooses_the_context(loop: Loop, tls: Tls) -> None:
    other = tls.server(tls.certificates.other)
    context = tls.server()

    def choose(sslobject: ssl.SSLObject, name: str | None, original: ssl.SSLContext) -> None:
        assert original is context
        if name == "other.example":
            sslobject.context = other

    context.sni_callback = choose
    async with serving(loop, Keeper(), ssl=context) as (_, address):
        for name in (NAME, "other.example"):
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=tls.client(), server_hostname=name
            )
            assert ("DNS", name) in transport.get_extra_info("peercert")["subjectAltName"]
            transport.close()
            await protocol.until_lost()


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the `ssl` module could tell nobody."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
    return seen


@ALERTS
async def test_a_choice_that_raises(loop: Loop, tls: Tls, unraisable: list[Any]) -> None:
    context = tls.server()
    context.sni_callback = lambda *_: 1 // 0
    ours, other, protocol = await failing(loop, tls, "server", context, tls.client())
    assert unraisable == [ZeroDivisionError]
    assert isinstance(ours, ssl.SSLError)
    assert ours.reason == "CALLBACK_FAILED"
    assert isinstance(other, ssl.SSLError)
    assert "HANDSHAKE_FAILURE" in (other.reason or "")
    assert protocol.calls == []


@ALERTS
async def test_a_choice_that_refuses(loop: Loop, tls: Tls) -> None:
    context = tls.server()
    context.sni_callback = lambda *_: ssl.AlertDescription.ALERT_DESCRIPTION_ACCESS_DENIED
    ours, other, protocol = await failing(loop, tls, "server", context, tls.client())
    assert isinstance(ours, ssl.SSLError)
    assert isinstance(other, ssl.SSLError)
    assert "ACCESS_DENIED" in (other.reason or "")
    assert protocol.calls == []


@pytest.mark.parametrize("how", ["close", "abort"])
@oracle_never("start_tls() waits for ever")
async def test_a_choice_that_ends_the_connection(loop: Loop, tls: Tls, how: str) -> None:
    """The transport below, which the program of a start_tls() has."""
    left, right = tcp_pair()
    transport, protocol = await loop.create_connection(Recorder, sock=left)
    context = tls.server()
    context.sni_callback = lambda *_: getattr(transport, how)()
    with right:
        peer = Peer(loop, right, tls.client(), False)
        upgrade = loop.start_tls(transport, protocol, context, server_side=True)
        ours, _ = await asyncio.gather(upgrade, peer.handshake(), return_exceptions=True)
        assert isinstance(ours, ConnectionError)
        await protocol.until_lost()
        await turns()


@EACH_VERSION
async def test_a_session_is_used_again(loop: Loop, tls: Tls, version: Any) -> None:
    client, server = tls.client(version=version), tls.server()
    async with tls.connected(loop, Recorder(), context=client, peer_context=server) as (
        transport,
        peer,
    ):
        await peer.write(b"the ticket comes before this")
        protocol = transport.get_protocol()
        assert isinstance(protocol, Recorder)
        await protocol.until_received(28)
        seen = transport.get_extra_info("ssl_object")
        assert not seen.session_reused
        session = seen.session
    # OpenSSL forgets the session of a connection that has ended badly.
    left, right = unix_pair()
    with left, right:
        first, second = Peer(loop, left, client, False), Peer(loop, right, server, True)
        first.object.session = session
        await asyncio.gather(first.handshake(), second.handshake())
        assert first.object.session_reused
    # And with our server.
    async with tls.connected(loop, Recorder(), "server", context=server, peer_context=client) as (
        transport,
        peer,
    ):
        transport.write(b"x")
        await peer.read_exactly(1)
        session = peer.object.session
    left, right = tcp_pair()
    with right:
        peer = Peer(loop, right, client, False)
        peer.object.session = session
        ours, _ = await asyncio.gather(
            wrap(loop, left, Recorder(), "server", server), peer.handshake()
        )
        assert peer.object.session_reused
        assert ours.get_extra_info("ssl_object").session_reused
        ours.abort()
        await turns()


@SIDES
async def test_keys_are_logged(loop: Loop, tls: Tls, side: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    context = tls.context(side)
    context.keylog_filename = str(path)
    async with tls.connected(loop, Recorder(), side, context=context):
        words = {line.split()[0] for line in path.read_text().splitlines()}
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= words


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13")
@SIDES
@EACH_VERSION
async def test_a_key_that_both_know(loop: Loop, tls: Tls, side: str, version: Any) -> None:
    client: Any = only(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), version)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    server: Any = only(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), version)
    for context in (client, server):
        context.set_ciphers("PSK")
    asked: list[Any] = []

    def for_client(hint: str | None) -> tuple[str, bytes]:
        asked.append(hint)
        return "me", b"secret"

    def for_server(name: str | None) -> bytes:
        asked.append(name)
        return b"secret"

    client.set_psk_client_callback(for_client)
    server.set_psk_server_callback(for_server, "hint")
    contexts = {"client": client, "server": server}
    ours, protocol = contexts.pop(side), Recorder()
    (theirs,) = contexts.values()
    async with tls.connected(loop, protocol, side, context=ours, peer_context=theirs) as (
        transport,
        peer,
    ):
        transport.write(b"known")
        assert await peer.read_exactly(5) == b"known"
    assert "me" in asked


async def test_a_client_is_asked_after_the_handshake(loop: Loop, tls: Tls) -> None:
    client = tls.client(tls.certificates.client, version=ssl.TLSVersion.TLSv1_3)
    client.post_handshake_auth = True
    server = tls.server(asks=ssl.CERT_OPTIONAL)
    server.post_handshake_auth = True
    protocol = Recorder()
    async with tls.connected(loop, protocol, context=client, peer_context=server) as (
        transport,
        peer,
    ):
        peer.object.verify_client_post_handshake()
        await peer.write(b"who?")
        await protocol.until_received(4)
        transport.write(b"me")
        await peer.read_exactly(2)
        certificate = peer.object.getpeercert()
        assert certificate and certificate["subjectAltName"] == (("DNS", "client.example"),)


async def test_a_server_asks_after_the_handshake(loop: Loop, tls: Tls) -> None:
    client = tls.client(tls.certificates.client, version=ssl.TLSVersion.TLSv1_3)
    client.post_handshake_auth = True
    server = tls.server(asks=ssl.CERT_REQUIRED)
    server.post_handshake_auth = True
    protocol = Recorder()
    async with tls.connected(loop, protocol, "server", context=server, peer_context=client) as (
        transport,
        peer,
    ):
        seen = transport.get_extra_info("ssl_object")
        assert seen.getpeercert() is None
        seen.verify_client_post_handshake()
        transport.write(b"who?")
        await peer.read_exactly(4)
        await peer.write(b"me")
        await protocol.until_received(2)
        assert seen.getpeercert()["subjectAltName"] == (("DNS", "client.example"),)


# ---- peers that do not shake hands ----


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.0\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01" * 9])
@SIDES
async def test_garbage(loop: Loop, tls: Tls, side: str, garbage: bytes) -> None:
    left, right = tcp_pair()
    protocol = Recorder()
    with right:
        right.send(garbage)
        right.shutdown(socket.SHUT_WR)
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await wrap(loop, left, protocol, side, tls.context(side))
        await turns()
    assert protocol.calls == []
    assert left.fileno() == -1


async def test_an_http_request_is_recognised(loop: Loop, tls: Tls) -> None:
    left, right = tcp_pair()
    with right:
        right.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ssl.SSLError) as caught:
            await wrap(loop, left, Recorder(), "server", tls.server())
        assert caught.value.reason == "HTTP_REQUEST"
        await turns()


@SIDES
async def test_a_peer_that_ends_instead(loop: Loop, tls: Tls, side: str) -> None:
    left, right = tcp_pair()
    protocol = Recorder()
    with right:
        right.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            await wrap(loop, left, protocol, side, tls.context(side))
        await turns()
    assert protocol.calls == []


@SIDES
async def test_a_peer_that_resets_instead(loop: Loop, tls: Tls, side: str) -> None:
    left, right = tcp_pair()
    protocol = Recorder()
    making = asyncio.ensure_future(wrap(loop, left, protocol, side, tls.context(side)))
    await turns()
    reset(right)
    with pytest.raises(ConnectionResetError):
        await making
    await turns()
    assert protocol.calls == []


@SIDES
async def test_a_peer_that_is_silent(loop: Loop, tls: Tls, side: str) -> None:
    left, right = tcp_pair()
    protocol = Recorder()
    text = f"^SSL handshake is taking longer than {SOON} seconds: aborting the connection$"
    with right:
        with pytest.raises(ConnectionAbortedError, match=text):
            await wrap(loop, left, protocol, side, tls.context(side), ssl_handshake_timeout=SOON)
        await turns()
    assert protocol.calls == []
    assert left.fileno() == -1


async def test_the_time_of_a_handshake_is_for_all_of_it(loop: Loop, tls: Tls) -> None:
    """A peer that sends a byte now and then gains nothing by it."""
    left, right = tcp_pair()
    hello = Peer(loop, right, tls.client(), False)
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.object.do_handshake()
    flight = hello.outgoing.read()

    async def drip() -> None:
        for byte in flight:
            right.send(bytes([byte]))
            await asyncio.sleep(SOON / 10)

    with right:
        dripping = asyncio.ensure_future(drip())
        with pytest.raises(ConnectionAbortedError, match="is taking longer than"):
            await wrap(loop, left, Recorder(), "server", tls.server(), ssl_handshake_timeout=SOON)
        dripping.cancel()
        await turns()


async def test_a_server_gives_up_who_is_silent(loop: Loop, tls: Tls) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, ssl=tls.server(), ssl_handshake_timeout=SOON) as (
        _,
        address,
    ):
        with socket.create_connection(address) as sock:
            sock.setblocking(False)
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(sock, 1) == b""
    assert all(protocol.calls == [] for protocol in keeper.made)


async def test_nobody_waits_for_a_silent_client(loop: Loop, tls: Tls) -> None:
    keeper = Keeper()
    async with serving(loop, keeper, ssl=tls.server()) as (_, address):
        with socket.create_connection(address):
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=tls.client(), server_hostname=NAME
            )
            transport.close()
            await protocol.until_lost()


@SIDES
async def test_whoever_is_cancelled_closes_the_socket(loop: Loop, tls: Tls, side: str) -> None:
    left, right = tcp_pair()
    protocol = Recorder()
    with right:
        making = asyncio.ensure_future(wrap(loop, left, protocol, side, tls.context(side)))
        if side == "client":
            # In the middle: its first flight is here.
            assert await loop.sock_recv(right, 1 << 16)
        else:
            await turns(5)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        await turns()
        assert left.fileno() == -1
        assert await loop.sock_recv(right, 1 << 16) == b""
    assert protocol.calls == []


async def test_a_connection_to_an_address_is_cancelled(loop: Loop, tls: Tls) -> None:
    before = open_descriptors()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        making = asyncio.ensure_future(
            loop.create_connection(
                Recorder, *listener.getsockname(), ssl=tls.client(), server_hostname=NAME
            )
        )
        peer, _ = await loop.sock_accept(listener)
        with peer:
            await loop.sock_recv(peer, 1 << 16)
            making.cancel()
            with pytest.raises(asyncio.CancelledError):
                await making
            await turns()
            assert await loop.sock_recv(peer, 1 << 16) == b""
    # What the loop keeps for itself may have come up meanwhile, but no socket.
    assert not {name for name in open_descriptors() - before if "socket" in name}


@SIDES
async def test_connection_made_raises(loop: Loop, tls: Tls, errors: Errors, side: str) -> None:
    class Raising(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise ZeroDivisionError("connection_made")

    left, right = tcp_pair()
    protocol = Raising()
    with right:
        peer = Peer(
            loop, right, tls.context("server" if side == "client" else "client"), side == "client"
        )
        ours, _ = await asyncio.gather(
            wrap(loop, left, protocol, side, tls.context(side)),
            peer.handshake(),
            return_exceptions=True,
        )
        await protocol.until_lost()
        await turns()
    assert isinstance(ours, ZeroDivisionError)
    assert protocol.error is ours
    assert errors.take_one()["exception"] is ours


@oracle_never("it leaves the socket to the garbage collector")
async def test_a_factory_raises(loop: Loop, tls: Tls) -> None:
    """As without TLS, it is reported in debug mode."""

    def factory() -> Recorder:
        raise ZeroDivisionError("factory")

    async with serving(loop, factory, ssl=tls.server()) as (_, address):
        with pytest.raises(ConnectionResetError):
            await loop.create_connection(Recorder, *address, ssl=tls.client(), server_hostname=NAME)
