"""What requests of known probability tell of the others: in the appendix always, on page one where something hidden steers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest

from routing_pipeline.estimates import Estimate
from routing_pipeline.policy.evidence_model import AuditedModel, ConfoundingAudit
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import Report

TOLD = "By themselves they tell this of the others."


def around(value: float, half: float) -> Estimate:
    return Estimate(estimate=value, low=value - half, high=value + half)


def audited(report: Report, verdict: Literal["agree", "differ"]) -> Report:
    model = AuditedModel(
        model="nano",
        requests=140,
        share=0.9,
        quality_of_all=around(0.78, 0.03),
        quality_of_known=around(0.59, 0.06),
        difference=around(0.19, 0.06),
        p_value=0.00012,
    )
    audit = ConfoundingAudit(share=0.04, requests=1_600, models=(model,), verdict=verdict, told=TOLD)
    return report.model_copy(update={"routing_evidence": report.routing_evidence.model_copy(update={"audit": audit})})


@pytest.mark.parametrize("shown", [report_html, report_markdown])
def test_the_appendix_tells_both_estimates_of_each_model(full_of: Callable[[str], Report], shown: Callable[[Report], str]) -> None:
    text = shown(audited(full_of("plain"), "agree"))
    assert TOLD in text
    assert "p = 0.00012" in text
    assert "Something hidden steers" not in text


@pytest.mark.parametrize("shown", [report_html, report_markdown])
def test_page_one_says_where_something_hidden_steers(full_of: Callable[[str], Report], shown: Callable[[Report], str]) -> None:
    text = shown(audited(full_of("plain"), "differ"))
    assert "Something hidden steers the router" in text
    assert text.count(TOLD) >= 2
