"""What one ingestion read, apart from what the home holds in all.

Belongs here: putting both side by side, for logs and for feedback. Does not belong here: counting (`ingestion`, `feedback`,
`lake`, `feedback_totals`), the sentences (`report.ingested`).
"""

from __future__ import annotations

from pydantic import Field

from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.feedback import FeedbackIngestResult
from routing_pipeline.ingest.feedback_totals import FeedbackTotals, feedback_totals
from routing_pipeline.ingest.ingestion import IngestResult
from routing_pipeline.lake.table import Lake
from routing_pipeline.lake.totals import IngestTotals
from routing_pipeline.storage.home import Home


class ReadNow(Result):
    """Where every record, or score, of one ingestion went; all are 0 where nothing was new."""

    objects: int = quantity("Objects read", "objects", default=0)
    objects_changing: int = quantity("Objects not finished by their writer, left for the next run", "objects", default=0)
    objects_forgotten: int = quantity("Objects at the source that were forgotten, never read again", "objects", default=0)
    records: int = quantity("Records found in the objects read", "records", default=0)
    ingested: int = quantity("Records that became rows, or scores", "records", default=0)
    quarantined: int = quantity("Records refused", "records", default=0)
    duplicates: int = quantity("Records that were there already", "records", default=0)
    replaced: int = quantity("Rows, or scores, that left because their objects were uploaded or read again", "rows", default=0)


class IngestSummary(IngestTotals):
    """The ledger's totals for this home, and what was read now."""

    nothing_new: bool = Field(description="Whether neither logs nor feedback held anything that had not been read before")
    read_now: ReadNow = Field(description="What this ingestion read of the logs")
    feedback_read_now: ReadNow | None = Field(description="What it read of the feedback; null when it was given none")
    feedback: FeedbackTotals | None = Field(description="All scores that this home was ever given; null when it was given none")


def summarised(home: Home, logs: IngestResult | None, feedback: FeedbackIngestResult | None, *, asked_for_feedback: bool) -> IngestSummary:
    """A home after an ingestion.

    Args:
        home: The home.
        logs: What was read of the logs; None when nothing was new.
        feedback: The same of the feedback.
        asked_for_feedback: Whether the ingestion was given feedback.
    """
    read, scores = _now(logs), _now(feedback) if asked_for_feedback else None
    totals = feedback_totals(home)
    return IngestSummary(
        **dict(Lake(home).totals()),
        nothing_new=not read.objects and not (scores and scores.objects),
        read_now=read,
        feedback_read_now=scores,
        feedback=totals if totals.records else None,
    )


def _now(result: IngestResult | FeedbackIngestResult | None) -> ReadNow:
    if result is None:
        return ReadNow()
    counts = {name: getattr(result, name, 0) for name in ReadNow.model_fields if name != "objects"}
    return ReadNow(objects=result.objects_new, **counts)
