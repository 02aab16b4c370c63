"""What every gateway's configuration is read back by: weights on any scale, yes and no, names of rules.

Belongs here: what of these is the same whoever the gateway is, and refusing what a rule cannot say. Does not belong here: where a gateway has
them (one module each).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.text import name as shown


def route_of(targets: Iterable[tuple[str, Any]], where: str) -> list[dict[str, Any]]:
    """Models with their weights as parts of 1.

    A weight of 0 is how people switch a target off; a model that stands there twice (two keys, two regions) gets both parts.

    Raises:
        UnusableInputError: a weight is no number from 0, or all are 0.
    """
    weights: dict[str, float] = {}
    for model, said in targets:
        try:
            weight = float(said)
        except (TypeError, ValueError):
            weight = math.nan
        if not (math.isfinite(weight) and weight >= 0):
            raise UnusableInputError(f"{where}: the weight of {shown(model)} is {shown(said)}; give a number from 0")
        if weight > 0:
            weights[model] = weights.get(model, 0.0) + weight
    total = sum(weights.values())
    if not weights or not math.isfinite(total):
        raise UnusableInputError(f"{where}: no target has a weight above 0 that can be told from the others'; give one")
    return [{"model": model, "weight": weight / total} for model, weight in weights.items()]


def needed(field: str, values: Sequence[str], where: str) -> bool:
    """Whether a condition asks for what requests need, or for its absence.

    Raises:
        UnusableInputError: it asks for neither or for both.
    """
    said = {value.lower() for value in values}
    if len(said) != 1 or not said <= {"true", "false"}:
        raise UnusableInputError(f"{where}: {field} is asked to be {' or '.join(map(shown, values)) or 'there'}; rules know true or false")
    return said == {"true"}


def named_once(rules: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules under ids of their own: gateways let many conditions go to one target, and many rules have one name."""
    found: list[dict[str, Any]] = []
    taken: set[str] = set()
    for rule in rules:
        said = str(rule["id"])
        own = next(each for each in (said, *(f"{said}-{n}" for n in range(2, len(taken) + 3))) if each not in taken)
        taken.add(own)
        found.append({**rule, "id": own})
    return found
