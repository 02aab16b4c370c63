"""report.html: whole, self-contained, and the same structure whatever the logs hold."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from routing_pipeline.report.html import _template as of_html, escape, report_html
from routing_pipeline.report.markdown import _template as of_markdown
from routing_pipeline.report.model import Report
from routing_pipeline.report.rendering import TEMPLATES

VOID = {"meta", "br", "img", "link", "input", "hr"}
EVERY_REPORT = ["empty", "refusal", "no change", "rules", "proven rules", "full"]
HOSTILE = [
    "</script><script>alert(1)</script>",
    "</style><style>body{display:none}",
    '" onmouseover="alert(1)',
    "' autofocus onfocus=alert(1) x='",
    "<img src=x onerror=alert(1)> <!--",
    "{{ 7 * 7 }} {% raw %}",
    "]]><svg onload=alert(1)>",
    "&lt;b&gt; &amp; &#35;",
    "\u202eright to left\u0000\u001b[31m\nnext line",
    "https://evil.example/?a=1&b=2",
    "unbroken" * 5_000,
]

Reports = dict[str, Callable[[], Report]]


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that closes what is not open."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.headings: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"h1", "h2", "h3"}:
            self.headings.append(data)
        self.text.append(data)


@pytest.fixture(scope="module")
def pages(reports: Reports) -> Callable[[str], str]:
    """The page of a report, rendered once."""
    return cache(lambda kind: report_html(reports[kind]()))


@pytest.fixture(scope="module")
def page_of(full_of: Callable[[str], Report]) -> Callable[[str], str]:
    """The page of a full report of one name, rendered once."""
    return cache(lambda name: report_html(full_of(name)))


@pytest.fixture(scope="module")
def harmless(page_of: Callable[[str], str]) -> Page:
    return Page(page_of("a model"))


def outside_charts(page: Page) -> list[str]:
    """Tags but those inside pictures, whose number of letters may break a label differently."""
    return [tag for tag in page.tags if tag not in {"g", "path", "text", "line", "rect", "tspan", "title", "desc"}]


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_the_page_is_well_formed_and_has_the_task_s_headings(pages: Callable[[str], str], kind: str) -> None:
    page = Page(pages(kind))
    assert page.headings[0] == "LLM Routing Optimization Report"
    assert [each for each in page.headings if each in {"Executive Summary", "Current State Analysis", "Expected Outcomes"}] == [
        "Executive Summary",
        "Current State Analysis",
        "Expected Outcomes",
    ]
    assert "Phase 3: Strategic Enhancements (Months 2-3)" in page.headings


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_the_page_needs_nothing_from_outside(pages: Callable[[str], str], kind: str) -> None:
    text = pages(kind)
    page = Page(text)
    assert not {"iframe", "object", "embed", "link", "base", "form", "img"} & set(page.tags)
    assert page.tags.count("script") == 1
    references = [value for _, name, value in page.attributes if name in {"href", "src", "srcset", "action", "xlink:href"}]
    assert all(value.startswith(("#", "data:text/csv;charset=utf-8,")) for value in references)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"@import|url\((?!#)", text)
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert {value[1:] for value in references if value.startswith("#")} <= anchors


def test_ids_are_unique(pages: Callable[[str], str]) -> None:
    found = [value for _, name, value in Page(pages("full")).attributes if name == "id"]
    assert len(found) == len(set(found))


def test_every_chart_has_its_words_and_follows_the_page_s_colours(pages: Callable[[str], str]) -> None:
    text = pages("full")
    page = Page(text)
    pictures = re.findall(r'role="img" aria-label="([^"]*)"', text)
    assert len(pictures) == page.tags.count("svg") == page.tags.count("figcaption")
    assert all(len(words) > 20 for words in pictures)
    assert "var(--chart-ink" in text
    assert not re.search(r'(fill|stroke)="#3d4654"', text)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_from_a_log_adds_a_tag_or_an_attribute(page_of: Callable[[str], str], harmless: Page, name: str) -> None:
    broken = Page(page_of(name))
    assert outside_charts(broken) == outside_charts(harmless)
    known = {(tag, attribute) for tag, attribute, _ in harmless.attributes}
    assert {(tag, attribute) for tag, attribute, _ in broken.attributes} <= known


def test_a_name_reads_as_it_is(page_of: Callable[[str], str]) -> None:
    page = Page(page_of("<b>&amp;</b> {x}"))
    assert "<b>&amp;</b> {x}" in page.text
    assert str(escape("{{ x }}")) == "&#123;&#123; x &#125;&#125;"


def test_the_only_script_that_may_run_is_the_page_s_own(page_of: Callable[[str], str]) -> None:
    text = page_of("</script><script>alert(1)</script>")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert script == (TEMPLATES / "report.js").read_text(encoding="utf-8")


def tables_of(page: str) -> dict[str, list[list[str]]]:
    """The CSV files that a page's links hold, by their names."""
    links = re.findall(r'<a download="([^"]+)" href="data:text/csv;charset=utf-8,([^"]*)"', page)
    return {name: list(csv.reader(io.StringIO(unquote(html.unescape(content))))) for name, content in links}


def test_every_table_of_the_appendix_can_be_saved_and_says_how_it_was_counted(pages: Callable[[str], str]) -> None:
    page = pages("full")
    appendix = page[page.index('id="appendix"') :]
    tables = appendix.count("<table>")
    assert tables > 20
    assert appendix.count("<a download=") == appendix.count("Counted: ") == tables
    assert "as report.json has it" not in appendix, "a table without its query"


def test_a_saved_table_has_all_digits_and_the_ends_of_its_intervals(pages: Callable[[str], str]) -> None:
    rows = tables_of(pages("rules"))["rules-at-a-glance.csv"]
    assert rows[0][1:4] == ["Saving in 7 days", "Saving in 7 days, low", "Saving in 7 days, high"]
    assert rows[1][1:4] == ["154", "133", "175"]


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1+1", "@SUM(1)"])
def test_a_name_is_no_formula_in_a_saved_table(page_of: Callable[[str], str], name: str) -> None:
    cells = [cell for rows in tables_of(page_of(name)).values() for row in rows for cell in row]
    assert f"'{name}" in cells
    assert not [cell for cell in cells if cell.startswith(name)]


def test_braces_are_left_only_in_our_own_style(page_of: Callable[[str], str]) -> None:
    text = page_of("{{ 7 * 7 }} {% raw %}")
    assert not re.search(r"[{}]", re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL))


def test_numbers_and_wording_are_those_of_the_markdown_report(pages: Callable[[str], str]) -> None:
    page = " ".join(Page(pages("rules")).text).replace("\N{NO-BREAK SPACE}", " ")
    assert "worth an A/B test" in page
    assert re.search(r"34\.0 %\s+\[31\.0, 37\.0\]", page)
    assert "will save" not in page


def test_the_page_prints_fits_a_phone_and_follows_dark_mode(pages: Callable[[str], str]) -> None:
    text = pages("empty")
    assert "@media print" in text
    assert "prefers-color-scheme: dark" in text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text


def test_what_a_template_was_compiled_to_is_kept_for_each_language_apart() -> None:
    patterns = {getattr(made().environment.bytecode_cache, "pattern", None) for made in (of_html, of_markdown)}
    assert len(patterns) == 2
