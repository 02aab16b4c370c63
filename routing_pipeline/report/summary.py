"""The summary: what we spent, what we could save, what we ask to approve, what could go wrong.

Belongs here: four answers in plain words for whoever decides, each with one large figure, its range, and the section with its
evidence. Does not belong here: the numbers themselves, the options in a table (`choice`), technical terms (they begin after it), the lines
for a terminal (`headlines`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from routing_pipeline import text as wording
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.data_quality import feedback_lines
from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.parameters import Goal
from routing_pipeline.recommendation.risk_levels import Chance
from routing_pipeline.recommendation.routing_rules import quality_change
from routing_pipeline.recommendation.scenarios import Scenario
from routing_pipeline.report import choice, headlines, periods, sections
from routing_pipeline.report.checklist import quality_lines
from routing_pipeline.report.model import Report
from routing_pipeline.rules.model import Grade
from routing_pipeline.schema import CHAT

CERTAINTY: dict[Grade, str] = {
    "A": "This is as sure as an experiment. The router chose partly at random, and the logs say how.",
    "B": "Estimated from logs, not yet tried: confirm it in a trial before you put it in a budget.",
    "C": "This is estimated from logs that may not show everything. It is a reason for a trial, not a promise.",
}

LONGEST_FIGURE = 24
TAKEN_BACK = "If a daily check shows harm, the platform team removes the rules from the gateway."
PROVE_FIRST = "Ask the same without --explore-only to have it proven; then it can be approved."
BY_WHOM = "The platform team sets each step by hand."


@dataclass(frozen=True)
class Card:
    """One question of a manager and its answer; `evidence` are titles of sections of the report, the most direct first."""

    question: str
    figure: str
    unit: str
    range: str | None
    sentences: tuple[str, ...]
    evidence: tuple[str, ...]
    command: str | None = None
    """What to type, to be shown so that it can be copied."""
    command_for: str | None = None
    """What it is for; stands right before it."""


def cards(report: Report) -> tuple[Card, Card, Card, Card]:
    """The four answers."""
    return (_spent(report), _saved(report), _asked(report), _risked(report))


def _spent(report: Report) -> Card:
    costs, scope = report.routing_costs, report.scope
    total = costs.total_usd
    known = not isinstance(total, Unidentifiable)
    return Card(
        question="What we spent",
        figure=wording.usd(total) if isinstance(total, float | int) else "Cannot tell",
        unit=f"in {periods.span(scope)}, for {wording.count(scope.requests)} requests"
        + (f" and {wording.count(scope.other_calls)} calls of other kinds" if scope.other_calls else ""),
        range="counted from the logs" if known else None,
        sentences=tuple(_spending(report)),
        evidence=(sections.COSTS,) if known else (sections.COSTS, sections.DATA),
    )


def _spending(report: Report) -> Iterator[str]:
    costs, overall = report.routing_costs, report.quality_metrics.overall
    quality = overall.quality_corrected
    shortfall = periods.shortfall(report.scope)
    if shortfall is not None:
        yield shortfall
    if isinstance(costs.total_usd, Unidentifiable):
        yield wording.name(costs.total_usd.unidentifiable, wording.LONGEST_TEXT)
    elif report.scope.requests and not isinstance(costs.chat_usd, Unidentifiable):
        per_1000 = f"{wording.usd(1000 * costs.chat_usd / report.scope.requests)} per 1,000 requests."
        if report.scope.other_calls:
            of_it, total = wording.usd(costs.chat_usd), wording.usd(costs.total_usd)
            yield f"{'Nearly all' if of_it == total else of_it} of it went to chat: {per_1000}"
            yield f"The rest: {_other_kinds(costs)}. All below is about chat."
        else:
            yield f"That is {per_1000}"
    if costs.unpriced.attempts_without_list_price:
        yield f"{wording.count(costs.unpriced.attempts_without_list_price)} calls have no known price and are not included."
    if not isinstance(costs.total_usd, Unidentifiable):
        yield from periods.by_the_month(report)
    if isinstance(quality, Estimate):
        yield f"The answers scored {wording.plainly(quality.scaled(100), wording.tenths, 'of 100 on average')}{wording.of_scored(overall.quality_share)}."
    else:
        yield "The quality of the answers is unknown: too few were scored."
    yield from feedback_lines.in_short(report.feedback, report.scope)


def _other_kinds(costs: RoutingCosts) -> str:
    """What else was paid for, most expensive first."""
    others = [each for each in costs.operations if each.operation != CHAT]
    shown = [f"{wording.KINDS[each.operation]} ({wording.measured(each.cost_usd, wording.usd, brief=True)})" for each in others]
    return ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else "".join(shown)


# --- what we could save


def _saved(report: Report) -> Card:
    rules, refusal = report.routing_rules, report.routing_evidence.refusal
    question = "What we could gain" if _leads(report) in {"speed", "quality"} else "What we could save"
    if refusal is not None:
        more = report.scope.days_to_collect
        wait = () if not more else (f"At least {wording.days(more)} more of logs like these are needed.",)
        why = f"These logs cannot show what other routing would do: {wording.name(refusal, wording.LONGEST_TEXT)}"
        return Card(question, "Cannot tell", "from these logs", None, (_stop(why), *wait), (sections.LOGS_TELL,))
    if rules.conflicts and not rules.rule_set.rules:
        return Card(
            question, "Nothing", "that meets all of your limits", None, tuple(_in_conflict(report)), (sections.RULES, sections.PROOF)
        )
    if not rules.rule_set.rules:
        return Card(
            question, "Nothing", "that could be shown on these logs", None, tuple(_why_nothing(report)), (sections.RULES, sections.PROOF)
        )
    figure, unit, between = _gain(report)
    # Quality stands in the table of the options.
    sentences = [each for each in (_in_other_terms(report), _on_speed(report)) if each is not None]
    return Card(
        question,
        figure,
        unit,
        between,
        (*sentences, CERTAINTY[headlines.grade_of(report)] if headlines.is_proven(report) else headlines.NO_PROOF),
        (sections.PROOF, sections.OUTCOMES),
    )


def _leads(report: Report) -> Goal:
    """What the figure is about: the goal, but money where rules that mend a broken limit lose in the goal itself."""
    rules = report.routing_rules
    goal = rules.rule_set.goal
    gain = quality_change(rules) if goal == "quality" else headlines.speed_gain(rules.rule_set)
    is_lost = goal in {"speed", "quality"} and isinstance(gain, Estimate) and gain.estimate < 0
    return "cost" if is_lost else goal


def _stop(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _in_conflict(report: Report) -> Iterator[str]:
    """Which limits exclude each other, the nearest that can be kept, and what to ask for instead."""
    for conflict in report.routing_rules.conflicts:
        yield f"Your limits are in conflict: {wording.name(conflict.said, wording.LONGEST_TEXT)}."
    suggested = next((each for each in report.tradeoff_frontier.scenarios if each.suggested and each.rules), None)
    if suggested is not None:
        yield f"We suggest running the analysis again with {wording.name(suggested.ask, wording.LONGEST_TEXT)}: {scenario_in_words(suggested)}."


def scenario_in_words(scenario: Scenario) -> str:
    """What a scenario gives, in plain words."""
    point = scenario.point
    return (
        f"{wording.plainly(point.cost_usd, wording.usd_per_1000)} per 1,000 requests at a quality of "
        f"{wording.plainly(point.quality.scaled(100) if isinstance(point.quality, Estimate) else point.quality, wording.tenths, 'of 100')}"
    )


def _why_nothing(report: Report) -> Iterator[str]:
    yield "We recommend no change: nothing better than today could be shown with enough certainty."
    hypothesis = report.routing_rules.hypothesis
    if hypothesis is not None:
        needed = hypothesis.requests_needed
        after = "" if needed is None else f"; about {wording.count(needed)} requests would settle it"
        change = wording.plainly(hypothesis.cost_change, wording.change)
        yield f"The best rules that were found would change cost by {change}, which is too uncertain to act on{after}."


def _gain(report: Report) -> tuple[str, str, str | None]:
    """The goal's own figure, its unit, and its range."""
    rules = report.routing_rules
    if _leads(report) == "speed":
        faster = headlines.speed_gain(rules.rule_set)
        return _figure(faster, wording.percent), "faster on average", wording.likely(faster, wording.percent)
    if _leads(report) == "quality":
        better = quality_change(rules)
        return _figure(better, wording.of_100), "points of 100 in quality", wording.likely(better, wording.of_100)
    saving, total = periods.saving(report), report.routing_costs.chat_usd
    is_more_expensive = isinstance(saving, Estimate) and saving.estimate < 0
    shown = saving.scaled(-1.0) if isinstance(saving, Estimate) and is_more_expensive else saving
    span = periods.span(report.scope)
    if isinstance(total, Unidentifiable):
        unit = f"more in the {span} analysed" if is_more_expensive else f"in the {span} analysed"
    else:
        unit = f"{'more than' if is_more_expensive else 'of'} the {wording.usd(total)} spent{periods.on_chat(report)} over those {span}"
    return _figure(shown, wording.usd), unit, wording.likely(shown, wording.usd)


def _figure(value: Measured, form: wording.Format) -> str:
    return wording.fitting(form, value)(value.estimate) if isinstance(value, Estimate) else "Cannot tell"


def _in_other_terms(report: Report) -> str | None:
    """Cost as a share of today's, whatever the goal."""
    cost = headlines.cost_reduction(report.routing_rule_set)
    if isinstance(cost, Unidentifiable):
        return "The effect on cost cannot be estimated."
    less = cost if cost.estimate >= 0 else cost.scaled(-1.0)
    return f"That is {wording.plainly(less, wording.percent, 'less' if cost.estimate >= 0 else 'more')} than we spent{periods.on_chat(report)}."


def _on_speed(report: Report) -> str | None:
    if _leads(report) == "speed":
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
    if not headlines.is_proven(report):
        return Card(question, "Nothing", "this was explored only", None, (PROVE_FIRST,), (sections.PROOF, sections.RULES))
    count = f"{len(rules.rules)} rule{'s' if len(rules.rules) > 1 else ''}"
    steps = report.monitoring_plan.steps
    first = f"on {wording.number(100 * steps[0].share)} % of the conversations first" if steps else "in small steps"
    days = sum(step.planned_days for step in steps)
    plan = f"It grows in {len(steps)} steps over about {wording.days(days)}." if steps else None
    status = report.rule_set_status
    if status is not None and status.moved_share is None:
        # The record could not be read: what the plan says stands.
        status = None
    state = rules.status if status is None else status.state
    asks = False
    if state in {"approved", "published"}:
        are = "are" if len(rules.rules) > 1 else "is"
        figure, unit, how = "No action needed", f": {count} {are} {state}", "The trial continues as planned."
    elif report.optimization_plan.approval_needed if status is None else status.needs_approval:
        asks = True
        figure, unit, how = f"A trial of {count}", first, None
    else:
        figure, unit, how = "Nothing", f"a trial of {count} is too small to need approval", "The platform team can start it on its own."
    said = [each for each in (plan, BY_WHOM, how) if each is not None]
    evidence = (sections.PLAN, sections.RULES, *((sections.CANARY,) if steps else ()))
    command = (report.approval, "To approve, with your name:") if asks else (None, None)
    return Card(question, figure, unit, None, tuple(said), evidence, *command)


def _exploring(question: str, report: Report) -> Card:
    watch = report.monitoring_plan
    evidence = (sections.PLAN, sections.MONITORING)
    if watch.exploration is None:
        return Card(
            question, "Nothing", "routing stays as it is", None, ("No rule is proposed, so there is nothing to approve.",), evidence
        )
    if not watch.exploration.decides:
        return Card(question, "Nothing", "routing stays as it is", None, (watch.verdict,), evidence)
    share, cost = watch.exploration.share, watch.exploration.added_cost_usd_per_day
    sentences = [
        f"Send {wording.number(100 * share)} % of requests to a randomly chosen model, so that the next report has more evidence. No rule changes."
    ]
    if isinstance(cost, Estimate):
        sentences.append(f"It changes spend by about {wording.plainly(cost, wording.signed_usd, 'a day')}.")
    if watch.exploration.days is not None:
        sentences.append(f"At this traffic it takes about {wording.days(watch.exploration.days)}.")
    return Card(
        question,
        "No change",
        "but a small experiment would provide more evidence",
        None,
        tuple(sentences),
        (sections.MONITORING, sections.PLAN),
    )


# --- what could go wrong


def _risked(report: Report) -> Card:
    question = "What could go wrong"
    warned = (*_missed_promises(report), *_data_warnings(report))
    if not report.routing_rule_set.rules:
        calm = "Nothing changes, so there is no new risk. Today's waste continues until there is more evidence."
        return Card(question, "No new risk", "routing stays as it is", None, (calm, *warned), (sections.RISKS, sections.DATA))
    risks = report.optimization_risks
    whole, harm = risks.changes[0], headlines.harm(risks)
    if isinstance(whole.quality_falls, Chance):
        figure, unit = wording.chance(whole.quality_falls.probability), f"chance that {harm}"
    else:
        figure, unit = "Cannot tell", f"how likely {harm.replace('quality ', 'it is that quality ', 1)}"
    sentences = (_moved(report), _hidden(report), _slower(whole.latency_rises), TAKEN_BACK)
    told = (*(each for each in sentences if each is not None), *warned)
    hit = choice.worst(report)
    if hit is None:
        return Card(question, figure, unit, None, told, (sections.RISKS, sections.DATA))
    lost = hit.quality_change
    return Card(
        question,
        f"{wording.name(hit.task_type, LONGEST_FIGURE)} answers",
        f"are the likeliest to lose most: {_figure(lost, wording.of_100)} points of 100",
        wording.likely(lost, wording.of_100),
        (f"Over all answers: {figure} {unit}.", *told),
        (sections.OUTCOMES, sections.RISKS, sections.DATA),
    )


def _moved(report: Report) -> str:
    rules = report.routing_rules
    return (
        f"At the end {wording.percent(rules.moved_share)} of requests "
        f"({wording.percent(rules.moved_spend_share)} of spend) go to another model than today."
    )


def _hidden(report: Report) -> str | None:
    tipping = report.routing_rules.tipping_point
    if headlines.grade_of(report) == "A" or isinstance(tipping, Unidentifiable):
        return None
    safe = min(tipping.low, tipping.estimate)
    if safe <= 0:
        return "What the logs do not show could make quality fall further than that. Only a trial can tell."
    shown = wording.size_of_100(safe)
    much = "even slightly" if wording.size_of_100(0.0) == shown else f"by more than {shown}"
    return f"Quality could fall further if something that is not logged favoured the new models {much}. Only a trial can tell."


def _slower(latency: Chance | Unidentifiable) -> str | None:
    if isinstance(latency, Unidentifiable):
        return "The effect on speed cannot be estimated."
    if latency.probability < 0.01:
        return None
    return f"Chance that answers get slower by more than a tenth: {wording.chance(latency.probability)}."


def _missed_promises(report: Report) -> Iterator[str]:
    """What the newest rule set that decided requests promised and did not deliver."""
    newest = next(iter(report.realized_outcomes.rule_sets), None)
    if newest is not None and newest.missed:
        more = len(newest.missed) - 1
        others = f", and {more} more of its promises {'was' if more == 1 else 'were'} missed" if more else ""
        yield f"Rule set {wording.name(newest.rule_set_id)} missed a promise: {newest.missed[0]}{others}."


def _data_warnings(report: Report) -> Iterator[str]:
    results = [line.result for line in quality_lines(report)]
    bad = results.count("failed") + results.count("warning")
    if bad:
        yield f"{bad} of {len(results)} data checks need review before you rely on these figures."
