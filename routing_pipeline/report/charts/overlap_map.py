"""Where the logs can tell: how much evidence there is for each model on each kind of request.

Belongs here: this one picture. Does not belong here: what counts as support (`policy.evidence`).
"""

from __future__ import annotations

import math
from functools import partial

from routing_pipeline.policy.evidence_model import RoutingEvidence, SegmentEvidence
from routing_pipeline.report import wording
from routing_pipeline.report.charts.cell_map import Cell, cell_map
from routing_pipeline.report.charts.drawing import LABEL_LENGTH, Chart
from routing_pipeline.report.charts.quality_map import models_of

MAX_SEGMENTS = 16
FULL = 3.5
"""log10 of the effective sample size from which a cell has its strongest tint."""


def overlap_map(evidence: RoutingEvidence) -> Chart | None:
    """Kinds of request by models: effective sample size and least propensity; None when there is no kind of request."""
    segments = drawn_segments(evidence)
    models = models_of(evidence.segments)
    if not segments or not models:
        return None
    cells = []
    for row, segment in enumerate(segments):
        arms = {arm.model: arm for arm in segment.arms}
        for column, model in enumerate(models):
            arm = arms.get(model)
            if arm is not None and arm.supported:
                strength = min(max(math.log10(max(arm.effective_sample_size, 1.0)) / FULL, 0.0), 1.0)
                line = f"{wording.count(arm.effective_sample_size)} · {_least(arm.min_propensity)}"
                cells.append(Cell(row, column, (line,), strength))
            else:
                cells.append(Cell(row, column, (), None))
    drawn = partial(cell_map, cells, [segment.label for segment in segments], models, 27.0)
    return Chart("Where the logs can tell", _text(evidence, len(segments)), (evidence,), drawn)


def drawn_segments(evidence: RoutingEvidence) -> list[SegmentEvidence]:
    """The largest kinds of request, half of the places kept for those with a gap; in the evidence's own order, by task type."""
    by_share = sorted(evidence.segments, key=lambda segment: -segment.share)
    gaps = [segment for segment in by_share if not all(arm.supported for arm in segment.arms)][: MAX_SEGMENTS // 2]
    chosen = [*gaps, *(segment for segment in by_share if segment not in gaps)][:MAX_SEGMENTS]
    return [segment for segment in evidence.segments if segment in chosen]


def _least(propensity: float) -> str:
    return wording.percent(propensity) if propensity < 0.0995 else f"{propensity:.0%}".replace("%", " %")


def _text(evidence: RoutingEvidence, drawn: int) -> str:
    pairs = [(segment, arm) for segment in evidence.segments for arm in segment.arms]
    told = [(segment, arm) for segment, arm in pairs if arm.supported]
    unknown = [f"{arm.model} on {segment.label}" for segment, arm in pairs if not arm.supported]
    unjudged = wording.percent(evidence.unsupported_share)
    lines = [
        f"The logs can tell what the model would give in {len(told)} of {len(pairs)} pairs of kind of request and model",
        f"({unjudged} of pairs by traffic they cannot). In each cell: effective sample size, least propensity.",
    ]
    if told:
        thinnest, arm = min(told, key=lambda each: each[1].effective_sample_size)
        lines.append(
            f"Thinnest evidence that counts: {wording.name(arm.model, LABEL_LENGTH)} on {wording.name(thinnest.label, 40)}, "
            f"effectively {wording.count(arm.effective_sample_size)} requests."
        )
    if unknown:
        lines.append(f"Hatched, cannot tell: {wording.listed(unknown, 3)}.")
    if drawn < len(evidence.segments):
        lines.append(f"Drawn: {drawn} of {len(evidence.segments)} kinds of request, those with gaps and the largest.")
    return " ".join(lines)
