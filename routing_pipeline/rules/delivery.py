"""From what an analysis delivers, and what a user names, to the record of rule sets.

Belongs here: recording what was found, the status that it is delivered with, which rule set an id, `latest` or a file means. Does
not belong here: the record itself (`record`), which move may follow which (`lifecycle`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydantic import ConfigDict

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.estimates import Result
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.in_words import Optimisation, found_as
from routing_pipeline.rules.lifecycle import STATUS_IN_RULES, RuleSetStatus, status_without_record
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.reading import read_rules_file
from routing_pipeline.rules.record import LATEST, RuleSetRecord, is_id
from routing_pipeline.storage.home import Home

NOT_PROPOSED = "Not in the record: what an alert finds in a day is no proposal until somebody approves it by its id, and what was only explored is none at all."
AUTOMATIC = "routing-pipeline, automatically"


class Moving(Protocol):
    """A rule set, and how much it moves (0..1)."""

    @property
    def rule_set(self) -> RuleSet:
        """As it is proposed."""

    @property
    def moved_share(self) -> float:
        """Of the requests."""

    @property
    def moved_spend_share(self) -> float:
        """Of the spend."""


class Found(Moving, Protocol):
    """Rules that an analysis found."""

    @property
    def options(self) -> Sequence[Moving]:
        """All that may be chosen, the one that it proposes among them."""


def delivered(
    record: RuleSetRecord, rules: Found, *, automatic: bool = False, is_of_alert: bool = False, explored_only: bool = False
) -> tuple[RuleSet, RuleSetStatus]:
    """Record what an analysis found, and give it with the status that it has now.

    Each of its options is recorded as well, so that it can be approved in place of what is proposed. What was proposed before stands
    as it was then. With `automatic`, what needs no approval is published at once. A place
    that cannot be reached is in nobody's way: the rules are delivered, and can be recorded when they are approved. What an
    alert's analysis of one day finds is no proposal either, until somebody approves it.

    Raises:
        UnusableInputError: the record was changed by hand, or other rules have this id.
    """
    rule_set = rules.rule_set
    try:
        record.settle()
        if rule_set.rules and not is_of_alert and not explored_only:
            for each in (*(each for each in rules.options if each.rule_set.rule_set_id != rule_set.rule_set_id), rules):
                # What is proposed comes last: it is the newest.
                rule_set = record.propose(each.rule_set, each.moved_share, each.moved_spend_share).rule_set
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
        return status_without_record(rule_set, "proposed", f"Unknown, because the record cannot be reached: {error}", None)


def resolved(home: Home, record: RuleSetRecord, asked: str) -> str:
    """The id that is meant: `latest` is the rule set of the newest report; one that only the results store knows is recorded.

    Raises:
        UnusableInputError: nothing of that name is known here, or the newest report changes nothing.
    """
    if asked == LATEST:
        found = newest_delivered(home)
        if not found.rule_set.rules:
            raise UnusableInputError(f"the newest report ({found.rule_set.rule_set_id}) proposes no change, so there is nothing to decide")
    elif not is_id(asked) or record.proposal(asked) is not None:
        return asked
    else:
        stored = found_as(home, asked)
        if stored is None or not stored.rule_set.rules:
            return asked
        found = stored
    if found.look == 0:
        raise UnusableInputError(
            f"rule set {found.rule_set.rule_set_id} was only explored, which is no proof; ask the same without --explore-only, and decide about that"
        )
    record.propose(found.rule_set, found.moved_share, found.moved_spend_share)
    return found.rule_set.rule_set_id


def is_file(path: Path) -> bool:
    """Whether a file is meant, also one that is not there, and not a name of a rule set."""
    return path.exists() or bool(path.suffix) or len(path.parts) > 1


def named_or_read(home: Home, record: RuleSetRecord, asked: str, parameters: Parameters) -> tuple[RuleSet, str | None]:
    """A rule set by its id, by `latest`, or from a file; and what to say of a file that carries an id of ours but other rules.

    Raises:
        UnusableInputError: nothing of that name is known, or the file cannot be used.
    """
    path = Path(asked)
    if not is_file(path):
        rule_set_id = resolved(home, record, asked)
        proposal = record.proposal(rule_set_id)
        if proposal is None:
            raise UnusableInputError(f"--rules {asked[:60]}: there is no such file, and no rule set of that id was proposed here")
        return proposal.rule_set, None
    if not path.exists():
        raise UnusableInputError(f"--rules {asked[:200]}: there is no such file; give a readable file")
    rule_set = read_rules_file(path, parameters)
    try:
        is_ours = record.is_as_proposed(rule_set)
    except ServiceUnavailableError:
        is_ours = None
    if is_ours is False:
        return rule_set, f"{path.name} was edited: it carries the id {rule_set.rule_set_id}, but not what was proposed as that"
    return rule_set, None


class _Report(Result):
    """Of a stored report, what is decided about."""

    model_config = ConfigDict(extra="ignore")

    routing_rules: Optimisation


def newest_delivered(home: Home) -> Optimisation:
    """The rule set of the newest report in this home, as it was proposed: what `latest` stands for; never that of an experiment or an alert.

    Raises:
        UnusableInputError: no such report was made here yet, or another version of the code wrote it.
    """
    run = home.runs.latest()
    if run is None:
        raise UnusableInputError(home.runs.why_no_latest())
    found = run.load("report", _Report)
    if found is None:
        raise UnusableInputError(
            f"the newest report (run {run.run_id}) was written by another version of routing-pipeline; run or analyze again"
        )
    return found.routing_rules
