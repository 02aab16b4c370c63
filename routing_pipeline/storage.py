"""Where files lie that every worker must reach: a folder of this machine, or a prefix of an S3-compatible bucket.

Belongs here: reading, writing whole, listing and deleting by name, and the local copies through which files of a bucket are
read. Does not belong here: what the files are (`ingest.lake`, `results`, `rule_sets`), where logs come from (`ingest.objects`),
what workers must agree on one after another (`coordination`).

Large files are written where `path` says and then shared: in a folder they lie there already, to a bucket they are uploaded
in one piece. They never change under their name, so that a copy once fetched is good for as long as it lies there. Small
files may be replaced, whole; they are read from the bucket each time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError

COPIES = "copies"
"""Folder of a home's scratch that holds what was fetched from a bucket."""
COPY_UNUSED_S = 86_400
"""Copies that nobody has read for so long are dropped: they can be fetched again."""
SHARED_AGAIN_S = 86_400
"""A shared file that is used again after so long is uploaded again, so that it does not look unused."""
FETCHING_THREADS = 8


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write so that a reader sees the old file or the new one, never half of either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a folder in `children`: its name below the storage, and when it was written or used, seconds since 1970."""

    name: str
    modified_s: float
    size_bytes: int = 0


class Storage(Protocol):
    """Files by name; names are relative, with slashes. `root` is where they lie here, or their copies."""

    root: Path

    def below(self, folder: str) -> Storage:
        """The part under a folder."""

    def path(self, name: str) -> Path:
        """Where a file lies here, once it was written and shared, or fetched."""

    def uri(self, name: str = "") -> str:
        """Where any worker finds a file."""

    def name_of(self, location: str) -> str | None:
        """The name of what lies at a path, a `file://` or an `s3://` address; None when that is not below here."""

    def read(self, name: str) -> bytes | None:
        """The file as it is now; None when there is none."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file whole."""

    def mark(self, name: str) -> None:
        """Make an empty file."""

    def mark_used(self, name: str) -> None:
        """Let a file or folder count as used now, where that can be noted."""

    def share(self, path: Path) -> str:
        """Make readable for all what was written to a path of `path`; gives its address."""

    def found(self, path: Path) -> str | None:
        """The address that `share` gave this path once, here or elsewhere; None when nothing lies there. Counts as use."""

    def names_in(self, folder: Path) -> list[str]:
        """What lies in a folder and can be `found`."""

    def fetched(self, names: Iterable[str]) -> list[Path]:
        """Where these files can be read here, in their order."""

    def children(self, folder: str = "") -> list[Entry]:
        """Files and folders directly in a folder, by name; a folder is as old as the newest in it, or as its last use."""

    def entries(self, folder: str = "") -> list[Entry]:
        """All files below a folder, by name."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete files that may be there, and folders that this leaves empty below the first."""

    def delete_below(self, folder: str = "") -> None:
        """Delete everything below a folder."""


class FolderStorage:
    """A folder of this machine; nothing is created before it is needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def below(self, folder: str) -> FolderStorage:
        """A folder in it."""
        return FolderStorage(self.root / folder)

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self.root / name

    def uri(self, name: str = "") -> str:
        """A path."""
        return str(self.root / name)

    def name_of(self, location: str) -> str | None:
        """Relative to the folder."""
        path = Path(location.removeprefix("file://"))
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else None

    def read(self, name: str) -> bytes | None:
        """Its content."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def has(self, name: str) -> bool:
        """Whether it is there."""
        return (self.root / name).is_file()

    def write(self, name: str, content: bytes) -> None:
        """Through a file beside it."""
        write_whole(self.root / name, content)

    def mark(self, name: str) -> None:
        """Touch."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def mark_used(self, name: str) -> None:
        """By its time; a folder that can only be read is none the worse."""
        with contextlib.suppress(OSError):
            os.utime(self.root / name)

    def share(self, path: Path) -> str:
        """It lies there already."""
        return str(path)

    def found(self, path: Path) -> str | None:
        """Whatever lies there."""
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError:
            pass  # read, but not ours to write
        return str(path)

    def names_in(self, folder: Path) -> list[str]:
        """Files and folders."""
        return os.listdir(folder) if folder.is_dir() else []

    def fetched(self, names: Iterable[str]) -> list[Path]:
        """Where they lie."""
        return [self.root / name for name in names]

    def children(self, folder: str = "") -> list[Entry]:
        """What lies in a folder."""
        here = self.root / folder
        found = sorted(here.iterdir()) if here.is_dir() else []
        return [entry for path in found if (entry := self._entry(path)) is not None]

    def entries(self, folder: str = "") -> list[Entry]:
        """What lies below a folder."""
        found = sorted(path for path in (self.root / folder).rglob("*") if not path.is_dir())
        return [entry for path in found if (entry := self._entry(path)) is not None]

    def _entry(self, path: Path) -> Entry | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return Entry(str(path.relative_to(self.root)), status.st_mtime, status.st_size)

    def delete(self, names: Iterable[str]) -> None:
        """Unlink."""
        for name in names:
            path = self.root / name
            path.unlink(missing_ok=True)
            _drop_empty(path.parent, self.root / Path(name).parts[0])

    def delete_below(self, folder: str = "") -> None:
        """The folder goes as well."""
        shutil.rmtree(self.root / folder, ignore_errors=True)


class BucketStorage:
    """A prefix of a bucket; `copies` is where its files are read from on this machine.

    Raises, in every method that asks the bucket:
        UnusableInputError: no such bucket, or these credentials may not do this.
        ServiceUnavailableError: the store does not answer.
    """

    def __init__(self, uri: str, copies: Path) -> None:
        self.bucket, self.prefix = _parts(uri)
        self.copies = copies
        self.root = copies / self.bucket / self.prefix

    def below(self, folder: str) -> BucketStorage:
        """A longer prefix."""
        return BucketStorage(self.uri(folder), self.copies)

    def path(self, name: str) -> Path:
        """Where its copy lies, or is written before it is shared."""
        return self.root / name

    def uri(self, name: str = "") -> str:
        """s3://bucket/prefix/name."""
        return f"s3://{self.bucket}/{self._key(name)}".rstrip("/")

    def name_of(self, location: str) -> str | None:
        """Of an address in the bucket, or of a copy."""
        path = Path(location)
        if path.is_relative_to(self.root):
            return str(path.relative_to(self.root))
        start = f"{self.uri()}/"
        return location.removeprefix(start) if location.startswith(start) else None

    def read(self, name: str) -> bytes | None:
        """GET."""
        with self._explained("read", "s3:GetObject"):
            try:
                body: bytes = _client().get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
                return body
            except _boto_errors() as error:
                if _is_missing(error):
                    return None
                raise

    def has(self, name: str) -> bool:
        """HEAD."""
        return self._written_s(name) is not None

    def write(self, name: str, content: bytes) -> None:
        """PUT, which is whole or not at all."""
        with self._explained("write", "s3:PutObject"):
            _client().put_object(Bucket=self.bucket, Key=self._key(name), Body=content)

    def mark(self, name: str) -> None:
        """An empty object."""
        self.write(name, b"")

    def mark_used(self, name: str) -> None:
        """Nothing: objects keep the time at which they were written."""

    def share(self, path: Path) -> str:
        """Upload, unless it lies there since not long ago: files do not change under their name."""
        name = str(path.relative_to(self.root))
        written_s = self._written_s(name)
        if written_s is None or written_s < time.time() - SHARED_AGAIN_S:
            with self._explained("write", "s3:PutObject"):
                _client().upload_file(str(path), self.bucket, self._key(name))
        return self.uri(name)

    def found(self, path: Path) -> str | None:
        """Fetch it where it is not here."""
        name = str(path.relative_to(self.root))
        if not path.exists():
            if not self.has(name):
                return None
            self.fetched([name])
        return self.share(path)

    def names_in(self, folder: Path) -> list[str]:
        """One listing, whatever is here."""
        return [entry.name.rpartition("/")[2] for entry in self.children(str(folder.relative_to(self.root)))]

    def _written_s(self, name: str) -> float | None:
        with self._explained("read", "s3:GetObject"):
            try:
                return float(_client().head_object(Bucket=self.bucket, Key=self._key(name))["LastModified"].timestamp())
            except _boto_errors() as error:
                if _is_missing(error):
                    return None
                raise

    def fetched(self, names: Iterable[str]) -> list[Path]:
        """Download what is not there yet, several at a time."""
        wanted = list(names)
        absent = [name for name in wanted if not _used_now(self.path(name))]
        if len(absent) > 1:
            with ThreadPoolExecutor(FETCHING_THREADS) as pool:
                list(pool.map(self._fetch, absent))
        elif absent:
            self._fetch(absent[0])
        return [self.path(name) for name in wanted]

    def _fetch(self, name: str) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".fetching-")
        os.close(handle)
        try:
            with self._explained("read", "s3:GetObject"):
                _client().download_file(self.bucket, self._key(name), partial)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)

    def children(self, folder: str = "") -> list[Entry]:
        """From the listing of everything below."""
        start = f"{folder}/" if folder else ""
        found: dict[str, Entry] = {}
        for entry in self.entries(folder):
            name = start + entry.name.removeprefix(start).partition("/")[0]
            before = found.get(name, entry)
            found[name] = Entry(name, max(entry.modified_s, before.modified_s), entry.size_bytes)
        return list(found.values())

    def entries(self, folder: str = "") -> list[Entry]:
        """All pages of the listing."""
        start = self._key(f"{folder}/" if folder else "")
        start = start if not start or start.endswith("/") else f"{start}/"
        base = len(self._key("x")) - 1
        with self._explained("list", "s3:ListBucket"):
            pages = _client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
            return [
                Entry(each["Key"][base:], each["LastModified"].timestamp(), each["Size"])
                for page in pages
                for each in page.get("Contents", ())
            ]

    def delete(self, names: Iterable[str]) -> None:
        """One by one: not every store can delete several at once."""
        for name in names:
            with self._explained("delete", "s3:DeleteObject"):
                _client().delete_object(Bucket=self.bucket, Key=self._key(name))
            self.path(name).unlink(missing_ok=True)
            _drop_empty(self.path(name).parent, self.root)

    def delete_below(self, folder: str = "") -> None:
        """Everything of the prefix."""
        self.delete([entry.name for entry in self.entries(folder)])
        shutil.rmtree(self.root / folder, ignore_errors=True)

    def check(self) -> None:
        """Ask the bucket for one name."""
        with self._explained("list", "s3:ListBucket"):
            _client().list_objects_v2(Bucket=self.bucket, Prefix=self._key(""), MaxKeys=1)

    def drop_copies(self, unused_s: float = COPY_UNUSED_S) -> int:
        """Remove copies that nobody has read for so long; gives how many."""
        return drop_unused(self.root, unused_s)

    def _key(self, name: str) -> str:
        return "/".join(part for part in (self.prefix, name) if part)

    @contextmanager
    def _explained(self, doing: str, right: str) -> Iterator[None]:
        from routing_pipeline.ingest.objects import explained

        with explained(self.uri(), self.bucket, doing, right):
            try:
                yield
            except _transfer_errors() as error:
                # What boto3's transfers wrap says more than the wrapping.
                refused = error.__cause__ or error.__context__
                if isinstance(refused, _boto_errors()):
                    raise refused from None
                raise ServiceUnavailableError(f"{self.uri()}: the object store broke off; run again later") from error


def storage_at(uri: str, copies: Path) -> Storage:
    """A warehouse by its address, `s3://bucket/prefix`.

    Raises:
        UnusableInputError: it is of another kind.
    """
    return BucketStorage(uri, copies)


def local_copy(location: str, copies: Path | None) -> str:
    """Where a file that `share` gave an address can be read on this machine; a path is itself."""
    if not location.startswith("s3://"):
        return location
    folder, _, name = location.rpartition("/")
    if copies is None:
        raise UnusableInputError(f"{location}: this engine has no folder for copies of a bucket's files")
    return str(BucketStorage(folder, copies).fetched([name])[0])


def read_shared(location: str) -> bytes | None:
    """The content behind an address that `share` gave; None when it is gone."""
    folder, _, name = location.rpartition("/")
    storage = BucketStorage(folder, Path()) if location.startswith("s3://") else FolderStorage(Path(folder))
    return storage.read(name)


def is_there(location: str) -> bool:
    """Whether what `share` gave this address is still there."""
    folder, _, name = location.rpartition("/")
    storage = BucketStorage(folder, Path()) if location.startswith("s3://") else FolderStorage(Path(folder))
    return storage.has(name) or (isinstance(storage, FolderStorage) and storage.path(name).exists())


def drop_unused(folder: Path, unused_s: float) -> int:
    """Remove files below a folder that were not used for so long; gives how many."""
    before_s, dropped = time.time() - unused_s, 0
    for path in list(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_mtime < before_s:
                path.unlink()
                dropped += 1
                _drop_empty(path.parent, folder)
    return dropped


def _drop_empty(folder: Path, up_to: Path) -> None:
    while folder != up_to and folder.is_relative_to(up_to):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _used_now(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _parts(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    if parts.scheme and "@" in parts.netloc:
        raise UnusableInputError("ROUTING_PIPELINE_WAREHOUSE: credentials do not belong into an address; set the AWS variables")
    names = uri.removeprefix("s3://").strip("/").split("/")
    if parts.scheme != "s3" or not all(name and name not in {".", ".."} for name in names):
        raise UnusableInputError(f"ROUTING_PIPELINE_WAREHOUSE={uri}: give s3://bucket/prefix")
    return names[0], "/".join(names[1:])


@lru_cache(maxsize=1)
def _client_of(process: int, *settings: str | None) -> Any:
    del process, settings
    from routing_pipeline.ingest.objects import s3_client

    return s3_client()[0]


def _client() -> Any:
    """One client per process, because connections do not survive a fork; another one for another store."""
    return _client_of(os.getpid(), *(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID")))


def _is_missing(error: Exception) -> bool:
    answer: Any = getattr(error, "response", {})
    # Not NoSuchBucket, which is 404 as well.
    return str(answer.get("Error", {}).get("Code", "")) in {"404", "NoSuchKey", "NotFound"}


def _transfer_errors() -> tuple[type[Exception], ...]:
    from boto3.exceptions import RetriesExceededError, S3UploadFailedError

    return S3UploadFailedError, RetriesExceededError


def _boto_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return ClientError, BotoCoreError
