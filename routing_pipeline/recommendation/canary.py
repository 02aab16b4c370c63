"""One look at a canary: sessions that follow the rules against those that chance left without them, on the requests that the rules decide.

Belongs here: the two arms in the logs, what is watched and its limits, what a look allows. Does not belong here: the boundary itself
(`stats.sequence`), planning the steps (`monitoring_plan`), what is done about it (`gateways.rollout`).

Both arms hold the requests for which a rule that changes something holds, so that nothing else dilutes the difference; what all
requests may lose on average is divided by the share that these are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import ibis
import pyarrow as pa
from pydantic import Field

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.search import MAX_COMPLETION_DROP
from routing_pipeline.policy.units import SESSION
from routing_pipeline.recommendation.against_control import promised_difference
from routing_pipeline.recommendation.applied_limits import quality_floor
from routing_pipeline.recommendation.counted_sessions import THEN, counted, requests_then, with_counts
from routing_pipeline.rules.deciding import CONTROL
from routing_pipeline.rules.model import RuleSet, logged_rule_id
from routing_pipeline.stats.inference import standard_error
from routing_pipeline.stats.sequence import (
    Difference,
    Split,
    Sums,
    alarm_of,
    bounds,
    difference_of,
    information_to_tell,
    periods_of,
    with_earlier,
)

Watched = Literal["quality", "completion", "cost_usd", "latency_ms"]
Standing = Literal["crossed", "cleared", "open", "cannot tell"]

FALLING: frozenset[Watched] = frozenset(("quality", "completion"))
"""Harm is below their limit; of the others it is above."""
SUMMED: frozenset[Watched] = frozenset(("cost_usd", "latency_ms"))
"""Of rules per session, what a session takes as a whole."""
ALPHA: Mapping[Watched, float] = {"quality": 0.025, "completion": 0.015, "cost_usd": 0.005, "latency_ms": 0.005}
"""Chance of a false alarm over the whole roll-out, by what is watched: 5 % in all."""
ALPHA_GO_ON = 0.05
"""Chance that a change which falls by the limit or more is let through, over all looks."""
POWER = 0.8
ALARM_AT: tuple[float, ...] = (1.0, 2.0, 4.0, 9.0)
"""The boundary that turns back sees falls soonest that are beyond the limit by so many limits: great harm soon, small harm in the end."""
WIDEST_MARGIN = 0.05
"""However few requests the rules decide, their own quality must not fall by more than this."""
LEAST_MARGIN = 0.001
"""Where nothing may be lost: a test that were to tell less apart would never end."""
MOST_DEARER = 0.1
"""Of today's cost per request, beyond what was promised."""
MOST_SLOWER = 0.25
"""Of today's latency, beyond what was promised."""
DEFAULT_DROP = 0.01
"""Fall of quality where the rule set names none."""


class Step(Result):
    """One step of a roll-out, as it was."""

    share: float = quantity("Share of the sessions that follow the rules", "0..1")
    start_s: float = quantity("When its configuration was written, since 1970", "s")


class Guardrail(Result):
    """One outcome: how far the canary is from its control, and how far it may be."""

    watched: Watched
    control: float | None = Field(description="Mean of the control: USD per request, ms, or 0..1; null where it is unknown")
    difference: Measured = Field(description="Canary less control, between bounds that hold at every look")
    since_s: float | None = quantity("The difference is of what came since then, since 1970; null: since the first step", "s", default=None)
    limit: float = Field(description="The difference that may not be: a fall of quality or completion (below 0), a rise of cost or latency")
    together: Measured | None = Field(
        default=None,
        description="The same together with what the logs promised, where it is cleared because the canary bears that out; else null",
    )
    standing: Standing = Field(
        description="`crossed`: surely beyond the limit; `cleared`: surely within it, or as `together` has it; `open`: not told yet; `cannot tell`: too little is logged"
    )


class CanaryLook(Result):
    """What one look at a roll-out saw."""

    rule_set_id: str
    data_until_s: float | None = quantity("Newest request that was seen, since 1970", "s", default=None)
    share_of_requests: float = quantity("Requests that the rules decide or would decide, of all", "0..1")
    canary_requests: int = quantity("That followed the rules", "requests")
    control_requests: int = quantity("That the rules would decide, left with the gateway's own choice", "requests")
    canary_sessions: int = quantity("Of the requests that followed the rules", "sessions")
    sessions_in_step: int = quantity("Of these, in the present step", "sessions")
    guardrails: tuple[Guardrail, ...]

    def of(self, watched: Watched) -> Guardrail:
        """One of them."""
        return next(each for each in self.guardrails if each.watched == watched)

    @property
    def crossed(self) -> tuple[Guardrail, ...]:
        """Those that were broken."""
        return tuple(each for each in self.guardrails if each.standing == "crossed")


def canary_look(
    requests: ibis.Table, all_requests: int, rule_set: RuleSet, steps: Sequence[Step], *, trust_proof: bool = False
) -> CanaryLook:
    """Hold the canary against its control, over all steps so far.

    Args:
        requests: conformed rows (schema.SCOPED_REQUESTS) since the first step; those without a rule of this set do not matter.
        all_requests: final requests in that time.
        rule_set: what is rolled out.
        steps: oldest first; at least one.
        trust_proof: whether a promise of grade B counts as one of grade A does (`promise_of`).
    """
    return look_of(_moments(requests, rule_set, steps), all_requests, rule_set, len(steps), trust_proof=trust_proof)


def look_of(
    moments: Sequence[Mapping[str, float]], all_requests: int, rule_set: RuleSet, steps: int, *, trust_proof: bool = False
) -> CanaryLook:
    """The same from sums over sessions: a row for each step, day and arm, as `_moments` has them."""
    canary = [each for each in moments if each["is_canary"]]
    control = [each for each in moments if not each["is_canary"]]
    requests_n = [round(math.fsum(each["n_completion"] for each in arm)) for arm in (canary, control)]
    share = min(sum(requests_n) / max(all_requests, 1), 1.0)
    newest = max((each["last_s"] for each in moments), default=None)
    return CanaryLook(
        rule_set_id=rule_set.rule_set_id,
        data_until_s=newest,
        share_of_requests=share,
        canary_requests=requests_n[0],
        control_requests=requests_n[1],
        canary_sessions=round(math.fsum(each["sessions"] for each in canary)),
        sessions_in_step=round(math.fsum(each["sessions"] for each in canary if each["step"] == steps - 1)),
        guardrails=tuple(
            _guardrail(name, moments, rule_set, share, promise_of(rule_set, share, trust_proof=trust_proof)) for name in ALPHA
        ),
    )


def deciding_rules(rule_set: RuleSet) -> tuple[str, ...]:
    """What requests of either arm log, of rules that change something: those of the others are alike in both."""
    ids = [logged_rule_id(rule_set.rule_set_id, rule.id) for rule in rule_set.rules if rule.route != "unchanged"]
    return (*ids, *(f"{each}/{CONTROL}" for each in ids))


def margin_of(tolerance: float, share: float) -> float:
    """What decided requests may lose so that all together keep the floor; where quality has to rise (below 0), what they must gain, below 0."""
    if tolerance < 0:
        return tolerance / share if share > 0 else tolerance
    allowed = max(tolerance, LEAST_MARGIN)
    return min(allowed / share, max(WIDEST_MARGIN, allowed)) if share > 0 else allowed


def _moments(requests: ibis.Table, rule_set: RuleSet, steps: Sequence[Step]) -> list[dict[str, float]]:
    """Sums over the sessions of each arm, step and day: a few rows."""
    then = {logged_rule_id(rule_set.rule_set_id, rule.id): requests_then(rule, rule_set) for rule in rule_set.rules}
    ids = deciding_rules(rule_set)
    lookup = ibis.memtable(
        pa.table(
            {
                "logged_id": pa.array(ids, pa.string()),
                THEN: pa.array([then[each.removesuffix(f"/{CONTROL}")] for each in ids], pa.float64()),
            }
        )
    )
    rows = requests.filter(requests.is_final).inner_join(lookup, requests.routing_rule_id == lookup.logged_id)
    is_control = rows.logged_id.endswith(f"/{CONTROL}") | (rows.rule_arm == CONTROL).fill_null(False)
    step = sum(((rows.started_s >= each.start_s).cast("int64") for each in steps[1:]), ibis.literal(0, "int64"))
    rows = rows.filter(rows.started_s >= steps[0].start_s).mutate(
        is_canary=~is_control,
        step=step,
        rule=rows.logged_id.replace(f"/{CONTROL}", ""),
        ended_well=(rows.status == "success").cast("float64"),
    )
    values = {"quality": "quality", "completion": "ended_well", "cost_usd": "request_cost_usd", "latency_ms": "request_latency_ms"}
    rows = with_counts(rows, ("is_canary", "rule"))
    # A session counts whole, on the day on which it began in its step.
    sessions = rows.group_by("step", "is_canary", SESSION).agg(
        day=(rows.started_s.min() / SECONDS_PER_DAY).floor().cast("int64"),
        last_s=rows.started_s.max(),
        **{
            f"n_{name}": counted(rows, column) if name in SUMMED else rows[column].count().cast("float64")
            for name, column in values.items()
        },
        **{f"t_{name}": rows[column].sum().fill_null(0.0) for name, column in values.items()},
    )
    sums: dict[str, ibis.Value] = {}
    for name in values:
        n, total = sessions[f"n_{name}"], sessions[f"t_{name}"]
        sums |= {
            f"sessions_{name}": (n > 0).cast("int64").sum(),
            f"n_{name}": n.sum(),
            f"total_{name}": total.sum(),
            f"total_squared_{name}": (total * total).sum(),
            f"total_n_{name}": (total * n).sum(),
            f"n_squared_{name}": (n * n).sum(),
        }
    found = sessions.group_by("step", "day", "is_canary").agg(sessions=sessions.count(), last_s=sessions.last_s.max(), **sums)
    rows_found: list[dict[str, float]] = found.order_by("step", "day", "is_canary").to_pyarrow().to_pylist()
    return rows_found


_FIELDS = ("sessions", "n", "total", "total_squared", "total_n", "n_squared")
_NONE = Sums(0, 0, 0, 0, 0, 0)


def _splits(watched: Watched, moments: Sequence[Mapping[str, float]]) -> list[Split]:
    arms = {
        (each["step"], each["day"], bool(each["is_canary"])): Sums(*(float(each[f"{field}_{watched}"]) for field in _FIELDS))
        for each in moments
    }
    days = sorted({(step, day) for step, day, _ in arms})
    return periods_of(
        [
            Split(arms.get((*at, True), _NONE), arms.get((*at, False), _NONE), step=int(at[0]), start_s=at[1] * SECONDS_PER_DAY)
            for at in days
        ]
    )


def _guardrail(
    watched: Watched, moments: Sequence[Mapping[str, float]], rule_set: RuleSet, share: float, promise: Difference | None
) -> Guardrail:
    periods = _splits(watched, moments)
    found = difference_of(periods)
    control = None if isinstance(found, Unidentifiable) else found.control
    limit = _limit(watched, rule_set, share, control or 0.0)
    alarm, since = alarm_of(periods, limit, beyond(limit), ALPHA[watched], below=watched in FALLING)
    planned = information_to_tell(max(abs(limit), 1e-12), ALPHA_GO_ON, POWER)
    alone = bounds(found, planned, ALPHA_GO_ON)
    standing, together = standing_of(watched, alarm, alone, limit), None
    if watched == "quality" and standing == "open" and isinstance(found, Difference) and isinstance(alone, Estimate):
        together = cleared_with_promise(found, alone, promise, limit, planned)
    return Guardrail(
        watched=watched,
        control=control,
        difference=alarm,
        since_s=periods[since].start_s if since and standing == "crossed" else None,
        limit=limit,
        together=together,
        standing=standing if together is None else "cleared",
    )


def promise_of(rule_set: RuleSet, share: float, *, trust_proof: bool = False) -> Difference | None:
    """What the logs promised of the quality of decided requests; None where they cannot tell, or where something unlogged may have steered them.

    trust_proof: takes evidence for sound in which everything that is logged was tested (grade B), too.
    """
    promised = promised_difference("quality", rule_set, share)
    sound = "AB" if trust_proof else "A"
    if isinstance(promised, Unidentifiable) or any(
        rule.evidence.grade not in sound for rule in rule_set.rules if rule.route != "unchanged"
    ):
        return None
    error = standard_error(promised)
    return Difference(promised.estimate, error, promised.degrees or math.inf, 0.0) if error > 0 else None


def cleared_with_promise(found: Difference, alone: Estimate, promise: Difference | None, limit: float, planned: float) -> Estimate | None:
    """Bounds of canary and promise together where the canary bears out what was proven; None where it does not.

    Rules that use what they may lose lie so near their limit that a canary alone cannot tell for months. But they have passed a proof, by
    sessions that the canary does not hold: whatever a canary lets go on after it, no more of the rules that truly break the limit go on than
    passed that proof, as long as nothing unlogged flattered it. So only evidence of known probabilities counts (`promise_of`), and the canary has to
    agree with it: both together do not lie beyond the limit, and by itself, at every look, nothing falls by twice the limit.
    """
    if promise is None or not limit <= promise.value <= alone.high or alone.low <= limit - abs(limit):
        return None
    both = with_earlier(found, promise)
    together = bounds(both, planned, ALPHA_GO_ON)
    return together if isinstance(together, Estimate) and both.value >= limit else None


def beyond(limit: float) -> tuple[float, ...]:
    """Distances beyond a limit that the alarm is made for."""
    return tuple(max(abs(limit), 1e-12) * each for each in ALARM_AT)


def standing_of(watched: Watched, alarm: Measured, passing: Measured, limit: float) -> Standing:
    """Where a difference stands, from the bounds that raise an alarm and those that let go on."""
    if isinstance(alarm, Unidentifiable) or isinstance(passing, Unidentifiable):
        return "cannot tell"
    falls = watched in FALLING
    if alarm.high < limit if falls else alarm.low > limit:
        return "crossed"
    return "cleared" if (passing.low > limit if falls else passing.high < limit) else "open"


def _limit(watched: Watched, rule_set: RuleSet, share: float, control: float) -> float:
    """The difference on decided requests that may not be."""
    if watched == "quality":
        floor, drop = quality_floor(rule_set), rule_set.constraints.max_quality_drop
        return -margin_of(floor.allowed_fall if floor is not None else DEFAULT_DROP if drop is None else drop, share)
    if watched == "completion":
        asked = rule_set.constraints.max_completion_drop
        return -margin_of(MAX_COMPLETION_DROP if asked is None else asked, share)
    promised = getattr(rule_set.expected.change, watched).relative
    rise = max(promised.high, 0.0) / max(share, 1e-9) if isinstance(promised, Estimate) else 0.0
    return control * (rise + (MOST_DEARER if watched == "cost_usd" else MOST_SLOWER))
