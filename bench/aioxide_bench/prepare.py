"""Makes every contender ready to be started, or says why it cannot be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .cargo import BENCH, SetupError, build
from .catalogue import Contender, Row
from .environment import OURS, Environment, packages, run, tail
from .measure import Launch
from .progress import Progress

SERVERS = BENCH / "servers"

# What glibc's allocator adjusts itself to once a program has freed one block of 256 KiB: such
# blocks come from the heap, and the heap keeps its pages. Before that, a loop that receives into
# fresh blocks of 256 KiB (asyncio and rloop do) maps and unmaps memory for every single receive,
# which triples its cost. Where a program stands is an accident of its imports. So that no ratio
# rests on it, all Python servers get the settled state, in which every peer is at its best.
SETTLED_HEAP = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}

# The packages whose versions a Rust row depends on.
RUST_PACKAGES = ("tokio", "mio", "compio", "monoio", "rustix", "rustls", "ring")


@dataclass
class Prepared:
    """What the measurements start."""

    load: tuple[str, ...]
    launches: dict[Contender, Launch] = field(default_factory=dict)
    # Contenders that cannot take part → why.
    missing: dict[Contender, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    # What the servers of the rows over TLS show, if there are such rows.
    certificate: Path | None = None


def python_launch(
    python: str,
    loop: str,
    heap: str,
    environment: Mapping[str, str] | None = None,
    program: str = "echo.py",
) -> Launch:
    """A server on this loop. `heap` is `settled` or `fresh`, which means untouched."""
    settled = SETTLED_HEAP if heap == "settled" else {}
    command = (python, str(SERVERS / program), "--loop", loop)
    return Launch(command, environment or {}, has_modes=True, heap=settled)


def prepare(
    rows: Sequence[Row],
    contenders: Sequence[Contender],
    environment: Environment,
    wheel: Path | None,
    heap: str,
    progress: Progress,
) -> Prepared:
    """Builds and installs. A contender that fails is missing; only the client, and the certificate
    of the rows over TLS, must succeed."""
    progress.say("building the load generator")
    prepared = Prepared((build("load").path,))
    if any(row.tls for row in rows):
        prepared.certificate = make_certificate(environment.folder.parent, progress)
    launches, prepared.missing = prepare_python(contenders, environment, wheel, heap)
    prepared.launches = launches
    if launches:
        prepared.versions |= environment.versions(python_packages(launches))
    for contender in contenders:
        if contender.binary:
            prepare_rust(contender, contender.binary, environment, progress, prepared)
    return prepared


def make_certificate(folder: Path, progress: Progress) -> Path:
    """Makes a key and a certificate for this run."""
    progress.say("making a certificate")
    done = run([build("certificate", ("certificate",)).path])
    if done.returncode != 0:
        raise SetupError(f"no certificate could be made:\n{tail(done)}")
    path = folder / "bench-certificate.pem"
    folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    # A key, if only of this run: nobody else's to read.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(done.stdout)
    return path


def prepare_python(
    contenders: Sequence[Contender],
    environment: Environment,
    wheel: Path | None,
    heap: str,
) -> tuple[dict[Contender, Launch], dict[Contender, str]]:
    """Installs the loops of these contenders, each loop once: how their servers are started, and
    why those that cannot take part are missing."""
    launches: dict[Contender, Launch] = {}
    missing: dict[Contender, str] = {}
    loops = dict.fromkeys(contender.loop for contender in contenders if contender.loop)
    if loops:
        environment.create()
    why_missing = {
        loop: environment.install_ours(wheel) if loop == OURS else environment.install_peer(loop)
        for loop in loops
    }
    needs = dict.fromkeys(c.packages for c in contenders if c.packages)
    why_packages = {need: environment.install_packages(need) for need in needs}
    for contender in contenders:
        if contender.loop is None:
            continue
        if reason := why_missing[contender.loop] or why_packages.get(contender.packages):
            missing[contender] = reason
        else:
            launches[contender] = python_launch(
                environment.python,
                contender.loop,
                heap,
                dict(contender.environment),
                contender.program,
            )
    return launches, missing


def python_packages(contenders: Iterable[Contender]) -> list[str]:
    """The packages of these contenders' loops, and what stands above them."""
    found: dict[str, None] = {}
    for contender in contenders:
        found |= dict.fromkeys(packages(contender.loop) if contender.loop else ())
        found |= dict.fromkeys(contender.packages)
    return list(found)


def prepare_rust(
    contender: Contender,
    binary: str,
    environment: Environment,
    progress: Progress,
    prepared: Prepared,
) -> None:
    source = BENCH / "src" / "bin" / (binary.replace("-", "_") + ".rs")
    if not source.exists():
        prepared.missing[contender] = f"there is no {source.relative_to(BENCH.parent)} yet"
        return
    openssl = environment.openssl() if contender.openssl else None
    if contender.openssl and openssl is None:
        prepared.missing[contender] = "OpenSSL is not a library of its own in this Python"
        return
    progress.say(f"building {binary}")
    try:
        built = build(binary, contender.features)
    except SetupError as error:
        prepared.missing[contender] = str(error)
        return
    command = openssl.command(built.path) if openssl else (built.path,)
    prepared.launches[contender] = Launch(command, has_modes=contender.has_modes)
    for package in RUST_PACKAGES:
        if package in built.versions:
            prepared.versions[package] = built.versions[package]
