"""What a promise comes to per session: the same sessions, what they cost and how many requests they take.

Belongs here: turning a promise per request of today's into one per session. Does not belong here: how sessions are counted
(`policy.units`), the promise itself (`routing_rules`, `simulation`).

What a policy costs is summed over sessions and divided by the requests that these take today, so a session costs that times today's
requests of a session, and the relative change of the one is that of the other.
"""

from __future__ import annotations

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.proof import Evaluated
from routing_pipeline.recommendation.question import Question
from routing_pipeline.rules.model import Expected, ExpectedOfSessions, RelativeChange, SessionChange, SessionOutcomes
from routing_pipeline.stats.inference import POINTWISE, Statistic, interval

UNCHANGED = Estimate(estimate=0.0, low=0.0, high=0.0)


def of_sessions(question: Question, expected: Expected, then: Evaluated, now: Evaluated) -> Expected:
    """A promise with what it comes to per session; as it is where it is per call only."""
    return with_sessions(question.evidence, expected, then.calls.relative_to(now.calls))


def of_sessions_today(question: Question) -> ExpectedOfSessions | None:
    """Today's sessions on both sides: nothing changes."""
    today = _today(question.evidence, question.baseline.cost_usd)
    if today is None:
        return None
    return ExpectedOfSessions(
        baseline=today,
        proposed=today,
        change=SessionChange(cost_usd=RelativeChange(relative=UNCHANGED), requests=RelativeChange(relative=UNCHANGED)),
    )


def with_sessions(evidence: RoutingEvidence, expected: Expected, requests_change: Statistic) -> Expected:
    """The same from how many requests more the sessions take, relative to today."""
    today = _today(evidence, expected.baseline.cost_usd)
    if today is None or evidence.sessions is None:
        return expected
    change: Measured = interval(requests_change, POINTWISE)
    carried = evidence.sessions.carried_over
    if carried is not None and carried.requests is not None:
        # Nothing is carried over between requests that are decided one by one, as far as the test can tell: that far it is open.
        open_to = max(abs(carried.requests.low), abs(carried.requests.high))
        found = change if evidence.by_request and isinstance(change, Estimate) else UNCHANGED
        change = Estimate(estimate=found.estimate, low=found.low - open_to, high=found.high + open_to)
    if isinstance(expected.change.cost_usd.relative, Unidentifiable):
        change = expected.change.cost_usd.relative
    return expected.model_copy(
        update={
            "per_session": ExpectedOfSessions(
                baseline=today,
                proposed=SessionOutcomes(
                    cost_usd=_per_session(evidence, expected.proposed.cost_usd), requests=_changed(evidence.sessions.calls, change)
                ),
                change=SessionChange(cost_usd=expected.change.cost_usd, requests=RelativeChange(relative=change)),
            )
        }
    )


def _today(evidence: RoutingEvidence, cost_usd: Measured) -> SessionOutcomes | None:
    if evidence.unit != "session" or evidence.sessions is None:
        return None
    return SessionOutcomes(cost_usd=_per_session(evidence, cost_usd), requests=evidence.sessions.calls)


def _per_session(evidence: RoutingEvidence, cost_usd: Measured) -> Measured:
    calls = None if evidence.sessions is None else evidence.sessions.calls
    if isinstance(cost_usd, Unidentifiable) or not isinstance(calls, Estimate):
        return cost_usd if isinstance(cost_usd, Unidentifiable) else calls or Unidentifiable(unidentifiable="sessions are not logged")
    return cost_usd.scaled(calls.estimate)


def _changed(calls: Measured, change: Measured) -> Measured:
    """Requests of the same sessions after a relative change: today's are counted, so the change alone is uncertain."""
    if isinstance(calls, Unidentifiable) or isinstance(change, Unidentifiable):
        return change if isinstance(change, Unidentifiable) else calls
    return change.shifted(1.0).scaled(calls.estimate)
