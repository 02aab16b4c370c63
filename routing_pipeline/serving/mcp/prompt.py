"""The prompt that walks an agent through the task's five steps.

Belongs here: its words. Does not belong here: what the tools do (`tools`).
"""

from __future__ import annotations

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import GOALS, TIMEFRAMES
from routing_pipeline.text import printable

FIVE_STEPS = "Analyse an LLM gateway's routing and propose better rules: current state, patterns, bottlenecks, recommendations, plan."
LONGEST = 200

_PROMPT = """Optimise the LLM routing of our gateway, with the MCP servers `intelligence-router` and `cost-tracker`. {focus}

Step 1, current state
- intelligence-router get_routing_analytics timeframe="{timeframe}"
- cost-tracker get_routing_costs timeframe="{timeframe}" group_by="model,task_type"
- intelligence-router get_quality_metrics timeframe="{timeframe}"

Step 2, patterns
- intelligence-router analyze_request_patterns timeframe="{timeframe}"
- intelligence-router evaluate_model_performance models="all" timeframe="{timeframe}"
- intelligence-router analyze_routing_decisions criteria="{goal}"

Step 3, bottlenecks
- intelligence-router identify_bottlenecks type="performance" timeframe="{timeframe}"
- cost-tracker identify_cost_drivers timeframe="{timeframe}"
- intelligence-router identify_quality_issues{threshold}

Step 4, recommendations
- intelligence-router optimize_routing_rules goal="{goal}" constraints="{constraints}"
- intelligence-router optimize_model_mix based_on="historical_performance" timeframe="{timeframe}"
- cost-tracker generate_cost_optimization_plan target_reduction="20%" timeframe="30d"

Step 5, plan
- intelligence-router create_optimization_plan recommendations=<the rule_set_id from step 4>
- intelligence-router assess_optimization_risks changes=<the rule_set_id from step 4>

Then report: executive summary, current state, opportunities by impact, the rules with their rationale and intervals, the plan in three
phases, expected outcomes, how to monitor. Give every estimate with its interval. Where an answer is `unidentifiable`, say that the logs
cannot tell and what to collect. `no_change` is an answer: do not invent rules. Grade B or C evidence is worth an A/B test. Loading rules
into the gateway is for a person to approve."""


def five_steps(
    analysis_timeframe: str = "7d",
    optimization_goal: str = "balanced",
    cost_threshold: str = "",
    quality_threshold: str = "",
    task_types: str = "",
) -> str:
    """The five steps, with what is asked filled in.

    Raises:
        UnusableInputError: something asked is nothing that the tools take.
    """
    # What is asked becomes part of an instruction, so it is held to what the tools take.
    if analysis_timeframe not in TIMEFRAMES or optimization_goal not in GOALS:
        raise UnusableInputError(f"analysis_timeframe is one of {', '.join(TIMEFRAMES)}; optimization_goal one of {', '.join(GOALS)}")
    try:
        cost, quality = (f"{float(value):g}" if value else "" for value in (cost_threshold, quality_threshold))
    except ValueError as error:
        raise UnusableInputError("cost_threshold is USD per request, quality_threshold 0..1: numbers, or nothing") from error
    limits = [f"{name}{value}" for name, value in (("cost<", cost), ("quality>", quality)) if value]
    tasks = printable(task_types[:LONGEST])
    return _PROMPT.format(
        focus=f"Analyse these task types first: {tasks}." if tasks else "Analyse all traffic.",
        timeframe=analysis_timeframe,
        goal=optimization_goal,
        threshold=f' threshold="{quality}"' if quality else "",
        constraints=",".join(limits),
    )
