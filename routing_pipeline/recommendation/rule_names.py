"""Names in rules that the window does not know, and rules that no request meets: told with the nearest name, never passed over.

Belongs here: comparing what rules speak of with what the rows hold. Does not belong here: reading rules (`rules.reading`), counting what
they move (`rule_traffic`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import ibis

from routing_pipeline.errors import nearest
from routing_pipeline.ingest.formats.log_format import MAX_TEXT
from routing_pipeline.policy.decisions import as_logged, holds, with_first_fields
from routing_pipeline.recommendation.rule_traffic import decided
from routing_pipeline.rules.model import Rule, RuleSet
from routing_pipeline.window.scope import AnalysisScope

OFFERED = 1_000
"""Of so many names of a column, those with most requests, the nearest is sought."""
SHOWN = MAX_TEXT
"""Characters of a name that are shown: all that a log may hold, so that whoever marks names from logs finds them whole."""


def unknown_names(rule_set: RuleSet, requests: ibis.Table, scope: AnalysisScope) -> tuple[str, ...]:
    """What the rules name and the window does not know, and rules that decide for none of its requests; one sentence each.

    Args:
        rule_set: whatever was handed over.
        requests: rows of the window (schema.SCOPED_REQUESTS), or the scope's sample of them.
        scope: knows every model and task type of the window.
    """
    rows = as_logged(requests.filter(requests.is_final))
    where = "window" if scope.sampled == 1.0 else "window's sample"
    models = {*scope.models, *_seen(rows, "routed_model", _targets_of(rule_set.rules))}
    said = [*_conditions(rule_set, rows, scope, where), *_targets(rule_set, models)]
    return (*said, *_without_requests(rule_set, rows, where))


def _conditions(rule_set: RuleSet, rows: ibis.Table, scope: AnalysisScope, where: str) -> Iterator[str]:
    for column, also in (("task_type", scope.task_types), ("team", ())):
        named = [(rule, name) for rule in rule_set.rules for name in getattr(rule.when, column) or ()]
        if not named:
            continue
        known = {*_seen(rows, column, {name for _, name in named}), *also}
        for rule, name in named:
            if name not in known:
                yield f"Rule {rule.id}: no request of the {where} has {column} '{name[:SHOWN]}'{_instead(name, known)}"


def _targets(rule_set: RuleSet, known: Collection[str]) -> Iterator[str]:
    for rule in rule_set.rules:
        for name in dict.fromkeys(_targets_of((rule,))):
            if name not in known:
                yield f"Rule {rule.id}: the model '{name[:SHOWN]}' was never seen in the window{_instead(name, known)}"


def _targets_of(rules: Iterable[Rule]) -> list[str]:
    routed = [target.model for rule in rules if rule.route != "unchanged" for target in rule.route]
    return [*routed, *(name for rule in rules for name in rule.fallbacks)]


def _seen(rows: ibis.Table, column: str, named: Collection[str]) -> set[str]:
    """Values of a column: those of the named that are there at all, and the most frequent ones."""
    counted = rows.filter(rows[column].notnull()).group_by(column).agg(n=lambda table: table.count())
    of_named = counted.filter(counted[column].isin(sorted(named)))
    largest = counted.order_by(ibis.desc("n"), column).limit(OFFERED)
    return {row[column] for part in (of_named, largest) for row in part.select(column).to_pyarrow().to_pylist()}


def _instead(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return "." if near is None else f"; did you mean '{near[:SHOWN]}'?"


def _without_requests(rule_set: RuleSet, rows: ibis.Table, where: str) -> Iterator[str]:
    """Rules that decide for nothing: because none of their conditions holds, or because others come first."""
    if not rule_set.rules:
        return
    rows = with_first_fields(rows, rule_set.rules)
    held = {f"met_{index}": holds(rule, rows) for index, rule in enumerate(rule_set.rules)}
    placed = rows.mutate(place=decided(rows, rule_set), **held)
    counts = placed.agg(
        **{f"decided_{index}": (placed.place == index).sum().fill_null(0) for index in range(len(rule_set.rules))},
        **{name: placed[name].sum().fill_null(0) for name in held},
    )
    found = counts.to_pyarrow().to_pylist()[0]
    for index, rule in enumerate(rule_set.rules):
        if found[f"decided_{index}"] == 0:
            before = "rules before it decide for every request that meets its conditions"
            yield f"Rule {rule.id} matches no request of the {where}: {before if found[f'met_{index}'] else 'none meets its conditions'}."
