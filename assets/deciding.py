"""Approving, publishing and rolling back from the UI: one job each, with who and why as its configuration.

Belongs here: jobs that record a person's decision, and how the UI shows where a rule set stands. Does not belong here: what
may be decided (routing_pipeline.rules).
"""

from typing import Any

import dagster as dg

from assets.delivery import routing_rule_set
from assets.resources import HomeResource
from routing_pipeline.rules.delivery import resolved
from routing_pipeline.rules.lifecycle import RuleSetStatus

CHECK = "significant_changes_are_approved"


class Deciding(dg.Config):
    """Who decides, and why."""

    by: str
    because: str = ""


class DecidingAbout(Deciding):
    """Which rule set: its id, or `latest` for the newest report's."""

    rule_set_id: str = "latest"


def approval(status: RuleSetStatus) -> dict[str, Any]:
    """A status as the outcome of CHECK: a warning while a significant change waits for its approval."""
    if not status.needs_approval:
        return {"passed": True, "severity": dg.AssetCheckSeverity.WARN, "description": status.verdict, "metadata": {"state": status.state}}
    how = f"{status.verdict} Run `{status.next_step}`, or launch the job approve_rule_set."
    config = {"ops": {"approve": {"config": {"rule_set_id": status.rule_set_id, "by": "NAME"}}}}
    return {
        "passed": False,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": how,
        "metadata": {"state": status.state, "configuration of approve_rule_set": dg.MetadataValue.json(config)},
    }


def _shown(context: dg.OpExecutionContext, status: RuleSetStatus) -> None:
    """The check on the rule set follows at once; it need not wait for the next run."""
    context.log.info("%s: %s", status.rule_set_id, status.verdict)
    context.add_output_metadata({"state": status.state, "verdict": status.verdict, "live": status.live or "none"})
    context.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(asset_key=routing_rule_set.key, check_name=CHECK, **approval(status))
    )


@dg.op
def approve(context: dg.OpExecutionContext, config: DecidingAbout, home: HomeResource) -> None:
    """Record a stakeholder's approval."""
    record = home.record()
    _shown(context, record.approve(resolved(home.open(), record, config.rule_set_id), config.by, config.because))


@dg.op
def publish(context: dg.OpExecutionContext, config: DecidingAbout, home: HomeResource) -> None:
    """Publish a rule set and let `latest` name it."""
    record = home.record()
    _shown(context, record.publish(resolved(home.open(), record, config.rule_set_id), config.by, config.because))


@dg.op
def roll_back(context: dg.OpExecutionContext, config: Deciding, home: HomeResource) -> None:
    """Take back what is live."""
    _shown(context, home.record().roll_back(config.by, config.because))


@dg.job(description="Approve a rule set that moves more than 5 % of traffic or spend.")
def approve_rule_set() -> None:
    """One decision."""
    approve()


@dg.job(description="Publish a rule set that is approved, or needs no approval.")
def publish_rule_set() -> None:
    """One decision."""
    publish()


@dg.job(description="Take back the rule set that is live; the one before it is live again.")
def roll_back_rule_set() -> None:
    """One decision."""
    roll_back()
