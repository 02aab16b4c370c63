"""Rules that were learnt on the sessions that they are to be replayed on: finding out which, and replaying them as they were proven.

Belongs here: whether rules that somebody hands over are ours, whole or changed, and what each half of the sessions says of them. Does
not belong here: the replay (`replayed_halves`, `simulation`), finding our own rules in a home (`operations.own_rules`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from routing_pipeline.policy.cells import Floats
from routing_pipeline.policy.halves import Halves
from routing_pipeline.policy.pairs import Pair
from routing_pipeline.recommendation.half_choices import HalfChoice, pair_of
from routing_pipeline.recommendation.offered import RoutingOption
from routing_pipeline.rules.model import Rule, RuleSet


def closest(rule_set: RuleSet, known: Sequence[RoutingOption]) -> RoutingOption | None:
    """Our own rules that these are, or that most of them were taken from; None where none were.

    Args:
        rule_set: whatever was handed over.
        known: all that was found on the same sessions.
    """
    by_id = next((each for each in known if each.rule_set.rule_set_id == rule_set.rule_set_id), None)
    if by_id is not None:
        return by_id
    given = {_gist(rule) for rule in rule_set.rules if rule.route != "unchanged"}
    most = max(known, key=lambda each: len(given & {_gist(rule) for rule in each.rule_set.rules}), default=None)
    return most if most is not None and given & {_gist(rule) for rule in most.rule_set.rules} else None


def _gist(rule: Rule) -> tuple[object, ...]:
    """What is kept where a rule is narrowed or widened."""
    return rule.route, rule.when.task_type


def held_out(halves: Halves, learnt: Sequence[HalfChoice], shares: Floats, *, single: bool) -> Pair | None:
    """Rules as a pair: what they have of ours each half says by itself, the rest of them both; None where nothing of them is ours.

    What was not learnt on these sessions flatters on neither half, so there both count as they are.

    Args:
        halves: of the window.
        learnt: what each half of our own rules would do.
        shares: what a gateway that follows the given rules does; NaN where cells cannot express it.
        single: as the own rules were asked for.
    """
    own = pair_of(halves, learnt, single=single)
    if own is None or np.isnan(shares).any():
        return None
    same = np.isclose(own.shares, shares, atol=1e-6).all(axis=1) & (own.shares[:, halves.keep] < 1.0)
    if not same.any():
        return None
    by_half = np.stack([shares, shares])
    by_half[:, same] = own.by_half[:, same]
    return replace(own, shares=shares, by_half=by_half)
