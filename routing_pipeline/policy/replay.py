"""Any rule set over the rows of one half: doubly robust scores of their sums, summed by the engine.

Belongs here: the expression that scores sums under a rule set, and its aggregate by cluster, task, day and rule. Does
not belong here: the formulas' derivation (`policy.scores`), what rows are summed by (`policy.decided_sums`), intervals and
verdicts (`recommendation.simulation`).

The nuisance models are those of the cells, joined on. For rules that cells can express, the sums are those of the score cube.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from routing_pipeline.policy.binning import Binning
from routing_pipeline.policy.cells import COST_TODAY, Floats, Ints, sum_by
from routing_pipeline.policy.decided_sums import WEIGHTED, DecidedSums, Half
from routing_pipeline.policy.outcome_model import AS_SENT, FOLDS, FOLDS_PER_HALF
from routing_pipeline.policy.pseudo_labels import judge_model
from routing_pipeline.policy.scores import BY_CALLS, COUNTS, OUTCOMES, QUALITY, ScoreCube, known_share, unreached_means
from routing_pipeline.policy.segments import segment_map
from routing_pipeline.policy.support import seen_levels
from routing_pipeline.rules.model import RuleSet


@dataclass(frozen=True)
class Replay:
    """Sums over rows by (cluster, task, day, rule); arrays of one length. rule is `decided_sums.UNMOVED` where none decided.

    now and then: (group, outcome) of today's routing and of the rules; counted: (group, outcome), the requests of which the
    outcome is known (`policy.known_parts`). served, scored: requests that today already send to a target of the rule, and how
    many of them are labelled. unseen: requests sent where the logs hold no such choice. left: moved requests that should have
    been left as they are, for want of anything to compare with; unscored: moved requests whose answers today nobody scores.
    """

    cluster: Ints
    task: Ints
    day: Ints
    rule: Ints
    requests: Floats
    moved: Floats
    served: Floats
    scored: Floats
    unseen: Floats
    left: Floats
    unscored: Floats
    counted: Floats
    now: Floats
    then: Floats


def _targets(rule_set: RuleSet, binning: Binning) -> ibis.Table:
    place = {model: index for index, model in enumerate(binning.models)}
    targets = [
        (index, place.get(target.model, len(binning.models)), target.weight)
        for index, rule in enumerate(rule_set.rules)
        if rule.route != "unchanged"
        for target in rule.route
    ]
    columns = list(zip(*targets, strict=True)) or [(), (), ()]
    return ibis.memtable(
        pa.table(
            {
                "target_rule": pa.array(list(columns[0]), pa.int64()),
                "target": pa.array(list(columns[1]), pa.int64()),
                "target_weight": pa.array(list(columns[2]), pa.float64()),
            }
        )
    )


_FITTED: tuple[str, ...] = ("cost", "latency", "success", "quality", AS_SENT, "slow", "calls", "propensity", "labelled", "priced", "timed")


def _fitted(cube: ScoreCube, prefix: str, arms: Ints) -> ibis.Table:
    """Nuisances of the proving half by (fold, task, level, length, arm), with those of requests that no rule reaches, and what is known."""
    cells, nuisances = cube.cells, cube.nuisances
    binning = cells.binning
    tasks, levels, lengths = len(binning.tasks), binning.levels, binning.lengths
    folds = np.arange(FOLDS_PER_HALF, FOLDS)
    shape = (len(folds), tasks + 1, levels + 1, lengths, len(arms))
    seen = np.zeros(shape, dtype=bool)
    known = arms[arms < len(binning.models)]
    seen[:, :-1, :-1, :, : len(known)] = seen_levels(cells)[None, :, :, None, known]
    values: dict[str, Floats] = {}
    for name in _FITTED:
        full = np.ones(shape) if name in {"propensity", "labelled", "priced", "timed"} else np.zeros(shape)
        array = getattr(nuisances, name)
        source = array[1][None] if array.shape[0] == 2 else array[folds]
        full[:, :-1, :-1] = source[..., arms]
        values[name] = full
    rates = {"cost": "priced", "latency": "timed", "quality": "labelled"}
    for name, (mean, rate) in unreached_means(cells).items():
        for where in ((slice(None), slice(None), levels), (slice(None), tasks, slice(None))):
            fill = mean[1][:, arms] if where[1] == slice(None) else mean[1][-1, arms]
            rate_fill = rate[1][:, arms] if where[1] == slice(None) else rate[1][-1, arms]
            for each in (name, AS_SENT) if name == "quality" else (name,):
                values[each][where] = fill[None, :, None, :] if where[1] == slice(None) else fill[None, None, None, :]
            if name in rates:
                values[rates[name]][where] = rate_fill[None, :, None, :] if where[1] == slice(None) else rate_fill[None, None, None, :]
    judge = judge_model(cells)
    if judge is not None:
        at = np.zeros(shape)
        values["judge_offset"] = judge.offset[folds][..., arms] + at
        values["judge_slope"] = judge.slope[folds][:, None, None, None][..., arms] + at
        values["judge_rate"] = judge.rate[1][None, :, :, None][..., arms] + at
    by_propensity = sum_by((cells.task, cells.level), cells.is_weighted.astype(np.float64), shape[1:3]) > 0
    values["by_propensity"] = by_propensity[None, :, :, None, None] + np.zeros(shape)
    place = segment_map(cells, cube.segments)[:, :, None, None]
    values["left"] = (cube.known.left["quality"] | cube.known.left["cost"])[place].astype(np.float64) + np.zeros(shape)
    for outcome, kinds in cube.known.kinds.items():
        values[f"known_{outcome}"] = kinds[place, arms].astype(np.float64) + np.zeros(shape)
        values[f"share_{outcome}"] = np.ones(shape)
        values[f"share_{outcome}"][:, :-1, :-1] = known_share(cells, cube.known, outcome)[None, ..., None]
    grid = np.indices(shape)
    keys = {"fold": folds[grid[0]], "task": grid[1], "level": grid[2], "length": grid[3], "arm": arms[grid[4]]}
    columns = {f"{prefix}_{name}": pa.array(each.ravel(), pa.int64()) for name, each in keys.items()}
    columns |= {f"{prefix}_fit_{name}": pa.array(each.ravel(), pa.float64()) for name, each in values.items()}
    columns[f"{prefix}_seen"] = pa.array(seen.ravel())
    return ibis.memtable(pa.table(columns))


def _join(rows: ibis.Table, fitted: ibis.Table, prefix: str, arm: str) -> ibis.Table:
    return rows.left_join(
        fitted,
        [
            rows.cell_fold == fitted[f"{prefix}_fold"],
            rows.cell_task == fitted[f"{prefix}_task"],
            rows.cell_level == fitted[f"{prefix}_level"],
            rows.cell_length == fitted[f"{prefix}_length"],
            rows[arm] == fitted[f"{prefix}_arm"],
        ],
    )


def _corrections(rows: ibis.Table, prefix: str, of: str = "") -> list[ibis.expr.types.NumericValue]:
    """Sums of Y - mu by outcome, missing outcomes corrected for (policy.scores). of: WEIGHTED for sums by one over the propensity."""

    def fit(name: str) -> ibis.expr.types.NumericValue:
        return _fit(rows, prefix, name)

    def corrected(name: str, rate: str, measured: str = "") -> ibis.expr.types.NumericValue:
        measured = measured or name
        return ((rows[f"{of}{measured}"] - rows[f"{of}n_{measured}"] * fit(name)) / fit(rate)).fill_null(0.0)

    n, success, calls = rows[f"{of}n"], rows[f"{of}success"], rows[f"{of}calls"]
    told, labels = _labels(rows, of)
    answered = success * fit("quality") + ((labels - told * fit("quality")) / fit("labelled")).fill_null(0.0)
    # Where costs are restated for what a rule does to them, today's are still what was logged.
    cost = COST_TODAY if prefix == "own" and COST_TODAY in rows.columns else "cost"
    return [
        corrected("cost", "priced", cost),
        corrected("latency", "timed"),
        success - n * fit("success"),
        answered - n * fit("success") * fit("quality"),
        corrected("slow", "timed"),
        success - n * fit("success"),
        calls - n * fit("calls"),
    ]


def _labels(rows: ibis.Table, of: str) -> tuple[ibis.expr.types.NumericValue, ibis.expr.types.NumericValue]:
    """Answers with a label, and the sum of labels: scores, or the pseudo-labels that a judge's scores make (`policy.pseudo_labels`)."""
    if "own_fit_judge_offset" not in rows.columns:
        return rows[f"{of}n_answered"], rows[f"{of}answered"]
    offset, slope = rows.own_fit_judge_offset, rows.own_fit_judge_slope
    judged, both = rows[f"{of}n_judged"], rows[f"{of}n_both"]
    left = rows[f"{of}both_quality"] - offset * both - slope * rows[f"{of}both_judge"]
    return judged, offset * judged + slope * rows[f"{of}judged"] + (left / rows.own_fit_judge_rate).fill_null(0.0)


def _fit(rows: ibis.Table, prefix: str, name: str) -> ibis.expr.types.NumericValue:
    """A regression of what serves a request ("own": as requests were sent) or of where a rule sends it ("new")."""
    return rows[f"{prefix}_fit_{AS_SENT if prefix == 'own' and name == 'quality' else name}"]


def _means(rows: ibis.Table, prefix: str) -> list[ibis.expr.types.NumericValue]:
    def fit(name: str) -> ibis.expr.types.NumericValue:
        return _fit(rows, prefix, name)

    return [fit("cost"), fit("latency"), fit("success"), fit("success") * fit("quality"), fit("slow"), fit("success"), fit("calls")]


def _known(rows: ibis.Table, outcome: int) -> tuple[ibis.expr.types.NumericValue, ibis.expr.types.NumericValue]:
    """1 where an outcome is known of what serves the request today, else 0; and the share of its context of which it is."""
    counts = COUNTS[outcome]
    if counts is None:
        return ibis.literal(1.0), ibis.literal(1.0)
    is_known, share = rows[f"own_fit_known_{counts}"], rows[f"own_fit_share_{counts}"]
    return is_known * rows.cell_is_scored if counts == "quality" else is_known, share


def replay(rule_set: RuleSet, sums: DecidedSums, cube: ScoreCube, half: Half = "prove") -> Replay:
    """Score the rows of the half that the cube proves on, today and under the rules; a small aggregate.

    Args:
        rule_set: the rules.
        sums: of the window's rows, of this rule set among others.
        cube: scores of the window's cells.
        half: which of the window's halves the cube proves on; the first one for a cube whose halves are swapped (`policy.halves`).
    """
    cells, binning = cube.cells, cube.cells.binning
    rows = sums.under(rule_set, half)
    rows = rows.mutate(cell_fold=FOLDS_PER_HALF + rows.cluster % FOLDS_PER_HALF)
    targets = _targets(rule_set, binning)
    rows = rows.left_join(targets, rows.decided == targets.target_rule)
    named = {target.model for rule in rule_set.rules if rule.route != "unchanged" for target in rule.route}
    arms = np.array([index for index, model in enumerate(binning.models) if model in named], dtype=np.int64)
    rows = _join(rows, _fitted(cube, "own", np.arange(len(binning.models) + 1)), "own", "cell_arm")
    rows = _join(rows, _fitted(cube, "new", arms), "new", "target")
    weighted = [corrected / rows.new_fit_propensity for corrected in _corrections(rows, "new")]
    if cells.weighted is not None and not cells.distrusts_weights:
        # As in the cells: where nearly all requests carry their propensity, those that do count by it.
        is_own = rows.is_logged & (rows.new_fit_by_propensity > 0).fill_null(False)
        weighted = [ibis.ifelse(is_own, own, each) for own, each in zip(_corrections(rows, "new", WEIGHTED), weighted, strict=True)]
    moves = rows.target.notnull()
    same = (rows.target == rows.cell_arm).fill_null(False)
    share = rows.target_weight.fill_null(1.0)
    n = share * rows.n
    nothing = ibis.literal(0.0)
    known = [_known(rows, outcome) for outcome in range(len(OUTCOMES))]
    now = [
        (rows.n * mean + corrected) * is_known
        for mean, corrected, (is_known, _) in zip(_means(rows, "own"), _corrections(rows, "own"), known, strict=True)
    ]
    new = [
        rows.n * mean * is_known + ibis.ifelse(same, of * corrected, nothing)
        for mean, corrected, (is_known, of) in zip(_means(rows, "new"), weighted, known, strict=True)
    ]
    of_calls = {OUTCOMES[outcome] for outcome in BY_CALLS}
    reachable = rows.new_seen.fill_null(False)
    columns: dict[str, Any] = {
        "requests": n,
        "moved": ibis.ifelse(moves & ~same, n, nothing),
        "served": ibis.ifelse(same, rows.n, nothing),
        "scored": ibis.ifelse(same, rows.n_quality, nothing),
        "unseen": ibis.ifelse(moves & ~reachable, n, nothing),
        "left": ibis.ifelse(moves & ((rows.own_fit_left > 0) | (rows.cell_is_scored == 0)), n, nothing),
        "unscored": ibis.ifelse(moves & (known[QUALITY][0] == 0), n, nothing),
    }
    for name, before, after, (is_known, _) in zip(OUTCOMES, now, new, known, strict=True):
        columns[f"counted_{name}"] = share * is_known * (rows.calls if name in of_calls else rows.n)
        columns[f"now_{name}"] = share * before
        columns[f"then_{name}"] = share * ibis.ifelse(moves, after, before)
    keys = ["cluster", "cell_task", "day", "decided"]
    grouped = rows.group_by(keys).agg(**{name: value.sum().fill_null(0.0) for name, value in columns.items()}).to_pyarrow()
    grouped = grouped.sort_by([(key, "ascending") for key in keys])
    column = {name: grouped[name].to_numpy() for name in grouped.column_names}
    return Replay(
        cluster=column["cluster"].astype(np.int64),
        task=column["cell_task"].astype(np.int64),
        day=column["day"].astype(np.int64),
        rule=column["decided"].astype(np.int64),
        **{name: column[name].astype(np.float64) for name in ("requests", "moved", "served", "scored", "unseen", "left", "unscored")},
        **{
            kind: np.stack([column[f"{kind}_{name}"] for name in OUTCOMES], axis=1).astype(np.float64)
            for kind in ("counted", "now", "then")
        },
    )
