"""An ingestion as lines for a terminal.

Belongs here: wording `IngestSummary`. Does not belong here: printing, and the sentences about feedback (`feedback_lines`).
"""

from __future__ import annotations

from collections.abc import Iterator

from routing_pipeline.data_quality import feedback_lines
from routing_pipeline.ingest.summary import IngestSummary, ReadNow
from routing_pipeline.lake.totals import IngestTotals, said_left_out


def lines(summary: IngestSummary) -> Iterator[str]:
    """What was read now, then what the home holds in all."""
    yield _read("nothing new in the logs", "read now", summary.read_now)
    yield from _left(summary.read_now)
    held = _counts(summary, summary.objects, "record", "ingested", "quarantined", "duplicates")
    yield f"in the home: {held}{said_left_out(summary.left_out)}"
    if summary.feedback_read_now is not None:
        yield _read(
            "nothing new in the feedback", "feedback read now", summary.feedback_read_now, "score", "accepted", "refused", "repeated"
        )
        yield from _left(summary.feedback_read_now)
    yield from feedback_lines.lines(summary.feedback)


def _read(nothing: str, something: str, now: ReadNow, noun: str = "record", *outcomes: str) -> str:
    if not now.objects:
        return nothing
    replaced = f"; {now.replaced:,} {'rows' if noun == 'record' else 'scores'} of earlier versions left" if now.replaced else ""
    return f"{something}: {_counts(now, now.objects, noun, *(outcomes or ('ingested', 'quarantined', 'duplicates')))}{replaced}"


def _counts(counted: ReadNow | IngestTotals, objects: int, noun: str, ingested: str, quarantined: str, duplicates: str) -> str:
    return (
        f"{counted.records:,} {noun}{'' if counted.records == 1 else 's'} from {objects:,} object{'' if objects == 1 else 's'}: "
        f"{counted.ingested:,} {ingested}, {counted.quarantined:,} {quarantined}, {counted.duplicates:,} {duplicates}"
    )


def _left(now: ReadNow) -> Iterator[str]:
    if now.objects_changing:
        yield f"{now.objects_changing:,} object{'s are' if now.objects_changing > 1 else ' is'} not finished yet, left for the next time"
    if now.objects_forgotten:
        yield f"{now.objects_forgotten:,} object{'s were' if now.objects_forgotten > 1 else ' was'} forgotten, and not read"
