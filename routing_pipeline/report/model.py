"""The report as data: one frozen model, which is report.json.

Belongs here: which result stands under which key, and what identifies the run. Does not belong here: computing any of it,
rendering (`markdown`, `html`), writing files (`files`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal, Self

from pydantic import Field

from routing_pipeline import suggested
from routing_pipeline.alerts.examination import Incident
from routing_pipeline.alerts.window_incidents import Incidents
from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.budget_projection import BudgetProjection
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.model_performance import ModelPerformance
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.analysis.quality_metrics import QualityMetrics
from routing_pipeline.analysis.request_patterns import RequestPatterns
from routing_pipeline.analysis.routing_analytics import RoutingAnalytics
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.analysis.routing_decisions import RoutingDecisions
from routing_pipeline.data_quality.expectations import DataQuality
from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.ingest.feedback_totals import FeedbackTotals
from routing_pipeline.ingest.ingestion import IngestResult
from routing_pipeline.lake.totals import IngestTotals, QuarantineReason
from routing_pipeline.parameters import Parameters, without_zone
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation.answers import Answer
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan
from routing_pipeline.recommendation.model_mix import ModelMix
from routing_pipeline.recommendation.monitoring_plan import MonitoringPlan
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan
from routing_pipeline.recommendation.optimization_risks import OptimizationRisks
from routing_pipeline.recommendation.realized_outcomes import RealizedOutcomes
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.recommendation.simulation import Simulation
from routing_pipeline.recommendation.tradeoff_frontier import TradeoffFrontier
from routing_pipeline.rules.lifecycle import RuleSetStatus
from routing_pipeline.rules.model import Grade, RuleSet, Status, rules_json
from routing_pipeline.window.scope import AnalysisScope

FIRST = "This is the first report of this question in this home: there is nothing to compare with."

Metric = Literal["spend_per_day", "requests_per_day", "cost_per_request", "quality", "latency", "success"]
ChangeVerdict = Literal["higher", "lower", "the same", "no difference shown", "cannot tell"]


class Moved(Result):
    """One figure, then and now."""

    metric: Metric
    unit: Literal["USD/day", "requests/day", "USD", "0..1", "ms", "share"]
    before: Measured
    now: Measured
    difference: Measured = Field(description="Now less before, in `unit`; the interval is on the wide side, as the windows may overlap")
    verdict: ChangeVerdict = Field(description="`no difference shown`: the interval of the difference holds 0")


class RulesMoved(Result):
    """The rule set, then and now; a rule is the same when condition and route are."""

    before: str = Field(description="Id of the rule set of the last report")
    before_status: Status
    now: str
    now_status: Status
    kept: int = quantity("Rules in both", "rules")
    added: int = quantity("Rules that are new", "rules")
    dropped: int = quantity("Rules of the last report that are gone", "rules")


class Promised(Result):
    """What the last report said its rules would do, and what is known of it by now."""

    saving_usd_per_day: Measured = quantity("Promised, at full roll-out", "USD/day")
    quality_change: Measured = quantity("Promised, all requests", "0..1")
    came_of_it: str = Field(description="Measured since, or why there is nothing to measure yet")


class SinceLastReport(Result):
    """What changed since the last report."""

    run_id: str | None = Field(default=None, description="Run of the last report; null when this is the first")
    start: datetime | None = Field(default=None, description="Its window, UTC")
    end: datetime | None = None
    overlap_days: float = quantity("Days that both windows hold", "days", default=0.0)
    moved: tuple[Moved, ...] = ()
    rules: RulesMoved | None = None
    grade_before: Grade | None = None
    grade_now: Grade | None = None
    promised: Promised | None = Field(default=None, description="Null where the last report proposed no rules")
    notices: tuple[str, ...] = Field(default=(), description="What to keep in mind when comparing")
    verdict: str = Field(default=FIRST, description="One sentence for a manager")


class IngestCounts(Result):
    """Where every input record went; records = ingested + quarantined + duplicates."""

    records: int = quantity("Records found in the logs", "records")
    ingested: int = quantity("Records that became rows", "records")
    quarantined: int = quantity("Records refused", "records")
    duplicates: int = quantity("Records whose attempt was in the lake already", "records")
    objects: int = quantity("Objects read", "objects")


def ingest_counts(counted: IngestResult | IngestTotals) -> IngestCounts:
    """The counts of one ingestion, or of a home's whole ledger."""
    return IngestCounts(
        records=counted.records,
        ingested=counted.ingested,
        quarantined=counted.quarantined,
        duplicates=counted.duplicates,
        objects=counted.objects_new if isinstance(counted, IngestResult) else counted.objects,
    )


class Run(Result):
    """Which run made this report, and how to make it again."""

    run_id: str
    generated_at: datetime = Field(description="UTC")
    version: str = Field(description="Version of routing-pipeline")
    engine: str = Field(description="Engine that read the rows")
    command: str = Field(description="Command that gives the same numbers again from the same home")
    home: str | None = Field(default=None, description="Where the home is, as --home takes it; null in reports of earlier versions")
    config: str | None = Field(default=None, description="Configuration file of the run, as --config takes it; null when there was none")
    sources: tuple[str, ...] = Field(default=(), description="Where the logs came from, without credentials")
    ingested: IngestCounts | None = Field(default=None, description="What this run itself ingested; null when it read nothing")
    quarantine_reasons: tuple[QuarantineReason, ...] = Field(default=(), description="Why records were refused, most frequent first")
    reason: str | None = Field(default=None, description="Why the run was started, when an alert or a schedule did")
    stale_because: str | None = Field(
        default=None, description="The report repeats the last good analysis because a service was down: which, and since when"
    )

    def here(self, command: str) -> str:
        """A command about this run's home, so that it works as pasted, from any folder."""
        return suggested.here(command, self.home, self.config)


class Report(Result):
    """report.json: everything that one analysis found, one key per analysis."""

    run: Run
    scope: AnalysisScope
    ingest: IngestCounts = Field(description="The ledger's totals for this home")
    left_out: int = quantity("What was found beside the records and is none: spans that are no calls, lines of text", "items", default=0)
    feedback: FeedbackTotals | None = Field(
        default=None, description="The same for all scores that this home was given as feedback; null in reports of earlier versions"
    )
    data_quality: DataQuality
    routing_analytics: RoutingAnalytics
    routing_costs: RoutingCosts
    budget_projection: BudgetProjection | None = Field(default=None, description="Null in reports of earlier versions")
    quality_metrics: QualityMetrics
    request_patterns: RequestPatterns
    model_performance: ModelPerformance
    routing_decisions: RoutingDecisions
    bottlenecks: Bottlenecks
    cost_drivers: CostDrivers
    quality_issues: QualityIssues
    incident: Incident | None = Field(
        default=None, description="What this run is about: the incident whose alert started it, else the newest that goes on; null: none"
    )
    incidents: tuple[Incident, ...] = Field(default=(), description="All unusual hours of the window, compared with the weeks before")
    routing_evidence: RoutingEvidence
    routing_rules: RoutingRules
    model_mix: ModelMix
    tradeoff_frontier: TradeoffFrontier
    simulation: Simulation
    cost_optimization_plan: CostOptimizationPlan
    optimization_plan: OptimizationPlan
    optimization_risks: OptimizationRisks
    monitoring_plan: MonitoringPlan
    realized_outcomes: RealizedOutcomes
    since_last_report: SinceLastReport = Field(default=SinceLastReport(), description="Beside the last report of the same question")
    routing_rule_set: RuleSet = Field(description="rules.json")
    rule_set_status: RuleSetStatus | None = Field(default=None, description="Where its approval and publication stood when this was made")
    recommendations: tuple[Answer, ...] = Field(
        default=(),
        description="What people made of the plan's items before this report: accepted, dismissed, a ticket; the others are open",
    )

    @classmethod
    def of(cls, results: Mapping[str, Any], **about: Any) -> Self:
        """What the operations found, by their names, and what is said about the run and its data.

        Raises:
            ValidationError: an operation has no field here, or a field nothing that fills it.
        """
        found: Incidents = results["incidents"]
        return cls(**{**results, "incident": found.about, "incidents": found.incidents}, **about)

    @property
    def approval(self) -> str:
        """Command that records an approval of the proposed rules."""
        return self.approval_of(self.routing_rule_set)

    def approval_of(self, rule_set: RuleSet) -> str:
        """Command that records an approval of a rule set."""
        return self.run.here(f"routing-pipeline approve {rule_set.rule_set_id} --by NAME")


def run_of(
    scope: AnalysisScope,
    run_id: str,
    *,
    home: str | None = None,
    config: str | None = None,
    sources: Sequence[str] = (),
    ingested: IngestCounts | None = None,
    quarantine_reasons: Sequence[QuarantineReason] = (),
    reason: str | None = None,
    stale_because: str | None = None,
    at: datetime | None = None,
) -> Run:
    """Identify a run; `at` defaults to now, the version to the installed one."""
    return Run(
        run_id=run_id,
        generated_at=datetime.now(UTC) if at is None else at,
        version=metadata.version("routing-pipeline"),
        engine=scope.engine,
        command=reproduce_command(scope, home, config),
        home=home,
        config=config,
        sources=tuple(sources),
        ingested=ingested,
        quarantine_reasons=tuple(quarantine_reasons),
        reason=reason,
        stale_because=stale_because,
    )


_OPTIONS = (
    "cost_threshold",
    "quality_threshold",
    "goal",
    "max_quality_drop",
    "max_quality_drop_per_task",
    "prove_per_task",
    "single",
    "budget",
    "explore_only",
)


def reproduce_command(scope: AnalysisScope, home: str | None = None, config: str | None = None) -> str:
    """The command line that analyses the same window again; what only an unnamed configuration file can say is named as such."""
    asked, defaults = scope.parameters, Parameters()
    words = ["routing-pipeline", "analyze", *suggested.options(home, config)]
    words += ["--timeframe", scope.timeframe_asked, "--as-of", scope.end.isoformat().replace("+00:00", "Z")]
    if asked.task_types:
        words += ["--task-types", ",".join(asked.task_types)]
    for option in _OPTIONS:
        value = getattr(asked, option)
        if value is not None and (option == "goal" or value != getattr(defaults, option)):
            words += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
    from_file = [name for name in Parameters.model_fields if name not in {*_OPTIONS, "timeframe", "as_of", "task_types"}]
    # The zone is the environment's, where the command is run again.
    asked = asked.model_copy(update={"alerts": without_zone(asked.alerts)})
    if config is None and any(getattr(asked, name) != getattr(defaults, name) for name in from_file):
        words += ["--config", "CONFIG.toml"]
    if scope.engine != "duckdb":
        words += ["--engine", scope.engine]
    return shlex.join([*words, "--out", "OUT"])


def report_json(report: Report) -> bytes:
    """report.json; its `routing_rule_set` reads exactly like rules.json."""
    content: dict[str, Any] = report.model_dump(mode="json")
    rules = json.loads(rules_json(report.routing_rule_set))
    content["routing_rule_set"] = rules
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
