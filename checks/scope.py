"""The gate in front of the money: both suites over the rows that an analysis is about to read.

Belongs here: checks on the scope. Does not belong here: claims about the ledger (`ingest`).
"""

from collections.abc import Iterator

import dagster as dg

from assets import scope
from assets.operations import BEFORE_THE_REPORT, PRIORITY
from assets.resources import HomeResource
from checks import claims
from routing_pipeline import beside
from routing_pipeline.data_quality.expectations import BLOCKING, WARNING
from routing_pipeline.data_quality.suite import check_suite, note_blocked
from routing_pipeline.lake.table import Lake
from routing_pipeline.window.scope import AnalysisScope


@dg.multi_asset_check(specs=claims.specs(BLOCKING, scope.analysis_scope), ins={"analysis_scope": dg.AssetIn()})
def what_must_hold(analysis_scope: AnalysisScope, home: HomeResource) -> Iterator[dg.AssetCheckResult]:
    """Claims without which no number may be published."""
    opened = home.open()
    beside.settle("blocking")
    checks = check_suite("blocking", opened, analysis_scope, Lake(opened))
    note_blocked(opened, checks)
    yield from claims.results(checks, scope.analysis_scope)


@dg.multi_asset_check(
    specs=claims.specs(WARNING, scope.analysis_scope), ins={"analysis_scope": dg.AssetIn()}, op_tags={PRIORITY: BEFORE_THE_REPORT}
)
def what_should_hold(analysis_scope: AnalysisScope, home: HomeResource) -> Iterator[dg.AssetCheckResult]:
    """Completeness, and comparisons with baselines: reported, never in the way."""
    opened = home.open()
    beside.settle("warning")
    yield from claims.results(check_suite("warning", opened, analysis_scope, Lake(opened)), scope.analysis_scope)
