"""Steps 1 to 3 of the task: nine analyses, each over the scope's rows, four of them over the evidence too.

Belongs here: one asset per analysis. Does not belong here: what they compute (routing_pipeline.analysis).
"""

import dagster as dg

from assets import shown
from assets.ingest import OWNERS
from assets.resources import HomeResource
from routing_pipeline.analysis import (
    bottlenecks as bottlenecks_,
    cost_drivers as cost_drivers_,
    model_performance as model_performance_,
    quality_issues as quality_issues_,
    quality_metrics as quality_metrics_,
    request_patterns as request_patterns_,
    routing_analytics as routing_analytics_,
    routing_costs as routing_costs_,
    routing_decisions as routing_decisions_,
)
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
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.report.charts.cost_change import cost_change
from routing_pipeline.report.charts.daily_cost import daily_cost
from routing_pipeline.report.charts.latency import latency
from routing_pipeline.report.charts.peak_hours import peak_hours
from routing_pipeline.scope import AnalysisScope

CURRENT_STATE = {"group_name": "current_state", "kinds": {"ibis", "duckdb"}, "owners": OWNERS, "code_version": "1"}
PATTERNS = CURRENT_STATE | {"group_name": "patterns"}
BOTTLENECKS = CURRENT_STATE | {"group_name": "bottlenecks"}


@dg.asset(**CURRENT_STATE)
def routing_analytics(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource) -> RoutingAnalytics:
    """Volumes, latencies, success, failures by kind, and how traffic spreads over models and tiers."""
    result = home.analysed(
        "routing_analytics",
        analysis_scope,
        RoutingAnalytics,
        lambda rows: routing_analytics_.routing_analytics(rows.requests, analysis_scope),
    )
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**CURRENT_STATE)
def routing_costs(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource) -> RoutingCosts:
    """Spend by model, tier, task, team, provider and day; its trend; budgets; logged against recomputed cost."""
    result = home.analysed(
        "routing_costs",
        analysis_scope,
        RoutingCosts,
        lambda rows: routing_costs_.routing_costs(rows.requests, rows.previous, analysis_scope),
    )
    context.add_output_metadata(shown.result(result) | shown.chart("cost over time", daily_cost(result, analysis_scope), home.svg_of))
    return result


@dg.asset(**CURRENT_STATE | {"kinds": {"ibis", "duckdb", "numpy"}})
def budget_projection(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource) -> BudgetProjection:
    """What the month and the quarter will come to, in all and by team, from months of daily spend; the chance to exceed a budget."""
    result = home.analyst().budget_projection(analysis_scope)
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**CURRENT_STATE)
def quality_metrics(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource) -> QualityMetrics:
    """Quality by model and task, raw and corrected for which answers were scored; completion; satisfaction."""
    result = home.analysed(
        "quality_metrics",
        analysis_scope,
        QualityMetrics,
        lambda rows: quality_metrics_.quality_metrics(rows.requests, analysis_scope),
    )
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**PATTERNS)
def request_patterns(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource) -> RequestPatterns:
    """Which kinds of request arrive, when, how hard they are, and whether the mix drifts."""
    result = home.analysed(
        "request_patterns",
        analysis_scope,
        RequestPatterns,
        lambda rows: request_patterns_.request_patterns(rows.requests, rows.previous, analysis_scope),
    )
    context.add_output_metadata(shown.result(result) | shown.chart("peak hours", peak_hours(result), home.svg_of))
    return result


@dg.asset(**PATTERNS)
def model_performance(
    context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, routing_evidence: RoutingEvidence, home: HomeResource
) -> ModelPerformance:
    """What each model delivers per task, raw and adjusted for who was routed where, and which differences are real."""
    result = home.analysed(
        "model_performance",
        analysis_scope,
        ModelPerformance,
        lambda rows: model_performance_.model_performance(rows.requests, analysis_scope, routing_evidence),
    )
    context.add_output_metadata(shown.result(result) | shown.chart("latency by model", latency(result), home.svg_of))
    return result


@dg.asset(**PATTERNS)
def routing_decisions(
    context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, routing_evidence: RoutingEvidence, home: HomeResource
) -> RoutingDecisions:
    """How often today's choice is the best one, what the others cost, and what each existing rule does."""
    result = home.analysed(
        "routing_decisions",
        analysis_scope,
        RoutingDecisions,
        lambda rows: routing_decisions_.routing_decisions(rows.requests, analysis_scope, routing_evidence),
    )
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**BOTTLENECKS)
def bottlenecks(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource) -> Bottlenecks:
    """Slow decisions, models that were down, queues, and latency spikes with the requests behind them."""
    result = home.analysed(
        "bottlenecks",
        analysis_scope,
        Bottlenecks,
        lambda rows: bottlenecks_.bottlenecks(rows.requests, analysis_scope),
    )
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**BOTTLENECKS)
def cost_drivers(
    context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, routing_evidence: RoutingEvidence, home: HomeResource
) -> CostDrivers:
    """Where the money goes that need not: overused models, waste, spikes, and what changed against the window before."""
    result = home.analysed(
        "cost_drivers",
        analysis_scope,
        CostDrivers,
        lambda rows: cost_drivers_.cost_drivers(rows.requests, rows.previous, analysis_scope, routing_evidence),
    )
    context.add_output_metadata(shown.result(result) | shown.chart("why spend changed", cost_change(result), home.svg_of))
    return result


@dg.asset(**BOTTLENECKS)
def quality_issues(
    context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, routing_evidence: RoutingEvidence, home: HomeResource
) -> QualityIssues:
    """Answers below the floor, models that do not fit their task, and the day on which quality turned."""
    result = home.analysed(
        "quality_issues",
        analysis_scope,
        QualityIssues,
        lambda rows: quality_issues_.quality_issues(rows.requests, analysis_scope, routing_evidence),
    )
    context.add_output_metadata(shown.result(result))
    return result
