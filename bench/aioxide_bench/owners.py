"""Whose a sample of a profile is: the kernel's, the interpreter's, the loop's own; no I/O."""

from __future__ import annotations

import enum
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

# Kernel symbols that a profile names.
LARGEST = 3


class Owner(enum.Enum):
    """Who spends time in a server's process."""

    KERNEL = "kernel"
    # Pure Python code too: it is the interpreter that runs it. And the standard library's modules.
    INTERPRETER = "interpreter"
    OPENSSL = "OpenSSL"
    C_LIBRARY = "C library"
    # aioxide, or the peer; of a program from Rust all that is compiled into it.
    LOOP = "the loop itself"
    MODULES = "other modules"
    # What perf cannot say.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Shares:
    """What a profile says of one process."""

    samples: int
    # Of all samples, 0 to 1.
    owners: dict[Owner, float]
    # The kernel's functions with the most samples of their own, and their shares of all.
    kernel: tuple[tuple[str, float], ...]

    def of(self, owner: Owner) -> float:
        return self.owners.get(owner, 0.0)


# A line of `perf script -F ip,sym,dso`.
SAMPLE = re.compile(r"^\s*[0-9a-f]+ (?P<symbol>.*) \((?P<place>[^()]*(?:\([^()]*\))?)\)$")

KERNEL = re.compile(r"^\[(kernel\.|guest\.kernel\.|[A-Za-z0-9_]+\]$)")
INTERPRETER = re.compile(r"^(python[0-9.]*|libpython[0-9.]+\.so.*)$")
OPENSSL = re.compile(r"^lib(ssl|crypto)[.-]")
C_LIBRARY = re.compile(r"^(ld-|ld\.so|lib(c|m|pthread|dl|rt|gcc_s|stdc\+\+)[.-])")
MODULE = re.compile(r"\.so(\.|$)")


def owner(place: str, loop: Sequence[str]) -> Owner:
    """Who owns code that lies in this file. `loop` are the folders of the loop's package, or the
    program's file where it is one from Rust."""
    if place in ("[vdso]", "[vsyscall]"):
        # A part of the C library that the kernel brings.
        return Owner.C_LIBRARY
    if place in ("[unknown]", "[heap]", "[stack]", "[anon]") or place.startswith("//anon"):
        return Owner.UNKNOWN
    if KERNEL.match(place) or place.endswith((".ko", ".ko.xz", ".ko.zst")):
        return Owner.KERNEL
    path = PurePath(place)
    if any(path == PurePath(mine) or PurePath(mine) in path.parents for mine in loop):
        return Owner.LOOP
    name = path.name
    if INTERPRETER.match(name) or name.partition(".")[0] in sys.stdlib_module_names:
        return Owner.INTERPRETER
    if OPENSSL.match(name):
        return Owner.OPENSSL
    if C_LIBRARY.match(name):
        return Owner.C_LIBRARY
    return Owner.MODULES if MODULE.search(name) else Owner.UNKNOWN


def shares(lines: Iterable[str], loop: Sequence[str]) -> Shares:
    """Splits what `perf script` has printed."""
    owners: Counter[Owner] = Counter()
    kernel: Counter[str] = Counter()
    for line in lines:
        if (match := SAMPLE.match(line)) is None:
            continue
        whose = owner(match["place"], loop)
        owners[whose] += 1
        if whose is Owner.KERNEL:
            kernel[match["symbol"]] += 1
    total = owners.total()
    return Shares(
        total,
        {whose: owners[whose] / total for whose in Owner if owners[whose]},
        tuple((symbol, count / total) for symbol, count in kernel.most_common(LARGEST)),
    )
