"""Pages one and two: up to three options in one table, in words that whoever decides reads in four minutes."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from routing_pipeline.clock import DAYS_PER_MONTH
from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.offered import RoutingOption
from routing_pipeline.recommendation.options import NAMES, OptionId, WorstHit
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.recommendation.simulation import Simulation, TaskReplay
from routing_pipeline.recommendation.worst_team import TOO_FEW
from routing_pipeline.report import choice
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import Report
from routing_pipeline.rules.model import Between, WeightedModel

Reports = dict[str, Callable[[], Report]]
TASKS = ("summarization", "code", "reasoning", "analysis", "extraction", "translation", "chat", "classification")
MOST_WORDS = 900
LONGEST_BEFORE_THE_APPENDIX = 3_000


def around(rules: RoutingRules, name: OptionId, worlds: SimpleNamespace) -> RoutingOption:
    """An option of many rules, with an id of its own unless it is the proposal."""
    is_default = name == "balanced"
    rule_id = rules.rule_set.rule_set_id if is_default else f"{rules.rule_set.rule_set_id[:-8]}{zlib.crc32(name.encode()):08x}"
    made = tuple(worlds.rule(place, task, "claude-haiku-4-5", Between(lt=0.4), "B") for place, task in enumerate(TASKS, 1))
    lost = {"requests": 9_000, "scored": 900, "expected_change": -0.04}
    option: RoutingOption = worlds.option_of(
        rules,
        id=name,
        name=NAMES[name],
        is_default=is_default,
        rule_set=rules.rule_set.model_copy(update={"rule_set_id": rule_id, "rules": made}),
        impacts=tuple(worlds.impact(place, "claude-opus-4-1", "gpt-4o") for place in range(1, len(made) + 1)),
        worst_task=WorstHit(task_type="code", quality_change=worlds.around(-0.041, 0.017), **lost),
    )
    return option


@pytest.fixture
def three(worlds: SimpleNamespace) -> Report:
    """A report like the demo's, with three options."""
    rules = worlds.proposing("B")
    found = tuple(around(rules, name, worlds) for name in NAMES)
    rules = worlds.proposing("B", options=found, worst_task=found[0].worst_task)
    report: Report = worlds.assembled(worlds.scope_of(), worlds.evidence_of("B"), rules, simulation=replayed(worlds))
    return report


def replayed(worlds: SimpleNamespace) -> Simulation:
    parts = tuple(TaskReplay(task_type=task, requests=9_000, moved_share=0.7, expected=worlds.expected()) for task in TASKS)
    blank: Simulation = worlds.blank(Simulation)
    return blank.model_copy(update={"by_task": parts, "requests": 72_000})


def words_of_two_pages(page: str) -> list[str]:
    shown = re.search(r"<main.*?(?=<div class=\"tools\")", page, re.DOTALL)
    assert shown is not None
    return re.sub(r"<[^>]+>", " ", re.sub(r"<svg.*?</svg>", "", shown.group(), flags=re.DOTALL)).split()


def test_three_options_stand_side_by_side_with_what_each_costs_and_how_to_approve_it(three: Report) -> None:
    text = report_markdown(three).split("## Current State Analysis")[0]
    assert "| Option | No loss | Balanced (proposed) | Boldest |" in text
    for row in ("Saving a month", "Quality", "Worst-hit task", "Worst-hit team", "Room to the limit", "Rules"):
        (line,) = re.findall(rf"^\| {row} \|.*$", text, re.MULTILINE)
        assert line.count("|") == 5
        assert "cannot tell" not in line
    assert "claude-opus-4-1 and others → claude-haiku-4-5 for code of complexity under 0.4" in text
    assert text.count(f"and {len(TASKS) - choice.RULES_OF_EACH} more") == 3
    assert text.count("routing-pipeline approve") == 3
    assert "To approve Boldest instead:" in text


def test_the_picture_shows_today_and_each_option(three: Report) -> None:
    picture = choice_picture(three)
    assert picture is None, "the made-up frontier places nothing"


def choice_picture(report: Report) -> object:
    from routing_pipeline.report.figures import figures

    return figures(report, report.routing_rules.options).choice


@pytest.mark.parametrize("kind", ["refusal", "no change", "rules", "proven rules"])
def test_both_pages_are_read_in_four_minutes(reports: Reports, kind: str) -> None:
    assert len(words_of_two_pages(report_html(reports[kind]()))) <= MOST_WORDS


def test_both_pages_are_read_in_four_minutes_with_three_options(three: Report) -> None:
    assert 400 < len(words_of_two_pages(report_html(three))) <= MOST_WORDS


def test_what_comes_before_the_appendix_is_short(three: Report) -> None:
    assert len(report_markdown(three).split("## Appendix")[0].split()) <= LONGEST_BEFORE_THE_APPENDIX


def test_the_page_stays_small(three: Report) -> None:
    assert len(report_html(three).encode()) < 500_000


def test_the_proposal_alone_is_the_one_option(reports: Reports) -> None:
    report = reports["rules"]()
    (only,) = choice.options(report)
    assert only.option.rule_set == report.routing_rule_set
    assert only.option.saving_usd_per_month == report.routing_rules.saving_usd_per_day.scaled(DAYS_PER_MONTH)  # type: ignore[union-attr]
    assert len(only.rules) == len(report.routing_rule_set.rules)
    assert only.approve == report.approval
    assert choice.options(reports["no change"]()) == ()


def test_each_option_is_approved_by_an_id_of_its_own(three: Report) -> None:
    commands = [each.approve for each in choice.options(three)]
    assert len(set(commands)) == len(NAMES)
    assert three.approval in commands


def test_what_was_only_explored_cannot_be_approved(three: Report) -> None:
    explored = three.model_copy(update={"routing_rules": three.routing_rules.model_copy(update={"look": 0})})
    assert [each.approve for each in choice.options(explored)] == [None] * len(NAMES)


def test_the_worst_hit_task_is_what_could_go_wrong(three: Report) -> None:
    assert (
        "What could go wrong: [code answers](#expected-outcomes)** are the likeliest to lose most: \N{MINUS SIGN}4.10 points of 100"
        in report_markdown(three)
    )


def test_the_worst_hit_task_has_one_range_on_both_pages(three: Report) -> None:
    hit = three.routing_rules.worst_task
    (line,) = [each for each in choice.by_task(three) if each.task_type == "code"]
    assert hit is not None
    assert line.quality_change == hit.quality_change


def test_teams_of_too_few_scored_answers_are_told_as_such(three: Report) -> None:
    options = [each.model_copy(update={"worst_team": TOO_FEW}) for each in three.routing_rules.options]
    report = three.model_copy(update={"routing_rules": three.routing_rules.model_copy(update={"options": tuple(options)})})
    assert re.search(r"\| Worst-hit team \|( cannot tell \|){3}", report_markdown(report))


def test_a_weighted_route_is_told_with_its_parts(worlds: SimpleNamespace) -> None:
    report = worlds.assembled(worlds.scope_of(), worlds.evidence_of("B"), worlds.proposing("B"))
    halves = tuple(WeightedModel(model=model, weight=0.5) for model in ("gpt-4o-mini", "claude-haiku-4-5"))
    rules = report.routing_rules
    rule = rules.rule_set.rules[0].model_copy(update={"route": halves})
    (line,) = choice.lines(rules.rule_set.model_copy(update={"rules": (rule,)}), rules.impacts)
    assert line == "gpt-4o → 50 % gpt-4o-mini, 50 % claude-haiku-4-5 for chat of complexity under 0.5"


def test_with_few_data_one_page_says_what_is_there_what_is_missing_and_how_long_to_wait(reports: Reports) -> None:
    text = report_markdown(reports["refusal"]()).split("## Current State Analysis")[0]
    assert [line for line in text.splitlines() if line.startswith("####")] == [
        "#### What is there",
        "#### How much more is needed",
        "#### What is missing",
    ]
    assert text.count("days more") == 2, "said once in the answer, once under its heading"
    assert "Routing probability" in text
    assert "Why, by task" not in text


def test_there_is_an_estimate_behind_every_number_of_the_choice(three: Report) -> None:
    assert all(isinstance(each.option.quality_change, Estimate) for each in choice.options(three))
