"""The record of rule sets: what was proposed, who approved, published and rolled back what, and what is live.

Belongs here: reading the record, appending to it, publishing, and moving `latest`. Does not belong here: which move may
follow which (`life_cycle`), how files get into their place whole (`place`).

Under the place, by default `rule_sets` in the home:
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
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pydantic import ConfigDict, Field, ValidationError

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.estimates import Result
from routing_pipeline.home import Home
from routing_pipeline.parameters import Parameters, read_table
from routing_pipeline.policy.rule_set import RuleSet, rules_json
from routing_pipeline.rule_sets.life_cycle import (
    STATUS_IN_RULES,
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
    status_without_record,
)
from routing_pipeline.rule_sets.place import Place, Stored, open_place

LATEST = "latest"
POINTER = "latest.json"
NOT_PROPOSED = "Not in the record: what an alert finds in a day is no proposal. Whoever approves it by its id makes it one."
AUTOMATIC = "routing-pipeline, automatically"
MAX_TRIES = 20
"""How often others may be first before a decision is given up."""
READING_THREADS = 8
ID_CHARACTERS = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.:_-")


class Found(Protocol):
    """Rules that an analysis found, and how much they move (0..1)."""

    @property
    def rule_set(self) -> RuleSet:
        """As it is proposed."""

    @property
    def moved_share(self) -> float:
        """Of the requests."""

    @property
    def moved_spend_share(self) -> float:
        """Of the spend."""


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

    def __init__(self, place: Place) -> None:
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
                at=now or datetime.now(UTC),
                because=because,
                seal=proposal.seal,
                published_sha256=self._put_out(proposal) if move == "publish" else None,
                before_sha256=read.last_sha256,
            )
            if self.place.create(f"record/{decision.number:08d}.json", (decision.model_dump_json(indent=1) + "\n").encode()):
                self.settle()
                return self.status(rule_set_id)
        raise ServiceUnavailableError(f"{self.place.uri}: others decided {MAX_TRIES} times meanwhile; run again later")

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

    def live(self) -> str | None:
        """Id of the rule set that is live."""
        return self._read().standing.live

    def latest(self) -> Latest | None:
        """What is live, as gateways read it; None while nothing was ever published."""
        stored = self.place.read(POINTER)
        return None if stored is None else Latest.model_validate_json(stored.content)

    def promised(self, most: int = 10) -> tuple[tuple[RuleSet, RuleSetStatus], ...]:
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
        return tuple(told for _, told in by_time)

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
        raise UnusableInputError('[publishing]: takes to = "s3://bucket/prefix" or a directory, and automatic = true or false')
    return replace(found, to=to or found.to)


def record_of(home: Home, to: str = "") -> RuleSetRecord:
    """The record at `to`, a directory or `s3://bucket/prefix`; in the home when that is empty.

    Raises:
        UnusableInputError: the address is of no kind that we know.
    """
    return RuleSetRecord(open_place(to or home.files.uri("rule_sets")))


def delivered(record: RuleSetRecord, rules: Found, *, automatic: bool = False, is_of_alert: bool = False) -> tuple[RuleSet, RuleSetStatus]:
    """Record what an analysis found, and give it with the status that it has now.

    What was proposed before stands as it was then. With `automatic`, what needs no approval is published at once. A place
    that cannot be reached is in nobody's way: the rules are delivered, and can be recorded when they are approved. What an
    alert's analysis of one day finds is no proposal either, until somebody approves it.

    Raises:
        UnusableInputError: the record was changed by hand, or other rules have this id.
    """
    rule_set = rules.rule_set
    try:
        record.settle()
        if rule_set.rules and not is_of_alert:
            rule_set = record.propose(rule_set, rules.moved_share, rules.moved_spend_share).rule_set
            status = record.status(rule_set.rule_set_id)
            if automatic and status.state == "proposed" and not status.needs_approval:
                record.publish(rule_set.rule_set_id, AUTOMATIC, "needs no approval")
    except ServiceUnavailableError:
        return rule_set, status_of_rules(record, rule_set)
    status = status_of_rules(record, rule_set)
    return rule_set.model_copy(update={"status": STATUS_IN_RULES[status.state]}), status


def status_of_rules(record: RuleSetRecord, rule_set: RuleSet) -> RuleSetStatus:
    """Where a delivered rule set stands, also when it changes nothing, is in no record, or the record cannot be reached."""
    try:
        if not rule_set.rules:
            return status_without_record(rule_set, "no_change", "No change is proposed, so there is nothing to approve.", record.live())
        if record.proposal(rule_set.rule_set_id) is None:
            return status_without_record(rule_set, rule_set.status, NOT_PROPOSED, record.live())
        return record.status(rule_set.rule_set_id)
    except ServiceUnavailableError as error:
        return status_without_record(rule_set, "proposed", f"Cannot be told, because the record cannot be reached: {error}", None)


def resolved(home: Home, record: RuleSetRecord, asked: str) -> str:
    """The id that is meant: `latest` is the rule set of the newest report; one that only the results store knows is recorded.

    Raises:
        UnusableInputError: nothing of that name is known here, or the newest report changes nothing.
    """
    if asked == LATEST:
        found: Found = newest_delivered(home)
        if not found.rule_set.rules:
            raise UnusableInputError(f"the newest report ({found.rule_set.rule_set_id}) proposes no change, so there is nothing to decide")
    elif not is_id(asked) or record.proposal(asked) is not None:
        return asked
    else:
        from routing_pipeline.recommendation.routing_rules import RoutingRules

        key = home.results.key_of_rule_set(asked)
        stored = None if key is None else home.results.load("routing_rules", key, RoutingRules)
        if stored is None or stored.rule_set.rule_set_id != asked or not stored.rule_set.rules:
            return asked
        found = stored
    record.propose(found.rule_set, found.moved_share, found.moved_spend_share)
    return found.rule_set.rule_set_id


def named_or_read(home: Home, record: RuleSetRecord, asked: str, parameters: Parameters) -> tuple[RuleSet, str | None]:
    """A rule set by its id, by `latest`, or from a file; and what to say of a file that carries an id of ours but other rules.

    Raises:
        UnusableInputError: nothing of that name is known, or the file cannot be used.
    """
    path = Path(asked)
    if not (path.exists() or path.suffix or len(path.parts) > 1):
        rule_set_id = resolved(home, record, asked)
        proposal = record.proposal(rule_set_id)
        if proposal is None:
            raise UnusableInputError(f"--rules {asked[:60]}: there is no such file, and no rule set of that id was proposed here")
        return proposal.rule_set, None
    from routing_pipeline.recommendation.given_rules import read_rules_file

    rule_set = read_rules_file(path, parameters)
    try:
        is_ours = record.is_as_proposed(rule_set)
    except ServiceUnavailableError:
        is_ours = None
    if is_ours is False:
        return rule_set, f"{path.name} was edited: it carries the id {rule_set.rule_set_id}, but not what was proposed as that"
    return rule_set, None


class _Rules(Result):
    model_config = ConfigDict(extra="ignore")

    rule_set: RuleSet
    moved_share: float
    moved_spend_share: float


class _Report(Result):
    """Of a stored report, what is decided about."""

    model_config = ConfigDict(extra="ignore")

    routing_rules: _Rules


def newest_delivered(home: Home) -> _Rules:
    """The rule set of the newest report in this home, as it was proposed: what `latest` stands for.

    Raises:
        UnusableInputError: no report was made here yet.
    """
    for run in home.results.runs():
        found = None if run.is_of_alert else run.load("report", _Report)
        if found is not None:
            return found.routing_rules
    raise UnusableInputError(
        "no report has been made in this home yet; routing-pipeline run or analyze makes one, then `latest` names its rules"
    )


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
