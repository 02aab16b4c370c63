"""Which parts of today's traffic an outcome is known of: what is said of today is said of these, and the others are left as they are.

Belongs here: finding the kinds of request whose answers nobody scored (whose cost, whose latency nobody knows), how much of
the traffic they are, and their names. Does not belong here: estimates of what is known (`policy.scores`).

A kind is what one model serves within one place (a segment, or what no rule reaches of a task). A regression predicts
something for every kind, and nothing corrects it where no answer was seen: a mean that rests on it would be that of other
traffic. So a kind without an observation of its own is part of no mean, neither of today's nor of what a rule would give
instead. A kind with a few counts as such, too, where so few are no accident.

A rule sees no model, so it cannot leave one model's requests alone. Places of which much is unknown are therefore not moved
at all (MAX_UNKNOWN). Of what little is unknown in the other places, a proof takes the worst case (`ScoreCube.unseen_loss`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from routing_pipeline.policy.cells import Cells, Floats, Ints, sum_by
from routing_pipeline.policy.evidence_model import UnknownPart
from routing_pipeline.policy.unscored_teams import MIN_OBSERVED, implausible

Known = Literal["cost", "latency", "quality"]
Bools = NDArray[np.bool_]

COUNTED: dict[Known, tuple[str, str]] = {"cost": ("n_cost", "n"), "latency": ("n_latency", "n"), "quality": ("labelled", "answered")}
"""Of each outcome, what of a cell counts its observations, and what they should be of."""
MAX_UNKNOWN = 0.02
"""A place is left as it is when models without observations served more of it, and it is no accident that there are none."""
ENOUGH = 0.5
"""Share of all requests that must be known before a mean is said at all of cost and latency."""
WHOLE = 0.95
"""A model, or a task, is named as a whole when so much of it is unknown."""
NAMED_SHARE = 0.001
NAMED = 20


@dataclass(frozen=True)
class KnownParts:
    """What is known of which kinds and places, by outcome.

    kinds: (place, arm), whether the mean of the kind rests on observations of its own. left: (place), whether the place is left
    as it is. unknown: (place), requests of kinds that are not known.
    """

    place_of_cell: Ints
    kinds: dict[Known, Bools]
    left: dict[Known, Bools]
    unknown: dict[Known, Floats]

    def of_cells(self, cells: Cells, outcome: Known | None) -> Floats:
        """By cell: 1 where the outcome is known of its kind, else 0; all of them for None, which stands for what every request has."""
        if outcome is None:
            return np.ones(len(cells.arm))
        return self.kinds[outcome][self.place_of_cell, cells.arm].astype(np.float64)

    def share(self, cells: Cells, outcome: Known) -> float:
        """Share of what is counted (requests; answers, of quality) that the outcome is known of."""
        _, of = COUNTED[outcome]
        # Of quality, answers of teams that are never scored are unknown as well, and not among those counted.
        base = cells.sums["success" if outcome == "quality" else of].sum()
        return float((cells.sums[of] * self.of_cells(cells, outcome)).sum() / max(base, 1e-300))


def known_parts(cells: Cells, place_of_cell: Ints, places: int) -> KnownParts:
    """Read off counts of observations alone, no outcome.

    Args:
        cells: of the window.
        place_of_cell: each cell's place.
        places: how many there are.
    """
    kinds: dict[Known, Bools] = {}
    left: dict[Known, Bools] = {}
    unknown: dict[Known, Floats] = {}
    for outcome, (observed, of) in COUNTED.items():
        shape = (2, places, len(cells.binning.models) + 1)
        keys = ((~cells.learning).astype(np.int64), place_of_cell, cells.arm)
        seen, base = (sum_by(keys, cells.sums[name], shape) for name in (observed, of))
        is_known, is_accident = _known(seen, base)
        total = base.sum(axis=0)
        kinds[outcome] = is_known
        unknown[outcome] = (sum_by((place_of_cell, cells.arm), cells.sums["n"], shape[1:]) * ~is_known).sum(axis=1)
        blind = (total * (~is_known & ~is_accident)).sum(axis=1)
        left[outcome] = blind > MAX_UNKNOWN * np.maximum(total.sum(axis=1), 1e-300)
    return KnownParts(place_of_cell, kinds, left, unknown)


def _known(seen: Floats, of: Floats) -> tuple[Bools, Bools]:
    """Whether each kind is known, and whether it is by accident that it is not; from counts by (half, place, arm).

    Observations come at about one rate; a kind is not known without any, with too few for its size, or with none in one of
    the halves of the sessions although some were to be expected there.
    """
    by_half = seen.sum(axis=(1, 2)) / np.maximum(of.sum(axis=(1, 2)), 1e-300)
    rate = seen.sum() / max(float(of.sum()), 1e-300)
    observed, base = seen.sum(axis=0), of.sum(axis=0)
    is_few = (observed < MIN_OBSERVED) & implausible(observed, rate * base)
    half_is_empty = ((seen == 0) & implausible(seen, by_half[:, None, None] * of)).any(axis=0)
    is_empty = (base > 0) & (observed == 0)
    is_unknown = is_few | half_is_empty | is_empty
    return ~is_unknown, ~(is_few | half_is_empty)


def unknown_parts(cells: Cells, found: KnownParts) -> tuple[UnknownPart, ...]:
    """The parts by name, largest first: whole models, whole tasks, models on single tasks, and teams; small ones are left out."""
    parts = [part for outcome in COUNTED for part in _named(cells, found, outcome)]
    parts += [
        UnknownPart(outcome="quality", team=each.team, share=each.share, observed=each.observed, of=each.of)
        for each in cells.binning.unscored_teams
    ]
    large = [each for each in parts if each.share >= NAMED_SHARE]
    return tuple(
        sorted(large, key=lambda each: (-each.share, each.outcome, each.model or "", each.task_type or "", each.team or ""))[:NAMED]
    )


def _named(cells: Cells, found: KnownParts, outcome: Known) -> list[UnknownPart]:
    observed, of = COUNTED[outcome]
    names = (*cells.binning.tasks, "rare task types")
    # Parts of a task that is cut by needs are told as one.
    tasks, models = tuple(dict.fromkeys(names)), (*cells.binning.models, "rare models")
    task_of = np.array([tasks.index(each) for each in names])[cells.task]
    shape = (len(tasks), len(models))
    is_unknown = 1.0 - found.of_cells(cells, outcome)
    lost, seen, total = (
        sum_by((task_of, cells.arm), values, shape)
        for values in (cells.sums[of] * is_unknown, cells.sums[observed] * is_unknown, cells.sums[of])
    )
    whole = max(float(cells.sums["success" if outcome == "quality" else of].sum()), 1e-300)
    is_model = (lost.sum(axis=0) > 0) & (lost.sum(axis=0) >= WHOLE * total.sum(axis=0))
    by_task = lost[:, ~is_model].sum(axis=1)
    is_task = (by_task > 0) & (by_task >= WHOLE * total[:, ~is_model].sum(axis=1))
    named: list[tuple[dict[str, str], Bools]] = []
    every = np.ones(shape, dtype=bool)
    named += [({"model": models[arm]}, every & (np.arange(len(models)) == arm)) for arm in np.flatnonzero(is_model)]
    named += [({"task_type": tasks[task]}, (np.arange(len(tasks)) == task)[:, None] & ~is_model) for task in np.flatnonzero(is_task)]
    named += [
        ({"task_type": tasks[task], "model": models[arm]}, (np.arange(len(tasks)) == task)[:, None] & (np.arange(len(models)) == arm))
        for task, arm in zip(*np.nonzero((lost > 0) & ~is_model & ~is_task[:, None]), strict=True)
    ]
    return [
        UnknownPart(
            outcome=outcome,
            share=min(float(lost[at].sum()) / whole, 1.0),
            observed=round(float(seen[at].sum())),
            of=round(float(lost[at].sum())),
            **names,
        )
        for names, at in named
    ]
