"""Why spend changed: from the window before to this one, step by step.

Belongs here: this one picture. Does not belong here: the decomposition (`stats.divisia`, `analysis.cost_change`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from routing_pipeline import text
from routing_pipeline.analysis.cost_change import ChangeParts
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.estimates import Unidentifiable
from routing_pipeline.report.charts.drawing import Chart, Row, bare, layered, rows_of
from routing_pipeline.report.charts.palette import INK, MAIN, MARK, QUIET

BEFORE, NOW, UP, DOWN = "Window|before", "This|window", "More expensive", "Cheaper"
TOTALS_FROM = 0.1
"""Change over total from which the totals are drawn; below it the steps would be slivers between two towers."""
LEAST = 1e-9


@dataclass(frozen=True)
class Part:
    """One step of the change; its label breaks at the bar."""

    label: str
    usd: float


def parts(change: ChangeParts) -> list[Part]:
    """The factors in a fixed order; what could not be told apart only where there is some."""
    found = (
        Part("Number of|requests", change.volume_usd),
        Part("Tasks and|models", change.mix_usd),
        Part("Tokens|per call", change.tokens_usd),
        Part("Cached|share", change.cache_usd),
        Part("Prices", change.price_usd),
    )
    lump = Part("Price or|tokens", change.unattributed_usd)
    return [*found, lump] if abs(lump.usd) > LEAST else list(found)


def cost_change(drivers: CostDrivers) -> Chart | None:
    """A waterfall of the change of spend; None where there is no comparable window before, or nothing was spent in either."""
    import altair as alt

    change = drivers.change
    if isinstance(change, Unidentifiable) or max(change.previous_usd, change.current_usd) <= 0:
        return None
    steps = parts(change)
    reach = sum(abs(part.usd) for part in steps)
    totals = reach >= TOTALS_FROM * max(change.previous_usd, change.current_usd)
    at = change.previous_usd if totals else 0.0
    rows: list[Row] = [{"step": BEFORE, "from": 0.0, "to": at, "kind": "total", "shown": text.usd(change.previous_usd)}] if totals else []
    for part in steps:
        kind = UP if part.usd > 0 else DOWN
        rows.append({"step": part.label, "from": at, "to": at + part.usd, "kind": kind, "shown": _signed(part.usd)})
        at += part.usd
    last = NOW if totals else "Change|in all"
    rows.append({"step": last, "from": 0.0, "to": at, "kind": "total", "shown": text.usd(change.current_usd) if totals else _signed(at)})
    order = [str(row["step"]) for row in rows]
    for row in rows:
        row["top"] = max(float(row["from"]), float(row["to"]))
    links = [{"step": one["step"], "next": other["step"], "usd": one["to"]} for one, other in pairwise(rows)]
    ends = [float(row[end]) for row in rows for end in ("from", "to")]
    margin = 0.1 * (max(ends) - min(ends)) or 1.0
    domain = [min(ends) - (margin if min(ends) < 0 else 0.0), max(ends) + margin]

    def drawn() -> alt.LayerChart:
        x = alt.X("step:N", scale=alt.Scale(domain=order, padding=0.25), axis=bare(labelExpr="split(datum.label, '|')", labelOverlap=False))
        kinds = [UP, DOWN]
        layers = [
            rows_of(links).mark_rule(color=INK, strokeWidth=0.8, strokeDash=[2, 2]).encode(x=x, x2="next:N", y="usd:Q"),
            rows_of([row for row in rows if row["kind"] == "total"]).mark_bar(color=QUIET).encode(x=x, y="from:Q", y2="to:Q"),
            rows_of([row for row in rows if row["kind"] != "total"])
            .mark_bar(stroke=INK, strokeWidth=0.8)
            .encode(
                x=x,
                y=alt.Y(
                    "from:Q",
                    scale=alt.Scale(domain=domain, nice=False),
                    axis=alt.Axis(format="$,.4~r", tickCount=5, title="USD per window"),
                ),
                y2="to:Q",
                fill=alt.Fill("kind:N", scale=alt.Scale(domain=kinds, range=[MARK, MAIN])),
            ),
            rows_of(rows).mark_text(dy=-8, fontSize=11).encode(x=x, y="top:Q", text="shown:N"),
        ]
        return layered(layers, 250)

    return Chart("Why spend changed", _text(change, steps), (drivers,), drawn)


def _signed(value: float) -> str:
    return text.signed_usd(round(value, 2))


def _text(change: ChangeParts, steps: Sequence[Part]) -> str:
    moved = "rose" if change.change_usd > 0 else "fell"
    relative = f" ({text.change(change.change_usd / change.previous_usd)})" if change.previous_usd > 0 else ""
    largest = sorted((part for part in steps if abs(part.usd) >= 0.005), key=lambda part: -abs(part.usd))
    parts_in_words = (
        "; ".join(f"{part.label.lower().replace('|', ' ')} {_signed(part.usd)}" for part in largest) or "no part of it by a cent"
    )
    return (
        f"Spend {moved} by {text.usd(abs(change.change_usd))}{relative}, from {text.usd(change.previous_usd)} in the window before "
        f"to {text.usd(change.current_usd)}: {parts_in_words}. The parts add up to the change."
    )
