"""`monitoring_plan`: what to watch while a change rolls out, how long each step takes, and when to turn back.

Belongs here: KPIs with thresholds, canary steps with sample sizes, and the boundary that stays valid at every look. Does
not belong here: measuring what came of it (`realized_outcomes`), sending alerts (`alerts`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import ibis
from pydantic import Field
from scipy import stats

from routing_pipeline.comparisons import around, standard_error
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, proportion_interval, quantity
from routing_pipeline.policy.evidence_model import RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.exploration import Trial, trials_of
from routing_pipeline.policy.scores import MIN_LABELS, MIN_SENT
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.scope import AnalysisScope

CANARY_STEPS: tuple[tuple[float, int], ...] = ((0.01, 2), (0.05, 5), (0.25, 7), (0.50, 7), (1.0, 7))
"""Share of the sessions, and the fewest days at it: the first two steps make up one full week."""
LONGEST_STEP_DAYS = 30
ALPHA = 0.025
POWER = 0.8
GUARDRAIL_ALPHA = 0.05
WIDEST_MARGIN = 0.05
"""However little traffic moves, its own quality must not fall by more than this."""
COMPLETION_MARGIN = 0.005
LATENCY_MARGIN = 0.10
LOOK_DAYS: tuple[int, ...] = (1, 2, 3, 5, 7, 10, 14, 21, 30)
LONGEST_EXPLORATION_DAYS = 90
EXPLORED_WITH_RULES = 0.02
EXPLORED_WITHOUT = 0.05
MAX_EXPLORED_MODELS = 8
EXPLORED_TRAFFIC = 0.8
"""Exploring goes on until the largest segments, making up this share of traffic, can be judged."""

Direction = Literal["above", "below"]


class Kpi(Result):
    """One number to watch."""

    name: str
    unit: Literal["USD", "0..1", "ms", "share"]
    baseline: Measured = Field(description="Today, in `unit`")
    target: float | None = Field(default=None, description="In `unit`; null when there is none to promise")
    target_text: str
    alert_threshold: float | None = Field(default=None, description="In `unit`; null when it cannot be set yet")
    alert_when: Direction
    alert_text: str
    owner: str


class Look(Result):
    """The boundary of one day of a canary: turn back when the observed difference in quality is below it."""

    day: int
    labelled: float = quantity("Labelled requests in the canary by then", "requests")
    rollback_below: float = quantity("Canary's mean quality less control's", "0..1")


class CanaryStep(Result):
    """One step of the rollout."""

    share: float = quantity("Share of the sessions that the rules touch", "0..1")
    purpose: str
    requests_needed: int | None = quantity("In the canary, for the non-inferiority test at power 0.8", "requests", default=None)
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
    models: tuple[str, ...]
    days: float | None = quantity("Until the logs can decide; null when the rate of labels is unknown", "days", default=None)
    requests: int | None = quantity("Requests needed for it", "requests", default=None)
    added_cost_usd_per_day: Measured = quantity("What exploring costs on top of today's spend", "USD/day")
    how: str


class MonitoringPlan(Result):
    """KPIs, canary and stopping rule for the recommended change, or the exploration to run when there is none."""

    kpis: tuple[Kpi, ...]
    margin: float = quantity("Fall of quality on moved requests that the canary must exclude", "0..1")
    margin_text: str
    power: float = quantity("Of the non-inferiority test", "0..1")
    alpha: float = quantity("Of the non-inferiority test that decides, one-sided", "0..1")
    guardrail_alpha: float = quantity("Of the boundary that may be looked at every day, one-sided", "0..1")
    spread: Spread | Unidentifiable
    steps: tuple[CanaryStep, ...]
    sequential: str = Field(description="How to look every day without raising false alarms")
    exploration: Exploration | None = None
    trials: tuple[Trial, ...] = Field(
        default=(), description="Where the logs cannot tell: what `exploration.json` would try, and what it takes"
    )
    collect: tuple[str, ...] = Field(description="What to start logging")
    verdict: str = Field(description="One sentence for a manager")


def non_inferiority_sample(
    standard_deviation: float,
    margin: float,
    *,
    control_ratio: float,
    design_effect: float,
    label_rate: float,
    alpha: float = ALPHA,
    power: float = POWER,
) -> float:
    """Requests in the canary that exclude a fall of `margin`, when there truly is none.

    n = (z_{1-alpha} + z_{1-power})^2 sigma^2 (1 + 1/r) / delta^2 * DEFF / label rate, with r requests of control per
    request of canary (Chow, Shao, Wang 2008, section 3.2; DEFF after Kish 1965).
    """
    z = float(stats.norm.ppf(1 - alpha) + stats.norm.ppf(power))
    variance = standard_deviation**2 * (1 + 1 / control_ratio)
    return z * z * variance / margin**2 * design_effect / label_rate


def boundary(labelled: float, planned: float, standard_deviation: float, alpha: float = GUARDRAIL_ALPHA) -> float:
    """Half-width of an asymptotic confidence sequence, valid however often one looks; one-sided, so 2 alpha goes in.

    sigma sqrt(2 (n rho^2 + 1) / (n^2 rho^2) log(sqrt(n rho^2 + 1) / alpha)), with
    rho^2 = (-2 log alpha + log(-2 log alpha) + 1) / n_planned: narrowest at `planned` (Waudby-Smith et al. 2024,
    "Time-uniform central limit theory and asymptotic confidence sequences").
    """
    two_sided = 2 * alpha
    rho2 = (-2 * math.log(two_sided) + math.log(-2 * math.log(two_sided)) + 1) / planned
    spread = labelled * rho2 + 1
    return standard_deviation * math.sqrt(2 * spread / (labelled**2 * rho2) * math.log(math.sqrt(spread) / two_sided))


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
        return Unidentifiable(unidentifiable=f"all {n:.0f} scores are equal; they say nothing about how quality varies")
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
    told = [(task, task.quality) for task in evidence.tasks if isinstance(task.quality, Estimate) and task.labelled > 1]
    labelled = sum(task.labelled for task, _ in told)
    if not told or scope.requests == 0:
        return Unidentifiable(unidentifiable="no request has a quality; collect scores before planning a test on quality")
    variance = sum(task.labelled * task.labelled * standard_error(quality) ** 2 for task, quality in told) / labelled
    if variance <= 0:
        return Unidentifiable(unidentifiable="the scores do not vary; they say nothing about how many a test needs")
    return Spread(
        labelled=labelled,
        sessions=scope.sessions,
        standard_deviation=math.sqrt(variance),
        per_session=1.0,
        intraclass_correlation=0.0,
        label_rate=min(labelled / scope.requests, 1.0),
        basis="read back from the intervals of today's quality, which hold the variation between sessions already",
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
    margin = _margin(scope, rules.moved_share)
    steps = _steps(scope, rules, spread, margin) if has_rules else ()
    exploration = _exploration(scope, evidence, rules, spread)
    return MonitoringPlan(
        kpis=_kpis(scope, evidence, rules, spread),
        margin=margin,
        margin_text=_margin_text(scope, rules, margin),
        power=POWER,
        alpha=ALPHA,
        guardrail_alpha=GUARDRAIL_ALPHA,
        spread=spread,
        steps=steps,
        sequential=(
            "Look every day: the boundary is an asymptotic confidence sequence, so a change that does no harm is turned back in at most "
            f"{100 * GUARDRAIL_ALPHA:.0f} % of rollouts however often one looks. Decide once, at the end of the 50 % step, by the "
            "non-inferiority test. Sessions stay in the arm they were drawn into."
        ),
        exploration=exploration,
        trials=trials_of(evidence, scope, rules.rule_set),
        collect=_collect(scope),
        verdict=_verdict(steps, exploration),
    )


def _collect(scope: AnalysisScope) -> tuple[str, ...]:
    missing = tuple(f"{source.name}: {source.consequence}" for source in scope.sources if not source.present)
    if scope.days_to_collect:
        return (f"{scope.days_to_collect:.0f} more days of logs like these, for a firm answer", *missing)
    return missing


def _verdict(steps: tuple[CanaryStep, ...], exploration: Exploration | None) -> str:
    if steps:
        total = sum(step.planned_days for step in steps)
        return f"Roll out in {len(steps)} steps over about {total:.0f} days; turn back as soon as a daily look crosses its boundary."
    if exploration is None:
        return "Nothing to roll out, and one model alone leaves nothing to explore; watch the KPIs."
    if exploration.days is not None and exploration.days > LONGEST_EXPLORATION_DAYS:
        return (
            "Nothing to roll out yet, and with so little traffic exploring would not decide it within "
            f"{LONGEST_EXPLORATION_DAYS} days: collect more logs, or explore a larger share on fewer kinds of request."
        )
    length = "until the logs can decide" if exploration.days is None else f"for about {math.ceil(exploration.days)} days"
    return f"Nothing to roll out yet: route {100 * exploration.share:.0f} % of requests at random {length}, log the probabilities, and ask again."


def _margin(scope: AnalysisScope, moved_share: float) -> float:
    tolerance = max(scope.parameters.max_quality_drop, 0.001)
    return min(tolerance / moved_share, max(WIDEST_MARGIN, tolerance)) if moved_share > 0 else tolerance


def _margin_text(scope: AnalysisScope, rules: RoutingRules, margin: float) -> str:
    tolerance = scope.parameters.max_quality_drop
    if rules.moved_share <= 0:
        return f"No request moves; mean quality is watched for a fall of {tolerance * 100:.1f} points."
    return (
        f"Over all requests quality may fall by {tolerance * 100:.1f} points; {100 * rules.moved_share:.0f} % of them move, so those may lose "
        f"{margin * 100:.1f} points (never more than {max(WIDEST_MARGIN, tolerance) * 100:.0f})."
    )


def _steps(scope: AnalysisScope, rules: RoutingRules, spread: Spread | Unidentifiable, margin: float) -> tuple[CanaryStep, ...]:
    moved_per_day = scope.requests / scope.days * rules.moved_share
    return tuple(_step(share, least_days, moved_per_day, spread, margin) for share, least_days in CANARY_STEPS)


def _step(share: float, least_days: int, moved_per_day: float, spread: Spread | Unidentifiable, margin: float) -> CanaryStep:
    purpose = {0.01: "Does it work at all: errors, timeouts, wrong models", 0.05: "Costs and errors as expected", 1.0: "Everyone"}.get(
        share, "Quality holds: the decision" if share == 0.5 else "A full week at a size that shows quality"
    )
    go_on = "No look crossed its boundary, and no other KPI its alert threshold"
    roll_back = "A look crosses its boundary, or errors, latency or cost cross their alert threshold"
    if share == 1.0:
        return CanaryStep(
            share=share,
            purpose=purpose,
            planned_days=least_days,
            go_on_when="The week after is within the promised intervals (realized outcomes of the next report)",
            roll_back_when="A KPI crosses its alert threshold; no control group is left to compare quality with",
        )
    if isinstance(spread, Unidentifiable) or moved_per_day <= 0:
        return CanaryStep(share=share, purpose=purpose, planned_days=least_days, go_on_when=go_on, roll_back_when=roll_back)
    ratio = (1 - share) / share
    needed = non_inferiority_sample(
        spread.standard_deviation, margin, control_ratio=ratio, design_effect=spread.design_effect, label_rate=spread.label_rate
    )
    per_day = share * moved_per_day
    days_needed = needed / per_day
    planned = float(min(max(least_days, math.ceil(days_needed)), LONGEST_STEP_DAYS)) if share == 0.5 else float(least_days)
    of_difference = spread.standard_deviation * math.sqrt((1 + 1 / ratio) * spread.design_effect)
    labelled_per_day = per_day * spread.label_rate
    looks = tuple(
        Look(
            day=day,
            labelled=day * labelled_per_day,
            rollback_below=max(-boundary(day * labelled_per_day, planned * labelled_per_day, of_difference), -1.0),
        )
        for day in LOOK_DAYS
        if day <= planned
    )
    if share == 0.5:
        go_on = f"The lower end of the 95 % interval of the difference in quality is above {-margin * 100:.1f} points; no other KPI alerts"
    return CanaryStep(
        share=share,
        purpose=purpose,
        requests_needed=math.ceil(needed),
        days_needed=days_needed,
        planned_days=planned,
        detectable_drop=min(margin * math.sqrt(days_needed / planned), 1.0),
        looks=looks,
        go_on_when=go_on,
        roll_back_when=roll_back,
    )


def _kpis(scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, spread: Spread | Unidentifiable) -> tuple[Kpi, ...]:
    expected = rules.rule_set.expected
    today, proposed = expected.baseline, expected.proposed
    floor = _quality_floor(scope, today.quality)
    success = _success(evidence)
    kpis = [
        _kpi("Cost per request", "USD", today.cost_usd, proposed.cost_usd, "above", 1.0, "FinOps"),
        Kpi(
            name="Mean quality of successful answers",
            unit="0..1",
            baseline=today.quality,
            target=floor,
            target_text="not below the floor" if floor is not None else "first collect scores",
            alert_threshold=floor,
            alert_when="below",
            alert_text="upper end of the day's interval below the floor",
            owner="Product owners of the task types",
        ),
        _kpi("Mean latency", "ms", today.latency_ms, proposed.latency_ms, "above", 1 + LATENCY_MARGIN, "LLM platform team"),
        Kpi(
            name="Completion rate",
            unit="share",
            baseline=success,
            target=success.estimate if isinstance(success, Estimate) else None,
            target_text="not below today's",
            alert_threshold=max(success.estimate - COMPLETION_MARGIN, 0.0) if isinstance(success, Estimate) else None,
            alert_when="below",
            alert_text="half a point below today's",
            owner="LLM platform team",
        ),
    ]
    if isinstance(spread, Spread):
        kpis.append(_label_rate_kpi(spread))
    if rules.rule_set.rules:
        kpis.append(_coverage_kpi(rules))
    return tuple(kpis)


def _label_rate_kpi(spread: Spread) -> Kpi:
    return Kpi(
        name="Share of answers with a quality score",
        unit="share",
        baseline=proportion_interval(spread.labelled, spread.labelled / spread.label_rate),
        target=spread.label_rate,
        target_text="not below today's",
        alert_threshold=spread.label_rate / 2,
        alert_when="below",
        alert_text="half of today's: without scores the guardrail is blind",
        owner="Owner of the judge or rating feed",
    )


def _coverage_kpi(rules: RoutingRules) -> Kpi:
    return Kpi(
        name="Share of requests that carry a rule id of this rule set",
        unit="share",
        baseline=Estimate(estimate=0.0, low=0.0, high=0.0),
        target=rules.moved_share,
        target_text="at 100 % rollout, the share that the rules move",
        alert_threshold=rules.moved_share / 2,
        alert_when="below",
        alert_text="half of the step's share: the gateway has not loaded the rules, or they do not match",
        owner="LLM platform team",
    )


def _kpi(name: str, unit: Literal["USD", "ms"], today: Measured, proposed: Measured, when: Direction, factor: float, owner: str) -> Kpi:
    return Kpi(
        name=name,
        unit=unit,
        baseline=today,
        target=proposed.estimate if isinstance(proposed, Estimate) else None,
        target_text="as the proof expects" if isinstance(proposed, Estimate) else "cannot be promised yet",
        alert_threshold=today.high * factor if isinstance(today, Estimate) else None,
        alert_when=when,
        alert_text="upper end of today's interval" + ("" if factor == 1 else f" plus {100 * (factor - 1):.0f} %"),
        owner=owner,
    )


def _quality_floor(scope: AnalysisScope, today: Measured) -> float | None:
    if scope.parameters.quality_threshold is not None:
        return scope.parameters.quality_threshold
    return max(today.estimate - scope.parameters.max_quality_drop, 0.0) if isinstance(today, Estimate) else None


def _success(evidence: RoutingEvidence) -> Measured:
    """Completion over all tasks: the mean of the tasks' own by share; tasks are taken as independent."""
    told = [(task.share, task.success) for task in evidence.tasks if isinstance(task.success, Estimate)]
    total = sum(share for share, _ in told)
    if total <= 0:
        return Unidentifiable(unidentifiable="the evidence holds no completion rate of any task")
    mean = sum(share * success.estimate for share, success in told) / total
    error = math.sqrt(sum((share / total * standard_error(success)) ** 2 for share, success in told))
    interval = around(mean, error)
    return Estimate(estimate=mean, low=max(interval.low, 0.0), high=min(interval.high, 1.0))


def _exploration(
    scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, spread: Spread | Unidentifiable
) -> Exploration | None:
    models = _to_explore(scope, evidence)
    if len(models) < 2:
        return None
    share = EXPLORED_WITH_RULES if rules.rule_set.rules else EXPLORED_WITHOUT
    rate = spread.label_rate if isinstance(spread, Spread) else None
    needed, days = _exploration_needs(scope, evidence, rules, share, len(models), rate)
    return Exploration(
        share=share,
        models=models,
        days=days,
        requests=needed,
        added_cost_usd_per_day=_exploration_cost(scope, evidence, share, models),
        how=(
            f"Send a random {100 * share:.0f} % of sessions to one of these models, each with the same probability, and log that probability "
            "(column propensity) with every request. The evidence then becomes grade A on that traffic."
        ),
    )


def _to_explore(scope: AnalysisScope, evidence: RoutingEvidence) -> tuple[str, ...]:
    """Models of the window, those first of which the logs can say least."""
    told: dict[str, float] = {}
    for segment in evidence.segments:
        for arm in segment.arms:
            told[arm.model] = told.get(arm.model, 0.0) + (segment.share if arm.supported else 0.0)
    return tuple(sorted(scope.models, key=lambda model: (told.get(model, 0.0), model))[:MAX_EXPLORED_MODELS])


def _exploration_needs(
    scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, share: float, models: int, label_rate: float | None
) -> tuple[int | None, float | None]:
    """Requests and days until the largest segments (four fifths of traffic) have enough of every explored model."""
    per_day = scope.requests / scope.days if scope.days > 0 else 0.0
    sizes = _largest(sorted((segment.share for segment in evidence.segments), reverse=True), EXPLORED_TRAFFIC)
    if rules.hypothesis is not None and rules.hypothesis.requests_needed is not None:
        needed = rules.hypothesis.requests_needed
        return needed, needed / per_day if per_day > 0 else None
    if per_day <= 0 or not sizes or not label_rate:
        return None, None
    per_arm = max(MIN_SENT, MIN_LABELS / label_rate)
    all_requests = per_arm * models / share / min(sizes)
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
    estimate = low = high = told = 0.0
    for segment in evidence.segments:
        changes = _cost_changes(segment, models)
        if changes:
            told += segment.share
            estimate += segment.share * sum(each.estimate for each in changes) / len(changes)
            low += segment.share * sum(each.low for each in changes) / len(changes)
            high += segment.share * sum(each.high for each in changes) / len(changes)
    if told < 0.5:
        return Unidentifiable(unidentifiable="for most of the traffic the logs do not tell what the explored models would cost")
    per_day = share * scope.requests / scope.days / told
    return Estimate(estimate=estimate * per_day, low=low * per_day, high=high * per_day)


def _cost_changes(segment: SegmentEvidence, models: tuple[str, ...]) -> list[Estimate]:
    return [
        arm.cost_change_usd for arm in segment.arms if arm.model in models and arm.supported and isinstance(arm.cost_change_usd, Estimate)
    ]
