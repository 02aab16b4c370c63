"""A place for small files that never change once they are there, and one that is replaced whole: a directory or a bucket.

Belongs here: creating, replacing on a condition, reading, listing, on a file system and on S3. Does not belong here: what is
in the files (`record`), logs (`ingest.objects`).

`create` never overwrites and `replace` never overwrites what its caller has not seen; a reader sees all of a file or none.
On S3 that takes `If-None-Match: *` and `If-Match` on PUT, which AWS and MinIO know. A server that does not know the second
one (Swift), or takes no notice of it, may let two through that create one object at the same moment; the later one stays. There
whoever creates waits for SETTLES_S and looks whose it is: two creations closer together than that end as one. What is replaced
is looked at before it is written, and the record looks again afterwards.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.objects import explained, s3_client

UNKNOWN_TO_SERVER = frozenset({"NotImplemented", "501"})
REFUSED = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
SETTLES_S = 1.5
"""How long a small PUT may be under way at a server that does not keep two apart."""
GONE = frozenset({"NoSuchKey", "404", "NotFound"})


@dataclass(frozen=True)
class Stored:
    """A file's content and what tells this version of it from others."""

    content: bytes
    version: str


class Place(Protocol):
    """Where files lie, by name; a name is one or two parts joined by a slash."""

    @property
    def uri(self) -> str:
        """The place in one spelling; holds no secret."""

    def read(self, name: str) -> Stored | None:
        """The file whole; None when there is none."""

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, without the folder's, sorted."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet; False when it is, and then nothing is written."""

    def replace(self, name: str, content: bytes, seen: Stored | None) -> bool:
        """Write a file whole if it still is what was `seen` (None: not there); False when it is not any more."""


def open_place(uri: str) -> Place:
    """A directory, `file://...` or `s3://bucket/prefix`.

    Raises:
        UnusableInputError: the URI is of no such kind.
    """
    parts = urlsplit(uri)
    if parts.scheme and "@" in parts.netloc:
        # Not repeated: it is about to be printed.
        raise UnusableInputError(f"{parts.scheme}://...@...: credentials do not belong into an address; set the AWS variables")
    if parts.scheme == "s3":
        prefix = uri.removeprefix("s3://").partition("/")[2].strip("/")
        if not parts.netloc or not prefix:
            raise UnusableInputError(f"{uri}: name a bucket and a prefix for rule sets, as in s3://bucket/rule-sets")
        return S3Place(parts.netloc, prefix)
    if parts.scheme == "file":
        return DirectoryPlace(Path(unquote(parts.path)))
    if "://" in uri:
        raise UnusableInputError(f"{parts.scheme}:// is not supported; give a directory, file:// or s3://bucket/prefix")
    return DirectoryPlace(Path(uri).expanduser().absolute())


class DirectoryPlace:
    """A directory; files appear in it by link and by rename, written and synced before."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def uri(self) -> str:
        """Absolute path."""
        return str(self.root)

    def read(self, name: str) -> Stored | None:
        """The file whole."""
        with self._explained():
            try:
                content = (self.root / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Stored(content, hashlib.sha256(content).hexdigest())

    def names(self, folder: str) -> list[str]:
        """Regular files that are not hidden; what is being written is."""
        with self._explained():
            found = (self.root / folder).iterdir() if (self.root / folder).is_dir() else iter(())
            return sorted(path.name for path in found if not path.name.startswith("."))

    def create(self, name: str, content: bytes) -> bool:
        """By a hard link, which fails where the name is taken."""
        with self._explained(), self._written(name, content) as waiting:
            try:
                os.link(waiting, self.root / name)
            except FileExistsError:
                return False
        return True

    def replace(self, name: str, content: bytes, seen: Stored | None) -> bool:
        """By a rename, under a lock that all who replace take."""
        with self._explained(), self._written(name, content) as waiting, (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.read(name) != seen:
                return False
            os.replace(waiting, self.root / name)
        return True

    @contextmanager
    def _written(self, name: str, content: bytes) -> Iterator[Path]:
        """The content in a hidden file beside its place; gone afterwards, unless it was moved there."""
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, waiting = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(waiting, 0o644)
            yield Path(waiting)
        finally:
            Path(waiting).unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnusableInputError(f"{self.uri}: {error.strerror}; rule sets need a folder that can be written to") from error


class S3Place:
    """A prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix
        self._client, _ = s3_client()
        self._keeps_apart: bool | None = None

    @property
    def uri(self) -> str:
        """s3://bucket/prefix."""
        return f"s3://{self.bucket}/{self.prefix}"

    def read(self, name: str) -> Stored | None:
        """GET, which S3 answers with one version of the object."""
        from botocore.exceptions import ClientError

        with explained(self.uri, self.bucket, "read", "s3:GetObject"):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self._key(name))
            except ClientError as error:
                if _code(error) in GONE:
                    return None
                raise
            return Stored(answer["Body"].read(), answer["ETag"])

    def names(self, folder: str) -> list[str]:
        """All pages of the listing."""
        base = self._key(f"{folder}/")
        with explained(self.uri, self.bucket, "list", "s3:ListBucket"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=base)
            return sorted(entry["Key"].removeprefix(base) for page in pages for entry in page.get("Contents", ()))

    def create(self, name: str, content: bytes) -> bool:
        """PUT with `If-None-Match: *`. What a lost answer had written already counts as ours."""
        if self._put(name, content, {"IfNoneMatch": "*"}):
            if self._is_atomic():
                return True
            time.sleep(SETTLES_S)
        found = self.read(name)
        return found is not None and found.content == content

    def _is_atomic(self) -> bool:
        """Whether the server heeds conditions: one that does refuses to replace what is not there."""
        if self._keeps_apart is None:
            self._keeps_apart = self._heeds_conditions()
        return self._keeps_apart

    def _heeds_conditions(self) -> bool:
        from botocore.exceptions import ClientError

        key = self._key(f".probe-{uuid.uuid4().hex}")
        with explained(self.uri, self.bucket, "write", "s3:PutObject"):
            try:
                self._client.put_object(Bucket=self.bucket, Key=key, Body=b"", IfMatch='"0123456789abcdef0123456789abcdef"')
            except ClientError as error:
                if _code(error) in UNKNOWN_TO_SERVER:
                    return False
                if _code(error) in REFUSED | GONE:
                    return True
                raise
            self._client.delete_object(Bucket=self.bucket, Key=key)
        return False

    def replace(self, name: str, content: bytes, seen: Stored | None) -> bool:
        """PUT with `If-Match`, or `If-None-Match: *` where nothing was seen."""
        return self._put(name, content, {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen.version})

    def _put(self, name: str, content: bytes, condition: dict[str, str]) -> bool:
        from botocore.exceptions import ClientError

        put = {"Bucket": self.bucket, "Key": self._key(name), "Body": content, "ContentType": "application/json"}
        with explained(self.uri, self.bucket, "write", "s3:PutObject"):
            try:
                self._client.put_object(**put, **condition)
            except ClientError as error:
                if _code(error) in REFUSED:
                    return False
                if _code(error) not in UNKNOWN_TO_SERVER:
                    raise
                return self._put_on_sight(put, condition.get("IfMatch"))
        return True

    def _put_on_sight(self, put: dict[str, Any], version: str | None) -> bool:
        """For a server that does not know the condition: look, then write."""
        found = self.read(str(put["Key"]).removeprefix(f"{self.prefix}/"))
        if (None if found is None else found.version) != version:
            return False
        self._client.put_object(**put)
        return True

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
