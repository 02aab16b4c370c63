"""Rules from elsewhere that send requests where they cannot be served, or where the policy forbids it: refused, with the count.

Belongs here: counting what such rules would do wrong. Does not belong here: what models can (`feasibility`), rules of ours, which
are never found there (`policy.search`), what a rule would cost (`simulation`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ibis

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.feasibility.allowed import forbidden, spared_teams
from routing_pipeline.feasibility.feasible import Target, cannot_serve, target_named, why_cannot
from routing_pipeline.policy.decisions import as_logged, with_first_fields
from routing_pipeline.policy.kinds import WindowNeeds, window_needs
from routing_pipeline.recommendation.rule_traffic import NO_RULE, decided
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.window.scope import AnalysisScope

SHOWN = 3


def refuse_infeasible(rule_set: RuleSet, requests: ibis.Table, scope: AnalysisScope) -> None:
    """Let rules pass that send every request of the window where it can be served and may go.

    Args:
        rule_set: whatever was handed over.
        requests: rows of the window (schema.SCOPED_REQUESTS), or the scope's sample of them.
        scope: its parameters say what models can and what the policy is.

    Raises:
        UnusableInputError: they do not; the message says how many requests, of which rule, and why.
    """
    needs = window_needs(requests, scope.parameters)
    rows = with_first_fields(as_logged(requests.filter(requests.is_final)), rule_set.rules)
    rows = rows.mutate(place=ibis.ifelse(rows.is_cache_hit.fill_null(False), ibis.literal(NO_RULE, "int64"), decided(rows, rule_set)))
    found = [*_unserved(rule_set, rows, needs), *_forbidden(rule_set, rows, needs)]
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UnusableInputError("; ".join(found[:SHOWN]) + more)


def _targets(rule_set: RuleSet, needs: WindowNeeds) -> list[tuple[int, Target]]:
    """(rule's place, model) of every route."""
    return [
        (place, needs.targets.get(each.model) or target_named(each.model, needs.parameters))
        for place, rule in enumerate(rule_set.rules)
        if rule.route != "unchanged"
        for each in rule.route
    ]


def _unserved(rule_set: RuleSet, rows: ibis.Table, needs: WindowNeeds) -> Iterator[str]:
    targets = _targets(rule_set, needs)
    sums: dict[str, Any] = {
        f"n_{index}": ((rows.place == place) & cannot_serve(rows, target)).sum().fill_null(0)
        for index, (place, target) in enumerate(targets)
    }
    counts = rows.agg(**sums).to_pyarrow().to_pylist()[0] if sums else {}
    for index, (place, target) in enumerate(targets):
        if counts[f"n_{index}"]:
            logged = [need for need in target.cannot if any(each.needing[need] for each in needs.by_task.values())]
            yield (
                f"rule {rule_set.rules[place].id} sends {counts[f'n_{index}']:,} requests of the window to {target.model} that it cannot serve: "
                f"{why_cannot(target, logged)}. Ask for what keeps them apart (has_image: false), or say in the configuration what the model can"
            )


def _forbidden(rule_set: RuleSet, rows: ibis.Table, needs: WindowNeeds) -> Iterator[str]:
    policy = needs.parameters.policy
    if not policy.leave_alone and not policy.restrictions:
        return
    spared = spared_teams(policy)
    counted = rows.filter(rows.place != NO_RULE).group_by("place", "task_type", "team").agg(n=lambda table: table.count())
    broken: dict[tuple[int, str, str], int] = {}
    targets = _targets(rule_set, needs)
    for row in counted.to_pyarrow().to_pylist():
        for place, target in targets:
            if place != row["place"]:
                continue
            why = forbidden(policy, row["task_type"] or "", target.model, target.provider, target.region)
            if why is None and row["team"] in spared:
                why = "the policy restricts their team, whose requests no rule may reach"
            if why is not None:
                key = (place, target.model, why)
                broken[key] = broken.get(key, 0) + row["n"]
    for (place, model, why), n in sorted(broken.items()):
        yield f"rule {rule_set.rules[place].id} sends {n:,} requests of the window to {model}: {why}"
