"""The team that rules hit worst is found where one is hit, and not named where too little is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.recommendation.options import WorstTeam
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.recommendation.worst_team import with_worst_teams
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows in which each session is of one team, their evidence, scope, and rules."""
    rng = np.random.default_rng(8)
    rows = worlds.logged(worlds.CONFOUNDED, worlds.contexts(worlds.CONFOUNDED, 15_000, rng), rng)
    by_cluster = np.array(["ada", "bob", "cho"])[np.array(rows["cluster"]) % 3]
    rows = worlds.with_column(rows, "team", by_cluster)
    folder: Path = tmp_path_factory.mktemp("teams")
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, folder)
        yield engine.read_parquet([folder / "rows.parquet"]), evidence, scope, optimize_routing_rules(evidence, scope)


def test_every_option_names_a_team_whose_change_lies_about_that_of_all(found: Any) -> None:
    requests, evidence, scope, rules = found
    assert rules.options
    for option in with_worst_teams(rules, evidence, requests, scope).options:
        assert isinstance(option.worst_team, WorstTeam)
        change = option.worst_team.quality_change
        assert isinstance(change, Estimate)
        assert isinstance(option.quality_change, Estimate)
        assert change.low < option.quality_change.estimate / option.moved_share
        assert 100 <= option.worst_team.scored <= option.worst_team.requests


def test_no_team_is_named_where_too_little_is_scored_or_none_is_logged(found: Any) -> None:
    import ibis

    requests, evidence, scope, rules = found
    few = requests.mutate(quality=ibis.ifelse(requests.cluster < 3, requests.quality, ibis.null("float64")))
    assert all(isinstance(each.worst_team, Unidentifiable) for each in with_worst_teams(rules, evidence, few, scope).options)
    none = with_worst_teams(rules, evidence, requests.mutate(team=ibis.null("string")), scope)
    assert all(each.worst_team is None for each in none.options)
