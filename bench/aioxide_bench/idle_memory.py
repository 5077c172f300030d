"""What an idle connection costs a server in memory.

The client stands here, in Python: nothing about it is measured, and it only holds connections.
"""

from __future__ import annotations

import resource
import socket
import ssl
import time
from pathlib import Path

from .catalogue import Row
from .measure import Launch, MeasurementFailed, Sample, announced_port, start

# Rounds, unless the run has fewer: memory hardly differs from one to the next.
ROUNDS = 3

# Descriptors of a process beyond its connections.
OTHER_DESCRIPTORS = 100

# Seconds that the server gets for a handshake or an exchange.
PATIENCE = 10.0

# Addresses of the loopback network that connections come from in turn, so that however many there
# are, there are ports for them.
SOURCES = 250


def measure(launch: Launch, row: Row, certificate: Path | None) -> Sample:
    """A fresh server, the first connections, then as many that count: what they have added to the
    server's resident memory. The allocator is left as the program has it.

    The first connections live in memory that the process has anyway: an interpreter that has just
    started leaves several MiB free in its heap. Without them, one of a KiB would seem to cost a
    sixth of that.
    """
    allow_descriptors(descriptors(row))
    command = launch.command_for(row.mode, row.size, None, certificate if row.tls else None)
    held: list[socket.socket] = []
    with start(command, launch.environment) as server:
        port = announced_port(server)
        context = client_context() if row.tls else None
        try:
            hold(held, row.connections, row.size, port, context)
            before, began = resident(server.process.pid), time.monotonic_ns()
            hold(held, row.connections, row.size, port, context)
            added = resident(server.process.pid) - before
            elapsed = time.monotonic_ns() - began
        except OSError as error:
            many = f"with {len(held)} of {2 * row.connections} connections open"
            raise MeasurementFailed(f"{many}: {error}\n{server.obituary()}") from error
        finally:
            for connection in held:
                connection.close()
    if added <= 0:
        raise MeasurementFailed(f"the connections added {added} KiB of resident memory")
    return Sample(row.connections, elapsed, server_cpu_ns=0, resident_kib=added)


def client_context() -> ssl.SSLContext:
    """Takes whatever certificate it is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def hold(
    held: list[socket.socket], count: int, size: int, port: int, context: ssl.SSLContext | None
) -> None:
    """Opens connections that have one exchange each, and leaves them open."""
    request = bytes(size)
    for number in range(count):
        source = (f"127.0.0.{number % SOURCES + 1}", 0)
        connection = socket.create_connection(("127.0.0.1", port), PATIENCE, source)
        held.append(connection)
        if context:
            connection = held[-1] = context.wrap_socket(connection)
        connection.sendall(request)
        received = 0
        while received < size:
            piece = connection.recv(size)
            if not piece:
                raise ConnectionError("the server has closed a connection early")
            received += len(piece)


def resident(process: int) -> int:
    """Resident memory of a process, in KiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0])
    raise ProcessLookupError("the server has ended")


def descriptors(row: Row) -> int:
    """How many the server needs, and the client."""
    return 2 * row.connections + OTHER_DESCRIPTORS


def why_impossible(row: Row) -> str | None:
    """Why this machine cannot hold the row's connections, if it cannot."""
    needed, (_, hard) = descriptors(row), resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return None
    fewer = (hard - OTHER_DESCRIPTORS) // 2
    return (
        f"{needed:,} descriptors are needed, and a process may have {hard:,} here (`ulimit -Hn`):"
        f" raise the limit, or hold fewer (`idle-memory --connections {fewer}`)"
    )


def allow_descriptors(count: int) -> None:
    """Raises the limit of this process, which the server inherits, as far as it may go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
