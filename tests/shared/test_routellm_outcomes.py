"""Real outcomes of two models on 15,344 prompts: log one of each, estimate both, hold the estimate against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import open_engine
from tests.shared import real_outcomes
from tests.simulation import worlds

pytestmark = pytest.mark.skipif(not real_outcomes.PATH.exists(), reason="the table of real outcomes is not here")


def test_a_floor_below_the_strong_model_saves_a_quarter_of_its_cost_and_truly_holds(tmp_path: Path) -> None:
    real, prompts = real_outcomes.read()
    strong = real_outcomes.always_strong(prompts)
    floor = round(0.95 * strong.quality, 4)
    covered, savings = [], []
    with open_engine() as engine:
        for seed in range(2):
            rows = real_outcomes.logged(real, prompts, 60_000, np.random.default_rng(seed))
            evidence, scope = worlds.evidence_of(engine, rows, tmp_path, goal="cost", quality_threshold=floor, max_quality_drop=1.0)
            answer = optimize_routing_rules(evidence, scope)
            truth = worlds.truth_of(prompts, worlds.followed(real, prompts, answer.rule_set))
            proposed = answer.rule_set.expected.proposed
            assert isinstance(proposed.quality, Estimate)
            assert isinstance(proposed.cost_usd, Estimate)
            covered += [
                proposed.quality.low <= truth.quality <= proposed.quality.high,
                proposed.cost_usd.low <= truth.cost <= proposed.cost_usd.high,
            ]
            savings.append(1 - truth.cost / strong.cost)
            assert truth.quality >= floor - 0.005
    assert np.mean(covered) >= 0.75
    assert np.mean(savings) >= 0.25
