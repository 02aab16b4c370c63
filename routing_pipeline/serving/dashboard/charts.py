"""Lines over time as paths of an SVG whose colours the page's style gives, so that they follow dark and light.

Belongs here: geometry of one line and what a screen reader is told of it. Does not belong here: the charts of the report
(`report.charts`), which take a renderer some hundred milliseconds each; these are drawn at every refresh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from routing_pipeline.text import NONE

WIDTH, HEIGHT, HEADROOM = 600.0, 120.0, 6.0


@dataclass(frozen=True)
class Point:
    """A place that can be pointed at: left edge and width of its column, and its value in words."""

    x: float
    width: float
    said: str


@dataclass(frozen=True)
class Chart:
    """One line, and beside it what is usual; `path` and `usual` are SVG path data, empty where there is nothing."""

    title: str
    path: str
    filling: str
    usual: str
    points: tuple[Point, ...]
    top: str
    said: str


def chart(
    title: str,
    starts: Sequence[datetime],
    values: Sequence[float | None],
    show: Callable[[float], str],
    *,
    usual: Sequence[float | None] = (),
    complete: int | None = None,
    least_top: float = 0.0,
    ends_at: float | None = None,
) -> Chart:
    """A line from 0 at the bottom to the largest value at the top, unless `ends_at` is given.

    Args:
        title: What it shows, with its unit.
        starts: Begin of each step.
        values: One per step; None leaves a gap.
        show: A value in words.
        usual: What is usual, per step.
        complete: Steps from here on are still filling, and drawn so.
        least_top: The top is never lower than this.
        ends_at: Of shares whose changes are small beside them: bottom and top are the multiples of this around all values, and both are said.
    """
    known = [value for value in (*values, *usual) if value is not None]
    bottom, top = 0.0, max([least_top, *known]) or 1.0
    if ends_at is not None and known:
        first = math.floor(min(known) / ends_at + 1e-9)
        bottom, top = first * ends_at, max(math.ceil(max(known) / ends_at - 1e-9), first + 1) * ends_at
    step = WIDTH / max(len(values), 1)
    whole = len(values) if complete is None else complete
    said = [f"{start:%d %b %H:%M}: {NONE if value is None else show(value)}" for start, value in zip(starts, values, strict=True)]
    usually = [None] * len(values) if not usual else list(usual)
    lines = [line if each is None else f"{line}, usually {show(each)}" for line, each in zip(said, usually, strict=True)]
    newest = next((line for line, value in zip(reversed(said), reversed(values), strict=True) if value is not None), "nothing yet")
    return Chart(
        title=title,
        path=_path(list(values[:whole]), step, (bottom, top), 0),
        filling=_path(list(values[max(whole - 1, 0) :]), step, (bottom, top), max(whole - 1, 0)) if whole < len(values) else "",
        usual=_path(usually, step, (bottom, top), 0),
        points=tuple(Point(x=round(place * step, 2), width=round(step, 2), said=line) for place, line in enumerate(lines)),
        top=f"{show(bottom)} to {show(top)}" if bottom else show(top),
        said=f"{title}; {newest}; highest {show(max(known)) if known else NONE}",
    )


def _path(values: Sequence[float | None], step: float, ends: tuple[float, float], first: int) -> str:
    """M and L commands; a single value between two gaps is a short level line, so that it can be seen."""
    parts, pen_down = [], False
    bottom, top = ends
    for place, value in enumerate(values):
        if value is None:
            pen_down = False
            continue
        x, y = (first + place + 0.5) * step, HEIGHT - (value - bottom) / (top - bottom) * (HEIGHT - HEADROOM)
        alone = not pen_down and (place + 1 == len(values) or values[place + 1] is None)
        parts.append(f"M{x - step / 4:.1f} {y:.1f}H{x + step / 4:.1f}" if alone else f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = not alone
    return "".join(parts)
