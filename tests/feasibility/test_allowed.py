"""What the policy allows."""

from __future__ import annotations

from routing_pipeline.feasibility.allowed import forbidden, spared_teams
from routing_pipeline.parameters import RoutingPolicy


def policy(*restrictions: dict[str, list[str]], leave_alone: tuple[str, ...] = ()) -> RoutingPolicy:
    return RoutingPolicy.model_validate({"restrictions": list(restrictions), "leave_alone": leave_alone})


def test_nothing_is_forbidden_without_a_policy() -> None:
    assert forbidden(RoutingPolicy(), "code", "m", None, None) is None


def test_a_task_that_is_left_alone_takes_no_model() -> None:
    assert forbidden(policy(leave_alone=("legal",)), "legal", "m", None, None) is not None
    assert forbidden(policy(leave_alone=("legal",)), "code", "m", None, None) is None


def test_only_what_is_known_to_be_allowed_is_allowed() -> None:
    only_eu = policy({"task_types": ["legal"], "only_regions": ["eu"]})
    assert forbidden(only_eu, "legal", "m", None, "eu") is None
    assert forbidden(only_eu, "legal", "m", None, "us") is not None
    assert forbidden(only_eu, "legal", "m", None, None) is not None
    assert forbidden(only_eu, "code", "m", None, "us") is None
    never = policy({"never_providers": ["acme"]})
    assert forbidden(never, "code", "m", "acme", None) == "the policy rules out the provider acme here"
    assert forbidden(never, "code", "m", None, None) == "its provider is not known"
    assert forbidden(never, "code", "m", "openai", None) is None


def test_a_restriction_of_a_team_spares_the_team_and_leaves_the_others() -> None:
    asked = policy({"teams": ["legal"], "only_models": ["m"]})
    assert spared_teams(asked) == {"legal"}
    assert forbidden(asked, "code", "other", None, None) is None
