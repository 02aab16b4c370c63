"""What is decided about: each request, or the session that it belongs to; and the rows of sessions.

Belongs here: telling from a window's rows how its gateway decides, and making one row of each session. Does not belong here: whether
the choice for one request changes the later ones (`policy.carry_over`), cells and estimates, which take either kind of row.

A cheaper model may need more calls for the same task. What a team pays for is the task, so where sessions are logged and hold more
than one request, a promise is about the same sessions. Two kinds of gateway send them:

- One model serves a session, all but always: few changes of model, and few requests that another model serves than the first. Then the
  session is the unit: its context is what its first request says, its action the
  model of its first request, its outcomes are those of the whole. A session that changes its model later is counted by its first one,
  with the rest as it came: that it changed is something that happened after the choice.
- Each request is decided by itself. Then requests are the unit, and what is said of them holds for sessions as far as the choice for
  one request does not change the later ones.

Many gateways send both: agents that stay with a model, beside chat that is routed request by request. So each task type with enough
changes to judge by is judged by its own, and the others go with the window. Where they differ, a request of the second kind is counted as
a session of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import ibis
import numpy as np

from routing_pipeline.estimates import Estimate, Measured
from routing_pipeline.feasibility.needs import NEEDS, column_of
from routing_pipeline.policy.evidence_model import SessionEvidence
from routing_pipeline.policy.tasks import with_numbers
from routing_pipeline.rules.model import Unit
from routing_pipeline.stats.inference import clustered_mean
from routing_pipeline.window.conform import half_of

SESSIONS_LOGGED = 0.5
"""Share of requests that must carry a session before promises are about sessions."""
MORE_THAN_ONE = 1.05
"""Requests that a session must hold on average to be something else than a request."""
STAYS = 0.8
"""Of the changes of model from one request to the next that chance alone would bring, so many must be missing where sessions are decided."""
AWAY, AWAY_FROM_A_CACHE = 0.15, 0.05
"""Of the requests after a session's first, the most that another model may serve than the first: what is said of sessions by their first model
is said of rules, which hold a session to its model. Less where prompts are cached: then each change costs a cache."""
CACHED = 0.05
"""Share of prompt tokens that caches must serve to make changes of model dear."""
UNCLEAR = 1.5
"""A task whose changes, or requests served elsewhere, are within this factor of the limit goes with the window."""
CHANGES_TO_JUDGE_A_TASK = 60
"""Changes of model that chance would bring within a task, from which on the task is judged by itself."""
SCORED_ONE_BY_ONE = 0.5
"""Share of a scored session's answers that is scored, from which on answers count as scored one by one."""


ONE_CALL = Estimate(estimate=1.0, low=1.0, high=1.0)


@dataclass(frozen=True)
class WindowUnit:
    """How a window's requests are decided, and what its sessions are like.

    per: what a decision is about. sessions: how many there are, requests without one counting as their own; calls: requests of one,
    on average. logged: share of requests with a session. switching: share of the sessions of several requests that change model.
    stays: of the changes of model between neighbouring requests that chance would bring, the share that is missing. by_request: where
    sessions are decided about, the task types whose requests are not: each is decided by itself.
    """

    per: Unit
    requests: int
    sessions: int
    logged: float
    switching: float
    stays: float
    is_scored_one_by_one: bool = True
    slow_above_ms: float | None = None
    cached_share: float | None = None
    calls: Measured = ONE_CALL
    by_request: tuple[str, ...] = ()

    @property
    def has_sessions(self) -> bool:
        """Whether sessions are logged that hold more than one request."""
        return self.logged >= SESSIONS_LOGGED and self.requests >= MORE_THAN_ONE * self.sessions

    @property
    def told(self) -> SessionEvidence | None:
        """What readers are told of the sessions; None where there are none to speak of."""
        if not self.has_sessions:
            return None
        return SessionEvidence(
            sessions=self.sessions,
            calls=self.calls,
            logged_share=min(self.logged, 1.0),
            switching_share=min(self.switching, 1.0),
            cached_share=self.cached_share,
            quality_of_a_session="mean of its scores" if self.is_scored_one_by_one else "last score",
            told=self._in_words(),
        )

    def _in_words(self) -> str:
        mean = self.requests / self.sessions
        if self.per == "request":
            return (
                f"A session holds {mean:.1f} requests on average. {100 * self.switching:.0f} % of the sessions of several requests change model: "
                "each request is decided by itself."
            )
        quality = "the mean of its scores" if self.is_scored_one_by_one else "its last score"
        switching = (
            f" {100 * self.switching:.2g} % of the sessions of several requests change model later; they are counted by their first model, with the rest as "
            "it came."
            if self.switching > 0 and not self.by_request
            else ""
        )
        serves, counted = f"One model serves a session, which holds {mean:.1f} requests on average. So a session is", ""
        if self.by_request:
            serves = (
                f"A session holds {mean:.1f} requests on average. One model serves it, but for {_listed(self.by_request)}. So a session is"
            )
            counted = " The requests of the other kinds are each decided by themselves, and counted one by one."
        return (
            f"{serves} counted as a whole, by the model of its first "
            f"request: what it costs, how many requests it takes, and {quality}.{counted}{switching}"
        )


def _listed(tasks: tuple[str, ...]) -> str:
    """Few names, and how many more."""
    shown = tasks[:MOST_NAMED]
    return ", ".join(shown) + (f" and {len(tasks) - len(shown)} more" if len(tasks) > len(shown) else "")


MOST_NAMED = 8
SESSION = "unit_session"


def with_sessions(final: ibis.Table, by_request: tuple[str, ...] = ()) -> ibis.Table:
    """Final rows with the session that each belongs to; one without is its own, and so is each of the task types `by_request`."""
    if "session_id" not in final.columns:
        return final.mutate(**{SESSION: final.request_id if "request_id" in final.columns else ibis.null("string")})
    own = ibis.coalesce(final.session_id, final.request_id)
    if by_request:
        own = ibis.ifelse(final.task_type.isin(by_request).fill_null(False), final.request_id, own)
    return final.mutate(**{SESSION: own})


def in_order(by: str = SESSION) -> Any:
    """Requests of a session as they came; ties are broken by their ids."""
    return ibis.window(group_by=by, order_by=["started_s", "request_id"])


def unit_of_window(requests: ibis.Table) -> WindowUnit:
    """How the window's requests are decided: a few small aggregates over final rows (schema.SCOPED_REQUESTS)."""
    final = requests.filter(requests.is_final)
    may_tell = {"session_id", "request_id"} <= set(final.columns)
    counts = final.agg(n=final.count(), logged=final.session_id.count() if may_tell else ibis.literal(0)).to_pyarrow().to_pylist()[0]
    n, logged = int(counts["n"]), int(counts["logged"] or 0)
    one = WindowUnit("request", n, n, logged=logged / max(n, 1), switching=0.0, stays=0.0)
    if logged < SESSIONS_LOGGED * n or not n:
        # Of requests without a session each would be a group by itself, as many as there are rows.
        return one
    rows = with_sessions(final)
    if "cached_tokens" not in rows.columns:
        rows = rows.mutate(cached_tokens=ibis.null("int64"))
    by_session = rows.group_by(SESSION).agg(
        cached=rows.cached_tokens.sum(where=rows.prompt_tokens.notnull()).fill_null(0),
        prompt=rows.prompt_tokens.sum(where=rows.cached_tokens.notnull()).fill_null(0),
        cluster=rows.cluster.min(),
        calls=rows.count(),
        logged=rows.session_id.count(),
        switches=(rows.routed_model.min() != rows.routed_model.max()).cast("int64"),
        answers=(rows.status == "success").cast("int64").sum(),
        scored=rows.quality.count(),
    )
    several = by_session.calls > 1
    is_scored = several & (by_session.scored > 0)
    sums = by_session.group_by("cluster").agg(
        sessions=by_session.count(),
        calls=by_session.calls.sum(),
        logged=by_session.logged.sum(),
        cached=by_session.cached.sum(),
        prompt=by_session.prompt.sum(),
        several=several.sum(),
        switching=by_session.switches.sum(where=several),
        answers=by_session.answers.sum(where=is_scored),
        scored=by_session.scored.sum(where=is_scored),
    )
    found = {name: np.array([each or 0 for each in values], dtype=np.float64) for name, values in sums.to_pyarrow().to_pydict().items()}
    total = {name: float(values.sum()) for name, values in found.items()}
    unit = replace(
        one,
        sessions=round(total["sessions"]),
        logged=total["logged"] / n,
        switching=total["switching"] / max(total["several"], 1.0),
        is_scored_one_by_one=total["scored"] >= SCORED_ONE_BY_ONE * max(total["answers"], 1.0),
        cached_share=min(total["cached"] / total["prompt"], 1.0) if total["prompt"] else None,
        calls=clustered_mean(found["calls"], found["sessions"]),
    )
    if not unit.has_sessions:
        return unit
    stays, of_all, of_task = _stays(rows, AWAY if (unit.cached_share or 0.0) < CACHED else AWAY_FROM_A_CACHE)
    tasks = final.select("task_type").distinct().to_pyarrow()["task_type"].to_pylist()
    is_session = {task: of_task.get(task, of_all) for task in tasks if task is not None}
    if not any(is_session.values()):
        return replace(unit, stays=stays, slow_above_ms=_p95(final))
    by_request = tuple(sorted(task for task, it_is in is_session.items() if not it_is))
    unit = replace(unit, stays=stays, per="session", by_request=by_request, slow_above_ms=_p95(final))
    return replace(unit, is_scored_one_by_one=_scored_one_by_one(rows, by_request)) if by_request else unit


def _scored_one_by_one(rows: ibis.Table, by_request: tuple[str, ...]) -> bool:
    """Of the sessions alone, where some requests are decided by themselves."""
    rest = rows.filter(~rows.task_type.isin(by_request).fill_null(False))
    sums = rest.group_by(SESSION).agg(n=rest.count(), answers=(rest.status == "success").cast("int64").sum(), scored=rest.quality.count())
    sums = sums.filter(sums.n > 1, sums.scored > 0)
    found = sums.agg(answers=sums.answers.sum().fill_null(0), scored=sums.scored.sum().fill_null(0)).to_pyarrow().to_pylist()[0]
    return bool(found["scored"] >= SCORED_ONE_BY_ONE * max(found["answers"], 1))


def _stays(rows: ibis.Table, most_away: float) -> tuple[float, bool, dict[str, bool]]:
    """1 - changes seen / changes expected between neighbours, were each drawn from its task's shares of the models (Cohen 1960).

    And whether one model serves a session: in all, and by task type where its own requests are enough to tell, and clear.
    """
    pairs = rows.select(
        "task_type",
        model=rows.routed_model,
        before=rows.routed_model.lag().over(in_order()),
        first=rows.routed_model.first().over(in_order()),
    )
    pairs = pairs.filter(pairs.before.notnull())
    counts = {"n": pairs.count(), "away": (pairs.model != pairs.first).sum()}
    counted = pairs.group_by("task_type", "before", "model").agg(**counts).to_pyarrow().to_pylist()
    of_task: dict[str, dict[str, int]] = {}
    for row in counted:
        shares = of_task.setdefault(row["task_type"], {})
        shares[row["model"]] = shares.get(row["model"], 0) + row["n"]
    everywhere: dict[str, int] = {}
    for shares in of_task.values():
        for model, n in shares.items():
            everywhere[model] = everywhere.get(model, 0) + n
    seen, expected, away = (dict.fromkeys(of_task, 0.0) for _ in range(3))
    for row in counted:
        shares = of_task[row["task_type"]]
        # A task that has one model alone changes nothing by itself; what its requests would be were they another task's does.
        shares = shares if len(shares) > 1 else everywhere
        expected[row["task_type"]] += row["n"] * (1.0 - shares[row["before"]] / sum(shares.values()) if row["before"] in shares else 1.0)
        seen[row["task_type"]] += row["n"] if row["before"] != row["model"] else 0
        away[row["task_type"]] += row["away"] or 0

    def changes(tasks: Iterable[str]) -> float:
        """Of the changes that chance would bring."""
        of = sum(expected[task] for task in tasks)
        return sum(seen[task] for task in tasks) / of if of > 0 else 0.0

    def is_session(tasks: Iterable[str], factor: float = 1.0) -> bool:
        served = sum(sum(of_task[task].values()) for task in tasks)
        return changes(tasks) <= (1 - STAYS) * factor and sum(away[task] for task in tasks) <= most_away * factor * served

    enough = [task for task in of_task if len(of_task[task]) > 1 and expected[task] >= CHANGES_TO_JUDGE_A_TASK]
    clear = [task for task in enough if is_session([task], 1 / UNCLEAR) or not is_session([task], UNCLEAR)]
    return 1.0 - changes(of_task), is_session(of_task), {task: is_session([task]) for task in clear}


def _p95(final: ibis.Table) -> float | None:
    learning = half_of(final, "learn")
    found = learning.agg(p95=learning.request_latency_ms.quantile(0.95)).to_pyarrow().to_pylist()[0]["p95"]
    return None if found is None else float(found)


_OF_THE_FIRST: tuple[str, ...] = (
    *("is_final", "request_id", "session_id", "cluster", "started_s", "day", "hour_of_week", "model", "routed_model", "attempts"),
    *("task_type", "is_task_type_logged", "complexity", "is_complexity_derived", "prompt_tokens", "max_output_tokens"),
    *("team", "user_hash", "tier", "provider", "provider_model", "propensity", "routing_rule_id", "reasoning_effort", "service_tier"),
    *("key_hash", "tags", "feature", "router_tier", "router_score"),
    *(column_of(need) for need in NEEDS),
)
"""Columns that a session has from its first request, where they are there: what was known when it was decided."""


def session_rows(
    requests: ibis.Table, slow_above_ms: float | None, *, is_scored_one_by_one: bool, by_request: tuple[str, ...] = ()
) -> ibis.Table:
    """One row per session, in the columns of a final request, so that whatever takes requests takes sessions.

    A request of the task types `by_request` is a row of its own.

    request_cost_usd: of all its calls, null where one of them has no known price. request_latency_ms: of all its calls, so that the time
    in which a person thinks is none; those without a time count like the others. quality: the mean of its scores where answers are
    scored one by one, else the last; of sessions that end well. status: how the last call ended. calls: how many there are. slow: share
    of the calls that take longer than `slow_above_ms`. ever_*: what any of its requests needs; longest_prompt, longest_answer likewise.
    """
    limit_ms = np.inf if slow_above_ms is None else slow_above_ms
    final = with_numbers(with_sessions(requests.filter(requests.is_final), by_request), slow_above_ms=limit_ms)
    there = [name for name in _OF_THE_FIRST if name in final.columns]
    needs = [column_of(need) for need in NEEDS if column_of(need) in final.columns]
    rows = final.mutate(
        at=ibis.row_number().over(in_order()),
        back=ibis.row_number().over(ibis.window(group_by=SESSION, order_by=[ibis.desc("started_s"), ibis.desc("request_id")])),
    )
    last_score = rows.quality.argmax(rows.at, where=rows.quality.notnull())
    judged: dict[str, Any] = {}
    if "judge_quality" in rows.columns:
        last = rows.judge_quality.argmax(rows.at, where=rows.judge_quality.notnull())
        judged["judge_score"] = rows.judge_quality.mean() if is_scored_one_by_one else last
    sums: dict[str, Any] = {
        "calls": rows.count().cast("float64"),
        "cost_total": rows.request_cost_usd.sum(),
        "n_cost": rows.request_cost_usd.count(),
        "latency_mean": rows.request_latency_ms.mean(),
        "slow": (rows.request_latency_ms > rows.slow_above_ms).cast("float64").mean(),
        "ends_well": ((rows.back == 0) & (rows.status == "success")).cast("int64").sum(),
        "score": rows.quality.mean() if is_scored_one_by_one else last_score,
        **judged,
        "hits": rows.is_cache_hit.fill_null(False).cast("int64").sum(),
        "longest_prompt": rows.prompt_tokens.max(),
        **{f"ever_{name}": rows[name].fill_null(False).cast("int64").max() for name in needs},
    }
    if "max_output_tokens" in final.columns:
        sums["longest_answer"] = rows.max_output_tokens.max()
    whole = rows.group_by(SESSION).agg(**sums).rename(whole_session=SESSION)
    first = rows.filter(rows["at"] == 0).select(SESSION, *there)
    joined = first.join(whole, first[SESSION] == whole.whole_session)
    ends_well = joined.ends_well > 0
    if judged:
        joined = joined.mutate(judge_quality=ibis.ifelse(ends_well, joined.judge_score, ibis.null("float64"))).drop("judge_score")
        ends_well = joined.ends_well > 0
    return joined.mutate(
        status=ibis.ifelse(ends_well, ibis.literal("success"), ibis.literal("failure")),
        quality=ibis.ifelse(ends_well, joined.score, ibis.null("float64")),
        request_cost_usd=ibis.ifelse(joined.n_cost == joined.calls, joined.cost_total, ibis.null("float64")),
        request_latency_ms=joined.latency_mean * joined.calls,
        is_cache_hit=joined.hits == joined.calls,
        **{f"ever_{name}": joined[f"ever_{name}"] > 0 for name in needs},
    ).drop("whole_session", "ends_well", "score", "n_cost", "cost_total", "latency_mean", "hits")
