"""`monitoring_plan`: what to watch while a change rolls out, how long each step takes, and when to turn back.

Belongs here: KPIs with thresholds, canary steps with sample sizes, and the boundary that stays valid at every look. Does
not belong here: measuring what came of it (`realized_outcomes`), sending alerts (`alerts`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, Unidentifiable, quantity

Direction = Literal["above", "below"]


class Kpi(Result):
    """One number to watch."""

    name: str
    unit: Literal["USD", "0..1", "ms", "share"]
    baseline: Measured = Field(description="Today, in `unit`")
    target: float | None = Field(default=None, description="In `unit`; null when there is none to promise")
    target_text: str
    alert_threshold: float | None = Field(default=None, description="In `unit`; null when it cannot be set yet")
    alert_when: Direction
    alert_text: str
    owner: str


class Look(Result):
    """The boundary of one day of a canary: turn back when the observed difference in quality is below it."""

    day: int
    labelled: float = quantity("Labelled requests in the canary by then", "requests")
    rollback_below: float = quantity("Canary's mean quality less control's", "0..1")


class CanaryStep(Result):
    """One step of the rollout."""

    share: float = quantity("Share of the sessions that the rules touch", "0..1")
    purpose: str
    requests_needed: int | None = quantity("In the canary, for the non-inferiority test at power 0.8", "requests", default=None)
    days_needed: float | None = quantity("To see so many", "days", default=None)
    planned_days: float = quantity("To stay at this step", "days")
    detectable_drop: float | None = quantity("Smallest fall of quality that the planned days show at power 0.8", "0..1", default=None)
    looks: tuple[Look, ...] = ()
    go_on_when: str
    roll_back_when: str


class Spread(Result):
    """How quality varies, within and between sessions: what sample sizes follow from."""

    labelled: int = quantity("Requests with a quality", "requests")
    sessions: int = quantity("Sessions among them", "sessions")
    standard_deviation: float = quantity("Of quality between requests", "0..1")
    per_session: float = quantity("Labelled requests per session, weighted by size", "requests")
    intraclass_correlation: float = quantity("Share of the variance that lies between sessions", "0..1")
    label_rate: float = quantity("Share of successful requests that get a quality", "0..1")

    @property
    def design_effect(self) -> float:
        """1 + (m - 1) rho: how much larger a sample of sessions has to be than one of requests (Kish 1965)."""
        return 1 + max(self.per_session - 1, 0.0) * self.intraclass_correlation


class Exploration(Result):
    """What to randomise so that the logs can tell."""

    share: float = quantity("Share of requests to route at random among the candidates", "0..1")
    models: tuple[str, ...]
    days: float | None = quantity("Until the logs can decide; null when the rate of labels is unknown", "days", default=None)
    requests: int | None = quantity("Requests needed for it", "requests", default=None)
    cost_note: str
    how: str


class MonitoringPlan(Result):
    """KPIs, canary and stopping rule for the recommended change, or the exploration to run when there is none."""

    kpis: tuple[Kpi, ...]
    margin: float = quantity("Fall of quality on moved requests that the canary must exclude", "0..1")
    margin_text: str
    power: float = 0.8
    alpha: float = quantity("One-sided", "0..1", default=0.025)
    spread: Spread | Unidentifiable
    steps: tuple[CanaryStep, ...]
    sequential: str = Field(description="How to look every day without raising false alarms")
    exploration: Exploration | None = None
    collect: tuple[str, ...] = Field(description="What to start logging")
    verdict: str = Field(description="One sentence for a manager")
