"""An alert about quality says where the scores of its hours are still coming in."""

from __future__ import annotations

import numpy as np

from routing_pipeline.alerts.decisions import AlertDecision, quality_drop
from routing_pipeline.alerts.series import WHOLE, HourlySums
from routing_pipeline.alerts.unscored_hours import still_coming_in
from routing_pipeline.parameters import AlertThresholds

FIRST, HOURS = 490_000, 6 * 168


def answers() -> HourlySums:
    count = np.full((1, HOURS), 40.0)
    return HourlySums(FIRST, (WHOLE,), count, count, count)


def fall(scored: float) -> tuple[AlertDecision, HourlySums]:
    """An alert about the last hours, of each of which so many of 40 answers are scored, where it were 20."""
    rng = np.random.default_rng(1)
    count = np.full((1, HOURS), 20.0)
    mean = np.clip(rng.normal(0.8, 0.02, (1, HOURS)), 0, 1)
    count[:, -24:], mean[:, -24:] = scored, 0.5
    qualities = HourlySums(FIRST, (WHOLE,), count, count * mean, count * (mean**2 + 0.01))
    failures = HourlySums(FIRST, (WHOLE,), np.full((1, HOURS), 40.0), np.zeros((1, HOURS)), np.zeros((1, HOURS)))
    decision = quality_drop(qualities, failures, AlertThresholds(), None, FIRST + HOURS)
    assert (decision.kind, decision.measured) == ("alert", "quality")
    return decision, qualities


def test_an_alert_of_hours_that_are_scored_less_than_usual_says_so() -> None:
    decision, qualities = fall(6.0)
    (told,) = still_coming_in(decision, qualities, answers())
    assert told.startswith("15 % of the answers of these hours are scored so far, usually 49 %:")
    assert "score_hold_back_hours" in told


def test_an_alert_of_hours_that_are_scored_as_usual_and_other_alerts_say_nothing_of_it() -> None:
    decision, qualities = fall(20.0)
    assert still_coming_in(decision, qualities, answers()) == ()
    decision, qualities = fall(6.0)
    assert still_coming_in(decision.model_copy(update={"measured": "failed attempts"}), qualities, answers()) == ()
    assert still_coming_in(decision, None, answers()) == ()
