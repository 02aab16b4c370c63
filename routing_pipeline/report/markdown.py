"""report.md.

Belongs here: making text safe for Markdown. Does not belong here: what is said (`templates/sections`), how it is laid out (`templates/report.md.j2`).
"""

from __future__ import annotations

import re
from functools import cache, partial

from jinja2 import Template
from markupsafe import Markup

from routing_pipeline.report.model import Report
from routing_pipeline.report.rendering import Language, context, environment

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "{": "&#123;", "}": "&#125;", "|": "&#124;"}
_ALWAYS = re.compile(r"[\\`*#~]|\](?=[(\[:])|\$(?!\d)")
"""What Markdown (or a math extension) could act on; a bracket only where a link could come of it, so that intervals stay readable."""
_EDGE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LINE_START = re.compile(r"^([-+=](?=[-+=\s]|$)|\[(?=[ xX]\])|\d+(?=[.)](?:\s|$)))")
_ANCHOR = re.compile(r"\[([^\]]*)\]\(#[^)]*\)")
_AUTOLINK = re.compile(r"://|(?<=\bwww)\.|@(?=[\w-]+\.)", re.IGNORECASE)


def escape(text: str) -> Markup:
    """Text as Markdown that renders as that very text: no markup, table cell, link, HTML or template can come of it."""
    safe = "".join(_ENTITIES.get(each, each) for each in " ".join(text.split()))
    safe = _AUTOLINK.sub(lambda found: "".join(f"&#{ord(each)};" for each in found.group()), safe)
    # Entities are in place by now, so their own number signs must not be escaped.
    safe = _ALWAYS.sub(lambda found: found.group() if _is_entity(safe, found.start()) else f"\\{found.group()}", safe)
    safe = _EDGE_UNDERSCORE.sub(r"\\_", safe)
    return Markup(_LINE_START.sub(_not_a_list, safe))  # noqa: S704 - escaped above


def _not_a_list(start: re.Match[str]) -> str:
    """A list or a rule begins with its first character or, numbered, with what follows the number."""
    return f"{start.group()}\\" if start.group().isdigit() else f"\\{start.group()}"


def _is_entity(text: str, place: int) -> bool:
    return text[place] == "#" and place > 0 and text[place - 1] == "&"


def _show(number: Markup, interval: Markup | None) -> Markup:
    return number if interval is None else Markup("{} {}").format(number, interval)


def _unknown(reason: str | int) -> Markup:
    return Markup("cannot tell ({})").format(reason) if isinstance(reason, int) else Markup("cannot tell: {}").format(escape(reason))


def _link(anchor: str, text: Markup) -> Markup:
    return Markup("[{}](#{})").format(text, anchor)


def _stressed(name: Markup) -> Markup:
    return Markup("*{}*").format(name)


def _fenced(code: str, language: str = "") -> Markup:
    """A code block that no run of backticks inside it can close; of commands and rules, one line."""
    text = code if language == "mermaid" else " ".join(code.split())
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text}\n{fence}")  # noqa: S704 - code, not markup: fenced above


@cache
def _template() -> Template:
    made = environment(Language(escape, _show, _unknown, _link, _stressed))
    made.filters |= {"code": partial(_fenced, language="json"), "shell": _fenced, "drawn": partial(_fenced, language="mermaid")}
    return made.get_template("report.md.j2")


def report_markdown(report: Report) -> str:
    """The report as Markdown."""
    text = _template().render(context(report), command=report.run.command)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def page_one(report: str) -> str:
    """Of a report in Markdown, pages one and two, whose links lead nowhere and are left out."""
    pages = report.partition("\n## Executive Summary\n")[2].partition("\n## ")[0]
    return _ANCHOR.sub(r"\1", pages).strip()
