"""Whether there are logs to read that nobody was sent for yet.

Belongs here: the decision behind the `new_logs` sensor. Reading them is the ingestion's.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from routing_pipeline.estimates import Result, quantity
from routing_pipeline.storage.results import key_of

AGAIN_AFTER_S = 1_800.0
"""Objects still unread this long after a run was started for them get another; each time the wait doubles."""
MAX_DOUBLINGS = 6


class UnreadObjects(Result):
    """How many objects of a source were not read yet, and a digest of which, in which version."""

    count: int = quantity("Objects not read yet, in their present version", "objects")
    digest: str = Field(description="Changes with what is unread")


class _PollCursor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    digest: str = ""
    asked_s: float = 0.0
    times: int = 0


class NewLogsDecision(Result):
    """Start an ingestion under `run_key`, or none."""

    run_key: str | None = None
    reason: str
    cursor: str = Field(description="Hand it back at the next tick")


def new_logs(unread: Sequence[UnreadObjects], cursor: str | None, now_s: float) -> NewLogsDecision:
    """One run for one set of unread objects, by source; the same set again only after a growing wait.

    An object that cannot be read now (still being written, the store fails) stays unread; asking for it at every look would
    start a run every minute, never asking again would lose it.
    """
    try:
        asked = _PollCursor.model_validate_json(cursor or "{}")
    except ValidationError:
        asked = _PollCursor()
    count = sum(each.count for each in unread)
    if not count:
        return NewLogsDecision(reason="no new objects", cursor=asked.model_dump_json())
    digest = key_of(unread=sorted(each.digest for each in unread if each.count))
    if digest == asked.digest:
        wait_s = AGAIN_AFTER_S * 2.0 ** min(asked.times - 1, MAX_DOUBLINGS)
        # Asked later than now, the clock ran ahead then: waiting for that moment could take for ever.
        if asked.asked_s <= now_s < asked.asked_s + wait_s:
            return NewLogsDecision(reason=f"a run was started for these {count:,} new objects", cursor=asked.model_dump_json())
        times = asked.times + 1
    else:
        times = 1
    next_cursor = _PollCursor(digest=digest, asked_s=now_s, times=times)
    return NewLogsDecision(run_key=f"new_logs:{digest}:{int(now_s)}", reason=f"{count:,} new objects", cursor=next_cursor.model_dump_json())
