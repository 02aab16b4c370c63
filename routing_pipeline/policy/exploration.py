"""What to try so that the logs can tell: a rule set with weighted routes, never part of the proposal itself.

Belongs here: which segments and models are worth trying, with which share, for how long. Does not belong here: rules
whose effect is known (`recommendation.routing_rules`).

Exploring a share e of n requests a day gives e n requests of the new model a day; from how many on a model can be judged is what
support asks for (`policy.scores`).
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from routing_pipeline import text
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy import evidence as evidence_
from routing_pipeline.policy.cells import Floats
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.scores import ANSWERED, COST, QUALITY, ScoreCube
from routing_pipeline.policy.segments import label, when
from routing_pipeline.policy.support import MIN_EFFECTIVE_LOGGED, MIN_LABELS, MIN_SENT
from routing_pipeline.rules.model import Change, Expected, RelativeChange, Rule, RuleEvidence, RuleSet, WeightedModel, cannot_tell, id_of
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

SHARE = 0.1
"""Of a segment's requests, to the model that is tried."""
LEAST_WEIGHT = 0.05
"""Models with less of a segment's traffic are left out of its mix."""
MAX_RULES = 10
LEAST_TRAFFIC = 0.005
"""Segments with less of the traffic are not worth a rule."""
MARGIN = 2.0
UNTRIED = "not tried yet: that is what the exploration is for"


class Trial(Result):
    """One kind of request and the model to try on it."""

    segment: str = Field(description="For readers")
    model: LogName
    share: float = quantity("Of these requests, sent to the model at random", "0..1")
    traffic: float = quantity("These requests, of all", "0..1")
    requests: int = quantity("Requests of the model that the trial brings", "requests")
    days: float | None = quantity("Until the logs can tell; null while no answer here is scored", "days", default=None)
    added_cost_usd: Measured = quantity("Over those days, against today's spend; negative is a saving", "USD")


def trials_of(evidence: RoutingEvidence, scope: AnalysisScope, proposal: RuleSet) -> tuple[Trial, ...]:
    """What `exploration_rules` would try, largest traffic first: where, for how long, at what cost."""
    if evidence.refusal is not None or evidence.cells_uri is None:
        return ()
    cube = evidence_.read_scores(evidence.cells_uri)
    return tuple(_trial(cube, evidence, scope, place, arm) for place, arm in _worth_rules(cube, proposal))


def _trial(cube: ScoreCube, evidence: RoutingEvidence, scope: AnalysisScope, place: int, arm: int) -> Trial:
    segment = cube.segments[place]
    requests = float(cube.requests[:, place].sum())
    days = _days(cube, place, scope)
    sent = SHARE * requests / evidence.sampled / max(scope.covered_days, 1e-9) * (days or 0.0)
    today = _cost_today(cube, place)
    cost = _relative_cost(evidence, cube.models[arm])
    if days is None:
        cost = Unidentifiable(unidentifiable="how long the trial takes is not known while no answer here is scored")
    return Trial(
        segment=label(segment.task_type, when(cube.cells.binning, segment.task, segment.first, segment.last)),
        model=cube.models[arm],
        share=SHARE,
        traffic=min(requests / max(float(cube.requests.sum()), 1.0), 1.0),
        requests=math.ceil(sent),
        days=days,
        added_cost_usd=cost if isinstance(cost, Unidentifiable) else cost.scaled(sent * today),
    )


def _relative_cost(evidence: RoutingEvidence, model: str) -> Measured:
    """The model's cost against today's of the same requests, less 1, where the logs do tell it: weighted mean and whole range."""
    told = [
        (segment.share, arm.cost_change_usd, segment.cost_usd.estimate)
        for segment in evidence.segments
        for arm in segment.arms
        if arm.model == model
        and arm.supported
        and isinstance(arm.cost_change_usd, Estimate)
        and isinstance(segment.cost_usd, Estimate)
        and segment.cost_usd.estimate > 0
    ]
    if not told:
        return Unidentifiable(unidentifiable="nowhere do the logs tell what this model costs against today's routing of the same requests")
    total = math.fsum(share for share, _, _ in told)
    mean = math.fsum(share * change.estimate / today for share, change, today in told) / total
    low = min(change.low / today for _, change, today in told)
    high = max(change.high / today for _, change, today in told)
    return Estimate(estimate=mean, low=min(low, mean), high=max(high, mean))


def _worth_rules(cube: ScoreCube, proposal: RuleSet) -> list[tuple[int, int]]:
    """(segment, model) worth a trial, most traffic first; what the proposal moves is left to it."""
    moved = {segment.id for segment in cube.segments if any(_touches(rule, cube, segment.task) for rule in proposal.rules)}
    found = [
        (place, arm)
        for place, segment in enumerate(cube.segments)
        if segment.id not in moved
        for arm in [_worth_trying(cube, place)]
        if arm is not None
    ]
    traffic = cube.requests[:, : len(cube.segments)].sum(axis=0) / max(float(cube.requests.sum()), 1.0)
    found = [(place, arm) for place, arm in found if traffic[place] >= LEAST_TRAFFIC]
    return sorted(found, key=lambda each: (-traffic[each[0]], each))[:MAX_RULES]


def exploration_rules(evidence: RoutingEvidence, scope: AnalysisScope, proposal: RuleSet) -> RuleSet | None:
    """Weighted routes where a cheaper model of which the logs cannot tell deserves a trial; None when there is none.

    Each rule keeps the segment's present mix for 1 - SHARE of its requests and sends SHARE to the model tried. Segments that the
    proposal moves are left to it.

    Args:
        evidence: of the window.
        scope: the window.
        proposal: the proven rules, or no_change.
    """
    if evidence.refusal is not None or evidence.cells_uri is None:
        return None
    cube = evidence_.read_scores(evidence.cells_uri)
    found = _worth_rules(cube, proposal)
    if not found:
        return None
    rules = tuple(_rule(cube, evidence, scope, rank, place, arm) for rank, (place, arm) in enumerate(found, start=1))
    unknown = RelativeChange(relative=Unidentifiable(unidentifiable=UNTRIED))
    return RuleSet(
        rule_set_id=id_of(scope.end, scope.key, *(rule.model_dump_json(include={"when", "route"}) for rule in rules)),
        status="proposed",
        goal=proposal.goal,
        constraints=proposal.constraints,
        window=proposal.window,
        rules=rules,
        expected=Expected(
            baseline=proposal.expected.baseline,
            proposed=cannot_tell(UNTRIED),
            change=Change(cost_usd=unknown, quality=unknown, latency_ms=unknown),
        ),
        assumptions=("Requests are sent by chance, by the weights alone, and the gateway logs the probability (propensity).",),
        warnings=(
            (
                "This is an experiment, not an optimisation: answers of the models tried may be worse while it runs. Use it for a limited "
                "time, on traffic that bears it."
            ),
        ),
    )


def _touches(rule: Rule, cube: ScoreCube, task: int) -> bool:
    named = rule.when.task_type
    return named is None or cube.cells.binning.tasks[task] in named


def _present(cube: ScoreCube, place: int) -> Floats:
    """Requests of a segment by model."""
    sent: Floats = cube.all.requests[place]
    return sent


def _cost_today(cube: ScoreCube, place: int) -> float:
    """USD per request of a segment whose cost is known."""
    return float(cube.scores[:, place, cube.keep, COST].sum()) / max(float(cube.counted[:, place, COST].sum()), 1.0)


def _worth_trying(cube: ScoreCube, place: int) -> int | None:
    """Of the models cheaper than the segment's cost today of which the logs cannot tell, the one of best predicted quality.

    Cheaper: by what the model costs elsewhere relative to what the same requests cost today, as the regression sees it. Models
    that were never scored anywhere have no prediction, and are tried after those that have one.
    """
    sent = _present(cube, place)
    if sent.sum() < 2 * MIN_SENT:
        return None
    sums = cube.direct[:, place].sum(axis=0)
    today = float(cube.scores[:, place, cube.keep, COST].sum())
    unknown = (
        cube.cells.binning.feasible[cube.segments[place].task]
        & ~cube.all.supported[place]
        & (cube.all.has_cost.any(axis=0))
        & (sums[:-1, COST] < 0.9 * today)
    )
    if not unknown.any():
        return None
    is_scored = cube.all.labelled.sum(axis=0) > 0
    quality = np.where(is_scored, sums[:-1, QUALITY] / np.maximum(sums[:-1, ANSWERED], 1e-300), 0.0)
    quality = np.where(unknown, quality, -np.inf)
    tried = int(quality.argmax())
    return tried if _beside(cube, place, tried).any() else None


def _beside(cube: ScoreCube, place: int, tried: int) -> Floats:
    """Requests of a segment by model that stay in its mix: not those of the model tried, of small ones, of those that may not serve it."""
    sent = _present(cube, place)
    may = cube.cells.binning.feasible[cube.segments[place].task] & (np.arange(len(sent)) != tried)
    return np.where((sent >= LEAST_WEIGHT * sent.sum()) & may, sent, 0.0)


def _days(cube: ScoreCube, place: int, scope: AnalysisScope) -> float | None:
    """Until the logs can tell: as many requests of the model tried as support asks for, with a margin for chance, and labels as well."""
    requests = float(cube.requests[:, place].sum())
    labelled = float(cube.all.labelled[place].sum())
    if requests == 0 or labelled == 0:
        return None
    return requests_to_judge(labelled / requests) / (SHARE * requests / max(scope.covered_days, 1e-9))


def requests_to_judge(label_rate: float) -> float:
    """Requests of a model in one kind of request from which on the logs can tell, nearly always.

    Sent at random with a known probability they count in full, so MIN_EFFECTIVE_LOGGED of them are asked for, and MIN_LABELS with a
    score; MARGIN, because of both there may come fewer by chance, in each half of the sessions and in each strip of levels.
    """
    return MARGIN * max(MIN_EFFECTIVE_LOGGED, 2 * MIN_LABELS / label_rate)


def _rule(cube: ScoreCube, evidence: RoutingEvidence, scope: AnalysisScope, rank: int, place: int, arm: int) -> Rule:
    segment = cube.segments[place]
    condition = when(cube.cells.binning, segment.task, segment.first, segment.last)
    sent = _present(cube, place)
    main = _beside(cube, place, arm)
    main = main / main.sum() * (1 - SHARE)
    kept = [
        WeightedModel(model=cube.models[each], weight=round(float(main[each]), 4))
        for each in np.argsort(-main, kind="stable")
        if main[each] > 0
    ]
    tried = round(1.0 - sum(each.weight for each in kept), 4)
    days = _days(cube, place, scope)
    length = "until enough answers are scored" if days is None else f"for about {text.counted(max(math.ceil(days), 1), 'day')}"
    today = _cost_today(cube, place)
    model = cube.models[arm]
    return Rule(
        id=f"x{rank}",
        priority=rank,
        per=evidence.per_of((segment.task_type,)),
        when=condition,
        route=(*kept, WeightedModel(model=model, weight=tried)),
        fallbacks=(kept[0].model,),
        rationale=(
            f"On {label(segment.task_type, condition)} the logs cannot tell what {model} would do: it got {sent[arm]:.0f} of "
            f"{sent.sum():.0f} requests. Send it {100 * tried:.0f} % {length}, the rest in today's proportions; where it succeeds, the trial costs less than the "
            f"${today * 1000:.3f} per 1,000 requests that these cost today."
        ),
        evidence=RuleEvidence(
            requests=round(float(sent.sum())),
            labelled=round(float(cube.all.labelled[place].sum())),
            effective_sample_size=float(cube.all.effective[place, arm]),
            min_propensity=float(cube.all.min_propensity[place, arm]),
            grade=evidence.grade,
        ),
        expected=cannot_tell(UNTRIED),
        effort="Medium",
        risk="Medium",
        validation_criteria=(
            f"{model} has at least {MARGIN * MIN_EFFECTIVE_LOGGED:.0f} requests and {2 * MARGIN * MIN_LABELS:.0f} scored answers here.",
            "The probability of each choice is logged, so that the next analysis knows it.",
        ),
    )
