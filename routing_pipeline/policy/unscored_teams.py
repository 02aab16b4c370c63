"""Teams whose answers are never scored, although those of others are: their traffic is left to today's routing.

Belongs here: finding them, and when so few observations are no accident. Does not belong here: models, tasks and other kinds
of request without observations (`policy.known_parts`): those a rule cannot always tell apart, a team it can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr

MIN_OBSERVED = 10
"""Observations from which on a part of the traffic speaks for itself, however large it is."""
IMPLAUSIBLE = 1e-3
"""So few observations, or fewer, would be no accident where they had no better chance than this."""
IMMATERIAL = 0.005
"""Share of all answers up to which teams without scores are not set apart."""
MAX_TEAMS = 100
"""Teams that a rule may name; smaller ones are left to today's routing then."""
NO_TEAM = ""
"""Stands for requests without a team."""


@dataclass(frozen=True)
class UnscoredTeam:
    """A team (NO_TEAM: requests without one), its share of all answers, how many of them are scored, and how many there are."""

    team: str
    share: float
    observed: int
    of: int


def implausible(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether so few observations, or fewer, are all but impossible where so many were to be expected (Poisson)."""
    found: NDArray[np.bool_] = pdtr(observed, expected) < IMPLAUSIBLE
    return found


def unscored_teams(final: ibis.Table) -> tuple[tuple[UnscoredTeam, ...], tuple[str, ...]]:
    """Teams without scores, and the teams that a rule may name instead; both empty where no team is to be set apart.

    Args:
        final: final requests with team, status and quality; two small aggregates of them are read.
    """
    by_team = final.group_by("team").agg(
        n=final.count(), answered=(final.status == "success").sum(), scored=final.quality.notnull().sum().cast("int64")
    )
    total: dict[str, Any] = by_team.agg(answered=by_team.answered.sum(), scored=by_team.scored.sum()).to_pyarrow().to_pylist()[0]
    answered, scored = int(total["answered"] or 0), int(total["scored"] or 0)
    if scored == 0:
        return (), ()
    few = by_team.filter(by_team.scored < MIN_OBSERVED)
    rows = few.order_by([ibis.desc("answered"), ibis.asc("team")]).limit(MAX_TEAMS).to_pyarrow().to_pylist()
    found = tuple(
        UnscoredTeam(NO_TEAM if row["team"] is None else row["team"], row["answered"] / answered, int(row["scored"]), int(row["answered"]))
        for row in rows
        if implausible(np.array(float(row["scored"])), np.array(scored / answered * row["answered"]))
    )
    if sum(each.share for each in found) <= IMMATERIAL:
        return (), ()
    # Picked here, and not by the engine: names from logs never become part of a query's text.
    unscored = {each.team for each in found}
    named = by_team.filter(by_team.team.notnull()).order_by([ibis.desc("n"), ibis.asc("team")]).limit(MAX_TEAMS + len(found))
    kept = [str(row["team"]) for row in named.to_pyarrow().to_pylist() if row["team"] not in unscored]
    return found, tuple(kept[:MAX_TEAMS])
