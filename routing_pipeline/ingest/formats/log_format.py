"""What a log format is to the pipeline, and the SQL fragments that formats share.

Belongs here: the shape of a format module's export, casts that never lie (a value that is there but unusable is told
from one that is absent), the limits of time and text. Does not belong here: any one format's field names.

Every fragment is written by us; no value from a log ever becomes part of a SQL text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.schema import DUCKDB_TYPE, REQUEST_LOG

Structure = Mapping[str, Any]
"""Names to a DuckDB type, a list of one element type, or a nested structure: what `json_transform` calls a structure."""

Records = Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]
"""The records of a parsed document, flat."""

Held = Callable[[Mapping[str, Any]], Mapping[str, int]]
"""How many things a parsed document holds, by what they are called where they are left out."""

OLDEST_S = 1_420_070_400
"""2015-01-01: no gateway logged LLM traffic before it, so an earlier time is a unit mistaken or a clock unset."""
FUTURE_TOLERANCE_S = 3_600
"""Clocks differ by seconds; an hour covers a daylight-saving mistake and nothing more."""
LONGEST_ATTEMPT_S = 7 * SECONDS_PER_DAY
MAX_TEXT = 256
"""Longest name, tag or label kept; attempt keys that are longer are hashed instead, because cutting could make two equal."""

MOST_SCORE = 1e6
"""Routers' own scores have scales of their own; beyond this a number is none."""

NULLABLE_WHEN_OUT_OF_RANGE: tuple[str, ...] = (
    "latency_ms",
    "ttft_ms",
    "routing_latency_ms",
    "complexity",
    "cached_tokens",
    "reasoning_tokens",
    "retries",
    "queue_depth",
    "quality_score",
    "user_rating",
    "propensity",
    "cache_write_tokens",
    "audio_prompt_tokens",
    "audio_completion_tokens",
    "max_output_tokens",
    "router_score",
)
"""Optional columns whose unusable values become null and are counted; bit i of `_nulled` is the i-th of them."""

DERIVED_COLUMNS = frozenset({"source_format", "source_object", "ingested_at"})
"""Columns of schema.REQUEST_LOG that do not come out of the record."""


_USABLE = "_usable_{}"
"""What the usable value of an optional column is called: its column and `_nulled` both look at it."""


@dataclass(frozen=True)
class Optional:
    """An optional number: what was given, and its usable value (null when what was given is out of range)."""

    given: str
    usable: str


@dataclass(frozen=True)
class LogFormat:
    """One log format.

    Attributes:
        name: Value of the `source_format` column.
        structure: The fields read from a record and their types; whatever else a record holds is never loaded.
        reject_reason: SQL CASE over those fields: why the record cannot be used, null when it can. May use `$now_s`.
        columns: SQL expression per column of schema.REQUEST_LOG (without provenance). May use `$hash_key`.
        optional: Columns of NULLABLE_WHEN_OUT_OF_RANGE; they replace `columns` for their names.
        shared_call_id: SQL for an id that, once it occurs in two attempts, groups them into one request; null otherwise.
        fallbacks: SQL for the number of fallbacks reported with the attempt; null when not known.
        keys: Sets of names; a record that holds all names of one of them is of this format.
        lacks: Names of other formats; a record that holds one of them is not of this format.
        envelope: The one name under which an interface's answer holds the record; `records` then takes it out.
        ignores: SQL condition: the record is no attempt at all (a tool's other tables, spans around calls); it is left out and counted
            as such, and `reject_reason` must be null for it.
        left_out: What those are called, in the plural.
        lone_id: SQL for an id by which the request is called as long as the id occurs in one attempt only; null otherwise.
        records: For formats whose documents hold many records: those of a parsed document, flat, with the fields of `structure`.
        held: What such a document holds in all; what `records` does not give is left out.
        table_columns: Where `records` takes rows of CSV and Parquet as well: the columns that it reads.
        is_one: What else of a record must be so, for names that others use too.
        worked_out: SQL by names of ours that all other expressions may use, step by step: each is worked out once a record, and may use
            the fields and the steps before it.
    """

    name: str
    structure: Structure
    reject_reason: str
    columns: Mapping[str, str]
    keys: tuple[frozenset[str], ...]
    optional: Mapping[str, Optional] = field(default_factory=dict)
    shared_call_id: str = "NULL::VARCHAR"
    fallbacks: str = "NULL::BIGINT"
    lacks: frozenset[str] = frozenset()
    envelope: str = ""
    ignores: str = "false"
    left_out: str = "records that are no model calls"
    lone_id: str = "NULL::VARCHAR"
    records: Records | None = None
    held: Held | None = None
    table_columns: frozenset[str] = frozenset()
    is_one: Callable[[Mapping[str, Any]], bool] = lambda _: True
    worked_out: tuple[Mapping[str, str], ...] = ()

    def prepared(self, source: str) -> str:
        """A query over a query that gives the fields: what is `worked_out` stands beside them, and what of optional numbers is usable."""
        usable = {_USABLE.format(name): value.usable for name, value in self.optional.items()}
        for step in filter(None, (*self.worked_out, usable)):
            named = ", ".join(f"({expression}) AS {name}" for name, expression in step.items())
            source = f"SELECT *, {named} FROM ({source})"  # noqa: S608 (our own SQL)
        return source

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """Whether all keys of one of the format's key sets are in the record, and no name of another format."""
        if self.envelope and record.keys() == {self.envelope} and isinstance(record[self.envelope], dict):
            record = record[self.envelope]
        return any(keys <= record.keys() for keys in self.keys) and not self.lacks & record.keys() and self.is_one(record)

    def opened(self, record: Mapping[str, Any]) -> dict[str, Any] | None:
        """A record whose objects and lists stand in it as JSON text, as tables and warehouses keep them, with these as they were; None for any other."""
        found = {
            name: held
            for name, structure in self.structure.items()
            if not isinstance(structure, str) and isinstance(text := record.get(name), str) and text[:1] in {"{", "["}
            if isinstance(held := _parsed(text), (dict, list))
        }
        return {**record, **found} if found else None

    @property
    def json_columns(self) -> dict[str, str]:
        """`columns` argument of DuckDB's read_json."""
        return {name: duckdb_type(value) for name, value in self.structure.items()}

    @property
    def is_tabular(self) -> bool:
        """Whether CSV and Parquet can hold its records: every field is read as text."""
        return all(value == "VARCHAR" for value in self.structure.values()) and (self.records is None or bool(self.table_columns))

    @property
    def columns_read(self) -> frozenset[str]:
        """The columns of a table that are read."""
        return self.table_columns or frozenset(self.structure)

    def select_list(self) -> str:
        """All record-borne columns of schema.REQUEST_LOG in order, then `_nulled`, `_shared_call_id`, `_lone_id`, `_fallbacks`.

        Over `prepared`.
        """
        expressions = {**self.columns, **{name: _USABLE.format(name) for name in self.optional}}
        parts = [
            f"TRY_CAST({expressions.get(column.name, 'NULL')} AS {DUCKDB_TYPE[column.type]}) AS {column.name}"
            for column in REQUEST_LOG
            if column.name not in DERIVED_COLUMNS
        ]
        bits = [
            f"CASE WHEN ({self.optional[name].given}) IS NOT NULL AND {_USABLE.format(name)} IS NULL THEN {1 << bit} ELSE 0 END"
            for bit, name in enumerate(NULLABLE_WHEN_OUT_OF_RANGE)
            if name in self.optional
        ]
        parts.append(f"({' + '.join(bits) or '0'})::INTEGER AS _nulled")
        parts.append(f"({self.shared_call_id}) AS _shared_call_id")
        parts.append(f"({self.lone_id}) AS _lone_id")
        parts.append(f"({self.fallbacks})::BIGINT AS _fallbacks")
        return ",\n".join(parts)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


IN_WORDS = "a score in words has no scale; numeric and boolean scores are read"
OF_NO_REQUEST = "a score of a session or of an experiment's run is about no single request; scores of observations and traces are read"
NO_DEFECTS = (IN_WORDS, OF_NO_REQUEST)
"""Why such scores are refused. They are no defect of the file: they are what its tool also keeps."""


@dataclass(frozen=True)
class ScoreFormat:
    """How a tool writes scores.

    Attributes:
        keys: Sets of names; a record that holds all names of one of them is of this format.
        scores: The scores in a parsed record, with the names of schema.FEEDBACK; one that says why under `refused` is none.
    """

    keys: tuple[frozenset[str], ...]
    scores: Records


def duckdb_type(structure: Any) -> str:
    """A structure as a DuckDB type: {"a": "BIGINT"} -> STRUCT("a" BIGINT), ["VARCHAR"] -> VARCHAR[]."""
    if isinstance(structure, str):
        return structure
    if isinstance(structure, list):
        return f"{duckdb_type(structure[0])}[]"
    return "STRUCT(" + ", ".join(f'"{name}" {duckdb_type(value)}' for name, value in structure.items()) + ")"


def json_texts(given: str, paths: Sequence[str]) -> dict[str, str]:
    """Values in a field that holds JSON as text, by path (`name` or `name.name`, names of ours); null where there are none."""
    found = json_list(given, paths)
    return {path: f"{found}[{place}]" for place, path in enumerate(paths, 1)}


def json_list(given: str, paths: Sequence[str]) -> str:
    """The same values as a list, in the order of the paths; a name in quotes is one name, dots and all."""
    names = ([path.strip('"')] if path.startswith('"') else path.split(".") for path in paths)
    quoted = ", ".join("'$." + ".".join(f'"{name}"' for name in path) + "'" for path in names)
    return f"json_extract_string(CASE WHEN json_valid({given}) THEN {given} END, [{quoted}])"


_FROM_JSON = re.compile(r"""json_extract_string\(CASE WHEN json_valid\(("?\w+"?)\) THEN \1 END, (?:\[[^\]]*\]|'\$\[\*\]')\)""")


def taken_from_json(expressions: Iterable[str], fields: Container[str]) -> dict[str, str]:
    """What these expressions take out of fields that hold JSON (`json_list`, `json_tag`), each with a name of ours to call it by.

    Parsing JSON is most of the work, and an engine parses anew for every mention.
    """
    mentions = (each for expression in expressions for each in _FROM_JSON.finditer(expression))
    taken = dict.fromkeys(each[0] for each in mentions if each[1].strip('"') in fields)
    return {each: f"_json_{place}" for place, each in enumerate(taken, 1)}


def where(name: str, value: str, expression: str) -> str:
    """An expression over a value that is worked out once, under a name of ours; within CASE the engine works out each mention anew."""
    return f"list_transform([{value}], lambda {name}: {expression})[1]"


def json_tag(given: str, name: str) -> str:
    """What the first tag `name:...` says in a field that holds a JSON list as text."""
    tags = f"json_extract_string(CASE WHEN json_valid({given}) THEN {given} END, '$[*]')"
    return f"list_filter({tags}, lambda tag: starts_with(tag, '{name}:'))[1][{len(name) + 2}:]"


def text(expression: str) -> str:
    """Text cut to MAX_TEXT; empty is null."""
    return f"nullif(left({expression}, {MAX_TEXT}), '')"


def key_text(expression: str) -> str:
    """Text that must stay distinct: hashed, not cut, when it is too long."""
    return f"CASE WHEN strlen({expression}) > {MAX_TEXT} THEN md5({expression}) ELSE {expression} END"


def within(given: str, low: float, high: float) -> Optional:
    """A number in [low, high]; anything else, NaN and text included, is null."""
    number = f"TRY_CAST({given} AS DOUBLE)"
    return Optional(given, f"CASE WHEN {number} BETWEEN {low!r} AND {high!r} THEN {number} END")


def count_of(given: str) -> Optional:
    """A whole number from 0; anything else is null."""
    number = f"TRY_CAST({given} AS DOUBLE)"
    return Optional(given, f"CASE WHEN {number} BETWEEN 0 AND 9e15 THEN {number} END")


def probability(given: str) -> Optional:
    """A number in (0, 1]."""
    number = f"TRY_CAST({given} AS DOUBLE)"
    return Optional(given, f"CASE WHEN {number} > 0 AND {number} <= 1 THEN {number} END")


def complexity(given: str) -> Optional:
    """A number in [0, 1], or low, medium, high read as .25, .5, .75."""
    number = f"TRY_CAST({given} AS DOUBLE)"
    usable = (
        f"CASE lower({given}) WHEN 'low' THEN 0.25 WHEN 'medium' THEN 0.5 WHEN 'high' THEN 0.75 "
        f"ELSE CASE WHEN {number} BETWEEN 0 AND 1 THEN {number} END END"
    )
    return Optional(given, usable)


def user_hash(identifier: str) -> str:
    """Keyed hash of a user identifier: sha256(key, sha256(key, id)), 128 bits of it; the identifier itself is never kept."""
    return (
        f"CASE WHEN nullif({identifier}, '') IS NOT NULL "
        f"THEN left(sha256(concat($hash_key, sha256(concat($hash_key, {identifier})))), 32) END"
    )


def time_reasons(seconds: str, name: str) -> str:
    """WHEN clauses that refuse a time (in seconds since 1970) which cannot be one."""
    return f"""
    WHEN {seconds} IS NULL OR isnan({seconds}) THEN '{name} is missing or not a number of seconds since 1970'
    WHEN {seconds} >= 1e17 THEN '{name} is in nanoseconds; seconds since 1970 are expected'
    WHEN {seconds} >= 1e14 THEN '{name} is in microseconds; seconds since 1970 are expected'
    WHEN {seconds} >= 1e11 THEN '{name} is in milliseconds; seconds since 1970 are expected'
    WHEN {seconds} > $now_s + {FUTURE_TOLERANCE_S} THEN '{name} lies more than an hour in the future'
    WHEN {seconds} < {OLDEST_S} THEN '{name} lies before 2015'"""


def amount_reasons(given: str, name: str) -> str:
    """WHEN clauses that refuse money or tokens which are there but are not a finite number from 0."""
    number = f"TRY_CAST({given} AS DOUBLE)"
    return f"""
    WHEN {given} IS NOT NULL AND {number} IS NULL THEN '{name} is not a number'
    WHEN {number} < 0 THEN '{name} is negative'
    WHEN {number} > 1e15 THEN '{name} is NaN, infinite or absurdly large'"""
