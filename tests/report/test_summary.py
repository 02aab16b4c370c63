"""Page one: four answers that a manager understands, whatever the answer is."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from routing_pipeline.analysis.budget_projection import BudgetProjection, PeriodProjection
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.recommendation.scenarios import Point, Scenario
from routing_pipeline.recommendation.tradeoff_frontier import TradeoffFrontier
from routing_pipeline.recommendation.within_reach import Conflict
from routing_pipeline.report import summary
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import Report
from routing_pipeline.rules.lifecycle import State, status_without_record
from routing_pipeline.rules.model import Constraints, RelativeChange
from routing_pipeline.window.scope import AnalysisScope

EVERY_REPORT = ["empty", "refusal", "no change", "rules", "proven rules", "full"]
JARGON = (
    *("propensit", "held-out", "doubly", "confound", "off-policy", "p95", "percentile", "sigma", "arm ", "arms", "estimator"),
    *("snapshot", "non-inferior", "canary", "overlap", "unidentifiable", "grade", "A/B", "confidence", "token", "cluster", "latency"),
    *("replay", "the proof", "candidate", "interval", "session", "simulat"),
)
"""Technical terms: they begin after the summary."""
Reports = dict[str, Callable[[], Report]]


def summary_of(report: Report) -> str:
    """The summary as it is read, without the addresses of its links."""
    text = report_markdown(report).split("## Executive Summary")[1].split("## Current State Analysis")[0]
    return re.sub(r"\[([^\]]*)\]\(#[^)]*\)", r"\1", text)


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_the_four_questions_of_a_manager_are_answered_in_their_order(reports: Reports, kind: str) -> None:
    cards = summary.cards(reports[kind]())
    questions = ["What we spent", "What we could save", "What we ask you to approve", "What could go wrong"]
    assert [card.question for card in cards] == questions
    assert all(card.figure and card.unit and card.sentences and card.evidence for card in cards)


@pytest.mark.parametrize("kind", ["refusal", "no change", "rules", "proven rules"])
def test_no_word_of_the_trade_is_in_the_summary(reports: Reports, kind: str) -> None:
    told = summary_of(reports[kind]())
    if kind == "refusal":
        told = told.split("What is missing")[0]  # which names columns
    assert [word for word in JARGON if word.lower() in told.lower()] == []


def test_what_can_be_saved_stands_with_its_range_and_how_sure_we_are(reports: Reports) -> None:
    saved = summary.cards(reports["rules"]())[1]
    assert (saved.figure, saved.unit, saved.range) == ("$308.00", "in the 7 days analysed", "likely between $266.00 and $350.00")
    assert "34.0 % less (likely between 31.0 % and 37.0 %)" in saved.sentences[0]
    assert "not a promise" in saved.sentences[-1]
    assert "as sure as an experiment" in summary.cards(reports["proven rules"]())[1].sentences[-1]


def week_of_spend(worlds: SimpleNamespace, scope: AnalysisScope | None = None, **analyses: Any) -> Report:
    costs = worlds.blank(RoutingCosts).model_copy(update={"total_usd": 900.0, "per_request_usd": worlds.around(0.009, 0.0001)})
    return worlds.assembled(scope or worlds.scope_of(), worlds.evidence_of("B"), worlds.proposing("B"), routing_costs=costs, **analyses)


def test_spend_and_saving_are_of_the_same_days(worlds: SimpleNamespace) -> None:
    spent, saved = summary.cards(week_of_spend(worlds))[:2]
    assert (spent.figure, spent.range) == ("$900.00", "counted from the logs")
    assert spent.unit.startswith("in 7 days")
    assert (saved.figure, saved.unit) == ("$308.00", "of the $900.00 spent over those 7 days")
    assert "likely" not in spent.sentences[0], "what is counted has no range"
    assert "30 days" not in " ".join(saved.sentences)


def month_of(total: Measured) -> BudgetProjection:
    values: dict[str, Any] = {"start": date(2026, 11, 1), "end": date(2026, 12, 1), "observed_usd": 900.0, "total_usd": total}
    return BudgetProjection(
        history_days=60, month=PeriodProjection(period="2026-11", **values), quarter=PeriodProjection(period="2026-Q4", **values), teams=()
    )


def test_a_month_is_told_from_its_projection_with_the_doubt_about_volume_in_it(worlds: SimpleNamespace) -> None:
    told = week_of_spend(worlds, budget_projection=month_of(worlds.around(4000.0, 500.0)))
    spent, saved = summary.cards(told)[:2]
    assert "Forecast: November 2026 comes to $4,000 (likely between $3,500 and $4,500) if routing stays as it is." in spent.sentences
    assert not [each for each in saved.sentences if "month" in each], "what a month saves stands in the table of the options"


def test_a_month_that_cannot_be_told_is_said_to_be_so(worlds: SimpleNamespace) -> None:
    why = "it needs 14 complete days with spend, and the logs have 7"
    told = week_of_spend(worlds, budget_projection=month_of(Unidentifiable(unidentifiable=why)))
    spent, saved = summary.cards(told)[:2]
    assert "Run rate: $3,857 a month of 30 days. That is these days' pace, not a forecast." in spent.sentences
    assert not [each for each in (*spent.sentences, *saved.sentences) if "November" in each]


def test_a_day_of_logs_is_never_made_into_a_month(worlds: SimpleNamespace) -> None:
    day = worlds.scope_of()
    day = day.model_copy(update={"start_s": day.end_s - 86_400})
    told = week_of_spend(worlds, day, budget_projection=None)
    spent, saved = summary.cards(told)[:2]
    assert "the logs cover 24 hours, less than a week" in " ".join(spent.sentences)
    assert saved.unit == "of the $900.00 spent over those 24 hours"
    for text in (report_markdown(told), report_html(told)):
        assert "over 30 days" not in text
        assert "less than a full week" in text
        assert told.cost_optimization_plan.window_days == 1.0


def test_a_replay_that_breaks_the_tolerance_which_the_proof_keeps_is_told(worlds: SimpleNamespace) -> None:
    kept = week_of_spend(worlds)
    expected = worlds.expected()
    wide = expected.model_copy(
        update={"change": expected.change.model_copy(update={"quality": RelativeChange(relative=worlds.around(-0.007, 0.006))})}
    )
    replayed = kept.simulation.model_copy(update={"expected": wide, "requests": 1000})
    broken = kept.model_copy(update={"simulation": replayed})
    told = (
        "The low end of the proof is within the tolerance (0.5 points of 100). "
        "That of the replay, whose interval covers all tasks at once, is not (1.09 points of 100)."
    )
    for text in (report_markdown(broken), report_html(broken)):
        assert text.count(told) == 1, "beside the replay, and not before whoever decides"
        assert told not in text.split("Current State Analysis</h2>")[0].split("## Current State Analysis")[0]
    assert told not in report_markdown(kept)


def test_nobody_is_promised_what_nobody_does(reports: Reports) -> None:
    text = " ".join(summary_of(reports["rules"]()).split())
    assert "the platform team removes the rules from the gateway" in text
    assert "is back at once" not in text
    assert "routing-pipeline export" not in report_markdown(reports["rules"]())


def test_every_estimate_in_the_summary_has_its_range(reports: Reports) -> None:
    # The first card counts; the others estimate.
    for card in summary.cards(reports["rules"]())[1:]:
        for sentence in card.sentences:
            for found in re.finditer(r"would (?:change|come) .*|That is .*", sentence):
                assert "likely between" in found.group() or "cannot be estimated" in found.group() or "holds if" in sentence, sentence


@pytest.mark.parametrize(("at", "told"), [(0.004, "favoured the new models by more than 0.4 points of 100"), (0.00001, "even slightly")])
def test_what_nobody_logged_could_break_the_promise_and_how_much_of_it_is_told(reports: Reports, at: float, told: str) -> None:
    report = reports["rules"]()
    tipping = Estimate(estimate=at, low=at, high=0.02)
    rules = report.routing_rules.model_copy(update={"tipping_point": tipping})
    (risks,) = summary.cards(report.model_copy(update={"routing_rules": rules}))[3:]
    assert told in " ".join(risks.sentences)


def test_no_change_is_an_answer_and_says_so(reports: Reports) -> None:
    spent, saved, asked, risked = summary.cards(reports["no change"]())
    assert (saved.figure, saved.range) == ("Nothing", None)
    assert "We recommend no change" in saved.sentences[0]
    assert "400,000 requests would settle it" in saved.sentences[1]
    assert asked.figure == "No change"
    assert risked.figure == "No new risk"
    assert "$" not in saved.figure + asked.figure + risked.figure
    assert spent.figure == "Cannot tell", "the made-up report has no spend"


def test_logs_that_cannot_tell_are_said_to_and_for_how_long_to_collect(reports: Reports) -> None:
    saved = summary.cards(reports["refusal"]())[1]
    assert saved.figure == "Cannot tell"
    assert "fewer than 1,000 requests" in saved.sentences[0]
    assert "12 days more" in saved.sentences[1]


@pytest.mark.parametrize(
    ("goal", "question", "figure", "unit"), [("speed", "gain", "8.0 %", "faster"), ("quality", "gain", "+0.20", "points")]
)
def test_the_goal_s_own_figure_leads(worlds: SimpleNamespace, goal: str, question: str, figure: str, unit: str) -> None:
    rules = worlds.proposing("B")
    better = worlds.option_of(rules, quality_change=worlds.around(0.002, 0.001))
    rules = rules.model_copy(update={"rule_set": rules.rule_set.model_copy(update={"goal": goal}), "options": (better,)})
    saved = summary.cards(worlds.assembled(worlds.scope_of(), worlds.evidence_of("B"), rules))[1]
    assert (saved.question, saved.figure) == (f"What we could {question}", figure)
    assert unit in saved.unit
    assert "34.0 % less" in saved.sentences[0]


def test_a_rule_set_that_costs_more_is_not_called_a_saving(worlds: SimpleNamespace) -> None:
    rules = worlds.proposing("B", saving_usd_per_day=worlds.around(-10.0, 2.0))
    saved = summary.cards(worlds.assembled(worlds.scope_of(), worlds.evidence_of("B"), rules))[1]
    assert (saved.figure, saved.unit) == ("$70.00", "more in the 7 days analysed")


def test_what_needs_approval_says_how_to_give_it(reports: Reports) -> None:
    asked = summary.cards(reports["rules"]())[2]
    assert asked.figure == "A trial of 2 rules"
    assert asked.command == "routing-pipeline approve 2026-11-23T00:00:00Z-3f9c --by NAME --home /data/home"
    assert "sets each step by hand" in " ".join(asked.sentences)
    assert "60.0 % of requests (70.0 % of spend)" in " ".join(summary.cards(reports["rules"]())[3].sentences)


def test_what_a_command_is_for_stands_right_before_it(reports: Reports) -> None:
    asked = summary.cards(reports["rules"]())[2]
    lines = [line for line in report_markdown(reports["rules"]()).splitlines() if line]
    says = lines.index("To approve, with your name:")
    assert asked.command is not None
    assert asked.command in lines[says + 2 if lines[says + 1].startswith("```") else says + 1]
    assert re.search(r"<p>To approve, with your name:</p>\s*<pre[^>]*><code>routing-pipeline approve", report_html(reports["rules"]()))
    assert "with your name" not in report_markdown(reports["no change"]())


@pytest.mark.parametrize(
    ("state", "needs", "moved", "figure"),
    [
        ("approved", False, 0.6, "No action needed"),
        ("published", False, 0.6, "No action needed"),
        ("proposed", True, 0.6, "A trial of 2 rules"),
        ("rolled_back", True, 0.6, "A trial of 2 rules"),
        ("proposed", False, 0.01, "Nothing"),
        ("proposed", False, None, "A trial of 2 rules"),
    ],
)
def test_what_is_asked_for_follows_where_the_rule_set_stands(
    state: State, needs: bool, moved: float | None, figure: str, reports: Reports
) -> None:
    report = reports["rules"]()
    unknown = status_without_record(report.routing_rule_set, state, "As the record says.", None)
    stands = unknown.model_copy(update={"needs_approval": needs, "moved_share": moved})
    assert summary.cards(report.model_copy(update={"rule_set_status": stands}))[2].figure == figure


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_the_summary_fits_a_sheet_and_two_minutes(reports: Reports, kind: str) -> None:
    lines = summary_of(reports[kind]()).splitlines()
    incident = [line for line in lines if line.startswith("**Incident")]
    assert len(" ".join(line for line in lines if line not in incident).split()) < 900, "both pages"
    assert len(" ".join(incident).split()) < 60, "what an alert was about, in a few lines"
    assert report_html(reports[kind]()).count('class="card"') == (2 if kind in {"empty", "refusal"} else 4)


def scenario(priority: str, **given: Any) -> Scenario:
    told = {
        "priority": priority,
        "rules": 5,
        "keeps": (),
        "breaks": ("quality at least 0.990",),
        "suggested": True,
        "ask": f"--goal {priority}",
    }
    about = Estimate(estimate=0.9, low=0.89, high=0.91)
    point = Point(label="5 rules", cost_usd=Estimate(estimate=0.002, low=0.001, high=0.003), quality=about, latency_ms=about)
    return Scenario.model_validate({**told, "point": point, **given})


def test_limits_in_conflict_are_named_in_the_summary_with_the_nearest_that_can_hold(worlds: SimpleNamespace) -> None:
    conflict = Conflict(
        constraints="quality at least 0.99", nearest_feasible="the most that the logs show within reach is about 0.914, at any cost"
    )
    rules = worlds.proposing_nothing(conflicts=(conflict,))
    frontier = worlds.blank(TradeoffFrontier).model_copy(update={"scenarios": (scenario("balanced"),)})
    report = worlds.assembled(worlds.scope_of(), worlds.evidence_of("B"), rules, tradeoff_frontier=frontier)
    saved = summary.cards(report)[1]
    assert (saved.figure, saved.unit) == ("Nothing", "that meets all of your limits")
    told = " ".join(saved.sentences)
    assert (
        "Your limits are in conflict: quality at least 0.99 cannot be kept; the most that the logs show within reach is about 0.914" in told
    )
    assert "nothing better than today" not in told
    assert (
        "running the analysis again with --goal balanced: $2.00 (likely between $1.00 and $3.00) per 1,000 requests at a quality of 90.0 of 100"
        in told
    )
    assert "limits are in conflict" in summary_of(report)
    nothing = frontier.model_copy(update={"scenarios": (scenario("balanced", rules=0),)})
    without = summary.cards(report.model_copy(update={"tradeoff_frontier": nothing}))[1]
    assert "We suggest" not in " ".join(without.sentences), "a priority under which nothing was proven"


def test_a_floor_above_today_is_told_as_a_level_and_not_as_a_fall(worlds: SimpleNamespace) -> None:
    held = worlds.rule_set(worlds.proposing().rule_set.rules, constraints=Constraints(max_quality_drop=0.01, min_quality=0.86))
    report = worlds.assembled(worlds.scope_of(), worlds.evidence_of("B"), worlds.proposing("B", rule_set=held))
    risked = summary.cards(report)[3]
    assert risked.unit == "chance that quality stays below 86.0 of 100"
    assert "stays below 0.860" in report_markdown(report)


def test_rules_that_mend_a_broken_limit_and_lose_in_the_goal_lead_with_money(worlds: SimpleNamespace) -> None:
    rules = worlds.proposing("B")
    rules = rules.model_copy(update={"rule_set": rules.rule_set.model_copy(update={"goal": "quality"})})
    saved = summary.cards(worlds.assembled(worlds.scope_of(), worlds.evidence_of("B"), rules))[1]
    assert saved.question == "What we could save"
    assert saved.figure.startswith("$")
