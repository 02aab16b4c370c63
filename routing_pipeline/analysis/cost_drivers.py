"""`identify_cost_drivers`: where the money goes that need not go there, and why spend changed.

Belongs here: overuse of dear models, waste, budget breaches, spikes, and the change against the window before taken
apart. Does not belong here: totals and trends (`routing_costs`), and what to do about it (`recommendation`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.analysis.choices import Choice, choice, keeps_guards, quality_floor, segment_place
from routing_pipeline.analysis.divisia import Term, effects, unit_prices
from routing_pipeline.analysis.names import LISTED, fold_rare
from routing_pipeline.analysis.standing_out import HourOfSeries, hours_standing_out, slot
from routing_pipeline.comparisons import Floats, clustered_mean, difference, ratio, weighted_sum
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.rule_set import Grade
from routing_pipeline.scope import CLUSTERS, SECONDS_PER_DAY, AnalysisScope

WasteKind = Literal["failed_paid_attempts", "retries", "fallbacks", "uncached_repeats", "oversized_prompts"]

DAYS_PER_MONTH = 365.25 / 12
SECONDS_PER_HOUR = 3_600
OVERSIZED = 4.0
"""A prompt this many times as long as the task's median counts as oversized."""
STEP_RATIO = 1.1
"""Prompt lengths are counted in bins 10 % wide."""
LATE_START = 0.10
"""Share of the previous window that may lie before the first log line; beyond it, volumes cannot be compared."""
LISTED_DRIVERS = 3
NO_COST = "nothing in the window is priced; enable cost tracking in the gateway, or name the models' prices in the configuration"


class OverusedSegment(Result):
    """A part of the task in which a cheaper model meets the quality floor."""

    segment: str
    label: str = Field(description="For readers")
    replacement: str = Field(description="Cheapest model that meets the floor at the safe end")
    requests: int = quantity("Requests of the segment sent to the dear model", "requests")
    spend_usd: float = quantity("What they cost", "USD")
    avoidable_usd: Measured = quantity("Of it, what the replacement would not have cost", "USD")


class Overuse(Result):
    """Spend on one model for one task type where a cheaper model meets the quality floor at the interval's safe end."""

    model: str
    task_type: str
    tier: str | None
    replacement: str = Field(description="The cheaper model that would take most of the spend")
    requests: int = quantity("Requests sent to the dear model where a cheaper one would do", "requests")
    spend_usd: float = quantity("What they cost in the window", "USD")
    share_of_spend: float = quantity("Of all spend in the window", "0..1")
    avoidable_usd: Measured = quantity("Of it, what the cheaper models would not have cost", "USD")
    segments: tuple[OverusedSegment, ...]


class Waste(Result):
    """Money spent on what no client needed."""

    kind: WasteKind
    count: int | None = quantity("How many attempts; null when the logs cannot tell", "attempts", default=None)
    spend_usd: float | Unidentifiable = quantity("What they cost, counted", "USD")
    excess_usd: Measured = quantity("Of it, what would not have been spent otherwise", "USD")
    explanation: str = Field(description="What is counted, and what would show more")


class OversizedPrompts(Result):
    """Prompts far longer than the task's usual."""

    task_type: str
    limit_tokens: int = quantity("About 4 times the task's median prompt", "tokens")
    calls: int = quantity("Calls with a longer prompt", "calls")
    spend_usd: float = quantity("What they cost", "USD")
    excess_usd: float | Unidentifiable = quantity("Of it, what the prompt tokens above the limit cost", "USD")


class BudgetBreach(Result):
    """A budget, and how the window's spend compares with its share of it."""

    of: str = Field(description="`total`, or the team")
    budget_usd_per_month: float = quantity("As configured", "USD/month")
    allowed_usd: float = quantity("The budget's share for the window's length", "USD")
    spend_usd: float = quantity("Spent in the window", "USD")
    used: float = quantity("spend_usd / allowed_usd", "1")
    breached: bool
    days_over: tuple[str, ...] = Field(description="UTC days that spent more than a day's share of the budget")


class DearTask(Result):
    """A task type whose mean cost per request is above the cost threshold."""

    task_type: str
    requests: int
    cost_usd: Measured = quantity("Per request, all attempts", "USD")
    certain: bool = Field(description="Above the threshold over the whole interval")


class SpikeDriver(Result):
    """Who spent the excess, on what."""

    team: str | None
    model: str
    task_type: str
    excess_usd: float = quantity("Above the same hours of the other days", "USD")
    share_of_excess: float = quantity("Of the spike's excess over those hours; above 1 when others spent less", "1")


class Spike(Result):
    """Consecutive hours whose spend stands out from the same hours of other days."""

    start: datetime = Field(description="UTC")
    hours: int = quantity("Consecutive hours that stand out", "hours")
    spend_usd: float = quantity("Spent in them", "USD")
    expected_usd: Measured = quantity("Usual for these hours and days", "USD")
    excess_usd: Measured = quantity("spend_usd less expected_usd", "USD")
    robust_z: float = quantity("Of the most extreme hour, on the logarithm of spend", "1")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value of that hour", "0..1")
    drivers: tuple[SpikeDriver, ...] = Field(description="Largest excess first")


class ChangeParts(Result):
    """The change in spend taken apart by log-mean Divisia; the parts add up to the change."""

    previous_usd: float = quantity("Spend in the equal window before", "USD")
    current_usd: float = quantity("Spend in the window", "USD")
    change_usd: float = quantity("current_usd - previous_usd", "USD")
    volume_usd: float = quantity("From more or fewer requests", "USD")
    mix_usd: float = quantity("From other task types and models, retries and fallbacks included", "USD")
    tokens_usd: float = quantity("From longer or shorter prompts and answers", "USD")
    cache_usd: float = quantity("From the share of prompt tokens served from the provider's cache", "USD")
    price_usd: float = quantity("From what a token of each class costs", "USD")
    unattributed_usd: float = quantity("From cost per call where no tokens are logged: price or length, the logs cannot tell", "USD")


class CostDrivers(Result):
    """The answer to `identify_cost_drivers`."""

    spend_usd: float | None = quantity("Total in the window; null when nothing is priced", "USD")
    unpriced_attempts: int = quantity("Successful attempts without a cost, cache hits left out: spend is a lower bound", "attempts")
    quality_floor: str = Field(description="The floor that a cheaper model has to meet")
    overuse: tuple[Overuse, ...] = Field(description="Most avoidable dollars first")
    overuse_unknown: Unidentifiable | None = Field(default=None, description="Why overuse cannot be judged, where it cannot")
    avoidable_usd: Measured = quantity("Of all overuse together", "USD")
    waste: tuple[Waste, ...] = Field(description="Most dollars first")
    oversized_prompts: tuple[OversizedPrompts, ...] = Field(description="By task type, most dollars first")
    cached_prompt_share: float | None = quantity("Share of prompt tokens served from the provider's cache; null: not logged", "0..1")
    budgets: tuple[BudgetBreach, ...] = Field(description="Every configured budget, most used first")
    dear_tasks: tuple[DearTask, ...] = Field(description="Task types above the cost threshold per request")
    spikes: tuple[Spike, ...] = Field(description="Largest excess first")
    spikes_unknown: Unidentifiable | None = Field(default=None, description="Why spikes cannot be looked for, where they cannot")
    change: ChangeParts | Unidentifiable = Field(description="Against the equal window before")
    grade: Grade | None = Field(description="Grade of the evidence behind overuse; null where there is none")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")
