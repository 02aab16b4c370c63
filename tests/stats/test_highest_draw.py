"""The chance of having been drawn: against closed forms, and against draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import betaln

from routing_pipeline.stats.highest_draw import Candidate, chance_of


def test_candidates_that_nothing_is_known_of_are_equally_probable() -> None:
    for many in (2, 3, 7):
        candidates = [Candidate(2.0, 2.0)] * many
        assert chance_of(0, candidates) == pytest.approx(1 / many, abs=1e-9)
        assert chance_of(0, candidates, present=0) == pytest.approx(1 / many, abs=1e-9)


def test_two_draws_agree_with_the_closed_form_for_whole_numbers() -> None:
    """P(Beta(a, b) > Beta(c, d)) = sum over i < a of B(c + i, d + b) / ((b + i) B(1 + i, b) B(c, d)), for whole a."""

    def closed(a: int, b: int, c: int, d: int) -> float:
        return math.fsum(math.exp(betaln(c + i, b + d) - math.log(b + i) - betaln(1 + i, b) - betaln(c, d)) for i in range(a))

    for a, b, c, d in ((2, 2, 2, 2), (3, 2, 40, 9), (1, 1, 5, 1), (120, 30, 80, 25), (2, 2, 500, 500), (1, 60, 60, 1)):
        assert chance_of(0, [Candidate(a, b), Candidate(c, d)]) == pytest.approx(closed(a, b, c, d), rel=2e-6, abs=1e-12)


def test_the_chances_of_all_sum_to_one() -> None:
    candidates = [Candidate(9, 3, -0.02), Candidate(5, 2, -0.04), Candidate(1.4, 2.6, 0.001), Candidate(70, 40, -0.1)]
    assert sum(chance_of(place, candidates) for place in range(4)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("present", [0, 2])
def test_what_is_added_and_what_is_asked_count_as_in_draws(present: int) -> None:
    candidates = [Candidate(9, 3, -0.02), Candidate(6, 2, -0.04, 0.05), Candidate(2, 2, 0.001, 0.08), Candidate(15, 9, 0.01, 0.03)]
    draw = np.random.default_rng(1)
    n = 400_000
    scores = np.stack([draw.beta(each.alpha, each.beta, n) + each.added for each in candidates])
    highest = scores.argmax(axis=0)
    margin = np.array([each.margin for each in candidates])[highest]
    chosen = np.where((highest != present) & (scores.max(axis=0) < scores[present] + margin), present, highest)
    for place in range(4):
        share = float((chosen == place).mean())
        assert chance_of(place, candidates, present) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / n) + 1e-6)


def test_what_can_never_win_has_no_chance() -> None:
    assert chance_of(0, [Candidate(2, 2, -2.0), Candidate(2, 2)]) == 0.0
    assert chance_of(1, [Candidate(2, 2, -2.0), Candidate(2, 2)], present=1) == 1.0
