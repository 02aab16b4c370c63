"""Which alarms are news: one alert for an incident, another only when it has grown by half.

Belongs here: the memory between two looks, as the cursor carries it. Does not belong here: what alarms (`detection`).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from routing_pipeline.clock import SECONDS_PER_HOUR

SAME_INCIDENT_H = 6
"""Alarming hours at most this far apart belong to one incident."""
GROWN = 1.5


class _Cursor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Incident(_Cursor):
    """An incident that was told: when it began, when it alarmed last, how large it was said to be, how often it was told."""

    began: int
    last_alarm: int
    told_size: float
    told: int = 1


class Memory(_Cursor):
    """What a sensor remembers: hours judged so far, and the incident that is open."""

    seen: int | None = None
    incident: Incident | None = None

    def after(self, hour: int, size: float | None, size_low: float) -> tuple[Memory, bool]:
        """The memory once `hour` was judged, and whether that is news.

        Args:
            hour: counted from 1970.
            size: of the largest alarm, as a share of all traffic's usual; None when nothing alarmed.
            size_low: what it is at least; noise alone never makes an incident grow.
        """
        if size is None:
            return self.model_copy(update={"seen": hour}), False
        known = self.incident
        if known is None or hour - known.last_alarm > SAME_INCIDENT_H:
            return Memory(seen=hour, incident=Incident(began=hour, last_alarm=hour, told_size=size)), True
        has_grown = size_low >= GROWN * known.told_size
        changed: dict[str, float] = {"last_alarm": hour}
        if has_grown:
            changed |= {"told_size": size, "told": known.told + 1}
        return Memory(seen=hour, incident=known.model_copy(update=changed)), has_grown


def not_ahead(cursor: str | None, now_s: float) -> tuple[str | None, str | None]:
    """The cursor without what it remembers of hours that have not been yet, and in words that there was such; None where there was not.

    They come of a clock that ran ahead. A sensor that believed them would say nothing until these hours have passed.
    """
    memory, present = remembered(cursor), int(now_s // SECONDS_PER_HOUR)
    if memory.seen is None or memory.seen <= present:
        return cursor, None
    incident = memory.incident
    if incident is not None and incident.last_alarm > present:
        incident = None
    said = f"the last check ended {memory.seen - present} hours ahead of the clock, so what it knew of them was dropped"
    return Memory(incident=incident).model_dump_json(), said


def remembered(cursor: str | None) -> Memory:
    """The memory in a cursor; an empty or unreadable one is none."""
    try:
        return Memory.model_validate_json(cursor or "{}")
    except ValidationError:
        return Memory()
