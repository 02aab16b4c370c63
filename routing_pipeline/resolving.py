"""From what was asked to what is analysed: the window, extended when data are few, its rows made ready, and what they hold.

Belongs here: resolving parameters to an `AnalysisScope`, describing the rows, sampling them, falling back on the last analysis.
Does not belong here: how rows are made and kept (`window_rows`), what is in a row (`scope`), any measurement (`analysis`).
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis

from routing_pipeline.catalog import Catalog
from routing_pipeline.engine import Engine
from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.ingest.content import content_of
from routing_pipeline.parameters import Parameters, Timeframe
from routing_pipeline.results import ResultStore, code_version, key_of
from routing_pipeline.scope import (
    LOOK_AROUND_S,
    MIN_LABELLED,
    MIN_REQUESTS,
    SECONDS_PER_DAY,
    AnalysisScope,
    LakeState,
    Window,
    longer,
    missing_sources,
    window_of,
)
from routing_pipeline.window_rows import are_there, kept_window, make_window, mark_used, rows_at


def resolve_scope(
    lake: LakeState, parameters: Parameters, *, engine: Engine, engine_name: str, scratch: Path, stored: ResultStore
) -> AnalysisScope:
    """Turn parameters into a window on the lake's snapshot and conform its rows into `scratch`.

    With fewer than MIN_REQUESTS final requests, or none with a quality, the window is extended to the next longer
    timeframe as long as that brings more; what was done is said in `notices`.

    Raises:
        UnusableInputError: no row in the window, not even in the longest; the message names what the lake holds.
    """
    timeframe: Timeframe = parameters.timeframe
    best: AnalysisScope | None = None
    while True:
        found = _scope_of(lake, parameters, timeframe, engine=engine, engine_name=engine_name, scratch=scratch, stored=stored)
        if found is not None and (best is None or (found.requests, found.labelled) > (best.requests, best.labelled)):
            best = found
        is_enough = best is not None and best.requests >= MIN_REQUESTS and best.labelled > 0
        following = longer(timeframe)
        if is_enough or following is None:
            break
        timeframe = following
    if best is None:
        newest = datetime.fromtimestamp(lake.newest_s, UTC)
        asked = f"--task-types {','.join(parameters.task_types)}" if parameters.task_types else f"--timeframe {parameters.timeframe}"
        raise UnusableInputError(
            f"no request in the window ({asked}, as of {_as_of(parameters, newest):%Y-%m-%d %H:%M} UTC); "
            f"the newest request in the lake is of {newest:%Y-%m-%d %H:%M} UTC: give another --as-of, --timeframe or --task-types"
        )
    return best


def last_analysis(stored: ResultStore, parameters: Parameters, why: str) -> AnalysisScope:
    """The scope of the newest report that answered the same question, marked as being no new one because of `why`.

    Raises:
        ServiceUnavailableError: no such report was made here, or its rows are gone.
    """
    runs = stored.runs()
    for run in runs:
        found = stored.load("analysis_scope", run.key, AnalysisScope)
        if found is not None and found.parameters == parameters and are_there(found.estimated_from):
            mark_used(found.requests_uri)
            # A report that repeats an analysis has its key: the first one made it.
            made = datetime.fromtimestamp(min(each.published_s for each in runs if each.key == run.key), UTC)
            dated = f"Analysed on {made:%Y-%m-%d %H:%M} UTC, from logs up to {found.end:%Y-%m-%d %H:%M} UTC; run again later for a new one."
            return found.model_copy(update={"router": None, "stale_because": f"{why}. {dated}"})
    raise ServiceUnavailableError(f"{why}; this home holds no recent analysis of the same question to fall back on: run again later")


def _as_of(parameters: Parameters, newest: datetime) -> datetime:
    return parameters.as_of or newest


def _scope_of(
    lake: LakeState, parameters: Parameters, timeframe: Timeframe, *, engine: Engine, engine_name: str, scratch: Path, stored: ResultStore
) -> AnalysisScope | None:
    """The scope of one timeframe; None when no row lies in its window."""
    window = window_of(parameters, lake.newest_s, timeframe)
    catalog = Catalog(parameters.models)
    files = lake.files_by_day(window.previous.start_s - LOOK_AROUND_S, window.end_s + LOOK_AROUND_S)
    rows_key = key_of(
        content=content_of(file for of_day in files.values() for file in of_day),
        feedback=lake.feedback_version,
        quality_name=parameters.quality_feedback,
        catalog=catalog.version,
        overrides={name: override.model_dump(mode="json") for name, override in parameters.models.items()},
        task_types=parameters.task_types,
        window=(window.start_s, window.end_s),
        engine=engine_name,
        code=code_version(),
    )
    key = key_of(rows=rows_key, parameters=parameters.model_dump(mode="json"))
    folder = scratch / "windows" / rows_key
    kept = kept_window(lake, scratch, folder)
    known = None if kept is None else stored.load("analysis_scope", key, AnalysisScope)
    if known is not None and (known.requests_uri, known.previous_uri) == kept and _has_its_sample(known, lake, folder):
        return known.model_copy(update={"router": None, "stale_because": None})
    if kept is None:
        kept = make_window(lake, parameters, window, files, engine=engine, engine_name=engine_name, scratch=scratch, folder=folder)
    if kept is None:
        return None
    requests, previous = (rows_at(engine, address) for address in kept)
    scope = _described(
        lake, parameters, timeframe, window, requests, previous, key=key, rows_key=rows_key, kept=kept, engine_name=engine_name
    )
    if scope.attempts == 0:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    limit = parameters.sample_above
    return scope if limit is None or scope.requests <= limit else _sampled(scope, requests, limit, engine, folder, lake)


def sample_of(requests: ibis.Table, rate: float) -> ibis.Table:
    """Rows of about `rate` (0..1) of the sessions, whole and always the same ones; a request without a session is its own.

    Drawn by the third to tenth digit of the session's md5: `cluster` is the first two, so that a sample has the same
    clusters and halves. A larger rate adds sessions and drops none.
    """
    digits = ibis.coalesce(requests.session_id, requests.request_id).hexdigest("md5").substr(2, 8)
    return requests.filter(digits < f"{min(int(rate * 16**8), 16**8 - 1):08x}")


def _sampled(scope: AnalysisScope, requests: ibis.Table, limit: int, engine: Engine, folder: Path, lake: LakeState) -> AnalysisScope:
    """The scope with a sample of its rows beside them."""
    path = folder / f"sample-{limit}.parquet"
    if not path.exists():
        writing = folder / f"sample-{uuid.uuid4().hex}.writing"
        engine.write_parquet(sample_of(requests, limit / scope.requests), writing)
        with contextlib.suppress(OSError):
            writing.rename(path)
    drawn = int(engine.read_parquet([path]).is_final.sum().fill_null(0).execute())
    notice = (
        f"What other routing rules would do is estimated from {drawn:,} of the {scope.requests:,} requests ({drawn / scope.requests:.1%}), "
        f"whole sessions and the same ones each time, because sample_above is {limit:,}; intervals are as wide as that makes them. "
        "Requests, spend and everything else that is counted or added up cover all of them."
    )
    return scope.model_copy(update={"sampled": drawn / scope.requests, "sample_uri": lake.share(path), "notices": (*scope.notices, notice)})


def _has_its_sample(known: AnalysisScope, lake: LakeState, folder: Path) -> bool:
    """Whether a stored scope has all of its rows, or the sample of them that it names is there."""
    return known.sample_uri is None or lake.found(folder / Path(known.sample_uri).name) == known.sample_uri


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


def _described(
    lake: LakeState,
    parameters: Parameters,
    timeframe: Timeframe,
    window: Window,
    requests: ibis.Table,
    previous: ibis.Table,
    *,
    key: str,
    rows_key: str,
    kept: tuple[str, str],
    engine_name: str,
) -> AnalysisScope:
    final = requests.is_final
    counted: dict[str, Any] = (
        requests.agg(
            attempts=requests.count(),
            requests=final.sum().fill_null(0),
            labelled=requests.quality.notnull().sum().fill_null(0),
            sessions=ibis.coalesce(requests.session_id, requests.request_id).nunique(),
            derived=(final & requests.is_complexity_derived).sum().fill_null(0),
            untyped=(final & ~requests.is_task_type_logged).sum().fill_null(0),
            first_s=requests.started_s.min(),
            last_s=requests.started_s.max(),
            **{f"has_{name}": requests[name].notnull().sum().fill_null(0) for name in _FILLED},
        )
        .to_pyarrow()
        .to_pylist()[0]
    )
    names = requests.select("model", "task_type").distinct().to_pyarrow().to_pylist()
    requests_n, labelled = int(counted["requests"]), int(counted["labelled"])
    filled = {name: float(counted[f"has_{name}"]) for name in _FILLED}
    filled["complexity"] = float(requests_n - counted["derived"])
    filled["task_type"] = float(requests_n - counted["untyped"])
    span_days = max(((counted["last_s"] or 0.0) - (counted["first_s"] or 0.0)) / SECONDS_PER_DAY, 1 / 24)
    return AnalysisScope(
        key=key,
        rows_key=rows_key,
        parameters=parameters,
        timeframe_asked=parameters.timeframe,
        timeframe=timeframe,
        start_s=window.start_s,
        end_s=window.end_s,
        previous_start_s=window.previous.start_s,
        snapshot_id=lake.snapshot_id,
        requests=requests_n,
        attempts=int(counted["attempts"]),
        labelled=labelled,
        previous_requests=int(previous.is_final.sum().fill_null(0).execute()),
        sessions=int(counted["sessions"]),
        models=tuple(sorted({row["model"] for row in names})),
        task_types=tuple(sorted({row["task_type"] for row in names})),
        complexity_derived_share=0.0 if requests_n == 0 else counted["derived"] / requests_n,
        task_type_unknown_share=0.0 if requests_n == 0 else counted["untyped"] / requests_n,
        sources=missing_sources(filled),
        notices=_notices(parameters, timeframe, requests_n, labelled),
        days_to_collect=_days_to_collect(requests_n, labelled, span_days),
        requests_uri=kept[0],
        previous_uri=kept[1],
        engine=engine_name,
    )


def _notices(parameters: Parameters, timeframe: Timeframe, requests: int, labelled: int) -> tuple[str, ...]:
    notices: list[str] = []
    if timeframe != parameters.timeframe:
        notices.append(f"The window asked for ({parameters.timeframe}) held too little; it was extended to {timeframe}.")
    if requests < MIN_REQUESTS:
        notices.append(f"{requests:,} requests are too few to judge other routing rules; at least {MIN_REQUESTS:,} are needed.")
    if labelled == 0:
        notices.append(
            "No request carries a quality score, so no rule can be proven safe. Log quality_score, or hand over a feedback file."
        )
    elif labelled < MIN_LABELLED:
        notices.append(f"Only {labelled:,} requests carry a quality score; about {MIN_LABELLED:,} are the least that proofs need.")
    return tuple(notices)


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
