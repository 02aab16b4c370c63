"""Rules that somebody hands over, written by hand or by an agent: rules.json, a list of rules, or text of either.

Belongs here: reading them, however few of the fields of rules.json they have, and refusing what breaks its contract with the place
and what to write instead. Does not belong here: what the logs say of them (`recommendation.replayed_rules`).

Whatever the rules claim of themselves (evidence, expectations, rationale) is not read: it is measured again.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError, field_validator

from routing_pipeline.errors import UnusableInputError, complaint, nearest
from routing_pipeline.estimates import Result, Unidentifiable
from routing_pipeline.parameters import GOALS, Goal, Parameters
from routing_pipeline.rules.model import (
    NEEDS,
    Between,
    Change,
    Constraints,
    Expected,
    RelativeChange,
    Rule,
    RuleEvidence,
    RuleSet,
    RuleWindow,
    Unit,
    WeightedModel,
    When,
    cannot_tell,
)
from routing_pipeline.storage.results import key_of
from routing_pipeline.text import LogName

MOST_RULES = 100
LONGEST_NAME = 200
VERSIONS = (1, 2)
"""Of rules.json."""
SHAPE = (
    'a list of rules such as {"when": {"task_type": ["code"], "prompt_tokens": {"lt": 2000}}, "route": "gpt-4o-mini"}, '
    "or a whole rule set as in rules.json"
)
_OPEN = "unknown until the rules are replayed"


class GivenRule(Result):
    """What a rule needs to be judged; everything else that rules.json has may be there and is measured again."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    id: LogName | None = Field(default=None, max_length=LONGEST_NAME)
    priority: int | None = Field(default=None, ge=1)
    per: Unit = "request"
    when: When = When()
    route: tuple[WeightedModel, ...] | str = Field(min_length=1)
    fallbacks: tuple[LogName, ...] = ()

    @field_validator("route")
    @classmethod
    def _one_model_by_name(cls, value: tuple[WeightedModel, ...] | str) -> tuple[WeightedModel, ...] | str:
        return value if isinstance(value, tuple) or value == "unchanged" else (WeightedModel(model=value, weight=1.0),)


def read_given_rules(content: Any, parameters: Parameters) -> RuleSet:
    """A rule set from what was handed over: rules, a rule set, an optimisation that holds one, or JSON text of these.

    Its id is a hash of what the rules say; nothing is expected of it yet.

    Raises:
        UnusableInputError: it is none of these, or a rule breaks the contract of rules.json; the message says where.
    """
    if isinstance(content, str):
        content = _parsed(content)
    listed = _listed(content)
    if not listed or len(listed) > MOST_RULES:
        raise UnusableInputError(f"{len(listed)} rules; give 1 to {MOST_RULES}: {SHAPE}")
    rules = [_read(rule, place) for place, rule in enumerate(listed, 1)]
    ids = [rule.id or f"r{place}" for place, rule in enumerate(rules, 1)]
    twice = next((each for each in ids if ids.count(each) > 1), None)
    if twice is not None:
        raise UnusableInputError(f"two rules have the id {json.dumps(twice[:40])}; give each its own, or none")
    said = [rule.model_dump_json(include={"priority", "when", "route", "fallbacks"}) for rule in rules]
    try:
        return RuleSet(
            rule_set_id=f"given-{key_of(rules=said)}",
            status="proposed",
            goal=_goal(content, parameters),
            constraints=constraints_asked(parameters),
            window=RuleWindow(start="", end="", snapshot_id=""),
            rules=tuple(_complete(rule, place) for place, rule in enumerate(rules, 1)),
            expected=Expected(baseline=cannot_tell(_OPEN), proposed=cannot_tell(_OPEN), change=_unknown(_OPEN)),
            assumptions=(),
            warnings=(),
        )
    except ValidationError as error:
        raise UnusableInputError(f"{_first(error)}; give {SHAPE}") from error


def read_rules_file(path: Path, parameters: Parameters) -> RuleSet:
    """What `simulate --rules` names: a rules.json as it is, under its own id, or anything that `read_given_rules` takes.

    Raises:
        UnusableInputError: it cannot be read, or is neither; the message says where.
    """
    try:
        # Editors of Windows put a mark before the text, which is none of it.
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UnusableInputError(f"--rules {path}: {error.strerror}; give a readable file") from error
    except UnicodeDecodeError as error:
        # Read with marks in the place of what is not known, names would be others, and their rules hold for nothing.
        raise UnusableInputError(f"--rules {path}: is no text in UTF-8; save it in that encoding") from error
    try:
        _parsed(text)
        return RuleSet.model_validate_json(text)
    except ValidationError:
        try:
            return read_given_rules(text, parameters)
        except UnusableInputError as error:
            raise UnusableInputError(f"--rules {path}: {error}") from error
    except UnusableInputError as error:
        raise UnusableInputError(f"--rules {path}: {error}") from error


def _parsed(text: str) -> Any:
    """JSON, in which no object has a name twice: the last would stand, and a rule that lost its conditions takes everything.

    Raises:
        UnusableInputError: it is none, or has one twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UnusableInputError(f"neither the id of a rule set nor JSON; give {SHAPE}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnusableInputError(f"{json.dumps(twice[:40])} stands twice in one object; keep one of them")
    return found


def _refuse_other_versions(content: dict[str, Any]) -> None:
    """What a later version says may mean something else; read as rules by hand it would be followed all the same."""
    version = content.get("schema_version")
    if version is not None and version not in VERSIONS:
        raise UnusableInputError(
            f"schema_version: this version of routing-pipeline reads {' and '.join(map(str, VERSIONS))} (got {json.dumps(version)[:40]})"
        )


def _listed(content: Any) -> list[Any]:
    if isinstance(content, dict):
        _refuse_other_versions(content)
        for name in ("rule_set", "routing_rule_set"):
            if isinstance(content.get(name), dict):
                return _listed(content[name])
        content = content.get("rules", [content] if "route" in content else [])
    return list(content) if isinstance(content, list | tuple) else []


def _goal(content: Any, parameters: Parameters) -> Goal:
    said = content.get("goal") if isinstance(content, dict) else None
    if said is None:
        return parameters.goal
    goal = next((each for each in GOALS if each == said), None)
    if goal is None:
        raise UnusableInputError(f"goal: one of {', '.join(GOALS)} (got {json.dumps(str(said)[:40])})")
    return goal


def _read(rule: Any, place: int) -> GivenRule:
    if isinstance(rule, dict):
        for name in rule:
            if name not in FIELDS:
                # Passed over, it would leave a rule without its conditions, and such a rule takes everything.
                raise UnusableInputError(f"rule {place}: {str(name)[:40]}: is not known here{_meant(str(name), FIELDS)}; give {SHAPE}")
    try:
        read = GivenRule.model_validate(rule)
    except ValidationError as error:
        raise UnusableInputError(f"rule {place}: {_first(error)}; give {SHAPE}") from error
    names = [*read.fallbacks, *(each for names in (read.when.task_type, read.when.team, read.when.tier) for each in names or ())]
    names += [target.model for target in read.route if isinstance(target, WeightedModel)]
    if any(unicodedata.category(letter) == "Cs" for name in (*names, read.id or "") for letter in name):
        raise UnusableInputError(f"rule {place}: half of a character stands in one of its names (\\ud800 to \\udfff); write it whole")
    if any(not name or len(name) > LONGEST_NAME for name in names) or len(names) > LONGEST_NAME:
        raise UnusableInputError(f"rule {place}: names have 1 to {LONGEST_NAME} characters, and a rule at most {LONGEST_NAME} of them")
    return read


def _first(error: ValidationError) -> str:
    """The first complaint in plain words, after the place that it is about."""
    first = error.errors(include_url=False)[0]
    # What a union was tried as is no part of the place.
    parts = [str(part) for part in first["loc"][:6] if "[" not in str(part) and part != "str"]
    place, name = ".".join(parts)[:80], parts[-1] if parts else ""
    said = complaint(first["msg"])
    if first["type"] == "extra_forbidden":
        known = _KNOWN.get(parts[-2] if len(parts) > 1 else "", ())
        said += _meant(name, known) or (f"; {parts[-2]} takes {', '.join(known)}" if known else "")
    elif first["type"].endswith("_type") or first["type"] == "bool_parsing":
        what = "of the route" if parts[:1] == ["route"] and name.isdigit() else name
        said = f"must be {_TAKES[what]}" if what in _TAKES else said
    return f"{place}: {said}" if place else said


def _meant(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return "" if near is None else f"; did you mean '{near}'?"


_NAMES, _RANGE = 'a name, or a list of names such as ["code", "chat"]', 'a range such as {"gte": 0.2, "lt": 0.8}'
_TAKES: dict[str, str] = {
    "": "an object with when and route",
    "of the route": 'an object such as {"model": "gpt-4o-mini", "weight": 1.0}',
    "when": 'conditions such as {"task_type": ["code"], "prompt_tokens": {"lt": 2000}}',
    "route": 'the name of a model, or a list such as [{"model": "gpt-4o-mini", "weight": 1.0}]',
    "fallbacks": 'a list of names of models such as ["gpt-4o"]',
    **dict.fromkeys(("task_type", "team", "tier"), _NAMES),
    **dict.fromkeys(("complexity", "prompt_tokens"), _RANGE),
    **dict.fromkeys(NEEDS, "true or false"),
}
_KNOWN: dict[str, tuple[str, ...]] = {
    "when": tuple(When.model_fields),
    "complexity": tuple(Between.model_fields),
    "prompt_tokens": tuple(Between.model_fields),
}
FIELDS: tuple[str, ...] = tuple(dict.fromkeys([*GivenRule.model_fields, *Rule.model_fields]))
"""What a rule may hold, those fields included that are measured again."""


def _complete(rule: GivenRule, place: int) -> Rule:
    return Rule.model_validate(
        {
            "id": rule.id or f"r{place}",
            "priority": rule.priority or place,
            "per": rule.per,
            "when": rule.when,
            "route": rule.route,
            "fallbacks": rule.fallbacks,
            "rationale": "given",
            "evidence": RuleEvidence(requests=0, labelled=0, effective_sample_size=0.0, grade="C"),
            "expected": cannot_tell(_OPEN),
            "effort": "Low",
            "risk": "High",
            "validation_criteria": (),
        }
    )


def constraints_asked(parameters: Parameters) -> Constraints:
    """What was asked to be held; what was held beside it is not known before rules are put to the proof."""
    return Constraints(
        max_cost_usd=parameters.cost_threshold,
        budget_usd_per_month=parameters.budget,
        min_quality=parameters.quality_threshold,
        max_quality_drop=parameters.max_quality_drop,
    )


def _unknown(why: str) -> Change:
    change = RelativeChange(relative=Unidentifiable(unidentifiable=why))
    return Change(cost_usd=change, quality=change, latency_ms=change)
