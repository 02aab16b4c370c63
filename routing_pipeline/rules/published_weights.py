"""Weights that were published, and the propensities that they are in the logs of that time.

Belongs here: the note of them in the home, and filling in what a log that names rule and arm does not say. Does not belong here: rolling
out (`gateways.rollout`), the draw itself (`deciding`).

A model's probability is exact where nothing but the draw decides: the rules' models at a share of all sessions; and below that, where the
gateway's own choice of a request does not hang on chance and, as configured or as the control shows, is one model or none of the rule's.
Elsewhere it stays unknown.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from routing_pipeline.errors import PipelineError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.rules.deciding import CONTROL
from routing_pipeline.rules.model import logged_rule_id
from routing_pipeline.text import LogName

if TYPE_CHECKING:
    import ibis

    from routing_pipeline.storage.home import Home

NAME = "published_weights/weights.json"
LEAST_CONTROL = 100
"""Requests of the control that show what the gateway's own choice gives, and what it never does."""


class Period(Result):
    """What was published from one transition to the next."""

    rule_set_id: str
    share: float = quantity("Of the sessions that follow the rules", "0..1")
    start_s: float = quantity("Since 1970", "s")
    end_s: float | None = quantity("Since 1970; null: until now", "s", default=None)
    own: LogName | None = Field(default=None, description="The model that serves what no rule decides, where it is one")
    routes: dict[LogName, dict[LogName, float]] = Field(description="Weights by model, by rule")


class PublishedWeights(Result):
    """All periods, oldest first."""

    periods: tuple[Period, ...] = ()


def save_weights(home: Home, weights: PublishedWeights) -> None:
    """Note them in the home."""
    home.files.write(NAME, weights.model_dump_json().encode())


def published_weights(home: Home) -> PublishedWeights:
    """Those that the home knows of; none where nobody rolled out, or another version wrote them."""
    with contextlib.suppress(OSError, PipelineError, ValidationError):
        return PublishedWeights.model_validate_json(home.files.read(NAME) or b"{}")
    return PublishedWeights()


def with_published(rows: ibis.Table, weights: PublishedWeights) -> ibis.Table:
    """Rows whose `propensity` is filled in where they name rule and arm and the weights say it; what was logged stays.

    Args:
        rows: with `routing_rule_id`, `rule_arm`, `propensity`, `routed_model`, `started_s`.
        weights: what was published.
    """
    if not weights.periods:
        return rows
    import ibis

    own = _own_choices(rows, weights)
    cases: list[tuple[ibis.expr.types.BooleanValue, float]] = []
    for period in weights.periods:
        during = rows.started_s >= period.start_s
        if period.end_s is not None:
            during = during & (rows.started_s < period.end_s)
        for rule_id, route in period.routes.items():
            logged = logged_rule_id(period.rule_set_id, rule_id)
            ours = during & rows.routing_rule_id.isin([logged, f"{logged}/{CONTROL}"]) & rows.propensity.isnull()
            known = {str(period.own)} if period.own is not None else own.get(logged, set())
            cases += _of_rule(rows, ours, route, period, known)
    return rows.mutate(propensity=ibis.cases(*cases, else_=rows.propensity)) if cases else rows


def _own_choices(rows: ibis.Table, weights: PublishedWeights) -> dict[str, set[str]]:
    """Models that the gateway's own choice gave in the control, by rule; a rule with little control is not among them."""
    ids = {f"{logged_rule_id(each.rule_set_id, rule)}/{CONTROL}" for each in weights.periods for rule in each.routes}
    plain = {each.removesuffix(f"/{CONTROL}") for each in ids}
    control = rows.filter(rows.rule_arm == CONTROL, rows.routing_rule_id.isin(sorted(ids | plain)))
    found: dict[str, dict[str, int]] = {}
    for row in control.group_by("routing_rule_id", "routed_model").agg(n=control.count()).to_pyarrow().to_pylist():
        models = found.setdefault(row["routing_rule_id"].removesuffix(f"/{CONTROL}"), {})
        models[row["routed_model"]] = models.get(row["routed_model"], 0) + row["n"]
    return {rule: set(models) for rule, models in found.items() if sum(models.values()) >= LEAST_CONTROL}


def _of_rule(
    rows: ibis.Table, ours: ibis.expr.types.BooleanValue, route: dict[LogName, float], period: Period, own: set[str]
) -> list[tuple[ibis.expr.types.BooleanValue, float]]:
    """Arms of one rule in one period, with their probability; a request that another model than its arm's served first has none.

    `own`: every model that the gateway's own choice may give; empty: not known.
    """
    control = ours & (rows.rule_arm == CONTROL)
    found = []
    for model, weight in route.items():
        is_own = period.share < 1 and own == {str(model)}
        if period.share >= 1 or is_own or (own and str(model) not in own):
            drawn = ours & (rows.rule_arm == model) & (rows.routed_model == model)
            found.append((drawn, min(period.share * weight + (1.0 - period.share if is_own else 0.0), 1.0)))
        found.append((control & (rows.routed_model == model), min(period.share * weight + 1.0 - period.share, 1.0)))
    return [*found, (control & ~rows.routed_model.isin(list(route)), 1.0 - period.share)] if period.share < 1 else found
