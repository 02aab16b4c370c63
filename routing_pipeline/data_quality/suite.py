"""The data-quality gate of one scope: both suites over the window, and the ledger's sums, as one result.

Belongs here: opening what the suites read, running them, keeping what came out. Does not belong here: the rules
(`expectations`), how they are evaluated (`row_checks`, `baseline_checks`), stopping a run (`checks`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from routing_pipeline.catalog import Catalog
from routing_pipeline.data_quality.baseline_checks import compare, freshened
from routing_pipeline.data_quality.compared import Compared, history_start_s
from routing_pipeline.data_quality.expectations import BLOCKING, COMPLETENESS, CheckResult, DataQuality, Severity
from routing_pipeline.data_quality.feedback_checks import feedback_checks
from routing_pipeline.data_quality.ledger_checks import ledger_checks
from routing_pipeline.errors import DataQualityError, PipelineError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.feedback_totals import feedback_totals
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.rows import rows_at
from routing_pipeline.window.scope import AnalysisScope, Window

BLOCKED = "data_quality/blocked.json"
"""Among the results: what goes with the reports that it is compared with, when rows are forgotten, goes as well."""

CHECKED_HERE_BYTES = 1 << 30
"""Data files of less than this, some 40 million requests, are checked by DuckDB: Spark takes a quarter of a minute to begin with."""


class BlockedRun(Result):
    """The last run that was stopped; it delivered no report that could say so."""

    blocked_s: float = quantity("When, since 1970", "s")
    claims: tuple[str, ...] = Field(description="Blocking claims that failed, by name")


def note_blocked(home: Home, checks: Sequence[CheckResult], *, now_s: float | None = None) -> None:
    """Write down that these checks stop a run, if they do; a home that cannot be written to keeps no check from telling."""
    failed = tuple(check.name for check in checks if check.severity == "blocking" and not check.passed)
    if failed:
        blocked = BlockedRun(blocked_s=time.time() if now_s is None else now_s, claims=failed)
        with contextlib.suppress(OSError, PipelineError):
            home.results.storage.write(BLOCKED, blocked.model_dump_json().encode())


def last_blocked(home: Home) -> BlockedRun | None:
    """The last run that was stopped, however long ago; None when none was, or nobody can read what was written."""
    stored = home.results.storage.read(BLOCKED)
    try:
        return None if stored is None else BlockedRun.model_validate_json(stored)
    except ValidationError:
        return None


def check_suite(severity: Severity, home: Home, scope: AnalysisScope, lake: Lake, *, now_s: float | None = None) -> tuple[CheckResult, ...]:
    """Evaluate one suite over the scope's window, and keep the results for the report; what was checked before is read back.

    Args:
        severity: `blocking` reads the window's files whole; `warning` also reads the weeks before and the feedback.
        home: where results are kept.
        scope: the window; its conformed rows exist.
        lake: of the same home.
        now_s: the present, seconds since 1970, for freshness; default: the clock's.

    Raises:
        UnusableInputError: the lake holds no file of the window.
    """
    files, now_s = lake.attempt_files(scope.start_s, scope.end_s), time.time() if now_s is None else now_s
    key = _key(severity, scope, lake)
    stored = home.results.load(_part(severity), key, DataQuality)
    if stored is not None:
        checks = tuple(freshened(check, scope, now_s) for check in stored.checks)
    else:
        # Imported here because SQLAlchemy takes half a second to load and Great Expectations several.
        from routing_pipeline.data_quality.row_checks import validate

        suite, window = BLOCKING if severity == "blocking" else COMPLETENESS, Window(scope.start_s, scope.end_s)
        spill_to = home.scratch / "spill"
        if scope.engine == "duckdb" or sum(size_bytes for _, size_bytes, _ in _as_they_are(files)) < CHECKED_HERE_BYTES:
            checks = validate(suite, files, window, spill_to=spill_to)
        else:
            with open_engine(scope.engine, spill_to=spill_to) as engine:
                checks = validate(suite, files, window, spill_to=spill_to, engine=engine)
        if severity == "warning":
            checks += _comparisons(home, scope, lake, now_s)
    if stored is None or checks != stored.checks:
        home.results.save(_part(severity), key, DataQuality(rows=scope.attempts + scope.other_calls, checks=checks))
    return checks


def gate(home: Home, scope: AnalysisScope, lake: Lake) -> None:
    """Let only sound rows through: the ledgers, and the blocking suite, evaluated unless it was for the same files.

    Raises:
        DataQualityError: a blocking check failed; the message names it and what was observed.
    """
    refuse((*ledgers(home, lake), *check_suite("blocking", home, scope, lake)), "nothing is answered from these rows")


def refuse(checks: Sequence[CheckResult], consequence: str) -> None:
    """Raises DataQualityError, naming check and what was observed, when one of these checks is blocking and failed."""
    failed = [f"{check.name} ({check.observed})" for check in checks if check.severity == "blocking" and not check.passed]
    if failed:
        raise DataQualityError(f"blocking data-quality check failed, {consequence}: {'; '.join(failed)}")


def ledgers(home: Home, lake: Lake) -> tuple[CheckResult, ...]:
    """What must hold of everything that the home ever read, logs and feedback."""
    return (*ledger_checks(lake.totals()), *feedback_checks(feedback_totals(home)))


def data_quality(home: Home, scope: AnalysisScope, lake: Lake, *, now_s: float | None = None) -> DataQuality:
    """Every claim about the scope's data: suites checked earlier are read back as they came out, the others are evaluated now.

    Raises:
        UnusableInputError: the lake holds no file of the window.
    """
    checks = ledgers(home, lake)
    severities: tuple[Severity, ...] = ("blocking", "warning")
    for severity in severities:
        stored = home.results.load(_part(severity), _key(severity, scope, lake), DataQuality)
        checks += check_suite(severity, home, scope, lake, now_s=now_s) if stored is None else stored.checks
    result = DataQuality(rows=scope.attempts + scope.other_calls, checks=checks)
    home.results.save("data_quality", scope.key, result)
    return result


def _comparisons(home: Home, scope: AnalysisScope, lake: Lake, now_s: float) -> tuple[CheckResult, ...]:
    feedback_files = lake.feedback_files()
    with open_engine(scope.engine, spill_to=home.scratch / "spill") as engine:
        return compare(
            Compared(
                scope=scope,
                requests=rows_at(engine, scope.requests_uri),
                previous=rows_at(engine, scope.previous_uri),
                attempts=engine.read_parquet(lake.attempt_files(history_start_s(scope), scope.end_s)),
                feedback=engine.read_parquet(feedback_files) if feedback_files else None,
                catalog=Catalog(scope.parameters.models),
                now_s=now_s,
            )
        )


def _key(severity: Severity, scope: AnalysisScope, lake: Lake) -> str:
    """What must hold is a matter of the rows alone; what should hold also of feedback, history, and the clock by which hours are the same.

    Files and not their content: rows that upkeep has written anew, or that somebody has tampered with, are checked again.
    """
    if severity == "blocking":
        return key_of(rows=scope.rows_key or scope.key, files=_as_they_are(lake.attempt_files(scope.start_s, scope.end_s)))
    files = _as_they_are(lake.attempt_files(history_start_s(scope), scope.end_s))
    zone = scope.parameters.alerts.timezone
    return key_of(scope=scope.window_key or scope.key, files=files, feedback=lake.feedback_version(), timezone=zone)


def _as_they_are(files: Sequence[str]) -> list[tuple[str, int, int]]:
    """Files with their size and the moment of their last change; those that lie elsewhere by name."""
    found = []
    for file in files:
        try:
            state = Path(file).stat()
        except OSError:
            found.append((file, -1, -1))
        else:
            found.append((file, state.st_size, state.st_mtime_ns))
    return found


def _part(severity: Severity) -> str:
    return f"data_quality_{severity}"
