"""What is told of a judge whose scores stand beside trusted ones: how far it agrees, and whom it favours.

Belongs here: its bias by model and by family of models, and words about it. Does not belong here: what its scores are used for
(`policy.pseudo_labels`).
"""

from __future__ import annotations

import math
import re

import numpy as np

from routing_pipeline.policy.cells import Cells, Ints, sum_by
from routing_pipeline.policy.pseudo_labels import is_used
from routing_pipeline.policy.score_account import JudgeBias, JudgeCheck
from routing_pipeline.stats.inference import clustered_mean
from routing_pipeline.window.scope import CLUSTERS

_FAMILY = re.compile(r"[a-z]+")


def family_of(model: str) -> str:
    """The letters that a model's name begins with, whoever serves it: gpt of openai/gpt-4o-mini."""
    found = _FAMILY.search(model.lower().rpartition("/")[2])
    return model if found is None else found.group()


def judge_check(cells: Cells) -> JudgeCheck | None:
    """From sums of cells; None where no judge scores beside trusted sources."""
    if not cells.binning.has_judge:
        return None
    names = (*cells.binning.models, "rare models")
    families = tuple(dict.fromkeys(family_of(model) for model in cells.binning.models))
    of_family = np.array([*(families.index(family_of(model)) for model in cells.binning.models), len(families)])
    total = {name: float(values.sum()) for name, values in cells.sums.items()}
    return JudgeCheck(
        judged=round(total["judged"]),
        trusted=round(total["labelled"]),
        both=round(total["both"]),
        is_used=is_used(cells),
        correlation=_correlation(total),
        by_model=_biases(cells, cells.arm, names),
        by_family=_biases(cells, of_family[cells.arm], families) if len(families) > 1 else (),
    )


def _biases(cells: Cells, group: Ints, names: tuple[str, ...]) -> tuple[JudgeBias, ...]:
    shape = (int(group.max(initial=0)) + 1, CLUSTERS)
    off, n = (
        sum_by((group, cells.cluster), values, shape)
        for values in (cells.sums["both_judge"] - cells.sums["both_quality"], cells.sums["both"])
    )
    return tuple(
        JudgeBias(name=name, answers=round(float(n[place].sum())), bias=clustered_mean(off[place], n[place]))
        for place, name in enumerate(names)
        if place < len(n) and n[place].sum() > 0
    )


def _correlation(total: dict[str, float]) -> float | None:
    n = total["both"]
    if n < 2:
        return None
    j, q = total["both_judge"] / n, total["both_quality"] / n
    spread = (total["both_judge_squares"] / n - j * j) * (total["both_quality_squares"] / n - q * q)
    return (total["both_product"] / n - j * q) / math.sqrt(spread) if spread > 1e-18 else None
