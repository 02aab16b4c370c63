"""The data-quality gate of one scope: both suites over the window, and the ledger's sums, as one result.

Belongs here: opening what the suites read, running them, keeping what came out. Does not belong here: the rules
(`expectations`), how they are evaluated (`expectations_gx`, `expectations_baseline`), stopping a run (`checks`).
"""

from __future__ import annotations

import time

from routing_pipeline.catalog import Catalog
from routing_pipeline.engine import open_engine
from routing_pipeline.errors import DataQualityError
from routing_pipeline.expectations import BLOCKING, COMPLETENESS, CheckResult, DataQuality, Severity
from routing_pipeline.expectations_baseline import Compared, compare, history_start_s, ledger_checks
from routing_pipeline.home import Home
from routing_pipeline.ingest.lake import Lake
from routing_pipeline.scope import AnalysisScope, Window


def check_suite(severity: Severity, home: Home, scope: AnalysisScope, lake: Lake, *, now_s: float | None = None) -> tuple[CheckResult, ...]:
    """Evaluate one suite over the scope's window now, and keep the results for the report.

    Args:
        severity: `blocking` reads the window's files whole; `warning` also reads the weeks before and the feedback.
        home: where results are kept.
        scope: the window; its conformed rows exist.
        lake: of the same home.
        now_s: the present, seconds since 1970, for freshness; default: the clock's.

    Raises:
        UnusableInputError: the lake holds no file of the window.
    """
    # Imported here because SQLAlchemy takes half a second to load and Great Expectations several.
    from routing_pipeline.expectations_gx import validate

    window = Window(scope.start_s, scope.end_s)
    if severity == "blocking":
        checks = validate(BLOCKING, lake.attempt_files(scope.start_s, scope.end_s), window)
    else:
        checks = validate(COMPLETENESS, lake.attempt_files(scope.start_s, scope.end_s), window)
        checks += _comparisons(home, scope, lake, time.time() if now_s is None else now_s)
    home.results.save(_part(severity), _key(severity, scope), DataQuality(rows=scope.attempts, checks=checks))
    return checks


def gate(home: Home, scope: AnalysisScope, lake: Lake) -> None:
    """Let only sound rows through: the blocking suite, evaluated unless it was for the same rows.

    Raises:
        DataQualityError: a blocking check failed; the message names it and what was observed.
    """
    stored = home.results.load(_part("blocking"), _key("blocking", scope), DataQuality)
    checks = check_suite("blocking", home, scope, lake) if stored is None else stored.checks
    failed = [f"{check.name} ({check.observed})" for check in checks if not check.passed]
    if failed:
        raise DataQualityError("blocking data-quality check failed, nothing is answered from these rows: " + "; ".join(failed))


def data_quality(home: Home, scope: AnalysisScope, lake: Lake, *, now_s: float | None = None) -> DataQuality:
    """Every claim about the scope's data: suites checked earlier are read back, the others are evaluated now.

    Raises:
        UnusableInputError: the lake holds no file of the window.
    """
    checks = ledger_checks(lake.totals())
    severities: tuple[Severity, ...] = ("blocking", "warning")
    for severity in severities:
        stored = home.results.load(_part(severity), _key(severity, scope), DataQuality)
        checks += check_suite(severity, home, scope, lake, now_s=now_s) if stored is None else stored.checks
    result = DataQuality(rows=scope.attempts, checks=checks)
    home.results.save("data_quality", scope.key, result)
    return result


def _comparisons(home: Home, scope: AnalysisScope, lake: Lake, now_s: float) -> tuple[CheckResult, ...]:
    feedback_files = lake.feedback_files()
    with open_engine(scope.engine, spill_to=home.scratch / "spill") as engine:
        return compare(
            Compared(
                scope=scope,
                requests=engine.read_parquet([scope.requests_uri]),
                previous=engine.read_parquet([scope.previous_uri]),
                attempts=engine.read_parquet(lake.attempt_files(history_start_s(scope), scope.end_s)),
                feedback=engine.read_parquet(feedback_files) if feedback_files else None,
                catalog=Catalog(scope.parameters.models),
                now_s=now_s,
            )
        )


def _key(severity: Severity, scope: AnalysisScope) -> str:
    """What must hold is a matter of the rows alone; what should hold also of the thresholds asked for."""
    return scope.rows_key if severity == "blocking" and scope.rows_key else scope.key


def _part(severity: Severity) -> str:
    return f"data_quality_{severity}"
