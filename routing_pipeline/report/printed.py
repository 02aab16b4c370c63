"""What a command prints when it has delivered a report.

Belongs here: which lines, in their order. Does not belong here: the headlines (`headlines`), where the files lie (`cli`).
"""

from __future__ import annotations

from collections.abc import Iterator

from routing_pipeline.data_quality import feedback_lines
from routing_pipeline.policy.proof import level_of
from routing_pipeline.report.headlines import headlines
from routing_pipeline.report.model import Report


def lines(report: Report) -> Iterator[str]:
    """Headlines, what the proof was worth, and what became of the scores."""
    yield from headlines(report)
    if report.routing_evidence.refusal is None:
        yield _spent(report.routing_rules.look)
    yield from feedback_lines.of_window(report.feedback, report.scope)


def _spent(look: int) -> str:
    """Which question to the held-out sessions it was, and what a further one costs."""
    if look == 0:
        return "Proof: none; explored only. Nothing was spent, and nothing of this can be approved."
    now, following = (f"{100 * level_of(number):.4g} %" for number in (look, look + 1))
    return (
        f"Proof: question {look} put to these held-out sessions, tested at {now}. Another question of them is tested at {following}, so it proves less; "
        "the same one again costs nothing, and --explore-only asks without spending one."
    )
