"""What has no observation of its own is part of no estimate: models, tasks, teams, and single cells of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.policy import cells as cells_, outcome_model, proof, scores
from routing_pipeline.policy.binning import binning_of
from routing_pipeline.policy.decided_sums import decided_sums
from routing_pipeline.policy.evidence import part_in_words, read_scores
from routing_pipeline.policy.evidence_model import UnknownPart
from routing_pipeline.policy.halves import one_hot
from routing_pipeline.policy.replay import replay
from routing_pipeline.policy.rule_blocks import shares_of
from routing_pipeline.policy.scores import ANSWERED, BOTH, PROVE, QUALITY, ScoreCube
from routing_pipeline.policy.unscored_teams import NO_TEAM, unscored_teams
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.recommendation.simulation import simulate
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds
from tests.simulation.worlds import forgotten, with_column

WORLD = worlds.CONFOUNDED


def drawn(n: int = 12_000, seed: int = 1, **world: Any) -> pa.Table:
    rng = np.random.default_rng(seed)
    made = replace(WORLD, **world)
    return worlds.logged(made, worlds.contexts(made, n, rng), rng)


def cube_of(rows: pa.Table) -> ScoreCube:
    requests = ibis.memtable(rows)
    return scores.score_cube(cells_.cells_of(cells_.aggregate(requests, binning_of(requests))))


def is_model(rows: pa.Table, place: int) -> np.ndarray:
    return np.array(rows["routed_model"].to_pylist()) == WORLD.models[place]


def support_desk(scored_of_unscored: int = 0) -> pa.Table:
    """2,000 answers of one task: half by a dear model that is hardly ever scored, half by two cheaper ones of quality .83 and .95."""
    rng = np.random.default_rng(8)
    rows = drawn(2_000, demands=(0.5,), skills=(0.5, 0.6, 0.7), prices=(1.0, 4.0, 6.0), speeds=(500.0,) * 3)
    model = np.where(rng.random(2_000) < 0.5, "dear", np.where(rng.random(2_000) < 0.8, "cheap", "middle"))
    quality = np.where(model == "cheap", 0.83, 0.95) + rng.normal(0, 0.02, 2_000)
    quality[model == "dear"] = np.nan
    quality[np.flatnonzero(model == "dear")[:scored_of_unscored]] = 0.9
    for name in ("model", "routed_model"):
        rows = with_column(rows, name, model)
    rows = with_column(rows, "status", np.full(2_000, "success"))
    return with_column(rows, "quality", quality, np.isnan(quality))


@pytest.mark.parametrize("scored", [0, 4])
def test_half_of_the_traffic_on_a_model_that_nobody_scores_proves_nothing(scored: int, tmp_path: Path) -> None:
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, support_desk(scored), tmp_path, goal="cost")
    answer = optimize_routing_rules(evidence, scope)
    assert answer.rule_set.status == "no_change"
    assert "dear" in answer.reasons[0]
    [part] = evidence.unknown
    assert (part.model, part.observed) == ("dear", scored)
    assert evidence.today is not None
    assert evidence.today.quality_share == pytest.approx(0.5, abs=0.03)
    baseline = answer.rule_set.expected.baseline.quality
    assert isinstance(baseline, Estimate)
    assert baseline == evidence.today.quality
    assert baseline.estimate == pytest.approx(0.8 * 0.83 + 0.2 * 0.95, abs=0.006)
    assert any("dear" in warning and "of the answers" in warning for warning in answer.rule_set.warnings)


def test_with_scores_on_all_models_the_same_desk_is_known_as_a_whole(tmp_path: Path) -> None:
    with open_engine() as engine:
        evidence, _ = worlds.evidence_of(engine, support_desk(40), tmp_path)
    assert evidence.unknown == ()
    assert evidence.today is not None
    assert evidence.today.quality_share == 1.0


def test_todays_quality_of_what_is_scored_is_the_plain_mean_where_all_of_it_is() -> None:
    rows = drawn(labelled=50.0, explored=0.3)
    rows = forgotten(rows, "quality", is_model(rows, 1))
    cube = cube_of(rows)
    scored = rows["quality"].to_numpy(zero_copy_only=False)
    today = proof.evaluated(cube, proof.kept(cube), BOTH)
    assert today.quality.value == pytest.approx(np.nanmean(scored), rel=1e-3)
    assert today.success.value == pytest.approx((np.array(rows["status"].to_pylist()) == "success").mean(), rel=1e-9)


def test_a_model_without_training_is_predicted_as_the_others_are_and_never_as_nought() -> None:
    rows = drawn()
    place = rows.column_names.index("cluster")
    learns = rows["cluster"].to_numpy() < 128
    rows = forgotten(rows, "quality", is_model(rows, 2) & learns)
    assert rows.column_names[place] == "cluster"
    cube = cube_of(rows)
    arm = cube.models.index(WORLD.models[2])
    learning = cube.nuisances.quality[: outcome_model.FOLDS_PER_HALF, ..., arm]
    others = np.delete(cube.nuisances.quality[: outcome_model.FOLDS_PER_HALF, ..., : len(cube.models)], arm, axis=-1)
    assert others.min() <= learning.min()
    assert 0.3 < learning.mean() < 1.0
    # Scored in one half of the sessions alone, it is known in neither.
    assert not cube.known.kinds["quality"][: len(cube.segments), arm].any()


def test_models_and_today_are_compared_over_the_same_requests(tmp_path: Path) -> None:
    # All answers are equally good: any difference would be one of the requests that are counted.
    rows = drawn(20_000, labelled=50.0)
    quality = 0.3 + 0.6 * rows["complexity"].to_numpy()
    success = np.array(rows["status"].to_pylist()) == "success"
    rows = with_column(rows, "quality", quality, ~success | is_model(rows, 5))
    with open_engine() as engine:
        evidence, _ = worlds.evidence_of(engine, rows, tmp_path)
    cube = read_scores(str(evidence.cells_uri))
    unscored = cube.models.index(WORLD.models[5])
    for place in range(len(cube.segments)):
        for arm in np.flatnonzero(cube.all.supported[place]):
            assert arm != unscored
            sums = cube.scores[:, place][:, [arm, cube.keep]].sum(axis=0)
            then, now = sums[:, QUALITY] / sums[:, ANSWERED]
            assert then == pytest.approx(now, abs=0.006)


def test_a_replay_by_rows_leaves_out_what_the_cells_leave_out(tmp_path: Path) -> None:
    rows = drawn(30_000, seed=3)
    rows = forgotten(rows, "quality", is_model(rows, 0))
    rows = forgotten(rows, "request_latency_ms", is_model(rows, 4))
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, tmp_path, goal="cost")
        answer = optimize_routing_rules(evidence, scope)
        assert answer.rule_set.rules
        cube = read_scores(str(evidence.cells_uri))
        with decided_sums(engine.read_parquet([tmp_path / "rows.parquet"]), cube.cells, [answer.rule_set], "prove") as sums:
            replayed = replay(answer.rule_set, sums, cube)
        simulation = simulate(answer.rule_set, evidence, engine.read_parquet([tmp_path / "rows.parquet"]), scope)
    shares = shares_of(cube, answer.rule_set.rules)
    assert shares is not None
    for sums, chosen in ((replayed.now, one_hot(proof.kept(cube), cube)), (replayed.then, shares)):
        found = cube.mixed(chosen, PROVE)
        np.testing.assert_allclose(sums.sum(axis=0), found.scores.sum(axis=0), rtol=1e-6)
        np.testing.assert_allclose(replayed.counted.sum(axis=0), found.counted.sum(axis=0), rtol=1e-9)
    assert simulation.expected.baseline == answer.rule_set.expected.baseline
    assert simulation.unsupported == ()
    assert simulation.unseen_loss == pytest.approx(cube.unseen_loss(shares, PROVE), abs=0.002)


def test_rules_by_hand_that_move_unscored_traffic_are_not_judged(tmp_path: Path) -> None:
    rows = support_desk()
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, tmp_path, goal="cost")
        answer = optimize_routing_rules(evidence, scope)
        by_hand = answer.rule_set.model_copy(update={"rules": (_rule("cheap"),), "status": "proposed"})
        simulation = simulate(by_hand, evidence, engine.read_parquet([tmp_path / "rows.parquet"]), scope)
    assert isinstance(simulation.expected.proposed.quality, Unidentifiable)
    assert "do not show how good today's answers are" in simulation.unsupported[0]


def _rule(model: str) -> Any:
    from routing_pipeline.parameters import Parameters
    from routing_pipeline.rules.reading import read_given_rules

    return read_given_rules({"rules": [{"when": {}, "route": model}]}, Parameters()).rules[0]


def test_moved_requests_that_nobody_scored_count_as_if_their_answers_were_perfect() -> None:
    rows = drawn(20_000)
    rare = is_model(rows, 5) & (rows["complexity"].to_numpy() < 0.3)
    cube = cube_of(forgotten(rows, "quality", rare))
    place = int(cube.known.unknown["quality"][: len(cube.segments)].argmax())
    unseen = cube.known.unknown["quality"][place]
    assert unseen > 0
    actions = proof.kept(cube)
    assert cube.unseen_loss(one_hot(actions, cube), BOTH) == 0.0
    actions[place] = 3
    sums = cube.scores[:, place, 3].sum(axis=0)
    quality = sums[QUALITY] / sums[ANSWERED]
    known = cube.counted[..., QUALITY].sum()
    assert cube.unseen_loss(one_hot(actions, cube), BOTH) == pytest.approx(unseen * (1 - quality) / (known + unseen), rel=1e-9)


def test_teams_are_set_apart_only_where_their_missing_scores_are_no_accident() -> None:
    rng = np.random.default_rng(4)
    team = np.repeat(["big", "small", "'; DROP TABLE x --", "mute"], [4_000, 12, 2_000, 900])
    quality = np.where(rng.random(len(team)) < 0.3, 0.8, np.nan)
    quality[np.isin(team, ["small", "mute"])] = np.nan
    table = ibis.memtable(
        pa.table(
            {"team": pa.array(team), "status": pa.array(["success"] * len(team)), "quality": pa.array(quality, mask=np.isnan(quality))}
        )
    )
    found, named = unscored_teams(table)
    assert [(each.team, each.observed, each.of) for each in found] == [("mute", 0, 900)]
    assert named == ("big", "'; DROP TABLE x --", "small")


def test_requests_without_a_team_can_be_what_nobody_scores() -> None:
    team = ["red"] * 1_000 + [None] * 500
    quality = pa.array([0.9 if number % 2 else None for number in range(1_000)] + [None] * 500, pa.float64())
    table = ibis.memtable(pa.table({"team": pa.array(team), "status": pa.array(["success"] * 1_500), "quality": quality}))
    [found], named = unscored_teams(table)
    assert (found.team, named) == (NO_TEAM, ("red",))
    assert (
        part_in_words(UnknownPart(outcome="quality", team=NO_TEAM, share=1 / 3, observed=0, of=500)) == "requests without a team (33.3 %)"
    )


def test_nothing_scored_at_all_sets_no_team_apart() -> None:
    table = ibis.memtable(pa.table({"team": ["a", "b"] * 500, "status": ["success"] * 1_000, "quality": pa.nulls(1_000, pa.float64())}))
    assert unscored_teams(table) == ((), ())
