"""Requests that name one of our rule sets as it never was: with a rule that it does not have, or while nobody had published it.

Belongs here: finding and counting them, and telling of them. Does not belong here: what the requests that rules decided have got
(`realized_outcomes`), whether a move may follow another (`rules.lifecycle`).

A gateway that follows an older or edited file, or one that was not told of a roll-back, looks like one whose rules decide little.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import ibis

from routing_pipeline import text
from routing_pipeline.clock import SECONDS_PER_HOUR, hour_of
from routing_pipeline.rules.deciding import CONTROL
from routing_pipeline.rules.lifecycle import RuleSetStatus
from routing_pipeline.rules.model import RuleSet, logged_rule_id

LATE_H = 1
"""Hours after a decision in which gateways may not know of it, and before it in which their clocks may be ahead."""
MOST_TOLD = 3


@dataclass(frozen=True)
class Unpublished:
    """Hours since 1970, [start, end), in which gateways were not to follow a rule set."""

    start: float
    end: float
    why: str
    """In words, to follow "requests were decided by X"."""

    def holds(self, hour: int) -> bool:
        """Whether the whole of an hour lies in it."""
        return self.start <= hour and hour + 1 <= self.end


@dataclass(frozen=True)
class Strangers:
    """What requests name of some rule sets."""

    by_hour: Mapping[str, Mapping[int, float]]
    """Requests that rules decided by rule set and hour since 1970."""
    unknown: Mapping[tuple[str, str], int]
    """Requests by rule set and name of a rule that it does not have."""

    def silent(self, status: RuleSetStatus) -> tuple[Unpublished, ...]:
        """Times in which a rule set was not published and decided nothing, but for what gateways were late with."""
        hours = self.by_hour.get(status.rule_set_id, {})
        return tuple(each for each in unpublished(status) if not _within(hours, each))

    def notices(self, statuses: Sequence[RuleSetStatus]) -> Iterator[str]:
        """In words, what was most first."""
        for (rule_set_id, rule), n in sorted(self.unknown.items(), key=lambda each: (-each[1], each[0]))[:MOST_TOLD]:
            names = "name" if n != 1 else "names"
            yield (
                f"{text.counted(n, 'request')} {names} the rule '{text.name(rule)}', which rule set {rule_set_id} does not have: they count "
                "for none of its rules. Check which file the gateway follows."
            )
        for status in statuses:
            hours = self.by_hour.get(status.rule_set_id, {})
            for each in unpublished(status):
                if n := round(_within(hours, each)):
                    were = "were" if n != 1 else "was"
                    yield f"{text.counted(n, 'request')} {were} decided by {status.rule_set_id} {each.why}; they are among those measured."


def _within(hours: Mapping[int, float], when: Unpublished) -> float:
    return math.fsum(n for hour, n in hours.items() if when.holds(hour))


def unpublished(status: RuleSetStatus) -> tuple[Unpublished, ...]:
    """From the decisions about it; nothing where nobody is known to have published it."""
    found, since, is_published, was_published = [], -math.inf, False, False
    for decision in status.history:
        hour = decision.at.timestamp() / SECONDS_PER_HOUR
        if decision.move == "publish" and not is_published:
            why = "while it was taken back" if was_published else f"before it was published at {text.moment(decision.at)}"
            found.append(Unpublished(since, hour - LATE_H, why))
            is_published = was_published = True
        elif decision.move == "roll_back" and is_published:
            is_published, since = False, hour + LATE_H
    if was_published and not is_published:
        found.append(Unpublished(since, math.inf, "after it was taken back"))
    return tuple(found)


def strangers_among(requests: ibis.Table, known: Sequence[RuleSet]) -> Strangers:
    """One small aggregate over final rows that name any of these rule sets."""
    prefixes = {logged_rule_id(each.rule_set_id, ""): each for each in known}
    if not prefixes:
        return Strangers({}, {})
    named = reduce(or_, (requests.routing_rule_id.startswith(prefix) for prefix in prefixes))
    rows = requests.filter(requests.is_final, requests.routing_rule_id.notnull(), named)
    is_control = (rows.rule_arm == CONTROL).fill_null(False) if "rule_arm" in rows.columns else ibis.literal(False)
    grouped = (
        rows.group_by("routing_rule_id", is_control=is_control, hour=hour_of(rows.started_s)).agg(n=rows.count()).to_pyarrow().to_pylist()
    )
    by_hour: dict[str, Counter[int]] = {each.rule_set_id: Counter() for each in known}
    unknown: Counter[tuple[str, str]] = Counter()
    rules = {each.rule_set_id: {rule.id for rule in each.rules} for each in known}
    for row in grouped:
        rule_set = next(each for prefix, each in prefixes.items() if row["routing_rule_id"].startswith(prefix)).rule_set_id
        rule = row["routing_rule_id"].removeprefix(logged_rule_id(rule_set, ""))
        if rule in rules[rule_set]:
            if not row["is_control"]:
                by_hour[rule_set][row["hour"]] += row["n"]
        elif (bare := rule.removesuffix(f"/{CONTROL}")) not in rules[rule_set]:
            unknown[rule_set, bare] += row["n"]
    return Strangers(by_hour, unknown)
