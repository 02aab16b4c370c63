"""Which scores of a window count: late ones, those of whoever gave very many, those of users who resemble themselves."""

from __future__ import annotations

from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.parameters import ScoreShares
from routing_pipeline.policy.counting import Counting, as_counted
from routing_pipeline.policy.late_scores import tail_of
from routing_pipeline.policy.score_influence import kept_shares
from routing_pipeline.policy.user_clusters import UserEffect, user_effect
from routing_pipeline.policy.window_scores import account_of
from tests.simulation import worlds

HOURS = np.arange(168, dtype=np.float64) + 490_000


def hourly(seed: int, share: Any, n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Answers and scores by hour, a day's busiest hour four times its quietest; the judge's diligence varies from hour to hour."""
    rng = np.random.default_rng(seed)
    of = rng.poisson(n * (1 + 0.6 * np.sin(HOURS / 24 * 2 * np.pi))).astype(np.float64)
    return of, rng.binomial(of.astype(np.int64), np.clip(share * rng.normal(1, 0.05, len(HOURS)), 0, 1)).astype(np.float64)


def test_the_last_hours_are_told_apart_when_their_scores_are_still_coming_in() -> None:
    age = HOURS.max() - HOURS
    for seed in range(10):
        found = tail_of(HOURS, *hourly(seed, 0.3 * np.minimum((age + 1) / 20, 1.0)))
        assert found is not None
        assert 8 <= HOURS.max() + 1 - found.from_s / 3600 <= 24, "most of what is missing lies in it, and little else"
        assert found.late < 0.25 < found.usual


def test_the_last_hours_are_told_apart_where_few_answers_are_scored_at_all() -> None:
    age = HOURS.max() - HOURS
    reach = []
    for seed in range(20):
        # Six scores an hour, a day late in the mean: no two hours tell by themselves.
        found = tail_of(HOURS, *hourly(seed, 0.1 * (1 - np.exp(-(age + 0.5) / 24)), n=60))
        reach.append(0.0 if found is None else HOURS.max() + 1 - found.from_s / 3600)
    assert min(reach) > 0
    assert np.median(reach) >= 24, "after a day more than a third of the scores are missing"


def test_a_window_that_is_scored_evenly_has_no_tail() -> None:
    assert sum(tail_of(HOURS, *hourly(seed, 0.1, n=60)) is not None for seed in range(100)) <= 3
    assert sum(tail_of(HOURS, *hourly(seed, 0.3)) is not None for seed in range(100)) <= 3


def test_hours_in_the_middle_without_scores_are_no_tail_and_a_judge_that_stopped_is_one() -> None:
    age = HOURS.max() - HOURS
    assert tail_of(HOURS, *hourly(1, np.where((age > 60) & (age < 72), 0.0, 0.3))) is None
    stopped = tail_of(HOURS, *hourly(1, np.where(age < 12, 0.0, 0.3)))
    assert stopped is not None
    assert stopped.scores == 0
    assert HOURS.max() + 1 - stopped.from_s / 3600 == 12


@pytest.mark.parametrize("shares", [{"a": 0.6}, {"a": 0.6, "b": 0.2}, {"a": 0.3, "b": 0.3, "c": 0.2}])
def test_nobody_has_more_than_the_largest_share_of_the_scores_that_count(shares: dict[str, float]) -> None:
    kept = kept_shares(shares, 0.25)
    counted = {name: share * kept[name] for name, share in shares.items()}
    whole = sum(counted.values()) + 1 - sum(shares.values())
    assert max(counted.values()) / whole == pytest.approx(0.25)
    assert all(0 < each <= 1 for each in kept.values())


def test_where_nobody_else_could_make_up_the_rest_all_scores_count() -> None:
    assert kept_shares({"a": 0.6, "b": 0.4}, 0.25) == {"a": 1.0, "b": 1.0}
    assert kept_shares({"a": 0.2}, 0.25) == {"a": 1.0}


def rated(user_sd: float, seed: int = 1) -> pa.Table:
    """6,000 scored requests of 150 users, the heaviest with hundreds of sessions, each of two requests."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(3_000), 2)
    user = np.minimum(rng.pareto(1.2, 3_000) * 12, 149).astype(np.int64)[session]
    quality = 0.7 + rng.normal(0, user_sd, 150)[user] + rng.normal(0, 0.05, 3_000)[session] + rng.normal(0, 0.1, 6_000)
    return pa.table(
        {
            "is_final": np.ones(6_000, dtype=bool),
            "status": ["success"] * 6_000,
            "user_hash": [f"u{each}" for each in user],
            "session_id": [f"s{each}" for each in session],
            "request_id": [f"r{each}" for each in range(6_000)],
            "team": ["a"] * 6_000,
            "task_type": ["chat"] * 6_000,
            "routed_model": ["m"] * 6_000,
            "cluster": session % 256,
            "quality": quality,
            "started_s": worlds.START_S + np.arange(6_000) * 60.0,
        }
    )


def effect_of(rows: pa.Table) -> UserEffect:
    found = user_effect(ibis.memtable(rows))
    assert found is not None
    return found


def test_users_are_clusters_where_their_sessions_resemble_each_other_and_sessions_are_where_not() -> None:
    assert effect_of(rated(0.05)).matters
    assert effect_of(rated(0.05)).ratio > 2
    assert not any(effect_of(rated(0.0, seed)).matters for seed in range(8))


def test_rows_are_counted_as_was_decided_and_keep_their_columns() -> None:
    rows = ibis.memtable(rated(0.05))
    account, counting = account_of(rows, ScoreShares(user=0.03))
    counted = as_counted(rows, counting)
    assert counting.by_user
    assert counted.columns == rows.columns
    by_user = counted.group_by("user_hash").agg(n=counted.quality.count(), clusters=counted.cluster.nunique()).to_pyarrow()
    n = by_user["n"].to_numpy()
    assert n.max() / n.sum() == pytest.approx(0.03, abs=0.006)
    assert by_user["clusters"].to_pylist() == [1] * len(n)
    assert any("of the scores; they count for" in words for words in account.told)
    cut = as_counted(rows, Counting(scored_before_s=worlds.START_S + 3_000 * 60.0))
    assert cut.quality.count().execute() == 3_000
    assert cut.count().execute() == 6_000


def test_one_source_of_scores_counts_for_no_more_than_its_share_and_that_is_told() -> None:
    source = ["check"] * 4_500 + ["eval"] * 1_500
    rows = ibis.memtable(rated(0.0).append_column("quality_source", pa.array(source)))
    account, counting = account_of(rows, ScoreShares(source=0.5))
    by_source = as_counted(rows, counting).group_by("quality_source").agg(n=lambda t: t.quality.count()).to_pyarrow().to_pylist()
    counted = {row["quality_source"]: row["n"] for row in by_source}
    assert counted["eval"] == 1_500, "those who gave few keep all"
    assert counted["check"] == pytest.approx(1_500, rel=0.1)
    assert any(words == "Source check gave 75 % of the scores; they count for 50 %." for words in account.told)


def test_one_source_that_gave_nearly_all_scores_is_thinned_only_where_that_is_asked_for() -> None:
    rows = ibis.memtable(rated(0.0).append_column("quality_source", pa.array(["check"] * 5_000 + ["eval"] * 1_000)))
    account, counting = account_of(rows, ScoreShares())
    assert counting.thinned == ()
    assert [(each.by, each.name) for each in account.influence] == [("source", "check")]
