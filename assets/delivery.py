"""What leaves the house: the report and the rule set.

Belongs here: publishing files. Does not belong here: rendering (routing_pipeline.report).
"""

from pathlib import Path

import dagster as dg

from assets.automation import is_of_alert
from assets.ingest import OWNERS
from assets.resources import HomeResource
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
from routing_pipeline.data_quality import data_quality
from routing_pipeline.ingest.ingestion import IngestResult
from routing_pipeline.ingest.lake import Lake
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.exploration import exploration_rules
from routing_pipeline.policy.rule_set import RuleSet
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan
from routing_pipeline.recommendation.model_mix import ModelMix
from routing_pipeline.recommendation.monitoring_plan import MonitoringPlan
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan
from routing_pipeline.recommendation.optimization_risks import OptimizationRisks
from routing_pipeline.recommendation.realized_outcomes import RealizedOutcomes
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.recommendation.simulation import Simulation
from routing_pipeline.recommendation.tradeoff_frontier import TradeoffFrontier
from routing_pipeline.report import since_last
from routing_pipeline.report.assembly import Report, ingest_counts, run_of
from routing_pipeline.report.headlines import headlines
from routing_pipeline.report.publishing import publish
from routing_pipeline.rule_sets.record import delivered, status_of_rules
from routing_pipeline.scope import AnalysisScope

DELIVERY = {"group_name": "delivery", "owners": OWNERS, "code_version": "1"}


class DeliveryConfig(dg.Config):
    """Folder that receives the report; empty means `report` in the home, and `report/alert` for a run that an alert started."""

    out: str = ""


@dg.asset(**DELIVERY, kinds={"json"})
def routing_rule_set(context: dg.AssetExecutionContext, routing_rules: RoutingRules, home: HomeResource) -> RuleSet:
    """The rule set as an artefact of its own: proposed here, approved by a person, published to a gateway."""
    rule_set, status = delivered(home.record(), routing_rules, automatic=home.publishing().automatic, is_of_alert=is_of_alert(context.run))
    context.add_output_metadata(
        {
            "status": rule_set.status,
            "approval": status.verdict,
            "next": status.next_step or "nothing",
            "rules": len(rule_set.rules),
            "rules.json": dg.MetadataValue.json(rule_set.model_dump(mode="json", exclude_none=True)),
        }
    )
    return rule_set


@dg.asset(**DELIVERY, kinds={"jinja", "html"})
def optimization_report(
    context: dg.AssetExecutionContext,
    config: DeliveryConfig,
    home: HomeResource,
    request_log: IngestResult,
    analysis_scope: AnalysisScope,
    routing_analytics: RoutingAnalytics,
    routing_costs: RoutingCosts,
    budget_projection: BudgetProjection,
    quality_metrics: QualityMetrics,
    request_patterns: RequestPatterns,
    model_performance: ModelPerformance,
    routing_decisions: RoutingDecisions,
    bottlenecks: Bottlenecks,
    cost_drivers: CostDrivers,
    quality_issues: QualityIssues,
    routing_evidence: RoutingEvidence,
    routing_rules: RoutingRules,
    model_mix: ModelMix,
    tradeoff_frontier: TradeoffFrontier,
    simulation: Simulation,
    cost_optimization_plan: CostOptimizationPlan,
    optimization_plan: OptimizationPlan,
    optimization_risks: OptimizationRisks,
    monitoring_plan: MonitoringPlan,
    realized_outcomes: RealizedOutcomes,
    routing_rule_set: RuleSet,
) -> Report:
    """report.md, report.html, report.json, rules.json: everything above in the words of the task."""
    opened = home.open()
    totals = Lake(opened).totals()
    report = Report(
        run=run_of(
            analysis_scope,
            context.run_id,
            home=opened.place,
            config=None if home.config_file() is None else str(home.config_file()),
            sources=opened.sources(),
            ingested=ingest_counts(request_log),
            quarantine_reasons=totals.reasons,
            reason=context.run.tags.get("reason"),
            stale_because=analysis_scope.stale_because or request_log.unavailable,
        ),
        scope=analysis_scope,
        ingest=ingest_counts(totals),
        data_quality=data_quality(opened, analysis_scope, Lake(opened)),
        routing_analytics=routing_analytics,
        routing_costs=routing_costs,
        budget_projection=budget_projection,
        quality_metrics=quality_metrics,
        request_patterns=request_patterns,
        model_performance=model_performance,
        routing_decisions=routing_decisions,
        bottlenecks=bottlenecks,
        cost_drivers=cost_drivers,
        quality_issues=quality_issues,
        routing_evidence=routing_evidence,
        routing_rules=routing_rules,
        model_mix=model_mix,
        tradeoff_frontier=tradeoff_frontier,
        simulation=simulation,
        cost_optimization_plan=cost_optimization_plan,
        optimization_plan=optimization_plan,
        optimization_risks=optimization_risks,
        monitoring_plan=monitoring_plan,
        realized_outcomes=realized_outcomes,
        routing_rule_set=routing_rule_set,
        rule_set_status=status_of_rules(home.record(), routing_rule_set),
    )
    report = since_last.with_last(report, opened.results)
    exploration = exploration_rules(routing_evidence, analysis_scope, routing_rule_set)
    folder = "report/alert" if is_of_alert(context.run) else "report"
    out = Path(config.out) if config.out else opened.root / folder
    files = publish(out, report, routing_rule_set, exploration, home.svg_of)
    opened.results.keep_run(
        context.run_id,
        report,
        exploration,
        {path.name: path.read_bytes() for path in files},
        key=analysis_scope.key,
        is_of_alert=is_of_alert(context.run),
    )
    if opened.warehouse:
        # The folder is this worker's own, and may be gone with it.
        for path in files:
            opened.files.write(f"{folder}/{path.name}", path.read_bytes())
    opened.tidy()
    context.add_output_metadata(
        {
            "headlines": dg.MetadataValue.md("\n".join(f"- {line}" for line in headlines(report))),
            "report": dg.MetadataValue.path(opened.files.uri(f"{folder}/report.html") if opened.warehouse else str(out / "report.html")),
            "files": len(files),
        }
    )
    return report
