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
from routing_pipeline.comparisons import clustered_mean
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
    cost_usd: Known = quantity("Of all attempts, as logged", "USD")
    share: Known = quantity("Of all spend", "0..1")
    per_request_usd: Known = quantity("All attempts of a request, mean over final requests with a price", "USD")
    per_1000_tokens_usd: Known = quantity("Over attempts with both cost and tokens", "USD")
    unpriced_attempts: int = quantity("Successful attempts without a cost", "attempts")


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
    cost_usd: float = quantity("Of all attempts that began in it, as logged", "USD")
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


class UnpricedSpend(Result):
    """Successful attempts whose cost the log does not hold; they are missing from every total."""

    attempts: int = quantity("Successful attempts without a cost, cache hits left out", "attempts")
    share: Known = quantity("Of successful attempts, cache hits left out", "0..1")
    list_cost_usd: float = quantity("What those with a list price would cost at it", "USD")
    attempts_without_list_price: int = quantity("Of them, without a list price or tokens: nothing can be said", "attempts")
    free_attempts: int = quantity("Successful attempts logged at 0 USD though they have a list price", "attempts")
    free_list_cost_usd: float = quantity("What those would cost at list price", "USD")


class CostCheck(Result):
    """Logged cost of one model against the same calls at dated list prices."""

    model: str
    attempts: int = quantity("Attempts with both", "attempts")
    logged_usd: float = quantity("As logged", "USD")
    list_usd: float = quantity("At list prices by token class", "USD")
    difference: Known = quantity("(logged - list) / list", "1")
    within_tolerance: bool | None = Field(description="Within 10 %; null when there is nothing to compare")
    unchecked_attempts: int = quantity("Priced attempts without a list price", "attempts")


class RoutingCosts(Result):
    """The answer to `get_routing_costs`."""

    total_usd: Known = quantity("Spend in the window, all attempts, as logged", "USD")
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
    checks: tuple[CostCheck, ...] = Field(description="Logged against recomputed cost by model, dearest first")
    checks_not_listed: int = quantity("Models too small to be listed", "models")
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
    checks = _checks(cells)
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
        unpriced=_unpriced(whole),
        checks=checks[:MAX_LISTED],
        checks_not_listed=max(len(checks) - MAX_LISTED, 0),
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
    unpriced = is_answer & t.cost_usd.isnull()
    free = is_answer & (t.cost_usd == 0).fill_null(False) & (t.list_cost_usd > 0).fill_null(False)
    both = t.cost_usd.notnull() & t.list_cost_usd.notnull()
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
        "unpriced": unpriced.sum(),
        "unpriced_list": t.list_cost_usd.sum(where=unpriced),
        "unpriced_unknown": (unpriced & t.list_cost_usd.isnull()).sum(),
        "free": free.sum(),
        "free_list": t.list_cost_usd.sum(where=free),
        "checked": both.sum(),
        "checked_logged": t.cost_usd.sum(where=both),
        "checked_list": t.list_cost_usd.sum(where=both),
        "unchecked": (is_answer & t.cost_usd.notnull() & t.list_cost_usd.isnull()).sum(),
    }


_MONEY = ("cost", "request_cost", "cost_of_tokens", "unpriced_list", "free_list", "checked_logged", "checked_list")
_COUNTS = (
    "requests",
    "attempts",
    "tokens",
    "priced",
    "priced_requests",
    "tokens_with_cost",
    "answers",
    "unpriced",
    "unpriced_unknown",
    "free",
    "checked",
    "unchecked",
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


def _unpriced(whole: Row) -> UnpricedSpend:
    return UnpricedSpend(
        attempts=whole["unpriced"],
        share=whole["unpriced"] / whole["answers"] if whole["answers"] else Unidentifiable(unidentifiable="no successful attempt"),
        list_cost_usd=whole["unpriced_list"],
        attempts_without_list_price=whole["unpriced_unknown"],
        free_attempts=whole["free"],
        free_list_cost_usd=whole["free_list"],
    )


def _checks(cells: list[Row]) -> tuple[CostCheck, ...]:
    by_model: dict[str, list[Row]] = defaultdict(list)
    for cell in cells:
        by_model[cell["model"]].append(cell)
    checks = [_check(model, _rolled_up(rows)) for model, rows in by_model.items()]
    return tuple(sorted(checks, key=lambda check: (-check.logged_usd, check.model)))


def _check(model: str, sums: Row) -> CostCheck:
    known = sums["checked_list"] > 0
    difference = (sums["checked_logged"] - sums["checked_list"]) / sums["checked_list"] if known else None
    return CostCheck(
        model=model,
        attempts=sums["checked"],
        logged_usd=sums["checked_logged"],
        list_usd=sums["checked_list"],
        difference=Unidentifiable(
            unidentifiable="no call has both a logged cost and a list price; name the model's prices in the configuration"
        )
        if difference is None
        else difference,
        within_tolerance=None if difference is None else abs(difference) <= TOLERANCE,
        unchecked_attempts=sums["unchecked"],
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
    if whole["priced"] and whole["unpriced"]:
        notices.append(f"{whole['unpriced']:,} successful attempts have no cost: every total is a lower bound.")
    if not any(day.complete for day in ledger.days):
        notices.append("No day is covered whole: no trend and no projection; take a longer timeframe.")
    elapsed = (ledger.end_s / SECONDS_PER_DAY) - day_of(month.start)
    if isinstance(month.elapsed_usd, Estimate) and elapsed - month.observed_days > 1 - NEARLY_ALL:
        notices.append(
            f"Of the {elapsed:.1f} days of {month.period} so far, the window and the one before hold {month.observed_days:.1f}; "
            "the spend of the others is filled in from the days observed."
        )
    return tuple(notices)
