"""A run as one picture for a README: a line per row, everybody's cost relative to the best peer.

A bar is aioxide, the marks are its peers, a thin line is the floor. The picture has a background
of its own, light or dark as the viewer's scheme is, so that its text can be read on any page.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from . import svg
from .catalogue import MEBIBYTE, Role
from .summary import Line, Result, verdict

# All lengths in pixels.
WIDTH = 880
MARGIN = 18
# Where the axis begins and ends, and where the figures behind it do.
AXIS = 292
AXIS_END = 654
FIGURE_END = 786
HEADER = 92
LEGEND_STEP = 20
SECTION = 34
ROW = 22
BAR = 11
# Half of a peer's mark.
MARK = 4.4

# The axis goes from 0 to this many times the best peer; what is beyond stands behind it, at this
# distance from each other.
LIMIT = 2.0
BEYOND = 11
TICKS = (0.0, 0.5, 1.0, 1.5, 2.0)

# Name → shape and colours, light and dark; they differ in both, for those who see no colours.
MARKS = {
    "asyncio": ("circle", "#57606a", "#9198a1"),
    "uvloop": ("square", "#0969da", "#58a6ff"),
    "rloop": ("diamond", "#8250df", "#bc8cff"),
    "zuvloop": ("up", "#1a7f37", "#3fb950"),
    "rsloop": ("down", "#9a6700", "#d29922"),
    "aiofastnet-asyncio": ("plus", "#bf3989", "#f778ba"),
    "aiofastnet-uvloop": ("cross", "#bf3989", "#f778ba"),
    "tokio": ("square", "#0969da", "#58a6ff"),
    "compio": ("diamond", "#8250df", "#bc8cff"),
    "monoio": ("up", "#1a7f37", "#3fb950"),
    "aioxide-portable": ("ring", "#c2571a", "#f0883e"),
}
OTHER = ("circle", "#57606a", "#9198a1")

# Outlines around the origin, for a mark of half-width 1.
SHAPES = {
    "circle": "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0z",
    "ring": "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0z",
    "square": "M-.9 -.9H.9V.9H-.9z",
    "diamond": "M0 -1.2L1.2 0L0 1.2L-1.2 0z",
    "up": "M0 -1.1L1.1 .9H-1.1z",
    "down": "M0 1.1L1.1 -.9H-1.1z",
    "plus": "M-1.1 0H1.1M0 -1.1V1.1",
    "cross": "M-1 -1L1 1M-1 1L1 -1",
}
# Those that are lines, not areas.
OPEN = ("plus", "cross", "ring")


def name_class(name: str) -> str:
    return f"mark-{name}" if name in MARKS else "mark-other"


def style() -> str:
    light: list[str] = []
    dark: list[str] = []
    for name, (shape, day, night) in {**MARKS, "other": OTHER}.items():
        for rules, colour in ((light, day), (dark, night)):
            paint = f"stroke: {colour}; fill: none" if shape in OPEN else f"fill: {colour}"
            rules.append(f".mark-{name} {{ {paint}; }}")
    return f"""
  text {{ font: 12px {svg.FONT}; fill: #1f2328; }}
  .heading {{ font-size: 16px; font-weight: 600; }}
  .section {{ font-size: 13px; font-weight: 600; }}
  .quiet {{ fill: #59636e; }} .small {{ font-size: 11px; fill: #59636e; }}
  .won {{ fill: #1a7f37; font-weight: 600; }} .lost {{ fill: #cf222e; font-weight: 700; }}
  .card {{ fill: #ffffff; stroke: #d1d9e0; }}
  .stripe {{ fill: #f6f8fa; }}
  .bar {{ fill: #c2571a; }} .bar-lost {{ fill: #cf222e; }}
  .spread {{ stroke: #1f2328; stroke-width: 1.2; }}
  .grid {{ stroke: #d1d9e0; }} .one {{ stroke: #59636e; stroke-width: 1.2; }}
  .floor {{ stroke: #1f2328; stroke-width: 2; }}
  .mark {{ stroke: #ffffff; stroke-width: .3; }} .open {{ stroke-width: .45; }}
  .halo {{ fill: none; stroke: #ffffff; stroke-width: 1.05; }}
  {" ".join(light)}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #f0f6fc; }} .quiet, .small {{ fill: #9198a1; }}
    .won {{ fill: #3fb950; }} .lost {{ fill: #ff7b72; }}
    .card {{ fill: #0d1117; stroke: #3d444d; }} .stripe {{ fill: #151b23; }}
    .bar {{ fill: #f0883e; }} .bar-lost {{ fill: #f85149; }}
    .spread {{ stroke: #f0f6fc; }} .grid {{ stroke: #3d444d; }} .one {{ stroke: #9198a1; }}
    .floor {{ stroke: #f0f6fc; }} .mark, .halo {{ stroke: #0d1117; }}
    {" ".join(dark)}
  }}
"""


def picture(results: Sequence[Result], heading: str, subtitle: str) -> str:
    """The whole picture as the text of an SVG file."""
    names = dict.fromkeys(
        line.contender.name
        for result in results
        for line in result.lines
        if line.figures and line.contender.role in (Role.PEER, Role.VARIANT)
    )
    has_floor = any(result.line(Role.FLOOR) for result in results)
    loses = any(verdict(result) == "lost" for result in results)
    body = [
        svg.text(MARGIN, 30, heading, "heading"),
        svg.text(MARGIN, 50, subtitle, "quiet"),
    ]
    beyond = any(
        line.figures and (line.figures.to_best_peer or 0) > LIMIT
        for result in results
        for line in result.lines
        if line.contender.role in (Role.PEER, Role.VARIANT)
    )
    legend_lines, bottom = legend(list(names), loses, has_floor, beyond)
    body += legend_lines
    y: float = bottom
    for section, group in groupby(results, key=lambda result: result.row.section):
        rows = list(group)
        body += section_lines(section, rows, y)
        y += SECTION + ROW * len(rows)
    height = y + MARGIN
    card = svg.rectangle(0.5, 0.5, WIDTH - 1, height - 1, "card", 8)
    return svg.document(WIDTH, height, f"{heading}. {subtitle}", style(), [card, *body])


def legend(names: list[str], loses: bool, has_floor: bool, beyond: bool) -> tuple[list[str], float]:
    """What the marks mean, in as many lines as it takes, and where the last of them ends."""
    x, y = float(MARGIN), HEADER - 20.0
    parts = []

    def place(label: str, drawn: str) -> None:
        nonlocal x, y
        width = 32 + 6.8 * len(label)
        if x + width > WIDTH - MARGIN:
            x, y = float(MARGIN), y + LEGEND_STEP
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{drawn}</g>')
        parts.append(svg.text(x + 20, y + 4, label))
        x += width

    place("aioxide", svg.rectangle(0, -BAR / 2, 14, BAR, "bar"))
    if loses:
        place("aioxide, where it loses", svg.rectangle(0, -BAR / 2, 14, BAR, "bar-lost"))
    for name in names:
        place(name, mark(name, 7, 0))
    if has_floor:
        place("raw-epoll, the floor", svg.line(7, -8, 7, 8, "floor"))
    place("middle half of aioxide's rounds", svg.line(0, 0, 14, 0, "spread"))
    if beyond:
        place(f"beyond {LIMIT:g}", svg.text(7, 4, "→", "quiet", "middle"))
    return parts, y + 8


def section_lines(section: str, results: Sequence[Result], top: float) -> list[str]:
    """A heading with the axis, and the section's rows."""
    first = top + SECTION
    last = first + ROW * len(results)
    parts = [svg.text(MARGIN, first - 8, section, "section")]
    for index in range(0, len(results), 2):
        y = first + index * ROW
        parts.append(svg.rectangle(8, y, WIDTH - 16, ROW, "stripe", 3))
    for tick in TICKS:
        x = place_of(tick)
        parts.append(svg.line(x, first, x, last, "one" if tick == 1 else "grid"))
        label = "best peer" if tick == 1 else f"{tick:g}"
        parts.append(svg.text(x, first - 8, label, "small", "middle"))
    for index, result in enumerate(results):
        parts += row_lines(result, first + index * ROW)
    return parts


def row_lines(result: Result, top: float) -> list[str]:
    middle = top + ROW / 2
    baseline = middle + 4
    parts = [svg.text(MARGIN, baseline, result.row.label)]
    ours = result.line(Role.OURS)
    outcome = verdict(result)
    f = ours.figures if ours else None
    if f and f.to_best_peer is not None:
        ratio = f.to_best_peer
        kind = "bar-lost" if outcome == "lost" else "bar"
        width = place_of(ratio) - AXIS
        parts.append(svg.rectangle(AXIS, middle - BAR / 2, width, BAR, kind))
        if f.ratio_low is not None and f.ratio_high is not None:
            low, high = place_of(f.ratio_low), place_of(f.ratio_high)
            parts.append(svg.line(low, middle, high, middle, "spread"))
    for line in result.lines:
        if line.contender.role is Role.FLOOR and line.figures and line.figures.to_best_peer:
            x = place_of(line.figures.to_best_peer)
            parts.append(svg.line(x, middle - 9, x, middle + 9, "floor"))
    parts += marks(result.lines, middle)
    if f:
        unit = result.row.unit
        # Of what it is, the row's label says, but for the size of the piece in bulk.
        figure = f"{number(f.cost)} {unit.cost if unit.name == MEBIBYTE.name else unit.measure}"
        parts.append(svg.text(FIGURE_END, baseline, figure, "quiet", "end"))
        if f.to_best_peer is not None:
            shown = f"{f.to_best_peer:.2f} {outcome}"
            parts.append(svg.text(FIGURE_END + 12, baseline, shown, outcome))
    else:
        parts.append(svg.text(AXIS + 6, baseline, f"aioxide: {outcome or 'not measured'}", "lost"))
    return parts


def marks(lines: Sequence[Line], y: float) -> list[str]:
    """The peers of a row: the dearest first, so that the best is seen. Those beyond the axis stand
    side by side behind it."""
    shown = [
        (line.figures.to_best_peer, line.contender.name)
        for line in lines
        if line.figures
        and line.figures.to_best_peer
        and line.contender.role in (Role.PEER, Role.VARIANT)
    ]
    parts = []
    beyond = sorted((ratio, name) for ratio, name in shown if ratio > LIMIT)
    if beyond:
        parts.append(svg.text(AXIS_END + 4, y + 4, "→", "quiet"))
    for index, (_, name) in enumerate(beyond):
        parts.append(mark(name, AXIS_END + 24 + BEYOND * index, y))
    within = sorted((each for each in shown if each[0] <= LIMIT), reverse=True)
    return parts + [mark(name, place_of(ratio), y) for ratio, name in within]


def mark(name: str, x: float, y: float) -> str:
    """One peer. A halo of the background's colour parts it from what is behind it."""
    shape = MARKS.get(name, OTHER)[0]
    kinds = ["halo", f"open {name_class(name)}"] if shape in OPEN else [f"mark {name_class(name)}"]
    place = f'd="{SHAPES[shape]}" transform="translate({x:.1f} {y:.1f}) scale({MARK})"'
    return "".join(f'<path class="{kind}" {place}/>' for kind in kinds)


def place_of(ratio: float) -> float:
    return AXIS + (AXIS_END - AXIS) * min(max(ratio, 0.0), LIMIT) / LIMIT


def number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
