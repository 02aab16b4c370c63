"""What the Markdown and the HTML template share: one set of filters, and nothing unescaped by accident.

Belongs here: the Jinja2 environment, filters that turn a value into safe text, footnotes for what cannot be told. Does not
belong here: how text is made safe in one of the two languages (`markdown`, `html`), what is said (the templates).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from routing_pipeline import text as wording
from routing_pipeline.data_quality import feedback_lines
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.policy import incident_free
from routing_pipeline.recommendation.routing_rules import quality_change
from routing_pipeline.report import (
    checklist,
    choice,
    decision_tree,
    figures,
    headlines,
    periods,
    queries,
    rule_sentences,
    sections,
    summary,
)
from routing_pipeline.report.model import Report
from routing_pipeline.report.rule_sentences import Sentence
from routing_pipeline.storage.code_keys import code_key

TEMPLATES = Path(__file__).parent / "templates"
MAX_ROWS = 15
MAX_IN_FULL = 1
"""Improvements of one level that are told in full before the appendix."""
MAX_RULES = 30
"""Rules shown one by one; rules.json has them all."""
MAX_RULE_SETS = 5
"""Earlier rule sets whose promises are compared, newest first; report.json has them all."""

ON_THE_SHEETS = ("Options", "Why, by task", "What to watch")
"""Tables of pages one and two, whose numbers stand in the appendix with how they were counted."""
_BREAK = re.compile(r"[ \t]*\n\s*")
"""Where a template breaks a sentence over lines."""
_BLANK_LINES = re.compile(r"\n\s*\n")


class Figure(Markup):
    """A number as it is shown, with what it is: tables are saved with all their digits."""

    __slots__ = ("value",)
    value: wording.Value

    @classmethod
    def of(cls, shown: Markup, value: wording.Value) -> Figure:
        """The same markup, knowing its value."""
        made = cls(shown)
        made.value = value
        return made


Escape = Callable[[str], Markup]
Show = Callable[[Markup, Markup | None], Markup]
"""(number, interval or None) to markup."""
Named = Callable[[Markup], Markup]
"""A name from logs, safe already, to markup that keeps it in one piece."""
Unknown = Callable[[str | int], Markup]
"""A reason in full, or the number of a footnote, to markup that says "cannot tell"."""
Link = Callable[[str, Markup], Markup]
"""(anchor, text) to a link within the document."""

FORMATS: dict[str, wording.Format] = {
    "usd": wording.usd,
    "usd_per_1000": wording.usd_per_1000,
    "percent": wording.percent,
    "change": wording.change,
    "score": wording.score,
    "points": wording.points,
    "of_100": wording.of_100,
    "size_of_100": wording.size_of_100,
    "drop": wording.size_in_points,
    "chance": wording.chance,
    "ms": wording.ms,
    "days": wording.days,
    "number": wording.number,
    "count": wording.count,
}


class Footnotes(threading.local):
    """Reasons why table cells cannot tell; each is said once, below its table. Every thread renders with its own."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def mark(self, reason: str) -> int:
        """The number of a reason, from 1."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason) + 1

    def drain(self) -> list[str]:
        """The reasons since the last time."""
        found, self.reasons = self.reasons, []
        return found


class Language:
    """How one of the two documents writes safe text, numbers and ignorance."""

    def __init__(self, escape: Escape, show: Show, unknown: Unknown, link: Link, stressed: Named, named: Named = lambda name: name) -> None:
        self.escape, self.show, self.unknown, self.link, self.stressed, self.named = escape, show, unknown, link, stressed, named
        self.footnotes = Footnotes()

    def text(self, value: object) -> Markup:
        """Anything that a template prints; what is not markup already is made safe, and a name from a log reads as one."""
        if isinstance(value, wording.LogName):
            return self.name(value)
        return value if isinstance(value, Markup) else self.escape(wording.spaced(wording.name(value, wording.LONGEST_TEXT)))

    def counted(self, value: int | None, noun: str) -> Markup:
        """1 request, 2 requests."""
        return self.measured(value, wording.count, then=noun if value == 1 else f"{noun}s")

    def name(self, value: object, longest: int = wording.MAX_NAME) -> Markup:
        """A name from logs, shortened to what fits."""
        return self.named(self.escape(wording.name(value, longest)))

    def said(self, sentence: Sentence) -> Markup:
        """A sentence with names in it; task types stand out from our own words."""
        pieces = []
        for each in sentence:
            name = self.name(each.text) or self.escape(wording.NONE)
            pieces.append(self._words(each.text) if each.kind == "words" else self.stressed(name) if each.kind == "task" else name)
        return Markup("").join(pieces)

    def _words(self, text: str) -> Markup:
        """Our own words; the blanks around them stay."""
        before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
        return Markup("{}{}{}").format(before, self.escape(text.strip()), after if text.strip() else "")

    def see(self, title: str, text: str | None = None) -> Markup:
        """A link to the section of the report that has this title."""
        return self.link(sections.anchor(title), self.escape(title if text is None else text))

    def listed(self, names: Sequence[str], most: int = 8) -> Markup:
        """A, b and c, or how many more there are."""
        shown = [self.name(each) for each in names[:most]]
        if len(names) > most:
            return Markup(", ").join(shown) + Markup(f" and {len(names) - most} more")  # noqa: S704 - a number
        return Markup(" and ").join([Markup(", ").join(shown[:-1]), *shown[-1:]] if len(shown) > 1 else shown) or Markup("none")

    def measured(self, value: wording.Value, form: wording.Format, *, cell: bool = False, then: str = "") -> Markup:
        """A number with its interval; in a cell, what cannot be told points to a footnote.

        `then` is the template's own text after a number, such as `per day`; after "cannot tell" it would make no sense.
        """
        return Figure.of(self._measured(value, form, cell=cell, then=then), value)

    def _measured(self, value: wording.Value, form: wording.Format, *, cell: bool, then: str) -> Markup:
        if value is None:
            return self.escape(wording.NONE)
        if isinstance(value, Unidentifiable):
            reason = wording.name(value.unidentifiable, wording.LONGEST_TEXT)
            return self.unknown(self.footnotes.mark(reason) if cell else reason)
        after = Markup(f" {then}" if then else "")  # noqa: S704 - from the template
        # Formats write digits, signs and units alone: the only markup they could hold is the sign in "<0.1 %".
        if not isinstance(value, Estimate) or value.low == value.high:
            number = form(value.estimate if isinstance(value, Estimate) else value)
            return self.show(Markup(number.replace("<", "&lt;")), None) + after  # noqa: S704
        estimate, interval = wording.fitting(form, value)(value.estimate), wording.interval(value, form)
        return self.show(Markup(estimate.replace("<", "&lt;")), Markup(interval.replace("<", "&lt;"))) + after  # noqa: S704


def _compiled(language: Language) -> FileSystemBytecodeCache | None:
    """Templates as they were compiled before, in Jinja2's own folder of this user: compiling takes a second. None where there is no safe one.

    What templates print of constants is worked out as they are compiled: each language and each state of the code has its own.
    """
    module = language.show.__module__
    try:
        return FileSystemBytecodeCache(pattern=f"{module}-{code_key(module)}-%s.cache")
    except (OSError, RuntimeError):
        return None


def environment(language: Language) -> Environment:
    """Jinja2 with the filters of both documents; every printed value passes `language.text`, autoescape stays on."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        extensions=["jinja2.ext.do"],
        finalize=language.text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_compiled(language),
    )
    for name, form in FORMATS.items():
        made.filters[name] = partial(language.measured, form=form)
    made.filters |= {
        "counted": language.counted,
        "name": language.name,
        "listed": language.listed,
        "pieces": lambda names: Markup(", ").join(language.name(each) for each in names),
        "clauses": wording.clauses,
        "moment": wording.moment,
        "hour_of_week": wording.hour_of_week,
        "condition": figures.condition,
        "route": figures.route,
        "of_scored": wording.of_scored,
        "said": language.said,
        "anchor": sections.anchor,
        "flat": lambda text: text if not isinstance(text, Markup) else Markup(_BREAK.sub(" ", text).strip()),  # noqa: S704 - markup before
        "tight": lambda text: Markup(_BLANK_LINES.sub("\n", text).strip()),  # noqa: S704 - markup before
    }
    made.globals |= {
        "footnotes": language.footnotes.drain,
        "see": language.see,
        "section_of": sections.of_source,
        "ON_THE_SHEETS": ON_THE_SHEETS,
        "kinds": wording.KINDS,
        "MAX_ROWS": MAX_ROWS,
        "MAX_RULES": MAX_RULES,
        "MAX_RULE_SETS": MAX_RULE_SETS,
        "MAX_IN_FULL": MAX_IN_FULL,
    }
    return made


def context(report: Report) -> dict[str, Any]:
    """What both templates read."""
    step, spend = figures.spend_points(report)
    options = choice.options(report)
    cards = summary.cards(report)
    return {
        "report": report,
        "options": options,
        "unusual_hours": incident_free.in_words(report.routing_evidence.unusual),
        "few_data": choice.has_few_data(report),
        "days_more": choice.days_more(report),
        "missing": choice.missing(report),
        "by_task_lines": choice.by_task(report) if options else (),
        "plan_in_short": choice.plan_in_short(report),
        "watched": choice.watched(report),
        "answered": report.recommendations,
        "answer_to": partial(choice.answer_to, report),
        "asks": cards[2].command is not None,
        "query_of": partial(queries.query_of, report),
        "figures": figures.figures(report, [each.option for each in options]),
        "summary": headlines.summary(report),
        "cards": cards,
        "plain": rule_sentences.plain_rules(report.routing_rules, report.scope.covered_days),
        "tree": decision_tree.picture(report.routing_rule_set),
        "last": report.since_last_report,
        "grade": headlines.grade_of(report),
        "grade_words": headlines.GRADE_WORDS,
        "quality_change": quality_change(report.routing_rules),
        "harm": headlines.harm(report.optimization_risks),
        "cost_reduction": headlines.cost_reduction(report.routing_rule_set),
        "speed_gain": headlines.speed_gain(report.routing_rule_set),
        "saving": periods.saving(report),
        "span": periods.span(report.scope),
        "shortfall": periods.shortfall(report.scope),
        "in_window": partial(periods.in_window, report),
        "plan_period": periods.plan_period(report),
        "whole_budget": None if report.budget_projection is None else periods.budget_use(report.budget_projection.month),
        "what_intervals_cover": periods.WHAT_INTERVALS_COVER,
        "replay_breaks": headlines.replay_breaks(report),
        "matrix": figures.selection_matrix(report),
        "trade_offs": figures.trade_offs(report.tradeoff_frontier),
        "items": {item.id: item for item in report.optimization_plan.items},
        "spend_step": step,
        "spend_points": spend,
        "checks": checklist.quality_lines(report),
        "feedback": feedback_lines.of_window(report.feedback, report.scope),
        "validation_steps": checklist.validation_steps(report),
        "success_criteria": checklist.success_criteria(report),
    }
