"""What the month and the quarter will come to, in all and by team, from months of daily spend.

Belongs here: the seasonal model of daily spend and the totals drawn from it. Does not belong here: the projection of a report's
own window, which rests on that window alone (`daily_spend`).

Log of daily spend = level + effect of the weekday + noise; the level walks at random with a slope (a local level model with
drift and fixed seasonal effects; Durbin & Koopman, Time Series Analysis by State Space Methods, 3.2). The ratio of the walk's
variance to the noise's is not estimated but averaged over a grid by its likelihood, and the noise's variance is drawn from its
posterior: with weeks of history both are uncertain, and intervals that ignore it are too narrow. Totals are quantiles of
simulated paths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date

import ibis
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from routing_pipeline.analysis.daily_spend import NO_COST, date_of, day_of
from routing_pipeline.estimates import LEVEL, Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.parameters import Parameters
from routing_pipeline.scope import SECONDS_PER_DAY, with_time

Floats = NDArray[np.float64]

HISTORY_DAYS = 182
MIN_DAYS = 14
"""Days of spend below which there is no weekly cycle to speak of."""
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


class PeriodProjection(Result):
    """Spend of one calendar period."""

    period: str = Field(description="2026-11, or 2026-Q4")
    start: date
    end: date = Field(description="Exclusive")
    observed_usd: float = quantity("Spend so far, in what the logs cover", "USD")
    total_usd: Measured = quantity("Spend by its end", "USD")
    budget_usd: float | None = quantity("Budget of the period", "USD", default=None)
    chance_over_budget: float | None = quantity("Probability that the total exceeds it", "0..1", default=None)


class TeamProjection(Result):
    """One team's month and quarter."""

    team: str
    month: PeriodProjection
    quarter: PeriodProjection


class BudgetProjection(Result):
    """Month and quarter in which the logs end."""

    history_days: int = quantity("Complete days of spend that it rests on", "days")
    month: PeriodProjection
    quarter: PeriodProjection
    teams: tuple[TeamProjection, ...] = Field(description="By spend, at most 50; teams do not add up where requests name none")
    explanation: str = "Days ahead are taken to follow the weekly cycle and the slope so far; announced changes are not in it."


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


def budget_projection(spend: Mapping[str | None, Mapping[int, float]], end_s: float, parameters: Parameters) -> BudgetProjection:
    """Project the calendar month and quarter that hold the moment before `end_s`.

    Args:
        spend: USD by team and day (`daily_spend_by_team`).
        end_s: up to where the logs reach, seconds since 1970.
        parameters: budgets, USD per month.
    """
    all_days = spend[None]
    first = min(all_days, default=math.floor(end_s / SECONDS_PER_DAY))
    by_spend = sorted((team for team in spend if team is not None), key=lambda team: (-sum(spend[team].values()), team))
    month, quarter = _projected(all_days, first, end_s, parameters.budget)
    teams = []
    for team in by_spend[:MAX_TEAMS]:
        of_month, of_quarter = _projected(spend[team], first, end_s, parameters.budgets_by_team.get(team))
        teams.append(TeamProjection(team=team, month=of_month, quarter=of_quarter))
    return BudgetProjection(history_days=len(_history(all_days, first, end_s)[1]), month=month, quarter=quarter, teams=tuple(teams))


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


def _history(days: Mapping[int, float], first: int, end_s: float) -> tuple[int, Floats]:
    """(first day, USD of each complete day): the first day of the logs, and the day in which they end, may be partial."""
    end = math.floor(end_s / SECONDS_PER_DAY)
    start = max(first + 1, end - HISTORY_DAYS)
    return start, np.array([days.get(day, 0.0) for day in range(start, end)])


def _projected(days: Mapping[int, float], first: int, end_s: float, budget: float | None) -> tuple[PeriodProjection, PeriodProjection]:
    start, history = _history(days, first, end_s)
    month, quarter = _periods(end_s)
    ahead = back = None
    if np.count_nonzero(history) >= MIN_DAYS:
        rng = np.random.default_rng(0)  # the same logs, the same answer
        weekday = (np.arange(start, start + len(history)) + 3) % 7
        ahead = simulated_days(history, weekday, day_of(quarter[2]) - (start + len(history)), rng)
        uncovered = start - day_of(quarter[1])
        # Time reversed is the same model: what came before the logs is projected backwards.
        back = simulated_days(history[::-1], weekday[::-1], uncovered, rng, step=-1) if uncovered > 0 else np.zeros((DRAWS, 0))
    return (
        _period(month, days, start, len(history), ahead, back, end_s, budget),
        _period(quarter, days, start, len(history), ahead, back, end_s, budget),
    )


def _period(
    period: tuple[str, date, date, int],
    days: Mapping[int, float],
    start: int,
    length: int,
    ahead: Floats | None,
    back: Floats | None,
    end_s: float,
    budget: float | None,
) -> PeriodProjection:
    name, begin, end, months = period
    known = math.fsum(usd for day, usd in days.items() if day_of(begin) <= day < day_of(end))
    limit = None if budget is None else budget * months
    total: Measured
    chance = None
    if not days:
        total = NO_COST
    elif ahead is None or back is None:
        total = Unidentifiable(
            unidentifiable=f"the logs hold {length} complete day{'' if length == 1 else 's'}, and {MIN_DAYS} with spend are needed"
        )
    else:
        today = start + length
        share_left = 1.0 - (end_s / SECONDS_PER_DAY - today)
        left = ahead[:, : day_of(end) - today] * np.where(np.arange(day_of(end) - today) == 0, share_left, 1.0)
        # The logs' first day counts as it was logged, and is not drawn.
        missing = back[:, 1 : max(start - day_of(begin), 0)]
        totals = known + left.sum(axis=1) + missing.sum(axis=1)
        low, middle, high = np.quantile(totals, [0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2])
        total = Estimate(estimate=float(middle), low=float(low), high=float(high))
        chance = None if limit is None else float((totals > limit).mean())
    return PeriodProjection(
        period=name, start=begin, end=end, observed_usd=known, total_usd=total, budget_usd=limit, chance_over_budget=chance
    )


def simulated_days(history: Floats, weekday: NDArray[np.int64], days: int, rng: np.random.Generator, step: int = 1) -> Floats:
    """Draws of the `days` that follow `history`, DRAWS x days, USD.

    Args:
        history: USD of consecutive days, the last one adjacent to those drawn; a day without spend where its weekday has some
            counts as not observed, a weekday that never has any stays at 0.
        weekday: of each of them, 0..6.
        days: how many to draw.
        rng: source of the draws.
        step: 1 forward, -1 where time runs backwards.
    """
    is_open = np.array([bool((history[weekday == each] > 0).mean() > 0.5) if (weekday == each).any() else True for each in range(7)])
    log_usd = np.where(history > 0, np.log(np.maximum(history, 1e-12)), np.nan)
    log_usd[~is_open[weekday]] = np.nan
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
        drawn[rows] = np.exp(level + state[:, 2 + ahead] + noise) * is_open[ahead]
    return drawn


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
