"""Doubly robust scores, summed by cluster, segment and action: enough for every segment policy and its error.

Belongs here: the score cube, overlap and support. Does not belong here: nuisance models (`policy.nuisance`) and what
their own error adds (`policy.model_error`), intervals (`policy.intervals`), choosing actions (`policy.search`).

For a request i of context x sent to a_i, the score of sending it to a is (Robins, Rotnitzky, Zhao 1994, JASA 89:846;
Dudik, Langford, Li 2011, ICML)

    G_i(a) = mu_a(x) + 1{a_i = a} / pi_a(x) * (y_i - mu_a(x)),        G_i(KEEP) = y_i.

Where y was not observed for all (R_i = 1 where it was, with probability e), y_i is replaced by m + R_i / e (y_i - m).
Quality is that of successful answers: a policy's quality is sum G_SQ / sum G_S, a ratio of two linear values, with
SQ = success x quality, whose prediction for a success is m(x, a), and mu_SQ = mu_S m.

mu, m, pi, e are constant within a cell, so sums over a cell's rows are all that these formulas need.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routing_pipeline.policy.cells import CLIP, Cells, Floats, Ints, sum_by
from routing_pipeline.policy.intervals import Statistic, ratio
from routing_pipeline.policy.model_error import model_errors
from routing_pipeline.policy.nuisance import FOLDS, FOLDS_PER_HALF, Nuisances, fit, fold_of
from routing_pipeline.policy.segments import Segment, segment_map, segments_of
from routing_pipeline.scope import CLUSTERS

OUTCOMES: tuple[str, ...] = ("cost", "latency", "success", "quality", "slow")
COST, LATENCY, SUCCESS, QUALITY, SLOW = range(len(OUTCOMES))
MIN_SENT = 30
MIN_LABELS = 10
MIN_EFFECTIVE, MIN_EFFECTIVE_LOGGED = 30.0, 100.0
"""Effective sample size that a model must have in a segment: few heavy weights may speak for hundreds of requests.

More where the router's own probabilities are the weights: they follow what the logs do not hold, and answers vary with it.
"""
MIN_COVERED = 0.9
"""Share of a segment's traffic that must lie where the model was seen."""
REQUESTS_PER_STRIP = 150
"""Size of the strips of adjacent levels in which a model must have been seen."""


@dataclass(frozen=True)
class Support:
    """How much data stand behind each (segment, model), in one part of the clusters."""

    requests: Floats
    labelled: Floats
    effective: Floats
    min_propensity: Floats
    covered: Floats
    has_cost: NDArray[np.bool_]
    has_latency: NDArray[np.bool_]
    least_effective: float

    @property
    def supported(self) -> NDArray[np.bool_]:
        """Seen often enough, and in every part of the segment."""
        enough: NDArray[np.bool_] = (self.requests >= MIN_SENT) & (self.labelled >= MIN_LABELS) & (self.covered >= MIN_COVERED)
        enough &= self.effective >= self.least_effective
        return enough


@dataclass(frozen=True)
class Sums:
    """Of one policy over some of the clusters, by cluster (0 for the others): scores by outcome, requests.

    model_error: what each cluster, of the others too, adds to the error of the scores' sum through the regressions.
    failure_variance: of the sum of successes, as propensities let expect it.
    """

    scores: Floats
    requests: Floats
    model_error: Floats
    failure_variance: float

    def mean(self, outcome: int) -> Statistic:
        """Per request."""
        found = ratio(self.scores[:, outcome], self.requests, self.model_error[:, outcome])
        if outcome != SUCCESS or self.failure_variance == 0.0:
            return found
        return replace(found, expected_error=math.sqrt(self.failure_variance) / max(float(self.requests.sum()), 1e-300))

    def quality(self) -> Statistic:
        """Of successes."""
        return ratio(self.scores[:, QUALITY], self.scores[:, SUCCESS], self.model_error[:, QUALITY], self.model_error[:, SUCCESS])


@dataclass(frozen=True)
class ScoreCube:
    """Sums by (cluster, place, action, outcome).

    Places: segments first, then one per task for what no rule reaches (its score is KEEP's whatever the action).
    Actions: models in the binning's order, then KEEP. `quality` holds success x quality. model_error: by half whose scores
    are meant, then as the scores, for segments alone (`policy.model_error`). failure_variance: see there.
    """

    cells: Cells
    nuisances: Nuisances
    segments: tuple[Segment, ...]
    requests: Floats
    scores: Floats
    direct: Floats
    model_error: Floats
    failure_variance: Floats
    learn: Support
    all: Support
    place_of_cell: Ints

    @property
    def models(self) -> tuple[str, ...]:
        """Models that may be chosen."""
        return self.cells.binning.models

    @property
    def keep(self) -> int:
        """The action that leaves today's routing."""
        return len(self.models)

    def chosen(self, actions: Ints, clusters: slice, places: Ints | None = None) -> Sums:
        """Of an action per place; `places`: of these alone."""
        where = np.arange(self.scores.shape[1]) if places is None else places
        segments = where[where < len(self.segments)]
        taken = actions[segments]
        picked = self.scores[clusters, where, actions[where]] if places is None else self.scores[clusters][:, where, actions[where]]
        return self._sums(
            picked.sum(axis=1),
            self.requests[clusters][:, where].sum(axis=1),
            clusters,
            [self.model_error[half][:, segments, taken].sum(axis=1) for half in _halves(clusters)],
            [float(self.failure_variance[half][segments, taken].sum()) for half in _halves(clusters)],
        )

    def mixed(self, shares: Floats, clusters: slice) -> Sums:
        """Of shares of each action by (place, action), each place's adding up to 1."""
        of_segments = shares[: len(self.segments)]
        return self._sums(
            np.einsum("jpao,pa->jo", self.scores[clusters], shares),
            self.requests[clusters].sum(axis=1),
            clusters,
            [np.einsum("jpao,pa->jo", self.model_error[half], of_segments) for half in _halves(clusters)],
            [float((self.failure_variance[half] * of_segments**2).sum()) for half in _halves(clusters)],
        )

    def _sums(self, scores: Floats, requests: Floats, clusters: slice, of_models: list[Floats], of_failures: list[float]) -> Sums:
        padded, n = np.zeros((CLUSTERS, len(OUTCOMES))), np.zeros(CLUSTERS)
        padded[clusters], n[clusters] = scores, requests
        return Sums(padded, n, np.sum(of_models, axis=0), sum(of_failures))


LEARN, PROVE, BOTH = slice(0, CLUSTERS // 2), slice(CLUSTERS // 2, CLUSTERS), slice(0, CLUSTERS)


def _halves(clusters: slice) -> list[int]:
    return [place for place, half in enumerate((LEARN, PROVE)) if clusters in (half, BOTH)]


def failure_variance(cells: Cells, nuisances: Nuisances, segments: tuple[Segment, ...]) -> Floats:
    """By (half, segment, action): variance to expect of the sum of successes against KEEP's, from propensities and rates of failure alone.

    Failures are rare and weighted by 1 / pi: one half may hold none where the other holds one that counts for hundreds.
    Var sum (G(a) - y) = sum_x n_x f_a (1 - f_a) (1 - pi_a(x)) / pi_a(x), with f_a the model's share of failures, on the
    learning half in the learning half and on both in the other.
    """
    keep = len(cells.binning.models)
    found = np.zeros((2, len(segments), keep + 1))
    for half, (own, known) in enumerate(((cells.learning, cells.learning), (~cells.learning, None))):
        sent, succeeded = (cells.total(name, cells=known)[..., :keep].sum(axis=(0, 1, 2)) for name in ("n", "success"))
        rate = (sent - succeeded + 1.0) / (sent + 2.0)
        propensity = nuisances.propensity[half][..., :keep]
        n = cells.total("n", cells=own)[:-1, :-1].sum(axis=3)
        by_level = (n[..., None] * (1.0 - propensity) / propensity).sum(axis=2)
        for place, segment in enumerate(segments):
            found[half, place, :keep] = by_level[segment.task, segment.first : segment.last].sum(axis=0) * rate * (1.0 - rate)
    return found


def _weighted_sums(cells: Cells, reach: Ints, propensity: Floats) -> dict[str, Floats]:
    """Sums of requests weighted by 1 / propensity: the logged one where there is one, else the cell's."""
    estimated: dict[str, Floats] = {name: values[reach] / propensity for name, values in cells.sums.items()}
    if cells.weighted is None or cells.distrusts_weights:
        return estimated
    logged = cells.is_weighted[reach]
    return {name: np.where(logged, cells.weighted[name][reach], values) for name, values in estimated.items()}


def _by_cell(nuisances: Nuisances, fold: Ints, context: tuple[Ints, ...]) -> dict[str, Floats]:
    half = fold // FOLDS_PER_HALF
    by_fold = {name: getattr(nuisances, name)[(fold, *context)] for name in ("cost", "latency", "success", "slow", "quality")}
    return by_fold | {name: getattr(nuisances, name)[(half, *context)] for name in ("propensity", "labelled", "priced", "timed")}


def _observed_part(sums: dict[str, Floats], fitted: dict[str, Floats]) -> list[Floats]:
    """By cell and outcome: sum w (y - mu), missing outcomes corrected for; w = 1 gives KEEP's score less mu n."""
    m = fitted["quality"]
    answered = m * sums["success"] + (sums["quality"] - m * sums["labelled"]) / fitted["labelled"]
    return [
        (sums["cost"] - fitted["cost"] * sums["n_cost"]) / fitted["priced"],
        (sums["latency"] - fitted["latency"] * sums["n_latency"]) / fitted["timed"],
        sums["success"] - fitted["success"] * sums["n"],
        answered - fitted["success"] * m * sums["n"],
        (sums["slow"] - fitted["slow"] * sums["n_latency"]) / fitted["timed"],
    ]


def _means(fitted: dict[str, Floats]) -> list[Floats]:
    return [fitted["cost"], fitted["latency"], fitted["success"], fitted["success"] * fitted["quality"], fitted["slow"]]


def unreached_means(cells: Cells) -> dict[str, tuple[Floats, Floats]]:
    """Of requests that no rule reaches, mean and rate of observation by (half, task, arm): cost, latency, slow, quality.

    By half: nothing that is learnt from may hold an outcome of the half that proves.
    """
    rest = (cells.level >= cells.binning.levels) | (cells.task >= len(cells.binning.tasks))
    shape = (2, len(cells.binning.tasks) + 1, len(cells.binning.models) + 1)
    keys = ((~cells.learning[rest]).astype(np.int64), cells.task[rest], cells.arm[rest])
    found = {}
    for name, observed, of in (
        ("cost", "n_cost", "n"),
        ("latency", "n_latency", "n"),
        ("slow", "n_latency", "n"),
        ("quality", "labelled", "success"),
    ):
        total, seen, base = (sum_by(keys, cells.sums[each][rest], shape) for each in (name, observed, of))
        by_half = total.sum(axis=(1, 2), keepdims=True) / np.maximum(seen.sum(axis=(1, 2), keepdims=True), 1e-300)
        mean = np.where(seen > 0, total / np.maximum(seen, 1e-300), by_half)
        found[name] = (mean, np.where(seen > 0, seen / np.maximum(base, 1e-300), 1.0))
    return found


def _unreached(cells: Cells, rest: Ints) -> list[Floats]:
    """KEEP's outcomes of requests that no rule reaches: sums as they are, missing ones at the task's and model's mean."""
    sums = {name: values[rest] for name, values in cells.sums.items()}
    keys = ((~cells.learning[rest]).astype(np.int64), cells.task[rest], cells.arm[rest])
    means = {name: (mean[keys], rate[keys]) for name, (mean, rate) in unreached_means(cells).items()}

    def filled(name: str, observed: str, of: str) -> Floats:
        mean, rate = means[name]
        total: Floats = mean * sums[of] + (sums[name] - mean * sums[observed]) / rate
        return total

    return [
        filled("cost", "n_cost", "n"),
        filled("latency", "n_latency", "n"),
        sums["success"],
        filled("quality", "labelled", "success"),
        filled("slow", "n_latency", "n"),
    ]


def score_cube(cells: Cells, nuisances: Nuisances | None = None) -> ScoreCube:
    """Everything that evaluating segment policies needs, with nuisances fitted unless given; about 20 MB for 40 segments and 7 models."""
    nuisances = fit(cells) if nuisances is None else nuisances
    segments = segments_of(cells)
    binning = cells.binning
    keep = len(binning.models)
    places = len(segments) + len(binning.tasks) + 1
    place = segment_map(cells, segments)[cells.task, cells.level]
    shape = (CLUSTERS, places, keep + 1, len(OUTCOMES))
    reach = np.flatnonzero(place < len(segments))
    rest = np.flatnonzero(place >= len(segments))
    fold = fold_of(cells.cluster[reach])
    fitted = _by_cell(nuisances, fold, (cells.task[reach], cells.level[reach], cells.length[reach], cells.arm[reach]))
    own = {name: values[reach] for name, values in cells.sums.items()}
    weighted = _weighted_sums(cells, reach, fitted["propensity"])
    direct, scores = np.zeros(shape), np.zeros(shape)
    _add_direct(direct, cells, nuisances, segments)
    is_arm = cells.arm[reach] < keep
    for outcome, (corrected, kept, mean) in enumerate(
        zip(_observed_part(weighted, fitted), _observed_part(own, fitted), _means(fitted), strict=True)
    ):
        _add(scores, cells.cluster[reach], place[reach], np.full(len(reach), keep), outcome, kept + mean * own["n"])
        _add(scores, cells.cluster[reach][is_arm], place[reach][is_arm], cells.arm[reach][is_arm], outcome, corrected[is_arm])
    for outcome, values in enumerate(_unreached(cells, rest)):
        _add(scores, cells.cluster[rest], place[rest], np.full(len(rest), keep), outcome, values)
    scores[:, : len(segments), :keep] += direct[:, : len(segments), :keep]
    scores[:, len(segments) :, :keep] = scores[:, len(segments) :, keep:]
    requests = sum_by((cells.cluster, place), cells.sums["n"], (CLUSTERS, places))
    return ScoreCube(
        cells=cells,
        nuisances=nuisances,
        segments=segments,
        requests=requests,
        scores=scores,
        direct=direct,
        model_error=model_errors(cells, nuisances, segments, reach, weighted),
        failure_variance=failure_variance(cells, nuisances, segments),
        learn=support(cells, nuisances, segments, learning=True),
        all=support(cells, nuisances, segments, learning=False),
        place_of_cell=place,
    )


def _add(cube: Floats, cluster: Ints, place: Ints, action: Ints, outcome: int, values: Floats) -> None:
    cube[..., outcome] += sum_by((cluster, place, action), values, cube.shape[:3])


def _add_direct(direct: Floats, cells: Cells, nuisances: Nuisances, segments: tuple[Segment, ...]) -> None:
    """Predictions alone: sum over rows of mu_a(x), by cluster, segment and model: requests per context times predictions."""
    binning = cells.binning
    tasks, levels, lengths, keep = len(binning.tasks), binning.levels, binning.lengths, len(binning.models)
    n = sum_by((cells.cluster, cells.task, cells.level, cells.length), cells.sums["n"], (CLUSTERS, tasks + 1, levels + 1, lengths))
    folds = fold_of(np.arange(CLUSTERS))
    means = np.stack(
        [nuisances.cost, nuisances.latency, nuisances.success, nuisances.success * nuisances.quality, nuisances.slow], axis=-1
    )[..., :keep, :]
    for fold in range(FOLDS):
        of = np.flatnonzero(folds == fold)
        for place, segment in enumerate(segments):
            contexts = n[of, segment.task, segment.first : segment.last].reshape(len(of), -1)
            fitted = means[fold, segment.task, segment.first : segment.last].reshape(contexts.shape[1], -1)
            direct[of, place, :keep] = (contexts @ fitted).reshape(len(of), keep, len(OUTCOMES))


def strips(requests: Floats) -> Ints:
    """Adjacent levels joined into strips of at least REQUESTS_PER_STRIP, a short last one joined to its neighbour."""
    strip = np.zeros(len(requests), dtype=np.int64)
    current, filled = 0, 0.0
    remaining = requests.sum() - requests.cumsum()
    for level, n in enumerate(requests):
        strip[level] = current
        filled += n
        if filled >= REQUESTS_PER_STRIP and remaining[level] >= REQUESTS_PER_STRIP:
            current, filled = current + 1, 0.0
    return strip


def support(cells: Cells, nuisances: Nuisances, segments: tuple[Segment, ...], *, learning: bool) -> Support:
    """Counts and overlap by (segment, model), on the learning half or on all; choices alone, no outcome but labels' number."""
    only = cells.learning if learning else None
    keep = len(cells.binning.models)
    n = cells.total("n", cells=only)
    logged = _logged_weights(cells, only)
    counts = {name: cells.total(name, cells=only)[:-1, :-1].sum(axis=2)[..., :keep] for name in ("labelled", "n_cost", "n_latency")}
    by_level = n[:-1, :-1].sum(axis=2)
    propensity = nuisances.propensity[0 if learning else 1][..., :keep]
    weight = 1.0 / propensity
    total_weight = (n[:-1, :-1, :, :keep] * weight).sum(axis=2)
    squared = (n[:-1, :-1, :, :keep] * weight**2).sum(axis=2)
    shape = (len(segments), keep)
    found = {name: np.zeros(shape) for name in ("requests", "labelled", "effective", "min_propensity", "covered", "n_cost", "n_latency")}
    for place, segment in enumerate(segments):
        at = (segment.task, slice(segment.first, segment.last))
        own = by_level[at]
        found["requests"][place] = own[:, :keep].sum(axis=0)
        for name in counts:
            found[name][place] = counts[name][at].sum(axis=0)
        found["effective"][place] = total_weight[at].sum(axis=0) ** 2 / np.maximum(squared[at].sum(axis=0), 1e-300)
        if logged is not None:
            total, of_squares = (each[at].sum(axis=0) for each in logged)
            found["effective"][place] = np.minimum(found["effective"][place], total**2 / np.maximum(of_squares, 1e-300))
        occupied = n[:-1, :-1].sum(axis=3)[at] > 0
        found["min_propensity"][place] = np.where(occupied[..., None], propensity[at], 1.0).min(axis=(0, 1))
        found["covered"][place] = _covered(own, keep)
    return Support(
        requests=found["requests"],
        labelled=found["labelled"],
        effective=found["effective"],
        min_propensity=found["min_propensity"],
        covered=found["covered"],
        has_cost=found["n_cost"] > 0,
        has_latency=found["n_latency"] > 0,
        least_effective=MIN_EFFECTIVE if logged is None else MIN_EFFECTIVE_LOGGED,
    )


def _logged_weights(cells: Cells, only: NDArray[np.bool_] | None) -> tuple[Floats, Floats] | None:
    """Sums of w and w^2 by (task, level, model) with w = 1 / logged propensity; None where none is used."""
    if cells.weighted is None or cells.distrusts_weights:
        return None
    binning = cells.binning
    of = cells.is_weighted & (True if only is None else only)
    shape = (len(binning.tasks) + 1, binning.levels + 1, len(binning.models) + 1)
    keys = (cells.task[of], cells.level[of], cells.arm[of])
    total, squared = (sum_by(keys, cells.weighted[name][of], shape)[..., :-1] for name in ("n", "weight_squared"))
    return total, squared


def _covered(by_level: Floats, keep: int) -> Floats:
    """Share of a segment's traffic in strips of levels where the model was chosen at least with probability CLIP."""
    total = by_level.sum(axis=1)
    strip = strips(total)
    size = np.bincount(strip, total)
    covered = np.zeros(keep)
    for arm in range(keep):
        seen = np.bincount(strip, by_level[:, arm])
        covered[arm] = size[(seen >= 1) & (seen >= CLIP * size)].sum() / max(total.sum(), 1e-300)
    return covered


def seen_levels(cells: Cells) -> NDArray[np.bool_]:
    """(task, level, model): the model was chosen, at least with probability CLIP, in the level's strip of the window."""
    keep = len(cells.binning.models)
    by_level = cells.total("n")[:-1, :-1].sum(axis=2)
    seen = np.zeros((*by_level.shape[:2], keep), dtype=bool)
    for task, counts in enumerate(by_level):
        strip = strips(counts.sum(axis=1))
        size = np.bincount(strip, counts.sum(axis=1))
        for arm in range(keep):
            chosen = np.bincount(strip, counts[:, arm])
            seen[task, :, arm] = ((chosen >= 1) & (chosen >= CLIP * size))[strip]
    return seen
