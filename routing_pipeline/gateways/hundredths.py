"""Draws that a client brings along, for gateways that draw anew with each request or not at all.

Belongs here: the two labels, and which of their values is which arm. Does not belong here: how a gateway asks for a label.

A client derives two whole numbers from 0 to 99 from its session, however it likes: `rule_share` says whether the session follows the rules,
`rule_draw` which arm it gets. Two, because a share that grows must not move sessions between arms.
"""

from __future__ import annotations

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.planned import Plan
from routing_pipeline.rules.model import Rule

SHARE = "rule_share"
DRAW = "rule_draw"
OF = 100


def share_of(plan: Plan) -> int:
    """Values of SHARE, from 0, that follow the rules.

    Raises:
        UnusableInputError: the share is no whole number of percents.
    """
    return _whole(plan.share, f"--share {plan.share:g}")


def arms_of(rule: Rule) -> list[tuple[str, int, int]]:
    """Models, each with the values of DRAW that choose it, from the first up to but not the second.

    Raises:
        UnusableInputError: a weight is no whole number of percents.
    """
    if isinstance(rule.route, str):
        return []
    found, reached = [], 0
    for target in rule.route:
        low, reached = reached, reached + _whole(target.weight, f"rule {rule.id}: the weight of {target.model}")
        found.append((str(target.model), low, reached))
    return found


def is_drawn(rule: Rule, plan: Plan) -> bool:
    """Whether the client's draws are needed for a rule to hold for a session."""
    return rule.per == "session" and (is_split(rule) or plan.share < 1)


def is_split(rule: Rule) -> bool:
    """Whether a rule has several arms."""
    return not isinstance(rule.route, str) and len(rule.route) > 1


def labels(values: range) -> list[str]:
    """Values as two digits, for gateways that compare text."""
    return [f"{value:02d}" for value in values]


def _whole(part: float, what: str) -> int:
    if abs(part * OF - round(part * OF)) > 1e-6 or round(part * OF) < 1:
        raise UnusableInputError(
            f"{what} is no whole number of percents, and this gateway cannot draw finer; round it, or export for LiteLLM"
        )
    return round(part * OF)
