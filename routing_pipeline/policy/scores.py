"""Doubly robust scores, summed by cluster, segment and action: enough for every segment policy and its error.

Belongs here: the score cube. Does not belong here: overlap and support (`policy.support`), nuisance models (`policy.outcome_model`) and what
their own error adds (`policy.model_error`), intervals (`stats.inference`), choosing actions (`policy.search`).

For a request i of context x sent to a_i, the score of sending it to a is (Robins, Rotnitzky, Zhao 1994, JASA 89:846;
Dudik, Langford, Li 2011, ICML)

    G_i(a) = mu_a(x) + 1{a_i = a} / pi_a(x) * (y_i - mu_a(x)),        G_i(KEEP) = y_i.

Where y was not observed for all (R_i = 1 where it was, with probability e), y_i is replaced by m + R_i / e (y_i - m).
Quality is that of successful answers: a policy's quality is sum G_SQ / sum G_S, a ratio of two linear values, with
SQ = success x quality, whose prediction for a success is m(x, a), and mu_SQ = mu_S m.

Whatever an outcome is not known of (`policy.known_parts`) is left out of its sums on both sides, so that a policy and today's
routing are compared over the same requests: KEEP's score of a kind that is not known is 0, and a model's sums stand for the
share rho(x) of a context's requests that are of known kinds,

    sum G(a) = sum_x n(x) rho(x) mu_a(x) + sum 1{a_i = a} rho(x) / pi_a(x) (y_i - mu_a(x)).

Means are over those requests (`ScoreCube.counted`); of quality, over the successes among them, which are an outcome as well.

mu, m, pi, e, rho are constant within a cell, so sums over a cell's rows are all that these formulas need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from routing_pipeline.policy.cells import SUMS, Cells, Floats, Ints, sum_by
from routing_pipeline.policy.completion import Completion, completion_of
from routing_pipeline.policy.expected_errors import Expected, failure_variance, quality_variance
from routing_pipeline.policy.known_parts import Known, KnownParts, known_parts
from routing_pipeline.policy.model_error import OF_OUTCOME, model_errors
from routing_pipeline.policy.outcome_model import AS_SENT, FOLDS, FOLDS_PER_HALF, REGRESSIONS, Nuisances, fit, fold_of
from routing_pipeline.policy.pseudo_labels import with_pseudo_labels
from routing_pipeline.policy.segments import Segment, segment_map, segments_of
from routing_pipeline.policy.support import Support, support
from routing_pipeline.stats.inference import Statistic, ratio_of_sums
from routing_pipeline.window.scope import CLUSTERS

OUTCOMES = tuple(OF_OUTCOME)
COST, LATENCY, SUCCESS, QUALITY, SLOW, ANSWERED, CALLS = range(len(OUTCOMES))
COUNTS: tuple[Known | None, ...] = tuple(counts for counts, _ in OF_OUTCOME.values())
"""By outcome, what must be known of a request for it to count."""
BY_CALLS: tuple[int, ...] = (COST, LATENCY, CALLS)
"""Outcomes whose means are per request of today's: sums over sessions by the requests that these take today."""


@dataclass(frozen=True)
class Sums:
    """Of one policy over some of the clusters, by cluster (0 for the others): scores by outcome, and the requests that they are of.

    model_error: what each cluster, of the others too, adds to the error of the scores' sum through the regressions. completed:
    sums of successes as pooled, with what clusters add to their error; None where only rows are known. expected: see there.
    """

    scores: Floats
    counted: Floats
    model_error: Floats
    completed: tuple[Floats, Floats] | None = None
    expected: Expected | None = None

    def mean(self, outcome: int) -> Statistic:
        """Per unit of which the outcome is known, or per request of today's (`BY_CALLS`)."""
        return ratio_of_sums(self.scores[:, outcome], self.counted[:, outcome], self.model_error[:, outcome])

    def completion(self) -> Statistic:
        """Share of units that end well."""
        if self.completed is None:
            return self.mean(SUCCESS)
        counted = self.counted[:, SUCCESS]
        found = ratio_of_sums(self.completed[0], counted, self.completed[1])
        variance = 0.0 if self.expected is None else self.expected.of_completion
        return replace(found, expected_error=math.sqrt(variance) / max(float(counted.sum()), 1e-300))

    def quality(self) -> Statistic:
        """Of successes of which it is known."""
        answered = self.scores[:, ANSWERED]
        found = ratio_of_sums(self.scores[:, QUALITY], answered, self.model_error[:, QUALITY], self.model_error[:, ANSWERED])
        variance = 0.0 if self.expected is None else self.expected.quality
        return replace(found, expected_error=math.sqrt(variance) / max(abs(float(answered.sum())), 1e-300))


@dataclass(frozen=True)
class ScoreCube:
    """Sums by (cluster, place, action, outcome).

    Places: segments first, then one per task for what no rule reaches (its score is KEEP's whatever the action).
    Actions: models in the binning's order, then KEEP. `quality` holds success x quality, `answered` the successes that it is of.
    direct: what the regressions alone say, of KEEP about the models that requests were sent to; none of what no rule reaches.
    requests: units by (cluster, place); counted: by (cluster, place, outcome), those of which the outcome is known, and of costs, times
    and calls the requests that they hold today. model_error: by
    half whose scores are meant, then as the scores, for segments alone (`policy.model_error`). quality_variance: see `policy.expected_errors`.
    """

    cells: Cells
    nuisances: Nuisances
    known: KnownParts
    segments: tuple[Segment, ...]
    requests: Floats
    counted: Floats
    scores: Floats
    direct: Floats
    model_error: Floats
    completion: Completion
    quality_variance: Floats
    learn: Support
    all: Support
    place_of_cell: Ints

    @property
    def models(self) -> tuple[str, ...]:
        """Models that may be chosen."""
        return self.cells.binning.models

    @property
    def unreached_share(self) -> Floats:
        """Of all requests, those that each model serves where no rule reaches."""
        n, models = self.cells.sums["n"], len(self.models)
        of = (self.place_of_cell >= len(self.segments)) & (self.cells.arm < models)
        found: Floats = np.bincount(self.cells.arm[of], n[of], minlength=models) / max(float(n.sum()), 1e-300)
        return found

    @property
    def keep(self) -> int:
        """The action that leaves today's routing."""
        return len(self.models)

    def chosen(self, actions: Ints, clusters: slice, places: Ints | None = None) -> Sums:
        """Of an action per place; `places`: of these alone."""
        place = np.arange(len(actions)) if places is None else np.unique(places[places < len(actions)])
        return self._of(place, actions[place], np.ones(len(place)), clusters, places)

    def mixed(self, shares: Floats, clusters: slice, places: Ints | None = None) -> Sums:
        """Of shares of each action by (place, action), each place's adding up to 1; `places`: of these alone."""
        place, action = np.nonzero(shares)
        if places is not None:
            is_meant = np.isin(place, places)
            place, action = place[is_meant], action[is_meant]
        return self._of(place, action, shares[place, action], clusters, places)

    def _of(self, place: Ints, action: Ints, share: Floats, clusters: slice, where: Ints | None) -> Sums:
        """Of these shares of actions, among the requests of `where`; None: of all places."""
        of_all = np.zeros((CLUSTERS, len(OUTCOMES) + 1))
        errors = np.zeros((CLUSTERS, len(OUTCOMES) + 1))
        n = np.zeros((CLUSTERS, len(OUTCOMES)))
        n[clusters] = self._counted[clusters] if where is None else self.counted[clusters][:, where].sum(axis=1)
        actions = self.keep + 1
        of_segments = place < len(self.segments)
        segment, taken, of = place[of_segments], action[of_segments], share[of_segments]
        expected = Expected(0.0, np.zeros(actions), 0.0)
        for half in _halves(clusters):
            sums, error = self._rows[half]
            of_all[(LEARN, PROVE)[half]] = (share @ sums.take(place * actions + action, axis=0)).reshape(-1, len(OUTCOMES) + 1)
            errors += (of @ error.take(segment * actions + taken, axis=0)).reshape(-1, len(OUTCOMES) + 1)
            expected += Expected(
                float((self.completion.variance[half][segment, taken] * of**2).sum()),
                sum_by((taken,), self.completion.borrowed[half][segment, taken] * of, (actions,)),
                float((self.quality_variance[half][segment, taken] * of**2).sum()),
            )
        return Sums(of_all[:, :-1], n, errors[:, :-1], (of_all[:, -1], errors[:, -1]), expected)

    @cached_property
    def _rows(self) -> list[tuple[Floats, Floats]]:
        """By half: scores of its clusters, and errors of all, those of completion beside them; a row for each place and action, as many are added."""
        found = []
        for half, clusters in enumerate((LEARN, PROVE)):
            sums = np.concatenate([self.scores[clusters], self.completion.sums[clusters, ..., None]], axis=-1)
            error = np.concatenate([self.model_error[half], self.completion.error[half][..., None]], axis=-1)
            found.append((_by_choice(sums), _by_choice(error)))
        return found

    @cached_property
    def _counted(self) -> Floats:
        """By cluster and outcome."""
        total: Floats = self.counted.sum(axis=1)
        return total

    def left(self, needs: Sequence[Known]) -> NDArray[np.bool_]:
        """Segments that are left as they are, because one of these outcomes is not known of much of what happens there today."""
        found: NDArray[np.bool_] = np.logical_or.reduce([self.known.left[outcome] for outcome in needs])[: len(self.segments)]
        return found

    def unseen_loss(self, shares: Floats, clusters: slice) -> float:
        """By how much quality may be lower than told, where today's answers to moved requests were perfect and nobody scored them.

        sum over moved places of U (1 - quality of the models there) / (requests of known kinds + sum of U), U: those of others.
        """
        place, action = np.nonzero(shares[:, : self.keep])
        unseen = self.known.unknown["quality"][place] * shares[place, action]
        if not unseen.any():
            return 0.0
        good, of = self.scores[clusters, place, action][..., [QUALITY, ANSWERED]].sum(axis=0).T
        lost = 1.0 - np.clip(good / np.maximum(of, 1e-300), 0.0, 1.0)
        return float((unseen * lost).sum() / max(float(self.counted[..., QUALITY].sum() + unseen.sum()), 1e-300))


def _by_choice(values: Floats) -> Floats:
    """Of (cluster, place, action, outcome): a row for each place and action."""
    clusters, places, actions, outcomes = values.shape
    return np.ascontiguousarray(values.transpose(1, 2, 0, 3)).reshape(places * actions, clusters * outcomes)


LEARN, PROVE, BOTH = slice(0, CLUSTERS // 2), slice(CLUSTERS // 2, CLUSTERS), slice(0, CLUSTERS)


def _halves(clusters: slice) -> list[int]:
    return [place for place, half in enumerate((LEARN, PROVE)) if clusters in (half, BOTH)]


def _weighted_sums(cells: Cells, reach: Ints, propensity: Floats) -> dict[str, Floats]:
    """Sums of requests weighted by 1 / propensity: the logged one where there is one, else the cell's."""
    estimated: dict[str, Floats] = {name: cells.sums[name][reach] / propensity for name in (*SUMS, "scored")}
    if cells.weighted is None or cells.distrusts_weights:
        return estimated
    logged = cells.is_weighted[reach]
    return {name: np.where(logged, cells.weighted[name][reach], values) for name, values in estimated.items()}


def _by_cell(nuisances: Nuisances, fold: Ints, context: tuple[Ints, ...]) -> dict[str, Floats]:
    half = fold // FOLDS_PER_HALF
    by_fold = {name: getattr(nuisances, name)[(fold, *context)] for name in REGRESSIONS}
    return by_fold | {name: getattr(nuisances, name)[(half, *context)] for name in ("propensity", "labelled", "priced", "timed")}


def _observed_part(sums: dict[str, Floats], fitted: dict[str, Floats], regression: str = "quality") -> list[Floats]:
    """By cell and outcome: sum w (y - mu), missing outcomes corrected for; w = 1 gives KEEP's score less mu n.

    regression: what predicts the quality of answers that nobody scored.
    """
    m = fitted[regression]
    answered = m * sums["success"] + (sums["quality"] - m * sums["scored"]) / fitted["labelled"]
    return [
        (sums["cost"] - fitted["cost"] * sums["n_cost"]) / fitted["priced"],
        (sums["latency"] - fitted["latency"] * sums["n_latency"]) / fitted["timed"],
        sums["success"] - fitted["success"] * sums["n"],
        answered - fitted["success"] * m * sums["n"],
        (sums["slow"] - fitted["slow"] * sums["n_latency"]) / fitted["timed"],
        sums["success"] - fitted["success"] * sums["n"],
        sums["calls"] - fitted["calls"] * sums["n"],
    ]


def _means(fitted: dict[str, Floats], regression: str = "quality") -> list[Floats]:
    success = fitted["success"]
    return [fitted["cost"], fitted["latency"], success, success * fitted[regression], fitted["slow"], success, fitted["calls"]]


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
        ("quality", "scored", "answered"),
    ):
        total, seen, base = (sum_by(keys, cells.sums[each][rest], shape) for each in (name, observed, of))
        by_half = total.sum(axis=(1, 2), keepdims=True) / np.maximum(seen.sum(axis=(1, 2), keepdims=True), 1e-300)
        mean = np.where(seen > 0, total / np.maximum(seen, 1e-300), by_half)
        found[name] = (mean, np.where(seen > 0, seen / np.maximum(base, 1e-300), 1.0))
    return found


def _unreached(cells: Cells, rest: Ints) -> list[Floats]:
    """KEEP's outcomes of requests that no rule reaches: sums as they are, missing ones at the task's and model's mean."""
    sums = {name: values[rest] for name, values in (cells.sums | {"cost": cells.sums.get("cost_today", cells.sums["cost"])}).items()}
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
        filled("quality", "scored", "answered"),
        filled("slow", "n_latency", "n"),
        sums["answered"],
        sums["calls"],
    ]


def known_share(cells: Cells, known: KnownParts, outcome: Known | None) -> Floats:
    """Share of each context's requests of which an outcome is known, (task, level, length); 1 where there are none."""
    shape = (len(cells.binning.tasks) + 1, cells.binning.levels + 1, cells.binning.lengths)
    n, of = (
        sum_by((cells.task, cells.level, cells.length), values, shape)[:-1, :-1]
        for values in (cells.sums["n"], cells.sums["n"] * known.of_cells(cells, outcome))
    )
    return np.where(n > 0, of / np.maximum(n, 1e-300), 1.0)


def score_cube(cells: Cells, nuisances: Nuisances | None = None, segments: tuple[Segment, ...] | None = None) -> ScoreCube:
    """Everything that evaluating segment policies needs; about 20 MB for 40 segments and 7 models.

    Nuisances are fitted unless given; segments are those of the cells unless given.
    """
    cells = with_pseudo_labels(cells)
    segments = segments_of(cells) if segments is None else segments
    binning = cells.binning
    keep = len(binning.models)
    places = len(segments) + len(binning.tasks) + 1
    place = segment_map(cells, segments)[cells.task, cells.level]
    known = known_parts(cells, place, places)
    nuisances = fit(cells, known) if nuisances is None else nuisances
    shape = (CLUSTERS, places, keep + 1, len(OUTCOMES))
    reach = np.flatnonzero(place < len(segments))
    rest = np.flatnonzero(place >= len(segments))
    fold = fold_of(cells.cluster[reach])
    fitted = _by_cell(nuisances, fold, (cells.task[reach], cells.level[reach], cells.length[reach], cells.arm[reach]))
    own = {name: values[reach] for name, values in cells.sums.items()}
    today = own | {"cost": own.get("cost_today", own["cost"])}
    weighted = _weighted_sums(cells, reach, fitted["propensity"])
    direct, scores = np.zeros(shape), np.zeros(shape)
    is_known = {counts: known.of_cells(cells, counts) for counts in dict.fromkeys(COUNTS)}
    share = {counts: known_share(cells, known, counts) for counts in is_known}
    _add_direct(direct, cells, nuisances, segments, is_known)
    is_arm = cells.arm[reach] < keep
    for outcome, (corrected, kept, mean) in enumerate(
        zip(_observed_part(weighted, fitted), _observed_part(today, fitted, AS_SENT), _means(fitted, AS_SENT), strict=True)
    ):
        counts = COUNTS[outcome]
        corrected = corrected * share[counts][cells.task[reach], cells.level[reach], cells.length[reach]]
        expected = mean * own["n"] * is_known[counts][reach]
        _add(direct, cells.cluster[reach], place[reach], np.full(len(reach), keep), outcome, expected)
        kept = kept * is_known[counts][reach] + expected
        _add(scores, cells.cluster[reach], place[reach], np.full(len(reach), keep), outcome, kept)
        _add(scores, cells.cluster[reach][is_arm], place[reach][is_arm], cells.arm[reach][is_arm], outcome, corrected[is_arm])
    for outcome, values in enumerate(_unreached(cells, rest)):
        _add(scores, cells.cluster[rest], place[rest], np.full(len(rest), keep), outcome, values * is_known[COUNTS[outcome]][rest])
    scores[:, : len(segments), :keep] += direct[:, : len(segments), :keep]
    scores[:, len(segments) :, :keep] = scores[:, len(segments) :, keep:]
    counted, of_calls = (
        {counts: sum_by((cells.cluster, place), cells.sums[name] * values, (CLUSTERS, places)) for counts, values in is_known.items()}
        for name in ("n", "calls")
    )
    errors, direct_error = model_errors(cells, nuisances, known, segments, reach, weighted, share)
    everywhere = support(cells, nuisances, segments, learning=False)
    return ScoreCube(
        cells=cells,
        nuisances=nuisances,
        known=known,
        segments=segments,
        requests=counted[None],
        counted=np.stack([(of_calls if outcome in BY_CALLS else counted)[counts] for outcome, counts in enumerate(COUNTS)], axis=-1),
        scores=scores,
        direct=direct,
        model_error=errors,
        completion=completion_of(
            cells,
            (LEARN, PROVE),
            counted[None],
            scores[..., SUCCESS],
            direct[..., SUCCESS],
            (errors[..., SUCCESS], direct_error),
            failure_variance(cells, nuisances, segments),
            everywhere.supported,
        ),
        quality_variance=quality_variance(cells, nuisances, segments),
        learn=support(cells, nuisances, segments, learning=True),
        all=everywhere,
        place_of_cell=place,
    )


def _add(cube: Floats, cluster: Ints, place: Ints, action: Ints, outcome: int, values: Floats) -> None:
    cube[..., outcome] += sum_by((cluster, place, action), values, cube.shape[:3])


def _add_direct(
    direct: Floats, cells: Cells, nuisances: Nuisances, segments: tuple[Segment, ...], is_known: dict[Known | None, Floats]
) -> None:
    """Predictions alone: sum over rows of known kinds of mu_a(x), by cluster, segment and model: requests per context times predictions."""
    binning = cells.binning
    tasks, levels, lengths, keep = len(binning.tasks), binning.levels, binning.lengths, len(binning.models)
    keys = (cells.cluster, cells.task, cells.level, cells.length)
    folds = fold_of(np.arange(CLUSTERS))
    means = _means({name: getattr(nuisances, name)[..., :keep] for name in ("cost", "latency", "success", "quality", "slow", "calls")})
    for counts, values in is_known.items():
        n = sum_by(keys, cells.sums["n"] * values, (CLUSTERS, tasks + 1, levels + 1, lengths))
        outcomes = [outcome for outcome, each in enumerate(COUNTS) if each == counts]
        of_outcomes = np.stack([means[outcome] for outcome in outcomes], axis=-1)
        for fold in range(FOLDS):
            of = np.flatnonzero(folds == fold)
            for place, segment in enumerate(segments):
                contexts = n[of, segment.task, segment.first : segment.last].reshape(len(of), -1)
                fitted = of_outcomes[fold, segment.task, segment.first : segment.last].reshape(contexts.shape[1], -1)
                found = (contexts @ fitted).reshape(len(of), keep, len(outcomes))
                for column, outcome in enumerate(outcomes):
                    direct[of, place, :keep, outcome] = found[..., column]
