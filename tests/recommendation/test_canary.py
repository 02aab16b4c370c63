"""A look at a canary over rows: who is in which arm, what is watched, and what the margin is divided by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import ibis
import numpy as np
import pytest

from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.canary import (
    ALPHA_GO_ON,
    CanaryLook,
    Step,
    canary_look,
    cleared_with_promise,
    margin_of,
    promise_of,
)
from routing_pipeline.rules.model import Constraints, RelativeChange, Rule, RuleSet
from routing_pipeline.stats.sequence import Difference, bounds, information_to_tell
from tests.hand_made import MONDAY

DAY = 86_400.0
START = MONDAY.timestamp()


def rows_of(
    rule_set: RuleSet, *, share: float, fall: float = 0.0, failing: float = 0.0, n: int = 4_000, seed: int = 2
) -> list[dict[str, object]]:
    """Two days of sessions of one request; of the second half of them the canary holds five times as many."""
    rng = np.random.default_rng(seed)
    rule = f"{rule_set.rule_set_id}/{rule_set.rules[0].id}"
    rows: list[dict[str, object]] = []
    for number in range(n):
        late = number >= n // 2
        canary = rng.random() < (min(5 * share, 0.5) if late else share)
        fails = canary and rng.random() < failing
        rows.append(
            {
                "at_s": number / n * 2 * DAY,
                "routing_rule_id": rule if canary else f"{rule}/control",
                "rule_arm": "m" if canary else "control",
                "session_id": f"s{number}",
                "quality": None if fails else float(np.clip((0.9 if not late else 0.6) - fall * canary + rng.normal(0, 0.1), 0, 1)),
                "status": "error" if fails else "success",
            }
        )
    return rows


def looked(hand_made: Callable, rule_set: RuleSet, rows: list[dict[str, object]], all_requests: int | None = None) -> CanaryLook:
    steps = [Step(share=0.05, start_s=START), Step(share=0.25, start_s=START + DAY)]
    table: ibis.Table = hand_made(rows)
    return canary_look(table, all_requests or len(rows), rule_set, steps)


@pytest.fixture
def rule_set(worlds: SimpleNamespace) -> RuleSet:
    found = worlds.proposing().rule_set
    return found.model_copy(update={"constraints": Constraints(max_quality_drop=0.02)})


def test_a_harmless_canary_shows_no_difference_although_traffic_and_share_changed_together(hand_made: Callable, rule_set: RuleSet) -> None:
    found = looked(hand_made, rule_set, rows_of(rule_set, share=0.1))
    quality = found.of("quality")
    assert isinstance(quality.difference, Estimate)
    assert quality.difference.low < 0 < quality.difference.high
    assert abs(quality.difference.estimate) < 0.02
    assert not found.crossed
    assert found.canary_requests + found.control_requests == 4_000
    assert 0 < found.sessions_in_step < found.canary_sessions


def test_a_fall_of_quality_and_failures_cross_their_boundaries(hand_made: Callable, rule_set: RuleSet) -> None:
    assert {each.watched for each in looked(hand_made, rule_set, rows_of(rule_set, share=0.1, fall=0.3)).crossed} == {"quality"}
    assert {each.watched for each in looked(hand_made, rule_set, rows_of(rule_set, share=0.1, failing=0.3)).crossed} == {"completion"}


def test_the_margin_is_that_of_decided_requests_whatever_else_is_logged(hand_made: Callable, rule_set: RuleSet) -> None:
    rows = rows_of(rule_set, share=0.1)
    alone, among = looked(hand_made, rule_set, rows), looked(hand_made, rule_set, [*rows, {"quality": 0.1}], all_requests=8_000)
    assert alone.of("quality").limit == pytest.approx(-0.02)
    assert among.of("quality").limit == pytest.approx(-0.04)
    assert among.of("quality").difference.estimate == pytest.approx(alone.of("quality").difference.estimate)


def of_sessions(rule_set: RuleSet, requests: int, sessions: int) -> RuleSet:
    """The same with its first rule deciding sessions, of so many requests in so many sessions."""
    first = rule_set.rules[0]
    evidence = first.evidence.model_copy(update={"requests": requests, "sessions": sessions})
    return rule_set.model_copy(update={"rules": (first.model_copy(update={"per": "session", "evidence": evidence}), *rule_set.rules[1:])})


def test_sessions_that_take_more_and_cheaper_calls_are_held_to_what_they_cost_as_a_whole(hand_made: Callable, rule_set: RuleSet) -> None:
    rng = np.random.default_rng(5)
    rows = [
        row
        | {"at_s": float(row["at_s"]) + call, "cost_usd": (0.06 if is_canary else 0.1) * float(rng.lognormal(0, 0.1)), "latency_ms": 500.0}
        for row in rows_of(rule_set, share=0.3, n=1_500)
        for is_canary in [row["rule_arm"] != "control"]
        for call in range(4 if is_canary else 2)
    ]
    by_request, by_session = (looked(hand_made, each, rows) for each in (rule_set, of_sessions(rule_set, 3_000, 1_500)))
    cheaper, dearer = (each.of("cost_usd").difference for each in (by_request, by_session))
    assert isinstance(cheaper, Estimate)
    assert isinstance(dearer, Estimate)
    # 4 calls at 0.06 in place of 2 at 0.10: of a session that held two requests, 0.12 for each.
    assert cheaper.estimate == pytest.approx(-0.04, abs=0.002)
    assert dearer.estimate == pytest.approx(0.02, abs=0.002)
    assert by_session.of("cost_usd").control == pytest.approx(0.1, abs=0.002)
    assert by_session.of("latency_ms").difference.estimate == pytest.approx(500.0, abs=5)
    assert {"cost_usd", "latency_ms"} <= {each.watched for each in by_session.crossed}
    assert by_session.of("quality").control == pytest.approx(by_request.of("quality").control)


def test_a_handful_of_sessions_cannot_tell(hand_made: Callable, rule_set: RuleSet) -> None:
    found = looked(hand_made, rule_set, rows_of(rule_set, share=0.1, n=60))
    assert {each.standing for each in found.guardrails} == {"cannot tell"}


def test_no_request_of_the_rules_is_no_difference(hand_made: Callable, rule_set: RuleSet) -> None:
    found = looked(hand_made, rule_set, [{"quality": 0.5}])
    assert (found.data_until_s, found.canary_requests, found.share_of_requests) == (None, 0, 0.0)


FOUND = Difference(-0.009, 0.0012, 400.0, 0.85)
"""Of a canary whose limit is a fall of 0.01: too near it to tell by itself."""


def test_rules_that_use_what_they_may_lose_go_on_by_canary_and_promise_together() -> None:
    planned = information_to_tell(0.01, ALPHA_GO_ON, 0.8)
    alone = bounds(FOUND, planned, ALPHA_GO_ON)
    assert alone.low < -0.01 < FOUND.value
    promise = Difference(-0.0085, 0.0004, 255.0, 0.0)
    together = cleared_with_promise(FOUND, alone, promise, -0.01, planned)
    assert together is not None
    assert FOUND.value < together.estimate < promise.value


@pytest.mark.parametrize(
    ("found", "promise"),
    [
        (FOUND, None),
        (FOUND, Difference(0.0, 0.0004, 255.0, 0.0)),
        (replace(FOUND, standard_error=0.006), Difference(-0.005, 0.0001, 255.0, 0.0)),
        (FOUND, Difference(-0.011, 0.0004, 255.0, 0.0)),
        (replace(FOUND, value=-0.0125), Difference(-0.009, 0.002, 255.0, 0.0)),
    ],
    ids=[
        "none",
        "the canary disagrees",
        "twice the limit is not ruled out",
        "it promises too little",
        "together they are beyond the limit",
    ],
)
def test_a_promise_alone_lets_nothing_go_on(found: Difference, promise: Difference | None) -> None:
    planned = information_to_tell(0.01, ALPHA_GO_ON, 0.8)
    assert cleared_with_promise(found, bounds(found, planned, ALPHA_GO_ON), promise, -0.01, planned) is None


def graded(rule: Rule, grade: str) -> Rule:
    return rule.model_copy(update={"evidence": rule.evidence.model_copy(update={"grade": grade})})


def test_a_promise_counts_where_nothing_hidden_can_have_steered_it(rule_set: RuleSet) -> None:
    good = RelativeChange(relative=Estimate(estimate=-0.01, low=-0.012, high=-0.008))
    baseline = rule_set.expected.baseline.model_copy(update={"quality": Estimate(estimate=0.8, low=0.8, high=0.8)})
    change = rule_set.expected.change.model_copy(update={"quality": good})
    expected = rule_set.expected.model_copy(update={"baseline": baseline, "change": change})
    trusted, *steered = ([graded(rule, grade) for rule in rule_set.rules] for grade in "ABC")
    promising = rule_set.model_copy(update={"expected": expected, "rules": tuple(trusted)})
    found = promise_of(promising, 0.5)
    assert found is not None
    assert (found.value, found.standard_error) == (pytest.approx(-0.016), pytest.approx(0.0032 / 1.96, rel=0.01))
    of_b, of_c = (promising.model_copy(update={"rules": tuple(rules)}) for rules in steered)
    assert promise_of(of_b, 0.5) is None
    assert promise_of(of_c, 0.5) is None
    assert promise_of(of_b, 0.5, trust_proof=True) == found, "who says so trusts what was tested"
    assert promise_of(of_c, 0.5, trust_proof=True) is None


@pytest.mark.parametrize(
    ("tolerance", "share", "margin"), [(0.01, 0.5, 0.02), (0.01, 0.01, 0.05), (0.0, 0.5, 0.002), (-0.01, 0.5, -0.02), (0.1, 0.5, 0.1)]
)
def test_what_decided_requests_may_lose(tolerance: float, share: float, margin: float) -> None:
    assert margin_of(tolerance, share) == pytest.approx(margin)
