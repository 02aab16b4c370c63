"""Roll-outs whose truth is known: sessions arrive by the hour, shares grow by the step, and somebody looks every hour.

Belongs here: drawing the sessions, and looking as a roll-out does. Does not belong here: what the looks must come to (the tests, `benchmarks/canary.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.canary import ALPHA, ALPHA_GO_ON, POWER, beyond, cleared_with_promise, standing_of
from routing_pipeline.recommendation.monitoring_plan import CANARY_STEPS
from routing_pipeline.stats.sequence import Difference, Split, Sums, alarm_of, bounds, difference_of, information_to_tell, periods_of

LONGEST_DAYS = 45
"""At the step that decides; then a person is asked."""


@dataclass(frozen=True)
class World:
    """Scores between 0 and 1 of sessions that hang together; quality of everybody drifts from week to week."""

    fall: float
    """True mean of control less that of the canary."""
    margin: float = 0.0102
    sessions_per_hour: float = 60.0
    scored: float = 0.5
    is_pass_fail: bool = False
    level: float = 0.85
    drift: float = 0.05
    begins_day: float = 0.0
    """When the fall begins, since the first step."""
    promised: float | None = None
    """Fall that the logs promised, with `promised_error`; None: they promised nothing."""
    promised_error: float = 0.0


def outcome_of(world: World, seed: int, every_h: int = 1) -> tuple[str, float]:
    """`through`, `turned back` or `undecided`, and after how many days."""
    rng = np.random.default_rng(seed)
    planned, distances = information_to_tell(world.margin, ALPHA_GO_ON, POWER), beyond(world.margin)
    days: list[tuple[int, int, np.ndarray]] = []
    began = hour = 0
    for step, (share, least_days) in enumerate(CANARY_STEPS[:-1]):
        while True:
            if not days or days[-1][:2] != (step, hour // 24):
                days.append((step, hour // 24, np.zeros((2, 6))))
            days[-1][2][:] += _arrived(rng, world, share, hour, every_h)
            hour += every_h
            splits = periods_of([Split(Sums(*each[1]), Sums(*each[0]), of, 24 * 3600 * day) for of, day, each in days])
            alarm, _ = alarm_of(splits, -world.margin, distances, ALPHA["quality"], below=True)
            found = difference_of(splits)
            alone = bounds(found, planned, ALPHA_GO_ON)
            standing = standing_of("quality", alarm, alone, -world.margin)
            if world.promised is not None and standing == "open" and isinstance(found, Difference) and isinstance(alone, Estimate):
                promise = Difference(-world.promised, world.promised_error, 255.0, 0.0)
                standing = "open" if cleared_with_promise(found, alone, promise, -world.margin, planned) is None else "cleared"
            in_step = (hour - began) / 24
            if standing == "crossed":
                return "turned back", hour / 24
            if in_step >= least_days and (share < 0.5 or standing == "cleared"):
                break
            if in_step >= LONGEST_DAYS:
                return "undecided", hour / 24
        began = hour
    return "through", hour / 24


def _arrived(rng: np.random.Generator, world: World, share: float, hour: int, hours: int) -> np.ndarray:
    """Sums over the sessions since the last look, control first."""
    sessions = rng.poisson(world.sessions_per_hour * hours)
    sizes = rng.geometric(0.4, sessions)
    n = rng.binomial(sizes, world.scored).astype(float)
    is_canary = rng.random(sessions) < share
    fall = world.fall if hour / 24 >= world.begins_day else 0.0
    level = world.level + world.drift * np.sin(hour / 168) - fall * is_canary
    of_session = np.clip(level + rng.normal(0, 0.08, sessions), 0, 1) if not world.is_pass_fail else level
    total = (
        rng.binomial(n.astype(int), np.clip(of_session, 0, 1))
        if world.is_pass_fail
        else n * of_session + rng.normal(0, 0.2, sessions) * np.sqrt(n)
    )
    found = np.zeros((2, 6))
    for arm in (0, 1):
        mine = (is_canary == bool(arm)) & (n > 0)
        t, m = total[mine], n[mine]
        found[arm] = (mine.sum(), m.sum(), t.sum(), (t * t).sum(), (t * m).sum(), (m * m).sum())
    return found
