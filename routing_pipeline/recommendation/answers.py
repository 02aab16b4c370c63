"""What people made of the recommendations: accepted, dismissed with a reason, or turned into a ticket.

Belongs here: the record in the home, changing it, and the text of a ticket. Does not belong here: approving rule sets (`rules.record`), which
recommendations there are (`optimization_plan`), the command (`cli.recommendation`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from routing_pipeline import text
from routing_pipeline.estimates import Result
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan
from routing_pipeline.recommendation.plan_item import Impact, PlanItem
from routing_pipeline.storage.locks import Coordination
from routing_pipeline.text import LogName

RECORD = "recommendations.json"
State = Literal["accepted", "dismissed", "ticket"]
LONGEST_REASON = 500


class Answer(Result):
    """What became of one recommendation."""

    id: LogName = Field(description="Of the plan's item; the same finding keeps it from report to report")
    state: State
    by: str = Field(default="", description="Who said so; empty where nobody is named")
    because: str = Field(default="", description="Why, as they said it")
    at: datetime = Field(description="UTC")


def answers(coordination: Coordination) -> tuple[Answer, ...]:
    """All answers of a home, the newest of each recommendation."""
    return tuple(Answer.model_validate(each) for each in _read(coordination.read(RECORD)).values())


def answers_to(coordination: Coordination, plan: OptimizationPlan) -> tuple[Answer, ...]:
    """The answers to what a plan recommends, in its order."""
    known: dict[str, Answer] = {each.id: each for each in answers(coordination)}
    return tuple(known[item.id] for item in plan.items if item.id in known)


def answer(
    coordination: Coordination, item: PlanItem, state: State, *, by: str = "", because: str = "", at: datetime | None = None
) -> Answer:
    """Record what became of a recommendation; the newest answer holds."""
    made = Answer(
        id=LogName(item.id),
        state=state,
        by=text.name(by),
        because=text.name(because, LONGEST_REASON),
        at=datetime.now(UTC) if at is None else at,
    )

    def changed(before: str | None) -> str:
        return json.dumps({**_read(before), made.id: made.model_dump(mode="json")}, indent=1, ensure_ascii=False)

    coordination.change(RECORD, changed)
    return made


def _read(found: str | None) -> Mapping[str, object]:
    read: Mapping[str, object] = json.loads(found or "{}")
    return read


def ticket(item: PlanItem, report: str) -> str:
    """A recommendation as the text of a ticket, in Markdown; `report` says where its numbers stand."""
    impact = "\n".join(f"- {each.label}: {_in_words(each)}" for each in item.expected_impact) or "- not measured"
    criteria = "\n".join(f"- [ ] {each}" for each in item.validation_criteria) or "- [ ] nothing to check"
    first = "".join(f"\n- [ ] {each}" for each in item.prerequisites)
    parts = [
        f"# {item.title}",
        f"**Now:** {item.current_state}",
        f"**Change:** {item.recommended_change}",
        f"**Who:** {item.who}. **Effort:** {item.effort}. **Risk:** {item.risk}, {item.risk_reason}.",
        f"**Expected**\n\n{impact}",
        *([f"**Before it**\n{first}"] if first else []),
        f"**Done when**\n\n{criteria}",
        f"Recommendation {item.id} of {report}.",
    ]
    return "\n\n".join(parts)


_FORMS: Mapping[str, text.Format] = {
    "USD": text.usd,
    "USD/day": text.usd,
    "points": text.points,
    "ms": text.ms,
    "share": text.percent,
    "0..1": text.score,
}


def _in_words(impact: Impact) -> str:
    period = f" in {impact.days} days" if impact.days else ""
    return f"{text.measured(impact.value, _FORMS.get(impact.unit, text.number))}{period}"
