"""Bifrost: routing rules in CEL, in `governance.routing_rules` of config.json.

Belongs here: conditions as CEL over headers and the team, weighted targets, fallbacks, and reading them back. Does not belong here: Bifrost's own
complexity tiers, which its classifier gives and no log of ours holds.

From its documentation (1.5 and 3.0): the first rule that matches decides, lower numbers first within a scope; global rules come after those of keys,
teams and customers; a missing header is no match, a conversion that fails skips the rule; a target without provider and model keeps what was
asked for; weights are drawn with each request. Rules that are not ours stay and keep their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.exported import Exported, json_text, part_of, plain_number, read_json
from routing_pipeline.gateways.hundredths import DRAW, OF, SHARE, arms_of, is_drawn, is_split, share_of
from routing_pipeline.gateways.planned import Plan, refuse_unknown_models
from routing_pipeline.gateways.providers import bare, provider_of
from routing_pipeline.gateways.read_back import needed, route_of
from routing_pipeline.rules.deciding import UNCHANGED
from routing_pipeline.rules.model import NEEDS, Rule, When

NAME = "bifrost"
OURS = "rules/"
"""How ids of rules begin that an export wrote."""
TEXT = {"task_type": 'headers["x-task-type"]', "team": "team_name", "tier": 'headers["x-tier"]'}
NUMBER = {name: f'double(headers["x-{name.replace("_", "-")}"])' for name in ("complexity", "prompt_tokens", SHARE, DRAW)}
NEED = {name: f'headers["x-{name.replace("_", "-")}"]' for name in NEEDS}
_STRING = r'"(?:[^"\\]|\\.)*"'
_IN = re.compile(rf"(?P<field>[^ ]+) in \[(?P<values>(?:{_STRING}(?:, )?)*)\]")
_COMPARED = re.compile(r"(?P<field>[^ ]+) (?P<sign>>=|<) (?P<end>-?[0-9.e+-]+)")
_EQUAL = re.compile(rf"(?P<field>[^ ]+) == (?P<value>{_STRING})")


def recognises(content: Any) -> bool:
    """Whether parsed JSON is a configuration of Bifrost's, or its list of rules."""
    return isinstance(content, dict) and isinstance(content.get("governance"), dict) and "routing_rules" in content["governance"]


def write(plan: Plan, current: str | None, default_model: str | None = None) -> Exported:
    """config.json.

    Raises:
        UnusableInputError: a model is in no key of the present configuration.
    """
    content: dict[str, Any] = read_json(current, "--current") if current is not None else {}
    if not isinstance(content, dict):
        raise UnusableInputError("--current: is no configuration of Bifrost")
    known = _models(content)
    if known:
        refuse_unknown_models(plan, [*known, *(bare(model) for model in known)], "the present configuration")
    providers = {bare(model): model.partition("/")[0] for model in known}
    governance = part_of(content, "governance", {})
    others = [rule for rule in governance.get("routing_rules") or [] if not str(rule.get("id", "")).startswith(OURS)]
    first = 1 + max((int(rule.get("priority") or 0) for rule in others), default=-1)
    ours = [written for rule in plan.rules for written in _rules(rule, plan, providers)]
    if default_model is not None:
        ours.append(_rule(f"{OURS}{plan.rule_set_id}/default", "true", [_target(default_model, 1.0, providers)], []))
    governance["routing_rules"] = [*others, *({**rule, "priority": first + place} for place, rule in enumerate(ours))]
    return Exported({"config.json": json_text(content)}, (*plan.notes, *_limits(plan, others)))


def read(text: str) -> list[dict[str, Any]]:
    """The global rules of a configuration.

    Raises:
        UnusableInputError: one asks for something that is in no log.
    """
    listed = [rule for rule in read_json(text, "the configuration")["governance"]["routing_rules"] if rule.get("enabled", True)]
    scoped = next((rule for rule in listed if rule.get("scope", "global") != "global"), None)
    if scoped is not None:
        raise UnusableInputError(
            f"the configuration: rule {str(scoped.get('name'))[:60]} is of one {scoped['scope']}, which the logs do not tell"
        )
    rules: list[dict[str, Any]] = []
    for rule in sorted(listed, key=lambda each: int(each.get("priority") or 0)):
        _read_rule(rule, rules)
    return [{**rule, "priority": place} for place, rule in enumerate(rules, 1)]


# Writing


def _rules(rule: Rule, plan: Plan, providers: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What Bifrost is told for one rule: more than one where the client's draws decide."""
    name = f"{OURS}{plan.rule_set_id}/{rule.id}"
    asked = _conditions(rule.when)
    fallbacks = [_with_provider(str(model), providers) for model in rule.fallbacks]
    kept = [{"weight": 1}]
    if isinstance(rule.route, str):
        yield _rule(name, _cel(asked), kept, [])
        return
    if is_drawn(rule, plan):
        shared = [f"{NUMBER[SHARE]} < {share_of(plan)}"] if plan.share < 1 else []
        for place, (model, low, high) in enumerate(arms_of(rule), 1):
            drawn = [f"{NUMBER[DRAW]} >= {low}", f"{NUMBER[DRAW]} < {high}"] if is_split(rule) else []
            yield _rule(f"{name}/{place}", _cel([*asked, *shared, *drawn]), [_target(model, 1.0, providers)], fallbacks)
        yield _rule(f"{name}/{UNCHANGED}", _cel(asked), kept, [])
        return
    targets = [_target(str(target.model), target.weight * plan.share, providers) for target in rule.route]
    if plan.share < 1:
        targets.append({"weight": plain_number(1 - plan.share)})
    yield _rule(name, _cel(asked), targets, fallbacks)


def _rule(name: str, cel: str, targets: list[Any], fallbacks: list[str]) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "enabled": True,
        "cel_expression": cel,
        "targets": targets,
        "fallbacks": fallbacks,
        "scope": "global",
        "priority": 0,
    }


def _conditions(when: When) -> list[str]:
    parts = []
    for name, field in TEXT.items():
        if (values := getattr(when, name)) is not None:
            parts.append(f"{field} in [{', '.join(map(_string, values))}]")
    for name in ("complexity", "prompt_tokens"):
        if (between := getattr(when, name)) is not None:
            ends = ((">=", between.gte), ("<", between.lt))
            said = [f"{NUMBER[name]} {sign} {_double(end)}" for sign, end in ends if end is not None]
            parts += said or [f"{NUMBER[name]} >= -1e308"]
    for name, field in NEED.items():
        if (asked := getattr(when, name)) is not None:
            parts.append(f'{field} == "{"true" if asked else "false"}"')
    return parts


def _cel(parts: list[str]) -> str:
    return " && ".join(parts) or "true"


def _string(value: str) -> str:
    """A CEL string: what JSON escapes, CEL escapes alike."""
    return json_text(value).strip()


def _double(value: float) -> str:
    return repr(float(value))


def _target(model: str, weight: float, providers: dict[str, str]) -> dict[str, Any]:
    return {"provider": _provider(model, providers), "model": bare(model), "weight": plain_number(weight)}


def _provider(model: str, providers: dict[str, str]) -> str:
    return providers.get(model) or provider_of(model)


def _with_provider(model: str, providers: dict[str, str]) -> str:
    return f"{_provider(model, providers)}/{bare(model)}"


def _models(content: dict[str, Any]) -> list[str]:
    """`provider/model` of every key; empty where a key serves whatever its provider has."""
    found: list[str] = []
    for provider, told in (content.get("providers") or {}).items():
        for key in told.get("keys") or []:
            if not key.get("models") or "*" in key["models"]:
                return []
            found += [f"{provider}/{model}" for model in key["models"]]
    return found


def _limits(plan: Plan, others: list[Any]) -> Iterator[str]:
    yield "Requests say task_type, complexity, prompt_tokens and what they need in headers (x-task-type, ...); one that does not meets no rule that asks."
    if any(is_drawn(rule, plan) for rule in plan.rules):
        yield "Sessions are drawn by the headers x-rule-share and x-rule-draw, 0 to 99, which the client derives from its session (docs/gateways.md)."
    if any(rule.per == "request" and not isinstance(rule.route, str) and (is_split(rule) or plan.share < 1) for rule in plan.rules):
        yield "Bifrost draws weights anew for each request: a session may change its model."
    if others:
        yield f"{len(others)} routing rules that are not of this rule set stay and decide first."


# Reading


def _read_rule(rule: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    when = _when_of(str(rule.get("cel_expression") or "true"))
    shared, drawn = when.pop(SHARE, None), when.pop(DRAW, None)
    name = str(rule.get("name") or rule.get("id"))
    rule_id = name.split("/")[2] if name.startswith(OURS) and name.count("/") > 1 else re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:40]
    listed = rule.get("targets") or []
    targets = [target for target in listed if target.get("model")]
    if targets and len(targets) < len(listed) and not name.startswith(OURS):
        raise UnusableInputError(f"the configuration: rule {name[:60]} keeps the model that was asked for in a part of its requests")
    where = f"the configuration: rule {name[:60]}"
    route = route_of(((str(target["model"]), target.get("weight", 1)) for target in targets), where) if targets else []
    told = {"route": route or UNCHANGED, "fallbacks": [bare(_fallback(each)) for each in rule.get("fallbacks") or []]}
    last = rules[-1] if rules else {}
    if shared is not None or drawn is not None:
        if (last.get("id"), last.get("when")) != (rule_id, when):
            rules.append({"id": rule_id, "per": "session", "when": when, "route": [], "fallbacks": told["fallbacks"]})
        low, high = (0, OF) if drawn is None else (drawn.get("gte", 0), drawn.get("lt", OF))
        rules[-1]["route"].append({"model": route[0]["model"], "weight": round((high - low) / OF, 12)})
    elif not (name.startswith(OURS) and name.endswith(f"/{UNCHANGED}") and last.get("id") == rule_id):
        rules.append({"id": rule_id, "per": "request", "when": when, **told})


def _fallback(each: Any) -> str:
    return str(each) if isinstance(each, str) else f"{each.get('provider')}/{each.get('model')}"


def _when_of(cel: str) -> dict[str, Any]:
    """Conditions as rules have them.

    Raises:
        UnusableInputError: the expression is of another form.
    """
    when: dict[str, Any] = {}
    if cel.strip() == "true":
        return when
    fields = {field: name for name, field in (TEXT | NUMBER | NEED).items()}
    for part in _parts(cel):
        found = _IN.fullmatch(part) or _COMPARED.fullmatch(part) or _EQUAL.fullmatch(part)
        name = fields.get(found["field"]) if found else None
        if found is None or name is None:
            raise UnusableInputError(
                f"the configuration: {part[:80]} cannot be evaluated; rules ask for x-task-type, x-complexity, team_name and the like"
            )
        groups = found.groupdict()
        if "sign" in groups:
            end = float(groups["end"])
            asked = {} if end == -1e308 else {"gte" if groups["sign"] == ">=" else "lt": end}
            is_twice = bool(asked.keys() & when.get(name, {}).keys())
            when.setdefault(name, {}).update(asked)
        else:
            values = read_json(f"[{groups['value'] if 'value' in groups else groups['values']}]", "the configuration")
            is_twice = name in when
            when[name] = needed(name, values, "the configuration") if name in NEEDS else values
        if is_twice:
            raise UnusableInputError(
                f"the configuration: {cel[:80]} has two conditions on {name} of one kind; rules have one, so join them"
            )
    return when


def _parts(cel: str) -> list[str]:
    """The parts between `&&`, those within strings aside."""
    parts = [""]
    for piece in re.findall(rf"{_STRING}|&&|.", cel, re.DOTALL):
        parts = [*parts, ""] if piece == "&&" else [*parts[:-1], parts[-1] + piece]
    return [part.strip() for part in parts]
