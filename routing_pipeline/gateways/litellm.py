"""LiteLLM: a complexity router whose tiers are chosen by our classifier, and the rules that it reads.

Belongs here: the router's entry, groups of models with a rule's fallbacks, what of a present configuration may stay. Does not belong here:
the classifier itself (`litellm_classifier`, which the gateway loads), how YAML keeps its comments (`exported`).

A tier is one arm of one rule: `<rule set id>/<rule id>/<model>`, so that the gateway's own `routing_decision.tier` names all three in every
log. Arms are drawn by the classifier, by a hash of the session: no process, restart or cooldown can change a session's arm.
Found by running it: a fallback to a group that is not there is accepted silently; a classifier that declines costs a warning a request, so
that it names a tier of its own for what no rule decides; tags would filter inside the groups as well, so that none are used; `weight` is
followed only by the default strategy; a router behind a router is not called. More than 8 tiers, or longer names than 64 characters, need
a version that takes tiers without definitions (1.110 does).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.exported import (
    Exported,
    json_text,
    part_of,
    plain_copy,
    plain_number,
    put_comments_behind,
    read_json,
    read_yaml,
    yaml_text,
)
from routing_pipeline.gateways.planned import Plan, refuse_unknown_models
from routing_pipeline.gateways.providers import environment_key, provider_of
from routing_pipeline.rules.deciding import CONTROL, UNCHANGED, arms_of, propensity_of
from routing_pipeline.rules.model import Rule, When
from routing_pipeline.text import name as shown

NAME = "litellm"
RULES_FILE = "routing_rules.json"
CLASSIFIER = "routing_rules_classifier"
CLASSIFIER_FILE = f"{CLASSIFIER}.py"
PLUGIN = f"{CLASSIFIER}.classifier"
COMPLEXITY_ROUTER = "auto_router/complexity_router"
ROUTER = "smart-router"
GROUP = "rules/"
"""How names of groups begin that are ours."""
BUILT_IN = ("SIMPLE", "MEDIUM", "COMPLEX", "REASONING")
MOST_DEFINED = 8
LONGEST_DEFINED = 64
DECIDES_ITSELF = {
    "route_housekeeping_to_cheapest_tier": False,
    "escalation_keywords": [],
    "max_tokens_from_tier_model": False,
}
"""What else would change a decision after the classifier's, switched off."""
OF_OTHER_TIERS = (
    *(
        "tier_definitions",
        "fallback_tier",
        "tier_labels",
        "tier_boundaries",
        "token_thresholds",
        "keyword_tier_rules",
        "plan_mode_min_tier",
    ),
    *("adaptive", "adaptive_weights", "adaptive_eligible", "session_affinity", "modality_routing", "heuristic_first_max_tier"),
    *("classifier_llm_config", "tier_model_configs", "classification_mode"),
)
"""Settings that speak of tiers which are no more, or pin a session past the classifier."""


def recognises(content: Any) -> bool:
    """Whether parsed YAML is a configuration of LiteLLM's."""
    return isinstance(content, dict) and isinstance(content.get("model_list"), list)


def write(plan: Plan, current: str | None, default_model: str | None = None) -> Exported:
    """config.yaml, the rules and the classifier.

    Args:
        plan: what the gateway is to do.
        current: the configuration that runs today, None without one.
        default_model: what serves requests that no rule decides, where the present configuration does not say.

    Raises:
        UnusableInputError: a model is not in the present configuration, or what chooses there today could not go on.
    """
    content = read_yaml(current, "--current") if current is not None else {}
    if current is not None and not recognises(content):
        raise UnusableInputError("--current: is no configuration of LiteLLM; it has no model_list")
    listed = content.setdefault("model_list", [])
    if current is not None:
        put_comments_behind(listed)
    _forget_ours(content, listed)
    if current is None:
        listed.extend(_deployment(model) for model in dict.fromkeys([*plan.models(), *filter(None, [default_model])]))
    else:
        refuse_unknown_models(plan, _Known(_names(content)), "the present configuration")
    router = _router(listed, plan)
    params = router["litellm_params"]
    settings = part_of(params, "complexity_router_config", {})
    kept = _kept_tiers(plan, settings)
    default: str | None = None
    if kept is None:
        default = str(default_model or params.get("complexity_router_default_model") or _safest(plan))
        if default not in _Known(_names(content)):
            raise UnusableInputError(f"--default-model {shown(default)}: the present configuration has no such model")
        tiers = _tiers(plan, default)
        groups = _groups(plan, content, listed)
        _use_tiers(settings, {tier: groups.get(tier, model) for tier, model in tiers.items()})
        params["complexity_router_default_model"] = default
        plan = plan.noting(f"Clients call the model {router['model_name']}; what no rule decides goes to {default}.")
    else:
        settings.update({"classifier_type": "custom", "classifier_plugin": PLUGIN, "classifier_fallback": "heuristic"})
        plan = plan.noting(*_notes_of_kept(plan, settings))
    settings.update(
        {name: value for name, value in DECIDES_ITSELF.items() if kept is None or name == "route_housekeeping_to_cheapest_tier"}
    )
    rules = _rules_file(plan, kept, default)
    files = {"config.yaml": yaml_text(content, current or ""), RULES_FILE: json_text(rules), CLASSIFIER_FILE: _classifier_source()}
    return Exported(files, (*plan.notes, *_limits(plan)))


def withdrawn(files: Mapping[str, str]) -> dict[str, str]:
    """What lies beside the configuration when none of our rules is followed: a gateway that has loaded it reads rules that decide nothing.

    It reads its configuration when it starts, and its rules whenever they change.
    """
    rules = read_json(files[RULES_FILE], RULES_FILE)
    return {RULES_FILE: json_text({**rules, "rules": []}), CLASSIFIER_FILE: files[CLASSIFIER_FILE]}


def read(text: str, folder: Path) -> list[dict[str, Any]]:
    """The rules that a configuration of ours follows, as somebody would hand them over.

    Raises:
        UnusableInputError: what chooses there cannot be said as rules about fields of the log, or its rules are not beside it.
    """
    content = read_yaml(text, "the configuration")
    routers = [entry for entry in content["model_list"] if _is_router(entry)]
    ours = next((entry for entry in routers if _settings(entry).get("classifier_plugin") == PLUGIN), None)
    if ours is None:
        how = [f"{shown(entry.get('model_name'))} by {shown(_settings(entry).get('classifier_type', 'heuristic'))}" for entry in routers]
        chooses = "it has no router: each client names its model" if not how else f"{', '.join(how)} scores the text, which is in no log"
        raise UnusableInputError(f"this LiteLLM configuration cannot be read as rules: {chooses}; the report measures what it did")
    path = folder / RULES_FILE
    try:
        rules = read_json(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UnusableInputError(f"{path}: {error.strerror}; the configuration reads its rules from there") from error
    return [{name: value for name, value in rule.items() if name not in {"tiers", "propensities"}} for rule in rules["rules"]]


def tiers_of(content: Any) -> dict[str, list[str]]:
    """Models of each of the built-in tiers that routers of a configuration have today."""
    found: dict[str, list[str]] = {}
    for entry in content["model_list"]:
        if _is_router(entry):
            for tier, pool in (_settings(entry).get("tiers") or {}).items():
                if tier in BUILT_IN:
                    found.setdefault(str(tier), []).extend(_pool(pool))
    return found


def models_of(content: Any) -> list[str]:
    """Models that a configuration serves by name."""
    return [name for name in dict.fromkeys(_names(content)) if "*" not in name and not name.startswith(GROUP)]


# What of the present configuration stays


def _forget_ours(content: Any, listed: list[Any]) -> None:
    """Groups and fallbacks that an earlier export wrote."""
    for place in reversed(range(len(listed))):
        if str(listed[place].get("model_name", "")).startswith(GROUP):
            del listed[place]
    for fallbacks in _fallback_lists(content):
        for place in reversed(range(len(fallbacks))):
            if any(str(group).startswith(GROUP) for group in fallbacks[place]):
                del fallbacks[place]


def _fallback_lists(content: Any) -> Iterator[Any]:
    for table in ("router_settings", "litellm_settings"):
        if isinstance(content.get(table), dict) and isinstance(content[table].get("fallbacks"), list):
            yield content[table]["fallbacks"]


def _router(listed: list[Any], plan: Plan) -> Any:
    """The complexity router that is ours already, else the only one, else a new one at the end."""
    routers = [entry for entry in listed if _is_router(entry)]
    ours = [entry for entry in routers if _settings(entry).get("classifier_plugin") == PLUGIN]
    if len(ours or routers) > 1:
        names = " and ".join(shown(entry.get("model_name")) for entry in ours or routers)
        raise UnusableInputError(
            f"--current: has several routers ({names}); give a file with the one that is to follow rule set {plan.rule_set_id}"
        )
    if ours or routers:
        return (ours or routers)[0]
    taken = {str(entry.get("model_name")) for entry in listed}
    name = next(each for each in (ROUTER, f"{ROUTER}-rules", *(f"{ROUTER}-{n}" for n in range(2, 99))) if each not in taken)
    listed.append({"model_name": name, "litellm_params": {"model": COMPLEXITY_ROUTER}})
    return listed[-1]


def _kept_tiers(plan: Plan, settings: Any) -> dict[str, str] | None:
    """Built-in tier of each model, where a heuristic chooses today and must go on for what no rule decides; None where tiers are ours."""
    built_in = {str(tier): pool for tier, pool in (settings.get("tiers") or {}).items() if tier in BUILT_IN}
    if not built_in or (settings.get("classifier_plugin") == PLUGIN and settings.get("classifier_fallback") != "heuristic"):
        return None
    if plan.share == 1 and any(rule.when == When() and rule.route != UNCHANGED for rule in plan.rules):
        return None
    kind = settings.get("classifier_type", "heuristic")
    if kind != "heuristic" and settings.get("classifier_plugin") != PLUGIN:
        raise UnusableInputError(
            f"--current: its router chooses by {shown(kind)} today, and LiteLLM could not go on so for what no rule decides; "
            "add a last rule without conditions, or export without --current"
        )
    alone = {_pool(pool)[0]: tier for tier, pool in reversed(built_in.items()) if len(_pool(pool)) == 1}
    targets = [str(target.model) for rule in plan.rules if not isinstance(rule.route, str) for target in rule.route]
    missing = next((model for model in targets if model not in alone), None)
    if missing is not None:
        raise UnusableInputError(
            f"--current: its router chooses by a heuristic today, which LiteLLM keeps only between its own tiers, and {shown(missing)} is no "
            "tier's only model; make it one, or add a last rule without conditions"
        )
    return alone


def _notes_of_kept(plan: Plan, settings: Any) -> Iterator[str]:
    yield "The router's tiers stay; what no rule decides is left to its heuristic, as today."
    if settings.get("keyword_tier_rules"):
        yield "Its keyword_tier_rules decide before the rules do."
    if any(rule.fallbacks for rule in plan.rules):
        yield "Fallbacks of rules are not written: the tiers' models have fallbacks of their own."


# Tiers and groups


def tier_of(rule_set_id: str, rule_id: str, arm: str) -> str:
    """The tier that stands for one arm of one rule."""
    return f"{rule_set_id}/{rule_id}/{arm}"


def _tiers(plan: Plan, default: str) -> dict[str, str]:
    """Model of each tier."""
    tiers = {UNCHANGED: default}
    for rule in plan.rules:
        for arm in arms_of(rule, plan.share):
            tiers[tier_of(plan.rule_set_id, rule.id, arm)] = default if arm in (UNCHANGED, CONTROL) else arm
    if len({tier.casefold() for tier in tiers}) < len(tiers):
        raise UnusableInputError(
            "two arms differ by capital letters alone, which LiteLLM's tiers cannot tell apart; rename a rule or a model"
        )
    return tiers


def _groups(plan: Plan, content: Any, listed: list[Any]) -> dict[str, str]:
    """Groups of their own for arms whose rule has fallbacks, by tier; other arms go to the model's own group."""
    groups: dict[str, str] = {}
    fallbacks: list[dict[str, list[str]]] = []
    for rule in plan.rules:
        for arm in arms_of(rule, 1.0):
            then = [str(each) for each in rule.fallbacks if each != arm]
            if then and not isinstance(rule.route, str):
                group = f"{GROUP}{rule.id}/{arm}"
                listed.extend({"model_name": group, "litellm_params": params} for params in _params_of(arm, content))
                groups[tier_of(plan.rule_set_id, rule.id, arm)] = group
                fallbacks.append({group: then})
    if fallbacks:
        there = next(_fallback_lists(content), None)
        if there is None:
            there = part_of(part_of(content, "router_settings", {}), "fallbacks", [])
        there.extend(fallbacks)
    return groups


def _params_of(model: str, content: Any) -> list[Any]:
    """Parameters of a model's deployments, as they stand there."""
    aliases = (content.get("router_settings") or {}).get("model_group_alias") or {}
    alias = aliases.get(model, model)
    model = str(alias.get("model", model)) if isinstance(alias, dict) else str(alias)
    entries = content["model_list"]
    found = [plain_copy(entry["litellm_params"]) for entry in entries if entry.get("model_name") == model]
    if not found:
        for entry in entries:
            if "*" in str(entry.get("model_name")) and fnmatchcase(model, str(entry["model_name"])):
                params = plain_copy(entry["litellm_params"])
                params["model"] = model if str(params["model"]) == "*" else str(params["model"]).replace("*", model.rpartition("/")[2])
                found.append(params)
    return found


def _use_tiers(settings: Any, tiers: dict[str, str]) -> None:
    said: dict[str, Any] = {"classifier_type": "custom", "classifier_plugin": PLUGIN}
    if len(tiers) <= MOST_DEFINED and all(len(tier) <= LONGEST_DEFINED for tier in tiers):
        said["tier_definitions"] = [{"name": tier, "description": _described(tier)} for tier in tiers]
        said["fallback_tier"] = UNCHANGED
    else:
        said["classifier_fallback"] = "default_model"
    said["tiers"] = tiers
    for name in (*OF_OTHER_TIERS, "classifier_fallback"):
        if name not in said:
            settings.pop(name, None)
    # What is there already keeps its place.
    settings.update(said)


def _described(tier: str) -> str:
    if tier == UNCHANGED:
        return "No rule decides"
    _, rule_id, arm = tier.split("/", 2)
    return f"Rule {rule_id}: {arm}"


def _safest(plan: Plan) -> str:
    """What serves what no rule decides where nobody says: the first fallback, else the first model that a rule names."""
    return next((str(each) for rule in plan.rules for each in rule.fallbacks), next(iter(plan.models()), ""))


def _deployment(model: str) -> dict[str, Any]:
    provider = provider_of(model)
    called = model if "/" in model else f"{provider}/{model}"
    return {"model_name": model, "litellm_params": {"model": called, "api_key": f"os.environ/{environment_key(provider)}"}}


# The file that the classifier reads


def _rules_file(plan: Plan, kept: dict[str, str] | None, own: str | None) -> dict[str, Any]:
    """What the classifier reads. Where a heuristic goes on choosing, how likely it was to choose a model is not known with a share."""
    rules = []
    for rule in plan.rules:
        arms = arms_of(rule, plan.share)
        tiers = {arm: tier_of(plan.rule_set_id, rule.id, arm) if kept is None else kept.get(arm) for arm in arms}
        is_known = own is not None or (plan.share == 1 and not isinstance(rule.route, str))
        chances = {arm: plain_number(propensity_of(rule, arm, plan.share, own)) for arm in arms} if is_known else {}
        rules.append({**rule_as_given(rule), "tiers": tiers, "propensities": chances})
    return {"rule_set_id": plan.rule_set_id, "share": plain_number(plan.share), "own": UNCHANGED if kept is None else None, "rules": rules}


def rule_as_given(rule: Rule) -> dict[str, Any]:
    """What a rule does, in the fields of rules.json; conditions that are not there are missing."""
    route = rule.route if isinstance(rule.route, str) else [{"model": str(target.model), "weight": target.weight} for target in rule.route]
    when = rule.when.model_dump(mode="json", exclude_none=True)
    return {"id": rule.id, "priority": rule.priority, "per": rule.per, "when": when, "route": route, "fallbacks": list(rule.fallbacks)}


def _classifier_source() -> str:
    return resources.files("routing_pipeline.gateways").joinpath("litellm_classifier.py").read_text(encoding="utf-8")


def _limits(plan: Plan) -> Iterator[str]:
    asked = {name for rule in plan.rules for name in rule.when.model_fields_set if getattr(rule.when, name) is not None}
    if "prompt_tokens" in asked:
        yield "prompt_tokens is estimated at 4 characters a token where the request's metadata does not say it."
    labels = sorted(asked & {"task_type", "complexity", "tier", "has_tools", "has_schema"})
    if labels:
        yield f"Requests say {', '.join(labels)} in their metadata; one that does not say it meets no rule that asks for it."
    if any(rule.per == "session" for rule in plan.rules):
        yield "What a session began with is remembered by each worker for a day: send a session to one worker, or run one."


# Reading entries


def _is_router(entry: Any) -> bool:
    return str((entry.get("litellm_params") or {}).get("model", "")) == COMPLEXITY_ROUTER


def router_settings(content: Any) -> dict[str, Any]:
    """What a configuration's first router goes by, as plain values; empty without one."""
    found: Any = next((_settings(entry) for entry in content.get("model_list") or [] if _is_router(entry)), {})
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _settings(entry: Any) -> Any:
    return (entry.get("litellm_params") or {}).get("complexity_router_config") or {}


def _pool(pool: Any) -> list[str]:
    entries = pool if isinstance(pool, list) else [pool]
    return [str(each.get("model_name") if isinstance(each, dict) else each) for each in entries]


def _names(content: Any) -> list[str]:
    aliases = (content.get("router_settings") or {}).get("model_group_alias") or {}
    return [*(str(entry.get("model_name")) for entry in content["model_list"] if not _is_router(entry)), *map(str, aliases)]


class _Known(list[str]):
    """Names of models, some with a star."""

    def __contains__(self, model: object) -> bool:
        return super().__contains__(model) or any("*" in each and fnmatchcase(str(model), each) for each in self)
