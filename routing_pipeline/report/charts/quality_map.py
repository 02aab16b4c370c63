"""What quality each model would give on each task type, and where the logs cannot tell.

Belongs here: this one picture. Does not belong here: the estimates (`policy.evidence`).
"""

from __future__ import annotations

from functools import partial

from routing_pipeline.estimates import Estimate
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.report import wording
from routing_pipeline.report.charts.cell_map import MAX_MODELS, Cell, cell_map
from routing_pipeline.report.charts.drawing import LABEL_LENGTH, Chart

MAX_TASKS = 12


def quality_map(evidence: RoutingEvidence) -> Chart | None:
    """Task types by models, quality had all requests of the task gone to the model; None where no pair can be told."""
    tasks = evidence.tasks[:MAX_TASKS]
    models = models_of(tasks)
    pairs = [(row, column, _arm(task, model)) for row, task in enumerate(tasks) for column, model in enumerate(models)]
    told = [(row, column, arm, arm.quality) for row, column, arm in pairs if arm is not None and isinstance(arm.quality, Estimate)]
    if not told:
        return None
    low, high = min(quality.estimate for *_, quality in told), max(quality.estimate for *_, quality in told)
    cells = []
    for row, column, arm in pairs:
        quality = None if arm is None else arm.quality
        is_main = arm is not None and arm is max(tasks[row].arms, key=lambda each: each.share)
        if isinstance(quality, Estimate):
            interval = f"{quality.low:.3f} to {quality.high:.3f}"
            strength = (quality.estimate - low) / (high - low) if high > low else 0.5
            cells.append(Cell(row, column, (wording.score(quality.estimate), interval), strength, is_main))
        else:
            cells.append(Cell(row, column, (), None, is_main))
    drawn = partial(cell_map, cells, [task.task_type for task in tasks], models, 42.0)
    return Chart("Quality by task and model", _text(evidence, len(pairs), models), (evidence,), drawn)


def models_of(segments: tuple[SegmentEvidence, ...]) -> list[str]:
    """Models by the traffic that they have in these segments, most first."""
    traffic: dict[str, float] = {}
    for segment in segments:
        for arm in segment.arms:
            traffic[arm.model] = traffic.get(arm.model, 0.0) + arm.share * segment.share
    return sorted(traffic, key=lambda model: (-traffic[model], model))[:MAX_MODELS]


def _arm(task: SegmentEvidence, model: str) -> ArmEvidence | None:
    return next((arm for arm in task.arms if arm.model == model), None)


def _text(evidence: RoutingEvidence, pairs: int, models: list[str]) -> str:
    shown = [(task, arm) for task in evidence.tasks[:MAX_TASKS] for arm in task.arms if arm.model in models]
    told = [(task, arm, arm.quality) for task, arm in shown if isinstance(arm.quality, Estimate)]
    worst, best = min(told, key=lambda each: each[2].estimate), max(told, key=lambda each: each[2].estimate)
    lines = [
        "Mean quality had every request of the task gone to the model: "
        + " and ".join(
            f"{end} {wording.measured(quality, wording.score)} for {wording.name(arm.model, LABEL_LENGTH)} on {wording.name(task.task_type, LABEL_LENGTH)}"
            for end, (task, arm, quality) in (("best", best), ("worst", worst))
        )
        + "."
    ]
    unknown = [f"{arm.model} on {task.task_type}" for task, arm in shown if not isinstance(arm.quality, Estimate)]
    if len(told) < pairs:
        lines.append(
            f"{pairs - len(told)} of {pairs} pairs are hatched: the logs cannot tell"
            + (f" ({wording.listed(unknown, 3)})." if unknown else ".")
        )
    lines.append("Outlined: the model that gets most of the task's requests today.")
    left_out = len(evidence.tasks) - MAX_TASKS
    if left_out > 0:
        lines.append(f"{left_out} smaller task types are not drawn.")
    return " ".join(lines)
