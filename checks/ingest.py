"""After every ingestion: is every record accounted for, and were few enough refused?

Belongs here: checks on the request log as a whole. Does not belong here: claims about an analysis' window (`scope`).
"""

from collections.abc import Iterator

import dagster as dg

from assets.ingest import request_log
from assets.resources import HomeResource
from checks import claims
from routing_pipeline.data_quality import note_blocked
from routing_pipeline.expectations import INGEST
from routing_pipeline.expectations_baseline import ledger_checks
from routing_pipeline.ingest.lake import Lake


@dg.multi_asset_check(specs=claims.specs(INGEST, request_log))
def ledger(home: HomeResource) -> Iterator[dg.AssetCheckResult]:
    """Records against rows, refusals and duplicates, over everything that this home ever read."""
    opened = home.open()
    checks = ledger_checks(Lake(opened).totals())
    note_blocked(opened, checks)
    yield from claims.results(checks, request_log)
