"""Work that nobody waits for: found where the logs show who does, priced by calls in both tiers, never by a guess."""

from __future__ import annotations

from typing import Any

import pytest

from routing_pipeline.analysis.patient_work import patient_work
from routing_pipeline.estimates import Unidentifiable


def work(**nightly: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(300):
        rows.append({"task_type": "chat", "team": "support", "user_hash": "u", "ttft_ms": 300.0})
        rows.append({"task_type": "tagging", "team": "data", "cost_usd": 0.02} | (nightly if number % 2 else {}))
    return rows


def test_what_streams_to_nobody_and_names_no_user_can_wait(hand_made: Any) -> None:
    found = patient_work(hand_made(work()))
    assert [(each.task_type, each.team, each.calls) for each in found.groups] == [("tagging", "data", 300)]
    assert found.cost_usd == pytest.approx(6.0)
    assert isinstance(found.saving_usd, Unidentifiable)
    assert "not known" in found.saving_usd.unidentifiable


def test_the_price_of_a_tier_is_what_the_same_model_charged_for_the_same_task(hand_made: Any) -> None:
    found = patient_work(hand_made(work(service_tier="batch", cost_usd=0.01)))
    assert found.cost_usd == pytest.approx(3.0), "what is batch already is not counted"
    assert found.price_share.estimate == pytest.approx(0.5)
    assert found.saving_usd.estimate == pytest.approx(1.5)
    assert found.saving_usd.low < 1.5 < found.saving_usd.high


@pytest.mark.parametrize("missing", ["user_hash", "ttft_ms"])
def test_without_streams_or_users_in_the_logs_nobody_can_tell_who_waits(hand_made: Any, missing: str) -> None:
    found = patient_work(hand_made([row | {missing: None} for row in work()]))
    assert found.groups == ()
    assert found.unknown is not None
