"""Eight weeks of a loop that closes: logs, rules, roll-out, looks, the next logs; in worlds whose truth is known, beside naive averages.

Run: python benchmarks/closed_loop.py [--worlds N] [--weeks N] [--requests N] [--history DAYS] [--fall X] [--trust-proof] [--seed N]. About a minute a world. To reach: spend within 5 % of the
best that rules on task and complexity can do, true quality in no week more than .01 below its floor, every planted fall taken back within
two days, and what is harmless taken back in at most 5 % of worlds. The seed is fresh unless given, and printed.

Half of the worlds hold a planted fall: from a moment of the roll-out on, answers of requests that follow the rules are worse, until the
rules are taken back. Looked at four times a day. A roll-out is begun on a Monday on which the logs of the last DAYS propose one and none is
followed; so many days were logged before the first.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.optimize import linprog

sys.path.insert(0, str(Path(__file__).parents[1]))

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.gateways.rollout_decision import next_of
from routing_pipeline.recommendation.canary import ALPHA, look_of
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.rules.deciding import drawn, share_key, steps_of
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.rollout_record import RolloutState, Transition
from routing_pipeline.window.engine import Engine, open_engine
from tests.simulation import worlds
from tests.simulation.worlds import START_S, Requests, Truth, World

DROP = 0.01
NEAR = 0.05
"""Of the best by rules."""
LOOKS_A_DAY = 4
BINS = 5
COLUMNS = {"quality": "quality", "completion": "completion", "cost_usd": "request_cost_usd", "latency_ms": "request_latency_ms"}


@dataclass
class Week:
    """Sums of true expectations over a week: what was paid and got, and what today's own routing would have."""

    paid: float = 0.0
    got: list[tuple[float, float]] = field(default_factory=list)
    own: list[tuple[float, float]] = field(default_factory=list)
    own_paid: float = 0.0

    def add(self, requests: Requests, shares: np.ndarray) -> None:
        """A part of a day under shares by (request, model)."""
        for routed, into in ((shares, self.got), (requests.route, self.own)):
            success = (routed * requests.success).sum(axis=1)
            into.append((float((routed * requests.success * requests.quality).sum()), float(success.sum())))
        self.paid += float((shares * requests.cost).sum())
        self.own_paid += float((requests.route * requests.cost).sum())

    @property
    def below_floor(self) -> float:
        """How far true quality is below today's less what may be lost; below 0 where it is above."""
        got, own = (sum(good for good, _ in each) / sum(n for _, n in each) for each in (self.got, self.own))
        return own - DROP - got

    @property
    def spend(self) -> float:
        """Share of what today's routing would have cost."""
        return self.paid / self.own_paid


@dataclass
class Told:
    """What came of one world."""

    weeks: list[Week]
    proposed: list[int] = field(default_factory=list)
    """Days on which a roll-out began."""
    whole: float | None = None
    """Day since which all sessions follow the rules."""
    rolled_back: list[float] = field(default_factory=list)
    """Days of roll-backs."""
    planted_day: float | None = None
    planted_at: float | None = None
    """Share at that moment."""


class Loop:
    """One world as it goes."""

    def __init__(
        self, world: World, per_day: int, weeks: int, history: int, seed: int, fall: float, engine: Engine, *, trust_proof: bool
    ) -> None:
        self.world, self.per_day, self.history, self.fall, self.engine = world, per_day, history, fall, engine
        self.trust_proof = trust_proof
        self.rng = np.random.default_rng(seed)
        self.told = Told([Week() for _ in range(weeks)])
        self.logs: list[tuple[int, pa.Table]] = []
        self.rules: RuleSet | None = None
        self.state: RolloutState | None = None
        self.moments: dict[tuple[int, int, bool], dict[str, float]] = {}
        self.seen = 0
        # Some time after the first step of the first roll-out, wherever its share then is.
        self.plant_after = float(self.rng.uniform(2, 20)) if fall else np.inf

    def run(self) -> Told:
        """All of its weeks."""
        for day in range(-self.history, 7 * len(self.told.weeks)):
            if day >= 0 and day % 7 == 0 and self.state is None:
                self._propose(day)
            for part in range(LOOKS_A_DAY):
                self._part(day, part)
                self._look(day + (part + 1) / LOOKS_A_DAY)
        return self.told

    def _propose(self, day: int) -> None:
        rows = pa.concat_tables([table for of, table in self.logs if of >= day - self.history])
        with tempfile.TemporaryDirectory() as folder:
            asked = {"max_quality_drop": DROP, "max_quality_drop_per_task": 1.0, "goal": "cost"}
            evidence, scope = worlds.evidence_of(self.engine, rows, Path(folder), **asked)
            rules = optimize_routing_rules(evidence, scope).rule_set
        if rules.rules:
            self.rules = rules.model_copy(update={"rule_set_id": f"{rules.rule_set_id}-{day}"})
            self.told.proposed.append(day)
            self.state = RolloutState(rule_set_id=self.rules.rule_set_id, share=0.0)
            self.moments, self.seen = {}, 0
            self._step("advance", 0.01, day)

    def _step(self, change: str, share: float, day: float) -> None:
        assert self.state is not None
        if share == 1:
            self.told.whole = day
        at = datetime.fromtimestamp(START_S + day * SECONDS_PER_DAY, UTC)
        taken = Transition(
            number=len(self.state.transitions) + 1,
            change=change,
            rule_set_id=self.state.rule_set_id,
            share=share,
            at=at,
            by="the loop",
            before_sha256=None,
        )
        self.state = self.state.model_copy(update={"share": share, "transitions": (*self.state.transitions, taken)})

    def _part(self, day: int, part: int) -> None:
        """Traffic of a part of a day: drawn, routed, logged, added up."""
        n = self.per_day // LOOKS_A_DAY
        requests = worlds.contexts(self.world, n, self.rng)
        requests = replace(requests, session=requests.session + (day * LOOKS_A_DAY + part) * 10_000_000)
        shares, canary, decides = requests.route, np.zeros(n, bool), np.zeros(n, bool)
        began = 0.0
        if self.rules is not None and self.state is not None:
            began = (self.state.steps[0].at.timestamp() - START_S) / SECONDS_PER_DAY
            routed = worlds.followed(self.world, requests, self.rules)
            decides = (routed != requests.route).any(axis=1)
            below = steps_of(self.state.share)
            names, inverse = np.unique(requests.session, return_inverse=True)
            canary = decides & np.array([drawn(share_key(self.rules.rule_set_id, str(name))) < below for name in names])[inverse]
            shares = np.where(canary[:, None], routed, requests.route)
        true = requests
        if self.state is not None and not self.told.rolled_back and day + part / LOOKS_A_DAY - began >= self.plant_after:
            if self.told.planted_day is None:
                self.told.planted_day, self.told.planted_at = day + part / LOOKS_A_DAY, self.state.share
            worse = np.clip(requests.quality - self.fall * canary[:, None], 0, 1)
            true = replace(requests, quality=worse)
        rows = worlds.logged(self.world, replace(true, route=shares), self.rng)
        started = START_S + (day + (part + np.sort(self.rng.random(n))) / LOOKS_A_DAY) * SECONDS_PER_DAY
        rows = worlds.with_column(rows, "started_s", started)
        rows = worlds.with_column(rows, "day", (started // SECONDS_PER_DAY).astype(np.int64))
        self.logs = [*(each for each in self.logs if each[0] > day - self.history), (day, rows)]
        if day < 0:
            return
        # What today's own routing would have got is not touched by what was planted.
        week = self.told.weeks[day // 7]
        week.add(true, shares)
        if true is not requests:
            week.own[-1] = (float((requests.route * requests.success * requests.quality).sum()), week.own[-1][1])
        if self.state is not None:
            self._add_up(rows, requests.session, canary, decides, day, float(started[-1]))
            self.seen += n

    def _add_up(self, rows: pa.Table, session: np.ndarray, canary: np.ndarray, decides: np.ndarray, day: int, last_s: float) -> None:
        assert self.state is not None
        step = len(self.state.steps) - 1
        good = np.array(rows["status"].to_pylist()) == "success"
        values = {
            name: good.astype(float) if name == "completion" else rows[column].to_numpy(zero_copy_only=False).astype(float)
            for name, column in COLUMNS.items()
        }
        for arm in (True, False):
            mine = decides & (canary == arm)
            names, inverse = np.unique(session[mine], return_inverse=True)
            into = self.moments.setdefault((step, day, arm), {})
            into["sessions"] = into.get("sessions", 0.0) + len(names)
            into["last_s"] = last_s
            for name, value in values.items():
                known = ~np.isnan(value[mine])
                n = np.bincount(inverse[known], minlength=len(names)).astype(float)
                t = np.bincount(inverse[known], value[mine][known], minlength=len(names))
                sums = {
                    "sessions": float((n > 0).sum()),
                    "n": n.sum(),
                    "total": t.sum(),
                    "total_squared": (t * t).sum(),
                    "total_n": (t * n).sum(),
                    "n_squared": (n * n).sum(),
                }
                for kind, more in sums.items():
                    into[f"{kind}_{name}"] = into.get(f"{kind}_{name}", 0.0) + float(more)

    def _look(self, day: float) -> None:
        if self.state is None or self.rules is None or self.state.share >= 1:
            return
        moments = [{"step": step, "day": of, "is_canary": arm, **sums} for (step, of, arm), sums in sorted(self.moments.items())]
        look = look_of(moments, self.seen, self.rules, len(self.state.steps), trust_proof=self.trust_proof)
        now = datetime.fromtimestamp(START_S + day * SECONDS_PER_DAY, UTC)
        then = next_of(self.state, look, self.state.steps[0].at, 1e4, now)
        if then.kind == "roll_back":
            self.told.rolled_back.append(day)
            self.state = self.rules = None
        elif then.kind == "advance" and self.state.next_share is not None:
            self._step("advance", self.state.next_share, day)


def best_by_rules(world: World, rng: np.random.Generator, n: int = 200_000) -> float:
    """Cheapest spend, as a share of today's, of any weights by task and range of complexity that truly keep the floor."""
    requests = worlds.contexts(world, n, rng)
    today: Truth = worlds.truth_of(requests, requests.route)
    edges = np.quantile(requests.complexity, np.linspace(0, 1, BINS + 1)[1:-1])
    cell = requests.task * BINS + np.searchsorted(edges, requests.complexity, side="right")
    cells, models = len(world.tasks) * BINS, len(world.models)
    cost, success, good = (
        np.stack([np.bincount(cell, values[:, arm], minlength=cells) for arm in range(models)], axis=1) / n
        for values in (requests.cost, requests.success, requests.success * requests.quality)
    )
    floor = today.quality - DROP
    solved = linprog(
        cost.ravel(),
        A_ub=(floor * success - good).reshape(1, -1),
        b_ub=[0.0],
        A_eq=np.kron(np.eye(cells), np.ones((1, models))),
        b_eq=np.ones(cells),
        bounds=(0, 1),
    )
    return float(solved.fun / today.cost)


def by_averages(world: World, per_day: int, weeks: int, history: int, seed: int) -> list[Week]:
    """What acts on raw means: each Monday the cheapest table that they allow, for everybody; and back for a week when the raw mean fell."""
    rng = np.random.default_rng(seed)
    told = [Week() for _ in range(weeks)]
    rows = worlds.logged(world, worlds.contexts(world, history * per_day, rng), rng)
    began = worlds.raw_quality(rows)
    before = (rows, began)
    for week in told:
        requests = worlds.contexts(world, 7 * per_day, rng)
        shares = requests.route
        if before[1] >= began - DROP:
            shares = worlds.averages_table(world, before[0], requests, began - DROP)
        rows = worlds.logged(world, replace(requests, route=shares), rng)
        before = (rows, worlds.raw_quality(rows))
        week.add(requests, shares)
    return told


def main() -> None:
    """Print a line for each world, and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--weeks", type=int, default=8)
    parser.add_argument("--requests", type=int, default=120_000, help="a week")
    parser.add_argument("--history", type=int, default=28, help="days of logs that rules are found in")
    parser.add_argument("--fall", type=float, default=0.1, help="of quality, where one is planted")
    parser.add_argument("--trust-proof", action="store_true", help="as [rollout] trust_proof: grade B counts where the canary bears it out")
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    kinds = {
        "confounded": worlds.CONFOUNDED,
        "two near": worlds.TWO_NEAR,
        "heavy tails": worlds.HEAVY_TAILED,
        "failures": worlds.FAILING_BY_TASK,
    }
    print(
        f"seed {seed}, {asked.worlds} worlds of {asked.weeks} weeks after {asked.history} days of logs, {asked.requests} requests a week, "
        f"planted fall {asked.fall}",
        flush=True,
    )
    print(f"false alarms: {sum(ALPHA.values()):.1%} in all are allowed for\n")
    print(
        "| world | begun on day | all follow since day | planted on day (share) | days to roll-back | roll-backs | last week's spend | best by rules | worst week below the floor "
        "| averages: spend in the last two | worst week |\n|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    found: list[tuple[Told, float, list[Week]]] = []
    with open_engine() as engine:
        for number in range(asked.worlds):
            began = time.monotonic()
            name = list(kinds)[number // 2 % len(kinds)]
            per_day = asked.requests // 7
            fall = asked.fall if number % 2 else 0.0
            told = Loop(kinds[name], per_day, asked.weeks, asked.history, seed + number, fall, engine, trust_proof=asked.trust_proof).run()
            best = best_by_rules(kinds[name], np.random.default_rng(seed))
            naive = by_averages(kinds[name], per_day, asked.weeks, asked.history, seed + number)
            found.append((told, best, naive))
            planted = "-" if told.planted_day is None else f"{told.planted_day:.2f} ({told.planted_at:.0%})"
            print(
                f"| {name} | {', '.join(map(str, told.proposed)) or '-'} | {'-' if told.whole is None else f'{told.whole:.1f}'} | {planted} | {_days(told)} | {len(told.rolled_back)} | {told.weeks[-1].spend:.1%} | {best:.1%} | "
                f"{max(each.below_floor for each in told.weeks):+.4f} | {_last(naive):.1%} | {max(each.below_floor for each in naive):+.4f} |",
                flush=True,
            )
            print(f"({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    _summary(found)


def _days(told: Told) -> str:
    if told.planted_day is None:
        return "-"
    after = [day - told.planted_day for day in told.rolled_back if day >= told.planted_day]
    return f"{after[0]:.2f}" if after else "never"


def _last(weeks: list[Week]) -> float:
    """Spend of the last two weeks: who goes back for a week whenever the mean fell has two kinds of week."""
    return sum(each.paid for each in weeks[-2:]) / sum(each.own_paid for each in weeks[-2:])


def _summary(found: list[tuple[Told, float, list[Week]]]) -> None:
    harmless = [told for told, _, _ in found if told.planted_day is None]
    planted = [(told, told.planted_day) for told, _, _ in found if told.planted_day is not None]
    in_time = [any(0 <= day - at <= 2 for day in told.rolled_back) for told, at in planted]
    at_all = [any(day >= at for day in told.rolled_back) for told, at in planted]
    worst = max(week.below_floor for told, _, _ in found for week in told.weeks)
    over = [told.weeks[-1].spend / best - 1 for told, best, _ in found if told.planted_day is None]
    print(f"\nharmless changes taken back: {sum(bool(each.rolled_back) for each in harmless)} of {len(harmless)} worlds")
    print(f"planted falls taken back: {sum(at_all)} of {len(planted)}, within two days: {sum(in_time)}")
    print(
        f"true quality in the worst week of all: {worst:+.4f} below the floor; by averages {max(w.below_floor for _, _, n in found for w in n):+.4f}"
    )
    if over:
        print(f"last week's spend over the best by rules, without a planted fall: median {np.median(over):+.1%}, worst {max(over):+.1%}")
    after = [told.weeks[-1].spend / best - 1 for told, best, _ in found if told.whole is not None and told.whole <= 7 * len(told.weeks) - 7]
    if after:
        within = sum(each <= NEAR for each in after)
        print(
            f"the same where all sessions followed the rules by then: median {np.median(after):+.1%}; {within} of {len(after)} within 5 %"
        )


if __name__ == "__main__":
    main()
