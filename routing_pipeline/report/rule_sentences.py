"""A rule in plain words, and the same rule as the gateway reads it.

Belongs here: "Send classify requests under 2,000 tokens to claude-haiku-4-5 instead of gpt-4o", its machine form, and the six
lines that the task asks of every recommendation. Does not belong here: making names safe (`rendering`), the numbers
(`rules.impact`), the picture of all rules (`decision_tree`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from routing_pipeline import text as wording
from routing_pipeline.estimates import Measured, Unidentifiable
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.model import NEEDS_IN_WORDS, Between, Level, Rule, WeightedModel, When

MAX_NAMES = 4
WORTH_NAMING = 0.05
"""Models that answer less of a rule's requests than this are not named as what it replaces."""
LONGEST_LINE = 1_500
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
ALONE = Unidentifiable(unidentifiable="the effect of this rule alone was not estimated; see the whole rule set")


@dataclass(frozen=True)
class Fragment:
    """A piece of a sentence: our own words, or a name from logs."""

    text: str
    kind: Literal["words", "task", "model", "name"] = "words"


Sentence = tuple[Fragment, ...]


@dataclass(frozen=True)
class PlainRule:
    """One rule in the task's format for recommendations; `machine` is its part of rules.json."""

    number: int
    id: str
    sentence: Sentence
    machine: str
    today: Sentence
    requests: int
    share: float | None
    saving_usd: Measured
    cost_change: Measured
    quality_change: Measured
    latency_change: Measured
    effort: Level
    risk: Level
    grade: str
    labelled: int
    rationale: str
    validation: tuple[str, ...]


def plain_rules(rules: RoutingRules, days: float) -> tuple[PlainRule, ...]:
    """All rules of a set, in the order in which they are tried; what each saves over so many days of the window's traffic."""
    impacts = {impact.rule_id: impact for impact in rules.impacts}
    ordered = sorted(rules.rule_set.rules, key=lambda rule: rule.priority)
    return tuple(_plain(number, rule, impacts.get(rule.id), days) for number, rule in enumerate(ordered, start=1))


def _plain(number: int, rule: Rule, impact: RuleImpact | None, days: float) -> PlainRule:
    saving = ALONE if impact is None else impact.saving_usd_per_day
    return PlainRule(
        number=number,
        id=rule.id,
        sentence=sentence(rule, impact),
        machine=machine_form(rule),
        today=_today(impact),
        requests=rule.evidence.requests,
        share=None if impact is None else impact.share,
        saving_usd=saving if isinstance(saving, Unidentifiable) else saving.scaled(days),
        cost_change=ALONE if impact is None else impact.cost_change,
        quality_change=ALONE if impact is None else impact.quality_change,
        latency_change=ALONE if impact is None else impact.latency_change,
        effort=rule.effort,
        risk=rule.risk,
        grade=rule.evidence.grade,
        labelled=rule.evidence.labelled,
        rationale=rule.rationale,
        validation=rule.validation_criteria,
    )


def machine_form(rule: Rule) -> str:
    """The rule's condition, route and fallbacks as rules.json has them, on one line.

    In names everything beyond ASCII and every brace is a JSON escape: the same to a machine, inert to a template engine.
    """
    whole = rule.model_dump(mode="json", include={"id", "priority", "when", "route", "fallbacks"}, exclude_none=True)
    line = _STRING.sub(lambda found: found[0].replace("{", "\\u007b").replace("}", "\\u007d"), json.dumps(whole))
    return line if len(line) <= LONGEST_LINE else f"rule {rule.id} of rules.json, whose names are too long to show here"


def sentence(rule: Rule, impact: RuleImpact | None = None) -> Sentence:
    """Send these requests there instead of where they go today."""
    found = [Fragment("Leave "), *requests(rule.when), Fragment(" with the gateway's own choice")]
    if rule.route != "unchanged":
        found = [Fragment("Send "), *requests(rule.when), Fragment(" to "), *_targets(rule.route)]
        targets = {target.model for target in rule.route}
        found += _instead(() if impact is None else [each for each in impact.today if each.model not in targets])
    return tuple(found)


def requests(when: When) -> Sentence:
    """Which requests a condition speaks of: "classify requests under 2,000 tokens"."""
    found: list[Fragment] = []
    if when.task_type is None:
        found.append(Fragment("all requests" if when == When() else "requests"))
    else:
        found += [*_names(when.task_type, "task", "and"), Fragment(" requests")]
    if when.prompt_tokens is not None:
        found.append(Fragment(f" {_between(when.prompt_tokens, 'tokens')}"))
    if when.complexity is not None:
        found.append(Fragment(f" of complexity {_between(when.complexity)}"))
    needs = [(said, getattr(when, name)) for name, said in NEEDS_IN_WORDS.items()]
    told = [f"{'with' if holds else 'without'} {said}" for said, holds in needs if holds is not None]
    if told:
        found.append(Fragment(f" {' and '.join(told)}"))
    if when.team is not None:
        found += [Fragment(" of team " if len(when.team) == 1 else " of teams "), *_names(when.team, "name", "and")]
    if when.tier is not None:
        found += [Fragment(" asking for tier "), *_names(when.tier, "name", "or")]
    return tuple(found)


def _between(edges: Between, unit: str = "") -> str:
    after = f" {unit}" if unit else ""
    if edges.gte is not None and edges.lt is not None:
        return f"from {_number(edges.gte)} to under {_number(edges.lt)}{after}"
    if edges.gte is not None:
        return f"of {_number(edges.gte)}{after} or more" if unit else f"{_number(edges.gte)} or more"
    return f"under {_number(edges.lt)}{after}" if edges.lt is not None else "that is logged"


def _number(edge: float) -> str:
    return f"{edge:,.0f}" if edge >= 10 and edge == int(edge) else f"{edge:,.4g}"


def _names(names: Sequence[str], kind: Literal["task", "model", "name"], last: str) -> Iterator[Fragment]:
    shown = names if len(names) <= MAX_NAMES + 1 else names[:MAX_NAMES]
    for place, each in enumerate(shown):
        if place:
            yield Fragment(f" {last} " if place == len(shown) - 1 and len(shown) == len(names) else ", ")
        yield Fragment(each, kind)
    if len(shown) < len(names):
        yield Fragment(f" {last} {len(names) - len(shown)} others")


def _targets(route: Sequence[WeightedModel]) -> Iterator[Fragment]:
    for place, target in enumerate(route):
        if place:
            yield Fragment(", ")
        yield Fragment(target.model, "model")
        if len(route) > 1:
            yield Fragment(f" ({wording.percent(target.weight)})")


def _instead(others: Sequence[WeightedModel]) -> list[Fragment]:
    named = [each.model for each in others if each.weight >= WORTH_NAMING] or [each.model for each in others[:1]]
    return [Fragment(" instead of "), *_names(named, "model", "or")] if named else []


def _today(impact: RuleImpact | None) -> Sentence:
    """Where a rule's requests go today."""
    if impact is None or not impact.today:
        return (Fragment("The gateway's current rules route these requests."),)
    fragments = [Fragment("Today these requests go to ")]
    named = [each for each in impact.today if each.weight >= WORTH_NAMING][:MAX_NAMES]
    for place, each in enumerate(named):
        fragments += [Fragment(", ")] if place else []
        fragments += [Fragment(each.model, "model"), Fragment(f" ({wording.percent(each.weight)})")]
    rest = 1.0 - sum(each.weight for each in named)
    if rest >= 0.005:
        fragments.append(Fragment(f" and others ({wording.percent(rest)})"))
    return (*fragments, Fragment("."))


def as_text(found: Sentence) -> str:
    """A sentence without any mark-up, names shortened."""
    return "".join(wording.name(each.text) if each.kind != "words" else each.text for each in found)
