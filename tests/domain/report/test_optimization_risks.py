"""Risks: chances from intervals, which rule a request belongs to, and what the logs cannot tell."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from scipy import stats

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.rule_set import Between, When
from routing_pipeline.recommendation.optimization_risks import Chance, chance_above, chance_below, covers, optimization_risks, traffic_hit

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


@pytest.mark.parametrize(
    ("rule", "segment", "covered"),
    [
        (When(), When(task_type=("code",)), True),
        (When(task_type=("code", "chat")), When(task_type=("code",)), True),
        (When(task_type=("code",)), When(task_type=("code", "chat")), False),
        (When(task_type=("code",)), When(), False),
        (When(complexity=Between(gte=0.2, lt=0.8)), When(complexity=Between(gte=0.3, lt=0.8)), True),
        (When(complexity=Between(gte=0.2, lt=0.8)), When(complexity=Between(gte=0.1, lt=0.5)), False),
        (When(complexity=Between(gte=0.2)), When(complexity=Between(gte=0.3, lt=0.8)), True),
        (When(complexity=Between(lt=0.8)), When(complexity=Between(gte=0.3)), False),
        (When(complexity=Between(lt=0.8)), When(), False),
        (When(team=("data",)), When(team=("data",), task_type=("code",)), True),
    ],
)
def test_a_rule_covers_a_segment_when_none_of_its_requests_can_escape(rule: When, segment: When, covered: bool) -> None:
    assert covers(rule, segment) == covered


def test_each_request_counts_for_the_first_rule_that_holds(week, worlds: SimpleNamespace) -> None:
    rules = (
        worlds.rule(1, "chat", "gpt-4o-mini", Between(lt=0.3)),
        worlds.rule(2, "chat", "gpt-4o", Between(lt=0.6)),
        worlds.rule(3, "analysis", "gpt-4o", None),
    )
    rule_set = worlds.rule_set(rules)
    final = week.requests.filter(week.requests.is_final)
    rows = final.select("task_type", "complexity", "team", "request_cost_usd").to_pyarrow().to_pylist()
    decided = [(rule_set.deciding_rule(row), row) for row in rows]
    found = traffic_hit(week.requests, rule_set)
    for rule in rules:
        mine = [row for decision, row in decided if decision == rule]
        assert found[rule.id].requests == len(mine) > 0
        assert found[rule.id].spend_usd == pytest.approx(sum(row["request_cost_usd"] or 0.0 for row in mine))
        largest_first = sorted(Counter(row["team"] for row in mine).items(), key=lambda team: (-team[1], team[0]))
        assert list(found[rule.id].teams) == [team for team, _ in largest_first]


def test_no_rules_hit_nothing(week, worlds: SimpleNamespace) -> None:
    assert traffic_hit(week.requests, worlds.rule_set(())) == {}


def test_the_whole_set_is_judged_by_its_proof_and_each_rule_by_its_segments(worlds: SimpleNamespace) -> None:
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), worlds.proposing())
    whole, first, _ = found.changes
    assert (whole.judged_on, first.judged_on) == ("all requests", "requests it moves")
    proven = stats.norm.cdf((-0.01 - -0.002) / (0.003 / 1.959963984540054))
    assert whole.quality_falls.probability == pytest.approx(proven)
    segment = stats.norm.cdf((-0.01 - 0.001) / (0.004 / 1.959963984540054))
    assert first.quality_falls.probability == pytest.approx(segment)
    assert first.blast_radius.traffic_share == pytest.approx(0.3)
    assert first.tipping_point.low == pytest.approx(0.01 + 0.001 - 0.004)


@pytest.mark.parametrize(("grade", "risk"), [("A", "Low"), ("B", "Medium"), ("C", "Medium")])
def test_only_known_probabilities_make_a_risk_low(worlds: SimpleNamespace, grade: str, risk: str) -> None:
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(grade), worlds.proposing(grade))
    assert found.overall == risk
    assert ("nothing unlogged" in found.verdict) == (grade != "A")


def test_a_rule_whose_model_the_logs_hardly_hold_is_a_high_risk(worlds: SimpleNamespace) -> None:
    rules = (worlds.rule(1, "chat", "claude-opus-4-1", Between(lt=0.5)), worlds.rule(2, "code", "gpt-4o-mini", Between(lt=0.4)))
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), worlds.proposing(rule_set=worlds.rule_set(rules)))
    assert isinstance(found.changes[1].quality_falls, Unidentifiable)
    assert found.changes[1].risk == "High"


def test_a_rule_that_cuts_through_segments_says_so(worlds: SimpleNamespace) -> None:
    rules = (worlds.rule(1, "chat", "gpt-4o-mini", Between(lt=0.45)), worlds.rule(2, "code", "gpt-4o-mini", Between(lt=0.4)))
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), worlds.proposing(rule_set=worlds.rule_set(rules)))
    assert "cut through" in found.changes[1].quality_falls.unidentifiable


def test_without_a_change_there_is_no_risk_of_one(worlds: SimpleNamespace) -> None:
    found = optimization_risks(worlds.scope_of(), worlds.evidence_of(), worlds.proposing_nothing())
    assert found.changes == ()
    assert "No change is proposed" in found.verdict


def test_the_tolerance_is_what_the_threshold_leaves(worlds: SimpleNamespace) -> None:
    scope = worlds.scope_of(Parameters(quality_threshold=0.8))
    found = optimization_risks(scope, worlds.evidence_of(), worlds.proposing())
    assert found.quality_tolerance == pytest.approx(0.042)
    assert isinstance(found.changes[0].quality_falls, Chance)


def test_teams_are_named_when_there_are_rows_to_count_them(week, worlds: SimpleNamespace) -> None:
    with_rows = optimization_risks(week.scope, worlds.evidence_of(), worlds.proposing(), week.requests)
    assert with_rows.changes[0].blast_radius.teams_known
    assert "support" in with_rows.changes[0].blast_radius.teams
    without = optimization_risks(week.scope, worlds.evidence_of(), worlds.proposing())
    assert not without.changes[0].blast_radius.teams_known
