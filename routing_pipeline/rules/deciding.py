"""Which rule decides for a request and which of its arms it gets: for one request in memory, and as expressions over rows.

Belongs here: the order of rules, rules per session, the draw that weights and shares are made by. Does not belong here: whether one
condition holds (`model.When`), how a gateway is told (`gateways`).

A draw is no chance: it hashes what is drawn for, so that a session keeps its arm, every process and engine draws the same, and a share
that grows adds sessions and drops none. The classifier that LiteLLM loads (`gateways.litellm_classifier`) draws the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from routing_pipeline.rules.model import Rule, RuleSet, WeightedModel

if TYPE_CHECKING:
    import ibis

CONTROL = "control"
"""Arm of those that a rule would decide for, but whom the share leaves with the gateway's own choice."""
UNCHANGED = "unchanged"
DIGITS = 8
STEPS = 16**DIGITS
"""A draw is one of so many numbers: the first digits of a hash."""


@dataclass(frozen=True)
class Decision:
    """Who decides and what for; all null where no rule holds."""

    rule_id: str | None = None
    arm: str | None = None
    """A model, CONTROL, or UNCHANGED where the rule leaves the choice to the gateway."""
    propensity: float | None = None
    """Probability of the model that this arm gives, given the rule (`propensity_of`)."""


def deciding(rules: Iterable[Rule], request: Mapping[str, Any], first: Mapping[str, Any] | None = None) -> Rule | None:
    """The rule that decides: the first by priority that holds.

    Args:
        rules: in any order.
        request: fields of the request, by name; what is missing is null.
        first: fields of the first request of its session, which rules per session go by; the request itself where it is the first.
    """
    of_session = request if first is None else first
    for rule in sorted(rules, key=lambda rule: rule.priority):
        if rule.when.matches(of_session if rule.per == "session" else request):
            return rule
    return None


def decided(
    rule_set: RuleSet,
    request: Mapping[str, Any],
    unit: str,
    *,
    share: float = 1.0,
    first: Mapping[str, Any] | None = None,
    own: str | None = None,
) -> Decision:
    """Rule, arm and propensity for one request.

    Args:
        rule_set: the rules and the id that draws go by.
        request: fields of the request, by name; what is missing is null.
        first: fields of the first request of its session.
        unit: what is drawn for: the session where there is one, else the request.
        share: of the units, how many follow the rules.
        own: the model that the gateway's own choice gives, where it is one and the same.
    """
    rule = deciding(rule_set.rules, request, first)
    if rule is None:
        return Decision()
    if drawn(share_key(rule_set.rule_set_id, unit)) >= steps_of(share):
        return Decision(rule.id, CONTROL, propensity_of(rule, CONTROL, share, own))
    if isinstance(rule.route, str):
        return Decision(rule.id, UNCHANGED, propensity_of(rule, UNCHANGED, share, own))
    number = drawn(arm_key(rule_set.rule_set_id, rule.id, unit))
    model = next(model for model, _, below in bounds(rule.route) if number < below)
    return Decision(rule.id, model, propensity_of(rule, model, share, own))


def propensity_of(rule: Rule, arm: str, share: float, own: str | None = None) -> float:
    """Probability that a request of the rule gets the model that this arm gives.

    Two arms may give the same one: where the gateway's own choice is among the rule's models, both ways to it count.
    """
    if isinstance(rule.route, str):
        return 1.0
    model = own if arm == CONTROL else arm
    routed = share * sum(target.weight for target in rule.route if target.model == model)
    return routed + (1.0 - share if arm == CONTROL or model == own else 0.0)


def drawn(key: str) -> int:
    """0 to STEPS - 1, the same for the same key."""
    return int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()[:DIGITS], 16)


def share_key(rule_set_id: str, unit: str) -> str:
    """What is hashed to tell whether a unit follows the rules at all: once for all rules, so that a session is in or out whole."""
    return f"{rule_set_id}//{unit}"


def arm_key(rule_set_id: str, rule_id: str, unit: str) -> str:
    """What is hashed to draw an arm of a rule."""
    return f"{rule_set_id}/{rule_id}/{unit}"


def steps_of(share: float) -> int:
    """How many draws of STEPS fall below a share."""
    steps: int = STEPS if share >= 1 else round(share * STEPS)
    return steps


def bounds(route: Iterable[WeightedModel]) -> list[tuple[str, float, int]]:
    """Models with their weights and the draw below which each is chosen; the last takes what rounding leaves over."""
    found: list[tuple[str, float, int]] = []
    reached = 0.0
    for target in route:
        reached += target.weight
        found.append((target.model, target.weight, steps_of(reached)))
    return [*found[:-1], (*found[-1][:2], STEPS)]


def decisions(rows: ibis.Table, rule_set: RuleSet, *, share: float = 1.0, own: str | None = None) -> ibis.Table:
    """Rows with `decided_rule`, `decided_arm` and `decided_propensity`, as `decided` gives them one by one.

    Args:
        rows: requests with the columns that the rules name, `session_id` and `request_id`; `started_s` too where a rule is per session.
        rule_set: the rules and the id that draws go by.
        share: of the units, how many follow the rules.
        own: the model that the gateway's own choice gives, where it is one and the same.
    """
    import ibis

    ordered = sorted(rule_set.rules, key=lambda rule: rule.priority)
    if not ordered:
        return rows.mutate(decided_rule=ibis.null("string"), decided_arm=ibis.null("string"), decided_propensity=ibis.null("float64"))
    columns = rows.columns
    if any(rule.per == "session" for rule in ordered):
        began = ibis.window(group_by=ibis.coalesce(rows.session_id, rows.request_id), order_by=[rows.started_s, rows.request_id])
        rows = rows.mutate(is_first_of_session=ibis.row_number().over(began) == 0)
    unit = ibis.coalesce(rows.session_id, rows.request_id)
    held = _held(rows, ordered, unit)
    in_share = ibis.literal(True) if share >= 1 else _digits(ibis.literal(f"{rule_set.rule_set_id}//").concat(unit)) < _hex(steps_of(share))
    arms = [(held[rule.id], ibis.ifelse(in_share, _arm(rule_set.rule_set_id, rule, unit), ibis.literal(CONTROL))) for rule in ordered]
    rows = rows.select(
        *columns,
        decided_rule=ibis.cases(*((held[rule.id], ibis.literal(str(rule.id))) for rule in ordered), else_=ibis.null("string")),
        decided_arm=ibis.cases(*arms, else_=ibis.null("string")),
    )
    chances = [
        ((rows.decided_rule == str(rule.id)) & (rows.decided_arm == arm), propensity_of(rule, arm, share, own))
        for rule in ordered
        for arm in arms_of(rule, share)
    ]
    return rows.mutate(decided_propensity=ibis.cases(*chances, else_=ibis.null("float64")))


def arms_of(rule: Rule, share: float) -> list[str]:
    """Every arm that a request of the rule may get."""
    routed = [UNCHANGED] if isinstance(rule.route, str) else [str(target.model) for target in rule.route]
    return routed if share >= 1 else [*routed, CONTROL]


def _held(rows: ibis.Table, rules: list[Rule], unit: ibis.expr.types.StringValue) -> dict[str, ibis.expr.types.BooleanValue]:
    """Whether each rule holds for each row; rules per session as they did for the session's first request."""
    import ibis

    held: dict[str, ibis.expr.types.BooleanValue] = {rule.id: rule.when.holds(rows) for rule in rules}
    of_session = ibis.window(group_by=unit)
    rows_of_first: dict[str, ibis.expr.types.BooleanValue] = {
        rule.id: ibis.ifelse(held[rule.id] & rows.is_first_of_session, 1, 0).max().over(of_session) == 1
        for rule in rules
        if rule.per == "session"
    }
    return held | rows_of_first


def _arm(rule_set_id: str, rule: Rule, unit: ibis.expr.types.StringValue) -> ibis.expr.types.StringValue:
    """The arm that each unit draws from a rule."""
    import ibis

    if isinstance(rule.route, str):
        return ibis.literal(UNCHANGED)
    known = bounds(rule.route)
    last = ibis.literal(str(known[-1][0]))
    if len(known) == 1:
        return last
    digits = _digits(ibis.literal(arm_key(rule_set_id, rule.id, "")).concat(unit))
    return ibis.cases(*((digits < _hex(below), ibis.literal(str(model))) for model, _, below in known[:-1]), else_=last)


def _digits(key: ibis.expr.types.StringValue) -> ibis.expr.types.StringValue:
    return key.hexdigest("md5").substr(0, DIGITS)


def _hex(number: int) -> str:
    """Compared with digits as text; what lies beyond the last number sorts behind all of them."""
    return f"{number:08x}" if number < STEPS else "g"
