"""What the arguments of the tools mean, and which parameters of an analysis they become."""

from __future__ import annotations

from typing import Any

import pytest

from routing_pipeline.parameters import Parameters
from routing_pipeline.serving.mcp.tools import BY_NAME


def asked(tool: str, base: Parameters | None = None, **arguments: Any) -> dict[str, Any]:
    question = BY_NAME[tool].question(arguments, base or Parameters())
    return question.parameters.model_dump(exclude_defaults=True) | dict(question.also)


@pytest.mark.parametrize(
    ("tool", "arguments", "meant"),
    [
        ("get_routing_analytics", {"timeframe": " 24h "}, {"timeframe": "24h"}),
        ("get_routing_costs", {"group_by": "model, task_type,model"}, {"group_by": ("model", "task_type")}),
        ("get_routing_costs", {"group_by": ["team"]}, {"group_by": ("team",)}),
        ("evaluate_model_performance", {"models": "all"}, {"models": None}),
        ("evaluate_model_performance", {"models": "gpt-4o, claude"}, {"models": ("gpt-4o", "claude")}),
        ("analyze_routing_decisions", {"criteria": "cost"}, {"goal": "cost"}),
        ("identify_quality_issues", {"threshold": "0.8"}, {"quality_threshold": 0.8}),
        ("identify_quality_issues", {"threshold": None}, {}),
        ("optimize_routing_rules", {"constraints": "cost<0.01,quality>0.8"}, {"cost_threshold": 0.01, "quality_threshold": 0.8}),
        ("optimize_routing_rules", {"constraints": " cost <= $1e-2 , "}, {"cost_threshold": 0.01}),
        ("optimize_routing_rules", {"constraints": ""}, {}),
        ("generate_cost_optimization_plan", {"target_reduction": "35 %"}, {"timeframe": "30d", "target_reduction": 0.35}),
        ("generate_cost_optimization_plan", {"target_reduction": 0.1, "timeframe": "7d"}, {"target_reduction": 0.1}),
        ("create_optimization_plan", {}, {"rules": "latest"}),
    ],
)
def test_an_argument_becomes_a_parameter(tool: str, arguments: dict[str, Any], meant: dict[str, Any]) -> None:
    found = asked(tool, **arguments)
    assert {name: found[name] for name in meant} == meant
    assert set(found) - set(meant) <= {"group_by", "models"}


def test_what_a_call_leaves_open_is_taken_from_what_the_server_was_started_with() -> None:
    base = Parameters(timeframe="24h", goal="cost", quality_threshold=0.7, cost_threshold=0.02, budget=9.0, target_reduction=0.4)
    assert asked("get_routing_analytics", base)["timeframe"] == "24h"
    assert asked("get_routing_analytics", base, timeframe="7d")["budget"] == 9.0
    assert asked("optimize_routing_rules", base)["cost_threshold"] == 0.02
    assert "cost_threshold" not in asked("optimize_routing_rules", base, constraints="quality>0.9"), "constraints given are all that hold"
    assert asked("optimize_routing_rules", base, constraints="quality>0.9")["quality_threshold"] == 0.9
    assert "max_quality_drop" not in asked("optimize_routing_rules", base, constraints="quality>0.9"), "the default holds besides"
    assert asked("optimize_routing_rules", base, constraints="quality>0.6, quality_drop<=0.05")["max_quality_drop"] == 0.05
    assert asked("generate_cost_optimization_plan", base)["target_reduction"] == 0.4
