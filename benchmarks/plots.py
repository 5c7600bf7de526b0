"""Bar charts as SVG, for `docs/benchmarks.md`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, LABEL, VALUE, BAR, GAP, HEAD = 720, 250, 70, 18, 8, 34
COLOUR = "#4c72b0"


class Bar(NamedTuple):
    """One bar of a chart."""

    label: str
    value: float


def bars(title: str, unit: str, values: Sequence[Bar]) -> str:
    """Draw horizontal bars from zero to the largest value, each with its number."""
    largest = max((bar.value for bar in values), default=0) or 1
    height = HEAD + len(values) * (BAR + GAP)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="13">'
    )
    lines = [
        opening,
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="0" y="16" font-weight="bold">{escape(title)} ({escape(unit)})</text>',
    ]
    for number, bar in enumerate(values):
        top = HEAD + number * (BAR + GAP)
        length = bar.value / largest * (WIDTH - LABEL - VALUE)
        middle = top + BAR - 5
        lines += [
            f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{COLOUR}"/>',
            f'<text x="{LABEL + length + 6:.1f}" y="{middle}">{bar.value:g}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
