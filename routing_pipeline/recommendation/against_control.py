"""What rules changed, by the sessions that chance left without them on the same days.

Belongs here: finding both arms of earlier rule sets, and their difference against the promised change. Does not belong here: levels before
and after (`realized_outcomes`), looking at a canary that is under way (`canary`).

Within each rule and day chance alone split the sessions, by a share that may differ from day to day: the control is weighted to the days
of the canary, and days without either arm say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ibis
import numpy as np
import pyarrow as pa
from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable
from routing_pipeline.recommendation.counted_sessions import COUNTS_FOR, THEN, counted, requests_then, with_counts
from routing_pipeline.rules.deciding import CONTROL
from routing_pipeline.rules.model import RuleSet, logged_rule_id
from routing_pipeline.stats.inference import Floats, clustered_mean, independent_sum
from routing_pipeline.window.scope import CLUSTERS

Outcome = Literal["cost_usd", "quality", "latency_ms"]
Design = Literal["randomised", "before and after"]
PromiseVerdict = Literal["kept", "better", "missed", "cannot tell"]
COLUMNS: dict[Outcome, str] = {"cost_usd": "request_cost_usd", "quality": "quality", "latency_ms": "request_latency_ms"}
_SAID: dict[Outcome, tuple[str, str]] = {
    "cost_usd": ("cost", "${:+.6f} per request"),
    "quality": ("quality", "{:+.3f}"),
    "latency_ms": ("latency", "{:+.0f} ms"),
}


class AgainstControl(Result):
    """One outcome of requests that rules decided, less that of requests that chance left without them."""

    outcome: Outcome
    control: Measured = Field(
        description="Per request of the control, weighted to the days of the canary; of rules per session, per request of the time before"
    )
    difference: Measured = Field(
        description="Canary less control, per request; sessions count alike in both, whatever number of requests they take"
    )
    promised: Measured = Field(description="The same as rules.json promised it; not known of single rules")
    verdict: PromiseVerdict = Field(description="`missed`: worse than promised by more than chance; `better`: the other way round")
    told: str = Field(description="In words")


def verdict_on(outcome: Outcome, beyond: Estimate) -> PromiseVerdict:
    """Of what was measured less what was promised."""
    worse = beyond.high < 0 if outcome == "quality" else beyond.low > 0
    better = beyond.low > 0 if outcome == "quality" else beyond.high < 0
    return "missed" if worse else "better" if better else "kept"


@dataclass(frozen=True)
class Arms:
    """Sums by (rule set, rule, arm, cluster of sessions, day)."""

    sums: dict[str, Floats]

    def of_rule(self, place: int, at: int) -> tuple[AgainstControl, ...]:
        """Of one rule of one rule set; empty without a control."""
        return self._compared((self.sums["set"] == place) & (self.sums["rule"] == at), None, 1.0)

    def of_rule_set(self, place: int, promise: RuleSet, meanwhile: float) -> tuple[AgainstControl, ...]:
        """Of all its rules, `meanwhile` that many final requests of any kind were logged; empty without a control."""
        of = self.sums["set"] == place
        now, then = (float(self.sums[name][of].sum()) for name in ("n", "n_then"))
        share = then / max(meanwhile - now + then, 1.0)
        return self._compared(of, promise, min(share, 1.0))

    def _compared(self, of: np.ndarray, promise: RuleSet | None, share: float) -> tuple[AgainstControl, ...]:
        is_control = of & (self.sums["control"] == 1)
        if not is_control.any() or not (of & ~is_control).any():
            return ()
        return tuple(self._of(outcome, of & ~is_control, is_control, promise, share) for outcome in COLUMNS)

    def _of(self, outcome: Outcome, canary: np.ndarray, control: np.ndarray, promise: RuleSet | None, share: float) -> AgainstControl:
        counts, totals = self.sums[f"n_{outcome}"], self.sums[f"t_{outcome}"]
        _, stratum = np.unique(np.stack([self.sums["rule"], self.sums["day"]]), axis=1, return_inverse=True)
        stratum = stratum.reshape(-1)
        size = int(stratum.max()) + 1
        in_canary, in_control = (np.bincount(stratum[arm], counts[arm], minlength=size) for arm in (canary, control))
        both = (in_canary > 0) & (in_control > 0)
        weight = np.where(both, in_canary / np.maximum(in_control, 1.0), 0.0)
        one = self._mean(totals * both[stratum], counts * both[stratum], canary)
        other = self._mean(totals * weight[stratum], counts * weight[stratum], control)
        promised = promised_difference(outcome, promise, share)
        if isinstance(one, Unidentifiable) or isinstance(other, Unidentifiable):
            why = one if isinstance(one, Unidentifiable) else other
            return AgainstControl(
                outcome=outcome, control=other, difference=why, promised=promised, verdict="cannot tell", told="cannot be told"
            )
        difference = independent_sum([(1.0, one), (-1.0, other)])
        verdict: PromiseVerdict = "cannot tell"
        if isinstance(promised, Estimate):
            verdict = verdict_on(outcome, independent_sum([(1.0, difference), (-1.0, promised)]))
        told = _in_words(outcome, difference, promised)
        return AgainstControl(outcome=outcome, control=other, difference=difference, promised=promised, verdict=verdict, told=told)

    def _mean(self, totals: Floats, counts: Floats, of: np.ndarray) -> Measured:
        cluster = self.sums["cluster"][of].astype(np.int64)
        by_cluster = (np.bincount(cluster, values[of], minlength=CLUSTERS).astype(np.float64) for values in (totals, counts))
        return clustered_mean(*by_cluster)


def arms_of(requests: ibis.Table, known: Sequence[RuleSet]) -> Arms:
    """Both arms of these rule sets; rules that change nothing have none."""
    ids = [
        (f"{logged_rule_id(each.rule_set_id, rule.id)}{ending}", place, at, arm, requests_then(rule, each))
        for place, each in enumerate(known)
        for at, rule in enumerate(each.rules)
        if rule.route != "unchanged"
        for arm, ending in enumerate(("", f"/{CONTROL}"))
    ]
    names, kinds = ("logged_id", "set", "rule", "control", THEN), (pa.string(), pa.int64(), pa.int64(), pa.int64(), pa.float64())
    lookup = ibis.memtable(
        pa.table({name: pa.array([each[at] for each in ids], kind) for at, (name, kind) in enumerate(zip(names, kinds, strict=True))})
    )
    rows = requests.filter(requests.is_final).inner_join(lookup, requests.routing_rule_id == lookup.logged_id)
    if "rule_arm" in rows.columns:
        rows = rows.mutate(control=ibis.ifelse((rows.rule_arm == CONTROL).fill_null(False), ibis.literal(1, "int64"), rows.control))
    rows = with_counts(rows, ("set", "rule", "control"))
    grouped = rows.group_by("set", "rule", "control", "cluster", day=(rows.started_s / 86_400).floor().cast("int64")).agg(
        n=rows.count().cast("float64"),
        n_then=rows[COUNTS_FOR].sum(),
        n_quality=rows.quality.count().cast("float64"),
        **{f"n_{outcome}": counted(rows, column) for outcome, column in COLUMNS.items() if outcome != "quality"},
        **{f"t_{outcome}": rows[column].sum().fill_null(0.0) for outcome, column in COLUMNS.items()},
    )
    table = grouped.order_by("set", "rule", "control", "cluster", "day").to_pyarrow()
    return Arms({name: table[name].to_numpy().astype(np.float64) for name in table.column_names})


def promised_difference(outcome: Outcome, promise: RuleSet | None, share: float) -> Measured:
    """The promised change of decided requests: that of all, which others dilute, over the share that is decided."""
    if promise is None:
        return Unidentifiable(unidentifiable="a single rule promises levels, and no change")
    change, today = getattr(promise.expected.change, outcome).relative, getattr(promise.expected.baseline, outcome)
    if isinstance(change, Unidentifiable) or isinstance(today, Unidentifiable) or share <= 0:
        return change if isinstance(change, Unidentifiable) else Unidentifiable(unidentifiable="what it is a change of was not known")
    promised: Estimate = change.scaled(today.estimate / share)
    return promised


def _in_words(outcome: Outcome, difference: Estimate, promised: Measured) -> str:
    name, form = _SAID[outcome]
    told = f"{name} changed by {form.format(difference.estimate)} against the control of the same days"
    return told + (f", {form.format(promised.estimate)} was promised" if isinstance(promised, Estimate) else "")
