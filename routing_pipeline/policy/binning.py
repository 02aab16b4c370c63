"""How requests become cells: tasks, levels, lengths and models, and what every reader of the cells must know of them.

Belongs here: choosing edges and names from a window, and their JSON. Does not belong here: the aggregation (`policy.cells`).
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import numpy as np
from numpy.typing import NDArray

from routing_pipeline.clock import hour_of
from routing_pipeline.feasibility.needs import Cuts
from routing_pipeline.policy.counting import NOT_CHANGED, Counting
from routing_pipeline.policy.strata import Strata, strata_of
from routing_pipeline.policy.tasks import UNCUT, Kinds, edges_reached, kinds_of, largest_of, teams_beside, with_tasks
from routing_pipeline.policy.unscored_teams import UnscoredTeam, unscored_teams
from routing_pipeline.window.conform import half_of
from routing_pipeline.window.scope import CLUSTERS

Floats = NDArray[np.float64]

Axis = Literal["complexity", "prompt_tokens", "none"]
MAX_MODELS = 24
"""Models beyond these, by traffic, are counted in the totals and left as they are."""
MAX_CELLS = 1_000_000
LOGGED_SHARE = 0.9
"""Complexity, and propensities, count as logged from this share of requests on."""
SLOW_FACTOR = 1.1
"""A request is slow when it takes longer than today's 95th percentile by this factor."""
MIN_WEIGHTED = 100
"""Requests with a logged propensity from which on they are looked at."""
TOKEN_EDGES: tuple[float, ...] = tuple(digit * 10.0**power for power in range(1, 6) for digit in (1, 1.5, 2, 3, 4, 5, 7))
"""Lengths at which bins may begin, and so the numbers that rules may show."""
MISSING = -1
FIXED = -2
_WHERE_CUT = frozenset(
    {
        "counting",
        "has_judge",
        "needs",
        "prompts",
        "infeasible",
        "kind_teams",
        "in_groups",
        "strata",
        "of_sessions",
        "is_scored_one_by_one",
        "caches",
        "by_request",
        "families",
    }
)
"""Fields that are written where they say something."""


@dataclass(frozen=True)
class Binning:
    """How requests become cells. Edges are inner ones, ascending, by task."""

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    axis: Axis
    levels: int
    lengths: int
    level_edges: tuple[tuple[float, ...], ...]
    length_edges: tuple[tuple[float, ...], ...]
    bin_tokens: tuple[tuple[float, ...], ...]
    slow_above_ms: float | None
    weighted: bool
    tasks_logged: bool
    busiest_hour_requests: float
    has_gaps: bool
    """Some requests lack the complexity that the others have: a rule for a whole task must still ask for it."""
    unscored_teams: tuple[UnscoredTeam, ...] = ()
    teams: tuple[str, ...] = ()
    """Teams that every rule must name, because others are never scored or are spared; empty where rules need not ask for the team."""
    needs: tuple[tuple[tuple[str, bool], ...], ...] = ()
    """By task, the columns of needs that it is cut by and what they hold in this part; empty where no task is cut."""
    prompts: tuple[tuple[float | None, float | None], ...] = ()
    """By task, the range [from, below) of its prompts' tokens that this part holds; empty where no task is cut."""
    infeasible: tuple[tuple[int, int, str], ...] = ()
    """(task, model) that may not be, and why."""
    kind_teams: tuple[tuple[str, ...], ...] = ()
    """By task, the teams whose requests this part holds; empty where no task is cut by teams."""
    in_groups: tuple[str, ...] = ()
    """Task types of which every request is of a team that some part names: a rule for all of their parts need not name any."""
    strata: Strata | None = None
    """What takes the place of lengths: values of a column that steers and that no rule can ask for."""

    counting: Counting = NOT_CHANGED
    """What is done to the scores of rows before they are aggregated, so that a replay does the same."""
    has_judge: bool = False
    """Cells carry the sums of a judge's scores (JUDGE_SUMS)."""
    of_sessions: bool = False
    """A unit is a session, decided at its first request; else a request."""
    is_scored_one_by_one: bool = False
    """A session's quality is the mean of its scores; else the last of them."""
    caches: tuple[tuple[Any, ...], ...] = ()
    """Fields of `prompt_caches.ModelCache`, where requests count as their whole session would have them; empty elsewhere."""
    by_request: tuple[str, ...] = ()
    """Task types whose requests are units of their own where the others' units are sessions."""
    families: tuple[str, ...] = ()
    """By model the one behind its name, where another name stands for it too; empty where none does (`policy.siblings`)."""

    def to_json(self) -> str:
        """For the Parquet file's metadata."""
        strata = None if self.strata is None else self.strata.__dict__
        fields = self.__dict__ | {"unscored_teams": [each.__dict__ for each in self.unscored_teams], "strata": strata}
        fields["counting"] = None if self.counting.changes_nothing else self.counting.__dict__
        return json.dumps({name: value for name, value in fields.items() if value or name not in _WHERE_CUT})

    @staticmethod
    def from_json(text: str | bytes) -> Binning:
        """The inverse of `to_json`."""
        fields: dict[str, Any] = json.loads(text)
        for name in ("level_edges", "length_edges", "bin_tokens"):
            fields[name] = tuple(tuple(each) for each in fields[name])
        fields |= {name: tuple(fields.get(name, ())) for name in ("tasks", "models", "teams", "by_request", "in_groups", "families")}
        fields |= {name: tuple(map(tuple, fields.get(name, ()))) for name in ("prompts", "infeasible", "kind_teams")}
        fields["strata"] = strata_of(fields.get("strata"))
        fields["caches"] = tuple((model, tuple(rates), *prices) for model, rates, *prices in fields.get("caches", ()))
        fields["needs"] = tuple(tuple((column, holds) for column, holds in each) for each in fields.get("needs", ()))
        counting = fields.get("counting") or {}
        fields["counting"] = Counting(**counting | {"thinned": tuple(map(tuple, counting.get("thinned", ())))})
        return Binning(**fields | {"unscored_teams": tuple(UnscoredTeam(**each) for each in fields["unscored_teams"])})

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """(task, model), whether a rule may send such requests there."""
        found = np.ones((len(self.tasks), len(self.models)), dtype=bool)
        for task, arm, _ in self.infeasible:
            found[task, arm] = False
        return found

    def mean_tokens(self) -> Floats:
        """(task, level, length), how long prompts there are on average; 1 where no lengths are told apart."""
        found = np.ones((len(self.tasks), self.levels, self.lengths))
        for task, known in enumerate(self.bin_tokens):
            if self.axis == "prompt_tokens":
                found[task, : len(known)] = np.array(known)[:, None]
            elif len(known) == self.lengths:
                found[task] = known
        return found

    def infeasible_because(self, task: int, arm: int) -> str | None:
        """Why a model may not get such requests; None when it may."""
        return next((why for at, model, why in self.infeasible if (at, model) == (task, arm)), None)


COMPLEXITY_STEPS: tuple[int, ...] = (20, 10, 5)


def _complexity_edges(steps: int) -> tuple[float, ...]:
    return tuple(step / steps for step in range(1, steps))


def _lengths_of(final: ibis.Table, kinds: Kinds) -> tuple[Floats, Floats]:
    """Requests and tokens of the learning half by (task, bin between TOKEN_EDGES)."""
    learning = with_tasks(half_of(final, "learn"), kinds)
    learning = learning.filter(learning.prompt_tokens.notnull(), learning.task_place.notnull())
    binned = learning.select("task_place", "prompt_tokens", bin=edges_reached(learning.prompt_tokens, TOKEN_EDGES))
    grouped = binned.group_by("task_place", "bin").agg(n=binned.count(), tokens=binned.prompt_tokens.cast("float64").sum())
    counts, tokens = np.zeros((2, len(kinds.tasks), len(TOKEN_EDGES) + 1))
    for row in grouped.to_pyarrow().to_pylist():
        counts[row["task_place"], row["bin"]] = row["n"]
        tokens[row["task_place"], row["bin"]] = row["tokens"]
    return counts, tokens


def quantile_cuts(counts: Floats, parts: int) -> tuple[int, ...]:
    """Where to cut a row of bins into at most `parts` of about equal counts; each cut is the first bin of a part."""
    total = counts.sum()
    if total <= 0 or parts <= 1:
        return ()
    below = np.concatenate([[0.0], counts.cumsum()])
    cuts = {int(np.abs(below - total * part / parts).argmin()) for part in range(1, parts)}
    return tuple(sorted(cut for cut in cuts if 0 < below[cut] < total))


def _length_bins(counts: Floats, tokens: Floats, parts: int) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]:
    """Edges and mean tokens of each bin, by task."""
    edges, means = [], []
    for task_counts, task_tokens in zip(counts, tokens, strict=True):
        cuts = quantile_cuts(task_counts, parts)
        bounds = (0, *cuts, len(task_counts))
        pairs = list(itertools.pairwise(bounds))
        edges.append(tuple(TOKEN_EDGES[cut - 1] for cut in cuts))
        means.append(tuple(float(task_tokens[a:b].sum() / max(task_counts[a:b].sum(), 1.0)) for a, b in pairs))
    return tuple(edges), tuple(means)


def _summary(final: ibis.Table) -> dict[str, Any]:
    logged = ~final.is_complexity_derived & final.complexity.notnull()
    alone = final.attempts.fill_null(1) == 1
    learning = half_of(final, "learn")
    counted: dict[str, Any] = (
        final.agg(
            n=final.count(),
            levelled=logged.sum().fill_null(0),
            typed=final.is_task_type_logged.sum().fill_null(0),
            sized=final.prompt_tokens.notnull().sum().fill_null(0),
            weighted=(alone & final.propensity.notnull()).sum().fill_null(0),
            chosen=alone.sum().fill_null(0),
            judged=(final.is_final & judge_of(final).notnull()).sum().fill_null(0),
        )
        .to_pyarrow()
        .to_pylist()[0]
    )
    counted["p95_ms"] = learning.agg(p95=learning.request_latency_ms.quantile(0.95)).to_pyarrow().to_pylist()[0]["p95"]
    return counted


def judge_of(rows: ibis.Table) -> ibis.expr.types.NumericValue:
    """A judge's score of the answer."""
    return rows.judge_quality if "judge_quality" in rows.columns else ibis.null("float64")


def calls_of(rows: ibis.Table) -> ibis.expr.types.NumericValue:
    """Requests of a unit."""
    return rows.calls if "calls" in rows.columns else ibis.literal(1.0)


def _busiest_hour(final: ibis.Table) -> float:
    hours = final.select(hour=hour_of(final.started_s), calls=calls_of(final))
    counted = hours.group_by("hour").agg(n=hours.calls.sum())
    return float(counted.agg(most=counted.n.max()).to_pyarrow().to_pylist()[0]["most"] or 0)


def binning_of(requests: ibis.Table, cuts: Cuts = UNCUT, spared: frozenset[str] = frozenset()) -> Binning:
    """Choose tasks, models, axis and edges; small queries over final rows, outcomes of the proving half are not read.

    Args:
        requests: rows of the window.
        cuts: where tasks are cut by what their requests need.
        spared: teams that no rule may reach.
    """
    final = requests.filter(requests.is_final)
    counted = _summary(final)
    n = max(int(counted["n"]), 1)
    kinds, models = kinds_of(final, cuts), largest_of(final, "routed_model", MAX_MODELS)
    tasks = kinds.tasks
    axis: Axis = "complexity" if counted["levelled"] >= LOGGED_SHARE * n else "prompt_tokens" if counted["sized"] > 0 else "none"
    per_level = len(tasks) * len(models) * CLUSTERS
    room = max(MAX_CELLS, n if n < MAX_CELLS else 0) / max(per_level, 1)
    is_small = n <= MAX_CELLS
    lengths = 3 if axis == "complexity" and (is_small or room >= 3 * COMPLEXITY_STEPS[0]) else 1
    steps = next((steps for steps in COMPLEXITY_STEPS if is_small or steps * lengths <= room), COMPLEXITY_STEPS[-1])
    counts, tokens = _lengths_of(final, kinds)
    level_edges: tuple[tuple[float, ...], ...] = ((),) * len(tasks)
    length_edges, means = _length_bins(counts, tokens, lengths)
    if axis == "complexity":
        level_edges = (_complexity_edges(steps),) * len(tasks)
    elif axis == "prompt_tokens":
        level_edges, means = _length_bins(counts, tokens, 12 if is_small or room >= 12 else 6)
    p95 = counted["p95_ms"]
    unscored, teams = unscored_teams(final)
    if spared:
        teams = teams_beside(final, spared | {each.team for each in unscored})
    return Binning(
        tasks=tasks,
        models=models,
        axis=axis,
        levels=max((len(edges) + 1 for edges in level_edges), default=1),
        lengths=max((len(edges) + 1 for edges in length_edges), default=1),
        level_edges=level_edges,
        length_edges=length_edges,
        bin_tokens=means,
        slow_above_ms=None if p95 is None else float(p95) * SLOW_FACTOR,
        weighted=counted["weighted"] >= MIN_WEIGHTED,
        tasks_logged=counted["typed"] > 0,
        busiest_hour_requests=_busiest_hour(final),
        has_gaps=axis == "complexity" and counted["levelled"] < n,
        unscored_teams=unscored,
        teams=teams,
        has_judge=counted["judged"] > 0,
        needs=kinds.needs,
        prompts=kinds.prompts,
        kind_teams=kinds.teams,
        in_groups=kinds.in_groups,
    )
