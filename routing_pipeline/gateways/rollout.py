"""Rolling out: a rule set that is published reaches its gateway step by step, and leaves it when a guardrail breaks.

Belongs here: which configuration the gateway is to have, writing it, taking a step, holding, going back; by a person or by itself. Does not
belong here: how a gateway is told (one module each), what may come next (`rollout_decision`), the records (`rules`).

The record comes first and the configuration follows it (`settle`): who is ended between the two is caught up with at the next look, and
what is written already is not written again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from routing_pipeline.errors import PipelineError, ServiceUnavailableError, UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.gateways.exported import json_text
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.gateways.rollout_decision import Next, next_of
from routing_pipeline.gateways.rollout_settings import RolloutSettings
from routing_pipeline.gateways.table import gateway_of
from routing_pipeline.gateways.tiers import tiers_for
from routing_pipeline.recommendation.canary import CanaryLook
from routing_pipeline.rules.lifecycle import Standing, checked_name, checked_reason
from routing_pipeline.rules.model import Rule, RuleSet
from routing_pipeline.rules.published_weights import Period, PublishedWeights, save_weights
from routing_pipeline.rules.record import RuleSetRecord
from routing_pipeline.rules.record_files import RecordFiles, open_record_files
from routing_pipeline.rules.rollout_record import Change, RolloutRecord, RolloutState, Transition, state_of
from routing_pipeline.storage.home import Home

ITSELF = "routing-pipeline, automatically"
MAX_TRIES = 5


class RolloutStatus(Result):
    """Where the roll-out of what is live stands."""

    rule_set_id: str | None = Field(description="What is live; null where nothing is")
    share: float = quantity("Of the sessions that follow its rules", "0..1")
    is_held: bool = False
    automatic: bool = Field(description="Whether steps are taken, and taken back, without a person")
    look: CanaryLook | None = Field(default=None, description="Canary against control, over all steps")
    next: str = Field(description="advance, roll_back, wait or done")
    because: str
    transitions: tuple[Transition, ...] = ()
    is_loaded: bool | None = Field(
        default=None, description="Whether the gateway that runs knows all arms of these rules; null where it is not asked"
    )
    is_written: bool | None = Field(
        default=None,
        description="Whether the gateway's configuration is that of the last step; null before the first, and where it cannot be read",
    )
    written: tuple[str, ...] = Field(default=(), description="Where the gateway's configuration was written just now")
    notes: tuple[str, ...] = Field(
        default=(), description="What whoever runs the gateway should know of what was written, as `export` says it"
    )

    @property
    def not_in_force(self) -> tuple[str, ...]:
        """What keeps the last step from being what the gateway does, a sentence each."""
        found = []
        if self.is_written is False:
            found.append("The gateway's configuration is not that of the last step; the next hold, step or roll-back writes it.")
        if self.is_loaded is False:
            found.append("The gateway that runs does not know these rules yet: start it anew with the configuration that was written.")
        return tuple(found)


@dataclass(frozen=True)
class _Stand:
    """Everything as it was read."""

    standing: Standing
    transitions: tuple[Transition, ...]
    state: RolloutState | None
    approved_at: datetime | None
    followed: str | None
    """The rule set that sessions follow today, whether or not it is the one that is live."""


def _roll_back_begun(stand: _Stand) -> Transition | None:
    """The transition that takes back what the record of rule sets still calls live."""
    last = stand.state.transitions[-1] if stand.state is not None and stand.state.transitions else None
    return last if last is not None and last.change == "roll_back" else None


class Rollout:
    """The roll-out of one home."""

    def __init__(self, home: Home, record: RuleSetRecord, settings: RolloutSettings, config: Path | None = None) -> None:
        self.home, self.record, self.settings, self.config = home, record, settings, config
        self.steps = RolloutRecord(record.place)
        self.written: tuple[str, ...] = ()
        """Where a configuration was written last."""
        self.notes: tuple[str, ...] = ()
        """What is to be known of it."""

    # Reading

    def live(self) -> tuple[RuleSet, RolloutState] | None:
        """What is live, and how far it is."""
        state = self._read().state
        return None if state is None else (self._rule_set(state.rule_set_id), state)

    def status(self, look: CanaryLook | None, *, now: datetime | None = None, written: tuple[str, ...] = ()) -> RolloutStatus:
        """Where everything stands; changes nothing."""
        stand = self._read()
        if stand.state is None:
            return RolloutStatus(
                rule_set_id=None, share=0, automatic=self.settings.automatic, next="wait", because="no rule set is live", written=written
            )
        then = self._next(stand, look, now or datetime.now(UTC))
        return RolloutStatus(
            rule_set_id=stand.state.rule_set_id,
            share=stand.state.share,
            is_held=stand.state.is_held,
            automatic=self.settings.automatic,
            look=look,
            next=then.kind,
            because=then.because,
            transitions=stand.state.transitions,
            is_loaded=self._is_loaded(stand),
            is_written=self._is_written(stand),
            written=written,
            notes=self.notes if written else (),
        )

    def _is_loaded(self, stand: _Stand) -> bool | None:
        """Whether the gateway that runs has the tiers of what is followed; unknown where it cannot be asked now."""
        if stand.followed is None or not self.settings.api:
            return None
        try:
            running = self.settings.running()
            files = self._files(stand)
            return None if running is None else running.has_loaded(files[next(reversed(files))])
        except PipelineError:
            return None

    def _is_written(self, stand: _Stand) -> bool | None:
        """Whether what a step is to write is there: who was ended in between, or wrote over it, left another."""
        if not stand.transitions or not self.settings.gateway:
            return None
        try:
            place = self._target()
            found = {name: (place.read(name), content.encode()) for name, content in self._files(stand).items()}
        except PipelineError:
            return None
        return all(stored is not None and stored.content == content for stored, content in found.values())

    # Deciding

    def go(self, look: CanaryLook | None, *, now: datetime | None = None) -> Transition | None:
        """Do by itself what comes next; nothing unless `automatic`. None where nothing was done.

        Raises:
            UnusableInputError: the record or the configuration cannot be used.
            ServiceUnavailableError: where they lie cannot be reached.
        """
        if not self.settings.automatic:
            return None
        stand, now = self._caught_up(), now or datetime.now(UTC)
        if stand.state is None:
            return None
        then = self._next(stand, look, now)
        if then.kind == "roll_back":
            return self._append(stand, stand.state, "roll_back", 0.0, ITSELF, then.because, look, now)
        if then.kind == "advance" and stand.state.next_share is not None:
            return self._append(stand, stand.state, "advance", stand.state.next_share, ITSELF, then.because, look, now)
        return None

    def advance(self, by: str, because: str, look: CanaryLook | None, *, now: datetime | None = None) -> Transition:
        """Take the next step as a person; what was seen, or the age of the approval, may be overridden with a reason.

        Raises:
            UnusableInputError: there is no next step, or it needs a reason.
        """
        stand, state, now = self._for_a_person(by, because, now)
        if state.next_share is None:
            raise UnusableInputError(f"rule set {state.rule_set_id}: all sessions follow it already; no step is left")
        then = self._next(stand, look, now)
        if then.kind != "advance" and not because.strip():
            raise UnusableInputError(f"rule set {state.rule_set_id}: {then.because}; to go on all the same, say why: --because TEXT")
        is_override = then.kind != "advance"
        return self._done(self._append(stand, state, "advance", state.next_share, by, because, look, now, is_override=is_override))

    def hold(self, by: str, because: str, look: CanaryLook | None, *, now: datetime | None = None) -> Transition:
        """Let it go no further until a person advances it; a broken guardrail still takes it back."""
        stand, state, now = self._for_a_person(by, because, now)
        if state.share == 0:
            raise UnusableInputError(f"rule set {state.rule_set_id}: no session follows it yet, so there is nothing to hold")
        return self._done(self._append(stand, state, "hold", state.share, by, because, look, now))

    def roll_back(self, by: str, because: str, look: CanaryLook | None, *, now: datetime | None = None) -> Transition:
        """Take what is live back at once; who was ended while taking it back has it done now."""
        begun = _roll_back_begun(self._read())
        if begun is not None:
            self.settle()
            return begun
        stand, state, now = self._for_a_person(by, because, now)
        return self._done(self._append(stand, state, "roll_back", 0.0, by, because, look, now))

    # Writing

    def settle(self) -> tuple[str, ...]:
        """Let the record of rule sets and the gateway's configuration say what the transitions say; gives what was written."""
        for _ in range(MAX_TRIES):
            stand = self._caught_up()
            if not stand.transitions:
                return ()
            save_weights(self.home, self._weights(stand))
            self.written = self._put(self._files(stand)) or self.written
            again = self._read()
            # Who decided meanwhile may have written already what was just written over.
            if (len(again.transitions), again.standing.number) == (len(stand.transitions), stand.standing.number):
                return self.written
        raise ServiceUnavailableError(f"others changed the roll-out {MAX_TRIES} times meanwhile; run again later")

    def _caught_up(self) -> _Stand:
        """Everything as it is once a roll-back that somebody was ended in has reached the record of rule sets."""
        stand = self._read()
        begun = _roll_back_begun(stand)
        if begun is None:
            return stand
        try:
            self.record.roll_back(begun.by, begun.because, begun.rule_set_id)
        except UnusableInputError:
            # Somebody else may have caught up with it.
            if self.record.live() == begun.rule_set_id:
                raise
        return self._read()

    def _files(self, stand: _Stand) -> dict[str, str]:
        """What the gateway is to have, by name; the main one last, for it names the others."""
        gateway, current = gateway_of(self.settings.gateway), self.settings.current_text()
        rule_set = self._rule_set(stand.followed or stand.transitions[-1].rule_set_id)
        share = 1.0 if stand.followed is None else self._state(stand.transitions, stand.followed).share
        plan = plan_of(rule_set, share, tiers_for(rule_set, current, self.config))
        exported = gateway.write(plan, current, self.settings.default_model or None)
        files, self.notes = dict(exported.files), exported.notes if stand.followed is not None else ()
        main = next(iter(files))
        if stand.followed is None:
            none = json_text({"rule_set_id": None, "decide": None, "routes": {}})
            files = {**gateway.withdrawn(files), main: none if current is None else current}
        return {**{name: files[name] for name in files if name != main}, main: files[main]}

    def _put(self, files: dict[str, str]) -> tuple[str, ...]:
        place = self._target()
        if self.settings.current and any(
            f"{place.uri}/{name}" == str(Path(self.settings.current).expanduser().absolute()) for name in files
        ):
            raise UnusableInputError("[rollout] to: would write over [rollout] current, which a roll-back needs; name another folder")
        written = []
        for name, content in files.items():
            for _ in range(MAX_TRIES):
                seen = place.read(name)
                if seen is not None and seen.content == content.encode():
                    break
                if place.replace(name, content.encode(), seen):
                    written.append(f"{place.uri}/{name}")
                    break
            else:
                raise ServiceUnavailableError(f"{place.uri}/{name}: changed {MAX_TRIES} times meanwhile; run again later")
        return tuple(written)

    def _target(self) -> RecordFiles:
        return open_record_files(self.settings.to or self.home.files.uri("gateway"))

    # Inside

    def _read(self) -> _Stand:
        standing, transitions = self.record.standing(), self.steps.transitions()
        followed = next((each for each in reversed(standing.stack) if self._state(transitions, each).share > 0), None)
        if standing.live is None:
            return _Stand(standing, transitions, None, None, followed)
        state = self._state(transitions, standing.live)
        history = self.record.status(standing.live).history
        approved = [each.at for each in history if each.move == "approve"] or [each.at for each in history if each.move == "publish"]
        return _Stand(standing, transitions, state, max(approved, default=None), followed)

    def _state(self, transitions: tuple[Transition, ...], rule_set_id: str) -> RolloutState:
        published = [each.at for each in self.record.status(rule_set_id).history if each.move == "publish"]
        return state_of(rule_set_id, transitions, max(published, default=None), last_share=1.0 - self.settings.control)

    def _rule_set(self, rule_set_id: str) -> RuleSet:
        proposal = self.record.proposal(rule_set_id)
        if proposal is None:
            raise UnusableInputError(f"rule set {rule_set_id}: was not proposed here, so it cannot be rolled out")
        return proposal.rule_set.model_copy(update={"status": "published"})

    def _next(self, stand: _Stand, look: CanaryLook | None, now: datetime) -> Next:
        assert stand.state is not None  # noqa: S101 - who asks has looked
        others = stand.followed if stand.followed != stand.state.rule_set_id else None
        return next_of(stand.state, look, stand.approved_at, self.settings.approval_days, now, others)

    def _for_a_person(self, by: str, because: str, now: datetime | None) -> tuple[_Stand, RolloutState, datetime]:
        checked_name(by), checked_reason(because)
        if not self.settings.gateway:
            raise UnusableInputError(
                '[rollout] gateway: name the gateway to update, as in gateway = "litellm", in a file given with --config'
            )
        # What an ended process left comes first: a decision rests on what the gateway has.
        self.settle()
        stand = self._read()
        if stand.state is None:
            raise UnusableInputError("no rule set is live; publish one first: routing-pipeline publish RULE_SET_ID --by NAME")
        return stand, stand.state, now or datetime.now(UTC)

    def _append(
        self,
        stand: _Stand,
        state: RolloutState,
        change: Change,
        share: float,
        by: str,
        because: str,
        look: CanaryLook | None,
        now: datetime,
        *,
        is_override: bool = False,
    ) -> Transition | None:
        """Record a transition and settle; None where somebody else was first."""
        transition = Transition(
            number=len(stand.transitions) + 1,
            change=change,
            rule_set_id=state.rule_set_id,
            share=share,
            at=self._no_earlier(now, stand),
            by=by.strip(),
            because=because.strip(),
            is_override=is_override,
            evidence=None if look is None else look.model_dump(mode="json"),
            before_sha256=None,
        )
        # What cannot be written is not recorded as if it had been.
        if change == "advance":
            files = self._files(_Stand(stand.standing, (*stand.transitions, transition), state, None, state.rule_set_id))
            running = self.settings.running()
            if running is not None:
                running.check(files[next(reversed(files))])
            self._target().check_writable()
        if not self.steps.append(stand.transitions, transition):
            return None
        self.settle()
        return transition

    def _no_earlier(self, now: datetime, stand: _Stand) -> datetime:
        """Now; where the clock has gone back, the time of what it follows: what comes before its publication would count for nothing."""
        published = [each.at for each in self.record.status(stand.state.rule_set_id).history] if stand.state is not None else []
        return max([now, *published, *(each.at for each in stand.transitions[-1:])])

    def _done(self, transition: Transition | None) -> Transition:
        if transition is None:
            raise ServiceUnavailableError("somebody else changed the roll-out just now; check again: routing-pipeline rollout status")
        return transition

    def _as_told(self, rule_set: RuleSet) -> tuple[Rule, ...]:
        """The rules with models in the place of tiers, as the gateway has them and its logs will say; as they are where that cannot be told now."""
        try:
            return plan_of(rule_set, 1.0, tiers_for(rule_set, self.settings.current_text(), self.config)).rules
        except UnusableInputError:
            return rule_set.rules

    def _weights(self, stand: _Stand) -> PublishedWeights:
        """What was published when, for whoever reads the logs of that time."""
        periods = []
        for place, each in enumerate(stand.transitions):
            if each.change == "roll_back":
                continue
            until = stand.transitions[place + 1].at.timestamp() if place + 1 < len(stand.transitions) else None
            rules = self._as_told(self._rule_set(each.rule_set_id))
            periods.append(
                Period(
                    rule_set_id=each.rule_set_id,
                    share=each.share,
                    start_s=each.at.timestamp(),
                    end_s=until,
                    own=self.settings.default_model or None,
                    routes={rule.id: {str(t.model): t.weight for t in rule.route} for rule in rules if not isinstance(rule.route, str)},
                )
            )
        return PublishedWeights(periods=tuple(periods))
