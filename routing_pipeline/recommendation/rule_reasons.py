"""Why rules are proposed or not, in sentences: reasons, assumptions and warnings.

Does not belong here: the numbers in them (`joint_intervals`, `moved_traffic`), a rule's own text (`proposed_rules`).
"""

from __future__ import annotations

from collections.abc import Sequence

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.policy import evidence as evidence_, proof, search
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.pairs import Pair
from routing_pipeline.policy.proof import Evaluated, Verdict
from routing_pipeline.policy.search import Learned
from routing_pipeline.recommendation.applied_limits import AppliedLimit
from routing_pipeline.recommendation.joint_intervals import JointIntervals
from routing_pipeline.recommendation.moved_traffic import moved_shares, tipping_point
from routing_pipeline.recommendation.options import Offer, worst_hit
from routing_pipeline.recommendation.question import Question, limits_held
from routing_pipeline.recommendation.within_reach import Conflict
from routing_pipeline.rules.model import Grade
from routing_pipeline.window.scope import AnalysisScope

ASSUMPTIONS: tuple[str, ...] = (
    "Traffic stays as it was in the window: same kinds of request, same models behind the same names.",
    "Models do not slow down or fail more when they get more traffic.",
    "Requests answered from the cache stay answered from the cache.",
)


def assumptions_of(question: Question) -> tuple[str, ...]:
    """What has to be true beside the logs for the estimates to hold."""
    found = list(ASSUMPTIONS)
    if question.evidence.grade != "A":
        found.insert(0, "What decided today's routing is in the logs: nothing unlogged made the router send harder requests elsewhere.")
    found += question.evidence.assumptions
    if question.evidence.sessions is not None:
        found.append(question.evidence.sessions.told)
    found.append("Which answers were scored depends on task, complexity, length, model and success, and not on the score itself.")
    if question.cube.cells.binning.caches:
        found.append("A session that stays with one model is cached as the logs show it of calls whose model served the one before.")
    if any(each.requests_per_minute is not None for each in question.scope.parameters.capacities.values()):
        found.append("The mix of requests in the busiest hour is that of the whole window.")
    return tuple(found)


def warnings_of(question: Question, moved: float, tipping: Measured, strength: float | None = None) -> tuple[str, ...]:
    """What a reader of proposed rules must know; `moved`: share of requests that change model; `strength`: of the task type."""
    found = list(question.evidence.warnings)
    if question.evidence.grade != "A" and isinstance(tipping, Estimate):
        found.append(_hidden_warning(question, moved, tipping))
        if strength is not None:
            borne = max(tipping.low, 0.0)
            ratio = "would undo it" if strength > borne else "would not undo it"
            found.append(
                f"For comparison: had the task type not been logged, quality on the moved requests would be off by {100 * strength:.2g} points. "
                f"An unlogged factor as strong as that, in the same direction, {ratio}."
            )
    if question.limits.hidden_bias:
        found.append(
            f"Because of that grade, the quality limit was held with {question.limits.hidden_bias:g} to spare on every moved request."
        )
    found += repeated_test_warning(question)
    found += per_call_warnings(question.evidence, question.scope)
    if moved > 0.2:
        found.append(
            f"{100 * moved:.0f} % of requests change model: latency and failures under that load are extrapolated; roll out in steps."
        )
    if not question.has_latency:
        found.append("Latency is not logged for enough requests; the guard on slow requests was not applied.")
    return tuple(found)


def per_call_warnings(evidence: RoutingEvidence, scope: AnalysisScope) -> list[str]:
    """That costs and outcomes are of single calls, where they are, and what that leaves open: a task may take more calls of another model."""
    if evidence.unit == "session":
        return []
    carried = None if evidence.sessions is None else evidence.sessions.carried_over
    if evidence.by_request and carried is not None:
        return [f"Costs and outcomes of the requests that are decided one by one are per call only. {carried.told}"]
    return [_per_call(scope) + (f" {carried.told}" if carried is not None else "")]


def _per_call(scope: AnalysisScope) -> str:
    per_session = scope.requests / scope.sessions if scope.sessions else 1.0
    if per_session <= 1.0:
        return "Costs and outcomes are per call only: the logs have no sessions of more than one request."
    return (
        f"Costs and outcomes are per call only. A session holds {per_session:.1f} requests on average: where another model takes more calls "
        "for the same task, the task saves less than its calls, or costs more."
    )


def hypothesis_warnings(question: Question, verdicts: list[Verdict], intervals: JointIntervals, today: Evaluated) -> list[str]:
    """What a hypothesis would bear, for whoever acts on it without a proof."""
    if not verdicts:
        return []
    found = per_call_warnings(question.evidence, question.scope)
    if question.evidence.grade == "A":
        return found
    moved, _ = moved_shares(question.cube, verdicts[0].pair.shares)
    tipping = tipping_point(question, verdicts[0].outcome, today, moved, intervals)
    return [_hidden_warning(question, moved, tipping), *found] if isinstance(tipping, Estimate) else found


def _hidden_warning(question: Question, moved: float, tipping: Estimate) -> str:
    return (
        f"Evidence of grade {question.evidence.grade}: worth an A/B test, not yet a promise. {question.evidence.grade_reason} If an unlogged factor "
        f"made the answers of the {100 * moved:.0f} % moved requests look better by more than {100 * max(tipping.low, 0.0):.2g} points of 100 on average, the quality "
        "limit would not hold."
    )


def repeated_test_warning(question: Question) -> list[str]:
    """That earlier questions were put to the same held-out sessions, where there were any."""
    if question.test_number == 1:
        return []
    return [
        (
            f"This is question {question.test_number} to the same held-out sessions. To keep the error of all answers together within its limit, it was tested at a level of "
            f"{100 * proof.level_of(question.test_number):.2f} % instead of {100 * proof.level_of(1):.2f} %. New logs start the count again."
        )
    ]


VERB: dict[Grade, str] = {
    "A": "are estimated to",
    "B": "are worth an A/B test. According to these logs they would",
    "C": "are worth an A/B test at most. According to these logs they would",
}


def reasons_for(
    question: Question, learnt: tuple[Learned, Learned], offer: Offer, verdicts: list[Verdict], intervals: JointIntervals, today: Evaluated
) -> tuple[str, ...]:
    """Why these rules: their effect, their proof, the limits that decided, and what the next bolder ones failed."""
    best = offer.verdict
    cost, quality = intervals.cost_change(best.outcome, today), intervals.quality_change(best.outcome, today, has_passed=True)
    parts = []
    if isinstance(cost, Estimate):
        same = " for the same sessions" if question.evidence.unit == "session" else ""
        parts.append(f"change cost by {100 * cost.estimate:+.1f} % (between {100 * cost.low:+.1f} and {100 * cost.high:+.1f} %){same}")
    if isinstance(quality, Estimate):
        points = quality.scaled(100)
        parts.append(f"quality by {points.estimate:+.2f} points (between {points.low:+.2f} and {points.high:+.2f})")
    passed = sum(each.passed for each in verdicts)
    mends = all(search.today_breaks(each, question.limits) for each in learnt)
    boldest = "that meets the limit which today's routing breaks" if mends else "that improves the goal"
    said = [
        f"The rules {VERB[question.evidence.grade]} {' and '.join(parts)}, each part measured on sessions that its search never saw.",
        *_shared(best),
        (
            f"{passed} of {len(verdicts)} candidate rule set{'' if len(verdicts) == 1 else 's'} tested, from safest to boldest, met every limit at the safe end of its interval; "
            f"{_which(offer, boldest)}"
        ),
        *_worst(offer),
    ]
    if mends:
        said.append("Today's routing breaks a limit; these rules meet every limit, so they need not improve on today in the goal itself.")
    said += deciding_limits(limits_held(question, today))
    if question.cube.cells.binning.caches and question.evidence.sessions is not None and question.evidence.sessions.cache is not None:
        said.append(question.evidence.sessions.cache.told)
    if not verdicts[-1].passed:
        said.append(f"The next bolder candidate failed: {verdicts[-1].failed} could not be shown.")
    return tuple(said)


def _which(offer: Offer, boldest: str) -> str:
    if offer.id == "boldest":
        return f"this is the boldest of them {boldest}."
    if offer.id == "balanced":
        return "this one leaves at least half of the allowed fall of quality unused; bolder ones are among the options."
    return "this is the boldest of them by which quality is not expected to fall."


def _worst(offer: Offer) -> list[str]:
    """The task that the mean hides."""
    worst = worst_hit(offer.tasks)
    if worst is None or isinstance(worst.quality_change, Unidentifiable):
        return []
    change = worst.quality_change.scaled(100)
    by_itself = f"by itself it was estimated at {change.estimate:+.2f} (between {change.low:+.2f} and {change.high:+.2f})"
    expected = f"its quality is expected to change by {100 * worst.expected_change:+.2f} points; {by_itself}."
    return [f"Of all tasks {worst.task_type} {'is hit worst' if worst.expected_change < 0 else 'gains least'}: {expected}"]


def _shared(best: Verdict) -> list[str]:
    """That some kinds of request are shared between two models, and why."""
    if not (best.pair.shares.max(axis=1) < 1.0).any():
        return []
    return [
        "Each half of the sessions was searched, and proven on the other half.",
        "Where the halves chose different models, each of the two gets half of those requests (--single asks for one model everywhere).",
    ]


def deciding_limits(limits: Sequence[AppliedLimit]) -> list[str]:
    """Sentences where several limits speak of the same thing, the one that decides first."""
    several = {kind for kind in ("quality", "cost") if sum(each.kind == kind for each in limits) > 1}
    return [each.text for each in sorted(limits, key=lambda each: not each.decides) if each.kind in several]


def reasons_against(question: Question, path: list[Pair], verdicts: list[Verdict], conflicts: list[Conflict]) -> list[str]:
    """Why no change: limits in conflict, a lack of scores or of models tried, or the proof that failed."""
    found = [f"No change is recommended: {each.said}." for each in conflicts]
    found += deciding_limits(limits_held(question, proof.today_of(question.halves)))
    if not path:
        left = question.cube.left(question.limits.needs)
        if left.all():
            parts = [part for part in question.evidence.unknown if part.outcome in question.limits.needs]
            named = ", ".join(evidence_.part_in_words(part) for part in parts[: evidence_.PARTS_TOLD])
            found.append(
                "No change is recommended: of every kind of request, a part is answered today by models whose answers are not scored, or "
                f"whose cost is not known ({named}). The effect of other routing there cannot be estimated; score some of their answers, "
                "or name their prices."
            )
        elif not any(search.eligibility(cube, question.limits)[:, :-1].any() for cube in (question.halves.first, question.halves.second)):
            found.append(
                "No change is recommended: no model was tried widely enough, with scored answers, where another one serves today. "
                "Route a small share at random to find out."
            )
        else:
            found.append("No change is recommended: no alternative promised enough within the limits.")
    elif not verdicts[0].passed:
        found.append(f"No change is recommended: even the safest candidate failed its proof; {verdicts[0].failed} could not be shown.")
    else:
        per_task = "" if question.limits.max_task_drop >= 1.0 else ", with no task falling by more than its own limit"
        found.append(f"No change is recommended: candidates met the limits, but none was shown to improve the goal{per_task}.")
    return found
