"""What is told of the sets to choose from."""

import numpy as np

from routing_pipeline.estimates import Estimate
from routing_pipeline.policy.task_floors import TaskChange
from routing_pipeline.recommendation.options import worst_hit
from routing_pipeline.stats.inference import Statistic

CLUSTERS = 256


def changes(tasks: int) -> list[TaskChange]:
    """So many tasks that do not move each other, the first of which falls most."""
    rng = np.random.default_rng(5)
    told = [Statistic(-0.02 if place == 0 else 0.0, rng.normal(0, 0.001, CLUSTERS), CLUSTERS) for place in range(tasks)]
    return [TaskChange(f"task {place}", 5_000.0, 900.0, 0.5, each, each.value) for place, each in enumerate(told)]


def width(tasks: int) -> float:
    hit = worst_hit(changes(tasks))
    assert hit is not None
    assert isinstance(hit.quality_change, Estimate)
    return hit.quality_change.high - hit.quality_change.low


def test_the_worst_of_many_tasks_has_a_range_that_holds_for_all_of_them() -> None:
    assert 1.3 * width(1) < width(12) < 1.7 * width(1)


def test_where_no_quality_is_known_no_task_is_named() -> None:
    assert worst_hit([]) is None
