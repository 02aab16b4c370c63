"""`simulation`: a rule set replayed on the sessions that its search never saw.

Belongs here: the replay of any rule set, ours or hand-written, by task, by day, and its dollar total. Does not belong
here: searching (`policy.search`), the nuisance models that the replay corrects with (`policy.nuisance`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import ibis
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy import evidence as evidence_
from routing_pipeline.policy.cells import Ints, sum_by
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.intervals import ONE, Statistic, interval, simultaneous
from routing_pipeline.policy.proof import Evaluated, carried, evaluated, kept, outcomes_of
from routing_pipeline.policy.replay import UNMOVED, Replay, replay
from routing_pipeline.policy.rule_set import Change, Expected, Outcomes, RelativeChange, RuleSet, cannot_tell
from routing_pipeline.policy.rules import actions_of
from routing_pipeline.policy.scores import BOTH, OUTCOMES, PROVE, ScoreCube, Sums
from routing_pipeline.scope import CLUSTERS, SECONDS_PER_DAY, AnalysisScope

MIN_SERVED = 20
MIN_SCORED = 6
"""Requests of the proving half that today already send to a rule's target, per task, and labels among them."""
MAX_UNSEEN = 0.2
MIN_DAY_CLUSTERS = 10
TASKS_SHOWN = 50


class TaskReplay(Result):
    """One task type under the rules."""

    task_type: str
    requests: int = quantity("Replayed", "requests")
    moved_share: float = quantity("Share of them that the rules route differently", "0..1")
    expected: Expected


class DayReplay(Result):
    """One UTC day under the rules."""

    day: str = Field(description="ISO date")
    requests: int = quantity("Replayed", "requests")
    moved_share: float = quantity("Share of them that the rules route differently", "0..1")
    expected: Expected


class Simulation(Result):
    """What the rules would have done."""

    rule_set_id: str
    requests: int = quantity("Replayed: final requests of the half that the search never saw", "requests")
    sessions: int = quantity("Groups of sessions behind the intervals", "groups")
    moved_share: float = quantity("Share of replayed requests that the rules route differently", "0..1")
    expected: Expected
    completion_change: Measured = quantity("Share of requests that end well, against today", "0..1")
    by_task: tuple[TaskReplay, ...]
    by_day: tuple[DayReplay, ...]
    saving_usd: Measured = quantity("Over the whole window's traffic; positive is a saving", "USD")
    unsupported: tuple[str, ...] = Field(default=(), description="Parts of the rules of which the logs cannot tell, and why")
    verdict: str = Field(description="One sentence for a manager")


def simulate(rule_set: RuleSet, evidence: RoutingEvidence, requests: ibis.Table, scope: AnalysisScope) -> Simulation:
    """Replay a rule set, ours or hand-written, on the half of the sessions that the search never saw.

    Args:
        rule_set: any; weighted routes are averaged by their weights.
        evidence: of the same window; its cells hold the nuisance models.
        requests: conformed rows of the window; the proving half alone is read.
        scope: the window.

    Returns:
        Outcomes per request with intervals that hold for all tasks (all days) at once. Where a rule sends requests to a
        model of which the logs cannot tell, what includes them is Unidentifiable, never a number.
    """
    if evidence.refusal is not None or evidence.cells_uri is None:
        return _refused(rule_set, evidence.refusal or "no evidence was gathered")
    cube = evidence_.read_scores(evidence.cells_uri)
    replayed = replay(rule_set, requests, cube)
    if replayed.requests.sum() == 0:
        return _refused(rule_set, "no session of the window falls into the half that proofs are made on")
    unsupported = unsupported_parts(rule_set, replayed, cube)
    return _told(rule_set, replayed, cube, unsupported, evidence, scope)


def unsupported_parts(rule_set: RuleSet, replayed: Replay, cube: ScoreCube) -> dict[tuple[int, int], str]:
    """(rule, task) of which the logs cannot tell, and why."""
    binning = cube.cells.binning
    found: dict[tuple[int, int], str] = {}
    for place, rule in enumerate(rule_set.rules):
        if rule.route == "unchanged":
            continue
        unknown = [target.model for target in rule.route if target.model not in binning.models]
        for task in np.unique(replayed.task[replayed.rule == place]):
            of = (replayed.rule == place) & (replayed.task == task)
            name = binning.tasks[task] if task < len(binning.tasks) else "rare task types"
            why = _why_unsupported(rule.when.tier is not None, unknown, replayed, of)
            if why is not None:
                found[place, int(task)] = f"rule {rule.id}, {name}: {why}"
    return found


def _why_unsupported(by_tier: bool, unknown: list[str], replayed: Replay, of: NDArray[np.bool_]) -> str | None:
    if by_tier:
        return "the tier asked for is not in the logs"
    if unknown:
        return f"{', '.join(unknown)} never served a request in the window"
    if replayed.served[of].sum() < MIN_SERVED or replayed.scored[of].sum() < MIN_SCORED:
        return (
            f"only {replayed.served[of].sum():.0f} of these requests went there, {replayed.scored[of].sum():.0f} of them scored; "
            "route a small share at random to find out"
        )
    if replayed.unseen[of].sum() > MAX_UNSEEN * replayed.requests[of].sum():
        return f"{replayed.unseen[of].sum() / replayed.requests[of].sum():.0%} of these requests lie where the model was never tried"
    return None


class _Part:
    """Both policies over some groups of the replay; `cells`: the same from the score cube, which knows of errors that rows do not show."""

    def __init__(self, replayed: Replay, of: NDArray[np.bool_], cells: tuple[Sums, Sums] | None = None) -> None:
        clusters = (replayed.cluster[of],)

        def by_cluster(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return sum_by(clusters, values[of], (CLUSTERS,))

        def outcome(sums: NDArray[np.float64], known: Sums | None) -> Evaluated:
            scores = np.stack([by_cluster(sums[:, outcome]) for outcome in range(len(OUTCOMES))], axis=1)
            of_models, of_failures = (np.zeros_like(scores), 0.0) if known is None else (known.model_error, known.failure_variance)
            return outcomes_of(Sums(scores, n, of_models, of_failures))

        n = by_cluster(replayed.requests)
        self.requests = float(n.sum())
        self.moved = float(replayed.moved[of].sum()) / max(self.requests, 1e-300)
        self.clusters = int((n > 0).sum())
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


def _of_cells(cube: ScoreCube, rule_set: RuleSet) -> Callable[[Ints], tuple[Sums, Sums] | None]:
    """Today's routing and the rules over some places of the score cube's proving half, for what they add to the replay's error.

    None for rules that cells cannot express; conditions on fields that cells lack count as not met.
    """
    actions = actions_of(cube, rule_set.rules)

    def over(places: Ints) -> tuple[Sums, Sums] | None:
        if actions is None:
            return None
        rest = np.full(cube.scores.shape[1] - len(actions), cube.keep)
        now, then = (cube.chosen(np.concatenate([each, rest]), PROVE, places) for each in (kept(cube), actions))
        return now, then

    return over


class _Teller:
    """Turns parts into expectations under one critical value per outcome."""

    def __init__(self, cube: ScoreCube, parts: list[_Part], labelled: float) -> None:
        sums = cube.cells.sums
        n = max(float(sums["n"].sum()), 1.0)
        self.known = {
            "cost": sums["n_cost"].sum() >= evidence_.PRICED_SHARE * n,
            "latency": sums["n_latency"].sum() >= evidence_.PRICED_SHARE * n,
        }
        self.critical = {
            name: simultaneous([each for part in parts for each in part.family(name)]) for name in ("cost", "quality", "latency")
        }
        self.labelled = labelled

    def expected(self, part: _Part, why_not: str | None) -> Expected:
        baseline = self._outcomes(part.now, part)
        if why_not is not None:
            unknown = cannot_tell(why_not)
            change = RelativeChange(relative=Unidentifiable(unidentifiable=why_not))
            return Expected(baseline=baseline, proposed=unknown, change=Change(cost_usd=change, quality=change, latency_ms=change))
        return Expected(
            baseline=baseline,
            proposed=self._outcomes(part.then, part),
            change=Change(
                cost_usd=RelativeChange(relative=self._of("cost", part.then.cost.relative_to(part.now.cost), part)),
                quality=RelativeChange(relative=self._of("quality", part.then.quality.relative_to(part.now.quality), part)),
                latency_ms=RelativeChange(relative=self._of("latency", part.then.latency.relative_to(part.now.latency), part)),
            ),
        )

    def _outcomes(self, outcome: Evaluated, part: _Part) -> Outcomes:
        return Outcomes(
            cost_usd=self._of("cost", outcome.cost, part),
            quality=self._of("quality", outcome.quality, part, bounds=(0.0, 1.0)),
            latency_ms=self._of("latency", outcome.latency, part),
        )

    def _of(self, name: str, statistic: Statistic, part: _Part, *, bounds: tuple[float, float] | None = None) -> Measured:
        if not self.known.get(name, True):
            return Unidentifiable(unidentifiable=f"{name} is not known for enough requests")
        if part.clusters < MIN_DAY_CLUSTERS:
            return Unidentifiable(unidentifiable=f"{part.clusters} group(s) of sessions are too few for an interval")
        return interval(statistic, self.critical[name], bounds=bounds, n=self.labelled)


def _told(
    rule_set: RuleSet,
    replayed: Replay,
    cube: ScoreCube,
    unsupported: dict[tuple[int, int], str],
    evidence: RoutingEvidence,
    scope: AnalysisScope,
) -> Simulation:
    binning = cube.cells.binning
    keep = kept(cube)
    of_cells = _of_cells(cube, rule_set)
    everywhere = of_cells(np.arange(cube.scores.shape[1]))
    whole = _Part(replayed, np.ones(len(replayed.task), dtype=bool), everywhere).at_level_of(evaluated(cube, keep, BOTH))
    sizes = sum_by((replayed.task,), replayed.requests, (len(binning.tasks) + 1,))
    tasks = [int(task) for task in np.argsort(-sizes, kind="stable") if sizes[task] > 0][:TASKS_SHOWN]
    by_task = {
        task: _Part(replayed, replayed.task == task, of_cells(places)).at_level_of(evaluated(cube, keep, BOTH, places))
        for task, places in ((task, _places_of(cube, task)) for task in tasks)
    }
    teller = _Teller(cube, [whole, *by_task.values()], evidence.labelled)
    days = [int(day) for day in np.unique(replayed.day)]
    by_day = {day: _Part(replayed, replayed.day == day) for day in days}
    day_teller = _Teller(cube, list(by_day.values()), evidence.labelled)
    reasons = tuple(unsupported.values())
    why = "; ".join(reasons[:3]) or None
    lost = np.zeros(len(replayed.task), dtype=bool)
    for rule, task in unsupported:
        lost |= (replayed.rule == rule) & (replayed.task == task)
    expected = teller.expected(whole, why)
    return Simulation(
        rule_set_id=rule_set.rule_set_id,
        requests=round(whole.requests),
        sessions=whole.clusters,
        moved_share=min(whole.moved, 1.0),
        expected=expected,
        completion_change=Unidentifiable(unidentifiable=why) if why else interval(whole.then.success.minus(whole.now.success), ONE),
        by_task=tuple(
            TaskReplay(
                task_type=binning.tasks[task] if task < len(binning.tasks) else "rare task types",
                requests=round(part.requests),
                moved_share=min(part.moved, 1.0),
                expected=teller.expected(part, next((text for (_, of), text in unsupported.items() if of == task), None)),
            )
            for task, part in by_task.items()
        ),
        by_day=tuple(
            DayReplay(
                day=f"{datetime.fromtimestamp(day * SECONDS_PER_DAY, UTC):%Y-%m-%d}",
                requests=round(part.requests),
                moved_share=min(part.moved, 1.0),
                expected=day_teller.expected(part, why if lost[replayed.day == day].any() else None),
            )
            for day, part in by_day.items()
        ),
        saving_usd=_saving(whole, teller, why, evidence.traffic),
        unsupported=reasons,
        verdict=_verdict(expected, why, whole, evidence, scope, is_moved=bool((replayed.rule != UNMOVED).any())),
    )


def _places_of(cube: ScoreCube, task: int) -> Ints:
    """A task's segments, and what of it no rule reaches."""
    segments = [place for place, segment in enumerate(cube.segments) if segment.task == task]
    return np.array([*segments, len(cube.segments) + task], dtype=np.int64)


def _saving(whole: _Part, teller: _Teller, why: str | None, requests: float) -> Measured:
    if why is not None:
        return Unidentifiable(unidentifiable=why)
    if not teller.known["cost"]:
        return Unidentifiable(unidentifiable="cost is not known for enough requests")
    saving = whole.now.cost.minus(whole.then.cost).scaled(requests)
    return interval(saving, teller.critical["cost"])


def _verdict(expected: Expected, why: str | None, whole: _Part, evidence: RoutingEvidence, scope: AnalysisScope, *, is_moved: bool) -> str:
    if not is_moved:
        return "No rule decides for any request of the window: nothing changes."
    if why is not None:
        return f"The logs cannot tell what these rules would do: {why}."
    cost, quality = expected.change.cost_usd.relative, expected.change.quality.relative
    said = f"On {whole.requests:,.0f} requests of {scope.days:.1f} days that the search never saw, the rules move {whole.moved:.0%}"
    if isinstance(cost, Estimate):
        said += f" and change cost by {cost.estimate:+.1%} ({cost.low:+.1%} to {cost.high:+.1%})"
    if isinstance(quality, Estimate):
        said += f", quality by {quality.estimate:+.2%} ({quality.low:+.2%} to {quality.high:+.2%})"
    return said + (". " if evidence.grade == "A" else ". Worth an A/B test, not yet a promise. ") + "Intervals are 95 %."


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
