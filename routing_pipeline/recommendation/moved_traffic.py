"""What a policy moves: requests, spend, and how much hidden error on them its claim survives.

Does not belong here: the rules of a policy (`proposed_rules`), what the moved requests would get (`policy.proof`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.policy import proof, rule_blocks as rules_, search
from routing_pipeline.policy.cells import Floats, sum_by
from routing_pipeline.policy.proof import Evaluated
from routing_pipeline.policy.scores import ScoreCube
from routing_pipeline.recommendation.joint_intervals import JointIntervals
from routing_pipeline.recommendation.question import Question
from routing_pipeline.stats.inference import interval


def moved_shares(cube: ScoreCube, shares: Floats) -> tuple[float, float]:
    """Share of requests that change model, and the share of today's spend that they make up, under shares by (place, action)."""
    cells = cube.cells
    spend = cells.sums["cost"]
    moved = _changes(cube, shares)
    return search.moved_share(cube, shares), float((spend * moved).sum() / max(spend.sum(), 1e-300))


def _changes(cube: ScoreCube, shares: Floats) -> Floats:
    """By cell, share of its requests that go to another model."""
    place, arm = cube.place_of_cell, cube.cells.arm
    stays = np.where(arm < cube.keep, shares[place, np.minimum(arm, cube.keep - 1)], 0.0)
    changes: Floats = 1.0 - shares[place, cube.keep] - stays
    return changes


def tipping_point(question: Question, outcome: Evaluated, today: Evaluated, moved: float, intervals: JointIntervals) -> Measured:
    """How much hidden overstatement of quality on moved requests, on average, would break the quality limit.

    (quality - floor) / share of requests moved, with the interval of the numerator; of two limits of quality the one that bears least.
    """
    if moved <= 0:
        return Unidentifiable(unidentifiable="nothing is moved")
    margins = proof.quality_margins(outcome, today, replace(question.limits, hidden_bias=0.0))
    borne = [
        interval(margin.scaled(1.0 / moved), intervals.critical[kind])
        for (_, margin), kind in zip(margins, ("quality change", "quality"), strict=False)
    ]
    return min(borne, key=lambda each: each.low if isinstance(each, Estimate) else -math.inf)


MIN_SCORED = 10
"""Scored answers of a model to a task, below which the task is left out of `strength_of_task`."""


def strength_of_task(cube: ScoreCube, shares: Floats) -> float | None:
    """By how much quality on moved requests would be misstated had the task type not been logged: a yardstick for hidden factors.

    |sum over moved requests of (a model's mean over all its scored answers - its mean over those to their task)| / moved requests.
    None where there is one task, or too little is scored.
    """
    cells, keep = cube.cells, cube.keep
    names = list(dict.fromkeys(cells.binning.tasks))
    if len(names) < 2:
        return None
    place_of = np.array([*(names.index(each) for each in cells.binning.tasks), len(names)])
    shape = (len(names) + 1, keep + 1)
    scored, good = (sum_by((place_of[cells.task], cells.arm), cells.sums[name], shape)[:-1, :keep] for name in ("scored", "quality"))
    moved = np.zeros((len(names), keep))
    requests = cube.requests.sum(axis=0)
    for place, segment in enumerate(cube.segments):
        moved[names.index(segment.task_type)] += shares[place, :keep] * (requests[place] - cube.all.requests[place])
    moved *= scored >= MIN_SCORED
    if moved.sum() <= 0.0:
        return None
    of_task = good / np.maximum(scored, 1e-300)
    of_model = good.sum(axis=0) / np.maximum(scored.sum(axis=0), 1e-300)
    return abs(float((moved * (of_model - of_task)).sum() / moved.sum()))


def moved_spend_of_block(cube: ScoreCube, block: rules_.Block) -> float:
    """Share of today's spend that a rule's requests make up which it sends elsewhere."""
    shares = np.zeros(cube.scores.shape[1:3])
    shares[:, cube.keep] = 1.0
    for place in block.places:
        shares[place] = 0.0
        shares[place, block.arms] = [share for _, share in block.route]
    return moved_shares(cube, shares)[1]
