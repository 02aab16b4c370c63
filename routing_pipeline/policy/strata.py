"""Strata: groups of values of a column that steers the router and that no rule can ask for.

Belongs here: how they are written down, and finding a row's. Does not belong here: which columns steer (`policy.steering`), how
values are grouped (`policy.context`). A rule holds in all strata alike; what is expected of a model, and how likely it is
chosen, is told apart by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import pyarrow as pa

from routing_pipeline.clock import SECONDS_PER_HOUR

HOURS_PER_DAY = 24
NONE = "(none)"
"""Stands for requests without a value, where that is a value."""
SCORE_STEPS = 10.0
"""Steps of the router's score that are told apart, per 1."""


def _text(name: str) -> Callable[[ibis.Table], ibis.expr.types.StringValue]:
    return lambda rows: rows[name].cast("string").fill_null(NONE)


def _hour(rows: ibis.Table) -> ibis.expr.types.StringValue:
    return ((rows.started_s / SECONDS_PER_HOUR).floor().cast("int64") % HOURS_PER_DAY).cast("string")


def _score(rows: ibis.Table) -> ibis.expr.types.StringValue:
    steps = (rows.router_score.clip(-1.0, 2.0) * SCORE_STEPS).floor().cast("int64")
    return ibis.ifelse(rows.router_score.notnull(), steps.cast("string"), ibis.literal(NONE))


def _complexity(rows: ibis.Table) -> ibis.expr.types.StringValue:
    steps = (rows.call_complexity.clip(0.0, 0.99) * SCORE_STEPS).floor().cast("int64")
    return ibis.ifelse(rows.call_complexity.notnull(), steps.cast("string"), ibis.literal(NONE))


def _length(rows: ibis.Table) -> ibis.expr.types.StringValue:
    doublings = ibis.greatest(rows.call_tokens, ibis.literal(1)).log2().floor().cast("int64")
    return ibis.ifelse(rows.call_tokens.notnull(), doublings.cast("string"), ibis.literal(NONE))


PLACE = "place in the session"
VALUES: Mapping[str, tuple[str, Callable[[ibis.Table], ibis.expr.types.StringValue]]] = {
    "team": ("team", _text("team")),
    "API key": ("key_hash", _text("key_hash")),
    "feature": ("feature", _text("feature")),
    "user": ("user_hash", lambda rows: rows.user_hash.substr(0, 1).fill_null(NONE)),
    "hour of day": ("started_s", _hour),
    "day": ("day", _text("day")),
    "router tier": ("router_tier", _text("router_tier")),
    "router score": ("router_score", _score),
    PLACE: ("call_place", _text("call_place")),
    "complexity of the request": ("call_complexity", _complexity),
    "length of the request": ("call_tokens", _length),
}
"""By column that strata can be made of, as readers know it: what a table must have, and each row's value; every row has one."""


@dataclass(frozen=True)
class Strata:
    """Values of one column by group; what is in none belongs to the first."""

    column: str
    groups: tuple[tuple[str, ...], ...]


def strata_of(fields: Mapping[str, Any] | None) -> Strata | None:
    """From JSON."""
    return None if fields is None else Strata(fields["column"], tuple(map(tuple, fields["groups"])))


def with_stratum(
    rows: ibis.Table, strata: Strata | None, otherwise: ibis.expr.types.IntegerValue
) -> tuple[ibis.Table, ibis.expr.types.IntegerValue]:
    """Rows, and each one's stratum; `otherwise` where there are none."""
    if strata is None:
        return rows, otherwise
    value = VALUES[strata.column][1]
    names = [name for group in strata.groups for name in group]
    places = [place for place, group in enumerate(strata.groups) for _ in group]
    # Joined on: names from logs never become part of a query's text.
    table = ibis.memtable(pa.table({"stratum_key": pa.array(names, pa.string()), "stratum": pa.array(places, pa.int64())}))
    rows = rows.mutate(stratum_value=value(rows))
    rows = rows.left_join(table, rows.stratum_value == table.stratum_key)
    return rows, rows.stratum.fill_null(0)
