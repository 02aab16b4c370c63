"""What is tried so that the logs can tell: where, beside what, and whether they can once it was done."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.exploration import SHARES, Trial, exploration_rules, trials_of
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.window.engine import Engine, open_engine
from tests.simulation import worlds
from tests.simulation.worlds import World

REQUESTS = 16_000
BY_KIND = replace(worlds.DETERMINISTIC, demands=(0.3, 0.9, 1.5, 2.1))
BY_LEVEL = replace(BY_KIND, hidden=1e-9)
"""The router sends the levels of a kind to different models, and what it sees is logged."""


def advised(world: World, seed: int, engine: Engine, folder: Path) -> tuple[RoutingEvidence, tuple[Trial, ...], RuleSet]:
    """A week's evidence, and what it advises to try."""
    rng = np.random.default_rng(seed)
    rows = worlds.logged(world, worlds.contexts(world, REQUESTS, rng), rng)
    evidence, scope = worlds.evidence_of(engine, rows, folder, goal="cost")
    proposal = optimize_routing_rules(evidence, scope).rule_set
    rules = exploration_rules(evidence, scope, proposal)
    assert rules is not None
    return evidence, trials_of(evidence, scope, proposal), rules


def test_once_a_trial_was_followed_for_its_days_the_logs_can_tell_of_the_model_on_the_whole_kind(tmp_path: Path) -> None:
    rng = np.random.default_rng(103)
    with open_engine() as engine:
        _, (trial, *_), rules = advised(BY_KIND, 3, engine, tmp_path)
        assert trial.days is not None
        requests = worlds.contexts(BY_KIND, math.ceil(REQUESTS * trial.days / worlds.DAYS), rng)
        during = worlds.logged(
            replace(BY_KIND, logs_propensity=True), replace(requests, route=worlds.followed(BY_KIND, requests, rules)), rng
        )
        after, _ = worlds.evidence_of(engine, during, tmp_path, goal="cost")
    assert all(each.matches for each in after.propensity_check)
    task = trial.segment.split(",")[0]
    told = [arm.supported for each in after.segments if each.task_type == task for arm in each.arms if arm.model == trial.model]
    assert told
    assert all(told)


def test_a_trial_covers_every_level_of_which_the_logs_cannot_tell_and_keeps_the_mix_of_each(tmp_path: Path) -> None:
    with open_engine() as engine:
        evidence, _, rules = advised(BY_LEVEL, 4, engine, tmp_path)
    of_one_rule = 0
    tried = {(rule.when.task_type or ("",))[0]: rule.route[-1].model for rule in rules.rules if rule.route != "unchanged"}
    for segment in evidence.segments:
        model = tried.get(segment.task_type)
        if model is None:
            continue
        arms = {arm.model: arm for arm in segment.arms}
        middle = segment.when.complexity
        assert middle is not None
        at = ((middle.gte or 0.0) + (1.0 if middle.lt is None else middle.lt)) / 2
        holding = [
            rule
            for rule in rules.rules
            if rule.when.task_type == (segment.task_type,)
            and (rule.when.complexity is None or (rule.when.complexity.gte or 0.0) <= at < (rule.when.complexity.lt or 2.0))
        ]
        others = {name: arm.share for name, arm in arms.items() if arm.share >= 0.05 and name != model}
        if arms[model].supported or not others:
            assert not holding
            continue
        (rule,) = holding
        of_one_rule += 1
        assert rule.route != "unchanged"
        assert rule.route[-1].weight == pytest.approx(SHARES[0], abs=1e-3)
        kept = {each.model: each.weight / (1 - SHARES[0]) for each in rule.route[:-1]}
        assert kept == pytest.approx({name: share / sum(others.values()) for name, share in others.items()}, abs=0.02)
    assert of_one_rule > 1
