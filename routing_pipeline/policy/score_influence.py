"""How much of what is known of quality comes from one user, one team or one source, and how much of it counts.

Belongs here: shares of the scores, and thinning out those of whoever gave more than a share that may be set. Does not belong here: sources that are
not trusted: where trusted ones give enough, they have no say in the mean at all (`policy.pseudo_labels`).

Thinned at random, what is left of a heavy user's scores still stands for all of that user's answers within a task, level and model, beside those of
others. Where no others are left to make up the rest, nothing is thinned, and that is told.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis

from routing_pipeline.parameters import ScoreShares
from routing_pipeline.policy.score_account import Giver

COLUMNS: dict[Giver, str] = {"user": "user_hash", "team": "team", "source": "quality_source"}
LEAST_SCORED = 300
TOLD = 0.5
"""Share of all scores from which on whoever gave them is told of, whether a cap is set or not."""
ALONE = 0.995
"""A team or a source with so much of the scores is the only one there is, and nothing to tell of."""
MOST_HEAVY = 20


@dataclass(frozen=True)
class Influence:
    """Somebody with a large share of the scores, and the share of the scores that count. name: empty for users, whom no report names."""

    by: Giver
    name: str
    share: float
    counted_share: float


def influences(final: ibis.Table, most: ScoreShares) -> tuple[tuple[Influence, ...], tuple[tuple[str, str, float], ...]]:
    """Who is told of, and what `counting.Counting.thinned` should be.

    Args:
        final: final requests; an aggregate of them by user, one by team and one by source are read.
        most: largest share of the scores by one of each.
    """
    told: list[Influence] = []
    thinned: list[tuple[str, str, float]] = []
    for by, column in COLUMNS.items():
        if column not in final.columns or "request_id" not in final.columns:
            continue
        sums = final.group_by(column).agg(scored=final.quality.count())
        total = int(sums.scored.sum().execute() or 0)
        if total < LEAST_SCORED:
            continue
        cap: float = getattr(most, by)
        limit = min(cap, TOLD)
        heavy = sums.filter(sums[column].notnull(), sums.scored > limit / 2 * total)
        rows = heavy.order_by(ibis.desc("scored"), ibis.asc(column)).limit(MOST_HEAVY).to_pyarrow().to_pylist()
        shares = {str(row[column]): row["scored"] / total for row in rows}
        kept = kept_shares(shares, cap)
        left = 1.0 - sum(share * (1.0 - kept[name]) for name, share in shares.items())
        told += [
            Influence(by, "" if by == "user" else name, share, share * kept[name] / left)
            for name, share in shares.items()
            if share > limit and not (by != "user" and share > ALONE)
        ]
        thinned += [(column, name, share) for name, share in kept.items() if share < 1.0]
    return tuple(told), tuple(thinned)


def kept_shares(shares: dict[str, float], most: float) -> dict[str, float]:
    """What share of each one's scores to keep, so that none has more than `most` of what is left: k / (others + sum of k) = most.

    Those with less stay as they are. Where h of them would need h x most of everything, nobody is left to make up the rest: all is kept.
    """
    heavy = {name: share for name, share in shares.items() if share > most}
    while heavy and len(heavy) * most < 1.0 and sum(heavy.values()) < 1.0 - 1e-9:
        level = most * (1.0 - sum(heavy.values())) / (1.0 - len(heavy) * most)
        more = {name: share for name, share in shares.items() if share > level * (1 + 1e-12)}
        if more.keys() <= heavy.keys():
            return {name: min(level / share, 1.0) if name in heavy else 1.0 for name, share in shares.items()}
        heavy |= more
    return dict.fromkeys(shares, 1.0)
