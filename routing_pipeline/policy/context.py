"""What the evidence corrects for beside task and complexity: columns that steer the router become part of the context.

Belongs here: grouping a column's values by how they are routed, and which column goes where. Does not belong here: whether a
column steers (`policy.steering`), cells (`policy.cells`).

Requests of values that are routed alike need not be told apart: within such a group the column does not decide (the propensity
is a balancing score; Rosenbaum and Rubin 1983, Biometrika 70:41). So values are joined, nearest first, until their routing
differs by more than chance. A team can be named by rules: tasks are cut by groups of teams. What rules cannot ask for becomes
strata within tasks. One of each is what data bear; what still steers then is named, and lowers the grade.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import ibis
import numpy as np
from scipy.special import gammaincinv

from routing_pipeline.policy.binning import Binning
from routing_pipeline.policy.evidence_model import SteeringTest
from routing_pipeline.policy.steering import MATERIAL, REST, TOO_MUCH, Dependence, examined
from routing_pipeline.policy.strata import NONE, VALUES, Strata

MOST_GROUPS = 4
APART = 1e-3
"""Values are kept apart where their routing would differ as much by chance with at most this probability."""
REQUESTS_PER_GROUP = 1_000
REQUESTS_PER_KIND = 250
"""Least requests that a group, and on average a task within a group, must hold."""
LABELS_PER_GROUP = 100


@dataclass(frozen=True)
class Context:
    """The binning with what steers in it, and every test, strongest first."""

    binning: Binning
    tests: tuple[SteeringTest, ...]


def groups_of(found: Dependence, most: int, least: float) -> tuple[tuple[str, ...], ...]:
    """Values joined while they are routed alike, are more than `most` groups, or hold fewer requests than `least`.

    The distance of two groups is sum over tasks and models of n n' / (n + n') (r - r')^2 / p, r: residual share; chi-squared
    where they are routed alike, times what sessions add.
    """
    size = found.expected.sum(axis=2)
    share = found.expected.sum(axis=1) / np.maximum(size.sum(axis=1), 1e-300)[:, None]
    residual = found.residual.copy()
    groups = [[place] for place in range(len(found.values)) if size[:, place].sum() > 0]
    sizes, sums = [size[:, each[0]] for each in groups], [residual[:, each[0]] for each in groups]
    freedom = max(int(((share > 0).sum(axis=1) - 1).clip(0).sum()), 1)
    by_chance = max(found.by_chance / max(freedom * (len(groups) - 1), 1), 1.0)
    apart = 2 * float(gammaincinv(freedom / 2, 1 - APART)) * by_chance

    def distance(one: int, other: int) -> float:
        n, m = sizes[one], sizes[other]
        both = (n > 0) & (m > 0)
        gap = sums[one][both] / n[both, None] - sums[other][both] / m[both, None]
        weight = (n * m / np.maximum(n + m, 1e-300))[both]
        p = share[both]
        return float((weight[:, None] * np.where(p > 0, gap**2 / np.maximum(p, 1e-300), 0.0)).sum())

    while len(groups) > 1:
        pairs = [(distance(one, other), one, other) for one in range(len(groups)) for other in range(one)]
        small = min(range(len(groups)), key=lambda place: (float(sizes[place].sum()), place))
        is_small = float(sizes[small].sum()) < least
        nearest, one, other = min(pair for pair in pairs if not is_small or small in pair[1:])
        if not is_small and len(groups) <= most and nearest > apart:
            break
        groups[other] += groups.pop(one)
        sizes[other], sums[other] = sizes[other] + sizes.pop(one), sums[other] + sums.pop(one)
    return tuple(tuple(sorted(found.values[place] for place in group)) for group in sorted(groups, key=min))


def context_of(requests: ibis.Table, binned: Callable[[tuple[tuple[str, ...], ...]], Binning]) -> Context:
    """Test every column; take the strongest into the context, as far as the data bear it; test what remains.

    Args:
        requests: rows of the window.
        binned: the binning with tasks cut by groups of teams.
    """
    binning = binned(())
    final = requests.filter(requests.is_final)
    counted = final.agg(n=final.count(), labelled=final.quality.notnull().sum()).to_pyarrow().to_pylist()[0]
    n, labelled = int(counted["n"]), int(counted["labelled"] or 0)
    if not binning.tasks or n == 0:
        return Context(binning, ())
    tests, found = examined(requests, binning, n)
    told = dict(tests)
    groups = _groups("team", tests, found, binning, n, labelled)
    if groups:
        binning = binned(groups)
        tests, found = examined(requests, binning, n)
        told |= tests | {"team": _corrected(told["team"], tests.get("team"))}
    steering = [each for each in tests.values() if each.verdict == "steers" and each.column in VALUES]
    if steering:
        strongest = max(steering, key=lambda each: (each.spread, each.column)).column
        groups = _groups(strongest, tests, found, binning, n, labelled)
        if groups:
            binning = with_strata(binning, Strata(strongest, groups))
            after, _ = examined(requests, binning, n)
            before = told[strongest]
            told = with_tests_of_strata(told, after)
            told[strongest] = _corrected(before, after.get(strongest))
    tests_told = (each.model_copy(update={"verdict": "slight"}) if _is_slight(each) else each for each in told.values())
    return Context(binning, tuple(sorted(tests_told, key=lambda each: (-each.spread, each.column))))


def with_tests_of_strata(told: Mapping[str, SteeringTest], after: Mapping[str, SteeringTest]) -> dict[str, SteeringTest]:
    """What is told of each column once the context has strata: the later test, unless it only bears out that the column is corrected for.

    A column may be tested for the first time then: one that varies within every part of the context alone once that is cut anew.
    """
    borne_out = {name for name, each in told.items() if each.verdict == "corrected for"}
    return {**told, **{name: each for name, each in after.items() if name not in borne_out or each.verdict == "steers"}}


def _is_slight(test: SteeringTest) -> bool:
    """Of what could not be corrected for."""
    return test.verdict == "steers" and test.spread < TOO_MUCH


def _groups(
    column: str, tests: dict[str, SteeringTest], found: dict[str, Dependence], binning: Binning, n: int, labelled: int
) -> tuple[tuple[str, ...], ...]:
    """Groups of a column's values that the data bear; none where it does not steer, or there is but one."""
    if column not in tests or tests[column].verdict != "steers":
        return ()
    most = min(MOST_GROUPS, n // REQUESTS_PER_GROUP, labelled // LABELS_PER_GROUP, n // (REQUESTS_PER_KIND * max(len(binning.tasks), 1)))
    scale = found[column].requests / max(n, 1)
    groups = groups_of(found[column], int(most), REQUESTS_PER_GROUP * scale) if most >= 2 else ()
    if column == "team":
        # Requests without a team, or of a small one, are reached by no rule that names teams.
        groups = tuple(named for group in groups if (named := tuple(each for each in group if each not in {REST, NONE})))
    return groups if len(groups) > 1 else ()


def with_strata(binning: Binning, strata: Strata) -> Binning:
    """Strata in the place of lengths; lengths as levels stay."""
    by_length = binning.axis == "prompt_tokens"
    return replace(
        binning,
        strata=strata,
        lengths=len(strata.groups),
        length_edges=((),) * len(binning.tasks),
        bin_tokens=binning.bin_tokens if by_length else ((0.0,),) * len(binning.tasks),
    )


def _corrected(before: SteeringTest, after: SteeringTest | None) -> SteeringTest:
    """A column that is part of the context now: as it showed before, unless it still steers."""
    still = after is not None and after.verdict == "steers" and after.spread >= MATERIAL
    return before.model_copy(
        update={"verdict": "steers", "spread": after.spread} if still and after is not None else {"verdict": "corrected for"}
    )
