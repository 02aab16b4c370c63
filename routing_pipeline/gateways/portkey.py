"""Portkey: one config of conditions and targets, sent with each request or saved under an id.

Belongs here: queries over `metadata.*`, load balancing, fallbacks, and reading them back. Does not belong here: what every gateway is told
(`planned`).

Found by running it: numbers in metadata are compared as numbers; a target without `override_params` keeps the model that the client asked for;
a condition that names no target fails with the first request that meets it, so that names are made here. Load balancing draws anew for each
request. What is to hold for a session is therefore chosen by draws that the client brings along (`hundredths`): a session without them keeps
the gateway's own choice.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.exported import Exported, json_text, plain_end, plain_number, read_json
from routing_pipeline.gateways.hundredths import DRAW, OF, SHARE, arms_of, is_drawn, is_split, share_of
from routing_pipeline.gateways.planned import Plan, refuse_unknown_models
from routing_pipeline.gateways.providers import bare, provider_of
from routing_pipeline.gateways.read_back import needed, route_of
from routing_pipeline.rules.deciding import CONTROL, UNCHANGED
from routing_pipeline.rules.model import NEEDS, Rule, When
from routing_pipeline.text import name as shown

NAME = "portkey"
RETRIED = [408, 429, 500, 502, 503, 504, 529]
_DEFAULT = "unchanged"
CHOOSES = frozenset(("provider", "virtual_key", "override_params"))
"""What a target names its model by."""
ALWAYS: dict[str, Any] = {"$or": [{"params.model": {"$ne": ""}}]}
"""A query that every request meets."""
BELOW_ALL = -1e308
"""A range without ends begins here: whatever is a number meets it."""
OURS = "rules/"
"""How names of targets begin that an export wrote."""


def recognises(content: Any) -> bool:
    """Whether parsed JSON is a config of Portkey's."""
    return isinstance(content, dict) and isinstance(content.get("targets"), list) and isinstance(content.get("strategy"), dict)


def write(plan: Plan, current: str | None, default_model: str | None = None) -> Exported:
    """The config.

    Args:
        plan: what the gateway is to do.
        current: the configuration that runs today, None without one.
        default_model: what serves requests that no rule decides; the client's own model without it.

    Raises:
        UnusableInputError: a model is not in the present config, or that chooses by conditions of its own.
    """
    content: dict[str, Any] = read_json(current, "--current") if current is not None else {}
    if isinstance(content, dict) and "targets" not in content and not CHOOSES.isdisjoint(content):
        # One target by itself is a config as well.
        content = {"strategy": {"mode": "single"}, "targets": [content]}
    if current is not None and not (isinstance(content, dict) and isinstance(content.get("targets"), list)):
        raise UnusableInputError("--current: is no config of Portkey; it has neither targets nor a provider")
    served = _served(content)
    if served:
        refuse_unknown_models(plan, served, "the present config")
    default = _default_target(content, default_model)
    conditions: list[dict[str, Any]] = []
    targets: list[dict[str, Any]] = []
    for rule in plan.rules:
        _add(rule, plan, served, conditions, targets)
    written = {name: value for name, value in content.items() if name not in {"strategy", "targets"}} if current is not None else {}
    written["strategy"] = {"mode": "conditional", "conditions": conditions, "default": _DEFAULT}
    written["targets"] = [*targets, {**default, "name": _DEFAULT}]
    return Exported({"portkey.json": json_text(written)}, (*plan.notes, *_limits(plan, bool(served))))


def read(text: str) -> list[dict[str, Any]]:
    """The rules that a config follows.

    Raises:
        UnusableInputError: it chooses by something that is in no log.
    """
    content = read_json(text, "the config")
    strategy = content["strategy"]
    if strategy.get("mode") != "conditional":
        return [{"id": "r1", "when": {}, **_route_of(content)}]
    targets = {str(target.get("name")): target for target in content["targets"]}
    rules: list[dict[str, Any]] = []
    for condition in strategy.get("conditions", []):
        _read_condition(condition, targets, rules)
    default = targets.get(str(strategy.get("default")), {})
    if default.get("override_params", {}).get("model") or default.get("targets"):
        rules.append({"id": "default", "when": {}, **_route_of(default)})
    return [{**rule, "priority": place} for place, rule in enumerate(rules, 1)]


# Writing


def _add(rule: Rule, plan: Plan, served: dict[str, Any], conditions: list[dict[str, Any]], targets: list[dict[str, Any]]) -> None:
    query = _query(rule.when)
    if isinstance(rule.route, str):
        conditions.append({"query": query, "then": _DEFAULT})
        return
    if is_drawn(rule, plan):
        _add_drawn(rule, plan, served, conditions, targets)
        return
    arms = [(str(target.model), target.weight * plan.share) for target in rule.route]
    chosen = _target(arms[0][0], served) if len(arms) == 1 and plan.share == 1 else _balanced(arms, served, plan.share)
    targets.append({"name": OURS + rule.id, **_with_fallbacks(chosen, rule, served)})
    conditions.append({"query": query, "then": OURS + rule.id})


def _add_drawn(rule: Rule, plan: Plan, served: dict[str, Any], conditions: list[dict[str, Any]], targets: list[dict[str, Any]]) -> None:
    """One condition an arm, by what the session drew; who drew nothing, or is not in the share, keeps the gateway's choice."""
    query = _query(rule.when)
    shared = [{f"metadata.{SHARE}": {"$lt": share_of(plan)}}] if plan.share < 1 else []
    for place, (model, low, high) in enumerate(arms_of(rule), 1):
        name = f"{OURS}{rule.id}/{place}"
        drawn = [{f"metadata.{DRAW}": {"$gte": low}}, {f"metadata.{DRAW}": {"$lt": high}}] if is_split(rule) else []
        conditions.append({"query": {"$and": [*query.get("$and", [query]), *shared, *drawn]}, "then": name})
        targets.append({"name": name, **_with_fallbacks(_target(model, served), rule, served)})
    conditions.append({"query": query, "then": _DEFAULT})


def _query(when: When) -> dict[str, Any]:
    """Conditions on labels that the client sends as metadata."""
    parts: list[dict[str, Any]] = []
    for name in ("task_type", "team", "tier"):
        values = getattr(when, name)
        if values is not None:
            parts.append({f"metadata.{name}": {"$in": list(values)}})
    for name in ("complexity", "prompt_tokens"):
        between = getattr(when, name)
        if between is not None:
            ends = [("$gte", between.gte), ("$lt", between.lt)]
            parts += [{f"metadata.{name}": {operator: plain_end(end)}} for operator, end in ends if end is not None]
            if between.gte is None and between.lt is None:
                # Not that it is other than "": what is missing is so as well, and would meet the rule.
                parts.append({f"metadata.{name}": {"$gte": BELOW_ALL}})
    for name in NEEDS:
        asked = getattr(when, name)
        if asked is not None:
            parts.append({f"metadata.{name}": {"$eq": "true" if asked else "false"}})
    if not parts:
        return copy.deepcopy(ALWAYS)
    return {"$and": parts}


def _balanced(arms: list[tuple[str, float]], served: dict[str, Any], share: float) -> dict[str, Any]:
    targets = [{**_target(model, served), "weight": plain_number(weight)} for model, weight in arms]
    if share < 1:
        targets.append({**_passed(served), "weight": plain_number(1 - share)})
    return {"strategy": {"mode": "loadbalance"}, "targets": targets}


def _with_fallbacks(chosen: dict[str, Any], rule: Rule, served: dict[str, Any]) -> dict[str, Any]:
    if not rule.fallbacks:
        return chosen
    others = [_target(str(model), served) for model in rule.fallbacks]
    return {"strategy": {"mode": "fallback", "on_status_codes": RETRIED}, "targets": [chosen, *others]}


def _target(model: str, served: dict[str, Any]) -> dict[str, Any]:
    if model in served:
        return copy.deepcopy(served[model])
    return {"provider": provider_of(model), "override_params": {"model": bare(model)}}


def _passed(served: dict[str, Any]) -> dict[str, Any]:
    """A target that keeps the model that was asked for."""
    like = next(iter(served.values()), {"provider": "openai"})
    return {name: copy.deepcopy(value) for name, value in like.items() if name not in {"override_params", "weight", "name"}}


def _served(content: dict[str, Any]) -> dict[str, Any]:
    """Targets of a config by the model that they call."""
    found: dict[str, Any] = {}
    for target in content.get("targets", []):
        if isinstance(target, dict):
            model = (target.get("override_params") or {}).get("model")
            if model and "targets" not in target:
                found.setdefault(str(model), {name: value for name, value in target.items() if name not in {"weight", "name"}})
            for inner, value in _served(target).items():
                found.setdefault(inner, value)
    return found


def _default_target(content: dict[str, Any], default_model: str | None) -> dict[str, Any]:
    """What serves requests that no rule decides: what does today, else what was named, else the model that was asked for."""
    served = _served(content)
    if any(_is_others(each) for each in (content.get("strategy") or {}).get("conditions") or []):
        raise UnusableInputError(
            "--current: it has conditions of its own, which the rules would replace; judge them with simulate --rules, and give a config without them"
        )
    if default_model is not None:
        return _target(default_model, served)
    if not content:
        return {"provider": "openai"}
    strategy = content.get("strategy") or {}
    targets = content.get("targets") or []
    if strategy.get("mode") != "conditional":
        whole: dict[str, Any] = {name: content[name] for name in ("strategy", "targets") if name in content}
        return copy.deepcopy(whole) if whole else {"provider": "openai"}
    named = next((target for target in targets if target.get("name") == strategy.get("default")), None)
    if named is None:
        raise UnusableInputError("--current: its conditions have no default target; name the model with --default-model")
    return copy.deepcopy(named)


def _is_others(condition: Any) -> bool:
    """Whether a condition is of somebody else: what it decides today would be lost."""
    then = str(condition.get("then"))
    return not then.startswith(OURS) and then != _DEFAULT


def _limits(plan: Plan, has_targets: bool) -> Iterator[str]:
    yield "Requests say task_type, complexity, prompt_tokens, team and what they need as metadata; one that does not say it meets no rule that asks."
    if not has_targets:
        yield "Add the key (`api_key`, `virtual_key`) of each target, and the provider of the last one, `unchanged`."
    if any(is_drawn(rule, plan) for rule in plan.rules):
        yield f"Sessions are drawn by metadata.{SHARE} and metadata.{DRAW}, 0 to 99, which the client derives from its session (docs/gateways.md)."
    if any(rule.per == "request" and not isinstance(rule.route, str) and (len(rule.route) > 1 or plan.share < 1) for rule in plan.rules):
        yield "Portkey draws weights anew for each request: a session may change its model."
    if any(rule.per == "session" for rule in plan.rules):
        yield "A client sends what its session began with as metadata of all its requests, so that a rule per session holds for all of it."


# Reading


def _read_condition(condition: Any, targets: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    then = str(condition.get("then"))
    if then not in targets:
        raise UnusableInputError(f"the config: a condition goes to {then[:60]}, which is no target")
    when = _when_of(condition.get("query", {}))
    shared, drawn = when.pop(SHARE, None), when.pop(DRAW, None)
    named = then.removeprefix(OURS)
    rule_id = named.rpartition("/")[0] or named
    last = rules[-1] if rules else {}
    if shared is not None or drawn is not None:
        told = _route_of(targets[then])
        if (last.get("id"), last.get("when")) != (rule_id, when):
            rules.append({"id": rule_id, "per": "session", "when": when, "route": [], "fallbacks": told["fallbacks"]})
        low, high = (0, OF) if drawn is None else (drawn.get("gte", 0), drawn.get("lt", OF))
        rules[-1]["route"].append({"model": told["route"][0]["model"], "weight": round((high - low) / OF, 12)})
    elif then == _DEFAULT and last.get("when") == when and last.get("per") == "session" and last["route"] != UNCHANGED:
        # Who drew nothing; the rule has been read.
        return
    else:
        told = {"route": UNCHANGED, "fallbacks": []} if then == _DEFAULT else _route_of(targets[then])
        rules.append({"id": named if then != _DEFAULT else f"r{len(rules) + 1}", "per": "request", "when": when, **told})


def _route_of(target: Any) -> dict[str, Any]:
    """Weighted models and fallbacks of a target."""
    mode = (target.get("strategy") or {}).get("mode", "single")
    inner = target.get("targets") or []
    if mode == "fallback" and inner:
        first = _route_of(inner[0])
        return {"route": first["route"], "fallbacks": [*first["fallbacks"], *(_model_of(each) for each in inner[1:])]}
    if mode == "loadbalance" and inner:
        return {"route": route_of(((_model_of(each), each.get("weight", 1)) for each in inner), "the config"), "fallbacks": []}
    if mode == "single" and len(inner) == 1:
        return _route_of(inner[0])
    return {"route": [{"model": _model_of(target), "weight": 1.0}], "fallbacks": []}


def _model_of(target: Any) -> str:
    if target.get("targets"):
        mode = (target.get("strategy") or {}).get("mode")
        raise UnusableInputError(
            f"the config: a target within another chooses again ({shown(mode)}); a rule has weighted models and then fallbacks, one after another"
        )
    model = (target.get("override_params") or {}).get("model")
    if not model:
        raise UnusableInputError(
            f"the config: one target keeps the client's model for a share of a rule ({CONTROL}); give the rules that it was exported from"
        )
    return str(model)


def _when_of(query: Any) -> dict[str, Any]:
    """Conditions as rules have them.

    Raises:
        UnusableInputError: it asks for something else.
    """
    when: dict[str, Any] = {}
    for key, asked in _parts(query):
        name = key.removeprefix("metadata.")
        if not key.startswith("metadata.") or name not in (*When.model_fields, SHARE, DRAW):
            raise UnusableInputError(f"the config: a condition on {key[:60]} cannot be evaluated; the logs hold no such field of a request")
        for operator, value in (asked if isinstance(asked, dict) else {"$eq": asked}).items():
            part: dict[str, Any] = {}
            _take(part, name, operator, value)
            _join(when, name, part[name])
    return when


def _parts(query: Any) -> Iterator[tuple[str, Any]]:
    """Everything that has to hold: fields beside each other, and those of `$and`; what always holds asks for nothing."""
    for key, asked in query.items():
        if key == "$and":
            for each in asked:
                yield from _parts(each)
        elif {key: asked} != ALWAYS:
            yield key, asked


def _join(when: dict[str, Any], name: str, asked: Any) -> None:
    """Add a condition to those that there are.

    Raises:
        UnusableInputError: the same is asked for twice, of which a rule can say one.
    """
    known = when.setdefault(name, {}) if isinstance(asked, dict) else None
    if (known is None and name in when) or (known is not None and known.keys() & asked.keys()):
        raise UnusableInputError(f"the config: a query has two conditions on {name} of one kind; rules have one, so join them")
    if known is None:
        when[name] = asked
    else:
        known.update(asked)


def _take(when: dict[str, Any], name: str, operator: str, value: Any) -> None:
    if name in ("task_type", "team", "tier") and operator in ("$eq", "$in"):
        when[name] = [str(each) for each in value] if operator == "$in" else [str(value)]
    elif name in NEEDS and operator == "$eq":
        when[name] = needed(name, [str(value)], "the config")
    elif name in ("complexity", "prompt_tokens") and (operator, value) == ("$gte", BELOW_ALL):
        when[name] = {}
    elif name not in (*NEEDS, "task_type", "team", "tier") and operator in ("$gte", "$lt"):
        when.setdefault(name, {})[operator[1:]] = float(value)
    elif name == "prompt_tokens" and operator in ("$lte", "$gt"):
        when.setdefault(name, {})["lt" if operator == "$lte" else "gte"] = float(value) + 1
    else:
        raise UnusableInputError(f"the config: {operator[:20]} on {name} cannot be said as a rule; use $eq, $in, $gte or $lt")
