"""From objects to files that DuckDB reads at full speed: lines of JSON, or Parquet.

Belongs here: telling by content what an object is, decompressing within limits, packing many small documents into one
file, cutting large files at line ends, batches of bounded size. Does not belong here: what a record means (`formats`).

An object that cannot be turned into records is refused whole, with a reason; it never stops its batch. Names of objects
never become names of files, because DuckDB reads `*`, `?` and `[` in them as patterns.
"""

from __future__ import annotations

import csv
import errno
import gzip
import json
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.formats import FORMATS, recognised
from routing_pipeline.ingest.formats.litellm import LITELLM
from routing_pipeline.ingest.formats.log_format import LogFormat, Records
from routing_pipeline.ingest.objects import ObjectChangedError, Source, StoredObject

BATCH_BYTES = 256 << 20
"""Input conformed at a time: what bounds memory."""
SLICE_BYTES = BATCH_BYTES
IDLE_BATCH_BYTES = 64 << 20
"""What is conformed already while the store is being waited for, so that the two go on side by side."""
MAX_DOCUMENT_BYTES = 64 << 20
"""Longest JSON document (one line, or a pretty-printed or array file) that is read at all."""
PACKED_BYTES = 1 << 20
"""Documents up to this size share a staged file: opening a file costs more than reading one of them."""
HEAD_BYTES = 256 << 10
MAX_DECOMPRESSED_BYTES = 64 << 30
MAX_RATIO = 500
RATIO_JUDGED_FROM_BYTES = 64 << 20
"""Logs compress 10 to 100 times; beyond MAX_RATIO, judged once this much came out, the object is a decompression bomb."""
MAX_OBJECT_BYTES = 64 << 30
"""Largest object that is fetched: it has to fit onto the disk."""
FETCH_THREADS = 32
FETCH_AHEAD_BYTES = 256 << 20
FETCH_AHEAD_OBJECTS = 4_096
"""Small objects pile up while a batch is conformed, so that the store is never waited for."""
SMALL_BYTES = 64 << 10
"""Objects up to this size are fetched into memory, FETCH_AHEAD_OBJECTS of them at most: a file each costs more than they do."""
HANDFUL_OBJECTS = 16
"""Small objects that one thread fetches one after another: handing each over by itself costs more than its bytes do."""
_CHUNK = 1 << 20
_ZSTD_CHUNK = 4 << 10
"""A zstd block may grow 32,000 times in one call; this bounds what one call can allocate."""

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60)))
_FOREIGN = {
    b"PK\x03\x04": "zip archive; unpack it, or compress with gzip or zstd",
    b"BZh": "compressed with bzip2; use gzip or zstd",
    b"\xfd7zXZ": "compressed with xz; use gzip or zstd",
    b"\xff\xfe": "text in UTF-16; write UTF-8",
    b"\xfe\xff": "text in UTF-16; write UTF-8",
}
_DELIMITERS = (",", ";", "\t")
_BOM = b"\xef\xbb\xbf"
_NAMES = [(each, [[b'"%b"' % key.encode() for key in keys] for keys in each.keys]) for each in FORMATS]


class RefusedObjectError(Exception):
    """The object as a whole cannot be used; the message is the reason that goes into quarantine."""


@dataclass(frozen=True)
class StagedFile:
    """One file for DuckDB, and how its lines map back onto objects.

    Attributes:
        path: The file, named by us.
        format: How its records read.
        object: Number of the object it came from; None for a pack, whose lines name theirs in `__object`.
        objects: For a pack: number of the object by line.
        first_line: Line of the object that the file's first line is.
        lines: Line of the object by line of the file, where the two do not run in step.
        is_parquet: Parquet instead of JSON lines.
    """

    path: Path
    format: LogFormat
    object: int | None
    objects: tuple[int, ...] = ()
    first_line: int = 1
    lines: tuple[int, ...] = ()
    is_parquet: bool = False

    def origin(self, line: int) -> tuple[int, int]:
        """Object and line in it of a line of this file; both lines count from 1."""
        if self.object is None:
            return self.objects[line - 1], 1
        return self.object, self.lines[line - 1] if self.lines else self.first_line + line - 1


@dataclass
class Batch:
    """What is conformed together. `is_complete`: no object goes on in the next batch; `refused_lines`: object, line, reason."""

    files: list[StagedFile] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    refused_lines: list[tuple[int, int, str]] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    bytes: int = 0
    is_complete: bool = True


@dataclass
class _Pack:
    """A staged file that is still growing."""

    path: Path
    file: IO[bytes]
    format: LogFormat
    objects: list[int] = field(default_factory=list)


class Stager:
    """Turns the objects of a source into batches; files live in `folder` until the next batch is asked for.

    `on_bytes` is told the listed size of each object once it is staged.
    """

    def __init__(
        self, source: Source, folder: Path, log_format: LogFormat | None, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        self.source = source
        self.on_bytes = on_bytes
        self.folder = folder
        self.log_format = log_format
        self._batch = Batch()
        self._batch_folder = folder
        self._packs: dict[str, _Pack] = {}
        self._waiting: deque[tuple[list[tuple[int, StoredObject]], Future[list[Path | bytes | None]]]] = deque()
        self._serial = 0

    def batches(self, objects: Sequence[tuple[int, StoredObject]]) -> Iterator[Batch]:
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

    def _batches(self, objects: Sequence[tuple[int, StoredObject]]) -> Iterator[Batch]:
        self._begin()
        sizes = {number: listed.size_bytes for number, listed in objects if listed.size_bytes > MAX_OBJECT_BYTES}
        for number, found in self._fetched(objects):
            if found is None:
                self._batch.changed.append(number)
                continue
            try:
                if number in sizes:
                    raise RefusedObjectError(
                        f"{sizes[number] >> 30} GiB in one object; more than {MAX_OBJECT_BYTES >> 30} GiB are not read, split it"
                    )
                yield from self._stage_content(number, found) if isinstance(found, bytes) else self._stage(number, found)
            except RefusedObjectError as refusal:
                self._batch.refused[number] = str(refusal)
            self._batch.finished.append(number)
            if self._batch.bytes >= (IDLE_BATCH_BYTES if self._is_waiting_for_store() else BATCH_BYTES):
                yield from self._flush(is_complete=True)
        yield from self._flush(is_complete=True)

    def _begin(self) -> None:
        self._batch = Batch()
        self._packs = {}
        self._batch_folder = self.folder / f"batch-{self._serial}"
        self._serial += 1
        self._batch_folder.mkdir(parents=True)

    def _flush(self, *, is_complete: bool) -> Iterator[Batch]:
        for pack in self._packs.values():
            pack.file.close()
            self._batch.files.append(StagedFile(pack.path, pack.format, None, tuple(pack.objects)))
        self._batch.is_complete = is_complete
        done = self._batch_folder
        yield self._batch
        shutil.rmtree(done)
        self._begin()

    # Fetching

    def _fetched(self, objects: Sequence[tuple[int, StoredObject]]) -> Iterator[tuple[int, Path | bytes | None]]:
        """Each object as the file that holds it or its content; None when it changed since it was listed. Fetches ahead."""
        waiting = self._waiting
        waiting.clear()
        ahead_bytes = ahead_objects = 0
        remaining = _handfuls(objects)
        upcoming = next(remaining, None)
        pool = ThreadPoolExecutor(FETCH_THREADS)
        try:
            while upcoming is not None or waiting:
                while upcoming and (not waiting or (ahead_bytes < FETCH_AHEAD_BYTES and ahead_objects < FETCH_AHEAD_OBJECTS)):
                    waiting.append((upcoming, pool.submit(self._fetch_each, upcoming)))
                    ahead_bytes += sum(listed.size_bytes for _, listed in upcoming)
                    ahead_objects += len(upcoming)
                    upcoming = next(remaining, None)
                handful, fetching = waiting.popleft()
                ahead_bytes -= sum(listed.size_bytes for _, listed in handful)
                ahead_objects -= len(handful)
                for (number, listed), found in zip(handful, fetching.result(), strict=True):
                    yield number, found
                    if isinstance(found, Path) and found.parent == self.folder:
                        found.unlink(missing_ok=True)
                    self.on_bytes(listed.size_bytes)
        finally:
            # Also when the caller gives up half-way: what is still queued must not be fetched for nobody.
            pool.shutdown(cancel_futures=True)

    def _is_waiting_for_store(self) -> bool:
        if not self._waiting:
            return False
        handful, fetching = self._waiting[0]
        return not fetching.done() and self.source.local_path(handful[0][1]) is None

    def _fetch_each(self, handful: Sequence[tuple[int, StoredObject]]) -> list[Path | bytes | None]:
        return [self._fetch(number, listed) for number, listed in handful]

    def _fetch(self, number: int, listed: StoredObject) -> Path | bytes | None:
        if (here := self.source.local_path(listed)) is not None:
            return here
        try:
            if listed.size_bytes <= SMALL_BYTES:
                return self.source.read(listed)
            to = self.folder / f"fetched-{number}"
            if listed.size_bytes <= MAX_OBJECT_BYTES:
                self.source.fetch(listed, to)
        except ObjectChangedError:
            (self.folder / f"fetched-{number}").unlink(missing_ok=True)
            return None
        return to

    # Staging

    def _stage_content(self, number: int, content: bytes) -> Iterator[Batch]:
        """One document in memory goes into a pack at once, everything else through a file."""
        text = content.removeprefix(_BOM).lstrip()
        if text.startswith(b"{") and b"\x00" not in content:
            documents = _documents(lambda: content, text, len(content))
            if documents is not None:
                self._add_documents(number, documents)
                return
        path = self.folder / f"fetched-{number}"
        path.write_bytes(content)
        try:
            yield from self._stage(number, path)
        finally:
            path.unlink(missing_ok=True)

    def _stage(self, number: int, path: Path) -> Iterator[Batch]:
        try:
            head = _head(path)
        except FileNotFoundError:
            self._batch.changed.append(number)
            return
        except OSError as error:
            raise RefusedObjectError(f"cannot be read: {error.strerror}") from error
        if not _is_compressed(head):
            yield from self._stage_plain(number, path, head)
            return
        plain = self.folder / f"plain-{number}"
        try:
            with _unpacking(path) as stream:
                inner = stream.peek(HEAD_BYTES)
                if self._is_cut_at_once(inner):
                    yield from self._stage_unpacked(number, path, stream, self.log_format or _format_of_lines(inner, is_whole=False))
                    return
                with plain.open("wb") as out:
                    shutil.copyfileobj(stream, out, _CHUNK)
            yield from self._stage_plain(number, plain, _head(plain))
        finally:
            plain.unlink(missing_ok=True)

    def _is_cut_at_once(self, head: bytes) -> bool:
        """Whether unpacked text can go into slices without lying anywhere whole: lines of JSON beyond doubt, one record each."""
        first, newline, rest = head.partition(b"\n")
        if not first.startswith(b"{") or not newline or not rest.strip() or _parsed(first) is None:
            return False
        return (self.log_format or _format_of_lines(head, is_whole=False)).records is None

    def _stage_unpacked(self, number: int, path: Path, stream: BufferedReader, log_format: LogFormat) -> Iterator[Batch]:
        """Slices as they are unpacked, so that an object never lies unpacked on the disk as a whole."""

        def unpack_to_the_end() -> None:
            with _unpacking(path) as again:
                while again.read(_CHUNK):
                    pass

        # A damaged object is refused whole: nothing may go on before its end was seen.
        yield from self._stage_slices(number, stream, log_format, before_second=unpack_to_the_end)

    def _stage_plain(self, number: int, path: Path, head: bytes) -> Iterator[Batch]:
        size = path.stat().st_size
        for magic, reason in _FOREIGN.items():
            if head.startswith(magic):
                raise RefusedObjectError(reason)
        if head.startswith(_PARQUET):
            self._add_file(number, path, _parquet_format(path, self.log_format), size, is_parquet=True)
            return
        text = head.removeprefix(_BOM).lstrip()
        # Among lines of JSON a zero byte spoils its own line alone.
        if b"\x00" in head and not _holds_record_lines(text):
            raise RefusedObjectError("not text: holds zero bytes; JSON lines or Parquet are expected")
        if not text:
            return
        table = None if text.startswith((b"{", b"[")) else _csv_dialect(text, self.log_format)
        if table is not None:
            yield from self._stage_records(number, table[0], _csv_records(path, table[0], table[1]))
            return
        documents = _documents(path.read_bytes, text, size)
        if documents is not None:
            self._add_documents(number, documents)
            return
        log_format = self.log_format or _format_of_lines(text, is_whole=size <= len(head))
        if log_format.records is not None:
            yield from self._stage_records(number, log_format, _records_of_lines(path, log_format.records))
        else:
            yield from self._stage_lines(number, path, log_format, size, has_bom=head.startswith(_BOM))

    def _stage_lines(self, number: int, path: Path, log_format: LogFormat, size: int, *, has_bom: bool) -> Iterator[Batch]:
        if size <= SLICE_BYTES and not has_bom:
            self._add_file(number, path, log_format, size)
            return
        with path.open("rb") as file:
            file.seek(len(_BOM) if has_bom else 0)
            yield from self._stage_slices(number, file, log_format)

    def _add_documents(self, number: int, documents: list[bytes]) -> None:
        if not documents:
            return
        first = self.log_format or _format_of_document(documents[0])
        if first.records is not None:
            documents = [record for document in documents for record in _records(document, first.records)]
        if not documents:
            return
        if len(documents) == 1:
            pack = self._packs.get(first.name)
            if pack is None:
                path = self._new_path("pack")
                pack = self._packs[first.name] = _Pack(path, path.open("wb", buffering=_CHUNK), first)
            pack.file.write(_as_packed(documents[0], number))
            pack.objects.append(number)
        else:
            path = self._new_path("documents")
            path.write_bytes(b"\n".join(documents) + b"\n")
            self._batch.files.append(StagedFile(path, first, number))
        self._batch.bytes += sum(map(len, documents))

    def _add_file(self, number: int, path: Path, log_format: LogFormat, size: int, *, is_parquet: bool = False) -> None:
        staged = self._new_path("file")
        if path.parent == self.folder:
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
            if self._batch.bytes >= BATCH_BYTES:
                yield from self._flush(is_complete=False)

    def _stage_records(self, number: int, log_format: LogFormat, records: Iterator[tuple[int, bytes | str]]) -> Iterator[Batch]:
        """One line per record, in files of bounded size; records come with their line in the object, as text why they are none."""
        is_more = True
        while is_more:
            is_more = False
            staged = self._new_path("records")
            lines: list[int] = []
            size = 0
            with staged.open("wb") as out:
                for line, record in records:
                    if isinstance(record, str):
                        self._batch.refused_lines.append((number, line, record))
                        continue
                    size += out.write(record + b"\n")
                    lines.append(line)
                    if size >= SLICE_BYTES:
                        is_more = True
                        break
            if lines:
                self._batch.files.append(StagedFile(staged, log_format, number, lines=tuple(lines)))
                self._batch.bytes += size
            if is_more and self._batch.bytes >= BATCH_BYTES:
                yield from self._flush(is_complete=False)

    def _new_path(self, kind: str) -> Path:
        return self._batch_folder / f"{kind}-{len(self._batch.files)}-{len(self._packs)}"


def _handfuls(objects: Sequence[tuple[int, StoredObject]]) -> Iterator[list[tuple[int, StoredObject]]]:
    """Neighbours that are small together, all others alone."""
    handful: list[tuple[int, StoredObject]] = []
    for each in objects:
        is_small = each[1].size_bytes <= SMALL_BYTES
        if handful and (not is_small or len(handful) == HANDFUL_OBJECTS):
            yield handful
            handful = []
        handful.append(each)
        if not is_small:
            yield handful
            handful = []
    if handful:
        yield handful


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


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


def plain_file(path: Path, to: Path) -> Path:
    """`path` itself, or what it decompresses to; raises RefusedObjectError for a damaged stream or a bomb."""
    if not _is_compressed(_head(path)):
        return path
    with _unpacking(path) as stream, to.open("wb") as out:
        shutil.copyfileobj(stream, out, _CHUNK)
    return to


def _is_compressed(head: bytes) -> bool:
    return head.startswith((_GZIP, *_ZSTD))


@contextmanager
def _unpacking(path: Path) -> Iterator[BufferedReader]:
    """What a compressed file holds; reading raises RefusedObjectError where it is damaged or swells beyond the limits."""
    with path.open("rb") as raw:
        yield BufferedReader(_Unpacked(raw, path.stat().st_size), HEAD_BYTES)


class _Unpacked(RawIOBase):
    def __init__(self, raw: IO[bytes], compressed_bytes: int) -> None:
        is_gzip = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        self._chunks = _gunzipped(raw) if is_gzip else _unzstded(raw)
        self._most = max(RATIO_JUDGED_FROM_BYTES, MAX_RATIO * compressed_bytes)
        self._left = memoryview(b"")
        self._read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the whole buffer unless the end comes first."""
        filled = 0
        while filled < len(buffer):
            if not self._left:
                chunk = self._next()
                if chunk is None:
                    break
                self._left = memoryview(chunk)
            part = self._left[: len(buffer) - filled]
            buffer[filled : filled + len(part)] = part
            filled += len(part)
            self._left = self._left[len(part) :]
        return filled

    def _next(self) -> bytes | None:
        try:
            chunk = next(self._chunks, None)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise RefusedObjectError("compressed data is damaged or breaks off; upload the object again") from error
        except OSError as error:
            raise RefusedObjectError(f"cannot be read: {error.strerror}") from error
        self._read_bytes += len(chunk or b"")
        if self._read_bytes > min(self._most, MAX_DECOMPRESSED_BYTES):
            raise RefusedObjectError(
                f"decompresses to more than {MAX_RATIO} times its size or {MAX_DECOMPRESSED_BYTES >> 30} GiB; upload it plain if it is genuine"
            )
        return chunk


def _gunzipped(raw: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=raw) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _unzstded(raw: IO[bytes]) -> Iterator[bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    frame = decompressor.decompressobj()
    is_open = False
    try:
        while chunk := raw.read(_ZSTD_CHUNK):
            while chunk:
                is_open = True
                yield frame.decompress(chunk)
                chunk = b""
                if frame.eof:
                    chunk, frame, is_open = frame.unused_data, decompressor.decompressobj(), False
    except zstandard.ZstdError as error:
        raise EOFError("damaged zstd stream") from error
    if is_open:
        raise EOFError


def _documents(read: Callable[[], bytes], text: bytes, size: int) -> list[bytes] | None:
    """The object's JSON documents, a line each, when it is not one record per line already; None when it is.

    Raises:
        RefusedObjectError: a document of several lines that is too long or not valid.
    """
    first, newline, rest = text.partition(b"\n")
    if first.startswith(b"{") and size <= PACKED_BYTES and not rest.strip():
        whole = read().removeprefix(_BOM).strip()
        return [whole] if b"\n" not in whole else _parsed_documents(whole)
    is_array = text.startswith(b"[")
    if not is_array and not (first.startswith(b"{") and newline):
        return None
    if rest.strip() and _parsed(first) is not None:
        return None
    looks_pretty = first.strip() in {b"{", b"["} or (is_array and not newline)
    if size > MAX_DOCUMENT_BYTES:
        if looks_pretty:
            raise RefusedObjectError(f"one JSON document of more than {MAX_DOCUMENT_BYTES >> 20} MiB; write one record per line")
        return None
    documents = _parsed_documents(read().removeprefix(_BOM))
    if documents is None and looks_pretty and not _holds_record_lines(text):
        raise RefusedObjectError(
            "not valid JSON: the document breaks off or holds an error; one record per line would lose only that record"
        )
    return documents


def _parsed_documents(content: bytes) -> list[bytes] | None:
    """Documents that follow each other, the elements of arrays one by one; None when any of it is not JSON."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    try:
        text = content.decode("utf-8").strip()
        place = 0
        while place < len(text):
            value, place = decoder.raw_decode(text, place)
            found.extend(value if isinstance(value, list) else [value])
            while place < len(text) and text[place].isspace():
                place += 1
        return [json.dumps(value).encode() for value in found]
    except (ValueError, RecursionError):
        return None


def _as_packed(document: bytes, number: int) -> bytes:
    """One line that names its object. DuckDB takes the first of two equal keys, so the document cannot claim another."""
    # Raw line ends in a JSON document can only be white space.
    line = document.replace(b"\r", b" ").replace(b"\n", b" ").strip()
    body = line[1:].lstrip()
    comma = b"" if body.startswith(b"}") else b", "
    return b'{"__object": %d%b%b\n' % (number, comma, body) if line.startswith(b"{") else line + b"\n"


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _csv_dialect(text: bytes, asked: LogFormat | None) -> tuple[LogFormat, str] | None:
    """The format whose columns the first line names, and what separates them; None when it is no header of a known table."""
    csv.field_size_limit(MAX_DOCUMENT_BYTES)
    first = text.partition(b"\n")[0].decode("utf-8", "replace")
    for delimiter in _DELIMITERS:
        try:
            names = dict.fromkeys(name.strip() for name in next(csv.reader([first], delimiter=delimiter), []))
        except csv.Error:
            return None
        found = asked if asked is not None and len(names.keys() & asked.structure.keys()) > 1 else recognised(names)
        if found is not None and found.is_tabular and (asked is None or found.name == asked.name):
            return found, delimiter
    return None


def _csv_records(path: Path, log_format: LogFormat, delimiter: str) -> Iterator[tuple[int, bytes | str]]:
    """The rows of a CSV file as JSON with the fields that the format reads, each with its first line; empty is null."""
    # Prompts cut in the middle of a character are common, and stand in columns that are never read.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        line = 1
        try:
            header = [name.strip() for name in next(reader)]
            line = reader.line_num + 1
            for values in reader:
                if values and len(values) != len(header):
                    yield line, f"{len(values)} fields where the header names {len(header)}"
                elif values:
                    row = zip(header, values, strict=True)
                    yield line, json.dumps({name: value for name, value in row if value and name in log_format.structure}).encode()
                line = reader.line_num + 1
        except csv.Error:
            yield line, f"CSV that cannot be read from here on: a field of more than {MAX_DOCUMENT_BYTES >> 20} MiB, or a quote without end"


def _records(document: bytes, records: Records) -> Iterator[bytes]:
    """A document's records as lines; the document itself where it is none, so that it is refused like any other."""
    parsed = _parsed(document)
    if not isinstance(parsed, dict):
        yield document
        return
    for record in records(parsed):
        yield json.dumps(record).encode()


def _records_of_lines(path: Path, records: Records) -> Iterator[tuple[int, bytes | str]]:
    """The records of a file with a document per line, each with its line."""
    number = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_DOCUMENT_BYTES + 1):
            number += 1
            if len(line) > MAX_DOCUMENT_BYTES and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_DOCUMENT_BYTES)
                yield number, f"line longer than {MAX_DOCUMENT_BYTES >> 20} MiB"
                continue
            document = line.removeprefix(_BOM).strip()
            if document:
                for record in _records(document, records):
                    yield number, record


def _format_of_document(document: bytes) -> LogFormat:
    """By the names in it where these leave no doubt: parsing each small document would cost more than reading it."""
    candidates = [each for each, needles in _NAMES if any(all(name in document for name in names) for names in needles)]
    if len(candidates) == 1:
        return candidates[0]
    record = _parsed(document)
    return (recognised(record) if isinstance(record, dict) else None) or LITELLM


def _format_of_lines(text: bytes, *, is_whole: bool) -> LogFormat:
    """By the first record that a format recognises; records that none knows are refused one by one, as LiteLLM's."""
    lines = text.split(b"\n")
    holds_objects = False
    for record in map(_parsed, (lines if is_whole or len(lines) == 1 else lines[:-1])[:1000]):
        if isinstance(record, dict):
            holds_objects = True
            found = recognised(record)
            if found is not None:
                return found
    if not holds_objects and (is_whole or len(lines) > 1):
        raise RefusedObjectError("holds no JSON record; JSON lines, a JSON document or Parquet are expected, plain or as gzip or zstd")
    return _format_of_document(lines[0])


def _holds_record_lines(text: bytes) -> bool:
    """Whether some line of the text is by itself a record that a format knows, whatever its neighbours are."""
    records = map(_parsed, text.split(b"\n")[:1000])
    return any(isinstance(record, dict) and recognised(record) is not None for record in records)


def _parquet_format(path: Path, asked: LogFormat | None) -> LogFormat:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise RefusedObjectError("Parquet file that cannot be read; upload the object again") from error
    found = recognised(dict.fromkeys(names))
    found = found if asked is None else asked
    if found is None or not found.is_tabular or not found.structure.keys() & set(names):
        raise RefusedObjectError("Parquet whose columns are those of no known format; the canonical schema has attempt_id and started_at")
    return found
