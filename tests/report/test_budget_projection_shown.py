"""The projection of month and quarter in the report: all and by team, in both documents, absent where there is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any

from routing_pipeline.analysis.budget_projection import BudgetProjection, PeriodProjection, TeamProjection, UnknownBudget
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import Report

HOSTILE = "<script>alert(1)</script>|x"


def period(name: str, **values: Any) -> PeriodProjection:
    given: dict[str, Any] = {
        "period": name,
        "start": date(2026, 10, 1),
        "end": date(2027, 1, 1),
        "observed_usd": 4_000.0,
        "total_usd": Estimate(estimate=12_345.0, low=11_000.0, high=14_000.0),
        "budget_usd": 12_000.0,
        "chance_over_budget": 0.62,
    }
    return PeriodProjection(**given | values)


def test_month_and_quarter_stand_under_cost_with_their_teams_and_budgets(full_of: Callable[[str], Report]) -> None:
    unknown = Unidentifiable(unidentifiable="fewer than 14 days of spend")
    team = TeamProjection(team=HOSTILE, month=period("2026-11", total_usd=unknown, budget_usd=None), quarter=period("2026-Q4"))
    projection = BudgetProjection(history_days=90, month=period("2026-11"), quarter=period("2026-Q4"), teams=(team,))
    told = full_of("x").model_copy(update={"budget_projection": projection})
    for text in (report_markdown(told), re.sub(r"</?(span|small)[^>]*>", "", report_html(told))):
        assert "Month and quarter, from 90 days of spend" in text
        assert "2026-Q4" in text
        assert "12,345" in text
        assert "62" in text
        assert "fewer than 14 days of spend" in text
        assert "<script>alert" not in text
    row = next(line for line in report_markdown(told).splitlines() if line.startswith("| ") and "alert" in line)
    assert row.count(" | ") == 5


def test_a_report_of_an_earlier_version_has_no_such_section(full_of: Callable[[str], Report]) -> None:
    told = full_of("x").model_copy(update={"budget_projection": None})
    assert "days of spend" not in report_markdown(told).replace("explanation", "")
    assert "Month and quarter, from" not in report_html(told)


def test_a_budget_that_nothing_is_held_against_says_so_with_the_name_that_may_be_meant(full_of: Callable[[str], Report]) -> None:
    unknown = (
        UnknownBudget(kind="team", of="serach", budget_usd_per_month=50.0, nearest="search"),
        UnknownBudget(kind="tier", of=HOSTILE, budget_usd_per_month=5.0),
    )
    projection = BudgetProjection(history_days=90, month=period("2026-11"), quarter=period("2026-Q4"), teams=(), unknown_budgets=unknown)
    told = full_of("x").model_copy(update={"budget_projection": projection})
    for text in (report_markdown(told), re.sub(r"</?(span|small|code)[^>]*>", "", report_html(told))):
        assert "No request names the team " in text
        assert "so nothing is held against its budget of $50.00 a month; did you mean " in text
        assert "No request was answered by a model of tier " in text
        assert "<script>alert" not in text
