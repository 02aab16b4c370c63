"""From what was asked to what is analysed: the window, extended when data are few, its rows made ready, and what they hold.

Belongs here: resolving parameters to an `AnalysisScope`, describing the rows, sampling them, falling back on the last analysis.
Does not belong here: how rows are made and kept (`rows`, `day_cache`), what is in a row (`conform`), any measurement (`analysis`).
"""

from __future__ import annotations

import contextlib
import math
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis

from routing_pipeline.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR
from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError, did_you_mean
from routing_pipeline.lake.file_names import content_of
from routing_pipeline.lake.table import Lake
from routing_pipeline.lake.totals import said_left_out
from routing_pipeline.parameters import Parameters, Timeframe
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.results import ResultStore, key_of
from routing_pipeline.storage.runs import RunStore
from routing_pipeline.text import counted, name, percent
from routing_pipeline.window.conform import LOOK_AROUND_S, learning_half_as_whole, with_day
from routing_pipeline.window.coverage import Uncovered, late_starts, uncovered
from routing_pipeline.window.day_cache import DayCache, FilesByDay
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.rows import are_there, calls_at, kept_window, make_window, mark_used, recorded, rows_at, spend_beside
from routing_pipeline.window.scope import (
    MIN_LABELLED,
    MIN_REQUESTS,
    UNKNOWN_TASK,
    AnalysisScope,
    Window,
    longer,
    missing_sources,
    window_of,
)
from routing_pipeline.window.version_changes import notices_of, version_changes

LEAST_COVERED_S = 3_600.0
"""A handful of requests within a minute tells nothing of a rate per minute."""
WORTH_TELLING = 0.02
"""Share of the window before the first record from which it is worth a notice; a gap always is."""
MOST_GAPS = 3

BASELINE_DAYS = 7 * 7
"""Days before a window's end that may be compared with."""

TYPES_TOLD_APART = 10_000
LONGEST_OBJECT = 200
MOST_REASONS = 3
"""Reasons for refusal that are told where nothing could be used."""


@dataclass(frozen=True)
class _Question:
    """What is asked of a lake as it is now: what a commit may change meanwhile is read once."""

    lake: Lake
    parameters: Parameters
    engine_name: str
    days: DayCache
    snapshot_id: str
    feedback_version: str
    oldest_s: float
    newest_s: float

    @property
    def engine(self) -> Engine:
        return self.days.engine

    @property
    def stored(self) -> ResultStore:
        return self.lake.home.results


@dataclass(frozen=True)
class _Asked:
    """One timeframe of a question: its window, what its rows depend on, and the keys that follow from it."""

    timeframe: Timeframe
    window: Window
    files: FilesByDay
    begins_inside: bool
    rows_key: str
    window_key: str
    key: str
    folder: Path


def resolve_scope(lake: Lake, parameters: Parameters, *, engine: Engine, engine_name: str) -> AnalysisScope:
    """Turn parameters into a window on the lake's snapshot and make its rows ready in the home's scratch.

    With fewer than MIN_REQUESTS final requests, or none with a quality, the window is extended to the next longer
    timeframe as long as that brings more; what was done is said in `notices`.

    Args:
        lake: the lake of a home, whose store may hold the same scope from before.
        parameters: what is asked.
        engine: what conforms and counts.
        engine_name: how it was asked for: two engines' rows are kept apart.

    Raises:
        UnusableInputError: the lake holds nothing, or no row is in the window, not even in the longest; the message names what it holds.
    """
    question = _question(lake, parameters, engine, engine_name)
    timeframe: Timeframe | None = parameters.timeframe
    best: AnalysisScope | None = None
    other_calls = 0
    while timeframe is not None and not (best is not None and best.requests >= MIN_REQUESTS and best.labelled > 0):
        found = _scope_of(question, _asked(question, timeframe))
        if found is not None and found.attempts == 0:
            other_calls = found.other_calls
        elif found is not None and (best is None or (found.requests, found.labelled) > (best.requests, best.labelled)):
            best = found
        timeframe = longer(timeframe)
    unknown = _unknown_types(question, () if best is None else best.task_types)
    if best is None:
        raise _nothing_in_the_window(question, other_calls, unknown)
    notices = tuple(f"{each[0].upper()}{each[1:]}." for each in unknown)
    return best.model_copy(update={"notices": tuple(dict.fromkeys((*best.notices, *notices)))})


def _question(lake: Lake, parameters: Parameters, engine: Engine, engine_name: str) -> _Question:
    ends, snapshot_id = lake.ends_s(), lake.snapshot_id()
    if ends is None or snapshot_id is None:
        raise UnusableInputError(_nothing_there(lake))
    days = DayCache(lake, parameters, feedback_files=lake.feedback_files(), engine=engine, engine_name=engine_name)
    return _Question(lake, parameters, engine_name, days, snapshot_id, lake.feedback_version(), *ends)


def check_rows(lake: Lake) -> None:
    """Raises UnusableInputError for a lake without rows, as `resolve_scope` does, before anything is begun that leaves files behind.

    Where all was refused, the gate of the checks has the word, and says so.
    """
    if lake.ends_s() is None and not lake.totals().quarantined:
        raise UnusableInputError(_nothing_there(lake))


def _nothing_there(lake: Lake) -> str:
    """Why there is nothing to analyse: nothing was read yet, or nothing of it could be used."""
    totals = lake.totals()
    if not totals.objects:
        return "the lake is empty; ingest logs first (routing-pipeline ingest --logs URI)"
    read = f"{totals.objects:,} {'object was' if totals.objects == 1 else 'objects were'} read and nothing in "
    read += "it is" if totals.objects == 1 else "them is"
    found = f"{totals.records:,} records, {totals.quarantined:,} of them quarantined" if totals.records else "no records at all"
    why = "; ".join(f"{each.reason} ({each.count:,}, as in {name(each.object, LONGEST_OBJECT)})" for each in totals.reasons[:MOST_REASONS])
    return (
        f"{read} a call to a model that could be used: {found}{f' ({why})' if why else ''}{said_left_out(totals.left_out)}; "
        "see docs/formats.md for what is read, and give --format or a TOML file for any other log"
    )


def _nothing_in_the_window(question: _Question, other_calls: int, unknown: tuple[str, ...]) -> UnusableInputError:
    parameters, newest = question.parameters, datetime.fromtimestamp(question.newest_s, UTC)
    asked = f"--task-types {','.join(parameters.task_types)}" if parameters.task_types else f"--timeframe {parameters.timeframe}"
    asked = f"{asked}, as of {parameters.as_of or newest:%Y-%m-%d %H:%M} UTC"
    if other_calls:
        return UnusableInputError(
            f"no chat request in the window ({asked}), only {other_calls:,} {'call' if other_calls == 1 else 'calls'} of "
            "other kinds, such as embeddings, and routing is about chat: ingest the logs of chat requests too, or give another window"
        )
    return UnusableInputError(
        f"no request in the window ({asked}); {''.join(f'{each}; ' for each in unknown)}"
        f"the newest request in the lake is of {newest:%Y-%m-%d %H:%M} UTC: give another --as-of, --timeframe or --task-types"
    )


def _unknown_types(question: _Question, found: tuple[str, ...]) -> tuple[str, ...]:
    """What to say of each task type that was asked about and that no request in the whole lake has: it may be mistyped."""
    missing = [each for each in question.parameters.task_types if each not in found]
    files = question.lake.all_files() if missing else ()
    if not files:
        return ()
    rows = question.engine.read_parquet(files).group_by("task_type").agg(attempts=ibis._.count())
    most = rows.order_by([ibis.desc("attempts"), "task_type"]).limit(TYPES_TOLD_APART).to_pyarrow().to_pylist()
    known = [row["task_type"] or UNKNOWN_TASK for row in most]
    if len(known) == TYPES_TOLD_APART:
        # Of those that are not among them nothing is known.
        return ()
    return tuple(
        f"no request in the lake is of the task type {each[:60]!r}{did_you_mean(each, known)}" for each in missing if each not in known
    )


def last_analysis(stored: ResultStore, delivered: RunStore, parameters: Parameters, why: str) -> AnalysisScope:
    """The scope of the newest report that answered the same question, marked as being no new one because of `why`.

    Raises:
        ServiceUnavailableError: no such report was made here, or its rows are gone.
    """
    runs = delivered.all()
    for run in runs:
        found = stored.load("analysis_scope", run.key, AnalysisScope)
        if found is not None and found.parameters == parameters and are_there(found.estimated_from):
            mark_used(found.requests_uri)
            # A report that repeats an analysis has its key: the first one made it.
            made = datetime.fromtimestamp(min(each.published_s for each in runs if each.key == run.key), UTC)
            dated = f"Analysed on {made:%Y-%m-%d %H:%M} UTC, from logs up to {found.end:%Y-%m-%d %H:%M} UTC; run again later for a new one."
            return found.model_copy(update={"router": None, "stale_because": f"{why}. {dated}"})
    raise ServiceUnavailableError(f"{why}; this home holds no recent analysis of the same question to fall back on: run again later")


def _asked(question: _Question, timeframe: Timeframe) -> _Asked:
    lake, parameters = question.lake, question.parameters
    window = window_of(parameters, question.newest_s, timeframe)
    files = lake.names_by_day(window.previous.start_s - LOOK_AROUND_S, window.end_s + LOOK_AROUND_S)
    begins_inside = question.oldest_s >= window.previous.start_s
    rows_key = key_of(
        content=content_of(file for of_day in files.values() for file in of_day),
        feedback=question.feedback_version,
        quality_name=parameters.quality_feedback,
        trusted=parameters.trusted_scores,
        catalog=question.days.catalog.version,
        overrides={name: override.model_dump(mode="json") for name, override in parameters.models.items()},
        task_types=parameters.task_types,
        window=(window.start_s, window.end_s),
        engine=question.engine_name,
        code=code_key(__name__),
    )
    # What is usual at an hour is told from the weeks before, which lie outside the rows.
    weeks = lake.names_by_day(window.end_s - BASELINE_DAYS * SECONDS_PER_DAY, window.end_s)
    earlier = content_of(file for of_day in weeks.values() for file in of_day)
    window_key = key_of(rows=rows_key, begins_inside=begins_inside, earlier=earlier)
    key = key_of(window=window_key, parameters=parameters.model_dump(mode="json"))
    return _Asked(timeframe, window, files, begins_inside, rows_key, window_key, key, lake.home.windows / rows_key)


def _scope_of(question: _Question, asked: _Asked) -> AnalysisScope | None:
    """The scope of one timeframe; None when no row lies in its window. Where none of them is chat, nothing of it is kept."""
    kept = kept_window(question.lake, asked.folder)
    known = None if kept is None else question.stored.load("analysis_scope", asked.key, AnalysisScope)
    if known is not None and (known.requests_uri, known.previous_uri) == kept and _has_its_sample(known, question.lake, asked.folder):
        return known.model_copy(update={"router": None, "stale_because": None})
    if kept is None:
        kept = make_window(question.days, asked.window, asked.files, newest_s=question.newest_s, folder=asked.folder)
    if kept is None:
        return None
    scope = _described(question, asked, kept)
    if scope.attempts == 0:
        shutil.rmtree(asked.folder, ignore_errors=True)
        return scope
    limit = question.parameters.sample_above
    if question.parameters.explore_only:
        return _explored(question, scope, limit, asked.folder)
    return scope if limit is None or scope.requests <= limit else _sampled(question, scope, limit, asked.folder)


def _uncovered(question: _Question, asked: _Asked, kept: tuple[str, str]) -> tuple[Uncovered, ...]:
    """What the logs do not cover of the window and of the one before: logs of every task type count."""
    start_s, end_s = asked.window.previous.start_s, asked.window.end_s
    logged = recorded(question.engine, kept, start_s, end_s)
    if logged is None:
        return uncovered((), start_s, end_s)
    return uncovered(
        logged.hours,
        start_s,
        end_s,
        first_s=logged.first_s if asked.begins_inside else None,
        # Without --as-of a window ends a microsecond after the newest record.
        last_s=None if question.newest_s >= end_s - 1.0 else logged.last_s,
    )


def sample_of(requests: ibis.Table, rate: float) -> ibis.Table:
    """Rows of about `rate` (0..1) of the sessions, whole and always the same ones; a request without a session is its own.

    Drawn by the third to tenth digit of the session's md5: `cluster` is the first two, so that a sample has the same
    clusters and halves. A larger rate adds sessions and drops none.
    """
    digits = ibis.coalesce(requests.session_id, requests.request_id).hexdigest("md5").substr(2, 8)
    return requests.filter(digits < f"{min(int(rate * 16**8), 16**8 - 1):08x}")


def _sampled(question: _Question, scope: AnalysisScope, limit: int, folder: Path) -> AnalysisScope:
    """The scope with a sample of its rows beside them."""
    rows = sample_of(rows_at(question.engine, scope.requests_uri), limit / scope.requests)
    path, drawn = _kept_beside(question, rows, folder, f"sample-{limit}")
    notice = (
        f"What other routing rules would do is estimated from {drawn:,} of the {scope.requests:,} requests ({percent(drawn / scope.requests)}), "
        f"whole sessions and the same ones each time, because sample_above is {limit:,}; intervals are as wide as that makes them. "
        "Requests, spend and everything else that is counted or added up cover all of them."
    )
    uri = question.lake.home.files.share(path)
    return scope.model_copy(update={"sampled": drawn / scope.requests, "sample_uri": uri, "notices": (*scope.notices, notice)})


def _explored(question: _Question, scope: AnalysisScope, limit: int | None, folder: Path) -> AnalysisScope:
    """The scope whose estimates rest on the learning half alone, so that nothing of the half that proves is seen."""
    rows, name = learning_half_as_whole(rows_at(question.engine, scope.requests_uri)), "explored"
    if limit is not None and scope.requests > limit:
        rows, name = sample_of(rows, limit / scope.requests), f"explored-{limit}"
    path, drawn = _kept_beside(question, rows, folder, name)
    notice = (
        f"Explored only: what other routing rules would do is estimated from {drawn:,} of the {scope.requests:,} requests, the half that rules are "
        "learnt on. The half that proofs are made on was not used, so nothing here is proven and no question was spent. "
        "Ask again without --explore-only for a proof."
    )
    uri = question.lake.home.files.share(path)
    sampled = drawn / scope.requests if scope.requests and drawn else 1.0
    return scope.model_copy(update={"sampled": sampled, "sample_uri": uri, "notices": (notice, *scope.notices)})


def _kept_beside(question: _Question, rows: ibis.Table, folder: Path, name: str) -> tuple[Path, int]:
    """A file of these rows beside the window's, made where there is none, and how many final requests it holds."""
    engine, path = question.engine, folder / f"{name}.parquet"
    if not path.exists():
        writing = folder / f"{name}-{uuid.uuid4().hex}.writing"
        engine.write_parquet(rows, writing)
        with contextlib.suppress(OSError):
            writing.rename(path)
    return path, int(engine.read_parquet([path]).is_final.sum().fill_null(0).execute())


def _has_its_sample(known: AnalysisScope, lake: Lake, folder: Path) -> bool:
    """Whether a stored scope has all of its rows, or the sample of them that it names is there."""
    return known.sample_uri is None or lake.home.files.found(folder / Path(known.sample_uri).name) == known.sample_uri


_FILLED: tuple[str, ...] = (
    "cost_usd",
    "quality",
    "complexity",
    "session_id",
    "routing_latency_ms",
    "ttft_ms",
    "queue_depth",
    "user_rating",
    "propensity",
    "routing_rule_id",
)


def _described(question: _Question, asked: _Asked, kept: tuple[str, str]) -> AnalysisScope:
    """What the rows of a window hold."""
    parameters, window = question.parameters, asked.window
    requests, previous = (rows_at(question.engine, address) for address in kept)
    counted = _counted(requests)
    names = requests.select("model", "task_type").distinct().to_pyarrow().to_pylist()
    attempts, requests_n, labelled = (int(counted[name]) for name in ("attempts", "requests", "labelled"))
    missing = _uncovered(question, asked, kept)
    length_s = window.end_s - window.start_s
    covered_s = max(length_s - math.fsum(each.within(window.start_s, window.end_s) for each in missing), min(LEAST_COVERED_S, length_s))
    return AnalysisScope(
        key=asked.key,
        rows_key=asked.rows_key,
        window_key=asked.window_key,
        parameters=parameters,
        timeframe_asked=parameters.timeframe,
        timeframe=asked.timeframe,
        start_s=window.start_s,
        end_s=window.end_s,
        previous_start_s=window.previous.start_s,
        covered_s=covered_s,
        uncovered=missing,
        snapshot_id=question.snapshot_id,
        requests=requests_n,
        attempts=attempts,
        other_calls=int(calls_at(question.engine, kept[0]).count().execute()) - attempts,
        labelled=labelled,
        other_spend_usd=spend_beside(question.engine, kept[0]),
        previous_requests=int(previous.is_final.sum().fill_null(0).execute()),
        sessions=int(counted["sessions"]),
        models=tuple(sorted({row["model"] for row in names})),
        task_types=tuple(sorted({row["task_type"] for row in names})),
        complexity_derived_share=0.0 if requests_n == 0 else counted["derived"] / requests_n,
        task_type_unknown_share=0.0 if requests_n == 0 else counted["untyped"] / requests_n,
        sources=missing_sources(_filled(counted)),
        notices=(
            *_notices(parameters, asked.timeframe, requests_n, labelled),
            *_on_coverage(window, covered_s, missing),
            *_late_sources(question, asked),
            *notices_of(version_changes(requests)),
        ),
        days_to_collect=_days_to_collect(requests_n, labelled, covered_s / SECONDS_PER_DAY),
        requests_uri=kept[0],
        previous_uri=kept[1],
        engine=question.engine_name,
    )


def _counted(requests: ibis.Table) -> dict[str, Any]:
    """Rows, requests and sessions of a window, and in how many rows each of _FILLED is."""
    final = requests.is_final
    counted: dict[str, Any] = (
        requests.agg(
            attempts=requests.count(),
            requests=final.sum().fill_null(0),
            labelled=requests.quality.notnull().sum().fill_null(0),
            sessions=ibis.coalesce(requests.session_id, requests.request_id).nunique(),
            derived=(final & requests.is_complexity_derived).sum().fill_null(0),
            untyped=(final & ~requests.is_task_type_logged).sum().fill_null(0),
            **{f"has_{name}": requests[name].notnull().sum().fill_null(0) for name in _FILLED},
        )
        .to_pyarrow()
        .to_pylist()[0]
    )
    return counted


def _filled(counted: Mapping[str, Any]) -> dict[str, float]:
    """As `missing_sources` takes it: what was derived or filled in was not logged."""
    filled = {name: float(counted[f"has_{name}"]) for name in _FILLED}
    return filled | {name: float(counted["requests"] - counted[how]) for name, how in (("complexity", "derived"), ("task_type", "untyped"))}


def _notices(parameters: Parameters, timeframe: Timeframe, requests: int, labelled: int) -> tuple[str, ...]:
    notices: list[str] = []
    if timeframe != parameters.timeframe:
        notices.append(f"The window asked for ({parameters.timeframe}) held too little; it was extended to {timeframe}.")
    if requests < MIN_REQUESTS:
        notices.append(
            f"{counted(requests, 'request')} {'is' if requests == 1 else 'are'} too few to judge other routing rules; at least {MIN_REQUESTS:,} are needed."
        )
    if labelled == 0:
        notices.append(
            "No request carries a quality score, so no rule can be proven safe. Log quality_score, or hand over a feedback file."
        )
    elif labelled < MIN_LABELLED:
        notices.append(
            f"Only {counted(labelled, 'request')} {'carries' if labelled == 1 else 'carry'} a quality score; about {MIN_LABELLED:,} are the least that proofs need."
        )
    return tuple(notices)


def _on_coverage(window: Window, covered_s: float, missing: tuple[Uncovered, ...]) -> Iterator[str]:
    """A window that the logs do not cover whole, and what figures over time go by."""
    inside = [each for each in missing if each.within(window.start_s, window.end_s) > 0]
    length_s = window.end_s - window.start_s
    if covered_s >= (1 - WORTH_TELLING) * length_s and not any(each.start_s > window.start_s for each in inside):
        return
    yield (
        f"The window is {_length(length_s)} long and the logs cover {_length(covered_s)} of it. "
        "Rates, budgets and figures of 30 days go by the time that they cover."
    )
    for each in inside:
        if each.start_s <= window.start_s and each.end_s < window.end_s:
            yield f"The logs begin on {_at(each.end_s)}, {_length(each.end_s - window.start_s)} after the window does."
    gaps = sorted((each for each in inside if each.start_s > window.start_s), key=lambda each: each.start_s - each.end_s)
    if gaps:
        told = ", ".join(
            f"from {_at(each.start_s)} to {_at(each.end_s)}" for each in sorted(gaps[:MOST_GAPS], key=lambda each: each.start_s)
        )
        more = f" and {len(gaps) - MOST_GAPS} times more" if len(gaps) > MOST_GAPS else ""
        yield f"The logs hold nothing {told}{more}, when records are usual; if logs are missing there, ingest them."


def _late_sources(question: _Question, asked: _Asked) -> Iterator[str]:
    """Of several sources of logs those that begin late in the window while others cover it from its start."""
    sources, window = question.lake.home.sources(), asked.window
    names = sorted({file for of_day in asked.files.values() for file in of_day})
    if len(sources) < 2 or not names:
        return
    rows = question.engine.read_parquet(question.lake.readable(names)).select("source_object", "started_at")
    # An object is called by its source as well, where that is not the home's first (`Home.address`).
    others = [(rows.source_object.endswith(f" in {uri}"), uri) for uri in sources[1:]]
    rows = with_day(rows.mutate(source=ibis.cases(*others, else_=sources[0])))
    days = rows.group_by("source", "day").agg(first=rows.started_at.min()).to_pyarrow().to_pylist()
    began: dict[str, dict[int, float]] = {}
    for row in days:
        began.setdefault(row["source"], {})[row["day"]] = row["first"].replace(tzinfo=UTC).timestamp()
    for source, first_s in late_starts(began, window.start_s, window.end_s):
        yield (
            f"The logs of {source} begin on {_at(first_s)}, {_length(first_s - window.start_s)} after the window does, while other sources "
            "cover that time. Rates per day, budgets and comparisons with the window before hold its traffic as if there had been none "
            "until then: they are too low. Ingest its earlier logs, or take a shorter timeframe."
        )


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _length(seconds: float) -> str:
    hours = seconds / SECONDS_PER_HOUR
    number, unit = (hours, "hour") if hours < 48 else (hours / 24, "day")
    return f"{number:.1f} {unit}{'' if f'{number:.1f}' == '1.0' else 's'}"


def _days_to_collect(requests: int, labelled: int, span_days: float) -> float | None:
    """Days until both MIN_REQUESTS and MIN_LABELLED are reached at the rate observed; None when there are enough, or no rate."""
    if requests >= MIN_REQUESTS and labelled >= MIN_LABELLED:
        return None
    if requests == 0:
        return None
    days = (MIN_REQUESTS - requests) / (requests / span_days)
    if labelled > 0:
        days = max(days, (MIN_LABELLED - labelled) / (labelled / span_days))
    return max(days, 0.0) or None
