"""Successful attempts whose cost the log does not hold, by model.

Does not belong here: prices themselves (`catalog`), logged costs that differ from them (`cost_checks`).
"""

from __future__ import annotations

from collections import defaultdict

from pydantic import Field

from routing_pipeline.analysis.spend_groupings import MAX_LISTED, Row, rolled_up
from routing_pipeline.estimates import Known, Result, Unidentifiable, quantity
from routing_pipeline.text import LogName


class UnpricedModel(Result):
    """A model whose calls neither the log nor the list prices, with the traffic that is missing from every total."""

    model: LogName
    provider: LogName | None = Field(description="Who served it, as logged")
    attempts: int = quantity("Successful attempts without any price, cache hits left out", "attempts")
    share: float = quantity("Of all successful attempts, cache hits left out", "0..1")
    prompt_tokens: int = quantity("Sent in them", "tokens")
    completion_tokens: int = quantity("Received in them", "tokens")


class UnpricedSpend(Result):
    """Successful attempts whose cost the log does not hold: counted at list price where there is one, else in no total."""

    attempts: int = quantity("Successful attempts without a cost in the log, cache hits left out", "attempts")
    share: Known = quantity("Of successful attempts, cache hits left out", "0..1")
    list_cost_usd: float = quantity("Those with a list price, at it; part of every total", "USD")
    attempts_without_list_price: int = quantity("Of them, without a list price or tokens: in no total, and not free", "attempts")
    models: tuple[UnpricedModel, ...] = Field(default=(), description="The models of these, most attempts first")
    models_not_listed: int = quantity("Models with too few to be listed", "models", default=0)
    free_attempts: int = quantity("Successful attempts logged at 0 USD though they have a list price", "attempts")
    free_list_cost_usd: float = quantity("What those would cost at list price", "USD")


def unpriced_spend(whole: Row, cells: list[Row]) -> UnpricedSpend:
    """What the log does not price, models with most attempts first."""
    by_model: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for cell in cells:
        if cell["unpriced"]:
            by_model[cell["model"], cell["provider"]].append(cell)
    models = [
        UnpricedModel(
            model=model,
            provider=provider,
            attempts=sums["unpriced"],
            share=sums["unpriced"] / whole["answers"],
            prompt_tokens=sums["unpriced_sent"],
            completion_tokens=sums["unpriced_received"],
        )
        for (model, provider), sums in ((group, rolled_up(rows)) for group, rows in by_model.items())
    ]
    models.sort(key=lambda each: (-each.attempts, each.model, each.provider or ""))
    return UnpricedSpend(
        attempts=whole["unlogged"],
        share=whole["unlogged"] / whole["answers"] if whole["answers"] else Unidentifiable(unidentifiable="no successful attempt"),
        list_cost_usd=whole["unlogged_list"],
        attempts_without_list_price=whole["unpriced"],
        models=tuple(models[:MAX_LISTED]),
        models_not_listed=max(len(models) - MAX_LISTED, 0),
        free_attempts=whole["free"],
        free_list_cost_usd=whole["free_list"],
    )
