"""Logged against recomputed cost, by model and token class.

Does not belong here: the comparison of one model (`data_quality.prices`), calls without any price (`unpriced_spend`).
"""

from __future__ import annotations

import ibis
from pydantic import Field

from routing_pipeline.analysis.spend_groupings import MAX_LISTED, Row, rows_of
from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.data_quality.prices import ClassCost, priced, reconcile
from routing_pipeline.estimates import Known, Result, Unidentifiable, quantity
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

TOLERANCE = 0.10
"""Logged cost further than this from list price is worth a look (the data-quality check's limit as well)."""


class TokenClassCost(Result):
    """Tokens of one class of one model's calls, as the gateway charged them and as the list prices them.

    What the gateway charged is inferred from the costs of all calls together; null where these cannot tell classes apart.
    """

    token_class: str = Field(
        description="uncached, cached, cache_write, audio_prompt; completion (with reasoning), reasoning (beside that), audio_completion"
    )
    tokens: int = quantity("In the calls that were compared", "tokens")
    charged_usd_per_million: float | None = quantity("What the logged costs imply", "USD per million tokens")
    list_usd_per_million: float | None = quantity("What the list asks", "USD per million tokens")
    logged_usd: float | None = quantity("These tokens at what was charged", "USD")
    list_usd: float | None = quantity("These tokens at list price", "USD")
    difference_usd: float | None = quantity("Logged less list", "USD")


class CostCheck(Result):
    """Logged cost of one model against the same calls recomputed at the list prices of their days."""

    model: LogName
    provider: LogName | None = Field(description="Who served it, as logged")
    provider_model: LogName | None = Field(description="What was called, as logged; what the list was asked for")
    attempts: int = quantity("Attempts with both, neither of them 0", "attempts")
    logged_usd: float = quantity("As logged", "USD")
    list_usd: float = quantity("At list prices by token class", "USD")
    difference: Known = quantity("(logged - list) / list", "1")
    within_tolerance: bool | None = Field(description="Total and every token class within 10 %; null when there is nothing to compare")
    cause: str = Field(default="", description="What most likely explains a difference; empty when there is none")
    classes: tuple[TokenClassCost, ...] = Field(default=(), description="By token class, those with tokens")
    unchecked_attempts: int = quantity("Priced attempts without a list price", "attempts")


def cost_checks(requests: ibis.Table, scope: AnalysisScope) -> tuple[tuple[CostCheck, ...], int]:
    """By model, provider and what was called, because each has a price of its own; dearest first, and how many more there are."""
    t, sums = priced(requests)
    unchecked = (t.status == "success") & ~t.is_cache_hit.fill_null(False) & (t.logged_cost_usd > 0) & t.list_cost_usd.isnull()
    sums |= {"unchecked": unchecked.fill_null(False).sum(), "spent": t.logged_cost_usd.sum()}
    keys = ("model", "provider", "provider_model")
    grouped = t.group_by(*keys).agg(**sums)
    grouped = grouped.filter((grouped.priced_calls > 0) | (grouped.unchecked > 0))
    order = [grouped.spent.desc(), *(grouped[name].fill_null("").asc() for name in keys)]
    rows = rows_of(grouped.order_by(order).limit(MAX_LISTED))
    more = int(grouped.count().execute()) - MAX_LISTED if len(rows) == MAX_LISTED else 0
    catalog = Catalog(scope.parameters.models)
    on_day = int(scope.end_s // SECONDS_PER_DAY)
    return tuple(_check(row, catalog, on_day) for row in rows), more


def _check(row: Row, catalog: Catalog, on_day: int) -> CostCheck:
    names = {name: row[name] for name in ("model", "provider", "provider_model")}
    found = reconcile(
        row["model"],
        row,
        tolerance=TOLERANCE,
        catalog=catalog,
        provider=row["provider"],
        provider_model=row["provider_model"],
        on_day=on_day,
    )
    if found is None:
        why = "no call has both a logged cost and a list price; name the model's prices in the configuration"
        return CostCheck(
            **names,
            attempts=0,
            logged_usd=0.0,
            list_usd=0.0,
            difference=Unidentifiable(unidentifiable=why),
            within_tolerance=None,
            unchecked_attempts=row["unchecked"] or 0,
        )
    return CostCheck(
        **names,
        attempts=found.calls,
        logged_usd=found.logged_usd,
        list_usd=found.list_usd,
        difference=found.ratio - 1.0,
        within_tolerance=not found.is_beyond(TOLERANCE),
        cause=found.cause,
        classes=tuple(_class_cost(each) for each in found.classes),
        unchecked_attempts=row["unchecked"] or 0,
    )


def _class_cost(of: ClassCost) -> TokenClassCost:
    def times(usd: float | None, tokens: float) -> float | None:
        return None if usd is None else usd * tokens

    logged, listed = times(of.charged_usd, of.tokens), times(of.listed_usd, of.tokens)
    return TokenClassCost(
        token_class=of.name,
        tokens=of.tokens,
        charged_usd_per_million=times(of.charged_usd, 1e6),
        list_usd_per_million=times(of.listed_usd, 1e6),
        logged_usd=logged,
        list_usd=listed,
        difference_usd=None if logged is None or listed is None else logged - listed,
    )
