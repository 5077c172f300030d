"""Names of hosts and services."""

from __future__ import annotations

import socket
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from aioxide._room import Room

#: What the resolver gives: family, type, protocol, canonical name, address.
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]

#: What a kind of socket speaks when the program does not say.
_PROTOCOLS: dict[int, int] = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
}

#: The resolver, as long as nobody has put another in its place.
_getaddrinfo = socket.getaddrinfo


class NameMethods(Room):
    """`getaddrinfo` and `getnameinfo`."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """socket.getaddrinfo(), on a thread if it may have to ask anybody."""
        resolver: Callable[..., list[Any]] = socket.getaddrinfo
        may_be_numeric = host is not None and (port is None or isinstance(port, int))
        if may_be_numeric and resolver is _getaddrinfo and not self.get_debug():
            try:
                return resolver(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
            except socket.gaierror:
                pass  # a name, or a mistake: the resolver will say
        if self.get_debug():
            resolver = self._getaddrinfo_timed
        return await self.run_in_executor(None, resolver, host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int = 0) -> tuple[str, str]:
        """socket.getnameinfo(), on a thread."""
        return await self.run_in_executor(None, socket.getnameinfo, sockaddr, flags)

    def _getaddrinfo_timed(
        self, host: Any, port: Any, family: int, type: int, proto: int, flags: int
    ) -> list[Any]:
        """Debug mode's resolver: it says how long it took."""
        query = f"{host}:{port!r}"
        if family:
            query += f", family={family!r}"
        if type:
            query += f", type={type!r}"
        if proto:
            query += f", proto={proto!r}"
        if flags:
            query += f", flags={flags!r}"
        logger.debug("Get address info %s", query)
        begun = self.time()
        found = socket.getaddrinfo(host, port, family, type, proto, flags)
        took = self.time() - begun
        message = f"Getting address info {query} took {took * 1e3:.3f}ms: {found!r}"
        if took >= self.slow_callback_duration:
            logger.info(message)
        else:
            logger.debug(message)
        return found

    async def _resolve(
        self,
        address: tuple[Any, ...],
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """The addresses that an address stands for; a name's through the loop's getaddrinfo()."""
        host, port = address[:2]
        numeric = _numeric(host, port, family, type, proto, *address[2:])
        if numeric is not None:
            return [numeric]
        return await self.getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )


def _numeric(
    host: Any, port: Any, family: int, type: int, proto: int, flow: int = 0, scope: int = 0
) -> AddressInfo | None:
    """What asks nobody: the address of a numeric host, without a zone, and a numeric port."""
    protocol = _PROTOCOLS.get(type)
    if host is None or protocol is None or proto not in (0, *_PROTOCOLS.values()):
        return None
    try:
        host = host.decode("ascii") if isinstance(host, bytes) else host
        port = int(port or 0)
        found = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.inet_pton(found, host)
    except (TypeError, ValueError, OSError):
        return None  # a name of a host or of a service, or a mistake: the resolver will say
    if family not in (socket.AF_UNSPEC, found):
        return None
    address = (host, port) if found == socket.AF_INET else (host, port, flow, scope)
    return found, type, protocol, "", address
