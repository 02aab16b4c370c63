"""Arms: a model at a provider with a service tier and an effort, as they were called; the same model at several providers side by side.

Belongs here: what each arm delivered, raw and pooled with the others of its model, and differences between providers for like calls. Does
not belong here: one gateway name against another for a whole task (`model_performance`, from the evidence), another version behind a name
(`window.version_changes`).

Like calls are of the same task with an answer of about the same length; both sides are weighted alike over what both have answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.analysis.choices import fold_rare
from routing_pipeline.catalog import family_of
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.stats.inference import BOUNDS, Floats, around, clustered_mean
from routing_pipeline.stats.pooling import pooled
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import CLUSTERS, AnalysisScope

MOST_ARMS = 60
MIN_CALLS = 100
"""Calls of a provider below which nothing is compared."""
MIN_IN_STRATUM = 10
TO_BE_NAMED = 0.02
"""Share of a gateway name's calls from which a provider counts as one that it is spread over."""
_KEYS = ("model", "provider", "provider_model", "service_tier", "reasoning_effort")
_OUTCOMES = ("latency_ms", "cost_usd", "quality")


class Arm(Result):
    """One way in which a model was called."""

    model: LogName = Field(description="The name that the gateway routes by")
    same_as: LogName = Field(description="The model behind it, whoever serves it and whichever version; by its name")
    provider: LogName | None = Field(description="Who served it; null: not logged")
    version: LogName | None = Field(description="What was called")
    service_tier: LogName | None = Field(description="The provider's service class; null: not logged")
    reasoning_effort: LogName | None = Field(description="Effort asked for; null: not logged")
    calls: int = quantity("Answered calls, cache hits left out", "calls")
    latency_ms: Measured = quantity("Mean, as they came", "ms")
    cost_usd: Measured = quantity("Per answered call, as they came", "USD")
    quality: Measured = quantity("Mean of the scored ones, as they came", "0..1")
    quality_pooled: Measured = quantity(
        "Drawn towards the other arms of the same model, as far as they differ by no more than chance", "0..1"
    )


class ProviderComparison(Result):
    """The same model at two providers, over calls of the same tasks and lengths."""

    same_as: LogName
    model: LogName
    provider: LogName
    against_model: LogName
    against_provider: LogName = Field(description="The provider that answers most of the model's calls")
    calls: int = quantity("Answered calls of the provider", "calls")
    calls_against: int = quantity("Of the other", "calls")
    latency_ms: Measured = quantity("Provider less the other, mean over like calls", "ms")
    cost_usd: Measured = quantity("Provider less the other, per like call", "USD")
    quality: Measured = quantity("Provider less the other, over like scored calls", "0..1")
    rules_can_name_it: bool = Field(description="The gateway has a name for this provider alone, so that a rule may route to it")
    explanation: str


class Arms(Result):
    """Models as they were called."""

    arms: tuple[Arm, ...] = Field(description="Most calls first")
    providers: tuple[ProviderComparison, ...] = Field(description="Models that several providers answer for, most calls first")


class _Option(NamedTuple):
    model: str
    provider: str


def arms_of(requests: ibis.Table, scope: AnalysisScope) -> Arms:
    """Arms of a window, from its rows of chat (schema.SCOPED_REQUESTS)."""
    calls = requests.filter(requests.status == "success", ~requests.is_cache_hit.fill_null(False))
    calls = calls.mutate(**{name: calls[name].fill_null("") for name in _KEYS})
    largest = calls.group_by(*_KEYS).agg(n=calls.count()).order_by(ibis.desc("n"), *_KEYS).limit(MOST_ARMS)
    known: list[dict[str, Any]] = largest.to_pyarrow().to_pylist()
    arms = _arms(calls, largest, known)
    families: dict[str, dict[_Option, int]] = defaultdict(lambda: defaultdict(int))
    for row in known:
        if row["provider"]:
            families[_family(row)][_Option(row["model"], row["provider"])] += row["n"]
    spread = _spread(known)
    found: list[ProviderComparison] = []
    for family, options in families.items():
        if len({each.provider for each, n in options.items() if n >= MIN_CALLS}) > 1:
            found += _comparisons(calls, scope, family, options, spread)
    return Arms(arms=arms, providers=tuple(sorted(found, key=lambda each: (-each.calls, each.model, each.provider))))


def _family(row: Mapping[str, Any]) -> str:
    return family_of(row["provider_model"] or row["model"])


def _spread(known: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """By gateway name: the providers that it is spread over."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in known:
        counts[row["model"]][row["provider"]] += row["n"]
    return {model: {provider for provider, n in of.items() if n >= TO_BE_NAMED * sum(of.values())} for model, of in counts.items()}


def _arms(calls: ibis.Table, largest: ibis.Table, known: list[dict[str, Any]]) -> tuple[Arm, ...]:
    rows = calls.semi_join(largest, _KEYS)
    sums = rows.group_by(*_KEYS, "cluster").agg(
        **{f"{name}_n": rows[name].count() for name in _OUTCOMES}, **{f"{name}_sum": rows[name].sum() for name in _OUTCOMES}
    )
    by_arm: dict[tuple[str, ...], dict[str, Floats]] = defaultdict(lambda: defaultdict(lambda: np.zeros(CLUSTERS)))
    for row in sums.to_pyarrow().to_pylist():
        for name in _OUTCOMES:
            for what in ("n", "sum"):
                by_arm[tuple(row[key] for key in _KEYS)][f"{name}_{what}"][row["cluster"]] += float(row[f"{name}_{what}"] or 0.0)
    arms = []
    for row in known:
        of = by_arm[tuple(row[key] for key in _KEYS)]
        means = {name: clustered_mean(of[f"{name}_sum"], of[f"{name}_n"], bounds=BOUNDS[name]) for name in _OUTCOMES}
        named = {"model": row["model"], "same_as": _family(row), "version": row["provider_model"] or None}
        named |= {name: row[name] or None for name in ("provider", "service_tier", "reasoning_effort")}
        arms.append(Arm(**named, calls=row["n"], **means, quality_pooled=means["quality"]))
    return _pooled(arms)


def _pooled(arms: list[Arm]) -> tuple[Arm, ...]:
    for family in {arm.same_as for arm in arms}:
        places = [place for place, arm in enumerate(arms) if arm.same_as == family and isinstance(arm.quality, Estimate)]
        means = [mean for place in places if isinstance(mean := arms[place].quality, Estimate)]
        for place, mean in zip(places, pooled(means), strict=True):
            arms[place] = arms[place].model_copy(update={"quality_pooled": mean.within(0.0, 1.0)})
    return tuple(arms)


def _comparisons(
    calls: ibis.Table, scope: AnalysisScope, family: str, options: Mapping[_Option, int], spread: Mapping[str, set[str]]
) -> list[ProviderComparison]:
    """Every option with another provider than the most used one, against that."""
    against = max(options, key=lambda each: (options[each], each))
    sums = _like_calls(calls, scope, set(options))
    found = []
    for option, n in options.items():
        if option.provider == against.provider or n < MIN_CALLS:
            continue
        named = len(spread.get(option.model, set())) == 1
        found.append(
            ProviderComparison(
                same_as=family,
                model=option.model,
                provider=option.provider,
                against_model=against.model,
                against_provider=against.provider,
                calls=n,
                calls_against=options[against],
                **{name: _gap(sums[option], sums[against], name) for name in _OUTCOMES},
                rules_can_name_it=named,
                explanation=_explained(option, against, spread),
            )
        )
    return found


def _explained(option: _Option, against: _Option, spread: Mapping[str, set[str]]) -> str:
    if len(spread.get(option.model, set())) > 1:
        return f"{option.model} is spread over several providers by the gateway. Rules cannot choose between them; give each deployment a name of its own."
    if option.model == against.model:
        return "Both answer under one name; rules cannot choose between them."
    return f"Rules may route to {option.model}; the tests that every rule has to pass decide whether they do."


Sums = dict[tuple[str, int], dict[str, Floats]]


def _like_calls(calls: ibis.Table, scope: AnalysisScope, options: set[_Option]) -> dict[_Option, Sums]:
    """By option and stratum (task type, length of the answer in steps of four times): numbers and sums by session cluster."""
    rows = fold_rare(calls, "task_type", len(scope.task_types))
    rows = rows.filter(rows.model.isin(sorted({each.model for each in options})))
    step = (ibis.greatest(rows.completion_tokens.fill_null(0), 1).cast("float64").ln() / np.log(4.0)).floor().cast("int64")
    keys = ("model", "provider", "task_type", "step", "cluster")
    rows = rows.filter(rows.provider.isin(sorted({each.provider for each in options}))).mutate(step=step)
    sums = rows.group_by(*keys).agg(
        **{f"{name}_n": rows[name].count() for name in _OUTCOMES}, **{f"{name}_sum": rows[name].sum() for name in _OUTCOMES}
    )
    found: dict[_Option, Sums] = defaultdict(lambda: defaultdict(lambda: defaultdict(lambda: np.zeros(CLUSTERS))))
    for row in sums.to_pyarrow().to_pylist():
        of = found[_Option(row["model"], row["provider"])][row["task_type"], row["step"]]
        for name in _OUTCOMES:
            of[f"{name}_n"][row["cluster"]] += row[f"{name}_n"]
            of[f"{name}_sum"][row["cluster"]] += float(row[f"{name}_sum"] or 0.0)
    return found


def _gap(one: Sums, other: Sums, name: str) -> Measured:
    """Sum over strata of w_s (mean of the one - mean of the other), w_s the share of both's calls; influences by session cluster."""
    both = [
        (one[stratum], other[stratum])
        for stratum in one.keys() & other.keys()
        if min(one[stratum][f"{name}_n"].sum(), other[stratum][f"{name}_n"].sum()) >= MIN_IN_STRATUM
    ]
    if not both:
        return Unidentifiable(unidentifiable="the two have not answered enough calls of the same task and length with this logged")
    total = sum(float(each[f"{name}_n"].sum()) for pair in both for each in pair)
    value, influence = 0.0, np.zeros(CLUSTERS)
    for pair in sorted(both, key=lambda each: -float(each[0][f"{name}_n"].sum())):
        weight = sum(float(each[f"{name}_n"].sum()) for each in pair) / total
        for sign, each in zip((1.0, -1.0), pair, strict=True):
            n, sums = each[f"{name}_n"], each[f"{name}_sum"]
            mean = float(sums.sum() / n.sum())
            value += sign * weight * mean
            influence += sign * weight * (sums - mean * n) / n.sum()
    clusters = int((influence != 0).sum())
    if clusters < 2:
        return Unidentifiable(unidentifiable="too few session groups for an interval")
    return around(value, float(np.sqrt(clusters / (clusters - 1) * influence @ influence)), degrees=clusters - 1)
