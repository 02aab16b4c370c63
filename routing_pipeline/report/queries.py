"""How each table of the report is counted, and the command that gives its numbers again.

Belongs here: a sentence and a question for each table, by the table's title. Does not belong here: computing anything, laying it out (`rendering`).
"""

from __future__ import annotations

from dataclasses import dataclass

from routing_pipeline.report.model import Report


@dataclass(frozen=True)
class Query:
    """Where a table's numbers come from."""

    said: str
    """What was counted over which rows, in words."""
    key: str
    """Key of report.json that holds the numbers."""
    ask: str | None = None
    """What `routing-pipeline ask` takes to give them again; None where only the whole analysis does."""


_ATTEMPTS = "the window's attempts (every call to a model, retries included)"
_REQUESTS = "the window's chat requests"
_SCORED = "the window's scored chat requests"
_COSTS = "get_routing_costs timeframe={timeframe} group_by="
_ANALYTICS = "get_routing_analytics timeframe={timeframe}"
_QUALITY = "get_quality_metrics timeframe={timeframe}"
_PERFORMANCE = "evaluate_model_performance models=all timeframe={timeframe}"
_RULES = "optimize_routing_rules goal={goal}"

QUERIES: dict[str, Query] = {
    "Options": Query("proven rule sets; dollars are over 30 days at the window's pace", "routing_rules", _RULES),
    "Why, by task": Query(f"{_REQUESTS} that the rules were not found on, by task_type", "simulation.by_task"),
    "What to watch": Query("each figure as the window has it, and where it must raise an alarm", "monitoring_plan.kpis"),
    "Steps of the roll-out": Query(
        f"quality over {_REQUESTS} of the canary less that of the control, at each step", "realized_outcomes.rule_sets.steps"
    ),
    "Models by share of requests and spend": Query(
        f"count of {_REQUESTS}, sum of tokens and of cost_usd, by the model that answered", "routing_analytics.models", _ANALYTICS
    ),
    "Kinds of call": Query(
        f"count, success and sum of cost_usd over {_ATTEMPTS}, by operation", "routing_analytics.operations", _ANALYTICS
    ),
    "Latency": Query(
        f"mean and quantiles of routing_latency_ms, latency_ms and ttft_ms over {_REQUESTS}", "routing_analytics.latency", _ANALYTICS
    ),
    "The same model at several providers": Query(
        "latency_ms, cost_usd and quality over answered calls of like task and answer length, by provider",
        "model_performance.arms.providers",
        _PERFORMANCE,
    ),
    "Names with another version since": Query(
        f"quality, cost_usd and latency_ms over {_REQUESTS} before and after the model that answered changed behind a name",
        "model_performance.version_changes",
        _PERFORMANCE,
    ),
    "Money per unit": Query(
        "sum of cost_usd over requests, sessions, sessions whose last score says solved, and users, by group",
        "routing_costs.units",
        _COSTS + "feature",
    ),
    "Response time by model": Query("quantiles of latency_ms over answered calls, by model", "model_performance.latencies", _PERFORMANCE),
    "Error rates by model": Query(
        f"share of {_ATTEMPTS} with an error, and with a rate limit, by model",
        "bottlenecks.availability",
        "identify_bottlenecks type=performance timeframe={timeframe}",
    ),
    "Kinds of request": Query(
        f"count of {_REQUESTS} by task_type, length of the prompt and complexity",
        "request_patterns.kinds",
        "analyze_request_patterns timeframe={timeframe}",
    ),
    "Complexity of requests": Query(
        f"count of {_REQUESTS} in ten bins of complexity",
        "request_patterns.complexity.bins",
        "analyze_request_patterns timeframe={timeframe}",
    ),
    "Calls behind the incident": Query("calls of the incident's hours by team, task_type and model", "incidents"),
    "Spend over time": Query(f"sum of cost_usd over {_ATTEMPTS}, by hour or UTC day", "routing_costs.days", _COSTS + "day"),
    "Spend by task type": Query(f"sum of cost_usd over {_ATTEMPTS}, by task_type", "routing_costs.groupings", _COSTS + "task_type"),
    "Models without a price": Query(
        "successful attempts whose cost_usd is null, by model and provider", "routing_costs.unpriced.models", _COSTS + "model"
    ),
    "Projected spend of month and quarter": Query(
        "sum of cost_usd by team and day over up to half a year, continued to the end of the period",
        "budget_projection",
        _COSTS + "team",
    ),
    "Cost per tier": Query(f"sum of cost_usd over {_ATTEMPTS}, by tier of the model", "routing_costs.groupings", _COSTS + "tier"),
    "Logged against recomputed cost": Query(
        "sum of cost_usd as logged and of tokens times list price, by model", "routing_costs.checks", _COSTS + "model"
    ),
    "Cost by token class": Query(
        "tokens by class and the price that the logged costs imply, by model", "routing_costs.checks", _COSTS + "model"
    ),
    "Quality by model": Query(
        f"mean of quality over {_REQUESTS} that succeeded, by model; corrected by how likely an answer is scored",
        "quality_metrics.models",
        _QUALITY,
    ),
    "Quality against cost": Query(f"rank correlation of quality and cost_usd over {_SCORED}", "quality_metrics.against_cost", _QUALITY),
    "Models compared on the same requests": Query(
        f"mean quality and cost by task_type and model over {_REQUESTS}, adjusted for which requests each model got",
        "model_performance.performances",
        _PERFORMANCE,
    ),
    "Efficiency and reliability": Query(
        f"success, latency and quality per dollar by task_type and model over {_REQUESTS}", "model_performance.performances", _PERFORMANCE
    ),
    "Effect of today's rules": Query(
        f"cost, quality and success of {_REQUESTS} by routing_rule_id",
        "routing_decisions.rules",
        "analyze_routing_decisions criteria={goal}",
    ),
    "Answers below the threshold": Query(
        f"share of {_SCORED} whose quality is below the threshold, by kind",
        "quality_issues.low_quality",
        "identify_quality_issues",
    ),
    "Rules at a glance": Query("each rule on the requests that it decides", "routing_rules.impacts", _RULES),
    "What each priority achieves": Query("the same search and proof under each priority's limits", "tradeoff_frontier.scenarios"),
    "Model selection by task type": Query(
        f"share of {_REQUESTS} by task_type and model, today and under the rules",
        "model_mix.by_task",
        "optimize_model_mix based_on=historical_performance timeframe={timeframe}",
    ),
    "Model mix": Query(
        f"share of {_REQUESTS} by model, today and under the rules",
        "model_mix.shares",
        "optimize_model_mix based_on=historical_performance timeframe={timeframe}",
    ),
    "Trade-offs": Query("estimates of each policy on sessions that no search has seen", "tradeoff_frontier.points"),
    "Actions of the cost plan": Query(
        "saving of each action in the window",
        "cost_optimization_plan.actions",
        "generate_cost_optimization_plan timeframe={timeframe}",
    ),
    "Replay by task type": Query("the rules on sessions that no search has seen, by task_type", "simulation.by_task"),
    "Replay by day": Query("the rules on sessions that no search has seen, by UTC day", "simulation.by_day"),
    "Indicators to watch": Query("today's values of the window, targets from the proof", "monitoring_plan.kpis"),
    "Canary steps": Query("requests that a fall of quality needs to show, from the spread of scores", "monitoring_plan.steps"),
    "Trials": Query("requests that would make an estimate possible where there is none", "monitoring_plan.trials"),
    "Risks of each change": Query(
        "chances from the estimates and their standard errors", "optimization_risks.changes", "assess_optimization_risks changes=latest"
    ),
    "Promised and measured": Query(f"{_REQUESTS} that a rule of ours decided, by its rule set", "realized_outcomes.rule_sets"),
    "Last report and this one": Query("the same figures of both windows", "since_last_report.moved"),
    "Data checks that need review": Query("expectations on the window's rows", "data_quality"),
    "Data checks that passed": Query("expectations on the window's rows", "data_quality"),
    "What the logs can tell by kind of request": Query(
        f"count of {_REQUESTS} by segment, and the estimates of each model there", "routing_evidence.segments"
    ),
    "Candidates tested": Query("each candidate on the half of the sessions that the search never saw", "routing_rules.walk", _RULES),
}


def query_of(report: Report, title: str) -> tuple[str, str | None]:
    """How a table was counted, and the command that counts it again from the same home; a table without an entry is the whole analysis."""
    found = QUERIES.get(title)
    if found is None:
        return f"{title}, as report.json has it", None
    if found.ask is None:
        return f"{found.said} ({found.key} of report.json)", None
    said = f"{found.said} ({found.key})"
    asked = found.ask.format(timeframe=report.scope.timeframe, goal=report.scope.parameters.goal)
    return said, f"routing-pipeline ask {asked}"
