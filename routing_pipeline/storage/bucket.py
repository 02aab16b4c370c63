"""Files in a prefix of an S3-compatible bucket, the local copies through which they are read, and where an address leads.

Belongs here: `Storage` over a bucket, writes on a condition, copies, and reading what `share` gave an address. Does not belong
here: the client and what its refusals mean (`s3`), folders (`files`).

A server heeds conditions when it knows `If-None-Match: *` and `If-Match` on PUT, as AWS and MinIO do. One that does not know
the second (Swift), or takes no notice of it, may let two through that create one object at the same moment; the later one
stays. There whoever creates waits for SETTLES_S and looks whose it is: two creations closer together than that end as one.
What is replaced there is looked at before it is written; whoever must be sure looks again afterwards.
"""

from __future__ import annotations

import mimetypes
import os
import shutil
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.storage.files import Entry, FolderStorage, Storage, Stored, beside, drop_empty
from routing_pipeline.storage.retention import Limits, unused
from routing_pipeline.storage.s3 import NO_SUCH_KEY, Bucket, code_of

COPIES = "copies"
"""Folder of a home's scratch that holds what was fetched from a bucket."""
COPY_LIMITS = Limits(unused_s=SECONDS_PER_DAY)
"""Copies that nobody has read for so long are dropped: they can be fetched again."""
SHARED_AGAIN_S = SECONDS_PER_DAY
"""A shared file that is used again after so long is uploaded again, so that it does not look unused."""
FETCHING_THREADS = 8
SETTLES_S = 1.5
"""How long a small PUT may be under way at a server that does not keep two apart."""
UNKNOWN_TO_SERVER = frozenset({"NotImplemented", "501"})
REFUSED = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})


class BucketStorage:
    """A prefix of a bucket; `copies` is where its files are read from on this machine.

    Raises, in every method that asks the bucket:
        UnusableInputError: no such bucket, or these credentials may not do this.
        ServiceUnavailableError: the store does not answer.
    """

    def __init__(self, bucket: str, prefix: str, copies: Path) -> None:
        self.bucket, self.prefix, self.copies = bucket, prefix, copies
        self.root = copies / bucket / prefix
        self._objects = Bucket(bucket, self.uri())
        self._heeds_conditions: bool | None = None

    def below(self, folder: str) -> BucketStorage:
        """A longer prefix."""
        return BucketStorage(self.bucket, self._key(folder), self.copies)

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

    # Small files

    def read(self, name: str) -> bytes | None:
        """GET."""
        found = self.read_version(name)
        return None if found is None else found.content

    def read_version(self, name: str) -> Stored | None:
        """GET, which S3 answers with one version of the object; told apart by its ETag."""
        found = self._objects.get(self._key(name))
        return None if found is None else Stored(*found)

    def has(self, name: str) -> bool:
        """HEAD."""
        return self._written_s(name) is not None

    def write(self, name: str, content: bytes) -> None:
        """PUT, which is whole or not at all."""
        self._objects.put(self._key(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """PUT with `If-None-Match: *`. What a lost answer had written already counts as ours."""
        if self._put_if(name, content, {"IfNoneMatch": "*"}):
            if self._is_atomic():
                return True
            time.sleep(SETTLES_S)
        return self.read(name) == content

    def replace(self, name: str, content: bytes, seen: Stored | None) -> bool:
        """PUT with `If-Match`, or `If-None-Match: *` where nothing was seen."""
        return self._put_if(name, content, {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen.version})

    def _put_if(self, name: str, content: bytes, condition: dict[str, str]) -> bool:
        from botocore.exceptions import ClientError

        kind = {"ContentType": mimetypes.guess_type(name)[0] or "application/octet-stream"}
        put = {"Bucket": self.bucket, "Key": self._key(name), "Body": content, **kind}
        with self._objects.explained("write", "s3:PutObject"):
            try:
                self._objects.client.put_object(**put, **condition)
            except ClientError as error:
                if code_of(error) in REFUSED:
                    return False
                if code_of(error) not in UNKNOWN_TO_SERVER:
                    raise
                # A server that does not know the condition: look, then write.
                found = self.read_version(name)
                if (None if found is None else found.version) != condition.get("IfMatch"):
                    return False
                self._objects.client.put_object(**put)
        return True

    def _is_atomic(self) -> bool:
        """Whether the server heeds conditions: one that does refuses to replace what is not there."""
        if self._heeds_conditions is None:
            self._heeds_conditions = self._refuses_to_replace_nothing()
        return self._heeds_conditions

    def _refuses_to_replace_nothing(self) -> bool:
        from botocore.exceptions import ClientError

        key = self._key(f".probe-{uuid.uuid4().hex}")
        with self._objects.explained("write", "s3:PutObject"):
            try:
                self._objects.client.put_object(Bucket=self.bucket, Key=key, Body=b"", IfMatch='"0123456789abcdef0123456789abcdef"')
            except ClientError as error:
                if code_of(error) in UNKNOWN_TO_SERVER:
                    return False
                if code_of(error) in REFUSED | NO_SUCH_KEY:
                    return True
                raise
            self._objects.client.delete_object(Bucket=self.bucket, Key=key)
        return False

    def mark(self, name: str) -> None:
        """An empty object."""
        self.write(name, b"")

    def mark_used(self, name: str) -> None:
        """Nothing: objects keep the time at which they were written."""

    # Large files, through copies

    def share(self, path: Path) -> str:
        """Upload, unless it lies there since not long ago: files do not change under their name."""
        name = str(path.relative_to(self.root))
        written_s = self._written_s(name)
        if written_s is None or written_s < time.time() - SHARED_AGAIN_S:
            self._objects.upload(path, self._key(name))
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
        head = self._objects.head(self._key(name))
        return None if head is None else float(head["LastModified"].timestamp())

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
        with beside(path) as waiting:
            self._objects.download(self._key(name), waiting)
            os.replace(waiting, path)

    # Listing and clearing up

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
        return [
            Entry(each["Key"][base:], each["LastModified"].timestamp(), each["Size"])
            for page in self._objects.pages(start)
            for each in page
        ]

    def delete(self, names: Iterable[str]) -> None:
        """One by one: not every store can delete several at once."""
        for name in names:
            self._objects.delete(self._key(name))
            self.path(name).unlink(missing_ok=True)
            drop_empty(self.path(name).parent, self.root)

    def delete_below(self, folder: str = "") -> None:
        """Everything of the prefix."""
        self.delete([entry.name for entry in self.entries(folder)])
        shutil.rmtree(self.root / folder, ignore_errors=True)

    def check(self) -> None:
        """Ask the bucket for one name."""
        self._objects.check(self._key(""))

    def drop_copies(self) -> int:
        """Remove copies that nobody has read in a while; gives how many."""
        copies = FolderStorage(self.root)
        dropped = unused(copies.entries(), COPY_LIMITS, now_s=time.time())
        copies.delete(dropped)
        return len(dropped)

    def _key(self, name: str) -> str:
        return "/".join(part for part in (self.prefix, name) if part)


def warehouse_at(uri: str, copies: Path) -> BucketStorage:
    """A warehouse by its address, `s3://bucket/prefix`.

    Raises:
        UnusableInputError: it is of another kind, or holds a secret.
    """
    parts = urlsplit(uri)
    if parts.scheme and "@" in parts.netloc:
        raise UnusableInputError("ROUTING_PIPELINE_WAREHOUSE: credentials do not belong into an address; set the AWS variables")
    names = uri.removeprefix("s3://").strip("/").split("/")
    if parts.scheme != "s3" or not all(name and name not in {".", ".."} for name in names):
        raise UnusableInputError(f"ROUTING_PIPELINE_WAREHOUSE={uri}: give s3://bucket/prefix")
    return BucketStorage(names[0], "/".join(names[1:]), copies)


def local_copy(location: str, copies: Path | None) -> str:
    """Where a file that `share` gave an address can be read on this machine; a path is itself."""
    if not location.startswith("s3://"):
        return location
    if copies is None:
        raise UnusableInputError(f"{location}: this engine has no folder for copies of a bucket's files")
    folder, _, name = location.rpartition("/")
    return str(warehouse_at(folder, copies).fetched([name])[0])


def read_shared(location: str) -> bytes | None:
    """The content behind an address that `share` gave; None when it is gone."""
    storage, name = _parted(location)
    return storage.read(name)


def is_there(location: str) -> bool:
    """Whether what `share` gave this address is still there."""
    storage, name = _parted(location)
    return storage.has(name) or (isinstance(storage, FolderStorage) and storage.path(name).exists())


def _parted(location: str) -> tuple[Storage, str]:
    folder, _, name = location.rpartition("/")
    return warehouse_at(folder, Path()) if location.startswith("s3://") else FolderStorage(Path(folder)), name


def _used_now(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
