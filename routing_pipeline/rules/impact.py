"""What each rule of a set would do by itself, on the requests that it decides.

Belongs here: the result; the rule set as a whole is proven (`routing_rules`), and its rules are told apart with intervals
that hold for all of them at once. Does not belong here: the statistics (`policy.proof`), words (`report.rule_sentences`).
"""

from __future__ import annotations

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.rules.model import Outcomes, WeightedModel
from routing_pipeline.text import LogName


class RuleImpact(Result):
    """One rule on the requests that it decides, against today's routing of the same requests.

    Changes are of the sessions that the search never saw, at today's level of the whole window (`policy.proof.carried`).
    Levels and changes each hold together for all rules of the set. Each rule is estimated by itself, so that savings add up to
    the set's own only about.
    """

    rule_id: LogName
    requests: int = quantity("Requests of the window that it decides", "requests")
    share: float = quantity("Of all requests in the window", "0..1")
    moved_share: float = quantity("Share of its requests that change model", "0..1")
    moved_spend_share: float | None = quantity(
        "Share of all spend that those make up; null in reports of earlier versions", "0..1", default=None
    )
    today: tuple[WeightedModel, ...] = Field(description="Models that answer these requests today and their shares, largest first")
    baseline: Outcomes = Field(description="Today, per request that it decides")
    saving_usd_per_day: Measured = quantity("At the window's traffic; positive is a saving", "USD/day")
    cost_change: Measured = quantity("Relative to today, on its requests", "1")
    quality_change: Measured = quantity("Difference from today, on its requests", "0..1")
    latency_change: Measured = quantity("Relative to today, on its requests", "1")
