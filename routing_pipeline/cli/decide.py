"""Commands of people who decide about rule sets.

Belongs here: status, approve, publish, roll-back. Does not belong here: what may follow what (`rules.lifecycle`), what is shown of
rules (`rules.in_words`), where a home stands (`rules.home_status`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from routing_pipeline import suggested
from routing_pipeline.cli.asking import agree
from routing_pipeline.cli.help import DECIDE, START
from routing_pipeline.cli.inputs import open_record
from routing_pipeline.cli.options import AsJson, Because, By, PublishingConfig, Root, RuleSetId, Yes, command
from routing_pipeline.cli.output import show

if TYPE_CHECKING:
    from routing_pipeline.rules.lifecycle import Move, RuleSetStatus
    from routing_pipeline.rules.record import RuleSetRecord
    from routing_pipeline.storage.home import Home


@command("status --home demo/home", group=START)
def status(home: Root = None, config: PublishingConfig = None, as_json: AsJson = False) -> None:
    """Say in ten lines what is proposed, approved and live, and what comes next."""
    opened, record = open_record(home, config)
    from routing_pipeline.rules.home_status import home_status, status_lines

    found = home_status(opened, record)
    step = found.next_step or _into_the_gateway(opened, record, found.live, config)
    found = found.model_copy(update={"next_step": _here(step, home, config)})
    show(found.model_dump_json(indent=1), status_lines(found), as_json=as_json)


@command('approve latest --by "Ada Lovelace"', group=DECIDE)
def approve(
    rule_set_id: RuleSetId,
    by: By,
    because: Because = "",
    home: Root = None,
    config: PublishingConfig = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Record a stakeholder's approval of a rule set, after showing it.

    A change of more than 5 % of traffic or spend is not published without. On a terminal it is asked whether that is meant.
    """
    opened, record = open_record(home, config)
    found = _seen(opened, record, "approve", rule_set_id, by, because, yes=yes)
    _show_status(record.approve(found, by, because), home, config, as_json=as_json)


@command('publish latest --by "Ada Lovelace"', group=DECIDE)
def publish(
    rule_set_id: RuleSetId,
    by: By,
    because: Because = "",
    home: Root = None,
    config: PublishingConfig = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Publish a rule set for gateways to follow, after showing it.

    It gets its place for good, and `latest.json` points to it from then on. On a terminal it is asked whether that is meant.
    """
    opened, record = open_record(home, config)
    found = _seen(opened, record, "publish", rule_set_id, by, because, yes=yes)
    status = record.publish(found, by, because)
    step = status.next_step or _into_the_gateway(opened, record, status.live, config)
    _show_status(status.model_copy(update={"next_step": step}), home, config, record.place.uri, as_json=as_json)


@command('roll-back --by "Ada Lovelace" --because "shorter answers"', group=DECIDE)
def roll_back(by: By, because: Because = "", home: Root = None, config: PublishingConfig = None, as_json: AsJson = False) -> None:
    """Take back the rule set that is live. The one before it is live again, or the gateway's own choice."""
    _, record = open_record(home, config)
    _show_status(record.roll_back(by, because), home, config, as_json=as_json)


def _seen(home: Home, record: RuleSetRecord, move: Move, asked: str, by: str, because: str, *, yes: bool) -> str:
    """The id of what is meant, once whoever decides has seen it."""
    from routing_pipeline.rules.delivery import resolved
    from routing_pipeline.rules.in_words import found_as, proposal_lines

    rule_set_id = resolved(home, record, asked)
    proposal = record.decidable(move, rule_set_id, by, because)
    agree(f"{move.capitalize()} this rule set as {by}?", proposal_lines(proposal, found_as(home, rule_set_id)), yes=yes)
    return rule_set_id


def _into_the_gateway(home: Home, record: RuleSetRecord, live: str | None, config: Path | None) -> str | None:
    """What brings a live rule set into its gateway; None where nothing is live, or all sessions follow it."""
    if live is None:
        return None
    from routing_pipeline.gateways.rollout import Rollout
    from routing_pipeline.gateways.rollout_settings import read_rollout

    settings = read_rollout(config)
    if not settings.gateway:
        return f"routing-pipeline export --rules {live} --gateway GATEWAY --out gateway"
    found = Rollout(home, record, settings, config).live()
    if found is None or found[1].next_share is None:
        return None
    return "routing-pipeline rollout status" if found[1].steps else "routing-pipeline rollout advance --by NAME"


def _here(step: str | None, home: Path | None, config: Path | None) -> str | None:
    """A suggested command with the options as they were given, so that the line can be pasted."""
    given = (None if each is None else str(each) for each in (home, config))
    return None if step is None else suggested.here(step, *given)


def _show_status(status: RuleSetStatus, home: Path | None, config: Path | None, *more: str, as_json: bool) -> None:
    status = status.model_copy(update={"next_step": _here(status.next_step, home, config)})
    live = "no rule set is live" if status.live is None else f"{status.live} is live"
    lines = [f"{status.rule_set_id}: {status.verdict} ({live})"]
    if status.next_step:
        lines.append(f"next: {status.next_step}")
    show(status.model_dump_json(indent=1), [*lines, *more], as_json=as_json)
