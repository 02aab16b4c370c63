"""Gathering evidence: from request rows to what the logs can tell about choices not made.

Belongs here: the grade of the evidence, refusals, and summing the score cube up for readers. Does not belong here: how
scores are computed (`policy.scores`), the shape of the result (`policy.evidence_model`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import ibis
import numpy as np

from routing_pipeline.catalog import Catalog
from routing_pipeline.estimates import Measured, Unidentifiable
from routing_pipeline.policy import cells as cells_
from routing_pipeline.policy.cells import Cells, Floats, sum_by
from routing_pipeline.policy.evidence_model import ArmEvidence, PropensityCheck, RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.intervals import ONE, Statistic, interval
from routing_pipeline.policy.rule_set import Grade
from routing_pipeline.policy.scores import (
    BOTH,
    COST,
    LATENCY,
    MIN_COVERED,
    MIN_LABELS,
    MIN_SENT,
    SUCCESS,
    ScoreCube,
    Support,
    score_cube,
    support,
)
from routing_pipeline.policy.segments import Segment, label, when
from routing_pipeline.scope import AnalysisScope

MIN_REQUESTS = 1_000
MIN_CLUSTERS = 30
PRICED_SHARE = 0.95
"""Share of a segment's requests that must have a cost before its cost is told."""
CHECK_TOLERANCE = 0.10
FEW_LABELS = 0.05


def gather_evidence(requests: ibis.Table, scope: AnalysisScope, catalog: Catalog, *, cells_path: Path) -> RoutingEvidence:
    """Sufficient statistics of the window, written to `cells_path`, and what they say per task, segment and model.

    Args:
        requests: conformed rows, schema.SCOPED_REQUESTS, grain one attempt: the window's, or the scope's sample of them.
        scope: the window; of it only `router_inputs` and the size of the sample are used, the rows speak.
        catalog: unused by the statistics; prices enter through the rows' costs.
        cells_path: Parquet file to write; at most about a million rows.

    Returns:
        Estimates per request with 95 % intervals, errors clustered by session. With under MIN_REQUESTS requests, under
        MIN_CLUSTERS clusters of sessions or without any label, `refusal` says so and every estimate is Unidentifiable.
    """
    del catalog
    inputs = frozenset(scope.parameters.router_inputs)
    binning = cells_.binning_of(requests)
    if not binning.tasks:
        return _nothing()
    table = cells_.aggregate(requests, binning)
    cells_.write_cells(table, cells_path)
    found = summarised(read_scores(str(cells_path)), str(cells_path), router_inputs=inputs)
    return found.model_copy(update={"sampled": scope.sampled})


def _nothing() -> RoutingEvidence:
    return RoutingEvidence(
        grade="C",
        grade_reason="There is no request to judge by.",
        requests=0,
        labelled=0,
        clusters=0,
        propensities="estimated",
        complexity="absent",
        tasks=(),
        segments=(),
        unsupported_share=1.0,
        refusal=refusal_of(0, 0, 0),
    )


def read_scores(cells_uri: str) -> ScoreCube:
    """The score cube behind an evidence's `cells_uri`; kept for the next reader of the same file."""
    if cells_uri.startswith("s3://"):
        # Never changed under its name.
        return _scores_of(cells_uri, 0, 0)
    stat = Path(cells_uri).stat()
    return _scores_of(cells_uri, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2)
def _scores_of(cells_uri: str, modified_ns: int, size: int) -> ScoreCube:
    del modified_ns, size
    cells = cells_.read_cells(cells_uri)
    if not all(each.matches for each in propensity_check(cells)):
        cells = replace(cells, distrusts_weights=True)
    return score_cube(cells)


def refusal_of(requests: float, labelled: float, clusters: int) -> str | None:
    """Why nothing can be estimated at all; None when something can."""
    if requests < MIN_REQUESTS:
        return f"{requests:,.0f} requests are too few to judge other routing; at least {MIN_REQUESTS:,} are needed"
    if clusters < MIN_CLUSTERS:
        return (
            f"{clusters} group(s) of sessions are too few for honest intervals; at least {MIN_CLUSTERS} are needed (is session_id logged?)"
        )
    if labelled == 0:
        return "no request carries a quality score; log quality_score with the request or hand over feedback"
    return None


def grade_of(cells: Cells, *, weights_match: bool, router_inputs: frozenset[str] = frozenset()) -> tuple[Grade, str]:
    """How far the logs allow conclusions about choices not made.

    router_inputs: all that the router decides by, where its owner has said so; else task type and complexity are taken for it.
    """
    binning = cells.binning
    if binning.weighted and weights_match:
        return "A", "The router's own probabilities are logged and agree with what it chose."
    held = {"chance"} | ({"task_type"} if binning.tasks_logged else set()) | ({binning.axis} if binning.axis != "none" else set())
    if binning.axis == "complexity" and binning.lengths > 1:
        held.add("prompt_tokens")
    if router_inputs:
        lacking = sorted(router_inputs - held)
        if not lacking:
            return "B", (
                f"The router decides by {', '.join(sorted(router_inputs))}, as the configuration says, and the evidence corrects for that; "
                "that nothing else decides cannot be tested without random routing. Results are worth an A/B test."
            )
        return "C", (
            f"The router decides by {', '.join(lacking)} too, as the configuration says, for which the evidence cannot correct; harder requests "
            "may hide behind equal-looking ones. Results are worth an A/B test at most."
        )
    if binning.axis == "complexity" and binning.tasks_logged:
        return "B", (
            "Task type and complexity, by which the router decides, are logged; that nothing else decided is assumed and cannot be "
            "tested without random routing. Results are worth an A/B test."
        )
    lacking = [name for name, has in (("task type", binning.tasks_logged), ("complexity", binning.axis == "complexity")) if not has]
    return "C", (
        f"The router may have decided by what the logs do not hold ({' and '.join(lacking)} not logged); harder requests may hide behind "
        "equal-looking ones. Results are worth an A/B test at most."
    )


def propensity_check(cells: Cells) -> tuple[PropensityCheck, ...]:
    """Whether 1 / logged propensity adds up to the requests of the contexts where a model was seen (Horvitz and Thompson 1952).

    sum of 1/p over requests sent to a model estimates the requests of those contexts; off by more than CHECK_TOLERANCE
    and three standard errors, the logged numbers are not the probabilities of these choices.
    """
    if cells.weighted is None:
        return ()
    binning = cells.binning
    reach = cells.is_weighted & (cells.level < binning.levels) & (cells.task < len(binning.tasks))
    shape = (len(binning.tasks) * binning.levels, len(binning.models) + 1)
    context = cells.task[reach] * binning.levels + cells.level[reach]

    def by_context(values: Floats) -> Floats:
        return sum_by((context, cells.arm[reach]), values[reach], shape)

    n, weight, squared = (by_context(each) for each in (cells.sums["n"], cells.weighted["n"], cells.weighted["weight_squared"]))
    found = []
    for arm, model in enumerate(binning.models):
        seen = n[:, arm] >= 10
        base, total, sent = n[seen].sum(), weight[seen, arm].sum(), n[seen, arm].sum()
        if base == 0 or total == 0:
            continue
        error = math.sqrt(max(squared[seen, arm].sum(), 0.0)) / base
        matches = abs(total / base - 1.0) <= CHECK_TOLERANCE + 3 * error
        found.append(
            PropensityCheck(model=model, observed_share=sent / base, mean_propensity=min(sent / total, 1.0), matches=bool(matches))
        )
    return tuple(found)


def summarised(cube: ScoreCube, cells_uri: str, *, router_inputs: frozenset[str] = frozenset()) -> RoutingEvidence:
    """The score cube in words and intervals."""
    cells = cube.cells
    n, labelled = float(cells.sums["n"].sum()), float(cells.sums["labelled"].sum())
    clusters = int((cube.requests.sum(axis=1) > 0).sum())
    refusal = refusal_of(n, labelled, clusters)
    check = propensity_check(cells)
    uses_weights = cells.weighted is not None and not cells.distrusts_weights
    grade, reason = grade_of(cells, weights_match=bool(check) and not cells.distrusts_weights, router_inputs=router_inputs)
    axis = cells.binning.axis
    tasks = tuple(Segment(f"t{place + 1}", place, name, 0, cells.binning.levels) for place, name in enumerate(cells.binning.tasks))
    by_task = support(cells, cube.nuisances, tasks, learning=False)
    supported = cube.all.supported
    weight = cube.requests[:, : len(cube.segments)].sum(axis=0)
    pairs = weight.sum() * max(len(cube.models), 1)
    return RoutingEvidence(
        grade=grade,
        grade_reason=reason,
        requests=round(n),
        labelled=round(labelled),
        clusters=clusters,
        propensities="logged" if uses_weights else "estimated",
        propensity_check=check,
        complexity="logged" if axis == "complexity" else "derived" if axis == "prompt_tokens" else "absent",
        tasks=tuple(_described(cube, segment, by_task, place, refusal) for place, segment in enumerate(tasks)),
        segments=tuple(_described(cube, segment, cube.all, place, refusal) for place, segment in enumerate(cube.segments)),
        unsupported_share=1.0 if pairs == 0 or refusal else float((weight[:, None] * ~supported).sum() / pairs),
        warnings=_warnings(cells, check, n, labelled),
        refusal=refusal,
        cells_uri=cells_uri,
    )


def _warnings(cells: Cells, check: tuple[PropensityCheck, ...], n: float, labelled: float) -> tuple[str, ...]:
    found = []
    successes = float(cells.sums["success"].sum())
    if labelled and labelled < FEW_LABELS * successes:
        found.append(f"Only {labelled / successes:.1%} of successful requests carry a quality score; intervals are wide.")
    if labelled:
        found.append(
            "Quality is corrected for which requests were scored as far as task, complexity, length, model and success explain it; "
            "scores that depend on the quality itself would bias it."
        )
    priced = float(cells.sums["n_cost"].sum())
    if n and priced < PRICED_SHARE * n:
        found.append(f"{1 - priced / n:.0%} of requests have no known cost; where they prevail, cost cannot be told.")
    if any(not each.matches for each in check):
        found.append("Logged propensities do not match the choices observed; they were replaced by observed shares.")
    if cells.binning.axis == "prompt_tokens":
        found.append("Complexity is not logged; prompt length stands in for it, and rules can only ask for prompt length.")
    return tuple(found)


class _Reader:
    """Statistics of one group of places under one action, over all clusters."""

    def __init__(self, cube: ScoreCube, places: list[int], action: int) -> None:
        sums = cube.chosen(np.full(cube.scores.shape[1], action), BOTH, np.array(places, dtype=np.int64))
        self.cost, self.latency = sums.mean(COST), sums.mean(LATENCY)
        # As seen. With the error that failures let expect, as the proof has it, no thinly tried model could be compared at all.
        self.success = replace(sums.mean(SUCCESS), expected_error=0.0)
        self.quality = sums.quality()


def _told(statistic: Statistic, why_not: str | None, *, bounds: tuple[float, float] | None = None, n: float = 0.0) -> Measured:
    if why_not is not None:
        return Unidentifiable(unidentifiable=why_not)
    return interval(statistic, ONE, bounds=bounds, n=n)


def _described(cube: ScoreCube, segment: Segment, found: Support, place: int, refusal: str | None) -> SegmentEvidence:
    cells = cube.cells
    places = [at for at, each in enumerate(cube.segments) if each.task == segment.task and segment.first <= each.first < segment.last]
    is_whole_task = segment.last - segment.first == cells.binning.levels and segment.id.count(".") == 0
    if is_whole_task:
        places.append(len(cube.segments) + segment.task)
    condition = when(cells.binning, segment.task, segment.first, segment.last)
    today = _Reader(cube, places, cube.keep)
    of = (cells.task == segment.task) & (
        np.ones(len(cells.task), dtype=bool) if is_whole_task else (cells.level >= segment.first) & (cells.level < segment.last)
    )
    counted = {name: float(values[of].sum()) for name, values in cells.sums.items()}
    n, labelled = counted["n"], counted["labelled"]
    no_cost = refusal or _unpriced(counted)
    no_latency = refusal or (None if counted["n_latency"] > 0 else "latency is not logged")
    no_quality = refusal or (None if labelled >= 2 else "no quality score in this segment; score some of its answers")
    return SegmentEvidence(
        id=segment.id,
        label=label(segment.task_type, condition),
        task_type=segment.task_type,
        when=condition,
        requests=round(n),
        labelled=round(labelled),
        share=0.0 if n == 0 else n / float(cells.sums["n"].sum()),
        cost_usd=_told(today.cost, no_cost),
        quality=_told(today.quality, no_quality, bounds=(0.0, 1.0), n=labelled),
        latency_ms=_told(today.latency, no_latency),
        success=_told(today.success, refusal, bounds=(0.0, 1.0), n=n),
        arms=tuple(_arm(cube, arm, places, found, place, today, n, (no_cost, no_latency, refusal)) for arm in range(len(cube.models))),
    )


def _unpriced(counted: dict[str, float]) -> str | None:
    if counted["n_cost"] == 0:
        return "cost is not logged and the models have no known price"
    if counted["n_cost"] < PRICED_SHARE * counted["n"]:
        return f"{1 - counted['n_cost'] / counted['n']:.0%} of these requests have no known cost"
    return None


def unsupported_because(found: Support, place: int, arm: int) -> str | None:
    """Why the logs cannot tell what a model would do in a segment; None when they can."""
    if found.supported[place, arm]:
        return None
    requests, labelled, covered = found.requests[place, arm], found.labelled[place, arm], found.covered[place, arm]
    if requests == 0:
        return "never sent here; route a small share at random to find out"
    if requests < MIN_SENT:
        return f"only {requests:.0f} requests were sent here; route a small share at random to find out"
    if labelled < MIN_LABELS:
        return f"only {labelled:.0f} of its answers here carry a quality score; score more of them"
    if covered >= MIN_COVERED:
        return (
            f"{requests:.0f} requests were sent here, but so unevenly that they count for {found.effective[place, arm]:.0f}; at least "
            f"{found.least_effective:.0f} are needed. Route a small share at random to find out"
        )
    return f"seen in only {covered:.0%} of this segment's range; route a small share of the rest at random to find out"


def _arm(
    cube: ScoreCube,
    arm: int,
    places: list[int],
    found: Support,
    place: int,
    today: _Reader,
    n: float,
    why_not: tuple[str | None, str | None, str | None],
) -> ArmEvidence:
    no_cost, no_latency, refusal = why_not
    unsupported = refusal or unsupported_because(found, place, arm)
    no_cost = unsupported or no_cost or (None if found.has_cost[place, arm] else "this model's cost is unknown here")
    no_latency = unsupported or no_latency or (None if found.has_latency[place, arm] else "this model's latency is unknown here")
    reader = _Reader(cube, places, arm)
    sent, labelled = found.requests[place, arm], found.labelled[place, arm]
    return ArmEvidence(
        model=cube.models[arm],
        requests=round(sent),
        labelled=round(labelled),
        share=0.0 if n == 0 else min(float(sent / n), 1.0),
        effective_sample_size=float(found.effective[place, arm]),
        min_propensity=float(found.min_propensity[place, arm]),
        supported=bool(found.supported[place, arm]) and refusal is None,
        cost_usd=_told(reader.cost, no_cost),
        quality=_told(reader.quality, unsupported, bounds=(0.0, 1.0), n=labelled),
        latency_ms=_told(reader.latency, no_latency),
        success=_told(reader.success, unsupported, bounds=(0.0, 1.0), n=sent),
        cost_change_usd=_told(reader.cost.minus(today.cost), no_cost),
        quality_change=_told(reader.quality.minus(today.quality), unsupported),
        latency_change_ms=_told(reader.latency.minus(today.latency), no_latency),
    )
