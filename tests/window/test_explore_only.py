"""What is only explored never sees the half that proofs are made on, and spends no question of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ibis
import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.rules.delivery import delivered, resolved
from routing_pipeline.rules.in_words import Optimisation
from routing_pipeline.rules.record import record_of
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import half_of, learning_half_as_whole
from tests.recommendation.test_realized_outcomes import promise


def test_the_learning_half_is_parted_anew_and_the_other_one_is_gone(hand_made: Callable[[Iterable[Mapping[str, Any]]], ibis.Table]) -> None:
    rows = hand_made([{"request_id": f"r{number}", "session_id": f"s{number}"} for number in range(2_000)])
    learning = {row["session_id"] for row in half_of(rows, "learn").to_pyarrow().to_pylist()}
    explored = learning_half_as_whole(rows)
    halves = [{row["session_id"] for row in half_of(explored, half).to_pyarrow().to_pylist()} for half in ("learn", "prove")]
    assert halves[0] | halves[1] == learning
    assert not halves[0] & halves[1]
    assert all(0.4 * len(learning) < len(half) < 0.6 * len(learning) for half in halves)


def test_explored_rules_are_in_no_record_and_cannot_be_approved(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    record = record_of(home)
    rule_set = promise().model_copy(update={"status": "proposed"})
    found = Optimisation(rule_set=rule_set, moved_share=0.5, moved_spend_share=0.5, look=0)
    _, status = delivered(record, found, explored_only=True)
    assert record.proposal(rule_set.rule_set_id) is None
    assert "explored" in status.verdict
    home.results.save("routing_rules", "0" * 16, found)
    home.results.remember_rule_set(rule_set.rule_set_id, "0" * 16)
    with pytest.raises(UnusableInputError, match="only explored, which is no proof"):
        resolved(home, record, rule_set.rule_set_id)
