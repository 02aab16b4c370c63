"""What is analysed: the window on a lake snapshot, its task types and the data in it.

Belongs here: `AnalysisScope`, which every number of one analysis covers, and `Window`. Does not belong here: what a row of it holds
(`conform`), which window is asked for (`resolve`), how rows are kept between windows (`rows`, `day_cache`), any measurement (`analysis`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import Field

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.parameters import TIMEFRAMES, Parameters, Timeframe
from routing_pipeline.storage.results import key_of
from routing_pipeline.text import LogName
from routing_pipeline.window.coverage import Uncovered
from routing_pipeline.window.router_health import RouterHealth

MIN_REQUESTS = 1_000
MIN_LABELLED = 300
"""Labelled successes below which hardly any rule can be proven; what `days_to_collect` aims at, with MIN_REQUESTS."""
CLUSTERS = 256
UNKNOWN_TASK = "unknown"
PARAMETERS_OF_ROWS = frozenset({"task_types", "quality_feedback", "trusted_scores", "models"})
"""Parameters that `rows_key` holds, beside those that the window's two ends say."""
WEEK_DAYS = 6.5
"""Logs that cover less know nothing of the rhythm of a week, so nothing of a month; a week's first and last hours may be quiet ones."""
NEARLY_ALL = 0.95
"""A day, or a window, covered to this share counts as covered."""


class Source(Result):
    """One source of data that the report's numbers need, and whether it was there."""

    name: str
    present: bool
    consequence: str = Field(description="What cannot be said without it, and what to collect")


class AnalysisScope(Result):
    """The window, the task types and the data that every number of one analysis covers; requests and attempts are those of chat."""

    key: str = Field(description="Changes whenever any input of the analysis changes; results are stored under it")
    rows_key: str = Field(
        default="",
        description="Changes whenever the rows may change; what comes from the rows alone, whatever is asked of them, is stored under it",
    )
    window_key: str = Field(
        default="",
        description="Changes whenever the rows, or the weeks before them, may change; what uses few of the parameters is stored under it and those",
    )
    parameters: Parameters
    timeframe_asked: Timeframe
    timeframe: Timeframe = Field(description="As analysed: longer than asked when data were few")
    start_s: float = quantity("Start of the window, inclusive, since 1970-01-01 UTC", "s")
    end_s: float = quantity("End of the window, exclusive", "s")
    previous_start_s: float = quantity("Start of the equal window before it", "s")
    covered_s: float | None = quantity(
        "Of the window, the time that the logs cover, which every rate is divided by; at least an hour. Null in scopes of earlier versions: all of it",
        "s",
        default=None,
    )
    uncovered: tuple[Uncovered, ...] = Field(
        default=(), description="What the logs do not cover of the window and of the one before: before their first record, and gaps"
    )
    snapshot_id: str = Field(description="Snapshot of the lake that was read first; later ones may hold the same rows, in other files")
    requests: int = quantity("Final requests in the window", "requests")
    attempts: int = quantity("Attempts in the window", "attempts")
    other_calls: int = quantity(
        "Attempts of other kinds than chat, embeddings for one: part of the spend, and of nothing else that is said of requests",
        "attempts",
        default=0,
    )
    labelled: int = quantity("Successful final requests with a quality", "requests")
    other_spend_usd: float = quantity(
        "Spend of the window that this analysis is not about: other kinds of call than chat, and task types that were not asked for",
        "USD",
        default=0.0,
    )
    previous_requests: int = quantity("Final requests in the equal window before", "requests")
    sessions: int = quantity("Distinct sessions; requests without one count as their own", "sessions")
    models: tuple[LogName, ...] = Field(description="Models seen in the window")
    task_types: tuple[LogName, ...] = Field(description="Task types in the window")
    complexity_derived_share: float = quantity("Share of requests whose complexity was derived from prompt length", "0..1")
    task_type_unknown_share: float = quantity("Share of requests without a task type", "0..1")
    sources: tuple[Source, ...] = Field(description="What the logs hold and what they miss")
    notices: tuple[str, ...] = Field(default=(), description="What a reader should know before the first number")
    router: RouterHealth | None = Field(default=None, description="What the router said before the analysis; null when nobody asked it")
    stale_because: str | None = Field(
        default=None, description="Why this is the last analysis again and not a new one, and of when it is; null when it is a new one"
    )
    days_to_collect: float | None = quantity("More days of logs needed for a firm answer; null when there are enough", "days", default=None)
    requests_uri: str = Field(description="Where the conformed rows of the window are listed (rows.WindowRows)")
    previous_uri: str = Field(description="The same of the equal window before")
    engine: str = Field(default="duckdb", description="Engine that reads them")
    sampled: float = quantity("Share of the final requests in `sample_uri`; 1: all", "0..1", default=1.0)
    sample_uri: str | None = Field(default=None, description="Rows of whole sessions drawn from the window's; null where all are read")

    @property
    def start(self) -> datetime:
        """Start of the window, inclusive."""
        return datetime.fromtimestamp(self.start_s, UTC)

    @property
    def end(self) -> datetime:
        """End of the window, exclusive."""
        return datetime.fromtimestamp(self.end_s, UTC)

    @property
    def days(self) -> float:
        """Length of the window in days, whether the logs cover it or not; rates and sums over time go by `covered_days`."""
        return (self.end_s - self.start_s) / SECONDS_PER_DAY

    @property
    def covered_days(self) -> float:
        """Days of the window that the logs cover (`coverage`): what is said per day, per month, of 30 days goes by them."""
        return self.days if self.covered_s is None else self.covered_s / SECONDS_PER_DAY

    @property
    def knows_a_week(self) -> bool:
        """Whether the logs cover enough of the window to know the rhythm of a week."""
        return self.covered_days >= WEEK_DAYS

    def covered_within(self, start_s: float, end_s: float) -> float:
        """Seconds between two moments, of the window and of the one before, that the logs cover."""
        start_s, end_s = max(start_s, self.previous_start_s), min(end_s, self.end_s)
        return max(end_s - start_s - math.fsum(each.within(start_s, end_s) for each in self.uncovered), 0.0)

    @property
    def incomparable(self) -> str | None:
        """Why sums over this window and over the one before cannot be compared; None where the logs cover them alike."""
        now = self.covered_within(self.start_s, self.end_s) / SECONDS_PER_DAY
        before = self.covered_within(self.previous_start_s, self.start_s) / SECONDS_PER_DAY
        if abs(now - before) <= max((1 - NEARLY_ALL) * self.days, 1 / 24):
            return None
        return f"the logs cover {before:.1f} days of the window before and {now:.1f} of this one; sums over them are not comparable"

    @property
    def estimated_from(self) -> str:
        """The rows that estimates of other routing rest on."""
        return self.sample_uri or self.requests_uri

    @property
    def evidence_key(self) -> str:
        """Changes whenever those rows may change, and with what else the evidence rests on: policy, capabilities, what the router goes by."""
        asked = self.parameters
        return key_of(
            rows=self.rows_key or self.key,
            policy=asked.policy.model_dump(mode="json"),
            capabilities=asked.capabilities and asked.capabilities.md5,
            router_inputs=sorted(asked.router_inputs),
            sample_above=None
            if self.sample_uri is None
            else ["explored", asked.sample_above]
            if asked.explore_only
            else asked.sample_above,
        )

    def key_for(self, asked: Collection[str]) -> str:
        """Changes whenever the rows, the weeks before them, the rows that estimates rest on, or one of these parameters may change.

        Those that decide about the rows themselves (PARAMETERS_OF_ROWS) are always among them.
        """
        if not self.window_key:
            return self.key
        return key_of(
            window=self.window_key,
            sample=None if self.sample_uri is None else self.sample_uri.rpartition("/")[2],
            parameters=self.parameters.model_dump(mode="json", include=set(asked)),
        )


@dataclass(frozen=True)
class Window:
    """Half-open [start_s, end_s), seconds since 1970."""

    start_s: float
    end_s: float

    @property
    def previous(self) -> Window:
        """The equal window just before."""
        return Window(2 * self.start_s - self.end_s, self.start_s)


def window_of(parameters: Parameters, newest_s: float, timeframe: Timeframe | None = None) -> Window:
    """The window that ends at as_of, or just after the newest request (a microsecond: the log's resolution)."""
    end_s = newest_s + 1e-6 if parameters.as_of is None else parameters.as_of.timestamp()
    return Window(end_s - TIMEFRAMES[timeframe or parameters.timeframe].total_seconds(), end_s)


def longer(timeframe: Timeframe) -> Timeframe | None:
    """The next longer timeframe, None after the longest."""
    names = list(TIMEFRAMES)
    place = names.index(timeframe) + 1
    return names[place] if place < len(names) else None


def missing_sources(filled: Mapping[str, float]) -> tuple[Source, ...]:
    """What the report cannot say, from the share of requests in which each column is filled (0..1)."""
    needs: tuple[tuple[str, str, str], ...] = (
        (
            "cost_usd",
            "cost",
            "no cost can be reported; enable cost tracking in the gateway, or name the models' prices in the configuration",
        ),
        ("quality", "quality", "no rule can be proven safe; log quality_score in the request's metadata or hand over a --feedback file"),
        ("task_type", "task type", "all traffic is one task; tag requests with task_type"),
        ("complexity", "complexity", "prompt length stands in for difficulty; log the router's own complexity"),
        ("session_id", "session", "each request counts as independent, which makes intervals too narrow; send a session id"),
        ("routing_latency_ms", "routing latency", "the gateway's own delay is unknown; log its overhead"),
        ("ttft_ms", "time to first token", "only streams have it; log it for them"),
        ("queue_depth", "queue depth", "estimated from requests in flight; log it"),
        ("user_rating", "user rating", "satisfaction of users is unknown; collect ratings"),
        (
            "propensity",
            "routing probability",
            "choices are assumed explained by what the logs hold; route a small share at random and log the probability",
        ),
        ("routing_rule_id", "routing rule", "existing rules cannot be evaluated one by one; log the rule that decided"),
    )
    return tuple(Source(name=name, present=filled.get(column, 0.0) > 0, consequence=consequence) for column, name, consequence in needs)
