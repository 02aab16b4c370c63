"""The record of a roll-out: every change of the share that follows a rule set, who or what made it, and what had been seen by then.

Belongs here: the transitions, appending one, where a roll-out stands after them. Does not belong here: what is published (`record`),
what a canary showed (`recommendation.canary`), writing a gateway's configuration (`gateways.rollout`).

Transitions lie as `rollout/<number>.json` beside the record of rule sets. A number is taken by creating its file, and each transition
names the hash of the one before, so that of two who act at once one is first and the other sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.rules.record_files import RecordFiles

FOLDER = "rollout"
SHARES: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 1.0)
"""Of the sessions, step by step."""

Change = Literal["advance", "hold", "roll_back"]


class Transition(Result):
    """One line of the record."""

    number: int = Field(ge=1, description="Place in the record, without gaps")
    change: Change
    rule_set_id: str
    share: float = quantity("Of the sessions that follow the rules from then on", "0..1")
    at: datetime = Field(description="UTC")
    by: str
    because: str = ""
    is_override: bool = Field(
        default=False, description="A person went on although what was seen, or the age of the approval, did not let it"
    )
    evidence: dict[str, JsonValue] | None = Field(
        default=None, description="The look at canary and control that it rests on; null where there was none"
    )
    before_sha256: str | None = Field(description="Of the transition before, as it is stored; null for the first")


class TakenStep(Result):
    """A transition in short, with the quality that had been seen by then."""

    change: Change
    share: float = quantity("Of the sessions that follow the rules from then on", "0..1")
    at: datetime = Field(description="UTC")
    by: str
    because: str = ""
    is_override: bool = False
    quality: Measured | None = Field(
        default=None, description="Canary less control by then, between bounds that hold at every look; null where nobody had looked"
    )
    limit: float | None = Field(default=None, description="The fall of quality that may not be, below 0; null where nobody had looked")


class RolloutState(Result):
    """Where the roll-out of one rule set stands."""

    rule_set_id: str
    share: float = quantity("Of the sessions that follow the rules; 0 before the first step", "0..1")
    last_share: float = quantity("Of the last step: all but a control that is kept", "0..1", default=1.0)
    is_held: bool = Field(default=False, description="A person holds it at this share")
    transitions: tuple[Transition, ...] = Field(default=(), description="Since it was published, oldest first")

    @property
    def steps(self) -> tuple[Transition, ...]:
        """Transitions that set a share above 0."""
        return tuple(each for each in self.transitions if each.change == "advance")

    @property
    def next_share(self) -> float | None:
        """Of the next step; None at the last."""
        steps = (*(share for share in SHARES if share < self.last_share), self.last_share)
        return next((share for share in steps if share > self.share + 1e-9), None)


class RolloutRecord:
    """The transitions at one place."""

    def __init__(self, place: RecordFiles) -> None:
        self.place = place

    def transitions(self) -> tuple[Transition, ...]:
        """All of them, oldest first.

        Raises:
            UnusableInputError: the record was changed by hand.
        """
        return self._read()[0]

    def append(self, seen: Sequence[Transition], transition: Transition) -> bool:
        """Add a transition that was decided on what was `seen`; False where another came first, and then nothing is written."""
        known, last_sha256 = self._read()
        if len(known) != len(seen):
            return False
        whole = transition.model_copy(update={"number": len(known) + 1, "before_sha256": last_sha256})
        return self.place.create(f"{FOLDER}/{whole.number:08d}.json", (whole.model_dump_json(indent=1) + "\n").encode())

    def _read(self) -> tuple[tuple[Transition, ...], str | None]:
        found: list[Transition] = []
        before: str | None = None
        for place, name in enumerate(self.place.names(FOLDER), start=1):
            stored = self.place.read(f"{FOLDER}/{name}")
            try:
                transition = None if stored is None else Transition.model_validate_json(stored.content)
            except ValidationError:
                transition = None
            if stored is None or transition is None or (transition.number, transition.before_sha256) != (place, before):
                raise UnusableInputError(
                    f"{self.place.uri}/{FOLDER}/{name}: does not follow from what is before it; the record was changed by hand"
                )
            found.append(transition)
            before = hashlib.sha256(stored.content).hexdigest()
        return tuple(found), before


def taken_steps(rule_set_id: str, transitions: Sequence[Transition]) -> tuple[TakenStep, ...]:
    """Those of one rule set, oldest first."""
    return tuple(_taken(each) for each in transitions if each.rule_set_id == rule_set_id)


def _taken(transition: Transition) -> TakenStep:
    short = {name: getattr(transition, name) for name in ("change", "share", "at", "by", "because", "is_override")}
    rails = (transition.evidence or {}).get("guardrails")
    quality = (
        next((each for each in rails if isinstance(each, dict) and each.get("watched") == "quality"), None)
        if isinstance(rails, list)
        else None
    )
    if quality is None:
        return TakenStep(**short)
    return TakenStep.model_validate({**short, "quality": quality.get("difference"), "limit": quality.get("limit")})


def state_of(
    rule_set_id: str, transitions: Sequence[Transition], published_at: datetime | None, *, last_share: float = 1.0
) -> RolloutState:
    """Where a rule set stands; what was before it was last published is history, and a new roll-out begins with nothing."""
    mine = tuple(each for each in transitions if each.rule_set_id == rule_set_id and (published_at is None or each.at >= published_at))
    last = mine[-1] if mine else None
    return RolloutState(
        rule_set_id=rule_set_id,
        share=0.0 if last is None else last.share,
        last_share=last_share,
        is_held=last is not None and last.change == "hold",
        transitions=mine,
    )
