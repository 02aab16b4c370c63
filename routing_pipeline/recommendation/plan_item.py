"""One item of the optimization plan: its model, the row of words it is made from, and how one becomes the other.

Belongs here: what an item consists of. Does not belong here: the words (`plan_texts`), which items apply (`plan_kinds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, Unidentifiable, quantity
from routing_pipeline.rules.model import Level

PLATFORM, PRODUCT, FINOPS = "LLM platform team", "Product owners of the task types", "FinOps"

PhaseNumber = Literal[1, 2, 3]
ImpactMetric = Literal["cost", "quality", "latency", "availability", "evidence"]
ImpactUnit = Literal["USD", "points", "ms", "share", "requests"]


@dataclass(frozen=True)
class Effect:
    """One expected impact; `unknown` says why it cannot be given a number, where it never can."""

    metric: ImpactMetric
    label: str
    unit: ImpactUnit
    days: int | None = None
    unknown: str | None = None


@dataclass(frozen=True)
class ItemText:
    """One kind of item. What depends on the findings beyond its slots is a row of its own, or handed over when the item is built."""

    id: str
    category: str
    title: str
    current_state: str
    recommended_change: str
    effects: tuple[Effect, ...]
    effort_reason: str
    risk_reason: str
    validation_criteria: tuple[str, ...]
    source: str
    phase: PhaseNumber = 1
    impact_level: Level = "Medium"
    effort: Level = "Low"
    risk: Level = "Low"
    who: str = PLATFORM
    prerequisites: tuple[str, ...] = ()


class Impact(Result):
    """What one item would bring for one metric."""

    metric: ImpactMetric
    label: str = Field(description="For readers, e.g. `Saving, taken alone`")
    days: int | None = quantity("Days at the window's pace that `value` speaks of; null where it is no sum over time", "days", default=None)
    unit: ImpactUnit
    value: Measured


class PlanItem(Result):
    """One recommendation, with what it takes and how one sees that it worked."""

    id: str
    category: str
    title: str
    phase: PhaseNumber
    impact_level: Level
    current_state: str
    recommended_change: str
    expected_impact: tuple[Impact, ...]
    effort: Level
    effort_reason: str
    risk: Level
    risk_reason: str
    who: str = Field(description="Who has to act")
    prerequisites: tuple[str, ...]
    validation_criteria: tuple[str, ...]
    source: str = Field(description="Section of report.json that its numbers come from")


def plan_item(row: ItemText, values: Sequence[Measured] = (), decided: dict[str, Any] | None = None, **slots: Any) -> PlanItem:
    """An item of the plan: a row of the table with its slots filled.

    Args:
        row: the words.
        values: of the row's effects that can be measured, in order.
        decided: fields of the item that the findings decide in place of the row.
        slots: what stands in the row's braces.
    """
    measured = iter(values)

    def filled(words: str) -> str:
        return words.format(**slots)

    fields: dict[str, Any] = {
        "id": filled(row.id),
        "category": filled(row.category),
        "title": filled(row.title),
        "phase": row.phase,
        "impact_level": row.impact_level,
        "current_state": filled(row.current_state),
        "recommended_change": filled(row.recommended_change),
        "expected_impact": tuple(
            Impact(
                metric=effect.metric,
                label=filled(effect.label),
                days=effect.days,
                unit=effect.unit,
                value=next(measured) if effect.unknown is None else Unidentifiable(unidentifiable=effect.unknown),
            )
            for effect in row.effects
        ),
        "effort": row.effort,
        "effort_reason": filled(row.effort_reason),
        "risk": row.risk,
        "risk_reason": filled(row.risk_reason),
        "who": filled(row.who),
        "prerequisites": row.prerequisites,
        "validation_criteria": tuple(filled(each) for each in row.validation_criteria),
        "source": row.source,
    }
    return PlanItem(**(fields | (decided or {})))
