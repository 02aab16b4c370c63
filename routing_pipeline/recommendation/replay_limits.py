"""What stands against a replay of given rules: parts of the traffic of which the logs cannot tell, and models that would get too much.

Belongs here: the reasons, in words. Does not belong here: the replay itself and what it comes to (`simulation`).
"""

from __future__ import annotations

import math

import ibis
import numpy as np
from numpy.typing import NDArray

from routing_pipeline.catalog import Catalog
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.known_parts import MAX_UNKNOWN
from routing_pipeline.policy.replay import Replay
from routing_pipeline.policy.scores import ScoreCube
from routing_pipeline.recommendation.question import question_of
from routing_pipeline.recommendation.rule_traffic import traffic_of
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.window.scope import AnalysisScope

MIN_SERVED = 20
MIN_SCORED = 6
"""Requests of the proving half that today already send to a rule's target, per task, and labels among them."""
MAX_UNSEEN = 0.2
RARE_TASKS = "rare task types"


def over_capacity(rule_set: RuleSet, evidence: RoutingEvidence, requests: ibis.Table, scope: AnalysisScope) -> tuple[str, ...]:
    """Models that would get more of the traffic than they can take, and tiers more than they may, in words; counted on all rows."""
    question = question_of(evidence, scope, rule_set.goal)
    limits, models = question.limits, question.cube.models
    if not limits.has_caps:
        return ()
    shares = traffic_of(requests, rule_set).shares_under(rule_set.rules)
    catalog = Catalog(scope.parameters.models)
    found = []
    for cap in limits.capped:
        mine = [shares.get(models[cap.arms[0]], 0.0)]
        if cap.tier is not None:
            mine = [share for model, share in shares.items() if catalog.model(model).tier == cap.tier]
        would = math.fsum(mine)
        if would > cap.most:
            why = "its capacity; it would" if cap.tier is None else "together; they would"
            found.append(f"{cap.named(models)} at most {100 * cap.most:.1f} % of requests, {why} get {100 * would:.1f} %")
    return tuple(found)


def unsupported_parts(rule_set: RuleSet, replayed: Replay, cube: ScoreCube) -> dict[tuple[int, int], str]:
    """(rule, task) of which the logs cannot tell, and why."""
    binning = cube.cells.binning
    found: dict[tuple[int, int], str] = {}
    for place, rule in enumerate(rule_set.rules):
        if rule.route == "unchanged":
            continue
        unknown: list[str] = [target.model for target in rule.route if target.model not in binning.models]
        for task in np.unique(replayed.task[replayed.rule == place]):
            of = (replayed.rule == place) & (replayed.task == task)
            name = (*binning.tasks, RARE_TASKS)[task]
            why = _why_unsupported(rule.when.tier is not None, unknown, replayed, of)
            if why is not None:
                found[place, int(task)] = f"rule {rule.id}, {name}: {why}"
    return found


def _why_unsupported(by_tier: bool, unknown: list[str], replayed: Replay, of: NDArray[np.bool_]) -> str | None:
    if by_tier:
        return "the tier asked for is not in the logs"
    if unknown:
        return f"{', '.join(unknown)} never served a request in the window"
    if replayed.served[of].sum() < MIN_SERVED or replayed.scored[of].sum() < MIN_SCORED:
        return (
            f"only {replayed.served[of].sum():.0f} of these requests went there, {replayed.scored[of].sum():.0f} of them scored; "
            "route a small share at random to find out"
        )
    if replayed.left[of].sum() > MAX_UNKNOWN * replayed.requests[of].sum():
        return (
            f"of {100 * replayed.left[of].sum() / replayed.requests[of].sum():.0f} % of these requests the logs do not show how good today's answers are, or what "
            "they cost; score some of them, or name the prices"
        )
    if replayed.unseen[of].sum() > MAX_UNSEEN * replayed.requests[of].sum():
        return (
            f"{100 * replayed.unseen[of].sum() / replayed.requests[of].sum():.0f} % of these requests lie where the model was never tried"
        )
    return None
