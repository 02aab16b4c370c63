"""report.html as people meet it: in Chromium, light and dark, on a phone, on paper, by keyboard, and full of hostile names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from browser import DESKTOP, PHONE, opened, violations
from playwright.sync_api import Browser, Page

from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.report.html import report_html
from routing_pipeline.report.model import Report
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.text import printable
from tests.hostile_names import HOSTILE_NAMES
from tests.made_up_report import assembled, evidence_of, full, impact, proposing, proposing_nothing, rule, rule_set, scope_of

Scheme = Literal["light", "dark"]
MANY = 400
PAPER = (688, 1024)
"""What the margins of the style sheet leave of an A4 sheet, in CSS pixels."""


def large() -> Report:
    """Hundreds of rules, models, tasks, teams and checks: what a large house would get."""
    names = [f"model-or-task-with-a-long-name-{number:04d}" for number in range(MANY)]
    rules = tuple(rule(number, names[number], names[-number], None) for number in range(1, MANY))
    impacts: tuple[RuleImpact, ...] = tuple(impact(number, *names[number : number + 5]) for number in range(1, MANY))
    chosen: RoutingRules = proposing(rule_set=rule_set(rules), impacts=impacts)
    report: Report = assembled(scope_of(models=tuple(names), task_types=tuple(names)), evidence_of("B"), chosen, text="a name")
    return report.model_copy(
        update={part: many(getattr(report, part)) for part in type(report).model_fields if part not in {"run", "scope"}}
    )


def many(part: Any) -> Any:
    """The same part with every list of one entry grown to MANY."""
    if not hasattr(type(part), "model_fields"):
        return part
    grown = {}
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, tuple) and len(value) == 1:
            grown[name] = value * MANY
    return part.model_copy(update=grown)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages under test, by what they say."""
    folder = tmp_path_factory.mktemp("pages")
    plain, unsure = scope_of(), proposing_nothing()
    reports = {
        "rules": full("a model"),
        "no change": assembled(plain, evidence_of("B"), unsure),
        "refusal": assembled(scope_of(days_to_collect=12.0), evidence_of(refusal="fewer than 1,000 requests"), unsure),
        "large": large(),
        **{f"hostile {kind}": full(name) for kind, name in HOSTILE_NAMES.items()},
    }
    for kind, report in reports.items():
        (folder / f"{kind}.html").write_text(report_html(report), encoding="utf-8")
    return {kind: folder / f"{kind}.html" for kind in reports}


@pytest.fixture(params=["rules", "no change", "refusal"])
def page(request: pytest.FixtureRequest, chromium: Browser, pages: dict[str, Path]) -> Iterator[Page]:
    with opened(chromium, pages[request.param].as_uri()) as found:
        yield found.page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["rules", "no change", "refusal"])
def test_axe_finds_nothing_serious_and_the_page_asks_for_nothing(
    chromium: Browser, pages: dict[str, Path], kind: str, scheme: Scheme
) -> None:
    with opened(chromium, pages[kind].as_uri(), size=DESKTOP, scheme=scheme) as found:
        found.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert violations(found.page) == []
        assert found.errors == []
        assert found.asked == []


@pytest.mark.parametrize("kind", ["rules", "hostile megabyte", "large"])
def test_a_phone_needs_no_sideways_scrolling_of_the_page(chromium: Browser, pages: dict[str, Path], kind: str) -> None:
    with opened(chromium, pages[kind].as_uri(), size=PHONE) as found:
        found.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert found.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        if kind == "rules":
            assert violations(found.page) == []


def test_page_one_is_one_sheet_of_paper_and_the_rest_begins_on_the_next(page: Page) -> None:
    page.set_viewport_size({"width": PAPER[0], "height": PAPER[1]})
    page.emulate_media(media="print")
    assert page.evaluate("document.querySelector('.first').getBoundingClientRect().bottom + window.scrollY") <= PAPER[1]
    is_all = page.evaluate("document.body.classList.contains('few')")
    assert page.evaluate("getComputedStyle(document.querySelector('.first')).breakAfter") == ("auto" if is_all else "page")
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_paper_shows_every_chapter_and_leaves_what_folds_inside_to_the_file(chromium: Browser, pages: dict[str, Path]) -> None:
    heights = "query => [...document.querySelectorAll(query)].map(each => each.getBoundingClientRect().height)"
    with opened(chromium, pages["rules"].as_uri()) as found:
        found.page.emulate_media(media="print")
        assert all(height > 10 for height in found.page.evaluate(heights, ".inside > *:first-child"))
        folded = found.page.evaluate("[...document.querySelectorAll('.detail > .scroll')].map(each => each.checkVisibility())")
        assert len(folded) > 10
        assert not any(folded)
        pdf = found.page.pdf(prefer_css_page_size=True)
        assert 2 < len(re.findall(rb"/Type\s*/Page[^s]", pdf)) < 15


def test_with_few_data_paper_is_one_page(chromium: Browser, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["refusal"].as_uri()) as found:
        assert len(re.findall(rb"/Type\s*/Page[^s]", found.page.pdf(prefer_css_page_size=True))) == 1
        assert "Collect about 12 days more" in found.page.locator(".first").inner_text()


def test_the_appendix_folds_and_can_be_searched(chromium: Browser, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["rules"].as_uri()) as found:
        page = found.page
        assert page.locator("details.chapter[open]").count() == 0
        page.fill("#find", "median")
        assert 0 < page.locator("details.chapter:visible").count() < page.locator("details.chapter").count()
        assert page.locator("details.chapter[open] th:has-text('Median'):visible").count()
        page.fill("#find", "no such word")
        assert page.inner_text("#hits").startswith("0 of")
        page.fill("#find", "")
        assert page.locator("details.chapter:visible").count() == page.locator("details.chapter").count()
        page.click("#unfold")
        assert page.locator("main details:not([open])").count() == 0


def test_a_table_is_sorted_by_its_numbers(chromium: Browser, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["rules"].as_uri()) as found:
        page = found.page
        page.click("#unfold")
        table = page.locator("table", has=page.locator("th:has-text('Effective')")).or_(page.locator("[aria-label='Latency'] table")).first
        head = table.locator("thead th").last
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        shown = table.locator("tbody tr td:last-child").all_inner_texts()
        head.locator("button").click()
        assert table.locator("tbody tr td:last-child").all_inner_texts() == shown[::-1] or len(set(shown)) < len(shown)


def test_without_its_script_the_page_reads_and_folds(chromium: Browser, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["rules"].as_uri(), scripts=False) as found:
        assert found.page.locator("#find").is_hidden()
        found.page.locator("details.chapter > summary").nth(1).click()
        assert found.page.locator("#performance-metrics").is_visible()


def test_headings_go_down_one_level_at_a_time(page: Page) -> None:
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(each => +each.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tables_name_what_their_rows_and_columns_are(page: Page) -> None:
    assert page.evaluate("[...document.querySelectorAll('th')].every(each => each.scope && each.textContent.trim())")
    assert page.evaluate("[...document.querySelectorAll('table')].every(each => each.closest('[aria-label]') !== null)")
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(each => each.tabIndex === 0 && each.getAttribute('aria-label'))")
    assert page.locator("main").count() == 1


def test_the_keyboard_reaches_the_report_past_the_contents(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_large_figure_leads_to_its_evidence(page: Page) -> None:
    for link in page.locator(".card .big a").all():
        link.click()
        target = page.evaluate("location.hash.slice(1)")
        page.wait_for_function("id => document.getElementById(id).getBoundingClientRect().top < innerHeight", arg=target)


@pytest.mark.parametrize("kind", list(HOSTILE_NAMES))
def test_a_hostile_name_is_text_and_nothing_else(chromium: Browser, pages: dict[str, Path], kind: str) -> None:
    policy = '<meta http-equiv="Content-Security-Policy"'
    page = pages[f"hostile {kind}"]
    text = page.read_text(encoding="utf-8")
    assert policy in text
    # The policy would stop scripts by itself: without it, the escaping has to hold alone.
    bare = page.with_name("bare.html")
    bare.write_text(text.replace(policy, '<meta name="was-policy"'), encoding="utf-8")
    with opened(chromium, bare.as_uri()) as found:
        found.page.wait_for_timeout(50)
        assert found.page.title() == "LLM Routing Optimization Report"
        assert found.errors == []
        assert found.asked == []
        assert found.page.locator("img, iframe, main a:not([href^='#']):not([href^='data:text/csv'])").count() == 0
        assert found.page.locator("script").count() == 1
        shown = found.page.evaluate("document.body.textContent")
    assert printable(HOSTILE_NAMES[kind][:40])[:25] in shown
    assert not set(shown) & set("\u202e\u2066\x1b\x9b\x07")


def test_a_large_report_stays_small_and_opens(chromium: Browser, pages: dict[str, Path]) -> None:
    assert pages["large"].stat().st_size < 1_500_000
    assert max(path.stat().st_size for kind, path in pages.items() if kind != "large") < 500_000
    with opened(chromium, pages["large"].as_uri()) as found:
        assert found.page.locator("h5").count() == 30
        found.page.click("#unfold")
        assert "all of them are in rules.json" in found.page.locator("main").inner_text()
        assert found.errors == []
