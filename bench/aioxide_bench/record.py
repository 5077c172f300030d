"""Results as JSON: every sample, so that others can check or draw differently; and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .cargo import SetupError
from .catalogue import Contender, Quantity, Role, Row, Unit
from .measure import Sample
from .rounds import Outcome
from .summary import Line, Result, summarise

# Raised when a field changes its meaning. Those before which had no turns can still be read.
FORMAT = 3
READABLE = (2, FORMAT)


@dataclass(frozen=True)
class Run:
    """A run, as its file tells it."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    results: Sequence[Result]


def write(
    path: Path,
    about: Mapping[str, Any],
    results: Sequence[tuple[Result, Sequence[Outcome]]],
) -> None:
    """`about` holds the machine, the versions and the settings of the run."""
    head = json.dumps({"format": FORMAT, **about}, indent=1, ensure_ascii=False)
    # A row is a line: of every turn there are many numbers.
    rows = [
        json.dumps(row_record(result, outcomes), ensure_ascii=False) for result, outcomes in results
    ]
    path.write_text(head.removesuffix("\n}") + ',\n "rows": [\n' + ",\n".join(rows) + "\n]}\n")


def read(path: Path) -> Run:
    """What [`write`] has written. Figures are made of the samples again, by the present rules."""
    try:
        content = json.loads(path.read_text())
        if content["format"] not in READABLE:
            raise SetupError(f"{path} has format {content['format']}, not {FORMAT}")
        return Run(
            content["machine"],
            content["versions"],
            content["settings"],
            [result_of(record) for record in content["rows"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(f"{path} holds no results: {error!r}") from error


def row_record(result: Result, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    record = asdict(result.row)
    record["unit"]["quantity"] = result.row.unit.quantity.value
    return {
        **record,
        "title": result.row.title,
        "best_peer": result.best_peer.name if result.best_peer else None,
        "wanted": asdict(result.row.target) if result.row.target else None,
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


def result_of(record: Mapping[str, Any]) -> Result:
    unit = record["unit"]
    row = {field.name: record[field.name] for field in fields(Row)}
    row["unit"] = Unit(**{**unit, "quantity": Quantity(unit["quantity"])})
    return summarise(Row(**row), [outcome_of(each) for each in record["contenders"]])


def outcome_of(record: Mapping[str, Any]) -> Outcome:
    outcome = Outcome(
        Contender(record["name"], Role(record["role"])),
        [Sample.from_json(each) for each in record["rounds"]],
    )
    if record["status"] == "missing":
        outcome.missing = record["reason"]
    elif record["status"] == "failed":
        outcome.failure = record["reason"]
    return outcome
