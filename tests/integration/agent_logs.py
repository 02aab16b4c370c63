"""Sessions of made-up agents as gateways log them: LiteLLM's records, and OTLP traces in which only the trace holds a task together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.simulation.session_worlds import Agents, Sessions, calls_of, drawn

US = 1_000_000


def write_agents(folder: Path, world: Agents, n: int, seed: int, *, shape: str = "litellm", with_sessions: bool = True) -> Sessions:
    """`logs` in a folder, and `feedback` beside them; what every session would have given comes back."""
    rng = np.random.default_rng(seed)
    sessions = drawn(world, n, rng)
    calls = calls_of(world, sessions, rng)
    for name in ("logs", "feedback"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    of = _litellm if shape == "litellm" else _traces
    (folder / "logs" / "calls.jsonl").write_text("".join(f"{line}\n" for line in of(world, calls, with_sessions)), encoding="ascii")
    scored = np.flatnonzero(~np.isnan(calls["quality"]))
    keys = {"litellm": lambda at: {"request_id": _id(at)}, "otlp": lambda at: {"attempt_id": f"{_trace(calls, at)}/{at:016x}"}}
    lines = (
        json.dumps(
            keys[shape](int(at))
            | {"name": "quality", "value": float(calls["quality"][at]), "scale_min": 0, "scale_max": 1, "source": "judge"}
            | {"scored_at": f"{float(calls['started_s'][at]) + 60:.6f}"}
        )
        for at in scored
    )
    (folder / "feedback" / "scores.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return sessions


def _id(at: int) -> str:
    return f"call-{at:07d}"


def _trace(calls: dict[str, Any], at: int) -> str:
    return f"{int(calls['session'][at]) + 1:032x}"


def _litellm(world: Agents, calls: dict[str, Any], with_sessions: bool) -> Iterator[str]:
    for at in range(len(calls["session"])):
        model, ok = world.models[calls["arm"][at]], bool(calls["ok"][at])
        start, prompt, completion = float(calls["started_s"][at]), int(calls["prompt_tokens"][at]), int(calls["completion_tokens"][at])
        labels = {"task_type": world.tasks[calls["task"][at]], "complexity": float(calls["complexity"][at])}
        if with_sessions:
            labels["session_id"] = f"s-{calls['session'][at]}"
        yield json.dumps(
            {
                "id": f"chatcmpl-{at:07d}" if ok else _id(at),
                "litellm_call_id": _id(at),
                "trace_id": _id(at),
                "call_type": "acompletion",
                "cache_hit": None,
                "stream": None,
                "custom_llm_provider": "openai",
                "startTime": start,
                "endTime": start + float(calls["latency"][at]) / 1e3,
                "completionStartTime": start + float(calls["latency"][at]) / 1e3,
                "response_time": float(calls["latency"][at]) / 1e3,
                "model": f"openai/{model}",
                "model_group": model,
                "api_base": "https://api.openai.com/v1",
                "request_tags": [],
                "status": "success" if ok else "failure",
                "metadata": {"user_api_key_team_alias": "all", "requester_metadata": labels, "usage_object": {}},
                "response_cost": float(calls["cost"][at]) if ok else 0.0,
                "total_tokens": prompt + completion if ok else 0,
                "prompt_tokens": prompt if ok else 0,
                "completion_tokens": completion if ok else 0,
                "hidden_params": {"additional_headers": None, "litellm_overhead_time_ms": None},
                "error_str": None if ok else "overloaded",
                "error_information": {"error_code": "" if ok else "500", "error_class": "" if ok else "InternalServerError"},
            }
        )


def _traces(world: Agents, calls: dict[str, Any], _: bool) -> Iterator[str]:
    for at in range(len(calls["session"])):
        start_ns = int(calls["started_s"][at] * US) * 1000
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": world.models[calls["arm"][at]],
            "gen_ai.usage.input_tokens": int(calls["prompt_tokens"][at]),
            "gen_ai.usage.output_tokens": int(calls["completion_tokens"][at]),
            "gen_ai.usage.cost": float(calls["cost"][at]),
            "task_type": world.tasks[calls["task"][at]],
            "complexity": float(calls["complexity"][at]),
        }
        if not calls["ok"][at]:
            attributes["error.type"] = "500"
        pairs = [{"key": name, "value": _value(given)} for name, given in attributes.items()]
        span = {
            "traceId": _trace(calls, at),
            "spanId": f"{at:016x}",
            "name": "chat",
            "kind": 3,
            "startTimeUnixNano": str(start_ns),
            "endTimeUnixNano": str(start_ns + int(calls["latency"][at] * US)),
            "attributes": pairs,
            "status": {},
        }
        yield json.dumps({"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": [span]}]}]})


def _value(given: Any) -> dict[str, Any]:
    if isinstance(given, int):
        return {"intValue": str(given)}
    return {"doubleValue": given} if isinstance(given, float) else {"stringValue": given}
