"""Which section of the report shows the evidence for a claim.

Belongs here: the titles of sections that others link to, and the anchor of a title, the same in both documents and the one that
GitHub gives the heading. Does not belong here: what they say (the templates), how a link is written (`rendering`).
"""

from __future__ import annotations

import re

COSTS = "Cost Analysis"
QUALITY = "Quality Metrics"
PERFORMANCE = "Performance Metrics"
RULES = "Updated Rule Set"
PROOF = "The proof"
LOGS_TELL = "What the logs can tell"
ASSUMPTIONS = "Assumptions"
OUTCOMES = "Expected Outcomes"
PLAN = "Implementation Plan"
RISKS = "Risks"
CANARY = "Canary steps"
MONITORING = "Monitoring and Validation"
COST_PLAN = "Cost plan"
DATA = "Data Quality"
METHOD = "Method"
OPPORTUNITIES = "Optimization Opportunities"
TRADE_OFFS = "Trade-offs"

SOURCES: dict[str, str] = {
    "routing_rules": PROOF,
    "monitoring_plan": MONITORING,
    "cost_optimization_plan": COST_PLAN,
    "cost_drivers": "Cost drivers",
    "bottlenecks": "Bottlenecks",
    "quality_issues": "Quality issues",
    "scope": DATA,
    "realized_outcomes": "Earlier promises",
    "run": "How to Reproduce",
}
"""Sections of report.json that recommendations name as their source, and the sections of the report that show them."""


def anchor(title: str) -> str:
    """The anchor of a heading, as GitHub makes it: lower case, punctuation dropped, blanks as hyphens."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def of_source(name: str) -> str:
    """The section that shows the numbers of a recommendation.

    Raises:
        KeyError: no section is known; a recommendation without its evidence is not shown.
    """
    return SOURCES[name]
