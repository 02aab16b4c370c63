"""A policy as rules that a gateway can load, each with its own effect, evidence and reason.

Does not belong here: which requests make one rule (`policy.rule_blocks`), choosing the policy (`routing_rules`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routing_pipeline.estimates import Estimate
from routing_pipeline.parameters import Goal
from routing_pipeline.policy import proof, rule_blocks as rules_
from routing_pipeline.policy.pairs import Pair
from routing_pipeline.policy.proof import Evaluated
from routing_pipeline.policy.scores import COST
from routing_pipeline.recommendation.joint_intervals import JointIntervals
from routing_pipeline.recommendation.moved_traffic import moved_spend_of_block
from routing_pipeline.recommendation.question import Question
from routing_pipeline.recommendation.risk_levels import risk_of_rule
from routing_pipeline.recommendation.validation_criteria import of_a_rule
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.model import Rule, RuleEvidence, Unit, WeightedModel, id_of
from routing_pipeline.stats.inference import simultaneous
from routing_pipeline.window.scope import AnalysisScope


def id_of_rules(scope: AnalysisScope, goal: Goal, rules: Sequence[Rule] = ()) -> str:
    """Id of the rule set that answers a question on a window with these rules."""
    said = [rule.model_dump_json(include={"when", "route", "fallbacks"}) for rule in rules]
    return id_of(scope.end, scope.key, scope.parameters.model_dump_json(), goal, *said)


def rules_of_policy(question: Question, pair: Pair) -> tuple[tuple[Rule, ...], tuple[RuleImpact, ...]]:
    """The policy as rules, most traffic first, with what each does; reading them back gives the same policy."""
    halves, cube = question.halves, question.cube
    blocks = rules_.blocks_of(cube, pair.shares)
    pairs = []
    for block in blocks:
        places = np.array(block.places)
        pairs.append((proof.proven(halves, pair, places), proof.today_of(halves, places)))
    # Rules stand one beside the other, so their intervals hold together too, each rule with its own today.
    critical = {}
    for name in ("cost", "quality", "latency"):
        both = [(getattr(then, name), getattr(now, name)) for then, now in pairs]
        critical[name] = simultaneous([each for pair in both for each in pair])
        critical[f"{name} change"] = simultaneous([change for then, now in both for change in (then - now, then.relative_to(now))])
    intervals = JointIntervals(question, critical)
    today = proof.today_of(halves).quality.value
    tolerance = max(today - question.limits.floor(today), 0.0)
    found = [
        (_impact(question, place, block, then, now, intervals), block, then, now)
        for place, (block, (then, now)) in enumerate(zip(blocks, pairs, strict=True), start=1)
    ]
    return (
        tuple(_rule(question, place, *each, intervals, tolerance) for place, each in enumerate(found, start=1)),
        tuple(impact for impact, *_ in found),
    )


def _impact(
    question: Question, priority: int, block: rules_.Block, then: Evaluated, now: Evaluated, intervals: JointIntervals
) -> RuleImpact:
    cube, places = question.cube, list(block.places)
    by_model = cube.all.requests[places].sum(axis=0)
    requests = rules_.requests_of(cube, places)
    total = max(float(by_model.sum()), 1e-300)
    change = intervals.change(then, now)
    priced = float(cube.counted[:, places, COST].sum())
    per_day = (now.cost - then.cost).scaled(priced / max(question.scope.covered_days, 1e-9))
    return RuleImpact(
        rule_id=f"r{priority}",
        requests=round(requests),
        share=min(requests / max(question.evidence.requests, 1), 1.0),
        moved_share=min(
            max(1.0 - sum(share * float(by_model[arm]) for arm, share in block.route) / max(rules_.units_of(cube, places), 1.0), 0.0), 1.0
        ),
        moved_spend_share=moved_spend_of_block(cube, block),
        today=tuple(
            WeightedModel(model=cube.models[arm], weight=min(float(by_model[arm]) / total, 1.0))
            for arm in np.argsort(-by_model, kind="stable").tolist()
            if by_model[arm] > 0
        ),
        baseline=intervals.outcomes(now),
        saving_usd_per_day=intervals.saving(per_day),
        cost_change=change.cost_usd.relative,
        quality_change=intervals.quality_change(then, now),
        latency_change=change.latency_ms.relative,
    )


def _rule(
    question: Question,
    priority: int,
    impact: RuleImpact,
    block: rules_.Block,
    then: Evaluated,
    now: Evaluated,
    intervals: JointIntervals,
    tolerance: float,
) -> Rule:
    cube, places = question.cube, list(block.places)
    share = rules_.requests_of(cube, places) / max(question.evidence.requests, 1)
    sent = min(float(cube.all.requests[places, arm].sum()) for arm in block.arms)
    already = sent / max(rules_.units_of(cube, places), 1.0)
    expected = intervals.outcomes(then)
    per = question.evidence.per_of(block.condition.task_type)
    requests, sessions = rules_.requests_of(cube, places), _sessions_of(question, places) if per == "session" else None
    return Rule(
        id=f"r{priority}",
        priority=priority,
        per=per,
        when=block.condition,
        route=tuple(WeightedModel(model=cube.models[arm], weight=share) for arm, share in block.route),
        fallbacks=rules_.fallbacks(cube, block),
        rationale=_rationale(question, block, share, already, intervals, then, now),
        evidence=RuleEvidence(
            requests=round(requests),
            sessions=sessions,
            labelled=round(float(cube.all.labelled[places].sum())),
            effective_sample_size=min(float(cube.all.effective[places, arm].sum()) for arm in block.arms),
            min_propensity=float(cube.all.min_propensity[np.ix_(places, block.arms)].min()),
            grade=question.evidence.grade,
        ),
        expected=expected,
        effort="Low" if already >= 0.05 else "Medium",
        risk=risk_of_rule(question.evidence.grade, impact, tolerance).level,
        validation_criteria=of_a_rule(
            expected, impact.baseline, (then.success.value, now.success.value), tolerance, requests / sessions if sessions else None
        ),
    )


def _sessions_of(question: Question, places: list[int]) -> int:
    """Sessions that a rule decides for; of those whose requests were decided one by one, as the mean has it."""
    evidence = question.evidence
    units = rules_.units_of(question.cube, places)
    calls = None if evidence.sessions is None else evidence.sessions.calls
    return round(units / calls.estimate if question.cube.cells.binning.caches and isinstance(calls, Estimate) else units)


def _costs(per: Unit, then: Evaluated, now: Evaluated) -> str:
    if per == "request":
        return f"they would cost about ${then.cost.value * 1000:.3f} per 1,000 instead of ${now.cost.value * 1000:.3f}"
    change = then.cost.relative_to(now.cost).value
    return (
        f"the same sessions would cost about {100 * abs(change):.0f} % {'less' if change < 0 else 'more'}, with {then.calls.value:.2f} "
        "times as many requests"
    )


def _rationale(
    question: Question, block: rules_.Block, share: float, already: float, intervals: JointIntervals, then: Evaluated, now: Evaluated
) -> str:
    cube = question.cube
    sent = cube.all.requests[list(block.places)].sum(axis=0)
    most = int(sent.argmax())
    total = max(rules_.units_of(cube, block.places), 1.0)
    model = " and ".join(cube.models[arm] for arm in block.arms)
    elsewhere = "" if most in block.arms else f" and {100 * already:.0f} % to {model}"
    if len(block.arms) > 1:
        model = f"{model}, half each,"
    per = question.evidence.per_of(block.condition.task_type)
    units = "requests" if per == "request" or cube.cells.binning.caches else "sessions"
    text = f"{100 * share:.1f} % of requests; today {100 * sent[most] / total:.0f} % of {'them' if units == 'requests' else 'their sessions'} go to "
    text += f"{cube.models[most]}{elsewhere}."
    if question.has_cost:
        text += f" Sent to {model} {_costs(per, then, now)}"
    else:
        text += f" Sent to {model.removesuffix(',')}"
    text += f", at a quality of about {then.quality.value:.3f} instead of {now.quality.value:.3f}"
    quality = intervals.quality_change(then, now)
    if isinstance(quality, Estimate):
        text += f" (change between {quality.low:+.3f} and {quality.high:+.3f})"
    if question.has_latency:
        text += f" and {then.latency.value / 1000:.2f} s instead of {now.latency.value / 1000:.2f} s"
    if question.evidence.grade != "A":
        text += ". Worth an A/B test"
    return text + "."
