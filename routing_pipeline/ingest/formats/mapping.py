"""A log format that the user describes in TOML: for each column, where in a record it stands and in which unit.

Belongs here: reading and checking such a description. Does not belong here: what the pipeline does with columns
(`column_map`).

A description holds names, never SQL: paths are taken apart and checked letter by letter before anything is made of them.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.ingest.formats.column_map import column_map, epoch_of, status_of, time_of
from routing_pipeline.ingest.formats.kinds import is_nothing_by_name, kind_of_name
from routing_pipeline.ingest.formats.log_format import DERIVED_COLUMNS, LogFormat
from routing_pipeline.ingest.formats.needs import service_tier
from routing_pipeline.ingest.formats.work import tags_of
from routing_pipeline.parameters import refusal
from routing_pipeline.schema import OPERATIONS, REQUEST_LOG

MAX_DEPTH = 16
_STEP = re.compile(r'(?P<dot>\.?)(?:(?P<bare>[^\W\d][\w-]*)|"(?P<quoted>[\w .:/@#%&+-]{1,128})")|\[(?P<place>\d{1,4})\]')
_OURS = frozenset({"filename", "file_row_number"})
"""Names that reading a file gives to columns of its own, beside those that begin with an underscore."""
_NUMBERS = frozenset(column.name for column in REQUEST_LOG if column.type in {"double", "bigint"})
_WORDS_OF: dict[str, tuple[str, ...]] = {
    "status": ("success", "failure", "cancelled"),
    "operation": OPERATIONS,
    **{column.name: ("true", "false") for column in REQUEST_LOG if column.type == "boolean"},
}
"""What `values` and `default` may make of a field, by column."""
_REQUIRED = ("attempt_id", "started_at", "model", "status")
_WORDS = "lower({0}) IN ('success', 'failure', 'cancelled')"

Step = str | int
# fmt: off
Word = Literal["success", "failure", "cancelled", "true", "false", "chat", "embedding", "rerank", "image", "transcription", "speech",
               "moderation", "batch", "tool", "other"]
# fmt: on


def steps_of(path: str) -> tuple[Step, ...]:
    """The steps of a path: names joined by dots, names of other characters in quotes, places in lists in brackets.

    Raises:
        ValueError: it is no such path.
    """
    steps: list[Step] = []
    end = 0
    while end < len(path):
        step = _STEP.match(path, end)
        # A dot stands between two names and nowhere else.
        if step is None or (step["place"] is None and bool(step["dot"]) != bool(steps)):
            break
        steps.append(int(step["place"]) if step["place"] is not None else step["bare"] or step["quoted"])
        end = step.end()
    if end < len(path) or not steps or not isinstance(steps[0], str) or len(steps) > MAX_DEPTH:
        raise ValueError(f'{path[:80]!r} is no path; write names joined by dots, as in a.b[0]."with space"')
    if steps[0].startswith("_") or steps[0].lower() in _OURS:
        raise ValueError(f"{steps[0]} is taken; rename the field")
    return tuple(steps)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Source(BaseModel):
    """Where a column stands in a record. Of several paths the first that is there counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    path: Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1, max_length=8)]
    unit: Literal["seconds", "milliseconds", "microseconds", "nanoseconds"] | None = None
    multiply: float | None = Field(default=None, gt=0)
    values: dict[str, Word] = Field(default_factory=dict)
    default: Word | None = None

    @field_validator("path")
    @classmethod
    def _are_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            steps_of(path)
        return value

    @field_validator("values")
    @classmethod
    def _are_plain(cls, value: dict[str, str]) -> dict[str, str]:
        for word in value:
            if not re.fullmatch(r"[\w .:/@#%&+-]{1,64}", word):
                raise ValueError(f"{word[:80]!r} holds other characters than letters, digits, blanks and .:/@#%&+-_")
        return value


def _as_source(value: Any) -> Any:
    return {"path": value} if isinstance(value, (str, list)) else value


class Mapping(BaseModel):
    """The whole description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="mapping", pattern=r"^[a-z][a-z0-9_]{0,39}$")
    columns: dict[str, Annotated[Source, BeforeValidator(_as_source)]]

    @model_validator(mode="after")
    def _are_columns(self) -> Mapping:
        known = {column.name for column in REQUEST_LOG if column.name not in DERIVED_COLUMNS | {"user_hash", "key_hash"}} | {
            "user_id",
            "api_key",
        }
        for name, source in self.columns.items():
            if name not in known:
                raise ValueError(f"columns.{name[:80]}: no such column{did_you_mean(name, known)}; there are {', '.join(sorted(known))}")
            _check_use(name, source)
        missing = [name for name in _REQUIRED if name not in self.columns]
        if missing:
            raise ValueError(f"columns: {', '.join(missing)} must be said")
        fields = {steps_of(path)[0] for source in self.columns.values() for path in source.path}
        if len({str(field).lower() for field in fields}) < len(fields):
            raise ValueError("columns: two fields of the record differ in upper and lower case only")
        return self


def _check_use(name: str, source: Source) -> None:
    if source.unit is not None and name != "started_at":
        raise ValueError(f"columns.{name}: unit is for started_at; use multiply")
    if source.multiply is not None and name not in _NUMBERS:
        raise ValueError(f"columns.{name}: multiply is for numbers")
    if not {*source.values.values(), *([source.default] if source.default is not None else [])} <= {*_WORDS_OF.get(name, ())}:
        said = "; ".join(f"{column} ({', '.join(words)})" for column, words in _WORDS_OF.items())
        raise ValueError(f"columns.{name}: values and default are for {said}")


def read_mapping(path: Path) -> LogFormat:
    """The format that a TOML file describes, at its top or under `[format]`.

    Raises:
        UnusableInputError: the file cannot be read, or describes no format; the message names what is wrong.
    """
    values = _toml(path)
    try:
        return format_of(Mapping.model_validate(values.get("format", values)))
    except ValidationError as error:
        table = ("format",) if "format" in values else ()
        raise UnusableInputError(f"--format {path}: {refusal(error, Mapping, *table)}; see docs/formats.md") from error


def describes_format(path: Path) -> bool:
    """Whether a configuration file has a table `[format]`."""
    return "format" in _toml(path)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnusableInputError(f"--format {path}: {error.strerror}; give a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnusableInputError(f"--format {path}: not TOML ({error}); see docs/formats.md") from error


def format_of(mapping: Mapping) -> LogFormat:
    """The format that a checked description stands for."""
    fields = sorted({str(steps_of(path)[0]) for source in mapping.columns.values() for path in source.path})
    started = mapping.columns["started_at"]
    is_count = started.unit not in {None, "seconds"}
    at = _first(started)
    return column_map(
        mapping.name,
        structure=dict.fromkeys(fields, "VARCHAR"),
        keys=(frozenset(fields),),
        ignores=_ignores(mapping.columns),
        started=epoch_of(at, "started_at", str(started.unit)) if is_count else time_of(at, "started_at"),
        given={name: _given(name, source) for name, source in mapping.columns.items() if name != "started_at"},
    )


def _ignores(columns: dict[str, Source]) -> str:
    """What names its kind in other words than ours may be a read."""
    said = columns.get("operation")
    if said is None or said.values or said.default:
        return "false"
    cost = columns.get("cost_usd")
    return is_nothing_by_name(_first(said), "false" if cost is None else f"TRY_CAST({_first(cost)} AS DOUBLE) > 0")


def _given(name: str, source: Source) -> str:
    said = _first(source)
    if source.values or source.default:
        cases = " ".join(f"WHEN '{word}' THEN '{value}'" for word, value in source.values.items())
        # What is not there stays so: only what says something else takes the default.
        rest = f"CASE WHEN {said} IS NOT NULL THEN '{source.default}' END" if source.default else said
        return f"CASE {said} {cases} ELSE {rest} END" if cases else rest
    if name == "operation":
        return kind_of_name(said)
    if name == "service_tier":
        return service_tier(said)
    if name == "tags":
        return tags_of(said)
    if name == "status":
        return f"CASE WHEN {_WORDS.format(said)} THEN lower({said}) ELSE {status_of(said)} END"
    if source.multiply is not None:
        # What is no number stays as it is, so that it is refused or counted and not lost.
        return f"coalesce((TRY_CAST({said} AS DOUBLE) * {source.multiply!r})::VARCHAR, {said})"
    return said


def _first(source: Source) -> str:
    return "coalesce(" + ", ".join(f"nullif({_sql(steps_of(path))}, '')" for path in source.path) + ")"


def _sql(steps: tuple[Step, ...]) -> str:
    """A checked path as SQL; names hold no quotes, so that they can stand between them."""
    field = f'"{steps[0]}"'
    if len(steps) == 1:
        return field
    below = "".join(f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in steps[1:])
    return f"json_extract_string(CASE WHEN json_valid({field}) THEN {field} END, '${below}')"
