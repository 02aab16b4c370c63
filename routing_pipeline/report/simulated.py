"""A replay in a few lines for the terminal.

Belongs here: wording one `Simulation`. Does not belong here: the report's section on it (`templates`).
"""

from __future__ import annotations

from collections.abc import Iterator

from routing_pipeline.policy.rule_set import Expected
from routing_pipeline.recommendation.simulation import Simulation
from routing_pipeline.report import wording

TASKS_SHOWN = 12


def lines(simulation: Simulation) -> Iterator[str]:
    """Verdict, outcomes today and under the rules, tasks, and what the logs cannot tell; 95 % intervals in brackets."""
    yield wording.name(simulation.verdict, wording.LONGEST_TEXT)
    yield f"Replayed {simulation.requests:,} requests that no search has seen; {wording.percent(simulation.moved_share)} are routed differently."
    yield f"Saving over the window: {wording.measured(simulation.saving_usd, wording.usd)}"
    yield from _outcomes(simulation.expected, "")
    for task in simulation.by_task[:TASKS_SHOWN]:
        yield f"{wording.name(task.task_type)}: {wording.percent(task.moved_share)} of {task.requests:,} routed differently"
        yield from _outcomes(task.expected, "  ")
    for part in simulation.unsupported:
        yield f"Cannot tell: {wording.name(part, wording.LONGEST_TEXT)}"


def _outcomes(expected: Expected, indent: str) -> Iterator[str]:
    before, after = expected.baseline, expected.proposed
    yield f"{indent}cost per request  {wording.measured(before.cost_usd, wording.usd)} -> {wording.measured(after.cost_usd, wording.usd)}"
    yield f"{indent}quality           {wording.measured(before.quality, wording.score)} -> {wording.measured(after.quality, wording.score)}"
    yield f"{indent}latency           {wording.measured(before.latency_ms, wording.ms)} -> {wording.measured(after.latency_ms, wording.ms)}"
