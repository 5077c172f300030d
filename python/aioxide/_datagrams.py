"""`create_datagram_endpoint`: arguments, names, and errors in asyncio's words."""

from __future__ import annotations

import asyncio
import socket
import sys
import warnings
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar, cast

from aioxide._aioxide import OpenSocket
from aioxide._endpoints import check_port
from aioxide._room import Room

P = TypeVar("P", bound=asyncio.BaseProtocol)

Address = Any
#: What a socket is made of: family, protocol, local and remote address.
Candidate = tuple[int, int, Address, Address]


#: What an address is refused with that is no pair.
_NOT_A_PAIR = TypeError if sys.version_info >= (3, 11) else AssertionError

#: An argument that was not given.
_UNSET: Any = object()


class DatagramMethods(Room):
    """Endpoints for datagrams."""

    async def create_datagram_endpoint(  # type: ignore[override]  # older versions had one more
        self,
        protocol_factory: Callable[[], P],
        local_addr: Address = None,
        remote_addr: Address = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[asyncio.DatagramTransport, P]:
        """Bind to a local address, send to a remote one, or both; return (transport, protocol)."""
        opened: OpenSocket | socket.socket
        remote: Address = None
        if sock is not None:
            _check_socket(
                sock,
                local_addr=local_addr,
                remote_addr=remote_addr,
                family=family,
                proto=proto,
                flags=flags,
                reuse_port=reuse_port,
                allow_broadcast=allow_broadcast,
            )
            sock.setblocking(False)
            opened = sock
        else:
            candidates = await self._datagram_candidates(
                local_addr, remote_addr, family, proto, flags
            )
            opened, remote = self._open_first(candidates, bool(reuse_port), bool(allow_broadcast))
        protocol = protocol_factory()
        transport, made = self._start_datagrams(protocol, opened, remote)
        if self.get_debug():
            if local_addr:
                logger.info(
                    "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
                    local_addr,
                    remote_addr,
                    transport,
                    protocol,
                )
            else:
                logger.debug(
                    "Datagram endpoint remote_addr=%r created: (%r, %r)",
                    remote_addr,
                    transport,
                    protocol,
                )
        try:
            await made
        except BaseException:
            transport.close()
            raise
        return cast(asyncio.DatagramTransport, transport), protocol

    if sys.version_info < (3, 11):
        _create_datagram_endpoint = create_datagram_endpoint

        async def create_datagram_endpoint(  # type: ignore[no-redef]
            self,
            protocol_factory: Callable[[], P],
            local_addr: Address = None,
            remote_addr: Address = None,
            *,
            family: int = 0,
            proto: int = 0,
            flags: int = 0,
            reuse_address: Any = _UNSET,
            reuse_port: bool | None = None,
            allow_broadcast: bool | None = None,
            sock: socket.socket | None = None,
        ) -> tuple[asyncio.DatagramTransport, P]:
            """Refuse what Python 3.11 has taken out."""
            if reuse_address is not _UNSET and sock is None:
                if reuse_address:
                    raise ValueError(
                        "Passing `reuse_address=True` is no longer supported, as the usage of "
                        "SO_REUSEPORT in UDP poses a significant security concern."
                    )
                warnings.warn(
                    "The *reuse_address* parameter has been deprecated as of 3.5.10 and is "
                    "scheduled for removal in 3.11.",
                    DeprecationWarning,
                    stacklevel=2,
                )
            return await self._create_datagram_endpoint(
                protocol_factory,
                local_addr,
                remote_addr,
                family=family,
                proto=proto,
                flags=flags,
                reuse_port=reuse_port,
                allow_broadcast=allow_broadcast,
                sock=sock,
            )

    async def _datagram_candidates(
        self, local_addr: Address, remote_addr: Address, family: int, proto: int, flags: int
    ) -> list[Candidate]:
        """What the sockets to try are made of, in order."""
        if not (local_addr or remote_addr):
            if family == 0:
                raise ValueError("unexpected address family")
            return [(family, proto, None, None)]
        if family == socket.AF_UNIX:
            for address in (local_addr, remote_addr):
                if address is not None and not isinstance(address, str):
                    raise TypeError("string is expected")
            return [(family, proto, local_addr or None, remote_addr or None)]
        # Joined by family and protocol, in the order in which those are first seen.
        joined: dict[tuple[int, int], list[Address]] = {}
        for side, address in enumerate((local_addr, remote_addr)):
            if address is None:
                continue
            if not (isinstance(address, tuple) and len(address) == 2):
                raise _NOT_A_PAIR("2-tuple is expected")
            check_port(address[1], "connect" if side else "bind")
            infos = await self._resolve(
                address, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags
            )
            if not infos:
                raise OSError("getaddrinfo() returned empty list")
            for info in infos:
                joined.setdefault((info[0], info[2]), [None, None])[side] = info[4]
        candidates = [
            (*key, local, remote)
            for key, (local, remote) in joined.items()
            if not (local_addr and local is None) and not (remote_addr and remote is None)
        ]
        if not candidates:
            raise ValueError("can not get address information")
        return candidates

    def _open_first(
        self, candidates: list[Candidate], reuse_port: bool, allow_broadcast: bool
    ) -> tuple[OpenSocket, Address]:
        """The first socket that can be made, and its remote address; or the first error."""
        errors = []
        try:
            for candidate in candidates:
                try:
                    opened = self._open_datagram(*candidate, reuse_port, allow_broadcast)
                    return opened, candidate[3]
                except OSError as error:
                    errors.append(error)
            raise errors[0]
        finally:
            # The exceptions have this frame in their tracebacks: no circle.
            del errors


def _check_socket(sock: socket.socket, **options: Any) -> None:
    """Refuse what cannot go with a socket of the program's own."""
    if sock.type == socket.SOCK_STREAM:
        kind = "datagram socket" if sys.version_info >= (3, 13) else "UDP Socket"
        raise ValueError(f"A {kind} was expected, got {sock!r}")
    given = ", ".join(f"{name}={value}" for name, value in options.items() if value)
    if given:
        raise ValueError(
            f"socket modifier keyword arguments can not be used when sock is specified. ({given})"
        )
