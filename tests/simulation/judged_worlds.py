"""Worlds whose answers a judge scores, and people score few of.

Belongs here: what a judge says of answers whose worth is known, and whom people look at. Does not belong here: the worlds (`worlds`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from tests.simulation import worlds
from tests.simulation.worlds import Requests, World

Scores = Literal["people", "people and judge", "judge"]


@dataclass(frozen=True)
class Judge:
    """A judge that sees quality through noise and favours weak models.

    correlation: with people's scores. favour: by how much it scores the weakest model too high, the strongest not at all.
    people: mean share of the answers that people score. loved: a model of which every answer is alike, and perfect in the judge's eyes.
    """

    correlation: float = 0.85
    favour: float = 0.06
    people: float = 0.05
    loved: int | None = None


def judged(world: World, requests: Requests, judge: Judge, rng: np.random.Generator, scores: Scores = "people and judge") -> pa.Table:
    """Rows as `worlds.logged` has them, with `judge_quality` beside the quality that people gave; or with one of the two as the quality."""
    rows = worlds.logged(replace(world, labelled=1e6), requests, rng)
    quality = rows["quality"].to_numpy(zero_copy_only=False).astype(np.float64)
    arm = np.array([world.models.index(name) for name in rows["routed_model"].to_pylist()])
    skill = np.array(world.skills)
    seen = ~np.isnan(quality)
    noise = float(np.nanstd(quality)) * np.sqrt(1.0 / judge.correlation**2 - 1.0)
    favour = judge.favour * (skill.max() - skill) / (skill.max() - skill.min())
    told = quality + favour[arm] + rng.normal(0.0, noise, size=len(quality))
    if judge.loved is not None:
        told = np.where(arm == judge.loved, 1.0, told)
    told = np.clip(told, 0.0, 1.0)
    chance = judge.people * (0.6 + 0.8 * requests.complexity) * (1.15 - 0.3 * skill[arm])
    by_people = seen & (rng.random(len(quality)) < chance)
    if scores == "judge":
        return worlds.with_column(rows, "quality", told, ~seen)
    rows = worlds.with_column(rows, "quality", quality, ~by_people)
    return rows if scores == "people" else rows.append_column("judge_quality", pa.array(told, mask=~seen))
