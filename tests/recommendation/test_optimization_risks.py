"""Risks: chances from intervals, one level for each rule wherever it is spoken of, and what the logs cannot tell."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from scipy import stats

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.optimization_risks import optimization_risks, why_not_to_start
from routing_pipeline.recommendation.risk_levels import Chance, chance_above, chance_below
from routing_pipeline.recommendation.rule_traffic import teams_by_rule, traffic_of
from routing_pipeline.rules.model import Between, Constraints, WeightedModel

STANDARD = Estimate(estimate=0.0, low=-1.959963984540054, high=1.959963984540054)


def test_a_chance_is_the_normal_tail_beyond_the_threshold() -> None:
    assert chance_above(STANDARD, 1.6448536269514722).probability == pytest.approx(0.05)
    assert chance_below(STANDARD, -1.6448536269514722).probability == pytest.approx(0.05)
    ninety = Estimate(estimate=0.0, low=-1.6448536269514722, high=1.6448536269514722, level=0.9)
    assert chance_above(ninety, 1.6448536269514722).probability == pytest.approx(0.05)


def test_what_is_exactly_known_is_certain() -> None:
    nothing = Estimate(estimate=0.0, low=0.0, high=0.0)
    assert chance_above(nothing, 0.0).probability == 0.0
    assert chance_below(nothing, -0.01).probability == 0.0
    assert chance_above(Estimate(estimate=1.0, low=1.0, high=1.0), 0.5).probability == 1.0


def test_what_is_unknown_stays_unknown() -> None:
    unknown = Unidentifiable(unidentifiable="no scores")
    assert chance_above(unknown, 0.0) == unknown
    assert chance_below(unknown, 0.0) == unknown


def test_each_request_counts_for_the_first_rule_that_holds(week, worlds: SimpleNamespace) -> None:
    rules = (
        worlds.rule(1, "chat", "gpt-4o-mini", Between(lt=0.3)),
        worlds.rule(2, "chat", "gpt-4o", Between(lt=0.6)),
        worlds.rule(3, "analysis", "gpt-4o", None),
    )
    rule_set = worlds.rule_set(rules)
    final = week.requests.filter(week.requests.is_final)
    columns = ("task_type", "complexity", "team", "request_cost_usd", "routed_model", "is_cache_hit")
    rows = final.select(*columns).to_pyarrow().to_pylist()
    decided = [(next((rule for rule in rules if rule.when.matches(row)), None), row) for row in rows]
    traffic, teams = traffic_of(week.requests, rule_set), teams_by_rule(week.requests, rule_set)
    assert traffic.requests == len(rows)
    for place, rule in enumerate(rules):
        of_rule = [row for decision, row in decided if decision == rule]
        mine = [row for row in of_rule if not row["is_cache_hit"]]
        found = traffic.by_rule[place]
        assert found.requests == len(mine) > 0, "what the cache answers no rule decides"
        assert found.spend == pytest.approx(sum(row["request_cost_usd"] or 0.0 for row in mine))
        assert found.moved == sum(row["routed_model"] != rule.route[0].model for row in mine)
        assert found.today == Counter(row["routed_model"] for row in mine)
        largest_first = sorted(Counter(row["team"] for row in of_rule).items(), key=lambda team: (-team[1], team[0]))
        assert list(teams[rule.id]) == [team for team, _ in largest_first]


def test_weighted_routes_move_by_their_weights_and_say_what_each_model_then_gets(week, worlds: SimpleNamespace) -> None:
    half = worlds.rule(1, "chat", "gpt-4o-mini", None)
    half = half.model_copy(update={"route": (WeightedModel(model="gpt-4o-mini", weight=0.5), WeightedModel(model="gpt-4o", weight=0.5))})
    traffic = traffic_of(week.requests, worlds.rule_set((half,)))
    part = traffic.by_rule[0]
    stays = 0.5 * (part.today.get("gpt-4o-mini", 0.0) + part.today.get("gpt-4o", 0.0))
    assert part.moved == pytest.approx(part.requests - stays)
    shares = traffic.shares_under((half,))
    assert sum(shares.values()) == pytest.approx(1.0)
    before = (traffic.by_model["gpt-4o-mini"] - part.today["gpt-4o-mini"]) / traffic.requests
    assert shares["gpt-4o-mini"] == pytest.approx(before + 0.5 * part.requests / traffic.requests)


def test_no_rules_hit_nothing(week, worlds: SimpleNamespace) -> None:
    assert teams_by_rule(week.requests, worlds.rule_set(())) == {}
    assert traffic_of(week.requests, worlds.rule_set(())).moved_share == 0.0


def test_the_whole_set_is_judged_by_its_proof_and_each_rule_by_what_the_held_out_half_showed(worlds: SimpleNamespace) -> None:
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), worlds.proposing())
    whole, first, _ = found.changes
    assert (whole.judged_on, first.judged_on) == ("all requests", "requests it decides")
    proven = stats.norm.cdf((-0.01 - -0.002) / (0.003 / 1.959963984540054))
    assert whole.quality_falls.probability == pytest.approx(proven)
    alone = stats.norm.cdf((-0.01 - -0.003) / (0.004 / 1.959963984540054))
    assert first.quality_falls.probability == pytest.approx(alone), "the change of its own requests, as report.json has it beside the rule"
    assert (first.blast_radius.decided_share, first.blast_radius.traffic_share) == (pytest.approx(0.3), pytest.approx(0.3 * 0.8))
    assert first.tipping_point.low == pytest.approx((0.01 - 0.003 - 0.004) / 0.8)


@pytest.mark.parametrize(("grade", "risk"), [("A", "Low"), ("B", "Medium"), ("C", "Medium")])
def test_only_known_probabilities_make_a_risk_low(worlds: SimpleNamespace, grade: str, risk: str) -> None:
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(grade), worlds.proposing(grade))
    assert found.overall == risk
    assert ("no unlogged factor" in found.verdict) == (grade != "A")


def test_a_rule_of_which_the_held_out_half_cannot_tell_is_a_high_risk(worlds: SimpleNamespace) -> None:
    unknown = worlds.impact(1, "gpt-4o").model_copy(update={"quality_change": Unidentifiable(unidentifiable="too few went there")})
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), worlds.proposing(impacts=(unknown, worlds.impact(2, "gpt-4o"))))
    assert isinstance(found.changes[1].quality_falls, Unidentifiable)
    assert found.changes[1].risk == "High"


def test_a_rule_that_was_never_estimated_by_itself_says_so(worlds: SimpleNamespace) -> None:
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), worlds.proposing(impacts=()))
    assert "the whole rule set was tested instead" in found.changes[1].quality_falls.unidentifiable


def test_a_rule_that_matches_no_request_has_no_level(worlds: SimpleNamespace) -> None:
    nothing = worlds.impact(1, "gpt-4o").model_copy(update={"requests": 0, "share": 0.0, "moved_share": 0.0})
    notice = "Rule r1: no request of the window has task_type 'caht'; did you mean 'chat'?"
    both = worlds.proposing(impacts=(nothing, worlds.impact(2, "gpt-4o")), notices=(notice,))
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), both)
    assert [change.risk for change in found.changes] == ["Medium", None, "Medium"]
    assert "no request of the window" in found.changes[1].quality_falls.unidentifiable
    assert found.notices == (notice,)
    alone = worlds.proposing(impacts=(nothing, nothing.model_copy(update={"rule_id": "r2"})), notices=(notice,), walk=())
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), alone)
    assert found.overall is None
    assert "No rule matches a request" in found.verdict
    assert "did you mean 'chat'" in (why_not_to_start(alone) or "")


def test_without_a_change_there_is_no_risk_of_one(worlds: SimpleNamespace) -> None:
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), worlds.proposing_nothing())
    assert found.changes == ()
    assert "No change is proposed" in found.verdict


@pytest.mark.parametrize(
    ("limits", "tolerance", "floor"),
    [
        ({"max_quality_drop": 0.01}, 0.01, 0.832),
        ({"max_quality_drop": 0.01, "min_quality": 0.8}, 0.01, 0.832),
        ({"max_quality_drop": 0.01, "min_quality": 0.84}, 0.002, 0.84),
        ({"max_quality_drop": 0.05, "min_quality": 0.8}, 0.042, 0.8),
        ({"max_quality_drop": 0.01, "min_quality": 0.85}, -0.008, 0.85),
        ({"min_quality": 0.8}, 0.042, 0.8),
    ],
)
def test_the_tolerance_is_what_the_tighter_of_the_two_limits_leaves(
    worlds: SimpleNamespace, limits: dict[str, float], tolerance: float, floor: float
) -> None:
    rules = worlds.proposing()
    held = rules.rule_set.model_copy(update={"constraints": Constraints(**limits)})
    found = optimization_risks(worlds.scope_of(Parameters()), worlds.evidence_of(), rules.model_copy(update={"rule_set": held}))
    assert found.quality_tolerance == pytest.approx(tolerance)
    assert found.quality_floor == pytest.approx(floor)
    whole, first, _ = found.changes
    assert isinstance(whole.quality_falls, Chance)
    assert whole.quality_falls.threshold == pytest.approx(-tolerance)
    assert first.quality_falls.threshold == pytest.approx(-max(tolerance, 0.0)), "a rule alone need not lift the mean of all"
    assert ("stays below 0.850" in found.verdict) == (tolerance < 0)


def test_teams_are_named_when_there_are_rows_to_count_them(week, worlds: SimpleNamespace) -> None:
    with_rows = optimization_risks(week.scope, worlds.evidence_of(), worlds.proposing(), week.requests)
    assert with_rows.changes[0].blast_radius.teams_known
    assert "support" in with_rows.changes[0].blast_radius.teams
    without = optimization_risks(week.scope, worlds.evidence_of(), worlds.proposing())
    assert not without.changes[0].blast_radius.teams_known
