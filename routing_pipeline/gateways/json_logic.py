"""JSON logic (jsonlogic.com), for a router of one's own: one expression that gives the rule, and its arms.

Belongs here: the expression, and reading it back. Does not belong here: the draw (`rules.deciding`), which the file spells out.

Traps of the language: a missing field compares as 0, so that ranges ask first whether it is there; `==` converts, so that yes and no are
compared with `===`.
"""

from __future__ import annotations

from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.exported import Exported, json_text, plain_end, plain_number, read_json
from routing_pipeline.gateways.litellm import rule_as_given
from routing_pipeline.gateways.planned import Plan
from routing_pipeline.rules.deciding import bounds, steps_of
from routing_pipeline.rules.model import NEEDS, Rule, When

NAME = "json-logic"
FIRST = "first."
"""Rules per session ask for fields of the session's first request, under this."""


def recognises(content: Any) -> bool:
    """Whether parsed JSON is what `write` gives."""
    return isinstance(content, dict) and "decide" in content and "routes" in content


def write(plan: Plan, current: str | None, default_model: str | None = None) -> Exported:
    """The expression and the arms of each rule; `current` is a file of the same kind, of which nothing stays."""
    del default_model
    if current is not None and not recognises(read_json(current, "--current")):
        raise UnusableInputError("--current: holds no rules as JSON logic")
    branches: list[Any] = []
    for rule in plan.rules:
        branches += [expression(rule.when, FIRST if rule.per == "session" else ""), rule.id]
    content = {
        "rule_set_id": plan.rule_set_id,
        "share": {"of": plain_number(plan.share), "drawn_from": f"{plan.rule_set_id}//<session>", "below": steps_of(plan.share)},
        "decide": {"if": [*branches, None]},
        "routes": {rule.id: _route(rule, plan) for rule in plan.rules},
        "draw": "first 8 hexadecimal digits of the md5 of drawn_from, as a number; <session> is the session's id, else the request's",
    }
    return Exported({"routing_rules.json": json_text(content)}, plan.notes)


def read(text: str) -> list[dict[str, Any]]:
    """The rules that a file of `write`'s says.

    Raises:
        UnusableInputError: the expression asks for something else.
    """
    content = read_json(text, "the rules")
    branches = content["decide"].get("if", [])
    rules = []
    for place, (asked, rule_id) in enumerate(zip(branches[:-1:2], branches[1::2], strict=True), 1):
        route = content["routes"].get(rule_id)
        if route is None:
            raise UnusableInputError(f"the rules: {str(rule_id)[:60]} has no route")
        when = _when_of(asked)
        rules.append(
            {
                "id": rule_id,
                "priority": place,
                "per": route["per"],
                "when": when,
                "route": _read_route(route),
                "fallbacks": route["fallbacks"],
            }
        )
    return rules


def expression(when: When, before: str = "") -> Any:
    """The conditions as one expression."""
    named = [(name, getattr(when, name)) for name in ("task_type", "team", "tier")]
    parts: list[Any] = [{"in": [{"var": before + name}, list(values)]} for name, values in named if values is not None]
    for name in ("complexity", "prompt_tokens"):
        if (between := getattr(when, name)) is not None:
            parts.append({"!==": [{"var": before + name}, None]})
            ends = ((">=", between.gte), ("<", between.lt))
            parts += [{sign: [{"var": before + name}, plain_end(end)]} for sign, end in ends if end is not None]
    for name in NEEDS:
        if (needed := getattr(when, name)) is not None:
            parts.append({"===": [{"var": before + name}, needed]})
    return {"and": parts} if parts else True


def _route(rule: Rule, plan: Plan) -> dict[str, Any]:
    said = rule_as_given(rule)
    if isinstance(rule.route, str):
        return {"per": rule.per, "arms": rule.route, "fallbacks": said["fallbacks"]}
    arms = [{"model": str(model), "weight": plain_number(weight), "below": below} for model, weight, below in bounds(rule.route)]
    return {"per": rule.per, "drawn_from": f"{plan.rule_set_id}/{rule.id}/<session>", "arms": arms, "fallbacks": said["fallbacks"]}


def _read_route(route: dict[str, Any]) -> Any:
    if isinstance(route["arms"], str):
        return route["arms"]
    return [{"model": arm["model"], "weight": float(arm["weight"])} for arm in route["arms"]]


def _when_of(asked: Any) -> dict[str, Any]:
    parts = asked.get("and", [asked]) if isinstance(asked, dict) else []
    when: dict[str, Any] = {}
    for part in parts:
        ((sign, (var, value)),) = part.items()
        path = str(var.get("var", ""))
        name = path.removeprefix(FIRST)
        if name not in When.model_fields or sign not in ("in", "!==", ">=", "<", "==="):
            raise UnusableInputError(f"the rules: {sign[:20]} on {path[:60]} cannot be said as a rule")
        if sign in (">=", "<"):
            when.setdefault(name, {})["gte" if sign == ">=" else "lt"] = value
        elif sign == "!==":
            when.setdefault(name, {})
        else:
            when[name] = value
    return when
