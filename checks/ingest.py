"""After every ingestion: is every record and every score accounted for, and were few enough refused?

Belongs here: checks on the request log and on the feedback as a whole. Does not belong here: claims about an analysis' window (`scope`).
"""

from collections.abc import Iterator

import dagster as dg

from assets.ingest import feedback, request_log
from assets.resources import HomeResource
from checks import claims
from routing_pipeline.data_quality.expectations import FEEDBACK, INGEST
from routing_pipeline.data_quality.feedback_checks import feedback_checks
from routing_pipeline.data_quality.ledger_checks import ledger_checks
from routing_pipeline.data_quality.suite import note_blocked
from routing_pipeline.ingest.feedback_totals import feedback_totals
from routing_pipeline.lake.table import Lake


@dg.multi_asset_check(specs=claims.specs(INGEST, request_log))
def ledger(home: HomeResource) -> Iterator[dg.AssetCheckResult]:
    """Records against rows, refusals and duplicates, over everything that this home ever read."""
    opened = home.open()
    checks = ledger_checks(Lake(opened).totals())
    note_blocked(opened, checks)
    yield from claims.results(checks, request_log)


@dg.multi_asset_check(specs=claims.specs(FEEDBACK, feedback))
def feedback_ledger(home: HomeResource) -> Iterator[dg.AssetCheckResult]:
    """Scores against what was kept and refused, over all feedback that this home was ever given."""
    opened = home.open()
    checks = feedback_checks(feedback_totals(opened))
    note_blocked(opened, checks)
    yield from claims.results(checks, feedback)
