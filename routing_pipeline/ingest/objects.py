"""Where logs lie: a directory, a file, or a prefix of an S3-compatible bucket; listing them and reading them whole.

Belongs here: URIs, listing, fetching whole. Does not belong here: what an object holds (`staging`), the client of a bucket
and what its refusals mean (`storage.s3`).

An object is read whole and unchanged or not at all: what is fetched is compared with the size and ETag that were listed.
Bodies come through obstore (`bodies`); where that fails, boto3 tries, and says why.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import unquote, urlsplit

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.ingest.bodies import Bodies, Fetched
from routing_pipeline.storage.s3 import NO_SUCH_KEY, Bucket, code_of, request_attempts, s3_client

FETCH_ATTEMPTS = 4
"""How often a body that breaks off is asked for again."""
CHUNK_BYTES = 1 << 20
MAX_OBJECTS = 50_000_000
"""What one source may list: the names lie on the home's disk while they are compared with the ledger, about 100 bytes each."""
EXCLUDED_FOLDERS = frozenset({"audit_logs"})
"""LiteLLM writes its audit trail into the same bucket; it holds no requests."""


class ObjectChangedError(Exception):
    """The object is not what was listed any more."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of one object. `etag` is the modification time in nanoseconds for local files."""

    key: str
    etag: str
    size_bytes: int


class Source(Protocol):
    """A place that logs are read from."""

    @property
    def uri(self) -> str:
        """The place in one spelling, whatever spelling was asked for; holds no secret."""

    def list_objects(self) -> Iterator[StoredObject]:
        """All objects that may hold logs, in no particular order."""

    def describe(self, key: str) -> StoredObject | None:
        """The object as it is now; None when it is gone."""

    def fetch(self, listed: StoredObject, to: Path) -> None:
        """Copy the listed version whole to a local file; raises ObjectChangedError when it is not there any more."""

    def read(self, listed: StoredObject) -> bytes:
        """The listed version whole, for small objects; raises ObjectChangedError when it is not there any more."""

    def local_path(self, listed: StoredObject) -> Path | None:
        """Where the object can be read in place; None when it has to be fetched."""


def open_source(uri: str, *, exclude: Path | None = None) -> Source:
    """A directory, a file, `file://...` or `s3://bucket/prefix`; `exclude` is a local folder never to look into.

    Raises:
        UnusableInputError: the URI is of no such kind, or the path does not exist.
    """
    check_address(uri)
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise UnusableInputError(f"{uri}: name a bucket, as in s3://bucket/prefix")
        # Not parts.path: a key may hold ? and #.
        return S3Source(parts.netloc, uri.removeprefix("s3://").partition("/")[2])
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise UnusableInputError(f"{uri}: a file:// URI with a host cannot be read; give file:///path")
        return LocalSource(Path(unquote(parts.path)), exclude)
    if "://" in uri:
        raise UnusableInputError(f"{parts.scheme}:// is not supported; give a directory, file:// or s3://bucket/prefix")
    return LocalSource(Path(uri), exclude)


def check_address(uri: str) -> None:
    """Raises UnusableInputError for an address that holds credentials; before anything repeats it in a message."""
    parts = urlsplit(uri)
    if parts.scheme and "@" in parts.netloc:
        raise UnusableInputError(
            f"{parts.scheme}://...@...: credentials do not belong into an address; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )


def nothing_there(source: Source) -> UnusableInputError:
    """What to say of a place without a single log object."""
    return UnusableInputError(f"{source.uri}: holds no log objects; check the path or prefix (audit_logs/ and hidden files are left out)")


def is_log_key(relative_key: str) -> bool:
    """Whether a key may hold logs: no folder marker, nothing hidden, no audit trail."""
    parts = relative_key.split("/")
    return bool(parts[-1]) and not any(part.startswith(".") or part in EXCLUDED_FOLDERS for part in parts)


class LocalSource:
    """A directory with everything below it, or a single file."""

    def __init__(self, path: Path, exclude: Path | None = None) -> None:
        self.root = path.expanduser().absolute()
        self.exclude = None if exclude is None else exclude.absolute()
        if not self.root.exists():
            raise UnusableInputError(f"{path}: there is no such file or directory")
        if not self.root.is_file() and not self.root.is_dir():
            raise UnusableInputError(
                f"{path}: is neither a file nor a directory, such as a pipe or a device; save the logs as a file first"
            )

    @property
    def uri(self) -> str:
        """Absolute path."""
        return str(self.root)

    def list_objects(self) -> Iterator[StoredObject]:
        """All regular files that are not empty; raises UnusableInputError when a folder cannot be read."""
        if self.root.is_file():
            found = self.describe(_named(self.root.name))
            if found is not None and found.size_bytes:
                yield found
            return
        count = 0
        for folder, names, files in os.walk(self.root, onerror=_refuse_unreadable):
            here = Path(folder)
            names[:] = sorted(name for name in names if here / name != self.exclude and is_log_key(name))
            for name in files:
                key = _named(str((here / name).relative_to(self.root)))
                found = self.describe(key) if is_log_key(name) else None
                if found is not None and found.size_bytes:
                    count += 1
                    yield found
            _refuse_too_many(self.uri, count)

    def describe(self, key: str) -> StoredObject | None:
        """Size and modification time now."""
        path = self._path(key)
        try:
            status = path.stat()
        except OSError:
            return None
        return StoredObject(key, str(status.st_mtime_ns), status.st_size) if path.is_file() else None

    def fetch(self, listed: StoredObject, to: Path) -> None:
        """Copy, then look whether it stayed the same."""
        try:
            shutil.copyfile(self._path(listed.key), to)
        except OSError as error:
            if self.describe(listed.key) is None:
                raise ObjectChangedError(listed.key) from error
            raise UnusableInputError(f"{self._path(listed.key)}: {error.strerror}; give read permission to it") from error
        if self.describe(listed.key) != listed:
            raise ObjectChangedError(listed.key)

    def read(self, listed: StoredObject) -> bytes:
        """Through a copy, as `fetch` does it."""
        with tempfile.TemporaryDirectory() as folder:
            self.fetch(listed, Path(folder) / "copy")
            return (Path(folder) / "copy").read_bytes()

    def local_path(self, listed: StoredObject) -> Path | None:
        """The file itself."""
        return self._path(listed.key)

    def _path(self, key: str) -> Path:
        if self.root.is_file():
            return self.root
        path = self.root / key
        return path if path.exists() else self.root / _as_on_disk(key)


_FIRST_RAW = 0xEF80
"""Bytes of a file's name that are no UTF-8 go by characters of the private use area from here on: a key is text."""


def _named(name: str) -> str:
    return "".join(chr(_FIRST_RAW + ord(each) - 0xDC80) if "\udc80" <= each <= "\udcff" else each for each in name)


def _as_on_disk(key: str) -> str:
    return "".join(chr(0xDC80 + ord(each) - _FIRST_RAW) if _FIRST_RAW <= ord(each) < _FIRST_RAW + 0x80 else each for each in key)


def _refuse_too_many(uri: str, count: int) -> None:
    if count > MAX_OBJECTS:
        raise UnusableInputError(
            f"{uri}: holds more than {MAX_OBJECTS:,} objects; read one folder below it at a time (--add-source), or have the gateway write batches"
        )


def _refuse_unreadable(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return  # Deleted since its parent was listed: left out, as an object is.
    raise UnusableInputError(f"{error.filename}: {error.strerror}; give read permission to it") from error


class S3Source:
    """A prefix of a bucket. `prefix` names a folder; where there is no such folder it is the beginning of keys."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix.rstrip("/")
        # A client of its own, because its credentials are obstore's as well.
        self._client, credentials = s3_client()
        self._objects = Bucket(bucket, self.uri, self._client)
        self._bodies = None if credentials is None else Bodies(self._client, bucket, credentials, request_attempts())

    @property
    def uri(self) -> str:
        """s3://bucket/prefix without a slash at its end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def list_objects(self) -> Iterator[StoredObject]:
        """All pages of the listing, one after another.

        Raises:
            UnusableInputError: no such bucket, or no right to list it.
            ServiceUnavailableError: the endpoint does not answer.
        """
        if not self.prefix:
            yield from self._listed("", "")
            return
        found = self._listed(f"{self.prefix}/", f"{self.prefix}/")
        first = next(found, None)
        if first is not None:
            yield first
            yield from found
            return
        # A prefix is a folder first: s3://bucket/logs must not pick up logs-of-another-team/.
        yield from self._listed(self.prefix, self.prefix.rpartition("/")[0])

    def _listed(self, prefix: str, base: str) -> Iterator[StoredObject]:
        count = 0
        for page in self._objects.pages(prefix):
            for entry in page:
                if entry["Size"] and is_log_key(entry["Key"][len(base) :].lstrip("/")):
                    count += 1
                    yield StoredObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"])
            _refuse_too_many(self.uri, count)

    def describe(self, key: str) -> StoredObject | None:
        """HEAD; None when it is gone."""
        head = self._objects.head(key)
        return None if head is None else StoredObject(key, head["ETag"].strip('"'), head["ContentLength"])

    def fetch(self, listed: StoredObject, to: Path) -> None:
        """GET with the listed ETag as a condition; a body that breaks off is asked for again."""
        with to.open("wb") as file:
            if not self._fetched_fast(listed, file.write):
                self._fetch_and_explain(listed, file)

    def read(self, listed: StoredObject) -> bytes:
        """As `fetch`, without a file in between: these cost more than small bodies do."""
        body = BytesIO()
        if not self._fetched_fast(listed, body.write):
            self._fetch_and_explain(listed, body)
        return body.getvalue()

    def _fetched_fast(self, listed: StoredObject, write: Callable[[Any], object]) -> bool:
        if self._bodies is None:
            return False
        how = self._bodies.fetch(listed.key, listed.etag, listed.size_bytes, write)
        if how is Fetched.CHANGED:
            raise ObjectChangedError(listed.key)
        return how is Fetched.WHOLE

    def _fetch_and_explain(self, listed: StoredObject, to: IO[bytes]) -> None:
        with self._objects.explained("read", "s3:GetObject"):
            for attempt in range(FETCH_ATTEMPTS):
                to.seek(0)
                to.truncate()
                try:
                    self._fetch_once(listed, to)
                    return
                except _BrokenBodyError:
                    time.sleep(0.2 * 2**attempt)
        raise ServiceUnavailableError(f"{self.uri}: an object broke off {FETCH_ATTEMPTS} times while being read; run again later")

    def _fetch_once(self, listed: StoredObject, to: IO[bytes]) -> None:
        from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=listed.key, IfMatch=f'"{listed.etag}"')
        except ClientError as error:
            if code_of(error) in NO_SUCH_KEY | {"PreconditionFailed", "412"}:
                raise ObjectChangedError(listed.key) from error
            raise
        if answer["ETag"].strip('"') != listed.etag or answer["ContentLength"] != listed.size_bytes:
            raise ObjectChangedError(listed.key)
        try:
            for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                to.write(chunk)
        except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPClientError) as error:
            raise _BrokenBodyError from error
        if to.tell() != listed.size_bytes:
            raise _BrokenBodyError

    def local_path(self, listed: StoredObject) -> Path | None:  # noqa: ARG002 (the protocol's)
        """Nothing lies locally."""
        return None


class _BrokenBodyError(Exception):
    """The body ended before its announced length."""
