"""How far the mix of requests moved since the window before.

Does not belong here: drift of outcomes (`quality_over_time`, `cost_change`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.special import rel_entr

from routing_pipeline.analysis.request_cells import Row, complexity_band, grouped, length_band, sum_of
from routing_pipeline.estimates import Known, Result, Unidentifiable, quantity
from routing_pipeline.stats.counted_tests import contingency_p
from routing_pipeline.stats.inference import Floats, false_discovery_adjusted
from routing_pipeline.text import LogName

DriftDimension = Literal["kind", "task_type", "length", "complexity", "model"]
DriftVerdict = Literal["stable", "shifted", "shifted much", "cannot tell"]
MAX_MOVERS = 5
SHIFTED, SHIFTED_MUCH = 0.10, 0.25
"""Usual marks of the population stability index (Siddiqi, Credit Risk Scorecards, 2006)."""
SIGNIFICANT = 0.05
MIN_EXPECTED = 5.0
"""Cochran's rule for a chi-square test: rarer categories are pooled."""
MIN_PREVIOUS = 100


class Mover(Result):
    """A share that moved."""

    name: LogName
    previous_share: float = quantity("In the window before", "0..1")
    share: float = quantity("In this window", "0..1")


class MixDrift(Result):
    """How far one mix moved since the window before."""

    dimension: DriftDimension
    population_stability_index: float = quantity("sum (p - q) ln(p / q); 0.1 is a shift, 0.25 a large one", "1")
    jensen_shannon: float = quantity("Jensen-Shannon divergence to base 2", "0..1")
    p_value: Known = quantity("Chi-square test of equal mixes, Benjamini-Hochberg adjusted over the dimensions", "0..1")
    verdict: DriftVerdict
    movers: tuple[Mover, ...] = Field(description="Largest changes of share first")


_DIMENSIONS: dict[DriftDimension, Callable[[Row], str]] = {
    "kind": lambda cell: f"{cell['task']}, {length_band(cell)}, complexity {complexity_band(cell)}",
    "task_type": lambda cell: str(cell["task"]),
    "length": length_band,
    "complexity": complexity_band,
    "model": lambda cell: str(cell["model"]),
}


def mix_drift(cells: list[Row], before: list[Row]) -> tuple[MixDrift, ...] | Unidentifiable:
    """Every mix against the window before, or why there are too few requests to compare."""
    if sum_of(before, "n") < MIN_PREVIOUS or sum_of(cells, "n") < MIN_PREVIOUS:
        return Unidentifiable(
            unidentifiable=f"{sum_of(before, 'n'):,} requests in the previous window and {sum_of(cells, 'n'):,} in this one; "
            f"a comparison of mixes needs {MIN_PREVIOUS} in each"
        )
    mixes = {dimension: _mix(cells, before, key) for dimension, key in _DIMENSIONS.items()}
    p_values = {dimension: _chi_square_p(mix) for dimension, mix in mixes.items()}
    if any(sum_of(part, "derived") > 0 for part in (cells, before)):
        p_values["complexity"] = Unidentifiable(
            unidentifiable="complexity was derived from prompt length, as a rank within the window: its mix cannot drift; log the router's own"
        )
    tested = {dimension: value for dimension, value in p_values.items() if isinstance(value, float)}
    adjusted = dict(zip(tested, false_discovery_adjusted(list(tested.values())), strict=True))
    return tuple(_drift_of(dimension, mix, adjusted.get(dimension, p_values[dimension])) for dimension, mix in mixes.items())


def _mix(cells: list[Row], before: list[Row], key: Callable[[Row], str]) -> dict[str, tuple[int, int]]:
    """Requests by category: in the window before, in this one."""
    old, new = ({name: sum_of(rows, "n") for name, rows in grouped(part, key).items()} for part in (before, cells))
    return {name: (old.get(name, 0), new.get(name, 0)) for name in sorted(old.keys() | new.keys())}


def _chi_square_p(mix: Mapping[str, tuple[int, int]]) -> Known:
    table = np.array(list(mix.values()), dtype=np.float64)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    rare = (expected < MIN_EXPECTED).any(axis=1)
    pooled = np.vstack([table[~rare], table[rare].sum(axis=0, keepdims=True)]) if rare.any() else table
    pooled = pooled[pooled.sum(axis=1) > 0]
    if len(pooled) < 2:
        return Unidentifiable(unidentifiable="all requests are of one category; there is no mix to drift")
    return contingency_p(pooled)


def _drift_of(dimension: DriftDimension, mix: Mapping[str, tuple[int, int]], p_value: Known) -> MixDrift:
    counts = np.array(list(mix.values()), dtype=np.float64)
    old, new = (counts / counts.sum(axis=0)).T
    # Half a request is added to every category, so that one that is new or gone does not make the index infinite.
    smooth = (counts + 0.5) / (counts + 0.5).sum(axis=0)
    index = float(((smooth[:, 1] - smooth[:, 0]) * np.log(smooth[:, 1] / smooth[:, 0])).sum())
    names = list(mix)
    largest = sorted(range(len(mix)), key=lambda place: (-abs(new[place] - old[place]), names[place]))[:MAX_MOVERS]
    return MixDrift(
        dimension=dimension,
        population_stability_index=index,
        jensen_shannon=_jensen_shannon(old, new),
        p_value=p_value,
        verdict=_drift_verdict(index, p_value),
        movers=tuple(
            Mover(name=names[place], previous_share=float(old[place]), share=float(new[place]))
            for place in largest
            if old[place] != new[place]
        ),
    )


def _jensen_shannon(one: Floats, other: Floats) -> float:
    """Mean Kullback-Leibler divergence from the middle of both, to base 2 (Lin 1991)."""
    middle = (one + other) / 2
    return float((rel_entr(one, middle) + rel_entr(other, middle)).sum() / (2 * math.log(2)))


def _drift_verdict(index: float, p_value: Known) -> DriftVerdict:
    """A shift has to be both large enough to matter and too large for chance."""
    if isinstance(p_value, Unidentifiable):
        return "cannot tell"
    if index < SHIFTED:
        return "stable"
    if p_value >= SIGNIFICANT:
        return "cannot tell"
    return "shifted much" if index >= SHIFTED_MUCH else "shifted"
