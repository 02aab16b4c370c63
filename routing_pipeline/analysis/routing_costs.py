"""`get_routing_costs`: what routing costs, who and what it is spent on, where it is heading, and whether the bill is right.

Belongs here: the answer, its totals, and spend by hour. Does not belong here: groupings (`spend_groupings`), the window against its
budgets (`budget_use`), what has no price (`unpriced_spend`), the check of the bill (`cost_checks`), the trend (`daily_spend`), month
and quarter (`budget_projection`; they are repeated here), why spend changed and what is wasted (`cost_drivers`), what to do about it
(`recommendation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import ibis
from pydantic import Field

from routing_pipeline.analysis.budget_projection import BudgetProjection, PeriodProjection
from routing_pipeline.analysis.budget_use import BudgetUse, TierUse, budget_uses, tier_uses, with_projected_use
from routing_pipeline.analysis.cost_checks import CostCheck, cost_checks
from routing_pipeline.analysis.daily_spend import NO_COST, CostTrend, DayCost, HourSums, hour_sums, ledger_of, trend_of
from routing_pipeline.analysis.patient_work import PatientWork, patient_work
from routing_pipeline.analysis.spend_groupings import (
    DIMENSIONS,
    CostGrouping,
    Dimension,
    OperationCost,
    Row,
    cost_of,
    operation_costs,
    per_1000_tokens,
    rolled_up,
    rolled_up_by,
    rows_of,
    spend_by,
    spend_sums,
)
from routing_pipeline.analysis.unit_costs import UnitCosts, unit_costs_told
from routing_pipeline.analysis.unpriced_spend import UnpricedSpend, unpriced_spend
from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.estimates import Known, Measured, Result, quantity
from routing_pipeline.schema import CHAT
from routing_pipeline.stats.inference import NOT_NEGATIVE, clustered_mean
from routing_pipeline.text import counted, usd
from routing_pipeline.window.kinds_of_call import is_chat, kind_of
from routing_pipeline.window.scope import AnalysisScope

if TYPE_CHECKING:
    from routing_pipeline.frames import Frame


class HourCost(Result):
    """One hour of the window, in order of time, quiet hours included."""

    hour: datetime = Field(description="Start of the hour, UTC")
    requests: int = quantity("Final requests of chat", "requests")
    cost_usd: float = quantity("Of all attempts that began in it, of every kind: as logged, else at list price", "USD")
    covered: float = quantity("Share of the hour that lies in the window and that the logs cover", "0..1")


class RoutingCosts(Result):
    """The answer to `get_routing_costs`."""

    main_table: ClassVar = "groupings"

    total_usd: Known = quantity("Spend in the window, all attempts of every kind of call: as logged, else at list price", "USD")
    operations: tuple[OperationCost, ...] = Field(default=(), description="Spend by kind of call, chat first, then most expensive first")
    requests: int = quantity("Final requests of chat", "requests")
    per_request_usd: Measured = quantity("Chat: all attempts of a request; interval over sessions", "USD")
    per_1000_tokens_usd: Known = quantity("Chat: over attempts with both cost and tokens", "USD")
    per_day_usd: Known = quantity("Spend over the time of the window that the logs cover", "USD/day")
    groupings: tuple[CostGrouping, ...] = Field(description="By each dimension, and by model and task type crossed")
    units: tuple[UnitCosts, ...] = Field(
        default=(),
        description="Money per request, session, solved task and user: of everything together, then by team, tag and group of users where logged",
    )
    patient: PatientWork | None = Field(
        default=None, description="Work whose latency nobody waits for, and what batch or flex would save on it"
    )
    hours: tuple[HourCost, ...] = Field(description="Cost over time")
    days: tuple[DayCost, ...] = Field(description="This window and the one before, as far as there are logs")
    trend: CostTrend
    month: PeriodProjection | None = Field(
        default=None,
        description="The calendar month in which the window ends, all task types: that of budget_projection; null where none was made",
    )
    quarter: PeriodProjection | None = Field(default=None, description="The calendar quarter, likewise")
    budgets: tuple[BudgetUse, ...] = Field(description="The whole budget first, then teams; empty when none is configured")
    tier_budgets: tuple[TierUse, ...] = Field(default=(), description="Tiers of models that have a budget, by name")
    unpriced: UnpricedSpend
    checks: tuple[CostCheck, ...] = Field(
        description="Logged against recomputed cost by model, provider and what was called, dearest first"
    )
    checks_not_listed: int = quantity("Models too small to be listed", "models")
    budget_projection: BudgetProjection | None = Field(
        default=None, description="The same month and quarter from months of spend, given to agents; a report has it under its own key"
    )
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")

    @property
    def chat_usd(self) -> Known:
        """The part of the total that is spent on chat, which rules and everything said per request speak of; all of it where nothing else is."""
        if all(each.operation == CHAT for each in self.operations):
            return self.total_usd
        return next((each.cost_usd for each in self.operations if each.operation == CHAT), NO_COST)

    def by(self, *dimensions: Dimension) -> CostGrouping | None:
        """The grouping by these dimensions, None when it is not among those computed."""
        return next((grouping for grouping in self.groupings if grouping.by == dimensions), None)

    def per_unit(self, *dimensions: Dimension) -> UnitCosts | None:
        """Money per unit by these dimensions, of everything together where none is named; None when it is not among those computed."""
        return next((each for each in self.units if each.by == dimensions), None)

    def to_pandas(self, table: str | None = None) -> Frame:
        """As of every result; its main table is the first of the groupings: those that were asked for, crossed."""
        return self.groupings[0].to_pandas() if table in {None, "groupings"} else super().to_pandas(table)


def routing_costs(requests: ibis.Table, previous: ibis.Table, scope: AnalysisScope) -> RoutingCosts:
    """Totals, groupings, trend, the window against its budgets, and the check of the bill; month and quarter come `with_projection`.

    Args:
        requests: conformed rows of the window (schema.SCOPED_REQUESTS), one per attempt, of every kind of call.
        previous: the same of the equal window before; may be empty.
        scope: the window and the budgets (`scope.parameters`), USD per month.
    """
    requests = requests.mutate(operation=kind_of(requests))
    cells = rows_of(requests.group_by(*DIMENSIONS, "operation").agg(**spend_sums(requests, ibis.literal(True))))
    whole = rolled_up(cells)
    hours, hours_before = hour_sums(requests), hour_sums(previous)
    ledger = ledger_of(hours, hours_before, scope)
    checks, more_checks = cost_checks(requests, scope)
    return RoutingCosts(
        total_usd=cost_of(whole),
        operations=operation_costs(cells, whole),
        requests=whole["requests"],
        per_request_usd=_per_request(requests),
        per_1000_tokens_usd=per_1000_tokens(whole),
        per_day_usd=whole["cost"] / scope.covered_days if whole["priced"] else NO_COST,
        groupings=(
            *(rolled_up_by((dimension,), cells, whole) for dimension in DIMENSIONS),
            spend_by(requests, ("team",), whole),
            spend_by(requests, ("day",), whole),
            rolled_up_by(("model", "task_type"), cells, whole),
        ),
        units=unit_costs_told(requests, previous, scope),
        patient=patient_work(requests),
        hours=_hour_costs(hours, scope),
        days=ledger.days,
        trend=trend_of(ledger, hours, hours_before, scope),
        budgets=budget_uses(requests, hours, scope),
        tier_budgets=tier_uses(requests, hours, scope),
        unpriced=unpriced_spend(whole, cells),
        checks=checks,
        checks_not_listed=more_checks,
        notices=_notices(whole),
    )


def with_projection(costs: RoutingCosts, projection: BudgetProjection) -> RoutingCosts:
    """The same with the month, the quarter and the verdicts on budgets that `budget_projection` came to."""
    return costs.model_copy(
        update={
            "month": projection.month,
            "quarter": projection.quarter,
            "budgets": tuple(with_projected_use(each, projection.of(each.of)) for each in costs.budgets),
            "tier_budgets": tuple(with_projected_use(each, projection.of_tier(each.of)) for each in costs.tier_budgets),
        }
    )


def _per_request(requests: ibis.Table) -> Measured:
    """Mean over final requests of chat with a price; requests of one session hang together."""
    t = requests.filter(requests.request_cost_usd.notnull(), is_chat(requests))
    clusters = t.group_by("cluster").agg(total=t.request_cost_usd.sum(), n=t.count()).order_by("cluster").to_pyarrow()
    if clusters.num_rows == 0:
        return NO_COST
    return clustered_mean(clusters["total"].to_numpy().astype(float), clusters["n"].to_numpy().astype(float), bounds=NOT_NEGATIVE)


def _hour_costs(hours: Mapping[int, HourSums], scope: AnalysisScope) -> tuple[HourCost, ...]:
    """From the first hour with a request to the last; hours without any in between are told as such."""
    if not hours:
        return ()
    silent = HourSums(0, 0.0, 0)
    return tuple(
        HourCost(
            hour=datetime.fromtimestamp(hour * SECONDS_PER_HOUR, UTC),
            requests=hours.get(hour, silent).requests,
            cost_usd=hours.get(hour, silent).cost,
            covered=scope.covered_within(max(hour * SECONDS_PER_HOUR, scope.start_s), (hour + 1) * SECONDS_PER_HOUR) / SECONDS_PER_HOUR,
        )
        for hour in range(min(hours), max(hours) + 1)
    )


def _notices(whole: Row) -> tuple[str, ...]:
    notices: list[str] = []
    at_list = whole["unlogged"] - whole["unpriced"]
    if at_list:
        notices.append(
            f"{_attempts(at_list)} no cost in the log, counted at list prices: "
            f"{usd(whole['unlogged_list'])} of the total; discounts and margins are not in it."
        )
    if whole["priced"] and whole["unpriced"]:
        notices.append(f"{_attempts(whole['unpriced'])} no price at all: every total is a lower bound.")
    return tuple(notices)


def _attempts(number: int) -> str:
    return f"{counted(number, 'successful attempt')} {'has' if number == 1 else 'have'}"
