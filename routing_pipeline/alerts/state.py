"""Where each sensor stands, written down at every look: for whoever asks between two of them.

Belongs here: the note and reading it. Does not belong here: deciding by it; sensors decide by their own cursors.
"""

from __future__ import annotations

import contextlib

from pydantic import ValidationError

from routing_pipeline.alerts.incidents import SAME_INCIDENT_H, remembered
from routing_pipeline.alerts.missing_traffic import remembered_silence
from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.errors import PipelineError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.storage.home import Home

FOLDER = "alerts"


class SensorState(Result):
    """One sensor at its last look."""

    looked_s: float = quantity("When it ran, since 1970", "s")
    is_open: bool
    began_s: float | None = quantity("When the open incident began, where that is known, since 1970", "s", default=None)


def save_state(home: Home, sensor: str, state: SensorState) -> None:
    """Write down where a sensor stands; a home that cannot be written to keeps no sensor from looking."""
    with contextlib.suppress(OSError, PipelineError):
        home.files.write(_name(sensor), state.model_dump_json().encode())


def saved_state(home: Home, sensor: str) -> SensorState | None:
    """Where a sensor stood at its last look; None when it never looked, or nobody can read what it wrote."""
    try:
        return SensorState.model_validate_json(home.files.read(_name(sensor)) or b"")
    except (OSError, PipelineError, ValidationError):
        return None


def state_of(cursor: str | None, now_s: float) -> SensorState:
    """What a cursor says: an incident is open until it did not alarm for longer than one incident may pause."""
    memory, silence = remembered(cursor), remembered_silence(cursor)
    incident = memory.incident
    if incident is not None and memory.seen is not None and memory.seen - incident.last_alarm <= SAME_INCIDENT_H:
        return SensorState(looked_s=now_s, is_open=True, began_s=float(incident.began * SECONDS_PER_HOUR))
    return SensorState(looked_s=now_s, is_open=bool(silence.told))


def _name(sensor: str) -> str:
    return f"{FOLDER}/{sensor}.json"
