"""The proof: candidates held against every limit on the half of the sessions that their search never saw.

Belongs here: evaluating a policy on a half, the limits as one-sided tests, the walk from safest to boldest. Does not
belong here: choosing candidates (`policy.search`).

Fixed-sequence testing (Maurer, Hothorn, Lehmacher 1995; for risk control: Angelopoulos et al. 2021, arXiv 2110.01052):
candidates are tested in an order fixed beforehand, each at the full one-sided level, up to the first failure. The chance
that any candidate passes that truly breaks a limit stays below the level. A candidate passes when all limits pass, which
needs no correction (intersection-union test, Berger 1982).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from routing_pipeline.policy.cells import Floats, Ints
from routing_pipeline.policy.intervals import PROOF_LEVEL, Statistic, weighted_sum
from routing_pipeline.policy.scores import BOTH, COST, LATENCY, PROVE, SLOW, SUCCESS, ScoreCube, Sums
from routing_pipeline.policy.search import MAX_COMPLETION_DROP, Limits, Policy, moved_share


@dataclass(frozen=True)
class Evaluated:
    """What a policy gives on one half: per request (quality: per success); moved: share of the window's requests that change model."""

    cost: Statistic
    latency: Statistic
    success: Statistic
    quality: Statistic
    slow: Statistic
    moved: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """One candidate at its proof; `shortfall` is (statistic, margin) of the first limit that failed."""

    policy: Policy
    outcome: Evaluated
    failed: str | None
    shortfall: tuple[Statistic, float] | None = None

    @property
    def passed(self) -> bool:
        """Every limit held at the safe end."""
        return self.failed is None


def evaluated(cube: ScoreCube, actions: Ints, clusters: slice = PROVE, places: Ints | None = None) -> Evaluated:
    """Outcomes of one action per segment, what no rule reaches included unless `places` says which places count."""
    padded = np.concatenate([actions, np.full(cube.scores.shape[1] - len(actions), cube.keep)])
    return replace(outcomes_of(cube.chosen(padded, clusters, places)), moved=moved_share(cube, actions))


def outcomes_of(sums: Sums) -> Evaluated:
    """All outcomes."""
    return Evaluated(
        cost=sums.mean(COST), latency=sums.mean(LATENCY), success=sums.mean(SUCCESS), quality=sums.quality(), slow=sums.mean(SLOW)
    )


def proven(cube: ScoreCube, actions: Ints, places: Ints | None = None) -> Evaluated:
    """What a policy would give over the window's traffic: the change that the proving half shows, carried over to today's level."""
    keep = kept(cube)
    then, now = evaluated(cube, actions, PROVE, places), evaluated(cube, keep, PROVE, places)
    return replace(carried(then, now, evaluated(cube, keep, BOTH, places)), moved=then.moved)


def proven_mixtures(cube: ScoreCube, mixtures: Sequence[Floats]) -> list[Evaluated]:
    """The same for policies given as shares of each action by (place, action), each place's shares adding up to 1."""
    keep = np.zeros(cube.scores.shape[1:3])
    keep[:, cube.keep] = 1.0
    now, window = (outcomes_of(cube.mixed(keep, clusters)) for clusters in (PROVE, BOTH))
    return [carried(outcomes_of(cube.mixed(shares, PROVE)), now, window) for shares in mixtures]


def carried(then: Evaluated, now: Evaluated, window: Evaluated) -> Evaluated:
    """Levels under a policy: V = T then / now, with T today's level over all sessions, `then` and `now` of the proving half.

    Today's level is no choice of the search, so all sessions tell it; the change was searched for, so only those that the
    search never saw do. A ratio estimator (Cochran 1977, ch. 6): IF_V = T IF_{then/now} + (then/now) IF_T. The two parts hardly
    correlate, because a score of what was chosen differs from what happened by (w - 1) r where the model was the policy's and
    by -r elsewhere, w = 1 / pi, and pi (1/pi - 1) r^2 = (1 - pi) r^2: today's noise r cancels in the product.
    """
    return Evaluated(
        cost=_carried(then.cost, now.cost, window.cost),
        latency=_carried(then.latency, now.latency, window.latency),
        success=_carried(then.success, now.success, window.success),
        quality=_carried(then.quality, now.quality, window.quality),
        slow=_carried(then.slow, now.slow, window.slow),
    )


def _carried(then: Statistic, now: Statistic, window: Statistic) -> Statistic:
    change = then.relative_to(now) if now.value > 0 else then.minus(now)
    scale = window.value if now.value > 0 else 1.0
    factor = 1.0 + change.value if now.value > 0 else 1.0
    expected = math.hypot(scale * change.expected_error, factor * window.expected_error)
    return Statistic(window.value + scale * change.value, scale * change.influence + factor * window.influence, now.clusters, expected)


def kept(cube: ScoreCube) -> Ints:
    """The policy that changes nothing."""
    return np.full(len(cube.segments), cube.keep)


def margins(outcome: Evaluated, today: Evaluated, limits: Limits) -> list[tuple[str, Statistic]]:
    """Each limit as a statistic that must be above 0 at its lower bound, with its name for readers.

    Today's own share of slow requests is the yardstick of the latency guard, so its noise does not count against a
    candidate: the paired difference may use up what today leaves of the limit.
    """
    found: list[tuple[str, Statistic]] = []
    hidden = limits.hidden_bias * outcome.moved
    despite = f" even if unlogged difficulty flatters moved requests by {limits.hidden_bias:g}" if hidden else ""
    if limits.min_quality is None:
        drop = outcome.quality.minus(today.quality)
        found.append(
            (f"quality not more than {limits.max_quality_drop:g} below today's{despite}", _above(drop, hidden - limits.max_quality_drop))
        )
    else:
        found.append((f"quality at least {limits.min_quality:g}{despite}", _above(outcome.quality, hidden + limits.min_quality)))
    completion = outcome.success.minus(today.success)
    found.append((f"completion not more than {MAX_COMPLETION_DROP:g} below today's", _above(completion, -MAX_COMPLETION_DROP)))
    if limits.max_slow is not None:
        slower = outcome.slow.minus(today.slow).scaled(-1.0)
        found.append((f"slow requests at most {limits.max_slow:.0%}", _above(slower, today.slow.value - limits.max_slow)))
    if limits.max_cost is not None:
        found.append((f"cost at most {limits.max_cost:g} USD per request", _above(outcome.cost.scaled(-1.0), -limits.max_cost)))
    if limits.keeps_cost:
        found.append(("cost not above today's", _above(today.cost.minus(outcome.cost), 0.0)))
    return found


def _above(statistic: Statistic, floor: float) -> Statistic:
    return replace(statistic, value=statistic.value - floor)


def level_of(look: int) -> float:
    """One-sided level of the n-th question put to the same held-out half: 1 - (1 - PROOF_LEVEL) / 2^(n - 1).

    The first spends 2.5 %, each further one half of the one before, so that all together err in at most 5 % (alpha spending,
    as in Foster and Stine 2008, JRSS B 70:429).
    """
    return 1.0 - (1.0 - PROOF_LEVEL) / 2.0 ** (look - 1)


def tested(cube: ScoreCube, policy: Policy, limits: Limits, today: Evaluated, level: float) -> Verdict:
    """One candidate against all limits, each at the one-sided level."""
    outcome = proven(cube, policy.array)
    for name, margin in margins(outcome, today, limits):
        if not margin.is_known or margin.low(level) < 0:
            return Verdict(policy, outcome, name, (margin, margin.value))
    return Verdict(policy, outcome, None)


def walk(cube: ScoreCube, path: Sequence[Policy], limits: Limits, level: float = PROOF_LEVEL) -> list[Verdict]:
    """Test candidates in order, up to and including the first failure."""
    today = proven(cube, kept(cube))
    verdicts: list[Verdict] = []
    for policy in path:
        verdicts.append(tested(cube, policy, limits, today, level))
        if not verdicts[-1].passed:
            break
    return verdicts


def improvement(outcome: Evaluated, today: Evaluated, parts: dict[str, float]) -> Statistic:
    """The goal as a statistic, larger is better: weighted relative changes of cost and latency (less is better) and quality."""
    terms: list[tuple[float, Statistic]] = []
    if parts.get("cost"):
        terms.append((-parts["cost"], outcome.cost.relative_to(today.cost)))
    if parts.get("quality"):
        terms.append((parts["quality"], outcome.quality.relative_to(today.quality)))
    if parts.get("speed"):
        terms.append((-parts["speed"], outcome.latency.relative_to(today.latency)))
    return weighted_sum(terms)
