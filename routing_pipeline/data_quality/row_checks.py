"""Claims about single rows and columns, evaluated by Great Expectations inside an embedded DuckDB, or on Spark's workers.

Belongs here: translating the predicates of `expectations` into Great Expectations suites, and running those over Parquet
files. Does not belong here: the rules themselves (`expectations`), comparisons with a baseline (`baseline_checks`).

Great Expectations speaks to DuckDB through SQLAlchemy, which opens and rolls back transactions around every statement;
temporary results are gone before they are read, and suites then pass on nothing. `AutocommitDialect` leaves transactions
alone. The rows are views on files of ours; no value from a log becomes part of a statement.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duckdb_engine import ConnectionWrapper, Dialect

from routing_pipeline import text as wording
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.data_quality import spark_rows
from routing_pipeline.data_quality.expectations import (
    AHEAD_OF_INGESTION,
    COST_BEYOND_PRICES,
    MOST_FEES_USD,
    MOST_USD_PER_TOKEN,
    MOST_WITHOUT_TOKENS_USD,
    NOT_BY_TOKENS,
    WHAT_TO_DO,
    Between,
    CheckItem,
    CheckResult,
    Comparison,
    Expectation,
    Filled,
    HasSchema,
    NeverNull,
    OneOf,
    Unique,
    WithinWindow,
)
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.schema import ADDED_LATER, CHAT, DUCKDB_TYPE, REQUEST_LOG
from routing_pipeline.window.engine import Engine, bounded
from routing_pipeline.window.scope import Window

if TYPE_CHECKING:
    import duckdb

DIALECT = "routing_duckdb"
COLUMNS, DAYS, WINDOW = "lake_columns", "lake_days", "lake_window"
"""Views: the columns of the files with their types; all rows of the files; the window's rows of chat."""

MOST_OBJECTS = 3
LONGEST_OBJECT = 200

# Where a log does not say the kind of its calls, what received no token may be an image or a recording.
_TOKENS = "coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0)"
_IS_BY_TOKENS = (
    f"""{_TOKENS} > 0 AND coalesce(operation, CASE WHEN completion_tokens > 0 THEN 'chat' ELSE 'other' END) NOT IN {NOT_BY_TOKENS!r}"""
)
_MOST_USD = f"CASE WHEN {_IS_BY_TOKENS} THEN {MOST_FEES_USD} + {MOST_USD_PER_TOKEN} * ({_TOKENS}) ELSE {MOST_WITHOUT_TOKENS_USD} END"

_database: ContextVar[duckdb.DuckDBPyConnection] = ContextVar("database")


class AutocommitDialect(Dialect):
    """duckdb-engine over the database that `validate` opened, without transactions."""

    supports_statement_cache = False

    def connect(self, *_: Any, **__: Any) -> Any:
        """Another cursor on the same database."""
        return ConnectionWrapper(_database.get().cursor())

    def do_begin(self, dbapi_connection: Any) -> None:
        """Nothing: DuckDB commits every statement by itself."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Nothing, see do_begin."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """Nothing, see do_begin."""


@dataclass(frozen=True)
class _Evaluated:
    """What Great Expectations says of one claim about one column."""

    column: str
    success: bool
    rows: int
    breaching: int
    missing: tuple[str, ...]
    error: str


def validate(
    suite: Sequence[Expectation],
    files: Sequence[str],
    window: Window,
    *,
    memory_limit: str = "",
    spill_to: Path | None = None,
    engine: Engine | None = None,
) -> tuple[CheckResult, ...]:
    """Evaluate the row-wise expectations of a suite; comparisons in it are passed over.

    Completeness is about the window's rows of chat: an embedding has no task type and no answer's tokens. Everything else is about
    all rows of the files: those next to the window are read too, when attempts of one request are put together.

    Args:
        suite: expectations of any severity.
        files: Parquet files in schema.REQUEST_LOG.
        window: half-open, seconds since 1970.
        memory_limit: what DuckDB may hold before it spills; empty: as of every engine.
        spill_to: where it spills to; None: where the process runs.
        engine: Spark, open, where its workers are to count; the columns, and where a breach came from, DuckDB tells all the same.

    Raises:
        UnusableInputError: there is no file.
    """
    if not files:
        raise UnusableInputError("nothing to check: the window holds no data file")
    rules = [expectation for expectation in suite if not isinstance(expectation.predicate, Comparison)]
    with bounded(memory_limit, None, spill_to) as settings, _opened(files, window, settings) as has_schema:
        views = (COLUMNS, DAYS, WINDOW) if has_schema else (COLUMNS,)
        frames = (
            dict(zip((DAYS, WINDOW), spark_rows.frames(engine, files, window, _MOST_USD), strict=True)) if engine and has_schema else {}
        )
        found: dict[str, list[_Evaluated]] = {}
        for view in views:
            found |= _evaluated([rule for rule in rules if _view_of(rule) == view], view, window, frames.get(view))
        where = {rule.name: _objects(rule.predicate) for rule in rules if rule.name in found and _breaching(found[rule.name])}
    missing = "the files do not have the columns that this is about"
    return tuple(
        _summed_up(rule, found[rule.name], where.get(rule.name, "")) if rule.name in found else rule.result("not_checked", missing)
        for rule in rules
    )


@contextmanager
def _opened(files: Sequence[str], window: Window, settings: Mapping[str, Any]) -> Iterator[bool]:
    """A database with the views; gives whether the columns are there that the views on rows need."""
    import duckdb
    from sqlalchemy.dialects import registry

    registry.register(DIALECT, __name__, AutocommitDialect.__name__)
    with duckdb.connect(":memory:", config=dict(settings)) as database:
        rows = database.read_parquet(list(files), union_by_name=True)
        later = [column for column in REQUEST_LOG if column.name in ADDED_LATER and column.name not in rows.columns]
        if later:
            rows = rows.select("*", *(f"NULL::{DUCKDB_TYPE[column.type]} AS {column.name}" for column in later))
        rows.create_view("lake_files")
        database.execute(
            f"""CREATE VIEW {COLUMNS} AS SELECT concat(column_name, ' ', data_type) AS declared
            FROM information_schema.columns WHERE table_name = 'lake_files'"""  # noqa: S608 - a name of ours
        )
        declared = {f"{name} {kind}" for name, kind in zip(rows.columns, rows.types, strict=True)}
        has_schema = _agreed_columns() <= declared
        if has_schema:
            # DuckDB answers a comparison from Parquet statistics, which leave NaN out: as infinity it stays visible.
            doubles = [column.name for column in REQUEST_LOG if column.type == "double"]
            visible = ", ".join(f"CASE WHEN isnan({name}) THEN CAST('infinity' AS DOUBLE) ELSE {name} END AS {name}" for name in doubles)
            database.execute(
                f"""CREATE VIEW {DAYS} AS
                SELECT * REPLACE ({visible}), epoch(started_at) - epoch(ingested_at) AS {AHEAD_OF_INGESTION},
                    cost_usd - ({_MOST_USD}) AS {COST_BEYOND_PRICES}
                FROM lake_files"""  # noqa: S608 - names of ours
            )
            started = duckdb.ColumnExpression("started_at")
            start, end = (duckdb.ConstantExpression(_moment(value)) for value in (window.start_s, window.end_s))
            is_chat = (duckdb.ColumnExpression("operation") == duckdb.ConstantExpression(CHAT)) | duckdb.ColumnExpression(
                "operation"
            ).isnull()
            rows.filter((started >= start) & (started < end) & is_chat).create_view(WINDOW)
        token = _database.set(database)
        try:
            yield has_schema
        finally:
            _database.reset(token)


def _agreed_columns() -> set[str]:
    return {f"{column.name} {DUCKDB_TYPE[column.type]}" for column in REQUEST_LOG}


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _view_of(rule: Expectation) -> str:
    if isinstance(rule.predicate, HasSchema):
        return COLUMNS
    return WINDOW if isinstance(rule.predicate, Filled) else DAYS


def _evaluated(rules: Sequence[Expectation], view: str, window: Window, frame: Any) -> dict[str, list[_Evaluated]]:
    """One suite over one view, or its frame on Spark: Great Expectations bundles its counts into few statements, or jobs."""
    if not rules:
        return {}
    # It takes seconds to load.
    from routing_pipeline.data_quality.evaluator import ProgressBarsConfig, gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    if frame is None:
        source = context.data_sources.add_sql(name="lake", connection_string=f"{DIALECT}:///:memory:", create_temp_table=False)
        batch = source.add_table_asset(view, table_name=view).add_batch_definition_whole_table("all").get_batch()
    else:
        whole = context.data_sources.add_spark(name="lake", persist=False).add_dataframe_asset(view)
        batch = whole.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(name=view, expectations=[part for rule in rules for part in _translated(rule, window)])
    # Counts alone, never values of the logs; of missing columns the names, which are ours.
    listed = len(REQUEST_LOG) if view == COLUMNS else 0
    outcome: Any = batch.validate(suite, result_format={"result_format": "BASIC", "partial_unexpected_count": listed})
    found: dict[str, list[_Evaluated]] = defaultdict(list)
    for result in outcome.results:
        meta = result.expectation_config.meta
        found[meta["rule"]].append(_read(meta["column"], result))
    return found


def _translated(rule: Expectation, window: Window) -> list[Any]:
    """The rule as expectations of Great Expectations, one per column."""
    from routing_pipeline.data_quality.evaluator import expectations as gxe, row_conditions

    def part(kind: Any, column: str, **settings: Any) -> Any:
        return kind(column=column, meta={"rule": rule.name, "column": column}, **settings)

    match rule.predicate:
        case HasSchema():
            return [part(gxe.ExpectColumnDistinctValuesToContainSet, "declared", value_set=sorted(_agreed_columns()))]
        case NeverNull(columns):
            return [part(gxe.ExpectColumnValuesToNotBeNull, column) for column in columns]
        case Unique(column):
            return [part(gxe.ExpectColumnValuesToBeUnique, column)]
        case Between(columns, low, high, is_low_excluded):
            limits = {"min_value": low, "max_value": high, "strict_min": is_low_excluded}
            return [part(gxe.ExpectColumnValuesToBeBetween, column, **limits) for column in columns]
        case OneOf(column, values):
            return [part(gxe.ExpectColumnValuesToBeInSet, column, value_set=list(values))]
        case WithinWindow(column, margin_s):
            first = window.start_s // SECONDS_PER_DAY * SECONDS_PER_DAY - margin_s
            last = (window.end_s // SECONDS_PER_DAY + 1) * SECONDS_PER_DAY + margin_s
            return [part(gxe.ExpectColumnValuesToBeBetween, column, min_value=_moment(first), max_value=_moment(last), strict_max=True)]
        case Filled(column, share, of):
            rows = {} if of is None else {"row_condition": row_conditions.Column("status") == of}
            return [part(gxe.ExpectColumnValuesToNotBeNull, column, mostly=share, **rows)]
    return []


def _breaching(parts: Sequence[_Evaluated]) -> int:
    return sum(part.breaching for part in parts)


def _objects(predicate: object) -> str:
    """The objects that most of the breaching rows came from, and what can be done about them; empty for claims about other things."""
    if not isinstance(predicate, Between):
        return ""
    is_breach = " OR ".join(
        f"{column} > {predicate.high!r} OR {column} {'<=' if predicate.is_low_excluded else '<'} {predicate.low!r}"
        for column in predicate.columns
    )
    rows = (
        _database.get()
        .execute(
            f"SELECT source_object, count(*) FROM {DAYS} WHERE {is_breach} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MOST_OBJECTS}"  # noqa: S608
        )
        .fetchall()
    )
    named = ", ".join(f"'{wording.name(name, LONGEST_OBJECT)}' ({count:,})" for name, count in rows)
    return f"; as in {named}. What to do: {WHAT_TO_DO}" if named else ""


def _read(column: str, result: Any) -> _Evaluated:
    observed: Mapping[str, Any] = result.result or {}
    return _Evaluated(
        column=column,
        success=bool(result.success),
        rows=int(observed.get("element_count") or 0),
        breaching=int(observed.get("unexpected_count") or 0),
        missing=tuple(observed.get("partial_missing_list") or ()),
        error="" if observed else _error_of(result.exception_info),
    )


def _error_of(exception_info: Any) -> str:
    """The class of the error alone: its text may quote a value from the logs."""
    found = re.search(r"\(_?duckdb\.(\w+)\)", str(exception_info))
    return found.group(1) if found else "error"


def _summed_up(rule: Expectation, parts: Sequence[_Evaluated], where: str) -> CheckResult:
    """One result for all columns that a rule speaks of; a rule that could not be evaluated has failed."""
    errors = [part for part in parts if part.error]
    if errors:
        named = ", ".join(f"{part.column} ({part.error})" for part in errors)
        return rule.result("failed", f"could not be evaluated for {named}")
    if isinstance(rule.predicate, HasSchema):
        missing = [CheckItem(name=each, observed="not there, or of another type") for each in parts[0].missing]
        wanted = len(_agreed_columns())
        numbers = {"columns": float(wanted), "missing_columns": float(len(missing))}
        return rule.result(
            "failed" if missing else "passed", f"{wanted - len(missing)} of {wanted} columns are as agreed", numbers, missing
        )
    rows = max(part.rows for part in parts)
    if isinstance(rule.predicate, Filled):
        return _completeness(rule, rule.predicate, parts[0])
    breaching = _breaching(parts)
    items = [
        CheckItem(name=part.column, observed=f"{part.breaching:,} of {part.rows:,} rows", numbers={"breaching_rows": float(part.breaching)})
        for part in sorted(parts, key=lambda part: -part.breaching)
        if part.breaching
    ]
    is_met = all(part.success for part in parts)
    text = (
        f"true for all {rows:,} rows"
        if is_met
        else "does not hold in " + "; ".join(f"{item.name}: {item.observed}" for item in items) + where
    )
    return rule.result("passed" if is_met else "failed", text, {"rows": float(rows), "breaching_rows": float(breaching)}, items)


def _completeness(rule: Expectation, predicate: Filled, part: _Evaluated) -> CheckResult:
    kind = {None: "attempts", "success": "successes", "failure": "failures"}[predicate.of]
    if part.rows == 0:
        return rule.result("not_checked", f"no {kind} in the window")
    share = 1.0 - part.breaching / part.rows
    numbers = {"rows": float(part.rows), "filled_share": share}
    return rule.result("passed" if part.success else "failed", f"logged for {100 * share:.1f} % of {part.rows:,} {kind}", numbers)
