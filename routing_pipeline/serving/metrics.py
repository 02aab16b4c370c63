"""What Prometheus may know of a home: traffic, spend, quality, incidents, freshness, the rule set, the projected month.

Belongs here: the names, units and labels of metrics, and reading them off what is stored. Does not belong here: computing any
of it (no row of the lake is read for a scrape), serving it (`metrics_endpoint`).

What the logs cannot tell has no sample, never a zero. Estimates carry the label `bound`: estimate, low and high. Names from
logs become labels as they are when they are short and plain; others are shortened and told apart by a digest, so that no two
samples ever collide and no label grows without limit. Lists are cut where the report cuts them.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from routing_pipeline.alerts.examination import Sensor
from routing_pipeline.alerts.state import SensorState, saved_state
from routing_pipeline.alerts.watermark import committed, last_polled, watermark_s
from routing_pipeline.analysis.budget_projection import BudgetProjection, PeriodProjection
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.data_quality.ledger_checks import ledger_checks
from routing_pipeline.data_quality.suite import last_blocked
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.lake.table import Lake
from routing_pipeline.lake.totals import IngestTotals
from routing_pipeline.report.model import Report
from routing_pipeline.rules.delivery import NOT_PROPOSED, status_of_rules
from routing_pipeline.rules.lifecycle import RuleSetStatus, State, is_significant
from routing_pipeline.rules.record import RuleSetRecord, record_of
from routing_pipeline.storage.files import write_whole
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.runs import StoredRun
from routing_pipeline.text import printable

PREFIX = "routing_pipeline_"
LONGEST_LABEL = 80
PERCENTILES = {"p50_ms": "50", "p95_ms": "95", "p99_ms": "99"}
_TOLD_APART = re.compile("~[0-9a-f]{8}$")
"""A name that looks like a shortened one could be made to collide with it."""
MS_PER_S = 1_000.0
_LOG = logging.getLogger(__name__)
LAST_REPORT = "When the newest report was delivered"


class HomeMetrics(Collector):
    """Collects the metrics of one home; what was read is kept until the lake or the newest report changes."""

    def __init__(self, home: Home, record: RuleSetRecord | None = None) -> None:
        self._home = home
        self._record = record or record_of(home)
        self._lock = threading.Lock()
        self._lake: tuple[str | None, IngestTotals, float | None, dict[str, float]] | None = None
        self._report: tuple[StoredRun, Report] | None = None
        self._newest: StoredRun | None = None

    def collect(self) -> Iterator[Metric]:
        """Every metric family; a part that cannot be read is left out, and said to be."""
        with self._lock:
            unreadable = _gauge("unreadable", "1 where a part of the home could not be read at this scrape", ("part",))
            found: list[Metric] = [InfoMetricFamily(PREFIX + "build", "What runs", {"version": metadata.version("routing-pipeline")})]
            parts: Mapping[str, Callable[[], Iterable[Metric]]] = {
                "lake": self._of_lake,
                "report": self._of_report,
                "data_quality": self._of_data_quality,
                "sensors": self._of_sensors,
            }
            for part, read in parts.items():
                try:
                    found += read()
                    is_unreadable = 0
                except Exception as error:  # noqa: BLE001  (a scrape answers with what can be read; an alert rule watches this sample)
                    # The text could hold an address with a password.
                    _LOG.warning("the %s of the home cannot be read: %s", part, type(error).__name__)
                    is_unreadable = 1
                unreadable.add_metric([part], is_unreadable)
            return iter([*found, unreadable])

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read."""
        return ()

    def _of_lake(self) -> Iterable[Metric]:
        lake = Lake(self._home)
        version = lake.version()
        if self._lake is None or self._lake[0] != version:
            self._lake = (version, lake.totals(), lake.newest_s(), committed(self._home))
        _, totals, newest_s, committed_s = self._lake
        return _lake_metrics(totals, newest_s, watermark_s(committed_s, last_polled(self._home), self._home.sources()))

    def _of_report(self) -> Iterable[Metric]:
        newest = self._newest = self._home.runs.latest()
        if newest is None:
            self._report = None
            return ()
        if self._report is None or (self._report[0].run_id, self._report[0].published_s) != (newest.run_id, newest.published_s):
            report = newest.load("report", Report)
            if report is None:
                self._report = None
                # Another version of the code wrote it: the next run writes one that can be read.
                return (_simple("last_report_timestamp_seconds", LAST_REPORT, newest.published_s),)
            self._report = (newest, report)
        run, report = self._report
        return (
            _simple("last_report_timestamp_seconds", LAST_REPORT, run.published_s),
            *_traffic(report),
            *_money(report),
            *_quality(report),
            *_rules(report, self._status(report)),
            *_soundness(report),
            *(() if report.budget_projection is None else _projected(report.budget_projection)),
        )

    def _status(self, report: Report) -> RuleSetStatus | None:
        """Where the newest rule set stands now: it may have been approved since its report was made; None when nobody recorded it."""
        try:
            status = status_of_rules(self._record, report.routing_rule_set)
        except UnusableInputError:
            # Changed by hand.
            return None
        return None if status.verdict == NOT_PROPOSED else status

    def _of_data_quality(self) -> Iterable[Metric]:
        """What stops runs: by the ledger as it is, and by the last run that was stopped, until a report is delivered after it."""
        blocked, newest = last_blocked(self._home), self._newest
        failed: set[str] = set()
        if blocked is not None and (newest is None or newest.published_s < blocked.blocked_s):
            failed |= set(blocked.claims)
        if self._lake is not None:
            checks = ledger_checks(self._lake[1])
            failed -= {check.name for check in checks}
            failed |= {check.name for check in checks if not check.passed}
        is_known = blocked is not None or newest is not None or (self._lake is not None and self._lake[1].records > 0)
        return _data_quality(failed, None if self._report is None else self._report[1]) if is_known else ()

    def _of_sensors(self) -> Iterable[Metric]:
        return _sensor_metrics({sensor: saved_state(self._home, sensor) for sensor in (*get_args(Sensor), "failed_runs")})


# Families, part by part


def _lake_metrics(totals: IngestTotals, newest_s: float | None, read_s: float | None) -> Iterator[Metric]:
    records = _gauge("lake_records", "Records that the home ever read, by what became of them", ("outcome",))
    for outcome, count in (("ingested", totals.ingested), ("quarantined", totals.quarantined), ("duplicate", totals.duplicates)):
        records.add_metric([outcome], count)
    yield records
    yield _simple("lake_objects", "Objects read", totals.objects)
    reasons = _gauge("quarantined_records", "Records refused, by the most frequent reasons", ("reason",))
    for reason in totals.reasons:
        reasons.add_metric([label(reason.reason)], reason.count)
    if totals.other_reasons:
        reasons.add_metric(["any other"], totals.other_reasons)
    yield reasons
    yield _simple("newest_request_timestamp_seconds", "When the newest request in the lake began", newest_s)
    yield _simple("last_ingest_timestamp_seconds", "When logs were read last, or found to hold nothing new", read_s)


def _traffic(report: Report) -> Iterator[Metric]:
    analytics = report.routing_analytics
    yield _simple("window_start_timestamp_seconds", "Where the newest report's window begins", report.scope.start_s)
    yield _simple("window_end_timestamp_seconds", "Where the newest report's window ends", report.scope.end_s)
    yield _simple(
        "window_covered_seconds",
        "Of the window, what the logs cover: what every rate is divided by",
        report.scope.covered_days * SECONDS_PER_DAY,
    )
    yield _simple("requests", "Client requests of chat in the window", analytics.requests)
    yield _simple("attempts", "Calls to models for them", analytics.attempts)
    kinds = _gauge("operation_requests", "Calls in the window by kind, each with its failed tries counted once", ("operation",))
    answered = _gauge("operation_success_ratio", "Share of the calls of a kind that ended in success", ("operation", "bound"))
    for operation in analytics.operations:
        kinds.add_metric([operation.operation], operation.requests)
        for bound, value in _bounds(operation.success_rate):
            answered.add_metric([operation.operation, bound], value)
    yield from (kinds, answered)
    yield _bounded("success_ratio", "Share of requests that ended in success", analytics.success_rate)
    yield _bounded("fallback_ratio", "Share of requests answered by another model than the one chosen first", analytics.fallback_rate)
    latency = _gauge("latency_seconds", "From the first attempt's start to the final one's end", ("percentile", "bound"))
    for field, percentile in PERCENTILES.items():
        for bound, value in _bounds(getattr(analytics.latency, field)):
            latency.add_metric([percentile, bound], value / MS_PER_S)
    yield latency
    models = _gauge("model_requests", "Client requests of chat in the window that the model answered", ("model",))
    spend = _gauge("model_spend_usd", "Spend on chat in the window of all calls to the model, as logged", ("model",))
    for each in analytics.models:
        models.add_metric([label(each.model)], each.requests)
        if not isinstance(each.cost_usd, Unidentifiable):
            spend.add_metric([label(each.model)], each.cost_usd)
    yield from (models, spend)


def _money(report: Report) -> Iterator[Metric]:
    costs = report.routing_costs
    total = None if isinstance(costs.total_usd, Unidentifiable) else costs.total_usd
    yield _simple("spend_usd", "Spend in the window, all calls of every kind: as logged, else at list price", total)
    kinds = _gauge("operation_spend_usd", "The same by kind of call", ("operation",))
    for each in costs.operations:
        if not isinstance(each.cost_usd, Unidentifiable):
            kinds.add_metric([each.operation], each.cost_usd)
    yield kinds
    yield _bounded("request_cost_usd", "Mean spend per client request of chat in the window", costs.per_request_usd)
    unpriced = costs.unpriced.attempts_without_list_price
    yield _simple("unpriced_attempts", "Successful calls in the window without any price: in no total, and not free", unpriced)


def _quality(report: Report) -> Iterator[Metric]:
    metrics = report.quality_metrics
    yield _bounded("quality_ratio", "Mean quality of answers, 0 to 1, corrected for which were scored", metrics.overall.quality_corrected)
    yield _simple(
        "quality_share_ratio", "Share of answers that quality_ratio speaks of: the others are never scored", metrics.overall.quality_share
    )
    yield _bounded("scored_ratio", "Share of answers that carry a score", metrics.overall.label_coverage)
    models = _gauge("model_quality_ratio", "The same by model", ("model", "bound"))
    for line in metrics.models:
        for bound, value in _bounds(line.quality_corrected):
            models.add_metric([label(line.group or "unknown"), bound], value)
    yield models


def _rules(report: Report, stands_now: RuleSetStatus | None) -> Iterator[Metric]:
    rule_set = report.routing_rule_set
    # What nobody recorded, nobody has approved.
    state: State = "proposed" if stands_now is None and rule_set.rules else "no_change" if stands_now is None else stands_now.state
    stands = _gauge("rule_set_status", "1 for the status of the newest rule set", ("status",))
    for status in get_args(State):
        stands.add_metric([status], int(status == state))
    yield stands
    needs = _gauge("rule_set_needs_approval", "1 while the newest rule set, of this id, waits for somebody's first decision", ("id",))
    if (is_needed := _waits(report, state, stands_now)) is not None:
        needs.add_metric([label(rule_set.rule_set_id)], is_needed)
    yield needs
    yield InfoMetricFamily(
        PREFIX + "rule_set",
        "The newest rule set",
        {"id": label(rule_set.rule_set_id), "goal": rule_set.goal, "grade": report.routing_evidence.grade},
    )
    yield _simple("rule_set_rules", "Rules in the newest rule set", len(rule_set.rules))
    change = rule_set.expected.change
    yield _bounded(
        "rule_set_cost_change_ratio", "Change of cost that the newest rule set promises; a saving is negative", change.cost_usd.relative
    )
    yield _bounded("rule_set_quality_change_ratio", "Change of quality that the newest rule set promises", change.quality.relative)
    promises = _gauge("promises", "Forecasts of the rule sets in force, by how they held in the window", ("verdict",))
    counted: dict[str, int] = dict.fromkeys(("kept", "better", "missed", "cannot tell"), 0)
    for realized in report.realized_outcomes.rule_sets:
        for outcome in realized.outcomes:
            counted[outcome.verdict] += 1
    for verdict, count in counted.items():
        promises.add_metric([verdict], count)
    yield promises


def _data_quality(failed: Collection[str], report: Report | None) -> Iterator[Metric]:
    count = _gauge("data_quality_failures", "Claims that failed: blocking ones stop runs now, of warnings the report tells", ("severity",))
    count.add_metric(["blocking"], len(failed))
    if report is not None:
        count.add_metric(["warning"], len(report.data_quality.of("warning", "failed")))
    yield count
    claims = _gauge("blocking_claim_failed", "1 for a claim that stops runs now: nothing is published", ("claim",))
    for claim in sorted(failed):
        claims.add_metric([claim], 1)
    yield claims


def _waits(report: Report, state: State, stands_now: RuleSetStatus | None) -> bool | None:
    """Whether it is proposed and moves so much that somebody must decide; None where the record cannot be reached.

    What was rolled back needs an approval as well, but waits for none: somebody has decided.
    """
    if state != "proposed":
        return False
    if stands_now is None:
        return is_significant(report.routing_rules.moved_share, report.routing_rules.moved_spend_share)
    return None if stands_now.moved_share is None else stands_now.needs_approval


def _soundness(report: Report) -> Iterator[Metric]:
    yield _simple(
        "report_is_stale",
        "1 when the newest report repeats an earlier analysis because a service was down",
        report.run.stale_because is not None,
    )


def _projected(projection: BudgetProjection) -> Iterator[Metric]:
    """Month and quarter; of what cannot be told yet there is no sample."""
    for period, found in (("month", projection.month), ("quarter", projection.quarter)):
        yield _simple(f"{period}_spend_usd", f"Spend of the calendar {period} so far, in what the logs cover", found.observed_usd)
        yield _bounded(f"{period}_projected_usd", f"Spend by the end of the calendar {period}", found.total_usd)
        yield _simple(f"{period}_budget_usd", f"Budget of the calendar {period}", found.budget_usd)
        used = _gauge(
            f"{period}_budget_used_ratio", f"Of the calendar {period}'s budget: spend so far, or the rate where logs are missing", ("by",)
        )
        if isinstance(found.used, Estimate) and found.used_is is not None:
            used.add_metric([found.used_is], found.used.estimate)
        yield used
        yield _simple(f"{period}_over_budget_probability", f"Chance that the {period} exceeds its budget", found.chance_over_budget)
    yield from _projected_by("team", "a team", [(each.team, each.month) for each in projection.teams])
    yield from _projected_by("tier", "the models of a tier", [(each.tier, each.month) for each in projection.tiers])
    unknown = _gauge(
        "unknown_budget_usd", "Budget per month of a team or tier that no request names: nothing is held against it", ("kind", "name")
    )
    for budget in projection.unknown_budgets:
        unknown.add_metric([budget.kind, label(budget.of)], budget.budget_usd_per_month)
    yield unknown


def _projected_by(by: str, whose: str, months: Sequence[tuple[str, PeriodProjection]]) -> Iterator[Metric]:
    spent, projected, budget = (
        _gauge(f"{by}_month_{what}", help_text, (by,))
        for what, help_text in (
            ("spend_usd", f"Spend of {whose} in the calendar month so far"),
            ("projected_usd", f"Spend of {whose} by the end of the calendar month"),
            ("budget_usd", f"Budget of {whose} for the calendar month"),
        )
    )
    for name, month in months:
        spent.add_metric([label(name)], month.observed_usd)
        if isinstance(month.total_usd, Estimate):
            projected.add_metric([label(name)], month.total_usd.estimate)
        if month.budget_usd is not None:
            budget.add_metric([label(name)], month.budget_usd)
    yield from (spent, projected, budget)


def _sensor_metrics(states: Mapping[str, SensorState | None]) -> Iterator[Metric]:
    open_incident = _gauge("incident_open", "1 while an incident that a sensor reported goes on", ("sensor",))
    began = _gauge("incident_began_timestamp_seconds", "When the open incident began", ("sensor",))
    last_tick = _gauge("sensor_last_look_timestamp_seconds", "When a sensor last ran", ("sensor",))
    for sensor, stands in states.items():
        if stands is None:
            continue
        open_incident.add_metric([sensor], int(stands.is_open))
        last_tick.add_metric([sensor], stands.looked_s)
        if stands.began_s is not None:
            began.add_metric([sensor], stands.began_s)
    yield from (open_incident, began, last_tick)


# Samples


def label(name: str) -> str:
    """A name from logs as the value of a label: short, without control or direction-changing characters, and still its own."""
    if len(name) <= LONGEST_LABEL and name.isprintable() and printable(name) == name and not _TOLD_APART.search(name):
        return name
    digest = hashlib.md5(name.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:8]
    kept = printable(name[: 8 * LONGEST_LABEL]).encode("utf-8", "replace").decode()
    return f"{kept[: LONGEST_LABEL - 9]}~{digest}"


def _gauge(name: str, documentation: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, documentation, labels=labels)


def _simple(name: str, documentation: str, value: float | None) -> GaugeMetricFamily:
    """One sample, or none where there is nothing to say."""
    family = GaugeMetricFamily(PREFIX + name, documentation)
    if value is not None:
        family.add_metric([], value)
    return family


def _bounded(name: str, documentation: str, value: Estimate | Unidentifiable) -> GaugeMetricFamily:
    family = _gauge(name, documentation, ("bound",))
    for bound, number in _bounds(value):
        family.add_metric([bound], number)
    return family


def _bounds(value: Estimate | Unidentifiable) -> tuple[tuple[str, float], ...]:
    if isinstance(value, Unidentifiable):
        return ()
    return (("estimate", value.estimate), ("low", value.low), ("high", value.high))


# Handing them over


def exposition(home: Home, record: RuleSetRecord | None = None) -> bytes:
    """The metrics of a home in Prometheus' text format."""
    return generate_latest(registry_of(HomeMetrics(home, record)))


def registry_of(collector: Collector) -> CollectorRegistry:
    """A registry that reads nothing before it is asked."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def write_textfile(home: Home, path: Path, record: RuleSetRecord | None = None) -> None:
    """Write the metrics whole, for the node exporter's textfile collector.

    Raises:
        UnusableInputError: the name does not end as the collector asks, or its folder is not there, as where it is mistyped, or cannot be written to.
    """
    if path.suffix != ".prom":
        raise UnusableInputError(f"--textfile {path}: the collector reads only files called *.prom")
    if not path.parent.is_dir():
        raise UnusableInputError(f"--textfile {path}: there is no folder {path.parent}; name the one that the collector reads")
    try:
        write_whole(path, exposition(home, record))
    except OSError as error:
        raise UnusableInputError(f"--textfile {path}: {error.strerror}; name a folder that can be written to") from error
