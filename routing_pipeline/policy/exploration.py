"""What to try so that the logs can tell: a rule set with weighted routes, never part of the proposal itself.

Belongs here: which kinds of request and models are worth trying, with which share, for how long. Does not belong here: rules
whose effect is known (`recommendation.routing_rules`).

Exploring a share e of n requests a day gives e n requests of the new model a day; from how many on a model can be judged is what
support asks for (`policy.scores`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from routing_pipeline import text
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.parameters import TIMEFRAMES
from routing_pipeline.policy import evidence as evidence_
from routing_pipeline.policy.cells import Floats
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.scores import ANSWERED, COST, QUALITY, ScoreCube
from routing_pipeline.policy.segments import label, parts_of, when
from routing_pipeline.policy.support import MIN_EFFECTIVE_LOGGED, MIN_LABELS, MIN_SENT
from routing_pipeline.rules.model import Change, Expected, RelativeChange, Rule, RuleEvidence, RuleSet, WeightedModel, cannot_tell, id_of
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

SHARES = (0.1, 0.2, 0.3)
"""Of the requests, to the model that is tried: the least with which the logs can tell in time."""
WINDOWS_DAYS = tuple(TIMEFRAMES[timeframe].days for timeframe in ("7d", "30d"))
"""What an analysis can look back on: a trial that the longest of them cannot judge is not worth beginning."""
LEAST_WEIGHT = 0.05
"""Models with less of a segment's traffic are left out of its mix."""
MAX_TRIALS = 6
CHEAPER = 0.9
"""A model is worth a trial where it is thought to cost less than so much of what is paid today."""
LEAST_TRAFFIC = 0.005
"""What is less of the traffic is not worth a trial."""
MARGIN = 2.0
UNTRIED = "not tried yet: that is what the exploration is for"


class Trial(Result):
    """One kind of request and the model to try on it, wherever the logs cannot tell of that model."""

    segment: str = Field(description="For readers")
    model: LogName
    share: float = quantity("Of these requests, sent to the model at random", "0..1")
    traffic: float = quantity("These requests, of all", "0..1")
    requests: int = quantity("Requests of the model that the trial brings", "requests")
    days: float | None = quantity("Until the logs can tell; null while no answer here is scored", "days", default=None)
    added_cost_usd: Measured = quantity("Over those days, against today's spend; negative is a saving", "USD")


@dataclass(frozen=True)
class _Tried:
    """Places of the segments of one kind in which a model (by its place) is to be tried, levels ascending; with which share, how long.

    days is None while no answer there is scored.
    """

    places: tuple[int, ...]
    arm: int
    share: float
    days: float | None


def trials_of(evidence: RoutingEvidence, scope: AnalysisScope, proposal: RuleSet) -> tuple[Trial, ...]:
    """What `exploration_rules` would try, largest traffic first: where, for how long, at what cost."""
    if evidence.refusal is not None or evidence.cells_uri is None:
        return ()
    cube = evidence_.read_scores(evidence.cells_uri)
    return tuple(_trial(cube, evidence, scope, tried) for tried in _worth_rules(cube, scope, proposal))


def _trial(cube: ScoreCube, evidence: RoutingEvidence, scope: AnalysisScope, tried: _Tried) -> Trial:
    first, last = cube.segments[tried.places[0]], cube.segments[tried.places[-1]]
    requests = _traffic(cube, tried.places)
    sent = tried.share * requests / evidence.sampled / max(scope.covered_days, 1e-9) * (tried.days or 0.0)
    today = _cost_today(cube, tried.places)
    cost = _relative_cost(evidence, cube.models[tried.arm])
    if tried.days is None:
        cost = Unidentifiable(unidentifiable="how long the trial takes is not known while no answer here is scored")
    return Trial(
        segment=label(first.task_type, when(cube.cells.binning, first.task, first.first, last.last)),
        model=cube.models[tried.arm],
        share=tried.share,
        traffic=min(requests / max(float(cube.requests.sum()), 1.0), 1.0),
        requests=math.ceil(sent),
        days=tried.days,
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


def _worth_rules(cube: ScoreCube, scope: AnalysisScope, proposal: RuleSet) -> list[_Tried]:
    """What is worth a trial, most traffic first; kinds that the proposal moves are left to it."""
    by_kind: dict[int, list[int]] = {}
    for place, segment in enumerate(cube.segments):
        by_kind.setdefault(segment.task, []).append(place)
    found = [
        tried
        for task, places in by_kind.items()
        if not any(_touches(rule, cube, task) for rule in proposal.rules)
        for tried in [_worth_trying(cube, scope, task, np.array(places))]
        if tried is not None
    ]
    return sorted(found, key=lambda each: (-_traffic(cube, each.places), each.places))[:MAX_TRIALS]


def exploration_rules(evidence: RoutingEvidence, scope: AnalysisScope, proposal: RuleSet) -> RuleSet | None:
    """Weighted routes where a cheaper model of which the logs cannot tell deserves a trial; None when there is none.

    Each rule keeps the present mix of its levels for the rest of the requests and sends a share to the model tried: wherever in a kind the
    logs cannot tell of it, so that the cuts of a later window may lie elsewhere. Kinds that the proposal moves are left to it.

    Args:
        evidence: of the window.
        scope: the window.
        proposal: the proven rules, or no_change.
    """
    if evidence.refusal is not None or evidence.cells_uri is None:
        return None
    cube = evidence_.read_scores(evidence.cells_uri)
    found = _worth_rules(cube, scope, proposal)
    if not found:
        return None
    ranges = [(tried, places) for tried in found for places in _of_one_mix(cube, tried)]
    rules = tuple(_rule(cube, evidence, rank, tried, places) for rank, (tried, places) in enumerate(ranges, start=1))
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


def _traffic(cube: ScoreCube, places: Sequence[int]) -> float:
    """Requests of segments."""
    return float(cube.requests[:, list(places)].sum())


def _cost_today(cube: ScoreCube, places: Sequence[int]) -> float:
    """USD per request of segments whose cost is known."""
    at = list(places)
    return float(cube.scores[:, at, cube.keep, COST].sum()) / max(float(cube.counted[:, at, COST].sum()), 1.0)


def _worth_trying(cube: ScoreCube, scope: AnalysisScope, task: int, places: NDArray[np.int64]) -> _Tried | None:
    """Of the models of which the logs cannot tell on all levels of a kind, and that are cheaper there, that of best predicted quality.

    None where there is none, or the logs could not tell in time.

    Models that were never scored anywhere have no prediction of quality, and are tried after those that have one.
    """
    if cube.all.requests[places].sum() < 2 * MIN_SENT:
        return None
    sums = cube.direct[:, places].sum(axis=0)[:, :-1]
    today = cube.scores[:, places, cube.keep, COST].sum(axis=0)
    untold = ~cube.all.supported[places]
    by_regression = (sums[..., COST] * untold).sum(axis=0) / np.maximum(today @ untold, 1e-300) < CHEAPER
    traffic = cube.requests[:, places].sum(axis=0) @ untold
    unknown = (
        cube.cells.binning.feasible[task]
        & (traffic >= LEAST_TRAFFIC * float(cube.requests.sum()))
        & cube.all.has_cost.any(axis=0)
        & np.where(cube.all.requests[places].sum(axis=0) > 0, by_regression, _is_cheaper_per_token(cube, task))
    )
    if not unknown.any():
        return None
    is_scored = cube.all.labelled.sum(axis=0) > 0
    answered = np.maximum(sums[..., ANSWERED].sum(axis=0), 1e-300)
    quality = np.where(is_scored, sums[..., QUALITY].sum(axis=0) / answered, 0.0)
    arm = int(np.where(unknown, quality, -np.inf).argmax())
    tried = tuple(int(place) for place in places[untold[:, arm]] if _beside(cube, place, arm).any())
    length = _length(cube, scope, task, tried) if tried else None
    return None if length is None else _Tried(tried, arm, *length)


def _is_cheaper_per_token(cube: ScoreCube, task: int) -> NDArray[np.bool_]:
    """By model, whether it costs less per prompt token, over all that it served, than a kind does.

    For models that never served the kind: where each kind goes to a model of its own, no regression can tell the price of one from the
    length of the other's answers.
    """
    sent, cost = (cube.cells.total(name)[:-1, :-1] for name in ("n_cost", "cost"))
    prompts = (sent * cube.cells.binning.mean_tokens()[..., None]).sum(axis=(1, 2))
    cost = cost.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.bool_] = (cost.sum(axis=0) / prompts.sum(axis=0))[:-1] < CHEAPER * (cost[task].sum() / prompts[task].sum())
    return found


def _beside(cube: ScoreCube, place: int, tried: int) -> Floats:
    """Requests of a segment by model that stay in its mix: not those of the model tried, of small ones, of those that may not serve it."""
    sent = cube.all.requests[place]
    may = cube.cells.binning.feasible[cube.segments[place].task] & (np.arange(len(sent)) != tried)
    return np.where((sent >= LEAST_WEIGHT * sent.sum()) & may, sent, 0.0)


def _mix(cube: ScoreCube, tried: _Tried, places: Sequence[int]) -> tuple[tuple[int, float], ...]:
    """(model, weight) of what stays beside the model tried in these segments, the largest first."""
    beside = np.sum([_beside(cube, place, tried.arm) for place in places], axis=0)
    weights = beside / beside.sum() * (1 - tried.share)
    return tuple((int(arm), round(float(weights[arm]), 4)) for arm in np.argsort(-weights, kind="stable") if weights[arm] > 0)


def _of_one_mix(cube: ScoreCube, tried: _Tried) -> list[tuple[int, ...]]:
    """The segments of a trial, neighbours of which one mix stays together."""
    found: list[tuple[int, ...]] = []
    for place in tried.places:
        joins = bool(found) and found[-1][-1] == place - 1 and _mix(cube, tried, found[-1]) == _mix(cube, tried, (place,))
        found = [*found[:-1], (*found[-1], place)] if joins else [*found, (place,)]
    return found


def _length(cube: ScoreCube, scope: AnalysisScope, task: int, places: Sequence[int]) -> tuple[float, float | None] | None:
    """Share and days with which the logs can tell: enough of the model tried in each part into which evidence will cut the kind.

    Days are None while no answer there is scored. None where no window could tell.
    """
    of_kind = [place for place, each in enumerate(cube.segments) if each.task == task]
    per_day = _traffic(cube, of_kind) / max(scope.covered_days, 1e-9)
    labelled_per_day = float(cube.all.labelled[of_kind].sum()) / max(scope.covered_days, 1e-9)
    rate = min(float(cube.all.labelled[place].sum()) / max(_traffic(cube, (place,)), 1.0) for place in places)
    if rate == 0:
        return SHARES[0], None
    for share, window in itertools.product(SHARES, WINDOWS_DAYS):
        # Each half of the sessions has about half of what the window holds.
        parts = parts_of(per_day * window / 2, labelled_per_day * window / 2)
        days = requests_to_judge(rate) * parts / (share * per_day)
        if days <= window:
            return share, days
    return None


def requests_to_judge(label_rate: float) -> float:
    """Requests of a model in one kind of request from which on the logs can tell, nearly always.

    Sent at random with a known probability they count in full, so MIN_EFFECTIVE_LOGGED of them are asked for, and MIN_LABELS with a
    score; MARGIN, because of both there may come fewer by chance, in each half of the sessions and in each strip of levels.
    """
    return MARGIN * max(MIN_EFFECTIVE_LOGGED, 2 * MIN_LABELS / label_rate)


def _rule(cube: ScoreCube, evidence: RoutingEvidence, rank: int, tried: _Tried, places: tuple[int, ...]) -> Rule:
    first, last = cube.segments[places[0]], cube.segments[places[-1]]
    condition = when(cube.cells.binning, first.task, first.first, last.last)
    sent = cube.all.requests[list(places)].sum(axis=0)
    kept = [WeightedModel(model=cube.models[arm], weight=weight) for arm, weight in _mix(cube, tried, places)]
    share = round(1.0 - sum(each.weight for each in kept), 4)
    days = tried.days
    length = "until enough answers are scored" if days is None else f"for about {text.counted(max(math.ceil(days), 1), 'day')}"
    today = _cost_today(cube, places)
    model = cube.models[tried.arm]
    return Rule(
        id=f"x{rank}",
        priority=rank,
        per=evidence.per_of((first.task_type,)),
        when=condition,
        route=(*kept, WeightedModel(model=model, weight=share)),
        fallbacks=(kept[0].model,),
        rationale=(
            f"On {label(first.task_type, condition)} the logs cannot tell what {model} would do: it got {sent[tried.arm]:.0f} of "
            f"{sent.sum():.0f} requests. Send it {100 * share:.0f} % {length}, the rest in today's proportions; where it succeeds, the trial costs less than the "
            f"${today * 1000:.3f} per 1,000 requests that these cost today."
        ),
        evidence=RuleEvidence(
            requests=round(float(sent.sum())),
            labelled=round(float(cube.all.labelled[list(places)].sum())),
            effective_sample_size=float(cube.all.effective[list(places), tried.arm].min()),
            min_propensity=float(cube.all.min_propensity[list(places), tried.arm].min()),
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
