"""Makes every contender ready to be started, or says why it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .cargo import BENCH, SetupError, build
from .catalogue import Contender
from .environment import OURS, Environment
from .measure import Launch
from .progress import Progress

ECHO = str(BENCH / "servers" / "echo.py")

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
RUST_PACKAGES = ("tokio", "mio", "rustix")


@dataclass
class Prepared:
    """What the measurements start."""

    load: tuple[str, ...]
    launches: dict[Contender, Launch] = field(default_factory=dict)
    # Contenders that cannot take part → why.
    missing: dict[Contender, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def python_launch(python: str, loop: str, heap: str) -> Launch:
    """The echo server on this loop. `heap` is `settled` or `fresh`, which means untouched."""
    environment = SETTLED_HEAP if heap == "settled" else {}
    return Launch((python, ECHO, "--loop", loop), environment, has_modes=True)


def prepare(
    contenders: Sequence[Contender],
    environment: Environment,
    wheel: Path | None,
    heap: str,
    progress: Progress,
) -> Prepared:
    """Builds and installs. A contender that fails is missing; only the client must succeed."""
    progress.say("building the load generator")
    prepared = Prepared((build("load").path,))
    if any(contender.loop for contender in contenders):
        environment.create()
    for contender in contenders:
        if contender.loop:
            prepare_python(contender, contender.loop, environment, wheel, heap, prepared)
        elif contender.binary:
            prepare_rust(contender, contender.binary, progress, prepared)
    loops = [contender.loop for contender in contenders if contender.loop]
    if loops:
        prepared.versions |= environment.versions(loops)
    return prepared


def prepare_python(
    contender: Contender,
    loop: str,
    environment: Environment,
    wheel: Path | None,
    heap: str,
    prepared: Prepared,
) -> None:
    ours = loop == OURS
    reason = environment.install_ours(wheel) if ours else environment.install_peer(loop)
    if reason is None:
        prepared.launches[contender] = python_launch(environment.python, loop, heap)
    else:
        prepared.missing[contender] = reason


def prepare_rust(contender: Contender, binary: str, progress: Progress, prepared: Prepared) -> None:
    source = BENCH / "src" / "bin" / (binary.replace("-", "_") + ".rs")
    if not source.exists():
        prepared.missing[contender] = f"there is no {source.relative_to(BENCH.parent)} yet"
        return
    progress.say(f"building {binary}")
    try:
        built = build(binary, contender.features)
    except SetupError as error:
        prepared.missing[contender] = str(error)
        return
    prepared.launches[contender] = Launch((built.path,))
    for package in RUST_PACKAGES:
        if package in built.versions:
            prepared.versions[package] = built.versions[package]
