"""The replay of a proposal as it was proven: each half of the sessions under what the other half has learnt.

Belongs here: the rules of each half, and putting both replays into one, by the rules that are proposed. Does not belong here: the
replay of rows (`policy.replay`), what is said of it (`simulation`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from routing_pipeline.policy.cells import Floats, Ints
from routing_pipeline.policy.decided_sums import UNMOVED, DecidedSums
from routing_pipeline.policy.halves import Halves, one_hot
from routing_pipeline.policy.pairs import Pair
from routing_pipeline.policy.proof import kept
from routing_pipeline.policy.replay import Replay, replay
from routing_pipeline.policy.rule_blocks import shares_of
from routing_pipeline.policy.scores import PROVE, ScoreCube, Sums
from routing_pipeline.policy.segments import when
from routing_pipeline.rules.model import Rule, RuleEvidence, RuleSet, WeightedModel, cannot_tell

OverPlaces = Callable[[Ints], tuple[Sums, Sums] | None]


@dataclass(frozen=True)
class OfCells:
    """What the score cube has of today's routing and of the rules.

    over: sums of some places; None for rules that cells cannot express. of_rule: places that a rule decides for, None as well.
    """

    over: OverPlaces
    of_rule: Callable[[int], Ints | None]


@dataclass(frozen=True)
class _Part:
    """One kind of request under one half's word: the rule that decides for it, the models by arm, how much its change counts."""

    segment: int
    rule: int
    arms: Floats
    weight: float


def of_pair(halves: Halves, pair: Pair, rule_set: RuleSet) -> OfCells:
    """Of a pair, by held-out sessions."""
    return OfCells(
        lambda of: (halves.sums(halves.kept(), of), halves.sums(pair.by_half, of)), lambda rule: _places_of(halves.first, rule_set, rule)
    )


def _places_of(cube: ScoreCube, rule_set: RuleSet, place: int) -> Ints | None:
    """Segments that one of the rules moves; None where cells cannot express them."""
    alone = [rule if at == place else rule.model_copy(update={"route": "unchanged"}) for at, rule in enumerate(rule_set.rules)]
    own = shares_of(cube, alone)
    return None if own is None else np.flatnonzero(own[:, cube.keep] < 1.0)


def of_rules(cube: ScoreCube, rule_set: RuleSet) -> OfCells:
    """Of rules from elsewhere, on the half that proves; conditions on fields that cells lack count as not met."""
    shares = shares_of(cube, rule_set.rules)

    def over(places: Ints) -> tuple[Sums, Sums] | None:
        if shares is None:
            return None
        return cube.mixed(one_hot(kept(cube), cube), PROVE, places), cube.mixed(shares, PROVE, places)

    return OfCells(over, lambda rule: _places_of(cube, rule_set, rule))


@dataclass(frozen=True)
class WrittenPair:
    """What each half of the sessions is scored under, as rules that do not overlap."""

    rule_sets: tuple[RuleSet, RuleSet]
    parts: tuple[list[_Part], list[_Part]]


def written(rule_set: RuleSet, halves: Halves, pair: Pair) -> WrittenPair:
    """What the other half has learnt, for each of them."""
    parts = (_under(halves, pair, 0, rule_set), _under(halves, pair, 1, rule_set))
    return WrittenPair((_written(rule_set, halves.second, parts[0]), _written(rule_set, halves.first, parts[1])), parts)


def replay_pair(pair: WrittenPair, sums: DecidedSums, halves: Halves) -> Replay:
    """Score every row that rules decide about (`policy.decided_sums`) today and under what the half that it is not of has learnt."""
    parts = []
    for half, cube in enumerate((halves.second, halves.first)):
        under = pair.parts[half]
        found = replay(pair.rule_sets[half], sums, cube, half="prove" if half else "learn")
        weight = np.array([each.weight for each in under] + [0.0])
        rule = np.array([each.rule for each in under] + [UNMOVED], dtype=np.int64)
        then = found.now + weight[found.rule][:, None] * (found.then - found.now)
        parts.append(replace(found, then=then, rule=rule[found.rule]))
    joined = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Replay)}
    return Replay(**joined)


def _under(halves: Halves, pair: Pair, half: int, rule_set: RuleSet) -> list[_Part]:
    """What the sessions of one half are scored under."""
    keep = halves.keep
    by_half: Floats = pair.by_half[half]
    found = []
    for rule in range(len(rule_set.rules)):
        places = _places_of(halves.first, rule_set, rule)
        for segment in () if places is None else places[places < len(halves.first.segments)]:
            weight = float(by_half[segment, :keep].sum())
            # Where this half's sessions do not count, any of the rule's models stands for it.
            arms = by_half[segment, :keep] / weight if weight else pair.shares[segment, :keep] / pair.shares[segment, :keep].sum()
            found.append(_Part(int(segment), rule, arms, weight))
    return found


def _written(rule_set: RuleSet, cube: ScoreCube, parts: list[_Part]) -> RuleSet:
    """One rule for each part; they do not overlap."""
    unknown = cannot_tell("a part of the replay")
    rules = []
    for place, part in enumerate(parts):
        segment = cube.segments[part.segment]
        rules.append(
            Rule(
                id=f"p{place}",
                priority=place + 1,
                when=when(cube.cells.binning, segment.task, segment.first, segment.last),
                route=tuple(WeightedModel(model=cube.models[arm], weight=float(part.arms[arm])) for arm in np.flatnonzero(part.arms)),
                rationale="",
                evidence=RuleEvidence(requests=0, labelled=0, effective_sample_size=0.0, grade="C"),
                expected=unknown,
                effort="Low",
                risk="Low",
                validation_criteria=(),
            )
        )
    return rule_set.model_copy(update={"rules": tuple(rules)})
