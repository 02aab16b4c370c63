"""The report as data: one frozen model, which is report.json.

Belongs here: which result stands under which key, and what identifies the run. Does not belong here: computing any of it,
rendering (`markdown`, `html`), writing files (`publishing`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from pydantic import Field

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
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.expectations import DataQuality
from routing_pipeline.ingest.ingestion import IngestResult
from routing_pipeline.ingest.lake import IngestTotals, QuarantineReason
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.rule_set import RuleSet, rules_json
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan
from routing_pipeline.recommendation.model_mix import ModelMix
from routing_pipeline.recommendation.monitoring_plan import MonitoringPlan
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan
from routing_pipeline.recommendation.optimization_risks import OptimizationRisks
from routing_pipeline.recommendation.realized_outcomes import RealizedOutcomes
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.recommendation.simulation import Simulation
from routing_pipeline.recommendation.tradeoff_frontier import TradeoffFrontier
from routing_pipeline.report.since_last import SinceLastReport
from routing_pipeline.rule_sets.life_cycle import RuleSetStatus
from routing_pipeline.scope import AnalysisScope


class IngestCounts(Result):
    """Where every input record went; records = ingested + quarantined + duplicates."""

    records: int = quantity("Records found in the logs", "records")
    ingested: int = quantity("Records that became rows", "records")
    quarantined: int = quantity("Records refused", "records")
    duplicates: int = quantity("Records whose attempt was in the lake already", "records")
    objects: int = quantity("Objects read", "objects")


def ingest_counts(counted: IngestResult | IngestTotals) -> IngestCounts:
    """The five counts of one ingestion, or of a home's whole ledger."""
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
        return f"{command} {shlex.join(_where(self.home, self.config))}".rstrip()


class Report(Result):
    """report.json: everything that one analysis found, one key per analysis."""

    run: Run
    scope: AnalysisScope
    ingest: IngestCounts = Field(description="The ledger's totals for this home")
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

    @property
    def approval(self) -> str:
        """Command that records an approval of the proposed rules."""
        return self.run.here(f"routing-pipeline approve {self.routing_rule_set.rule_set_id} --by NAME")


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


_OPTIONS = ("cost_threshold", "quality_threshold", "goal", "max_quality_drop", "budget")


def _where(home: str | None, config: str | None) -> list[str]:
    return [*(["--home", home] if home else []), *(["--config", config] if config else [])]


def reproduce_command(scope: AnalysisScope, home: str | None = None, config: str | None = None) -> str:
    """The command line that analyses the same window again; what only an unnamed configuration file can say is named as such."""
    asked, defaults = scope.parameters, Parameters()
    words = ["routing-pipeline", "analyze", *_where(home, config)]
    words += ["--timeframe", scope.timeframe_asked, "--as-of", scope.end.isoformat().replace("+00:00", "Z")]
    if asked.task_types:
        words += ["--task-types", ",".join(asked.task_types)]
    for option in _OPTIONS:
        value = getattr(asked, option)
        if value is not None and (option == "goal" or value != getattr(defaults, option)):
            words += [f"--{option.replace('_', '-')}", str(value)]
    from_file = [name for name in Parameters.model_fields if name not in {*_OPTIONS, "timeframe", "as_of", "task_types"}]
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
