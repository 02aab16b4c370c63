"""What is done to the scores of a window, and what is told of it.

Belongs here: putting the decisions together. Does not belong here: the decisions one by one (`policy.late_scores`,
`policy.score_influence`, `policy.user_clusters`), doing it (`policy.counting`), the words (`policy.score_account`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import ibis

from routing_pipeline.parameters import ScoreShares
from routing_pipeline.policy.counting import Counting
from routing_pipeline.policy.late_scores import late_scores
from routing_pipeline.policy.score_account import LateTail, ScoreAccount, ScoreInfluence, UserClusters
from routing_pipeline.policy.score_influence import influences
from routing_pipeline.policy.user_clusters import user_effect


def account_of(requests: ibis.Table, most: ScoreShares) -> tuple[ScoreAccount, Counting]:
    """What to do with the scores of a window, and what is told of it; the judge is told of later, from the cells.

    Args:
        requests: conformed rows; a few small aggregates of them are read.
        most: largest share of the scores that one user, one team, one source may have.
    """
    final = requests.filter(requests.is_final)
    tail = late_scores(final)
    late = None
    if tail is not None:
        late = LateTail(start=datetime.fromtimestamp(tail.from_s, UTC), usual_share=tail.usual, late_share=tail.late, scores=tail.scores)
    heavy, thinned = influences(final, most)
    effect = user_effect(final)
    users = None
    if effect is not None:
        users = UserClusters(users=effect.users, ratio=effect.ratio, correlation=effect.correlation, is_used=effect.matters)
    told = tuple(ScoreInfluence(by=each.by, name=each.name or None, share=each.share, counted_share=each.counted_share) for each in heavy)
    account = ScoreAccount(late=late, influence=told, users=users)
    return account, Counting(None if tail is None else tail.from_s, thinned, by_user=effect is not None and effect.matters)
