"""Routing rules inside LiteLLM: the classifier that `complexity_router_config.classifier_plugin` names.

This file is loaded by the gateway and needs nothing but Python. It reads routing_rules.json, which lies beside it, and again when that
file changes; a file that cannot be read leaves the rules as they were. No request fails for it: LiteLLM takes its fallback instead.

Belongs here: fields of a request, the rule that holds, the draw of an arm, names for the log. Does not belong here: what is in the
configuration (`litellm`). A rule holds and an arm is drawn as in `routing_pipeline.rules.deciding`; tests hold the two together.
"""

from __future__ import annotations

import collections
import hashlib
import json
import math
import os
import random
import time
from typing import Any

RULES = os.environ.get("ROUTING_RULES") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "routing_rules.json")
LOOKS_AGAIN_AFTER_S = 5.0
MOST_SESSIONS = 100_000
SESSION_LASTS_S = 24 * 3600.0
STEPS = 16**8
CHARACTERS_PER_TOKEN = 4
NAMES = ("task_type", "team", "tier")
NUMBERS = ("complexity", "prompt_tokens")
NEEDS = ("has_image", "has_audio", "has_tools", "has_schema")
LABELS = NAMES + NUMBERS + NEEDS
IMAGES = frozenset(("image_url", "image", "input_image"))
AUDIO = frozenset(("input_audio", "audio", "audio_url"))


class Rules:
    """One version of routing_rules.json, made ready for deciding."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.rule_set_id = content["rule_set_id"]
        self.share = float(content.get("share", 1.0))
        self.share_below = _steps(self.share)
        self.own = content.get("own")
        self.rules: list[dict[str, Any]] = [_ready(rule, self) for rule in sorted(content["rules"], key=lambda rule: rule["priority"])]
        self.has_sessions = any(rule["is_session"] for rule in self.rules)

    def deciding(self, request: dict[str, Any], of_session: dict[str, Any]) -> dict[str, Any] | None:
        """The first rule that holds, or None; `of_session`: the fields that rules per session go by."""
        for rule in self.rules:
            fields = of_session if rule["is_session"] else request
            if all(test(fields.get(name)) for name, test in rule["tests"]):
                return rule
        return None

    def drawn(self, rule: dict[str, Any], unit: str) -> Any:
        """Arm, propensity and tier that a unit (a session, else a request) gets from a rule."""
        if self.share < 1 and _draw(self.rule_set_id + "//" + unit) >= self.share_below:
            return rule["control"]
        arms = rule["arms"]
        if len(arms) == 1:
            return arms[0][1]
        number = _draw(rule["key"] + unit)
        return next(arm for below, arm in arms if number < below)


class Classifier:
    """What LiteLLM asks for the tier of each request."""

    def __init__(self, path: str = RULES, content: dict[str, Any] | None = None) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._look_at = math.inf if content is not None else 0.0
        self._rules: Rules | None = None if content is None else Rules(content)
        self._sessions: collections.OrderedDict[str, tuple[float, dict[str, Any]]] = collections.OrderedDict()

    async def classify(self, context: Any) -> str | None:
        """Name of the tier, or None: no rule holds, and the gateway chooses by itself."""
        metadata = context.metadata or {}
        tier, names = self.decide(fields_of(metadata, context.structured_messages), session_of(metadata))
        requester = metadata.get("requester_metadata")
        if isinstance(requester, dict):
            requester.update(names)
        return tier

    def decide(self, request: dict[str, Any], session: str | None = None) -> tuple[str | None, dict[str, Any]]:
        """Tier and what the log is to hold of the decision, for the fields of a request."""
        rules = self._current()
        of_session = request
        if rules.has_sessions and session is not None:
            of_session = self._first_of(session, request)
        rule = rules.deciding(request, of_session)
        if rule is None:
            return rules.own, {}
        tier, names = rules.drawn(rule, session if session is not None else f"{random.getrandbits(128):032x}")
        return tier, names

    def _first_of(self, session: str, request: dict[str, Any]) -> dict[str, Any]:
        """Fields of the session's first request, as far as this process has seen it."""
        now = time.monotonic()
        kept = self._sessions.get(session)
        if kept is not None and now - kept[0] < SESSION_LASTS_S:
            return kept[1]
        self._sessions[session] = (now, request)
        self._sessions.move_to_end(session)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return request

    def _current(self) -> Rules:
        now = time.monotonic()
        if self._rules is not None and now < self._look_at:
            return self._rules
        self._look_at = now + LOOKS_AGAIN_AFTER_S
        try:
            found = os.stat(self._path)
            if (found.st_mtime_ns, found.st_size) != self._seen:
                with open(self._path, encoding="utf-8") as file:
                    self._rules = Rules(json.load(file))
                self._seen = (found.st_mtime_ns, found.st_size)
        except Exception:
            # Whatever is wrong with it: a file of another shape fails in its own way.
            if self._rules is None:
                raise
        if self._rules is None:
            raise ValueError("no rules")
        return self._rules


def fields_of(metadata: dict[str, Any], messages: Any) -> dict[str, Any]:
    """Fields that rules ask for, as the log will hold them; what is not known is missing.

    Labels come with the request, as `metadata` or as tags such as `task_type:code`; the team is the key's. Without a label the length of a
    prompt is estimated from its characters, images and audio are seen in the messages; tools and structured output are known by label alone.
    """
    said = metadata.get("requester_metadata")
    found: dict[str, Any] = {}
    for given in (metadata.get("spend_logs_metadata"), metadata if said is None else said):
        if isinstance(given, dict):
            found.update((name, given[name]) for name in LABELS if given.get(name) not in (None, ""))
    for name, value in _tagged(metadata.get("tags")):
        found.setdefault(name, value)
    if metadata.get("user_api_key_team_alias"):
        found["team"] = metadata["user_api_key_team_alias"]
    found = {name: _TYPES[name](value) for name, value in found.items()}
    _see(messages or (), found)
    return found


def _tagged(tags: Any) -> Any:
    """Labels among the tags, as in `task_type:code`."""
    for tag in tags or ():
        name, colon, value = tag.partition(":") if isinstance(tag, str) else ("", "", "")
        if colon and value and name in LABELS:
            yield name, value


def session_of(metadata: dict[str, Any]) -> str | None:
    """The client's session, or None."""
    said = metadata.get("requester_metadata")
    for given in (said if isinstance(said, dict) else {}, metadata):
        if given.get("session_id") not in (None, ""):
            return str(given["session_id"])
    return None


def _see(messages: Any, found: dict[str, Any]) -> None:
    """Add what the messages themselves show."""
    characters, kinds = 0, set[Any]()
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            characters += len(content)
        elif isinstance(content, list):
            for part in content:
                if isinstance(part, dict):
                    kinds.add(part.get("type"))
                    characters += len(part.get("text") or "")
        if message.get("tool_calls") or message.get("role") == "tool":
            found.setdefault("has_tools", True)
    if messages:
        found.setdefault("prompt_tokens", -(-characters // CHARACTERS_PER_TOKEN))
        found.setdefault("has_image", not kinds.isdisjoint(IMAGES))
        found.setdefault("has_audio", not kinds.isdisjoint(AUDIO))


def _ready(rule: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """A rule with its conditions as functions and its arms as what `drawn` gives."""
    known, reached = rules.rule_set_id + "/" + rule["id"], 0.0
    arms: list[tuple[int, Any]] = []
    tiers, chances = rule["tiers"], rule.get("propensities") or {}

    def arm(name: str) -> tuple[str | None, dict[str, Any]]:
        logged = known + "/control" if name == "control" else known
        told = {"rule_set_id": rules.rule_set_id, "routing_rule_id": logged, "arm": name, "propensity": chances.get(name)}
        return tiers.get(name), told

    if rule["route"] == "unchanged":
        arms.append((STEPS, arm("unchanged")))
    else:
        for target in rule["route"]:
            reached += target["weight"]
            arms.append((_steps(reached), arm(target["model"])))
        arms[-1] = (STEPS, arms[-1][1])
    return {
        "is_session": rule.get("per") == "session",
        "tests": [(name, _test(name, asked)) for name, asked in rule["when"].items()],
        "key": known + "/",
        "arms": arms,
        "control": arm("control"),
    }


def _test(name: str, asked: Any) -> Any:
    """A condition as a function of one field; false where the field is not known."""
    if name in NEEDS:
        return lambda value: value is asked
    if name in NUMBERS:
        low, high = asked.get("gte"), asked.get("lt")
        low, high = -math.inf if low is None else low, math.inf if high is None else high
        if math.isinf(high):
            return lambda value: value is not None and value >= low
        return lambda value: value is not None and low <= value < high
    if name in NAMES:
        values = frozenset(asked)
        return lambda value: value in values
    raise ValueError("a condition that is not known here: " + name)


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())


_TYPES: dict[str, Any] = {**dict.fromkeys(NAMES, str), **dict.fromkeys(NUMBERS, _number), **dict.fromkeys(NEEDS, _truth)}


def _draw(key: str) -> int:
    return int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()[:8], 16)


def _steps(share: float) -> int:
    return STEPS if share >= 1 else round(share * STEPS)


classifier = Classifier()
