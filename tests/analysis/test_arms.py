"""Providers of one model, pooled arms, and another version behind a name: in worlds whose truth is known."""

from __future__ import annotations

from typing import Any

import ibis
import numpy as np
import pytest

from routing_pipeline.analysis.arms import arms_of
from routing_pipeline.estimates import Estimate
from routing_pipeline.stats.inference import around
from routing_pipeline.stats.pooling import pooled
from routing_pipeline.window.version_changes import notices_of, since_changes, version_changes


def two_providers(n: int = 3000, *, seed: int = 1, names: tuple[str, str] = ("gpt-4o", "gpt-4o-azure")) -> list[dict[str, Any]]:
    """Azure is 200 ms slower for the same call, but gets the short answers more often."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        is_long = rng.random() < 0.5
        azure = rng.random() < (0.2 if is_long else 0.8)
        rows.append(
            {
                "at_s": number * 60.0,
                "cluster": int(rng.integers(256)),
                "model": names[azure],
                "provider": "azure" if azure else "openai",
                "provider_model": "gpt-4o-2024-11-20" if azure else "gpt-4o",
                "completion_tokens": 1000 if is_long else 100,
                "latency_ms": (3000.0 if is_long else 500.0) + 200.0 * azure + rng.normal(0, 100),
                "cost_usd": (0.01 if is_long else 0.001) * (1.1 if azure else 1.0) * rng.uniform(0.9, 1.1),
                "quality": float(np.clip(rng.normal(0.8, 0.1), 0, 1)) if number % 2 else None,
            }
        )
    return rows


@pytest.fixture
def arms(hand_made: Any, hand_made_scope: Any) -> Any:
    return lambda rows: arms_of(hand_made(rows), hand_made_scope(7.0))


def test_providers_are_compared_over_like_calls_and_not_by_their_averages(arms: Any) -> None:
    found = arms(two_providers())
    (azure,) = found.providers
    assert (azure.model, azure.provider, azure.against_model, azure.same_as) == ("gpt-4o-azure", "azure", "gpt-4o", "gpt-4o")
    assert azure.latency_ms.low < 200 < azure.latency_ms.high
    assert azure.cost_usd.low > 0
    assert azure.quality.low < 0 < azure.quality.high
    assert azure.rules_can_name_it
    raw = {arm.model: arm.latency_ms.estimate for arm in found.arms}
    assert raw["gpt-4o-azure"] < raw["gpt-4o"], "by their averages the slower one looks quicker"


def test_one_name_over_two_providers_is_told_as_what_rules_cannot_name(arms: Any) -> None:
    (azure,) = arms(two_providers(names=("gpt-4o", "gpt-4o"))).providers
    assert not azure.rules_can_name_it
    assert "cannot choose between them" in azure.explanation


def test_provider_differences_hold_as_often_as_they_say(arms: Any) -> None:
    held = 0
    for seed in range(30):
        (found,) = arms(two_providers(600, seed=seed)).providers
        held += found.latency_ms.low <= (200 if found.provider == "azure" else -200) <= found.latency_ms.high
    assert held >= 26


def test_one_provider_alone_is_compared_with_nobody(arms: Any) -> None:
    rows = [row for row in two_providers() if row["provider"] == "openai"]
    assert arms(rows).providers == ()


def test_the_range_of_an_arm_stays_within_what_its_outcome_can_be(arms: Any) -> None:
    rows = [
        row | {"cost_usd": 1.0 if number == 7 else 0.0, "quality": 0.2 if number == 7 else 1.0}
        for number, row in enumerate(two_providers(80))
    ]
    dear = [arm for arm in arms(rows).arms if arm.cost_usd.estimate > 0]
    assert dear
    for arm in dear:
        assert arm.cost_usd.low == 0.0
        assert arm.quality.high == 1.0


def test_arms_that_differ_by_chance_are_drawn_together_and_others_are_left() -> None:
    near = pooled([around(0.80, 0.02), around(0.83, 0.02), around(0.81, 0.02)])
    assert max(each.estimate for each in near) - min(each.estimate for each in near) < 0.03
    assert all(isinstance(each, Estimate) and 0.80 < each.estimate < 0.83 for each in near)
    far = pooled([around(0.5, 0.01), around(0.9, 0.01)])
    assert (far[0].estimate, far[1].estimate) == pytest.approx((0.5, 0.9), abs=0.005)


def test_pooled_arms_are_nearer_to_the_truth_and_hold_it() -> None:
    rng = np.random.default_rng(7)
    raw_errors, errors, held = [], [], 0
    for _ in range(400):
        truths = 0.8 + rng.normal(0, 0.01, 4)
        means = [around(float(truth + rng.normal(0, 0.03)), 0.03) for truth in truths]
        for truth, raw, one in zip(truths, means, pooled(means), strict=True):
            raw_errors.append((raw.estimate - truth) ** 2)
            errors.append((one.estimate - truth) ** 2)
            held += one.low <= truth <= one.high
    assert np.mean(errors) < 0.8 * np.mean(raw_errors)
    assert held / 1600 > 0.93


def counts(rows: ibis.Table) -> dict[str, int]:
    return {row["model"]: row["n"] for row in rows.group_by("model").agg(n=lambda t: t.count()).to_pyarrow().to_pylist()}


def changed(at: int = 300, n: int = 600, **after: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for number in range(n):
        of = {
            "at_s": number * 600.0,
            "cluster": int(rng.integers(256)),
            "provider_model": "gpt-4o-2024-08-06",
            "quality": 0.8 + rng.normal(0, 0.05),
        }
        rows.append(of | (after if number >= at else {}))
        rows.append({"at_s": number * 600.0, "model": "mini", "provider_model": "gpt-4o-mini", "cluster": int(rng.integers(256))})
    return rows


def test_another_version_behind_a_name_is_told_with_its_date_and_cuts_the_window(hand_made: Any) -> None:
    rows = hand_made(changed(provider_model="gpt-4o-2024-11-20", quality=0.6))
    (change,) = version_changes(rows)
    assert (change.model, change.version_before, change.version_after) == ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20")
    assert (change.calls_before, change.calls_after) == (300, 300)
    assert change.quality_before.estimate == pytest.approx(0.8, abs=0.02)
    assert f"{change.at:%d %B}" == "04 March"
    (notice,) = notices_of((change,))
    assert "Since 04 March" in notice
    assert "gpt-4o-2024-11-20" in notice
    assert counts(since_changes(rows)) == {"gpt-4o": 300, "mini": 300}, "half of the window tells of the same mix of requests"


def test_a_late_change_or_that_of_a_small_name_cuts_that_name_alone(hand_made: Any) -> None:
    late = hand_made(changed(400, provider_model="gpt-4o-2024-11-20"))
    assert counts(since_changes(late)) == {"gpt-4o": 200, "mini": 600}
    rows = changed(300, provider_model="gpt-4o-2024-11-20")
    small = hand_made([row | ({"model": "mini", "provider_model": "gpt-4o-mini"} if place % 10 else {}) for place, row in enumerate(rows)])
    assert counts(small) == {"gpt-4o": 120, "mini": 1080}
    assert counts(since_changes(small)) == {"gpt-4o": 60, "mini": 1080}


def test_versions_side_by_side_a_few_strays_and_a_gateway_that_begins_to_log_versions_are_no_change(hand_made: Any) -> None:
    side_by_side = [row | {"model_version": f"fp_{place % 4 // 2}"} for place, row in enumerate(changed())]
    strays = [row | ({"provider_model": "odd"} if place > 1190 else {}) for place, row in enumerate(changed())]
    begins = [row | {"model_version": "fp_1" if place > 600 else None} for place, row in enumerate(changed())]
    for rows in (side_by_side, strays, begins):
        assert version_changes(hand_made(rows)) == ()
