"""What makes a question another one, and evidence other evidence."""

from __future__ import annotations

from typing import Any

import pytest

from routing_pipeline.parameters import CapabilitiesFile, Parameters, RoutingPolicy
from routing_pipeline.recommendation.question import asked_of_the_proof
from tests.made_up_report import scope_of

OTHER: dict[str, Any] = {
    "router_inputs": ("task_type", "complexity"),
    "policy": RoutingPolicy(leave_alone=("legal",)),
    "capabilities": CapabilitiesFile(path="api.json", md5="0" * 32),
}


@pytest.mark.parametrize("name", OTHER)
def test_what_the_evidence_rests_on_beside_its_rows_is_part_of_its_key_and_of_the_question(name: str) -> None:
    usual, other = scope_of(), scope_of(Parameters(**{name: OTHER[name]}))
    assert usual.evidence_key != other.evidence_key
    assert asked_of_the_proof(usual) != asked_of_the_proof(other)


def test_another_goal_is_another_question_to_the_same_evidence() -> None:
    usual, other = scope_of(), scope_of(Parameters(goal="cost"))
    assert usual.evidence_key == other.evidence_key
    assert asked_of_the_proof(usual) != asked_of_the_proof(other)
