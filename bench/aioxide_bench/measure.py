"""A fresh server, the load generator, and the numbers between them.

The two live as long as a [`Session`] does, and work in turns: a turn is a short warm-up and a short
window, and between turns both sleep. So the sessions of several contenders can take turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .catalogue import Row
from .process import END_PATIENCE, Child

# Seconds that a server gets to print its port.
START_PATIENCE = 15.0

# Seconds that the load generator gets beyond its own window; it has its own, shorter, stall limit.
LOAD_PATIENCE = 30.0


# Times by which a window is lengthened in which nothing happened, one after the other.
LONGER = (4, 16)

# What the rows over TLS speak.
TLS_VERSION = "1.3"


class MeasurementFailed(Exception):
    """A contender did not do the row's work. The message says what happened."""


class NothingHappened(MeasurementFailed):
    """It has worked, but in its window nothing was completed, or the server never ran."""


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


# What the record of a turn holds of its sample.
TURN_FIELDS = ("requests", "elapsed_ns", "server_cpu_ns", "client_cpu_ns", "p50_ns", "p99_ns")


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
    # The turns that it sums up; none of what was measured in one piece.
    turns: tuple[Sample, ...] = ()

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.elapsed_ns * 1e9

    @property
    def cpu_us(self) -> float:
        """Server CPU time per request, in microseconds."""
        return self.server_cpu_ns / self.requests / 1e3

    def as_json(self) -> dict[str, Any]:
        """Its fields, of its turns those by which they may differ."""
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "turns"}
        if self.turns:
            record["turns"] = {
                name: [getattr(turn, name) for turn in self.turns] for name in TURN_FIELDS
            }
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Sample:
        """What [`as_json`] has written."""
        turns: Mapping[str, list[int]] = record.get("turns", {})
        columns = zip(*turns.values(), strict=True)
        each = tuple(cls(**dict(zip(turns, values, strict=True))) for values in columns)
        rest = {name: value for name, value in record.items() if name != "turns"}
        return cls(**rest, turns=each)


class Session:
    """A contender at work on a row: its server and the client, or a program that works alone. They
    end with the `with` block; the turns before that are asked for."""

    def __init__(
        self,
        launch: Launch,
        load: Sequence[str],
        row: Row,
        cores: Cores,
        certificate: Path | None,
    ) -> None:
        """The certificate is for the rows over TLS. The server starts at once, and is not waited
        for."""
        self._load, self._row, self._cores = load, row, cores
        self._samples: list[Sample] = []
        self._stack = contextlib.ExitStack()
        self._client: Child | None = None
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        self._path = Path(folder) / "socket" if row.unix else None
        certificate = certificate if row.tls else None
        command = launch.command_for(row.mode, row.size, cores.server, certificate, self._path)
        try:
            server = start(command, {**launch.heap, **launch.environment})
        except BaseException:
            self._stack.close()
            raise
        self._server = self._stack.enter_context(server)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def server_pid(self) -> int:
        return self._server.process.pid

    def begin(self) -> None:
        """Waits until the server listens, and connects the client."""
        if self._row.in_process:
            return
        if self._path:
            address: int | Path = announced_path(self._server, self._path)
        else:
            address = announced_port(self._server)
        command = load_command(self._load, address, self.server_pid, self._row, self._cores)
        self._client = self._stack.enter_context(Child(command))

    def turn(self, timing: Timing) -> Sample:
        """Works for this long; for longer if nothing happened: on a busy machine others may have
        the core for as long as a short window is."""
        for longer in (1, *LONGER):
            timing = Timing(timing.warm_up, timing.window * longer)
            try:
                sample = sample_of(self._ask(timing))
                break
            except NothingHappened:
                if longer == LONGER[-1]:
                    raise
        self._samples.append(sample)
        return sample

    def rest(self) -> None:
        """No more turns: the client begins to close its connections."""
        if self._client:
            self._client.close_input()

    def end(self) -> Sample:
        """Ends both, and sums up all turns. What the client finds at the end can still be a
        failure."""
        self.rest()
        left_open = 0
        if self._client:
            line = self._answer(self._client, END_PATIENCE + LOAD_PATIENCE)
            try:
                left_open = json.loads(line)["left_open"]
            except (ValueError, TypeError, KeyError):
                raise MeasurementFailed(f"this is no end: {line[:200]!r}") from None
        self._server.end()
        return sum_of(self._samples, left_open)

    def _ask(self, timing: Timing) -> str:
        worker = self._client or self._server
        request = worker.process.stdin
        assert request is not None
        try:
            request.write(f"{timing.warm_up} {timing.window}\n".encode())
            request.flush()
        except BrokenPipeError:
            # Its output says why.
            pass
        return self._answer(worker, timing.warm_up + timing.window + LOAD_PATIENCE)

    def _answer(self, worker: Child, patience: float) -> str:
        line = next_line(worker, patience)
        if line:
            return line
        what = "client" if worker is self._client else "program"
        complaints = worker.obituary(what)
        if worker is self._client:
            complaints = f"{complaints}\n{self._server.obituary()}"
        raise MeasurementFailed(complaints.strip() or f"the {what} said nothing")


def measure(
    launch: Launch,
    load: Sequence[str],
    row: Row,
    timing: Timing,
    cores: Cores,
    certificate: Path | None,
) -> Sample:
    """A session of one turn."""
    with Session(launch, load, row, cores, certificate) as session:
        session.begin()
        session.turn(timing)
        return session.end()


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
    return next_line(server, START_PATIENCE)


def next_line(child: Child, patience: float) -> str:
    """What the child prints next. Nothing if it has ended, or takes longer than this."""
    output = child.process.stdout
    assert output is not None
    line = b""
    if select.select([output], [], [], patience)[0]:
        line = output.readline()
    return line.decode(errors="replace").strip()


def load_command(
    load: Sequence[str], address: int | Path, server_pid: int, row: Row, cores: Cores
) -> list[str]:
    """The client that puts the row's load on the server with this process, in turns."""
    where = "--path" if isinstance(address, Path) else "--port"
    command = [*load, where, str(address), "--server-pid", str(server_pid), "--turns", "true"]
    command += ["--size", str(row.size), "--connections", str(row.connections)]
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
    return command


def sum_of(turns: Sequence[Sample], left_open: int) -> Sample:
    """All turns of a session as one sample."""

    def total(field: str) -> int:
        return sum(getattr(turn, field) for turn in turns)

    return Sample(
        requests=total("requests"),
        elapsed_ns=total("elapsed_ns"),
        server_cpu_ns=total("server_cpu_ns"),
        client_cpu_ns=total("client_cpu_ns"),
        p50_ns=round(statistics.median(turn.p50_ns for turn in turns)),
        p99_ns=round(statistics.median(turn.p99_ns for turn in turns)),
        left_open=left_open,
        resent=total("resent"),
        turns=tuple(turns),
    )


def sample_of(report: str) -> Sample:
    """The sample that a program has printed, of which ratios can be formed."""
    try:
        sample = Sample(**json.loads(report))
    except (ValueError, TypeError):
        raise MeasurementFailed(f"this is no report: {report[:200]!r}") from None
    if sample.requests == 0:
        raise NothingHappened("no request was completed")
    if sample.elapsed_ns <= 0 or sample.server_cpu_ns <= 0:
        raise NothingHappened("the clocks did not move")
    return sample


def option(name: str, value: int | Path | None) -> list[str]:
    return [] if value is None else [name, str(value)]
