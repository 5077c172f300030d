"""What is compared: the rows of the result, and the contenders of each row."""

from __future__ import annotations

import dataclasses
import enum
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

KIB = 1024

# Connections of the Python rows unless the command line says otherwise.
CONNECTIONS = 16

# Connections of the rows of memory that count; as many come before them. There are many, so that
# what one costs is seen beside the process. Over TLS they are fewer, since each costs a handshake,
# and more memory.
IDLE_CONNECTIONS = 5000
IDLE_TLS_CONNECTIONS = 500


class Role(enum.Enum):
    """What a contender is in the comparison."""

    OURS = "ours"
    # Ours in another setting: shown, and not what wins or loses.
    VARIANT = "variant"
    PEER = "peer"
    # No runtime at all: the cost below which no server with a runtime is expected.
    FLOOR = "floor"


@dataclass(frozen=True)
class Contender:
    """A server program: one of servers/ on an event loop, or a Rust program."""

    name: str
    role: Role
    # The Python module that has the loop, or `over+module`: `new_event_loop` of servers/echo.py.
    loop: str | None = None
    # The program in servers/, and the packages that it needs beside the loop.
    program: str = "echo.py"
    packages: tuple[str, ...] = ()
    # Variables of the server's environment, and their values.
    environment: tuple[tuple[str, str], ...] = ()
    # The Rust program, and the cargo features without which it is not built.
    binary: str | None = None
    features: tuple[str, ...] = ()
    # The Rust program wants the OpenSSL that the interpreter has loaded.
    openssl: bool = False
    # The Rust program takes --mode and --size, as the Python ones do.
    has_modes: bool = False


FLOOR = Contender("raw-epoll", Role.FLOOR, binary="raw-epoll-server")

PYTHON_CONTENDERS = (
    Contender("aioxide", Role.OURS, loop="aioxide"),
    Contender("asyncio", Role.PEER, loop="asyncio"),
    Contender("uvloop", Role.PEER, loop="uvloop"),
    Contender("rloop", Role.PEER, loop="rloop"),
    # Not for every interpreter: where there is no wheel they are shown as missing.
    Contender("zuvloop", Role.PEER, loop="zuvloop"),
    Contender("rsloop", Role.PEER, loop="rsloop"),
    FLOOR,
)

DATAGRAM_CONTENDERS = (
    *PYTHON_CONTENDERS[:-1],
    Contender("raw-epoll", Role.FLOOR, binary="raw-epoll-datagram-server"),
)


def web_contenders(*packages: str) -> tuple[Contender, ...]:
    """The loops under a web server of these packages. Nothing stands below them as a floor."""
    return tuple(
        dataclasses.replace(contender, program="hello.py", packages=packages)
        for contender in PYTHON_CONTENDERS
        if contender is not FLOOR
    )


# Mode of servers/hello.py -> the loops under it.
WEB_CONTENDERS = {
    "uvicorn": web_contenders("uvicorn", "httptools"),
    "aiohttp": web_contenders("aiohttp"),
}

BULK_CONTENDERS = (
    *(
        dataclasses.replace(contender, program="bulk.py")
        for contender in PYTHON_CONTENDERS
        if contender is not FLOOR
    ),
    Contender("raw-epoll", Role.FLOOR, binary="raw-epoll-bulk-server", has_modes=True),
)

# The loops alone, without a network.
IN_PROCESS_CONTENDERS = tuple(
    dataclasses.replace(contender, program="in_process.py")
    for contender in PYTHON_CONTENDERS
    if contender is not FLOOR
)

RUST_CONTENDERS = (
    Contender("aioxide", Role.OURS, binary="aioxide-server", features=("aioxide-server",)),
    Contender("tokio", Role.PEER, binary="tokio-server", features=("tokio-server",)),
    Contender("compio", Role.PEER, binary="compio-server", features=("compio-server",)),
    Contender("monoio", Role.PEER, binary="monoio-server", features=("monoio-server",)),
    FLOOR,
)

# Without rloop, which has no TLS.
PYTHON_TLS_CONTENDERS = (
    Contender("aioxide", Role.OURS, loop="aioxide"),
    Contender(
        "aioxide-portable",
        Role.VARIANT,
        loop="aioxide",
        environment=(("AIOXIDE_TLS_SESSION", "portable"),),
    ),
    Contender("asyncio", Role.PEER, loop="asyncio"),
    Contender("uvloop", Role.PEER, loop="uvloop"),
    # Transports for other loops, and so here twice.
    Contender("aiofastnet-asyncio", Role.PEER, loop="aiofastnet+asyncio"),
    Contender("aiofastnet-uvloop", Role.PEER, loop="aiofastnet+uvloop"),
    Contender("zuvloop", Role.PEER, loop="zuvloop"),
    Contender("rsloop", Role.PEER, loop="rsloop"),
    # The loop of the other floor, around the OpenSSL that all of these use.
    Contender("raw-epoll", Role.FLOOR, binary="raw-epoll-openssl-server", openssl=True),
)

# What of the memory of a Rust program is a connection's is below what can be seen: no floor.
IDLE_CONTENDERS = tuple(c for c in PYTHON_CONTENDERS if c.loop)
IDLE_TLS_CONTENDERS = tuple(c for c in PYTHON_TLS_CONTENDERS if c.loop)

RUST_TLS_CONTENDERS = (
    Contender("aioxide", Role.OURS, binary="aioxide-tls-server", features=("aioxide-tls-server",)),
    Contender("tokio", Role.PEER, binary="tokio-tls-server", features=("tokio-tls-server",)),
)

CONTENDER_NAMES = tuple(
    dict.fromkeys(
        contender.name
        for group in (
            PYTHON_CONTENDERS,
            DATAGRAM_CONTENDERS,
            RUST_CONTENDERS,
            PYTHON_TLS_CONTENDERS,
            RUST_TLS_CONTENDERS,
        )
        for contender in group
    )
)


class Quantity(enum.Enum):
    """What of a sample a row compares. Of each, less is better."""

    # CPU time of the server's process, by the requests.
    CPU = "CPU"
    # A percentile of the latencies.
    P50 = "p50"
    P99 = "p99"
    # Resident memory of the server's process, by the connections.
    MEMORY = "memory"


@dataclass(frozen=True)
class Unit:
    """What a row's figures are about. Samples count requests."""

    # Of which the cost is told, and in what.
    name: str
    measure: str = "µs"
    quantity: Quantity = Quantity.CPU
    # Times by which microseconds, or KiB, of a request are the cost in this unit.
    factor: float = 1.0
    # Requests of a sample that make one of the unit.
    requests: float = 1.0

    @property
    def cost(self) -> str:
        """The unit of the figures."""
        return f"{self.measure}/{self.name}"

    @property
    def heading(self) -> str:
        """What the figures are, with their unit."""
        if self.quantity in LATENCY:
            return f"{self.quantity.value} {self.measure}"
        return f"{self.quantity.value} {self.cost}"

    @property
    def rate(self) -> str:
        if self.quantity is Quantity.MEMORY:
            return ""
        return f"{self.name}/s" if self.name == MEBIBYTE.name else f"{self.name}s/s"


LATENCY = (Quantity.P50, Quantity.P99)

REQUEST = Unit("request")
OPERATION = Unit("operation", measure="ns", factor=1000.0)
# What the client counts are KiB.
MEBIBYTE = Unit("MiB", factor=1024.0, requests=1024.0)
MEMORY = Unit("connection", measure="KiB", quantity=Quantity.MEMORY)


@dataclass(frozen=True)
class Target:
    """What aioxide's costs are wanted to be at most, by those of the best peer, and of the
    floor."""

    to_best_peer: float
    to_floor: float | None = None


# Key of a row -> what is wanted. What has none is measured, and nothing is promised.
TARGETS = {
    "protocol-1k": Target(0.90, to_floor=1.08),
    "protocol-100k": Target(0.90),
    "buffered-1k": Target(0.90),
    "buffered-100k": Target(0.90),
    "tenwrites-1k": Target(0.80),
    "streams-1k": Target(0.78),
    "streams-100k": Target(0.78),
    "readexactly-1k": Target(0.78),
    "sockets-1k": Target(0.70),
    "sockets-100k": Target(0.85),
    "udp-1k": Target(0.80),
    "unix-1k": Target(0.90),
    "connect-1k": Target(0.80),
    "uvicorn-hello": Target(0.88),
    "aiohttp-hello": Target(0.92),
    "tls-protocol-1k": Target(0.85),
    "tls-protocol-100k": Target(0.90),
    "tls-streams-1k": Target(0.80),
    "idle-protocol": Target(0.90),
    "idle-streams": Target(0.90),
    "loop-call-soon-chain": Target(0.90),
    "loop-call-soon-batch": Target(0.90),
    "loop-timers-cancelled": Target(0.90),
    "loop-timers-fired": Target(0.90),
    "loop-sleep-zero": Target(0.90),
    "loop-future-await": Target(0.90),
    "loop-gather-100": Target(0.90),
    "loop-threadsafe": Target(0.90),
    "rust-1k-1": Target(1.00, to_floor=1.03),
    "rust-1k-16": Target(1.00, to_floor=1.03),
    "rust-1k-128": Target(1.00, to_floor=1.03),
    "rust-100k-1": Target(1.00, to_floor=1.03),
    "rust-100k-16": Target(1.00, to_floor=1.03),
    "rust-100k-128": Target(1.00, to_floor=1.03),
}


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
    # Over TLS 1.3.
    tls: bool = False
    # Each request has a connection, and over TLS a handshake, of its own.
    handshakes: bool = False
    # Over a Unix socket.
    unix: bool = False
    unit: Unit = REQUEST

    @property
    def target(self) -> Target | None:
        """What is wanted of aioxide in this row."""
        return TARGETS.get(self.key)

    @property
    def work(self) -> Row:
        """The same for all rows that are read off the same samples."""
        unit = REQUEST if self.unit.quantity in LATENCY else self.unit
        return dataclasses.replace(self, key="", quick=False, unit=unit)

    @property
    def title(self) -> str:
        if self.idle:
            subject = TITLES[self.mode or ""]
            subject = f"TLS, {subject}" if self.tls else subject
            return f"Memory, {subject}, {self.connections:,} idle connections"
        if self.unit.quantity in LATENCY:
            server = dataclasses.replace(self, unit=REQUEST).title
            return f"Latency, {self.unit.quantity.value}: {server}"
        if self.in_process:
            return f"In the process: {WORKS[self.mode or '']}"
        if self.bulk:
            return f"Bulk, {BULK[self.mode or '']}, 1 connection"
        subject = TITLES[self.mode] if self.mode else "Rust echo"
        if self.tls:
            subject = f"TLS handshakes, {subject}" if self.handshakes else f"TLS, {subject}"
        elif self.handshakes:
            subject = f"Connect and close, {subject}"
        elif self.unix:
            subject = f"Unix socket, {subject}"
        plural = "s" if self.connections > 1 else ""
        size = f"{self.size // KIB} KiB" if self.size >= KIB else f"{self.size} bytes"
        return f"{subject}, {size}, {self.connections} connection{plural}"

    @property
    def contenders(self) -> tuple[Contender, ...]:
        if self.idle:
            return IDLE_TLS_CONTENDERS if self.tls else IDLE_CONTENDERS
        if self.tls:
            return PYTHON_TLS_CONTENDERS if self.mode else RUST_TLS_CONTENDERS
        if self.datagrams:
            return DATAGRAM_CONTENDERS
        if self.in_process:
            return IN_PROCESS_CONTENDERS
        if self.bulk:
            return BULK_CONTENDERS
        if self.mode in WEB_CONTENDERS:
            return WEB_CONTENDERS[self.mode]
        return PYTHON_CONTENDERS if self.mode else RUST_CONTENDERS

    @property
    def datagrams(self) -> bool:
        return self.mode == "datagrams"

    @property
    def bulk(self) -> str | None:
        """What the server does of the load generator's `--bulk`."""
        if self.mode not in BULK:
            return None
        return "receive" if self.mode == "receive" else "send"

    @property
    def in_process(self) -> bool:
        """Without a client: the process does its work alone."""
        return self.mode in WORKS

    @property
    def http(self) -> bool:
        return self.mode in WEB_CONTENDERS

    @property
    def idle(self) -> bool:
        """The connections have one exchange each, and are left open."""
        return self.unit.quantity is Quantity.MEMORY

    @property
    def label(self) -> str:
        """The title, without what the section says and most rows have in common."""
        text = self.title
        if self.mode:
            text = text.removesuffix(f", {CONNECTIONS} connections")
        for start in ("In the process: ", "Latency, ", "Memory, ", "Bulk, "):
            text = text.removeprefix(start)
        if self.bulk:
            text = text.replace("the server", "The server", 1).removesuffix(", 1 connection")
        return text

    @property
    def section(self) -> str:
        """Which part of the results the row belongs to."""
        if self.mode is None:
            return "From Rust"
        if self.unit.quantity in LATENCY:
            return "Latency of a single connection"
        if self.idle:
            return "Memory of idle connections"
        if self.in_process:
            return "In the process, without a network"
        if self.tls:
            return "TLS"
        if self.bulk:
            return "Bulk"
        return "Web servers" if self.http else "Servers"


TITLES = {
    "protocol": "Protocol",
    "buffered": "BufferedProtocol",
    "tenwrites": "Ten writes per reply",
    "streams": "Streams",
    "readexactly": "Streams, readexactly",
    "sockets": "sock_recv, sock_sendall",
    "datagrams": "Datagrams",
    "uvicorn": "ASGI hello, uvicorn with httptools",
    "aiohttp": "Web hello, aiohttp",
}

# Modes of servers/bulk.py.
BULK = {
    "receive": "the server receives",
    "send": "the server sends",
    "sendfile": "loop.sendfile of a file of 16 MiB",
}

# Bytes that are sent over and over: what asyncio lets a transport hold before it asks for a pause.
BLOCK = 64 * KIB

# Modes of servers/in_process.py.
WORKS = {
    "call-soon-chain": "call_soon, each from the one before",
    "call-soon-batch": "call_soon, 20,000 at once",
    "timers-cancelled": "200,000 timers set and cancelled",
    "timers-fired": "10,000 timers fired",
    "sleep-zero": "sleep(0)",
    "future-await": "a future, call_soon, await",
    "gather-100": "a task, gathered with 99 others",
    "threadsafe": "call_soon_threadsafe",
}

# Works that a quick run keeps.
QUICK_WORKS = ("future-await",)

# Modes that have rows of 1 and of 100 KiB over TCP.
STREAM_MODES = ("protocol", "buffered", "tenwrites", "streams", "readexactly", "sockets")

# Those of which a quick run keeps the rows of 1 KiB.
QUICK_MODES = ("protocol", "tenwrites", "streams", "sockets")

# Modes that have rows of latency and of memory.
LATENCY_MODES = IDLE_MODES = ("protocol", "streams")

# Modes that have rows over TLS.
TLS_MODES = ("protocol", "streams")


def rows(connections: int = CONNECTIONS) -> list[Row]:
    """All rows. `connections` is that of the Python rows; the Rust rows have their own."""
    python = [
        Row(f"{mode}-{size}k", mode, size * KIB, connections, size == 1 and mode in QUICK_MODES)
        for mode in STREAM_MODES
        for size in (1, 100)
    ]
    python += [
        Row("udp-1k", "datagrams", KIB, connections, quick=True),
        Row("unix-1k", "protocol", KIB, connections, quick=False, unix=True),
        Row("connect-1k", "protocol", KIB, connections, quick=False, handshakes=True),
    ]
    # The body is a greeting.
    python += [
        Row(f"{mode}-hello", mode, len("Hello, world!"), connections, quick=mode == "uvicorn")
        for mode in WEB_CONTENDERS
    ]
    rust = [
        Row(f"rust-{size}k-{count}", None, size * KIB, count, (size, count) == (1, CONNECTIONS))
        for size in (1, 100)
        for count in (1, 16, 128)
    ]
    tls = [
        Row(
            f"tls-{mode}-{size}k",
            mode,
            size * KIB,
            connections,
            quick=(mode, size) == ("protocol", 1),
            tls=True,
        )
        for mode in TLS_MODES
        for size in (1, 100)
    ]
    tls.append(
        Row("tls-handshakes", "protocol", KIB, connections, quick=False, tls=True, handshakes=True)
    )
    rust_tls = [
        Row(f"rust-tls-{size}k-16", None, size * KIB, 16, quick=False, tls=True)
        for size in (1, 100)
    ]
    bulk = [
        Row(key, mode, BLOCK, 1, quick=False, unit=MEBIBYTE)
        for key, mode in (
            ("bulk-receive", "receive"),
            ("bulk-send", "send"),
            ("sendfile-16m", "sendfile"),
        )
    ]
    in_process = [
        Row(f"loop-{work}", work, 0, 0, work in QUICK_WORKS, unit=OPERATION) for work in WORKS
    ]
    idle = [
        Row(f"idle-{mode}", mode, KIB, IDLE_CONNECTIONS, quick=False, unit=MEMORY)
        for mode in IDLE_MODES
    ]
    idle.append(
        Row("idle-tls-protocol", "protocol", KIB, IDLE_TLS_CONNECTIONS, False, True, unit=MEMORY)
    )
    return [
        *python,
        *bulk,
        *tls,
        *latency_rows(LATENCY_MODES),
        *idle,
        *in_process,
        *rust,
        *rust_tls,
        *latency_rows([None]),
    ]


def latency_rows(modes: Sequence[str | None]) -> list[Row]:
    """Two for each mode, of the same samples: the latencies of a connection that is alone. None is
    the servers from Rust."""
    return [
        Row(
            f"latency-{mode or 'rust'}-1k-{quantity.value}",
            mode,
            KIB,
            1,
            quick=mode == "protocol",
            unit=Unit("request", quantity=quantity),
        )
        for mode in modes
        for quantity in LATENCY
    ]


def select(candidates: Iterable[Row], patterns: Sequence[str]) -> list[Row]:
    """The rows whose key fits one of the patterns (`protocol-*`), in the order of the catalogue."""
    return [row for row in candidates if any(fnmatch.fnmatch(row.key, p) for p in patterns)]
