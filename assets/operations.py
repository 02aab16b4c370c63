"""Steps 1 to 5 of the task, one asset per row of the table of operations: what it rests on comes before it, its result is looked up or made.

Belongs here: what of a result the UI shows beside its numbers, and the two assets that tell an operation more than its window.
Does not belong here: what an operation takes and computes (routing_pipeline.operations.table).
"""

from collections.abc import Callable
from typing import Any, get_args

import dagster as dg

from assets import shown
from assets.ingest import OWNERS
from assets.resources import HomeResource
from routing_pipeline import beside, text
from routing_pipeline.alerts.decisions import CARRIED, AlertDecision
from routing_pipeline.alerts.examination import ReportedAlert, Sensor
from routing_pipeline.alerts.window_incidents import Incidents
from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.estimates import Result
from routing_pipeline.operations import ahead
from routing_pipeline.operations.table import OPERATIONS, Operation, Operations, assets_under
from routing_pipeline.recommendation.realized_outcomes import RealizedOutcomes, unreadable
from routing_pipeline.report.charts.cost_change import cost_change
from routing_pipeline.report.charts.daily_cost import daily_cost
from routing_pipeline.report.charts.drawing import Chart
from routing_pipeline.report.charts.frontier import frontier
from routing_pipeline.report.charts.latency import latency
from routing_pipeline.report.charts.mix_flow import mix_flow
from routing_pipeline.report.charts.peak_hours import peak_hours
from routing_pipeline.window.scope import AnalysisScope

PRIORITY = "dagster/priority"
"""A tag of Dagster's: of steps that could begin, the one with the highest does."""
BEFORE_THE_REPORT, LAST = "-1", "-2"
"""Below all that an analysis consists of: what is found beside the run at its end, and what shows all of it."""
KINDS = {
    "current_state": {"ibis", "duckdb"},
    "patterns": {"ibis", "duckdb"},
    "bottlenecks": {"ibis", "duckdb"},
    "recommendation": {"numpy"},
    "planning": {"python"},
}
ALSO = {"budget_projection": {"numpy"}}
CHARTS: dict[str, tuple[str, Callable[[Any, AnalysisScope], Chart | None]]] = {
    "routing_costs": ("cost over time", daily_cost),
    "request_patterns": ("peak hours", lambda found, _: peak_hours(found)),
    "model_performance": ("latency by model", lambda found, _: latency(found)),
    "cost_drivers": ("why spend changed", lambda found, _: cost_change(found)),
    "tradeoff_frontier": ("frontier", lambda found, _: frontier(found)),
    "model_mix": ("now and proposed", lambda found, _: mix_flow(found)),
}


def words_of(operation: Operation, operations: Operations = OPERATIONS) -> dict[str, Any]:
    """What Dagster is told of an operation's asset."""
    return {
        "group_name": operation.group,
        "description": operation.description,
        "kinds": KINDS.get(operation.group or "", set()) | ALSO.get(operation.name, set()),
        "owners": OWNERS,
        "code_version": operation.code,
        "op_tags": {PRIORITY: str(priority(operation, operations))},
    }


def priority(operation: Operation, operations: Operations) -> int:
    """What is found beside the run comes last, and what rests on it: two for neither evidence nor rules, one for evidence alone."""
    under, met = list(operation.rests_on), {operation.name}
    while under:
        name = under.pop()
        met.add(name)
        under += [each for each in operations[name].rests_on if each not in met]
    return sum(name not in met for name in ahead.AHEAD)


def asset_of(operation: Operation, operations: Operations = OPERATIONS) -> dg.AssetsDefinition:
    """The asset of a row; it takes what this run found for the results that it rests on."""
    rests_on = {name: dg.AssetIn(dagster_type=operations[name].result) for name in assets_under(operation, operations)}

    @dg.asset(name=operation.name, dagster_type=operation.result, ins=rests_on, **words_of(operation, operations))
    def made(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource, **results: Result) -> Result:
        beside.settle(operation.name)
        result: Result = home.analyst(operations).answer(operation.name, analysis_scope, given=results)
        title, draw = CHARTS.get(operation.name, ("", lambda *_: None))
        context.add_output_metadata(shown.result(result) | shown.chart(title, draw(result, analysis_scope), home.svg_of))
        return result

    return made  # type: ignore[return-value]  # the words are a dict


class AlertConfig(dg.Config):
    """The alert that a run was started for, as the sensor told it; empty: none was."""

    sensor: str = ""
    measured: str = ""
    dimension: str = "all"
    value: str = ""
    start_s: float | None = None
    end_s: float | None = None
    since_s: float | None = None
    now: float | None = None
    usual: float | None = None
    reason: str = ""

    def told(self) -> ReportedAlert | None:
        """What is carried, None without an alert."""
        sensor = next((each for each in get_args(Sensor) if each == self.sensor), None)
        if sensor is None or self.start_s is None or self.end_s is None:
            return None
        fields = {name: getattr(self, name) for name in CARRIED}
        # It went on when it was told; the sums say whether it still does.
        return ReportedAlert(sensor, AlertDecision(kind="alert", reason=self.reason, cursor="", **fields), True)


@dg.asset(**words_of(OPERATIONS["incidents"]))  # type: ignore[untyped-decorator]  # the words are a dict
def incidents(context: dg.AssetExecutionContext, config: AlertConfig, analysis_scope: AnalysisScope, home: HomeResource) -> Incidents:
    """The alert that the run was started for is told first."""
    result: Incidents = home.analyst().answer("incidents", analysis_scope, given={"carried": config.told()})
    context.add_output_metadata(
        {
            "incidents": len(result.incidents),
            "first": dg.MetadataValue.md("\n".join(f"- {text.printable(line)}" for line in result.incidents[0].sentences) or "none")
            if result.incidents
            else "none",
        }
    )
    return result


@dg.asset(**words_of(OPERATIONS["realized_outcomes"]))  # type: ignore[untyped-decorator]  # the words are a dict
def realized_outcomes(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource) -> RealizedOutcomes:
    """The record of decisions says what was promised; where it cannot be reached, that is the answer."""
    try:
        promised = home.record().promised()
    except ServiceUnavailableError as error:
        return unreadable(str(error))
    result: RealizedOutcomes = home.analyst().answer("realized_outcomes", analysis_scope, given={"promised": promised})
    context.add_output_metadata(shown.result(result))
    return result


_MADE_ELSEWHERE = {"routing_evidence", "incidents", "realized_outcomes"}
# Dagster finds them in the list.
from_table = [asset_of(each) for each in OPERATIONS.values() if each.group and each.name not in _MADE_ELSEWHERE]
