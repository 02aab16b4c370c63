"""What to try so that the logs can tell: a rule set with weighted routes, never part of the proposal itself.

Belongs here: which segments and models are worth trying, with which share, for how long. Does not belong here: rules
whose effect is known (`recommendation.routing_rules`).

Exploring a share e of n requests a day gives e n requests of the new model a day; a model can be judged from MIN_SENT
requests and MIN_LABELS labels on, in each half of the sessions.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy import evidence as evidence_
from routing_pipeline.policy.cells import Floats
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.rule_set import (
    Change,
    Expected,
    RelativeChange,
    Rule,
    RuleEvidence,
    RuleSet,
    WeightedModel,
    cannot_tell,
)
from routing_pipeline.policy.scores import COST, MIN_LABELS, MIN_SENT, QUALITY, SUCCESS, ScoreCube
from routing_pipeline.policy.segments import label, when
from routing_pipeline.scope import AnalysisScope

SHARE = 0.1
"""Of a segment's requests, to the model that is tried."""
LEAST_WEIGHT = 0.05
"""Models with less of a segment's traffic are left out of its mix."""
MAX_RULES = 10
LEAST_TRAFFIC = 0.005
"""Segments with less of the traffic are not worth a rule."""
UNTRIED = "not tried yet: that is what the exploration is for"


class Trial(Result):
    """One kind of request and the model to try on it."""

    segment: str = Field(description="For readers")
    model: str
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
    return tuple(_trial(cube, evidence, scope, place, arm) for place, arm in _worth_rules(cube, evidence, proposal))


def _trial(cube: ScoreCube, evidence: RoutingEvidence, scope: AnalysisScope, place: int, arm: int) -> Trial:
    segment = cube.segments[place]
    requests = float(cube.requests[:, place].sum())
    days = _days(cube, place, scope)
    sent = SHARE * requests / evidence.sampled / max(scope.days, 1e-9) * (days or 0.0)
    today = float(cube.scores[:, place, cube.keep, COST].sum()) / max(requests, 1.0)
    cost = _relative_cost(evidence, cube.models[arm])
    if days is None:
        cost = Unidentifiable(unidentifiable="how long the trial takes is not known while no answer here is scored")
    return Trial(
        segment=label(segment.task_type, when(cube.cells.binning, segment.task, segment.first, segment.last)),
        model=cube.models[arm],
        share=SHARE,
        traffic=min(requests / max(evidence.requests, 1), 1.0),
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


def _worth_rules(cube: ScoreCube, evidence: RoutingEvidence, proposal: RuleSet) -> list[tuple[int, int]]:
    """(segment, model) worth a trial, most traffic first; what the proposal moves is left to it."""
    moved = {segment.id for segment in cube.segments if any(_touches(rule, cube, segment.task) for rule in proposal.rules)}
    found = [
        (place, arm)
        for place, segment in enumerate(cube.segments)
        if segment.id not in moved
        for arm in [_worth_trying(cube, place)]
        if arm is not None
    ]
    traffic = cube.requests[:, : len(cube.segments)].sum(axis=0) / max(evidence.requests, 1)
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
    found = _worth_rules(cube, evidence, proposal)
    if not found:
        return None
    rules = tuple(_rule(cube, evidence, scope, rank, place, arm) for rank, (place, arm) in enumerate(found, start=1))
    said = "\n".join([scope.key, *(rule.model_dump_json(include={"when", "route"}) for rule in rules)])
    unknown = RelativeChange(relative=Unidentifiable(unidentifiable=UNTRIED))
    return RuleSet(
        rule_set_id=f"{scope.end:%Y-%m-%dT%H:%M:%SZ}-{hashlib.md5(said.encode(), usedforsecurity=False).hexdigest()[:4]}",
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


def _worth_trying(cube: ScoreCube, place: int) -> int | None:
    """Of the models cheaper than the segment's cost today of which the logs cannot tell, the one of best predicted quality.

    Cheaper: by what the model costs elsewhere relative to what the same requests cost today, as the regression sees it.
    """
    sent = _present(cube, place)
    if sent.sum() < 2 * MIN_SENT:
        return None
    sums = cube.direct[:, place].sum(axis=0)
    today = float(cube.scores[:, place, cube.keep, COST].sum())
    unknown = ~cube.all.supported[place] & (cube.all.has_cost.any(axis=0)) & (sums[:-1, COST] < 0.9 * today)
    if not unknown.any():
        return None
    quality = np.where(unknown, sums[:-1, QUALITY] / np.maximum(sums[:-1, SUCCESS], 1e-300), -np.inf)
    return int(quality.argmax())


def _days(cube: ScoreCube, place: int, scope: AnalysisScope) -> float | None:
    """Until both halves hold enough requests and labels of the model tried."""
    requests = float(cube.requests[:, place].sum())
    labelled = float(cube.all.labelled[place].sum())
    if requests == 0 or labelled == 0:
        return None
    needed = 2 * max(MIN_SENT, MIN_LABELS * requests / labelled) * 1.3
    return needed / (SHARE * requests / max(scope.days, 1e-9))


def _rule(cube: ScoreCube, evidence: RoutingEvidence, scope: AnalysisScope, rank: int, place: int, arm: int) -> Rule:
    segment = cube.segments[place]
    condition = when(cube.cells.binning, segment.task, segment.first, segment.last)
    sent = _present(cube, place)
    main = np.where((sent >= LEAST_WEIGHT * sent.sum()) & (np.arange(len(sent)) != arm), sent, 0.0)
    main = main / main.sum() * (1 - SHARE)
    kept = [
        WeightedModel(model=cube.models[each], weight=round(float(main[each]), 4))
        for each in np.argsort(-main, kind="stable")
        if main[each] > 0
    ]
    tried = round(1.0 - sum(each.weight for each in kept), 4)
    days = _days(cube, place, scope)
    length = "until enough answers are scored" if days is None else f"for about {max(math.ceil(days), 1)} day(s)"
    today = float(cube.scores[:, place, cube.keep, COST].sum()) / max(float(cube.requests[:, place].sum()), 1.0)
    model = cube.models[arm]
    return Rule(
        id=f"x{rank}",
        priority=rank,
        when=condition,
        route=(*kept, WeightedModel(model=model, weight=tried)),
        fallbacks=(kept[0].model,),
        rationale=(
            f"On {label(segment.task_type, condition)} the logs cannot tell what {model} would do: it got {sent[arm]:.0f} of "
            f"{sent.sum():.0f} requests. Send it {tried:.0%} {length}, the rest in today's proportions; where it succeeds, the trial costs less than the "
            f"{today * 1000:.3f} USD per 1,000 requests that these cost today."
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
            f"{model} has at least {2 * MIN_SENT} requests and {2 * MIN_LABELS} scored answers here.",
            "The probability of each choice is logged, so that the next analysis knows it.",
        ),
    )
