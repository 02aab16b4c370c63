"""`simulation`: a rule set replayed on the sessions that its search never saw.

Belongs here: the replay of any rule set, ours or hand-written, by task, by day, and its dollar total. Does not belong
here: searching (`policy.search`), the nuisance models that the replay corrects with (`policy.nuisance`).
"""

from __future__ import annotations

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.policy.rule_set import Expected


class TaskReplay(Result):
    """One task type under the rules."""

    task_type: str
    requests: int = quantity("Replayed", "requests")
    moved_share: float = quantity("Share of them that the rules route differently", "0..1")
    expected: Expected


class DayReplay(Result):
    """One UTC day under the rules."""

    day: str = Field(description="ISO date")
    requests: int = quantity("Replayed", "requests")
    moved_share: float = quantity("Share of them that the rules route differently", "0..1")
    expected: Expected


class Simulation(Result):
    """What the rules would have done."""

    rule_set_id: str
    requests: int = quantity("Replayed: final requests of the half that the search never saw", "requests")
    sessions: int = quantity("Groups of sessions behind the intervals", "groups")
    moved_share: float = quantity("Share of replayed requests that the rules route differently", "0..1")
    expected: Expected
    completion_change: Measured = quantity("Share of requests that end well, against today", "0..1")
    by_task: tuple[TaskReplay, ...]
    by_day: tuple[DayReplay, ...]
    saving_usd: Measured = quantity("Over the whole window's traffic; positive is a saving", "USD")
    unsupported: tuple[str, ...] = Field(default=(), description="Parts of the rules of which the logs cannot tell, and why")
    verdict: str = Field(description="One sentence for a manager")
