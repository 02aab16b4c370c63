"""What one file of logs says by itself: spend, its pace, what could be tested. No home is needed and none is left.

Belongs here: reading a file as an ingestion does, into a folder that goes again, and sums over its calls. Does not belong here: what other
routing would have done, which takes an analysis (`operations`); how it is said (the command line).

Rows are read, priced and counted once as everywhere else (`ingest`, `window.price_columns`, `window.repeats`), so the sums are those that
an analysis of the same calls gives. Calls are counted here, not requests: what belongs together is told by an analysis.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from pydantic import Field

from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import DAYS_PER_MONTH, SECONDS_PER_DAY
from routing_pipeline.errors import DataQualityError, UnusableInputError
from routing_pipeline.estimates import Known, Result, Unidentifiable, quantity
from routing_pipeline.ingest import formats
from routing_pipeline.ingest.batch import BatchConformer, connect
from routing_pipeline.ingest.objects import StoredObject, open_source
from routing_pipeline.ingest.staging.stager import Batch, Stager
from routing_pipeline.stopping import tidying
from routing_pipeline.text import LogName, from_seconds
from routing_pipeline.window.coverage import uncovered

if TYPE_CHECKING:
    import ibis

Progress = Callable[[str, int, int], None]

READING = "reading logs, MB"
MB = 1_000_000
LEAST_DAYS = 1.0
"""Less time than this tells of no pace: it knows no night."""
COMPARED_CALLS = 50
"""Calls of a model in a task from which on it counts as tried there."""
WORTH_TESTING = 0.8
"""Share of the dearer model's cost per call below which another one is worth a test."""
COMPARISONS = 5


class ModelSpend(Result):
    """One model's calls."""

    model: LogName
    calls: int = quantity("Of every kind", "calls")
    spend_usd: float = quantity("Of the calls that are priced", "USD")
    unpriced: int = quantity("Calls whose cost neither the log nor the price list knows", "calls")
    cost_per_call_usd: float | None = quantity("Mean of the priced calls; null where there are none", "USD")
    scored: int = quantity("Answers with a quality in the log", "calls")
    quality: float | None = quantity("Their mean, as they came and for the tasks that the model was given; null: none scored", "0..1")


class TaskSpend(Result):
    """One task's calls."""

    task_type: LogName
    calls: int = quantity("Of every kind", "calls")
    spend_usd: float = quantity("Of the calls that are priced", "USD")
    scored: int = quantity("Answers with a quality in the log", "calls")


class Comparison(Result):
    """Two models that answered the same task, one at a fraction of the other's cost. No promise: they did not answer the same requests."""

    task_type: LogName
    dear: LogName
    dear_calls: int = quantity("Of the task, by the more expensive model", "calls")
    dear_spend_usd: float = quantity("Of the task, by the more expensive model", "USD")
    cheap: LogName
    cheap_calls: int = quantity("Of the task, by the cheaper model", "calls")
    cost_ratio: float = quantity("Mean cost per call of the cheaper model, relative to the more expensive one", "1")
    is_scored: bool = Field(description="Whether answers of both are scored, so that logs can tell which is good enough")


class FileAudit(Result):
    """What one file of logs says."""

    source: str
    formats: tuple[str, ...] = Field(description="Log formats found")
    records: int = quantity("Found in the file", "records")
    calls: int = quantity("Of these, usable calls, each counted once", "calls")
    quarantined: int = quantity("Records refused", "records")
    duplicates: int = quantity("Records of a call that was there already", "records")
    reasons: dict[str, int] = Field(description="Why records were refused, most frequent first", json_schema_extra={"unit": "records"})
    left_out: dict[str, int] = Field(description="What was found beside records and is none", json_schema_extra={"unit": "items"})
    start: datetime = Field(description="Of the first call, UTC")
    end: datetime = Field(description="Of the last call, UTC")
    covered_days: float = quantity("Time that the logs cover, gaps left out", "days")
    spend_usd: float = quantity("Of the calls that are priced", "USD")
    unpriced: int = quantity("Calls whose cost neither the log nor the price list knows", "calls")
    cost_per_call_usd: float | None = quantity("Mean of the priced calls; null where there are none", "USD")
    run_rate_usd: Known = quantity("In 30 days, at the pace of these logs", "USD")
    failed: int = quantity("Calls that did not end in success", "calls")
    failed_usd: float = quantity("What these cost", "USD")
    scored: int = quantity("Answers with a quality in the log", "calls")
    models: tuple[ModelSpend, ...] = Field(description="By spend, most first")
    tasks: tuple[TaskSpend, ...] = Field(description="By spend, most first")
    comparisons: tuple[Comparison, ...] = Field(description="What could be tested first, by the more expensive model's spend")


@dataclass
class _Read:
    files: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    formats: set[str] = field(default_factory=set)


def audit(uri: str, *, log_format: str = "auto", progress: Progress | None = None) -> FileAudit:
    """Read one file, or the files of a folder, and say what is in it.

    Raises:
        UnusableInputError: no such place, nothing in it, or an unknown format.
        DataQualityError: no record in it can be used; the message says why.
    """
    report = progress or (lambda *_: None)
    source = open_source(uri)
    objects = list(source.list_objects())
    if not objects:
        raise UnusableInputError(f"{source.uri}: holds no log objects; check the path")
    with _temporary() as folder:
        read = _read(source, objects, formats.named(log_format), folder, report)
        if not read.files:
            raise _nothing_usable(source.uri, read)
        report("adding up", 0, 1)
        found = _summed(read, folder)
    return FileAudit(
        source=source.uri,
        formats=tuple(sorted(read.formats)),
        records=read.counts.total(),
        quarantined=read.counts["quarantined"],
        duplicates=read.counts["duplicates"],
        reasons=dict(read.reasons.most_common(5)),
        left_out=dict(read.left_out),
        **found,
    )


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="routing-pipeline-audit-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with tidying(lambda: rmtree(folder, ignore_errors=True)):
            yield folder


def _read(source: Any, objects: Sequence[StoredObject], asked: Any, folder: Path, progress: Progress) -> _Read:
    """Every object's calls as Parquet below the folder, and the account of its records."""
    read, of, done = _Read(), sum(each.size_bytes for each in objects), 0

    def staged(size_bytes: int) -> None:
        nonlocal done
        done += size_bytes
        progress(READING, done // MB, of // MB + 1)

    progress(READING, 0, of // MB + 1)
    keys = {number: each.key for number, each in enumerate(objects)}
    stager = Stager(source, folder, asked, staged)
    with connect(folder / "spill") as connection:
        conformer = BatchConformer(connection, now_s=time.time(), hash_key=secrets.token_hex(32), asked=asked)
        for number, batch in enumerate(stager.batches(list(enumerate(objects)))):
            _take(conformer, batch, keys, folder / f"rows-{number}", folder, read)
    return read


def _take(conformer: BatchConformer, batch: Batch, keys: dict[int, str], rows: Path, scratch: Path, read: _Read) -> None:
    outcome = conformer.conform(batch, scratch)
    if outcome.span_us is not None:
        conformer.drop_known(read.files, outcome)
        rows.mkdir()
        conformer.finish(outcome, keys, rows, read.files)
        read.files += [str(path) for path in sorted(rows.rglob("*.parquet"))]
    read.counts.update({"calls": outcome.rows.total(), "duplicates": outcome.duplicates.total()})
    for each in outcome.refused:
        read.counts["quarantined"] += each.records
        read.reasons[each.reason] += each.records
    for (_, what), count in outcome.left_out.items():
        read.left_out[what] += count
    for names in outcome.formats.values():
        read.formats |= names


def _nothing_usable(uri: str, read: _Read) -> Exception:
    if not read.counts["quarantined"]:
        beside = ", ".join(f"{count:,} {what}" for what, count in read.left_out.items())
        return UnusableInputError(
            f"{uri}: nothing in it is a call to a model{f'; it holds {beside}' if beside else ''}; see docs/formats.md"
        )
    reason, count = read.reasons.most_common(1)[0]
    records = read.counts.total()
    if records == 1:
        return DataQualityError(f"{uri}: its only record cannot be used: {reason}")
    return DataQualityError(f"{uri}: none of its {records:,} records can be used; {count:,} of them: {reason}")


def _summed(read: _Read, folder: Path) -> dict[str, Any]:

    from routing_pipeline.window.conform import with_all_columns, with_time
    from routing_pipeline.window.engine import open_engine
    from routing_pipeline.window.kinds_of_call import kind_of
    from routing_pipeline.window.price_columns import prices_of, with_prices
    from routing_pipeline.window.repeats import logged_once

    with open_engine(spill_to=folder / "spill") as engine:
        timed = with_time(with_all_columns(engine.read_parquet(read.files)))
        timed = timed.mutate(operation=kind_of(timed))
        once = logged_once(timed, held=engine.held)
        calls = with_prices(once, prices_of(once, Catalog({})))
        calls = calls.mutate(task_type=calls.task_type.fill_null("unknown"), hour=(calls.started_s / 3600).floor().cast("int64"))
        is_scored = (calls.status == "success") & calls.quality_score.notnull()
        sums = calls.group_by("model", "task_type", "hour").agg(
            calls=calls.count(),
            spend=calls.cost_usd.sum().fill_null(0.0),
            # A failure that nobody charged for costs nothing.
            unpriced=(calls.cost_usd.isnull() & (calls.status == "success")).sum(),
            priced=calls.cost_usd.notnull().sum(),
            failed=(calls.status != "success").sum(),
            failed_usd=calls.cost_usd.sum(where=calls.status != "success").fill_null(0.0),
            scored=is_scored.sum(),
            score=calls.quality_score.sum(where=is_scored).fill_null(0.0),
            first_s=calls.started_s.min(),
            last_s=calls.started_s.max(),
        )
        cells = engine.held(sums)
        whole = _rows(_added(cells))[0]
        by_model, by_task, by_both = (_rows(_added(cells, *by)) for by in (("model",), ("task_type",), ("task_type", "model")))
        hours = [int(each) for each in cells.select("hour").distinct().to_pyarrow()["hour"].to_pylist()]
    return _told(whole, by_model, by_task, by_both, hours)


def _added(cells: ibis.Table, *by: str) -> ibis.Table:
    names = ("calls", "spend", "priced", "unpriced", "failed", "failed_usd", "scored", "score")
    sums = {name: cells[name].sum() for name in names} | {"first_s": cells.first_s.min(), "last_s": cells.last_s.max()}
    if not by:
        return cells.aggregate(**sums)
    return cells.group_by(*by).agg(**sums).order_by([_descending("spend"), _descending("calls"), *by])


def _descending(name: str) -> Any:
    import ibis

    return ibis.desc(name)


def _rows(table: ibis.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pyarrow().to_pylist()
    return found


def _told(
    whole: dict[str, Any], by_model: list[dict[str, Any]], by_task: list[dict[str, Any]], by_both: list[dict[str, Any]], hours: list[int]
) -> dict[str, Any]:
    first_s, last_s = whole["first_s"], whole["last_s"]
    missing = uncovered(hours, first_s, last_s + 1e-6, first_s=first_s, last_s=last_s)
    days = max(last_s - first_s - sum(each.end_s - each.start_s for each in missing), 0.0) / SECONDS_PER_DAY
    pace: Known = Unidentifiable(unidentifiable=f"{days * 24:.1f} hours of logs are too few to tell of a month")
    if days >= LEAST_DAYS:
        pace = whole["spend"] / days * DAYS_PER_MONTH
    return {
        "calls": whole["calls"],
        "start": from_seconds(first_s),
        "end": from_seconds(last_s),
        "covered_days": days,
        "spend_usd": whole["spend"],
        "unpriced": whole["unpriced"],
        "cost_per_call_usd": _per_call(whole),
        "run_rate_usd": pace,
        "failed": whole["failed"],
        "failed_usd": whole["failed_usd"],
        "scored": whole["scored"],
        "models": tuple(_model(each) for each in by_model),
        "tasks": tuple(
            TaskSpend(task_type=LogName(each["task_type"]), calls=each["calls"], spend_usd=each["spend"], scored=each["scored"])
            for each in by_task
        ),
        "comparisons": tuple(_comparisons(by_both)),
    }


def _per_call(sums: dict[str, Any]) -> float | None:
    return sums["spend"] / sums["priced"] if sums["priced"] else None


def _model(each: dict[str, Any]) -> ModelSpend:
    return ModelSpend(
        model=LogName(each["model"]),
        calls=each["calls"],
        spend_usd=each["spend"],
        unpriced=each["unpriced"],
        cost_per_call_usd=_per_call(each),
        scored=each["scored"],
        quality=each["score"] / each["scored"] if each["scored"] else None,
    )


def _comparisons(by_both: list[dict[str, Any]]) -> Iterator[Comparison]:
    """For each task's dear models, most spend first, the one that was tried there most among those that cost clearly less."""
    tried = [each for each in by_both if each["calls"] >= COMPARED_CALLS and _per_call(each) is not None]
    shown = 0
    for dear in tried:
        at = _per_call(dear) or 0.0
        cheaper = [each for each in tried if each["task_type"] == dear["task_type"] and (_per_call(each) or 0.0) <= WORTH_TESTING * at]
        if not at or not cheaper or shown == COMPARISONS:
            continue
        cheap = max(cheaper, key=lambda each: (each["calls"], each["model"]))
        shown += 1
        yield Comparison(
            task_type=LogName(dear["task_type"]),
            dear=LogName(dear["model"]),
            dear_calls=dear["calls"],
            dear_spend_usd=dear["spend"],
            cheap=LogName(cheap["model"]),
            cheap_calls=cheap["calls"],
            cost_ratio=(_per_call(cheap) or 0.0) / at,
            is_scored=bool(dear["scored"] and cheap["scored"]),
        )
