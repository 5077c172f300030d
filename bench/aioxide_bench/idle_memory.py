"""The command `idle-memory`: what a TLS connection that is idle costs a server in memory.

The client stands here, in Python: nothing about it is measured, and it only holds connections.
"""

from __future__ import annotations

import resource
import socket
import ssl
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .catalogue import KIB, PYTHON_TLS_CONTENDERS, Contender
from .environment import Environment, interpreter
from .measure import Launch, MeasurementFailed, announced_port, start
from .prepare import make_certificate, prepare_python
from .progress import Progress
from .rounds import shuffled

# Connections that come before those that count: what a process allocates once, it has then.
FIRST = 50

# Bytes of the one exchange that each connection has before it is idle.
SIZE = KIB

# Descriptors of a process beyond its connections.
OTHER_DESCRIPTORS = 100

# Seconds that the server gets for a handshake or an exchange.
PATIENCE = 10.0


@dataclass(frozen=True)
class Settings:
    """A run, as the command line has it."""

    # Names of the contenders that take part.
    contenders: Sequence[str]
    rounds: int
    connections: int
    seed: int
    python: str
    wheel: Path | None
    build_folder: Path


def idle_memory(settings: Settings) -> int:
    """Measures all contenders, interleaved. The exit status is 1 if one of them failed."""
    progress = Progress()
    allow_descriptors(settings.connections + FIRST + OTHER_DESCRIPTORS)
    environment = Environment(
        settings.build_folder / "bench-venv", interpreter(settings.python), progress
    )
    contenders = [c for c in PYTHON_TLS_CONTENDERS if c.loop and c.name in settings.contenders]
    certificate = make_certificate(settings.build_folder, progress)
    launches, missing = prepare_python(contenders, environment, settings.wheel, "fresh")
    samples: dict[Contender, list[float]] = {c: [] for c in contenders if c in launches}
    failed: dict[Contender, str] = {}
    for number in range(settings.rounds):
        for contender in shuffled(list(samples), f"{settings.seed} idle-memory {number}"):
            if contender in failed:
                continue
            progress.step(f"round {number + 1} of {settings.rounds}, {contender.name}")
            try:
                used = measure(launches[contender], certificate, settings.connections)
                samples[contender].append(used)
            except (MeasurementFailed, OSError) as error:
                failed[contender] = str(error)
    progress.say(
        f"\nResident memory of a server for each of {settings.connections} idle TLS connections,"
        f" in KiB: medians of {settings.rounds} rounds"
    )
    for contender in contenders:
        reason = missing.get(contender) or failed.get(contender)
        figure = reason or f"{statistics.median(samples[contender]):>8.1f}"
        progress.say(f"  {contender.name:<20}{figure}")
    return 1 if failed else 0


def measure(launch: Launch, certificate: Path, connections: int) -> float:
    """KiB for each connection: a fresh server, the first ones, then those that count."""
    command = launch.command_for("protocol", SIZE, None, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    held: list[ssl.SSLSocket] = []
    with start(command, launch.environment) as server:
        port = announced_port(server)
        try:
            hold(held, FIRST, port, context)
            before = resident(server.process.pid)
            hold(held, connections, port, context)
            after = resident(server.process.pid)
        except OSError as error:
            raise MeasurementFailed(f"{error}\n{server.obituary()}") from error
        finally:
            for connection in held:
                connection.close()
    return (after - before) / connections


def hold(held: list[ssl.SSLSocket], count: int, port: int, context: ssl.SSLContext) -> None:
    """Opens connections that have one exchange each, and leaves them open."""
    request = bytes(SIZE)
    for _ in range(count):
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
        connection = context.wrap_socket(plain)
        held.append(connection)
        connection.sendall(request)
        received = 0
        while received < SIZE:
            piece = connection.recv(SIZE)
            if not piece:
                raise ConnectionError("the server has closed a connection early")
            received += len(piece)


def resident(process: int) -> int:
    """Resident memory of a process, in KiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0])
    raise MeasurementFailed("the server has ended")


def allow_descriptors(count: int) -> None:
    """Raises the limit of this process, which the server inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
