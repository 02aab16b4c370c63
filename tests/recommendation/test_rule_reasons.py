"""What a reader of proposed rules is warned of."""

from __future__ import annotations

import pytest

from routing_pipeline.policy.evidence import _nothing
from routing_pipeline.recommendation.rule_reasons import per_call_warnings
from tests.made_up_report import scope_of

NOTHING = _nothing()


@pytest.mark.parametrize(
    ("sessions", "said"),
    [(400, "A session holds 2.5 requests on average"), (1_000, "no sessions of more than one request"), (0, "no sessions")],
)
def test_what_is_promised_of_calls_is_said_to_be_per_call_only(sessions: int, said: str) -> None:
    (warning,) = per_call_warnings(NOTHING, scope_of(requests=1_000, sessions=sessions))
    assert "per call only" in warning
    assert said in warning
