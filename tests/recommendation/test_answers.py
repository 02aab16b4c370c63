"""What people made of recommendations is kept in the home and comes back with the next report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from routing_pipeline.recommendation.answers import LONGEST_REASON, answer, answers, answers_to, ticket
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import page_one, report_markdown
from routing_pipeline.report.model import Report
from routing_pipeline.storage.locks import InFolder

Reports = dict[str, Callable[[], Report]]


def test_a_home_without_answers_has_none(tmp_path: Path) -> None:
    assert answers(InFolder(tmp_path)) == ()


def test_the_newest_answer_to_a_recommendation_holds(tmp_path: Path, reports: Reports) -> None:
    plan = reports["rules"]().optimization_plan
    one, other = plan.items[:2]
    home = InFolder(tmp_path)
    answer(home, other, "ticket")
    answer(home, one, "accepted", by="Ada")
    answer(home, one, "dismissed", by="Ada", because="not this quarter")
    assert [(each.id, each.state, each.because) for each in answers_to(home, plan)] == [
        (one.id, "dismissed", "not this quarter"),
        (other.id, "ticket", ""),
    ]
    assert answers_to(home, plan.model_copy(update={"items": ()})) == ()


def test_the_next_report_shows_what_became_of_each(tmp_path: Path, reports: Reports) -> None:
    report = reports["rules"]()
    first = report.optimization_plan.items[0]
    home = InFolder(tmp_path)
    answer(home, first, "dismissed", by="Ada", because="not this quarter")
    answered = report.model_copy(update={"recommendations": answers_to(home, report.optimization_plan)})
    text = report_markdown(answered)
    assert f"{first.id} (dismissed by Ada: not this quarter)" in page_one(text)
    assert first.title not in page_one(text), "what was dismissed is no step of the plan"
    assert "Answer: dismissed by Ada on" in text
    assert text.count("Answer: open") == len(report.optimization_plan.items) - 1


def test_a_reason_is_kept_short_and_in_one_line(tmp_path: Path, reports: Reports) -> None:
    item = reports["rules"]().optimization_plan.items[0]
    made = answer(InFolder(tmp_path), item, "dismissed", because="no\n" * 10_000)
    assert len(made.because) <= LONGEST_REASON
    assert made.because.isprintable()


def test_a_ticket_says_what_to_do_and_when_it_is_done(reports: Reports) -> None:
    item = reports["rules"]().optimization_plan.items[0]
    text = ticket(item, "report run-1")
    assert text.startswith(f"# {item.title}\n")
    for said in (item.recommended_change, item.who, "**Done when**", f"Recommendation {item.id} of report run-1."):
        assert said in text
    assert text.count("- [ ] ") >= len(item.validation_criteria)


@pytest.mark.parametrize("name", ["</li><script>alert(1)</script>", "| a | b |"])
def test_an_answer_is_text_and_nothing_else(tmp_path: Path, reports: Reports, name: str) -> None:
    report = reports["rules"]()
    answer(InFolder(tmp_path), report.optimization_plan.items[0], "dismissed", by=name, because=name)
    answered = report.model_copy(update={"recommendations": answers_to(InFolder(tmp_path), report.optimization_plan)})
    assert report_html(answered).count("<script>") == 1
    assert name not in report_markdown(answered)
