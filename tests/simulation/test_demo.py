"""The demo's week, whose truth is known: real savings, true floors, intervals that hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import norm

from routing_pipeline.demo import traffic
from routing_pipeline.demo.traffic import ARMS, TASKS
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation.model_mix import optimize_model_mix
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.recommendation.simulation import simulate
from routing_pipeline.recommendation.tradeoff_frontier import tradeoff_frontier
from routing_pipeline.rules.model import RuleSet, WeightedModel, When
from routing_pipeline.window.engine import open_engine
from tests.conftest import ConformedWeek, conformed_week

REQUESTS = 80_000


@dataclass(frozen=True)
class Demo:
    """The conformed week and everything that follows from it."""

    week: ConformedWeek
    evidence: RoutingEvidence
    rules: RoutingRules


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    with open_engine() as engine:
        week = conformed_week(engine, traffic.traffic(REQUESTS), folder)
        evidence = gather_evidence(week.requests, week.scope, cells_path=folder / "cells.parquet")
        yield Demo(week, evidence, optimize_routing_rules(evidence, week.scope, goal="cost"))


def mean_of_clipped(mean: np.ndarray, spread: float = float(np.hypot(0.12, 0.03))) -> np.ndarray:
    """E[min(max(N(mean, spread), 0), 1)]: what the world draws around `true_quality`."""
    low, high = -mean / spread, (1 - mean) / spread
    inside = mean * (norm.cdf(high) - norm.cdf(low)) - spread * (norm.pdf(high) - norm.pdf(low))
    return np.asarray(inside + 1 - norm.cdf(high))


def true_qualities(demo: Demo, rules: RuleSet | None) -> tuple[np.ndarray, np.ndarray]:
    """True quality of each of the week's requests, routed as today or as the rules say; and the place of the rule that decides, -1 for none.

    In the degraded hours, calls to the degraded model that fail fall back to the next dearer one and the others answer
    worse; beyond those hours first attempts stand for all (one in a hundred falls back).
    """
    wanted = demo.week.requests.filter(demo.week.requests.is_final, ~demo.week.requests.is_cache_hit)
    rows = wanted.select("task_type", "team", "complexity", "routed_model", "started_s").to_pyarrow().sort_by([("started_s", "ascending")])
    task = np.array([[each.name for each in TASKS].index(name) for name in rows["task_type"].to_pylist()])
    names = [each.model for each in ARMS]
    arm = np.array([names.index(name) for name in rows["routed_model"].to_pylist()])
    complexity, at = rows["complexity"].to_numpy(), rows["started_s"].to_numpy()

    def answered_by(arms: np.ndarray) -> np.ndarray:
        good = traffic.true_quality(task, complexity, arms)
        planted = traffic.PLANTED
        worse = (at >= planted.degraded_from_s) & (at < planted.degraded_to_s) & (arms == names.index(planted.degraded_model))
        failing = traffic.DEGRADED_FAILURE_RATE
        degraded = (1 - failing) * mean_of_clipped(good - traffic.DEGRADED_QUALITY_LOSS)
        degraded += failing * mean_of_clipped(traffic.true_quality(task, complexity, np.minimum(arms + 1, len(ARMS) - 1)))
        return np.where(worse, degraded, mean_of_clipped(good))

    quality, decided = answered_by(arm), np.full(len(arm), -1)
    for place, rule in sorted(enumerate(() if rules is None else rules.rules), key=lambda each: -each[1].priority):
        assert rule.when.prompt_tokens is None
        holds = np.isin(np.array(rows["task_type"].to_pylist()), rule.when.task_type)
        if rule.when.team is not None:
            holds &= np.isin(np.array(rows["team"].to_pylist()), rule.when.team)
        between = rule.when.complexity
        if between is not None:
            holds &= complexity >= (-np.inf if between.gte is None else between.gte)
            holds &= complexity < (np.inf if between.lt is None else between.lt)
        assert rule.route != "unchanged"
        routed = sum(each.weight * answered_by(np.full(len(arm), names.index(each.model))) for each in rule.route)
        quality, decided = np.where(holds, routed, quality), np.where(holds, place, decided)
    return quality, decided


def true_quality_of(demo: Demo, rules: RuleSet | None) -> float:
    """Mean true quality of the week's requests, with each routed as today or as the rules say."""
    return float(true_qualities(demo, rules)[0].mean())


def test_each_rule_s_own_effect_is_what_truly_happens_to_its_requests(demo: Demo) -> None:
    rules, impacts = demo.rules.rule_set.rules, demo.rules.impacts
    assert [each.rule_id for each in impacts] == [rule.id for rule in rules]
    today, _ = true_qualities(demo, None)
    then, decided = true_qualities(demo, demo.rules.rule_set)
    for place, (rule, impact) in enumerate(zip(rules, impacts, strict=True)):
        mine = decided == place
        change = float(then[mine].mean() - today[mine].mean())
        assert isinstance(impact.quality_change, Estimate)
        assert impact.quality_change.low <= change <= impact.quality_change.high, rule.id
        assert impact.requests == pytest.approx(mine.sum(), rel=0.15), "answers from the cache are decided by no model"
        assert sum(each.weight for each in impact.today) == pytest.approx(1)
        assert 0 < impact.moved_share <= 1
        assert impact.baseline != rule.expected


def test_the_rules_savings_add_up_to_that_of_the_set(demo: Demo) -> None:
    whole, parts = demo.rules.saving_usd_per_day, [each.saving_usd_per_day for each in demo.rules.impacts]
    assert isinstance(whole, Estimate)
    assert all(isinstance(part, Estimate) and part.low < part.estimate < part.high for part in parts)
    assert sum(part.estimate for part in parts if isinstance(part, Estimate)) == pytest.approx(whole.estimate, rel=0.03)
    assert sum(each.share for each in demo.rules.impacts) <= 1


def test_the_week_s_rules_save_a_lot_and_truly_keep_the_floor(demo: Demo) -> None:
    rule_set = demo.rules.rule_set
    assert rule_set.status == "proposed"
    change = rule_set.expected.change.cost_usd.relative
    assert isinstance(change, Estimate)
    assert change.high < -0.4
    today, then = true_quality_of(demo, None), true_quality_of(demo, rule_set)
    assert then >= today - demo.week.scope.parameters.max_quality_drop
    quality = rule_set.expected.change.quality.relative
    assert isinstance(quality, Estimate)
    assert quality.low <= then / today - 1 <= quality.high


def test_planted_overuse_of_the_dearest_model_is_gone(demo: Demo) -> None:
    mix = optimize_model_mix(demo.evidence, demo.week.scope, demo.rules)
    dear = next(share for share in mix.shares if share.model == traffic.OVERUSED_MODEL)
    assert dear.recommended < dear.now / 2
    assert sum(share.now for share in mix.shares) == pytest.approx(1)
    assert sum(share.recommended for share in mix.shares) == pytest.approx(1)
    for task in mix.by_task:
        assert sum(share.recommended for share in task.shares) == pytest.approx(1)
    for share in mix.shares:
        assert sum(move.share for move in mix.moves if move.model == share.model) == pytest.approx(share.now)
        assert sum(move.share for move in mix.moves if move.goes_to == share.model) == pytest.approx(share.recommended)
    assert sum(move.share for move in mix.moves if move.model != move.goes_to) == pytest.approx(mix.moved_share, abs=0.02)
    assert mix.expected == demo.rules.rule_set.expected.proposed
    priced = {price.constraint: price for price in mix.prices}
    assert isinstance(priced["mean quality"].dual_value, Estimate)
    assert priced["mean quality"].binding
    assert not priced["completion"].binding


def test_the_replay_of_the_rows_agrees_with_the_proof_from_the_cells(demo: Demo) -> None:
    replay = simulate(demo.rules.rule_set, demo.evidence, demo.week.requests, demo.week.scope, demo.rules.halves)
    for name in ("cost_usd", "quality", "latency_ms"):
        for side in ("baseline", "proposed"):
            proven, replayed = (getattr(getattr(each, side), name) for each in (demo.rules.rule_set.expected, replay.expected))
            # Of what passes the proof the luck of passing is taken off what is promised; the replay tells what the sessions show.
            room = demo.rules.luck * (proven.high - proven.low) if (name, side) == ("quality", "proposed") else 0.0
            assert -1e-9 <= replayed.estimate / proven.estimate - 1 <= room / proven.estimate + 1e-9
    assert len(replay.by_task) == len(TASKS)
    assert len(replay.by_day) == 7
    assert sum(task.requests for task in replay.by_task) == pytest.approx(replay.requests, abs=len(TASKS))
    assert isinstance(replay.saving_usd, Estimate)
    assert replay.saving_usd.low > 0


def test_a_hand_written_rule_gets_a_number_where_the_logs_can_tell_and_none_where_they_cannot(demo: Demo) -> None:
    first = demo.rules.rule_set.rules[0]

    def written(when: When, model: str) -> RuleSet:
        rule = first.model_copy(update={"when": when, "route": (WeightedModel(model=model, weight=1.0),)})
        return demo.rules.rule_set.model_copy(update={"rules": (rule,), "rule_set_id": "by hand"})

    odd_edges = When(task_type=("chat",), prompt_tokens={"lt": 333.0}, team=("support",))
    told = simulate(written(odd_edges, "claude-haiku-4-5"), demo.evidence, demo.week.requests, demo.week.scope)
    assert isinstance(told.expected.proposed.quality, Estimate)
    assert 0 < told.moved_share < 0.2
    by_task = {task.task_type: task for task in told.by_task}
    unchanged = by_task["code"].expected.change.cost_usd.relative
    assert isinstance(unchanged, Estimate)
    assert (unchanged.low, unchanged.estimate, unchanged.high) == (0.0, 0.0, 0.0)
    unseen = simulate(written(When(task_type=("chat",)), "a-model-nobody-tried"), demo.evidence, demo.week.requests, demo.week.scope)
    assert isinstance(unseen.expected.proposed.quality, Unidentifiable)
    assert isinstance(unseen.saving_usd, Unidentifiable)
    assert isinstance({task.task_type: task for task in unseen.by_task}["code"].expected.proposed.cost_usd, Estimate)
    assert unseen.unsupported
    by_tier = simulate(written(When(tier=("premium",)), "gpt-4o"), demo.evidence, demo.week.requests, demo.week.scope)
    assert isinstance(by_tier.expected.proposed.cost_usd, Unidentifiable)


def test_the_frontier_has_enough_points_and_no_point_that_another_beats(demo: Demo) -> None:
    frontier = tradeoff_frontier(demo.evidence, demo.week.scope, demo.rules)
    assert len(frontier.points) >= 15
    values = [(point.cost_usd.estimate, point.quality.estimate) for point in frontier.points]  # type: ignore[union-attr]
    assert values == sorted(values)
    assert [quality for _, quality in values] == sorted(quality for _, quality in values)
    assert frontier.today is not None
    assert frontier.proposed is not None
    assert frontier.proposed.cost_usd.estimate < frontier.today.cost_usd.estimate  # type: ignore[union-attr]
    assert frontier.best_single_model is not None
    assert frontier.random_mix is not None
    assert isinstance(frontier.upper_bound, Unidentifiable)
