"""What the requests tell by themselves whose probability is known, beside what all traffic tells: an audit for hidden confounding.

Belongs here: estimates from these requests alone, whatever their share, and the test of both against each other. Does not belong here:
whether logged probabilities can be true (`policy.grade`), what a router goes by that is logged (`policy.steering`), limits.

Where a router sends a share of the requests by chance and logs the probability, these requests say what every model does on all of them,
whatever else the router goes by. All traffic says so only if nothing that is not logged steers the router. So where both speak of one
model, on the same kinds of request, they differ by chance alone, unless something hidden is at work (Kallus, Puli, Shalit 2018, NeurIPS;
Yang, Zeng, Wang 2023, JRSS B 85:575). With r(s) the share of segment s's requests that carry a probability p,

    G_i(a) = mu_a(x) + 1{a_i = a, p_i logged} / (r p_i) (y_i - mu_a(x)),      G_i(KEEP) = y_i,

mu fitted on these requests alone, is an estimate from them over all requests, comparable with today's routing of all. That they are a
share drawn by chance within a segment is taken for granted. Each model's difference is told with its interval; the smallest p-value,
times the number of models, is held against ALPHA.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routing_pipeline.estimates import Unidentifiable
from routing_pipeline.policy.binning import MIN_WEIGHTED
from routing_pipeline.policy.cells import Cells, Ints, sum_by
from routing_pipeline.policy.evidence_model import AuditedModel, ConfoundingAudit
from routing_pipeline.policy.scores import BOTH, ScoreCube, score_cube
from routing_pipeline.policy.support import MIN_SENT
from routing_pipeline.stats.inference import POINTWISE, SHARE, interval, p_value
from routing_pipeline.text import counted

ALPHA = 0.05
"""Share of windows in which a difference is found although nothing hidden steers."""
LEAST_SENT, LEAST_SCORED = 100, 30
"""Requests of a model whose probability is known, and scored ones among them, below which it is not audited."""
NAME = "by the requests alone whose probability is known"
"""How limits are named that are held on them."""


def known_alone(cube: ScoreCube) -> Cells:
    """Cells in which models are judged by the requests alone that carry a probability, weighted up to all of their segment.

    The same cells where none does.
    """
    cells = cube.cells
    if cells.weighted is None:
        return cells
    places = cube.scores.shape[1]
    of = sum_by((cube.place_of_cell,), cells.sums["n"], (places,))
    logged = sum_by((cube.place_of_cell,), cells.sums["n"] * cells.is_logged, (places,))
    rate = (np.where(logged > 0, logged, 1.0) / np.where(logged > 0, of, 1.0))[cube.place_of_cell]
    weighted = {
        name: np.where(cells.is_logged, values / (rate**2 if name == "weight_squared" else rate), 0.0)
        for name, values in cells.weighted.items()
    }
    return replace(cells, weighted=weighted, is_weighted=np.ones(len(rate), dtype=bool))


_KEPT: list[tuple[ScoreCube, ScoreCube]] = []
"""The last ones: the evidence asks for them, and so does every question that the audit bears on."""


def known_scores(cube: ScoreCube) -> ScoreCube:
    """Scores from these requests alone, of the same segments; kept for the next who asks of the same cube."""
    found = next((alone for of, alone in _KEPT if of is cube), None)
    if found is None:
        found = score_cube(known_alone(cube), segments=cube.segments)
        _KEPT[:] = [(cube, found), *_KEPT[:1]]
    return found


def audited(cube: ScoreCube) -> ConfoundingAudit | None:
    """The audit; None where no probability is logged or those that are cannot be true, and where nearly all are: then they are the weights."""
    cells = cube.cells
    reach = (cells.level < cells.binning.levels) & (cells.task < len(cells.binning.tasks))
    logged = cells.is_logged & reach
    requests = float(cells.sums["n"][logged].sum())
    if cells.weighted is None or cells.distrusts_weights or cells.knows_weights or requests < MIN_WEIGHTED:
        return None
    alone = known_scores(cube)
    found = [each for arm in range(cube.keep) if (each := _of_model(cube, alone, arm)) is not None]
    share = requests / max(float(cells.sums["n"].sum()), 1e-300)
    least = min((each.p_value for each in found), default=1.0)
    # Bonferroni, so that it does not matter how many models there are.
    adjusted = [each.model_copy(update={"p_value": min(each.p_value * len(found), 1.0)}) for each in found]
    verdict = "cannot tell" if not found else "differ" if least * len(found) <= ALPHA else "agree"
    models = tuple(sorted(adjusted, key=lambda each: (each.p_value, each.model)))
    return ConfoundingAudit(share=share, requests=round(requests), models=models, verdict=verdict, told=_told(share, models, verdict))


def _of_model(cube: ScoreCube, alone: ScoreCube, arm: int) -> AuditedModel | None:
    """Both estimates of a model's quality over the segments that all traffic tells of and that hold some of these requests.

    None where those sent to the model are too few to say anything together.
    """
    cells, segments = cube.cells, len(cube.segments)
    logged = sum_by((cube.place_of_cell[cells.is_logged],), cells.sums["n"][cells.is_logged], (cube.scores.shape[1],))[:segments]
    places: Ints = np.flatnonzero(cube.all.supported[:, arm] & (logged >= MIN_SENT))
    of = cells.is_logged & (cells.arm == arm) & np.isin(cube.place_of_cell, places)
    if cells.sums["n"][of].sum() < LEAST_SENT or cells.sums["labelled"][of].sum() < LEAST_SCORED:
        return None
    every = np.full(cube.scores.shape[1], arm)
    by_all, by_known = (each.chosen(every, BOTH, places).quality() for each in (cube, alone))
    difference = interval(by_all - by_known, POINTWISE)
    if isinstance(difference, Unidentifiable):
        return None
    return AuditedModel(
        model=cube.models[arm],
        requests=round(float(cells.sums["n"][of].sum())),
        share=float(cube.requests[:, places].sum() / max(float(cube.requests.sum()), 1e-300)),
        quality_of_all=interval(by_all, POINTWISE, bounds=SHARE),
        quality_of_known=interval(by_known, POINTWISE, bounds=SHARE),
        difference=difference,
        p_value=p_value(difference),
    )


def _told(share: float, models: tuple[AuditedModel, ...], verdict: str) -> str:
    of = f"{100 * share:.2g} % of the requests carry the probability of their choice"
    if verdict == "cannot tell":
        return f"{of}: too few, and too few of them scored, to hold all traffic against them."
    worst = models[0]
    points = f"{100 * worst.difference.estimate:+.1f} points ({100 * worst.difference.low:+.1f} to {100 * worst.difference.high:+.1f})"
    if verdict == "agree":
        return (
            f"{of}. By themselves they tell the same of {counted(len(models), 'model')} as all traffic does; the difference least likely by "
            f"chance is that of {worst.model}: {points}. So there is no sign of anything hidden that steers the router."
        )
    return (
        f"{of}, and by themselves they tell otherwise than all traffic: by all traffic {worst.model} is off by {points} of quality. "
        "Something that is not logged steers the router. So rules are found and told by these requests alone, and must keep every limit "
        "by all traffic as well."
    )
