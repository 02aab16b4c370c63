"""`simulation`: a rule set replayed on the sessions that its search never saw.

Belongs here: the replay of any rule set, ours or hand-written, by task, by day, and its dollar total. Does not belong
here: searching (`policy.search`), the nuisance models that the replay corrects with (`policy.outcome_model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import ibis
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from routing_pipeline import text
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy import evidence as evidence_
from routing_pipeline.policy.cells import Ints, sum_by
from routing_pipeline.policy.decided_sums import UNMOVED, decided_sums
from routing_pipeline.policy.evidence_model import RoutingEvidence, TodayEvidence
from routing_pipeline.policy.halves import both_of
from routing_pipeline.policy.proof import Evaluated, carried, evaluated, kept, margins, outcomes_of
from routing_pipeline.policy.replay import Replay, replay
from routing_pipeline.policy.rule_blocks import shares_of
from routing_pipeline.policy.scores import BOTH, CALLS, COST, OUTCOMES, QUALITY, ScoreCube, Sums
from routing_pipeline.recommendation.half_choices import HalfChoice
from routing_pipeline.recommendation.own_rules import held_out
from routing_pipeline.recommendation.per_session import with_sessions
from routing_pipeline.recommendation.question import question_of
from routing_pipeline.recommendation.replay_limits import RARE_TASKS, over_capacity, unsupported_parts
from routing_pipeline.recommendation.replayed_halves import OfCells, of_pair, of_rules, replay_pair, written
from routing_pipeline.recommendation.rule_traffic import sessions_split
from routing_pipeline.rules.model import Change, Expected, Outcomes, RelativeChange, RuleSet, Unit, cannot_tell
from routing_pipeline.stats.inference import NOT_NEGATIVE, POINTWISE, RELATIVE, SHARE, Statistic, interval, simultaneous
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import CLUSTERS, AnalysisScope

MIN_DAY_CLUSTERS = 10
MAX_SPLIT = 0.05
"""Share of sessions that rules per request may send to several models where each session has one, and still count as deciding sessions."""
TASKS_SHOWN = 50


class TaskReplay(Result):
    """One task type under the rules."""

    task_type: LogName
    requests: int = quantity("Replayed", "requests")
    moved_share: float = quantity("Share of them that the rules route differently", "0..1")
    expected: Expected


class RuleReplay(Result):
    """One rule on the requests that it decides; intervals hold for all rules at once."""

    rule_id: LogName
    requests: int = quantity("Replayed, of those that it decides", "requests")
    moved_share: float = quantity("Share of them that it routes differently", "0..1")
    expected: Expected
    quality_change: Measured = quantity("Difference from today, on its requests", "0..1")
    success_today: float = quantity("Share of its requests that end well, today", "0..1")
    success: Measured = quantity("The same under the rule", "0..1")


class DayReplay(Result):
    """One UTC day under the rules."""

    day: str = Field(description="ISO date")
    requests: int = quantity("Replayed", "requests")
    moved_share: float = quantity("Share of them that the rules route differently", "0..1")
    expected: Expected


class Simulation(Result):
    """What the rules would have done."""

    rule_set_id: str
    requests: int = quantity("Replayed: final requests of sessions that the search never saw", "requests")
    sessions: int = quantity("Groups of sessions behind the intervals", "groups")
    moved_share: float = quantity("Share of replayed requests that the rules route differently", "0..1")
    unit: Unit = Field(default="request", description="What is promised about: requests, per call only, or the same sessions")
    expected: Expected
    completion_change: Measured = quantity("Share of requests that end well, against today", "0..1")
    unseen_loss: float = quantity(
        "By how much quality may be lower than stated, had today's answers of moved requests that nobody scores been perfect",
        "0..1",
        default=0.0,
    )
    by_task: tuple[TaskReplay, ...]
    by_day: tuple[DayReplay, ...]
    by_rule: tuple[RuleReplay, ...] = Field(
        default=(), description="Rules that decide for requests which were replayed, in the order of the set"
    )
    broken_limits: tuple[str, ...] = Field(default=(), description="Limits that the estimate itself breaks")
    unproven_limits: tuple[str, ...] = Field(
        default=(), description="Limits that do not hold at the safe end of the interval, the broken ones included"
    )
    saving_usd: Measured = quantity("Over the whole window's traffic; positive is a saving", "USD")
    unsupported: tuple[str, ...] = Field(default=(), description="Parts of the rules of which the logs cannot tell, and why")
    notices: tuple[str, ...] = Field(
        default=(), description="Names in rules that were handed over which the window does not know, and rules that match nothing"
    )
    flatters: bool = Field(
        default=False,
        description="Whether the rules were learnt partly on the sessions that they are replayed on; then nothing of this is proven",
    )
    verdict: str = Field(description="One sentence for a manager")


def simulate(
    rule_set: RuleSet,
    evidence: RoutingEvidence,
    requests: ibis.Table,
    scope: AnalysisScope,
    learnt: Sequence[HalfChoice] = (),
    *,
    is_learnt_here: bool = False,
) -> Simulation:
    """Replay a rule set, ours or hand-written, on sessions that its search never saw.

    Args:
        rule_set: any; weighted routes are averaged by their weights.
        evidence: of the same window; its cells hold the nuisance models.
        requests: conformed rows of the window; without `learnt` the proving half alone is read.
        scope: the window.
        learnt: of rules that were found here, or that these were made from, what each half would do; each is replayed on the other one.
        is_learnt_here: whether they were learnt on sessions of this window; where the halves cannot be told apart, that is said.

    Returns:
        Outcomes per request with intervals that hold for all tasks (all days) at once. Where a rule sends requests to a
        model of which the logs cannot tell, what includes them is Unidentifiable, never a number.
    """
    if evidence.refusal is not None or evidence.cells_uri is None:
        return _refused(rule_set, evidence.refusal or "no evidence was gathered")
    cube = evidence_.read_scores(evidence.cells_uri)
    if evidence.sessions is not None and evidence.sessions.unpriced_cache is not None:
        return _refused(rule_set, evidence.sessions.unpriced_cache)
    if evidence.per == "session" and (split := sessions_split(requests, rule_set, evidence.by_request)) > MAX_SPLIT:
        return _refused(
            rule_set,
            f"{_whole(cube)}, and the rules per request would change it within {100 * split:.0f} % of the sessions; give per: session",
        )
    halves = both_of(cube) if learnt else None
    pair = None if halves is None else held_out(halves, learnt, _followed(cube, rule_set), single=scope.parameters.single)
    if halves is None or pair is None:
        with decided_sums(requests, cube.cells, [rule_set], "prove") as sums:
            replayed, of_cells = replay(rule_set, sums, cube), of_rules(cube, rule_set)
    else:
        by_half = written(rule_set, halves, pair)
        with decided_sums(requests, cube.cells, by_half.rule_sets) as sums:
            replayed, of_cells = replay_pair(by_half, sums, halves), of_pair(halves, pair, rule_set)
    if replayed.requests.sum() == 0:
        return _refused(rule_set, "no session of the window falls into the half that proofs are made on")
    found = _simulation(rule_set, replayed, of_cells, cube, evidence, scope, over_capacity(rule_set, evidence, requests, scope))
    return _marked(found) if pair is None and (is_learnt_here or learnt) and found.moved_share else found


NOT_HELD_OUT = "Learnt partly on the sessions that they are replayed on: these figures are too good for these rules, and prove nothing."


def _marked(found: Simulation) -> Simulation:
    verdict = f"{NOT_HELD_OUT} {found.verdict.replace(' held out from the search', '')}"
    unproven = ("any limit: the rules were learnt partly on the sessions that they are replayed on", *found.unproven_limits)
    return found.model_copy(update={"flatters": True, "verdict": verdict, "unproven_limits": unproven})


def _followed(cube: ScoreCube, rule_set: RuleSet) -> NDArray[np.float64]:
    """What a gateway does; NaN where cells cannot express it."""
    shares = shares_of(cube, rule_set.rules)
    return np.full(cube.scores.shape[1:3], np.nan) if shares is None else shares


class _Part:
    """Both policies over some groups of the replay; `cells`: the same from the score cube, which knows of errors that rows do not show."""

    def __init__(self, replayed: Replay, of: NDArray[np.bool_], cells: tuple[Sums, Sums] | None = None) -> None:
        clusters = (replayed.cluster[of],)

        def by_cluster(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return sum_by(clusters, values[of], (CLUSTERS,))

        def outcome(sums: NDArray[np.float64], known: Sums | None) -> Evaluated:
            scores = np.stack([by_cluster(sums[:, outcome]) for outcome in range(len(OUTCOMES))], axis=1)
            counted = np.stack([by_cluster(replayed.counted[:, outcome]) for outcome in range(len(OUTCOMES))], axis=1)
            if known is None:
                return outcomes_of(Sums(scores, counted, np.zeros_like(scores)))
            return outcomes_of(Sums(scores, counted, known.model_error, known.completed, known.expected))

        n = by_cluster(replayed.requests)
        self.requests = float(n.sum())
        self.moved = float(replayed.moved[of].sum()) / max(self.requests, 1e-300)
        self.clusters = int((n > 0).sum())
        self.calls = float(replayed.counted[of, CALLS].sum())
        self.priced_share = float(replayed.counted[of, COST].sum()) / max(self.calls, 1e-300)
        self.now = outcome(replayed.now, None if cells is None else cells[0])
        self.then = outcome(replayed.then, None if cells is None else cells[1])

    def at_level_of(self, window: Evaluated) -> _Part:
        """The same change at today's level of the whole window (`proof.carried`), so that levels and dollars are those of the proof."""
        self.now, self.then = (carried(each, self.now, window) for each in (self.now, self.then))
        return self

    def family(self, name: str) -> list[Statistic]:
        """What must hold together for one outcome."""
        now, then = getattr(self.now, name), getattr(self.then, name)
        return [now, then, then.relative_to(now)]


class _ReplayIntervals:
    """Turns parts into expectations under one critical value per outcome."""

    def __init__(self, cube: ScoreCube, parts: list[_Part], labelled: float) -> None:
        self.known = {"cost": evidence_.untold(cube, "cost") is None, "latency": evidence_.untold(cube, "latency") is None}
        self.critical = {
            name: simultaneous([each for part in parts for each in part.family(name)]) for name in ("cost", "quality", "latency")
        }
        self.labelled = labelled

    def expected(self, part: _Part, why_not: str | None, today: TodayEvidence | None = None) -> Expected:
        baseline = self._outcomes(part.now, part) if today is None else today.outcomes
        if why_not is not None:
            unknown = cannot_tell(why_not)
            change = RelativeChange(relative=Unidentifiable(unidentifiable=why_not))
            return Expected(baseline=baseline, proposed=unknown, change=Change(cost_usd=change, quality=change, latency_ms=change))
        return Expected(
            baseline=baseline,
            proposed=self._outcomes(part.then, part),
            change=Change(
                cost_usd=RelativeChange(relative=self.of("cost", part.then.cost.relative_to(part.now.cost), part, bounds=RELATIVE)),
                quality=RelativeChange(relative=self.of("quality", part.then.quality.relative_to(part.now.quality), part)),
                latency_ms=RelativeChange(
                    relative=self.of("latency", part.then.latency.relative_to(part.now.latency), part, bounds=RELATIVE)
                ),
            ),
        )

    def _outcomes(self, outcome: Evaluated, part: _Part) -> Outcomes:
        return Outcomes(
            cost_usd=self.of("cost", outcome.cost, part, bounds=NOT_NEGATIVE),
            quality=self.of("quality", outcome.quality, part, bounds=SHARE),
            latency_ms=self.of("latency", outcome.latency, part, bounds=NOT_NEGATIVE),
        )

    def of(self, name: str, statistic: Statistic, part: _Part, *, bounds: tuple[float, float] | None = None) -> Measured:
        """One statistic of a part under the critical value of its outcome."""
        if not self.known.get(name, True):
            return Unidentifiable(unidentifiable=f"{name} is not known for enough requests")
        if part.clusters < MIN_DAY_CLUSTERS:
            return Unidentifiable(
                unidentifiable=f"{text.counted(part.clusters, 'group')} of sessions {'is' if part.clusters == 1 else 'are'} too few for an interval"
            )
        return interval(statistic, self.critical[name], bounds=bounds, n=self.labelled)


def _simulation(
    rule_set: RuleSet,
    replayed: Replay,
    of_cells: OfCells,
    cube: ScoreCube,
    evidence: RoutingEvidence,
    scope: AnalysisScope,
    over_capacity: tuple[str, ...],
) -> Simulation:
    unsupported = unsupported_parts(rule_set, replayed, cube)
    replayed, unsupported = _by_name_of_task(replayed, unsupported, cube)
    reasons = tuple(unsupported.values())
    why = "; ".join(reasons[:3]) or None
    everywhere = of_cells.over(np.arange(cube.scores.shape[1]))
    whole = _Part(replayed, np.ones(len(replayed.task), dtype=bool), everywhere).at_level_of(evaluated(cube, kept(cube), BOTH))
    by_task = _task_parts(of_cells, replayed, cube)
    intervals = _ReplayIntervals(cube, [whole, *by_task.values()], evidence.labelled)
    expected = with_sessions(evidence, intervals.expected(whole, why, evidence.today), whole.then.calls.relative_to(whole.now.calls))
    limits = question_of(evidence, scope, rule_set.goal).limits
    unseen = _unseen_loss(replayed, whole)
    then = replace(whole.then, moved=whole.moved)
    broken = [] if why else margins(then, whole.now, replace(limits, hidden_bias=0.0))
    held = [] if why else margins(replace(then, unseen_loss=unseen), whole.now, limits)
    return Simulation(
        rule_set_id=rule_set.rule_set_id,
        requests=round(whole.calls),
        sessions=whole.clusters,
        moved_share=min(whole.moved, 1.0),
        unit=evidence.unit,
        expected=expected,
        completion_change=Unidentifiable(unidentifiable=why) if why else interval(whole.then.success - whole.now.success, POINTWISE),
        unseen_loss=unseen,
        by_task=_by_task(by_task, cube.cells.binning.tasks, intervals, unsupported),
        by_day=_by_day(replayed, cube, unsupported, why, evidence.labelled),
        by_rule=_by_rule(rule_set, replayed, of_cells, cube, unsupported, evidence.labelled),
        broken_limits=(*(name for name, margin in broken if margin.value < 0), *over_capacity),
        unproven_limits=(*(name for name, margin in held if not margin.is_known or margin.low() < 0), *over_capacity),
        saving_usd=_saving(whole, intervals, why, evidence.traffic),
        unsupported=reasons,
        verdict=_verdict(expected, why, whole, evidence, scope, is_moved=bool((replayed.rule != UNMOVED).any())),
    )


def _by_name_of_task(
    replayed: Replay, unsupported: dict[tuple[int, int], str], cube: ScoreCube
) -> tuple[Replay, dict[tuple[int, int], str]]:
    """Parts of a task that is cut by what its requests need are told as one, under the place of the first."""
    names = (*cube.cells.binning.tasks, RARE_TASKS)
    first = np.array([names.index(each) for each in names])
    return replace(replayed, task=first[replayed.task]), {(rule, int(first[task])): why for (rule, task), why in unsupported.items()}


def _task_parts(of_cells: OfCells, replayed: Replay, cube: ScoreCube) -> dict[int, _Part]:
    """The largest tasks, most requests first, at today's level of the whole window."""
    sizes = sum_by((replayed.task,), replayed.requests, (len(cube.cells.binning.tasks) + 1,))
    tasks = [int(task) for task in np.argsort(-sizes, kind="stable") if sizes[task] > 0][:TASKS_SHOWN]
    return {
        task: _Part(replayed, replayed.task == task, of_cells.over(places)).at_level_of(evaluated(cube, kept(cube), BOTH, places))
        for task, places in ((task, _places_of(cube, task)) for task in tasks)
    }


def _by_task(
    parts: dict[int, _Part], names: Sequence[str], intervals: _ReplayIntervals, unsupported: dict[tuple[int, int], str]
) -> tuple[TaskReplay, ...]:
    return tuple(
        TaskReplay(
            task_type=names[task] if task < len(names) else RARE_TASKS,
            requests=round(part.calls),
            moved_share=min(part.moved, 1.0),
            expected=intervals.expected(part, next((text for (_, of), text in unsupported.items() if of == task), None)),
        )
        for task, part in parts.items()
    )


def _by_day(
    replayed: Replay, cube: ScoreCube, unsupported: dict[tuple[int, int], str], why: str | None, labelled: float
) -> tuple[DayReplay, ...]:
    """Each day under intervals that hold for all days; unidentifiable on days with requests of an unsupported part."""
    lost = np.zeros(len(replayed.task), dtype=bool)
    for rule, task in unsupported:
        lost |= (replayed.rule == rule) & (replayed.task == task)
    parts = {int(day): _Part(replayed, replayed.day == day) for day in np.unique(replayed.day)}
    intervals = _ReplayIntervals(cube, list(parts.values()), labelled)
    return tuple(
        DayReplay(
            day=f"{datetime.fromtimestamp(day * SECONDS_PER_DAY, UTC):%Y-%m-%d}",
            requests=round(part.calls),
            moved_share=min(part.moved, 1.0),
            expected=intervals.expected(part, why if lost[replayed.day == day].any() else None),
        )
        for day, part in parts.items()
    )


def _by_rule(
    rule_set: RuleSet,
    replayed: Replay,
    of_cells: OfCells,
    cube: ScoreCube,
    unsupported: dict[tuple[int, int], str],
    labelled: float,
) -> tuple[RuleReplay, ...]:
    """Each rule that decides for replayed requests, at today's level of the window where cells can express its requests."""
    parts = {int(place): _rule_part(of_cells, int(place), replayed, cube) for place in np.unique(replayed.rule[replayed.rule != UNMOVED])}
    if not parts:
        return ()
    intervals = _ReplayIntervals(cube, list(parts.values()), labelled)
    found = []
    for place, part in parts.items():
        why = next((text for (of, _), text in unsupported.items() if of == place), None)
        unknown = None if why is None else Unidentifiable(unidentifiable=why)
        found.append(
            RuleReplay(
                rule_id=rule_set.rules[place].id,
                requests=round(part.calls),
                moved_share=min(part.moved, 1.0),
                expected=intervals.expected(part, why),
                quality_change=unknown or intervals.of("quality", part.then.quality - part.now.quality, part),
                success_today=min(max(part.now.success.value, 0.0), 1.0),
                success=unknown or interval(part.then.success, POINTWISE, bounds=SHARE, n=part.requests),
            )
        )
    return tuple(found)


def _rule_part(of_cells: OfCells, place: int, replayed: Replay, cube: ScoreCube) -> _Part:
    of, places = replayed.rule == place, of_cells.of_rule(place)
    if places is None:
        return _Part(replayed, of)
    part = _Part(replayed, of, of_cells.over(places))
    return part.at_level_of(evaluated(cube, kept(cube), BOTH, places)) if len(places) else part


def _places_of(cube: ScoreCube, task: int) -> Ints:
    """A task's segments, those of all its parts, and what of it no rule reaches."""
    tasks = cube.cells.binning.tasks
    parts = [place for place, name in enumerate(tasks) if name == tasks[task]] if task < len(tasks) else [task]
    segments = [place for place, segment in enumerate(cube.segments) if segment.task in parts]
    return np.array([*segments, *(len(cube.segments) + part for part in parts)], dtype=np.int64)


def _unseen_loss(replayed: Replay, whole: _Part) -> float:
    """As `ScoreCube.unseen_loss`, with the mean quality under the rules for that of what is moved."""
    unscored, known = float(replayed.unscored.sum()), float(replayed.counted[:, QUALITY].sum())
    quality = whole.then.quality.value if whole.then.quality.is_known else 0.0
    return unscored * (1.0 - min(max(quality, 0.0), 1.0)) / max(known + unscored, 1e-300)


def _saving(whole: _Part, intervals: _ReplayIntervals, why: str | None, requests: float) -> Measured:
    if why is not None:
        return Unidentifiable(unidentifiable=why)
    if not intervals.known["cost"]:
        return Unidentifiable(unidentifiable="cost is not known for enough requests")
    saving = (whole.now.cost - whole.then.cost).scaled(requests * whole.priced_share)
    return interval(saving, intervals.critical["cost"])


def _verdict(expected: Expected, why: str | None, whole: _Part, evidence: RoutingEvidence, scope: AnalysisScope, *, is_moved: bool) -> str:
    if not is_moved:
        return "No rule matches a request of the window: nothing changes."
    if why is not None:
        return f"The logs cannot tell what these rules would do: {why}."
    cost, quality = expected.change.cost_usd.relative, expected.change.quality.relative
    said = f"On {whole.calls:,.0f} requests of {scope.covered_days:.1f} days held out from the search, the rules move {100 * whole.moved:.0f} %"
    if isinstance(cost, Estimate):
        same = " for the same sessions" if evidence.unit == "session" else ""
        said += f" and change cost by {100 * cost.estimate:+.1f} % ({100 * cost.low:+.1f} to {100 * cost.high:+.1f}){same}"
    today = expected.baseline.quality
    if isinstance(quality, Estimate) and isinstance(today, Estimate):
        points = quality.scaled(100 * today.estimate)
        said += f", quality by {points.estimate:+.2f} points ({points.low:+.2f} to {points.high:+.2f})"
    return said + (". " if evidence.grade == "A" else ". Worth an A/B test, not yet a promise. ") + "Intervals are 95 %."


def _whole(cube: ScoreCube) -> str:
    """Why sessions are decided as a whole."""
    return (
        "the costs of a session hang together through its cache"
        if cube.cells.binning.caches
        else "one model serves a session in these logs"
    )


def _refused(rule_set: RuleSet, why: str) -> Simulation:
    unknown = cannot_tell(why)
    change = RelativeChange(relative=Unidentifiable(unidentifiable=why))
    nothing = Unidentifiable(unidentifiable=why)
    return Simulation(
        rule_set_id=rule_set.rule_set_id,
        requests=0,
        sessions=0,
        moved_share=0.0,
        expected=Expected(baseline=unknown, proposed=unknown, change=Change(cost_usd=change, quality=change, latency_ms=change)),
        completion_change=nothing,
        by_task=(),
        by_day=(),
        saving_usd=nothing,
        unsupported=(why,),
        verdict=f"The logs cannot tell what these rules would do: {why}.",
    )
