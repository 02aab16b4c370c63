"""The cost section: logged beside recomputed cost, the gap by token class with its cause, and what nobody prices."""

from __future__ import annotations

from collections.abc import Callable

from routing_pipeline.analysis.cost_checks import CostCheck, TokenClassCost
from routing_pipeline.analysis.cost_drivers import Overuse
from routing_pipeline.analysis.unpriced_spend import UnpricedModel, UnpricedSpend
from routing_pipeline.estimates import Estimate
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import Report
from routing_pipeline.text import LogName

CAUSE = "cache class: cached tokens are charged at the full price"


def cached(charged: float | None) -> TokenClassCost:
    return TokenClassCost(
        token_class="cached",
        tokens=65_304,
        charged_usd_per_million=charged,
        list_usd_per_million=0.5,
        logged_usd=None if charged is None else 65_304 * charged / 1e6,
        list_usd=0.0327,
        difference_usd=None if charged is None else 0.294,
    )


def check(model: str, *, within: bool | None, charged: float | None = 5.0) -> CostCheck:
    return CostCheck(
        model=model,
        provider="openai",
        provider_model=f"{model}-2026",
        attempts=40,
        logged_usd=0.939487,
        list_usd=0.865846,
        difference=0.085,
        within_tolerance=within,
        cause="" if within else CAUSE,
        classes=(cached(charged),),
        unchecked_attempts=0,
    )


def with_costs(report: Report) -> Report:
    unpriced = UnpricedSpend(
        attempts=9,
        share=0.09,
        list_cost_usd=1.25,
        attempts_without_list_price=7,
        models=(UnpricedModel(model="our-llama", provider="vllm", attempts=7, share=0.07, prompt_tokens=7_000, completion_tokens=900),),
        free_attempts=0,
        free_list_cost_usd=0.0,
    )
    checks = (check("off", within=False), check("untold", within=False, charged=None), check("right", within=True))
    costs = report.routing_costs.model_copy(update={"unpriced": unpriced, "checks": checks})
    return report.model_copy(update={"routing_costs": costs})


def rows_of(text: str, first: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line.startswith(f"| {first} |")]


def test_logged_and_recomputed_cost_stand_side_by_side_with_the_likely_cause(reports: dict[str, Callable[[], Report]]) -> None:
    text = report_markdown(with_costs(reports["rules"]()))
    assert "#### Logged against recomputed cost" in text
    whole, by_class = rows_of(text, "off")
    assert whole[1:] == ["off-2026", "40", "$0.939", "$0.866", "+8.5 %", CAUSE]
    assert by_class[1:3] == ["cached", "65,304"]
    assert "$5.00" in by_class[3]
    assert "$0.50" in by_class[4]
    assert rows_of(text, "untold")[1][3] == "cannot tell"
    (right,) = rows_of(text, "right")
    assert right[-1] == "within 10 %"


def test_one_model_at_two_providers_is_two_rows_that_say_where(reports: dict[str, Callable[[], Report]]) -> None:
    shown = reports["rules"]()
    checks = tuple(check("one", within=True).model_copy(update={"provider": provider}) for provider in ("east", "west"))
    costs = shown.routing_costs.model_copy(update={"checks": checks})
    text = report_markdown(shown.model_copy(update={"routing_costs": costs}))
    assert [row[1] for row in rows_of(text, "one")] == ["one-2026 at east", "one-2026 at west"]


def test_models_without_a_price_are_listed_with_their_traffic(reports: dict[str, Callable[[], Report]]) -> None:
    text = report_markdown(with_costs(reports["rules"]()))
    (row,) = rows_of(text, "our-llama")
    assert row[1:] == ["vllm", "7", "7.0 %", "7,000", "900"]
    assert "7 attempts have no price at all: in no total, and not free" in text


def test_the_page_says_the_same(reports: dict[str, Callable[[], Report]]) -> None:
    page = report_html(with_costs(reports["rules"]()))
    for said in (CAUSE, "our-llama", "cannot tell", "65,304", "in no total, and not free"):
        assert said in page


def test_nothing_to_compare_is_said(reports: dict[str, Callable[[], Report]]) -> None:
    report = reports["rules"]()
    report = report.model_copy(update={"routing_costs": report.routing_costs.model_copy(update={"checks": ()})})
    assert "No call has both a logged cost and a list price: nothing to compare." in report_markdown(report)
    assert "No call has both a logged cost and a list price: nothing to compare." in report_html(report)


def test_what_is_avoidable_in_all_stands_below_its_parts(reports: dict[str, Callable[[], Report]]) -> None:
    shown = reports["rules"]()
    avoidable = Estimate(estimate=1_234.5, low=1_200.0, high=1_269.0, level=0.95)
    overuse = Overuse.model_construct(
        model=LogName("dear"),
        task_type=LogName("chat"),
        replacement=LogName("cheap"),
        requests=5,
        spend_usd=9.0,
        share_of_spend=0.1,
        avoidable_usd=avoidable,
    )
    drivers = shown.cost_drivers.model_copy(update={"overuse": (overuse,), "avoidable_usd": avoidable, "quality_floor": "the floor"})
    text = report_markdown(shown.model_copy(update={"cost_drivers": drivers}))
    (line,) = [each for each in text.splitlines() if "All of these together" in each]
    assert "avoidable $1,23" in line
    assert "(the floor)" in line


def test_the_unit_of_regret_is_explained_where_it_is_shown(reports: dict[str, Callable[[], Report]]) -> None:
    shown = reports["rules"]()
    for unit, is_told in (("weighted shares of today's means", True), ("USD", False)):
        decisions = shown.routing_decisions.model_copy(update={"goal_unit": unit})
        text = report_markdown(shown.model_copy(update={"routing_decisions": decisions}))
        assert ("0.1 is worth 10.0 % of today's cost" in text) is is_told


def test_where_nothing_could_be_compared_no_money_stands_on_either_side(full_of: Callable[[str], Report]) -> None:
    report = full_of("A")
    nothing = check("dall-e-3", within=None).model_copy(
        update={"attempts": 0, "logged_usd": 0.0, "list_usd": 0.0, "classes": (), "unchecked_attempts": 4}
    )
    costs = report.routing_costs.model_copy(update={"checks": (nothing,)})
    (line,) = [
        each
        for each in report_markdown(report.model_copy(update={"routing_costs": costs})).splitlines()
        if each.startswith("| dall-e-3 | dall-e-3-2026 |")
    ]
    assert "$" not in line
