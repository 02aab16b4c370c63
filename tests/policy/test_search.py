"""Search and proof: against brute force, and against what must never happen."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters, Weights
from routing_pipeline.policy import candidates, programme, proof, search
from routing_pipeline.policy.exploration import SHARES, exploration_rules
from routing_pipeline.policy.rule_blocks import shares_of
from routing_pipeline.policy.scores import ANSWERED, COST, LATENCY, LEARN, OUTCOMES, QUALITY, SLOW, SUCCESS
from routing_pipeline.policy.search import Found, Learned, Limits
from routing_pipeline.recommendation.half_choices import pair_of
from routing_pipeline.recommendation.question import Question, question_of
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds

WEIGHTS = Weights()


def limits(**changes: object) -> Limits:
    base = Limits(min_quality=None, max_quality_drop=0.01, max_cost=None, keeps_cost=False, max_slow=None, caps=(None, None, None))
    return replace(base, **changes)  # type: ignore[arg-type]


def hand_made(seed: int, segments: int = 4, models: int = 3) -> Learned:
    """One task of four segments, three models and KEEP, one request each; ranges are sums of their segments."""
    rng = np.random.default_rng(seed)
    single = np.zeros((segments, models + 1, len(OUTCOMES)))
    single[..., COST] = rng.uniform(1, 10, size=(segments, models + 1))
    single[..., LATENCY] = rng.uniform(1, 3, size=(segments, models + 1))
    single[..., SUCCESS] = single[..., ANSWERED] = 1.0
    single[..., QUALITY] = rng.uniform(0.6, 0.95, size=(segments, models + 1))
    single[..., SLOW] = 0.02
    ranges = (
        *((place,) for place in range(segments)),
        *(tuple(range(a, b)) for a in range(segments) for b in range(a + 2, segments + 1)),
    )
    sums = np.stack([single[list(each)].sum(axis=0) for each in ranges])
    partitions, task_of = search.partitions_of(ranges, [0] * segments)
    share = np.full((segments, models), 1 / (segments * models))
    return Learned(
        ranges=ranges,
        partitions=partitions,
        task_of=task_of,
        sums=sums,
        rest=np.zeros(len(OUTCOMES)),
        requests=float(segments),
        counted=np.full(len(OUTCOMES), float(segments)),
        quality_error=np.zeros(sums.shape[:2]),
        success_error=np.zeros(sums.shape[:2]),
        eligible=np.ones(sums.shape[:2], dtype=bool),
        share=np.stack([share[list(each)].sum(axis=0) for each in ranges]),
        weight=np.array([len(each) / segments for each in ranges]),
        by_cluster=sums[None],
    )


def brute_force(learnt: Learned, gain: np.ndarray, floor: float, caps: Limits, max_cost: float | None) -> float | None:
    """Least cost, in gain less rule fees, over every policy that meets the limits."""
    keep = gain.shape[1] - 1
    best = None
    for row in learnt.partitions:
        chosen = np.flatnonzero(row)
        for arms in itertools.product(range(keep + 1), repeat=len(chosen)):
            found = Found(tuple(int(place) for place in chosen), arms)
            sums = learnt.predicted(found)
            if sums[QUALITY] < floor * sums[SUCCESS] - 1e-9 or (max_cost is not None and sums[COST] > max_cost * learnt.requests + 1e-9):
                continue
            if not search.within_caps(learnt, found, caps):
                continue
            value = float(gain[list(found.ranges), list(arms)].sum()) - search.MIN_BENEFIT * sum(arm != keep for arm in arms)
            best = value if best is None else max(best, value)
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("caps", "max_cost"), [((None, None, None), None), ((0.4, None, 0.6), None), ((None, None, None), 4.0)])
def test_the_integer_programme_finds_what_brute_force_finds(seed: int, caps: tuple[float | None, ...], max_cost: float | None) -> None:
    learnt = hand_made(seed)
    gain = search.utility(learnt, "cost", WEIGHTS)
    floor = 0.8
    # Two models of one tier, in every second world.
    capped = limits(caps=caps, tier_caps=(search.Cap((0, 2), 0.5, "premium"),) if seed % 2 else ())
    expected = brute_force(learnt, gain, floor, capped, max_cost)
    found = programme.programme(learnt, gain, capped, floor=floor, kappa=0.0, max_cost=max_cost)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert sorted(segment for place in found.ranges for segment in learnt.ranges[place]) == [0, 1, 2, 3]
    value = float(gain[list(found.ranges), list(found.arms)].sum()) - search.MIN_BENEFIT * sum(arm != 3 for arm in found.arms)
    assert value == pytest.approx(expected, rel=2e-3)


def test_an_unreachable_floor_has_no_programme_and_no_silent_answer() -> None:
    learnt = hand_made(0)
    gain = search.utility(learnt, "cost", WEIGHTS)
    assert programme.programme(learnt, gain, limits(), floor=0.999, kappa=0.0, max_cost=None) is None


def test_a_model_is_not_held_to_be_better_because_today_s_answers_were_unlucky() -> None:
    rng = np.random.default_rng(3)
    requests = np.full((256, 6), 20.0)
    expected = np.full((256, 6, 2, 1), 16.0)
    happened = expected.copy()
    happened[:, :, -1] += rng.normal(0.0, 4.0, size=(256, 6, 1))
    found = search.pulled(happened, expected, requests, np.ones((6, 1), dtype=bool)).sum(axis=0)[..., 0]
    raw = happened.sum(axis=0)[..., 0]
    unlucky = raw[:, -1] < expected.sum(axis=0)[:, -1, 0]
    assert unlucky.any()
    assert np.abs(found[:, 0] - found[:, 1]).max() < 0.4 * np.abs(raw[:, 0] - raw[:, 1]).max()
    assert found[:, 1] == pytest.approx(raw[:, 1]), "today stays what happened"


def test_the_sweep_holds_the_best_policy_for_every_price_of_quality() -> None:
    learnt = hand_made(1)
    gain = search.utility(learnt, "cost", WEIGHTS)
    swept = candidates.sweep(learnt, gain, by_cost=False, slow=False)
    ends = [learnt.predicted(found)[COST] for found in swept]
    assert min(ends) == pytest.approx(learnt.sums[:4, :, COST].min(axis=1).sum(), rel=1e-2)
    best = max(learnt.predicted(found)[QUALITY] for found in swept)
    assert best == pytest.approx(learnt.sums[:4, :, QUALITY].max(axis=1).sum(), rel=1e-2)


def drawn(world: worlds.World, n: int, seed: int = 7) -> tuple[worlds.Requests, pa.Table]:
    rng = np.random.default_rng(seed)
    requests = worlds.contexts(world, n, rng)
    return requests, worlds.logged(world, requests, rng)


def asked_of(rows: pa.Table, folder: Path, **asked: object) -> Question:
    folder.mkdir(exist_ok=True)
    with open_engine() as engine:
        return question_of(*worlds.evidence_of(engine, rows, folder, **{"goal": "cost", **asked}), None)


def answered(rows: pa.Table, folder: Path, **asked: object) -> tuple[RoutingRules, Question]:
    question = asked_of(rows, folder, **asked)
    return optimize_routing_rules(question.evidence, question.scope), question


@dataclass(frozen=True)
class Window:
    """A window of the confounded world and what is answered to it: several tests look at one."""

    requests: worlds.Requests
    rows: pa.Table
    answer: RoutingRules
    question: Question

    def answer_to(self, **asked: object) -> RoutingRules:
        """Of another question about the same rows: evidence does not depend on goals and limits."""
        parameters = Parameters.model_validate({"goal": "cost", **asked})
        return optimize_routing_rules(self.question.evidence, self.question.scope.model_copy(update={"parameters": parameters}))

    def shares(self, answer: RoutingRules) -> worlds.Floats:
        """What each model gets of the window's requests under the rules."""
        return worlds.followed(worlds.CONFOUNDED, self.requests, answer.rule_set).mean(axis=0)


def window(folder: Path, n: int, seed: int = 7, **asked: object) -> Window:
    requests, rows = drawn(worlds.CONFOUNDED, n, seed)
    return Window(requests, rows, *answered(rows, folder, **asked))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Window:
    return window(tmp_path_factory.mktemp("plain"), 20_000)


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Window:
    """Quality may fall by two points, so that models compete for traffic; few requests, as capacities make the search long."""
    return window(tmp_path_factory.mktemp("roomy"), 8_000, max_quality_drop=0.02)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Window:
    return window(tmp_path_factory.mktemp("larger"), 20_000, seed=2, max_quality_drop=0.01)


def scrambled(rows: pa.Table, *, proving: bool) -> pa.Table:
    """Outcomes of one half permuted within it: cost, latency, and quality among the scored."""
    rng = np.random.default_rng(11)
    half = (rows["cluster"].to_numpy() >= 128) == proving
    for name in ("request_cost_usd", "request_latency_ms", "quality"):
        values = rows[name].to_numpy(zero_copy_only=False).copy()
        where = np.flatnonzero(half & ~np.isnan(values))
        values[where] = values[rng.permutation(where)]
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, from_pandas=True))
    return rows


def test_nothing_of_the_proving_half_s_outcomes_reaches_the_candidates(plain: Window, tmp_path: Path) -> None:
    paths = []
    for question in (plain.question, asked_of(scrambled(plain.rows, proving=True), tmp_path / "scrambled")):
        learnt = search.learned(question.cube, question.limits)
        paths.append(candidates.candidates(question.cube, learnt, question.limits, "cost", WEIGHTS))
    assert paths[0]
    assert paths[0] == paths[1]
    # The test has teeth: the learning half's outcomes do matter.
    question = asked_of(scrambled(plain.rows, proving=False), tmp_path / "other half")
    learnt = search.learned(question.cube, question.limits)
    assert candidates.candidates(question.cube, learnt, question.limits, "cost", WEIGHTS) != paths[0]


def test_prices_ten_times_as_high_give_the_same_rules(plain: Window, tmp_path: Path) -> None:
    rows = plain.rows
    dear = rows.set_column(
        rows.column_names.index("request_cost_usd"), "request_cost_usd", pa.array(rows["request_cost_usd"].to_numpy() * 10)
    )
    dear_answer, _ = answered(dear, tmp_path)
    assert plain.answer.rule_set.rules
    said = [[(rule.when, rule.route) for rule in answer.rule_set.rules] for answer in (plain.answer, dear_answer)]
    assert said[0] == said[1]


def test_the_same_data_and_question_give_the_same_rule_set_to_the_byte(plain: Window, tmp_path: Path) -> None:
    again, _ = answered(plain.rows, tmp_path)
    assert again.model_dump_json() == plain.answer.model_dump_json()


def test_a_much_lower_floor_saves_more(plain: Window) -> None:
    savings = []
    for drop in (0.005, 0.03):
        change = plain.answer_to(max_quality_drop=drop).rule_set.expected.change.cost_usd.relative
        assert isinstance(change, Estimate)
        savings.append(-change.estimate)
    assert savings[0] < savings[1]


def test_what_was_never_tried_is_never_proposed_and_is_offered_for_exploration(tmp_path: Path) -> None:
    world = worlds.DETERMINISTIC
    _, rows = drawn(world, 20_000)
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, tmp_path, goal="cost")
    for segment in evidence.segments:
        for arm in segment.arms:
            if arm.requests == 0:
                assert not arm.supported
                assert isinstance(arm.quality, Unidentifiable)
    answer = optimize_routing_rules(evidence, scope)
    assert answer.rule_set.status == "no_change"
    exploration = exploration_rules(evidence, scope, answer.rule_set)
    assert exploration is not None
    for rule in exploration.rules:
        assert rule.route != "unchanged"
        assert any(rule.route[-1].weight == pytest.approx(share) for share in SHARES)
        assert isinstance(rule.expected.quality, Unidentifiable)


def test_capacities_are_kept_and_impossible_ones_are_named(roomy: Window) -> None:
    shares = roomy.shares(roomy.answer)
    busiest = int(shares.argmax())
    cap = round(float(shares[busiest]) * 0.7, 3)
    capped = roomy.answer_to(max_quality_drop=0.02, capacities={worlds.CONFOUNDED.models[busiest]: {"max_share": cap}})
    assert capped.rule_set.rules
    assert roomy.shares(capped)[busiest] <= cap + 0.01
    impossible = roomy.answer_to(capacities={model: {"max_share": 0.05} for model in worlds.CONFOUNDED.models})
    assert impossible.rule_set.status == "no_change"
    assert any("capacities" in conflict.constraints for conflict in impossible.conflicts)


def test_a_cap_counts_what_a_model_gets_where_no_rule_reaches() -> None:
    learnt = replace(hand_made(1), unreached=np.array([0.3, 0.0, 0.0]))
    nothing = Found((0, 1, 2, 3), (3, 3, 3, 3))
    assert search.within_caps(learnt, nothing, limits(caps=(0.64, None, None)))
    assert not search.within_caps(learnt, nothing, limits(caps=(0.6, None, None)))


def test_models_of_a_tier_keep_to_their_share_together_or_it_is_said_that_none_can(roomy: Window) -> None:
    shares = roomy.shares(roomy.answer)
    pair = np.argsort(-shares)[:2]
    tiers = {worlds.CONFOUNDED.models[place]: {"tier": "busy"} for place in pair}
    cap = round(float(shares[pair].sum()) * 0.8, 3)
    capped = roomy.answer_to(max_quality_drop=0.02, models=tiers, max_share_by_tier={"busy": cap})
    assert capped.rule_set.rules
    assert roomy.shares(capped)[pair].sum() <= cap + 0.01
    assert capped.rule_set.constraints.max_share == {"tier:busy": cap}
    assert any("Models of tier busy get at most" in each.text for each in capped.limits)
    all_of_them = {model: {"tier": "busy"} for model in worlds.CONFOUNDED.models}
    impossible = roomy.answer_to(models=all_of_them, max_share_by_tier={"busy": 0.5})
    assert impossible.rule_set.status == "no_change"
    assert any("at most 50 % of requests for models of tier busy" in conflict.constraints for conflict in impossible.conflicts)


def test_a_floor_out_of_reach_is_named_with_what_is_within_reach(plain: Window) -> None:
    answer = plain.answer_to(quality_threshold=0.995)
    assert answer.rule_set.status == "no_change"
    assert answer.conflicts
    assert "0.995" in answer.conflicts[0].constraints
    assert "within reach" in answer.conflicts[0].nearest_feasible


def test_a_floor_and_a_ceiling_that_exclude_each_other_are_named_together(plain: Window) -> None:
    answer = plain.answer_to(cost_threshold=0.0005)
    assert answer.rule_set.status == "no_change"
    assert any("and cost at most $0.0005" in conflict.constraints for conflict in answer.conflicts)


def test_rules_read_back_are_the_policy_that_was_proven(larger: Window, tmp_path: Path) -> None:
    unlogged = replace(worlds.CONFOUNDED, logs_complexity=False, explored=0.4)
    by_length = answered(drawn(unlogged, 20_000, seed=2)[1], tmp_path, max_quality_drop=0.05)
    for world, (answer, question) in ((worlds.CONFOUNDED, (larger.answer, larger.question)), (unlogged, by_length)):
        assert answer.rule_set.rules
        shares = shares_of(question.cube, answer.rule_set.rules)
        pair = pair_of(question.halves, answer.halves, single=False)
        assert shares is not None
        assert pair is not None
        assert np.allclose(shares, pair.shares)
        outcome = proof.proven(question.halves, pair)
        cost = answer.rule_set.expected.proposed.cost_usd
        assert isinstance(cost, Estimate)
        assert outcome.cost.value == pytest.approx(cost.estimate, rel=1e-12)
        for rule in answer.rule_set.rules:
            assert (rule.when.complexity is None) or world.logs_complexity


def test_the_learning_half_never_pays_for_a_rule_that_adds_less_than_the_stated_benefit(plain: Window) -> None:
    cube = plain.question.cube
    learnt = search.learned(cube, plain.question.limits)
    assert learnt.today[COST] == pytest.approx(cube.scores[LEARN, :, cube.keep, COST].sum(), rel=1e-9)
    worthless = np.where(np.arange(learnt.sums.shape[1]) == cube.keep, 0.0, search.MIN_BENEFIT / 2)
    found = candidates._best(learnt, np.where(learnt.eligible, worthless - search.MIN_BENEFIT * (worthless > 0), -np.inf))
    assert set(found.arms) == {cube.keep}


def test_wording_follows_the_grade_and_the_tipping_point_is_told(larger: Window) -> None:
    answer = larger.answer
    assert answer.rule_set.rules
    said = " ".join([*answer.reasons, *answer.rule_set.warnings, *(rule.rationale for rule in answer.rule_set.rules)])
    assert "worth an A/B test" in said
    assert "will save" not in said
    assert isinstance(answer.tipping_point, Estimate)
    assert "would not hold" in said
    assert {rule.evidence.grade for rule in answer.rule_set.rules} == {"B"}


def test_further_questions_to_the_same_held_out_half_are_held_to_stricter_levels_that_add_up(plain: Window) -> None:
    assert proof.level_of(1) == pytest.approx(0.975)
    assert sum(1 - proof.level_of(look) for look in range(1, 60)) <= 0.05
    first, question = plain.answer, plain.question
    again = optimize_routing_rules(question.evidence, question.scope, test_number=6)
    assert len(again.walk) <= len(first.walk)
    assert again.look == 6
    assert any("question 6 to the same held-out sessions" in warning for warning in again.rule_set.warnings)
    assert not any("held-out sessions" in warning for warning in first.rule_set.warnings)


def test_rules_say_how_much_of_the_traffic_other_data_would_send_alike(larger: Window) -> None:
    answer = larger.answer
    assert answer.stability is not None
    assert 0.6 < answer.stability.resampled.low <= answer.stability.resampled.estimate <= 1.0
    assert answer.stability.one_percent >= 0.85
    assert answer.stability.one_percent >= answer.stability.resampled.low


def test_the_owner_of_a_router_may_say_what_it_decides_by(tmp_path: Path) -> None:
    world = replace(worlds.CONFOUNDED, logs_complexity=False)
    _, rows = drawn(world, 5_000)
    grades = {}
    for inputs in ((), ("prompt_tokens",), ("prompt_tokens", "team")):
        grades[inputs] = asked_of(rows, tmp_path / "-".join(inputs or ("nothing",)), router_inputs=inputs).evidence.grade
    assert grades == {(): "C", ("prompt_tokens",): "B", ("prompt_tokens", "team"): "C"}
