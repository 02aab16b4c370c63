"""What the user allows, whatever it would save: `[policy]` of the configuration.

Belongs here: which models the requests of a task may go to, which teams no rule may reach. Does not belong here: what models
can serve (`feasible`).

A rule that has to spare a team must name the others. So the requests of a team with a restriction of its own are left as they
are, and what restricts a task, or everything, takes models out of the choice there.
"""

from __future__ import annotations

from routing_pipeline.parameters import Restriction, RoutingPolicy


def spared_teams(policy: RoutingPolicy) -> frozenset[str]:
    """Teams whose requests no rule may reach."""
    return frozenset(team for each in policy.restrictions for team in each.teams)


def forbidden(policy: RoutingPolicy, task_type: str, model: str, provider: str | None, region: str | None) -> str | None:
    """Why no rule may send requests of a task to a model; None when it may."""
    if task_type in policy.leave_alone:
        return "the policy leaves this task alone"
    for each in policy.restrictions:
        if each.teams or (each.task_types and task_type not in each.task_types):
            continue
        why = _broken(each, model, provider, region)
        if why is not None:
            return why
    return None


def _broken(asked: Restriction, model: str, provider: str | None, region: str | None) -> str | None:
    """Which part a model breaks; what is not known of it is not allowed."""
    for what, value, only, never in (
        ("model", model, asked.only_models, asked.never_models),
        ("provider", provider, asked.only_providers, asked.never_providers),
        ("region", region, asked.only_regions, asked.never_regions),
    ):
        if only and value not in only:
            return f"the policy allows only the {what} {' or '.join(only)} here"
        if never and (value is None or value in never):
            return f"the policy rules out the {what} {' and '.join(never)} here" if value is not None else f"its {what} is not known"
    return None
