"""The proof: pairs of candidates held against every limit, each by the sessions that its search never saw.

Belongs here: evaluating a policy on held-out sessions, the limits as one-sided tests, the walk from safest to boldest. Does not
belong here: choosing candidates (`policy.candidates`), pairing them (`policy.pairs`), the held-out sums (`policy.halves`).

Fixed-sequence testing (Maurer, Hothorn, Lehmacher 1995; for risk control: Angelopoulos et al. 2021, arXiv 2110.01052):
pairs are tested in an order fixed beforehand, each at the full one-sided level, up to the first failure. The chance
that any pair passes that truly breaks a limit stays below the level. A pair passes when all limits pass, which
needs no correction (intersection-union test, Berger 1982).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

from routing_pipeline.policy.cells import Floats, Ints
from routing_pipeline.policy.halves import Halves
from routing_pipeline.policy.pairs import Pair
from routing_pipeline.policy.scores import CALLS, COST, LATENCY, PROVE, SLOW, ScoreCube, Sums
from routing_pipeline.policy.search import MAX_COMPLETION_DROP, Limits, moved_share
from routing_pipeline.stats.inference import Statistic

PROOF_LEVEL = 0.975
"""One-sided, of the first question put to the same sessions."""


@dataclass(frozen=True)
class Evaluated:
    """What a policy gives on held-out sessions: per request (quality: per success).

    moved: share of the window's requests that change model; unseen_loss: see `ScoreCube`.
    """

    cost: Statistic
    latency: Statistic
    success: Statistic
    quality: Statistic
    slow: Statistic
    calls: Statistic
    moved: float = 0.0
    unseen_loss: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """One pair at its proof.

    shortfall: (statistic, margin) of the first limit that failed. lucky: what the test saw, where `outcome` is less what that flatters it by.
    """

    pair: Pair
    outcome: Evaluated
    failed: str | None
    shortfall: tuple[Statistic, float] | None = None
    lucky: Evaluated | None = None

    @property
    def as_tested(self) -> Evaluated:
        """What the limits were held against."""
        return self.outcome if self.lucky is None else self.lucky

    @property
    def passed(self) -> bool:
        """Every limit held at the safe end."""
        return self.failed is None


def evaluated(cube: ScoreCube, actions: Ints, clusters: slice = PROVE, places: Ints | None = None) -> Evaluated:
    """Outcomes of one action per segment on one half, what no rule reaches included unless `places` says which places count."""
    padded = np.concatenate([actions, np.full(cube.scores.shape[1] - len(actions), cube.keep)])
    return outcomes_of(cube.chosen(padded, clusters, places))


def outcomes_of(sums: Sums) -> Evaluated:
    """All outcomes."""
    return Evaluated(
        cost=sums.mean(COST),
        latency=sums.mean(LATENCY),
        success=sums.completion(),
        quality=sums.quality(),
        slow=sums.mean(SLOW),
        calls=sums.mean(CALLS),
    )


def proven(halves: Halves, pair: Pair, places: Ints | None = None) -> Evaluated:
    """What a pair would give over the window's traffic: the change that held-out sessions show, carried over to today's level."""
    found = proven_weights(halves, [pair.by_half], places)[0]
    return replace(found, moved=moved_share(halves.first, pair.shares), unseen_loss=unseen_loss(halves, pair.shares))


def today_of(halves: Halves, places: Ints | None = None) -> Evaluated:
    """The same of today's routing."""
    return proven_weights(halves, [halves.kept()], places)[0]


def proven_weights(halves: Halves, policies: Sequence[Floats], places: Ints | None = None) -> list[Evaluated]:
    """The same for policies given as `Halves.sums` has them."""
    now, window = outcomes_of(halves.sums(halves.kept(), places)), outcomes_of(halves.window(places))
    return [carried(outcomes_of(halves.sums(each, places)), now, window) for each in policies]


def unseen_loss(halves: Halves, shares: Floats) -> float:
    """By how much quality may be lower than told, where today's answers to moved requests were perfect and nobody scored them."""
    return max(halves.first.unseen_loss(shares, PROVE), halves.second.unseen_loss(shares, PROVE))


def carried(then: Evaluated, now: Evaluated, window: Evaluated) -> Evaluated:
    """Levels under a policy: V = T then / now, with T today's level as the evidence tells it, `then` and `now` of held-out scores.

    Today's level is no choice of the search, so all sessions tell it; the change was searched for, so only scores that the
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
        calls=_carried(then.calls, now.calls, window.calls),
    )


def _carried(then: Statistic, now: Statistic, window: Statistic) -> Statistic:
    change = then.relative_to(now) if now.value > 0 else then - now
    scale = window.value if now.value > 0 else 1.0
    factor = 1.0 + change.value if now.value > 0 else 1.0
    expected = math.hypot(scale * change.expected_error, factor * window.expected_error)
    return Statistic(window.value + scale * change.value, scale * change.influence + factor * window.influence, now.clusters, expected)


def kept(cube: ScoreCube) -> Ints:
    """The actions that change nothing."""
    return np.full(len(cube.segments), cube.keep)


def quality_margins(outcome: Evaluated, today: Evaluated, limits: Limits) -> list[tuple[str, Statistic]]:
    """The limits of quality, as in `margins`: the fall against today first, the absolute floor where there is one."""
    flattered = limits.hidden_bias * outcome.moved
    despite = f" even if unlogged difficulty flatters moved requests by {limits.hidden_bias:.2g}" if flattered else ""
    despite += " even if today's answers that nobody scored are perfect" if outcome.unseen_loss else ""
    hidden = flattered + outcome.unseen_loss
    drop = _above(outcome.quality - today.quality, hidden - limits.max_quality_drop)
    found = [(f"quality not more than {limits.max_quality_drop:g} below today's{despite}", drop)]
    if limits.min_quality is not None:
        found.append((f"quality at least {limits.min_quality:g}{despite}", _above(outcome.quality, hidden + limits.min_quality)))
    return found


def margins(outcome: Evaluated, today: Evaluated, limits: Limits) -> list[tuple[str, Statistic]]:
    """Each limit as a statistic that must be above 0 at its lower bound, with its name for readers.

    Today's own share of slow requests is the yardstick of the latency guard, so its noise does not count against a
    candidate: the paired difference may use up what today leaves of the limit.
    """
    found = quality_margins(outcome, today, limits)
    completion = outcome.success - today.success
    found.append((f"completion not more than {MAX_COMPLETION_DROP:g} below today's", _above(completion, -MAX_COMPLETION_DROP)))
    if limits.max_slow is not None:
        slower = (outcome.slow - today.slow).scaled(-1.0)
        found.append((f"slow requests at most {100 * limits.max_slow:.0f} %", _above(slower, today.slow.value - limits.max_slow)))
    if limits.max_cost is not None:
        found.append((f"cost at most ${limits.max_cost:g} per request", _above(outcome.cost.scaled(-1.0), -limits.max_cost)))
    if limits.keeps_cost:
        found.append(("cost not above today's", _above(today.cost - outcome.cost, 0.0)))
    return found


def _above(statistic: Statistic, floor: float) -> Statistic:
    return replace(statistic, value=statistic.value - floor)


def level_of(look: int) -> float:
    """One-sided level of the n-th question put to the same held-out half: 1 - (1 - PROOF_LEVEL) / 2^(n - 1).

    The first spends 2.5 %, each further one half of the one before, so that all together err in at most 5 % (alpha spending,
    as in Foster and Stine 2008, JRSS B 70:429).
    """
    return 1.0 - (1.0 - PROOF_LEVEL) / 2.0 ** (look - 1)


def tested(proofs: Sequence[Halves], pair: Pair, limits: Limits, now: Sequence[Evaluated], level: float) -> Verdict:
    """One pair against all limits, each at the one-sided level; where there are several cubes, on each of them."""
    outcomes = [proven(halves, pair) for halves in proofs]
    for halves, outcome, today in zip(proofs, outcomes, now, strict=True):
        for name, margin in margins(outcome, today, limits):
            if not margin.is_known or margin.low(level) < 0:
                return Verdict(pair, outcomes[0], f"{name} {halves.name}".strip(), (margin, margin.value))
    return Verdict(pair, outcomes[0], None)


def walk(proofs: Sequence[Halves], path: Sequence[Pair], limits: Limits, level: float = PROOF_LEVEL) -> list[Verdict]:
    """Test pairs in order, up to and including the first failure.

    Args:
        proofs: of the window, and of what else all limits must hold on (without incidents, say), with the same segments.
        path: from safest to boldest.
        limits: what must hold.
        level: one-sided.
    """
    now = [today_of(halves) for halves in proofs]
    verdicts: list[Verdict] = []
    for pair in path:
        verdicts.append(tested(proofs, pair, limits, now, level))
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
    return reduce(add, (statistic.scaled(weight) for weight, statistic in terms))
