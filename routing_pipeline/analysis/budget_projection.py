"""What the month and the quarter will come to, in all, by team and by tier of model, from months of daily spend; and how budgets stand.

Belongs here: the seasonal model of daily spend, the totals drawn from it, and the one verdict on each budget that every face shows.
Does not belong here: spend in the window that is analysed (`daily_spend`, `routing_costs`).

Log of daily spend = level + effect of the weekday + noise; the level walks at random with a slope (a local level model with
drift and fixed seasonal effects; Durbin & Koopman, Time Series Analysis by State Space Methods, 3.2). The ratio of the walk's
variance to the noise's is not estimated but averaged over a grid by its likelihood, and the noise's variance is drawn from its
posterior: with weeks of history both are uncertain, and intervals that ignore it are too narrow. Totals are quantiles of
simulated paths. Days that the logs do not cover (`coverage`) are drawn as well: those before the logs begin from the same model with
time reversed, gaps in them from the days of the same weekday.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal

import ibis
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from routing_pipeline.analysis.daily_spend import NO_COST, date_of, day_of
from routing_pipeline.clock import DAYS_PER_BUDGET_MONTH, SECONDS_PER_DAY, SECONDS_PER_HOUR, hour_of
from routing_pipeline.errors import nearest
from routing_pipeline.estimates import LEVEL, Estimate, Known, Measured, Result, Unidentifiable, quantity
from routing_pipeline.parameters import Parameters
from routing_pipeline.stats.inference import Floats
from routing_pipeline.text import LogName
from routing_pipeline.window.conform import with_time
from routing_pipeline.window.coverage import Uncovered, uncovered
from routing_pipeline.window.scope import NEARLY_ALL

BudgetVerdict = Literal["within budget", "over budget", "cannot tell"]
BudgetOf = Literal["team", "tier"]
UsedIs = Literal["spend so far", "rate"]

HISTORY_DAYS = 182
MIN_DAYS = 14
"""Days of spend below which there is no weekly cycle to speak of."""
DAYS_PER_WEEK = 7
OPEN_WEEKS = 8
"""Of each weekday, the latest days that tell whether anything is spent on it: whoever comes and goes is not always there."""
DRAWS = 4_000
WALK_RATIOS: tuple[float, ...] = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SLOPE_SD = 0.003
"""What is believed of the daily slope before seeing spend: within 2 % a week in two of three cases."""
WEEKDAY_SD = 1.5
WINSOR = 4.0
"""A day further than this many standard deviations from its forecast counts as this far: it is an incident, not a level."""
SETTLED = 3.0
"""Variance of a forecast, in units of the noise's, above which a day's innovation still tells of the start and not of the noise."""
MAX_TEAMS = 50
LEAST_RATE_DAYS = 1.0
"""Days that the logs have to cover for a rate per day to be told."""


class PeriodProjection(Result):
    """Spend of one calendar period, and how it stands against its budget."""

    period: str = Field(description="2026-11, or 2026-Q4")
    start: date
    end: date = Field(description="Exclusive")
    observed_usd: float = quantity("Spend so far, in what the logs cover", "USD")
    observed_days: float = quantity("Days so far that the logs cover", "days", default=0.0)
    elapsed_days: float = quantity("Days so far", "days", default=0.0)
    elapsed_usd: Measured = quantity(
        "Spend so far, what the logs do not cover filled in; exact where they cover all of it",
        "USD",
        default=Unidentifiable(unidentifiable="not known to reports of earlier versions"),
    )
    total_usd: Measured = quantity("Spend by its end", "USD")
    budget_usd: float | None = quantity("Budget of the period", "USD", default=None)
    used: Measured | None = quantity("Of the budget, as `used_is` says; null without a budget", "1", default=None)
    used_is: UsedIs | None = Field(
        default=None,
        description="`spend so far` over the period's budget where the logs cover the period so far; else the `rate` of the days "
        "that they cover over the budget's share of as many days",
    )
    chance_over_budget: float | None = quantity("Probability that the total exceeds it", "0..1", default=None)
    verdict: BudgetVerdict | None = Field(
        default=None,
        description="`over budget` when that much is spent, or the whole interval of the total lies above it; `within budget` when none of it "
        "does; null without a budget",
    )

    @property
    def is_covered(self) -> bool:
        """Whether the logs cover the period so far."""
        return self.observed_days >= NEARLY_ALL * self.elapsed_days

    @property
    def usd_per_day(self) -> Known:
        """Spend so far over the days that the logs cover."""
        if self.observed_days < LEAST_RATE_DAYS:
            return Unidentifiable(unidentifiable=f"the logs cover less than {LEAST_RATE_DAYS:g} day of {self.period}")
        return self.observed_usd / self.observed_days


class TeamProjection(Result):
    """One team's month and quarter."""

    team: LogName
    month: PeriodProjection
    quarter: PeriodProjection


class TierProjection(Result):
    """Month and quarter of the models of one tier."""

    tier: LogName
    month: PeriodProjection
    quarter: PeriodProjection


class UnknownBudget(Result):
    """A budget of a team or tier that no request names: it is held against nothing."""

    kind: BudgetOf
    of: LogName = Field(description="As configured")
    budget_usd_per_month: float = quantity("As configured", "USD/month")
    nearest: LogName | None = Field(default=None, description="The name in the logs that is most like it; null where none is")


class BudgetProjection(Result):
    """Month and quarter in which the logs end."""

    history_days: int = quantity("Complete days of spend that it rests on", "days")
    month: PeriodProjection
    quarter: PeriodProjection
    teams: tuple[TeamProjection, ...] = Field(
        description="By spend, at most 50, and every team with a budget; teams do not add up where requests name none"
    )
    tiers: tuple[TierProjection, ...] = Field(default=(), description="Tiers of models that have a budget, by name")
    unknown_budgets: tuple[UnknownBudget, ...] = Field(
        default=(), description="Budgets of teams and tiers that no request of these days names, with the name that may have been meant"
    )
    explanation: str = "The projection continues the weekly cycle and the trend so far; announced changes are not included."

    def of(self, team: str | None) -> TeamProjection | BudgetProjection | None:
        """The projection of a team, or of all spend (None); None for a team without any."""
        return self if team is None else next((each for each in self.teams if each.team == team), None)

    def of_tier(self, tier: str | None) -> TierProjection | None:
        """The projection of a tier; None for one without a budget, or without any spend."""
        return next((each for each in self.tiers if each.tier == tier), None)


@dataclass(frozen=True)
class SpendHistory:
    """Months of spend, and the time in them that the logs cover."""

    usd: Mapping[str | None, Mapping[int, float]]
    """By team and day since 1970; None holds all teams together."""
    uncovered: tuple[Uncovered, ...] = ()
    """Between the first day and `end_s`."""
    of_tiers: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """The same as `usd`, of the tiers that were asked for."""
    named: Mapping[BudgetOf, Collection[str]] = field(default_factory=dict)
    """Every team and tier that a request names, priced or not; without the kinds that nobody asked for, or of which it is not known."""

    def covered_days(self, start_s: float, end_s: float) -> float:
        """Days between two moments that the logs cover; what lies before the first day of spend is none of them."""
        start_s = max(start_s, min(self.usd[None], default=math.inf) * SECONDS_PER_DAY)
        return max(end_s - start_s - math.fsum(each.within(start_s, end_s) for each in self.uncovered), 0.0) / SECONDS_PER_DAY


def spend_history(
    attempts: ibis.Table, end_s: float, oldest_s: float | None, tiers: Collection[str] = (), teams: Collection[str] = ()
) -> SpendHistory:
    """What was spent by day before `end_s`, and which time the logs cover.

    Args:
        attempts: schema.REQUEST_LOG with cost_usd (and tier, where tiers are asked for), over the last HISTORY_DAYS.
        end_s: up to where the logs reach, seconds since 1970.
        oldest_s: when the first attempt of all in the lake began.
        tiers: those with a budget.
        teams: those with a budget.
    """
    timed = with_time(attempts)
    timed = timed.filter(timed.started_s < end_s)
    hours = timed.select(hour=hour_of(timed.started_s)).distinct().to_pyarrow()["hour"].to_pylist()
    found = history_of(daily_spend_by_team(attempts, end_s), hours, end_s, oldest_s)
    asked: dict[BudgetOf, Collection[str]] = {"team": teams, "tier": tiers}
    named = {kind: _names(timed, kind) for kind, of in asked.items() if of}
    return replace(found, of_tiers=_daily_spend_by_tier(timed, tiers) if tiers else {}, named=named)


def _names(attempts: ibis.Table, kind: BudgetOf) -> frozenset[str]:
    return frozenset(attempts.filter(attempts[kind].notnull()).select(kind).distinct().to_pyarrow()[kind].to_pylist())


def history_of(usd: Mapping[str | None, Mapping[int, float]], hours: Collection[int], end_s: float, oldest_s: float | None) -> SpendHistory:
    """The same from sums that somebody kept: `hours` since 1970 in which anything was logged."""
    if not hours:
        return SpendHistory(usd)
    first_s = float(min(hours) * SECONDS_PER_HOUR)
    inside = oldest_s is not None and oldest_s >= first_s
    start_s = first_s // SECONDS_PER_DAY * SECONDS_PER_DAY
    return SpendHistory(usd, uncovered(hours, start_s, end_s, first_s=oldest_s if inside else None))


def daily_spend_by_team(attempts: ibis.Table, end_s: float) -> dict[str | None, dict[int, float]]:
    """USD by team and day since 1970, of attempts that began before `end_s`; None holds all teams together."""
    timed = with_time(attempts)
    timed = timed.filter(timed.started_s < end_s, timed.cost_usd.notnull())
    rows = timed.group_by("team", "day").agg(cost_usd=timed.cost_usd.sum()).to_pyarrow().to_pylist()
    spend: dict[str | None, dict[int, float]] = {None: {}}  # what nobody priced is in no total
    for row in sorted(rows, key=lambda row: (row["day"], row["team"] or "")):
        for team in {row["team"], None}:
            days = spend.setdefault(team, {})
            days[row["day"]] = days.get(row["day"], 0.0) + row["cost_usd"]
    return spend


def _daily_spend_by_tier(timed: ibis.Table, tiers: Collection[str]) -> dict[str, dict[int, float]]:
    mine = timed.filter(timed.cost_usd.notnull(), timed.tier.isin(sorted(tiers)))
    spend: dict[str, dict[int, float]] = {}
    for row in mine.group_by("tier", "day").agg(cost_usd=mine.cost_usd.sum()).order_by("tier", "day").to_pyarrow().to_pylist():
        spend.setdefault(row["tier"], {})[row["day"]] = row["cost_usd"]
    return spend


def budget_projection(history: SpendHistory, end_s: float, parameters: Parameters) -> BudgetProjection:
    """Project the calendar month and quarter that hold the moment before `end_s`.

    Args:
        history: what was spent (`spend_history`).
        end_s: up to where the logs reach, seconds since 1970.
        parameters: budgets, USD per month.
    """
    of_team = {team: days for team, days in history.usd.items() if team is not None}
    by_spend = sorted(of_team, key=lambda team: (-math.fsum(of_team[team].values()), team))
    listed = [*by_spend[:MAX_TEAMS], *(team for team in by_spend[MAX_TEAMS:] if team in parameters.budgets_by_team)]
    month, quarter = _projected(history, history.usd[None], end_s, parameters.budget)
    teams, tiers = [], []
    for team in listed:
        of_month, of_quarter = _projected(history, of_team[team], end_s, parameters.budgets_by_team.get(team))
        teams.append(TeamProjection(team=team, month=of_month, quarter=of_quarter))
    for tier, budget in sorted(parameters.budgets_by_tier.items()):
        if tier in history.of_tiers:
            of_month, of_quarter = _projected(history, history.of_tiers[tier], end_s, budget)
            tiers.append(TierProjection(tier=tier, month=of_month, quarter=of_quarter))
    return BudgetProjection(
        history_days=_complete_days(history, history.usd[None], end_s)[2],
        month=month,
        quarter=quarter,
        teams=tuple(teams),
        tiers=tuple(tiers),
        unknown_budgets=(
            *_unknown("team", parameters.budgets_by_team, history),
            *_unknown("tier", parameters.budgets_by_tier, history),
        ),
    )


def _unknown(kind: BudgetOf, budgets: Mapping[str, float], history: SpendHistory) -> Iterator[UnknownBudget]:
    names = history.named.get(kind)
    if names is None:
        return
    for of, budget in sorted(budgets.items()):
        if of not in names:
            near = nearest(of, names)
            yield UnknownBudget(kind=kind, of=LogName(of), budget_usd_per_month=budget, nearest=None if near is None else LogName(near))


def _periods(end_s: float) -> tuple[tuple[str, date, date, int], ...]:
    last = date_of(math.ceil(end_s / SECONDS_PER_DAY) - 1)
    month = last.replace(day=1)
    quarter = date(last.year, (last.month - 1) // 3 * 3 + 1, 1)
    return (
        (f"{month:%Y-%m}", month, _later(month, 1), 1),
        (f"{quarter:%Y}-Q{(quarter.month + 2) // 3}", quarter, _later(quarter, 3), 3),
    )


def _later(start: date, months: int) -> date:
    month = start.month - 1 + months
    return date(start.year + month // 12, month % 12 + 1, 1)


def _complete_days(history: SpendHistory, usd: Mapping[int, float], end_s: float) -> tuple[int, Floats, int]:
    """(first day, USD of each day from there, how many of them are complete): from the first to the last day that the logs cover; others between are nan."""
    end = math.ceil(end_s / SECONDS_PER_DAY)
    first = max(min(history.usd[None], default=end), end - HISTORY_DAYS - 1)
    days = range(first, end)
    complete = [history.covered_days(day * SECONDS_PER_DAY, min((day + 1) * SECONDS_PER_DAY, end_s)) >= NEARLY_ALL for day in days]
    if not any(complete):
        return end, np.zeros(0), 0
    begin, until = complete.index(True), len(complete) - complete[::-1].index(True)
    found = [usd.get(day, 0.0) if is_complete else math.nan for day, is_complete in zip(days, complete, strict=True)]
    return first + begin, np.array(found[begin:until]), sum(complete)


@dataclass(frozen=True)
class _Drawn:
    """Draws of the days that the logs do not cover whole, DRAWS x days: before the first complete day, between, after the last."""

    first: int
    """First day of `usd`."""
    usd: Floats

    def of(self, day: int) -> Floats:
        drawn: Floats = self.usd[:, day - self.first]
        return drawn


def _projected(
    history: SpendHistory, spent: Mapping[int, float], end_s: float, budget: float | None
) -> tuple[PeriodProjection, PeriodProjection]:
    month, quarter = _periods(end_s)
    start, usd, _ = _complete_days(history, spent, end_s)
    drawn = _untold(usd) or _drawn(start, usd, day_of(quarter[1]), day_of(quarter[2]))
    return (
        _period(month, history, spent, drawn, end_s, budget),
        _period(quarter, history, spent, drawn, end_s, budget),
    )


def _begun(usd: Floats) -> tuple[int, bool]:
    """From which day on these days tell of later ones, and whether those before it are known to be others.

    Whoever began after the logs did, or again after MIN_DAYS silent days, says nothing by what was before: often a first try.
    """
    spent = np.flatnonzero(usd > 0)
    if not len(spent):
        return 0, False
    silent = np.concatenate([[0], np.cumsum(usd == 0)])
    between = silent[spent[1:]] - silent[spent[:-1]]
    again = np.flatnonzero(between >= MIN_DAYS)
    if len(again):
        return int(spent[again[-1] + 1]), True
    return int(spent[0]), bool(silent[spent[0]] >= DAYS_PER_WEEK)


def _untold(usd: Floats) -> Unidentifiable | None:
    """Why these days do not tell of others; None where they do."""
    begun, is_later = _begun(usd)
    spent, ever = (int(np.count_nonzero(days > 0)) for days in (usd[begun:], usd))
    if spent < MIN_DAYS:
        since = f" after {MIN_DAYS} or more silent ones" if is_later and spent < ever else ""
        return Unidentifiable(unidentifiable=f"it needs {MIN_DAYS} complete days with spend{since}, and the logs have {spent}")
    silent = int(np.count_nonzero(usd[np.flatnonzero(usd > 0)[-1] :] == 0))
    if silent >= MIN_DAYS:
        return Unidentifiable(unidentifiable=f"nothing was spent on the last {silent} complete days; whether it goes on is not known")
    return None


def _drawn(start: int, usd: Floats, begin: int, end: int) -> _Drawn:
    """Draws of every day of [begin, end), those in `usd` from its days of the same weekday."""
    rng = np.random.default_rng(0)  # the same logs, the same answer
    begun, is_later = _begun(usd)
    start, usd = start + begun, usd[begun:]
    weekday = (np.arange(start, start + len(usd)) + 3) % 7
    ahead = simulated_days(usd, weekday, max(end - (start + len(usd)), 0), rng)
    back = np.zeros((DRAWS, max(start - begin, 0)))
    if start > begin and not is_later:
        # Time reversed is the same model: what came before the logs is projected backwards.
        back = simulated_days(usd[::-1], weekday[::-1], start - begin, rng, step=-1)[:, ::-1]
    between = np.zeros((DRAWS, len(usd)))
    for place in np.flatnonzero(np.isnan(usd)):
        alike = usd[(weekday == weekday[place]) & np.isfinite(usd)]
        between[:, place] = rng.choice(alike if len(alike) else usd[np.isfinite(usd)], DRAWS)
    return _Drawn(start - back.shape[1], np.hstack([back, between, ahead]))


def _period(
    period: tuple[str, date, date, int],
    history: SpendHistory,
    spent: Mapping[int, float],
    drawn: _Drawn | Unidentifiable,
    end_s: float,
    budget: float | None,
) -> PeriodProjection:
    name, begin, end, months = period
    begin_s, period_end_s = day_of(begin) * SECONDS_PER_DAY, day_of(end) * SECONDS_PER_DAY
    known = math.fsum(usd for day, usd in spent.items() if day_of(begin) <= day < day_of(end))
    limit = None if budget is None else budget * months
    elapsed = (min(end_s, period_end_s) - begin_s) / SECONDS_PER_DAY
    so_far: Measured = NO_COST
    total: Measured = NO_COST
    chance = None
    if spent:
        missing_so_far, missing = _missing(history, day_of(begin), day_of(end), end_s)
        so_far, total = (_spend(known, drawn, lacking) for lacking in (missing_so_far, missing))
        if limit is not None and not missing:
            chance = float(known > limit)
        elif limit is not None and isinstance(drawn, _Drawn):
            chance = float((known + _filled(drawn, missing) > limit).mean())
    found = PeriodProjection(
        period=name,
        start=begin,
        end=end,
        observed_usd=known,
        observed_days=min(history.covered_days(begin_s, min(end_s, period_end_s)), elapsed),
        elapsed_days=elapsed,
        elapsed_usd=so_far,
        total_usd=total,
        budget_usd=limit,
        chance_over_budget=chance,
    )
    return found if limit is None or budget is None else found.model_copy(update=_standing(found, limit, budget))


def _missing(history: SpendHistory, begin: int, end: int, end_s: float) -> tuple[dict[int, float], dict[int, float]]:
    """Shares of the period's days that the logs do not cover: of those so far, and of all."""
    so_far, in_all = {}, {}
    for day in range(begin, end):
        start_s, stop_s = day * SECONDS_PER_DAY, min((day + 1) * SECONDS_PER_DAY, end_s)
        covered = history.covered_days(start_s, stop_s) if stop_s > start_s else 0.0
        # Of a day that counts as complete nothing is missing, whichever microseconds of it were not logged.
        if covered >= NEARLY_ALL:
            continue
        in_all[day] = 1.0 - covered
        lacking = round(max(stop_s - start_s, 0.0) / SECONDS_PER_DAY - covered, 6)
        if lacking > 0:
            so_far[day] = lacking
    return so_far, in_all


def _spend(known: float, drawn: _Drawn | Unidentifiable, missing: Mapping[int, float]) -> Measured:
    """What is known and what is missing together; nothing has to be drawn where nothing is missing."""
    if not missing:
        return _exactly(known)
    return drawn if isinstance(drawn, Unidentifiable) else _interval(known + _filled(drawn, missing))


def _filled(drawn: _Drawn, missing: Mapping[int, float]) -> Floats:
    filled = np.zeros(DRAWS)
    for day, share in missing.items():
        filled = filled + share * drawn.of(day)
    return filled


def _exactly(usd: float) -> Estimate:
    return Estimate(estimate=usd, low=usd, high=usd)


def _interval(totals: Floats) -> Estimate:
    low, middle, high = np.quantile(totals, [0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2])
    return Estimate(estimate=float(middle), low=float(low), high=float(high))


def _standing(period: PeriodProjection, limit: float, per_month: float) -> dict[str, Any]:
    """What is said of the budget: how much of it is used, named as what it is, and the verdict."""
    if per_month <= 0:
        return {"used": Unidentifiable(unidentifiable="a budget has to be above 0"), "verdict": "cannot tell"}
    if isinstance(period.elapsed_usd, Unidentifiable) and period.elapsed_usd == NO_COST:
        return {"used": NO_COST, "verdict": "cannot tell"}
    if period.is_covered:
        used: dict[str, Any] = {"used": _exactly(period.observed_usd / limit), "used_is": "spend so far"}
    else:
        rate = period.usd_per_day
        share = rate if isinstance(rate, Unidentifiable) else _exactly(rate * DAYS_PER_BUDGET_MONTH / per_month)
        used = {"used": share, "used_is": "rate"}
    return used | {"verdict": _verdict(period, limit)}


def _verdict(period: PeriodProjection, limit: float) -> BudgetVerdict:
    if period.observed_usd > limit:
        return "over budget"
    if isinstance(period.total_usd, Unidentifiable) or period.total_usd.low <= limit < period.total_usd.high:
        return "cannot tell"
    return "over budget" if period.total_usd.low > limit else "within budget"


def simulated_days(history: Floats, weekday: NDArray[np.int64], days: int, rng: np.random.Generator, step: int = 1) -> Floats:
    """Draws of the `days` that follow `history`, DRAWS x days, USD.

    Args:
        history: USD of consecutive days, the last one adjacent to those drawn, nan where the logs do not cover them; days without
            spend say nothing of its level, and come again as often as they were among the last OPEN_WEEKS of their weekday.
        weekday: of each of them, 0..6.
        days: how many to draw.
        rng: source of the draws.
        step: 1 forward, -1 where time runs backwards.
    """
    log_usd = np.where(history > 0, np.log(np.maximum(history, 1e-12)), np.nan)
    scale = _rough_noise(log_usd, weekday)
    filtered = [_filtered(log_usd, weekday, ratio, scale) for ratio in WALK_RATIOS]
    likelihood = np.array([each[0] for each in filtered])
    chosen = rng.choice(len(WALK_RATIOS), DRAWS, p=np.exp(likelihood - likelihood.max()) / np.exp(likelihood - likelihood.max()).sum())
    ahead = (weekday[-1] + step * np.arange(1, days + 1)) % 7
    drawn = np.zeros((DRAWS, days))
    for number in np.unique(chosen):
        rows = np.flatnonzero(chosen == number)
        _, mean, covariance, sum_of_squares, n, innovations = filtered[number]
        variance = sum_of_squares / rng.chisquare(n, len(rows))
        sd = np.sqrt(variance)[:, None]
        root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(mean)))
        state = mean + sd * (rng.standard_normal((len(rows), len(mean))) @ root.T)
        walk = np.cumsum(rng.standard_normal((len(rows), days)), axis=1) * math.sqrt(WALK_RATIOS[number]) * sd
        level = state[:, :1] + state[:, 1:2] * np.arange(1, days + 1) + walk
        # Noise of the days ahead is resampled: days as odd as the oddest so far will come again.
        noise = sd * rng.choice(innovations, (len(rows), days))
        drawn[rows] = np.exp(level + state[:, 2 + ahead] + noise)
    return drawn * _open_days(history, weekday, ahead, rng)


def _open_days(history: Floats, weekday: NDArray[np.int64], ahead: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Whether anything is spent on each day ahead, DRAWS x days: always or never where it was so of late, else by the share of such days.

    How large that share is is drawn as well (Jeffreys): a few weeks do not tell it.
    """
    is_open = np.ones((DRAWS, len(ahead)), dtype=bool)
    for day in range(DAYS_PER_WEEK):
        seen = history[(weekday == day) & np.isfinite(history)][-OPEN_WEEKS:]
        spent = np.count_nonzero(seen > 0)
        places = np.flatnonzero(ahead == day)
        if len(seen) and spent == 0:
            is_open[:, places] = False
        elif spent < len(seen) and len(places):
            share = rng.beta(spent + 0.5, len(seen) - spent + 0.5, (DRAWS, 1))
            is_open[:, places] = rng.random((DRAWS, len(places))) < share
    return is_open


def _rough_noise(log_usd: Floats, weekday: NDArray[np.int64]) -> float:
    """Standard deviation of a day around the same weekday a week before, over the square root of two; a robust first guess."""
    change = log_usd[7:] - log_usd[:-7]
    change = change[np.isfinite(change)]
    guess = 1.4826 * float(np.median(np.abs(change - np.median(change)))) / math.sqrt(2) if len(change) >= 5 else 0.2
    return max(guess, 0.01) if len(weekday) else 0.2


def _filtered(
    log_usd: Floats, weekday: Sequence[int] | NDArray[np.int64], ratio: float, scale: float
) -> tuple[float, Floats, Floats, float, int, Floats]:
    """Kalman filter of (level, slope, seven weekday effects), variances in units of the noise's.

    Returns:
        (log likelihood with the noise's variance integrated out, mean, covariance, sum of squared innovations, their number,
        innovations in standard deviations). The first guess of the variance counts as five observations.
    """
    size = 9
    mean = np.zeros(size)
    mean[0] = float(np.nanmean(log_usd))
    covariance = np.diag([25.0, SLOPE_SD**2, *[WEEKDAY_SD**2] * 7]) / scale**2
    move = np.eye(size)
    move[0, 1] = 1.0
    squares, log_determinant, n, standard = 5.0 * scale**2, 0.0, 5, []
    for place, observed in enumerate(log_usd):
        mean, covariance = move @ mean, move @ covariance @ move.T
        covariance[0, 0] += ratio
        if math.isnan(observed):
            continue
        seen = np.zeros(size)
        seen[0] = seen[2 + weekday[place]] = 1.0
        gain = covariance @ seen
        spread = float(seen @ gain) + 1.0
        innovation = float(observed - seen @ mean)
        if spread < SETTLED:
            standard.append(innovation / math.sqrt(spread * squares / n))
        limit = WINSOR * math.sqrt(spread * squares / n)
        innovation = min(max(innovation, -limit), limit)
        mean = mean + gain * innovation / spread
        covariance -= np.outer(gain, gain) / spread
        squares += innovation**2 / spread
        log_determinant += math.log(spread)
        n += 1
    return -0.5 * log_determinant - 0.5 * n * math.log(squares), mean, covariance, squares, n, np.array(standard or [-1.0, 1.0])
