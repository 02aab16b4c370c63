"""What a roll-out may do next: take a step, go back, or wait; and why.

Belongs here: the decision from where it stands and what was seen. Does not belong here: looking (`recommendation.canary`), acting (`rollout`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.canary import CanaryLook, Guardrail
from routing_pipeline.recommendation.monitoring_plan import CANARY_STEPS, LONGEST_STEP_DAYS
from routing_pipeline.rules.rollout_record import RolloutState
from routing_pipeline.text import counted, moment, percent

LEAST_DAYS = dict(CANARY_STEPS)
LEAST_SESSIONS_IN_STEP = 5
"""Of the canary, before a step counts as having run: the gateway has loaded its configuration."""
NEEDS_QUALITY_FROM = 0.25
"""From this share on, a step is only left when quality can be told."""
DECIDES_AT = 0.5
"""Leaving this share, next to no control is left: quality must surely be within its limit."""

NextKind = Literal["advance", "roll_back", "wait", "done"]
NAMES = {"quality": "quality", "completion": "the share of requests that end well", "cost_usd": "cost", "latency_ms": "latency"}


@dataclass(frozen=True)
class Next:
    """What comes next."""

    kind: NextKind
    because: str


def next_of(
    state: RolloutState,
    look: CanaryLook | None,
    approved_at: datetime | None,
    approval_days: float,
    now: datetime,
    followed: str | None = None,
) -> Next:
    """The next thing to do, as everything stands; what a person holds goes on no further, but does go back.

    Args:
        state: of the rule set that is live.
        look: the newest; None before the first step, and where there was nothing to see.
        approved_at: its last approval, or its publication where it needs none.
        approval_days: how long that counts.
        now: UTC.
        followed: another rule set that sessions follow today.
    """
    if look is not None and look.crossed and 0 < state.share < 1:
        return Next("roll_back", "; ".join(in_words(each) for each in look.crossed))
    if state.next_share is None:
        kept = "" if state.share >= 1 else f" but {percent(1 - state.share)}, which stay a control"
        return Next("done", f"all sessions follow the rules{kept}")
    if state.is_held:
        held = state.transitions[-1]
        return Next("wait", f"held by {held.by}" + (f": {held.because}" if held.because else ""))
    if approved_at is None or now - approved_at > timedelta(days=approval_days):
        return Next("wait", f"the approval is older than {approval_days:g} days")
    if state.share == 0:
        if followed is not None:
            return Next(
                "wait", f"sessions follow {followed}; the configuration of a canary would leave all others to the gateway's own choice"
            )
        return Next("advance", "it is published, and its approval is fresh")
    return _after(state, look, now)


def _after(state: RolloutState, look: CanaryLook | None, now: datetime) -> Next:
    """Whether the present step has shown what it is for."""
    began = state.steps[-1].at
    if began > now:
        # Steps never go back in time, or what was published between them would count for nothing.
        return Next("wait", f"the last step is dated {moment(began)}, as a clock was ahead; what the logs show counts from then on")
    if look is None or look.data_until_s is None or look.sessions_in_step < LEAST_SESSIONS_IN_STEP:
        seen = 0 if look is None else look.sessions_in_step
        return Next(
            "wait", f"{counted(seen, 'session')} of the canary in the logs at this step; see that the gateway has loaded its configuration"
        )
    days = (look.data_until_s - began.timestamp()) / SECONDS_PER_DAY
    least = LEAST_DAYS[state.share] if state.share in LEAST_DAYS else max(LEAST_DAYS.values())
    if days < least:
        return Next("wait", f"{days:.1f} of {least} days at this step")
    quality = look.of("quality")
    if state.share >= NEEDS_QUALITY_FROM and quality.standing == "cannot tell":
        return Next("wait", "quality of canary and control cannot be compared: too few of their answers are scored")
    if state.share >= DECIDES_AT and quality.standing != "cleared":
        long = f" after {days:.0f} days; somebody has to decide" if days > LONGEST_STEP_DAYS else ""
        return Next("wait", f"not sure yet that {in_words(quality)}{long}")
    return Next("advance", "no boundary was crossed" if state.share < DECIDES_AT else in_words(quality))


def in_words(guardrail: Guardrail) -> str:
    """One guardrail in a sentence."""
    name = NAMES[guardrail.watched]
    if not isinstance(guardrail.difference, Estimate):
        return f"{name}: {guardrail.difference.unidentifiable}"
    form = {"cost_usd": "${:+.6f} per request", "latency_ms": "{:+.0f} ms"}.get(guardrail.watched, "{:+.4f}")
    value, low, high, limit = (
        form.format(each) for each in (guardrail.difference.estimate, guardrail.difference.low, guardrail.difference.high, guardrail.limit)
    )
    told = {"crossed": "surely beyond", "cleared": "surely within", "open": "not surely within", "cannot tell": "not comparable with"}
    together = ""
    if isinstance(guardrail.together, Estimate):
        value_, low_, high_ = (form.format(each) for each in (guardrail.together.estimate, guardrail.together.low, guardrail.together.high))
        together = f", and {value_} ({low_} to {high_}) together with what the logs promised"
    since = "" if guardrail.since_s is None else f" since {datetime.fromtimestamp(guardrail.since_s, UTC):%d %b}"
    where = "within" if together else told[guardrail.standing]
    return f"{name} of the canary less its control is {value} ({low} to {high}){since}{together}, {where} the limit of {limit}"
