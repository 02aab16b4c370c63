"""The limits that rules were held to: all of them, which one decides where several speak of the same thing, and the one floor of quality.

Belongs here: saying what `policy.search.Limits` held, in numbers and words, for everybody who speaks of a limit afterwards. Does not
belong here: turning what was asked into limits (`question.limits_of`), testing rules against them (`policy.proof`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from routing_pipeline.clock import DAYS_PER_BUDGET_MONTH
from routing_pipeline.estimates import Estimate, Result, quantity
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.search import MAX_COMPLETION_DROP, Limits
from routing_pipeline.rules.model import Constraints, RuleSet
from routing_pipeline.rules.reading import constraints_asked
from routing_pipeline.rules.tiers import TIER
from routing_pipeline.window.scope import AnalysisScope

LimitKind = Literal["quality", "cost", "completion", "latency", "capacity", "task quality"]


class AppliedLimit(Result):
    """One limit, as it was held at the safe end of the interval."""

    kind: LimitKind
    limit: float | None = Field(description="In `unit`; null for a budget that another limit of cost outdoes")
    unit: Literal["0..1", "USD", "share of requests"]
    decides: bool = Field(
        description="It is the tightest of its kind; of two that speak of the same thing both hold, and this one binds first"
    )
    text: str


def budget_left(budget: float, scope: AnalysisScope) -> float:
    """What a budget in USD per month leaves in the window for what is decided here: all other spend is in it too, and stays as it is."""
    return max(budget * scope.covered_days / DAYS_PER_BUDGET_MONTH - scope.other_spend_usd, 0.0)


def budget_needed(usd: float, scope: AnalysisScope) -> float:
    """The budget in USD per month that leaves this much in the window."""
    return (usd + scope.other_spend_usd) * DAYS_PER_BUDGET_MONTH / max(scope.covered_days, 1e-9)


class QualityFloor(Result):
    """The least mean quality over all requests: the same for the proof, criteria, canary, risks and KPIs."""

    floor: float = quantity("Least mean quality", "0..1")
    today: float = quantity("Mean quality today", "0..1")
    allowed_fall: float = quantity("Today's quality less the floor; negative where quality has to rise", "0..1")
    decided_by: Literal["threshold", "drop"] = Field(description="Which of the two limits is the tighter one")

    @property
    def tolerance(self) -> float:
        """Fall of quality that part of the traffic may show; nothing where quality has to rise."""
        return max(self.allowed_fall, 0.0)


def quality_floor(rule_set: RuleSet) -> QualityFloor | None:
    """The floor of a rule set, from its own limits and today's quality; None where today's is not known, or nothing limits it."""
    measured, asked = rule_set.expected.baseline.quality, rule_set.constraints
    if not isinstance(measured, Estimate):
        return None
    today, threshold, drop = measured.estimate, asked.min_quality, asked.max_quality_drop
    if threshold is not None and (drop is None or threshold > today - drop):
        return QualityFloor(floor=threshold, today=today, allowed_fall=today - threshold, decided_by="threshold")
    return None if drop is None else QualityFloor(floor=max(today - drop, 0.0), today=today, allowed_fall=drop, decided_by="drop")


def constraints_of(parameters: Parameters, limits: Limits | None = None, models: Sequence[str] = ()) -> Constraints:
    """What rules.json says was held; without `limits` what was asked, because nothing could be put to the proof."""
    asked = constraints_asked(parameters)
    if limits is None:
        return asked
    capped = {models[cap.arms[0]] if cap.tier is None else f"{TIER}{cap.tier}": cap.most for cap in limits.capped}
    held = {
        "max_cost_usd": limits.max_cost,
        "keeps_todays_cost": True if limits.keeps_cost else None,
        "max_quality_drop_per_task": limits.max_task_drop if limits.max_task_drop < 1.0 else None,
        "proves_per_task": True if limits.prove_per_task and limits.max_task_drop < 1.0 else None,
        "max_completion_drop": MAX_COMPLETION_DROP,
        "max_slow_share": limits.max_slow,
        "max_share": capped or None,
    }
    return asked.model_copy(update=held)


def applied_limits(
    limits: Limits,
    parameters: Parameters,
    models: Sequence[str],
    *,
    quality: float,
    cost_usd: float | None,
    slow_above_ms: float | None,
    scope: AnalysisScope | None = None,
) -> tuple[AppliedLimit, ...]:
    """Every limit that a proof holds, those of quality first.

    Args:
        limits: what was held.
        parameters: what was asked; tells a budget from a threshold.
        models: those that `limits.caps` speaks of.
        quality: mean quality today, 0..1.
        cost_usd: cost per request today, USD; None where it is not known.
        slow_above_ms: from where a request counts as slow; None where latency is not logged.
        scope: what of the spend the budget holds besides; None: nothing.
    """
    found = [*_of_quality(limits, quality), *_of_tasks(limits), *_of_cost(limits, parameters, cost_usd, _beside(parameters, scope))]
    found.append(
        AppliedLimit(
            kind="completion",
            limit=MAX_COMPLETION_DROP,
            unit="share of requests",
            decides=True,
            text=f"The share of successful requests falls by no more than {100 * MAX_COMPLETION_DROP:.1f} %.",
        )
    )
    if limits.max_slow is not None:
        over = "" if slow_above_ms is None else f" than {slow_above_ms / 1000:.1f} s"
        text = f"At most {100 * limits.max_slow:.0f} % of requests are slower{over}."
        found.append(AppliedLimit(kind="latency", limit=limits.max_slow, unit="share of requests", decides=True, text=text))
    for cap in limits.capped:
        share = f"at most {100 * cap.most:.1f} % of requests"
        if cap.tier is None:
            text = f"{cap.named(models)} gets {share}, its capacity."
        elif cap.arms:
            text = f"Models of tier {cap.tier} get {share} together ({', '.join(models[arm] for arm in cap.arms)})."
        else:
            text = f"Models of tier {cap.tier} get {share} together; the window has none, so check how the tier is spelled."
        found.append(AppliedLimit(kind="capacity", limit=cap.most, unit="share of requests", decides=True, text=text))
    return tuple(found)


def _of_quality(limits: Limits, today: float) -> list[AppliedLimit]:
    by_drop = max(today - limits.max_quality_drop, 0.0)
    threshold = limits.min_quality
    is_tighter = threshold is not None and threshold > by_drop
    drop = AppliedLimit(
        kind="quality",
        limit=by_drop,
        unit="0..1",
        decides=not is_tighter,
        text=f"Mean quality falls by no more than {limits.max_quality_drop:g} below today's {today:.3f}, so it stays at or above {by_drop:.3f}.",
    )
    if threshold is None:
        return [drop]
    looser = "" if is_tighter else "; the allowed fall against today is the tighter limit and decides"
    tighter = "; this is tighter than the allowed fall against today and decides" if is_tighter else ""
    asked = AppliedLimit(
        kind="quality",
        limit=threshold,
        unit="0..1",
        decides=is_tighter,
        text=f"Mean quality is at least {threshold:g}, the requested threshold{looser}{tighter}.",
    )
    return [asked, drop] if is_tighter else [drop, asked]


def _of_tasks(limits: Limits) -> list[AppliedLimit]:
    if limits.max_task_drop >= 1.0:
        return []
    shown = "at the safe end of its interval, all tasks at once" if limits.prove_per_task else "as expected"
    return [
        AppliedLimit(
            kind="task quality",
            limit=limits.max_task_drop,
            unit="0..1",
            decides=True,
            text=f"Mean quality of no task with 100 scored answers or more falls by more than {limits.max_task_drop:g}, {shown}.",
        )
    ]


def _beside(parameters: Parameters, scope: AnalysisScope | None) -> str:
    """What else a budget pays for."""
    if scope is None or scope.other_spend_usd <= 0:
        return ""
    monthly = scope.other_spend_usd * DAYS_PER_BUDGET_MONTH / max(scope.covered_days, 1e-9)
    what = "other task types and other kinds of call than chat" if parameters.task_types else "other kinds of call than chat"
    return f", after the {monthly:,.6g} USD a month that {what} cost and that stay as they are"


def _of_cost(limits: Limits, parameters: Parameters, today: float | None, beside: str) -> list[AppliedLimit]:
    if limits.max_cost is None:
        if not limits.keeps_cost or today is None:
            return []
        text = f"Cost per request does not rise above today's ${today:.6f}."
        return [AppliedLimit(kind="cost", limit=today, unit="USD", decides=True, text=text)]
    threshold, budget = parameters.cost_threshold, parameters.budget
    by_budget = threshold is None or limits.max_cost < threshold
    # With the goal of quality the ceiling takes the place of today's cost: whoever names a higher one lets cost rise.
    is_above = parameters.goal == "quality" and today is not None and today < limits.max_cost
    above = f"; today it is ${today:.6f}, so cost may rise" if is_above else ""
    found = []
    if budget is not None and by_budget:
        text = f"Cost per request is at most ${limits.max_cost:.6g}: what a budget of ${budget:,.6g} a month allows at the window's traffic{beside}{above}."
        found.append(AppliedLimit(kind="cost", limit=limits.max_cost, unit="USD", decides=True, text=text))
    if threshold is not None:
        which = "; the budget is the tighter limit and decides" if by_budget else above
        text = f"Cost per request is at most ${threshold:g}, the requested threshold{which}."
        found.append(AppliedLimit(kind="cost", limit=threshold, unit="USD", decides=not by_budget, text=text))
    if budget is not None and not by_budget:
        text = f"The budget of ${budget:,.6g} a month allows as much or more{beside}; the cost threshold decides."
        found.append(AppliedLimit(kind="cost", limit=None, unit="USD", decides=False, text=text))
    return found
