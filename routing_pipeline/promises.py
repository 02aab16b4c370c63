"""Rule sets as they were proposed, kept for good: what later measurements are held against.

Belongs here: keeping them under the home and reading them back. Does not belong here: results that can be computed again
(`results`), holding a promise against what happened (`recommendation.realized_outcomes`).
"""

from __future__ import annotations

from routing_pipeline.home import Home
from routing_pipeline.policy.rule_set import RuleSet

FOLDER = "rule_sets"


def keep(home: Home, rule_set: RuleSet) -> None:
    """Keep what a rule set promises; one without rules promises nothing. The first promise of an id stands."""
    name = f"{FOLDER}/{rule_set.rule_set_id.replace(':', '')}.json"
    if rule_set.rules and not home.files.has(name):
        home.files.write(name, rule_set.model_dump_json(indent=1).encode())


def kept(home: Home) -> tuple[RuleSet, ...]:
    """All that were kept, oldest first; files of another version of the contract are passed over."""
    found = []
    for each in home.files.children(FOLDER):
        try:
            found.append(RuleSet.model_validate_json(home.files.read(each.name) or b""))
        except ValueError:
            continue
    return tuple(found)
