"""Results as an SVG picture: a panel per row, a bar per contender.

The picture has no background and follows the viewer's light or dark scheme, so that it can stand
in a README as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import svg
from .catalogue import REQUEST, Role, Unit
from .summary import Line, Result

# All lengths in pixels.
COLUMNS = 2
PANEL_WIDTH = 490
MARGIN = 20
HEADER = 74
TITLE = 26
# Height of a bar, and the distance from one bar's top to the next.
BAR = 15
BAR_STEP = 21
PANEL_GAP = 22
# Room for a contender's name before its bar, and for the figure after the longest bar.
LABEL = 132
VALUE = 190

STYLE = """
  text { font: 12px FONT; fill: #24292f; }
  .heading { font-size: 17px; font-weight: 600; }
  .title { font-size: 13px; font-weight: 600; }
  .quiet { fill: #6e7781; }
  .ours { fill: #c2571a; } .variant { fill: #e0a078; }
  .peer { fill: #8c959f; } .floor { fill: #c9d1d9; }
  .strong { font-weight: 600; }
  .limit { stroke: #6e7781; stroke-dasharray: 3 3; }
  .spread { stroke: #24292f; stroke-width: 1.2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #9198a1; }
    .ours { fill: #f0883e; } .variant { fill: #8f5a38; }
    .peer { fill: #6e7681; } .floor { fill: #3d444d; }
    .limit { stroke: #9198a1; } .spread { stroke: #e6edf3; }
  }
""".replace("FONT", svg.FONT)


def picture(results: Sequence[Result], subtitle: str) -> str:
    """The whole picture as the text of an SVG file."""
    panels = [panel(result) for result in results]
    columns = arrange([height for _, height in panels])
    body = []
    bottom = HEADER
    for (content, height), (column, top) in zip(panels, columns, strict=True):
        x = MARGIN + column * (PANEL_WIDTH + MARGIN)
        body.append(f'<g transform="translate({x} {HEADER + top})">\n{content}\n</g>')
        bottom = max(bottom, HEADER + top + height)
    height = bottom + MARGIN
    width = MARGIN + COLUMNS * (PANEL_WIDTH + MARGIN)
    heading = "Server CPU time per request, or what the panel says (shorter is better)"
    header = [svg.text(MARGIN, 30, heading, "heading"), svg.text(MARGIN, 50, subtitle, "quiet")]
    return svg.document(width, height, heading, STYLE, [*header, *body])


def arrange(heights: Sequence[int]) -> list[tuple[int, int]]:
    """Column and top of each panel: in reading order, the panels of one line start level."""
    places = []
    top = 0
    for start in range(0, len(heights), COLUMNS):
        line = heights[start : start + COLUMNS]
        places += [(column, top) for column in range(len(line))]
        top += max(line) + PANEL_GAP
    return places


def panel(result: Result) -> tuple[str, int]:
    """One row's bars, and their height."""
    shown = [line.figures for line in result.lines if line.figures]
    longest = max((max(f.cost, f.cost_high) for f in shown), default=1.0)
    scale = (PANEL_WIDTH - LABEL - VALUE) / longest
    parts = [svg.text(0, 14, result.row.title, "title")]
    for index, line in enumerate(result.lines):
        parts += bar(line, TITLE + index * BAR_STEP, scale, result.row.unit)
    height = TITLE + len(result.lines) * BAR_STEP
    floor = result.line(Role.FLOOR)
    if floor and floor.figures:
        x = LABEL + floor.figures.cost * scale
        parts.append(svg.line(x, TITLE - 4, x, height - 2, "limit"))
    return "\n".join(parts), height


def bar(line: Line, top: int, scale: float, unit: Unit) -> list[str]:
    """One contender: name, bar with the middle half of its rounds, figure and ratio."""
    role = line.contender.role
    strong = " strong" if role is Role.OURS else ""
    baseline = top + BAR - 3
    name = svg.text(LABEL - 8, baseline, line.contender.name, f"name{strong}", anchor="end")
    f = line.figures
    if f is None:
        return [name, svg.text(LABEL, baseline, line.status, "quiet")]
    middle = top + BAR / 2
    end = LABEL + max(f.cost, f.cost_high) * scale
    value = f"{f.cost:.1f} {unit.measure if unit.name == REQUEST.name else unit.cost}"
    if f.to_best_peer is not None and role is Role.OURS:
        value += f"   {f.to_best_peer:.2f} of best peer"
    width = f.cost * scale
    low, high = LABEL + f.cost_low * scale, LABEL + f.cost_high * scale
    return [
        name,
        svg.rectangle(LABEL, top, width, BAR, role.value),
        svg.line(low, middle, high, middle, "spread"),
        svg.text(end + 6, baseline, value, strong.strip()),
    ]
