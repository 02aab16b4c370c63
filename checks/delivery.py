"""Before rules leave the house: has a person approved what is significant?

Belongs here: checks on what is delivered. Does not belong here: who decides what (`assets.deciding`).
"""

import dagster as dg

from assets.deciding import CHECK, approval
from assets.delivery import routing_rule_set as delivered
from assets.resources import HomeResource
from routing_pipeline.rules.delivery import status_of_rules
from routing_pipeline.rules.model import RuleSet


@dg.asset_check(
    asset=delivered,
    name=CHECK,
    description="A change of more than 5 % of traffic or spend is approved by a person. It waits for that; nothing else does.",
)
def significant_changes_are_approved(routing_rule_set: RuleSet, home: HomeResource) -> dg.AssetCheckResult:
    """A warning with the command that approves, never in the way of the report."""
    return dg.AssetCheckResult(**approval(status_of_rules(home.record(), routing_rule_set)))
