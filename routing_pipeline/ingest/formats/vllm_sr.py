"""Router Replay records of the vLLM Semantic Router: its interface's answers (a page under `data`, or one record), what its stores hold.

Written after the router's struct `routerreplay/store.Record` and what fills it, of the versions from 0.3 to autumn 2026.

Traps: a record is written when the model was chosen and completed later, so that one in progress is no attempt yet; `false`, 0 and empty
texts are left out by Go, and 0 as a status means that none came; `timestamp` is when the model was chosen, after the router's own work, so
`duration_ms` holds none of that, and the time to the first token is nowhere; a response is complete only by `lifecycle_state`, because a
client may go away after the header with its 200, and older versions have no such state; `cached_prompt_tokens` and `cache_write_tokens` are
0 for providers that report none; a cost comes with its currency; a looper asks several models for one answer, and its tokens are the sum
over all of them, which no one model's price is for, while each attempt has its cost; `confidence_score` was a constant before there was
`confidence_score_available`; `category` is what the domain classifier says, `original_model` what the client wrote, often the router's name.

Bodies, prompts, answers and the steps of tools are never read; of tools only whether there are any, which the list of records leaves out.
Whom the request was for, who served it and what it asks for in images, audio or format is not in a record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from routing_pipeline.ingest.formats.column_map import column_map, elapsed_ms, if_priced, status_of, time_of
from routing_pipeline.ingest.formats.tokens import number, wholes
from routing_pipeline.ingest.formats.vllm_sr_draws import number_of, object_of, propensity, word_of

_TAKEN = (
    *("id", "timestamp", "request_id", "session_id", "conversation_id", "decision", "decision_tier", "category", "reasoning_mode"),
    *("original_model", "selected_model", "response_status", "lifecycle_state", "ended_at", "duration_ms", "terminal_reason"),
    *("from_cache", "prompt_tokens", "cached_prompt_tokens", "cache_write_tokens", "completion_tokens", "total_tokens"),
    *("actual_cost", "currency", "confidence_score", "confidence_score_available"),
)
"""Fields that are read as they stand."""
_TOLD = ("domain", "complexity", "selection_method", "reason", "has_tools", "is_moved", "is_looped", "propensity")
"""What is told from a record's other fields."""
_LOOKED_INTO = ("selection_method", "signals", "route_diagnostics", "learning", "tool_trace", "tool_definitions")
_LEVELS = {"easy": "low", "medium": "medium", "hard": "high"}


def records(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The record, flat and without anything that was said."""
    signals, route = object_of(document.get("signals")), object_of(document.get("route_diagnostics"))
    learning = object_of(document.get("learning"))
    adaptation, protection = object_of(learning.get("adaptation")), object_of(learning.get("protection"))
    chance = propensity(document)
    record = {name: document[name] for name in _TAKEN if document.get(name) is not None}
    domains = _texts(signals.get("domain"))
    told = {
        "domain": domains[0] if len(domains) == 1 else None,
        "complexity": _level(_texts(signals.get("complexity"))),
        "selection_method": word_of(document.get("selection_method")) or word_of(route.get("selection_method")),
        "reason": word_of(protection.get("reason")) or word_of(adaptation.get("reason")),
        "has_tools": "true" if _names_tools(document) else None,
        "is_moved": "true" if _is_moved(document.get("selected_model"), adaptation, protection) else None,
        "propensity": None if chance is None else repr(chance),
    }
    attempts = object_of(route.get("looper")).get("attempts")
    if isinstance(attempts, list) and len(attempts) > 1:
        told["is_looped"] = "true"
        record.pop("actual_cost", None)
        record |= _cost_of_attempts(object_of(route.get("looper")), attempts)
    yield record | {name: each for name, each in told.items() if each}


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str) and each] if isinstance(value, list) else []


def _level(matched: list[str]) -> str | None:
    """The hardest of what the rules of complexity found, as `rule:hard`."""
    found = {_LEVELS[level] for each in matched if (level := each.rpartition(":")[2].lower()) in _LEVELS}
    return next((level for level in reversed(_LEVELS.values()) if level in found), None)


def _names_tools(document: Mapping[str, Any]) -> bool:
    given = document.get("tool_definitions")
    offered = given.strip() not in {"", "[]", "null"} if isinstance(given, str) else bool(given)
    return offered or bool(object_of(document.get("tool_trace")).get("tool_names"))


def _is_moved(model: Any, *learned: Mapping[str, Any]) -> bool:
    """Whether what the router learned put another model in the place of the one that its selector chose."""
    return any(each.get("base_model") not in (None, "", model) for each in learned if each.get("mode") == "apply")


def _cost_of_attempts(looper: Mapping[str, Any], attempts: list[Any]) -> dict[str, Any]:
    """What all attempts of a looper cost together; nothing where one is missing, or not in US dollars."""
    costs = [number_of(each.get("actual_cost")) for each in map(object_of, attempts) if each.get("currency") == "USD"]
    known = [each for each in costs if each is not None and each >= 0]
    if looper.get("attempts_truncated") or len(known) < len(attempts):
        return {}
    return {"actual_cost": math.fsum(known), "currency": "USD"}


_STARTED, _ENDED = time_of('"timestamp"', "timestamp"), time_of('"ended_at"', "ended_at")


def _unless_zero(name: str) -> str:
    """A field, unless it is 0 or empty, by which the router says that nothing came."""
    return f"CASE WHEN TRY_CAST({name} AS DOUBLE) IS DISTINCT FROM 0 THEN nullif({name}, '') END"


_CODE = f"({_unless_zero('response_status')})"
_STATE = "coalesce(nullif(lifecycle_state, ''), 'unknown')"
_IS_HIT = "coalesce(TRY_CAST(from_cache AS BOOLEAN), false)"
_IS_LOOPED = "coalesce(TRY_CAST(is_looped AS BOOLEAN), false)"
_IS_MOVED = "coalesce(TRY_CAST(is_moved AS BOOLEAN), false)"
_STATUS = f"""CASE WHEN {_STATE} = 'aborted' THEN CASE WHEN contains(terminal_reason, 'deadline') THEN 'failure' ELSE 'cancelled' END
    WHEN {_STATE} = 'failed' THEN CASE WHEN {_CODE} = '499' THEN 'cancelled' ELSE 'failure' END
    WHEN {_STATE} = 'completed' THEN coalesce({status_of(_CODE)}, 'success')
    WHEN {_STATE} = 'unknown' THEN {status_of(_CODE)} END"""
# An answer out of the router's own cache may come before a model was chosen.
_MODEL = f"coalesce(nullif(selected_model, ''), CASE WHEN {_IS_HIT} THEN nullif(original_model, '') END)"
_OURS = "^rules/([^/]+/[^/]+)"
"""How decisions are called that an export of ours wrote: `rules/<rule set>/<rule>`, and the place of the arm behind it where there are several."""
_IS_OURS = f"coalesce(regexp_matches(decision, '{_OURS}'), false)"
_IS_USD = "coalesce(nullif(upper(currency), ''), 'USD') = 'USD'"
_PROMPT, _COMPLETION = wholes(
    sent=number("prompt_tokens"),
    received=number("completion_tokens"),
    total=number("total_tokens"),
    of_sent=[number("cached_prompt_tokens"), number("cache_write_tokens")],
)


def _of_one_model(expression: str) -> str:
    return f"CASE WHEN NOT {_IS_LOOPED} THEN {expression} END"


_COLUMNS = column_map(
    "vllm_sr",
    structure=dict.fromkeys((*_TAKEN, *_TOLD), "VARCHAR"),
    keys=tuple(frozenset({"id", "timestamp", "signals", name}) for name in ("selected_model", "lifecycle_state", "decision_priority")),
    records=records,
    ignores=f"({_STATE} = 'in_progress' OR ({_STATE} = 'unknown' AND {_CODE} IS NULL) OR {_MODEL} IS NULL)",
    left_out="requests that had not ended or reached no model",
    started=_STARTED,
    given={
        "attempt_id": "id",
        "request_id": "request_id",
        "session_id": "coalesce(nullif(session_id, ''), conversation_id)",
        "latency_ms": f"""coalesce({_unless_zero("duration_ms")},
            CASE WHEN ended_at <> '' THEN greatest({elapsed_ms(_STARTED, _ENDED)}, 0)::VARCHAR END)""",
        "model": _MODEL,
        "provider_model": _MODEL,
        "task_type": "coalesce(nullif(category, ''), domain)",
        "complexity": "complexity",
        "prompt_tokens": _of_one_model(f"coalesce(({_PROMPT})::VARCHAR, prompt_tokens)"),
        "completion_tokens": _of_one_model(f"coalesce(({_COMPLETION})::VARCHAR, completion_tokens)"),
        "cached_tokens": _of_one_model(_unless_zero("cached_prompt_tokens")),
        "cache_write_tokens": _of_one_model(_unless_zero("cache_write_tokens")),
        "cost_usd": if_priced(
            f"(CASE WHEN {_IS_USD} THEN actual_cost END)",
            tokens="coalesce(TRY_CAST(total_tokens AS DOUBLE), TRY_CAST(prompt_tokens AS DOUBLE), 0)",
            is_hit=_IS_HIT,
        ),
        "status": _STATUS,
        "error_type": f"""CASE WHEN {_STATUS} = 'success' THEN NULL WHEN TRY_CAST({_CODE} AS INTEGER) >= 400 THEN {_CODE}
            ELSE coalesce(nullif(terminal_reason, ''), {_CODE}) END""",
        # The router writes it only where it is so.
        "is_cache_hit": _IS_HIT,
        "has_tools": "has_tools",
        # Some versions write the effort, others whether there is any.
        "reasoning_effort": "CASE WHEN lower(reasoning_mode) NOT IN ('on', 'off') THEN lower(reasoning_mode) END",
        "routing_rule_id": f"CASE WHEN {_IS_OURS} THEN regexp_extract(decision, '{_OURS}', 1) ELSE decision END",
        # A decision of ours names one model; where learning replaced it, the arm is not what served.
        "rule_arm": f"CASE WHEN {_IS_OURS} AND NOT {_IS_MOVED} THEN selected_model END",
        "routing_reason": "nullif(concat_ws(': ', nullif(selection_method, ''), nullif(reason, '')), '')",
        "router_tier": f"CASE WHEN NOT {_IS_OURS} THEN {_unless_zero('decision_tier')} END",
        "router_score": f"CASE WHEN NOT {_IS_OURS} AND TRY_CAST(confidence_score_available AS BOOLEAN) THEN confidence_score END",
        "propensity": "propensity",
    },
    called={
        "attempt_id": "id",
        "latency_ms": "duration_ms (or ended_at less timestamp)",
        "cost_usd": "actual_cost",
        "status": "neither lifecycle_state nor response_status says how it ended",
        "model": ": selected_model is empty",
    },
)
VLLM_SR = replace(_COLUMNS, table_columns=frozenset({*_TAKEN, *_LOOKED_INTO}))
