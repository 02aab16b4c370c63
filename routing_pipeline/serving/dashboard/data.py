"""Keeping up with the lake: a thread that sees what is new, brings the kept sums up to date, and says what is known now.

Belongs here: when to look, in which order to read what is new (newest day first, so that the page has something to show),
alerts, projection, and what became of the rules. Does not belong here: what is shown of it (`model`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Collection
from dataclasses import replace
from itertools import count
from pathlib import Path

import ibis
from pydantic import TypeAdapter

from routing_pipeline.alerts import decisions
from routing_pipeline.alerts.attribution import cause_from_sums
from routing_pipeline.alerts.examination import reported_alerts
from routing_pipeline.alerts.missing_traffic import WATCHED
from routing_pipeline.alerts.series import HourlySums, Measured, series_from_sums
from routing_pipeline.alerts.unscored_hours import still_coming_in
from routing_pipeline.alerts.watermark import complete_until, lake_watermark_s, last_polled
from routing_pipeline.analysis.budget_projection import HISTORY_DAYS, BudgetOf, SpendHistory, budget_projection, history_of
from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import HOURS_PER_WEEK, SECONDS_PER_DAY, SECONDS_PER_HOUR
from routing_pipeline.errors import PipelineError
from routing_pipeline.gateways.rollout import Rollout, RolloutStatus
from routing_pipeline.gateways.rollout_looks import look_at
from routing_pipeline.gateways.rollout_settings import RolloutSettings
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.realized_outcomes import MAX_RULE_SETS, Promise, RealizedOutcomes, outcomes_among
from routing_pipeline.rules.deciding import CONTROL
from routing_pipeline.rules.model import logged_rule_id
from routing_pipeline.rules.record import RuleSetRecord, record_of
from routing_pipeline.rules.rollout_record import FOLDER as ROLLED_OUT
from routing_pipeline.serving.dashboard.costs import reported_costs
from routing_pipeline.serving.dashboard.model import NOISE_WEEKS, LiveAlert, Snapshot
from routing_pipeline.serving.dashboard.names import names_in
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.files import write_whole
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of
from routing_pipeline.window.conform import LOOK_AROUND_S, conform
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.few_names import OTHERS
from routing_pipeline.window.hourly import DaysKept, Feedback, Kept, SumsStore, sums_folder
from routing_pipeline.window.kinds_of_call import chat_of
from routing_pipeline.window.scope import Window

LOOK_EVERY_S = 2.0
SILENCE_EVERY_S = 60.0
DECISIONS_EVERY_S = 10.0
"""The record of rule sets may lie in a bucket."""
TOLD_H = 72
"""Alerts of so many hours are listed."""
ROLL_OUT_DAYS = 7
MAX_NAMES = 50
_log = logging.getLogger(__name__)


class Follower:
    """Follows one home; `snapshot` is what was known at the last moment, None while the lake is empty or not looked at yet."""

    def __init__(self, home: Home, parameters: Parameters, record: RuleSetRecord | None = None, rollout: Rollout | None = None) -> None:
        self.home, self.parameters = home, parameters
        self.record = record or record_of(home)
        self.rollout = rollout or Rollout(home, self.record, RolloutSettings())
        self.snapshot: Snapshot | None = None
        self.has_looked = False
        self.trouble: str | None = None
        """Why the last look failed, in a line; the page shows it beside what is known."""
        self._serial = count(1)
        self._version: str | None = None
        self._silence_at = 0.0
        self._decided_at = -DECISIONS_EVERY_S
        self._decisions: list[str] = []
        self._requests: HourlySums | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard-follower", daemon=True)

    def start(self) -> None:
        """Begin to follow, with what was known when somebody last did."""
        self.snapshot = self._remembered()
        if self.snapshot is not None:
            # Where nothing was committed meanwhile there is nothing to do, except to ask the clock in a while.
            self._serial, self._version, self._silence_at = count(self.snapshot.serial + 1), self.snapshot.version, time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the step that is under way."""
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
                self.trouble = None
            except (PipelineError, OSError, ValueError) as error:
                # The lake may be between two states (compacted, forgotten) or out of reach: what is known stands, and is dated.
                self.trouble = f"the last refresh of the lake's data failed ({type(error).__name__}); trying again"
            except Exception:  # noqa: BLE001  a bug of ours must not end what follows the lake
                _log.exception("the last refresh of the lake's data failed")
                self.trouble = "the last refresh of the lake's data failed; see the command's own output"
            self.has_looked = True
            self._stop.wait(LOOK_EVERY_S)

    def refresh(self) -> None:
        """One look: everything that changed since the last one is read, shown step by step."""
        lake = Lake(self.home)
        version = self._state(lake)
        if version == self._version:
            self._look_for_silence()
            return
        newest_s = lake.newest_s()
        if version is None or newest_s is None:
            self.snapshot, self._version = None, version
            return
        with open_engine("duckdb", spill_to=self.home.scratch / "spill") as engine:
            self._catch_up(lake, engine, version, newest_s)
        self._version = version
        SumsStore(self.home, engine).prune(lake.files_by_day())

    def _state(self, lake: Lake) -> str | None:
        """Changes with every commit, with every look at the logs that found nothing new, and with every proposal; None without a lake."""
        version = lake.version()
        if version is None:
            return None
        return key_of(version=version, looked=last_polled(self.home), decided=self._decided())

    def _decided(self) -> list[str]:
        """Changes with every proposal, decision and report; what cannot be reached now has not changed."""
        now = time.monotonic()
        if now - self._decided_at > DECISIONS_EVERY_S:
            with contextlib.suppress(PipelineError):
                # Ids of one window differ in letters that follow no order, so their number tells of a proposal, and the last name may not.
                listed = [self.record.place.names(folder) for folder in ("proposed", "record", ROLLED_OUT)]
                newest = self.home.runs.latest()
                self._decisions = [word for names in listed for word in (str(len(names)), *names[-1:])]
                self._decisions += [] if newest is None else [newest.run_id]
                self._decided_at = now
        return self._decisions

    def _catch_up(self, lake: Lake, engine: Engine, version: str, newest_s: float) -> None:
        by_day = lake.files_by_day()
        files = [file for _, file in by_day]
        feedback = Feedback(
            lake.feedback_files(), lake.feedback_version(), self.parameters.quality_feedback, self.parameters.trusted_scores
        )
        sums = SumsStore(self.home, engine, Catalog(self.parameters.models))
        watermark = lake_watermark_s(self.home)
        hold_back_s = self.parameters.alerts.hold_back_minutes * 60
        filling = int(newest_s // SECONDS_PER_HOUR)
        until = filling + 1 if watermark is None else min(complete_until(watermark, hold_back_s), filling + 1)
        # What is there already is shown first: a page that opens while much is new waits for none of it.
        attempts, scores, days = sums.attempts(files, at_most=0), sums.scores(files, feedback, at_most=0), sums.days(by_day, at_most=0)
        self._show(engine, version, newest_s, until, attempts, scores, days)
        while (days.pending or attempts.pending or scores.pending) and not self._stop.is_set():
            if days.pending:
                days = sums.days(by_day, at_most=1)
            if attempts.pending:
                attempts = sums.attempts(files, at_most=1)
            if scores.pending and not attempts.pending:
                scores = sums.scores(files, feedback, at_most=1)
            self._show(engine, version, newest_s, until, attempts, scores, days)
        if attempts.series is not None and not self._stop.is_set():
            self._understand(engine, lake, attempts, scores)

    def _show(self, engine: Engine, version: str, newest_s: float, until: int, attempts: Kept, scores: Kept, days: DaysKept) -> None:
        before = self.snapshot
        now = Snapshot(
            serial=0 if before is None else before.serial,
            version=version,
            seen_s=time.time(),
            newest_s=newest_s,
            until=until,
            attempts=attempts.parts,
            scores=scores.parts,
            requests=days.requests,
            errors=days.errors,
            latency=days.latency,
            days=len(days.requests) + days.missing,
            pending_days=days.pending,
            pending_files=attempts.pending + scores.pending,
            names=names_in(engine, days.requests, MAX_NAMES),
            alerts=None if before is None else before.alerts,
            projection=None if before is None else before.projection,
            rule_set=None if before is None else before.rule_set,
            status=None if before is None else before.status,
            outcomes=None if before is None else before.outcomes,
            rollout=None if before is None else before.rollout,
            costs=None if before is None else before.costs,
        )
        # Pages of the same sums stay as they are.
        if before is None or replace(now, seen_s=before.seen_s) != before:
            self.snapshot = replace(now, serial=next(self._serial))

    # What the sums say

    def _understand(self, engine: Engine, lake: Lake, attempts: Kept, scores: Kept) -> None:
        snapshot = self.snapshot
        if snapshot is None or attempts.series is None or scores.series is None:
            return
        ends = lake.ends_s()
        spend = self._history(attempts, snapshot.newest_s + 1e-6, None if ends is None else ends[0])
        try:
            known = self.record.promised()
        except PipelineError as error:
            _log.warning("the record of rule sets cannot be read: %s", error)
            known = ()
        newest = known[0] if known else (None, None)
        self.snapshot = snapshot = replace(
            snapshot,
            serial=next(self._serial),
            alerts=self._alerts(attempts.series, scores.series, snapshot.until, snapshot.newest_s),
            projection=budget_projection(spend, snapshot.newest_s + 1e-6, self.parameters),
            rule_set=newest[0],
            status=newest[1],
            costs=reported_costs(self.home.runs.latest()),
        )
        outcomes = self._outcomes(engine, lake, attempts.series, snapshot, known)
        self.snapshot = snapshot = replace(snapshot, serial=next(self._serial), outcomes=outcomes)
        self.snapshot = replace(snapshot, serial=next(self._serial), rollout=self._rolled_out(engine))
        self._remember(self.snapshot)

    def _rolled_out(self, engine: Engine) -> RolloutStatus | None:
        """Where the roll-out stands, and what one look at it sees; None where no rule set is live."""
        try:
            live = self.rollout.live()
            if live is None:
                return None
            return self.rollout.status(look_at(self.home, engine, self.parameters, *live, trust_proof=self.rollout.settings.trust_proof))
        except PipelineError as error:
            _log.warning("the roll-out cannot be read: %s", error)
            return None

    # Beside the sums, and gone with them

    @property
    def _note(self) -> Path:
        return sums_folder(self.home) / f"seen-{key_of(parameters=self.parameters.model_dump(mode='json'), code=code_key(__name__))}.json"

    def _remember(self, snapshot: Snapshot) -> None:
        write_whole(self._note, TypeAdapter(Snapshot).dump_json(snapshot))

    def _remembered(self) -> Snapshot | None:
        """None where there is nothing, or sums that it names are gone."""
        try:
            snapshot = TypeAdapter(Snapshot).validate_json(self._note.read_bytes())
        except (OSError, ValueError):
            return None
        paths = (*snapshot.attempts, *snapshot.scores, *snapshot.requests.values(), *snapshot.errors.values(), *snapshot.latency.values())
        return snapshot if all(path.exists() for path in paths) else None

    def _series(self, table: ibis.Table, measured: Measured, end: int, dimensions: frozenset[str] | None = None) -> HourlySums | None:
        first = end - (self.parameters.alerts.baseline_weeks + NOISE_WEEKS) * HOURS_PER_WEEK
        return series_from_sums(table, measured, first, end, *(() if dimensions is None else (dimensions,)))

    def _alerts(self, attempts: ibis.Table, scores: ibis.Table, until: int, newest_s: float) -> tuple[LiveAlert, ...]:
        """What the sensors would have told of the last hours, newest first."""

        def series(measured: Measured) -> HourlySums | None:
            return self._series(scores if measured == "quality" else attempts, measured, until)

        alerts = [
            LiveAlert(sensor=each.sensor, alert=self._with_cause(each.alert, attempts, scores), is_going_on=each.is_going_on)
            for each in reported_alerts(series, self.parameters.alerts, until - TOLD_H, until)
        ]
        self._requests = self._series(attempts, "requests", max(until, int(newest_s // SECONDS_PER_HOUR) + 1), WATCHED)
        return (*self._silent(until), *sorted(alerts, key=lambda each: -(each.alert.end_s or 0.0)))

    def _with_cause(self, alert: decisions.AlertDecision, attempts: ibis.Table, scores: ibis.Table) -> decisions.AlertDecision:
        sums = scores if alert.measured == "quality" else attempts
        cause = cause_from_sums(sums, alert, self.parameters.alerts.baseline_weeks, self.parameters.alerts.timezone)
        if alert.measured == "quality":
            end = int((alert.end_s or 0.0) // SECONDS_PER_HOUR)
            cause += still_coming_in(alert, self._series(scores, "quality", end), self._series(attempts, "latency", end))
        return alert.model_copy(update={"due_to": cause})

    def _silent(self, until: int) -> tuple[LiveAlert, ...]:
        self._silence_at = time.monotonic()
        decision = decisions.silent_feed(self._requests, self.parameters.alerts, None, until, time.time())
        return (LiveAlert(sensor="silent_feed", alert=decision, is_going_on=True),) if decision.kind == "alert" else ()

    def _look_for_silence(self) -> None:
        """The only alert that comes while nothing does."""
        snapshot = self.snapshot
        if snapshot is None or snapshot.alerts is None or time.monotonic() - self._silence_at < SILENCE_EVERY_S:
            return
        if self._requests is None:
            self._version = None
            return
        others = tuple(each for each in snapshot.alerts if each.sensor != "silent_feed")
        alerts = (*self._silent(snapshot.until), *others)
        if [each.alert.run_key for each in alerts] != [each.alert.run_key for each in snapshot.alerts]:
            self.snapshot = replace(snapshot, serial=next(self._serial), alerts=alerts)

    def _history(self, kept: Kept, end_s: float, oldest_s: float | None) -> SpendHistory:
        """As `budget_projection.spend_history`, from kept sums."""
        attempts = kept.series
        assert attempts is not None  # noqa: S101  (asked where there are sums alone)
        first = (int(attempts.hour.max().execute()) // 24 - HISTORY_DAYS) * 24
        recent = attempts.filter(attempts.kind == "team", attempts.hour >= first)
        by_day = recent.mutate(day=(recent.hour / 24).floor().cast("int64"))
        rows = by_day.group_by("team", "day").agg(usd=by_day.cost_usd.sum()).order_by("day", "team").to_pyarrow().to_pylist()
        spend: dict[str | None, dict[int, float]] = {None: {}}
        for row in rows:
            if not row["usd"]:
                continue  # kept sums hold 0 for what nobody priced, which is not known to be free
            for team in {row["team"], None}:
                days = spend.setdefault(team, {})
                days[row["day"]] = days.get(row["day"], 0.0) + row["usd"]
        hours = recent.select("hour").distinct().to_pyarrow()["hour"].to_pylist()
        teams = {row["team"] for row in rows if row["team"] is not None}
        # Where rare names are put together, one that is not seen may be among them.
        named: dict[BudgetOf, Collection[str]] = {} if OTHERS in teams else {"team": teams}
        of_tiers: dict[str, dict[int, float]] = {}
        if self.parameters.budgets_by_tier and kept.tiers is not None:
            of_tiers = _spend_of_tiers(kept.tiers.filter(kept.tiers.hour >= first))
            named["tier"] = set(of_tiers)
        asked = {tier: days for tier, days in of_tiers.items() if tier in self.parameters.budgets_by_tier and any(days.values())}
        return replace(history_of(spend, hours, end_s, oldest_s), of_tiers=asked, named=named)

    def _outcomes(
        self, engine: Engine, lake: Lake, attempts: ibis.Table, snapshot: Snapshot, known: tuple[Promise, ...]
    ) -> RealizedOutcomes | None:
        """What the rules promised against what the requests that they decided have got, over the last complete days.

        Only attempts of such requests are read in full; before any is seen, nothing is.
        """
        ids = {
            f"{logged_rule_id(rule_set.rule_set_id, rule.id)}{arm}"
            for rule_set in sorted((each[0] for each in known), key=lambda each: each.rule_set_id, reverse=True)[:MAX_RULE_SETS]
            for rule in rule_set.rules
            for arm in ("", f"/{CONTROL}")
        }
        end_s = float(snapshot.until * SECONDS_PER_HOUR)
        window = Window(end_s - ROLL_OUT_DAYS * SECONDS_PER_DAY, end_s)
        first = snapshot.until - ROLL_OUT_DAYS * 24
        decided = (
            attempts.filter(attempts.hour >= first, attempts.hour < snapshot.until, attempts.routing_rule_id.isin(sorted(ids)))
            if ids
            else None
        )
        if decided is None or not decided.limit(1).count().execute():
            return None
        rows = engine.read_parquet(lake.attempt_files(window.start_s - LOOK_AROUND_S, window.end_s + LOOK_AROUND_S))
        mine = rows.filter(rows.routing_rule_id.isin(sorted(ids))).select("request_id").distinct()
        feedback = lake.feedback_files()
        conformed = conform(
            rows.semi_join(mine, "request_id"),
            window,
            catalog=Catalog(self.parameters.models),
            feedback=engine.read_parquet(feedback) if feedback else None,
            quality_name=self.parameters.quality_feedback,
            trusted=self.parameters.trusted_scores,
        )
        days = [path for day, path in snapshot.requests.items() if (day + 1) * 24 > first]
        counted = engine.read_parquet(days)
        counted = chat_of(counted).filter(lambda t: (t.hour >= first) & (t.hour < snapshot.until))
        rows_by_hour = counted.group_by("hour").agg(n=counted.requests.sum()).to_pyarrow().to_pylist()
        by_hour = {row["hour"]: float(row["n"] or 0.0) for row in rows_by_hour}
        return outcomes_among(conformed, round(math.fsum(by_hour.values())), by_hour, known)


def _spend_of_tiers(spend: ibis.Table) -> dict[str, dict[int, float]]:
    """USD by tier and day since 1970, of every tier that a model in the logs belongs to."""
    by_day = spend.filter(spend.tier.notnull()).mutate(day=(spend.hour / 24).floor().cast("int64"))
    found: dict[str, dict[int, float]] = {}
    for row in by_day.group_by("tier", "day").agg(usd=by_day.cost_usd.sum()).order_by("tier", "day").to_pyarrow().to_pylist():
        found.setdefault(row["tier"], {})[row["day"]] = row["usd"]
    return found
