"""Gathering evidence: from request rows to what the logs can tell about choices not made.

Belongs here: refusals, and summing the score cube up for readers. Does not belong here: how
scores are computed (`policy.scores`), the shape of the result (`policy.evidence_model`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import ibis
import numpy as np
from numpy.typing import NDArray

from routing_pipeline import text
from routing_pipeline.estimates import Measured, Unidentifiable
from routing_pipeline.policy import cells as cells_
from routing_pipeline.policy.audit import audited
from routing_pipeline.policy.counting import as_counted
from routing_pipeline.policy.evidence_model import (
    ArmEvidence,
    HalfEvidence,
    PropensityCheck,
    RoutingEvidence,
    SegmentEvidence,
    SteeringTest,
    TodayEvidence,
    UnknownPart,
)
from routing_pipeline.policy.grade import audit_warning, grade_of, propensity_check, steering_warning
from routing_pipeline.policy.incident_free import unusual_hours, warnings_of
from routing_pipeline.policy.judge_check import judge_check
from routing_pipeline.policy.kinds import feasibility_told, window_needs
from routing_pipeline.policy.known_parts import COUNTED, ENOUGH, MAX_UNKNOWN, Known, unknown_parts
from routing_pipeline.policy.scores import BOTH, COST, LATENCY, LEARN, PROVE, SUCCESS, ScoreCube, score_cube
from routing_pipeline.policy.segments import Segment, label, when
from routing_pipeline.policy.support import MIN_COVERED, MIN_LABELS, MIN_SENT, Support, joined, support
from routing_pipeline.policy.unit_cells import cells_of_units, decided_in, told_of_units
from routing_pipeline.policy.window_scores import account_of
from routing_pipeline.rules.model import NEEDS
from routing_pipeline.stats.inference import NOT_NEGATIVE, POINTWISE, SHARE, Statistic, interval
from routing_pipeline.window.scope import AnalysisScope

MIN_REQUESTS = 1_000
MIN_CLUSTERS = 30
PRICED_SHARE = 0.95
"""Share of requests that must have a cost (a latency) before a mean is told, where their models have one at all."""
FEW_LABELS = 0.05


def gather_evidence(requests: ibis.Table, scope: AnalysisScope, *, cells_path: Path) -> RoutingEvidence:
    """Sufficient statistics of the window, written to `cells_path`, and what they say per task, segment and model.

    Args:
        requests: conformed rows, schema.SCOPED_REQUESTS, grain one attempt: the window's, or the scope's sample of them.
        scope: the window; of it only `router_inputs` and the size of the sample are used, the rows speak.
        cells_path: Parquet file to write; at most about a million rows.

    Returns:
        Estimates per request with 95 % intervals, errors clustered by session. With under MIN_REQUESTS requests, under
        MIN_CLUSTERS clusters of sessions or without any label, `refusal` says so and every estimate is Unidentifiable.
    """
    inputs = frozenset(scope.parameters.router_inputs)
    account, counting = account_of(requests, scope.parameters.max_score_share)
    requests = as_counted(requests, counting)
    needs = window_needs(requests, scope.parameters)
    decided = decided_in(requests)
    unusual = unusual_hours(requests.filter(requests.is_final))
    table, tests = cells_of_units(requests, decided, needs, unusual, counting)
    if table is None:
        return _nothing()
    cells_.write_cells(table, cells_path)
    cube = read_scores(str(cells_path))
    found = summarised(cube, str(cells_path), router_inputs=inputs, steering=tests)
    account = account.model_copy(update={"judge": judge_check(cube.cells)})
    return found.model_copy(
        update={
            **told_of_units(decided),
            "sampled": scope.sampled,
            "feasibility": feasibility_told(requests, needs),
            "assumptions": needs.assumptions,
            "unusual": unusual,
            "scores": account,
            "warnings": (*found.warnings, *account.told, *needs.warnings, *warnings_of(unusual)),
        }
    )


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
        return f"{text.counted(clusters, 'group')} of sessions {'is' if clusters == 1 else 'are'} too few for honest intervals; at least {MIN_CLUSTERS} are needed (is session_id logged?)"
    if labelled == 0:
        return "no request carries a quality score; log quality_score with the request or hand over feedback"
    return None


def summarised(
    cube: ScoreCube, cells_uri: str, *, router_inputs: frozenset[str] = frozenset(), steering: tuple[SteeringTest, ...] = ()
) -> RoutingEvidence:
    """The score cube in words and intervals."""
    cells = cube.cells
    n, labelled, calls = (float(cells.sums[name].sum()) for name in ("n", "labelled", "calls"))
    clusters = int((cube.requests.sum(axis=1) > 0).sum())
    refusal = refusal_of(calls, labelled, clusters)
    check = propensity_check(cells)
    uses_weights = cells.knows_weights
    audit = None if refusal else audited(cube)
    grade, reason = grade_of(
        cells, weights_match=bool(check) and not cells.distrusts_weights, router_inputs=router_inputs, steering=steering, audit=audit
    )
    axis = cells.binning.axis
    tasks = tuple(Segment(f"t{place + 1}", place, name, 0, cells.binning.levels) for place, name in enumerate(cells.binning.tasks))
    parts_of_task = [[place for place, each in enumerate(tasks) if each.task_type == name] for name in dict.fromkeys(cells.binning.tasks)]
    by_task = joined(support(cells, cube.nuisances, tasks, learning=False), parts_of_task, cells)
    supported = cube.all.supported
    weight = cube.requests[:, : len(cube.segments)].sum(axis=0)
    parts = unknown_parts(cells, cube.known)
    pairs = weight.sum() * max(len(cube.models), 1)
    return RoutingEvidence(
        grade=grade,
        grade_reason=reason,
        requests=round(calls),
        labelled=round(labelled),
        clusters=clusters,
        propensities="logged" if uses_weights else "estimated",
        propensity_check=check,
        steering=steering,
        audit=audit,
        complexity="logged" if axis == "complexity" else "derived" if axis == "prompt_tokens" else "absent",
        tasks=tuple(_described(cube, tasks[own[0]], by_task, place, refusal, kinds=tuple(own)) for place, own in enumerate(parts_of_task)),
        segments=tuple(_described(cube, segment, cube.all, place, refusal) for place, segment in enumerate(cube.segments)),
        unsupported_share=1.0 if pairs == 0 or refusal else float((weight[:, None] * ~supported).sum() / pairs),
        today=_today(cube, refusal),
        unknown=parts,
        warnings=(
            *_warnings(cube, check, n, labelled, parts),
            *(() if grade == "A" else (*steering_warning(steering), *audit_warning(audit))),
        ),
        refusal=refusal,
        cells_uri=cells_uri,
    )


def _today(cube: ScoreCube, refusal: str | None) -> TodayEvidence:
    """Means over all sessions and everything, what no rule reaches included: the one baseline of whatever is proposed."""
    everywhere = list(range(cube.scores.shape[1]))
    today = _Reader(cube, everywhere, cube.keep)
    cells = cube.cells
    labelled, n = (float(cells.sums[name].sum()) for name in ("labelled", "n"))
    return TodayEvidence(
        cost_usd=_told(today.cost, refusal or untold(cube, "cost"), bounds=NOT_NEGATIVE),
        quality=_told(today.quality, refusal, bounds=SHARE, n=labelled),
        latency_ms=_told(today.latency, refusal or untold(cube, "latency"), bounds=NOT_NEGATIVE),
        success=_told(today.success, refusal, bounds=SHARE, n=n),
        **{f"{outcome}_share": min(cube.known.share(cells, outcome), 1.0) for outcome in COUNTED},
    )


_NOTHING: dict[Known, str] = {
    "cost": "cost is not logged and the models have no known price",
    "latency": "latency is not logged",
    "quality": "no quality score in this segment; score some of its answers",
}
_LACKING: dict[Known, str] = {"cost": "have no known cost", "latency": "have no logged latency", "quality": "are not scored"}


def untold(cube: ScoreCube, outcome: Known, of: NDArray[np.bool_] | None = None, *, least: float = PRICED_SHARE) -> str | None:
    """Why no mean of today's cost or latency is told of some cells (None: of all); None when one is.

    Models of which the outcome is never known are no part of the mean, as long as they are not most of the traffic; of the
    others so much must be known.
    """
    cells = cube.cells
    cells_of = np.ones(len(cells.arm), dtype=bool) if of is None else of
    observed, base = COUNTED[outcome]
    is_known = cube.known.of_cells(cells, outcome)
    seen, counted, all_ = (
        float(values[cells_of].sum()) for values in (cells.sums[observed] * is_known, cells.sums[base] * is_known, cells.sums[base])
    )
    if seen == 0:
        return _NOTHING[outcome]
    if counted < ENOUGH * all_ or seen < least * counted:
        return f"{100 * (1 - float(cells.sums[observed][cells_of].sum()) / all_):.0f} % of these requests {_LACKING[outcome]}"
    return None


def _not_comparable(cube: ScoreCube, outcome: Known, places: list[int]) -> str | None:
    """Why changes of an outcome against today cannot be told of these places; None when they can."""
    unknown = float(cube.known.unknown[outcome][places].sum()) / max(float(cube.requests[:, places].sum()), 1e-300)
    if not cube.known.left[outcome][places].any() or unknown <= MAX_UNKNOWN:
        return None
    lacking = {"cost": "whose cost is not known", "latency": "whose latency is not logged", "quality": "whose answers are not scored"}
    return f"{100 * unknown:.0f} % of these requests go to models {lacking[outcome]} today, so there is nothing to compare with"


def part_in_words(part: UnknownPart) -> str:
    """Who it is and how much, e.g. `gpt-4o on code (12 %)`."""
    if part.team is not None:
        who = "requests without a team" if not part.team else f"team {part.team}"
    else:
        who = " on ".join(name for name in (part.model, part.task_type) if name is not None)
    few = f", {part.observed:,} of {part.of:,}" if part.observed else ""
    return f"{who} ({100 * part.share:.3g} %{few})"


PARTS_TOLD = 3
_WORDS: dict[Known, tuple[str, str, str]] = {
    "quality": ("Quality", "answers", "scored"),
    "cost": ("Cost", "requests", "priced"),
    "latency": ("Latency", "requests", "timed"),
}


def _of_unknown(cube: ScoreCube, parts: tuple[UnknownPart, ...]) -> list[str]:
    """What the means leave out, one warning per outcome."""
    said = []
    for outcome, (name, counted, verb) in _WORDS.items():
        mine = [part for part in parts if part.outcome == outcome]
        share = cube.known.share(cube.cells, outcome)
        if not mine or share == 0.0:
            continue
        rest = f" and {len(mine) - PARTS_TOLD} more" if len(mine) > PARTS_TOLD else ""
        left = (
            f" Kinds of request of which they are more than {100 * MAX_UNKNOWN:.0f} % are left as they are." if outcome != "latency" else ""
        )
        said.append(
            f"{name} today is that of {100 * share:.3g} % of the {counted}. The others are never {verb}, or too seldom to tell: "
            f"{', '.join(map(part_in_words, mine[:PARTS_TOLD]))}{rest}.{left}"
        )
    return said


def _warnings(
    cube: ScoreCube, check: tuple[PropensityCheck, ...], n: float, labelled: float, parts: tuple[UnknownPart, ...]
) -> tuple[str, ...]:
    cells = cube.cells
    found = _of_unknown(cube, parts)
    successes = float(cells.sums["success"].sum())
    if labelled and labelled < FEW_LABELS * successes:
        found.append(f"Only {100 * labelled / successes:.1f} % of successful requests carry a quality score; intervals are wide.")
    if labelled:
        found.append(
            "Quality is corrected for which requests were scored as far as task, complexity, length, model and success explain it; "
            "scores that depend on the quality itself would bias it."
        )
    priced = float(cells.sums["n_cost"].sum())
    if n and priced < PRICED_SHARE * n:
        found.append(f"{100 * (1 - priced / n):.0f} % of requests have no known cost; where they prevail, cost cannot be estimated.")
    if any(not each.matches for each in check):
        found.append("Logged propensities do not match the choices observed; they were replaced by observed shares.")
    if cells.binning.axis == "prompt_tokens":
        found.append("Complexity is not logged; prompt length stands in for it, and rules can only ask for prompt length.")
    return tuple(found)


class _Reader:
    """Statistics of one group of places under one action, over some of the clusters."""

    def __init__(self, cube: ScoreCube, places: list[int], action: int, clusters: slice = BOTH) -> None:
        sums = cube.chosen(np.full(cube.scores.shape[1], action), clusters, np.array(places, dtype=np.int64))
        self.cost, self.latency = sums.mean(COST), sums.mean(LATENCY)
        # As seen. With the error that failures let expect, as the proof has it, no thinly tried model could be compared at all.
        self.success = sums.mean(SUCCESS)
        self.quality = replace(sums.quality(), expected_error=0.0)


def _told(statistic: Statistic, why_not: str | None, *, bounds: tuple[float, float] | None = None, n: float = 0.0) -> Measured:
    if why_not is not None:
        return Unidentifiable(unidentifiable=why_not)
    return interval(statistic, POINTWISE, bounds=bounds, n=n)


def _described(
    cube: ScoreCube, segment: Segment, found: Support, place: int, refusal: str | None, *, kinds: tuple[int, ...] = ()
) -> SegmentEvidence:
    """A segment, or with `kinds` the whole task that these are the parts of."""
    cells = cube.cells
    is_whole_task, own = bool(kinds), kinds or (segment.task,)
    places = [at for at, each in enumerate(cube.segments) if each.task in own and segment.first <= each.first < segment.last]
    places += [len(cube.segments) + task for task in kinds]
    condition = when(cells.binning, segment.task, segment.first, segment.last)
    if len(kinds) > 1:
        whole = {"prompt_tokens": None, "team": cells.binning.teams or None, **dict.fromkeys(NEEDS)}
        condition = condition.model_copy(update=whole)
    today = _Reader(cube, places, cube.keep)
    of = np.isin(cells.task, own) & (
        np.ones(len(cells.task), dtype=bool) if is_whole_task else (cells.level >= segment.first) & (cells.level < segment.last)
    )
    counted = {name: float(values[of].sum()) for name, values in cells.sums.items()}
    n, labelled = counted["n"], counted["labelled"]
    no_cost, no_latency = refusal or untold(cube, "cost", of), refusal or untold(cube, "latency", of, least=0.0)
    answered = float((cells.sums["answered"] * cube.known.of_cells(cells, "quality"))[of].sum())
    why_not = (no_cost, no_latency, refusal)
    calls = np.bincount(cells.arm[of], cells.sums["calls"][of], minlength=len(cube.models) + 1)
    no_quality = refusal or (None if labelled >= 2 and answered > 0 else _NOTHING["quality"])
    return SegmentEvidence(
        id=segment.id,
        label=label(segment.task_type, condition),
        task_type=segment.task_type,
        when=condition,
        requests=round(counted["calls"]),
        labelled=round(labelled),
        share=0.0 if n == 0 else counted["calls"] / float(cells.sums["calls"].sum()),
        cost_usd=_told(today.cost, no_cost, bounds=NOT_NEGATIVE),
        quality=_told(today.quality, no_quality, bounds=SHARE, n=labelled),
        quality_share=min(answered / max(counted["success"], 1e-300), 1.0) if counted["success"] else 1.0,
        latency_ms=_told(today.latency, no_latency, bounds=NOT_NEGATIVE),
        success=_told(today.success, refusal, bounds=SHARE, n=n),
        arms=tuple(
            _arm(cube, arm, places, found, place, today, n, why_not, has_halves=not is_whole_task, kinds=own, calls=float(calls[arm]))
            for arm in range(len(cube.models))
        ),
    )


def infeasible_because(cube: ScoreCube, kinds: tuple[int, ...], arm: int) -> str | None:
    """Why a model may serve none of these kinds of request; None when it may serve one."""
    said = [cube.cells.binning.infeasible_because(task, arm) for task in kinds]
    return None if None in said else f"it may not serve these: {said[0]}"


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
            f"{found.least_effective[place, 0]:.0f} are needed. Route a small share at random to find out"
        )
    return f"seen in only {100 * covered:.0f} % of this segment's range; route a small share of the rest at random to find out"


def _arm(
    cube: ScoreCube,
    arm: int,
    places: list[int],
    found: Support,
    place: int,
    today: _Reader,
    n: float,
    why_not: tuple[str | None, str | None, str | None],
    *,
    has_halves: bool,
    kinds: tuple[int, ...],
    calls: float,
) -> ArmEvidence:
    no_cost, no_latency, refusal = why_not
    unsupported = refusal or infeasible_because(cube, kinds, arm) or unsupported_because(found, place, arm)
    no_cost = unsupported or no_cost or (None if found.has_cost[place, arm] else "this model's cost is unknown here")
    no_latency = unsupported or no_latency or (None if found.has_latency[place, arm] else "this model's latency is unknown here")
    reader = _Reader(cube, places, arm)
    why_no_change = (
        no_cost or _not_comparable(cube, "cost", places),
        unsupported or _not_comparable(cube, "quality", places),
        no_latency or _not_comparable(cube, "latency", places),
    )
    learnt, held_out = (
        _half(cube, arm, places, clusters, why_no_change) if has_halves and unsupported is None else None for clusters in (LEARN, PROVE)
    )
    sent, labelled = found.requests[place, arm], found.labelled[place, arm]
    return ArmEvidence(
        model=cube.models[arm],
        requests=round(calls),
        labelled=round(labelled),
        share=0.0 if n == 0 else min(float(sent / n), 1.0),
        effective_sample_size=float(found.effective[place, arm]),
        min_propensity=float(found.min_propensity[place, arm]),
        supported=unsupported is None,
        cost_usd=_told(reader.cost, no_cost, bounds=NOT_NEGATIVE),
        quality=_told(reader.quality, unsupported, bounds=SHARE, n=labelled),
        latency_ms=_told(reader.latency, no_latency, bounds=NOT_NEGATIVE),
        success=_told(reader.success, unsupported, bounds=SHARE, n=sent),
        cost_change_usd=_told(reader.cost - today.cost, why_no_change[0]),
        quality_change=_told(reader.quality - today.quality, why_no_change[1]),
        latency_change_ms=_told(reader.latency - today.latency, why_no_change[2]),
        learnt=learnt,
        held_out=held_out,
    )


def _half(
    cube: ScoreCube, arm: int, places: list[int], clusters: slice, why_not: tuple[str | None, str | None, str | None]
) -> HalfEvidence:
    """The changes on one half of the sessions."""
    then, now = _Reader(cube, places, arm, clusters), _Reader(cube, places, cube.keep, clusters)
    return HalfEvidence(
        cost_change_usd=_told(then.cost - now.cost, why_not[0]),
        quality_change=_told(then.quality - now.quality, why_not[1]),
        latency_change_ms=_told(then.latency - now.latency, why_not[2]),
    )
