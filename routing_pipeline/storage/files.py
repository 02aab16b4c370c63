"""Files by name, in a folder of this machine or wherever every worker can reach them, and the one way in which a file is written whole.

Belongs here: what a storage can do, the folder, and the write that a reader sees all of or nothing. Does not belong here: the
bucket (`bucket`), what the files are (`lake`, `results`, `rules.record`), where logs come from (`ingest.objects`), what
workers must agree on one after another (`locks`).

Large files are written where `path` says and then shared: in a folder they lie there already, to a bucket they are uploaded
in one piece. They never change under their name, so that a copy once fetched is good for as long as it lies there. Small
files may be replaced, whole; they are read from the bucket each time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from routing_pipeline.stopping import whole

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def beside(path: Path, content: bytes = b"", mode: int = 0o644, *, is_synced: bool = False) -> Iterator[Path]:
    """A hidden file in the folder of `path`, to be moved or linked there when it is as it should be; gone afterwards if it was not.

    `is_synced` waits until the content is on the disk: what moves there then also survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(name, mode)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write so that a reader sees the old file or the new one, never half of either."""
    with whole(), beside(path, content, mode) as waiting:
        os.replace(waiting, path)


def write_parquet_whole(table: pa.Table, path: Path) -> None:
    """The same of a table, as Parquet; the folder is created."""
    # Imported here because it takes long to load, and most files are no tables.
    import pyarrow.parquet as pq

    with beside(path) as writing:
        pq.write_table(table, writing, compression="zstd")
        writing.replace(path)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a folder in `children`: its name below the storage, and when it was written or used, seconds since 1970."""

    name: str
    modified_s: float
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """A small file's content and what tells this version of it from others."""

    content: bytes
    version: str


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

    def read_version(self, name: str) -> Stored | None:
        """The same with its version, for `replace`."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file that is not there yet; False when it is, and then nothing is written."""

    def replace(self, name: str, content: bytes, seen: Stored | None) -> bool:
        """Write a small file whole if it still is what was `seen` (None: not there); False when it is not any more."""

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

    def read_version(self, name: str) -> Stored | None:
        """Told apart by their hash."""
        content = self.read(name)
        return None if content is None else Stored(content, hashlib.sha256(content).hexdigest())

    def create(self, name: str, content: bytes) -> bool:
        """By a hard link, which fails where the name is taken; the content is on the disk before."""
        path = self.root / name
        with beside(path, content, is_synced=True) as waiting:
            try:
                os.link(waiting, path)
            except FileExistsError:
                return False
        return True

    def replace(self, name: str, content: bytes, seen: Stored | None) -> bool:
        """By a rename, under a lock that all who replace take; the content is on the disk before."""
        path = self.root / name
        with beside(path, content, is_synced=True) as waiting, (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.read_version(name) != seen:
                return False
            os.replace(waiting, path)
        return True

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
            drop_empty(path.parent, self.root / Path(name).parts[0])

    def delete_below(self, folder: str = "") -> None:
        """The folder goes as well."""
        shutil.rmtree(self.root / folder, ignore_errors=True)


def read_text(storage: Storage, name: str) -> str | None:
    """A small file as text; None when there is none."""
    content = storage.read(name)
    return None if content is None else content.decode()


def drop_empty(folder: Path, up_to: Path) -> None:
    """Remove a folder and those above it, as far as they are empty and below `up_to`."""
    while folder != up_to and folder.is_relative_to(up_to):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
