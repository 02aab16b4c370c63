"""The one function that takes logs from a place to the lake: list, leave out what is known, conform, commit.

Belongs here: the order of steps, the accounts by object, what a caller gets back. Does not belong here: any of the steps.

Every record ends as ingested, duplicate or quarantined, and the ledger commits with the rows: killed anywhere and run
again, the totals are the same. What was uploaded again replaces what was read of it before, in the same commit.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field

from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest import formats
from routing_pipeline.ingest.backlog import Backlog, known_keys, open_backlog, unknown_objects
from routing_pipeline.ingest.batch import BatchConformer, Outcome, connect
from routing_pipeline.ingest.erasure import leave_out_forgotten
from routing_pipeline.ingest.feedback import FeedbackIngestResult, ingest_feedback
from routing_pipeline.ingest.formats.log_format import LogFormat
from routing_pipeline.ingest.ledger import UNKNOWN_FORMAT, Account, ledger_rows, quarantine_rows
from routing_pipeline.ingest.manifests import LOG_TABLES, leave_out_unfinished
from routing_pipeline.ingest.objects import StoredObject, nothing_there, open_source
from routing_pipeline.ingest.quarantine import Refused
from routing_pipeline.ingest.shares import Conformed, Share, Workers, Written, conformed_by, conformed_here, cut
from routing_pipeline.ingest.staging.stager import Stager
from routing_pipeline.lake.overwrite import READ_AGAIN, Replacement, replacement
from routing_pipeline.lake.table import CommitConflictError, Lake
from routing_pipeline.lake.totals import IngestTotals
from routing_pipeline.storage.home import Home

__all__ = ["FeedbackIngestResult", "IngestResult", "IngestTotals", "Progress", "ingest_feedback", "ingest_logs"]

Progress = Callable[[str, int, int], None]
"""Called with what is going on, how much of it is done, and of how much (bytes)."""

COMMIT_EVERY_S = 30.0
"""How much work a kill can cost; commits in between cost more files and snapshots."""
MAX_REFUSED_WAITING = 50_000
"""Refused records wait in memory for the commit; with so many of them it does not wait for its time."""
MAX_TRIES_OF_CHANGING_OBJECT = 2
MAX_CONFLICTS = 3
"""How often another writer may be first, one that takes no lock (an engine that tidies the table), before this one gives up."""
LOOK_AROUND_US = 3_600_000_000
"""How far from an attempt others of its request or trace may have begun that came in an earlier batch."""


class IngestResult(Result):
    """What one ingestion did; records = ingested + quarantined + duplicates."""

    source: str = Field(description="Where the logs came from")
    objects_listed: int = quantity("Objects at the source that may hold logs", "objects")
    objects_new: int = quantity("Of these, read now", "objects")
    objects_skipped: int = quantity("Of these, known from the ledger", "objects")
    objects_changing: int = quantity(
        "Of these, changing while being read or not finished by their writer, and left for the next run", "objects"
    )
    objects_forgotten: int = quantity("Of these, forgotten earlier, so never read again", "objects", default=0)
    records: int = quantity("Records found in the objects read now", "records")
    ingested: int = quantity("Records that became rows", "records")
    quarantined: int = quantity("Records refused", "records")
    duplicates: int = quantity("Records whose attempt was known already", "records")
    replaced: int = quantity("Rows that left the lake because their objects were uploaded or read again", "rows", default=0)
    left_out: dict[str, int] = Field(
        default_factory=dict,
        description="What was found beside the records and is none, by what it is called",
        json_schema_extra={"unit": "items"},
    )
    nulled: dict[str, int] = Field(description="Values out of range that became null, by column", json_schema_extra={"unit": "values"})
    formats: tuple[str, ...] = Field(description="Log formats found")
    snapshot_id: str | None = Field(description="Snapshot of the lake afterwards; null while it holds no rows")
    seconds: float = quantity("Wall time", "s")
    unavailable: str | None = Field(
        default=None, description="Why nothing could be read and what was read earlier stands; null when it could"
    )


_COUNTS = ("objects_listed", "objects_new", "objects_skipped", "objects_changing", "records", "ingested", "quarantined", "duplicates")


class _ChangedWhileReadError(Exception):
    """Objects read in place changed under the reader; nothing of the present group may be committed."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(numbers)
        self.numbers = numbers


def ingest_logs(
    home: Home,
    uri: str,
    *,
    log_format: str = "auto",
    add_source: bool = False,
    days: Collection[date] | None = None,
    progress: Progress | None = None,
    now_s: float | None = None,
    workers: Workers | None = None,
) -> IngestResult:
    """Read new logs from a directory, a file, `file://` or `s3://bucket/prefix` into the home's lake.

    Args:
        home: Where the lake is.
        uri: Where the logs are.
        log_format: A format's name, or `auto` to tell by content, object by object.
        add_source: Accept a second source in this home.
        days: Read nothing whose key names other UTC days alone (`reprocessing.ingest_days`); None reads all that is new.
        progress: Told how far it is.
        now_s: Now, seconds since 1970; the clock's by default.
        workers: Who conforms what is more than a little; None: this process alone. Both give the same rows from the same batches.

    Raises:
        UnusableInputError: no such place, nothing in it, no permission, an unknown format, or a home of other logs.
        ServiceUnavailableError: the object store does not answer, or the workers do not.
    """
    began = time.monotonic()
    asked = formats.named(log_format)
    home.create()
    source = open_source(uri, exclude=home.root)
    report = progress or (lambda *_: None)
    with home.writing(on_wait=lambda: report("waiting for another writer", 0, 1)):
        lake = Lake(home)
        lake.recover()
        with open_backlog(lake, "ledger", source) as backlog:
            if not backlog.listed:
                raise nothing_there(source)
            home.remember_source(source.uri, add=add_source)
            if days is not None:
                backlog.leave_out_other_days(days, READ_AGAIN)
            unfinished = leave_out_unfinished(home, backlog, LOG_TABLES)
            run = _Ingestion(home, lake, backlog, time.time() if now_s is None else now_s, report, log_format, workers)
            run.read(asked)
        return IngestResult(
            source=source.uri,
            objects_listed=backlog.listed,
            objects_new=run.objects,
            objects_skipped=backlog.listed - backlog.new,
            objects_changing=len(run.given_up) + unfinished,
            objects_forgotten=backlog.forgotten,
            records=run.totals.total(),
            ingested=run.totals["ingested"],
            quarantined=run.totals["quarantined"],
            duplicates=run.totals["duplicates"],
            replaced=run.replaced,
            left_out=dict(sorted(run.left_out.items())),
            nulled=dict(sorted(run.nulled.items())),
            formats=tuple(sorted(run.formats)),
            snapshot_id=lake.snapshot_id(),
            seconds=time.monotonic() - began,
        )


def ingest_or_stand(
    home: Home, uri: str, *, log_format: str = "auto", progress: Progress | None = None, workers: Workers | None = None
) -> IngestResult:
    """`ingest_logs`, except that when the store does not answer, what the home read from it earlier stands, marked as such.

    Raises:
        UnusableInputError: as `ingest_logs`.
        ServiceUnavailableError: the store does not answer, and this home has never read anything from it.
    """
    try:
        return ingest_logs(home, uri, log_format=log_format, progress=progress, workers=workers)
    except ServiceUnavailableError as error:
        source, standing = open_source(uri, exclude=home.root).uri, nothing_read(home)
        if standing.snapshot_id is None or source not in home.sources():
            raise
        return standing.model_copy(update={"source": source, "unavailable": str(error)})


def nothing_read(home: Home) -> IngestResult:
    """What stands for an ingestion where there was none, or where its result was dropped: the lake as it is."""
    counts = dict.fromkeys(_COUNTS, 0)
    source, snapshot_id = next(iter(home.sources()), ""), Lake(home).snapshot_id()
    return IngestResult(source=source, **counts, nulled={}, formats=(), snapshot_id=snapshot_id, seconds=0.0)


def together(results: Sequence[IngestResult]) -> IngestResult:
    """One result for ingestions of several sources, one after the other: counts add up, and what was unavailable of any stays said."""
    left_out, nulled = Counter[str](), Counter[str]()
    for each in results:
        left_out.update(each.left_out)
        nulled.update(each.nulled)
    return results[-1].model_copy(
        update={
            **{name: sum(getattr(each, name) for each in results) for name in (*_COUNTS, "objects_forgotten", "replaced", "seconds")},
            "source": ", ".join(each.source for each in results),
            "left_out": dict(sorted(left_out.items())),
            "nulled": dict(sorted(nulled.items())),
            "formats": tuple(sorted({name for each in results for name in each.formats})),
            "unavailable": "; ".join(each.unavailable for each in results if each.unavailable) or None,
        }
    )


class _Ingestion:
    """One run over the new objects of one source, committed group by group."""

    def __init__(
        self, home: Home, lake: Lake, backlog: Backlog, now_s: float, progress: Progress, log_format: str, workers: Workers | None
    ) -> None:
        self.home = home
        self.lake = lake
        self.backlog = backlog
        self.source = backlog.source
        self.now_s = now_s
        self.progress = progress
        self.log_format = log_format
        self.workers = workers
        self.known: set[str] = set()
        self.bytes_done = 0
        self.bytes_total = 0
        self.objects = 0
        self.replaced = 0
        self.has_vanished = False
        self.totals: Counter[str] = Counter()
        self.nulled: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.formats: set[str] = set()
        self.given_up: list[str] = []

    def read(self, asked: LogFormat | None) -> None:
        """Read the backlog, and what has to be read again because of it."""
        while self.backlog.unread():
            self.has_vanished = False
            self.bytes_done, self.bytes_total = 0, self.backlog.size_bytes()
            for new in self.backlog.slices():
                self._read(new, asked)
            if not self.has_vanished:
                return
            self.backlog.turn_to_marked(READ_AGAIN)

    def _read(self, new: list[StoredObject], asked: LogFormat | None) -> None:
        """Read until every object is committed, or kept changing."""
        self.home.scratch.mkdir(parents=True, exist_ok=True)
        self.known = known_keys(self.backlog.connection, self.lake, "ledger", self.source, new)
        tries: Counter[str] = Counter()
        conflicts = 0
        remaining = new
        while remaining:
            group = _Group(self, remaining)
            with tempfile.TemporaryDirectory(prefix="ingest-", dir=self.home.scratch, ignore_cleanup_errors=True) as folder:
                try:
                    group.read(asked, Path(folder))
                    changed = group.changed
                except _ChangedWhileReadError as error:
                    group.discard()
                    changed = error.numbers
                except CommitConflictError:
                    group.discard()
                    conflicts += 1
                    if conflicts > MAX_CONFLICTS:
                        raise
                    # What the other one committed decides anew what is to be read.
                    self.known = known_keys(self.backlog.connection, self.lake, "ledger", self.source, remaining)
                    remaining = self._unknown(remaining)
                    continue
            changed_keys = {remaining[number].key for number in changed}
            tries.update(changed_keys)
            left = [each for number, each in enumerate(remaining) if number not in group.committed and each.key not in changed_keys]
            again = [key for key in sorted(changed_keys) if tries[key] <= MAX_TRIES_OF_CHANGING_OBJECT]
            self.given_up += [key for key in sorted(changed_keys) if tries[key] > MAX_TRIES_OF_CHANGING_OBJECT]
            found = [now for key in again if (now := self.source.describe(key)) is not None and now.size_bytes]
            remaining = left + self._unknown(found)

    def _unknown(self, objects: list[StoredObject]) -> list[StoredObject]:
        return unknown_objects(self.backlog.connection, self.lake, "ledger", self.source, objects)

    def address(self, listed: StoredObject) -> str:
        """What the lake calls an object of the source."""
        return self.home.address(self.source.uri, listed.key)


class _Group:
    """Batches on their way into one commit, and the accounts of their objects."""

    def __init__(self, run: _Ingestion, objects: list[StoredObject]) -> None:
        self.run = run
        self.objects = objects
        self.keys = {number: run.address(each) for number, each in enumerate(objects)}
        self.committed: set[int] = set()
        self.changed: list[int] = []
        self.bytes_done = 0
        self._start()

    def _start(self) -> None:
        self.folder: Path | None = None
        self.finished: list[int] = []
        self.accounts: dict[int, Account] = {}
        self.refused: list[Refused] = []
        self.nulled: Counter[str] = Counter()
        self.spans: list[tuple[int, int, str]] = []
        self.superseding: dict[str, str] = {}
        self.forgotten: list[str] = []
        self.began = time.monotonic()

    def read(self, asked: LogFormat | None, scratch: Path) -> None:
        with connect(scratch / "spill") as connection:
            conformer = BatchConformer(connection, now_s=self.run.now_s, hash_key=self.run.home.hash_key(), asked=asked)
            self.connection: Any = connection
            for number, batch in enumerate(self._conformed(conformer, asked, scratch)):
                self._take(conformer, batch, number)
                is_due = time.monotonic() - self.began > COMMIT_EVERY_S or len(self.refused) > MAX_REFUSED_WAITING
                if batch.is_complete and is_due:
                    self._commit()
            self._commit()

    def _conformed(self, conformer: BatchConformer, asked: LogFormat | None, scratch: Path) -> Iterator[Conformed]:
        run, objects = self.run, list(enumerate(self.objects))
        shares = [] if run.workers is None else cut(objects)
        if run.workers is None or len(shares) < 2:
            return conformed_here(conformer, Stager(run.source, scratch, asked, self._progressed), objects, scratch)
        where = run.source.uri, run.log_format, run.home.root.absolute(), scratch.absolute(), run.now_s
        told = [Share(each, tuple(self.keys[number] for number, _ in each), *where) for each in shares]
        return conformed_by(run.workers, told, self._progressed)

    def _progressed(self, size_bytes: int) -> None:
        self.bytes_done += size_bytes
        self.run.progress("reading logs", self.run.bytes_done + self.bytes_done, self.run.bytes_total)

    def _take(self, conformer: BatchConformer, batch: Conformed, number: int) -> None:
        self._check_unchanged(batch)
        again = {each.key: self.run.address(each) for each in self._read_by(batch) if each.key in self.run.known}
        self.superseding.update(again)
        written = batch.written
        if written is not None and not again and self._stands_alone(conformer, written):
            self._account(written.outcome)
            if (span := written.outcome.span_us) is not None:
                (folder := self._folder() / f"batch-{number}").mkdir()
                for file in written.files:
                    shutil.move(file, folder / file.name)
                self.spans.append((*span, str(folder)))
        else:
            if written is not None:
                conformer.read_conformed(written.rows)
            self._finish(conformer, batch.outcome, number)
        self.changed += batch.changed
        self.finished += batch.finished

    def _finish(self, conformer: BatchConformer, outcome: Outcome, number: int) -> None:
        """Write what of the table `conformed` is not known yet."""
        self.forgotten = leave_out_forgotten(self.connection, self.run.lake, self.forgotten, self.run.now_s)
        if outcome.span_us is not None:
            low, high = outcome.span_us
            conformer.drop_known(self._committed(low, high), outcome, self.superseding.values())
            conformer.drop_known(self._waiting(low, high), outcome)
            folder = self._folder() / f"batch-{number}"
            folder.mkdir()
            around = self._around(low, high)
            conformer.finish(outcome, self.keys, folder, around, self.superseding.values())
            self.spans.append((low, high, str(folder)))
        self._account(outcome)

    def _stands_alone(self, conformer: BatchConformer, written: Written) -> bool:
        """Whether nothing that is known would have made another batch of it than its worker did."""
        if self.run.lake.side_files("forgotten"):
            return False
        span, files = written.outcome.span_us, [str(file) for file in written.files]
        if span is None:
            return True
        is_known = conformer.meets("attempt_id", files, self._committed(*span) + self._waiting(*span))
        return not is_known and not (written.has_open_relations and conformer.meets("request_id", files, self._around(*span)))

    def _folder(self) -> Path:
        """Where data files wait for the commit."""
        if self.folder is None:
            self.folder = self.run.lake.new_data_folder()
        return self.folder

    def _read_by(self, batch: Conformed) -> list[StoredObject]:
        return [self.objects[number] for number in {*batch.read, *batch.finished}]

    def _around(self, low_us: int, high_us: int) -> list[str]:
        """Files that may hold other attempts of the same requests."""
        span = low_us - LOOK_AROUND_US, high_us + LOOK_AROUND_US
        return self._committed(*span) + self._waiting(*span)

    def _check_unchanged(self, batch: Conformed) -> None:
        """Files read in place must still be what was listed; fetched ones were compared when they were fetched."""
        in_place = [number for number in batch.read if self.run.source.local_path(self.objects[number]) is not None]
        changed = [number for number in in_place if self.run.source.describe(self.objects[number].key) != self.objects[number]]
        if changed:
            raise _ChangedWhileReadError(changed)

    def _committed(self, low_us: int, high_us: int) -> list[str]:
        """Files of the lake that overlap a time."""
        return list(self.run.lake.files_holding(low_us / 1e6, high_us / 1e6))

    def _waiting(self, low_us: int, high_us: int) -> list[str]:
        """Files that overlap a time and wait to be committed."""
        waiting = [folder for low, high, folder in self.spans if low <= high_us and high >= low_us]
        return [str(path) for folder in waiting for path in sorted(Path(folder).rglob("*.parquet"))]

    def _account(self, outcome: Outcome) -> None:
        for number, names in outcome.formats.items():
            self._account_of(number).formats |= names
        for kind, counts in (("ingested", outcome.rows), ("duplicates", outcome.duplicates)):
            for number, count in counts.items():
                self._account_of(number).counts[kind] += count
        for refused in outcome.refused:
            self._account_of(refused.object).counts["quarantined"] += refused.records
        for (number, what), count in outcome.left_out.items():
            self._account_of(number).left_out[what] += count
        self.refused += outcome.refused
        self.nulled.update(outcome.nulled)

    def _account_of(self, number: int) -> Account:
        return self.accounts.setdefault(number, Account())

    def _commit(self) -> None:
        if not self.finished:
            return
        run = self.run
        leaving = self._leaving()
        accounts = [(self.objects[number], self._account_of(number)) for number in self.finished]
        # What it counted as a duplicate may have been of a row that leaves.
        doubtful = {listed.key for listed, account in accounts if leaving.has_vanished and account.counts["duplicates"]}
        entries = [(replace(listed, etag=READ_AGAIN) if listed.key in doubtful else listed, account) for listed, account in accounts]
        run.lake.commit(
            self.folder,
            replaced=leaving.files,
            rewritten={**leaving.rewritten, **({"forgotten": self.forgotten} if self.forgotten else {})},
            ledger=ledger_rows(run.source, entries, run.now_s),
            quarantine=quarantine_rows(self.objects, self.refused, run.now_s, run.address),
        )
        run.replaced += leaving.rows
        run.has_vanished |= leaving.has_vanished
        run.known.update(listed.key for listed, _ in accounts)
        for _, account in accounts:
            run.totals.update(account.counts)
            run.left_out.update(account.left_out)
            run.formats |= account.formats or {UNKNOWN_FORMAT}
        run.objects += len(self.finished)
        run.bytes_done += sum(listed.size_bytes for listed, _ in accounts)
        self.bytes_done = 0
        run.nulled.update(self.nulled)
        self.committed |= set(self.finished)
        self._start()

    def _leaving(self) -> Replacement:
        """What the lake holds of earlier versions of the objects that are about to be committed."""
        keys = {
            listed.key: self.superseding[listed.key] for number in self.finished if (listed := self.objects[number]).key in self.superseding
        }
        if not keys:
            return Replacement()
        return replacement(self.connection, self.run.lake, self.run.source.uri, keys, self._folder())

    def discard(self) -> None:
        """Forget what was read since the last commit."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
