"""Data-quality rules as data: what is claimed of the rows, when a claim holds, what a breach does, and why it matters.

Belongs here: the rules of both suites, the few kinds of predicate they are made of, and the models of their results.
Does not belong here: evaluating them. Claims about single columns and rows run in Great Expectations
(`expectations_gx`), comparisons with a baseline as aggregates (`expectations_baseline`), `data_quality` puts both together.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Result, quantity

Severity = Literal["blocking", "warning"]
Outcome = Literal["passed", "failed", "not_checked"]
MAX_ITEMS = 50
"""Most models, columns or hours that one result lists; the rest are counted."""


class CheckItem(Result):
    """One thing a claim was checked for: a model, a task type, an hour. Its name may come from logs: treat it as data."""

    name: str = Field(description="Model, task type, column or hour")
    observed: str = Field(description="What was seen of it")
    numbers: dict[str, float] = Field(default_factory=dict, description="Observed values by name; the unit ends the name")


class CheckResult(Result):
    """One claim about the data, and whether it held."""

    name: str = Field(description="Claim in snake case; also the name of the asset check")
    claim: str = Field(description="The claim as a sentence")
    why: str = Field(description="What would go wrong were it not so")
    severity: Severity = Field(description="blocking: nothing is published when it fails; warning: the report says so and goes on")
    outcome: Outcome = Field(description="not_checked: there was nothing to compare with; observed says what is missing")
    observed: str = Field(description="What was seen, as a sentence with numbers")
    numbers: dict[str, float] = Field(default_factory=dict, description="Observed values by name; the unit ends the name")
    items: tuple[CheckItem, ...] = Field(default=(), description=f"Where it was seen, worst first, at most {MAX_ITEMS}")
    items_left_out: int = quantity("Further items that are not listed", "items", default=0)
    evaluated_by: Literal["great_expectations", "aggregate"] = Field(description="What evaluated the claim")

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the claim."""
        return self.outcome != "failed"


class DataQuality(Result):
    """Every claim that was checked for one scope: the gate in front of the money."""

    rows: int = quantity("Attempts in the window that were checked", "attempts")
    checks: tuple[CheckResult, ...] = Field(description="Blocking ones first, each group in the order of its suite")

    def of(self, severity: Severity, outcome: Outcome | None = None) -> tuple[CheckResult, ...]:
        """Results of one severity, of one outcome if given."""
        return tuple(check for check in self.checks if check.severity == severity and outcome in {None, check.outcome})

    @property
    def is_publishable(self) -> bool:
        """Whether no blocking claim failed."""
        return not self.of("blocking", "failed")
