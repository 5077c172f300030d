"""What is compared: the rows of the result, and the contenders of each row."""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

KIB = 1024

# Connections of the Python rows unless the command line says otherwise.
CONNECTIONS = 16


class Role(enum.Enum):
    """What a contender is in the comparison."""

    OURS = "ours"
    PEER = "peer"
    # No runtime at all: the cost below which no server with a runtime is expected.
    FLOOR = "floor"


@dataclass(frozen=True)
class Contender:
    """A server program: servers/echo.py on an event loop, or a Rust program."""

    name: str
    role: Role
    # The Python module that has the loop.
    loop: str | None = None
    # The Rust program, and the cargo features without which it is not built.
    binary: str | None = None
    features: tuple[str, ...] = ()


FLOOR = Contender("raw-epoll", Role.FLOOR, binary="raw-epoll-server")

PYTHON_CONTENDERS = (
    Contender("aioxide", Role.OURS, loop="aioxide"),
    Contender("asyncio", Role.PEER, loop="asyncio"),
    Contender("uvloop", Role.PEER, loop="uvloop"),
    Contender("rloop", Role.PEER, loop="rloop"),
    FLOOR,
)

RUST_CONTENDERS = (
    Contender("aioxide", Role.OURS, binary="aioxide-server", features=("aioxide-server",)),
    Contender("tokio", Role.PEER, binary="tokio-server", features=("tokio-server",)),
    FLOOR,
)

CONTENDER_NAMES = tuple(dict.fromkeys(c.name for c in PYTHON_CONTENDERS + RUST_CONTENDERS))


@dataclass(frozen=True)
class Row:
    """One line of the result: the same work for every contender."""

    key: str
    # How the Python server echoes (a `--mode` of servers/echo.py); None for the Rust servers.
    mode: str | None
    # Bytes of a request, and of its reply.
    size: int
    connections: int
    # Part of a `--quick` run.
    quick: bool

    @property
    def title(self) -> str:
        subject = TITLES[self.mode] if self.mode else "Rust echo"
        plural = "s" if self.connections > 1 else ""
        return f"{subject}, {self.size // KIB} KiB, {self.connections} connection{plural}"

    @property
    def contenders(self) -> tuple[Contender, ...]:
        return PYTHON_CONTENDERS if self.mode else RUST_CONTENDERS


TITLES = {
    "protocol": "Protocol",
    "buffered": "BufferedProtocol",
    "tenwrites": "Ten writes per reply",
    "streams": "Streams",
    "readexactly": "Streams, readexactly",
    "sockets": "sock_recv, sock_sendall",
}

# Rows of 100 KiB that a quick run keeps.
QUICK_LARGE = ("protocol", "streams")


def rows(connections: int = CONNECTIONS) -> list[Row]:
    """All rows. `connections` is that of the Python rows; the Rust rows have their own."""
    python = [
        Row(f"{mode}-{size}k", mode, size * KIB, connections, size == 1 or mode in QUICK_LARGE)
        for mode in TITLES
        for size in (1, 100)
    ]
    rust = [
        Row(f"rust-{size}k-{count}", None, size * KIB, count, count == CONNECTIONS)
        for size, count in ((1, 1), (1, 16), (1, 128), (100, 16))
    ]
    return python + rust


def select(candidates: Iterable[Row], patterns: Sequence[str]) -> list[Row]:
    """The rows whose key fits one of the patterns (`protocol-*`), in the order of the catalogue."""
    return [row for row in candidates if any(fnmatch.fnmatch(row.key, p) for p in patterns)]
