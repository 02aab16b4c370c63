"""`identify_cost_drivers`: where the money goes that need not go there, and why spend changed.

Belongs here: the answer, overuse of dear models, waste, budget breaches. Does not belong here: what changed (`cost_change`),
totals and trends (`routing_costs`), and what to do about it (`recommendation`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar, Literal

import ibis
from pydantic import Field

from routing_pipeline.analysis.budget_use import BudgetUse
from routing_pipeline.analysis.choices import LISTED, Choice, Half, choice, fold_rare, keeps_guards, quality_floor, segment_place
from routing_pipeline.analysis.cost_change import (
    ChangeParts,
    DearTask,
    Spike,
    change_parts,
    expensive_tasks,
    find_spikes,
    point,
    spend_by_hour,
)
from routing_pipeline.analysis.earlier_hours import EarlierHours
from routing_pipeline.analysis.second_tries import fell_back
from routing_pipeline.analysis.spend_cells import STEP_RATIO, SpendCell, SpendCells, median_step, spend_cells
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.rules.model import Grade
from routing_pipeline.stats.inference import (
    FALSE_DISCOVERY_RATE,
    chance_not_below_one,
    difference,
    false_discovery_adjusted,
    ratio,
    weighted_sum,
)
from routing_pipeline.text import LogName, usd
from routing_pipeline.window.kinds_of_call import chat_of
from routing_pipeline.window.scope import AnalysisScope

WasteKind = Literal["failed_paid_attempts", "retries", "fallbacks", "uncached_repeats", "oversized_prompts"]

OVERSIZED = 4.0
"""A prompt this many times as long as the task's median counts as oversized."""
NO_COST = "nothing in the window is priced; enable cost tracking in the gateway, or name the models' prices in the configuration"


class OverusedSegment(Result):
    """A part of the task in which a cheaper model meets the quality floor."""

    segment: str
    label: str = Field(description="For readers")
    replacement: LogName = Field(description="Cheapest model that meets the floor at the safe end, picked on one half of the sessions")
    requests: int = quantity("Requests of the segment sent to the expensive model", "requests")
    spend_usd: float = quantity("What they cost", "USD")
    avoidable_usd: Measured = quantity("Of it, what the replacement would not have cost, measured on the other half", "USD")


class Overuse(Result):
    """Spend on one model for one task type where a cheaper model meets the quality floor at the interval's safe end."""

    model: LogName
    task_type: LogName
    tier: LogName | None
    replacement: LogName = Field(description="The cheaper model that would take most of the spend")
    requests: int = quantity("Requests sent to the expensive model where a cheaper one would do", "requests")
    spend_usd: float = quantity("What they cost in the window", "USD")
    share_of_spend: float = quantity("Of all spend on chat in the window", "0..1")
    avoidable_usd: Measured = quantity("Of it, what the cheaper models would not have cost", "USD")
    segments: tuple[OverusedSegment, ...]


class Waste(Result):
    """Money spent on what no client needed."""

    kind: WasteKind
    count: int | None = quantity(
        "How many: requests of retries and fallbacks, else attempts; null when the logs cannot tell", "requests or attempts", default=None
    )
    spend_usd: float | Unidentifiable = quantity("What they cost, counted", "USD")
    excess_usd: Measured = quantity("Of it, what would not have been spent otherwise", "USD")
    explanation: str = Field(description="What is counted, and what would show more")


class OversizedPrompts(Result):
    """Prompts far longer than the task's usual."""

    task_type: LogName
    limit_tokens: int = quantity("About 4 times the task's median prompt", "tokens")
    calls: int = quantity("Calls with a longer prompt", "calls")
    spend_usd: float = quantity("What they cost", "USD")
    excess_usd: float | Unidentifiable = quantity("Of it, what the prompt tokens above the limit cost", "USD")


class BudgetBreach(Result):
    """A budget, and how the window's spend compares with its share of it, as routing_costs has it."""

    of: LogName = Field(description="`total`, or the team")
    budget_usd_per_month: float = quantity("As configured", "USD/month")
    allowed_usd: float = quantity("The budget's share for the time of the window that the logs cover", "USD")
    spend_usd: float = quantity("Spent in the window", "USD")
    used: float | None = quantity("spend_usd / allowed_usd; null for a budget of 0", "1")
    breached: bool
    days_over: tuple[str, ...] = Field(description="UTC days that spent more than a day's share of the budget")


class CostDrivers(Result):
    """The answer to `identify_cost_drivers`."""

    main_table: ClassVar = "overuse"

    spend_usd: float | None = quantity("Total in the window, calls of every kind; null when nothing is priced", "USD")
    unpriced_attempts: int = quantity("Successful attempts without a cost, cache hits left out: spend is a lower bound", "attempts")
    quality_floor: str = Field(description="The floor that a cheaper model has to meet")
    overuse: tuple[Overuse, ...] = Field(description="Most avoidable dollars first")
    overuse_unknown: Unidentifiable | None = Field(default=None, description="Why overuse cannot be evaluated, where it cannot")
    avoidable_usd: Measured = quantity("Of all overuse together", "USD")
    waste: tuple[Waste, ...] = Field(description="Most dollars first")
    oversized_prompts: tuple[OversizedPrompts, ...] = Field(description="By task type, most dollars first")
    cached_prompt_share: float | None = quantity("Share of prompt tokens served from the provider's cache; null: not logged", "0..1")
    budgets: tuple[BudgetBreach, ...] = Field(description="Every configured budget, most used first")
    dear_tasks: tuple[DearTask, ...] = Field(description="Task types above the cost threshold per request")
    spikes: tuple[Spike, ...] = Field(description="Largest excess first")
    spikes_unknown: Unidentifiable | None = Field(default=None, description="Why spikes cannot be detected, where they cannot")
    change: ChangeParts | Unidentifiable = Field(description="Against the equal window before")
    grade: Grade | None = Field(description="Grade of the evidence behind overuse; null where there is none")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def cost_drivers(
    requests: ibis.Table,
    previous: ibis.Table,
    scope: AnalysisScope,
    evidence: RoutingEvidence,
    budgets: Sequence[BudgetUse] = (),
    earlier: EarlierHours | None = None,
) -> CostDrivers:
    """Where the money goes that need not go there, and why spend changed.

    Args:
        requests: rows of the window, grain one attempt (schema.SCOPED_REQUESTS), of every kind of call: the total, budgets and
            spikes are about all of them, the rest about chat.
        previous: rows of the equal window before, same schema; may be empty.
        scope: what they cover, and the budgets and thresholds asked for.
        evidence: what the logs can tell about choices not made.
        earlier: the lake's hours before a short window, for what is usual at an hour; None: the two windows alone.
        budgets: how the window's spend stands against each budget, as `routing_costs` found it.
    """
    calls, (priced, unpriced) = requests, _priced_calls(requests)
    hours, hours_before = spend_by_hour(requests), spend_by_hour(previous)
    requests, previous = chat_of(requests), chat_of(previous)
    sums = spend_cells(requests, scope)
    before = spend_cells(previous, scope)
    overuse, avoidable = _overuse(requests, scope, evidence, sums)
    oversized = _oversized(sums)
    # Hours at the edges of the window are whole in the lake and cut in its rows.
    known = hours_before | hours if earlier is None else hours_before | hours | earlier.spend()
    spikes = find_spikes(calls, scope, known, earlier) if priced else Unidentifiable(unidentifiable=NO_COST)
    return CostDrivers(
        spend_usd=math.fsum(spend for spend, _ in hours.values()) if priced else None,
        unpriced_attempts=unpriced,
        quality_floor=quality_floor(scope.parameters),
        overuse=tuple(overuse[:LISTED]),
        overuse_unknown=avoidable if isinstance(avoidable, Unidentifiable) and not overuse else None,
        avoidable_usd=avoidable,
        waste=_waste(requests, scope, evidence, sums, oversized),
        oversized_prompts=tuple(oversized[:LISTED]),
        cached_prompt_share=sums.cached_share,
        budgets=_breaches(budgets),
        dear_tasks=expensive_tasks(requests, scope),
        spikes=() if isinstance(spikes, Unidentifiable) else tuple(spikes[:LISTED]),
        spikes_unknown=spikes if isinstance(spikes, Unidentifiable) else None,
        change=change_parts(sums, before, scope),
        grade=None if evidence.refusal else evidence.grade,
        notices=_notices(scope, evidence, priced, unpriced),
    )


def _priced_calls(calls: ibis.Table) -> tuple[int, int]:
    """Attempts with a cost, and successful ones without any, cache hits left out."""
    is_answer = (calls.status == "success") & ~calls.is_cache_hit.fill_null(False)
    found = calls.agg(priced=calls.cost_usd.count(), unpriced=(is_answer & calls.cost_usd.isnull()).sum()).to_pyarrow().to_pylist()[0]
    return found["priced"], int(found["unpriced"] or 0)


def _notices(scope: AnalysisScope, evidence: RoutingEvidence, priced: int, unpriced: int) -> tuple[str, ...]:
    notices: list[str] = []
    if not priced:
        notices.append(NO_COST)
    elif unpriced:
        notices.append(f"{unpriced} successful attempts have no cost: every dollar figure is a lower bound; name their models' prices")
    if evidence.refusal is None and evidence.grade != "A":
        notices.append(f"evidence grade {evidence.grade}: avoidable spend is worth an A/B test, not a promise. {evidence.grade_reason}")
    if scope.parameters.budget is None and not scope.parameters.budgets_by_team and not scope.parameters.budgets_by_tier:
        notices.append("no budget is configured, so none can be exceeded; set --budget, or budgets_by_team in the configuration")
    if scope.parameters.cost_threshold is None:
        notices.append("no cost threshold was given; give --cost-threshold to see which task types cost more per request")
    return tuple(notices)


# --- overuse of dear models -----------------------------------------------------------------------------------------------------------


def _overuse(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, sums: SpendCells) -> tuple[list[Overuse], Measured]:
    """Spend by task type and dear model where a cheaper one meets the floor, and what all of it together would have saved."""
    if not sums.priced_attempts:
        return [], Unidentifiable(unidentifiable=NO_COST)
    if evidence.refusal:
        return [], Unidentifiable(unidentifiable=evidence.refusal)
    segments = evidence.segments or evidence.tasks
    spent = sorted(_spend_by_segment(requests, scope, segments).items())
    picked = [
        (segments[place].task_type, model, part)
        for (place, model), (n, spend) in spent
        if (part := _cheaper(segments[place], model, n, spend, scope)) is not None
    ]
    adjusted = false_discovery_adjusted([chance for *_, (_, chance) in picked])
    found: dict[tuple[str, str], list[OverusedSegment]] = defaultdict(list)
    for (task, model, (overused, _)), chance in zip(picked, adjusted, strict=True):
        if chance <= FALSE_DISCOVERY_RATE:
            found[task, model].append(overused)
    overuse = [_overused(task, model, parts, sums) for (task, model), parts in found.items()]
    overuse.sort(key=lambda each: (-point(each.avoidable_usd), each.task_type, each.model))
    if not overuse:
        return [], Unidentifiable(unidentifiable="in no segment a cheaper model is shown to meet the quality floor; score more answers")
    return overuse, weighted_sum([(1.0, each.avoidable_usd) for each in overuse])


def _spend_by_segment(
    requests: ibis.Table, scope: AnalysisScope, segments: Sequence[SegmentEvidence]
) -> dict[tuple[int, str], tuple[int, float]]:
    """Requests and spend by place of the segment and model chosen first."""
    final = requests.filter(requests.is_final)
    final = fold_rare(final.mutate(place=segment_place(final, [segment.when for segment in segments])), "routed_model", len(scope.models))
    rows = final.group_by("place", "routed_model").agg(n=final.count(), spend=final.request_cost_usd.sum())
    return {
        (row["place"], row["routed_model"]): (row["n"], row["spend"])
        for row in rows.to_pyarrow().to_pylist()
        if row["place"] is not None and row["spend"]
    }


def _cheaper(segment: SegmentEvidence, model: str, n: int, spend: float, scope: AnalysisScope) -> tuple[OverusedSegment, float] | None:
    """The cheapest model that keeps completion and the quality floor, if one is cheaper, and the chance that it is not.

    The model is picked on one half of the sessions; what it would have saved is told of the other (`analysis.choices`).
    Avoidable: the model's spend x (1 - cost of the cheaper model / cost of the model), both had the whole segment gone there,
    so that the model's own longer or shorter requests stay in the spend.
    """
    arms: dict[str, ArmEvidence] = {arm.model: arm for arm in segment.arms}
    expensive = arms.get(model)
    if expensive is None or not expensive.supported:
        return None

    def relative(arm: ArmEvidence, half: Half) -> Measured:
        return ratio(*(_cost_on(segment, each, half) for each in (arm, expensive)))

    safe = [arm for arm in segment.arms if arm.model != model and _meets_floor(expensive, arm, choice(segment, arm), scope)]
    promised = [(found.estimate, arm.model) for arm in safe if isinstance(found := relative(arm, "learnt"), Estimate)]
    if not promised or min(promised)[0] >= 1.0:
        return None
    best = arms[min(promised)[1]]
    seen = relative(best, "held_out")
    if not isinstance(seen, Estimate):
        return None
    avoidable = seen.scaled(-spend).shifted(spend).within(-math.inf, spend)
    part = OverusedSegment(
        segment=segment.id, label=segment.label, replacement=best.model, requests=n, spend_usd=spend, avoidable_usd=avoidable
    )
    return part, chance_not_below_one(seen)


def _cost_on(segment: SegmentEvidence, arm: ArmEvidence, half: Half) -> Measured:
    """Cost of a segment's requests at a model, by one half of the sessions: today's cost and what that half says of the change."""
    change = choice(segment, arm, half).cost_change_usd
    if isinstance(change, Unidentifiable) or isinstance(segment.cost_usd, Unidentifiable):
        return change if isinstance(change, Unidentifiable) else segment.cost_usd
    return change.shifted(segment.cost_usd.estimate)


def _meets_floor(expensive: ArmEvidence, cheaper: ArmEvidence, instead: Choice, scope: AnalysisScope) -> bool:
    """Whether the cheaper model keeps the guards for the whole segment, and moving the dear model's share alone keeps them too."""
    asked = scope.parameters
    if keeps_guards(instead, "cost", asked) != "holds":
        return False
    moved = weighted_sum([(expensive.share, difference(cheaper.quality, expensive.quality))])
    return isinstance(moved, Estimate) and moved.low >= -asked.max_quality_drop


def _overused(task: str, model: str, parts: list[OverusedSegment], sums: SpendCells) -> Overuse:
    by_replacement: dict[str, float] = defaultdict(float)
    for part in parts:
        by_replacement[part.replacement] += part.spend_usd
    spend = math.fsum(part.spend_usd for part in parts)
    return Overuse(
        model=model,
        task_type=task,
        tier=sums.tiers.get(model),
        replacement=min(by_replacement, key=lambda name: (-by_replacement[name], name)),
        requests=sum(part.requests for part in parts),
        spend_usd=spend,
        share_of_spend=spend / sums.spend_usd if sums.spend_usd else 0.0,
        avoidable_usd=weighted_sum([(1.0, part.avoidable_usd) for part in parts]),
        segments=tuple(sorted(parts, key=lambda part: (-part.spend_usd, part.segment))),
    )


# --- waste ----------------------------------------------------------------------------------------------------------------------------


def _waste(
    requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, sums: SpendCells, oversized: Sequence[OversizedPrompts]
) -> tuple[Waste, ...]:
    found = [
        _failures(sums),
        _retries(sums),
        _fallbacks(requests, scope, evidence, sums),
        _repeats(),
        _oversized_in_all(sums, oversized),
    ]
    return tuple(sorted(found, key=lambda each: (-each.spend_usd if isinstance(each.spend_usd, float) else 1.0, each.kind)))


NOTHING = Estimate(estimate=0.0, low=0.0, high=0.0)


def _none(kind: WasteKind, explanation: str) -> Waste:
    """What is known to be none costs nothing."""
    return Waste(kind=kind, count=0, spend_usd=0.0, excess_usd=NOTHING, explanation=explanation)


def _failures(sums: SpendCells) -> Waste:
    explanation = "Failed or cancelled attempts that were charged."
    if not sums.priced_attempts:
        unpriced = Unidentifiable(unidentifiable=NO_COST)
        return Waste(kind="failed_paid_attempts", spend_usd=unpriced, excess_usd=unpriced, explanation=explanation)
    if not sums.paid_failures:
        return _none("failed_paid_attempts", explanation)
    return Waste(
        kind="failed_paid_attempts",
        count=sums.paid_failures,
        spend_usd=sums.paid_failures_usd,
        excess_usd=Unidentifiable(unidentifiable="how many of the failures could have been avoided is not in the logs"),
        explanation=explanation,
    )


def _retries(sums: SpendCells) -> Waste:
    if not sums.asked_again:
        if sums.retries_logged:
            return _none("retries", "The logs show no retries.")
        unseen = Unidentifiable(unidentifiable="The gateway reports no number of retries; log it.")
        return Waste(kind="retries", spend_usd=unseen, excess_usd=unseen, explanation=unseen.unidentifiable)
    unknown = Unidentifiable(
        unidentifiable="tries that the gateway made again within one logged attempt have no cost of their own; log every try as an attempt"
    )
    return Waste(
        kind="retries",
        count=sums.asked_again,
        spend_usd=unknown,
        excess_usd=unknown,
        explanation="Requests that the same model was asked again for. A failed try that is logged with a cost counts under failed paid attempts.",
    )


def _fallbacks(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, sums: SpendCells) -> Waste:
    """What answers of a second choice cost above what the first choice would have cost for the same task type."""
    count = sums.fell_back
    explanation = (
        "Requests answered by another model than the first choice, compared with that model's cost for the same task type; negative: "
        "they were cheaper."
    )
    if not count:
        return _none("fallbacks", explanation)
    rows = requests.filter(fell_back(requests), requests.cost_usd.notnull())
    rows = rows.mutate(instead_of=ibis.coalesce(rows.fallback_from, rows.routed_model))
    for column, names in (("task_type", scope.task_types), ("model", scope.models), ("instead_of", scope.models)):
        rows = fold_rare(rows, column, len(names))
    spends = rows.group_by("task_type", "instead_of", "model").agg(spend=rows.cost_usd.sum()).to_pyarrow().to_pylist()
    spend = math.fsum(row["spend"] for row in spends)
    if not spends:
        nothing = Unidentifiable(unidentifiable="no fallback has a cost; enable cost tracking in the gateway, or name the models' prices")
        return Waste(kind="fallbacks", count=count, spend_usd=nothing, excess_usd=nothing, explanation=explanation)
    costs = {(task.task_type, arm.model): choice(task, arm).cost_usd for task in evidence.tasks for arm in task.arms}
    unseen = Unidentifiable(unidentifiable=evidence.refusal or "the evidence does not cover the models involved")
    parts = [
        (
            row["spend"],
            ratio(costs.get((row["task_type"], row["instead_of"]), unseen), costs.get((row["task_type"], row["model"]), unseen)),
        )
        for row in spends
    ]
    known = [(float(paid), share) for paid, share in parts if isinstance(share, Estimate)]
    compared = math.fsum(paid for paid, _ in known)
    if not known:
        return Waste(kind="fallbacks", count=count, spend_usd=spend, excess_usd=parts[0][1], explanation=explanation)
    usual = weighted_sum(known)
    if spend and compared / spend < 1:
        explanation += f" Could be compared: {100 * compared / spend:.0f} % of the spend."
    return Waste(kind="fallbacks", count=count, spend_usd=spend, excess_usd=_above(compared, usual), explanation=explanation)


def _above(paid: float, usual: Measured) -> Measured:
    if isinstance(usual, Unidentifiable):
        return usual
    return usual.scaled(-1.0).shifted(paid)


def _repeats() -> Waste:
    unseen = Unidentifiable(
        unidentifiable="the logs have no hash of the prompt, so repeats cannot be detected; log one (no text is needed)"
    )
    return Waste(
        kind="uncached_repeats",
        spend_usd=unseen,
        excess_usd=unseen,
        explanation="Repeated prompts that a response cache would have answered.",
    )


def _oversized(sums: SpendCells) -> list[OversizedPrompts]:
    """Prompts beyond about 4 times their task's median, from counts by length; the limit is the lower end of a step."""
    found = []
    for task in sorted({task for task, _ in sums.cells}):
        cells = {model: cell for (name, model), cell in sums.cells.items() if name == task and cell.calls}
        if cells and (oversized := _oversized_on(task, cells, sums)) is not None:
            found.append(oversized)
    return sorted(found, key=lambda each: (-each.spend_usd, each.task_type))


def _oversized_on(task: str, cells: dict[str, SpendCell], sums: SpendCells) -> OversizedPrompts | None:
    first = median_step(cells.values()) + math.ceil(math.log(OVERSIZED) / math.log(STEP_RATIO))
    limit = STEP_RATIO**first
    above = {model: [step for k, step in cell.by_length.items() if k >= first] for model, cell in cells.items()}
    above = {model: steps for model, steps in above.items() if steps}
    if not above:
        return None
    excess = [
        cells[model].prompt_usd(prices) * math.fsum(max(step.prompt_tokens - limit * step.calls, 0.0) for step in steps)
        for model, steps in above.items()
        if (prices := sums.prices[model]) is not None
    ]
    unknown = Unidentifiable(unidentifiable="tokens do not explain what some of these calls cost, so the excess has no price")
    longer = [step for steps in above.values() for step in steps]
    return OversizedPrompts(
        task_type=task,
        limit_tokens=math.ceil(limit),
        calls=sum(step.calls for step in longer),
        spend_usd=math.fsum(step.spend_usd for step in longer),
        excess_usd=math.fsum(excess) if len(excess) == len(above) else unknown,
    )


def _oversized_in_all(sums: SpendCells, oversized: Sequence[OversizedPrompts]) -> Waste:
    explanation = "Prompts beyond about 4 times the median of their task type, and the cost of their tokens above that: worth reviewing, not all of it waste."
    if not any(cell.calls for cell in sums.cells.values()):
        unseen = Unidentifiable(unidentifiable="no attempt has both tokens and a cost; log the usage that the provider returns")
        return Waste(kind="oversized_prompts", spend_usd=unseen, excess_usd=unseen, explanation=explanation)
    if not oversized:
        return _none("oversized_prompts", explanation)
    spend = math.fsum(each.spend_usd for each in oversized)
    counted = Unidentifiable(unidentifiable=_above_the_limits([each.excess_usd for each in oversized]))
    return Waste(
        kind="oversized_prompts",
        count=sum(each.calls for each in oversized),
        spend_usd=spend,
        excess_usd=counted,
        explanation=explanation,
    )


def _above_the_limits(excess: Sequence[float | Unidentifiable]) -> str:
    """What the tokens above the limits cost in all task types together, and why that is not all avoidable."""
    known = [each for each in excess if not isinstance(each, Unidentifiable)]
    unknown = next((each.unidentifiable for each in excess if isinstance(each, Unidentifiable)), None)
    if unknown is not None and not known:
        return unknown
    least = "" if unknown is None else "at least "
    return f"{least}{usd(math.fsum(known))} was spent on prompt tokens above the limits; the logs do not show how many of them were needed"


# --- budgets --------------------------------------------------------------------------------------------------------------------------


def _breaches(budgets: Sequence[BudgetUse]) -> tuple[BudgetBreach, ...]:
    found = [
        BudgetBreach(
            of="total" if use.of is None else use.of,
            budget_usd_per_month=use.budget_usd_per_month,
            allowed_usd=use.window_allowed_usd,
            spend_usd=use.window_usd,
            used=use.window_usd / use.window_allowed_usd if use.window_allowed_usd > 0 else None,
            breached=bool(use.breached),
            days_over=use.days_over,
        )
        for use in budgets
        if isinstance(use.window_usd, float) and isinstance(use.window_allowed_usd, float)
    ]
    return tuple(sorted(found, key=lambda each: (-math.inf if each.used is None else -each.used, each.of)))
