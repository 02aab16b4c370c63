"""Which logged columns are named as steering the router, and what becomes of them."""

from __future__ import annotations

import ibis
import numpy as np
import pyarrow as pa

from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.binning import Binning
from routing_pipeline.policy.context import Context, context_of, with_tests_of_strata
from routing_pipeline.policy.evidence_model import SteeringTest
from routing_pipeline.policy.kinds import binning_by_needs, window_needs
from routing_pipeline.policy.segments import when
from tests.simulation import worlds
from tests.simulation.steered_worlds import steered


def context(rows: object) -> Context:
    table = ibis.memtable(rows)
    needs = window_needs(table, Parameters())
    return context_of(table, lambda teams: binning_by_needs(table, needs, teams))


def verdicts(found: Context) -> dict[str, str]:
    return {each.column: each.verdict for each in found.tests}


def test_a_team_that_steers_becomes_part_of_the_kind_and_rules_name_it() -> None:
    found = context(steered("team", 8_000, 1).rows)
    assert verdicts(found)["team"] == "corrected for"
    hard, easy = tuple(f"team-{each}" for each in (3, 4, 5)), tuple(f"team-{each}" for each in (0, 1, 2))
    assert set(found.binning.kind_teams) == {hard, easy}
    assert when(found.binning, 0, 0, found.binning.levels).team in {hard, easy}
    assert Binning.from_json(found.binning.to_json()) == found.binning


def test_a_day_that_steers_becomes_strata_and_no_rule_names_it() -> None:
    found = context(steered("day", 8_000, 2).rows)
    assert verdicts(found)["day"] == "corrected for"
    assert found.binning.strata is not None
    assert found.binning.strata.column == "day"
    assert found.binning.lengths == len(found.binning.strata.groups) >= 2
    assert when(found.binning, 0, 0, found.binning.levels).team is None
    assert Binning.from_json(found.binning.to_json()) == found.binning


def test_the_tier_of_a_gateways_own_router_is_corrected_for_and_tags_that_follow_the_choice_are_only_named() -> None:
    rows = steered("team", 8_000, 4).rows
    tiers = ["COMPLEX" if each in {"team-3", "team-4", "team-5"} else "SIMPLE" for each in rows["team"].to_pylist()]
    rows = rows.drop_columns("team").append_column("router_tier", pa.array(tiers)).append_column("team", pa.nulls(8_000, pa.string()))
    found = context(rows.append_column("tags", rows["routed_model"]))
    assert verdicts(found)["router tier"] == "corrected for"
    assert verdicts(found)["tags"] == "steers"
    assert found.binning.strata is not None
    assert found.binning.strata.groups == (("COMPLEX",), ("SIMPLE",))


def test_a_team_that_only_asks_other_questions_is_not_named() -> None:
    rng = np.random.default_rng(5)
    world = worlds.World()
    requests = worlds.contexts(world, 8_000, rng)
    rows = worlds.logged(world, requests, rng)
    # Hard tasks and complex questions come from one team more often; the router goes by task and complexity alone.
    of_one = rng.random(8_000) < 0.2 + 0.5 * requests.complexity * (requests.task >= 4)
    found = context(worlds.with_column(rows, "team", np.where(of_one, "one", "two").tolist()))
    assert verdicts(found)["team"] in {"no sign", "slight"}
    assert found.binning.kind_teams == ()


def as_told(column: str, verdict: str) -> SteeringTest:
    return SteeringTest.model_validate({"column": column, "values": 2, "statistic": 1.0, "p_value": 0.5, "spread": 0.1, "verdict": verdict})


def test_a_column_that_is_tested_for_the_first_time_beside_strata_is_told_and_what_is_corrected_for_stays_so() -> None:
    told = {"team": as_told("team", "corrected for"), "day": as_told("day", "steers"), "user": as_told("user", "corrected for")}
    after = {"team": as_told("team", "no sign"), "prompt length": as_told("prompt length", "steers"), "user": as_told("user", "steers")}
    found = with_tests_of_strata(told, after)
    assert {name: each.verdict for name, each in found.items()} == {
        "team": "corrected for",
        "day": "steers",
        "user": "steers",
        "prompt length": "steers",
    }
