"""Propensities from weights that were published: exact where only the draw decides, unknown elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import ibis
import pytest

from routing_pipeline.rules.published_weights import Period, PublishedWeights, with_published
from tests.hand_made import MONDAY

START = MONDAY.timestamp()
RULE = "2026-02-01T00:00:00Z-abcd/r1"


def weights(share: float, own: str | None = None, end_s: float | None = None) -> PublishedWeights:
    routes = {"r1": {"small": 0.75, "middle": 0.25}}
    return PublishedWeights(
        periods=(Period(rule_set_id=RULE.split("/")[0], share=share, start_s=START, end_s=end_s, own=own, routes=routes),)
    )


def filled(hand_made: Callable[..., ibis.Table], published: PublishedWeights, own: str = "big") -> list[float | None]:
    """Of small, middle, control, a fallback, one that was logged, and a request before."""
    rows = [
        {"routing_rule_id": RULE, "rule_arm": "small", "model": "small", "at_s": 10},
        {"routing_rule_id": RULE, "rule_arm": "middle", "model": "middle", "at_s": 11},
        {"routing_rule_id": f"{RULE}/control", "rule_arm": "control", "model": own, "at_s": 12},
        {"routing_rule_id": RULE, "rule_arm": "small", "model": "other", "at_s": 13},
        {"routing_rule_id": RULE, "rule_arm": "small", "model": "small", "propensity": 0.1, "at_s": 14},
        {"routing_rule_id": RULE, "rule_arm": "small", "model": "small", "at_s": -10},
        *({"routing_rule_id": f"{RULE}/control", "rule_arm": "control", "model": own, "at_s": 20} for _ in range(120)),
    ]
    found = with_published(hand_made(rows), published).order_by("started_s").to_pyarrow()["propensity"].to_pylist()
    return [*found[1:6], found[0]]


def test_with_all_sessions_on_the_rules_the_weights_are_the_propensities(hand_made: Callable[..., ibis.Table]) -> None:
    assert filled(hand_made, weights(1.0))[:2] == [0.75, 0.25]


def test_what_was_logged_stays_and_what_a_fallback_served_or_nobody_published_is_unknown(hand_made: Callable[..., ibis.Table]) -> None:
    assert filled(hand_made, weights(1.0))[3:] == [None, 0.1, None]
    assert filled(hand_made, weights(1.0, end_s=START + 10.5))[:2] == [0.75, None]


def test_a_canary_whose_control_never_gets_its_models_is_split_by_the_share_alone(hand_made: Callable[..., ibis.Table]) -> None:
    assert filled(hand_made, weights(0.2))[:3] == pytest.approx([0.15, 0.05, 0.8])


def test_where_the_gateways_own_choice_is_one_of_the_rules_models_both_ways_to_it_count(hand_made: Callable[..., ibis.Table]) -> None:
    assert filled(hand_made, weights(0.2, own="small"), own="small")[:3] == pytest.approx([0.95, 0.05, 0.95])
    assert filled(hand_made, weights(0.2), own="small")[:3] == pytest.approx([0.95, 0.05, 0.95]), "as the control shows"


def test_nothing_published_changes_nothing(hand_made: Callable[..., ibis.Table]) -> None:
    assert filled(hand_made, PublishedWeights())[:3] == [None, None, None]
