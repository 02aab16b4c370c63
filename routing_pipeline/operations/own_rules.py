"""Rules of ours that a home has found on the same sessions.

Belongs here: looking them up. Does not belong here: what follows where somebody hands such rules over (`recommendation.own_rules`).
"""

from __future__ import annotations

from routing_pipeline.recommendation.offered import RoutingOption
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of
from routing_pipeline.window.scope import AnalysisScope


def own_rules(home: Home, scope: AnalysisScope) -> tuple[RoutingOption, ...]:
    """Every rule set that was found from the evidence of this window, whatever was asked."""
    found: dict[str, RoutingOption] = {}
    for key in home.results.keys_of_rule_sets(f"{scope.end:%Y-%m-%dT%H%M%SZ}"):
        asked = home.results.load("analysis_scope", key, AnalysisScope)
        rules = None if asked is None or asked.evidence_key != scope.evidence_key else home.results.load("routing_rules", key, RoutingRules)
        found |= {} if rules is None else {option.rule_set.rule_set_id: option for option in rules.options}
    return tuple(found.values())


def ids_of(home: Home, scope: AnalysisScope) -> str:
    """Changes whenever `own_rules` may."""
    return key_of(keys=list(home.results.keys_of_rule_sets(f"{scope.end:%Y-%m-%dT%H%M%SZ}")))
