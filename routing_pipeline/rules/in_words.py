"""A rule set in a few lines of a terminal: what it sends where, what that saves, whom it hurts most.

Belongs here: the lines that somebody reads before a decision. Does not belong here: the report's sentences (`report.rule_sentences`),
which take seconds to load; deciding (`record`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import ConfigDict

from routing_pipeline import text
from routing_pipeline.clock import DAYS_PER_MONTH
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.lifecycle import Proposal, size_of
from routing_pipeline.rules.model import NEEDS_IN_WORDS, Between, Expected, Level, Rule, RuleSet, When
from routing_pipeline.storage.home import Home

RULES_SHOWN = 12
MODELS_SHOWN = 3
WORTH_NAMING = 0.05
"""Models that answer less of a rule's requests than this are not named as what it replaces."""
_RISKS: tuple[Level, ...] = ("Low", "Medium", "High")


class Choice(Result):
    """Of a rule set that was found, what a decision is about."""

    model_config = ConfigDict(extra="ignore")

    rule_set: RuleSet
    moved_share: float
    moved_spend_share: float
    saving_usd_per_day: Measured = Unidentifiable(unidentifiable="what these rules save in dollars is not stored any more")
    impacts: tuple[RuleImpact, ...] = ()


class Optimisation(Choice):
    """Of a stored `routing_rules`, the same of what it proposes and of what else it offers."""

    look: int = 1
    options: tuple[Choice, ...] = ()

    def of(self, rule_set_id: str) -> Optimisation | None:
        """The same with this one of its options proposed; None where it offers none of that id."""
        if self.rule_set.rule_set_id == rule_set_id:
            return self
        option = next((each for each in self.options if each.rule_set.rule_set_id == rule_set_id), None)
        return None if option is None else self.model_copy(update={name: getattr(option, name) for name in Choice.model_fields})


def found_as(home: Home, rule_set_id: str) -> Optimisation | None:
    """The optimisation that a rule set of this home came from; None when it is not known, or was dropped."""
    key = home.results.key_of_rule_set(rule_set_id)
    found = None if key is None else home.results.load("routing_rules", key, Optimisation)
    return None if found is None else found.of(rule_set_id)


def proposal_lines(proposal: Proposal, found: Optimisation | None) -> Iterator[str]:
    """Everything that whoever approves or publishes should have seen."""
    rule_set = proposal.rule_set
    window = f"{text.moment(rule_set.window.start)} to {text.moment(rule_set.window.end)}"
    yield f"{rule_set.rule_set_id}: {text.counted(len(rule_set.rules), 'rule')} for the goal {rule_set.goal}, from logs of {window}"
    impacts = () if found is None else found.impacts
    yield from (f"  {line}" for line in rule_lines(rule_set.rules, impacts))
    yield f"  saving: {saving(rule_set, None if found is None else found.saving_usd_per_day)}"
    yield f"  quality: {text.measured(quality_change(rule_set.expected), text.points)}{_worst(impacts)}"
    grades, risks = {rule.evidence.grade for rule in rule_set.rules}, {rule.risk for rule in rule_set.rules}
    if grades:
        risk = max(risks, key=_RISKS.index)
        trial = "" if max(grades) == "A" else ", so worth an A/B test and no promise"
        yield f"  evidence: grade {max(grades)}{trial}; highest risk of a rule: {risk}"
    yield f"  size: {size_of(proposal)}"


def rule_lines(rules: Sequence[Rule], impacts: Sequence[RuleImpact] = ()) -> Iterator[str]:
    """One line for each rule, in the order in which they are tried: `r1: chat: claude-opus -> claude-haiku`."""
    known = {impact.rule_id: impact for impact in impacts}
    ordered = sorted(rules, key=lambda rule: rule.priority)
    for rule in ordered[:RULES_SHOWN]:
        yield f"{text.name(rule.id)}: {rule_line(rule, known.get(rule.id))}"
    if len(ordered) > RULES_SHOWN:
        yield f"and {len(ordered) - RULES_SHOWN} more rules, in rules.json"


def rule_line(rule: Rule, impact: RuleImpact | None = None) -> str:
    """What a rule sends where: `chat under 2,000 tokens: claude-opus -> claude-haiku`."""
    if rule.route == "unchanged":
        return f"{_requests(rule.when)}: as today"
    targets = [
        f"{text.name(each.model)} ({text.whole_percent(each.weight)})" if len(rule.route) > 1 else text.name(each.model)
        for each in rule.route
    ]
    to = {each.model for each in rule.route}
    others = [each.model for each in (() if impact is None else impact.today) if each.model not in to and each.weight >= WORTH_NAMING]
    today = f"{text.listed(tuple(others), MODELS_SHOWN)} " if others else ""
    return f"{_requests(rule.when)}: {today}-> {', '.join(targets)}"


def saving(rule_set: RuleSet, per_day: Measured | None) -> str:
    """Dollars in 30 days and the share of cost, with intervals; a loss is called one."""
    relative = rule_set.expected.change.cost_usd.relative
    share = text.measured(relative, text.change, brief=True)
    if not isinstance(per_day, Estimate):
        return f"cost per request {share}"
    return f"{text.measured(per_day.scaled(DAYS_PER_MONTH), text.usd)} in {DAYS_PER_MONTH} days at the pace of these logs (cost per request {share})"


def quality_change(expected: Expected) -> Measured:
    """Change of mean quality over all requests (0..1)."""
    relative, today = expected.change.quality.relative, expected.baseline.quality
    if isinstance(relative, Unidentifiable):
        return relative
    return relative.scaled(today.estimate) if isinstance(today, Estimate) else today


def _worst(impacts: Sequence[RuleImpact]) -> str:
    """Whose answers suffer most, which the mean does not say."""
    known = [(each.quality_change, each.rule_id) for each in impacts if isinstance(each.quality_change, Estimate)]
    if len(known) < 2:
        return ""
    change, rule = min(known, key=lambda each: each[0].estimate)
    return f"; worst on requests of {text.name(rule)}: {text.measured(change, text.points)}" if change.estimate < 0 else ""


def _requests(when: When) -> str:
    """Which requests a condition speaks of, in a few words."""
    found = ["all requests"] if when.task_type is None else [text.listed(list(when.task_type), 6)]
    found += [] if when.team is None else [f"of team{'s' if len(when.team) > 1 else ''} {text.listed(list(when.team), 4)}"]
    found += [] if when.tier is None else [f"asking for {text.listed(list(when.tier), 4)}"]
    found += [_range(when.prompt_tokens, " tokens")] if when.prompt_tokens is not None else []
    found += [f"complexity {_range(when.complexity)}"] if when.complexity is not None else []
    needs = ((said, getattr(when, name)) for name, said in NEEDS_IN_WORDS.items())
    found += [f"{'with' if holds else 'without'} {said}" for said, holds in needs if holds is not None]
    return ", ".join(found)


def _range(edges: Between, unit: str = "") -> str:
    low, high = (None if each is None else f"{each:,.4g}" if abs(each) < 10 else f"{each:,.0f}" for each in (edges.gte, edges.lt))
    if low is not None and high is not None:
        return f"{low} to {high}{unit}"
    return f"under {high}{unit}" if high is not None else f"from {low}{unit}" if low is not None else f"any{unit}"
