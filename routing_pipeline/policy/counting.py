"""How a window's scores are counted: which of them, and whose errors hang together.

Belongs here: the decision, and the rows that follow from it, for cells and replay alike. Does not belong here: finding late scores
(`policy.late_scores`), whose scores weigh how much (`policy.score_influence`), whether users hang together (`policy.user_clusters`).
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis

from routing_pipeline.policy.tasks import lookup
from routing_pipeline.window.conform import hex_pair


@dataclass(frozen=True)
class Counting:
    """What is done to the scores of a window.

    scored_before_s: of answers that began later, scores do not count; None: all count. thinned: (column, value, share): of the scores of
    such requests, drawn by their ids, this share counts. by_user: clusters are users, and sessions where no user is logged.
    """

    scored_before_s: float | None = None
    thinned: tuple[tuple[str, str, float], ...] = ()
    by_user: bool = False

    @property
    def changes_nothing(self) -> bool:
        """Every score counts, and sessions are clusters."""
        return self == Counting()


NOT_CHANGED = Counting()


def as_counted(requests: ibis.Table, counting: Counting) -> ibis.Table:
    """Rows with quality only where it counts, and with their clusters."""
    rows, columns = requests, requests.columns
    nothing = ibis.null("float64")
    if counting.scored_before_s is not None:
        rows = rows.mutate(quality=ibis.ifelse(rows.started_s < counting.scored_before_s, rows.quality, nothing))
    for column in dict.fromkeys(each for each, _, _ in counting.thinned):
        found = [(value, share) for each, value, share in counting.thinned if each == column]
        # Joined, and not compared: names from logs never become part of a query's text.
        heavy = lookup(tuple(value for value, _ in found), "heavy", heavy_share=[share for _, share in found])
        rows = rows.left_join(heavy, rows[column] == heavy.heavy_key)
        digest = rows.request_id.hexdigest("md5")
        drawn = (hex_pair(digest.substr(26, 2)) * 256 + hex_pair(digest.substr(28, 2))) / 65_536
        counts = rows.heavy_share.isnull() | (drawn < rows.heavy_share)
        rows = rows.mutate(quality=ibis.ifelse(counts, rows.quality, nothing)).select(*columns)
    if counting.by_user:
        rows = rows.mutate(cluster=ibis.ifelse(rows.user_hash.isnull(), rows.cluster, hex_pair(rows.user_hash.hexdigest("md5"))))
    return rows
