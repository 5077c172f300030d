"""Facts about the machine, without which figures mean little."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from .environment import run


def facts() -> dict[str, str | int | float]:
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 0,
        "libc": " ".join(platform.libc_ver()),
        "rustc": run(["rustc", "--version"]).stdout.strip() or "unknown",
        # Processes that wanted a core in the last minute: above 1, others were at work too.
        "load_average": round(os.getloadavg()[0], 2),
    }


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
