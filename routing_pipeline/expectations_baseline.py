"""Claims that compare: with the weeks before, the window before, list prices, the clock, the ledger's own sums.

Belongs here: evaluating `expectations.BASELINE` and `expectations.INGEST`, each from small aggregates. Does not belong
here: claims about single rows (`expectations_gx`), the limits themselves (`expectations`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

import ibis
import numpy as np

from routing_pipeline.catalog import Catalog
from routing_pipeline.cost_reconciliation import Reconciliation, priced_sums, reconcile
from routing_pipeline.expectations import BASELINE, INGEST, CheckItem, CheckResult, Comparison, Expectation
from routing_pipeline.report import wording
from routing_pipeline.scope import SECONDS_PER_DAY, AnalysisScope, with_time

HOUR_S = 3_600
WEEKS_BEFORE = 4
"""Weeks before the window that an hour is compared with."""
MIN_EXPECTED = 10.0
"""An hour in which fewer requests than this are usual may be empty by chance."""
CLOCK_SLACK_S = 60.0
"""Clocks of different hosts may be apart by this much."""
MIN_FRESH_S = 3_600.0
MISSING_BASELINE_SHARE = 0.05
"""The window before counts as complete when the lake begins not later than after this share of it."""
FRESH = "logs_are_fresh"
MAX_GROUPS = 500
"""Most models or task types that are told apart; names come from logs, so their number has no bound."""


MOST_REASONS = 3
LONGEST_OBJECT = 200
WHAT_TO_DO = (
    "mend these objects and upload them again, read them as another format (routing-pipeline reprocess --prefix OBJECT --format FORMAT), "
    "or leave them out for good (routing-pipeline forget --object OBJECT); then run again"
)


class Refusals(Protocol):
    """One reason for which records were refused, with one of them."""

    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def count(self) -> int: ...  # noqa: D102
    @property
    def object(self) -> str: ...  # noqa: D102
    @property
    def line(self) -> int | None: ...  # noqa: D102


class Totals(Protocol):
    """The ledger's totals."""

    @property
    def records(self) -> int: ...  # noqa: D102
    @property
    def ingested(self) -> int: ...  # noqa: D102
    @property
    def quarantined(self) -> int: ...  # noqa: D102
    @property
    def duplicates(self) -> int: ...  # noqa: D102
    @property
    def reasons(self) -> Sequence[Refusals]: ...  # noqa: D102


def ledger_checks(totals: Totals) -> tuple[CheckResult, ...]:
    """`expectations.INGEST` against the ledger's totals."""
    identity, quarantine = INGEST
    accounted = totals.ingested + totals.quarantined + totals.duplicates
    text = (
        f"{totals.records:,} records = {totals.ingested:,} ingested + {totals.quarantined:,} quarantined + {totals.duplicates:,} duplicates"
    )
    is_equal = accounted == totals.records
    numbers = {"records": float(totals.records), "accounted_records": float(accounted)}
    first = identity.result("passed" if is_equal else "failed", text if is_equal else f"not so: {text}", numbers)
    if not totals.records:
        return first, quarantine.result("not_checked", "no record was read yet")
    share = totals.quarantined / totals.records
    observed, shares = f"{totals.quarantined:,} of {totals.records:,} records, {wording.percent(share, 2)}", {"quarantined_share": share}
    if share < _limit(quarantine):
        return first, quarantine.result("passed", observed, shares)
    found = [CheckItem(name=each.reason, observed=_where_refused(each)) for each in totals.reasons]
    if found:
        observed += ": " + "; ".join(f"{wording.name(each.name, LONGEST_OBJECT)} ({each.observed})" for each in found[:MOST_REASONS])
        observed += f"; {len(found) - MOST_REASONS} more reasons" if len(found) > MOST_REASONS else ""
    return first, quarantine.result("failed", f"{observed}. What to do: {WHAT_TO_DO}", shares, found)


def _where_refused(refusals: Refusals) -> str:
    """How many, and where one of them stands."""
    line = "" if refusals.line is None else f" line {refusals.line:,}"
    return f"{refusals.count:,}, as in '{wording.name(refusals.object, LONGEST_OBJECT)}'{line}"


def history_start_s(scope: AnalysisScope) -> float:
    """From when on raw attempts are needed: the window before, and the weeks before."""
    return min(scope.previous_start_s, scope.start_s - WEEKS_BEFORE * 7 * SECONDS_PER_DAY)


@dataclass(frozen=True)
class Compared:
    """What claims are compared over. Aggregates that several claims share are computed once, when first asked for."""

    scope: AnalysisScope
    requests: ibis.Table
    """schema.SCOPED_REQUESTS, the window."""
    previous: ibis.Table
    """The equal window before."""
    attempts: ibis.Table
    """schema.REQUEST_LOG from `history_start_s` to the window's end, or more."""
    feedback: ibis.Table | None
    """schema.FEEDBACK, None when there is none."""
    catalog: Catalog
    now_s: float
    """The present, seconds since 1970: what freshness is measured against unless the user named the window's end."""

    @cached_property
    def hours(self) -> Mapping[int, int]:
        """Attempts by hour since 1970, hours without any left out; from the weeks before to the window's end."""
        timed = self._timed
        rows = timed.group_by(hour=(timed.started_s / HOUR_S).floor().cast("int64")).agg(n=timed.count())
        return {row["hour"]: row["n"] for row in _rows(rows)}

    @cached_property
    def moments(self) -> Mapping[str, Any]:
        """About the window's attempts: how many, the newest, how many of them began after they were ingested, by how much."""
        timed = self._timed.filter(self._timed.started_s >= self.scope.start_s)
        ingested_s = timed.ingested_at.truncate("s").epoch_seconds().cast("float64")
        ahead_s = timed.started_s - ingested_s
        return _row(
            timed.agg(
                attempts=timed.count(),
                newest_s=timed.started_s.max(),
                ahead=(ahead_s > CLOCK_SLACK_S).sum(),
                most_ahead_s=ahead_s.max(),
            )
        )

    @cached_property
    def models(self) -> list[dict[str, Any]]:
        """By model, provider and what was called, most frequent first: counts, and the sums that costs are reconciled from."""
        rows = self.requests
        is_paid = (rows.status == "success") & ~rows.is_cache_hit.fill_null(False) & (rows.completion_tokens.fill_null(0) > 0)
        grouped = rows.group_by("model", "provider", "provider_model").agg(
            attempts=rows.count(),
            unknown=rows.tier.isnull().sum(),
            paid=is_paid.sum(),
            # A model that the list gives away is no surprise at a cost of 0.
            free=(is_paid & (rows.logged_cost_usd == 0) & ~(rows.list_cost_usd == 0).fill_null(False)).sum(),
            **priced_sums(rows),
        )
        return _rows(grouped.order_by([ibis.desc("attempts"), "model", "provider", "provider_model"]).limit(MAX_GROUPS))

    @cached_property
    def scores(self) -> Mapping[str, int] | None:
        """Scores given in the window: how many, how many repeat another, belong to a known request, came before it."""
        if self.feedback is None:
            return None
        scored_s = self.feedback.scored_at.truncate("s").epoch_seconds().cast("float64")
        given = self.feedback.mutate(scored_s=scored_s)
        given = given.filter(given.scored_s >= self.scope.start_s, given.scored_s < self.scope.end_s)
        # A score given twice belongs to a request once.
        keys = ["request_id", "attempt_id", "name", "source", "scored_at"]
        repeated = _row(given.group_by(keys).agg(n=given.count()).agg(n=lambda t: t.n.sum(), distinct=lambda t: t.count()))
        counts = {"scores": int(repeated["n"] or 0), "distinct": int(repeated["distinct"] or 0), "found": 0, "early": 0}
        for key, unkeyed in (("attempt_id", None), ("request_id", "attempt_id")):
            mine = given if unkeyed is None else given.filter(given[unkeyed].isnull())
            joined = mine.filter(mine[key].notnull()).inner_join(self._known(key), [(key, "known_key")])
            found = _row(joined.agg(n=joined.count(), early=(joined.scored_s < joined.known_s - CLOCK_SLACK_S).sum()))
            counts["found"] += int(found["n"] or 0)
            counts["early"] += int(found["early"] or 0)
        return counts

    @property
    def begins_s(self) -> float | None:
        """When the lake's first attempt of the weeks before began, to the hour."""
        return min(self.hours) * float(HOUR_S) if self.hours else None

    @property
    def has_previous(self) -> bool:
        """Whether the window before is complete enough to be compared with."""
        length = self.scope.end_s - self.scope.start_s
        return self.begins_s is not None and self.begins_s <= self.scope.previous_start_s + max(MISSING_BASELINE_SHARE * length, HOUR_S)

    def shares(self, column: str) -> tuple[dict[str, int], dict[str, int]]:
        """Final requests by a column's values, in the window before and in the window."""
        before, now = ({row["name"]: row["n"] for row in _rows(_by(table, column))} for table in (self.previous, self.requests))
        return before, now

    @cached_property
    def _timed(self) -> ibis.Table:
        timed = with_time(self.attempts)
        return timed.filter(timed.started_s >= history_start_s(self.scope), timed.started_s < self.scope.end_s)

    def _known(self, key: str) -> ibis.Table:
        tables = [table.filter(table.is_final).select(key, "started_s") for table in (self.requests, self.previous)]
        known = ibis.union(*tables)
        return known.group_by(known_key=known[key]).agg(known_s=known.started_s.min())


def compare(rows: Compared) -> tuple[CheckResult, ...]:
    """`expectations.BASELINE`, in its order."""
    return tuple(EVALUATED_BY[expectation.name](expectation, rows) for expectation in BASELINE)


def _rows(table: ibis.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pyarrow().to_pylist()
    return found


def _row(table: ibis.Table) -> dict[str, Any]:
    return _rows(table)[0]


def _by(table: ibis.Table, column: str) -> ibis.Table:
    final = table.filter(table.is_final)
    return final.group_by(name=final[column]).agg(n=final.count()).order_by([ibis.desc("n"), "name"]).limit(MAX_GROUPS)


def _limit(expectation: Expectation) -> float:
    assert isinstance(expectation.predicate, Comparison)  # noqa: S101 - tells mypy what the suites guarantee
    return expectation.predicate.limit


def _judged(
    expectation: Expectation, is_met: bool, observed: str, numbers: Mapping[str, float], items: list[CheckItem] | None = None
) -> CheckResult:
    return expectation.result("passed" if is_met else "failed", observed, numbers, items or ())


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _length(seconds: float) -> str:
    if seconds < 2 * HOUR_S:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / HOUR_S:.1f} hours" if seconds < 2 * SECONDS_PER_DAY else f"{seconds / SECONDS_PER_DAY:.1f} days"


def _silent_hours(expectation: Expectation, rows: Compared) -> CheckResult:
    """Whole hours of the window without an attempt where the median of comparable hours is at least MIN_EXPECTED."""
    first, last = math.ceil(rows.scope.start_s / HOUR_S), math.floor(rows.scope.end_s / HOUR_S)
    expected = {hour: _expected(hour, rows) for hour in range(first, last)}
    compared = {hour: value for hour, value in expected.items() if value is not None}
    if not compared:
        return expectation.result("not_checked", "no whole hour in the window has an earlier week or another day to compare with")
    silent = [hour for hour, value in compared.items() if value >= MIN_EXPECTED and not rows.hours.get(hour)]
    missed = sum(compared[hour] for hour in silent)
    items = [
        CheckItem(name=_at(hour * HOUR_S), observed=f"0 attempts, about {compared[hour]:,.0f} are usual", numbers={"usual": compared[hour]})
        for hour in silent
    ]
    text = f"{len(silent)} of {len(compared)} hours are silent" + (f", about {missed:,.0f} attempts are missing" if silent else "")
    return _judged(expectation, not silent, text, {"silent_hours": float(len(silent)), "missing_attempts": missed}, items)


def _expected(hour: int, rows: Compared) -> float | None:
    """Median of the same hour of the week in the weeks before; else of the same hour of the lake's other days of its kind."""
    begins = rows.begins_s
    if begins is None:
        return None
    # The lake's first hour may be cut off.
    known = range(int(begins // HOUR_S) + 1, math.floor(rows.scope.end_s / HOUR_S))
    same = [hour - 168 * week for week in range(1, WEEKS_BEFORE + 1) if hour - 168 * week in known]
    if not same:
        days = range(-7 * (WEEKS_BEFORE + 1), 7 * (WEEKS_BEFORE + 1))
        same = [hour + 24 * day for day in days if day and hour + 24 * day in known and _is_weekend(hour + 24 * day) == _is_weekend(hour)]
    return float(np.median([rows.hours.get(each, 0) for each in same])) if same else None


def _is_weekend(hour: int) -> bool:
    return (hour // 24 + 3) % 7 >= 5


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
    allowed_s = max(_limit(expectation) * (scope.end_s - scope.start_s), MIN_FRESH_S)
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
    ratio, limit = now / before, _limit(expectation)
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
            observed=f"{q[place]:.1%} of the requests, {p[place]:.1%} before",
            numbers={"share": float(q[place]), "share_before": float(p[place])},
        )
        for place in np.argsort(-np.abs(p - q), kind="stable").tolist()
        if abs(p[place] - q[place]) > 0
    ]
    text = f"{moved:.1%} of the traffic moved, {chance:.1%} of it would by chance"
    return _judged(expectation, moved - chance <= _limit(expectation), text, {"moved_share": moved, "chance_share": chance}, items)


def _mix_of_tasks(expectation: Expectation, rows: Compared) -> CheckResult:
    return _mix(expectation, rows, "task_type")


def _mix_of_models(expectation: Expectation, rows: Compared) -> CheckResult:
    return _mix(expectation, rows, "routed_model")


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
    return _judged(expectation, attempts <= _limit(expectation), text, {"unknown_attempts": float(attempts)}, items)


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
    return _judged(expectation, calls / paid < _limit(expectation), f"{calls:,} of {paid:,} calls, {calls / paid:.2%}", numbers, items)


def _list_price(expectation: Expectation, rows: Compared) -> CheckResult:
    tolerance = _limit(expectation)
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
    found = _row(table.agg(answers=(table.is_final & (table.status == "success")).sum(), scored=table.quality.notnull().sum()))
    answers, scored = int(found["answers"] or 0), int(found["scored"] or 0)
    if not answers:
        return expectation.result("not_checked", "no successful request in the window")
    share = scored / answers
    text = f"{scored:,} of {answers:,} successful requests, {share:.1%}"
    return _judged(expectation, share >= _limit(expectation), text, {"scored_share": share})


def _no_scores(expectation: Expectation) -> CheckResult:
    return expectation.result("not_checked", "no feedback was given in the window")


def _repeated_scores(expectation: Expectation, rows: Compared) -> CheckResult:
    if not rows.scores or not rows.scores["scores"]:
        return _no_scores(expectation)
    repeated = rows.scores["scores"] - rows.scores["distinct"]
    share = repeated / rows.scores["scores"]
    text = f"{repeated:,} of {rows.scores['scores']:,} scores, {share:.2%}"
    return _judged(expectation, share < _limit(expectation), text, {"repeated_share": share})


def _found_scores(expectation: Expectation, rows: Compared) -> CheckResult:
    if not rows.scores or not rows.scores["scores"]:
        return _no_scores(expectation)
    share = rows.scores["found"] / rows.scores["scores"]
    text = f"{rows.scores['found']:,} of {rows.scores['scores']:,} scores, {share:.1%}"
    return _judged(expectation, share >= _limit(expectation), text, {"found_share": share})


def _clocks(expectation: Expectation, rows: Compared) -> CheckResult:
    attempts = int(rows.moments["attempts"] or 0)
    if not attempts:
        return expectation.result("not_checked", "the window holds no attempt")
    ahead, limit = int(rows.moments["ahead"] or 0), _limit(expectation)
    found, early = (rows.scores["found"], rows.scores["early"]) if rows.scores else (0, 0)
    furthest_s = max(float(rows.moments["most_ahead_s"]), 0.0)
    text = f"{ahead:,} of {attempts:,} attempts began after they were ingested"
    text += f", by up to {_length(furthest_s)}" if ahead else ""
    text += f"; {early:,} of {found:,} scores came before their request" if found else ""
    is_met = ahead / attempts < limit and (not found or early / found < limit)
    return _judged(
        expectation, is_met, text, {"ahead_attempts": float(ahead), "furthest_ahead_s": furthest_s, "early_scores": float(early)}
    )


def _shown(name: str) -> str:
    """A name from the logs on one line, cut to a length that a table can hold."""
    return "".join(each if each.isprintable() else " " for each in name)[:80]


EVALUATED_BY: Mapping[str, Callable[[Expectation, Compared], CheckResult]] = {
    "no_hour_is_silent": _silent_hours,
    FRESH: _freshness,
    "volume_is_as_before": _volume,
    "mix_of_tasks_is_as_before": _mix_of_tasks,
    "mix_of_models_is_as_before": _mix_of_models,
    "models_are_known": _known_models,
    "successes_have_a_cost": _zero_cost,
    "logged_cost_is_the_list_price": _list_price,
    "answers_are_scored": _scored,
    "feedback_is_not_repeated": _repeated_scores,
    "feedback_finds_its_request": _found_scores,
    "clocks_agree": _clocks,
}
