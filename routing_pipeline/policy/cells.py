"""The aggregate that every estimate starts from: sums per cluster, context and model.

Belongs here: the one aggregation over request rows, its Parquet file, and reading it back as arrays. Does not belong here:
how requests become cells (`policy.binning`), any model of outcomes (`policy.outcome_model`) or estimate (`policy.scores`).

Compressing rows to sums per (context, cluster) loses nothing that a cell-wise model with cluster-robust errors needs
(the idea of duckreg: Lal, Fischer, Wardrop 2024, arXiv 2410.09952).

Context is what the router may have known: task type, level (logged complexity in steps of 0.05; else bins of prompt
length), and, beside complexity, up to three bins of prompt length. Edges come from the learning half alone.

Cache hits are carried, and no policy changes them: the cache answers before any model is asked, so whichever model a
rule names, such a request costs and takes what it did. Leaving them out would overstate savings per request. (That a
cache fills anew for another model is an effect on later requests, which one more week of logs shows and these do not.)
Requests whose complexity or task type was not logged although others' was are carried in the same way: no rule on that
field matches them. Nor does one match those of teams whose answers are never scored (`policy.unscored_teams`).

Where needs are logged and vary (`feasibility.needs`), a task is cut by them, and by the longest prompts that models of the window
take: its parts stand on the axis of tasks as tasks of the same name do. Requests of which such a need is not logged are carried.

A request that failed often has no prompt length, since providers report it with the answer. Length would then tell the
outcome. So requests without a length are spread over the lengths of the other requests of their task and level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.policy.binning import FIXED, LOGGED_SHARE, MISSING, Binning, calls_of, judge_of
from routing_pipeline.policy.strata import with_stratum
from routing_pipeline.policy.tasks import Kinds, edges_reached, lookup, with_numbers, with_tasks
from routing_pipeline.policy.unscored_teams import NO_TEAM
from routing_pipeline.storage.bucket import read_shared
from routing_pipeline.storage.files import write_parquet_whole
from routing_pipeline.window.scope import CLUSTERS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLIP = 0.004
"""Least estimated propensity that is ever divided by."""
LOGGED_CLIP = 5e-4
"""The same of logged ones: exploration that is spread over many models is known to be as rare as it is."""

COST_TODAY = "cost_today_usd"
"""Column of rows whose cost is not what was logged (`policy.prompt_caches`): that. Its sum stands beside the others as `cost_today`."""
SUMS: tuple[str, ...] = ("n", "n_cost", "cost", "n_latency", "latency", "slow", "success", "answered", "labelled", "quality", "calls")
"""Per cell: units, which are requests or sessions (`policy.units`); those with a cost, and its sum; with a latency, its sum, and how many are slow; successes; those of them that
are not of teams without scores; those labelled, and the sum of quality; the requests of all units."""


JUDGE_SUMS: tuple[str, ...] = (
    "judged",
    "judge",
    "both",
    "both_judge",
    "both_judge_squares",
    "both_quality",
    "both_quality_squares",
    "both_product",
)
"""Where answers carry a judge's score j beside the trusted q of some: how many have j, and its sum; how many have both, and over those the
sums of j, j^2, q, q^2 and j q."""


@dataclass(frozen=True)
class Cells:
    """Cells as arrays of one length. `level` is 0..levels-1, or `levels` for requests that no rule reaches.

    `task` is len(tasks) for tasks beyond MAX_TASKS, `arm` is len(models) for models beyond MAX_MODELS.
    `sums` has `scored` besides: the answers that `quality` is the sum over, which are those labelled unless a judge's scores are put
    to use (`policy.pseudo_labels`). `weighted` holds the same sums (and weight_squared) with each request weighted by 1 / its logged propensity, in cells
    where `is_logged`; None when propensities are not logged. They are the weights of estimates where `is_weighted`: in contexts
    (task and level) of which nearly all requests carry one. Elsewhere such requests count
    by the share that a model has in the context.
    """

    binning: Binning
    cluster: Ints
    task: Ints
    level: Ints
    length: Ints
    arm: Ints
    sums: dict[str, Floats]
    weighted: dict[str, Floats] | None
    is_weighted: NDArray[np.bool_]
    length_share: Floats
    """(task, level, length): how requests without a length are spread; sums to 1 over length (over level, when that is length)."""
    is_logged: NDArray[np.bool_]
    """Cells of requests that carry a propensity."""
    distrusts_weights: bool = False
    """The logged propensities do not match the choices; observed shares take their place."""

    @property
    def knows_weights(self) -> bool:
        """Whether the propensities of nearly all requests that rules reach are logged, and those of the choices."""
        reach = self.level < self.binning.levels
        n = float(self.sums["n"][reach].sum())
        return not self.distrusts_weights and 0 < LOGGED_SHARE * n <= float(self.sums["n"][reach & self.is_logged].sum())

    @property
    def learning(self) -> NDArray[np.bool_]:
        """Cells of the half that rules are learnt on (as `window.conform.half_of`)."""
        return self.cluster < CLUSTERS // 2

    def total(self, name: str, *, cells: NDArray[np.bool_] | None = None) -> Floats:
        """Sum over clusters: (task + 1, level + 1, length, arm + 1)."""
        shape = (len(self.binning.tasks) + 1, self.binning.levels + 1, self.binning.lengths, len(self.binning.models) + 1)
        keys, values = (self.task, self.level, self.length, self.arm), self.sums[name]
        if cells is None:
            return sum_by(keys, values, shape)
        return sum_by(tuple(key[cells] for key in keys), values[cells], shape)


def sum_by(keys: tuple[Ints, ...], values: Floats, shape: tuple[int, ...]) -> Floats:
    """Sum of `values` per combination of keys, as a dense array of `shape`."""
    sums = np.bincount(np.ravel_multi_index(keys, shape), values, minlength=math.prod(shape)).astype(np.float64)
    return sums.reshape(shape)


def _edge_columns(prefix: str, edges: tuple[tuple[float, ...], ...]) -> dict[str, list[Any]]:
    width = max((len(each) for each in edges), default=0)
    return {f"{prefix}_{place}": [each[place] if place < len(each) else None for each in edges] for place in range(width)}


def _bin_by_task(rows: ibis.Table, column: str, prefix: str, edges: tuple[tuple[float, ...], ...]) -> ibis.expr.types.IntegerValue:
    reached = ibis.literal(0, "int64")
    for name in _edge_columns(prefix, edges):
        reached = reached + (rows[column] >= rows[name]).fill_null(False).cast("int64")
    return reached


def with_cells(requests: ibis.Table, binning: Binning) -> ibis.Table:
    """Final rows with cell_task, cell_level, cell_length and cell_arm (MISSING, FIXED where they apply)."""
    final = requests.filter(requests.is_final)
    kinds = Kinds(binning.tasks, binning.needs, binning.prompts, binning.kind_teams)
    rows = with_tasks(final, kinds, **_edge_columns("level", binning.level_edges), **_edge_columns("length", binning.length_edges))
    models = lookup(binning.models, "arm")
    rows = rows.left_join(models, rows.routed_model == models.arm_key)
    is_named_team, is_scored = ibis.literal(True), ibis.literal(1.0)
    if binning.teams:
        unscored = {each.team for each in binning.unscored_teams}
        scored = [1.0] * len(binning.teams) + [0.0] * len(unscored)
        teams = lookup((*binning.teams, *sorted(unscored)), "team", team_is_scored=scored)
        rows = rows.left_join(teams, rows.team == teams.team_key)
        is_named_team = rows.team_place.fill_null(len(binning.teams)) < len(binning.teams)
        is_scored = ibis.ifelse(rows.team.isnull(), ibis.literal(float(NO_TEAM not in unscored)), rows.team_is_scored.fill_null(1.0))
    none = ibis.literal(MISSING, "int64")
    sized = rows.prompt_tokens.notnull()
    level = ibis.literal(0, "int64")
    length = ibis.literal(0, "int64")
    if binning.axis == "complexity":
        is_logged = rows.complexity.notnull() & ~rows.is_complexity_derived
        level = ibis.ifelse(is_logged, edges_reached(rows.complexity, binning.level_edges[0]), ibis.literal(FIXED, "int64"))
        length = (
            ibis.ifelse(sized, _bin_by_task(rows, "prompt_tokens", "length", binning.length_edges), none) if binning.lengths > 1 else length
        )
    elif binning.axis == "prompt_tokens":
        level = ibis.ifelse(sized, _bin_by_task(rows, "prompt_tokens", "level", binning.level_edges), none)
    rows, length = with_stratum(rows, binning.strata, length)
    is_fixed = rows.is_cache_hit.fill_null(False) | rows.task_place.isnull() | ~is_named_team | ~rows.is_need_known
    if binning.tasks_logged:
        is_fixed = is_fixed | ~rows.is_task_type_logged
    level = ibis.ifelse(is_fixed, ibis.literal(FIXED, "int64"), level)
    rows = rows.mutate(cell_level=level)
    if not binning.of_sessions:
        rows = with_numbers(rows, slow_above_ms=np.inf if binning.slow_above_ms is None else binning.slow_above_ms)
    return rows.mutate(
        cell_task=rows.task_place.fill_null(len(binning.tasks)),
        cell_length=ibis.ifelse(rows.cell_level == FIXED, ibis.literal(0, "int64"), length),
        cell_arm=rows.arm_place.fill_null(len(binning.models)),
        cell_slow=rows.slow if binning.of_sessions else (rows.request_latency_ms > rows.slow_above_ms).cast("float64"),
        cell_calls=calls_of(rows).cast("float64"),
        cell_success=(rows.status == "success").cast("float64"),
        cell_is_scored=is_scored,
    )


def _aggregates(rows: ibis.Table, binning: Binning) -> dict[str, Any]:
    def total(value: ibis.expr.types.NumericValue) -> ibis.expr.types.NumericScalar:
        return value.cast("float64").sum().fill_null(0.0)

    terms = {
        "n": rows.is_final.cast("float64"),
        "n_cost": rows.request_cost_usd.notnull().cast("float64"),
        "cost": rows.request_cost_usd,
        "n_latency": rows.request_latency_ms.notnull().cast("float64"),
        "latency": rows.request_latency_ms,
        "slow": rows.cell_slow,
        "success": rows.cell_success,
        "answered": rows.cell_success * rows.cell_is_scored,
        "labelled": rows.quality.notnull().cast("float64"),
        "quality": rows.quality,
        "calls": rows.cell_calls,
    }
    if binning.has_judge:
        judge, both = judge_of(rows), rows.quality + 0.0 * judge_of(rows)
        of_both = ibis.ifelse(both.notnull(), judge, ibis.null("float64"))
        of_judge = (
            judge.notnull().cast("float64"),
            judge,
            both.notnull().cast("float64"),
            of_both,
            of_both * of_both,
            both,
            both * both,
            of_both * both,
        )
        terms |= dict(zip(JUDGE_SUMS, of_judge, strict=True))
    sums = {name: total(term) for name, term in terms.items()}
    if binning.caches:
        sums["cost_today"] = total(rows[COST_TODAY])
    if binning.weighted:
        weight = rows.cell_weight
        sums |= {f"weighted_{name}": total(weight * term) for name, term in terms.items()}
        sums["weight_squared"] = total(weight * weight)
    return sums


def aggregate(requests: ibis.Table, binning: Binning) -> pa.Table:
    """The one aggregation over request rows: at most about MAX_CELLS rows, the binning in its metadata."""
    rows = with_cells(requests, binning)
    if binning.weighted:
        # A chain's last attempt carries its own probability, not that of the model routed to first.
        own = ibis.ifelse(rows.attempts.fill_null(1) == 1, rows.propensity, ibis.null("float64"))
        rows = rows.mutate(
            cell_weight=1.0 / ibis.ifelse(own > LOGGED_CLIP, own, ibis.ifelse(own.isnull(), ibis.null("float64"), LOGGED_CLIP))
        )
        rows = rows.mutate(cell_logged=own.notnull().cast("int64"))
    keys = ["cluster", "cell_task", "cell_level", "cell_length", "cell_arm", *(["cell_logged"] if binning.weighted else [])]
    cells = rows.group_by(keys).agg(**_aggregates(rows, binning)).to_pyarrow()
    # The order in which engines return groups is theirs; sums over cells must not depend on it.
    cells = cells.sort_by([(key, "ascending") for key in keys])
    return cells.replace_schema_metadata({b"binning": binning.to_json().encode()})


def with_calm(table: pa.Table, calm: pa.Table) -> pa.Table:
    """The cells of a window, and after them those of the same without its unusual hours."""
    parts = [
        each.append_column("cell_calm", pa.array([is_calm] * each.num_rows, pa.bool_())) for each, is_calm in ((table, False), (calm, True))
    ]
    return pa.concat_tables(parts).replace_schema_metadata(table.schema.metadata)


def part_of(table: pa.Table, *, calm: bool) -> pa.Table:
    """One of both; all where there is one alone."""
    return table if "cell_calm" not in table.column_names else table.filter(pc.equal(table["cell_calm"], calm)).drop_columns(["cell_calm"])


def write_cells(table: pa.Table, path: Path) -> None:
    """Store the cells; the folder is created."""
    write_parquet_whole(table, path)


def read_cells(path: str | Path) -> Cells:
    """Cells of a file that `write_cells` wrote, wherever it was shared.

    Raises:
        UnusableInputError: it is gone.
    """
    content = read_shared(str(path))
    if content is None:
        raise UnusableInputError(f"{path}: the cells behind the evidence are gone; analyse the window again")
    return cells_of(part_of(pq.read_table(pa.BufferReader(content)), calm=False))


def _shares(task: Ints, level: Ints, length: Ints, n: Floats, binning: Binning) -> Floats:
    """How requests without a length are spread, from those that have one; see Cells.length_share."""
    shape = (len(binning.tasks) + 1, binning.levels, binning.lengths)
    has = (length >= 0) & (level >= 0)
    counts = sum_by((task[has], level[has], length[has]), n[has], shape)
    if binning.axis == "prompt_tokens":
        total = counts.sum(axis=1, keepdims=True)
        first = np.zeros(shape)
        first[:, 0] = 1.0
        return np.where(total > 0, counts / np.maximum(total, 1e-300), first)
    by_task = counts.sum(axis=1, keepdims=True) + 1e-9
    # A request's worth of the task's own spread keeps sparse levels from all falling into one bin.
    smooth: Floats = counts + by_task / by_task.sum(axis=2, keepdims=True)
    spread: Floats = smooth / smooth.sum(axis=2, keepdims=True)
    return spread


def cells_of(table: pa.Table) -> Cells:
    """Arrays from the aggregate, requests without a length spread over the lengths of their peers."""
    binning = Binning.from_json(table.schema.metadata[b"binning"])
    column = {name: table[name].to_numpy() for name in table.column_names}
    keys = {
        name: column[source].astype(np.int64)
        for name, source in (
            ("cluster", "cluster"),
            ("task", "cell_task"),
            ("level", "cell_level"),
            ("length", "cell_length"),
            ("arm", "cell_arm"),
        )
    }
    counted = [*SUMS, *(JUDGE_SUMS if binning.has_judge else ())]
    of_weights = [*(f"weighted_{name}" for name in counted), "weight_squared"] if binning.weighted else []
    today = ["cost_today"] if binning.caches else []
    names = [*counted, *today, *of_weights]
    keys["logged"] = column["cell_logged"].astype(np.int64) if binning.weighted else np.zeros(len(keys["task"]), dtype=np.int64)
    sums = {name: column[name].astype(np.float64) for name in names}
    share = _shares(keys["task"], keys["level"], keys["length"], sums["n"], binning)
    by_level = binning.axis == "prompt_tokens"
    is_missing = (keys["level"] if by_level else keys["length"]) == MISSING
    bins = binning.levels if by_level else binning.lengths
    rows, spread = np.flatnonzero(is_missing), np.tile(np.arange(bins), int(is_missing.sum()))
    source = np.concatenate([np.flatnonzero(~is_missing), np.repeat(rows, bins)])
    keys = {name: values[source] for name, values in keys.items()}
    keys["level" if by_level else "length"][len(source) - len(spread) :] = spread
    weight = np.ones(len(source))
    tail = slice(len(source) - len(spread), None)
    weight[tail] = share[keys["task"][tail], keys["level"][tail], keys["length"][tail]]
    keys["level"][keys["level"] == FIXED] = binning.levels
    kept = weight > 0
    sums = {name: (values[source] * weight)[kept] for name, values in sums.items()}
    keys = {name: values[kept] for name, values in keys.items()}
    is_logged = keys.pop("logged") > 0
    context = (keys["task"], keys["level"])
    shape = (len(binning.tasks) + 1, binning.levels + 1)
    logged, all_of = sum_by(context, sums["n"] * is_logged, shape), sum_by(context, sums["n"], shape)
    of_requests = {name: sums[name] for name in (*counted, *today)}
    by_weight = {name.removeprefix("weighted_"): sums[name] for name in of_weights}
    return Cells(
        binning=binning,
        **keys,
        sums=of_requests | {"scored": of_requests["labelled"]},
        weighted=by_weight | {"scored": by_weight["labelled"]} if binning.weighted else None,
        is_weighted=is_logged & (logged >= LOGGED_SHARE * all_of)[context],
        is_logged=is_logged,
        length_share=share,
    )
