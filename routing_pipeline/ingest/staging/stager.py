"""From objects to files that DuckDB reads at full speed: lines of JSON, or Parquet, in batches of bounded size.

Belongs here: which way an object takes, packing many small documents into one file, cutting large files at line ends. Does not
belong here: fetching (`fetch`), decompressing (`unpack`), telling what an object is (`detect`, `tables`), what a record means (`formats`),
taking records out of what wraps them or stands beside them on a line (`shapes`).

Lines of which most are a record by themselves are handed on as they are; what else may stand among them the second look finds
(`quarantine`). Everything else is taken apart here. An object that holds no records at all is refused whole, with a reason; it
never stops its batch.
"""

from __future__ import annotations

import errno
import io
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.formats.log_format import LogFormat
from routing_pipeline.ingest.objects import Source
from routing_pipeline.ingest.packs import Packs, Place, StagedFile
from routing_pipeline.ingest.parquet_files import readable, row_count
from routing_pipeline.ingest.quarantine import LONGEST_DOCUMENT, Refused, RefusedObjectError, Taken, placed, take
from routing_pipeline.ingest.shapes import Found, Item, Shapes
from routing_pipeline.ingest.staging import tables, unpack
from routing_pipeline.ingest.staging.detect import (
    SEPARATOR,
    beginning_of,
    format_by_names,
    format_of_lines,
    is_of_lines,
    known_lines,
    one_line,
    parsed_lines,
    shapes_of,
)
from routing_pipeline.ingest.staging.fetch import Fetcher, Numbered, refuse_too_large

BATCH_BYTES = 256 << 20
"""Input conformed at a time: what bounds memory."""
RECORD_BYTES = 1 << 10
"""What a record counts for at least, as a line of JSON would: Parquet packs it into a tenth, and conformed it takes no less."""
SLICE_BYTES = BATCH_BYTES
IDLE_BATCH_BYTES = 64 << 20
"""What is conformed already while the store is being waited for, so that the two go on side by side."""
PACKED_BYTES = 1 << 20
"""Documents up to this size go into a pack as they are; of larger ones the fields that are read."""
MAX_LAYERS = 3
"""How often an object may be compressed over: a shipper compresses events, and the stream that it writes to compresses them again."""
MOST_REFUSED = 50_000
"""Refused records of an object that wait for its next batch."""
_CHUNK = 1 << 20


@dataclass
class Batch:
    """What is conformed together. `is_complete`: no object goes on in the next batch; `left_out` counts by object and what it is."""

    files: list[StagedFile] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    left_out: Counter[tuple[int, str]] = field(default_factory=Counter)
    changed: list[int] = field(default_factory=list)
    bytes: int = 0
    is_complete: bool = True


class Stager:
    """Turns the objects of a source into batches; files live in `folder` until the next batch is asked for.

    `on_bytes` is told the listed size of each object once it is staged.
    """

    def __init__(
        self, source: Source, folder: Path, log_format: LogFormat | None, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        self.folder = folder
        self.log_format = log_format
        self._batch = Batch()
        self._batch_folder = folder
        self._packs = Packs(folder, "pack", SLICE_BYTES)
        self._fetcher = Fetcher(source, folder, on_bytes)
        self._serial = 0

    def batches(self, objects: Sequence[Numbered]) -> Iterator[Batch]:
        """Batches in the order of `objects`, given as (number, object).

        Raises:
            UnusableInputError: the disk is full.
            ServiceUnavailableError: the store does not answer.
        """
        try:
            yield from self._batches(objects)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise UnusableInputError(f"{self.folder}: the disk is full; free some space or choose a --home on a larger disk") from error

    def _batches(self, objects: Sequence[Numbered]) -> Iterator[Batch]:
        self._begin()
        for number, listed, found in self._fetcher.fetched(objects):
            if found is None:
                self._batch.changed.append(number)
                continue
            try:
                refuse_too_large(listed)
                yield from self._stage_content(number, found) if isinstance(found, bytes) else self._stage(number, found)
            except RefusedObjectError as refusal:
                self._batch.refused.append(Refused(number, None, str(refusal), None, records=refusal.records))
            self._batch.finished.append(number)
            if self._staged_bytes() >= (IDLE_BATCH_BYTES if self._fetcher.is_waiting() else BATCH_BYTES):
                yield from self._flush(is_complete=True)
        yield from self._flush(is_complete=True)

    def _begin(self) -> None:
        self._batch = Batch()
        self._batch_folder = self.folder / f"batch-{self._serial}"
        self._serial += 1
        self._batch_folder.mkdir(parents=True)
        self._packs = Packs(self._batch_folder, "pack", SLICE_BYTES)

    def _staged_bytes(self) -> int:
        return self._batch.bytes + self._packs.bytes

    def _flush(self, *, is_complete: bool) -> Iterator[Batch]:
        self._batch.files += self._packs.closed()
        self._batch.is_complete = is_complete
        done = self._batch_folder
        yield self._batch
        shutil.rmtree(done)
        self._begin()

    # Staging

    def _stage_content(self, number: int, content: bytes) -> Iterator[Batch]:
        """What is small goes into a pack at once where it is one document, everything else through a file."""
        document = one_line(content)
        if document is not None:
            yield from self._stage_document(number, content, document)
            return
        path = self.folder / f"fetched-{number}"
        path.write_bytes(content)
        try:
            yield from self._stage(number, path)
        finally:
            path.unlink(missing_ok=True)

    def _stage_document(self, number: int, content: bytes, document: bytes) -> Iterator[Batch]:
        """An object of one line, which is its only document or several."""
        # Parsing each small document would cost more than reading it: what it is not, the second look finds.
        log_format = self.log_format or format_by_names(document)
        if log_format is not None and log_format.records is None:
            line = 1 + content[: content.index(document)].count(b"\n")
            self._packs.add(log_format, Place(number, line, None), document, is_shaped=False)
        else:
            shapes = shapes_of(content, self.log_format) if log_format is None else Shapes(self.log_format, LONGEST_DOCUMENT)
            yield from self._take(number, shapes.read(io.BytesIO(content)))

    def _stage(self, number: int, path: Path, layer: int = 0, compressed_bytes: int = 0) -> Iterator[Batch]:
        try:
            head = beginning_of(path)
        except FileNotFoundError:
            self._batch.changed.append(number)
            return
        except OSError as error:
            raise RefusedObjectError(f"cannot be read: {error.strerror}") from error
        if not unpack.is_compressed(head):
            yield from self._stage_plain(number, path, head)
            return
        if layer == MAX_LAYERS:
            raise RefusedObjectError(f"compressed more than {MAX_LAYERS} times over; upload it plain")
        compressed_bytes = compressed_bytes or path.stat().st_size
        plain = self.folder / f"plain-{number}-{layer}"
        try:
            with unpack.unpacking(path, compressed_bytes) as stream:
                log_format = format_of_lines(stream.peek(), self.log_format, is_whole=False)
                if log_format is not None:
                    yield from self._stage_unpacked(number, path, stream, log_format)
                    return
                unpack.write(stream, plain)
            yield from self._stage(number, plain, layer + 1, compressed_bytes)
        finally:
            plain.unlink(missing_ok=True)

    def _stage_unpacked(self, number: int, path: Path, stream: BufferedReader, log_format: LogFormat) -> Iterator[Batch]:
        """Slices as they are unpacked, so that an object never lies unpacked on the disk as a whole."""
        # A damaged object is refused whole: nothing may go on before its end was seen.
        yield from self._stage_slices(number, stream, log_format, before_second=lambda: unpack.check(path))

    def _stage_plain(self, number: int, path: Path, head: bytes) -> Iterator[Batch]:
        size = path.stat().st_size
        unpack.refuse_foreign(head)
        if head.startswith(unpack.PARQUET):
            yield from self._stage_parquet(number, path, size)
            return
        text = head.removeprefix(unpack.BOM).lstrip()
        # Among lines of JSON a zero byte spoils its own line alone.
        if b"\x00" in head and not any(known_lines(text, self.log_format)):
            raise RefusedObjectError("not text: holds zero bytes; JSON lines or Parquet are expected")
        if not text and size <= len(head):
            return
        table = None if text.startswith((b"{", b"[")) else tables.csv_format(text, self.log_format)
        if table is not None:
            yield from self._take(number, tables.csv_items(path, *table))
            return
        document = one_line(head) if size <= min(len(head), PACKED_BYTES) else None
        if document is not None:
            yield from self._stage_document(number, head, document)
            return
        log_format = format_of_lines(text, self.log_format, is_whole=size <= len(head))
        if log_format is not None:
            yield from self._stage_lines(number, path, log_format, size, has_bom=head.startswith(unpack.BOM))
            return
        shapes = shapes_of(text, self.log_format)
        if not text.startswith((b"{", b"[", SEPARATOR)) and text and not shapes.is_wrapped and not any(parsed_lines(text)):
            yield from self._take(number, tables.unknown_text_items(path, text, self.log_format))
            return
        with path.open("rb") as file:
            yield from self._take(number, shapes.read_lines(file) if is_of_lines(text, self.log_format) else shapes.read(file))

    def _stage_parquet(self, number: int, path: Path, size: int) -> Iterator[Batch]:
        log_format, names = tables.parquet_format(path, self.log_format)
        if log_format is None or log_format.records is not None:
            yield from self._take(number, tables.parquet_items(path, log_format, names, self.log_format))
        else:
            to = self._new_path("decimals")
            counted = max(size, row_count(path) * RECORD_BYTES)
            self._add_file(number, readable(path, log_format.structure.keys(), to), log_format, counted, is_parquet=True)

    def _stage_lines(self, number: int, path: Path, log_format: LogFormat, size: int, *, has_bom: bool) -> Iterator[Batch]:
        if size <= SLICE_BYTES and not has_bom:
            self._add_file(number, path, log_format, size)
            return
        with path.open("rb") as file:
            file.seek(len(unpack.BOM) if has_bom else 0)
            yield from self._stage_slices(number, file, log_format)

    def _add_file(self, number: int, path: Path, log_format: LogFormat, size: int, *, is_parquet: bool = False) -> None:
        staged = self._new_path("file")
        if path.parent in {self.folder, self._batch_folder}:
            path.rename(staged)
        else:
            staged.symlink_to(path)
        self._batch.files.append(StagedFile(staged, log_format, number, is_parquet=is_parquet))
        self._batch.bytes += size

    def _stage_slices(
        self, number: int, file: BufferedReader, log_format: LogFormat, before_second: Callable[[], None] = lambda: None
    ) -> Iterator[Batch]:
        first_line = 1
        while True:
            staged = self._new_path("slice")
            size, newlines = _copy_lines(file, staged)
            if not size:
                return
            if first_line == 1 and file.peek(1):
                before_second()
            self._batch.files.append(StagedFile(staged, log_format, number, first_line=first_line))
            self._batch.bytes += size
            first_line += newlines
            if self._staged_bytes() >= BATCH_BYTES:
                yield from self._flush(is_complete=False)

    def _take(self, number: int, items: Iterable[Item]) -> Iterator[Batch]:
        """Records go into packs, and what is none to the batch."""
        for place, item in placed(items, number):
            if isinstance(item, Found):
                self._packs.add(item.format, place, item.text.encode("utf-8", "replace"), is_shaped=True)
            else:
                taken = Taken(refused=self._batch.refused, left_out=self._batch.left_out)
                take([(place, item)], taken)
            if self._staged_bytes() >= BATCH_BYTES or len(self._batch.refused) > MOST_REFUSED:
                yield from self._flush(is_complete=False)

    def _new_path(self, kind: str) -> Path:
        return self._batch_folder / f"{kind}-{len(self._batch.files)}"


def _copy_lines(file: IO[bytes], to: Path) -> tuple[int, int]:
    """Copy about SLICE_BYTES, to the end of a line; gives bytes and newlines copied."""
    size = newlines = 0
    with to.open("wb") as out:
        while size < SLICE_BYTES:
            chunk = file.read(_CHUNK)
            if not chunk:
                return size, newlines
            out.write(chunk)
            size += len(chunk)
            newlines += chunk.count(b"\n")
        while not chunk.endswith(b"\n"):
            chunk = file.readline(_CHUNK)
            if not chunk:
                break
            out.write(chunk)
            size += len(chunk)
            newlines += chunk.count(b"\n")
    return size, newlines
