"""Work whose latency nobody waits for, and what a slower service tier would save on it.

Belongs here: finding it, and prices of tiers as the logs show them. Does not belong here: the action (`recommendation.cost_optimization_plan`).

Nobody is taken to wait for a task type and team of which no call streams and no call names a user, while other calls of the log do. Where
the log has no streams or no users, it cannot tell. What a tier costs is taken from calls of the same model and task in both tiers alone:
no list that is bundled has prices of tiers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import ibis
from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.schema import DEFAULT_TIER
from routing_pipeline.text import LogName
from routing_pipeline.window.kinds_of_call import chat_of

SLOW_TIERS = ("batch", "flex")
MIN_CALLS = 100
"""Calls of a task and team, and calls of a tier, below which nothing is said."""
MOST_GROUPS = 2_000
LISTED = 10
NO_SIGN = "the logs do not show who waits: they need streams (time to first token) and user ids of some calls"
NO_PRICE = (
    "the price of batch and flex is not known: no list that is bundled has it, and no model of the log answers the same task in both tiers; "
    "send a part of this work as batch and compare"
)


class PatientGroup(Result):
    """One task of one team that nobody waits for."""

    task_type: LogName
    team: LogName | None
    calls: int = quantity("Answered calls in the default tier", "calls")
    cost_usd: float = quantity("What they cost in the window", "USD")


class PatientWork(Result):
    """Work that a slower tier could do."""

    groups: tuple[PatientGroup, ...] = Field(description="Dearest first")
    cost_usd: float = quantity("What all of it costs in the window, in the default tier", "USD")
    price_share: Measured = quantity("Price of a slow tier's token over the default tier's, as the logs show it", "0..1")
    saving_usd: Measured = quantity("What the slow tier would have saved in the window", "USD")
    unknown: str | None = Field(description="Why the logs cannot tell who waits; null where they can")


def patient_work(requests: ibis.Table) -> PatientWork:
    """Work of chat whose latency nobody waits for; from rows of every kind of call (schema.SCOPED_REQUESTS)."""
    rows = chat_of(requests)
    rows = rows.filter(rows.status == "success", ~rows.is_cache_hit.fill_null(False))
    rows = rows.mutate(service_tier=rows.service_tier.fill_null(DEFAULT_TIER))
    by_work = rows.group_by("task_type", "team").agg(
        calls=rows.count(),
        streams=rows.ttft_ms.count(),
        users=rows.user_hash.count(),
        default_calls=(rows.service_tier == DEFAULT_TIER).sum(),
        cost=rows.cost_usd.sum(where=rows.service_tier == DEFAULT_TIER),
    )
    work: list[dict[str, Any]] = by_work.order_by(ibis.desc("calls"), "task_type", "team").limit(MOST_GROUPS).to_pyarrow().to_pylist()
    if not any(row["streams"] for row in work) or not any(row["users"] for row in work):
        nothing = Unidentifiable(unidentifiable=NO_SIGN)
        return PatientWork(groups=(), cost_usd=0.0, price_share=nothing, saving_usd=nothing, unknown=NO_SIGN)
    patient = [row for row in work if row["default_calls"] >= MIN_CALLS and not row["streams"] and not row["users"]]
    groups = [
        PatientGroup(task_type=row["task_type"], team=row["team"], calls=row["default_calls"], cost_usd=float(row["cost"] or 0.0))
        for row in sorted(patient, key=lambda row: (-(row["cost"] or 0.0), row["task_type"], str(row["team"])))
    ]
    cost = math.fsum(each.cost_usd for each in groups)
    share = _price_share(rows)
    saving: Measured = share
    if isinstance(share, Estimate):
        saving = share.scaled(-cost).shifted(cost)
    return PatientWork(groups=tuple(groups[:LISTED]), cost_usd=cost, price_share=share, saving_usd=saving, unknown=None)


def _price_share(rows: ibis.Table) -> Measured:
    """Cost per token in slow tiers over that in the default tier, for the same model and task; the spread over models is its interval."""
    slow = rows.mutate(is_slow=rows.service_tier.isin(SLOW_TIERS), tokens=rows.prompt_tokens + rows.completion_tokens)
    slow = slow.filter(slow.is_slow | (slow.service_tier == DEFAULT_TIER), slow.logged_cost_usd > 0, slow.tokens > 0)
    sums = slow.group_by("model", "task_type", "is_slow").agg(n=slow.count(), cost=slow.logged_cost_usd.sum(), tokens=slow.tokens.sum())
    found: list[dict[str, Any]] = sums.order_by(ibis.desc("n")).limit(MOST_GROUPS).to_pyarrow().to_pylist()
    prices: dict[tuple[str, str], dict[bool, tuple[int, float]]] = defaultdict(dict)
    for row in found:
        prices[row["model"], row["task_type"]][row["is_slow"]] = (row["n"], row["cost"] / row["tokens"])
    pairs = [of for of in prices.values() if len(of) == 2 and of[True][0] >= MIN_CALLS and of[False][0] >= MIN_CALLS]
    return _over_pairs([of[True][1] / of[False][1] for of in pairs], [of[True][0] for of in pairs])


def _over_pairs(shares: Sequence[float], calls: Sequence[int]) -> Measured:
    if not shares:
        return Unidentifiable(unidentifiable=NO_PRICE)
    mean = sum(share * n for share, n in zip(shares, calls, strict=True)) / sum(calls)
    # From the least to the most favourable of the pairs; of one pair alone a tenth either way, for its mix of tokens.
    low, high = (min(shares), max(shares)) if len(shares) > 1 else (0.9 * mean, 1.1 * mean)
    return Estimate(estimate=mean, low=low, high=high)
