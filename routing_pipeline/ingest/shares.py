"""Batches conformed here or by workers of a cluster, each of which reads a share of the objects by itself.

Belongs here: what a worker is told, what it does with it, what it gives back. Does not belong here: a cluster (`window.on_workers`), what
becomes of what workers wrote, which is decided in one place (`ingestion`).

A worker reads, tells formats, refuses, conforms, and writes data files as if nobody else had read anything. It writes into a folder of its
own among those that the reader clears away, whatever happens, and never touches the lake. So a worker that dies, or two that do the same,
leave nothing behind that counts. Files of a batch in which no attempt, and no request that matters, is one of other batches or of the lake
are as one process would have written them. For the other batches the worker also keeps the rows as they were before, to begin from there.

What a worker is told may be seen by whoever sees the cluster. The key for user identifiers it reads in the home; credentials of an object
store are those of its own environment.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from routing_pipeline.errors import PipelineError, UnusableInputError
from routing_pipeline.ingest import formats
from routing_pipeline.ingest.batch import BatchConformer, Outcome, connect
from routing_pipeline.ingest.objects import open_source
from routing_pipeline.ingest.staging.fetch import Numbered
from routing_pipeline.ingest.staging.stager import Stager
from routing_pipeline.storage.home import Home

SHARE_BYTES = 64 << 20
"""What a worker reads at a time; less than this in all is read here, sooner than a cluster would begin."""
OBJECT_BYTES = 64 << 10
"""What an object counts for beside its bytes: small ones take the time of a request."""
THREADS = 1
"""Of DuckDB in a worker: Spark gives each task one core."""

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


class Workers(Protocol):
    """Whoever calls a function elsewhere, with arguments and results that can be pickled."""

    def each(self, work: Callable[[_Given], _Found], given: Sequence[_Given]) -> Iterator[_Found]:
        """What the function gives for each, in their order; raises ServiceUnavailableError where it cannot be had."""


@dataclass(frozen=True)
class Written:
    """What a worker wrote of a batch.

    Attributes:
        rows: The table `conformed`, to be finished by who knows of other batches.
        files: Data files of the batch as if it were alone. By name: what a folder holds a network's file system may show later.
        outcome: What became of it then.
        has_open_relations: As of `BatchConformer`.
    """

    rows: Path
    files: tuple[Path, ...]
    outcome: Outcome
    has_open_relations: bool


@dataclass(frozen=True)
class Conformed:
    """A batch whose rows are conformed: in the table `conformed` of a `BatchConformer`, or `written` by a worker.

    Numbers are those of objects, as in `Outcome`. `is_complete`: no object goes on in the next batch.
    """

    outcome: Outcome
    read: frozenset[int]
    finished: tuple[int, ...]
    changed: tuple[int, ...]
    is_complete: bool
    written: Written | None = None


@dataclass(frozen=True)
class Share:
    """What one worker is told. Paths are the same for all who have a part in it; `addresses` are what the lake calls the objects."""

    objects: tuple[Numbered, ...]
    addresses: tuple[str, ...]
    uri: str
    log_format: str
    home: Path
    folder: Path
    """In which each worker makes one of its own."""
    now_s: float


def conformed_here(conformer: BatchConformer, stager: Stager, objects: Sequence[Numbered], scratch: Path) -> Iterator[Conformed]:
    """Batch by batch; the rows are in the conformer's connection until the next one is asked for. Raises what `Stager.batches` raises."""
    for batch in stager.batches(objects):
        outcome = conformer.conform(batch, scratch)
        read = frozenset(number for staged in batch.files for number in staged.objects())
        yield Conformed(outcome, read, tuple(batch.finished), tuple(batch.changed), batch.is_complete)


def conformed_by(workers: Workers, shares: Sequence[Share], on_bytes: Callable[[int], None]) -> Iterator[Conformed]:
    """The same of shares, in their order, whoever was done first.

    Raises:
        PipelineError: what a worker could not go on with, or that there are none.
    """
    for share, found in zip(shares, workers.each(read_share, shares), strict=True):
        if isinstance(found, PipelineError):
            raise found
        yield from found
        on_bytes(sum(listed.size_bytes for _, listed in share.objects))


def cut(objects: Sequence[Numbered]) -> list[tuple[Numbered, ...]]:
    """Neighbours together, so much at a time that it is worth a worker's while; an object is never cut."""
    found: list[tuple[Numbered, ...]] = []
    share: list[Numbered] = []
    size = 0
    for each in objects:
        share.append(each)
        size += each[1].size_bytes + OBJECT_BYTES
        if size >= SHARE_BYTES:
            found.append(tuple(share))
            share, size = [], 0
    return [*found, tuple(share)] if share else found


def read_share(share: Share) -> list[Conformed] | PipelineError:
    """Conform a share and write its rows; an error that a person has to deal with is given back, as trying again would not help."""
    try:
        folder = share.folder / f"share-{uuid.uuid4().hex}"
        try:
            # Not its parents: without them this is not the home, or nobody waits for the share any more.
            folder.mkdir()
        except OSError as error:
            raise UnusableInputError(
                f"--home {share.home}: a worker finds no such folder; the home has to lie where the driver and all workers can write, under one path"
            ) from error
        with tempfile.TemporaryDirectory(prefix="routing-pipeline-", ignore_cleanup_errors=True) as scratch:
            return list(_read(share, folder, Path(scratch)))
    except PipelineError as error:
        return error


def _read(share: Share, folder: Path, scratch: Path) -> Iterator[Conformed]:
    asked, source = formats.named(share.log_format), open_source(share.uri, exclude=share.home)
    stager = Stager(source, scratch, asked)
    with connect(scratch / "spill", threads=THREADS) as connection:
        conformer = BatchConformer(connection, now_s=share.now_s, hash_key=Home(share.home).hash_key(), asked=asked)
        keys = {number: address for (number, _), address in zip(share.objects, share.addresses, strict=True)}
        for number, each in enumerate(conformed_here(conformer, stager, share.objects, scratch)):
            rows, files, outcome = folder / f"{number}.parquet", folder / str(number), deepcopy(each.outcome)
            conformer.write_conformed(rows)
            files.mkdir()
            conformer.finish(outcome, keys, files, ())
            yield replace(each, written=Written(rows, tuple(sorted(files.iterdir())), outcome, conformer.has_open_relations()))
