"""Envoy AI Gateway: rules of an AIGatewayRoute, which match request headers.

Belongs here: headers, backends with weights, names for the access log, and reading them back. Does not belong here: backends themselves
(AIServiceBackend), retries (BackendTrafficPolicy).

Of the custom resource's schema and the Gateway API: headers are compared as text, so that lengths and ranges cannot be said; of the rules that
match, the one with the most headers wins and only then the first, so that a rule is refused where a later one would go before it; values of one
header are several matches; a request that no rule takes is not found. Rules have no names: ours are known by the header that their backends
set. A route is refused by the cluster beyond 15 rules (envoyproxy/ai-gateway pull request 2123: one HTTPRoute holds them and one of the
gateway's own), 64 matches in a rule and 128 in all (Gateway API, HTTPRoute).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.exported import Exported, plain_number, read_yaml, yaml_text
from routing_pipeline.gateways.hundredths import DRAW, OF, SHARE, arms_of, is_drawn, is_split, labels, share_of
from routing_pipeline.gateways.planned import Plan, refuse_unknown_models, without_what_cannot_be_said
from routing_pipeline.gateways.providers import bare, provider_of
from routing_pipeline.gateways.reachability import overlap
from routing_pipeline.gateways.read_back import needed, route_of
from routing_pipeline.rules.model import NEEDS, Rule, logged_rule_id

NAME = "envoy"
RULE, DEFAULT = "x-routing-rule-id", "x-routing-default"
"""Headers that backends of rules set which an export wrote."""
MOST_RULES = 15
MOST_MATCHES = 64
MOST_MATCHES_IN_ALL = 128
WEIGHTS = 1_000_000
"""Weights are whole numbers; they add up to this."""
ALWAYS_THERE = ("x-ai-eg-model", "content-type")
"""Headers of every request: asking for them makes a rule go before others, and asks for nothing."""
_TEXT = ("task_type", "team", "tier")


def recognises(content: Any) -> bool:
    """Whether parsed YAML is a route of this gateway's."""
    return isinstance(content, dict) and content.get("kind") == "AIGatewayRoute" and isinstance(content.get("spec"), dict)


def write(plan: Plan, current: str | None, default_model: str | None = None) -> Exported:
    """The route.

    Args:
        plan: what the gateway is to do.
        current: the configuration that runs today, None without one.
        default_model: what serves requests that no rule decides, where the present route does not say.

    Raises:
        UnusableInputError: a model is in no backend of the present route, a rule cannot be said and not be left out, or their order cannot.
    """
    plan = without_what_cannot_be_said(plan, "Envoy AI Gateway", _unsayable)
    content = read_yaml(current, "--current") if current is not None else _fresh(plan)
    if not recognises(content):
        raise UnusableInputError("--current: is no AIGatewayRoute")
    others = [rule for rule in content["spec"].get("rules") or [] if _set_by(rule, RULE) is None and _set_by(rule, DEFAULT) is None]
    backends = _backends(others)
    if current is not None and backends:
        refuse_unknown_models(plan, backends, "the present route")
    ours = [written for rule in plan.rules for written in _rules(rule, plan, backends)]
    _put_in_order(ours, plan, max((_headers(rule) for rule in others), default=0))
    if default_model is not None and not others:
        ours.append(
            {
                "matches": [{"headers": [_always(ALWAYS_THERE[0])]}],
                "backendRefs": [{**_backend(default_model, backends), **_setting({DEFAULT: "true"})}],
            }
        )
    content["spec"]["rules"] = [{name: value for name, value in rule.items() if name != "of"} for rule in ours] + others
    _refuse_too_many(content["spec"]["rules"])
    return Exported({"route.yaml": yaml_text(content, current or "")}, (*plan.notes, *_limits(plan, bool(others), default_model)))


def read(text: str) -> list[dict[str, Any]]:
    """The rules of a route.

    Raises:
        UnusableInputError: one matches headers that are in no log.
    """
    rules: list[dict[str, Any]] = []
    listed = list(enumerate(read_yaml(text, "the route")["spec"].get("rules") or [], 1))
    for place, rule in listed if _is_in_order([rule for _, rule in listed]) else sorted(listed, key=lambda each: -_headers(each[1])):
        _read_rule(rule, (_set_by(rule, RULE) or f"r{place}").rpartition("/")[2], rules)
    return [{**rule, "priority": place} for place, rule in enumerate(rules, 1)]


# Writing


def _unsayable(rule: Rule) -> str | None:
    """Why a rule cannot be said; None where it can."""
    if isinstance(rule.route, str):
        return "cannot leave the choice to the client"
    if rule.when.prompt_tokens is not None:
        return "cannot match the length of a prompt"
    if rule.when.complexity is not None:
        return "cannot match a range of complexity"
    matches = 1
    for name in _TEXT:
        matches *= len(getattr(rule.when, name) or (1,))
    return f"takes {MOST_MATCHES} combinations of values in a rule" if matches > MOST_MATCHES else None


def _rules(rule: Rule, plan: Plan, backends: dict[str, str]) -> Iterator[dict[str, Any]]:
    shared = [_one_of(SHARE, labels(range(share_of(plan))))] if plan.share < 1 else []
    fallbacks = [{**_backend(str(model), backends), "priority": place} for place, model in enumerate(rule.fallbacks, 1)]
    if is_split(rule) and is_drawn(rule, plan):
        for model, low, high in arms_of(rule):
            drawn = _one_of(DRAW, labels(range(low, high)))
            refs = [_marked(_backend(model, backends), rule, plan, plan.share * (high - low) / OF), *fallbacks]
            yield {"matches": _matches(rule, [*shared, drawn]), "backendRefs": refs, "of": rule.id}
        return
    refs = []
    for target in rule.route if not isinstance(rule.route, str) else ():
        weight = {"weight": round(target.weight * WEIGHTS)} if is_split(rule) else {}
        refs.append(_marked({**_backend(str(target.model), backends), **weight}, rule, plan, plan.share * target.weight))
    yield {"matches": _matches(rule, shared), "backendRefs": [*refs, *fallbacks], "of": rule.id}


def _matches(rule: Rule, more: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Every combination of the values that the rule takes."""
    choices = [[_header(name, str(value)) for value in values] for name in _TEXT if (values := getattr(rule.when, name)) is not None]
    fixed = [_header(name, "true" if asked else "false") for name in NEEDS if (asked := getattr(rule.when, name)) is not None]
    return [{"headers": [*chosen, *fixed, *more]} for chosen in product(*choices)]


def _header(label: str, value: str) -> dict[str, str]:
    return {"type": "Exact", "name": f"x-{label.replace('_', '-')}", "value": value}


def _one_of(label: str, values: list[str]) -> dict[str, str]:
    return {"type": "RegularExpression", "name": f"x-{label.replace('_', '-')}", "value": f"^({'|'.join(values)})$"}


def _always(header: str) -> dict[str, str]:
    return {"type": "RegularExpression", "name": header, "value": ".*"}


def _backend(model: str, backends: dict[str, str]) -> dict[str, Any]:
    return {"name": backends.get(model) or provider_of(model).lower(), "modelNameOverride": bare(model)}


def _marked(backend: dict[str, Any], rule: Rule, plan: Plan, propensity: float) -> dict[str, Any]:
    """A backend that carries the rule's name into what the access log shows."""
    said = {RULE: logged_rule_id(plan.rule_set_id, rule.id), "x-arm": str(backend["modelNameOverride"])}
    return {**backend, **_setting({**said, "x-propensity": str(plain_number(propensity))})}


def _setting(headers: dict[str, str]) -> dict[str, Any]:
    return {"headerMutation": {"set": [{"name": name, "value": value} for name, value in headers.items()]}}


def _set_by(rule: Any, header: str) -> str | None:
    """What the first backend of a rule that sets this header sets it to."""
    for ref in rule.get("backendRefs") or []:
        for each in (ref.get("headerMutation") or {}).get("set") or []:
            if str(each.get("name", "")).lower() == header:
                return str(each.get("value", ""))
    return None


def _refuse_too_many(rules: list[Any]) -> None:
    matches = sum(len(rule.get("matches") or [None]) for rule in rules)
    if len(rules) > MOST_RULES or matches > MOST_MATCHES_IN_ALL:
        raise UnusableInputError(
            f"Envoy AI Gateway takes {MOST_RULES} rules and {MOST_MATCHES_IN_ALL} matches in a route, and this one would have {len(rules)} and {matches}, "
            "with those of today and one for each arm that sessions are drawn for; give fewer rules, or export to another gateway"
        )


def _put_in_order(ours: list[dict[str, Any]], plan: Plan, most_of_others: int) -> None:
    """Give each rule as many headers as any later one that could take its requests, or refuse it."""
    rules = {rule.id: rule for rule in plan.rules}
    for place in reversed(range(len(ours))):
        written = ours[place]
        later = [
            each for each in ours[place + 1 :] if each["of"] != written["of"] and overlap(rules[each["of"]].when, rules[written["of"]].when)
        ]
        missing = max([_headers(each) for each in later] + [most_of_others]) - min(len(match["headers"]) for match in written["matches"])
        if missing > len(ALWAYS_THERE):
            ahead = later[0]["of"] if later else "of the present route"
            raise UnusableInputError(
                f"rule {written['of']}: Envoy tries what matches more headers first, so that rule {ahead} would go before it; "
                "give rules that do not overlap, or export to another gateway"
            )
        for match in written["matches"]:
            match["headers"] += [_always(header) for header in ALWAYS_THERE[: max(0, missing)]]


def _headers(rule: Any) -> int:
    return max((len(match.get("headers") or []) for match in rule.get("matches") or []), default=0)


def _backends(rules: list[Any]) -> dict[str, str]:
    """Backend of each model that a route has."""
    found: dict[str, str] = {}
    for rule in rules:
        for ref in rule.get("backendRefs") or []:
            asked = [
                header["value"]
                for match in rule.get("matches") or []
                for header in match.get("headers") or []
                if header["name"] == "x-ai-eg-model"
            ]
            for model in [ref["modelNameOverride"]] if ref.get("modelNameOverride") else asked:
                found.setdefault(str(model), str(ref["name"]))
    return found


def _fresh(plan: Plan) -> dict[str, Any]:
    return {
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "AIGatewayRoute",
        "metadata": {"name": "routing-rules", "namespace": "default", "annotations": {"routing-pipeline/rule-set": plan.rule_set_id}},
        "spec": {
            "parentRefs": [{"name": "ai-gateway", "kind": "Gateway", "group": "gateway.networking.k8s.io"}],
            "rules": [],
            "llmRequestCosts": [
                {"metadataKey": "llm_input_token", "type": "InputToken"},
                {"metadataKey": "llm_cached_input_token", "type": "CachedInputToken"},
                {"metadataKey": "llm_output_token", "type": "OutputToken"},
            ],
        },
    }


def _limits(plan: Plan, has_others: bool, default_model: str | None) -> Iterator[str]:
    yield "Requests say task_type, team, tier and what they need in headers (x-task-type, ...); one that does not meets no rule that asks."
    if not has_others and default_model is None:
        yield "A request that no rule takes is not found: add the rules that run today with --current, or name a model with --default-model."
    if plan.share < 1 or any(is_drawn(rule, plan) for rule in plan.rules):
        yield "Sessions are drawn by the headers x-rule-share and x-rule-draw, 00 to 99, which the client derives from its session (docs/gateways.md)."
    if any(rule.per == "request" and is_split(rule) for rule in plan.rules):
        yield "Envoy draws weights anew for each request: a session may change its model."


# Reading


def _is_in_order(rules: list[Any]) -> bool:
    """Whether no rule takes requests of one that stands before it: what matches more headers goes first, wherever it stands."""
    return not any(
        _headers(later) > min((len(match.get("headers") or []) for match in rule.get("matches") or []), default=0)
        and _may_meet(rule, later)
        for place, rule in enumerate(rules)
        for later in rules[place + 1 :]
    )


def _may_meet(one: Any, other: Any) -> bool:
    """Whether a request may match both: no header is compared with one text by the one and with another by the other."""
    return any(all(first.get(name, value) == value for name, value in second.items()) for first in _exact(one) for second in _exact(other))


def _exact(rule: Any) -> list[dict[str, str]]:
    """Of each match, the headers that are compared with one text."""
    return [
        {
            str(header["name"]).lower(): str(header["value"])
            for header in match.get("headers") or []
            if header.get("type", "Exact") == "Exact"
        }
        for match in rule.get("matches") or [{}]
    ]


def _read_rule(rule: Any, name: str, rules: list[dict[str, Any]]) -> None:
    when, drawn = _when_of(rule, name)
    refs = rule.get("backendRefs") or []
    first = [ref for ref in refs if not ref.get("priority")]
    if not all(ref.get("modelNameOverride") for ref in refs):
        if "x-ai-eg-model" in when:
            # The client named the model: nothing is decided.
            return
        raise UnusableInputError(
            f"the route: rule {name[:60]} keeps the model that was asked for; only rules that name one can be evaluated"
        )
    if "x-ai-eg-model" in when:
        raise UnusableInputError(f"the route: rule {name[:60]} goes by the model that was asked for, which the logs do not hold as a field")
    route = route_of(((str(ref["modelNameOverride"]), ref.get("weight", 1)) for ref in first), f"the route: rule {name[:60]}")
    fallbacks = [
        str(ref["modelNameOverride"]) for ref in sorted(refs, key=lambda ref: int(ref.get("priority") or 0)) if ref.get("priority")
    ]
    if drawn is not None:
        route = [{"model": route[0]["model"], "weight": round(drawn / OF, 12)}]
        if rules and (rules[-1]["id"], rules[-1]["when"]) == (name, when):
            rules[-1]["route"] += route
            return
    per = "request" if drawn is None else "session"
    rules.append({"id": name, "per": per, "when": when, "route": route, "fallbacks": fallbacks})


def _when_of(rule: Any, name: str) -> tuple[dict[str, Any], int | None]:
    """Conditions as rules have them, and how many values of the draw the rule takes."""
    values: dict[str, list[str]] = {}
    drawn: int | None = None
    asked: list[dict[str, str]] = []
    for match in rule.get("matches") or []:
        asked.append({})
        for header in match.get("headers") or []:
            label = str(header["name"]).lower().removeprefix("x-").replace("-", "_")
            value = str(header["value"])
            if label in (SHARE, DRAW):
                drawn = len(re.findall(r"\d\d", value)) if label == DRAW else drawn
            elif header.get("type", "Exact") == "Exact" and (label in _TEXT or label in NEEDS or header["name"] == "x-ai-eg-model"):
                field = label if label in (*_TEXT, *NEEDS) else "x-ai-eg-model"
                known = values.setdefault(field, [])
                known += [value] if value not in known else []
                asked[-1][field] = value
            elif value != ".*" or header["name"] not in ALWAYS_THERE:
                raise UnusableInputError(
                    f"the route: rule {name[:60]} matches {str(header['name'])[:40]}, which the logs do not hold as a field"
                )
    combined = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
    if any(each not in asked for each in combined if asked) or any(each not in combined for each in asked):
        raise UnusableInputError(
            f"the route: the matches of rule {name[:60]} are no combination of values; a rule needs each value with each"
        )
    where = f"the route: rule {name[:60]}"
    return {label: needed(label, known, where) if label in NEEDS else known for label, known in values.items()}, drawn
