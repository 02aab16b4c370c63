"""What requests of known probability tell of all the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from routing_pipeline.policy.evidence import read_scores
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.grade import propensity_check
from routing_pipeline.policy.scores import BOTH, QUALITY
from routing_pipeline.recommendation.question import BY_ALL, Question, question_of
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds
from tests.simulation.worlds import Requests, World


def gathered(world: World, folder: Path, *, share: float = 0.2, seed: int = 1) -> tuple[RoutingEvidence, Question, Requests]:
    rows, requests = worlds.partly_known(world, 8_000, share, np.random.default_rng(seed))
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, folder)
    return evidence, question_of(evidence, scope, None), requests


def test_something_hidden_that_steers_is_found_and_the_known_share_alone_decides(tmp_path: Path) -> None:
    evidence, question, requests = gathered(worlds.HIDDEN, tmp_path)
    assert evidence.audit is not None
    assert evidence.audit.verdict == "differ"
    assert evidence.grade == "C"
    assert evidence.audit.told in evidence.warnings
    worst = evidence.audit.models[0]
    # The cheapest model gets what suits it, and is flattered by that.
    assert worst.model == worlds.HIDDEN.models[0]
    assert worst.difference.low > 0.05
    assert [each.name for each in question.proofs[1:]] == [BY_ALL]
    assert question.limits.hidden_bias == 0.0
    told = question.cube.chosen(np.zeros(question.cube.scores.shape[1], dtype=np.int64), BOTH).quality()
    arm = worlds.HIDDEN.models.index(question.cube.models[0])
    truth = worlds.truth_of(requests, np.eye(len(worlds.HIDDEN.models))[[arm] * len(requests.task)])
    assert abs(told.value - truth.quality) < 3 * told.standard_error


def test_where_nothing_hidden_steers_both_agree_and_all_traffic_decides(tmp_path: Path) -> None:
    evidence, question, _ = gathered(worlds.CONFOUNDED, tmp_path)
    assert evidence.audit is not None
    assert evidence.audit.verdict == "agree"
    assert evidence.grade == "B"
    assert evidence.audit.told in evidence.grade_reason
    assert len(question.proofs) == 1
    assert abs(evidence.audit.share - 0.2) < 0.02


def test_of_too_few_scored_ones_nothing_is_said(tmp_path: Path) -> None:
    evidence, question, _ = gathered(replace(worlds.CONFOUNDED, labelled=0.1), tmp_path, share=0.04)
    assert evidence.audit is not None
    assert evidence.audit.verdict == "cannot tell"
    assert evidence.audit.told not in evidence.grade_reason
    assert len(question.proofs) == 1


def test_true_probabilities_of_a_thin_share_are_not_called_false(tmp_path: Path) -> None:
    # In the contexts that a half saw a model in, the other half expects five requests of it, and there happens to be one.
    rows, _ = worlds.partly_known(worlds.HIDDEN, 20_000, 0.1, np.random.default_rng(500))
    with open_engine() as engine:
        evidence, _ = worlds.evidence_of(engine, rows, tmp_path)
    assert evidence.cells_uri is not None
    assert all(each.matches for each in propensity_check(read_scores(evidence.cells_uri).cells))


def test_today_is_that_of_all_traffic_either_way(tmp_path: Path) -> None:
    _, question, _ = gathered(worlds.HIDDEN, tmp_path)
    alone, of_all = question.proofs
    assert np.allclose(alone.first.scores[:, :, alone.keep, QUALITY].sum(), of_all.first.scores[:, :, of_all.keep, QUALITY].sum())
