"""A run as Markdown: what README.md shows of it, and a page with everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from .catalogue import Role
from .overview import number
from .record import Run
from .summary import Figures, Line, Result, verdict

# Versions that are told where the machine is.
NOT_A_CONTENDER = ("python", "openssl")


def title(run: Run) -> str:
    return run.versions.get("python", "Rust alone")


def slug(run: Run) -> str:
    """`cpython-3.14`: the name of the run's files."""
    name, _, version = title(run).partition(" ")
    return "-".join([name.lower(), *filter(None, [".".join(version.split(".")[:2])])])


def facts(run: Run) -> str:
    """Where and how it was measured, in one paragraph."""
    machine, settings = run.machine, run.settings
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, {machine['libc']}"
    how = f"medians of {settings['rounds']} interleaved rounds of {settings['seconds']} s"
    load = f"load average at the start {machine['load_average']}"
    versions = [f"{k} {v}" for k, v in run.versions.items() if k not in NOT_A_CONTENDER]
    openssl = run.versions.get("openssl", "")
    return f"{where}; {how}; {load}. {', '.join(filter(None, [openssl, *versions]))}."


def tally(results: Sequence[Result]) -> str:
    """How many rows were won, and which were not, in one sentence."""
    verdicts = {result.row.key: verdict(result) for result in results}
    won = sum(each == "won" for each in verdicts.values())
    parts = [f"Of {len(results)} rows {won} are won"]
    for word in ("level", "lost", "failed", "missing"):
        keys = [f"`{key}`" for key, each in verdicts.items() if each == word]
        if keys:
            parts.append(f"{len(keys)} {word}: {', '.join(keys)}")
    return "; ".join(parts) + "."


def extract(run: Run, pictures: Mapping[str, str], page: str, opened: bool) -> str:
    """What README.md shows. `pictures` are links and what they show, `page` a link."""
    images = "\n\n".join(f"![{label}]({link})" for link, label in pictures.items())
    parts = [f"### {title(run)}", facts(run), tally(run.results), images]
    state = " open" if opened else ""
    parts.append(f"<details{state}><summary>{title(run)}: the figures</summary>")
    parts += tables(run.results)
    parts.append(f"[Every contender's figures]({page})")
    parts.append("</details>")
    return "\n\n".join(parts)


def tables(results: Sequence[Result]) -> list[str]:
    """Ours, the best peer and the floor: a table for each section."""
    found = []
    for section, group in groupby(results, key=lambda result: result.row.section):
        rows = list(group)
        floor = any(result.line(Role.FLOOR) for result in rows)
        head = [section, "", "aioxide", "best peer", "ratio", ""]
        lines = [head + (["floor", "ratio"] if floor else [])]
        lines += [summary_row(result, floor) for result in rows]
        found.append(table(lines, aligned="llrrrlrr"))
    return found


def summary_row(result: Result, floor: bool) -> list[str]:
    ours, best, base = result.line(Role.OURS), result.best_line, result.line(Role.FLOOR)
    f = ours.figures if ours else None
    outcome = verdict(result)
    cells = [
        result.row.label,
        result.row.unit.heading,
        with_spread(f) if f else outcome or "-",
        f"{best.contender.name} {with_spread(best.figures)}" if best and best.figures else "-",
        ratio(f.to_best_peer if f else None),
        "**lost**" if outcome == "lost" else outcome,
    ]
    if floor:
        cells.append(number(base.figures.cost) if base and base.figures else "-")
        cells.append(ratio(f.to_floor if f else None))
    return cells


def full_page(run: Run) -> str:
    """Every contender of every row, and why some have no figures."""
    parts = [
        f"# {title(run)}: every contender",
        "Written by `bench/run.py publish`. [What is measured, and how](../README.md).",
        facts(run),
        tally(run.results),
        "Medians; in brackets the middle half of the rounds. The best peer's are bold. The last"
        " two columns are aioxide's ratios, formed within each round.",
    ]
    for section, group in groupby(run.results, key=lambda result: result.row.section):
        parts += [f"## {section}", contenders_table(list(group))]
    parts += reasons(run.results)
    return "\n\n".join(parts) + "\n"


def contenders_table(results: Sequence[Result]) -> str:
    names = list(dict.fromkeys(x.contender.name for result in results for x in result.lines))
    lines = [["row", "", *names, "to the best peer", "to the floor"]]
    for result in results:
        by_name = {line.contender.name: line for line in result.lines}
        ours = result.line(Role.OURS)
        f = ours.figures if ours else None
        shown = ratio(f.to_best_peer if f else None)
        outcome = verdict(result)
        lines.append(
            [
                f"{result.row.label} (`{result.row.key}`)",
                result.row.unit.heading,
                *(contender_cell(by_name.get(name), result) for name in names),
                f"{shown}, **lost**" if outcome == "lost" else f"{shown}, {outcome}",
                ratio(f.to_floor if f else None),
            ]
        )
    return table(lines, aligned="ll" + "r" * (len(names) + 2))


def contender_cell(line: Line | None, result: Result) -> str:
    if line is None:
        return ""
    if line.figures is None:
        return line.status
    figures = with_spread(line.figures)
    return f"**{figures}**" if line.contender is result.best_peer else figures


def reasons(results: Sequence[Result]) -> list[str]:
    """Why contenders have no figures, each reason once."""
    found: dict[str, list[str]] = {}
    for result in results:
        for line in result.lines:
            if line.figures is None:
                last = (line.reason or "").strip().splitlines()[-1:]
                what = f"{line.contender.name}, {line.status}: {' '.join(last)}"
                found.setdefault(what, []).append(f"`{result.row.key}`")
    lines = [f"- {what} ({', '.join(keys)})" for what, keys in found.items()]
    return ["## Who did not take part", "\n".join(lines)] if lines else []


def table(lines: Sequence[Sequence[str]], aligned: str) -> str:
    """The first line is the head. `aligned` has l or r for each column."""
    head, *rest = lines
    rule = ["---:" if aligned[i] == "r" else "---" for i in range(len(head))]
    return "\n".join("| " + " | ".join(map(cell, each)) + " |" for each in (head, rule, *rest))


def cell(content: Any) -> str:
    return str(content).replace("|", "\\|").replace("\n", " ")


def with_spread(f: Figures) -> str:
    return f"{number(f.cost)} ({number(f.cost_low)} .. {number(f.cost_high)})"


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
