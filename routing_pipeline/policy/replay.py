"""Any rule set over the request rows of the proving half: doubly robust scores row by row, summed by the engine.

Belongs here: the expression that scores rows under a rule set, and its aggregate by cluster, task, day and rule. Does
not belong here: the formulas' derivation (`policy.scores`), intervals and verdicts (`recommendation.simulation`).

Rules written by hand may cut where cells do not, so rows, and not cells, are matched; the nuisance models are those of
the cells, joined on. For rules that cells can express, the sums are those of the score cube.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import numpy as np
import pyarrow as pa

from routing_pipeline.policy.binning import FIXED, MISSING, Binning
from routing_pipeline.policy.cells import COST_TODAY, LOGGED_CLIP, Cells, Floats, Ints, with_cells
from routing_pipeline.policy.counting import as_counted
from routing_pipeline.policy.decisions import FIRST, as_logged, holds, with_first_fields
from routing_pipeline.policy.outcome_model import AS_SENT, FOLDS, FOLDS_PER_HALF
from routing_pipeline.policy.prompt_caches import ModelCache, whole_session_rows
from routing_pipeline.policy.pseudo_labels import judge_model
from routing_pipeline.policy.scores import BY_CALLS, COUNTS, OUTCOMES, QUALITY, ScoreCube, known_share, unreached_means
from routing_pipeline.policy.segments import segment_map
from routing_pipeline.policy.support import seen_levels
from routing_pipeline.policy.units import session_rows
from routing_pipeline.rules.model import NEEDS, RuleSet
from routing_pipeline.window.conform import half_of
from routing_pipeline.window.engine import held_rows

UNMOVED = -1
Half = Literal["learn", "prove"]


@dataclass(frozen=True)
class Replay:
    """Sums over rows by (cluster, task, day, rule); arrays of one length. rule is UNMOVED where none decided.

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
    "cell_calls",
    "cell_is_scored",
    "quality",
    "own_propensity",
    "share",
)


def _carried(rows: ibis.Table) -> tuple[str, ...]:
    """The columns that the replay needs, needs and fields of the session's first request among them where they are there."""
    return (*_CARRIED, *(name for name in rows.columns if name in NEEDS or name in (COST_TODAY, "judge_quality") or name.startswith(FIRST)))


def _rows(requests: ibis.Table, cells: Cells, rule_set: RuleSet, half: Half) -> ibis.Table:
    """Final rows of one half with their cell; requests without a length spread over lengths with shares."""
    binning = cells.binning
    rows = with_cells(half_of(requests, half), binning)
    alone = rows.attempts.fill_null(1) == 1
    # What failed has no length in the log: where tasks are cut by length, it counts as short here as it does in the cells.
    tokens = rows.prompt_tokens.cast("float64")
    is_cut = any(low is not None for low, _ in binning.prompts) and binning.axis != "prompt_tokens"
    rows = (
        with_first_fields(as_logged(rows), rule_set)
        .mutate(
            prompt_tokens=tokens.fill_null(0.0) if is_cut else tokens,
            is_hit=rows.is_cache_hit.fill_null(False),
            cell_level=ibis.ifelse(rows.cell_level == FIXED, ibis.literal(binning.levels, "int64"), rows.cell_level),
            own_propensity=ibis.ifelse(alone, rows.propensity, ibis.null("float64")),
            share=ibis.literal(1.0),
        )
        .select(*_carried(rows))
    )
    column = "cell_level" if binning.axis == "prompt_tokens" else "cell_length"
    present = rows.filter(rows[column] != MISSING)
    missing = rows.filter(rows[column] == MISSING)
    spread = _spread(cells)
    joined = missing.join(spread, [missing.cell_task == spread.spread_task, missing.cell_level == spread.spread_from])
    joined = joined.mutate(cell_level=joined.to_level, cell_length=joined.to_length, prompt_tokens=joined.to_tokens, share=joined.to_share)
    return present.union(joined.select(*_carried(rows)), distinct=False)


def _decided(rows: ibis.Table, rule_set: RuleSet) -> ibis.expr.types.IntegerValue:
    """Place of the first rule that holds, UNMOVED when none does, it changes nothing, or the cache answers."""
    decided = ibis.literal(UNMOVED, "int64")
    ordered = sorted(enumerate(rule_set.rules), key=lambda each: each[1].priority, reverse=True)
    for place, rule in ordered:
        # Tier asked for is not in the logs; such a rule is judged by its other conditions and reported as untestable.
        condition = holds(rule, rows, without=("tier",))
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


def _corrections(rows: ibis.Table, prefix: str) -> list[ibis.expr.types.NumericValue]:
    """Y - mu by outcome, missing outcomes corrected for (policy.scores)."""

    def fit(name: str) -> ibis.expr.types.NumericValue:
        return _fit(rows, prefix, name)

    def corrected(value: ibis.expr.types.NumericValue, name: str, rate: str) -> ibis.expr.types.NumericValue:
        return ((value - fit(name)) / fit(rate)).fill_null(0.0)

    timed_slow = ibis.ifelse(rows.request_latency_ms.notnull(), rows.cell_slow, ibis.null("float64"))
    answered = rows.cell_success * (fit("quality") + corrected(_label(rows), "quality", "labelled"))
    # Where costs are restated for what a rule does to them, today's are still what was logged.
    cost = rows[COST_TODAY] if prefix == "own" and COST_TODAY in rows.columns else rows.request_cost_usd
    return [
        corrected(cost, "cost", "priced"),
        corrected(rows.request_latency_ms, "latency", "timed"),
        rows.cell_success - fit("success"),
        answered - fit("success") * fit("quality"),
        corrected(timed_slow, "slow", "timed"),
        rows.cell_success - fit("success"),
        rows.cell_calls - fit("calls"),
    ]


def _label(rows: ibis.Table) -> ibis.expr.types.NumericValue:
    """Quality as the cells have it: the score, or the pseudo-label that a judge's score makes (`policy.pseudo_labels`)."""
    if "own_fit_judge_offset" not in rows.columns:
        return rows.quality
    told = rows.own_fit_judge_offset + rows.own_fit_judge_slope * rows.judge_quality
    return told + ((rows.quality - told) / rows.own_fit_judge_rate).fill_null(0.0)


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


@contextmanager
def decided_rows(requests: ibis.Table, binning: Binning, half: Half | None = None) -> Iterator[ibis.Table]:
    """What rules decide about, for `replay`: the final requests, or one row a session; sessions are worked out once, however many replays follow.

    half: of these alone; None for both.
    """
    requests = as_counted(requests, binning.counting)
    if not binning.caches and not binning.of_sessions:
        yield requests
        return
    wanted = requests if half is None else half_of(requests, half)
    if binning.caches:
        sessions = whole_session_rows(wanted, tuple(ModelCache(*each) for each in binning.caches))
    else:
        sessions = session_rows(
            wanted, binning.slow_above_ms, is_scored_one_by_one=binning.is_scored_one_by_one, by_request=binning.by_request
        )
    with held_rows(sessions) as rows:
        yield rows


def replay(rule_set: RuleSet, decided: ibis.Table, cube: ScoreCube, half: Half = "prove") -> Replay:
    """Score every row of the half that the cube proves on today and under the rules; one pass, a small aggregate.

    decided: of `decided_rows`, with that half among them. half: which of the window's halves the cube proves on; the first one for a
    cube whose halves are swapped (`policy.halves`).
    """
    cells, binning = cube.cells, cube.cells.binning
    rows = _rows(decided, cells, rule_set, half)
    rows = rows.mutate(decided=_decided(rows, rule_set), cell_fold=FOLDS_PER_HALF + rows.cluster % FOLDS_PER_HALF)
    targets = _targets(rule_set, binning)
    rows = rows.left_join(targets, rows.decided == targets.target_rule)
    named = {target.model for rule in rule_set.rules if rule.route != "unchanged" for target in rule.route}
    arms = np.array([index for index, model in enumerate(binning.models) if model in named], dtype=np.int64)
    rows = _join(rows, _fitted(cube, "own", np.arange(len(binning.models) + 1)), "own", "cell_arm")
    rows = _join(rows, _fitted(cube, "new", arms), "new", "target")
    weight = 1.0 / rows.new_fit_propensity
    if cells.weighted is not None and not cells.distrusts_weights:
        logged = ibis.ifelse(rows.own_propensity > LOGGED_CLIP, rows.own_propensity, ibis.literal(LOGGED_CLIP))
        weight = ibis.ifelse(rows.own_propensity.isnull(), weight, 1.0 / logged)
    moves = rows.target.notnull()
    same = (rows.target == rows.cell_arm).fill_null(False)
    share = rows.share * rows.target_weight.fill_null(1.0)
    known = [_known(rows, outcome) for outcome in range(len(OUTCOMES))]
    now = [
        (mean + corrected) * is_known
        for mean, corrected, (is_known, _) in zip(_means(rows, "own"), _corrections(rows, "own"), known, strict=True)
    ]
    new = [
        mean * is_known + ibis.ifelse(same, weight * of * corrected, ibis.literal(0.0))
        for mean, corrected, (is_known, of) in zip(_means(rows, "new"), _corrections(rows, "new"), known, strict=True)
    ]
    of_calls = {OUTCOMES[outcome] for outcome in BY_CALLS}
    reachable = rows.new_seen.fill_null(False)
    columns: dict[str, Any] = {
        "requests": share,
        "moved": ibis.ifelse(moves & ~same, share, ibis.literal(0.0)),
        "served": ibis.ifelse(same, rows.share, ibis.literal(0.0)),
        "scored": ibis.ifelse(same & rows.quality.notnull(), rows.share, ibis.literal(0.0)),
        "unseen": ibis.ifelse(moves & ~reachable, share, ibis.literal(0.0)),
        "left": ibis.ifelse(moves & ((rows.own_fit_left > 0) | (rows.cell_is_scored == 0)), share, ibis.literal(0.0)),
        "unscored": ibis.ifelse(moves & (known[QUALITY][0] == 0), share, ibis.literal(0.0)),
    }
    for name, before, after, (is_known, _) in zip(OUTCOMES, now, new, known, strict=True):
        columns[f"counted_{name}"] = share * is_known * (rows.cell_calls if name in of_calls else ibis.literal(1.0))
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
