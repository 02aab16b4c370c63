"""Which requests a rule can decide about, and whether earlier rules leave it any.

Belongs here: the conditions of rules as boxes of values, and what is left of a box. Does not belong here: whether a rule holds for one
request (`rules.model`).

Every field takes finitely many values that rules can tell apart: the names that they mention and any other, the ranges between their
limits, true and false, and not known. So the question has an exact answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from routing_pipeline.rules.model import NEEDS, Between, Rule, When

MOST_BOXES = 20_000
"""Beyond so many, a rule is taken to be reachable."""
NAMED = ("task_type", "team", "tier")
RANGES = ("complexity", "prompt_tokens")
_OTHER, _UNKNOWN = "\0other", "\0unknown"

Box = dict[str, frozenset[object]]


def never_holds(when: When) -> bool:
    """Whether no request can meet the conditions: an empty list, a range without width."""
    ranges = [between for name in RANGES if (between := getattr(when, name)) is not None]
    return any(getattr(when, name) == () for name in NAMED) or any(
        between.gte is not None and between.lt is not None and between.gte >= between.lt for between in ranges
    )


def overlap(one: When, other: When) -> bool:
    """Whether some request meets the conditions of both."""
    values = _values((one, other))
    first, second = _box(one, values), _box(other, values)
    return all(first[name] & second[name] for name in values)


def shadowing(rules: Sequence[Rule]) -> dict[str, tuple[str, ...]]:
    """Rules that can never decide, by id, each with the earlier rules that take all of its requests.

    Rules per session go by other fields than rules per request, so that only rules of one kind are held against each other.
    """
    found: dict[str, tuple[str, ...]] = {}
    ordered = sorted(rules, key=lambda rule: rule.priority)
    values = _values(rule.when for rule in ordered)
    for place, rule in enumerate(ordered):
        earlier = [each for each in ordered[:place] if each.per == rule.per and not never_holds(each.when)]
        taking = _taking(_box(rule.when, values), [(each.id, _box(each.when, values)) for each in earlier])
        if taking is not None and not never_holds(rule.when):
            found[rule.id] = taking
    return found


def _taking(box: Box, earlier: Sequence[tuple[str, Box]]) -> tuple[str, ...] | None:
    """Ids of the earlier rules that leave nothing of the box; None when something is left, or it cannot be told."""
    left, used = [box], []
    for rule_id, taken in earlier:
        rest = [part for each in left for part in _without(each, taken)]
        if rest != left:
            used.append(rule_id)
        left = rest
        if not left:
            return tuple(used)
        if len(left) > MOST_BOXES:
            return None
    return None


def _without(box: Box, taken: Box) -> list[Box]:
    """What is left of a box, as boxes that do not meet."""
    if any(not box[name] & taken[name] for name in box):
        return [box]
    left, inner = [], dict(box)
    for name, values in box.items():
        outside = values - taken[name]
        if outside:
            left.append({**inner, name: outside})
        inner[name] = values & taken[name]
    return left


def _values(asked: Iterable[When]) -> Box:
    """All values of each field that the conditions can tell apart."""
    whens = list(asked)
    values: Box = {}
    for name in NAMED:
        mentioned = {str(value) for when in whens for value in getattr(when, name) or ()}
        values[name] = frozenset({*mentioned, _OTHER, _UNKNOWN})
    for name in RANGES:
        ends = {
            end for when in whens if (between := getattr(when, name)) is not None for end in (between.gte, between.lt) if end is not None
        }
        edges = [float("-inf"), *sorted(ends), float("inf")]
        values[name] = frozenset({*pairwise(edges), _UNKNOWN})
    for name in NEEDS:
        values[name] = frozenset({True, False, _UNKNOWN})
    return values


def _box(when: When, values: Box) -> Box:
    box = dict(values)
    for name in NAMED:
        if (asked := getattr(when, name)) is not None:
            box[name] = frozenset(str(value) for value in asked)
    for name in RANGES:
        if (between := getattr(when, name)) is not None:
            box[name] = frozenset(piece for piece in values[name] if isinstance(piece, tuple) and _within(piece, between))
    for name in NEEDS:
        if (needed := getattr(when, name)) is not None:
            box[name] = frozenset({needed})
    return box


def _within(piece: tuple[float, float], between: Between) -> bool:
    low = float("-inf") if between.gte is None else between.gte
    high = float("inf") if between.lt is None else between.lt
    return low <= piece[0] and piece[1] <= high
