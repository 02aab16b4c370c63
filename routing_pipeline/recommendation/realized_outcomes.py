"""`realized_outcomes`: what rule sets promised against what the requests that they decided have got since.

Belongs here: finding the requests that carry the id of one of our rules, and holding their outcomes against the promise
in rules.json. Does not belong here: the comparison with a control (`against_control`), what would have happened under other rules
(`recommendation.simulation`), deciding whether a canary goes on (`recommendation.canary`).

A gateway that follows our rules logs `<rule set id>/<rule id>` as the rule that decided (`rules.model.logged_rule_id`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from routing_pipeline.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR, hour_of
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.recommendation.against_control import AgainstControl, Arms, Design, PromiseVerdict, arms_of, verdict_on
from routing_pipeline.recommendation.counted_sessions import THEN, counted, requests_then, with_counts
from routing_pipeline.recommendation.strange_requests import Strangers, strangers_among
from routing_pipeline.rules.deciding import CONTROL
from routing_pipeline.rules.lifecycle import RuleSetStatus, State
from routing_pipeline.rules.model import Rule, RuleSet, logged_rule_id
from routing_pipeline.rules.rollout_record import TakenStep
from routing_pipeline.stats.inference import Floats, clustered_mean, independent_sum, weighted_sum
from routing_pipeline.text import LogName
from routing_pipeline.window.kinds_of_call import is_chat
from routing_pipeline.window.scope import CLUSTERS, AnalysisScope

LEVELS = 5
"""Bands of complexity within which scored requests stand for unscored ones."""
MAX_RULE_SETS = 10
FOLLOWED: frozenset[State] = frozenset({"published", "rolled_back"})
"""States of rule sets that a gateway was to follow, at least for a while."""

OUTCOMES: tuple[Literal["cost_usd", "quality", "latency_ms"], ...] = ("cost_usd", "quality", "latency_ms")


class PromiseKept(Result):
    """One outcome of one rule, or of the rules together: promised, measured since, and whether the two agree."""

    outcome: Literal["cost_usd", "quality", "latency_ms"]
    promised: Measured = Field(description="Per request, as rules.json said, weighted by the traffic that came")
    measured: Measured = Field(description="Per request, of the requests that the rules decided in this window")
    difference: Measured = Field(description="Measured less promised; the interval holds the noise of both")
    verdict: PromiseVerdict = Field(description="`missed`: worse than promised by more than chance; `better`: the other way round")


class RealizedRule(Result):
    """One rule and the requests it decided."""

    rule_id: LogName
    requests: int = quantity("Final requests in the window that carry its id", "requests")
    labelled: int = quantity("Of them, successful and with a quality", "requests")
    outcomes: tuple[PromiseKept, ...]
    against_control: tuple[AgainstControl, ...] = Field(
        default=(), description="Where a share of its requests was left without it by chance"
    )


class RealizedRuleSet(Result):
    """One rule set and what came of it."""

    rule_set_id: str
    promised_on: str = Field(description="End of the window that its promise was computed from, UTC")
    state: State = Field(default="proposed", description="Where it stood when this was measured")
    requests: int = quantity("Final requests in the window that its rules decided", "requests")
    share: float = quantity("Of all final requests in the window", "0..1")
    days: float = quantity("From the first such request to the last", "days")
    outcomes: tuple[PromiseKept, ...] = Field(description="Of its rules together")
    design: Design = Field(
        default="before and after",
        description="`randomised`: canary and control of the same days; `before and after`: weaker, for the weeks may differ in more than the rules",
    )
    against_control: tuple[AgainstControl, ...] = Field(
        default=(), description="Change by all rules together, promised and measured, where randomised"
    )
    rules: tuple[RealizedRule, ...] = Field(description="Most traffic first")
    missed: tuple[str, ...] = Field(description="Promises that the measurement missed, in words")
    steps: tuple[TakenStep, ...] = Field(default=(), description="Of its roll-out, oldest first")


class RealizedOutcomes(Result):
    """The answer to `realized_outcomes`."""

    rule_sets: tuple[RealizedRuleSet, ...] = Field(description="Those of which the window holds requests, newest first")
    waiting: tuple[str, ...] = Field(description="Ids of published rule sets of which no request in the window carries a rule")
    notices: tuple[str, ...] = ()
    verdict: str = Field(description="One sentence for a manager")


Promise = tuple[RuleSet, RuleSetStatus]
"""What was proposed, and where it stands."""


def realized_outcomes(requests: ibis.Table, scope: AnalysisScope, promises: Sequence[Promise]) -> RealizedOutcomes:
    """Hold each earlier rule set against the requests that its rules decided in this window.

    Quality is corrected for which answers got scored within rule, task and band of complexity, as far as those explain it
    (post-stratification: Holt and Smith 1979, JRSS A 142:33); errors are clustered by session. A promise is missed, or more
    than kept, when the difference exceeds 1.96 sqrt(SE_promised^2 + SE_measured^2): the promise came from other sessions.

    Args:
        requests: conformed rows of the window (schema.SCOPED_REQUESTS), grain one attempt.
        scope: the window.
        promises: rule sets of earlier windows, any order; those without rules promise nothing. Published ones come first
            where there are many. One that nobody published is held as well, if the logs carry its rules.
    """
    final = requests.filter(requests.is_final, is_chat(requests))
    hours = final.group_by(hour=hour_of(final.started_s)).agg(n=final.count()).to_pyarrow().to_pylist()
    return outcomes_among(requests, scope.requests, {row["hour"]: float(row["n"]) for row in hours}, promises)


def outcomes_among(requests: ibis.Table, all_requests: int, by_hour: Mapping[int, float], promises: Sequence[Promise]) -> RealizedOutcomes:
    """The same from rows that hold at least the requests that the rules decided, of `all_requests` final requests in the window.

    `by_hour` has these by hour since 1970: what a rule set changes is held against the requests of the hours in which it decided any.
    """
    found = sorted((each for each in promises if each[0].rules), key=_newest, reverse=True)
    states = {rule_set.rule_set_id: status for rule_set, status in found}
    known = sorted(found, key=lambda each: each[1].state not in FOLLOWED)[:MAX_RULE_SETS]
    return _held_all(requests, all_requests, by_hour, [rule_set for rule_set, _ in sorted(known, key=_newest, reverse=True)], states)


def unreadable(why: str) -> RealizedOutcomes:
    """The answer when earlier promises cannot be read now."""
    return RealizedOutcomes(rule_sets=(), waiting=(), verdict=f"What was proposed earlier cannot be read now: {why}")


def _newest(promise: Promise) -> str:
    return promise[0].rule_set_id


def _held_all(
    requests: ibis.Table, all_requests: int, by_hour: Mapping[int, float], known: Sequence[RuleSet], states: dict[str, RuleSetStatus]
) -> RealizedOutcomes:
    if not known:
        return RealizedOutcomes(
            rule_sets=(), waiting=(), verdict="No rules were proposed before, so there is no promise to compare with the outcome."
        )
    sums, arms, strangers = _decided(requests, known), arms_of(requests, known), strangers_among(requests, known)
    found = [
        _held(each, place, sums, all_requests, by_hour, states[each.rule_set_id], arms, strangers)
        for place, each in enumerate(known)
        if (sums["set"] == place).any()
    ]
    ids = {each.rule_set_id for each in found}
    waiting = tuple(each.rule_set_id for each in known if each.rule_set_id not in ids and states[each.rule_set_id].state in FOLLOWED)
    return RealizedOutcomes(
        rule_sets=tuple(found),
        waiting=waiting,
        notices=(*_notices(found, waiting), *strangers.notices([states[each.rule_set_id] for each in known])),
        verdict=_verdict(found, known, waiting),
    )


def _decided(requests: ibis.Table, known: Sequence[RuleSet]) -> dict[str, Floats]:
    """Sums by (rule set, rule, session group, task, band of complexity) over final rows that carry one of the ids."""
    ids = [(logged_rule_id(each.rule_set_id, rule.id), place, at) for place, each in enumerate(known) for at, rule in enumerate(each.rules)]
    lookup = ibis.memtable(
        pa.table(
            {
                "logged_id": pa.array([each[0] for each in ids], pa.string()),
                "set": pa.array([each[1] for each in ids], pa.int64()),
                "rule": pa.array([each[2] for each in ids], pa.int64()),
                THEN: pa.array([requests_then(known[place].rules[at], known[place]) for _, place, at in ids], pa.float64()),
            }
        )
    )
    rows = requests.filter(requests.is_final).inner_join(lookup, requests.routing_rule_id == lookup.logged_id)
    if "rule_arm" in rows.columns:
        rows = rows.filter((rows.rule_arm != CONTROL).fill_null(True))
    band = ibis.ifelse(
        rows.is_complexity_derived | rows.complexity.isnull(),
        ibis.literal(-1, "int64"),
        (rows.complexity * LEVELS).floor().cast("int64"),
    )
    rows = with_counts(rows.mutate(band=band), ("set", "rule"))
    grouped = (
        rows.group_by("set", "rule", "cluster", "task_type", "band")
        .agg(
            n=rows.count().cast("float64"),
            success=(rows.status == "success").cast("float64").sum(),
            labelled=rows.quality.notnull().cast("float64").sum(),
            quality=rows.quality.sum().fill_null(0.0),
            n_cost=counted(rows, "request_cost_usd"),
            cost=rows.request_cost_usd.sum().fill_null(0.0),
            n_latency=counted(rows, "request_latency_ms"),
            latency=rows.request_latency_ms.sum().fill_null(0.0),
            first_s=rows.started_s.min(),
            last_s=rows.started_s.max(),
        )
        .to_pyarrow()
        .sort_by([(key, "ascending") for key in ("set", "rule", "cluster", "task_type", "band")])
    )
    _, stratum = np.unique(
        np.array(
            [
                f"{rule}|{task}|{band}"
                for rule, task, band in zip(*(grouped[key].to_pylist() for key in ("rule", "task_type", "band")), strict=True)
            ]
        )
        if grouped.num_rows
        else np.array([], dtype=str),
        return_inverse=True,
    )
    columns: dict[str, Floats] = {name: grouped[name].to_numpy().astype(np.float64) for name in grouped.column_names if name != "task_type"}
    return columns | {"stratum": stratum.astype(np.float64)}


def _held(
    promise: RuleSet,
    place: int,
    sums: dict[str, Floats],
    all_requests: int,
    by_hour: Mapping[int, float],
    status: RuleSetStatus,
    arms: Arms,
    strangers: Strangers,
) -> RealizedRuleSet:
    of = sums["set"] == place
    parts = []
    for at, rule in enumerate(promise.rules):
        mine = of & (sums["rule"] == at)
        if mine.any():
            parts.append((rule, mine))
    shares = [float(sums["n"][mine].sum()) for _, mine in parts]
    rules = tuple(
        RealizedRule(
            rule_id=rule.id,
            requests=round(n),
            labelled=round(float(sums["labelled"][mine].sum())),
            outcomes=tuple(_promise_kept(name, getattr(rule.expected, name), _measured(sums, mine, name)) for name in OUTCOMES),
            against_control=arms.of_rule(place, promise.rules.index(rule)),
        )
        for (rule, mine), n in zip(parts, shares, strict=True)
    )
    together = tuple(
        _promise_kept(name, _weighted([rule for rule, _ in parts], shares, name), _measured(sums, of, name)) for name in OUTCOMES
    )
    total = sum(shares)
    first_s, last_s = float(sums["first_s"][of].min()), float(sums["last_s"][of].max())
    # Requests from before it was published, or while it was taken back, would make its rules look rarer, and what was promised of each
    # larger than it is.
    silent = strangers.silent(status)
    meanwhile = math.fsum(
        n
        for hour, n in by_hour.items()
        if first_s // SECONDS_PER_HOUR <= hour <= last_s // SECONDS_PER_HOUR and not any(each.holds(hour) for each in silent)
    )
    randomised = arms.of_rule_set(place, promise, meanwhile)
    weaker = " (before and after, which is weaker)" if randomised else ""
    missed = [_in_words(f"rule {rule.rule_id}", each) + weaker for rule in rules for each in rule.outcomes if each.verdict == "missed"]
    return RealizedRuleSet(
        rule_set_id=promise.rule_set_id,
        promised_on=promise.window.end,
        state=status.state,
        steps=status.steps,
        requests=round(total),
        share=min(total / max(all_requests, 1), 1.0),
        days=(last_s - first_s) / SECONDS_PER_DAY,
        outcomes=together,
        rules=tuple(sorted(rules, key=lambda each: (-each.requests, each.rule_id))),
        design="randomised" if randomised else "before and after",
        against_control=randomised,
        missed=(*(each.told for each in randomised if each.verdict == "missed"), *missed),
    )


def _measured(sums: dict[str, Floats], of: NDArray[np.bool_], name: str) -> Measured:
    """Mean per request with an interval clustered by session; quality by strata, each weighted by its successes."""
    cluster = sums["cluster"][of].astype(np.int64)

    def by_cluster(values: Floats) -> Floats:
        return np.bincount(cluster, values, minlength=CLUSTERS).astype(np.float64)

    if name != "quality":
        column = "cost" if name == "cost_usd" else "latency"
        return clustered_mean(by_cluster(sums[column][of]), by_cluster(sums[f"n_{column}"][of]))
    stratum = sums["stratum"][of].astype(np.int64)
    success, labelled = (np.bincount(stratum, sums[each][of]) for each in ("success", "labelled"))
    weight = np.where(labelled > 0, success / np.maximum(labelled, 1.0), 0.0)[stratum]
    return clustered_mean(by_cluster(weight * sums["quality"][of]), by_cluster(weight * sums["labelled"][of]))


def _weighted(rules: Sequence[Rule], shares: Sequence[float], name: str) -> Measured:
    """The rules' promises for the traffic that came; their noise is taken as if it hung together, which errs on the wide side."""
    total = sum(shares)
    return weighted_sum([(share / total, getattr(rule.expected, name)) for rule, share in zip(rules, shares, strict=True)])


def _promise_kept(name: Literal["cost_usd", "quality", "latency_ms"], promised: Measured, measured: Measured) -> PromiseKept:
    if isinstance(promised, Unidentifiable) or isinstance(measured, Unidentifiable):
        why = promised if isinstance(promised, Unidentifiable) else measured
        return PromiseKept(outcome=name, promised=promised, measured=measured, difference=why, verdict="cannot tell")
    difference = independent_sum([(1.0, measured), (-1.0, promised)])
    return PromiseKept(outcome=name, promised=promised, measured=measured, difference=difference, verdict=verdict_on(name, difference))


_UNITS = {"cost_usd": ("cost", "${:.6f} per request"), "quality": ("quality", "{:.3f}"), "latency_ms": ("latency", "{:.0f} ms")}


def _in_words(who: str, kept: PromiseKept) -> str:
    name, form = _UNITS[kept.outcome]
    told = [form.format(each.estimate) if isinstance(each, Estimate) else "unknown" for each in (kept.promised, kept.measured)]
    return f"{who}: {name} of {told[0]} was promised, {told[1]} was measured"


def _notices(found: Sequence[RealizedRuleSet], waiting: Sequence[str]) -> tuple[str, ...]:
    told = []
    if any(each.design == "before and after" for each in found):
        told.append(
            "Promise and measurement come from different weeks: where the mix of requests within a rule has changed, so may have its outcomes. "
            "A canary with a control group tells the two apart."
        )
    unpublished = [each.rule_set_id for each in found if each.state not in FOLLOWED]
    if unpublished:
        told.append(f"Requests were decided by {', '.join(unpublished[:3])}, which nobody published here.")
    if waiting:
        told.append(f"No request carries a rule of {', '.join(waiting[:3])}; log `<rule set id>/<rule id>` as the rule that decided.")
    return tuple(told)


def _verdict(found: Sequence[RealizedRuleSet], known: Sequence[RuleSet], waiting: Sequence[str]) -> str:
    if not found:
        sets = "1 earlier rule set" if len(known) == 1 else f"{len(known)} earlier rule sets"
        told = f"{sets} promised something, {len(waiting) or 'none'} of {'it' if len(known) == 1 else 'them'} {'was' if len(waiting) == 1 else 'were'} published"
        return f"{told}; no request of this window was decided by them yet."
    newest = found[0]
    kept: dict[str, PromiseVerdict] = {each.outcome: each.verdict for each in newest.outcomes}
    # What chance split says more than two different weeks.
    kept |= {each.outcome: each.verdict for each in newest.against_control if each.verdict != "cannot tell"}
    missed = [_UNITS[name][0] for name in OUTCOMES if kept[name] == "missed"]
    said = f"Rule set {newest.rule_set_id} decided {newest.requests:,} requests ({100 * newest.share:.0f} %): "
    if missed:
        return said + f"its promise on {' and '.join(missed)} was missed."
    if newest.missed:
        return (
            said
            + f"together its rules met their promise, but {len(newest.missed)} of their single promises {'was' if len(newest.missed) == 1 else 'were'} missed."
        )
    untold = [_UNITS[name][0] for name in OUTCOMES if kept[name] == "cannot tell"]
    return said + "every promise was met" + (f"; {' and '.join(untold)} cannot be evaluated." if untold else ".")
