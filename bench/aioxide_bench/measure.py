"""One measurement: a fresh server, the load generator, and the numbers between them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .catalogue import Row
from .process import TAIL_LINES, Child, fate

# Seconds that a server gets to print its port.
START_PATIENCE = 15.0

# Seconds that the load generator gets beyond its own window; it has its own, shorter, stall limit.
LOAD_PATIENCE = 30.0


# What the rows over TLS speak.
TLS_VERSION = "1.3"


class MeasurementFailed(Exception):
    """A contender did not do the row's work. The message says what happened."""


@dataclass(frozen=True)
class Cores:
    """The cores that server and client are pinned to, None for neither."""

    server: int | None
    client: int | None

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The first two cores this process may use. A single core is left to the scheduler."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[1]) if len(allowed) > 1 else cls(None, None)


@dataclass(frozen=True)
class Launch:
    """How a contender's server is started."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    # The server takes --mode and --size.
    has_modes: bool = False
    # Variables that set the allocator's state, for all rows but those of memory.
    heap: Mapping[str, str] = field(default_factory=dict)

    def command_for(
        self,
        mode: str | None,
        size: int,
        core: int | None,
        certificate: Path | None = None,
        path: Path | None = None,
    ) -> list[str]:
        """The command of a server that does this work."""
        command = [*self.command, *option("--core", core), *option("--certificate", certificate)]
        command += option("--path", path)
        if self.has_modes:
            command += ["--mode", mode or "protocol"]
            command += ["--size", str(size)] if size else []
        return command


@dataclass(frozen=True)
class Timing:
    """Lengths of a measurement's two phases."""

    warm_up: float
    window: float


@dataclass(frozen=True)
class Sample:
    """What the load generator reports of its window; see its `report.rs` for the fields."""

    requests: int
    elapsed_ns: int
    server_cpu_ns: int
    # All that follows is the client's; a program that works alone has none.
    client_cpu_ns: int = 0
    p50_ns: int = 0
    p99_ns: int = 0
    left_open: int = 0
    resent: int = 0
    # Resident memory of the server that all connections have added together.
    resident_kib: int = 0

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.elapsed_ns * 1e9

    @property
    def cpu_us(self) -> float:
        """Server CPU time per request, in microseconds."""
        return self.server_cpu_ns / self.requests / 1e3

    def as_json(self) -> dict[str, int]:
        return asdict(self)


def measure(
    launch: Launch,
    load: Sequence[str],
    row: Row,
    timing: Timing,
    cores: Cores,
    certificate: Path | None,
) -> Sample:
    """Starts the server, loads it, ends it. The certificate is for the rows over TLS."""
    if row.in_process:
        return work_alone(launch, row, timing, cores)
    certificate = certificate if row.tls else None
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "socket" if row.unix else None
        command = launch.command_for(row.mode, row.size, cores.server, certificate, path)
        with start(command, {**launch.heap, **launch.environment}) as server:
            address = announced_path(server, path) if path else announced_port(server)
            return run_load(server, address, load, row, timing, cores)


def work_alone(launch: Launch, row: Row, timing: Timing, cores: Cores) -> Sample:
    """Runs a program that does its work by itself and reports as the load generator does."""
    command = launch.command_for(row.mode, row.size, cores.server)
    command += ["--warm-up", str(timing.warm_up), "--seconds", str(timing.window)]
    patience = timing.warm_up + timing.window + LOAD_PATIENCE
    environment = {**os.environ, **launch.heap, **launch.environment}
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=patience, env=environment
        )
    except subprocess.TimeoutExpired:
        raise MeasurementFailed("the program did not end") from None
    if done.returncode != 0:
        complaints = done.stderr.strip().splitlines()[-TAIL_LINES:]
        raise MeasurementFailed("\n".join([fate("program", done.returncode), *complaints]))
    return sample_of(done.stdout)


def start(command: list[str], environment: Mapping[str, str]) -> Child:
    """Starts a server."""
    try:
        return Child(command, dict(environment))
    except OSError as error:
        raise MeasurementFailed(f"the server did not start: {error}") from error


def announced_port(server: Child) -> int:
    """Waits for the server's first line."""
    try:
        return int(first_line(server))
    except ValueError:
        raise MeasurementFailed(f"the server printed no port\n{server.obituary()}") from None


def announced_path(server: Child, path: Path) -> Path:
    """Waits for the server's first line, which is the path that it was given."""
    if first_line(server) != str(path):
        raise MeasurementFailed(f"the server printed no path\n{server.obituary()}")
    return path


def first_line(server: Child) -> str:
    output = server.process.stdout
    assert output is not None
    line = b""
    if select.select([output], [], [], START_PATIENCE)[0]:
        line = output.readline()
    return line.decode(errors="replace").strip()


def run_load(
    server: Child,
    address: int | Path,
    load: Sequence[str],
    row: Row,
    timing: Timing,
    cores: Cores,
) -> Sample:
    where = "--path" if isinstance(address, Path) else "--port"
    command = [*load, where, str(address), "--server-pid", str(server.process.pid)]
    command += ["--size", str(row.size), "--connections", str(row.connections)]
    command += ["--warm-up", str(timing.warm_up), "--seconds", str(timing.window)]
    command += option("--core", cores.client)
    if row.tls:
        command += ["--tls", TLS_VERSION]
    if row.handshakes:
        command += ["--handshakes", "true"]
    if row.datagrams:
        command += ["--datagrams", "true"]
    if row.http:
        command += ["--http", "true"]
    if row.bulk:
        command += ["--bulk", row.bulk]
    patience = timing.warm_up + timing.window + LOAD_PATIENCE
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise MeasurementFailed(f"the client did not end\n{server.obituary()}") from None
    if done.returncode != 0:
        raise MeasurementFailed(f"{done.stderr.strip()}\n{server.obituary()}")
    try:
        return sample_of(done.stdout)
    except MeasurementFailed as failed:
        raise MeasurementFailed(f"{failed}\n{server.obituary()}") from None


def sample_of(report: str) -> Sample:
    """The sample that a program has printed, of which ratios can be formed."""
    try:
        sample = Sample(**json.loads(report))
    except (ValueError, TypeError):
        raise MeasurementFailed(f"this is no report: {report[:200]!r}") from None
    if sample.requests == 0:
        raise MeasurementFailed("no request was completed")
    if sample.elapsed_ns <= 0 or sample.server_cpu_ns <= 0:
        raise MeasurementFailed("the clocks did not move")
    return sample


def option(name: str, value: int | Path | None) -> list[str]:
    return [] if value is None else [name, str(value)]
