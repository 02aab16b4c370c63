"""What passing a proof flatters the told quality by, and what is left of it."""

from __future__ import annotations

import numpy as np

from routing_pipeline.policy.flattery import luck_of
from routing_pipeline.stats.inference import Statistic

CLUSTERS = 256


def walk(truths: list[float], rng: np.random.Generator) -> tuple[list[Statistic], int]:
    """Margins of pairs that hang together, in standard errors, and how many of them pass before the first that fails."""
    common = rng.normal(size=CLUSTERS)[:, None]
    parts = (np.sqrt(0.9) * common + np.sqrt(0.1) * rng.normal(size=(CLUSTERS, len(truths)))) / np.sqrt(CLUSTERS)
    margins = [Statistic(truth + part.sum(), part - part.mean(), CLUSTERS) for truth, part in zip(truths, parts.T, strict=True)]
    length = next((place for place, each in enumerate(margins) if each.low() < 0), len(margins))
    return margins[: length + 1], length


def test_what_passes_where_the_limit_is_near_was_lucky_and_less_its_luck_it_is_not() -> None:
    rng = np.random.default_rng(7)
    truths = [2.5, 2.2, 1.9, 1.6, 1.3, 1.0]
    told, left = [], []
    for _ in range(90):
        margins, length = walk(truths, rng)
        if length:
            error = margins[length - 1].value - truths[length - 1]
            told.append(error)
            left.append(error - luck_of([[each] for each in margins], stops=False, level=0.975) * margins[length - 1].standard_error)
    assert np.mean(told) > 0.4
    assert abs(np.mean(left)) < 0.25


def test_where_the_limit_is_far_nothing_is_taken_off() -> None:
    margins, _ = walk([8.0, 7.0, 6.5], np.random.default_rng(3))
    assert luck_of([[each] for each in margins], stops=False, level=0.975) < 0.01


def test_a_walk_that_another_limit_ends_is_not_taken_further_by_luck_with_quality() -> None:
    margins, _ = walk([8.0, 7.0, -3.0], np.random.default_rng(3))
    assert luck_of([[each] for each in margins], stops=True, level=0.975) < 0.01


def test_nothing_passed_nothing_is_taken_off() -> None:
    margins, _ = walk([-3.0], np.random.default_rng(3))
    assert luck_of([[each] for each in margins], stops=True, level=0.975) == 0.0
