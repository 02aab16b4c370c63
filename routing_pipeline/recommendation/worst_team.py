"""The team whose moved requests lose the most quality under each option, which a mean over all requests hides.

Belongs here: the replay of options by team. Does not belong here: the replay itself (`replayed_halves`), the worst-hit task, which
cells tell (`options`).
"""

from __future__ import annotations

import ibis
import numpy as np
from numpy.typing import NDArray

from routing_pipeline.estimates import Unidentifiable
from routing_pipeline.policy import evidence as evidence_
from routing_pipeline.policy.cells import Floats, sum_by
from routing_pipeline.policy.decided_sums import UNMOVED, DecidedSums, decided_sums
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.halves import Halves, both_of
from routing_pipeline.policy.proof import outcomes_of
from routing_pipeline.policy.replay import Replay
from routing_pipeline.policy.scores import OUTCOMES, Sums
from routing_pipeline.policy.task_floors import MIN_SCORED
from routing_pipeline.recommendation.half_choices import pair_of
from routing_pipeline.recommendation.options import WorstTeam
from routing_pipeline.recommendation.replayed_halves import WrittenPair, replay_pair, written
from routing_pipeline.recommendation.routing_rules import RoutingRules, routing_rules_with_test_count
from routing_pipeline.stats.inference import Statistic, interval, simultaneous
from routing_pipeline.storage.locks import Coordination
from routing_pipeline.window.scope import CLUSTERS, AnalysisScope

MOST = 50
"""Teams that are looked at, those with the most scored answers first."""
TOO_FEW = Unidentifiable(unidentifiable=f"no team has {MIN_SCORED} scored answers among the requests that the rules decide")


def rules_with_worst_teams(
    evidence: RoutingEvidence, scope: AnalysisScope, coordination: Coordination, requests: ibis.Table
) -> RoutingRules:
    """The question of the scope, put to the proof at its number, with the team that each option hits worst."""
    return with_worst_teams(routing_rules_with_test_count(evidence, scope, coordination), evidence, requests, scope)


def with_worst_teams(rules: RoutingRules, evidence: RoutingEvidence, requests: ibis.Table, scope: AnalysisScope) -> RoutingRules:
    """Rules whose options tell which team they hit worst; as they are where no team is logged.

    Args:
        rules: of this evidence.
        evidence: of the window; its cells hold the nuisance models.
        requests: rows that the evidence was gathered from.
        scope: the window.
    """
    if not rules.options or evidence.cells_uri is None:
        return rules
    scored = _scored_by_team(requests)
    if not scored:
        return rules
    halves = both_of(evidence_.read_scores(evidence.cells_uri))
    # A replay sums by day; here the place of the team stands for it.
    place = ibis.cases(*((requests.team == team, place) for place, team in enumerate(scored)), else_=len(scored)).cast("int64")
    told = [pair_of(halves, each.halves, single=scope.parameters.single) for each in rules.options]
    pairs = [None if pair is None else written(each.rule_set, halves, pair) for each, pair in zip(rules.options, told, strict=True)]
    rule_sets = [rule_set for each in pairs if each is not None for rule_set in each.rule_sets]
    if not rule_sets:
        return rules
    with decided_sums(requests.mutate(day=place), halves.first.cells, rule_sets) as sums:
        options = tuple(
            option if pair is None else option.model_copy(update={"worst_team": _worst(pair, halves, sums, scored)})
            for option, pair in zip(rules.options, pairs, strict=True)
        )
    return rules.model_copy(update={"options": options})


def _scored_by_team(requests: ibis.Table) -> dict[str, int]:
    """Scored answers of each team."""
    final = requests.filter(requests.is_final, requests.team.notnull(), requests.quality.notnull())
    counted = final.group_by("team").agg(scored=lambda table: table.count())
    rows = counted.order_by([ibis.desc("scored"), "team"]).limit(MOST).to_pyarrow().to_pylist()
    return {row["team"]: int(row["scored"]) for row in rows}


def _worst(pair: WrittenPair, halves: Halves, sums: DecidedSums, scored: dict[str, int]) -> WorstTeam | Unidentifiable:
    replayed = replay_pair(pair, sums, halves)
    found: list[tuple[str, float, float, Statistic]] = []
    for place, team in enumerate(scored):
        of = (replayed.day == place) & (replayed.rule != UNMOVED)
        requests = float(replayed.requests[of].sum())
        whole = float(replayed.requests[replayed.day == place].sum())
        share = scored[team] * requests / max(whole, 1e-300)
        change = _change(replayed, of)
        if share >= MIN_SCORED and change.is_known:
            found.append((team, requests, share, change))
    if not found:
        return TOO_FEW
    # The worst of several is looked for, so that the intervals of all of them hold together.
    critical = simultaneous([change for *_, change in found])
    team, requests, share, change = min(found, key=lambda each: (each[-1].value, each[0]))
    return WorstTeam(team=team, requests=round(requests), scored=round(share), quality_change=interval(change, critical))


def _change(replayed: Replay, of: NDArray[np.bool_]) -> Statistic:
    """Of mean quality, on some of the replayed requests."""

    def summed(values: Floats) -> Floats:
        return np.stack([sum_by((replayed.cluster[of],), values[of, outcome], (CLUSTERS,)) for outcome in range(len(OUTCOMES))], axis=1)

    counted = summed(replayed.counted)
    then, now = (outcomes_of(Sums(summed(values), counted, np.zeros_like(counted))) for values in (replayed.then, replayed.now))
    return then.quality - now.quality
