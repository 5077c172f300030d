"""Results as JSON: every sample, so that others can check or draw differently."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .rounds import Outcome
from .summary import Line, Result

# Raised when a field changes its meaning.
FORMAT = 1


def write(
    path: Path,
    about: Mapping[str, Any],
    results: Sequence[tuple[Result, Sequence[Outcome]]],
) -> None:
    """`about` holds the machine, the versions and the settings of the run."""
    rows = [row_record(result, outcomes) for result, outcomes in results]
    text = json.dumps({"format": FORMAT, **about, "rows": rows}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n")


def row_record(result: Result, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "key": result.row.key,
        "title": result.row.title,
        "mode": result.row.mode,
        "size": result.row.size,
        "connections": result.row.connections,
        "tls": result.row.tls,
        "handshakes": result.row.handshakes,
        "unix": result.row.unix,
        "unit": asdict(result.row.unit),
        "best_peer": result.best_peer.name if result.best_peer else None,
        "contenders": [
            line_record(line, outcome) for line, outcome in zip(result.lines, outcomes, strict=True)
        ],
    }


def line_record(line: Line, outcome: Outcome) -> dict[str, Any]:
    return {
        "name": line.contender.name,
        "role": line.contender.role.value,
        "status": line.status,
        "reason": line.reason,
        "left_open": line.left_open,
        "resent": line.resent,
        "median": asdict(line.figures) if line.figures else None,
        "rounds": [sample.as_json() for sample in outcome.samples],
    }
