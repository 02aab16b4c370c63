"""The made-up week as a LiteLLM proxy leaves it in object storage: what `demo` ingests, and ingestion is tested with.

Belongs here: writing `demo.traffic` down as `StandardLoggingPayload` records with the habits of the real ones (captured
from LiteLLM 1.106: seconds since 1970, `response_time` that is the time to the first token for streams, a cost of 0.0
for failures, one call id for a failed attempt and the fallback that answered, an overhead that includes the failed
attempt), and planting records that cannot be used. Does not belong here: what happened in that week (`demo.traffic`),
when it ends and what comes after it (`demo.until_now`), reading any of it (`ingest`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from routing_pipeline.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR
from routing_pipeline.demo.traffic import PLANTED, WEEK_START, Planted, traffic
from routing_pipeline.demo.week import week
from routing_pipeline.errors import UnusableInputError

MARKER = ".made-up-traffic"
"""Lies in every folder written here. A folder with logs and without it is somebody's own, and stays untouched."""
BROKEN_EVERY = 200
"""One record that cannot be used after this many good ones: half a percent."""
REPEATED_EVERY = 500
"""One record in this many is uploaded once more, with the next hour's batch, as a retried upload may do."""
COMPRESSED_DAYS: tuple[int, ...] = (1, 4)
"""Days since Monday whose batches were compressed afterwards."""
SINGLE_OBJECTS = 12
"""Records of the last hour that lie in one object each, as LiteLLM writes them unless told to batch."""
FLUSH_DELAY_S = 7
"""A batch is flushed this long after its hour is over: the last one of a day carries the next day's date."""
BROKEN_KINDS: tuple[str, ...] = (
    "truncated",
    "not JSON",
    "time in milliseconds",
    "negative cost",
    "no key",
    "no time",
    "from the future",
    "cost is not a number",
)
_API_BASE = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "openrouter": "https://openrouter.ai/api/v1",
    "novita": "https://api.novita.ai/v3/openai",
}
_REDACTED = '"redacted-by-litellm"'
_PICTURE = '[{"type":"text","text":"What does this show?"},{"type":"image_url","image_url":{"url":"data:left out"}}]'
_ERRORS = {"429_RATE_LIMIT_EXCEEDED": ("429", "RateLimitError"), "500_PROVIDER_INTERNAL_ERROR": ("500", "InternalServerError")}


@dataclass(frozen=True)
class DemoFiles:
    """What was written: records = attempts + broken + duplicates, and ingestion must account for every one."""

    logs: Path
    feedback: Path
    objects: int
    records: int
    attempts: int
    broken: int
    broken_by_kind: Mapping[str, int]
    duplicates: int
    scores: int
    planted: Planted = PLANTED


class _Attempt(NamedTuple):
    """A row of the made-up week, in the columns that a proxy knows."""

    request_id: str
    session_id: str
    started_us: int
    latency_ms: float
    ttft_ms: float | None
    routing_latency_ms: float | None
    model: str
    provider: str
    provider_model: str
    task_type: str | None
    complexity: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cost_usd: float | None
    error_type: str | None
    fallback_from: str | None
    is_cache_hit: bool
    team: str
    user_hash: str
    routing_rule_id: str | None
    operation: str
    has_image: bool | None
    has_tools: bool | None


def write_demo(
    folder: Path,
    *,
    requests: int = 200_000,
    seed: int = 20261116,
    is_mixed: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DemoFiles:
    """Draw a week and write it below `folder`; same arguments, same files, to the byte and to their times.

    Args:
        folder: gets `logs/{YYYY-MM-DD}/...` and `feedback/feedback.jsonl`; what an earlier call left there is replaced.
        requests: client requests in the week; failed ones have a second attempt.
        seed: another week for another seed.
        is_mixed: with agents, pictures, a team that steers and embeddings among them (`demo.week`); else all routed request by request.
        progress: told (batches written, batches in all).

    Raises:
        UnusableInputError: the folder holds logs that were not written here, or cannot be written to.
    """
    with writing(folder):
        make_room(folder)
        drawn = week(requests, seed).traffic if is_mixed else traffic(requests, seed)
        begins_s = WEEK_START.timestamp()
        files = write_logs(folder / "logs", drawn.attempts, begins_s, seed, progress=progress)
        feedback = write_scores(folder / "feedback", drawn.feedback, begins_s + 7 * SECONDS_PER_DAY)
    return DemoFiles(
        logs=folder / "logs",
        feedback=feedback,
        objects=files.objects,
        records=drawn.attempts.num_rows + sum(files.broken.values()) + files.duplicates,
        attempts=drawn.attempts.num_rows,
        broken=sum(files.broken.values()),
        broken_by_kind=files.broken,
        duplicates=files.duplicates,
        scores=drawn.feedback.num_rows,
    )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say what to do about a folder that cannot be written to.

    Raises:
        UnusableInputError: with the folder and the reason.
    """
    try:
        yield
    except OSError as error:
        raise UnusableInputError(f"{folder}: {error.strerror}; name a folder that can be written to") from error


def make_room(folder: Path) -> None:
    """Remove what an earlier demo left in `folder`, and mark it as made up.

    Raises:
        UnusableInputError: the folder holds logs that were not written here.
    """
    marker = folder / MARKER
    if not marker.exists() and any((folder / name).exists() for name in ("logs", "feedback")):
        raise UnusableInputError(f"{folder} holds logs that are not made up; name another folder for the demo's")
    for name in ("logs", "feedback"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_bytes(b"")


@dataclass
class Written:
    """How many objects, and which of their records are no attempt of their own."""

    objects: int
    broken: dict[str, int]
    duplicates: int


def write_logs(
    folder: Path,
    attempts: pa.Table,
    begins_s: float,
    seed: int,
    *,
    until_s: float = math.inf,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write attempts as a proxy does: an object per hour since `begins_s`, the last few records in an object each.

    Args:
        folder: gets `{YYYY-MM-DD}/...`.
        attempts: columns of schema.REQUEST_LOG in the order of their starts.
        begins_s: start of the week, seconds since 1970.
        seed: of the week; it names the objects.
        until_s: the present, seconds since 1970: no object is flushed later.
        progress: told (batches written, batches in all).
    """
    started_us = attempts["started_at"].cast(pa.int64()).to_numpy()
    hour_of = (started_us - int(begins_s * 1e6)) // (SECONDS_PER_HOUR * 1_000_000)
    hours, begins = np.unique(hour_of, return_index=True)
    ends = [*begins[1:].tolist(), len(started_us)]
    written = Written(0, dict.fromkeys(BROKEN_KINDS, 0), 0)
    repeated: list[str] = []
    first_started_us = _first_starts(attempts)
    for done, (hour, begin, end) in enumerate(zip(hours.tolist(), begins.tolist(), ends, strict=True), 1):
        is_last = done == len(hours)
        good = [_record(attempt, first_started_us) for attempt in _attempts(attempts.slice(begin, end - begin))]
        lines, single = (good[:-SINGLE_OBJECTS], good[-SINGLE_OBJECTS:]) if is_last else (good, [])
        written.duplicates += len(repeated)
        lines = repeated + _with_broken(lines, begin, written.broken)
        repeated = [] if is_last else [line for place, line in enumerate(good, begin) if place % REPEATED_EVERY == REPEATED_EVERY // 2]
        if lines:
            _write_batch(folder, min(begins_s + (hour + 1) * SECONDS_PER_HOUR + FLUSH_DELAY_S, until_s), hour, seed, lines)
            written.objects += 1
        for line in single:
            _write_single(folder, line, until_s)
            written.objects += 1
        if progress is not None:
            progress(done, len(hours))
    return written


def _first_starts(attempts: pa.Table) -> dict[str, int]:
    """When the failed attempt of a request began, in microseconds since 1970, by the request's id."""
    failed = attempts.filter(pc.is_valid(attempts["error_type"]))
    starts = failed["started_at"].cast(pa.int64()).to_pylist()
    # The first of a request, which is the last that is put in.
    return dict(zip(reversed(failed["request_id"].to_pylist()), reversed(starts), strict=True))


def _attempts(table: pa.Table) -> Iterator[_Attempt]:
    columns = [(table["started_at"].cast(pa.int64()) if name == "started_us" else table[name]).to_pylist() for name in _Attempt._fields]
    return map(_Attempt._make, zip(*columns, strict=True))


def _write_batch(folder: Path, flushed_s: float, hour: int, seed: int, lines: list[str]) -> None:
    """One object per hour; LiteLLM names it by the time of the flush, not by what is in it."""
    flushed = datetime.fromtimestamp(flushed_s, UTC)
    name = hashlib.md5(f"{seed}-{hour}".encode(), usedforsecurity=False).hexdigest()
    path = folder / f"{flushed:%Y-%m-%d}" / f"batch_{flushed:%H-%M-%S}_{name}.jsonl"
    content = "\n".join(lines).encode()
    if hour // 24 in COMPRESSED_DAYS:
        path, content = path.with_suffix(".jsonl.gz"), gzip.compress(content, 5, mtime=0)
    _write(path, content, flushed_s)


def _write_single(folder: Path, line: str, until_s: float) -> None:
    """One object per record, readable by people: over many lines."""
    record = json.loads(line)
    began = datetime.fromtimestamp(record["startTime"], UTC)
    path = folder / f"{began:%Y-%m-%d}" / f"time-{began:%H-%M-%S-%f}_{record['id']}.json"
    _write(path, json.dumps(record, indent=4).encode(), min(record["endTime"], until_s))


def _write(path: Path, content: bytes, modified_s: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    # The same time on every run, so that ingestion knows the object again.
    os.utime(path, (modified_s, modified_s))


def _with_broken(lines: list[str], begin: int, broken: dict[str, int]) -> list[str]:
    """`lines`, the first of which is number `begin` of the week, and broken copies of some of them in between."""
    result: list[str] = []
    for place, line in enumerate(lines, begin):
        result.append(line)
        if place % BROKEN_EVERY == BROKEN_EVERY - 1:
            kind = BROKEN_KINDS[place // BROKEN_EVERY % len(BROKEN_KINDS)]
            result.append(_broken(kind, line))
            broken[kind] += 1
    return result


def _broken(kind: str, line: str) -> str:
    """A record like `line`, of a request of its own, spoilt in one way."""
    line = line.replace('"req-', '"req-spoilt-')
    match kind:
        case "truncated":
            return line[: len(line) * 3 // 5]
        case "not JSON":
            return "Traceback (most recent call last): ConnectionResetError: [Errno 104] Connection reset by peer"
        case "time in milliseconds":
            return re.sub(r'"(startTime|endTime|completionStartTime)":(\d+)\.(\d{3})(\d{3})', r'"\1":\2\3.\4', line)
        case "negative cost":
            return re.sub(r'"response_cost":[^,]+', '"response_cost":-0.01', line)
        case "no key":
            return re.sub(r'"(id|litellm_call_id|trace_id)":"[^"]*",', "", line)
        case "no time":
            return re.sub(r'"startTime":[^,]+,', "", line)
        case "from the future":
            return re.sub(r'"(startTime|endTime|completionStartTime)":1', r'"\1":4', line)
        case _:
            return re.sub(r'"response_cost":[^,]+', '"response_cost":NaN', line)


def _seconds(microseconds: int) -> str:
    return f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}"


def _record(attempt: _Attempt, first_started_us: dict[str, int]) -> str:
    """One StandardLoggingPayload as a line of JSON. All strings are ours and need no escaping."""
    a = attempt
    is_failure = a.error_type is not None
    is_stream = a.ttft_ms is not None
    ended_us = a.started_us + round(a.latency_ms * 1e3)
    first_token_us = ended_us if a.ttft_ms is None else a.started_us + round(a.ttft_ms * 1e3)
    outcome = _failure(a) if is_failure else _success(a, first_started_us)
    answer_id = a.request_id if is_failure else f"chatcmpl-{a.request_id[4:]}-{a.started_us % 1_000_000:06d}"
    cache_hit = "true" if a.is_cache_hit else "false" if is_failure or is_stream else "null"
    return (
        f'{{"id":"{answer_id}","litellm_call_id":"{a.request_id}","trace_id":"{a.session_id}","session_id":"",'
        f'"call_type":"{"aembedding" if a.operation == "embedding" else "acompletion"}","cache_hit":{cache_hit},"stream":{"true" if is_stream else "null"},'
        f'"custom_llm_provider":"{a.provider}","startTime":{_seconds(a.started_us)},"endTime":{_seconds(ended_us)},'
        f'"completionStartTime":{_seconds(first_token_us)},"response_time":{(first_token_us - a.started_us) / 1e6},'
        f'"model":"{a.provider}/{a.provider_model}","model_group":"{a.model}","api_base":"{_API_BASE[a.provider]}",'
        f'"request_tags":[{_labels(a)}"User-Agent: {a.team}-app","User-Agent: {a.team}-app/2.3"],'
        f'"end_user":"{a.user_hash}","messages":[{{"role":"user","content":{_content(a)}}}],'
        f'"response":{{"text":"redacted-by-litellm"}},{_parameters(a)}{outcome}}}'
    )


def _labels(a: _Attempt) -> str:
    return "" if a.task_type is None else f'"task_type:{a.task_type}","rule:{a.routing_rule_id}",'


def _content(a: _Attempt) -> str:
    """Struck out, unless the team lets its prompts be logged, of which nobody needs more than the types of their parts."""
    if a.has_image is None:
        return _REDACTED
    return _PICTURE if a.has_image else '"left out"'


def _parameters(a: _Attempt) -> str:
    """Logged by newer versions of the gateway: what was asked for beside the messages."""
    if a.has_tools is None:
        return ""
    tools = ',"tools":[{"type":"function"}]' if a.has_tools else ""
    return f'"model_parameters":{{"stream":false{tools}}},'


def _metadata(a: _Attempt, usage: str) -> str:
    route = "/v1/embeddings" if a.operation == "embedding" else "/v1/chat/completions"
    of_task = "" if a.task_type is None else f'"task_type":"{a.task_type}","complexity":{a.complexity},'
    return (
        f'"metadata":{{"user_api_key_alias":"{a.team}-key","user_api_key_team_alias":"{a.team}",'
        f'"user_api_key_end_user_id":"{a.user_hash}","user_api_key_request_route":"{route}",'
        f'"requester_metadata":{{{of_task}"session_id":"{a.session_id}"}},'
        f'"routing_decision":null,"usage_object":{usage}}}'
    )


def _success(a: _Attempt, first_started_us: dict[str, int]) -> str:
    prompt, completion = a.prompt_tokens or 0, a.completion_tokens or 0
    usage = (
        f'{{"completion_tokens":{completion},"prompt_tokens":{prompt},"total_tokens":{prompt + completion},'
        f'"completion_tokens_details":{{"reasoning_tokens":0}},"prompt_tokens_details":{{"cached_tokens":{"null" if a.cached_tokens is None else a.cached_tokens}}}}}'
    )
    overhead_ms = a.routing_latency_ms
    if a.fallback_from is not None:
        # The proxy counts all that happened before this attempt as its own time.
        overhead_ms = (a.started_us - first_started_us[a.request_id]) / 1e3 + 9.0
    headers = "{}"
    if a.ttft_ms is None:
        headers = (
            f'{{"x-litellm-model-group":"{a.model}","x-litellm-attempted-retries":0,'
            f'"x-litellm-attempted-fallbacks":{int(a.fallback_from is not None)}}}'
        )
    return (
        f'"status":"success",{_metadata(a, usage)},"response_cost":{a.cost_usd},"total_tokens":{prompt + completion},'
        f'"prompt_tokens":{prompt},"completion_tokens":{completion},"model_id":"{a.model}-1",'
        f'"hidden_params":{{"additional_headers":{headers},"litellm_overhead_time_ms":{"null" if overhead_ms is None else overhead_ms}}},'
        '"error_str":null,"error_information":{"error_code":"","error_class":"","error_message":"","normalized_error":null}'
    )


def _failure(a: _Attempt) -> str:
    code, kind = _ERRORS[a.error_type or ""]
    message = f"litellm.{kind}: {a.provider} answered {code}"
    return (
        f'"status":"failure",{_metadata(a, "{}")},"response_cost":0.0,"total_tokens":0,"prompt_tokens":0,"completion_tokens":0,'
        f'"model_id":"{a.model}-1","hidden_params":{{"additional_headers":null,"litellm_overhead_time_ms":null}},'
        f'"error_str":"{message}","error_information":{{"error_code":"{code}","error_class":"{kind}","error_message":"{message}",'
        f'"normalized_error":"{a.error_type}"}}'
    )


def write_scores(folder: Path, feedback: pa.Table, modified_s: float, name: str = "feedback.jsonl") -> Path:
    """Write scores (columns of schema.FEEDBACK) as a side file that was last written at `modified_s`, and say where it lies."""
    path = folder / name
    _write(path, "".join(_scores(feedback)).encode("ascii"), modified_s)
    return path


def _scores(feedback: pa.Table) -> Iterator[str]:
    """The side file of scores, in the columns of schema.FEEDBACK."""
    scored_us = feedback["scored_at"].cast(pa.int64()).to_pylist()
    columns = [feedback[name].to_pylist() for name in ("request_id", "name", "value", "scale_min", "scale_max", "source")]
    for us, request_id, name, value, low, high, source in zip(scored_us, *columns, strict=True):
        at = f"{datetime.fromtimestamp(us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{us % 1_000_000:06d}Z"
        yield (
            f'{{"request_id":"{request_id}","attempt_id":null,"name":"{name}","value":{value},"scale_min":{low},"scale_max":{high},'
            f'"source":"{source}","scored_at":"{at}"}}\n'
        )
