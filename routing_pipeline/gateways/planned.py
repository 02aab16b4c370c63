"""What a gateway is to do: a rule set with its share, checked, tiers resolved. The same for all gateways.

Belongs here: refusing rules that no gateway should be given, names of tiers as models, which rules may be left out. Does not belong here:
how a gateway says it (one module each), what is approved (`rules.record`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.gateways.reachability import never_holds, overlap, shadowing
from routing_pipeline.rules.model import Rule, RuleSet
from routing_pipeline.rules.record import is_id
from routing_pipeline.rules.tiers import without_tiers
from routing_pipeline.text import name as shown

OLD_AFTER = timedelta(days=35)
"""Rules that were learnt on data older than this are exported with a warning."""
_RULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Plan:
    """What a gateway is to be told."""

    rule_set_id: str
    share: float
    """Of the sessions (requests without one by themselves), how many follow the rules; the others keep the gateway's own choice."""
    rules: tuple[Rule, ...]
    """In the order in which they are tried."""
    notes: tuple[str, ...] = ()
    """What whoever loads it should know, one sentence each."""

    def models(self) -> tuple[str, ...]:
        """Every model that a route or a fallback names, in order."""
        named = [str(target.model) for rule in self.rules if not isinstance(rule.route, str) for target in rule.route]
        return tuple(dict.fromkeys([*named, *(str(each) for rule in self.rules for each in rule.fallbacks)]))

    def noting(self, *notes: str) -> Plan:
        """The same with more to know."""
        return replace(self, notes=(*self.notes, *(each for each in notes if each not in self.notes)))


def plan_of(rule_set: RuleSet, share: float, tiers: Mapping[str, Collection[str]] | None = None, now: datetime | None = None) -> Plan:
    """A rule set as every gateway is to follow it.

    Args:
        rule_set: what was proposed, approved or published.
        share: of the sessions, how many are to follow it.
        now: when this is asked; it decides how old the data are.
        tiers: models of each tier, for rules that name one.

    Raises:
        UnusableInputError: nothing would change, a rule can never decide, an id or a model's name cannot stand in a log, a tier is not known, no such share.
    """
    if not 0 < share <= 1:
        raise UnusableInputError(f"--share {share:g}: give the part of the sessions that is to follow the rules, above 0 and up to 1")
    if not is_id(rule_set.rule_set_id):
        raise UnusableInputError(
            f"rule set {shown(rule_set.rule_set_id)}: its id goes into configurations and logs; "
            "give one of up to 100 letters, digits, colons, dots, dashes"
        )
    if all(isinstance(rule.route, str) for rule in rule_set.rules):
        raise UnusableInputError(f"rule set {shown(rule_set.rule_set_id)} changes nothing, so there is nothing to export")
    ordered = tuple(sorted(rule_set.rules, key=lambda rule: rule.priority))
    for rule in ordered:
        _check(rule)
    for rule_id, taking in shadowing(ordered).items():
        earlier = " and ".join(filter(None, (", ".join(taking[:-1]), taking[-1])))
        raise UnusableInputError(
            f"rule {shown(rule_id)} can never decide: {earlier} before it takes all of its requests; drop it or move it up"
        )
    resolved = tuple(without_tiers(rule, tiers or {}) for rule in ordered)
    return Plan(rule_set.rule_set_id, share, resolved, tuple(_warnings(rule_set, now or datetime.now(UTC))))


def _check(rule: Rule) -> None:
    if not _RULE_ID.fullmatch(rule.id):
        raise UnusableInputError(
            f"rule {shown(rule.id)}: its id goes into configurations and logs; give one of up to 40 letters, digits, dots, dashes"
        )
    named = [target.model for target in rule.route if not isinstance(target, str)]
    if any(not model.strip() or unicodedata.category(letter)[0] == "C" for model in (*named, *rule.fallbacks) for letter in model or " "):
        raise UnusableInputError(
            f"rule {rule.id}: a model has no name, or one with characters that do not show; name it as the gateway does"
        )
    if never_holds(rule.when):
        raise UnusableInputError(f"rule {shown(rule.id)} can never hold: one of its conditions is empty; drop it or widen the condition")


def _warnings(rule_set: RuleSet, now: datetime) -> list[str]:
    found = []
    if rule_set.status == "proposed":
        found.append(
            f"Rule set {shown(rule_set.rule_set_id)} is proposed, not approved: review it, and approve and publish it before it is loaded."
        )
    try:
        end = datetime.fromisoformat(rule_set.window.end)
    except ValueError:
        return found
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if now - end > OLD_AFTER:
        found.append(
            f"It was learnt on data up to {end:%Y-%m-%d}, {(now - end).days} days ago: traffic, prices and models may have changed since."
        )
    return found


def without_what_cannot_be_said(plan: Plan, gateway: str, unsayable: Callable[[Rule], str | None]) -> Plan:
    """The plan without rules that a gateway cannot be told, where leaving them out is safe.

    It is where no later rule could take their requests: these then keep the gateway's own choice.

    Raises:
        UnusableInputError: a later rule would, or nothing would be left.
    """
    kept: list[Rule] = []
    notes: list[str] = []
    for place, rule in enumerate(plan.rules):
        why = unsayable(rule)
        if why is None:
            kept.append(rule)
            continue
        taken_by = next((later for later in plan.rules[place + 1 :] if unsayable(later) is None and overlap(rule.when, later.when)), None)
        if taken_by is not None:
            raise UnusableInputError(
                f"rule {rule.id}: {gateway} {why}, and without it rule {taken_by.id} would take its requests; export to another gateway"
            )
        notes.append(f"Rule {rule.id} is left out, because {gateway} {why}: its requests keep the gateway's own choice.")
    if not kept:
        raise UnusableInputError(f"{gateway} {unsayable(plan.rules[0])}, so that no rule is left to export; use another gateway")
    return replace(plan, rules=tuple(kept)).noting(*notes)


def refuse_unknown_models(plan: Plan, known: Collection[str], where: str) -> None:
    """Refuse rules that name a model which what runs today does not have.

    Raises:
        UnusableInputError: the first such model, with what is near it, and which others there are.
    """
    missing: dict[str, str] = {}
    for rule in plan.rules:
        targets = [] if isinstance(rule.route, str) else [target.model for target in rule.route]
        for model in (*targets, *rule.fallbacks):
            if model not in known:
                missing.setdefault(str(model), rule.id)
    if missing:
        first, *others = missing
        also = f", nor {', '.join(shown(each) for each in others)}" if others else ""
        what = "them there, or change the rules" if others else "it there, or change the rule"
        raise UnusableInputError(
            f"rule {missing[first]}: {where} has no model {shown(first)}{did_you_mean(first, known)}{also}; add {what}"
        )
