"""Page one's picture: today and the options, in cost against quality, before what else could be had.

Belongs here: which points it shows and its words. Does not belong here: how such a plane is drawn (`frontier`), the options (`recommendation.offered`).
"""

from __future__ import annotations

from collections.abc import Sequence

from routing_pipeline import text
from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.offered import RoutingOption
from routing_pipeline.recommendation.tradeoff_frontier import TradeoffFrontier
from routing_pipeline.report.charts.drawing import Chart
from routing_pipeline.report.charts.frontier import OPTION, POLICY, TODAY, Point, drawn_on, points

HEIGHT = 210


def choice(found: TradeoffFrontier, options: Sequence[RoutingOption]) -> Chart | None:
    """Today and each option; None where one of the two cannot be placed."""
    before = [point for point in points(found) if point.kind in {POLICY, TODAY}]
    today = [point for point in before if point.kind == TODAY]
    offered = [
        Point(OPTION, option.name, then.cost_usd.scaled(1000), then.quality)
        for option in options
        if isinstance((then := option.rule_set.expected.proposed).cost_usd, Estimate) and isinstance(then.quality, Estimate)
    ]
    if not today or not offered:
        return None
    return Chart("The choice", _text([*today, *offered]), (found, *options), lambda: drawn_on([*before, *offered], HEIGHT))


def _text(named: Sequence[Point]) -> str:
    said = [f"{each.label}: {text.usd(each.cost.estimate)}, {text.score(each.quality.estimate)}." for each in named]
    return " ".join(["Cost per 1,000 requests, and quality.", *said])
