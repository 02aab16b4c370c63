"""What rules decide and move, counted on the window's rows.

Belongs here: one small aggregate by rule, and what follows from it by arithmetic: shares, spend, where requests go today, teams. Does not
belong here: what the move does to outcomes (`policy.replay`), names that match nothing (`rule_names`).

The first rule by priority that holds decides; rules are numbers in the engine, so none of their texts reaches it but
as values to compare with.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ibis

from routing_pipeline.policy.decisions import as_logged, holds, with_first_fields
from routing_pipeline.policy.units import SESSION, with_sessions
from routing_pipeline.rules.model import Rule, RuleSet

NO_RULE = -1


@dataclass
class RuleTraffic:
    """Final requests that one rule decides, those answered from the cache apart; spend in USD.

    served: those that go where the rule sends them anyway, weighted routes by their weights; scored: of them, with a quality.
    """

    requests: float = 0.0
    labelled: float = 0.0
    spend: float = 0.0
    served: float = 0.0
    scored: float = 0.0
    moved: float = 0.0
    moved_spend: float = 0.0
    today: dict[str, float] = field(default_factory=dict)
    """Requests by the model that they are routed to first, today."""


@dataclass(frozen=True)
class Traffic:
    """All final requests of the window, and each rule's part of them by the rule's place in the set."""

    requests: float
    spend: float
    by_rule: Mapping[int, RuleTraffic]
    by_model: Mapping[str, float]
    """Requests by the model that they are routed to first, today."""

    @property
    def moved_share(self) -> float:
        """Share of requests that change model, 0..1."""
        return min(math.fsum(each.moved for each in self.by_rule.values()) / self.requests, 1.0) if self.requests else 0.0

    @property
    def moved_spend_share(self) -> float:
        """Share of spend that those make up, 0..1."""
        return min(math.fsum(each.moved_spend for each in self.by_rule.values()) / self.spend, 1.0) if self.spend else 0.0

    def shares_under(self, rules: Sequence[Rule]) -> dict[str, float]:
        """Share of all requests by model, once the rules are followed."""
        then = defaultdict(float, self.by_model)
        for place, part in self.by_rule.items():
            route = rules[place].route
            if route == "unchanged":
                continue
            for model, requests in part.today.items():
                then[model] -= requests
            for target in route:
                then[target.model] += target.weight * part.requests
        return {model: requests / self.requests for model, requests in then.items()} if self.requests else {}


def decided(rows: ibis.Table, rule_set: RuleSet) -> ibis.expr.types.IntegerValue:
    """Place in the set of the first rule that holds for a row from `with_first_fields`; NO_RULE where none does."""
    place = ibis.literal(NO_RULE, "int64")
    for index, rule in sorted(enumerate(rule_set.rules), key=lambda each: each[1].priority, reverse=True):
        place = ibis.ifelse(holds(rule, rows), ibis.literal(index, "int64"), place)
    return place


def traffic_of(requests: ibis.Table, rule_set: RuleSet) -> Traffic:
    """One pass over the rows (schema.SCOPED_REQUESTS)."""
    rows = with_first_fields(as_logged(requests.filter(requests.is_final)), rule_set.rules)
    rows = rows.mutate(place=ibis.ifelse(rows.is_cache_hit.fill_null(False), ibis.literal(NO_RULE, "int64"), decided(rows, rule_set)))
    sums = rows.group_by("place", "routed_model").agg(
        requests=rows.count().cast("float64"),
        labelled=rows.quality.count().cast("float64"),
        spend=rows.request_cost_usd.sum().fill_null(0.0),
    )
    by_rule: dict[int, RuleTraffic] = defaultdict(RuleTraffic)
    by_model: dict[str, float] = defaultdict(float)
    spend = 0.0
    for row in sorted(sums.to_pyarrow().to_pylist(), key=lambda each: (each["place"], each["routed_model"] or "")):
        model = row["routed_model"] or ""
        by_model[model] += row["requests"]
        spend += row["spend"]
        if row["place"] != NO_RULE:
            _add(by_rule[row["place"]], row, model, rule_set.rules[row["place"]])
    return Traffic(math.fsum(by_model.values()), spend, dict(by_rule), dict(by_model))


def _add(part: RuleTraffic, row: Mapping[str, float], model: str, rule: Rule) -> None:
    stays = 1.0 if rule.route == "unchanged" else math.fsum(target.weight for target in rule.route if target.model == model)
    part.requests += row["requests"]
    part.labelled += row["labelled"]
    part.spend += row["spend"]
    part.served += stays * row["requests"]
    part.scored += stays * row["labelled"]
    part.moved += (1.0 - stays) * row["requests"]
    part.moved_spend += (1.0 - stays) * row["spend"]
    part.today[model] = part.today.get(model, 0.0) + row["requests"]


def sessions_split(requests: ibis.Table, rule_set: RuleSet, by_request: Sequence[str] = ()) -> float:
    """Share of the sessions of several requests that rules per request would send to more than one model; 0 without such rules.

    by_request: task types whose requests belong to no session.
    """
    if all(rule.per == "session" for rule in rule_set.rules):
        return 0.0
    requests = requests.filter(~requests.task_type.isin(by_request).fill_null(False)) if by_request else requests
    rows = with_sessions(with_first_fields(as_logged(requests.filter(requests.is_final)), rule_set.rules))
    placed = rows.mutate(place=decided(rows, rule_set))
    by_session = placed.group_by(SESSION).agg(n=placed.count(), low=placed.place.min(), high=placed.place.max())
    several = by_session.filter(by_session.n > 1)
    found = several.agg(of=several.count(), split=(several.low != several.high).cast("int64").sum()).to_pyarrow().to_pylist()[0]
    return float(found["split"] or 0) / max(int(found["of"]), 1)


def teams_by_rule(requests: ibis.Table, rule_set: RuleSet) -> dict[str, tuple[str, ...]]:
    """By rule id the teams whose requests the rule decides, most requests first; one pass over the rows."""
    if not rule_set.rules:
        return {}
    rows = with_first_fields(as_logged(requests.filter(requests.is_final)), rule_set.rules)
    counted = rows.mutate(place=decided(rows, rule_set)).group_by("place", "team").agg(n=lambda table: table.count())
    found = sorted(counted.filter(counted.team.notnull()).to_pyarrow().to_pylist(), key=lambda row: (-row["n"], row["team"]))
    return {rule.id: tuple(row["team"] for row in found if row["place"] == place) for place, rule in enumerate(rule_set.rules)}
