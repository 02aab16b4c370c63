"""Steps of a roll-out in the report, with the boundary of quality at each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace

from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.canary import Guardrail
from routing_pipeline.recommendation.realized_outcomes import PromiseKept, RealizedOutcomes, RealizedRuleSet
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import Report
from routing_pipeline.rules.rollout_record import Change, Transition, taken_steps

AT = datetime(2026, 3, 10, 8, tzinfo=UTC)


def transition(number: int, change: Change, share: float, seen: Guardrail | None = None) -> Transition:
    evidence = None if seen is None else {"guardrails": [seen.model_dump(mode="json")]}
    return Transition(number=number, change=change, rule_set_id="mine", share=share, at=AT, by="Ada", evidence=evidence, before_sha256=None)


def test_each_step_is_shown_with_what_was_seen_of_quality_by_then(
    reports: dict[str, Callable[[], Report]], worlds: SimpleNamespace
) -> None:
    fall = Guardrail(
        watched="quality", control=0.8, difference=Estimate(estimate=-0.06, low=-0.09, high=-0.03), limit=-0.02, standing="crossed"
    )
    other = transition(2, "advance", 0.5).model_copy(update={"rule_set_id": "other"})
    steps = taken_steps("mine", (transition(1, "advance", 0.01), other, transition(3, "roll_back", 0.0, fall)))
    assert [(each.change, each.limit) for each in steps] == [("advance", None), ("roll_back", -0.02)]
    value = worlds.around(0.003, 0.0001)
    missed = PromiseKept(outcome="cost_usd", promised=value, measured=value, difference=worlds.around(0.0, 0.0001), verdict="missed")
    held = RealizedRuleSet(
        rule_set_id="mine",
        promised_on="2026-03-09T00:00:00Z",
        requests=5_000,
        share=0.25,
        days=6.0,
        outcomes=(missed,),
        rules=(),
        missed=("quality of rule r1",),
        steps=steps,
    )
    report = reports["rules"]().model_copy(update={"realized_outcomes": RealizedOutcomes(rule_sets=(held,), waiting=(), verdict="missed")})
    text = report_markdown(report)
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in text.splitlines()
        if " | advance | " in line or " | roll back | " in line
    ]
    assert [row[1:3] for row in rows] == [["advance", "1.0 %"], ["roll back", "0 %"]], rows
    assert "not checked yet" in rows[0][3]
    assert "6.0" in rows[1][3]
    assert "missed a promise: quality of rule r1" in text, "page one says it"
    assert "Steps of the roll-out" in report_html(report)
