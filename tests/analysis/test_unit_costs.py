"""Money per request, session, solved task and user: on rows whose every number can be worked out, and in a world whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from routing_pipeline.analysis.spend_groupings import spend_by
from routing_pipeline.analysis.unit_costs import UnitCosts, unit_costs, unit_costs_told
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters

WEEK_S = 7 * 86_400


@pytest.fixture
def units(hand_made: Any, hand_made_scope: Any, covered_by: Any) -> Any:
    def of(rows: list[dict[str, Any]], *by: str, previous: list[dict[str, Any]] | None = None, **asked: Any) -> UnitCosts:
        scope = covered_by(hand_made_scope(7.0, Parameters(**asked)), [*rows, *(previous or [])])
        scope = scope.model_copy(update={"previous_requests": len(previous or [])})
        return unit_costs(hand_made(rows), hand_made(previous or []), scope, by)

    return of


def sessions(n: int, **values: Any) -> list[dict[str, Any]]:
    """Sessions of two requests and an embedding, 5 cents each; every second one ends well after a bad start."""
    rows = []
    for number in range(n):
        at = {"session_id": f"{values.get('feature')}-{number}", "user_hash": f"u{number % 10}", "cluster": number % 256} | values
        rows += [
            at | {"at_s": number * 60.0, "cost_usd": 0.02, "quality": 0.1},
            at | {"at_s": number * 60.0 + 10, "cost_usd": 0.02, "quality": 0.9 if number % 2 else 0.3},
            at | {"at_s": number * 60.0 + 20, "cost_usd": 0.01, "operation": "embedding"},
        ]
    return rows


def test_a_session_costs_all_its_calls_and_is_solved_by_its_last_score(units: Any) -> None:
    (line,) = units(sessions(40)).lines
    assert (line.sessions, line.tasks_scored, line.tasks_solved, line.users) == (40, 40, 20, 10)
    assert line.per_session_usd.estimate == pytest.approx(0.05)
    assert line.per_request_usd.estimate == pytest.approx(0.02)
    assert line.per_solved_task_usd.estimate == pytest.approx(0.10)
    assert line.per_user_usd.estimate == pytest.approx(0.20)
    assert line.per_solved_task_usd.low < 0.10 < line.per_solved_task_usd.high


def test_the_threshold_that_was_asked_for_decides_what_is_solved(units: Any) -> None:
    (line,) = units(sessions(40), quality_threshold=0.95).lines
    assert line.tasks_solved == 0
    assert "none of the scored tasks" in line.per_solved_task_usd.unidentifiable


def test_parts_of_sessions_add_up_over_tags(units: Any) -> None:
    rows = [*sessions(40, feature="search"), *sessions(38, feature="chat"), *sessions(36, feature=None)]
    found = units(rows, "feature")
    assert [line.group for line in found.lines] == [("search",), ("chat",), (None,)]
    assert sum(line.per_session_usd.estimate * line.sessions for line in found.lines) == pytest.approx(114 * 0.05)


def test_days_are_dates_in_order_of_time_as_in_spend_by_day(units: Any, hand_made: Any) -> None:
    rows = [row | {"at_s": row["at_s"] + 86_400.0 * day} for day in range(3) for row in sessions(20 + 10 * day, feature=f"on {day}")]
    spend = spend_by(hand_made(rows), ("day",))
    assert [line.group for line in units(rows, "day").lines] == [line.group for line in spend.lines]
    assert {day for _, day in (line.group for line in units(rows, "feature", "day").lines)} == {line.group[0] for line in spend.lines}


def test_without_sessions_users_or_scores_each_figure_says_what_is_missing(units: Any) -> None:
    (line,) = units([{"at_s": at * 60.0} for at in range(40)]).lines
    assert isinstance(line.per_request_usd, Estimate)
    for figure, wanted in ((line.per_session_usd, "session id"), (line.per_solved_task_usd, "score"), (line.per_user_usd, "user id")):
        assert isinstance(figure, Unidentifiable)
        assert wanted in figure.unidentifiable


def test_a_session_with_a_call_that_nobody_priced_has_no_cost(units: Any) -> None:
    rows = sessions(40)
    rows[1] |= {"cost_usd": None, "request_cost_usd": None}
    (line,) = units(rows).lines
    assert line.sessions == 39
    assert line.per_session_usd.estimate == pytest.approx(0.05)


def test_returning_users_were_there_before_and_heavy_ones_ask_most(units: Any) -> None:
    rows = sessions(40) + sessions(100, user_hash="u0", feature="more")
    before = [{"at_s": -WEEK_S + at * 3600.0, "user_hash": f"u{at % 3}"} for at in range(168)]
    now = [*rows, *({"at_s": at * 3600.0, "user_hash": "u9"} for at in range(168))]
    cohorts = {line.group[0]: line for line in units(now, "user_cohort", previous=before).lines}
    assert {group: line.users for group, line in cohorts.items()} == {"returning": 3, "new": 7}
    volumes = {line.group[0]: line for line in units(now, "user_volume").lines}
    assert {group: line.users for group, line in volumes.items()} == {"heavy": 1, "light": 9}
    alone = units(now, "user_cohort")
    assert [line.group for line in alone.lines] == [(None,)]
    assert "which the logs do not cover" in alone.notices[0]


def test_only_what_the_logs_hold_is_told_unasked(hand_made: Any, hand_made_scope: Any, covered_by: Any) -> None:
    rows = sessions(40, feature="search")
    scope = covered_by(hand_made_scope(7.0, Parameters()), rows)
    found = unit_costs_told(hand_made(rows), hand_made([]), scope)
    assert [each.by for each in found] == [(), ("feature",), ("user_volume",)]


def test_a_million_names_of_a_tag_stay_fifty_lines(units: Any) -> None:
    found = units([{"at_s": float(at), "prompt_version": f"v{at}"} for at in range(500)], "prompt_version")
    assert len(found.lines) <= 50


def test_the_lines_of_many_names_hold_every_request(units: Any) -> None:
    rows = [{"at_s": float(at), "feature": f"f{at % 60}" if at % 61 else None, "team": f"g{at % 7}"} for at in range(900)]
    found = units(rows, "feature")
    assert len(found.lines) <= 50
    assert sum(line.requests for line in found.lines) == 900
    assert found.notices == ()
    assert [notice for notice in units(rows, "feature", "team").notices if "not listed" in notice]


def test_intervals_hold_the_true_cost_of_a_solved_task(units: Any) -> None:
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows = []
        for number in range(150):
            calls, solved = rng.integers(1, 6), rng.random() < 0.4
            for call in range(calls):
                score = (0.9 if solved else 0.1) if call == calls - 1 else None
                at = {"at_s": number * 600.0 + call, "session_id": f"{seed}-{number}", "cluster": int(rng.integers(256))}
                rows.append(at | {"cost_usd": 0.01, "quality": score})
        cluster = {row["session_id"]: row["cluster"] for row in rows}
        found = units([row | {"cluster": cluster[row["session_id"]]} for row in rows]).lines[0].per_solved_task_usd
        held += found.low <= 0.03 / 0.4 <= found.high
    assert held >= 34
