"""A log format said as one SQL expression per column, in the units of the contract.

Belongs here: what all formats without traps of their own share: which values are refused, which become null, times in their
spellings and units. Does not belong here: any one format's field names, and what a format says other than column by column.

The expressions are written by us over the fields of the format's structure; they give the column's unit, or null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from routing_pipeline.ingest.formats.kinds import first_kind, kind_of_model
from routing_pipeline.ingest.formats.log_format import (
    LONGEST_ATTEMPT_S,
    MOST_SCORE,
    Held,
    LogFormat,
    Optional,
    Records,
    Structure,
    amount_reasons,
    complexity,
    count_of,
    key_text,
    probability,
    taken_from_json,
    text,
    time_reasons,
    user_hash,
    within,
)
from routing_pipeline.schema import TOKEN_PARTS

_MAX_MS = LONGEST_ATTEMPT_S * 1e3
_TEXTS = (
    "session_id",
    "model",
    "provider",
    "provider_model",
    "task_type",
    "status",
    "error_type",
    "fallback_from",
    "team",
    "routing_rule_id",
    "routing_reason",
    "rule_arm",
    "reasoning_effort",
    "service_tier",
    "model_version",
    "feature",
    "workflow",
    "prompt_version",
    "tags",
    "router_tier",
)
_FLAGS = ("is_cache_hit", "has_image", "has_audio", "has_tools", "has_schema")
_OPTIONAL: dict[str, Callable[[str], Optional]] = {
    "ttft_ms": lambda given: within(given, 0, _MAX_MS),
    "routing_latency_ms": lambda given: within(given, 0, _MAX_MS),
    "complexity": complexity,
    **dict.fromkeys(TOKEN_PARTS, count_of),
    "max_output_tokens": count_of,
    "retries": count_of,
    "queue_depth": count_of,
    "quality_score": lambda given: within(given, 0, 1),
    "user_rating": lambda given: within(given, 0, 1),
    "propensity": probability,
    "router_score": lambda given: within(given, -MOST_SCORE, MOST_SCORE),
}
LONG = 60
"""Characters of SQL from which an expression is worked out once and mentioned by a name."""
_PER_SECOND = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
NOT_GIVEN = "NULL::VARCHAR"


@dataclass(frozen=True)
class Time:
    """A time: as seconds since 1970, as whole microseconds since 1970, and the WHEN clauses that refuse what is none."""

    seconds: str
    microseconds: str
    reasons: str


def time_of(given: str, name: str) -> Time:
    """ISO 8601 (UTC unless it names a zone; the comma before a fraction too, as Python logs it), or seconds since 1970."""
    in_text = f"epoch_us(TRY_CAST(replace({given}, ',', '.') AS TIMESTAMPTZ))"
    seconds = f"coalesce(TRY_CAST({given} AS DOUBLE), {in_text} / 1e6)"
    return Time(seconds, f"coalesce(TRY_CAST(TRY_CAST({given} AS DOUBLE) * 1e6 AS BIGINT), {in_text})", time_reasons(seconds, name))


def epoch_of(given: str, name: str, unit: str) -> Time:
    """A count of milliseconds, microseconds or nanoseconds since 1970; a count in another unit is refused, not guessed."""
    per_second = _PER_SECOND[unit]
    number = f"TRY_CAST({given} AS DOUBLE)"
    seconds = f"({number} / {per_second!r})"
    # Nanoseconds do not fit into a double, and whole numbers do not divide into fractions.
    whole = f"TRY_CAST({given} AS HUGEINT)"
    us = f"{whole} // 1000" if per_second > 1e6 else f"CAST({number} * {1e6 / per_second!r} AS HUGEINT)"
    reasons = f"""
    WHEN {number} < {1e8 * per_second!r} OR {number} >= {1e11 * per_second!r} THEN '{name} is not in {unit} since 1970'"""
    return Time(seconds, f"TRY_CAST({us} AS BIGINT)", reasons + time_reasons(seconds, name))


def elapsed_ms(start: Time, end: Time) -> str:
    """Milliseconds from one time to another; negative when they are the wrong way round."""
    return f"(({end.microseconds}) - ({start.microseconds})) / 1e3"


def if_priced(cost: str, *, tokens: str, is_hit: str = "false") -> str:
    """A cost in USD, unless it is 0 for tokens that somebody had to pay: gateways write 0 where they know no price."""
    return f"CASE WHEN TRY_CAST({cost} AS DOUBLE) = 0 AND TRY_CAST({tokens} AS DOUBLE) > 0 AND NOT coalesce({is_hit}, false) THEN NULL ELSE {cost} END"


def status_of(code: str, *, is_cancelled: str = "false") -> str:
    """Success, failure or cancelled by an HTTP status; null where there is none."""
    number = f"TRY_CAST({code} AS INTEGER)"
    return f"CASE WHEN coalesce({is_cancelled}, false) OR {number} = 499 THEN 'cancelled' WHEN {number} BETWEEN 200 AND 399 THEN 'success' WHEN {number} IS NOT NULL THEN 'failure' END"


def column_map(
    name: str,
    *,
    structure: Structure,
    keys: tuple[frozenset[str], ...],
    started: Time,
    given: Mapping[str, str],
    called: Mapping[str, str] | None = None,
    failures_say_zero: bool = True,
    refused: str = "",
    ignores: str = "false",
    lone_id: str = NOT_GIVEN,
    lacks: frozenset[str] = frozenset(),
    records: Records | None = None,
    envelope: str = "",
    left_out: str = "records that are no model calls",
    held: Held | None = None,
) -> LogFormat:
    """A format whose columns are `given`; what is not given is null.

    Args:
        name: Value of the `source_format` column.
        structure: As in LogFormat.
        keys: As in LogFormat.
        started: When the attempt began.
        given: SQL by column of schema.REQUEST_LOG but `started_at`, with `user_id` and `api_key` in place of their hashes; text for text columns and `complexity`. Where
            `operation` is null or not given, the model's name may tell.
        called: What reasons call a column, where the format calls it otherwise.
        failures_say_zero: Tokens and a cost of 0 on attempts that did not succeed mean that nobody counted.
        refused: WHEN clauses of the format's own, asked before all others.
        ignores: As in LogFormat.
        lone_id: As in LogFormat; made as long as request ids are.
        lacks: As in LogFormat.
        records: As in LogFormat.
        envelope: As in LogFormat.
        left_out: As in LogFormat.
        held: As in LogFormat.
    """
    steps, of, started, refused, ignores, lone_id = _worked_out(structure, given, started, refused, ignores, lone_id)
    names = called or {}
    models = [kind_of_model(of[each]) for each in ("provider_model", "model") if each in of]
    kind = first_kind(*([of["operation"]] if "operation" in of else []), *dict.fromkeys(models))
    columns = {each: text(of[each]) for each in _TEXTS if each in of}
    columns |= {
        "attempt_id": key_text(of["attempt_id"]),
        "request_id": key_text(f"coalesce(nullif({of['request_id']}, ''), {of['attempt_id']})"),
        "started_at": f"make_timestamp({started.microseconds})",
        "latency_ms": f"TRY_CAST({of.get('latency_ms', NOT_GIVEN)} AS DOUBLE)",
        "operation": kind,
        "user_hash": user_hash(of.get("user_id", NOT_GIVEN)),
        "key_hash": user_hash(of.get("api_key", NOT_GIVEN)),
    }
    columns |= {each: f"TRY_CAST({of[each]} AS BOOLEAN)" for each in _FLAGS if each in of}
    for each in ("prompt_tokens", "completion_tokens", "cost_usd"):
        number = f"TRY_CAST({of.get(each, NOT_GIVEN)} AS DOUBLE)"
        columns[each] = f"CASE WHEN {of['status']} <> 'success' THEN nullif({number}, 0) ELSE {number} END" if failures_say_zero else number
    optional = {each: judge(of[each]) for each, judge in _OPTIONAL.items() if each in of}
    amounts = "".join(
        amount_reasons(of[each], names.get(each, each))
        for each in ("latency_ms", "cost_usd", "prompt_tokens", "completion_tokens")
        if each in of
    )
    reject_reason = f"""CASE WHEN {ignores} THEN NULL
    {refused}
    WHEN coalesce({of["attempt_id"]}, '') = '' THEN 'no key: {names.get("attempt_id", "attempt_id")} is not there'
    {started.reasons}
    {amounts}
    WHEN TRY_CAST({of.get("latency_ms", NOT_GIVEN)} AS DOUBLE) > {_MAX_MS} THEN '{names.get("latency_ms", "latency_ms")} is longer than a week'
    WHEN {of["status"]} IS NULL OR {of["status"]} NOT IN ('success', 'failure', 'cancelled')
        THEN '{names.get("status", "status is none of success, failure, cancelled")}'
    WHEN coalesce({of["model"]}, '') = '' THEN 'no model{names.get("model", "")}'
    END"""
    return LogFormat(
        name=name,
        structure=structure,
        reject_reason=reject_reason,
        columns=columns,
        keys=keys,
        optional=optional,
        lacks=lacks,
        ignores=ignores,
        lone_id=key_text(lone_id),
        records=records,
        envelope=envelope,
        left_out=left_out,
        held=held,
        worked_out=steps,
    )


def _worked_out(
    structure: Structure, given: Mapping[str, str], started: Time, refused: str, ignores: str, lone_id: str
) -> tuple[tuple[Mapping[str, str], ...], dict[str, str], Time, str, str, str]:
    """The steps of LogFormat.worked_out, and the same expressions over them: each is mentioned several times in what is made of it."""
    of = {"request_id": given["attempt_id"], **given}
    taken = taken_from_json((*of.values(), refused, ignores, lone_id), structure)

    def over(expression: str) -> str:
        for each, called in taken.items():
            expression = expression.replace(each, called)
        return expression

    values = {f"_of_{name}": over(expression) for name, expression in of.items() if len(expression) > LONG}
    # What is no time does not fit into whole numbers either.
    values |= {
        "_started_s": started.seconds,
        "_started_us": f"CASE WHEN {started.seconds} BETWEEN 0 AND 1e11 THEN {started.microseconds} END",
    }
    of = {name: f"_of_{name}" if f"_of_{name}" in values else expression for name, expression in of.items()}
    time = Time("_started_s", "_started_us", started.reasons.replace(started.seconds, "_started_s"))
    json = {called: each for each, called in taken.items()}
    return tuple(filter(None, (json, values))), of, time, over(refused), over(ignores), over(lone_id)
