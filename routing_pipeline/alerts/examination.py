"""What an alert is about: the incident against its baseline, whose it is, why, which requests, and what to do.

Belongs here: putting together what detection, attribution and the rows of the window say of one incident, in fields and in
sentences. Does not belong here: whether there is an incident (`detection`, `decisions`), taking it apart (`attribution`),
whom to tell (`notifications`).

An incident is some hours of one series against the same hours of the weeks before, which are mostly not in the window that is
analysed. So the hours come from the sums that are kept of the whole lake, and only the requests behind it from the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import ibis
import numpy as np
import pyarrow as pa
from pydantic import Field

from routing_pipeline.alerts import decisions
from routing_pipeline.alerts.attribution import NOTABLE, Attribution, Share, attribution_from_sums
from routing_pipeline.alerts.decisions import AlertDecision, named
from routing_pipeline.alerts.detection import DAYS_BEFORE, Detection, Measure, detect
from routing_pipeline.alerts.series import DIMENSIONS, HourlySums, Measured, Series
from routing_pipeline.clock import HOURS_PER_DAY, HOURS_PER_WEEK, SECONDS_PER_HOUR
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.local_hours import same_hour
from routing_pipeline.parameters import AlertThresholds
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import UNKNOWN_TASK

Sensor = Literal["cost_spike", "latency_spike", "quality_drop", "silent_feed"]

SHOWN_H = 24
"""Hours that are shown up to the end of an incident's window."""
LARGEST = 5
"""Groups, sessions and requests that are named."""
MEASURES: dict[Sensor, dict[Measured, Callable[[AlertThresholds], Measure]]] = {
    "cost_spike": {"spend": decisions.cost_measure},
    "latency_spike": {"latency": decisions.latency_measure},
    "quality_drop": {"failed attempts": decisions.failure_measure, "quality": decisions.quality_measure},
}
"""What each sensor watches; `silent_feed` watches for what is not there."""
UNITS: dict[str, str] = {"spend": "USD", "latency": "ms", "failed attempts": "share of attempts", "quality": "0..1", "requests": "attempts"}


class IncidentHour(Result):
    """One hour of the series; values are in the incident's unit."""

    start: datetime = Field(description="UTC")
    value: float | None = Field(description="Null where nothing was observed")
    usual: float | None = Field(description="Null without a baseline")
    calls: float = quantity("Observations in the hour", "calls")


class IncidentGroup(Result):
    """Calls of one team, task type and model that the incident consists of."""

    team: LogName | None
    task_type: LogName
    model: LogName
    calls: int = quantity("Attempts in the incident's window", "attempts")
    failures: int = quantity("Of them, failed", "attempts")
    spend_usd: float = quantity("What they cost", "USD")
    latency_ms: float | None = quantity("Mean of successes", "ms")
    quality: float | None = quantity("Mean of scored answers", "0..1")


class IncidentRows(Result):
    """The requests behind an incident, as far as the analysed window holds them."""

    calls: int = quantity("Attempts of the series in the incident's window", "attempts")
    sessions: int = quantity("Distinct sessions among them; a request without one is its own", "sessions")
    groups: tuple[IncidentGroup, ...] = Field(description="Those that weigh most in the measure first")
    session_ids: tuple[LogName, ...] = Field(description="Sessions with most of it")
    request_ids: tuple[LogName, ...] = Field(description="Requests with most of it")


class Incident(Result):
    """What happened, since when, how much against what baseline, due to whom, why, and what to do."""

    sensor: Sensor
    measured: str = Field(description="spend, latency, failed attempts, quality or requests")
    unit: str = Field(description="Unit of now, usual and the hours")
    dimension: str = Field(description="What the series is narrowed to: all, team, task, model or rule")
    value: LogName = Field(description="Its value; empty for all traffic")
    since: datetime = Field(description="First unusual hour, UTC")
    start: datetime = Field(description="Start of the evaluated window, UTC")
    end: datetime = Field(description="End of it, exclusive")
    goes_on: bool | None = Field(description="The newest complete hour still stands out; null when that is not known")
    started_this_run: bool = Field(default=False, description="The alert that this analysis was started for")
    now: float = Field(description="Measured in the window: the sum of spend or attempts, else the mean")
    usual: float = Field(description="Usual in the same hours")
    excess: float = Field(description="now - usual; of spend since the incident began")
    baseline: str = Field(description="What is called usual")
    baseline_values: tuple[float, ...] = Field(description="The same window of each of those weeks (days), newest first")
    effects_usd: dict[str, float] = Field(
        default={}, description="Change of spend against the same hours before, by volume, mix, tokens, cache and price, USD"
    )
    due_to: tuple[Share, ...] = Field(default=(), description="By team, task, model and rule: the value with most of the excess")
    hours: tuple[IncidentHour, ...] = Field(description="Up to a day, ending with the window")
    rows: IncidentRows | None = Field(default=None, description="Null where the analysed window does not hold the incident")
    reason: str = Field(description="As the alert says it")
    what: tuple[str, ...] = Field(default=(), description="What happened, in sentences")
    whose: tuple[str, ...] = Field(default=(), description="Who it is due to, in sentences, largest share first")
    why: tuple[str, ...] = Field(default=(), description="The cause, and the calls behind it, in sentences")
    do: tuple[str, ...] = Field(default=(), description="What to do about it")

    @property
    def headline(self) -> str:
        """What happened in a few words."""
        of = "" if self.dimension == "all" else f" of {OF.get(self.dimension, self.dimension)} {named(self.value)}"
        if self.measured == "requests":
            return f"no requests{of} since {self.since:%Y-%m-%d %H:%M} UTC"
        return f"{self.measured}{of} {shown(self.measured, self.now)}, usually {shown(self.measured, self.usual)}"

    @property
    def in_short(self) -> tuple[str, ...]:
        """What page one and a terminal have room for: what, against what, since when, due to whom, and the first thing to do."""
        return (*self.what, *self.whose[:2], *self.why[:1], *self.do[:1])

    @property
    def sentences(self) -> tuple[str, ...]:
        """Everything but what to do."""
        return (*self.what, *self.whose, *self.why)


class ReportedAlert(NamedTuple):
    """An alert as a sensor tells it, and whether the last hour that was judged still alarms."""

    sensor: Sensor
    alert: AlertDecision
    is_going_on: bool


def reported_alerts(
    series: Callable[[Measured], HourlySums | None], thresholds: AlertThresholds, since: int, until: int
) -> tuple[ReportedAlert, ...]:
    """Every alert of spend, latency, quality and failures that looks after each of the hours [since, until) would have told."""
    reported = []
    for sensor, measures in MEASURES.items():
        of: dict[str, tuple[HourlySums | None, Measure]] = {
            measured: (series(measured), measure(thresholds)) for measured, measure in measures.items()
        }
        alerts, last_alarm = decisions.alerts_since(sensor, of, thresholds, since, until)
        reported += [
            ReportedAlert(sensor, alert, place == len(alerts) - 1 and last_alarm == until - 1) for place, alert in enumerate(alerts)
        ]
    return tuple(reported)


def examined(
    reported: ReportedAlert,
    sums: ibis.Table,
    series: HourlySums | None,
    thresholds: AlertThresholds,
    requests: ibis.Table | None = None,
    *,
    started_this_run: bool = False,
) -> Incident:
    """One alert, looked at from all sides.

    Args:
        reported: the alert, with its window.
        sums: cached series of attempts (of scores, for quality) that cover the window and the weeks before it.
        series: what is measured by series and hour over the same hours; None when nothing of it was ever observed.
        thresholds: weeks of baseline, and how sure a sensor must be.
        requests: rows of the analysed window (schema.SCOPED_REQUESTS), None without.
        started_this_run: the analysis was started for it.
    """
    alert = reported.alert
    start_s, end_s = alert.start_s or 0.0, alert.end_s or 0.0
    shown = _Shown.of(reported, series, thresholds)
    now, usual = alert.now or 0.0, alert.usual or 0.0
    attribution = None
    if alert.measured in UNITS:
        attribution = attribution_from_sums(sums, alert.measured, start_s, end_s, thresholds.baseline_weeks, thresholds.timezone)
    excess = shown.excess if alert.measured == "spend" and shown.excess is not None else now - usual
    effects = attribution.effects if attribution is not None and alert.measured == "spend" else {}
    due_to = () if attribution is None else tuple(_in_unit(share, alert.measured) for share in attribution.shares)
    found = Incident(
        sensor=reported.sensor,
        measured=alert.measured,
        unit=UNITS.get(alert.measured, ""),
        dimension=alert.dimension,
        value=alert.value,
        since=_moment(start_s if alert.since_s is None else min(alert.since_s, start_s)),
        start=_moment(start_s),
        end=_moment(end_s),
        goes_on=reported.is_going_on and shown.goes_on,
        started_this_run=started_this_run,
        now=now,
        usual=usual,
        excess=excess,
        baseline=shown.baseline,
        baseline_values=shown.baseline_values,
        effects_usd=effects,
        due_to=due_to,
        hours=shown.hours,
        rows=None if requests is None else _rows(requests, alert),
        reason=alert.reason,
    )
    return _in_words(found, attribution)


def _in_words(found: Incident, attribution: Attribution | None) -> Incident:
    whose = tuple(_whose(share, found.measured) for share in _largest_first(found.due_to))
    return found.model_copy(
        update={"what": tuple(_what(found)), "whose": whose, "why": tuple(_why(found, attribution)), "do": tuple(_do(found))}
    )


def _largest_first(shares: tuple[Share, ...]) -> list[Share]:
    """To a hundredth, so that of a team and the model that it alone calls the team comes first."""
    order = list(DIMENSIONS)
    return sorted(shares, key=lambda share: (-round(share.share, 2), order.index(share.dimension)))


def _in_unit(share: Share, measured: str) -> Share:
    """Latencies are observed as logarithms; readers want milliseconds."""
    if measured != "latency":
        return share
    in_ms = {name: None if value is None else math.exp(min(value, 30.0)) for name, value in (("now", share.now), ("usual", share.usual))}
    return share.model_copy(update=in_ms)


# --- the hours and the baseline


class _Shown(NamedTuple):
    hours: tuple[IncidentHour, ...]
    baseline: str
    baseline_values: tuple[float, ...]
    excess: float | None = None
    """Of a sum: what all hours since the incident began hold above their usual."""
    goes_on: bool = True
    """The last hour that is known stands out by itself, and not only because hours before it do."""

    @staticmethod
    def of(reported: ReportedAlert, series: HourlySums | None, thresholds: AlertThresholds) -> _Shown:
        alert = reported.alert
        place = None if series is None else _place(series, Series(alert.dimension, alert.value))
        if series is None or place is None or alert.start_s is None or alert.end_s is None:
            return _Shown((), "what the weeks before let expect", ())
        measure = MEASURES.get(reported.sensor, {}).get(alert.measured)  # type: ignore[call-overload]
        found = (
            None
            if measure is None
            else detect(series, measure(thresholds), thresholds.baseline_weeks, thresholds.false_alerts_per_month, thresholds.timezone)
        )
        start, end = int(alert.start_s // SECONDS_PER_HOUR), int(alert.end_s // SECONDS_PER_HOUR)
        is_sum, is_log = alert.measured in {"spend", "requests"}, alert.measured == "latency"
        hours = tuple(
            _hour(series, found, place, hour, is_sum=is_sum, is_log=is_log)
            for hour in range(max(end - SHOWN_H, series.first_hour), min(end, series.end_hour))
        )
        weeks, days = (
            (same_hour(thresholds.timezone, end - 1, np.arange(1, times + 1) * cycle_h) + 1).tolist()
            for cycle_h, times in ((HOURS_PER_WEEK, thresholds.baseline_weeks), (HOURS_PER_DAY, DAYS_BEFORE))
        )
        by_weeks = _before(series, place, end - start, weeks, is_sum=is_sum, is_log=is_log)
        by_days = () if by_weeks else _before(series, place, end - start, days, is_sum=is_sum, is_log=is_log)
        times, span = len(by_weeks or by_days), "week" if by_weeks else "day"
        baseline = f"the same hours of the {times} {span}s before" if times > 1 else f"the same hours of the {span} before"
        excess = None
        if is_sum and found is not None:
            began = int((alert.since_s or alert.start_s) // SECONDS_PER_HOUR)
            at = slice(max(min(began, start) - series.first_hour, 0), max(end - series.first_hour, 0))
            excess = float((found.now[place, 0, at] - found.usual[place, 0, at]).sum())
        is_one_hour = end - start == 1
        goes_on = found is None or not is_one_hour or bool(found.is_alarm[place, 0, -1])
        return _Shown(hours, baseline if times else "what the weeks before let expect", by_weeks or by_days, excess, goes_on)


def _place(series: HourlySums, wanted: Series) -> int | None:
    return next((place for place, each in enumerate(series.series) if each == wanted), None)


def _value(count: float, total: float, *, is_sum: bool, is_log: bool) -> float | None:
    if is_sum:
        return total
    if count <= 0:
        return None
    return math.exp(min(total / count, 30.0)) if is_log else total / count


def _hour(series: HourlySums, found: Detection | None, place: int, hour: int, *, is_sum: bool, is_log: bool) -> IncidentHour:
    at = hour - series.first_hour
    count, total = float(series.count[place, at]), float(series.total[place, at])
    usual = None
    if found is not None and (found.is_tested[place, 0, at] or found.usual[place, 0, at] > 0):
        usual = float(found.usual[place, 0, at])
        usual = math.exp(min(usual, 30.0)) if is_log else usual
    return IncidentHour(
        start=_moment(float(hour * SECONDS_PER_HOUR)), value=_value(count, total, is_sum=is_sum, is_log=is_log), usual=usual, calls=count
    )


def _before(series: HourlySums, place: int, length: int, ends: list[int], *, is_sum: bool, is_log: bool) -> tuple[float, ...]:
    """The windows of that length that end with these hours, exclusive, newest first; those before the series began are left out."""
    began = int(np.argmax(series.count[place] > 0))
    values = []
    for end in ends:
        first, last = end - length - series.first_hour, end - series.first_hour
        if first < began:
            break
        value = _value(
            float(series.count[place, first:last].sum()), float(series.total[place, first:last].sum()), is_sum=is_sum, is_log=is_log
        )
        if value is not None:
            values.append(value)
    return tuple(values)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# --- the requests behind it


def _rows(requests: ibis.Table, alert: AlertDecision) -> IncidentRows | None:
    """Those of the series in the incident's window; None where the analysed rows hold none."""
    rows = requests.filter(requests.started_s >= (alert.start_s or 0.0), requests.started_s < (alert.end_s or 0.0))
    column = DIMENSIONS.get(alert.dimension)
    if column is not None:
        # Joined, and not compared with: names from logs never become part of a query's text.
        wanted = ibis.memtable(pa.table({"wanted": pa.array([alert.value], pa.string())}))
        rows = rows.semi_join(wanted, rows[column].fill_null(UNKNOWN_TASK if alert.dimension == "task" else "") == wanted.wanted)
    weight = _weight(rows, alert.measured)
    rows = rows.mutate(weight=weight, session=ibis.coalesce(rows.session_id, rows.request_id))
    counted: dict[str, Any] = rows.agg(calls=rows.count(), sessions=rows.session.nunique()).to_pyarrow().to_pylist()[0]
    if not counted["calls"]:
        return None
    groups = (
        rows.group_by("team", "task_type", "model")
        .agg(
            calls=rows.count(),
            failures=(rows.status == "failure").sum(),
            spend_usd=rows.cost_usd.sum().fill_null(0.0),
            latency_ms=rows.latency_ms.mean(where=rows.status == "success"),
            quality=rows.quality.mean(),
            weight=rows.weight.sum(),
        )
        .order_by([ibis.desc("weight"), ibis.asc("team"), ibis.asc("task_type"), ibis.asc("model")])
        .limit(LARGEST)
        .drop("weight")
    )
    return IncidentRows(
        calls=int(counted["calls"]),
        sessions=int(counted["sessions"]),
        groups=tuple(IncidentGroup(**row) for row in groups.to_pyarrow().to_pylist()),
        session_ids=_largest(rows.filter(rows.session_id.notnull()), "session_id"),
        request_ids=_largest(rows, "request_id"),
    )


def _weight(rows: ibis.Table, measured: str) -> ibis.expr.types.NumericValue:
    """How much a call weighs in what is measured."""
    match measured:
        case "spend":
            return rows.cost_usd.fill_null(0.0)
        case "latency":
            return ibis.ifelse(rows.status == "success", rows.latency_ms.fill_null(0.0), 0.0)
        case "failed attempts":
            return (rows.status == "failure").cast("float64")
        case "quality":
            return (1.0 - rows.quality).fill_null(0.0)
        case _:
            return ibis.literal(1.0)


def _largest(rows: ibis.Table, column: str) -> tuple[str, ...]:
    summed = rows.group_by(column).agg(weight=rows.weight.sum())
    ordered = summed.filter(summed.weight > 0).order_by([ibis.desc("weight"), ibis.asc(column)]).limit(LARGEST)
    return tuple(str(row[column]) for row in ordered.to_pyarrow().to_pylist())


# --- in words


FACTORS: Mapping[str, str] = {
    "volume": "more calls",
    "mix": "more calls to expensive models and tasks",
    "tokens": "longer prompts and answers",
    "cache": "fewer tokens served from the prompt cache",
    "price": "a higher price of the same tokens",
}
OF: Mapping[str, str] = {"team": "team", "task": "task", "model": "model", "rule": "routing rule"}


def shown(measured: str, value: float) -> str:
    """A value of what is measured, with its unit."""
    match measured:
        case "spend":
            return f"${value:,.2f}"
        case "latency":
            return f"{value:,.0f} ms"
        case "quality":
            return f"{value:.3f}"
        case "requests":
            return f"{value:,.0f}"
        case _:
            return f"{100 * value:.1f} %"


def _what(found: Incident) -> list[str]:
    of = "" if found.dimension == "all" else f" of {OF.get(found.dimension, found.dimension)} {named(found.value)}"
    hours = round((found.end - found.start).total_seconds() / SECONDS_PER_HOUR)
    span = f"the hour from {found.start:%Y-%m-%d %H:%M} UTC" if hours == 1 else f"the {hours} hours to {found.end:%Y-%m-%d %H:%M} UTC"
    if found.measured == "requests":
        said = [f"No requests{of} arrived in {span}; about {shown('requests', found.usual)} were expected."]
    else:
        name = found.measured[0].upper() + found.measured[1:]
        is_are = "were" if found.measured == "failed attempts" else "was"
        said = [
            f"{name}{of} in {span} {is_are} {shown(found.measured, found.now)}.",
            f"The usual value is {shown(found.measured, found.usual)}, from {found.baseline}.",
        ]
    going = {True: "and continues", False: "and is over", None: ""}[found.goes_on]
    said.append(f"It began at {found.since:%Y-%m-%d %H:%M} UTC {going}".strip() + ".")
    if found.measured == "spend":
        said.append(f"It has cost {shown('spend', found.excess)} more than usual so far.")
    return said


def _why(found: Incident, attribution: Attribution | None) -> list[str]:
    said = []
    if found.effects_usd and attribution is not None and attribution.change:
        parts = sorted(((usd / attribution.change, name) for name, usd in found.effects_usd.items()), reverse=True)
        notable = [f"{FACTORS[name]} ({100 * share:.0f} %)" for share, name in parts if share >= NOTABLE]
        if notable:
            said.append(f"The cause is {', '.join(notable)}.")
    elif found.due_to:
        said.append(_cause(found))
    if found.rows is not None:
        sessions = found.rows.sessions
        said.append(f"It involves {found.rows.calls:,} calls of {sessions:,} session{'' if sessions == 1 else 's'}.")
    return said


def _whose(share: Share, measured: str) -> str:
    sentence = f"{100 * share.share:.0f} % of the excess comes from {OF[share.dimension]} {named(share.value)}"
    if share.beside:
        sentence += f", {share.beside}"
    if share.now is None:
        return f"{sentence}: {share.calls:,.0f} calls, usually {share.usual_calls:,.0f}."
    usual = "nothing" if share.usual is None else shown(measured, share.usual)
    return f"{sentence}: {shown(measured, share.now)} in {share.calls:,.0f} calls, usually {usual} in {share.usual_calls:,.0f}."


def _cause(found: Incident) -> str:
    """Of a mean: whether those that it is due to got worse themselves, or are more of the calls than usual."""
    most = max(found.due_to, key=lambda share: share.share)
    if most.usual is None or most.now is None:
        return f"The cause is calls that were not there before: {OF[most.dimension]} {named(most.value)} is new in these hours."
    worse = abs(most.now - most.usual) >= 0.5 * abs(found.now - found.usual)
    if worse:
        return f"The cause lies with {OF[most.dimension]} {named(most.value)} itself, whose own calls changed."
    return f"The cause is the mix: {OF[most.dimension]} {named(most.value)} makes up more of the calls than usual."


def _do(found: Incident) -> list[str]:
    by = {share.dimension: share.value for share in found.due_to}
    if found.dimension in OF and found.value:
        by.setdefault(found.dimension, found.value)
    who = f"team {named(by['team'])}" if "team" in by else "whoever sent these calls"
    model = f"model {named(by['model'])}" if "model" in by else "the model"
    sessions = "" if found.rows is None or not found.rows.session_ids else f" Start with session {named(found.rows.session_ids[0])}."
    match found.measured:
        case "spend":
            return [
                f"Ask {who} whether these calls were intended.{sessions}",
                "If they were not, lower that team's rate or spend limit in the gateway until the cause is found.",
                "If they were, raise the budget; the sensor treats them as usual after a few weeks.",
            ]
        case "latency":
            return [
                f"Check the status page of the provider of {model}.",
                "If it is slow there, set a fallback or a timeout in the gateway for the tasks named.",
                f"If the provider reports no problem, ask {who} whether prompts or answers became longer.{sessions}",
            ]
        case "failed attempts":
            return [f"Check the errors of {model} in these hours.", "Set a fallback in the gateway until it answers again."]
        case "quality":
            return [
                f"Read some of the answers that scored low.{sessions}",
                f"Ask whether {model}, its version, or the prompts of {who} changed at that time.",
                "Route that task to another model until the cause is known.",
            ]
        case _:
            return ["Check whether the gateway still answers.", "Check whether its logs still arrive at the source."]
