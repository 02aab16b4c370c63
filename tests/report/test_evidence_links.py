"""Every claim leads to its evidence in the same file, in both documents."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from routing_pipeline.recommendation.optimization_plan import OptimizationPlan
from routing_pipeline.report import sections, summary
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import Report

EVERY_REPORT = ["empty", "refusal", "no change", "rules", "proven rules", "full"]
Reports = dict[str, Callable[[], Report]]


class Links(HTMLParser):
    """Where a page's links go, what can be gone to, and which links stand in a card of the summary."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.cards: list[list[str]] = []
        self.figures: list[str] = []
        self.is_big = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"] or "")
        if found.get("class") == "card":
            self.cards.append([])
        if tag == "p":
            self.is_big = found.get("class") == "big"
        if tag == "a":
            self.targets.append(found["href"] or "")
            if self.cards:
                self.cards[-1].append(found["href"] or "")
            if self.is_big:
                self.figures.append(found["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self.is_big = False


def headings(markdown: str) -> set[str]:
    """Anchors that GitHub gives the headings: lower case, punctuation dropped, blanks as hyphens, repeats numbered."""
    seen: dict[str, int] = {}
    found = set()
    for title in re.findall(r"^#{1,6} (.*)$", re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found.add(slug if slug not in seen else f"{slug}-{seen[slug]}")
        seen[slug] = seen.get(slug, 0) + 1
    return found


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_every_link_of_the_page_has_its_target(reports: Reports, kind: str) -> None:
    links = Links(report_html(reports[kind]()))
    inside = {target.removeprefix("#") for target in links.targets if not target.startswith("data:text/csv;")}
    assert len(links.targets) > 40
    assert inside <= set(links.ids)


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_every_link_of_the_markdown_report_leads_to_a_heading_as_github_names_it(reports: Reports, kind: str) -> None:
    text = report_markdown(reports[kind]())
    targets = re.findall(r"\]\(#([^)]*)\)", text)
    assert len(targets) > 25
    assert set(targets) <= headings(text)


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_every_large_figure_of_the_summary_is_a_link_to_its_evidence(reports: Reports, kind: str) -> None:
    report = reports[kind]()
    cards = summary.cards(report)[:2] if kind in {"empty", "refusal"} else summary.cards(report)
    links = Links(report_html(report))
    assert links.figures == [f"#{sections.anchor(card.evidence[0])}" for card in cards]
    text = report_markdown(report)
    for card in cards:
        assert re.search(rf"^\*\*{card.question}: \[.+\]\(#{sections.anchor(card.evidence[0])}\)\*\*", text, re.MULTILINE)


def test_every_recommendation_and_every_rule_names_its_evidence(reports: Reports) -> None:
    report = reports["full"]()
    text = report_markdown(report)
    told = len(re.findall(r"^- Evidence: .*\]\(#", text, re.MULTILINE))
    assert told == len(report.optimization_plan.items) + len(report.routing_rule_set.rules)
    page = report_html(report)
    assert page.count("<dt>Evidence</dt><dd>") == told


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_every_line_of_the_checklists_links_to_what_shows_it(reports: Reports, kind: str) -> None:
    lines = re.findall(r"^- \[[ x]\] .*$", report_markdown(reports[kind]()), re.MULTILINE)
    assert len(lines) == 12
    assert all(re.search(r"\(\[[^\]]+\]\(#[^)]+\)\)$", line) for line in lines)


def test_a_recommendation_without_a_place_for_its_evidence_is_an_error(reports: Reports) -> None:
    plan: OptimizationPlan = reports["full"]().optimization_plan
    assert {item.source for item in plan.items} <= set(sections.SOURCES)
    with pytest.raises(KeyError):
        sections.of_source("nowhere")
