"""A replay on the terminal."""

from __future__ import annotations

from types import SimpleNamespace

from routing_pipeline.recommendation.simulation import Simulation, TaskReplay
from routing_pipeline.report.simulated import lines


def replay(worlds: SimpleNamespace, **moved: float) -> Simulation:
    expected = worlds.expected()
    tasks = tuple(TaskReplay(task_type=name, requests=10, moved_share=share, expected=expected) for name, share in moved.items())
    return Simulation(
        rule_set_id="given",
        requests=10 * len(tasks),
        sessions=5,
        moved_share=sum(moved.values()) / len(tasks),
        expected=expected,
        completion_change=worlds.around(0.0, 0.001),
        by_task=tasks,
        by_day=(),
        saving_usd=worlds.around(3.0, 1.0),
        verdict="What was found.",
        notices=("Rule r1 matches no request.",),
    )


def test_tasks_that_stay_as_they_are_take_a_line_together(worlds: SimpleNamespace) -> None:
    told = list(lines(replay(worlds, code=0.8, chat=0.0, extraction=0.0)))
    assert [line for line in told if "routed differently" in line and not line.startswith("Replayed")] == [
        "code: 80.0 % of 10 routed differently"
    ]
    assert told[-1] == "As today: chat and extraction"


def test_rules_that_move_nothing_are_told_without_figures(worlds: SimpleNamespace) -> None:
    assert list(lines(replay(worlds, code=0.0, chat=0.0))) == ["What was found.", "Rule r1 matches no request."]
