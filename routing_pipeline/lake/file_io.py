"""How Iceberg reads and writes its own files: in a bucket through our own client and its copies, in a home where that lies now.

Belongs here: pyiceberg's file interface over `storage.bucket`. Does not belong here: the table (`table`).

Metadata, manifests and data files never change under their name: each is fetched once per machine, planning the same
snapshot again reads nothing from the bucket, and refusals read as they do everywhere else. pyiceberg's own file interfaces
(PyArrow, fsspec) do none of this: they read from the bucket each time, through a second client with credentials, retries and
messages of its own.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties

from routing_pipeline.storage.bucket import BucketStorage, warehouse_at

WAREHOUSE, COPIES = "warehouse", "routing-pipeline.copies"
"""Properties of the catalog: the address below which its files lie, and the folder for copies of them."""


LAKE = "routing-pipeline.lake"
"""Property of the catalog of a home: its folder `lake`, wherever that is now."""


class HomeIO(PyArrowFileIO):
    """Of a home that may have been moved: what the table names by an old address lies at the same place below the lake of today."""

    def new_input(self, location: str) -> PyArrowFile:
        """For reading."""
        return super().new_input(self._now(location))

    def new_output(self, location: str) -> PyArrowFile:
        """For writing."""
        return super().new_output(self._now(location))

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Where it lies now: never a file of the home that this one was copied from."""
        super().delete(self._now(location if isinstance(location, str) else location.location))

    def _now(self, location: str) -> str:
        lake = self.properties[LAKE]
        path = location.removeprefix("file://")
        if path.startswith(f"{lake}/"):
            return location
        _, found, name = path.rpartition("/lake/")
        return f"{lake}/{name}" if found else location


class _Stored(InputFile):
    """A file of the bucket."""

    def __init__(self, location: str, storage: BucketStorage) -> None:
        super().__init__(location)
        self._storage, self._name = storage, _name(storage, location)

    def __len__(self) -> int:
        return self._path().stat().st_size

    def exists(self) -> bool:
        """Asks the bucket."""
        return self._storage.has(self._name)

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002 (a copy always is)
        """The copy."""
        stream: Any = self._path().open("rb")
        return stream  # type: ignore[no-any-return]

    def _path(self) -> Path:
        return self._storage.fetched([self._name])[0]


class _Uploaded(io.BytesIO):
    """What is written, put into the bucket when it is closed."""

    def __init__(self, storage: BucketStorage, name: str) -> None:
        super().__init__()
        self._storage, self._name = storage, name

    def close(self) -> None:
        """Once."""
        if not self.closed:
            self._storage.write(self._name, self.getvalue())
        super().close()


class _Storing(OutputFile):
    """A file that is to be in the bucket."""

    def __init__(self, location: str, storage: BucketStorage) -> None:
        super().__init__(location)
        self._storage = storage

    def __len__(self) -> int:
        return len(self.to_input_file())

    def exists(self) -> bool:
        """Asks the bucket."""
        return self.to_input_file().exists()

    def to_input_file(self) -> InputFile:
        """The same file, for reading."""
        return _Stored(self.location, self._storage)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: ARG002 (names are not used twice)
        """Held in memory until it is whole: metadata alone is written in this way."""
        stream: Any = _Uploaded(self._storage, _name(self._storage, self.location))
        return stream  # type: ignore[no-any-return]


class BucketIO(FileIO):
    """Named in the catalog's properties as `py-io-impl`."""

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self._storage = warehouse_at(properties[WAREHOUSE], Path(properties[COPIES]))

    def new_input(self, location: str) -> InputFile:
        """For reading."""
        return _Stored(location, self._storage)

    def new_output(self, location: str) -> OutputFile:
        """For writing."""
        return _Storing(location, self._storage)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """From the bucket, and its copy."""
        self._storage.delete([_name(self._storage, location if isinstance(location, str) else location.location)])


def _name(storage: BucketStorage, location: str) -> str:
    name = storage.name_of(location)
    if name is None:
        raise ValueError(f"{location} is not below {storage.uri()}")
    return name
