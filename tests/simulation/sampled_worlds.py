"""Worlds whose truth is known, judged by a sample of their sessions: do intervals hold, do promises, how much wider are they?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from routing_pipeline.estimates import Estimate, Measured
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.resolve import sample_of
from routing_pipeline.window.scope import AnalysisScope
from tests.simulation import worlds
from tests.simulation.worlds import DAYS, Floats, Requests, Truth, World

DROP = 0.01
BROKEN_BY = 0.005
"""As in `benchmarks/monte_carlo.py`: a floor counts as broken when truth is below it by more than this."""
PART = 200_000


class Population:
    """A world's truth over `requests` of its requests, in parts.

    It must be large against the windows: what it misses of the truth would count as misses of their intervals.
    """

    def __init__(self, world: World, requests: int) -> None:
        self.world = world
        self.parts = [worlds.contexts(world, PART, np.random.default_rng([5, place])) for place in range(requests // PART)]
        self.today = self.truth(lambda part: part.route)
        models = range(len(world.models))
        self.by_task = [
            [self._of_task(task, lambda part: part.route), *(self._of_task(task, _always(arm)) for arm in models)]
            for task in range(len(world.tasks))
        ]
        """By task: of today's routing, then of each model."""

    def truth(self, shares: Callable[[Requests], Floats]) -> Truth:
        """Of what gives each request's shares by model."""
        return _joined([worlds.truth_of(part, shares(part)) for part in self.parts])

    def _of_task(self, task: int, shares: Callable[[Requests], Floats]) -> Truth:
        return _joined([worlds.truth_of(part, shares(part)) for part in (_only(each, each.task == task) for each in self.parts)])


def _always(arm: int) -> Callable[[Requests], Floats]:
    return lambda part: np.eye(part.route.shape[1])[np.full(len(part.task), arm)]


def _only(requests: Requests, of: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Requests:
    return replace(requests, **{name: values[of] for name, values in vars(requests).items() if values is not None})


def _joined(parts: list[Truth]) -> Truth:
    success = float(np.mean([part.success for part in parts]))
    return Truth(
        cost=float(np.mean([part.cost for part in parts])),
        quality=float(np.mean([part.quality * part.success for part in parts])) / success,
        latency=float(np.mean([part.latency for part in parts])),
        success=success,
    )


@dataclass
class Held:
    """Whether intervals held the truth, and how wide they were; then what became of the rules proposed.

    cost, quality: by task, of today's routing and of each model, as (held, width). promises: of cost, quality, change of cost,
    change of quality and dollars saved a day, whether each held, for windows with proposed rules. broken: whether the floor
    was, at all and by more than BROKEN_BY; saving: true share of today's cost. Both of all windows.
    """

    cost: list[tuple[bool, float]] = field(default_factory=list)
    quality: list[tuple[bool, float]] = field(default_factory=list)
    traffic: list[float] = field(default_factory=list)
    promises: list[tuple[bool, ...]] = field(default_factory=list)
    broken: list[tuple[bool, bool]] = field(default_factory=list)
    saving: list[float] = field(default_factory=list)

    @property
    def held(self) -> float:
        """Share of the intervals by task and model that held."""
        return float(np.mean([held for held, _ in self.cost + self.quality]))

    def wider_than(self, other: Held) -> float:
        """How many times as wide, in the middle, as the other's of the same tasks and models."""
        pairs = zip(self.cost + self.quality, other.cost + other.quality, strict=True)
        return float(np.median([width / than for (_, width), (_, than) in pairs]))


def judged(
    population: Population, n: int, rate: float, repetitions: int, folder: Path, *, proofs: bool, seed: int = 1
) -> tuple[Held, Held]:
    """Windows of `n` requests, from all of them and from a sample of their sessions.

    Intervals by task and model are those that both gave, in the same order. At rate 1 both are the same.
    """
    world = population.world
    from_all, from_sample = Held(), Held()
    with open_engine() as engine:
        for repetition in range(repetitions):
            rng = np.random.default_rng([seed, repetition])
            requests = worlds.contexts(world, n, rng)
            session = pa.array(requests.session.astype(str))
            rows = worlds.logged(world, requests, rng).append_column("session_id", session).append_column("request_id", session)
            found: list[RoutingEvidence] = []
            for each, into in ((1.0, from_all), (rate, from_sample)):
                if each == 1.0 and found:
                    continue
                evidence, scope = _evidence(engine, rows, each, folder)
                found.append(evidence)
                into.traffic.append(evidence.traffic)
                if proofs:
                    _hold_promises(population, optimize_routing_rules(evidence, scope), n, into)
            for kind, truth, whole, sampled in _estimates(population, found[0], found[-1]):
                if isinstance(whole, Estimate) and isinstance(sampled, Estimate):
                    for into, interval in ((from_all, whole), (from_sample, sampled)):
                        getattr(into, kind).append((holds(interval, truth), interval.high - interval.low))
    return from_all, from_sample


def holds(measured: Measured, truth: float) -> bool:
    """Whether an interval covers the truth; what cannot be told covers nothing."""
    return isinstance(measured, Estimate) and measured.low <= truth <= measured.high


def _evidence(engine: Engine, rows: pa.Table, rate: float, folder: Path) -> tuple[RoutingEvidence, AnalysisScope]:
    path = folder / "rows.parquet"
    pq.write_table(rows, path)
    table, scope = engine.read_parquet([path]), worlds.scope_of(rows, goal="cost", max_quality_drop=DROP)
    if rate < 1.0:
        table = sample_of(table, rate)
        scope = scope.model_copy(update={"sampled": table.count().execute() / rows.num_rows, "sample_uri": "sample"})
    return gather_evidence(table, scope, cells_path=folder / f"cells-{rate}.parquet"), scope


def _hold_promises(population: Population, answer: RoutingRules, n: int, into: Held) -> None:
    today, rules = population.today, answer.rule_set
    then = population.truth(lambda part: worlds.followed(population.world, part, rules)) if rules.rules else today
    floor = today.quality - DROP
    into.broken.append((then.quality < floor, then.quality < floor - BROKEN_BY))
    into.saving.append(1 - then.cost / today.cost)
    if rules.rules:
        expected = rules.expected
        into.promises.append(
            (
                holds(expected.proposed.cost_usd, then.cost),
                holds(expected.proposed.quality, then.quality),
                holds(expected.change.cost_usd.relative, then.cost / today.cost - 1),
                holds(expected.change.quality.relative, then.quality / today.quality - 1),
                holds(answer.saving_usd_per_day, (today.cost - then.cost) * n / DAYS),
            )
        )


def _estimates(population: Population, every: RoutingEvidence, part: RoutingEvidence) -> Iterator[tuple[str, float, Measured, Measured]]:
    """(cost or quality, truth, from all, from the sample), by task, of today's routing and of each model."""
    world = population.world
    sampled = {task.task_type: task for task in part.tasks}
    for task in every.tasks:
        other = sampled[task.task_type]
        today, *models = population.by_task[world.tasks.index(task.task_type)]
        yield "cost", today.cost, task.cost_usd, other.cost_usd
        yield "quality", today.quality, task.quality, other.quality
        arms = {arm.model: arm for arm in other.arms}
        for arm in task.arms:
            if arm.supported and arm.model in arms and arms[arm.model].supported:
                truth = models[world.models.index(arm.model)]
                yield "cost", truth.cost, arm.cost_usd, arms[arm.model].cost_usd
                yield "quality", truth.quality, arm.quality, arms[arm.model].quality
