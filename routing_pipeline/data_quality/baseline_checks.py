"""Claims that compare: with the weeks before, the window before, list prices, the clock, each other.

Belongs here: evaluating `expectations.BASELINE`. Does not belong here: the aggregates that are compared (`compared`), claims about
single rows (`row_checks`) and about the ledger (`ledger_checks`), the limits themselves (`expectations`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import ibis
import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing_pipeline import text as wording
from routing_pipeline.clock import HOURS_PER_DAY, HOURS_PER_WEEK, MONDAY_OFFSET_HOURS, SECONDS_PER_DAY, SECONDS_PER_HOUR
from routing_pipeline.data_quality.compared import MAX_GROUPS, WEEKS_BEFORE, Compared, row_of, rows_of
from routing_pipeline.data_quality.expectations import BASELINE, LONGEST_OBJECT, CheckItem, CheckResult, Expectation
from routing_pipeline.data_quality.prices import Reconciliation, reconcile
from routing_pipeline.local_hours import same_hour, shown_hour
from routing_pipeline.window.repeats import repeats_of
from routing_pipeline.window.scope import AnalysisScope

MIN_EXPECTED = 10.0
"""An hour in which fewer requests than this are usual may be empty by chance."""
MIN_FRESH_S = 3_600.0
FRESH = "logs_are_fresh"
ALIKE_S = 0.05
"""Answers of as many tokens that begin no further apart than this, and take as long, look like one call that was logged twice."""
LATER_S = 0.5
"""How often two answers take as long by chance is told from those that begin up to this much later: no second log of a call does."""


def compare(rows: Compared) -> tuple[CheckResult, ...]:
    """`expectations.BASELINE`, in its order."""
    return tuple(EVALUATED_BY[expectation.name](expectation, rows) for expectation in BASELINE)


def _judged(
    expectation: Expectation, is_met: bool, observed: str, numbers: Mapping[str, float], items: list[CheckItem] | None = None
) -> CheckResult:
    return expectation.result("passed" if is_met else "failed", observed, numbers, items or ())


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _length(seconds: float) -> str:
    if seconds < 2 * SECONDS_PER_HOUR:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / SECONDS_PER_HOUR:.1f} hours" if seconds < 2 * SECONDS_PER_DAY else f"{seconds / SECONDS_PER_DAY:.1f} days"


def _silent_hours(expectation: Expectation, rows: Compared) -> CheckResult:
    """Whole hours of the window without an attempt where the median of comparable hours is at least MIN_EXPECTED.

    Before the lake's first attempt nothing was silent: there were no logs yet.
    """
    first, last = (
        math.ceil(max(rows.scope.start_s, rows.begins_s or 0.0) / SECONDS_PER_HOUR),
        math.floor(rows.scope.end_s / SECONDS_PER_HOUR),
    )
    expected = {hour: _expected(hour, rows) for hour in range(first, last)}
    compared = {hour: value for hour, value in expected.items() if value is not None}
    if not compared:
        return expectation.result("not_checked", "no whole hour in the window has an earlier week or another day to compare with")
    silent = [hour for hour, value in compared.items() if value >= MIN_EXPECTED and not rows.hours.get(hour)]
    missed = sum(compared[hour] for hour in silent)
    items = [
        CheckItem(
            name=_at(hour * SECONDS_PER_HOUR),
            observed=f"0 attempts, about {compared[hour]:,.0f} are usual",
            numbers={"usual": compared[hour]},
        )
        for hour in silent
    ]
    text = f"{len(silent)} of {len(compared)} hours are silent" + (f", about {missed:,.0f} attempts are missing" if silent else "")
    return _judged(expectation, not silent, text, {"silent_hours": float(len(silent)), "missing_attempts": missed}, items)


def _expected(hour: int, rows: Compared) -> float | None:
    """Median of the same hour of the week in the weeks before; else of the same hour of the lake's other days of its kind.

    By the clock of `[alerts] timezone`, as what is usual is told there.
    """
    begins = rows.begins_s
    if begins is None:
        return None
    # The lake's first hour may be cut off.
    known = range(int(begins // SECONDS_PER_HOUR) + 1, math.floor(rows.scope.end_s / SECONDS_PER_HOUR))
    zone = rows.scope.parameters.alerts.timezone
    weeks = same_hour(zone, hour, np.arange(1, WEEKS_BEFORE + 1) * HOURS_PER_WEEK)
    same = [each for each in weeks.tolist() if each in known]
    if not same:
        days = np.arange(-7 * (WEEKS_BEFORE + 1), 7 * (WEEKS_BEFORE + 1))
        others = same_hour(zone, hour, -days[days != 0] * HOURS_PER_DAY)
        alike = others[_is_weekend(zone, others) == _is_weekend(zone, hour)]
        same = [each for each in alike.tolist() if each in known]
    return float(np.median([rows.hours.get(each, 0) for each in same])) if same else None


def _is_weekend(zone: str, hours: ArrayLike) -> NDArray[np.bool_]:
    return np.asarray((shown_hour(zone, hours) + MONDAY_OFFSET_HOURS) // HOURS_PER_DAY % 7 >= 5)


def freshened(check: CheckResult, scope: AnalysisScope, now_s: float) -> CheckResult:
    """What was found earlier of the same rows, as it is now: freshness passes with time, nothing else does."""
    if check.name != FRESH or "newest_s" not in check.numbers:
        return check
    expectation = next(each for each in BASELINE if each.name == FRESH)
    return _fresh(expectation, check.numbers["newest_s"], scope, now_s)


def _freshness(expectation: Expectation, rows: Compared) -> CheckResult:
    newest_s = rows.moments["newest_s"]
    if newest_s is None:
        return expectation.result("not_checked", "the window holds no attempt")
    return _fresh(expectation, newest_s, rows.scope, rows.now_s)


def _fresh(expectation: Expectation, newest_s: float, scope: AnalysisScope, now_s: float) -> CheckResult:
    as_of = scope.parameters.as_of
    until_s = now_s if as_of is None else as_of.timestamp()
    lag_s = max(until_s - newest_s, 0.0)
    allowed_s = max(expectation.limit * (scope.end_s - scope.start_s), MIN_FRESH_S)
    text = f"the newest request began {_at(newest_s)}, {_length(lag_s)} before {'now' if as_of is None else 'the end asked for'}"
    numbers = {"newest_s": newest_s, "lag_s": lag_s, "allowed_s": allowed_s}
    return _judged(expectation, lag_s <= allowed_s, f"{text}; {_length(allowed_s)} are allowed", numbers)


def _no_previous(expectation: Expectation, rows: Compared) -> CheckResult:
    begins = "is empty" if rows.begins_s is None else f"begins {_at(rows.begins_s)}"
    return expectation.result("not_checked", f"the lake {begins}: the window before is not there to compare with")


def _volume(expectation: Expectation, rows: Compared) -> CheckResult:
    now, before = rows.scope.requests, rows.scope.previous_requests
    if not rows.has_previous or not before:
        return _no_previous(expectation, rows)
    ratio, limit = now / before, expectation.limit
    text = f"{now:,} requests, {before:,} in the window before: {ratio:.2f} times as many"
    return _judged(expectation, 1 / limit <= ratio <= limit, text, {"ratio": ratio})


def _mix(expectation: Expectation, rows: Compared, column: str) -> CheckResult:
    """Total variation distance between the two mixes, less what two samples of one mix differ by on average."""
    if not rows.has_previous:
        return _no_previous(expectation, rows)
    before, now = rows.shares(column)
    n_before, n_now = sum(before.values()), sum(now.values())
    if not n_before or not n_now:
        return _no_previous(expectation, rows)
    names = list(dict.fromkeys([*now, *before]))
    p = np.array([before.get(name, 0) for name in names]) / n_before
    q = np.array([now.get(name, 0) for name in names]) / n_now
    moved = float(np.abs(p - q).sum()) / 2
    pooled = np.array([before.get(name, 0) + now.get(name, 0) for name in names]) / (n_before + n_now)
    chance = float(np.sqrt(pooled * (1 - pooled) * (1 / n_before + 1 / n_now) * 2 / math.pi).sum()) / 2
    items = [
        CheckItem(
            name=_shown(names[place]),
            observed=f"{100 * q[place]:.1f} % of the requests, {100 * p[place]:.1f} % before",
            numbers={"share": float(q[place]), "share_before": float(p[place])},
        )
        for place in np.argsort(-np.abs(p - q), kind="stable").tolist()
        if abs(p[place] - q[place]) > 0
    ]
    text = f"{100 * moved:.1f} % of the traffic moved, {100 * chance:.1f} % of it would by chance"
    return _judged(expectation, moved - chance <= expectation.limit, text, {"moved_share": moved, "chance_share": chance}, items)


def _known_models(expectation: Expectation, rows: Compared) -> CheckResult:
    if not rows.models:
        return expectation.result("not_checked", "the window holds no attempt")
    unknown = [row for row in rows.models if row["unknown"]]
    items = [
        CheckItem(name=_shown(row["model"]), observed=f"{row['unknown']:,} attempts", numbers={"attempts": float(row["unknown"])})
        for row in unknown
    ]
    attempts = sum(row["unknown"] for row in unknown)
    text = f"{len(unknown)} of {len(rows.models)} models are not in the catalog, {attempts:,} attempts"
    return _judged(expectation, attempts <= expectation.limit, text, {"unknown_attempts": float(attempts)}, items)


def _zero_cost(expectation: Expectation, rows: Compared) -> CheckResult:
    paid = sum(row["paid"] or 0 for row in rows.models)
    if not paid:
        return expectation.result("not_checked", "no successful call with tokens in the window")
    free = [row for row in rows.models if row["free"]]
    calls = sum(row["free"] for row in free)
    items = [
        CheckItem(name=_shown(row["model"]), observed=f"{row['free']:,} of {row['paid']:,} calls", numbers={"calls": float(row["free"])})
        for row in sorted(free, key=lambda row: -row["free"])
    ]
    numbers = {"zero_cost_share": calls / paid, "zero_cost_calls": float(calls)}
    return _judged(
        expectation, calls / paid < expectation.limit, f"{calls:,} of {paid:,} calls, {100 * calls / paid:.2f} %", numbers, items
    )


def _list_price(expectation: Expectation, rows: Compared) -> CheckResult:
    tolerance = expectation.limit
    found = [
        reconcile(
            row["model"],
            row,
            tolerance=tolerance,
            catalog=rows.catalog,
            provider=row["provider"],
            provider_model=row["provider_model"],
            on_day=int(rows.scope.end_s // SECONDS_PER_DAY),
        )
        for row in rows.models
    ]
    compared = [each for each in found if each is not None]
    if not compared:
        return expectation.result("not_checked", "no call has both a logged cost and a list price")
    beyond = sorted((each for each in compared if each.is_beyond(tolerance)), key=lambda each: -abs(each.logged_usd - each.list_usd))
    logged, listed = sum(each.logged_usd for each in compared), sum(each.list_usd for each in compared)
    text = f"{len(beyond)} of {len(compared)} models are off; ${logged:,.2f} logged, ${listed:,.2f} at list prices"
    numbers = {"logged_usd": logged, "list_usd": listed, "models_off": float(len(beyond))}
    return _judged(expectation, not beyond, text, numbers, [_reconciled(each) for each in beyond])


def _reconciled(found: Reconciliation) -> CheckItem:
    return CheckItem(
        name=_shown(found.model),
        observed=f"${found.logged_usd:,.2f} logged, ${found.list_usd:,.2f} at list prices: {found.cause}",
        numbers={"logged_usd": found.logged_usd, "list_usd": found.list_usd, "ratio": found.ratio},
    )


def _scored(expectation: Expectation, rows: Compared) -> CheckResult:
    table = rows.requests
    found = row_of(table.agg(answers=(table.is_final & (table.status == "success")).sum(), scored=table.quality.notnull().sum()))
    answers, scored = int(found["answers"] or 0), int(found["scored"] or 0)
    if not answers:
        return expectation.result("not_checked", "no successful request in the window")
    share = scored / answers
    text = f"{scored:,} of {answers:,} successful requests, {100 * share:.1f} %"
    return _judged(expectation, share >= expectation.limit, text, {"scored_share": share})


def _no_scores(expectation: Expectation) -> CheckResult:
    return expectation.result("not_checked", "no score that could be used was given in the window")


def _repeated_scores(expectation: Expectation, rows: Compared) -> CheckResult:
    if not rows.scores or not rows.scores["scores"]:
        return _no_scores(expectation)
    repeated = rows.scores["scores"] - rows.scores["distinct"]
    share = repeated / rows.scores["scores"]
    text = f"{repeated:,} of {rows.scores['scores']:,} scores, {100 * share:.2f} %"
    return _judged(expectation, share < expectation.limit, text, {"repeated_share": share})


def _found_scores(expectation: Expectation, rows: Compared) -> CheckResult:
    if not rows.scores or not rows.scores["scores"]:
        return _no_scores(expectation)
    share = rows.scores["found"] / rows.scores["scores"]
    text = f"{rows.scores['found']:,} of {rows.scores['scores']:,} scores, {100 * share:.1f} %"
    return _judged(expectation, share >= expectation.limit, text, {"found_share": share})


def _clocks(expectation: Expectation, rows: Compared) -> CheckResult:
    attempts = int(rows.moments["attempts"] or 0)
    if not attempts:
        return expectation.result("not_checked", "the window holds no attempt")
    ahead, limit = int(rows.moments["ahead"] or 0), expectation.limit
    found, early = (rows.scores["found"], rows.scores["early"]) if rows.scores else (0, 0)
    furthest_s = max(float(rows.moments["most_ahead_s"]), 0.0)
    text = f"{ahead:,} of {attempts:,} attempts began after they were ingested"
    text += f", by up to {_length(furthest_s)}" if ahead else ""
    text += f"; {early:,} of {found:,} scores came before their request" if found else ""
    is_met = ahead / attempts < limit and (not found or early / found < limit)
    return _judged(
        expectation, is_met, text, {"ahead_attempts": float(ahead), "furthest_ahead_s": furthest_s, "early_scores": float(early)}
    )


def _logged_once(expectation: Expectation, rows: Compared) -> CheckResult:
    """Answers that look like another one, less as many as would by chance; those that are certainly one call are counted once already."""
    pairs = _alike(rows.requests)
    found = row_of(
        pairs.agg(
            answers=pairs.count(),
            alike=pairs.is_alike.sum(),
            close=pairs.is_close.sum(),
            later=pairs.is_later.sum(),
            later_alike=(pairs.is_later & pairs.takes_as_long).sum(),
            usd=ibis.least(pairs.cost_usd, pairs.last_cost_usd).sum(where=pairs.is_alike),
        )
    )
    answers, alike = int(found["answers"] or 0), int(found["alike"] or 0)
    again = repeats_of(rows.in_window)
    left_out = row_of(again.agg(n=again.count(), usd=again.cost_usd.sum()))
    once = f"; {left_out['n']:,} more were logged under one call id and are counted once" if left_out["n"] else ""
    if not answers:
        return expectation.result("not_checked", f"no answer in the window has tokens and a latency{once}")
    by_chance = found["close"] * found["later_alike"] / found["later"] if found["later"] else 0.0
    beyond = max(alike - by_chance, 0.0)
    usd = (found["usd"] or 0.0) * beyond / alike if alike else 0.0
    is_met = beyond / answers < expectation.limit
    text = f"{beyond:,.0f} of {answers:,} answers look like another one, chance aside, {wording.usd(usd)} of spend"
    numbers = {"alike_answers": beyond, "alike_usd": usd, "left_out_calls": float(left_out["n"]), "left_out_usd": left_out["usd"] or 0.0}
    if is_met:
        return expectation.result("passed", f"{text}{once}", numbers)
    what_to_do = "Read the logs of one of the two sources only; where they are calls side by side of their own, nothing is wrong."
    return expectation.result("failed", f"{text}{once}. {what_to_do}", numbers, _sources(pairs, rows))


def _alike(requests: ibis.Table) -> ibis.Table:
    """Answers, each beside the one before it of as many tokens: whether the two look like one call, or like one after the other."""
    t = requests.filter(
        requests.status == "success", requests.completion_tokens > 0, requests.prompt_tokens.notnull(), requests.latency_ms.notnull()
    )
    t = t.filter(~t.is_cache_hit.fill_null(False))
    t = t.select("attempt_id", "prompt_tokens", "completion_tokens", "started_s", "cost_usd", took_s=t.latency_ms / 1e3)
    order = ibis.window(group_by=["prompt_tokens", "completion_tokens"], order_by=[t.started_s, t.attempt_id])
    t = t.mutate(**{f"last_{name}": t[name].lag().over(order) for name in ("attempt_id", "started_s", "took_s", "cost_usd")})
    apart_s, longer_s = t.started_s - t.last_started_s, t.took_s - t.last_took_s
    is_close, is_later = apart_s <= ALIKE_S, (apart_s > ALIKE_S) & (apart_s <= LATER_S)
    takes_as_long = longer_s.abs() <= ALIKE_S
    told = {"is_close": is_close, "is_later": is_later, "takes_as_long": takes_as_long, "is_alike": is_close & takes_as_long}
    return t.mutate(**{name: value.fill_null(False) for name, value in told.items()})


def _sources(pairs: ibis.Table, rows: Compared) -> list[CheckItem]:
    """Where answers that look alike were logged, by the formats of the two logs, with an object of each."""
    alike = pairs.filter(pairs.is_alike).select("attempt_id", "last_attempt_id", usd=ibis.least(pairs.cost_usd, pairs.last_cost_usd))
    said = rows.in_window.select("attempt_id", "source_format", "source_object")
    both = alike.inner_join(said, "attempt_id").rename(format="source_format", object="source_object")
    both = both.inner_join(said.rename(last_attempt_id="attempt_id"), "last_attempt_id")
    ordered = both.format <= both.source_format
    both = both.mutate(
        one=ibis.ifelse(ordered, both.format, both.source_format),
        other=ibis.ifelse(ordered, both.source_format, both.format),
        in_one=ibis.ifelse(ordered, both.object, both.source_object),
        in_other=ibis.ifelse(ordered, both.source_object, both.object),
    )
    found = both.group_by("one", "other").agg(n=both.count(), usd=both.usd.sum(), in_one=both.in_one.min(), in_other=both.in_other.max())
    items = []
    for row in rows_of(found.order_by([ibis.desc("n"), "one", "other"]).limit(MAX_GROUPS)):
        where = f"'{wording.name(row['in_one'], LONGEST_OBJECT)}' and '{wording.name(row['in_other'], LONGEST_OBJECT)}'"
        observed = f"{row['n']:,} answers, {wording.usd(row['usd'] or 0.0)}, such as in {where}"
        numbers = {"answers": float(row["n"]), "spend_usd": row["usd"] or 0.0}
        items.append(CheckItem(name=f"{_shown(row['one'])} and {_shown(row['other'])}", observed=observed, numbers=numbers))
    return items


def _shown(name: str) -> str:
    """A name from the logs on one line, cut to a length that a table can hold."""
    return "".join(each if each.isprintable() else " " for each in name)[:80]


EVALUATED_BY: Mapping[str, Callable[[Expectation, Compared], CheckResult]] = {
    "no_hour_is_silent": _silent_hours,
    FRESH: _freshness,
    "volume_is_as_before": _volume,
    "mix_of_tasks_is_as_before": partial(_mix, column="task_type"),
    "mix_of_models_is_as_before": partial(_mix, column="routed_model"),
    "models_are_known": _known_models,
    "successes_have_a_cost": _zero_cost,
    "logged_cost_is_the_list_price": _list_price,
    "answers_are_scored": _scored,
    "feedback_is_not_repeated": _repeated_scores,
    "feedback_finds_its_request": _found_scores,
    "clocks_agree": _clocks,
    "calls_are_logged_once": _logged_once,
}
