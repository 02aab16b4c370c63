"""The life of a rule set: proposed, approved, published, rolled back; which move may follow which, and what is live.

Belongs here: the models of the record, and folding its decisions into where everything stands. Does not belong here:
where the record lies (`record_files`), reading and appending to it (`record`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import Field

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.rules.model import RuleSet, Status
from routing_pipeline.rules.rollout_record import TakenStep

State = Literal["no_change", "proposed", "approved", "published", "rolled_back"]
Move = Literal["approve", "publish", "roll_back"]

APPROVAL_SHARE = 0.05
"""A change that moves more of the traffic or of the spend than this needs a stakeholder's approval."""
LONGEST_NAME = 100
LONGEST_REASON = 500

STATE_AFTER: dict[Move, State] = {"approve": "approved", "publish": "published", "roll_back": "rolled_back"}
STATUS_IN_RULES: dict[State, Status] = {
    "no_change": "no_change",
    "proposed": "proposed",
    "approved": "approved",
    "published": "published",
    # rules.json knows no such status: what was rolled back is a proposal again, and needs an approval like one.
    "rolled_back": "proposed",
}


def is_significant(moved_share: float, moved_spend_share: float) -> bool:
    """Whether a change waits for an approval: it moves more than APPROVAL_SHARE of the traffic or of the spend."""
    return max(moved_share, moved_spend_share) > APPROVAL_SHARE


class Proposal(Result):
    """A rule set as it was proposed, kept for good under its id."""

    rule_set: RuleSet = Field(description="rules.json, with the status `proposed` or `no_change`")
    moved_share: float = quantity("Share of requests that it routes differently", "0..1")
    moved_spend_share: float = quantity("Share of spend that those requests make up", "0..1")
    proposed_at: datetime = Field(description="UTC")
    seal: str = Field(description="SHA-256 of all of the above; every decision names it, so that none can come to speak of other rules")

    @property
    def is_significant(self) -> bool:
        """Whether it waits for an approval."""
        return is_significant(self.moved_share, self.moved_spend_share)


class Decision(Result):
    """One line of the record: who did what to which rule set, when, and why."""

    number: int = Field(ge=1, description="Place in the record, without gaps")
    move: Move
    rule_set_id: str
    by: str = Field(description="As they named themselves")
    at: datetime = Field(description="UTC")
    because: str = ""
    seal: str = Field(description="Of the proposal that was decided about")
    published_sha256: str | None = Field(default=None, description="Of the published file; null unless the move is `publish`")
    before_sha256: str | None = Field(description="Of the decision before, as it is stored; null for the first")


class RuleSetStatus(Result):
    """Where a rule set stands."""

    rule_set_id: str
    state: State
    is_live: bool = Field(description="Whether it is what `latest` names, so what gateways are to follow")
    needs_approval: bool = Field(description="More than 5 % of traffic or spend moves, or it was rolled back, and nobody has approved it")
    moved_share: float | None = quantity("Share of requests that it routes differently; null when it is unknown", "0..1")
    moved_spend_share: float | None = quantity("Share of spend that those requests make up; null when it is unknown", "0..1")
    history: tuple[Decision, ...] = Field(description="Decisions about it, oldest first")
    live: str | None = Field(description="Id of the rule set that is live; null when none is")
    next_step: str | None = Field(description="Command that comes next; null when there is none")
    verdict: str = Field(description="One sentence for a manager")
    steps: tuple[TakenStep, ...] = Field(default=(), description="Of its roll-out, oldest first")


@dataclass(frozen=True)
class Standing:
    """Where everything stands after some decisions."""

    number: int = 0
    states: dict[str, State] = field(default_factory=dict)
    seals: dict[str, str] = field(default_factory=dict)
    published: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the published file by id."""
    stack: tuple[str, ...] = ()
    """Published and not rolled back, in the order in which they went live; the last one is live."""
    last: Decision | None = None
    last_switch: Decision | None = None
    """The last decision that changed what is live."""

    @property
    def live(self) -> str | None:
        """The rule set that gateways are to follow."""
        return self.stack[-1] if self.stack else None

    def state_of(self, proposal: Proposal) -> State:
        """What was decided last, else as proposed."""
        proposed: State = "proposed" if proposal.rule_set.rules else "no_change"
        return self.states.get(proposal.rule_set.rule_set_id, proposed)

    def after(self, decision: Decision) -> Standing:
        """Where everything stands once the decision is taken."""
        rule_set_id = decision.rule_set_id
        others = tuple(each for each in self.stack if each != rule_set_id)
        stack = {"approve": self.stack, "publish": (*others, rule_set_id), "roll_back": others}[decision.move]
        published = {} if decision.published_sha256 is None else {rule_set_id: decision.published_sha256}
        return Standing(
            number=decision.number,
            states={**self.states, rule_set_id: STATE_AFTER[decision.move]},
            seals={**self.seals, rule_set_id: decision.seal},
            published={**self.published, **published},
            stack=stack,
            last=decision,
            last_switch=self.last_switch if decision.move == "approve" else decision,
        )


def standing_after(decisions: Iterable[Decision]) -> Standing:
    """Fold a whole record, oldest decision first."""
    found = Standing()
    for decision in decisions:
        found = found.after(decision)
    return found


def refuse_illegal(move: Move, proposal: Proposal, standing: Standing) -> None:
    """Let a legal move pass.

    approve: what is proposed, or was rolled back. publish: what is approved; what is proposed and not significant; what was
    published before and replaced. roll_back: what is live.

    Raises:
        UnusableInputError: the move may not follow; the message says why and what may.
    """
    rule_set_id, state = proposal.rule_set.rule_set_id, standing.state_of(proposal)
    if state == "no_change":
        raise UnusableInputError(f"rule set {rule_set_id} changes nothing, so there is nothing to {move.replace('_', ' ')}")
    why = {"approve": _why_not_approve, "publish": _why_not_publish, "roll_back": _why_not_roll_back}[move](proposal, state, standing)
    if why is not None:
        raise UnusableInputError(f"rule set {rule_set_id} {why}")


def _why_not_approve(_: Proposal, state: State, __: Standing) -> str | None:
    return None if state in {"proposed", "rolled_back"} else f"is {state} already; nothing is left to approve"


def _why_not_publish(proposal: Proposal, state: State, standing: Standing) -> str | None:
    rule_set_id = proposal.rule_set.rule_set_id
    if state == "rolled_back":
        return f"was rolled back, so it needs an approval again: routing-pipeline approve {rule_set_id} --by NAME"
    if state == "proposed" and proposal.is_significant:
        return f"waits for approval ({size_of(proposal)}): routing-pipeline approve {rule_set_id} --by NAME"
    return "is live already" if standing.live == rule_set_id else None


def _why_not_roll_back(proposal: Proposal, state: State, standing: Standing) -> str | None:
    if standing.live == proposal.rule_set.rule_set_id:
        return None
    live = "no rule set is live" if standing.live is None else f"{standing.live} is live"
    return f"is not live ({state.replace('_', ' ')}); {live}"


def size_of(proposal: Proposal) -> str:
    """How much a change moves, in words."""
    return f"it moves {100 * proposal.moved_share:.1f} % of traffic and {100 * proposal.moved_spend_share:.1f} % of spend"


def checked_name(by: str) -> str:
    """The name of whoever decides, fit for a record.

    Raises:
        UnusableInputError: it is empty, too long, or has characters that do not show.
    """
    return _checked("by", by, LONGEST_NAME, least=1)


def checked_reason(because: str) -> str:
    """Why it was decided, fit for a record; may be empty.

    Raises:
        UnusableInputError: as `checked_name`.
    """
    return _checked("because", because, LONGEST_REASON, least=0)


def _checked(option: str, text: str, most: int, *, least: int) -> str:
    text = text.strip()
    if not text and least:
        raise UnusableInputError(f"--{option}: nobody is named; say who decides this, as in --{option} NAME")
    if not least <= len(text) <= most:
        raise UnusableInputError(f"--{option}: give {least} to {most} characters")
    if any(unicodedata.category(letter)[0] == "C" for letter in text):
        raise UnusableInputError(f"--{option}: has characters that do not show; write it in plain letters")
    return text


def status_of(proposal: Proposal, standing: Standing, history: Iterable[Decision]) -> RuleSetStatus:
    """A rule set's standing in words."""
    rule_set_id, state = proposal.rule_set.rule_set_id, standing.state_of(proposal)
    is_live = standing.live == rule_set_id
    needs_approval = state == "rolled_back" or (state == "proposed" and proposal.is_significant)
    mine = tuple(each for each in history if each.rule_set_id == rule_set_id)
    command = None
    if needs_approval:
        command = f"routing-pipeline approve {rule_set_id} --by NAME"
    elif state in {"proposed", "approved"}:
        command = f"routing-pipeline publish {rule_set_id} --by NAME"
    return RuleSetStatus(
        rule_set_id=rule_set_id,
        state=state,
        is_live=is_live,
        needs_approval=needs_approval,
        moved_share=proposal.moved_share,
        moved_spend_share=proposal.moved_spend_share,
        history=mine,
        live=standing.live,
        next_step=command,
        verdict=_verdict(proposal, state, mine[-1] if mine else None, standing),
    )


def status_without_record(rule_set: RuleSet, state: State, verdict: str, live: str | None) -> RuleSetStatus:
    """The status of what nobody has to decide about, or of what could not be recorded."""
    return RuleSetStatus(
        rule_set_id=rule_set.rule_set_id,
        state=state,
        is_live=False,
        needs_approval=False,
        moved_share=None,
        moved_spend_share=None,
        history=(),
        live=live,
        next_step=None,
        verdict=verdict,
    )


def _verdict(proposal: Proposal, state: State, last: Decision | None, standing: Standing) -> str:
    who = "" if last is None else f" by {last.by} on {last.at:%Y-%m-%d %H:%M} UTC"
    if state == "no_change":
        return "No change is proposed, so there is nothing to approve."
    if state == "proposed":
        if proposal.is_significant:
            return f"Waits for approval: {size_of(proposal)}."
        return f"May be published without an approval: {size_of(proposal)}, no more than {100 * APPROVAL_SHARE:.0f} % of either."
    if state == "approved":
        return f"Approved{who}; not published yet."
    if state == "rolled_back":
        return f"Rolled back{who}; needs an approval before it is published again."
    if standing.live == proposal.rule_set.rule_set_id:
        return f"Published{who}; live."
    return f"Published{who}; replaced since by {standing.live}."
