"""Colours of the charts by what they stand for, on a light and on a dark page.

Belongs here: the colours, and how a page makes them its own. Does not belong here: which mark has which (the charts), the
page's other colours (`report.css`). `tests/report/test_palette.py` holds them apart for colour-blind eyes; on grey
paper shape, dash or a label tells what colour tells on a screen.
"""

from __future__ import annotations

INK = "#3d4654"
"""Text and lines that carry a reading: trend, budget, outlines."""
GRID = "#d9dee7"
PAPER = "#fefefe"
"""What lies behind: hollow marks and the rims of marks that touch."""
QUIET = "#8390a4"
"""As it is, and beside the point."""
MAIN = "#1b50ae"
"""What the picture is about; what is proposed."""
MARK = "#d4711f"
"""Look here: today's point, incidents, what became more expensive."""

MEANING: dict[str, str] = {INK: "ink", GRID: "grid", PAPER: "paper", QUIET: "quiet", MAIN: "main", MARK: "mark"}
DARK: dict[str, str] = {INK: "#c3cddb", GRID: "#303a48", PAPER: "#19202a", QUIET: "#8491a5", MAIN: "#5f96f5", MARK: "#ffb066"}
"""The same on a dark page; the renderer writes the light ones."""
STRONGEST = 0.42
"""Opacity at which a cell behind text may be filled with `MAIN`, so that `INK` stays readable on it."""


def variables() -> str:
    """Style sheet that defines `--chart-ink` and the others, by the reader's colour scheme; paper is light."""
    light, dark = (
        "; ".join(f"--chart-{meaning}: {shades.get(colour, colour)}" for colour, meaning in MEANING.items()) for shades in ({}, DARK)
    )
    return f":root {{ {light}; }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}; }} }}\n"


def of_the_page(svg: str) -> str:
    """A picture with its colours replaced by the page's variables."""
    for colour, meaning in MEANING.items():
        svg = svg.replace(f'"{colour}"', f'"var(--chart-{meaning}, {colour})"')
    return svg
