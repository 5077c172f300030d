"""A run as Markdown: what README.md shows of it, and a page with everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from .catalogue import Role
from .overview import number
from .record import Run
from .summary import Figures, Line, Result, target_verdict, verdict

# Versions that are told where the machine is.
NOT_A_CONTENDER = ("python", "openssl")


def title(run: Run) -> str:
    return title_of(run.versions)


def title_of(versions: Mapping[str, str]) -> str:
    return versions.get("python", "Rust alone")


def slug(run: Run) -> str:
    return slug_of(run.versions)


def slug_of(versions: Mapping[str, str]) -> str:
    """`cpython-3.14`: the name of a run's files."""
    name, _, version = title_of(versions).partition(" ")
    return "-".join([name.lower(), *filter(None, [".".join(version.split(".")[:2])])])


def facts(run: Run) -> str:
    """Where and how it was measured, in one paragraph."""
    machine = run.machine
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, {machine['libc']}"
    how = f"medians of {rounds(run)}"
    load = f"load average at the start {machine['load_average']}"
    versions = [f"{k} {v}" for k, v in run.versions.items() if k not in NOT_A_CONTENDER]
    openssl = run.versions.get("openssl", "")
    return f"{where}; {how}; {load}. {', '.join(filter(None, [openssl, *versions]))}."


def rounds(run: Run) -> str:
    """How often everybody was measured, in words."""
    settings = run.settings
    if "turn" not in settings:
        return f"{settings['rounds']} interleaved rounds of {settings['seconds']} s"
    turns = f"windows of {settings['turn'] * 1e3:.0f} ms in turns, {settings['seconds']} s a round"
    return f"{settings['rounds']} to {settings['most_rounds']} rounds ({turns})"


# Verdicts that are told row by row, and what the rows are then.
TOLD = {
    "lost": "**aioxide takes more than the best peer** in",
    "level": "**As much, or the rounds do not agree**, in",
    "failed": "**It failed** in",
    "missing": "**It was not measured** in",
}


def tally(results: Sequence[Result]) -> str:
    """How many rows were won, and which were not, by the names that the tables show."""
    verdicts = [verdict(result) for result in results]
    counts = [f"{verdicts.count(word)} {word}" for word in TOLD if word in verdicts]
    won = f"{verdicts.count('won')} are won"
    text = f"Of {len(results)} rows {', '.join([won, *counts])}."
    targets = [target_verdict(result) for result in results]
    if any(targets):
        met, wanted = targets.count("met"), sum(map(bool, targets))
        text += f" Of {wanted} rows that have a wanted ratio {met} meet it."
    parts = [text]
    for word, heading in TOLD.items():
        rows = [r for r, each in zip(results, verdicts, strict=True) if each == word]
        if rows:
            parts.append(f"- {heading} {'; '.join(by_section(rows))}.")
    return "\n".join([parts[0], *(["", *parts[1:]] if parts[1:] else [])])


def by_section(results: Sequence[Result]) -> list[str]:
    """The rows and their ratios, section by section."""
    found = []
    for section, group in groupby(results, key=lambda result: result.row.section):
        rows = []
        for result in group:
            line = result.line(Role.OURS)
            f = line.figures if line else None
            shown = f" {ratio(f.to_best_peer)}" if f and f.to_best_peer else ""
            rows.append(f"{result.row.label}{shown}")
        found.append(f"*{section}*: {' · '.join(rows)}")
    return found


def absent(results: Sequence[Result]) -> str:
    """Which peers have no figures in which rows, and why, in one line; nothing if all have."""
    found: dict[str, list[str]] = {}
    for result in results:
        for line in result.lines:
            if line.figures is None and line.contender.role is not Role.OURS:
                found.setdefault(f"{line.contender.name}: {why(line)}", []).append(result.row.label)
    if not found:
        return ""
    parts = [f"{what} ({' · '.join(rows)})" for what, rows in found.items()]
    return f"- **Peers without figures**, and why: {'; '.join(parts)}."


def why(line: Line) -> str:
    """The last line of a reason, without what is the client's way to say it."""
    last = "".join((line.reason or line.status).strip().splitlines()[-1:])
    return last.removeprefix("load: ")


def extract(
    run: Run, pictures: Mapping[str, str], page: str, profile: str | None, opened: bool
) -> str:
    """What README.md shows. `pictures` are links and what they show, `page` and `profile` links."""
    images = "\n\n".join(f"![{label}]({link})" for link, label in pictures.items())
    told = "\n".join(filter(None, [tally(run.results), absent(run.results)]))
    parts = [f"### {title(run)}", facts(run), told, images]
    if profile:
        parts.append(f"[Where the time goes]({profile}): kernel, interpreter, the loop itself.")
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
        wanted = any(result.row.target for result in rows)
        head = [section, "", "aioxide", "best peer", "ratio", ""]
        head += ["wanted", ""] if wanted else []
        lines = [head + (["floor", "ratio"] if floor else [])]
        lines += [summary_row(result, wanted, floor) for result in rows]
        found.append(table(lines, aligned="llrrrl" + ("rl" if wanted else "") + "rr"))
    return found


def summary_row(result: Result, wanted: bool, floor: bool) -> list[str]:
    ours, best, base = result.line(Role.OURS), result.best_line, result.line(Role.FLOOR)
    f = ours.figures if ours else None
    outcome = verdict(result)
    cells = [
        result.row.label,
        result.row.unit.heading,
        with_spread(f) if f else outcome or "-",
        f"{best.contender.name} {with_spread(best.figures)}" if best and best.figures else "-",
        ratio_with_spread(f) if f else "-",
        "**lost**" if outcome == "lost" else outcome,
    ]
    if wanted:
        target = result.row.target
        at_most = f"{target.to_best_peer:.2f}" if target else ""
        if target and target.to_floor is not None:
            at_most += f", {target.to_floor:.2f} of the floor"
        cells += [at_most, target_verdict(result)]
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
        " two columns are aioxide's ratios, formed between what was measured side by side.",
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
                what = f"{line.contender.name}, {line.status}: {why(line)}"
                found.setdefault(what, []).append(f"{result.row.label} (`{result.row.key}`)")
    lines = [f"- {what}: {', '.join(rows)}" for what, rows in found.items()]
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


def ratio_with_spread(f: Figures) -> str:
    if f.to_best_peer is None or f.ratio_low is None or f.ratio_high is None:
        return ratio(f.to_best_peer)
    return f"{f.to_best_peer:.2f} ({f.ratio_low:.2f} .. {f.ratio_high:.2f})"


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
