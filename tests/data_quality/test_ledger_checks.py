"""The ledger adds up, and few records were refused, or the gate says which and why."""

from __future__ import annotations

from typing import Any

from routing_pipeline.data_quality.ledger_checks import ledger_checks
from routing_pipeline.lake.totals import IngestTotals, QuarantineReason

TOTALS = IngestTotals(records=1_000, ingested=950, quarantined=40, duplicates=10, objects=1)


def changed(**values: Any) -> IngestTotals:
    return TOTALS.model_copy(update=values)


def test_a_ledger_that_adds_up_with_few_refusals_passes() -> None:
    assert [result.outcome for result in ledger_checks(TOTALS)] == ["passed", "passed"]


def test_a_lost_record_blocks() -> None:
    identity, share = ledger_checks(changed(ingested=949))
    assert (identity.outcome, identity.severity, share.outcome) == ("failed", "blocking", "passed")
    assert identity.observed == "does not hold: 1,000 records = 949 ingested + 40 quarantined + 10 duplicates"


def test_five_percent_refused_blocks() -> None:
    identity, share = ledger_checks(changed(ingested=940, quarantined=50))
    assert (identity.outcome, share.outcome, share.severity) == ("passed", "failed", "blocking")


def test_too_many_refusals_are_told_with_reasons_one_place_each_and_what_to_do() -> None:
    reasons = tuple(
        QuarantineReason(reason=f"field {number} is missing", count=5_000 - number, object=place, line=line)
        for number, (place, line) in enumerate([("2026/a.jsonl", 7), ("evil\n\x1b[31mname", None), ("c", 1), ("d", 1), ("e", 1)])
    )
    _, share = ledger_checks(changed(records=20_000, ingested=0, quarantined=20_000, duplicates=0, reasons=reasons))
    assert share.observed.startswith("20,000 of 20,000 records, 100.00 %: field 0 is missing (5,000, as in '2026/a.jsonl' line 7); ")
    assert "field 1 is missing (4,999, as in 'evil [31mname'); field 2 is missing" in share.observed
    assert "; 2 more reasons. What to do: fix these objects" in share.observed
    assert [item.name for item in share.items] == [reason.reason for reason in reasons]
    _, passed = ledger_checks(changed(reasons=reasons))
    assert passed.observed == "40 of 1,000 records, 4.00 %"


def test_a_ledger_of_nothing_has_no_share_to_speak_of() -> None:
    assert [result.outcome for result in ledger_checks(changed(records=0, ingested=0, quarantined=0, duplicates=0))] == [
        "passed",
        "not_checked",
    ]
