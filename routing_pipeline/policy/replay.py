"""Any rule set over the request rows of the proving half: doubly robust scores row by row, summed by the engine.

Belongs here: the expression that scores rows under a rule set, and its aggregate by cluster, task, day and rule. Does
not belong here: the formulas' derivation (`policy.scores`), intervals and verdicts (`recommendation.simulation`).

Rules written by hand may cut where cells do not, so rows, and not cells, are matched; the nuisance models are those of
the cells, joined on. For rules that cells can express, the sums are those of the score cube.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from routing_pipeline.policy.cells import CLIP, FIXED, MISSING, Binning, Cells, Floats, Ints, with_cells
from routing_pipeline.policy.nuisance import FOLDS, FOLDS_PER_HALF
from routing_pipeline.policy.rule_set import RuleSet
from routing_pipeline.policy.scores import OUTCOMES, ScoreCube, seen_levels, unreached_means
from routing_pipeline.scope import half_of

UNMOVED = -1


@dataclass(frozen=True)
class Replay:
    """Sums over rows by (cluster, task, day, rule); arrays of one length. rule is UNMOVED where none decided.

    now and then: (group, outcome) of today's routing and of the rules. served, scored: requests that today already send
    to a target of the rule, and how many of them are labelled. unseen: requests sent where the logs hold no such choice.
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
    now: Floats
    then: Floats


def _spread(cells: Cells) -> ibis.Table:
    """Where requests without a length go: one row per (task, level) and bin, with its share and mean length."""
    binning = cells.binning
    rows: dict[str, list[Any]] = {"spread_task": [], "spread_from": [], "to_level": [], "to_length": [], "to_tokens": [], "to_share": []}
    share = cells.length_share
    by_level = binning.axis == "prompt_tokens"
    for task in range(len(binning.tasks)):
        tokens = binning.bin_tokens[task]
        for level in range(binning.levels):
            for length in range(binning.lengths):
                if share[task, level, length] <= 0:
                    continue
                place = level if by_level else length
                values = (
                    task,
                    MISSING if by_level else level,
                    level,
                    length,
                    tokens[place] if place < len(tokens) else 0.0,
                    share[task, level, length],
                )
                for name, value in zip(rows, values, strict=True):
                    rows[name].append(value)
    types = {"to_tokens": pa.float64(), "to_share": pa.float64()}
    return ibis.memtable(pa.table({name: pa.array(values, types.get(name, pa.int64())) for name, values in rows.items()}))


_CARRIED: tuple[str, ...] = (
    "cluster",
    "day",
    "task_type",
    "complexity",
    "prompt_tokens",
    "team",
    "is_hit",
    "cell_task",
    "cell_level",
    "cell_length",
    "cell_arm",
    "request_cost_usd",
    "request_latency_ms",
    "cell_slow",
    "cell_success",
    "quality",
    "own_propensity",
    "share",
)


def _rows(requests: ibis.Table, cells: Cells) -> ibis.Table:
    """Final rows of the proving half with their cell; requests without a length spread over lengths with shares."""
    binning = cells.binning
    rows = with_cells(half_of(requests, "prove"), binning)
    alone = rows.attempts.fill_null(1) == 1
    rows = rows.mutate(
        # A rule never matches a field that was not logged.
        task_type=ibis.ifelse(rows.is_task_type_logged, rows.task_type, ibis.null("string")),
        complexity=ibis.ifelse(rows.is_complexity_derived, ibis.null("float64"), rows.complexity),
        prompt_tokens=rows.prompt_tokens.cast("float64"),
        is_hit=rows.is_cache_hit.fill_null(False),
        cell_level=ibis.ifelse(rows.cell_level == FIXED, ibis.literal(binning.levels, "int64"), rows.cell_level),
        own_propensity=ibis.ifelse(alone, rows.propensity, ibis.null("float64")),
        share=ibis.literal(1.0),
    ).select(*_CARRIED)
    column = "cell_level" if binning.axis == "prompt_tokens" else "cell_length"
    present = rows.filter(rows[column] != MISSING)
    missing = rows.filter(rows[column] == MISSING)
    spread = _spread(cells)
    joined = missing.join(spread, [missing.cell_task == spread.spread_task, missing.cell_level == spread.spread_from])
    joined = joined.mutate(cell_level=joined.to_level, cell_length=joined.to_length, prompt_tokens=joined.to_tokens, share=joined.to_share)
    return present.union(joined.select(*_CARRIED), distinct=False)


def _decided(rows: ibis.Table, rule_set: RuleSet) -> ibis.expr.types.IntegerValue:
    """Place of the first rule that holds, UNMOVED when none does, it changes nothing, or the cache answers."""
    decided = ibis.literal(UNMOVED, "int64")
    ordered = sorted(enumerate(rule_set.rules), key=lambda each: each[1].priority, reverse=True)
    for place, rule in ordered:
        # Tier asked for is not in the logs; such a rule is judged by its other conditions and reported as untestable.
        condition = rule.when.model_copy(update={"tier": None}).holds(rows)
        decided = ibis.ifelse(condition, ibis.literal(UNMOVED if rule.route == "unchanged" else place, "int64"), decided)
    return ibis.ifelse(rows.is_hit, ibis.literal(UNMOVED, "int64"), decided)


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


_FITTED: tuple[str, ...] = ("cost", "latency", "success", "quality", "slow", "propensity", "labelled", "priced", "timed")


def _fitted(cube: ScoreCube, prefix: str, arms: Ints) -> ibis.Table:
    """Nuisances of the proving half by (fold, task, level, length, arm), with those of requests that no rule reaches."""
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
            values[name][where] = fill[None, :, None, :] if where[1] == slice(None) else fill[None, None, None, :]
            if name in rates:
                values[rates[name]][where] = rate_fill[None, :, None, :] if where[1] == slice(None) else rate_fill[None, None, None, :]
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


def _corrections(rows: ibis.Table, prefix: str) -> list[ibis.expr.types.NumericValue]:
    """Y - mu by outcome, missing outcomes corrected for (policy.scores)."""

    def fit(name: str) -> ibis.expr.types.NumericValue:
        return rows[f"{prefix}_fit_{name}"]

    def corrected(value: ibis.expr.types.NumericValue, name: str, rate: str) -> ibis.expr.types.NumericValue:
        return ((value - fit(name)) / fit(rate)).fill_null(0.0)

    timed_slow = ibis.ifelse(rows.request_latency_ms.notnull(), rows.cell_slow, ibis.null("float64"))
    answered = rows.cell_success * (fit("quality") + corrected(rows.quality, "quality", "labelled"))
    return [
        corrected(rows.request_cost_usd, "cost", "priced"),
        corrected(rows.request_latency_ms, "latency", "timed"),
        rows.cell_success - fit("success"),
        answered - fit("success") * fit("quality"),
        corrected(timed_slow, "slow", "timed"),
    ]


def _means(rows: ibis.Table, prefix: str) -> list[ibis.expr.types.NumericValue]:
    def fit(name: str) -> ibis.expr.types.NumericValue:
        return rows[f"{prefix}_fit_{name}"]

    return [fit("cost"), fit("latency"), fit("success"), fit("success") * fit("quality"), fit("slow")]


def replay(rule_set: RuleSet, requests: ibis.Table, cube: ScoreCube) -> Replay:
    """Score every final row of the proving half today and under the rules; one pass, a small aggregate."""
    cells, binning = cube.cells, cube.cells.binning
    rows = _rows(requests, cells)
    rows = rows.mutate(decided=_decided(rows, rule_set), cell_fold=FOLDS_PER_HALF + rows.cluster % FOLDS_PER_HALF)
    targets = _targets(rule_set, binning)
    rows = rows.left_join(targets, rows.decided == targets.target_rule)
    named = {target.model for rule in rule_set.rules if rule.route != "unchanged" for target in rule.route}
    arms = np.array([index for index, model in enumerate(binning.models) if model in named], dtype=np.int64)
    rows = _join(rows, _fitted(cube, "own", np.arange(len(binning.models) + 1)), "own", "cell_arm")
    rows = _join(rows, _fitted(cube, "new", arms), "new", "target")
    weight = 1.0 / rows.new_fit_propensity
    if cells.weighted is not None and not cells.distrusts_weights:
        logged = ibis.ifelse(rows.own_propensity > CLIP, rows.own_propensity, ibis.literal(CLIP))
        weight = ibis.ifelse(rows.own_propensity.isnull(), weight, 1.0 / logged)
    moves = rows.target.notnull()
    same = (rows.target == rows.cell_arm).fill_null(False)
    share = rows.share * rows.target_weight.fill_null(1.0)
    now = [mean + corrected for mean, corrected in zip(_means(rows, "own"), _corrections(rows, "own"), strict=True)]
    new = [
        mean + ibis.ifelse(same, weight * corrected, ibis.literal(0.0))
        for mean, corrected in zip(_means(rows, "new"), _corrections(rows, "new"), strict=True)
    ]
    reachable = rows.new_seen.fill_null(False)
    columns: dict[str, Any] = {
        "requests": share,
        "moved": ibis.ifelse(moves & ~same, share, ibis.literal(0.0)),
        "served": ibis.ifelse(same, rows.share, ibis.literal(0.0)),
        "scored": ibis.ifelse(same & rows.quality.notnull(), rows.share, ibis.literal(0.0)),
        "unseen": ibis.ifelse(moves & ~reachable, share, ibis.literal(0.0)),
    }
    for name, before, after in zip(OUTCOMES, now, new, strict=True):
        columns[f"now_{name}"] = share * before
        columns[f"then_{name}"] = share * ibis.ifelse(moves, after, before)
    scored = rows.mutate(**{f"s_{name}": value for name, value in columns.items()})
    keys = ["cluster", "cell_task", "day", "decided"]
    grouped = scored.group_by(keys).agg(**{name: scored[f"s_{name}"].sum().fill_null(0.0) for name in columns}).to_pyarrow()
    grouped = grouped.sort_by([(key, "ascending") for key in keys])
    column = {name: grouped[name].to_numpy() for name in grouped.column_names}
    return Replay(
        cluster=column["cluster"].astype(np.int64),
        task=column["cell_task"].astype(np.int64),
        day=column["day"].astype(np.int64),
        rule=column["decided"].astype(np.int64),
        **{name: column[name].astype(np.float64) for name in ("requests", "moved", "served", "scored", "unseen")},
        now=np.stack([column[f"now_{name}"] for name in OUTCOMES], axis=1).astype(np.float64),
        then=np.stack([column[f"then_{name}"] for name in OUTCOMES], axis=1).astype(np.float64),
    )
