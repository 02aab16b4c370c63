"""vLLM Semantic Router: decisions over signals, configuration version v0.3.

Belongs here: signals of metadata and of length, decisions, and reading them back. Does not belong here: its own signals (domain, keyword,
embedding, complexity), by which rules do not go; its records (`ingest/formats/vllm_sr`).

Of its schema (0.4.0, held by `vllm-sr config validate`): metadata is compared as text, so that no range of complexity can be said; a length is a
range of whole tokens with both ends in it; a higher number goes first; a decision names models and cannot say "as asked for". Nothing says that
weights of `modelRefs` split traffic, so that arms are told apart by what the client drew (`hundredths`), each with a decision of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.exported import Exported, part_of, read_yaml, yaml_text
from routing_pipeline.gateways.hundredths import DRAW, OF, SHARE, arms_of, is_split, labels, share_of
from routing_pipeline.gateways.planned import Plan, refuse_unknown_models, without_what_cannot_be_said
from routing_pipeline.gateways.providers import bare, provider_of
from routing_pipeline.gateways.read_back import needed
from routing_pipeline.rules.model import NEEDS, Rule
from routing_pipeline.text import name as shown

NAME = "vllm-sr"
OURS = "rules/"
"""How names of signals and decisions begin that an export wrote."""
FIRST_PRIORITY = 10_000
MOST_TOKENS = 10_000_000
_TEXT = ("task_type", "team", "tier")


def recognises(content: Any) -> bool:
    """Whether parsed YAML is a configuration of this router's."""
    return isinstance(content, dict) and str(content.get("version", "")).startswith("v0") and isinstance(content.get("routing"), dict)


def write(plan: Plan, current: str | None, default_model: str | None = None) -> Exported:
    """config.yaml.

    Args:
        plan: what the gateway is to do.
        current: the configuration that runs today, None without one.
        default_model: what serves requests that no rule decides, where the present configuration does not say.

    Raises:
        UnusableInputError: a model is not in the present configuration, or a rule cannot be said and not be left out.
    """
    plan = without_what_cannot_be_said(plan, "the vLLM Semantic Router", _unsayable)
    content = read_yaml(current, "--current") if current is not None else _fresh(plan, default_model)
    if not recognises(content):
        raise UnusableInputError("--current: is no configuration of the vLLM Semantic Router, version v0.3")
    known = [str(model.get("name")) for model in (content.get("providers") or {}).get("models") or []]
    refuse_unknown_models(plan, known, "the present configuration")
    routing = content["routing"]
    signals = part_of(routing, "signals", {})
    for kind in ("metadata", "context"):
        signals[kind] = [signal for signal in signals.get(kind) or [] if not str(signal.get("name")).startswith(OURS)]
    decisions = [each for each in routing.get("decisions") or [] if not str(each.get("name")).startswith(OURS)]
    ours: list[dict[str, Any]] = []
    for rule in plan.rules:
        ours += _decisions(rule, plan, signals)
    highest = max((int(each.get("priority") or 0) for each in decisions), default=0)
    first = max(FIRST_PRIORITY, highest + len(ours))
    routing["decisions"] = [*({**each, "priority": first - place} for place, each in enumerate(ours)), *decisions]
    for kind in ("metadata", "context"):
        if not signals[kind]:
            del signals[kind]
    routing.setdefault("strategy", "priority")
    default = (content["providers"].get("defaults") or {}).get("model")
    if current is None:
        plan = plan.noting("Set the base_url of each model; those that are written are places to fill in.")
    notes = (*plan.notes, f"What no decision takes goes to {shown(default)}.", *_limits(plan))
    return Exported({"config.yaml": yaml_text(content, current or "")}, notes)


def read(text: str) -> list[dict[str, Any]]:
    """The decisions of a configuration.

    Raises:
        UnusableInputError: one goes by a signal that is in no log.
    """
    routing = read_yaml(text, "the configuration")["routing"]
    if routing.get("strategy", "priority") != "priority":
        raise UnusableInputError(
            f"the configuration: decisions are taken by {shown(routing['strategy'])}, not by priority, which no log holds"
        )
    signals = {(kind, str(each["name"])): each for kind, listed in (routing.get("signals") or {}).items() for each in listed}
    rules: list[dict[str, Any]] = []
    for decision in sorted(routing.get("decisions") or [], key=lambda each: -int(each.get("priority") or 0)):
        _read_decision(decision, signals, rules)
    return [{**rule, "priority": place} for place, rule in enumerate(rules, 1)]


# Writing


def _unsayable(rule: Rule) -> str | None:
    """Why a rule cannot be said; None where it can."""
    if isinstance(rule.route, str):
        return "cannot leave the choice to the client"
    if rule.when.complexity is not None:
        return "cannot compare the complexity of a request"
    tokens = rule.when.prompt_tokens
    if tokens is not None and rule.per == "session":
        return "knows the length of a request and not of its session's first"
    if tokens is not None and tokens.lt is not None and tokens.lt <= 0:
        return "has no lengths below 0"
    return None


def _decisions(rule: Rule, plan: Plan, signals: Any) -> list[dict[str, Any]]:
    conditions = [_condition("metadata", signal) for signal in _metadata(rule)]
    if rule.when.prompt_tokens is not None:
        conditions.append(_condition("context", _tokens(rule)))
    if plan.share < 1:
        conditions.append(_condition("metadata", _labelled(f"{OURS}share", SHARE, labels(range(share_of(plan))))))
    arms = [(str(target.model), 0, OF) for target in rule.route if not isinstance(target, str)]
    arms = arms_of(rule) if len(arms) > 1 else arms
    written = []
    for place, (model, low, high) in enumerate(arms, 1):
        asked = list(conditions)
        if len(arms) > 1:
            asked.append(_condition("metadata", _labelled(f"{OURS}{rule.id}/draw-{place}", DRAW, labels(range(low, high)))))
        for kind, signal in asked:
            if signal["name"] not in {each["name"] for each in signals[kind]}:
                signals[kind].append(signal)
        name = f"{OURS}{plan.rule_set_id}/{rule.id}" + (f"/{place}" if len(arms) > 1 else "")
        named = [{"type": kind, "name": signal["name"]} for kind, signal in asked]
        written.append(
            {
                "name": name,
                "description": f"{plan.rule_set_id}/{rule.id}: {model}, per {rule.per}",
                "rules": {"operator": "AND", "conditions": named},
                "modelRefs": [{"model": model, "use_reasoning": False}],
            }
        )
    return written


def _condition(kind: str, signal: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return kind, signal


def _metadata(rule: Rule) -> Iterator[dict[str, Any]]:
    for name in _TEXT:
        values = getattr(rule.when, name)
        if values is not None:
            yield _labelled(f"{OURS}{rule.id}/{name}", name, list(map(str, values)))
    for name in NEEDS:
        asked = getattr(rule.when, name)
        if asked is not None:
            yield _labelled(f"{OURS}{name}-{'yes' if asked else 'no'}", name, ["true" if asked else "false"])


def _labelled(name: str, key: str, values: list[str]) -> dict[str, Any]:
    return {"name": name, "key": key, "predicate": {"equals": values[0]} if len(values) == 1 else {"in": values}}


def _tokens(rule: Rule) -> dict[str, Any]:
    """Whole tokens from the lower end up to the last one below the upper."""
    between = rule.when.prompt_tokens
    low = 0 if between is None or between.gte is None else max(0, math.ceil(between.gte))
    high = MOST_TOKENS if between is None or between.lt is None else math.ceil(between.lt) - 1
    return {"name": f"{OURS}{rule.id}/prompt_tokens", "min_tokens": str(low), "max_tokens": str(high)}


def _fresh(plan: Plan, default_model: str | None) -> dict[str, Any]:
    models = list(dict.fromkeys([*plan.models(), *filter(None, [default_model])]))
    default = default_model or next((str(each) for rule in plan.rules for each in rule.fallbacks), models[0])
    return {
        "version": "v0.3",
        "listeners": [{"name": "http", "address": "0.0.0.0", "port": 8899, "timeout": "300s"}],  # noqa: S104  the router's own usual
        "providers": {"defaults": {"model": default}, "models": [_provider(model) for model in models]},
        "routing": {"strategy": "priority", "modelCards": [{"name": model} for model in models], "signals": {}, "decisions": []},
    }


def _provider(model: str) -> dict[str, Any]:
    provider = provider_of(model)
    # Whoever serves it, it is called by the protocol that all of them speak.
    ref = {"name": provider, "base_url": f"https://{provider}.example/v1", "provider": "openai", "weight": 1}
    return {"name": model, "provider_model_id": bare(model), "api_format": "openai", "backend_refs": [ref]}


def _limits(plan: Plan) -> Iterator[str]:
    yield "Requests say task_type, team, tier and what they need as metadata; one that does not say it meets no decision that asks."
    if any(rule.fallbacks for rule in plan.rules):
        yield "Fallbacks of rules are not written: a decision has one model, and a call that fails fails."
    if plan.share < 1 or any(is_split(rule) for rule in plan.rules):
        yield f"Sessions are drawn by the metadata {SHARE} and {DRAW}, 00 to 99, which the client derives from its session (docs/gateways.md)."


# Reading


def _read_decision(decision: Any, signals: dict[tuple[str, str], Any], rules: list[dict[str, Any]]) -> None:
    name = str(decision.get("name"))
    asked = decision.get("rules") or {}
    if asked.get("conditions") and str(asked.get("operator", "AND")).upper() != "AND":
        raise UnusableInputError(
            f"the configuration: decision {name[:60]} joins its conditions by {str(asked['operator'])[:20]}; rules need all of theirs"
        )
    when: dict[str, Any] = {}
    drawn: list[str] | None = None
    for condition in asked.get("conditions") or []:
        kind = str(condition.get("type"))
        signal = signals.get((kind, str(condition.get("name"))))
        key = None if signal is None else signal.get("key", "prompt_tokens" if kind == "context" else None)
        if signal is None or key not in (*_TEXT, *NEEDS, "prompt_tokens", SHARE, DRAW):
            raise UnusableInputError(f"the configuration: decision {name[:60]} goes by {kind[:20]}, which the logs do not hold as a field")
        if key == DRAW:
            drawn = _values(signal)
        elif key != SHARE:
            if key in when:
                raise UnusableInputError(
                    f"the configuration: decision {name[:60]} has two conditions on {key}; rules have one, so join them"
                )
            when[str(key)] = _asked(str(key), signal)
    models = decision.get("modelRefs") or []
    if len(models) != 1:
        what = "no model" if not models else f"{len(models)} models, and nothing says how it chooses among them"
        raise UnusableInputError(f"the configuration: decision {name[:60]} names {what}")
    parts = name.removeprefix(OURS).split("/") if name.startswith(OURS) else []
    rule_id = parts[1] if len(parts) > 1 else name[:40]
    per = "session" if str(decision.get("description", "")).endswith("per session") else "request"
    weight = 1.0 if drawn is None else round(len(drawn) / OF, 12)
    last = rules[-1] if rules else {}
    if drawn is not None and (last.get("id"), last.get("when")) == (rule_id, when):
        last["route"].append({"model": str(models[0]["model"]), "weight": weight})
        return
    rules.append(
        {"id": rule_id, "per": per, "when": when, "route": [{"model": str(models[0]["model"]), "weight": weight}], "fallbacks": []}
    )


def _values(signal: Any) -> list[str]:
    predicate = signal.get("predicate") or {}
    if predicate.keys() not in ({"equals"}, {"in"}):
        raise UnusableInputError(
            f"the configuration: signal {str(signal['name'])[:60]} asks for {', '.join(map(str, predicate)) or 'nothing'}; rules say equals or in"
        )
    return [str(predicate["equals"])] if "equals" in predicate else [str(each) for each in predicate["in"]]


def _asked(key: str, signal: Any) -> Any:
    if key == "prompt_tokens":
        ends = [str(signal.get(name) or usual) for name, usual in (("min_tokens", 0), ("max_tokens", MOST_TOKENS))]
        if not all(end.isdecimal() for end in ends):
            raise UnusableInputError(
                f"the configuration: signal {str(signal['name'])[:60]} is from {ends[0]} to {ends[1]}; write tokens as digits"
            )
        low, high = map(float, ends)
        return ({"gte": low} if low > 0 else {}) | ({"lt": high + 1} if high < MOST_TOKENS else {})
    values = _values(signal)
    return needed(key, values, "the configuration") if key in NEEDS else values
