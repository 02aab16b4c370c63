"""What all charts share: the house style, one width, labels that do nothing, marks that read without colour.

Belongs here: how any chart is set up and rendered. Does not belong here: a picture of something (the other modules), the
colours (`palette`), words (`text`).

Labels come from logs. They reach Vega as data or as a literal scale domain, never in an expression or a format string,
shortened and without control characters; its SVG writer escapes them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from routing_pipeline import text as wording
from routing_pipeline.estimates import Result
from routing_pipeline.report.charts.compact import compact
from routing_pipeline.report.charts.palette import GRID, INK
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.results import ResultStore, key_of

if TYPE_CHECKING:
    import altair as alt

WIDTH = 680
"""Of every picture with its axes, so that letters are of one size on a page."""
LABEL_LENGTH = 26
_CLIP = re.compile(r'((?:id="|url\(#)clip)(\d+)(?=["\)])')
_TAG = re.compile(r"<[^<>]*>")
_UNSEEN = re.compile(r'<path class="(?:back|fore)ground"[^<>]*/>')
_SPOKEN = re.compile(
    r' (?:(?:class|role|aria-roledescription|aria-hidden|pointer-events)="[^"]*"|(?:opacity|stroke-width)="1"|stroke-miterlimit="10")'
)

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Chart:
    """A picture, and what it shows in words for those who do not see it."""

    title: str
    text: str
    of: tuple[Result | None, ...]
    """The results that it shows: the same ones make the same picture."""
    drawn: Callable[[], alt.LayerChart]

    @property
    def key(self) -> str:
        """Changes whenever the picture may change."""
        shown = [None if each is None else each.model_dump_json() for each in self.of]
        return key_of(title=self.title, of=shown, code=code_key(self.drawn.__module__))

    @cached_property
    def svg(self) -> str:
        """The picture; drawn when first asked for, which takes a tenth of a second."""
        import vl_convert

        spec: dict[str, Any] = self.drawn().to_dict()
        spec["config"] = _STYLE
        return compact(_shorter(_with_own_ids(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))))


def svg_of(chart: Chart) -> str:
    """A chart's SVG, drawn here; `kept` draws each picture once."""
    return chart.svg


def kept(results: ResultStore) -> Callable[[Chart], str]:
    """A chart's SVG from the store, where it was drawn before."""
    return lambda chart: results.picture(chart.key, lambda: chart.svg)


# Fonts are the reader's own, and nothing is fetched.
_STYLE: dict[str, Any] = {
    "background": "transparent",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
        "labelLimit": 240,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 12,
        "labelLimit": 240,
        "orient": "top",
        "title": None,
        "symbolSize": 90,
        "symbolOpacity": 1,
        "columnPadding": 18,
    },
    "text": {"color": INK, "fontSize": 12},
    # Each chart has one text alternative; a label per bar would only be read out on top of it.
    "aria": False,
}


def layered(layers: Sequence[alt.Chart], height: float) -> alt.LayerChart:
    """Layers as one picture, `WIDTH` wide with its axes."""
    import altair as alt

    fitted = alt.AutoSizeParams(type="fit-x", contains="padding")
    return alt.LayerChart(layer=list(layers), width=WIDTH, height=height, autosize=fitted)


def rows_of(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """A chart over rows that stand in the picture itself."""
    import altair as alt

    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def bare(**given: Any) -> alt.Axis:
    """An axis of names: labels, no lines."""
    import altair as alt

    return alt.Axis(**{"grid": False, "ticks": False, "domain": False, "labelAngle": 0, "title": None} | given)


def labels(names: Sequence[str], longest: int = LABEL_LENGTH) -> list[str]:
    """Names from logs as a picture shows them; two that read the same once shortened are kept apart by their place."""
    short = [wording.name(name, longest) or "(no name)" for name in names]
    return [f"{label} ({place})" if short.count(label) > 1 else label for place, label in enumerate(short, 1)]


def hatching(width: float, height: float, apart: float = 9.0) -> str:
    """An SVG path of 45 degree strokes that fill a box around the origin: a cell of which the logs cannot tell.

    In Vega a symbol's path is scaled by sqrt(size) / 2; drawn at size 4 it keeps these pixels.
    """
    strokes = []
    across, up = width / 2, height / 2
    offset = -across - up + apart
    while offset < across + up:
        # x - y = offset, as long as it is in the box
        left, right = max(-across, offset - up), min(across, offset + up)
        strokes.append(f"M{left:.1f},{left - offset:.1f}L{right:.1f},{right - offset:.1f}")
        offset += apart
    return "".join(strokes)


HATCHED: dict[str, Any] = {"size": 4, "filled": False, "stroke": INK, "strokeWidth": 0.7, "opacity": 0.55}


def at_most(items: Sequence[str], most: int) -> str:
    """A few names in a sentence, the others counted."""
    return wording.listed([wording.name(item, LABEL_LENGTH) for item in items], most)


def _with_own_ids(svg: str) -> str:
    """The renderer counts clipping paths over its lifetime; the same chart shall be the same bytes, alone on its page or not."""
    numbers: dict[str, int] = {}
    plain = _CLIP.sub(lambda found: f"{found[1]}{numbers.setdefault(found[2], len(numbers) + 1)}", svg)
    name = hashlib.md5(plain.encode(), usedforsecurity=False).hexdigest()[:8]
    return _CLIP.sub(rf"\g<1>-{name}-\2", plain)


def _shorter(svg: str) -> str:
    """No marks for scripts and styles, nothing that holds anyway.

    Only tags are touched: a label is text between them, in which the renderer has escaped every `<`.
    """
    return _TAG.sub(lambda tag: _SPOKEN.sub("", tag[0]), _UNSEEN.sub("", svg))
