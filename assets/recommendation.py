"""Steps 4 and 5 of the task: what to change, what it brings, in which order, at which risk.

Belongs here: one asset per recommendation. Four of them read request rows: the
replay, the teams that a change would hit, how quality varies between sessions, and what came of earlier rules.
"""

import dagster as dg

from assets import shown
from assets.ingest import OWNERS
from assets.resources import HomeResource
from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.catalog import Catalog
from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.looks import look
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation import (
    cost_optimization_plan as cost_optimization_plan_,
    model_mix as model_mix_,
    monitoring_plan as monitoring_plan_,
    optimization_plan as optimization_plan_,
    optimization_risks as optimization_risks_,
    realized_outcomes as realized_outcomes_,
    routing_rules as routing_rules_,
    simulation as simulation_,
    tradeoff_frontier as tradeoff_frontier_,
)
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan
from routing_pipeline.recommendation.model_mix import ModelMix
from routing_pipeline.recommendation.monitoring_plan import MonitoringPlan
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan
from routing_pipeline.recommendation.optimization_risks import OptimizationRisks
from routing_pipeline.recommendation.realized_outcomes import RealizedOutcomes
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.recommendation.simulation import Simulation
from routing_pipeline.recommendation.tradeoff_frontier import TradeoffFrontier
from routing_pipeline.report.charts.frontier import frontier
from routing_pipeline.report.charts.mix_flow import mix_flow
from routing_pipeline.scope import AnalysisScope

RECOMMENDATION = {"group_name": "recommendation", "kinds": {"numpy"}, "owners": OWNERS, "code_version": "1"}
PLANNING = RECOMMENDATION | {"group_name": "planning", "kinds": {"python"}}


@dg.asset(**RECOMMENDATION)
def routing_rules(
    context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, routing_evidence: RoutingEvidence, home: HomeResource
) -> RoutingRules:
    """Rules learnt on one half of the sessions and proven on the other; none when nothing survives the proof."""
    catalog = Catalog(analysis_scope.parameters.models)
    number = look(
        home.open().coordination, analysis_scope.rows_key or analysis_scope.key, routing_rules_.asked_of_the_proof(analysis_scope)
    )
    result = home.derived(
        "routing_rules",
        analysis_scope,
        RoutingRules,
        lambda: routing_rules_.optimize_routing_rules(routing_evidence, analysis_scope, catalog, look=number),
    )
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**RECOMMENDATION)
def tradeoff_frontier(
    context: dg.AssetExecutionContext,
    analysis_scope: AnalysisScope,
    routing_evidence: RoutingEvidence,
    routing_rules: RoutingRules,
    home: HomeResource,
) -> TradeoffFrontier:
    """Cost against quality against latency: undominated policies, today, the proposal, the best single model, a random mix."""
    catalog = Catalog(analysis_scope.parameters.models)
    result = home.derived(
        "tradeoff_frontier",
        analysis_scope,
        TradeoffFrontier,
        lambda: tradeoff_frontier_.tradeoff_frontier(routing_evidence, analysis_scope, catalog, routing_rules),
    )
    context.add_output_metadata(shown.result(result) | shown.chart("frontier", frontier(result), home.svg_of))
    return result


@dg.asset(**RECOMMENDATION)
def model_mix(
    context: dg.AssetExecutionContext,
    analysis_scope: AnalysisScope,
    routing_evidence: RoutingEvidence,
    routing_rules: RoutingRules,
    home: HomeResource,
) -> ModelMix:
    """Share of traffic per model now and recommended, and the price of every constraint that binds."""
    catalog = Catalog(analysis_scope.parameters.models)
    result = home.derived(
        "model_mix",
        analysis_scope,
        ModelMix,
        lambda: model_mix_.optimize_model_mix(routing_evidence, analysis_scope, catalog, routing_rules),
    )
    context.add_output_metadata(shown.result(result) | shown.chart("now and proposed", mix_flow(result), home.svg_of))
    return result


@dg.asset(**RECOMMENDATION)
def simulation(
    context: dg.AssetExecutionContext,
    analysis_scope: AnalysisScope,
    routing_evidence: RoutingEvidence,
    routing_rules: RoutingRules,
    home: HomeResource,
) -> Simulation:
    """The rule set replayed on the sessions that its search never saw, by task and by day, and the dollar total."""
    result = home.analysed(
        "simulation",
        analysis_scope,
        Simulation,
        lambda rows: simulation_.simulate(routing_rules.rule_set, routing_evidence, rows.requests, analysis_scope),
        sampled=True,
    )
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**RECOMMENDATION)
def cost_optimization_plan(
    context: dg.AssetExecutionContext,
    analysis_scope: AnalysisScope,
    routing_rules: RoutingRules,
    routing_costs: RoutingCosts,
    cost_drivers: CostDrivers,
) -> CostOptimizationPlan:
    """Actions that reach the target reduction, cheapest risk first, and how far one can get when they do not."""
    result = cost_optimization_plan_.cost_optimization_plan(analysis_scope, routing_rules, routing_costs, cost_drivers)
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**PLANNING)
def optimization_plan(
    context: dg.AssetExecutionContext,
    analysis_scope: AnalysisScope,
    routing_rules: RoutingRules,
    cost_optimization_plan: CostOptimizationPlan,
    cost_drivers: CostDrivers,
    quality_issues: QualityIssues,
    bottlenecks: Bottlenecks,
) -> OptimizationPlan:
    """Phases: what to do this week, this month, this quarter; impact, effort, owner, prerequisites, how to tell it worked."""
    result = optimization_plan_.optimization_plan(
        analysis_scope, routing_rules, cost_optimization_plan, cost_drivers, quality_issues, bottlenecks
    )
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**PLANNING)
def optimization_risks(
    context: dg.AssetExecutionContext,
    analysis_scope: AnalysisScope,
    routing_evidence: RoutingEvidence,
    routing_rules: RoutingRules,
    home: HomeResource,
) -> OptimizationRisks:
    """What could go wrong with each change, how likely, for whom, and what would stop it."""
    result = home.analysed(
        "optimization_risks",
        analysis_scope,
        OptimizationRisks,
        lambda rows: optimization_risks_.optimization_risks(analysis_scope, routing_evidence, routing_rules, rows.requests),
    )
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**PLANNING)
def monitoring_plan(
    context: dg.AssetExecutionContext,
    analysis_scope: AnalysisScope,
    routing_evidence: RoutingEvidence,
    routing_rules: RoutingRules,
    home: HomeResource,
) -> MonitoringPlan:
    """What to watch, from which baseline to which alarm, and the canary steps with the days each needs."""
    result = home.analysed(
        "monitoring_plan",
        analysis_scope,
        MonitoringPlan,
        lambda rows: monitoring_plan_.monitoring_plan(analysis_scope, routing_evidence, routing_rules, rows.requests),
    )
    context.add_output_metadata(shown.result(result))
    return result


@dg.asset(**PLANNING)
def realized_outcomes(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource) -> RealizedOutcomes:
    """What earlier rule sets promised against what the requests that carry their rules have got since."""
    try:
        promised = home.record().promised()
    except ServiceUnavailableError as error:
        return realized_outcomes_.unreadable(str(error))
    result = home.analyst().realized_outcomes(analysis_scope, promised)
    context.add_output_metadata(shown.result(result))
    return result
