"""The first page: what we spent, what we could save, what we ask to approve, what could go wrong.

Belongs here: four answers in plain words for whoever decides, each with one large figure, its range, and where its evidence
stands. Does not belong here: the numbers themselves, words of the trade (they begin on page two), the lines for a terminal
(`headlines`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.policy.rule_set import Grade
from routing_pipeline.recommendation.optimization_risks import Chance
from routing_pipeline.report import headlines, periods, places, wording
from routing_pipeline.report.assembly import Report
from routing_pipeline.report.checklist import quality_lines

CERTAINTY: dict[Grade, str] = {
    "A": "How sure: as sure as after an experiment, because the router chose partly by chance and the logs say by how much.",
    "B": "How sure: measured on traffic that was kept aside, with everything in view that the router goes by; but nobody has tried it "
    "yet. Expect it, and confirm it in a trial before it enters a budget.",
    "C": "How sure: measured on traffic that was kept aside, but part of what the router goes by may be missing from the logs, and the "
    "figures too good for that. A good reason for a trial, not a promise.",
}

BY_WHOM = "The platform team sets each step in the gateway; nothing splits traffic or turns back by itself."


@dataclass(frozen=True)
class Card:
    """One question of a manager and its answer; `evidence` are titles of places in the report, the most direct first."""

    question: str
    figure: str
    unit: str
    range: str | None
    sentences: tuple[str, ...]
    evidence: tuple[str, ...]
    command: str | None = None
    """What to type, to be shown so that it can be copied."""


def cards(report: Report) -> tuple[Card, Card, Card, Card]:
    """The four answers of page one."""
    return (_spent(report), _saved(report), _asked(report), _risked(report))


def _spent(report: Report) -> Card:
    costs, scope = report.routing_costs, report.scope
    total = costs.total_usd
    known = not isinstance(total, Unidentifiable)
    return Card(
        question="What we spent",
        figure=wording.usd(total) if isinstance(total, float | int) else "Cannot tell",
        unit=f"in {periods.span(scope.days)}, for {wording.count(scope.requests)} requests",
        range="counted from the logs" if known else None,
        sentences=tuple(_spending(report)),
        evidence=(places.COSTS,) if known else (places.COSTS, places.DATA),
    )


def _spending(report: Report) -> Iterator[str]:
    costs, quality = report.routing_costs, report.quality_metrics.overall.quality_corrected
    if isinstance(costs.total_usd, Unidentifiable):
        yield wording.name(costs.total_usd.unidentifiable, wording.LONGEST_TEXT)
    elif report.scope.requests:
        yield f"That is {wording.usd(1000 * costs.total_usd / report.scope.requests)} per 1,000 requests."
    if costs.unpriced.attempts_without_list_price:
        yield f"{wording.count(costs.unpriced.attempts_without_list_price)} calls have no known price and are not in it."
    month = None if isinstance(costs.total_usd, Unidentifiable) else periods.month_spend(report)
    if month is not None:
        yield month
    if isinstance(quality, Estimate):
        yield f"The answers scored {wording.plainly(quality.scaled(100), wording.tenths, 'of 100 on average')}."
    else:
        yield "How good the answers were cannot be told: too few of them were scored."


# --- what we could save


def _saved(report: Report) -> Card:
    rules, refusal = report.routing_rules, report.routing_evidence.refusal
    question = "What we could gain" if rules.rule_set.goal in {"speed", "quality"} else "What we could save"
    if refusal is not None:
        more = report.scope.days_to_collect
        wait = () if not more else (f"About {wording.days(more)} more of logs like these would be enough.",)
        why = f"These logs cannot show what other routing would do: {wording.name(refusal, wording.LONGEST_TEXT)}"
        return Card(question, "Cannot tell", "from these logs", None, (_stop(why), *wait), (places.LOGS_TELL,))
    if not rules.rule_set.rules:
        return Card(
            question, "Nothing", "that could be shown on these logs", None, tuple(_why_nothing(report)), (places.RULES, places.PROOF)
        )
    figure, unit, between = _gain(report)
    month = periods.month_saving(report, headlines.cost_reduction(rules.rule_set))
    told = [each for each in (_in_other_terms(report), month, _on_quality(report), _on_speed(report)) if each is not None]
    return Card(
        question,
        figure,
        unit,
        between,
        (*told, CERTAINTY[headlines.grade_of(report)]),
        (places.PROOF, places.OUTCOMES),
    )


def _stop(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _why_nothing(report: Report) -> Iterator[str]:
    yield "We recommend to change nothing. That is a finding, not a failure: nothing better than today could be shown with enough certainty."
    hypothesis = report.routing_rules.hypothesis
    if hypothesis is not None:
        needed = hypothesis.requests_needed
        after = "" if needed is None else f"; about {wording.count(needed)} requests would decide it"
        change = wording.plainly(hypothesis.cost_change, wording.change)
        yield f"What looked best would change cost by {change}, too uncertain to act on{after}."


def _gain(report: Report) -> tuple[str, str, str | None]:
    """The goal's own figure, its unit, and its range."""
    rules = report.routing_rules
    if rules.rule_set.goal == "speed":
        faster = headlines.speed_gain(rules.rule_set)
        return _figure(faster, wording.percent), "faster on average", wording.likely(faster, wording.percent)
    if rules.rule_set.goal == "quality":
        better = headlines.quality_change(rules)
        return _figure(better, wording.of_100), "points of 100 in quality", wording.likely(better, wording.of_100)
    saving, total = periods.saving(report), report.routing_costs.total_usd
    is_dearer = isinstance(saving, Estimate) and saving.estimate < 0
    shown = saving.scaled(-1.0) if isinstance(saving, Estimate) and is_dearer else saving
    span = periods.span(report.scope.days)
    if isinstance(total, Unidentifiable):
        unit = f"more in the {span} analysed" if is_dearer else f"in the {span} analysed"
    else:
        unit = f"{'more than' if is_dearer else 'of'} the {wording.usd(total)}, in the same {span}"
    return _figure(shown, wording.usd), unit, wording.likely(shown, wording.usd)


def _figure(value: Measured, form: wording.Format) -> str:
    return wording.fitting(form, value)(value.estimate) if isinstance(value, Estimate) else "Cannot tell"


def _in_other_terms(report: Report) -> str | None:
    """Cost as a share of today's, whatever the goal."""
    cost = headlines.cost_reduction(report.routing_rule_set)
    if isinstance(cost, Unidentifiable):
        return "What it does to cost cannot be told."
    less = cost if cost.estimate >= 0 else cost.scaled(-1.0)
    return f"That is {wording.plainly(less, wording.percent, 'less' if cost.estimate >= 0 else 'more')} than we spent."


def _on_quality(report: Report) -> str | None:
    if report.routing_rule_set.goal == "quality":
        return None
    quality = headlines.quality_change(report.routing_rules)
    if isinstance(quality, Unidentifiable):
        return "What it does to the quality of answers cannot be told."
    return f"Quality of answers would change by {wording.plainly(quality, wording.of_100, 'points of 100')}."


def _on_speed(report: Report) -> str | None:
    if report.routing_rule_set.goal == "speed":
        return None
    speed = headlines.speed_gain(report.routing_rule_set)
    if isinstance(speed, Unidentifiable):
        return None
    size = speed if speed.estimate >= 0 else speed.scaled(-1.0)
    return f"Answers would come {wording.plainly(size, wording.percent, 'faster' if speed.estimate >= 0 else 'slower')}."


# --- what we ask to approve


def _asked(report: Report) -> Card:
    question, rules = "What we ask you to approve", report.routing_rule_set
    if not rules.rules:
        return _exploring(question, report)
    count = f"{len(rules.rules)} rule{'s' if len(rules.rules) > 1 else ''}"
    steps = report.monitoring_plan.steps
    first = f"on {wording.number(100 * steps[0].share)} % of the conversations first" if steps else "in small steps"
    moved = (
        f"Once complete, {wording.percent(report.routing_rules.moved_share)} of requests, "
        f"{wording.percent(report.routing_rules.moved_spend_share)} of spend, go to another model than today."
    )
    days = sum(step.planned_days for step in steps)
    shares = ", ".join(wording.number(100 * step.share) for step in steps)
    plan = f"Steps of {shares} % over about {wording.days(days)}; each waits for the one before to do no harm." if steps else None
    status = report.rule_set_status
    if status is not None and status.moved_share is None:
        # The record could not be read: what the plan says stands.
        status = None
    state = rules.status if status is None else status.state
    asks = False
    if state in {"approved", "published"}:
        figure, unit, how = "Nothing more", f"{count} approved", f"These rules are {state}; the trial goes on as planned."
    elif report.optimization_plan.approval_needed if status is None else status.needs_approval:
        asks = True
        figure, unit, how = f"A trial of {count}", first, "To approve, with your name:"
    else:
        figure, unit, how = "Nothing", f"a trial of {count} is too small to need it", "The platform team can start it by itself."
    said = [each for each in (moved, plan, BY_WHOM, how) if each is not None]
    evidence = (places.PLAN, places.RULES, *((places.CANARY,) if steps else ()))
    return Card(question, figure, unit, None, tuple(said), evidence, report.approval if asks else None)


def _exploring(question: str, report: Report) -> Card:
    watch = report.monitoring_plan
    evidence = (places.PLAN, places.MONITORING)
    if watch.exploration is None:
        return Card(
            question, "Nothing", "routing stays as it is", None, ("No rule is proposed, so there is nothing to approve.",), evidence
        )
    share, cost = watch.exploration.share, watch.exploration.added_cost_usd_per_day
    told = [
        f"Send {wording.number(100 * share)} % of requests to a model drawn by lot, so that the next report can say more. No rule changes."
    ]
    if isinstance(cost, Estimate):
        told.append(f"It changes spend by about {wording.plainly(cost, wording.signed_usd, 'a day')}.")
    if watch.exploration.days is not None:
        told.append(f"With traffic like this it takes about {wording.days(watch.exploration.days)}.")
    return Card(
        question, "No change", "but a small experiment, if you want to know more", None, tuple(told), (places.MONITORING, places.PLAN)
    )


# --- what could go wrong


def _risked(report: Report) -> Card:
    question = "What could go wrong"
    warned = tuple(_data_warnings(report))
    if not report.routing_rule_set.rules:
        calm = "Nothing changes, so nothing new can go wrong; what today's routing wastes goes on until the logs can show more."
        return Card(question, "No new risk", "routing stays as it is", None, (calm, *warned), (places.RISKS, places.DATA))
    risks = report.optimization_risks
    whole = risks.changes[0]
    tolerance = wording.size_of_100(risks.quality_tolerance)
    if isinstance(whole.quality_falls, Chance):
        figure, unit = wording.chance(whole.quality_falls.probability), f"chance that quality falls by more than {tolerance}"
    else:
        figure, unit = "Cannot tell", f"how likely quality falls by more than {tolerance}"
    told = [each for each in (_hidden(report), _slower(whole.latency_rises)) if each is not None]
    broken = headlines.replay_breaks(report)
    told += [broken] if broken is not None else []
    told.append("Should a day's check show harm, the platform team takes the rules out of the gateway.")
    return Card(question, figure, unit, None, (*told, *warned), (places.RISKS, places.DATA))


def _hidden(report: Report) -> str | None:
    tipping = report.routing_rules.tipping_point
    if headlines.grade_of(report) == "A" or isinstance(tipping, Unidentifiable):
        return None
    safe = min(tipping.low, tipping.estimate)
    if safe <= 0:
        return "Causes that the logs do not show could make quality fall further than that; only a trial can tell."
    shown = wording.size_of_100(safe)
    much = "however little" if wording.size_of_100(0.0) == shown else f"by more than {shown}"
    return (
        "That holds if the logs show all that matters. Should something unseen flatter the new models "
        f"{much}, quality could fall further; only a trial can tell."
    )


def _slower(latency: Chance | Unidentifiable) -> str | None:
    if isinstance(latency, Unidentifiable):
        return "Whether answers get slower cannot be told."
    if latency.probability < 0.01:
        return None
    return f"Chance that answers get slower by more than a tenth: {wording.chance(latency.probability)}."


def _data_warnings(report: Report) -> Iterator[str]:
    results = [line.result for line in quality_lines(report)]
    bad = results.count("failed") + results.count("warning")
    if bad:
        yield f"{bad} of {len(results)} checks of the data want a look before you rely on the figures."
