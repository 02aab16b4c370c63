"""What went wrong when, as the chart of cost marks it.

Belongs here: picking the strongest findings and wording each in a clause. Does not belong here: finding them
(`cost_drivers`, `bottlenecks`, `quality_issues`), drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

from routing_pipeline import text as wording
from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.estimates import Estimate
from routing_pipeline.report.charts.drawing import LABEL_LENGTH

MARKED = 4
"""Most incidents of one kind that are marked."""


@dataclass(frozen=True)
class Incident:
    """Something that an analysis found at a moment of the window."""

    kind: str
    at_s: float
    text: str


SPIKE, FAILURE, QUALITY = "Cost spike", "Failures", "Worse quality"
SHAPES = {SPIKE: "triangle-up", FAILURE: "cross", QUALITY: "triangle-down"}


def incidents(drivers: CostDrivers | None, jams: Bottlenecks | None, issues: QualityIssues | None) -> list[Incident]:
    """The strongest cost spikes, failures and falls of quality, in order of time."""
    found: list[Incident] = []
    for spike in drivers.spikes[:MARKED] if drivers else ():
        spent = f"{wording.usd(spike.spend_usd)} in {wording.counted(spike.hours, 'hour')} instead of {wording.measured(spike.expected_usd, wording.usd, brief=True)}"
        found.append(Incident(SPIKE, spike.start.timestamp(), f"{wording.moment(spike.start)} {spent}"))
    for each in jams.incidents[:MARKED] if jams else ():
        failed = (
            f"{wording.measured(each.error_rate, wording.percent, brief=True)} of calls to {wording.name(each.model, LABEL_LENGTH)} failed"
        )
        found.append(Incident(FAILURE, each.start.timestamp(), f"{wording.moment(each.start)} {failed}"))
    for fall in _falls(issues)[:MARKED]:
        lost = f"quality of {wording.name(fall[0], LABEL_LENGTH)} changed by {wording.measured(fall[2], wording.points)}"
        found.append(Incident(QUALITY, fall[1], f"{wording.moment(fall[1])} {lost}"))
    return sorted(found, key=lambda each: (each.at_s, each.kind, each.text))


def _falls(issues: QualityIssues | None) -> list[tuple[str, float, Estimate]]:
    """Falls of quality, strongest evidence first: one of a model over all its tasks stands for those on single tasks."""
    found: dict[tuple[str, float], Estimate] = {}
    worse = [each for each in issues.degradations if each.kind != "until" and each.size.high < 0] if issues else []
    for each in sorted(worse, key=lambda fall: fall.task_type is not None):
        found.setdefault((each.model, each.start.timestamp()), each.size)
    return [(model, at_s, size) for (model, at_s), size in found.items()]
