"""Which logged columns steer the router beside task and complexity: tests of the choice against each of them.

Belongs here: the columns that are tested, their counts out of the engine, the test. Does not belong here: what is done about a
column that steers (`policy.context`), the grade of the evidence (`policy.grade`).

Within a cell (task, level, length) a router that goes by nothing else chooses alike whatever a column holds. With p_c, q_c the
shares of models and of the column's values in cell c, each cluster k of sessions adds

    U_k(t, a, v) = sum over its requests of task t of (1{a_i = a} - p_c(a)) (1{v_i = v} - q_c(v)),

whose sum over clusters is 0 in expectation. X^2 = sum U^2 / V, V = sum_c n_c p_c q_c, is Pearson's statistic of models against
values within cells. How large it becomes by chance is found by permutation of whole clusters of sessions: the sign of each U_k is
drawn at random, the same for all columns (Canay, Romano, Shaikh 2017, Econometrica 85:1013), which exchanges choices between
values as often as not. Choices and values may stick to a session as they like. The largest of all columns' standardised statistics is what each is
held against (Westfall and Young 1993), so that where nothing steers, any column is named in at most ALPHA of windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
from numpy.typing import NDArray

from routing_pipeline.policy.binning import FIXED, TOKEN_EDGES, Binning
from routing_pipeline.policy.cells import Floats, Ints, sum_by, with_cells
from routing_pipeline.policy.evidence_model import SteeringTest
from routing_pipeline.policy.strata import VALUES
from routing_pipeline.policy.tasks import edges_reached
from routing_pipeline.window.engine import held_rows
from routing_pipeline.window.scope import CLUSTERS

ALPHA = 0.05
"""Share of windows in which any column is named although none steers."""
DRAWS = 1_999
SEED = 20_240_229
MATERIAL = 0.05
"""Relative spread of models' shares over a column's values from which on it is corrected for, where that is possible: with answers
that differ by .1 between values, a model's mean is off by at most half a point."""
TOO_MUCH = 0.08
"""Spread from which on what cannot be corrected for lowers the grade."""
MAX_VALUES = 32
MAX_ARMS = 12
TESTED_ROWS = 400_000
"""Above, a part of the clusters is tested, so that time stays bounded; a spread that matters shows in far fewer."""
LEAST_CLUSTERS = 30
REST = "(others)"


def _known(name: str) -> Callable[[ibis.Table], ibis.expr.types.StringValue]:
    """What is not logged is no value: which models' logs show it is the provider's doing."""
    return lambda rows: rows[name].cast("string")


def _lengths(name: str) -> Callable[[ibis.Table], ibis.expr.types.StringValue]:
    return lambda rows: ibis.ifelse(rows[name].notnull(), edges_reached(rows[name], TOKEN_EDGES).cast("string"), ibis.null("string"))


@dataclass(frozen=True)
class Column:
    """A logged column that could steer: as readers know it, what it must have, and its value by row (null: not tested there)."""

    name: str
    needs: str
    value: Callable[[ibis.Table], ibis.expr.types.StringValue]


COLUMNS: tuple[Column, ...] = (
    *(Column(name, needs, value) for name, (needs, value) in VALUES.items()),
    # Gateways add tags of what they chose, so they are named where they go with the choice, and never corrected for.
    Column("tags", "tags", _known("tags")),
    Column("images", "has_image", _known("has_image")),
    Column("audio", "has_audio", _known("has_audio")),
    Column("tools", "has_tools", _known("has_tools")),
    Column("structured output", "has_schema", _known("has_schema")),
    Column("prompt length", "prompt_tokens", _lengths("prompt_tokens")),
    Column("longest answer asked for", "max_output_tokens", _lengths("max_output_tokens")),
)


@dataclass(frozen=True)
class Counts:
    """Requests by (cluster, cell, value, arm), as columns of one length; task: of each cell."""

    cluster: Ints
    cell: Ints
    value: Ints
    arm: Ints
    n: Floats
    task: Ints
    values: tuple[str, ...]


@dataclass(frozen=True)
class Dependence:
    """What the counts of one column show.

    residual: U by (task, value, arm), over all clusters; expected: V by the same; statistic: X^2. products: K x K, of the
    clusters' U / sqrt(V), which signs are drawn for.
    """

    values: tuple[str, ...]
    residual: Floats
    expected: Floats
    products: Floats
    statistic: float
    requests: float

    @property
    def by_chance(self) -> float:
        """Its mean where nothing but chance is at work."""
        return float(np.trace(self.products))

    @property
    def spread(self) -> float:
        """Root mean square of p(a|v) / p(a) - 1 over requests, beyond chance."""
        return math.sqrt(max(self.statistic - self.by_chance, 0.0) / max(self.requests, 1.0))


def tested_columns(requests: ibis.Table, binning: Binning) -> tuple[Column, ...]:
    """Those that the logs hold and the context does not."""
    there = set(requests.columns)
    cut = {name for needs in binning.needs for name, _ in needs}
    return tuple(
        each
        for each in COLUMNS
        if each.needs in there and each.needs not in cut and not (each.needs == "prompt_tokens" and binning.axis == "prompt_tokens")
    )


CELL: tuple[str, ...] = ("cell_task", "cell_level", "cell_length")


def rows_to_test(requests: ibis.Table, binning: Binning, columns: Sequence[Column], n: int) -> ibis.Table:
    """By row its cluster, cell and model, and the value of each column (value_0, ...): rows that rules reach, of as many clusters as are tested."""
    rows = with_cells(requests, binning)
    rows = rows.filter(rows.cell_level != FIXED, rows.cell_task < len(binning.tasks))
    step = max(1, math.ceil(n / TESTED_ROWS))
    rows = rows if step == 1 else rows.filter(rows.cluster % step == 0)
    return rows.select("cluster", *CELL, "cell_arm", **{f"value_{place}": each.value(rows) for place, each in enumerate(columns)})


def counts_of(rows: ibis.Table, value: str) -> Counts | None:
    """One aggregate; None where the column holds one value or none."""
    keys = ("cluster", *CELL, "cell_arm")
    valued = rows.filter(rows[value].notnull())
    grouped = valued.group_by(*keys, value).agg(n=valued.count()).to_pyarrow()
    # Rows are many and values few: these alone are looked at as texts.
    encoded = grouped[value].combine_chunks().dictionary_encode()
    names, rank = np.unique(np.array(encoded.dictionary.to_pylist(), dtype=str), return_inverse=True)
    if len(names) < 2:
        return None
    place = rank[encoded.indices.to_numpy()]
    n = grouped["n"].to_numpy().astype(np.float64)
    size = np.bincount(place, n, minlength=len(names))
    largest = np.sort(np.argsort(-size, kind="stable")[:MAX_VALUES])
    of = np.full(len(names), len(largest), dtype=np.int64)
    of[largest] = np.arange(len(largest))
    got = {name: grouped[name].to_numpy().astype(np.int64) for name in keys}
    # The order in which engines return groups is theirs.
    order = np.argsort(_as_one([*got.values(), place]))
    _, first, cell = np.unique(_as_one([got[name] for name in CELL])[order], return_index=True, return_inverse=True)
    values = (*(str(each) for each in names[largest]), *((REST,) if len(names) > MAX_VALUES else ()))
    arm = _few(got["cell_arm"][order], n[order])
    task = got[CELL[0]][order][first]
    return Counts(got["cluster"][order], cell.reshape(-1).astype(np.int64), of[place][order], arm, n[order], task, values)


def _as_one(columns: Sequence[Ints]) -> Ints:
    """Rows as one number each, which is ordered as they are: sorted several times faster than several columns."""
    found = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        least, most = (int(column.min()), int(column.max())) if len(column) else (0, 0)
        # So far as numbers reach; beyond, ranks stand for them.
        if int(found.max(initial=0)) >= 2**62 // (most - least + 1):
            found = np.unique(found, return_inverse=True)[1].astype(np.int64)
        found = found * (most - least + 1) + (column - least)
    return found


def _few(arm: Ints, n: Floats) -> Ints:
    """Places of the commonest arms, the rest as one."""
    sizes = np.bincount(arm, n)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    found: Ints = np.minimum(rank, MAX_ARMS)[arm]
    return found


def dependence_of(counts: Counts) -> Dependence:
    """Residuals, their expectation and the clusters' products; task by task, so that memory stays bounded."""
    values, arms, tasks = len(counts.values), int(counts.arm.max()) + 1, int(counts.task.max()) + 1
    residual, expected = np.zeros((2, tasks, values, arms))
    products, statistic = np.zeros((CLUSTERS, CLUSTERS)), 0.0
    task_of_row = counts.task[counts.cell]
    for task in range(tasks):
        at = task_of_row == task
        if not at.any():
            continue
        plain, own, expected[task] = _residuals(counts, at, values, arms)
        residual[task] = plain.sum(axis=0)
        counted = np.where(expected[task] >= 1.0, expected[task], np.inf)
        statistic += float((residual[task] ** 2 / counted).sum())
        scaled = (own / np.sqrt(counted)).reshape(CLUSTERS, -1)
        products += scaled @ scaled.T
    return Dependence(counts.values, residual, expected, products, statistic, float(counts.n.sum()))


def _residuals(counts: Counts, at: NDArray[np.bool_], values: int, arms: int) -> tuple[Floats, Floats, Floats]:
    """Of one task's rows: U by (cluster, value, arm), the same as signs are drawn for, and V by (value, arm).

    A cell's shares are its own: the sum over its n requests varies by n / (n - 1) more than its parts do by themselves.
    """
    _, cell = np.unique(counts.cell[at], return_inverse=True)
    cells = int(cell.max()) + 1
    cluster, value, arm, n = counts.cluster[at], counts.value[at], counts.arm[at], counts.n[at]
    by_value = sum_by((cluster, value, cell), n, (CLUSTERS, values, cells))
    by_arm = sum_by((cluster, arm, cell), n, (CLUSTERS, arms, cells))
    by_cell = by_value.sum(axis=(0, 1))
    p, q = by_arm.sum(axis=0).T / by_cell[:, None], by_value.sum(axis=0).T / by_cell[:, None]
    by_both = (q[:, :, None] * p[:, None, :]).reshape(cells, -1)
    found = []
    for weight in (np.ones(cells), np.sqrt(by_cell / np.maximum(by_cell - 1.0, 1.0))):
        own = sum_by((cluster, value, arm), n * weight[cell], (CLUSTERS, values, arms))
        own -= (by_value * weight) @ p + ((by_arm * weight) @ q).transpose(0, 2, 1)
        found.append(own + ((by_value.sum(axis=1) * weight) @ by_both).reshape(own.shape))
    return found[0], found[1], (by_cell @ by_both).reshape(values, arms)


def tests_of(found: Mapping[str, Dependence]) -> dict[str, SteeringTest]:
    """Each column against the largest of all that chance gives."""
    rng = np.random.default_rng(SEED)
    signs = rng.integers(0, 2, size=(DRAWS, CLUSTERS)) * 2.0 - 1.0
    drawn = {name: ((signs @ each.products) * signs).sum(axis=1) for name, each in found.items()}
    scale = {name: max(float(values.std()), 1e-9 * max(found[name].by_chance, 1e-9)) for name, values in drawn.items()}
    centred = {name: (values - values.mean()) / scale[name] for name, values in drawn.items()}
    largest = np.max(np.stack(list(centred.values())), axis=0) if centred else np.zeros(DRAWS)
    tests = {}
    for name, each in found.items():
        standardised = (each.statistic - float(drawn[name].mean())) / scale[name]
        chance = (1 + int((largest >= standardised).sum())) / (DRAWS + 1)
        is_enough = int((np.diag(each.products) > 0).sum()) >= LEAST_CLUSTERS
        verdict = "no sign" if chance > ALPHA or not is_enough else "slight" if each.spread < MATERIAL else "steers"
        tests[name] = SteeringTest(
            column=name,
            values=len(each.values),
            statistic=each.statistic / max(each.by_chance, 1e-300),
            p_value=chance,
            spread=each.spread,
            verdict=verdict,
        )
    return tests


def examined(requests: ibis.Table, binning: Binning, n: int) -> tuple[dict[str, SteeringTest], dict[str, Dependence]]:
    """Every column that the logs hold, tested within the cells of a binning.

    Args:
        requests: rows of the window.
        binning: whose cells the router may tell apart.
        n: how many final requests there are.
    """
    columns = tested_columns(requests, binning)
    # Evaluated once: cells are joined together, and every column is counted within them.
    with held_rows(rows_to_test(requests, binning, columns, n)) as rows:
        counted = {each.name: counts_of(rows, f"value_{place}") for place, each in enumerate(columns)}
    found = {name: dependence_of(each) for name, each in counted.items() if each is not None}
    # What follows from task and level steers nothing beside them.
    found = {name: each for name, each in found.items() if each.by_chance >= 1.0}
    return tests_of(found), found
