"""What the window's rows are compared with, as aggregates that several claims share.

Belongs here: the window before, the weeks before, sums by model and by score. Does not belong here: what is claimed of them
(`baseline_checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ibis

from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR, hour_of
from routing_pipeline.data_quality.prices import priced
from routing_pipeline.window.conform import with_all_columns, with_time
from routing_pipeline.window.scope import AnalysisScope

WEEKS_BEFORE = 4
"""Weeks before the window that an hour is compared with."""
CLOCK_SLACK_S = 60.0
"""Clocks of different hosts may be apart by this much."""
MISSING_BASELINE_SHARE = 0.05
"""The window before counts as complete when the lake begins not later than after this share of it."""
MAX_GROUPS = 500
"""Most models or task types that are told apart; names come from logs, so their number has no bound."""


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
        rows = timed.group_by(hour=hour_of(timed.started_s)).agg(n=timed.count())
        return {row["hour"]: row["n"] for row in rows_of(rows)}

    @cached_property
    def moments(self) -> Mapping[str, Any]:
        """About the window's attempts: how many, the newest, how many of them began after they were ingested, by how much."""
        timed = self.in_window
        ingested_s = timed.ingested_at.truncate("s").epoch_seconds().cast("float64")
        ahead_s = timed.started_s - ingested_s
        return row_of(
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
        rows, sums = priced(self.requests)
        is_paid = (rows.status == "success") & ~rows.is_cache_hit.fill_null(False) & (rows.completion_tokens.fill_null(0) > 0)
        grouped = rows.group_by("model", "provider", "provider_model").agg(
            attempts=rows.count(),
            unknown=rows.tier.isnull().sum(),
            paid=is_paid.sum(),
            # A model that the list gives away is no surprise at a cost of 0.
            free=(is_paid & (rows.logged_cost_usd == 0) & ~(rows.list_cost_usd == 0).fill_null(False)).sum(),
            **sums,
        )
        return rows_of(grouped.order_by([ibis.desc("attempts"), "model", "provider", "provider_model"]).limit(MAX_GROUPS))

    @cached_property
    def scores(self) -> Mapping[str, int] | None:
        """Scores given in the window: how many, how many repeat another, belong to a known attempt or request, came before it."""
        if self.feedback is None:
            return None
        scored_s = self.feedback.scored_at.truncate("s").epoch_seconds().cast("float64")
        given = self.feedback.mutate(scored_s=scored_s)
        given = given.filter(given.scored_s >= self.scope.start_s, given.scored_s < self.scope.end_s)
        # A score given twice belongs to a request once.
        keys = ["request_id", "attempt_id", "name", "source", "scored_at"]
        repeated = row_of(given.group_by(keys).agg(n=given.count()).agg(n=lambda t: t.n.sum(), distinct=lambda t: t.count()))
        joined = given
        for key in ("attempt_id", "request_id"):
            known = self._known(key)
            joined = joined.left_join(known, joined[key] == known[f"known_{key}"])
        known_s = ibis.coalesce(joined.known_by_attempt_id_s, joined.known_by_request_id_s)
        found = row_of(joined.agg(n=known_s.notnull().sum(), early=(joined.scored_s < known_s - CLOCK_SLACK_S).sum()))
        counts = {"scores": int(repeated["n"] or 0), "distinct": int(repeated["distinct"] or 0)}
        counts |= {"found": int(found["n"] or 0), "early": int(found["early"] or 0)}
        return counts

    @property
    def begins_s(self) -> float | None:
        """When the lake's first attempt of the weeks before began, to the hour."""
        return min(self.hours) * float(SECONDS_PER_HOUR) if self.hours else None

    @property
    def has_previous(self) -> bool:
        """Whether the window before is complete enough to be compared with."""
        length = self.scope.end_s - self.scope.start_s
        return self.begins_s is not None and self.begins_s <= self.scope.previous_start_s + max(
            MISSING_BASELINE_SHARE * length, SECONDS_PER_HOUR
        )

    def shares(self, column: str) -> tuple[dict[str, int], dict[str, int]]:
        """Final requests by a column's values, in the window before and in the window."""
        before, now = ({row["name"]: row["n"] for row in rows_of(_by(table, column))} for table in (self.previous, self.requests))
        return before, now

    @cached_property
    def _timed(self) -> ibis.Table:
        timed = with_time(with_all_columns(self.attempts))
        return timed.filter(timed.started_s >= history_start_s(self.scope), timed.started_s < self.scope.end_s)

    @cached_property
    def in_window(self) -> ibis.Table:
        """The window's attempts of every kind of call, as they are in the lake."""
        return self._timed.filter(self._timed.started_s >= self.scope.start_s)

    def _known(self, key: str) -> ibis.Table:
        """When what has an id began first, by that id: attempts of any outcome, as far back as they are read."""
        known = self._timed
        return known.group_by(**{f"known_{key}": known[key]}).agg(**{f"known_by_{key}_s": known.started_s.min()})


def rows_of(table: ibis.Table) -> list[dict[str, Any]]:
    """The rows of an aggregate."""
    found: list[dict[str, Any]] = table.to_pyarrow().to_pylist()
    return found


def row_of(table: ibis.Table) -> dict[str, Any]:
    """The only row of an aggregate."""
    return rows_of(table)[0]


def _by(table: ibis.Table, column: str) -> ibis.Table:
    final = table.filter(table.is_final)
    return final.group_by(name=final[column]).agg(n=final.count()).order_by([ibis.desc("n"), "name"]).limit(MAX_GROUPS)
