"""Decompression, within limits, and what is told by the first bytes of a file.

Belongs here: gzip and zstd, streams that break off, decompression bombs, archives and encodings that are not read. Does not belong
here: what stands in the text (`detect`, `tables`).
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any

from routing_pipeline.ingest.quarantine import RefusedObjectError

HEAD_BYTES = 256 << 10
"""How much of an object tells what it is."""
MAX_DECOMPRESSED_BYTES = 64 << 30
MAX_RATIO = 500
RATIO_JUDGED_FROM_BYTES = 64 << 20
"""Logs compress 10 to 100 times; beyond MAX_RATIO, judged once this much came out, the object is a decompression bomb."""
_CHUNK = 1 << 20
_ZSTD_CHUNK = 4 << 10
"""A zstd block may grow 32,000 times in one call; this bounds what one call can allocate."""

BOM = b"\xef\xbb\xbf"
PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60)))
_FOREIGN = {
    b"PK\x03\x04": "zip archive; unpack it, or compress with gzip or zstd",
    b"BZh": "compressed with bzip2; use gzip or zstd",
    b"\xfd7zXZ": "compressed with xz; use gzip or zstd",
    b"\xff\xfe": "text in UTF-16; write UTF-8",
    b"\xfe\xff": "text in UTF-16; write UTF-8",
}


def refuse_foreign(head: bytes) -> None:
    """Raises RefusedObjectError for archives and encodings that are told by how they begin."""
    for magic, reason in _FOREIGN.items():
        if head.startswith(magic):
            raise RefusedObjectError(reason)


def plain_file(path: Path, to: Path) -> Path:
    """`path` itself, or what it decompresses to; raises RefusedObjectError for a damaged stream or a bomb."""
    with path.open("rb") as file:
        if not is_compressed(file.read(4)):
            return path
    with unpacking(path, path.stat().st_size) as stream:
        write(stream, to)
    return to


def write(stream: IO[bytes], to: Path) -> None:
    """Write to a file what a stream still holds."""
    with to.open("wb") as out:
        shutil.copyfileobj(stream, out, _CHUNK)


def check(path: Path) -> None:
    """Raises RefusedObjectError for a damaged stream or a bomb."""
    with unpacking(path, path.stat().st_size) as stream:
        while stream.read(_CHUNK):
            pass


def is_compressed(head: bytes) -> bool:
    """Whether a file that begins so is gzip or zstd."""
    return head.startswith((_GZIP, *_ZSTD))


@contextmanager
def unpacking(path: Path, compressed_bytes: int) -> Iterator[BufferedReader]:
    """What a compressed file holds; reading raises RefusedObjectError where it is damaged or swells beyond the limits.

    `compressed_bytes`: how large the object was as it came.
    """
    with path.open("rb") as raw:
        yield BufferedReader(_Unpacked(raw, compressed_bytes), HEAD_BYTES)


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
