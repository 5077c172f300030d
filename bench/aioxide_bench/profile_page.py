"""A profile as Markdown: whose the CPU time is, and what would be left if aioxide's were none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from .catalogue import Role, Row, Target
from .markdown import table
from .overview import number
from .owners import Owner
from .profile import Part, Profile, RowProfile

# Owners in the tables, in their order. What perf cannot say is rare, and stands with the modules.
COLUMNS = (
    Owner.KERNEL,
    Owner.INTERPRETER,
    Owner.OPENSSL,
    Owner.C_LIBRARY,
    Owner.LOOP,
    Owner.MODULES,
)


def page(profile: Profile, rows: Sequence[Row], title: str) -> str:
    """The whole page. `rows` are the catalogue's."""
    found = {row.key: row for row in rows}
    pairs = [(found[one.key], one) for one in profile.rows if one.key in found and one.parts]
    machine = profile.machine
    parts = [
        f"# {title}: where the time goes",
        "Written by `bench/run.py publish`, from what `bench/run.py profile` has sampled with perf"
        f" ([how](../README.md#where-the-time-goes)). {machine['cpu']}, {machine['cores']} cores,"
        f" {machine['kernel']}.",
        "Of each row aioxide, the best peer and the floor: CPU time in the row's unit, and the"
        " share of it. *The loop itself* is aioxide's module, or the peer's; Python code, asyncio's"
        " loop included, is the interpreter's. Of a program from Rust, all that is compiled into it"
        " is the loop's.",
        "*Without aioxide* is what would be left if its own code cost nothing: the kernel, the"
        " interpreter and the rest as they are, divided by all that the best peer costs. A ratio"
        " that is wanted and lies below it cannot be had by a faster loop, only by making the"
        " kernel and the interpreter do less. *As the floor* is what would be left if its own code"
        " cost what the floor's does, in which little is but entering and leaving the kernel. The"
        " costs and the ratios are those of a run without perf, and no finer than that run:"
        " README.md's tables have the middle halves.",
        summary_table(pairs),
    ]
    for section, group in groupby(pairs, key=lambda pair: pair[0].section):
        shown = list(group)
        parts += [f"## {section}", owners_table(shown), kernel_table(shown)]
    return "\n\n".join(parts) + "\n"


def summary_table(pairs: Sequence[tuple[Row, RowProfile]]) -> str:
    lines = [["row", "ratio", "without aioxide", "as the floor", "wanted", ""]]
    for row, one in pairs:
        ours = one.part(Role.OURS)
        if ours is None or ours.ratio is None or one.without_the_loop is None:
            continue
        target, floor_s = row.target, one.with_the_floor_s_loop
        lines.append(
            [
                f"{row.label} (`{row.key}`)",
                f"{ours.ratio:.2f}",
                f"{one.without_the_loop:.2f}",
                "" if floor_s is None else f"{floor_s:.2f}",
                f"{target.to_best_peer:.2f}" if target else "",
                reach(ours.ratio, one.without_the_loop, target, floor_s),
            ]
        )
    return table(lines, aligned="lrrrrl")


def reach(ratio: float, without: float, target: Target | None, floor_s: float | None = None) -> str:
    """What the ratios say."""
    if target is None:
        return ""
    if round(ratio, 2) <= target.to_best_peer:
        return "met" if target.to_floor is None else "met, of the best peer"
    if without > target.to_best_peer:
        return "**below what a loop of no cost takes**"
    if floor_s is not None and floor_s > target.to_best_peer:
        return "**below what a loop as cheap as the floor takes**"
    share = (ratio - target.to_best_peer) / (ratio - without) if ratio > without else 1.0
    return f"{share:.0%} of aioxide's own part would have to go"


def owners_table(pairs: Sequence[tuple[Row, RowProfile]]) -> str:
    used = [
        owner
        for owner in COLUMNS
        if any(share(part, owner) for _, one in pairs for part in one.parts)
    ]
    lines = [["row", "", "", "all", *(owner.value for owner in used)]]
    for row, one in pairs:
        for index, part in enumerate(one.parts):
            lines.append(
                [
                    "" if index else row.label,
                    "" if index else row.unit.cost,
                    part.name,
                    number(part.cost),
                    *(cell(part, owner) for owner in used),
                ]
            )
    return table(lines, aligned="lll" + "r" * (len(used) + 1))


def kernel_table(pairs: Sequence[tuple[Row, RowProfile]]) -> str:
    lines = [["row", "", "largest in the kernel, and their shares of all"]]
    for row, one in pairs:
        for index, part in enumerate(one.parts):
            largest = ", ".join(f"`{symbol}` {of_all:.1%}" for symbol, of_all in part.shares.kernel)
            lines.append(["" if index else row.label, part.name, largest or "-"])
    return table(lines, aligned="lll")


def share(part: Part, owner: Owner) -> float:
    unknown = part.shares.of(Owner.UNKNOWN) if owner is Owner.MODULES else 0.0
    return part.shares.of(owner) + unknown


def cell(part: Part, owner: Owner) -> str:
    of_all = share(part, owner)
    return f"{number(part.cost * of_all)} ({of_all:.0%})" if of_all else "-"
