"""How long each model takes: median to 99th percentile.

Belongs here: this one picture. Does not belong here: the quantiles (`model_performance`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from routing_pipeline import text
from routing_pipeline.analysis.model_performance import ModelLatency, ModelPerformance
from routing_pipeline.estimates import Estimate
from routing_pipeline.report.charts.drawing import LABEL_LENGTH, Chart, Row, bare, labels, layered, rows_of
from routing_pipeline.report.charts.palette import INK, MAIN, MARK, PAPER, QUIET

MAX_MODELS = 12
QUANTILES = ("p50", "p90", "p95", "p99")
NAMES = {"p50": "Median", "p90": "90th percentile", "p95": "95th", "p99": "99th"}
COLOURS = {"p50": MAIN, "p90": QUIET, "p95": INK, "p99": MARK}
SHAPES = {"p50": "circle", "p90": "square", "p95": "triangle-up", "p99": "diamond"}


def latency(found: ModelPerformance) -> Chart | None:
    """Quantiles of latency by model with their intervals; None when no quantile of any model can be told."""
    import altair as alt

    models = found.latencies[:MAX_MODELS]
    shown = labels([each.model for each in models])
    rows, spans = _rows(models, shown)
    if not rows:
        return None

    def drawn() -> alt.LayerChart:
        least, most = min(float(row["low"]) for row in rows), max(float(row["high"]) for row in rows)
        kinds = [name for name in NAMES.values() if any(row["kind"] == name for row in rows)]
        by_kind = {NAMES[name]: (COLOURS[name], SHAPES[name]) for name in QUANTILES}
        ends = {str(row["model"]): [each for each in rows if each["model"] == row["model"]] for row in rows}
        first, last = [quantiles[0] for quantiles in ends.values()], [quantiles[-1] for quantiles in ends.values() if len(quantiles) > 1]
        y = alt.Y("model:N", scale=alt.Scale(domain=shown, padding=0.3), axis=bare(labelOverlap=False))
        layers = []
        if spans:
            layers.append(rows_of(spans).mark_rule(color=QUIET, strokeWidth=1.5).encode(x="low:Q", x2="high:Q", y=y))
        layers += [
            rows_of(rows).mark_rule(color=INK, strokeWidth=7, opacity=0.28).encode(x="low:Q", x2="high:Q", y=y),
            rows_of(rows)
            .mark_point(filled=True, size=95, opacity=1, stroke=PAPER, strokeWidth=0.8)
            .encode(
                x=alt.X(
                    "ms:Q",
                    scale=alt.Scale(type="log", domain=[max(least / 2, 0.01), most * 1.8], nice=False),
                    axis=alt.Axis(
                        title="Latency of answered calls, ms (logarithmic)", values=_ticks(least / 2, most * 1.8), format=",.4~r"
                    ),
                ),
                y=y,
                fill=alt.Fill("kind:N", scale=alt.Scale(domain=kinds, range=[by_kind[kind][0] for kind in kinds])),
                shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=[by_kind[kind][1] for kind in kinds])),
            ),
            rows_of(first).mark_text(align="right", dx=-8, fontSize=11).encode(x="low:Q", y=y, text="shown:N"),
        ]
        if last:
            layers.append(rows_of(last).mark_text(align="left", dx=8, fontSize=11).encode(x="high:Q", y=y, text="shown:N"))
        return layered(layers, 36.0 * len(models))

    return Chart("Latency by model", _text(models, len(found.latencies)), (found,), drawn)


def _ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(max(low, 0.01))), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**exponent for exponent in exponents for step in (1, 2, 5) if low <= step * 10.0**exponent <= high]


def _rows(models: Sequence[ModelLatency], shown: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """One row a known quantile, and one a model from its lowest to its highest."""
    rows: list[Row] = []
    spans: list[Row] = []
    for label, each in zip(shown, models, strict=True):
        known = {name: value for name in QUANTILES if isinstance(value := getattr(each, f"{name}_ms"), Estimate)}
        rows += [
            {
                "model": label,
                "kind": NAMES[name],
                "ms": value.estimate,
                "low": value.low,
                "high": value.high,
                "shown": text.ms(value.estimate),
            }
            for name, value in known.items()
        ]
        if len(known) > 1:
            estimates = [value.estimate for value in known.values()]
            spans.append({"model": label, "low": min(estimates), "high": max(estimates)})
    return rows, spans


def _text(models: Sequence[ModelLatency], known: int) -> str:
    medians = [(each, each.p50_ms) for each in models if isinstance(each.p50_ms, Estimate)]
    lines = []
    if medians:
        fast, slow = min(medians, key=lambda each: each[1].estimate), max(medians, key=lambda each: each[1].estimate)
        lines.append(
            f"Of {len(models)} models {_named(fast[0])} answers fastest, median {text.measured(fast[1], text.ms)}, "
            f"and {_named(slow[0])} slowest, median {text.measured(slow[1], text.ms)}."
        )
    tails = [(each, each.p99_ms) for each in models if isinstance(each.p99_ms, Estimate)]
    if tails:
        longest = max(tails, key=lambda each: each[1].estimate)
        lines.append(
            f"The longest tail is that of {_named(longest[0])}: 1 % of its calls take more than {text.measured(longest[1], text.ms)}."
        )
    missing = [f"{each.model} ({name})" for each in models for name in QUANTILES if not isinstance(getattr(each, f"{name}_ms"), Estimate)]
    if missing:
        lines.append(f"Too few calls for an interval, so not drawn: {text.listed(missing, 3)}.")
    if known > len(models):
        lines.append(f"{known - len(models)} models with fewer calls are not drawn.")
    return " ".join([*lines, "Bars behind the marks are 95 % intervals."])


def _named(each: ModelLatency) -> str:
    return text.name(each.model, LABEL_LENGTH)
