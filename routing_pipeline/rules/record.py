"""The record of rule sets: what was proposed, who approved, published and rolled back what, and what is live.

Belongs here: reading the record, appending to it, publishing, and moving `latest`. Does not belong here: which move may
follow which (`lifecycle`), how files get into their place whole (`record_files`).

Under the place, by default `rules` in the home:
    proposed/<id>.json     a rule set as it was proposed, with its seal; never changes
    record/<number>.json   decisions in their order; the next number is taken by creating it, so of two who decide at once one
                           is first and the other looks again. Each names the hash of the one before.
    published/<id>.json    rules.json as it was published; never changes
    latest.json            which of them is live; follows the record and is replaced whole

A decision counts from the moment when it is in the record. A process that ends before that has decided nothing; one that ends
after it leaves `latest.json` for whoever comes next (`settle`).
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError, did_you_mean
from routing_pipeline.estimates import Result
from routing_pipeline.parameters import read_table
from routing_pipeline.rules.lifecycle import (
    Decision,
    Move,
    Proposal,
    RuleSetStatus,
    Standing,
    checked_name,
    checked_reason,
    refuse_illegal,
    standing_after,
    status_of,
)
from routing_pipeline.rules.model import RuleSet, rules_json
from routing_pipeline.rules.record_files import RecordFiles, open_record_files
from routing_pipeline.rules.rollout_record import RolloutRecord, Transition, taken_steps
from routing_pipeline.storage.files import Stored
from routing_pipeline.storage.home import Home

LATEST = "latest"
POINTER = "latest.json"
MAX_TRIES = 20
"""How often others may be first before a decision is given up."""
READING_THREADS = 8
ID_CHARACTERS = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.:_-")


class Latest(Result):
    """latest.json: what gateways are to follow now."""

    schema_version: int = 1
    number: int = Field(description="Of the decision that it follows; grows with every change")
    rule_set_id: str | None = Field(description="Null: none; the gateway's own choice stands")
    rules: str | None = Field(description="Where its rules.json lies, below the same place")
    sha256: str | None = Field(description="Of that file")
    by: str
    at: datetime = Field(description="UTC")


@dataclass(frozen=True)
class _Read:
    """The whole record as it was read."""

    decisions: tuple[Decision, ...]
    last_sha256: str | None

    @cached_property
    def standing(self) -> Standing:
        return standing_after(self.decisions)


class RuleSetRecord:
    """The rule sets of one home, or of all that share a place."""

    def __init__(self, place: RecordFiles) -> None:
        self.place = place

    # Proposals

    def propose(self, rule_set: RuleSet, moved_share: float, moved_spend_share: float, *, now: datetime | None = None) -> Proposal:
        """Keep a rule set for good. What the gateway would do under an id never changes: the first proposal of it stands.

        Raises:
            UnusableInputError: other rules were proposed under this id, or what is there was changed by hand.
        """
        content: dict[str, Any] = {
            "rule_set": json.loads(rules_json(rule_set)),
            "moved_share": moved_share,
            "moved_spend_share": moved_spend_share,
            "proposed_at": (now or datetime.now(UTC)).isoformat(),
        }
        name = f"proposed/{_file(rule_set.rule_set_id)}"
        if self.place.read(name) is None:
            self.place.create(name, _dumped({**content, "seal": _seal(content)}))
        kept = self.proposal(rule_set.rule_set_id)
        if kept is None or _obeyed(kept.rule_set) != _obeyed(rule_set):
            raise UnusableInputError(
                f"{self.place.uri}: other rules were proposed as {rule_set.rule_set_id} before; give this home a place of its own "
                "(ROUTING_PIPELINE_PUBLISH), or ask for another window"
            )
        return kept

    def proposal(self, rule_set_id: str) -> Proposal | None:
        """The rule set of an id as it was proposed; None when there is none.

        Raises:
            UnusableInputError: the file was changed after it was written, or another version of the contract wrote it.
        """
        name = f"proposed/{_file(rule_set_id)}"
        stored = self.place.read(name)
        if stored is None:
            return None
        raw = _loaded(stored)
        if raw is None or raw.pop("seal", None) != _seal(raw):
            raise UnusableInputError(f"{self.place.uri}/{name}: was changed after it was proposed; it is not used")
        try:
            found = Proposal.model_validate({**raw, "seal": _seal(raw)})
        except ValidationError as error:
            raise UnusableInputError(f"{self.place.uri}/{name}: another version of routing-pipeline wrote it; it is not used") from error
        if found.rule_set.rule_set_id != rule_set_id:
            raise UnusableInputError(f"{self.place.uri}/{name}: holds {found.rule_set.rule_set_id[:60]}, not {rule_set_id}; it is not used")
        return found

    def is_as_proposed(self, rule_set: RuleSet) -> bool | None:
        """Whether a rules.json holds what was proposed under its id, its status apart; None when the id is not known here."""
        kept = self.proposal(rule_set.rule_set_id) if is_id(rule_set.rule_set_id) else None
        return None if kept is None else kept.rule_set == rule_set.model_copy(update={"status": kept.rule_set.status})

    # Decisions

    def approve(self, rule_set_id: str, by: str, because: str = "", *, now: datetime | None = None) -> RuleSetStatus:
        """Record an approval.

        Raises:
            UnusableInputError: no such rule set, or it cannot be approved as it stands.
            ServiceUnavailableError: the place cannot be reached.
        """
        return self._decide("approve", rule_set_id, by, because, now)

    def publish(self, rule_set_id: str, by: str, because: str = "", *, now: datetime | None = None) -> RuleSetStatus:
        """Publish a rule set and let it go live; one that is live already is only seen to be so for every reader.

        Raises:
            UnusableInputError: as `approve`; also when other content is published under this id.
            ServiceUnavailableError: the place cannot be reached.
        """
        return self._decide("publish", rule_set_id, by, because, now)

    def roll_back(self, by: str, because: str = "", rule_set_id: str | None = None, *, now: datetime | None = None) -> RuleSetStatus:
        """Take back what is live; what was live before it is live again, the gateway's own choice where there was nothing.

        Raises:
            UnusableInputError: nothing is live, or something else than `rule_set_id`.
            ServiceUnavailableError: the place cannot be reached.
        """
        live = self._read().standing.live
        if rule_set_id is None and live is None:
            raise UnusableInputError(f"{self.place.uri}: no rule set is live, so there is nothing to roll back")
        return self._decide("roll_back", rule_set_id or live or "", by, because, now)

    def decidable(self, move: Move, rule_set_id: str, by: str, because: str = "") -> Proposal:
        """What a decision would be about; decides nothing.

        Raises:
            UnusableInputError: the decision could not be taken as things stand.
            ServiceUnavailableError: the place cannot be reached.
        """
        checked_name(by), checked_reason(because)
        standing = self._read().standing
        proposal = self._sealed(rule_set_id, standing)
        if not (move == "publish" and standing.live == rule_set_id):
            refuse_illegal(move, proposal, standing)
        return proposal

    def _decide(self, move: Move, rule_set_id: str, by: str, because: str, now: datetime | None) -> RuleSetStatus:
        by, because = checked_name(by), checked_reason(because)
        for _ in range(MAX_TRIES):
            read = self._read()
            proposal = self._sealed(rule_set_id, read.standing)
            if move == "publish" and read.standing.live == rule_set_id:
                self.settle()
                return self.status(rule_set_id)
            refuse_illegal(move, proposal, read.standing)
            decision = Decision(
                number=read.standing.number + 1,
                move=move,
                rule_set_id=rule_set_id,
                by=by,
                at=self._no_earlier(now or datetime.now(UTC), read),
                because=because,
                seal=proposal.seal,
                published_sha256=self._put_out(proposal) if move == "publish" else None,
                before_sha256=read.last_sha256,
            )
            if self.place.create(f"record/{decision.number:08d}.json", (decision.model_dump_json(indent=1) + "\n").encode()):
                self.settle()
                return self.status(rule_set_id)
        raise ServiceUnavailableError(f"{self.place.uri}: others decided {MAX_TRIES} times meanwhile; run again later")

    def _no_earlier(self, now: datetime, read: _Read) -> datetime:
        """Now; where the clock has gone back, the time of the decision before, and after every step of a roll-out.

        A roll-out counts the steps since its rule set was published: those of before must not come after that.
        """
        steps = [each.at + timedelta(microseconds=1) for each in self._transitions()[-1:]]
        return max([now, *steps, *(each.at for each in read.decisions[-1:])])

    def _sealed(self, rule_set_id: str, standing: Standing) -> Proposal:
        """The proposal that earlier decisions about this id spoke of."""
        proposal = self.proposal(rule_set_id)
        if proposal is None:
            raise UnusableInputError(
                f"{self.place.uri}: no rule set {rule_set_id[:60]} was proposed; give `{LATEST}`, or the rule_set_id in rules.json"
            )
        if standing.seals.get(rule_set_id, proposal.seal) != proposal.seal:
            raise UnusableInputError(f"rule set {rule_set_id}: is not what was decided about any more; it is not used")
        return proposal

    def _put_out(self, proposal: Proposal) -> str:
        """Make sure that the published file is there, and give its hash; what is there is never overwritten."""
        name = f"published/{_file(proposal.rule_set.rule_set_id)}"
        content = rules_json(proposal.rule_set.model_copy(update={"status": "published"}))
        stored = self.place.read(name)
        if stored is None:
            self.place.create(name, content)
            stored = self.place.read(name)
        if stored is None or not _is_same(stored, proposal.rule_set):
            raise UnusableInputError(
                f"{self.place.uri}/{name}: holds other rules than were proposed; what is published is never overwritten"
            )
        return hashlib.sha256(stored.content).hexdigest()

    def settle(self) -> None:
        """Let latest.json say what the record says; a record without publications needs none.

        Looks again after every replacement, so that of many who settle at once the last one sees the newest decision there,
        also on servers that do not know `If-Match`.
        """
        for _ in range(MAX_TRIES):
            seen = self.place.read(POINTER)
            wanted = _pointer(self._read().standing)
            if wanted is None or (seen is not None and seen.content == wanted):
                return
            self.place.replace(POINTER, wanted, seen)
        raise ServiceUnavailableError(f"{self.place.uri}: {POINTER} changed {MAX_TRIES} times meanwhile; run again later")

    # Reading

    def status(self, rule_set_id: str) -> RuleSetStatus:
        """Where a rule set stands; changes nothing.

        Raises:
            UnusableInputError: no such rule set, or the record was changed by hand.
        """
        read = self._read()
        return status_of(self._sealed(rule_set_id, read.standing), read.standing, read.decisions)

    def standing(self) -> Standing:
        """Where everything stands that somebody decided about."""
        return self._read().standing

    def version(self) -> str:
        """Changes with every decision: each names the hash of the one before.

        Raises:
            UnusableInputError: the record was changed by hand.
            ServiceUnavailableError: the place cannot be reached.
        """
        return self._read().last_sha256 or ""

    def live(self) -> str | None:
        """Id of the rule set that is live."""
        return self.standing().live

    def latest(self) -> Latest | None:
        """What is live, as gateways read it; None while nothing was ever published."""
        stored = self.place.read(POINTER)
        return None if stored is None else Latest.model_validate_json(stored.content)

    def promised(self, most: int = 30) -> tuple[tuple[RuleSet, RuleSetStatus], ...]:
        """Rule sets whose promise is worth holding: those that somebody decided about, and the newest proposals; the one proposed last first.

        What cannot be read any more (another version of the contract, changed by hand) is passed over.
        """
        read = self._read()
        decided = sorted(read.standing.states, reverse=True)[:most]
        proposed = [name.removesuffix(".json") for name in self.place.names("proposed")][-most:]
        found: dict[str, tuple[datetime, tuple[RuleSet, RuleSetStatus]]] = {}
        for rule_set_id in decided:
            self._keep(found, rule_set_id, read)
        for name in proposed:
            stored = self.place.read(f"proposed/{name}.json")
            raw = None if stored is None else _loaded(stored)
            rule_set_id = "" if raw is None else str(raw.get("rule_set", {}).get("rule_set_id", ""))
            if rule_set_id not in found and is_id(rule_set_id):
                self._keep(found, rule_set_id, read)
        by_time = sorted(found.values(), key=lambda each: (each[0], each[1][0].rule_set_id), reverse=True)
        taken = self._transitions()
        return tuple(
            (rule_set, status.model_copy(update={"steps": taken_steps(rule_set.rule_set_id, taken)})) for _, (rule_set, status) in by_time
        )

    def _transitions(self) -> tuple[Transition, ...]:
        """Of all roll-outs; none where their record cannot be used, which whoever rolls out is told."""
        try:
            return RolloutRecord(self.place).transitions()
        except UnusableInputError:
            return ()

    def _keep(self, found: dict[str, tuple[datetime, tuple[RuleSet, RuleSetStatus]]], rule_set_id: str, read: _Read) -> None:
        try:
            proposal = self._sealed(rule_set_id, read.standing)
        except UnusableInputError:
            return
        if proposal.rule_set.rules:
            found[rule_set_id] = (proposal.proposed_at, (proposal.rule_set, status_of(proposal, read.standing, read.decisions)))

    def _read(self) -> _Read:
        names = self.place.names("record")
        with ThreadPoolExecutor(READING_THREADS) as pool:
            files = list(pool.map(self.place.read, [f"record/{name}" for name in names]))
        decisions: list[Decision] = []
        before: str | None = None
        for place, (name, stored) in enumerate(zip(names, files, strict=True), start=1):
            decision = None if stored is None else _decision(stored)
            if stored is None or decision is None or (decision.number, decision.before_sha256) != (place, before):
                raise UnusableInputError(
                    f"{self.place.uri}/record/{name}: does not follow from what is before it; the record was changed by hand"
                )
            decisions.append(decision)
            before = hashlib.sha256(stored.content).hexdigest()
        return _Read(tuple(decisions), before)


@dataclass(frozen=True)
class Publishing:
    """Table `[publishing]` of the configuration."""

    to: str = ""
    automatic: bool = False


def read_publishing(config: Path | None, to: str = "") -> Publishing:
    """Where rule sets are kept and published, and whether insignificant ones are published at once; `to` wins over the file.

    Raises:
        UnusableInputError: the file cannot be read, or the table holds something else.
    """
    table = read_table(config, "publishing")
    found = Publishing(to=table.pop("to", ""), automatic=table.pop("automatic", False))
    if table or not isinstance(found.to, str) or not isinstance(found.automatic, bool):
        unknown = next(iter(table), None)
        near = "" if unknown is None else f"; {unknown[:60]} is not known here{did_you_mean(unknown, ('to', 'automatic'))}"
        raise UnusableInputError(f'[publishing]: takes to = "s3://bucket/prefix" or a directory, and automatic = true or false{near}')
    return replace(found, to=to or found.to)


def record_of(home: Home, to: str = "") -> RuleSetRecord:
    """The record at `to`, a directory or `s3://bucket/prefix`; in the home when that is empty.

    Raises:
        UnusableInputError: the address is of no kind that we know.
    """
    return RuleSetRecord(open_record_files(to or home.files.uri("rule_sets")))


def is_id(text: str) -> bool:
    """Whether a text may be the id of a rule set; only such a one becomes a file's name."""
    return 0 < len(text) <= 100 and text[0].isalnum() and set(text) <= ID_CHARACTERS


def _file(rule_set_id: str) -> str:
    if not is_id(rule_set_id):
        raise UnusableInputError(f"not the id of a rule set: {rule_set_id[:60]!r}")
    return f"{rule_set_id.replace(':', '')}.json"


def _obeyed(rule_set: RuleSet) -> Any:
    """What a gateway would do, and for which question; estimates may differ in their last digits between two computations."""
    rules = [rule.model_dump(include={"id", "priority", "when", "route", "fallbacks"}) for rule in rule_set.rules]
    return rules, rule_set.default, rule_set.goal, rule_set.constraints, rule_set.window


def _is_same(stored: Stored, rule_set: RuleSet) -> bool:
    try:
        found = RuleSet.model_validate_json(stored.content)
    except ValueError:
        return False
    return found == rule_set.model_copy(update={"status": found.status})


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _dumped(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _loaded(stored: Stored) -> dict[str, Any] | None:
    try:
        raw = json.loads(stored.content)
    except ValueError:
        return None
    return raw if isinstance(raw, dict) else None


def _decision(stored: Stored) -> Decision | None:
    try:
        return Decision.model_validate_json(stored.content)
    except ValidationError:
        return None


def _pointer(standing: Standing) -> bytes | None:
    """latest.json; None while nothing was ever published."""
    switch, live = standing.last_switch, standing.live
    if switch is None:
        return None
    latest = Latest(
        number=switch.number,
        rule_set_id=live,
        rules=None if live is None else f"published/{_file(live)}",
        sha256=None if live is None else standing.published[live],
        by=switch.by,
        at=switch.at,
    )
    return (latest.model_dump_json(indent=1) + "\n").encode()
