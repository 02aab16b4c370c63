"""The table of operations: each question once, what it takes, what computes it, what it gives.

Belongs here: one row each. Out of it are made the assets (`assets.operations`), answers (`analyst`), what MCP tools and `ask`
give, what a report collects, and the keys under which results are kept. Does not belong here: computing (`analysis`,
`policy`, `recommendation`), Dagster, what a tool's arguments are (`serving.mcp.tools`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from routing_pipeline.alerts.window_incidents import Incidents, window_incidents
from routing_pipeline.analysis.bottlenecks import Bottlenecks, bottlenecks
from routing_pipeline.analysis.budget_projection import BudgetProjection, budget_projection
from routing_pipeline.analysis.cost_drivers import CostDrivers, cost_drivers
from routing_pipeline.analysis.model_performance import ModelPerformance, model_performance
from routing_pipeline.analysis.quality_issues import QualityIssues, quality_issues
from routing_pipeline.analysis.quality_metrics import QualityMetrics, quality_metrics
from routing_pipeline.analysis.request_patterns import RequestPatterns, request_patterns
from routing_pipeline.analysis.routing_analytics import RoutingAnalytics, routing_analytics
from routing_pipeline.analysis.routing_costs import RoutingCosts, routing_costs, with_projection
from routing_pipeline.analysis.routing_decisions import RoutingDecisions, routing_decisions
from routing_pipeline.estimates import Result
from routing_pipeline.operations.evidence_cells import evidence_with_cells
from routing_pipeline.operations.inputs import AT_HAND, READ, SAID, code_behind
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan, cost_optimization_plan
from routing_pipeline.recommendation.model_mix import ModelMix, optimize_model_mix
from routing_pipeline.recommendation.monitoring_plan import MonitoringPlan, monitoring_plan
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan, optimization_plan
from routing_pipeline.recommendation.optimization_risks import OptimizationRisks, optimization_risks
from routing_pipeline.recommendation.realized_outcomes import RealizedOutcomes, realized_outcomes
from routing_pipeline.recommendation.replayed_rules import evaluated
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.recommendation.simulation import Simulation, simulate
from routing_pipeline.recommendation.tradeoff_frontier import TradeoffFrontier, frontier_with_scenarios
from routing_pipeline.recommendation.worst_team import rules_with_worst_teams
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.results import key_of

Group = Literal["scope", "current_state", "patterns", "bottlenecks", "recommendation", "planning"]


@dataclass(frozen=True)
class Operation:
    """One question.

    name: of its asset, of its section in report.json, and of what is stored; a tool is named by it after a verb.
    result: what `compute` gives.
    inputs: what `compute` takes, in its order: names of other operations, and of what stands in `inputs`; after a dot, a field.
    group, description: of its asset; without a group it has none, and belongs to the asset of `part_of`, if to any.
    of_rows_alone: whatever is asked of the same rows shares it.
    file: the field that names a file beside the stored result, without which that is of no use.
    asks: the parameters that it reads, beside those that decide about the rows (`window.scope.PARAMETERS_OF_ROWS`); None: all. It is shown
        no others (`declared`), so its result stands whatever else is asked of the same rows.
    """

    name: str
    result: type[Result]
    compute: Callable[..., Result]
    inputs: tuple[str, ...]
    group: Group | None = None
    description: str = ""
    part_of: str | None = None
    of_rows_alone: bool = False
    file: str | None = None
    asks: tuple[str, ...] | None = None

    @property
    def asset(self) -> str | None:
        """The asset that makes it; None where none does."""
        return self.name if self.group else self.part_of

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs without their fields."""
        return tuple(each.partition(".")[0] for each in self.inputs)

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The operations whose results it takes."""
        return tuple(dict.fromkeys(each for each in self.names if each not in AT_HAND and each not in READ and each not in SAID))

    @property
    def modules(self) -> tuple[str, ...]:
        """Where its result comes from: the modules of `compute`, of its type, and of what reads its inputs."""
        return tuple(sorted({self.compute.__module__, self.result.__module__, *filter(None, map(code_behind, self.names))}))

    @property
    def code(self) -> str:
        """The part of its key that is code."""
        return key_of(code=code_key(*self.modules), inputs=self.inputs)


Operations = Mapping[str, Operation]


def table(rows: Iterable[Operation]) -> Operations:
    """Rows by name.

    Raises:
        ValueError: two have one name, or one takes what neither a row nor `inputs` knows.
    """
    found: dict[str, Operation] = {}
    for row in rows:
        if row.name in found:
            raise ValueError(f"two operations are called {row.name}")
        found[row.name] = row
    for row in found.values():
        if unknown := set(row.rests_on) - set(found):
            raise ValueError(f"{row.name} takes {', '.join(sorted(unknown))}, which nothing gives")
    return found


OPERATIONS = table(
    (
        Operation(
            "routing_evidence",
            RoutingEvidence,
            evidence_with_cells,
            ("sample", "scope", "home"),
            "scope",
            "What the logs can tell about choices not made: doubly robust estimates, or why there are none. One entry per segment and model.",
            of_rows_alone=True,
            file="cells_uri",
            asks=("policy", "capabilities", "router_inputs", "sample_above", "explore_only", "max_score_share"),
        ),
        # Step 1
        Operation(
            "routing_analytics",
            RoutingAnalytics,
            routing_analytics,
            ("calls", "scope"),
            "current_state",
            "Volumes, latencies, success, failures by kind, and the share of each model and tier. One entry per model.",
            asks=(),
        ),
        # Months of history change while the window's rows stay the same, so what they say is added to what the rows say.
        Operation(
            "window_costs",
            RoutingCosts,
            routing_costs,
            ("calls", "previous_calls", "scope"),
            part_of="routing_costs",
            asks=("budget", "budgets_by_team", "budgets_by_tier", "quality_threshold"),
        ),
        Operation(
            "routing_costs",
            RoutingCosts,
            with_projection,
            ("window_costs", "budget_projection"),
            "current_state",
            "Spend by model, tier, task type, team, provider and day; trend; budgets; logged against recomputed cost. One entry per value of each.",
            asks=(),
        ),
        Operation(
            "budget_projection",
            BudgetProjection,
            budget_projection,
            ("history", "scope.end_s", "scope.parameters"),
            "current_state",
            "Spend expected by the end of the month and of the quarter, from months of daily spend; the chance of exceeding a budget. One entry per team.",
            asks=("budget", "budgets_by_team", "budgets_by_tier"),
        ),
        Operation(
            "quality_metrics",
            QualityMetrics,
            quality_metrics,
            ("requests", "scope", "routing_evidence"),
            "current_state",
            "Quality, raw and corrected for which answers were scored; completion; satisfaction. One entry per model, and one per task type.",
            asks=(),
        ),
        # Step 2
        Operation(
            "request_patterns",
            RequestPatterns,
            request_patterns,
            ("requests", "previous", "scope"),
            "patterns",
            "Which kinds of request arrive, when, how complex they are, and whether the mix drifts. One entry per task type, length and complexity.",
            asks=(),
        ),
        Operation(
            "model_performance",
            ModelPerformance,
            model_performance,
            ("requests", "scope", "routing_evidence", "models"),
            "patterns",
            "What each model delivers, raw and adjusted for which requests it was sent, and which differences are real. One entry per task type and model.",
            asks=(),
        ),
        Operation(
            "routing_decisions",
            RoutingDecisions,
            routing_decisions,
            ("requests", "scope", "routing_evidence"),
            "patterns",
            "How often today's choice is the best one, what the other choices cost, and what each existing rule does. One entry per segment of requests.",
            asks=("goal", "weights", "cost_threshold", "quality_threshold", "max_quality_drop"),
        ),
        # Step 3
        Operation(
            "bottlenecks",
            Bottlenecks,
            bottlenecks,
            ("requests", "scope"),
            "bottlenecks",
            "Slow decisions, models that were down, queues, and latency spikes with the requests behind them. One entry per model, and one per incident.",
            asks=(),
        ),
        Operation(
            "cost_drivers",
            CostDrivers,
            cost_drivers,
            ("calls", "previous_calls", "scope", "routing_evidence", "window_costs.budgets", "earlier_hours"),
            "bottlenecks",
            "Avoidable spend: overused expensive models, waste, spikes, and what changed since the window before. One entry per task type and model.",
            asks=("cost_threshold", "quality_threshold", "max_quality_drop", "budget", "budgets_by_team", "budgets_by_tier"),
        ),
        Operation(
            "incidents",
            Incidents,
            window_incidents,
            ("home", "engine", "scope", "requests", "carried"),
            "bottlenecks",
            "Unusual hours of the window compared with the weeks before: since when, how much, who, why; the one behind an alert first. One entry per incident.",
            asks=("alerts",),
        ),
        Operation(
            "quality_issues",
            QualityIssues,
            quality_issues,
            ("requests", "scope", "routing_evidence"),
            "bottlenecks",
            "Answers below the threshold, models that do not fit their task, and the day quality changed. One entry per segment of requests.",
            asks=("quality_threshold", "max_quality_drop"),
        ),
        # Step 4
        Operation(
            "routing_rules",
            RoutingRules,
            rules_with_worst_teams,
            ("routing_evidence", "scope", "coordination", "sample"),
            "recommendation",
            "Rules learned on each half of the sessions and proven on the other; none when none can be proven. One entry per rule.",
        ),
        # Rules from elsewhere, with what the logs say of them on the sessions that no search has seen.
        Operation("judged_rules", RoutingRules, evaluated, ("rule_set", "routing_evidence", "sample", "scope", "own_rules")),
        Operation(
            "tradeoff_frontier",
            TradeoffFrontier,
            frontier_with_scenarios,
            ("routing_evidence", "scope", "routing_rules", "coordination"),
            "recommendation",
            "Cost, quality and latency of the undominated policies, today's routing, the proposal, single models and a random mix. One entry per policy.",
        ),
        Operation(
            "model_mix",
            ModelMix,
            optimize_model_mix,
            ("routing_evidence", "scope", "routing_rules"),
            "recommendation",
            "Share of traffic now and recommended, and the price of every binding constraint. One entry per model.",
        ),
        Operation(
            "simulation",
            Simulation,
            simulate,
            ("routing_rules.rule_set", "routing_evidence", "sample", "scope", "routing_rules.halves"),
            "recommendation",
            "The rule set replayed on the sessions that its search never saw, and the total saving. One entry per task type, per day and per rule.",
        ),
        Operation(
            "cost_optimization_plan",
            CostOptimizationPlan,
            cost_optimization_plan,
            ("scope", "routing_rules", "routing_costs", "cost_drivers"),
            "recommendation",
            "Actions that reach the target reduction, lowest risk first, or how much they save when they do not reach it. One entry per action.",
        ),
        # Step 5
        Operation(
            "optimization_plan",
            OptimizationPlan,
            optimization_plan,
            (
                *("scope", "routing_rules", "cost_optimization_plan", "cost_drivers", "quality_issues", "bottlenecks"),
                "monitoring_plan.exploration",
            ),
            "planning",
            "What to do this week, this month and this quarter: impact, effort, owner, prerequisites, success criteria. One entry per item of the plan.",
        ),
        Operation(
            "optimization_risks",
            OptimizationRisks,
            optimization_risks,
            ("scope", "routing_evidence", "routing_rules", "requests"),
            "planning",
            "What could go wrong, how likely it is, who would be affected, and what would prevent it. One entry per change.",
        ),
        Operation(
            "monitoring_plan",
            MonitoringPlan,
            monitoring_plan,
            ("scope", "routing_evidence", "routing_rules", "requests"),
            "planning",
            "What to watch, its baseline and its alarm threshold, and how many days each canary step needs. One entry per metric, and one per step.",
        ),
        Operation(
            "realized_outcomes",
            RealizedOutcomes,
            realized_outcomes,
            ("requests", "scope", "promised"),
            "planning",
            "What earlier rule sets promised, and what the requests that carry their rules have achieved since. One entry per rule set.",
            asks=(),
        ),
    )
)


def assets_under(operation: Operation, operations: Operations) -> tuple[str, ...]:
    """The assets that an operation's own comes after."""
    under = (operations[name].asset for name in operation.rests_on)
    return tuple(dict.fromkeys(name for name in under if name is not None and name != operation.name))
