"""report.html: one file that opens offline, on a screen, a phone or paper; all of it reads without its script.

Belongs here: making text safe for HTML, and placing charts so that they follow the page's colours. Does not belong here:
what is said (`templates/sections`), how it is laid out (`templates/report.html.j2`), how it looks (`templates/report.css`), what folds, sorts and
searches (`templates/report.js`), drawing (`charts`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache

import markupsafe
from jinja2 import Template, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from routing_pipeline.report import decision_tree
from routing_pipeline.report.charts.drawing import Chart, svg_of
from routing_pipeline.report.charts.palette import of_the_page, variables
from routing_pipeline.report.csv_links import csv_link
from routing_pipeline.report.model import Report
from routing_pipeline.report.rendering import TEMPLATES, Language, context, environment

_TAG = re.compile(r"<[^<>]*>")
_NUMBER = re.compile(r'<span class="n">([^<]*)</span>')


def escape(text: str) -> Markup:
    """Text for HTML; braces too, so that no template engine behind us finds anything to do.

    A number and its percent sign stay on one line.
    """
    safe = str(markupsafe.escape(text)).replace("{", "&#123;").replace("}", "&#125;")
    return Markup(re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", safe))  # noqa: S704 - escaped here


def code(text: str) -> Markup:
    """Text that stands between tags, never in an attribute: quotation marks, of which JSON is full, stay as they are."""
    return Markup(str(escape(text)).replace("&#34;", '"'))  # noqa: S704 - escaped but for quotation marks


def _show(number: Markup, interval: Markup | None) -> Markup:
    if interval is None:
        return Markup('<span class="n">{}</span>').format(number)
    return Markup('<span class="n">{}</span> <span class="ci">{}</span>').format(number, interval)


def _unknown(reason: str | int) -> Markup:
    if isinstance(reason, int):
        return Markup('<span class="unknown">cannot tell</span><sup>{}</sup>').format(reason)
    return Markup('<span class="unknown">cannot tell</span>: {}').format(escape(reason))


def _named(name: Markup) -> Markup:
    return Markup('<span class="nm">{}</span>').format(name)


def _link(anchor: str, text: Markup) -> Markup:
    return Markup('<a href="#{}">{}</a>').format(anchor, text)


def _stressed(name: Markup) -> Markup:
    return Markup("<em>{}</em>").format(name)


def bare(cell: object) -> object:
    """A cell of a column of numbers, whose style is the column's."""
    return Markup(_NUMBER.sub(r"\1", cell)) if isinstance(cell, Markup) else cell  # noqa: S704 - markup before


@pass_context
def picture(page: Context, chart: Chart | decision_tree.Picture) -> Markup:
    """A chart's SVG in the page's own colours; the text alternative stands beside it in the template."""
    svg = of_the_page(page["svg_of"](chart) if isinstance(chart, Chart) else chart.svg)
    # Vega's writer has escaped every label but for braces; nothing else in it comes from logs.
    svg = _TAG.sub(lambda tag: tag[0].replace(' font-family="sans-serif"', ""), svg)  # the page's style says it once
    svg = svg.replace("{", "&#123;").replace("}", "&#125;")
    return Markup(svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1))  # noqa: S704


@cache
def _template() -> Template:
    made = environment(Language(escape, _show, _unknown, _link, _stressed, _named))
    made.filters |= {"picture": picture, "code": code, "bare": bare, "csv": csv_link}
    return made.get_template("report.html.j2")


@cache
def _script() -> tuple[Markup, str]:
    """The page's script, and the digest by which its policy knows it: no other one runs."""
    code = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return Markup(code), digest  # noqa: S704 - our own file


def report_html(report: Report, svg_of: Callable[[Chart], str] = svg_of) -> str:
    """The report as one HTML file; `svg_of` gives the SVG of a chart, drawn anew or kept."""
    style = Markup(variables() + (TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    script, digest = _script()
    about = {"style": style, "script": script, "script_digest": digest}
    return _template().render(context(report), svg_of=svg_of, command=report.run.command, **about)
