"""`get_routing_costs`: what routing costs, who and what it is spent on, where it is heading, and whether the bill is right.

Belongs here: totals, groupings, budgets, logged against recomputed cost. Does not belong here: trend and projection
(`daily_spend` computes them), why spend changed and what is wasted (`cost_drivers`), what to do about it (`recommendation`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import ibis
from pydantic import Field

from routing_pipeline.analysis.budget_projection import BudgetProjection
from routing_pipeline.analysis.daily_spend import (
    NEARLY_ALL,
    NO_COST,
    CostTrend,
    DayCost,
    HourSums,
    Ledger,
    Projection,
    date_of,
    day_of,
    hour_sums,
    ledger_of,
    overlap,
    projections,
    trend_of,
)
from routing_pipeline.catalog import Catalog
from routing_pipeline.comparisons import clustered_mean
from routing_pipeline.cost_reconciliation import ClassCost, priced_sums, reconcile
from routing_pipeline.estimates import Estimate, Known, Measured, Result, Unidentifiable, quantity
from routing_pipeline.scope import SECONDS_PER_DAY, AnalysisScope

Dimension = Literal["model", "tier", "task_type", "team", "provider", "day"]
Verdict = Literal["within budget", "over budget", "cannot tell"]

MAX_LISTED = 50
DIMENSIONS: tuple[Dimension, ...] = ("model", "tier", "task_type", "provider")
"""Dimensions whose values the catalog or the scope bound; teams and days are grouped on their own."""
TOLERANCE = 0.10
"""Logged cost further than this from list price is worth a look (the data-quality check's limit as well)."""
NO_TOKENS = Unidentifiable(unidentifiable="no priced attempt has token counts; log the usage that the provider returns")

Row = dict[str, Any]


class CostLine(Result):
    """One group of attempts."""

    group: tuple[str | None, ...] = Field(description="One value per dimension of the grouping; null: not logged, or not in the catalog")
    requests: int = quantity("Final requests", "requests")
    attempts: int = quantity("Attempts", "attempts")
    tokens: int = quantity("Prompt and completion tokens", "tokens")
    cost_usd: Known = quantity("Of all attempts: as logged, else at list price", "USD")
    share: Known = quantity("Of all spend", "0..1")
    per_request_usd: Known = quantity("All attempts of a request, mean over final requests with a price", "USD")
    per_1000_tokens_usd: Known = quantity("Over attempts with both cost and tokens", "USD")
    unpriced_attempts: int = quantity("Successful attempts that neither the log nor the list prices", "attempts")


class CostGrouping(Result):
    """Spend by one dimension, or by several crossed."""

    by: tuple[Dimension, ...]
    lines: tuple[CostLine, ...] = Field(description="Dearest first; by day in order of time")
    groups_not_listed: int = quantity("Groups too small to be listed", "groups")
    cost_not_listed_usd: float = quantity("What they cost together", "USD")


class HourCost(Result):
    """One hour of the window, in order of time, quiet hours included."""

    hour: datetime = Field(description="Start of the hour, UTC")
    requests: int = quantity("Final requests", "requests")
    cost_usd: float = quantity("Of all attempts that began in it: as logged, else at list price", "USD")
    covered: float = quantity("Share of the hour that lies in the window", "0..1")


class BudgetUse(Result):
    """A budget and how the spend stands against it."""

    of: str | None = Field(description="Team; null is the whole spend")
    budget_usd_per_month: float = quantity("As configured", "USD/month")
    used: Measured = quantity("Spend of the month so far over the month's budget", "1")
    month_end: Measured = quantity("Projected spend of the month over the month's budget", "1")
    quarter_end: Measured = quantity("Projected spend of the quarter over three months' budget", "1")
    month_end_usd: Measured = quantity("Projected spend of the month", "USD")
    quarter_end_usd: Measured = quantity("Projected spend of the quarter", "USD")
    verdict: Verdict = Field(description="For the month: over or within budget with its whole interval, else cannot tell")


class UnpricedModel(Result):
    """A model whose calls neither the log nor the list prices, with the traffic that is missing from every total."""

    model: str
    provider: str | None = Field(description="Who served it, as logged")
    attempts: int = quantity("Successful attempts without any price, cache hits left out", "attempts")
    share: float = quantity("Of all successful attempts, cache hits left out", "0..1")
    prompt_tokens: int = quantity("Sent in them", "tokens")
    completion_tokens: int = quantity("Received in them", "tokens")


class UnpricedSpend(Result):
    """Successful attempts whose cost the log does not hold: counted at list price where there is one, else in no total."""

    attempts: int = quantity("Successful attempts without a cost in the log, cache hits left out", "attempts")
    share: Known = quantity("Of successful attempts, cache hits left out", "0..1")
    list_cost_usd: float = quantity("Those with a list price, at it; part of every total", "USD")
    attempts_without_list_price: int = quantity("Of them, without a list price or tokens: in no total, and not free", "attempts")
    models: tuple[UnpricedModel, ...] = Field(default=(), description="The models of these, most attempts first")
    models_not_listed: int = quantity("Models with too few to be listed", "models", default=0)
    free_attempts: int = quantity("Successful attempts logged at 0 USD though they have a list price", "attempts")
    free_list_cost_usd: float = quantity("What those would cost at list price", "USD")


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

    model: str
    provider: str | None = Field(description="Who served it, as logged")
    provider_model: str | None = Field(description="What was called, as logged; what the list was asked for")
    attempts: int = quantity("Attempts with both, neither of them 0", "attempts")
    logged_usd: float = quantity("As logged", "USD")
    list_usd: float = quantity("At list prices by token class", "USD")
    difference: Known = quantity("(logged - list) / list", "1")
    within_tolerance: bool | None = Field(description="Total and every token class within 10 %; null when there is nothing to compare")
    cause: str = Field(default="", description="What most likely explains a difference; empty when there is none")
    classes: tuple[TokenClassCost, ...] = Field(default=(), description="By token class, those with tokens")
    unchecked_attempts: int = quantity("Priced attempts without a list price", "attempts")


class RoutingCosts(Result):
    """The answer to `get_routing_costs`."""

    total_usd: Known = quantity("Spend in the window, all attempts: as logged, else at list price", "USD")
    requests: int = quantity("Final requests", "requests")
    per_request_usd: Measured = quantity("All attempts of a request; interval over sessions", "USD")
    per_1000_tokens_usd: Known = quantity("Over attempts with both cost and tokens", "USD")
    per_day_usd: Known = quantity("Spend over the length of the window", "USD/day")
    groupings: tuple[CostGrouping, ...] = Field(description="By each dimension, and by model and task type crossed")
    hours: tuple[HourCost, ...] = Field(description="Cost over time")
    days: tuple[DayCost, ...] = Field(description="This window and the one before, as far as there are logs")
    trend: CostTrend
    month: Projection = Field(description="The calendar month in which the window ends")
    quarter: Projection = Field(description="The calendar quarter in which the window ends")
    budgets: tuple[BudgetUse, ...] = Field(description="The whole budget first, then teams; empty when none is configured")
    unpriced: UnpricedSpend
    checks: tuple[CostCheck, ...] = Field(
        description="Logged against recomputed cost by model, provider and what was called, dearest first"
    )
    checks_not_listed: int = quantity("Models too small to be listed", "models")
    budget_projection: BudgetProjection | None = Field(
        default=None, description="The same month and quarter from months of spend, given to agents; a report has it under its own key"
    )
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")

    def by(self, *dimensions: Dimension) -> CostGrouping | None:
        """The grouping by these dimensions, None when it is not among those computed."""
        return next((grouping for grouping in self.groupings if grouping.by == dimensions), None)


def routing_costs(requests: ibis.Table, previous: ibis.Table, scope: AnalysisScope) -> RoutingCosts:
    """Totals, groupings, trend, projection, budgets, and the check of the bill.

    Args:
        requests: conformed rows of the window (schema.SCOPED_REQUESTS), one per attempt.
        previous: the same of the equal window before; may be empty.
        scope: the window and the budgets (`scope.parameters`), USD per month.
    """
    cells = _rows(requests.group_by(*DIMENSIONS).agg(**_sums(requests)))
    whole = _rolled_up(cells)
    hours, hours_before = hour_sums(requests), hour_sums(previous)
    ledger = ledger_of(hours, hours_before, scope)
    month, quarter = projections(ledger, scope)
    checks, more_checks = _checks(requests, scope)
    return RoutingCosts(
        total_usd=_cost(whole),
        requests=whole["requests"],
        per_request_usd=_per_request(requests),
        per_1000_tokens_usd=_per_1000_tokens(whole),
        per_day_usd=whole["cost"] / scope.days if whole["priced"] else NO_COST,
        groupings=(
            *(_grouping((dimension,), cells, whole) for dimension in DIMENSIONS),
            spend_by(requests, ("team",), whole),
            spend_by(requests, ("day",), whole),
            _grouping(("model", "task_type"), cells, whole),
        ),
        hours=_hour_costs(hours, scope),
        days=ledger.days,
        trend=trend_of(ledger, hours, hours_before, scope),
        month=month,
        quarter=quarter,
        budgets=_budgets(requests, previous, ledger, scope),
        unpriced=_unpriced(whole, cells),
        checks=checks,
        checks_not_listed=more_checks,
        notices=_notices(whole, ledger, month),
    )


# --- Sums by group


def _rows(table: ibis.Table) -> list[Row]:
    rows: list[Row] = table.to_pyarrow().to_pylist()
    return rows


def _sums(t: ibis.Table) -> dict[str, ibis.expr.types.NumericScalar]:
    """What every line of a grouping is made of; all of it adds up over groups."""
    tokens = t.prompt_tokens + t.completion_tokens
    is_answer = (t.status == "success") & ~t.is_cache_hit.fill_null(False)
    unlogged = is_answer & t.logged_cost_usd.isnull()
    unpriced = is_answer & t.cost_usd.isnull()
    free = is_answer & (t.logged_cost_usd == 0).fill_null(False) & (t.list_cost_usd > 0).fill_null(False)
    return {
        "requests": t.is_final.sum(),
        "attempts": t.count(),
        "tokens": (t.prompt_tokens.fill_null(0) + t.completion_tokens.fill_null(0)).sum(),
        "cost": t.cost_usd.sum(),
        "priced": t.cost_usd.count(),
        "request_cost": t.request_cost_usd.sum(),
        "priced_requests": t.request_cost_usd.count(),
        "cost_of_tokens": t.cost_usd.sum(where=tokens.notnull()),
        "tokens_with_cost": tokens.sum(where=t.cost_usd.notnull()),
        "answers": is_answer.sum(),
        "unlogged": unlogged.sum(),
        "unlogged_list": t.list_cost_usd.sum(where=unlogged),
        "unpriced": unpriced.sum(),
        "unpriced_sent": t.prompt_tokens.sum(where=unpriced),
        "unpriced_received": t.completion_tokens.sum(where=unpriced),
        "free": free.sum(),
        "free_list": t.list_cost_usd.sum(where=free),
    }


_MONEY = ("cost", "request_cost", "cost_of_tokens", "unlogged_list", "free_list")
_COUNTS = (
    "requests",
    "attempts",
    "tokens",
    "priced",
    "priced_requests",
    "tokens_with_cost",
    "answers",
    "unlogged",
    "unpriced",
    "unpriced_sent",
    "unpriced_received",
    "free",
)


def _rolled_up(rows: Sequence[Row]) -> Row:
    money: Row = {name: math.fsum(row[name] or 0.0 for row in rows) for name in _MONEY}
    return money | {name: sum(int(row[name] or 0) for row in rows) for name in _COUNTS}


def _cost(sums: Row) -> Known:
    return sums["cost"] if sums["priced"] else NO_COST


def _per_1000_tokens(sums: Row) -> Known:
    if not sums["priced"]:
        return NO_COST
    return 1000 * sums["cost_of_tokens"] / sums["tokens_with_cost"] if sums["tokens_with_cost"] else NO_TOKENS


def _line(group: tuple[str | None, ...], sums: Row, whole: Row) -> CostLine:
    return CostLine(
        group=group,
        requests=sums["requests"],
        attempts=sums["attempts"],
        tokens=sums["tokens"],
        cost_usd=_cost(sums),
        share=sums["cost"] / whole["cost"] if whole["cost"] > 0 else NO_COST,
        per_request_usd=sums["request_cost"] / sums["priced_requests"] if sums["priced_requests"] else NO_COST,
        per_1000_tokens_usd=_per_1000_tokens(sums),
        unpriced_attempts=sums["unpriced"],
    )


def _grouping(by: tuple[Dimension, ...], cells: list[Row], whole: Row) -> CostGrouping:
    """Roll cells up by some of their dimensions."""
    groups: dict[tuple[str | None, ...], list[Row]] = defaultdict(list)
    for cell in cells:
        groups[tuple(cell[dimension] for dimension in by)].append(cell)
    lines = sorted(
        ((group, _rolled_up(rows)) for group, rows in groups.items()),
        key=lambda line: (-line[1]["cost"], tuple(str(part) for part in line[0])),
    )
    return CostGrouping(
        by=by,
        lines=tuple(_line(group, sums, whole) for group, sums in lines[:MAX_LISTED]),
        groups_not_listed=max(len(lines) - MAX_LISTED, 0),
        cost_not_listed_usd=math.fsum(sums["cost"] for _, sums in lines[MAX_LISTED:]),
    )


def spend_by(requests: ibis.Table, by: tuple[Dimension, ...], whole: Row | None = None) -> CostGrouping:
    """Spend by any dimensions crossed, dearest first (days alone: in order of time); cut off in the engine.

    Args:
        requests: conformed rows, one per attempt.
        by: one dimension or several.
        whole: sums over all rows where they are known already.
    """
    whole = whole or _rolled_up(_rows(requests.agg(**_sums(requests))))
    grouped = requests.group_by(*by).agg(**_sums(requests))
    ties = [grouped[name].cast("string").fill_null("").asc() for name in by]
    in_time = by == ("day",)
    order = [grouped.day.asc()] if in_time else [grouped.cost.fill_null(0.0).desc(), *ties]
    rows = _rows(grouped.order_by(order).limit(MAX_LISTED))
    groups = len(rows) if len(rows) < MAX_LISTED else int(grouped.count().execute())
    lines = tuple(_line(tuple(_label(row[name]) for name in by), _rolled_up([row]), whole) for row in rows)
    listed = math.fsum(row["cost"] or 0.0 for row in rows)
    return CostGrouping(
        by=by,
        lines=lines,
        groups_not_listed=groups - len(rows),
        cost_not_listed_usd=max(whole["cost"] - listed, 0.0) if groups > len(rows) else 0.0,
    )


def _label(value: str | int | None) -> str | None:
    """Days are counted since 1970 and shown as dates."""
    return date_of(value).isoformat() if isinstance(value, int) else value


def _per_request(requests: ibis.Table) -> Measured:
    """Mean over final requests with a price; requests of one session hang together."""
    t = requests.filter(requests.request_cost_usd.notnull())
    clusters = t.group_by("cluster").agg(total=t.request_cost_usd.sum(), n=t.count()).to_pyarrow()
    if clusters.num_rows == 0:
        return NO_COST
    return clustered_mean(clusters["total"].to_numpy().astype(float), clusters["n"].to_numpy().astype(float))


def _unpriced(whole: Row, cells: list[Row]) -> UnpricedSpend:
    by_model: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for cell in cells:
        if cell["unpriced"]:
            by_model[cell["model"], cell["provider"]].append(cell)
    models = [
        UnpricedModel(
            model=model,
            provider=provider,
            attempts=sums["unpriced"],
            share=sums["unpriced"] / whole["answers"],
            prompt_tokens=sums["unpriced_sent"],
            completion_tokens=sums["unpriced_received"],
        )
        for (model, provider), sums in ((group, _rolled_up(rows)) for group, rows in by_model.items())
    ]
    models.sort(key=lambda each: (-each.attempts, each.model, each.provider or ""))
    return UnpricedSpend(
        attempts=whole["unlogged"],
        share=whole["unlogged"] / whole["answers"] if whole["answers"] else Unidentifiable(unidentifiable="no successful attempt"),
        list_cost_usd=whole["unlogged_list"],
        attempts_without_list_price=whole["unpriced"],
        models=tuple(models[:MAX_LISTED]),
        models_not_listed=max(len(models) - MAX_LISTED, 0),
        free_attempts=whole["free"],
        free_list_cost_usd=whole["free_list"],
    )


# --- Logged against recomputed


def _checks(requests: ibis.Table, scope: AnalysisScope) -> tuple[tuple[CostCheck, ...], int]:
    """By model, provider and what was called, because each has a price of its own; dearest first, and how many more there are."""
    t = requests
    unchecked = (t.status == "success") & ~t.is_cache_hit.fill_null(False) & (t.logged_cost_usd > 0) & t.list_cost_usd.isnull()
    sums = priced_sums(t) | {"unchecked": unchecked.fill_null(False).sum(), "spent": t.logged_cost_usd.sum()}
    keys = ("model", "provider", "provider_model")
    grouped = t.group_by(*keys).agg(**sums)
    grouped = grouped.filter((grouped.priced_calls > 0) | (grouped.unchecked > 0))
    order = [grouped.spent.desc(), *(grouped[name].fill_null("").asc() for name in keys)]
    rows = _rows(grouped.order_by(order).limit(MAX_LISTED))
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


# --- Over time


def _hour_costs(hours: Mapping[int, HourSums], scope: AnalysisScope) -> tuple[HourCost, ...]:
    """From the first hour with a request to the last; hours without any in between are told as such."""
    if not hours:
        return ()
    silent = HourSums(0, 0.0, 0)
    return tuple(
        HourCost(
            hour=datetime.fromtimestamp(hour * 3600, UTC),
            requests=hours.get(hour, silent).requests,
            cost_usd=hours.get(hour, silent).cost,
            covered=overlap(hour * 3600, (hour + 1) * 3600, scope.start_s, scope.end_s) / 3600,
        )
        for hour in range(min(hours), max(hours) + 1)
    )


def _budgets(requests: ibis.Table, previous: ibis.Table, ledger: Ledger, scope: AnalysisScope) -> tuple[BudgetUse, ...]:
    parameters = scope.parameters
    uses: list[BudgetUse] = []
    if parameters.budget is not None:
        uses.append(_budget_use(None, parameters.budget, ledger, scope))
    if parameters.budgets_by_team:
        spend = _team_days(requests, previous, tuple(parameters.budgets_by_team))
        for team, budget in sorted(parameters.budgets_by_team.items()):
            days = spend.get(team, {})
            own = tuple(day.model_copy(update={"cost_usd": days.get(day_of(day.day), 0.0)}) for day in ledger.days)
            uses.append(_budget_use(team, budget, Ledger(own, ledger.start_s, ledger.end_s, is_priced=bool(days)), scope))
    return tuple(uses)


def _team_days(requests: ibis.Table, previous: ibis.Table, teams: tuple[str, ...]) -> dict[str, dict[int, float]]:
    """Spend by team and day; a team of which nothing is priced is absent."""
    spend: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for t in (previous, requests):
        own = t.filter(t.team.isin(teams), t.cost_usd.notnull())
        for row in _rows(own.group_by("team", "day").agg(cost=own.cost_usd.sum())):
            spend[row["team"]][row["day"]] += row["cost"]
    return spend


def _budget_use(of: str | None, budget: float, ledger: Ledger, scope: AnalysisScope) -> BudgetUse:
    if budget <= 0 or (of is not None and not ledger.is_priced):
        why = "a budget has to be above 0" if budget <= 0 else "no priced attempt of this team in the logs; check how the gateway spells it"
        none = Unidentifiable(unidentifiable=why)
        return BudgetUse(
            of=of,
            budget_usd_per_month=budget,
            used=none,
            month_end=none,
            quarter_end=none,
            month_end_usd=none,
            quarter_end_usd=none,
            verdict="cannot tell",
        )
    month, quarter = projections(ledger, scope)
    month_end = _share(month.total_usd, budget)
    return BudgetUse(
        of=of,
        budget_usd_per_month=budget,
        used=_share(month.elapsed_usd, budget),
        month_end=month_end,
        quarter_end=_share(quarter.total_usd, 3 * budget),
        month_end_usd=month.total_usd,
        quarter_end_usd=quarter.total_usd,
        verdict=_verdict(month_end),
    )


def _share(spend: Measured, budget: float) -> Measured:
    return spend.scaled(1 / budget) if isinstance(spend, Estimate) else spend


def _verdict(month_end: Measured) -> Verdict:
    if isinstance(month_end, Unidentifiable) or month_end.low <= 1 < month_end.high:
        return "cannot tell"
    return "over budget" if month_end.low > 1 else "within budget"


def _notices(whole: Row, ledger: Ledger, month: Projection) -> tuple[str, ...]:
    notices: list[str] = []
    at_list = whole["unlogged"] - whole["unpriced"]
    if at_list:
        notices.append(
            f"{at_list:,} successful attempts have no cost in the log and are counted at list prices, "
            f"${whole['unlogged_list']:,.2f} of the total; discounts and margins are not in it."
        )
    if whole["priced"] and whole["unpriced"]:
        notices.append(f"{whole['unpriced']:,} successful attempts have no price at all: every total is a lower bound.")
    if not any(day.complete for day in ledger.days):
        notices.append("No day is covered whole: no trend and no projection; take a longer timeframe.")
    elapsed = (ledger.end_s / SECONDS_PER_DAY) - day_of(month.start)
    if isinstance(month.elapsed_usd, Estimate) and elapsed - month.observed_days > 1 - NEARLY_ALL:
        notices.append(
            f"Of the {elapsed:.1f} days of {month.period} so far, the window and the one before hold {month.observed_days:.1f}; "
            "the spend of the others is filled in from the days observed."
        )
    return tuple(notices)
