"""Promises held against what requests with the rules' ids got: kept, missed, better, and what cannot be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.recommendation.realized_outcomes import RealizedOutcomes, realized_outcomes
from routing_pipeline.rules.lifecycle import Decision, RuleSetStatus, State, status_without_record
from routing_pipeline.rules.model import (
    Change,
    Constraints,
    Expected,
    Outcomes,
    RelativeChange,
    Rule,
    RuleEvidence,
    RuleSet,
    RuleWindow,
    WeightedModel,
    When,
    logged_rule_id,
)
from tests.simulation import worlds

WORLD = replace(worlds.CONFOUNDED, labelled=0.4)


def about(value: float, half: float) -> Estimate:
    return Estimate(estimate=value, low=value - half, high=value + half)


def promise(rule_set_id: str = "2026-11-01T00:00:00Z-abcd", **expected: Any) -> RuleSet:
    outcomes = Outcomes(**({"cost_usd": about(0.01, 0.001), "quality": about(0.9, 0.01), "latency_ms": about(500, 50)} | expected))
    unknown = RelativeChange(relative=Unidentifiable(unidentifiable="x"))
    return RuleSet(
        rule_set_id=rule_set_id,
        status="published",
        goal="cost",
        constraints=Constraints(),
        window=RuleWindow(start="2026-10-25T00:00:00Z", end="2026-11-01T00:00:00Z", snapshot_id="1"),
        rules=tuple(
            Rule(
                id=f"r{place}",
                priority=place,
                when=When(task_type=(f"task-{place}",)),
                route=(WeightedModel(model="m", weight=1.0),),
                rationale="",
                evidence=RuleEvidence(requests=1, labelled=1, effective_sample_size=1.0, min_propensity=1.0, grade="B"),
                expected=outcomes,
                effort="Low",
                risk="Low",
                validation_criteria=(),
            )
            for place in (1, 2)
        ),
        expected=Expected(baseline=outcomes, proposed=outcomes, change=Change(cost_usd=unknown, quality=unknown, latency_ms=unknown)),
        assumptions=(),
        warnings=(),
    )


def window(rule_set_id: str, n: int = 20_000, seed: int = 3) -> pa.Table:
    """Requests of which half of two tasks were decided by the rules."""
    rng = np.random.default_rng(seed)
    rows = worlds.logged(WORLD, worlds.contexts(WORLD, n, rng), rng)
    decided = rng.random(n) < 0.5
    ids = [
        logged_rule_id(rule_set_id, f"r{task[-1]}") if is_decided and task in {"task-1", "task-2"} else "another gateway's rule"
        for task, is_decided in zip(rows["task_type"].to_pylist(), decided, strict=True)
    ]
    return rows.append_column("routing_rule_id", pa.array(ids))


def held(rows: pa.Table, *promises: RuleSet, state: State = "published") -> RealizedOutcomes:
    return realized_outcomes(
        ibis.memtable(rows), worlds.scope_of(rows), [(each, status_without_record(each, state, "", None)) for each in promises]
    )


def truly(rows: pa.Table, rule_set_id: str, column: str) -> float:
    mine = np.array([str(each).startswith(f"{rule_set_id}/") for each in rows["routing_rule_id"].to_pylist()])
    return float(np.nanmean(rows[column].to_numpy(zero_copy_only=False).astype(np.float64)[mine]))


def test_a_promise_that_came_true_is_kept_and_measured_on_the_requests_that_carry_its_rules() -> None:
    rows = window("2026-11-01T00:00:00Z-abcd")
    cost = truly(rows, "2026-11-01T00:00:00Z-abcd", "request_cost_usd")
    latency = truly(rows, "2026-11-01T00:00:00Z-abcd", "request_latency_ms")
    found = held(rows, promise(cost_usd=about(cost, cost / 20), latency_ms=about(latency, latency / 20)))
    assert len(found.rule_sets) == 1
    of = {each.outcome: each for each in found.rule_sets[0].outcomes}
    assert isinstance(of["cost_usd"].measured, Estimate)
    assert of["cost_usd"].measured.estimate == pytest.approx(cost, rel=1e-9)
    assert of["cost_usd"].verdict == "kept"
    assert of["latency_ms"].verdict == "kept"
    mine = sum(str(each).startswith("2026-11-01") for each in rows["routing_rule_id"].to_pylist())
    assert found.rule_sets[0].requests == mine
    assert sum(rule.requests for rule in found.rule_sets[0].rules) == mine


def test_a_promise_missed_by_more_than_chance_is_flagged_in_words_and_a_better_outcome_is_not() -> None:
    rows = window("2026-11-01T00:00:00Z-abcd")
    cost = truly(rows, "2026-11-01T00:00:00Z-abcd", "request_cost_usd")
    found = held(rows, promise(cost_usd=about(cost * 0.6, cost * 0.01), quality=about(0.2, 0.01))).rule_sets[0]
    of = {each.outcome: each.verdict for each in found.outcomes}
    assert of["cost_usd"] == "missed"
    assert of["quality"] == "better"
    assert any("cost of" in said and "was promised" in said for said in found.missed)
    assert not any("quality" in said for said in found.missed)


def test_a_wide_promise_is_not_missed_by_chance_alone() -> None:
    rows = window("2026-11-01T00:00:00Z-abcd")
    cost = truly(rows, "2026-11-01T00:00:00Z-abcd", "request_cost_usd")
    found = held(rows, promise(cost_usd=about(cost * 0.8, cost * 0.5))).rule_sets[0]
    assert {each.outcome: each.verdict for each in found.outcomes}["cost_usd"] == "kept"


def test_quality_counts_unscored_answers_as_their_peers() -> None:
    rows = window("2026-11-01T00:00:00Z-abcd", n=40_000)
    # Of task 1 nine in ten scores are lost: a plain mean would then be task 2's.
    quality = rows["quality"].to_numpy(zero_copy_only=False).astype(np.float64)
    task = np.array(rows["task_type"].to_pylist())
    lost = (task == "task-1") & (np.random.default_rng(0).random(len(task)) < 0.9)
    thinned = rows.set_column(rows.column_names.index("quality"), "quality", pa.array(quality, mask=lost | np.isnan(quality)))
    whole, thin = (held(each, promise()).rule_sets[0].outcomes[1].measured for each in (rows, thinned))
    assert isinstance(whole, Estimate)
    assert isinstance(thin, Estimate)
    assert thin.estimate == pytest.approx(whole.estimate, abs=0.01)
    assert thin.high - thin.low > whole.high - whole.low


def test_what_was_not_promised_or_not_logged_cannot_be_told() -> None:
    rows = window("2026-11-01T00:00:00Z-abcd")
    unscored = rows.set_column(rows.column_names.index("quality"), "quality", pa.nulls(rows.num_rows, pa.float64()))
    found = held(unscored, promise(latency_ms=Unidentifiable(unidentifiable="latency was not logged"))).rule_sets[0]
    assert [each.verdict for each in found.outcomes if each.outcome != "cost_usd"] == ["cannot tell", "cannot tell"]


def test_rules_that_no_request_carries_are_waited_for_and_foreign_ids_are_nobody_s() -> None:
    rows = window("2026-11-01T00:00:00Z-abcd")
    found = held(rows, promise("2026-11-08T00:00:00Z-ffff"))
    assert found.rule_sets == ()
    assert found.waiting == ("2026-11-08T00:00:00Z-ffff",)
    assert "no request" in found.verdict
    assert held(rows).verdict.startswith("No rules were proposed before")


def test_rules_that_were_followed_unpublished_are_measured_and_said_to_be_so_and_nobody_waits_for_proposals() -> None:
    rows = window("2026-11-01T00:00:00Z-abcd")
    found = held(rows, promise(), promise("2026-11-08T00:00:00Z-ffff"), state="proposed")
    assert [(each.rule_set_id, each.state) for each in found.rule_sets] == [("2026-11-01T00:00:00Z-abcd", "proposed")]
    assert found.waiting == ()
    assert any("nobody published" in notice for notice in found.notices)


def test_published_rule_sets_are_not_pushed_out_by_many_proposals() -> None:
    rows = window("2026-11-01T00:00:00Z-abcd")
    later = [promise(f"2026-12-{day:02d}T00:00:00Z-ffff") for day in range(1, 12)]
    promises = [(promise(), status_without_record(promise(), "published", "", None))]
    promises += [(each, status_without_record(each, "proposed", "", None)) for each in later]
    found = realized_outcomes(ibis.memtable(rows), worlds.scope_of(rows), promises)
    assert [each.rule_set_id for each in found.rule_sets] == ["2026-11-01T00:00:00Z-abcd"]


def test_nothing_proposed_promises_nothing() -> None:
    nothing = promise().model_copy(update={"rules": (), "status": "no_change"})
    rows = window("2026-11-01T00:00:00Z-abcd")
    found = held(rows, nothing)
    assert found.rule_sets == ()
    assert found.waiting == ()


def test_intervals_of_the_measurement_hold_in_most_of_many_weeks() -> None:
    truth = [
        held(window("2026-11-01T00:00:00Z-abcd", n=6_000, seed=seed), promise()).rule_sets[0].outcomes[1].measured for seed in range(25)
    ]
    centre = np.mean([each.estimate for each in truth if isinstance(each, Estimate)])
    covered = [each.low <= centre <= each.high for each in truth if isinstance(each, Estimate)]
    assert len(covered) == 25
    assert np.mean(covered) >= 0.84


def test_sessions_that_take_more_calls_are_held_against_what_the_same_sessions_were_to_cost(hand_made: Any) -> None:
    given = promise()
    rule = given.rules[0].model_copy(
        update={"per": "session", "evidence": given.rules[0].evidence.model_copy(update={"requests": 500, "sessions": 100})}
    )
    given = given.model_copy(update={"rules": (rule,)})
    # Ten calls a session in place of five, each at half the price.
    rows = hand_made(
        {
            "session_id": f"s{session}",
            "cluster": session,
            "at_s": 10.0 * session + call,
            "cost_usd": 0.005 * (1 + 0.01 * (session % 5)),
            "routing_rule_id": logged_rule_id(given.rule_set_id, rule.id),
        }
        for session in range(100)
        for call in range(10)
    )
    (found,) = held(rows.to_pyarrow(), given).rule_sets
    cost = next(each for each in found.outcomes if each.outcome == "cost_usd")
    assert isinstance(cost.measured, Estimate)
    assert cost.measured.estimate == pytest.approx(0.0102)
    assert cost.verdict == "kept"


def with_control(rule_set_id: str, harm: float, seed: int = 3) -> pa.Table:
    """Rules decide two tasks; one session in five is left without them, and quality of all is worse than it was promised."""
    rng = np.random.default_rng(seed)
    rows = worlds.logged(WORLD, worlds.contexts(WORLD, 20_000, rng), rng)
    is_control = rows["cluster"].to_numpy() % 5 == 0
    decided = np.array([task in {"task-1", "task-2"} for task in rows["task_type"].to_pylist()])
    ids = [
        (logged_rule_id(rule_set_id, f"r{task[-1]}") + ("/control" if control else "")) if is_decided else None
        for task, is_decided, control in zip(rows["task_type"].to_pylist(), decided, is_control, strict=True)
    ]
    quality = rows["quality"].to_numpy(zero_copy_only=False).astype(np.float64) - harm * (decided & ~is_control)
    place = rows.column_names.index("quality")
    rows = rows.set_column(place, "quality", pa.array(quality, from_pandas=True))
    return rows.append_column("routing_rule_id", pa.array(ids, pa.string()))


def promised_change(quality: float) -> RuleSet:
    made = promise(quality=about(0.99, 0.001))
    change = made.expected.change.model_copy(update={"quality": RelativeChange(relative=about(quality, 0.001))})
    return made.model_copy(update={"expected": made.expected.model_copy(update={"change": change})})


def test_a_control_of_the_same_days_tells_a_change_of_the_rules_from_a_worse_week() -> None:
    rows = with_control("2026-11-01T00:00:00Z-abcd", harm=0.0)
    found = held(rows, promised_change(0.0)).rule_sets[0]
    of = {each.outcome: each for each in found.against_control}
    assert found.design == "randomised"
    assert next(each for each in found.outcomes if each.outcome == "quality").verdict == "missed", "before and after, all got worse"
    assert of["quality"].verdict == "kept"
    assert isinstance(of["quality"].difference, Estimate)
    assert of["quality"].difference.low < 0 < of["quality"].difference.high
    assert of["cost_usd"].verdict == "cannot tell", "no change of cost was promised"
    assert all("weaker" in each for each in found.missed)


def test_harm_by_the_rules_themselves_is_a_promise_missed_and_control_counts_as_not_decided() -> None:
    rows = with_control("2026-11-01T00:00:00Z-abcd", harm=0.1)
    found = held(rows, promised_change(0.0)).rule_sets[0]
    quality = next(each for each in found.against_control if each.outcome == "quality")
    assert quality.difference.low < -0.1 < quality.difference.high
    assert quality.verdict == "missed"
    assert "against the control of the same days" in found.missed[0]
    assert found.requests == sum(each is not None and not each.endswith("/control") for each in rows["routing_rule_id"].to_pylist())
    assert all(rule.against_control for rule in found.rules)


@pytest.mark.parametrize("began", [0.0, 0.7])
def test_a_change_is_held_against_the_time_in_which_the_rules_decided_and_not_the_whole_window(began: float) -> None:
    """Rules that came late in the window are no rarer for that, and were not promised to save more of each request."""
    rows = with_control("2026-11-01T00:00:00Z-abcd", harm=0.0)
    started = rows["started_s"].to_numpy()
    is_live = started >= started.min() + began * (started.max() - started.min())
    ids = [each if live else None for each, live in zip(rows["routing_rule_id"].to_pylist(), is_live, strict=True)]
    rows = rows.set_column(rows.column_names.index("routing_rule_id"), "routing_rule_id", pa.array(ids, pa.string()))
    found = held(rows, promised_change(-0.05)).rule_sets[0]
    quality = next(each for each in found.against_control if each.outcome == "quality")
    decided = sum(each is not None for each in ids) / is_live.sum()
    assert isinstance(quality.promised, Estimate)
    assert quality.promised.estimate == pytest.approx(-0.05 * 0.99 / decided, rel=0.05)
    assert found.share == pytest.approx(found.requests / rows.num_rows)


def decided_at(moves: list[tuple[Literal["publish", "roll_back"], float]]) -> RuleSetStatus:
    """Decisions about the promise, each so many days after the hour in which the window starts."""
    start = datetime.fromtimestamp(worlds.START_S // 3600 * 3600, UTC)
    history = tuple(
        Decision(
            number=place,
            move=move,
            rule_set_id="2026-11-01T00:00:00Z-abcd",
            by="Ada",
            at=start + timedelta(days=day),
            seal="x",
            before_sha256=None,
        )
        for place, (move, day) in enumerate(moves, 1)
    )
    return status_without_record(promise(), "published", "", None).model_copy(update={"history": history})


def outcomes_of(rows: pa.Table, promised: RuleSet, status: RuleSetStatus) -> RealizedOutcomes:
    return realized_outcomes(ibis.memtable(rows), worlds.scope_of(rows), [(promised, status)])


def without_rules(rows: pa.Table, start_day: float, end_day: float) -> pa.Table:
    """The same, no request of these days carrying a rule."""
    at = (rows["started_s"].to_numpy() - worlds.START_S) / 86_400
    ids = [None if start_day <= day < end_day else each for day, each in zip(at, rows["routing_rule_id"].to_pylist(), strict=True)]
    return rows.set_column(rows.column_names.index("routing_rule_id"), "routing_rule_id", pa.array(ids, pa.string()))


def test_requests_that_name_a_rule_which_the_rule_set_does_not_have_are_told_and_counted_for_none() -> None:
    rows = window("2026-11-01T00:00:00Z-abcd")
    ids = rows["routing_rule_id"].to_pylist()
    wrong = [place for place, each in enumerate(ids) if each.endswith("/r1")][:12]
    for place in wrong:
        ids[place] = "2026-11-01T00:00:00Z-abcd/r9" + ("/control" if place == wrong[0] else "")
    mistaken = rows.set_column(rows.column_names.index("routing_rule_id"), "routing_rule_id", pa.array(ids))
    found = held(mistaken, promise())
    told = [each for each in found.notices if "'r9'" in each]
    assert len(told) == 1
    assert "12 requests name the rule 'r9', which rule set 2026-11-01T00:00:00Z-abcd does not have" in told[0]
    assert found.rule_sets[0].requests == held(rows, promise()).rule_sets[0].requests - 12
    assert not any("r9" in each for each in held(rows, promise()).notices)


def test_requests_from_before_a_rule_set_was_published_and_while_it_was_taken_back_are_told() -> None:
    rows = without_rules(window("2026-11-01T00:00:00Z-abcd"), 4, 5)
    hours = rows["started_s"].to_numpy() // 3600 - worlds.START_S // 3600
    carried = np.array([str(each).startswith("2026-11-01") for each in rows["routing_rule_id"].to_pylist()])
    found = outcomes_of(rows, promise(), decided_at([("publish", 1), ("roll_back", 2), ("publish", 3), ("roll_back", 6)]))
    before, between, after = (int((carried & (hours >= start) & (hours < end)).sum()) for start, end in ((0, 23), (49, 71), (145, 169)))
    told = " ".join(found.notices)
    assert f"{before:,} requests were decided by 2026-11-01T00:00:00Z-abcd before it was published" in told
    assert f"{between:,} requests were decided by 2026-11-01T00:00:00Z-abcd while it was taken back" in told
    assert f"{after:,} requests were decided by 2026-11-01T00:00:00Z-abcd after it was taken back" in told
    quiet = outcomes_of(rows, promise(), decided_at([("publish", -1), ("roll_back", 4), ("publish", 5)]))
    assert not any("taken back" in each or "before it was" in each for each in quiet.notices)


def test_days_on_which_a_rule_set_was_taken_back_do_not_make_its_promise_larger() -> None:
    made = promised_change(0.0)
    change = made.expected.change.model_copy(update={"cost_usd": RelativeChange(relative=about(-0.1, 0.001))})
    made = made.model_copy(update={"expected": made.expected.model_copy(update={"change": change})})
    rows = with_control(made.rule_set_id, harm=0.0)
    moves = decided_at([("publish", -1), ("roll_back", 2), ("publish", 5)])

    def promised(rows: pa.Table) -> float:
        (found,) = outcomes_of(rows, made, moves).rule_sets
        cost = next(each for each in found.against_control if each.outcome == "cost_usd")
        assert isinstance(cost.promised, Estimate)
        return cost.promised.estimate

    assert promised(without_rules(rows, 2, 5)) == pytest.approx(promised(rows), rel=0.05)


def test_rules_per_session_that_take_more_and_cheaper_calls_have_made_sessions_dearer(hand_made: Callable[..., ibis.Table]) -> None:
    made = promise()
    of_session = made.rules[0].evidence.model_copy(update={"requests": 2_000, "sessions": 1_000})
    rule = made.rules[0].model_copy(update={"per": "session", "evidence": of_session})
    made = promised_change(0.0).model_copy(update={"rules": (rule,)})
    change = made.expected.change.model_copy(update={"cost_usd": RelativeChange(relative=about(-0.3, 0.05))})
    baseline = made.expected.baseline.model_copy(update={"cost_usd": about(0.1, 0.001)})
    made = made.model_copy(update={"expected": made.expected.model_copy(update={"change": change, "baseline": baseline})})
    rng = np.random.default_rng(3)
    name = logged_rule_id(made.rule_set_id, rule.id)
    rows = [
        {
            "at_s": 3_600.0 * (session % 160) + call,
            "session_id": f"s{session}",
            "cluster": session * 7 % 256,
            "routing_rule_id": f"{name}/control" if is_control else name,
            "cost_usd": (0.1 if is_control else 0.06) * float(rng.lognormal(0, 0.1)),
        }
        for session in range(1_200)
        for is_control in [session % 2 == 0]
        for call in range(2 if is_control else 4)
    ]
    (found,) = held(hand_made(rows).to_pyarrow(), made).rule_sets
    cost = next(each for each in found.against_control if each.outcome == "cost_usd")
    # 4 calls at 0.06 in place of 2 at 0.10: of a session that held two requests, 0.12 for each and not 0.06.
    assert isinstance(cost.difference, Estimate)
    assert cost.difference.estimate == pytest.approx(0.02, abs=0.002)
    assert cost.promised.estimate == pytest.approx(-0.03, rel=0.01)
    assert (found.design, cost.verdict) == ("randomised", "missed")
    measured = next(each for each in found.outcomes if each.outcome == "cost_usd").measured
    assert measured.estimate == pytest.approx(0.12, abs=0.002)
