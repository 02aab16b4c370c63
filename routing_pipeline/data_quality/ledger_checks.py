"""Claims about the ledger: that it adds up, and that few records were refused.

Belongs here: evaluating `expectations.INGEST` for logs. Does not belong here: feedback (`feedback_checks`), the sums themselves
(`lake.totals`).
"""

from __future__ import annotations

from routing_pipeline import text as wording
from routing_pipeline.data_quality.expectations import INGEST, LONGEST_OBJECT, WHAT_TO_DO, CheckItem, CheckResult
from routing_pipeline.lake.totals import IngestTotals, QuarantineReason

MOST_REASONS = 3


def ledger_checks(totals: IngestTotals) -> tuple[CheckResult, ...]:
    """`expectations.INGEST` against the ledger's totals."""
    identity, quarantine = INGEST
    accounted = totals.ingested + totals.quarantined + totals.duplicates
    text = (
        f"{totals.records:,} records = {totals.ingested:,} ingested + {totals.quarantined:,} quarantined + {totals.duplicates:,} duplicates"
    )
    is_equal = accounted == totals.records
    numbers = {"records": float(totals.records), "accounted_records": float(accounted)}
    first = identity.result("passed" if is_equal else "failed", text if is_equal else f"does not hold: {text}", numbers)
    if not totals.records:
        return first, quarantine.result("not_checked", "no record was read yet")
    share = totals.quarantined / totals.records
    observed, shares = f"{totals.quarantined:,} of {totals.records:,} records, {wording.percent(share, 2)}", {"quarantined_share": share}
    if share < quarantine.limit:
        return first, quarantine.result("passed", observed, shares)
    found = [CheckItem(name=each.reason, observed=_where_refused(each)) for each in totals.reasons]
    if found:
        observed += ": " + "; ".join(f"{wording.name(each.name, LONGEST_OBJECT)} ({each.observed})" for each in found[:MOST_REASONS])
        observed += f"; {len(found) - MOST_REASONS} more reasons" if len(found) > MOST_REASONS else ""
    return first, quarantine.result("failed", f"{observed}. What to do: {WHAT_TO_DO}", shares, found)


def _where_refused(refusals: QuarantineReason) -> str:
    """How many, and where one of them stands."""
    line = "" if refusals.line is None else f" line {refusals.line:,}"
    record = "" if refusals.record is None else f" record {refusals.record:,}"
    return f"{refusals.count:,}, as in '{wording.name(refusals.object, LONGEST_OBJECT)}'{line}{record}"
