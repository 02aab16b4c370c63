"""What a home ever read, counted: the ledger's sums, and why records were refused.

Belongs here: sums over side tables that readers are shown. Does not belong here: writing them (`table`), what of scores found its
request (`ingest.feedback_totals`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from routing_pipeline.estimates import Result, quantity
from routing_pipeline.lake.side_tables import SideTable, show_side_table
from routing_pipeline.text import LogName

TOP_REASONS = 20


class QuarantineReason(Result):
    """One reason for which records were refused."""

    reason: str
    count: int = quantity("Records refused for it", "records")
    object: LogName = Field(description="An object that holds one of them")
    line: int | None = Field(description="Its line in that object, from 1; null when the whole object was refused")
    record: int | None = Field(default=None, description="Record within the line, from 1; null when it is the only one there")


class IngestTotals(Result):
    """The ledger's totals for this home; records = ingested + quarantined + duplicates."""

    records: int = quantity("Records found in the logs", "records")
    ingested: int = quantity("Records that became rows", "records")
    quarantined: int = quantity("Records refused", "records")
    duplicates: int = quantity("Records whose attempt was in the lake already", "records")
    objects: int = quantity("Objects read, each as it was read last", "objects")
    left_out: dict[str, int] = Field(
        default_factory=dict,
        description="What was found beside the records and is none, by what it is called",
        json_schema_extra={"unit": "items"},
    )
    reasons: tuple[QuarantineReason, ...] = Field(default=(), description="Most frequent reasons for refusal, at most 20")
    other_reasons: int = quantity("Records refused for a reason not listed", "records", default=0)


def ingest_totals(ledger: Sequence[str], quarantine: Sequence[str]) -> IngestTotals:
    """The totals of these files of the two side tables."""
    sums, reasons = ledger_sums(ledger), refusals("quarantine", quarantine)
    listed = sum(reason.count for reason in reasons)
    return IngestTotals(**sums, left_out=_left_out(ledger), reasons=reasons, other_reasons=sums["quarantined"] - listed)


def said_left_out(left_out: Mapping[str, int]) -> str:
    """What was left out in words, to follow a sentence; empty where nothing was."""
    return "; left out: " + ", ".join(f"{count:,} {what}" for what, count in left_out.items()) if left_out else ""


def ledger_sums(files: Sequence[str]) -> dict[str, int]:
    """Records, ingested, quarantined and duplicates of a ledger's files, and its objects."""
    names = ("records", "ingested", "quarantined", "duplicates")
    if not files:
        return dict.fromkeys((*names, "objects"), 0)
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.read_parquet(list(files))
        found = rows.aggregate(", ".join([*(f"sum({name})::BIGINT" for name in names), "count(*)"])).fetchone()
    return {name: value or 0 for name, value in zip((*names, "objects"), found or (), strict=True)}


def refusals(name: SideTable, files: Sequence[str]) -> tuple[QuarantineReason, ...]:
    """Most frequent reasons of a quarantine's files, each with one record; at most TOP_REASONS."""
    if not files:
        return ()
    import duckdb

    with duckdb.connect() as connection:
        show_side_table(connection, name, files, "quarantine")
        rows = connection.execute(
            """SELECT reason, sum(coalesce(records, 1))::BIGINT, min(struct_pack(o := source_object, l := line, r := record))
            FROM quarantine GROUP BY reason ORDER BY 2 DESC, 1 LIMIT $top""",
            {"top": TOP_REASONS},
        ).fetchall()
    return tuple(QuarantineReason(reason=reason, count=count, object=at["o"], line=at["l"], record=at["r"]) for reason, count, at in rows)


def _left_out(ledger: Sequence[str]) -> dict[str, int]:
    """What was found beside records and is none, by what it is called, most first."""
    if not ledger:
        return {}
    import duckdb

    with duckdb.connect() as connection:
        show_side_table(connection, "ledger", ledger, "ledger")
        rows = connection.execute("SELECT left_out_as, sum(left_out)::BIGINT FROM ledger WHERE left_out > 0 GROUP BY 1 ORDER BY 2 DESC, 1")
        return dict(rows.fetchall())
