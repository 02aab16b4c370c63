"""A replay in a few lines for the terminal.

Belongs here: wording one `Simulation`. Does not belong here: the report's section on it (`templates`).
"""

from __future__ import annotations

from collections.abc import Iterator

from routing_pipeline import text
from routing_pipeline.recommendation.simulation import Simulation
from routing_pipeline.rules.model import Expected

TASKS_SHOWN = 12


def lines(simulation: Simulation) -> Iterator[str]:
    """Verdict, outcomes today and under the rules, tasks, and what the logs cannot tell; 95 % intervals in brackets."""
    yield text.name(simulation.verdict, text.LONGEST_TEXT)
    for notice in simulation.notices:
        yield text.name(notice, text.LONGEST_TEXT)
    for limit in simulation.broken_limits:
        yield f"Breaks this limit, as far as these logs tell: {text.name(limit, text.LONGEST_TEXT)}"
    for limit in simulation.unproven_limits:
        if limit not in simulation.broken_limits:
            yield f"Not shown to keep a limit: {text.name(limit, text.LONGEST_TEXT)}"
    if not simulation.moved_share:
        return
    yield f"Replayed {simulation.requests:,} held-out requests; {text.percent(simulation.moved_share)} are routed differently."
    yield f"Saving over the window: {text.measured(simulation.saving_usd, text.usd)}"
    yield from _outcomes(simulation.expected, "")
    moved = [task for task in simulation.by_task if task.moved_share]
    for task in moved[:TASKS_SHOWN]:
        yield f"{text.name(task.task_type)}: {text.percent(task.moved_share)} of {task.requests:,} routed differently"
        yield from _outcomes(task.expected, "  ")
    if len(moved) > TASKS_SHOWN:
        yield f"and {text.counted(len(moved) - TASKS_SHOWN, 'task')} more; --json has them all"
    if as_today := [text.name(task.task_type) for task in simulation.by_task if not task.moved_share]:
        yield f"As today: {text.listed(as_today, TASKS_SHOWN)}"
    for part in simulation.unsupported:
        yield f"Cannot tell: {text.name(part, text.LONGEST_TEXT)}"


def _outcomes(expected: Expected, indent: str) -> Iterator[str]:
    before, after = expected.baseline, expected.proposed
    yield f"{indent}cost per request  {text.measured(before.cost_usd, text.usd)} -> {text.measured(after.cost_usd, text.usd)}"
    yield f"{indent}quality           {text.measured(before.quality, text.score)} -> {text.measured(after.quality, text.score)}"
    yield f"{indent}latency           {text.measured(before.latency_ms, text.ms)} -> {text.measured(after.latency_ms, text.ms)}"
