"""Worlds whose truth is known, judged by a sample of their sessions: do intervals hold, how much wider are they?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from routing_pipeline.catalog import Catalog
from routing_pipeline.engine import Engine, open_engine
from routing_pipeline.estimates import Estimate, Measured
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.scope import AnalysisScope, sample_of
from tests.simulation import worlds
from tests.simulation.worlds import World

POPULATION = 200_000


@dataclass
class Held:
    """Intervals of all tasks and models, and of today's routing: whether each held the truth, and how wide it was."""

    held: list[bool] = field(default_factory=list)
    width: list[float] = field(default_factory=list)
    traffic: list[float] = field(default_factory=list)


def judged(world: World, n: int, rate: float, repetitions: int, folder: Path, seed: int = 1) -> tuple[Held, Held]:
    """Evidence of windows of `n` requests, from all of them and from a sample of their sessions.

    Widths are of the intervals that both gave, in the same order.
    """
    population = worlds.contexts(world, POPULATION, np.random.default_rng(5))
    from_all, from_sample = Held(), Held()
    with open_engine() as engine:
        for repetition in range(repetitions):
            rng = np.random.default_rng([seed, repetition])
            requests = worlds.contexts(world, n, rng)
            session = pa.array(requests.session.astype(str))
            rows = worlds.logged(world, requests, rng).append_column("session_id", session).append_column("request_id", session)
            every, part = (_evidence(engine, rows, each, folder) for each in (1.0, rate))
            from_all.traffic.append(every.traffic)
            from_sample.traffic.append(part.traffic)
            for truth, whole, sampled in _estimates(world, population, every, part):
                if isinstance(whole, Estimate) and isinstance(sampled, Estimate):
                    for into, found in ((from_all, whole), (from_sample, sampled)):
                        into.held.append(found.low <= truth <= found.high)
                        into.width.append(found.high - found.low)
    return from_all, from_sample


def _evidence(engine: Engine, rows: pa.Table, rate: float, folder: Path) -> RoutingEvidence:
    path = folder / "rows.parquet"
    pq.write_table(rows, path)
    table, scope = engine.read_parquet([path]), worlds.scope_of(rows)
    if rate < 1.0:
        table = sample_of(table, rate)
        scope = scope.model_copy(update={"sampled": table.count().execute() / rows.num_rows, "sample_uri": "sample"})
    assert isinstance(scope, AnalysisScope)
    return gather_evidence(table, scope, Catalog(), cells_path=folder / f"cells-{rate}.parquet")


def _estimates(
    world: World, population: worlds.Requests, every: RoutingEvidence, part: RoutingEvidence
) -> Iterator[tuple[float, Measured, Measured]]:
    """(truth, from all, from the sample): cost and quality by task, of today's routing and of each model."""
    sampled = {task.task_type: task for task in part.tasks}
    for task in every.tasks:
        other = sampled[task.task_type]
        here = np.flatnonzero(population.task == world.tasks.index(task.task_type))
        success, quality, cost = population.success[here], population.quality[here], population.cost[here]
        route = population.route[here]
        yield float((route * cost).sum(axis=1).mean()), task.cost_usd, other.cost_usd
        yield float((route * success * quality).sum() / (route * success).sum()), task.quality, other.quality
        arms = {arm.model: arm for arm in other.arms}
        for arm in task.arms:
            if arm.supported and arm.model in arms and arms[arm.model].supported:
                at = world.models.index(arm.model)
                yield float(cost[:, at].mean()), arm.cost_usd, arms[arm.model].cost_usd
                yield float((success * quality)[:, at].sum() / success[:, at].sum()), arm.quality, arms[arm.model].quality
