"""Where the record of rule sets lies: small files that never change once they are there, and one that is replaced whole.

Belongs here: addresses of that place, and what is said when it cannot be used. Does not belong here: how files are created and
replaced on a condition (`storage.files`, `storage.bucket`), what is in them (`record`).

`create` never overwrites and `replace` never overwrites what its caller has not seen; a reader sees all of a file or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from routing_pipeline.errors import PipelineError, UnusableInputError
from routing_pipeline.storage.bucket import BucketStorage
from routing_pipeline.storage.files import FolderStorage, Storage, Stored

PROBE = ".can-be-written-to"
"""Name of an empty file that is written to see whether one can be."""


def open_record_files(uri: str) -> RecordFiles:
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
        # Never read through copies.
        return RecordFiles(BucketStorage(parts.netloc, prefix, Path()))
    if parts.scheme == "file":
        return RecordFiles(FolderStorage(Path(unquote(parts.path))))
    if "://" in uri:
        raise UnusableInputError(f"{parts.scheme}:// is not supported; give a directory, file:// or s3://bucket/prefix")
    return RecordFiles(FolderStorage(Path(uri).expanduser().absolute()))


class RecordFiles:
    """Files by name; a name is one or two parts joined by a slash.

    Raises, in every method:
        UnusableInputError: the folder or bucket is not there, or may not be used.
        ServiceUnavailableError: the bucket does not answer.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @property
    def uri(self) -> str:
        """The place in one spelling; holds no secret."""
        return self._storage.uri()

    def read(self, name: str) -> Stored | None:
        """The file whole; None when there is none."""
        with self._explained():
            return self._storage.read_version(name)

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, without the folder's, sorted; what is being written is hidden."""
        with self._explained():
            names = sorted(entry.name.rpartition("/")[2] for entry in self._storage.children(folder))
        return [name for name in names if not name.startswith(".")]

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet; False when it is, and then nothing is written."""
        with self._explained():
            return self._storage.create(name, content)

    def replace(self, name: str, content: bytes, seen: Stored | None) -> bool:
        """Write a file whole if it still is what was `seen` (None: not there); False when it is not any more."""
        with self._explained():
            return self._storage.replace(name, content, seen)

    def check_writable(self) -> None:
        """Refuse a place that files could not be written to, before something is recorded that is to be written there."""
        with self._explained():
            self._storage.write(PROBE, b"")
        # Who may write need not be allowed to delete: then one empty file stays.
        with suppress(OSError, PipelineError):
            self._storage.delete([PROBE])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnusableInputError(f"{self.uri}: {error.strerror}; rule sets need a folder that can be written to") from error
