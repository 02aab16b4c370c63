"""A change in spend taken apart into factors whose effects add up to it exactly (log-mean Divisia).

Belongs here: the decomposition of sums of products. Does not belong here: which factors a spend has (`analysis.cost_change`,
`alerts.attribution`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One product of factors before and after; each factor has a name, and all terms name theirs from one list."""

    before: Mapping[str, float]
    after: Mapping[str, float]


def effects(terms: Iterable[Term], names: Sequence[str]) -> dict[str, float]:
    """Effect of each factor on the change of a sum of products; the effects add up to the change.

    LMDI-I: effect_k = sum_i L(V_i1, V_i0) ln(x_ik1 / x_ik0), with L(a, b) = (a - b) / ln(a / b) (Ang 2005, Energy Policy 33:867).
    A product that begins or ends at 0 gives its whole change to the first of `names` that is 0 there, the limit of the formula (Ang &
    Liu 2007, Energy Policy 35:1426); with several factors at 0 their order decides.
    """
    found: dict[str, list[float]] = {name: [] for name in names}
    for term in terms:
        before, after = math.prod(term.before.values()), math.prod(term.after.values())
        if before > 0 and after > 0:
            weight = _log_mean(after, before)
            for name, old in term.before.items():
                found[name].append(weight * math.log(term.after[name] / old))
        elif before > 0 or after > 0:
            empty = term.before if before == 0 else term.after
            found[next(name for name in names if empty.get(name, 1.0) == 0)].append(after - before)
    return {name: math.fsum(values) for name, values in found.items()}


def _log_mean(a: float, b: float) -> float:
    relative = (a - b) / b
    if relative == 0:
        return a
    # log1p keeps its digits where the two are close, a difference of logarithms where they are far apart.
    return (a - b) / (math.log1p(relative) if abs(relative) < 0.5 else math.log(a) - math.log(b))
