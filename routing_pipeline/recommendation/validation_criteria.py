"""What an A/B test of rules must show before it goes on: of the whole set, and of each rule.

Belongs here: wording the criteria so that what is proposed is itself expected to meet them. Does not belong here: the estimates they rest
on (`routing_rules`, `replayed_rules`), sample sizes and boundaries (`monitoring_plan`).

The set's criteria are the limits that it was held to. A rule may give up quality that another one makes good, so its criterion is no
share of the floor but its own promise: the safe end of what the held-out sessions let expect of its requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from routing_pipeline import text
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.policy.proof import Evaluated
from routing_pipeline.policy.search import MAX_COMPLETION_DROP, Limits
from routing_pipeline.recommendation.applied_limits import QualityFloor
from routing_pipeline.rules.model import Outcomes

SMALL_USD = 0.0005
"""Costs per request below this are shown with three significant digits instead of six decimals."""


def of_the_set(
    floor: QualityFloor | None,
    limits: Limits,
    then: Evaluated,
    now: Evaluated,
    *,
    has_cost: bool,
    slow_above_ms: float | None,
    session: float | None = None,
) -> tuple[str, ...]:
    """Criteria over all requests of the canary.

    Args:
        floor: of quality; None where today's is not known.
        limits: what the proof held.
        then: outcomes under the rules.
        now: outcomes today.
        has_cost: whether cost is known for enough requests.
        slow_above_ms: from where a request counts as slow.
        session: requests of one today, where rules decide for sessions: how many it takes then is part of what it costs. None where
            each request is decided by itself.
    """
    found = []
    if floor is not None:
        expected = f", expected {then.quality.value:.3f}" if then.quality.is_known else ""
        found.append(
            f"Mean quality over all requests stays at or above {_down(floor.floor):.3f} (today {floor.today:.3f}{expected}) in an A/B test."
        )
    found.append(f"Completion over all requests stays at or above {100 * _down(max(now.success.value - MAX_COMPLETION_DROP, 0.0)):.1f} %.")
    if has_cost:
        cost, each = ("Cost per request", 1.0) if session is None else ("Cost per session", session)
        if limits.max_cost is not None:
            found.append(f"{cost} stays at or below ${each * limits.max_cost:.6g}.")
        if limits.keeps_cost:
            found.append(f"{cost} does not rise above today's {_usd(each * now.cost.value)}.")
        elif then.cost.value < now.cost.value:
            found.append(f"{cost} falls below today's {_usd(each * now.cost.value)} (expected {_usd(each * then.cost.value)}).")
    if limits.max_slow is not None and slow_above_ms is not None:
        found.append(f"At most {text.whole_percent(limits.max_slow)} of all requests take longer than {slow_above_ms / 1000:.1f} s.")
    return tuple(found)


def of_a_rule(
    expected: Outcomes, baseline: Outcomes, success: Sequence[float], tolerance: float, session: float | None = None
) -> tuple[str, ...]:
    """Criteria on the requests that one rule decides.

    Args:
        expected: outcomes of its requests under the rule, from the held-out sessions.
        baseline: outcomes of the same requests today.
        success: share of its requests that end well, under the rule and today; empty where neither can be told.
        tolerance: fall of quality that is acceptable where none can be told beforehand, 0..1.
        session: as for `of_the_set`, of the sessions that it decides.
    """
    found, now = [], baseline.quality
    if isinstance(expected.quality, Estimate) and isinstance(now, Estimate):
        found.append(
            f"Mean quality of these requests stays at or above {_down(expected.quality.low):.3f} (expected {expected.quality.estimate:.3f}, "
            f"today {now.estimate:.3f}) in an A/B test."
        )
    elif isinstance(now, Estimate):
        found.append(
            f"Mean quality of these requests stays at or above {_down(now.estimate - tolerance):.3f} (today {now.estimate:.3f}) in an A/B test."
        )
    least = [each for each in success if math.isfinite(each)]
    if least:
        found.append(f"Completion of these requests stays at or above {100 * _down(max(min(least) - MAX_COMPLETION_DROP, 0.0)):.1f} %.")
    cost, today = expected.cost_usd, baseline.cost_usd
    if isinstance(cost, Unidentifiable) or isinstance(today, Unidentifiable):
        return tuple(found)
    what, each = ("Cost per request", 1.0) if session is None else ("Cost per session", session)
    then, now_usd = each * cost.estimate, each * today.estimate
    if then < now_usd:
        found.append(f"{what} falls below today's {_usd(now_usd)} (expected {_usd(then)}).")
    else:
        found.append(f"{what} stays at or below {_usd(_up(each * cost.high))} (expected {_usd(then)}, today {_usd(now_usd)}).")
    return tuple(found)


def _down(level: float) -> float:
    """To three digits and never up, so that what meets the number meets its text."""
    return math.floor(level * 1000 + 1e-9) / 1000


def _up(cost: float) -> float:
    """To the digits that `_usd` shows, and never down."""
    step = 1e-6 if cost >= SMALL_USD else 10.0 ** (math.floor(math.log10(cost)) - 2) if cost > 0 else 1.0
    return math.ceil(cost / step - 1e-9) * step


def _usd(value: float) -> str:
    return f"${value:.6f}" if value >= SMALL_USD else text.usd(value)
