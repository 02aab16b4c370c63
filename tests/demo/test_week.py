"""The demo's week: what is planted in it is there, in the truth and in the rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from routing_pipeline.demo.agents import AGENT_MODELS, CHEAPER_PER_TASK, DEARER_PER_TASK
from routing_pipeline.demo.documents import TWO_PROVIDERS
from routing_pipeline.demo.kinds import Options
from routing_pipeline.demo.replies import REPLY_MODELS, STEERING_TEAM
from routing_pipeline.demo.week import Week, week
from routing_pipeline.schema import FEEDBACK, REQUEST_LOG, column_names

REQUESTS = 20_000


@pytest.fixture(scope="module")
def drawn() -> Week:
    return week(REQUESTS)


def options_of(drawn: Week, kind: str) -> Options:
    options = drawn.kinds[kind].options
    assert options is not None
    return options


def rows_of(drawn: Week, kind: str) -> pa.Table:
    return drawn.kinds[kind].attempts


def test_the_same_arguments_give_the_same_week_and_exactly_so_many_requests(drawn: Week) -> None:
    again = week(REQUESTS)
    assert again.traffic.attempts.equals(drawn.traffic.attempts)
    assert again.traffic.feedback.equals(drawn.traffic.feedback)
    assert pc.count_distinct(drawn.traffic.attempts["request_id"]).as_py() == REQUESTS
    assert tuple(drawn.traffic.attempts.column_names) == column_names(REQUEST_LOG)
    assert tuple(drawn.traffic.feedback.column_names) == column_names(FEEDBACK)
    began = drawn.traffic.attempts["started_at"].cast(pa.int64()).to_numpy()
    assert (np.diff(began) >= 0).all()


def test_the_small_model_is_cheaper_by_call_and_for_one_of_the_two_tasks_dearer_by_task(drawn: Week) -> None:
    options = options_of(drawn, "agents")
    cost = {}
    for task in (DEARER_PER_TASK, CHEAPER_PER_TASK):
        of = options.task == task
        per_call = options.cost[of].sum(axis=0) / options.calls[of].sum(axis=0)
        assert per_call[0] < 0.6 * per_call[1]
        cost[task] = options.cost[of].sum(axis=0)
    assert cost[DEARER_PER_TASK][0] > 1.15 * cost[DEARER_PER_TASK][1]
    assert cost[CHEAPER_PER_TASK][0] < 0.7 * cost[CHEAPER_PER_TASK][1]


def test_a_session_of_an_agent_stays_with_one_model_and_its_rows_cost_what_its_truth_says(drawn: Week) -> None:
    rows, options = rows_of(drawn, "agents"), options_of(drawn, "agents")
    by_session = rows.group_by("session_id").aggregate([("model", "count_distinct"), ("model", "count"), ("cost_usd", "sum")])
    assert set(by_session["model_count_distinct"].to_pylist()) == {1}
    chosen = (np.arange(len(options.chosen)), options.chosen)
    calls = dict(zip(by_session["session_id"].to_pylist(), by_session["model_count"].to_pylist(), strict=True))
    assert [calls[f"a-{place}"] for place in range(len(options.chosen))] == options.calls[chosen].tolist()
    answered = set(rows.filter(pc.equal(rows["status"], "success"))["session_id"].to_pylist())
    failed = set(rows.filter(pc.equal(rows["status"], "failure"))["session_id"].to_pylist())
    whole = [place for place in range(len(options.chosen)) if f"a-{place}" in answered - failed]
    cost = dict(zip(by_session["session_id"].to_pylist(), by_session["cost_usd_sum"].to_pylist(), strict=True))
    assert [cost[f"a-{place}"] for place in whole] == pytest.approx(options.cost[chosen][whole].tolist())
    assert set(rows["model"].to_pylist()) == set(AGENT_MODELS)


def test_prompts_of_a_session_grow_and_most_of_them_is_cached_from_the_second_call_on(drawn: Week) -> None:
    rows = rows_of(drawn, "agents").sort_by([("session_id", "ascending"), ("started_at", "ascending")])
    rows = rows.filter(pc.equal(rows["status"], "success"))
    session, prompt, cached = (np.array(rows[name].to_pylist()) for name in ("session_id", "prompt_tokens", "cached_tokens"))
    later = session[1:] == session[:-1]
    assert (np.diff(prompt)[later] > 0).all()
    assert (cached[1:][~later] == 0).all()
    assert (cached[1:][later] > 0.9 * prompt[:-1][later]).all()


def test_no_picture_goes_to_the_model_that_reads_none_and_two_providers_serve_that_one(drawn: Week) -> None:
    rows = rows_of(drawn, "documents")
    assert 0.2 < pc.mean(rows["has_image"].cast(pa.int8())).as_py() < 0.4
    own = rows.filter(pc.equal(rows["model"], TWO_PROVIDERS))
    assert pc.any(own["has_image"]).as_py() is False
    per_token = pc.divide(own["cost_usd"], pc.cast(own["prompt_tokens"], pa.float64()))
    by_provider = {name: pc.mean(per_token.filter(pc.equal(own["provider"], name))).as_py() for name in set(own["provider"].to_pylist())}
    low, high = sorted(by_provider.values())
    assert high > 2 * low


def test_a_team_that_asks_harder_questions_gets_the_big_model_and_needs_it(drawn: Week) -> None:
    options = options_of(drawn, "replies")
    steers = options.team == STEERING_TEAM
    small, big = 0, len(REPLY_MODELS) - 1
    assert (options.chosen[steers] == big).mean() > 2 * (options.chosen[~steers] == big).mean()
    lost = options.quality[:, big] - options.quality[:, small]
    assert lost[steers].mean() > 0.2
    assert lost[~steers].mean() < 0.03
    assert abs(options.complexity[steers].mean() - options.complexity[~steers].mean()) < 0.03


def test_embeddings_cost_and_are_scored_by_nobody(drawn: Week) -> None:
    rows = rows_of(drawn, "embeddings")
    assert set(rows["operation"].to_pylist()) == {"embedding"}
    assert pc.min(rows["cost_usd"]).as_py() > 0
    assert not set(rows["request_id"].to_pylist()) & set(drawn.traffic.feedback["request_id"].to_pylist())
