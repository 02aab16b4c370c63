"""`monitoring_plan`: what to watch while a change rolls out, how long each step takes, and when to roll back.

Belongs here: canary steps with sample sizes, and where the boundary will lie. Does not belong here: the boundary itself (`stats.sequence`),
looking at a canary (`canary`), the KPIs (`kpis`), measuring what came of it (`realized_outcomes`), sending alerts (`alerts`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import ibis
from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.exploration import WINDOWS_DAYS, Trial, requests_to_judge, trials_of
from routing_pipeline.policy.segments import MAX_PARTS
from routing_pipeline.recommendation.applied_limits import quality_floor
from routing_pipeline.recommendation.canary import ALPHA, ALPHA_GO_ON, LEAST_MARGIN, POWER, WIDEST_MARGIN, beyond, margin_of
from routing_pipeline.recommendation.kpis import Kpi, kpis
from routing_pipeline.recommendation.routing_rules import RoutingRules, quality_change
from routing_pipeline.stats.inference import proportion_interval, standard_error
from routing_pipeline.stats.sequence import critical_of_distances, information_to_tell, parts_of_alpha
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

PURPOSES: dict[float, str] = {
    0.01: "Basic function: errors, timeouts, wrong models",
    0.05: "Costs and errors as expected",
    0.25: "A full week at a size that shows quality",
    0.50: "Decision on quality",
    1.0: "All sessions",
}
"""What each canary step is for, by its share."""
GO_ON = "No check crossed its boundary, and no other KPI its alert threshold"
ROLL_BACK = "A check crosses its boundary, or errors, latency or cost cross their alert threshold"
GO_ON_AT_THE_END = "The following week is within the forecast intervals (realized outcomes of the next report)"
ROLL_BACK_AT_THE_END = "A KPI crosses its alert threshold; no control group is left to compare quality with"
CANARY_STEPS: tuple[tuple[float, int], ...] = ((0.01, 2), (0.05, 5), (0.25, 7), (0.50, 7), (1.0, 7))
"""Share of the sessions, and the fewest days at it: the first two steps make up one full week."""
LONGEST_STEP_DAYS = 30
LOOK_DAYS: tuple[int, ...] = (1, 2, 3, 5, 7, 10, 14, 21, 30)
LONGEST_EXPLORATION_DAYS = max(WINDOWS_DAYS)
EXPLORED_WITH_RULES = 0.02
EXPLORED_WITHOUT = 0.05
LEAST_EXPLORED = 0.01
"""Of the requests, to each model that is explored: with less, a model is too rare in its context for the logs to tell."""
EXPLORED_TRAFFIC = 0.8
"""Exploring goes on until the largest kinds of request, making up this share of traffic, can be judged."""


class Look(Result):
    """The boundary of one day of a canary: turn back when the observed difference in quality is below it."""

    day: int
    labelled: float = quantity("Labelled requests in the canary by then", "requests")
    rollback_below: float = quantity("Canary's mean quality less control's", "0..1")


class CanaryStep(Result):
    """One step of the rollout."""

    share: float = quantity("Share of the sessions that the rules touch", "0..1")
    purpose: str
    requests_needed: int | None = quantity(
        "In the canary at this share, until the sequence excludes a fall of the margin at power 0.8", "requests", default=None
    )
    days_needed: float | None = quantity("To see so many", "days", default=None)
    planned_days: float = quantity("To stay at this step", "days")
    detectable_drop: float | None = quantity("Smallest fall of quality that the planned days show at power 0.8", "0..1", default=None)
    looks: tuple[Look, ...] = ()
    go_on_when: str
    roll_back_when: str


class Spread(Result):
    """How quality varies, within and between sessions: what sample sizes follow from."""

    labelled: int = quantity("Requests with a quality", "requests")
    sessions: int = quantity("Sessions among them", "sessions")
    standard_deviation: float = quantity("Of quality between requests", "0..1")
    per_session: float = quantity("Labelled requests per session, weighted by size", "requests")
    intraclass_correlation: float = quantity("Share of the variance that lies between sessions", "0..1")
    label_rate: float = quantity("Share of successful requests that get a quality", "0..1")
    basis: str = Field(description="Where these numbers come from")

    @property
    def design_effect(self) -> float:
        """1 + (m - 1) rho: how much larger a sample of sessions has to be than one of requests (Kish 1965)."""
        return 1 + max(self.per_session - 1, 0.0) * self.intraclass_correlation


class Exploration(Result):
    """What to randomise so that the logs can tell."""

    share: float = quantity("Share of requests to route at random among the candidates", "0..1")
    models: tuple[LogName, ...]
    days: float | None = quantity("Until the logs can decide; null when the rate of labels is unknown", "days", default=None)
    requests: int | None = quantity("Requests needed for it", "requests", default=None)
    decides: bool = Field(
        default=True,
        description="Whether it is worth starting: unless it is known to take longer than any analysis looks back (30 days), for want of traffic",
    )
    added_cost_usd_per_day: Measured = quantity("What exploring costs on top of today's spend", "USD/day")
    how: str


class MonitoringPlan(Result):
    """KPIs, canary and stopping rule for the recommended change, or the exploration to run when there is none."""

    kpis: tuple[Kpi, ...]
    margin: float = quantity(
        "Fall of quality on the requests that the rules decide which the canary must exclude; negative: the gain that it must show", "0..1"
    )
    margin_text: str
    power: float = quantity("Of the sequence when nothing changes, at the sample that is planned", "0..1")
    alpha: float = quantity("Chance that a fall of the margin or more goes on to all sessions, over all looks", "0..1")
    guardrail_alpha: float = quantity("Chance that a harmless change is rolled back, over all looks and all that is watched", "0..1")
    spread: Spread | Unidentifiable
    steps: tuple[CanaryStep, ...]
    sequential: str = Field(description="How to check every day without raising false alarms")
    exploration: Exploration | None = None
    trials: tuple[Trial, ...] = Field(
        default=(), description="Where the logs cannot tell: what `exploration.json` would try, and what it takes"
    )
    collect: tuple[str, ...] = Field(description="What to start logging")
    verdict: str = Field(description="One sentence for a manager")


def canary_sample(
    standard_deviation: float, margin: float, *, control_ratio: float, design_effect: float, label_rate: float, power: float = POWER
) -> float:
    """Requests in the canary after which its sequence excludes a fall of `margin`, when there truly is none.

    n = I sigma^2 (1 + 1/r) DEFF / label rate, with r requests of control per request of canary and the information I = 1 / SE^2 that
    the sequence needs (`stats.sequence.information_to_tell`; DEFF after Kish 1965).
    """
    information = information_to_tell(margin, ALPHA_GO_ON, power)
    return information * standard_deviation**2 * (1 + 1 / control_ratio) * design_effect / label_rate


def quality_spread(requests: ibis.Table) -> Spread | Unidentifiable:
    """How quality varies within and between sessions, from one pass over the rows.

    Intraclass correlation from one-way analysis of variance with unequal sessions (Donner 1986):
    rho = (MSB - MSW) / (MSB + (m0 - 1) MSW).
    """
    scored = requests.filter(requests.is_final, requests.status == "success")
    session = ibis.coalesce(scored.session_id, scored.request_id)
    by_session = scored.group_by(session=session).agg(
        answered=scored.count(),
        n=scored.quality.count().cast("float64"),
        total=scored.quality.sum().fill_null(0.0),
        squares=(scored.quality * scored.quality).sum().fill_null(0.0),
    )
    labelled = by_session.n > 0
    sums = (
        by_session.agg(
            answered=by_session.answered.sum(),
            sessions=labelled.sum(),
            n=by_session.n.sum(),
            n_squared=(by_session.n * by_session.n).sum(),
            total=by_session.total.sum(),
            squares=by_session.squares.sum(),
            between=ibis.ifelse(labelled, by_session.total * by_session.total / by_session.n, 0.0).sum(),
        )
        .to_pyarrow()
        .to_pylist()[0]
    )
    if (sums["n"] or 0) < 2:
        return Unidentifiable(unidentifiable="fewer than 2 requests have a quality; collect scores before planning a test on quality")
    return _spread(sums)


def _spread(sums: dict[str, float]) -> Spread | Unidentifiable:
    n, sessions = sums["n"], sums["sessions"]
    variance = max(sums["squares"] - sums["total"] ** 2 / n, 0.0) / (n - 1)
    if variance <= 0:
        return Unidentifiable(unidentifiable=f"all {n:.0f} scores are equal; they do not show how quality varies")
    rho = 0.0
    if 1 < sessions < n:
        between = (sums["between"] - sums["total"] ** 2 / n) / (sessions - 1)
        within = max(sums["squares"] - sums["between"], 0.0) / (n - sessions)
        usual = (n - sums["n_squared"] / n) / (sessions - 1)
        rho = min(max((between - within) / (between + (usual - 1) * within), 0.0), 1.0)
    return Spread(
        labelled=int(n),
        sessions=int(sessions),
        standard_deviation=math.sqrt(variance),
        per_session=sums["n_squared"] / n,
        intraclass_correlation=rho,
        label_rate=n / sums["answered"],
        basis=f"measured on {n:,.0f} scored requests of {sessions:,.0f} sessions",
    )


def spread_from_evidence(scope: AnalysisScope, evidence: RoutingEvidence) -> Spread | Unidentifiable:
    """The same read back from the intervals of today's quality by task: their width holds the sessions' part already."""
    known = [(task, task.quality) for task in evidence.tasks if isinstance(task.quality, Estimate) and task.labelled > 1]
    labelled = sum(task.labelled for task, _ in known)
    if not known or scope.requests == 0:
        return Unidentifiable(unidentifiable="no request has a quality; collect scores before planning a test on quality")
    variance = sum(task.labelled * task.labelled * standard_error(quality) ** 2 for task, quality in known) / labelled
    if variance <= 0:
        return Unidentifiable(unidentifiable="the scores do not vary; they do not show how many scores a test needs")
    return Spread(
        labelled=labelled,
        sessions=scope.sessions,
        standard_deviation=math.sqrt(variance),
        per_session=1.0,
        intraclass_correlation=0.0,
        label_rate=min(labelled / scope.requests, 1.0),
        basis="derived from the intervals of today's quality, which include the variation between sessions",
    )


def monitoring_plan(
    scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, requests: ibis.Table | None = None
) -> MonitoringPlan:
    """Plan the rollout of the proposed rules; without rules, plan the exploration that would let the logs tell.

    Args:
        scope: window and parameters; its rate of requests sets the days.
        evidence: today's outcomes by task, and which models nothing can be said of.
        rules: what was proven, if anything was.
        requests: rows of the window (schema.SCOPED_REQUESTS), to measure how quality varies between sessions; without
            them it is read back from the evidence's intervals.
    """
    spread = spread_from_evidence(scope, evidence) if requests is None else quality_spread(requests)
    has_rules = bool(rules.rule_set.rules)
    fall = _allowed_fall(scope, rules)
    decided = decided_share(scope, rules)
    margin = margin_of(fall, decided)
    steps = _steps(scope, rules, spread, margin) if has_rules else ()
    exploration = _exploration(scope, evidence, rules, spread)
    return MonitoringPlan(
        kpis=kpis(
            evidence,
            rules,
            (spread.labelled, spread.label_rate) if isinstance(spread, Spread) else None,
            None if requests is None else _completed(requests),
        ),
        margin=margin,
        margin_text=_margin_text(decided, fall, margin),
        power=POWER,
        alpha=ALPHA_GO_ON,
        guardrail_alpha=math.fsum(ALPHA.values()),
        spread=spread,
        steps=steps,
        sequential=(
            "Check as often as you like: one confidence sequence runs over all steps, on the requests that the rules decide, canary against "
            f"control. A harmless change is rolled back in at most {100 * math.fsum(ALPHA.values()):.0f} % of roll-outs, and one that falls "
            f"by the margin or more reaches all sessions in at most {100 * ALPHA_GO_ON:.0f} %. Sessions stay in the arm they were assigned to."
        ),
        exploration=exploration,
        trials=trials_of(evidence, scope, rules.rule_set),
        collect=_collect(scope),
        verdict=_verdict(steps, exploration),
    )


def _completed(requests: ibis.Table) -> Measured:
    """Share of requests that ended well: the same figure, with the same interval, as routing_analytics has."""
    final = requests.filter(requests.is_final)
    counted = final.agg(n=final.count(), well=(final.status == "success").sum().fill_null(0)).to_pyarrow().to_pylist()[0]
    return proportion_interval(counted["well"], counted["n"])


def _collect(scope: AnalysisScope) -> tuple[str, ...]:
    missing = tuple(f"{source.name}: {source.consequence}" for source in scope.sources if not source.present)
    if scope.days_to_collect:
        days = math.ceil(scope.days_to_collect)
        return (f"at least {days} more day{'' if days == 1 else 's'} of logs like these", *missing)
    return missing


def _verdict(steps: tuple[CanaryStep, ...], exploration: Exploration | None) -> str:
    if steps:
        total = sum(step.planned_days for step in steps)
        return f"Roll out in {len(steps)} steps over about {total:.0f} days; roll back as soon as a daily check crosses its boundary."
    if exploration is None:
        return "Nothing to roll out, and with only one model there is nothing to explore. Watch the KPIs."
    if not exploration.decides:
        return (
            "Nothing to roll out yet, and with so little traffic exploring would not give an answer within "
            f"{LONGEST_EXPLORATION_DAYS} days. Collect more logs, or explore a larger share on fewer kinds of request."
        )
    length = "until there is enough evidence" if exploration.days is None else f"for about {math.ceil(exploration.days)} days"
    return f"Nothing to roll out yet: route {100 * exploration.share:.0f} % of requests at random {length}, log the probabilities, and run the analysis again."


def _allowed_fall(scope: AnalysisScope, rules: RoutingRules) -> float:
    """Today's quality less the floor that the rules were held to; negative where quality has to rise."""
    floor = quality_floor(rules.rule_set)
    return scope.parameters.max_quality_drop if floor is None else floor.allowed_fall


def decided_share(scope: AnalysisScope, rules: RoutingRules) -> float:
    """Requests for which a rule that changes something holds, of all: those that canary and control are compared on."""
    decided = sum(rule.evidence.requests for rule in rules.rule_set.rules if rule.route != "unchanged")
    return min(max(decided / max(scope.requests, 1), rules.moved_share), 1.0)


def _margin_text(decided: float, fall: float, margin: float) -> str:
    told = f"The rules decide {100 * decided:.0f} % of requests"
    if fall < 0:
        gain = f", so those must gain {-margin * 100:.1f} points" if decided > 0 else ""
        return f"Over all requests, quality has to rise by {-fall * 100:.1f} points to reach the floor. {told}{gain}."
    if decided <= 0:
        return f"No request moves; mean quality is watched for a fall of {fall * 100:.1f} points."
    return (
        f"Over all requests, quality may fall by {fall * 100:.1f} points. {told}, so those may lose "
        f"{margin * 100:.1f} points (at most {max(WIDEST_MARGIN, fall) * 100:.0f})."
    )


def _distance(rules: RoutingRules, decided: float, margin: float) -> float:
    """What a test must tell apart: no change from a fall of the margin; where quality has to rise, the gain expected from the one needed."""
    if margin > 0:
        return margin
    expected = quality_change(rules)
    gain = expected.estimate / decided if isinstance(expected, Estimate) and decided > 0 else 0.0
    return max(gain + margin, LEAST_MARGIN)


def _steps(scope: AnalysisScope, rules: RoutingRules, spread: Spread | Unidentifiable, margin: float) -> tuple[CanaryStep, ...]:
    decided = decided_share(scope, rules)
    per_day = scope.requests / scope.covered_days * decided if scope.covered_days > 0 else 0.0
    distance = _distance(rules, decided, margin)
    steps: list[CanaryStep] = []
    before = 0.0
    for share, least_days in CANARY_STEPS:
        step, before = _step(share, least_days, per_day, spread, (margin, distance), before)
        steps.append(step)
    return tuple(steps)


def _step(
    share: float, least_days: int, per_day: float, spread: Spread | Unidentifiable, asked: tuple[float, float], before: float
) -> tuple[CanaryStep, float]:
    """A step, and the weight h = n m / (n + m) of scored requests that there is after it; `before`: that of the steps before it."""
    margin, distance = asked
    if share == 1.0:
        everybody = CanaryStep(
            share=share,
            purpose=PURPOSES[share],
            planned_days=least_days,
            go_on_when=GO_ON_AT_THE_END,
            roll_back_when=ROLL_BACK_AT_THE_END,
        )
        return everybody, before
    if isinstance(spread, Unidentifiable) or per_day <= 0:
        plain = CanaryStep(share=share, purpose=PURPOSES[share], planned_days=least_days, go_on_when=GO_ON, roll_back_when=ROLL_BACK)
        return plain, before
    needed = canary_sample(
        spread.standard_deviation,
        distance,
        control_ratio=(1 - share) / share,
        design_effect=spread.design_effect,
        label_rate=spread.label_rate,
    )
    days_needed = needed / (share * per_day)
    planned = float(min(max(least_days, math.ceil(days_needed)), LONGEST_STEP_DAYS)) if share == 0.5 else float(least_days)
    scored_per_day = per_day * spread.label_rate
    weight_per_day = scored_per_day * share * (1 - share)
    looks = tuple(
        Look(
            day=day,
            labelled=day * scored_per_day * share,
            rollback_below=_turned_back_below(before + day * weight_per_day, spread, margin),
        )
        for day in LOOK_DAYS
        if day <= planned
    )
    go_on = GO_ON
    if share == 0.5:
        go_on = f"The lower bound of the difference in quality is above {-margin * 100:+.1f} points; nothing else crossed its boundary"
    step = CanaryStep(
        share=share,
        purpose=PURPOSES[share],
        requests_needed=math.ceil(needed),
        days_needed=days_needed,
        planned_days=planned,
        detectable_drop=min(distance * math.sqrt(days_needed / planned), 1.0),
        looks=looks,
        go_on_when=go_on,
        roll_back_when=ROLL_BACK,
    )
    return step, before + planned * weight_per_day


def _turned_back_below(weight: float, spread: Spread, margin: float) -> float:
    """The observed difference below which a fall of the margin or more is sure, after so much."""
    error = spread.standard_deviation * math.sqrt(spread.design_effect / weight)
    wide = critical_of_distances(1 / error**2, ALPHA["quality"] * parts_of_alpha(1)[0], beyond(margin))
    return max(-margin - wide * error, -1.0)


def _exploration(
    scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, spread: Spread | Unidentifiable
) -> Exploration | None:
    share = EXPLORED_WITH_RULES if rules.rule_set.rules else EXPLORED_WITHOUT
    models = _to_explore(scope, evidence, round(share / LEAST_EXPLORED))
    if len(models) < 2:
        return None
    rate = spread.label_rate if isinstance(spread, Spread) else None
    needed, days = _exploration_needs(scope, evidence, rules, share, len(models), rate)
    return Exploration(
        share=share,
        models=models,
        days=days,
        requests=needed,
        decides=days is None or days <= LONGEST_EXPLORATION_DAYS,
        added_cost_usd_per_day=_exploration_cost(scope, evidence, share, models),
        how=(
            f"Send a random {100 * share:.0f} % of sessions to one of these models, each with the same probability, and log that probability "
            "(column propensity) with every request. The logs can then tell for each of them."
        ),
    )


def _to_explore(scope: AnalysisScope, evidence: RoutingEvidence, most: int) -> tuple[str, ...]:
    """Models of the window, those first of which the logs can say least; as many as the share that is explored bears."""
    known: dict[str, float] = {}
    for segment in evidence.segments:
        for arm in segment.arms:
            known[arm.model] = known.get(arm.model, 0.0) + (segment.share if arm.supported else 0.0)
    return tuple(sorted(scope.models, key=lambda model: (known.get(model, 0.0), model))[:most])


def _exploration_needs(
    scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, share: float, models: int, label_rate: float | None
) -> tuple[int | None, float | None]:
    """Requests and days until the largest kinds (four fifths of traffic) have enough of every explored model, however finely they are cut."""
    per_day = scope.requests / scope.covered_days if scope.covered_days > 0 else 0.0
    kinds: dict[str, list[SegmentEvidence]] = {}
    for segment in evidence.segments:
        kinds.setdefault(segment.id.split(".")[0], []).append(segment)
    ordered = sorted(((math.fsum(each.share for each in parts), parts) for parts in kinds.values()), key=lambda each: -each[0])
    largest = ordered[: len(_largest([share for share, _ in ordered], EXPLORED_TRAFFIC))]
    if per_day <= 0 or not largest or not label_rate:
        return None, None
    # Where answers are scored less often, more of them are needed; more traffic lets evidence cut a kind into more parts.
    per_arm = [
        requests_to_judge(min(label_rate, *(each.labelled / max(each.requests, 1) for each in parts)) or label_rate) * MAX_PARTS / share
        for share, parts in largest
    ]
    hypothesis = rules.hypothesis.requests_needed if rules.hypothesis is not None else None
    all_requests = max(max(per_arm) * models / share, float(hypothesis or 0))
    return math.ceil(all_requests), all_requests / per_day


def _largest(shares: Sequence[float], of_traffic: float) -> list[float]:
    """The first shares that together reach `of_traffic`."""
    found: list[float] = []
    for share in shares:
        if share <= 0 or math.fsum(found) >= of_traffic:
            break
        found.append(share)
    return found


def _exploration_cost(scope: AnalysisScope, evidence: RoutingEvidence, share: float, models: tuple[str, ...]) -> Measured:
    """Share * requests per day * mean change of cost over the explored models, where the logs can tell it."""
    estimate = low = high = known = 0.0
    for segment in evidence.segments:
        changes = _cost_changes(segment, models)
        if changes:
            known += segment.share
            estimate += segment.share * sum(each.estimate for each in changes) / len(changes)
            low += segment.share * sum(each.low for each in changes) / len(changes)
            high += segment.share * sum(each.high for each in changes) / len(changes)
    if known < 0.5:
        return Unidentifiable(unidentifiable="for most of the traffic the logs do not show what the explored models would cost")
    per_day = share * scope.requests / scope.covered_days / known
    return Estimate(estimate=estimate * per_day, low=low * per_day, high=high * per_day)


def _cost_changes(segment: SegmentEvidence, models: tuple[str, ...]) -> list[Estimate]:
    return [
        arm.cost_change_usd for arm in segment.arms if arm.model in models and arm.supported and isinstance(arm.cost_change_usd, Estimate)
    ]
