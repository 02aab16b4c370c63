"""Rule sets as they were proposed, kept for good: what later measurements are held against.

Belongs here: keeping them under the home and reading them back. Does not belong here: results that can be computed again
(`results`), holding a promise against what happened (`recommendation.realized_outcomes`).
"""

from __future__ import annotations

from pathlib import Path

from routing_pipeline.home import Home
from routing_pipeline.policy.rule_set import RuleSet
from routing_pipeline.results import write_whole

FOLDER = "rule_sets"


def _path(home: Home, rule_set_id: str) -> Path:
    return home.root / FOLDER / f"{rule_set_id.replace(':', '')}.json"


def keep(home: Home, rule_set: RuleSet) -> None:
    """Keep what a rule set promises; one without rules promises nothing. The first promise of an id stands."""
    path = _path(home, rule_set.rule_set_id)
    if rule_set.rules and not path.exists():
        write_whole(path, rule_set.model_dump_json(indent=1).encode())


def kept(home: Home) -> tuple[RuleSet, ...]:
    """All that were kept, oldest first; files of another version of the contract are passed over."""
    found = []
    for path in sorted((home.root / FOLDER).glob("*.json")):
        try:
            found.append(RuleSet.model_validate_json(path.read_bytes()))
        except ValueError:
            continue
    return tuple(found)
