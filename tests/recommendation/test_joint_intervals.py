"""Intervals of a walk: what passed its proof is not told to be likely below the limit that the proof ruled out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from routing_pipeline.policy.proof import Evaluated
from routing_pipeline.recommendation.joint_intervals import JointIntervals
from routing_pipeline.recommendation.question import Question
from routing_pipeline.stats.inference import Statistic

LIMIT, TODAY = 0.01, 0.8


def evaluated(quality: float, error: float = 0.0) -> Evaluated:
    def statistic(value: float, error: float = 0.0) -> Statistic:
        return Statistic(value, np.resize([1.0, -1.0], 256) * error / 16, 256)

    rest: dict[str, Any] = {name: statistic(1.0) for name in ("cost", "latency", "success", "slow", "calls")}
    return Evaluated(**rest, quality=statistic(quality, error))


def intervals(*, explore_only: bool = False) -> JointIntervals:
    question = SimpleNamespace(
        scope=SimpleNamespace(parameters=SimpleNamespace(explore_only=explore_only)),
        limits=SimpleNamespace(max_quality_drop=LIMIT),
        has_cost=True,
        has_latency=True,
        evidence=SimpleNamespace(labelled=0),
    )
    return JointIntervals(cast("Question", question), dict.fromkeys(("cost change", "latency change", "quality change"), 2.5))


@pytest.mark.parametrize(("estimate", "low"), [(0.02, -LIMIT), (-0.015, -0.015), (0.5, pytest.approx(0.42, abs=0.01))])
def test_a_set_that_passed_is_no_lower_than_the_limit_or_than_its_own_estimate(estimate: float, low: float) -> None:
    change = intervals().quality_change(evaluated(TODAY + estimate, 0.03), evaluated(TODAY), has_passed=True)
    assert change.low == pytest.approx(low)
    assert change.high == pytest.approx(estimate + 0.076, abs=0.002)


def test_relative_to_today_it_says_the_same() -> None:
    told = intervals()
    change = told.change(evaluated(TODAY + 0.02, 0.03), evaluated(TODAY), has_passed=True).quality.relative
    assert change.low == pytest.approx(-LIMIT / TODAY)


@pytest.mark.parametrize(("told", "has_passed"), [(intervals(), False), (intervals(explore_only=True), True)], ids=["failed", "explored"])
def test_what_nothing_was_proven_of_keeps_its_whole_interval(told: JointIntervals, has_passed: bool) -> None:
    assert told.quality_change(evaluated(TODAY + 0.02, 0.03), evaluated(TODAY), has_passed=has_passed).low < -0.05


def test_no_range_reaches_below_nothing() -> None:
    """Of a model that answers two thirds of what is asked for nothing, cost hardly stands out of its error."""

    def statistic(value: float, error: float) -> Statistic:
        return Statistic(value, np.resize([1.0, -1.0], 256) * error / 16, 256)

    rest: dict[str, Any] = {name: statistic(1.0, 0.0) for name in ("quality", "success", "slow", "calls")}
    cheap = Evaluated(**rest, cost=statistic(0.02, 0.05), latency=statistic(10.0, 20.0))
    today = Evaluated(**rest, cost=statistic(1.0, 0.3), latency=statistic(900.0, 300.0))
    told = intervals()
    told = JointIntervals(told.question, told.critical | dict.fromkeys(("cost", "latency", "quality"), 2.5))
    outcomes = told.outcomes(cheap)
    assert outcomes.cost_usd.low == outcomes.latency_ms.low == 0.0
    change = told.change(cheap, today)
    assert change.cost_usd.relative.low >= -1.0
    assert change.latency_ms.relative.low >= -1.0
