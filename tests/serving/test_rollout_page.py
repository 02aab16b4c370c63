"""What the live page says of a roll-out."""

from __future__ import annotations

from datetime import UTC, datetime

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.gateways.rollout import RolloutStatus
from routing_pipeline.recommendation.canary import ALPHA, CanaryLook, Guardrail
from routing_pipeline.rules.rollout_record import Transition
from routing_pipeline.serving.dashboard.app import _environment

AT = datetime(2026, 3, 10, tzinfo=UTC)


def status(**given: object) -> RolloutStatus:
    steps = tuple(
        Transition(number=number, change="advance", rule_set_id="set-1", share=share, at=AT, by="Ada <b>", because="", before_sha256=None)
        for number, share in enumerate((0.01, 0.05), start=1)
    )
    fall = Estimate(estimate=-0.06, low=-0.09, high=-0.03)
    rails = tuple(
        Guardrail(
            watched=each,
            control=0.8,
            difference=fall if each == "quality" else Unidentifiable(unidentifiable="12 sessions in the canary; a comparison needs 30"),
            limit=-0.02,
            standing="crossed" if each == "quality" else "cannot tell",
        )
        for each in ALPHA
    )
    look = CanaryLook(
        rule_set_id="set-1",
        data_until_s=AT.timestamp(),
        share_of_requests=0.5,
        canary_requests=90,
        control_requests=1_710,
        canary_sessions=40,
        sessions_in_step=20,
        guardrails=rails,
    )
    values = {"rule_set_id": "set-1", "share": 0.05, "automatic": False, "look": look, "next": "roll_back", "because": "quality fell"}
    return RolloutStatus.model_validate({**values, "transitions": steps, **given})


def shown(rollout: RolloutStatus | None) -> str:
    return _environment().get_template("rollout.html.j2").render(rollout=rollout)


def test_the_page_shows_share_steps_and_the_boundary_and_what_comes_next() -> None:
    page = shown(status())
    assert "5.0 %</span> of the sessions follow it" in page
    assert "Next: roll back, quality fell." in page
    assert "Nothing is done automatically" in page
    assert page.count("advance to") == 2
    assert "Ada &lt;b&gt;" in page
    assert "\u22126.00 points (\u22129.00 points to \u22123.00 points)" in page
    assert 'class="badge bad">crossed' in page
    assert "12 sessions in the canary; a comparison needs 30" in page


def test_the_page_says_where_the_gateway_does_not_do_what_the_last_step_asked() -> None:
    assert "not in force" not in shown(status(is_written=True, is_loaded=True))
    page = shown(status(is_written=False, is_loaded=False))
    assert "configuration is not that of the last step" in page
    assert "does not know these rules yet" in page


def test_before_the_first_step_nothing_is_said_of_a_roll_out() -> None:
    assert shown(None).strip() == ""
    assert shown(status(transitions=(), look=None, share=0)).strip() == ""
