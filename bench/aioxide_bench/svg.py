"""Pieces of SVG that the pictures have in common."""

from __future__ import annotations

from html import escape

FONT = 'system-ui, -apple-system, "Segoe UI", sans-serif'


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"'
        f' xml:space="preserve">{escape(content)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def rectangle(x: float, y: float, width: float, height: float, kind: str, radius: float = 2) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" rx="{radius:g}"'
        f' width="{max(0.0, width):.1f}" height="{height:.1f}"/>'
    )


def document(width: float, height: float, label: str, style: str, body: list[str]) -> str:
    """The text of an SVG file. `label` is what a screen reader says."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"',
            f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(label)}">',
            f"<style>{style}</style>",
            *body,
            "</svg>\n",
        ]
    )
