"""The Iceberg table of a home's lake: where its catalog is, opening and making it, which data files it names.

Belongs here: pyiceberg, but for its file interface (`file_io`). Does not belong here: what one commit holds (`table`), which files are
removed (`upkeep`).

Files lie in the home's storage and are called by their name there.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.schema import ADDED_LATER, REQUEST_LOG, ColumnType
from routing_pipeline.storage.bucket import BucketStorage
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.locks import InPostgres

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

TABLE_SETTINGS = {
    # A silent retry would let two writers of one object both land; the second must fail and read the ledger again.
    "commit.retry.num-retries": "0",
    # A commit adds a manifest, and planning reads them all.
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
TABLE = "routing.request_log"
CATALOG_IN_HOME, CATALOG_IN_POSTGRES = "home", "routing_pipeline"
_EARLIEST_S, _LATEST_S = 0.0, 253_370_764_800.0


class IcebergTable:
    """The table of one home, there or not yet."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.files = home.files.below("lake")
        self._opened: Table | None = None
        self._read: tuple[str, Mapping[str, str]] | None = None

    def version(self) -> str | None:
        """Changes with every commit; None without a lake. Takes a millisecond: pyiceberg is not asked."""
        coordination = self.home.coordination
        if isinstance(coordination, InPostgres):
            return coordination.metadata_location(CATALOG_IN_POSTGRES, *TABLE.split("."))
        catalog = self._root / "catalog.db"
        if not catalog.exists():
            return None
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(catalog))}?mode=ro", uri=True, timeout=30)) as connection:
            # A writer that died while it made the catalog left no table, or an empty one.
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'iceberg_tables'").fetchone():
                return None
            found = connection.execute(
                "SELECT metadata_location FROM iceberg_tables WHERE table_namespace || '.' || table_name = ?", (TABLE,)
            ).fetchone()
        return None if found is None else str(found[0])

    def properties(self) -> Mapping[str, str]:
        """The table's properties as they are now, read from its metadata file; none without a lake. As fast as `version`."""
        location = self.version()
        if location is None:
            return {}
        if self._read is None or self._read[0] != location:
            content = self.files.read(self.name_of(location))
            if content is None:
                # A commit may have dropped it just now; else pyiceberg says what is wrong.
                table = self.opened()
                return {} if table is None else table.properties
            self._read = (location, json.loads(content)["properties"])
        return self._read[1]

    def opened(self) -> Table | None:
        """The table as it is now; None without a lake."""
        location = self.version()
        if location is None:
            return None
        self.name_of(location)
        if self._opened is not None and self._opened.metadata_location == location:
            return self._opened
        from pyiceberg.exceptions import NoSuchTableError

        with self.reaching():
            catalog = self._catalog()
            try:
                table: Table = catalog.load_table(TABLE)
            except NoSuchTableError:
                return None
            finally:
                catalog.close()
        # Opening costs a dozen questions; of one version there is one table.
        self._opened = table
        return table

    def opened_or_made(self) -> Table:
        """The table, with the columns that were added since it was made."""
        table = self.opened() or self.made()
        if any(name not in table.schema().column_names for name in ADDED_LATER):
            with self.reaching(), table.update_schema() as update:
                update.union_by_name(_iceberg_schema())
        return table

    def made(self) -> Table:
        """The table, made unless somebody else just did."""
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.transforms import DayTransform

        schema = _iceberg_schema()
        day = PartitionField(schema.find_field("started_at").field_id, 1000, DayTransform(), "day")
        self._root.mkdir(parents=True, exist_ok=True)
        with self.reaching():
            catalog = self._catalog()
            catalog.create_namespace_if_not_exists(TABLE.split(".")[0])
            table: Table = catalog.create_table_if_not_exists(
                TABLE, schema=schema, partition_spec=PartitionSpec(day), properties=TABLE_SETTINGS
            )
        return table

    def data_files(self, between_s: tuple[float, float] | None = None) -> list[DataFile]:
        """Data files of the present snapshot, all or those that may hold attempts from one moment to before another, seconds since 1970."""
        table = self.opened()
        if table is None or table.current_snapshot() is None:
            return []
        from pyiceberg import expressions

        make: Any = expressions  # its classes take their arguments in ways that mypy cannot follow
        rows = make.AlwaysTrue()
        if between_s is not None:
            start, before = map(_iso, between_s)
            rows = make.And(make.GreaterThanOrEqual("started_at", start), make.LessThan("started_at", before))
        with self.reaching():
            return [task.file for task in table.scan(row_filter=rows).plan_files()]

    def snapshot_id(self) -> str | None:
        """The present snapshot; None while there are none."""
        table = self.opened()
        snapshot = None if table is None else table.current_snapshot()
        return None if snapshot is None else str(snapshot.snapshot_id)

    def name_of(self, location: str) -> str:
        """What the storage calls a file that the table names by its address."""
        name = self.files.name_of(location)
        if name is None and not isinstance(self.files, BucketStorage):
            # The home was moved, or restored elsewhere: files keep the address that they were written under.
            name = below_the_lake(location)
        if name is None:
            raise UnusableInputError(f"the lake's table names files outside of {self.files.uri()}; was it moved?")
        return name

    def overwrite(self, transaction: Any, table: Table, files: list[str], leaving: set[str]) -> None:
        """One snapshot in which data files join and others leave."""
        from pyiceberg.io.pyarrow import parquet_files_to_data_files

        names = {"schema.name-mapping.default": table.schema().name_mapping.model_dump_json()}
        if table.name_mapping() is None:
            transaction.set_properties(names)
        with transaction.update_snapshot().overwrite() as snapshot:
            for task in table.scan().plan_files():
                if self.name_of(task.file.file_path) in leaving:
                    snapshot.delete_data_file(task.file)
            for joining in parquet_files_to_data_files(table.io, transaction.table_metadata, iter(files)):
                snapshot.append_data_file(joining)

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """What goes wrong with the catalog's database ends in one line without a secret."""
        coordination = self.home.coordination
        with coordination.explained() if isinstance(coordination, InPostgres) else contextlib.nullcontext():
            yield

    @property
    def _root(self) -> Path:
        return self.files.root

    def _catalog(self) -> Any:
        # Imported here because pyiceberg takes two seconds to load.
        from pyiceberg.catalog.sql import SqlCatalog

        from routing_pipeline.lake import file_io

        coordination = self.home.coordination
        if not isinstance(coordination, InPostgres):
            place = quote(str(self._root / "catalog.db"))
            return SqlCatalog(
                CATALOG_IN_HOME,
                uri=f"sqlite:///{place}",
                warehouse=f"file://{self._root}",
                **{"py-io-impl": f"{file_io.__name__}.{file_io.HomeIO.__name__}", file_io.LAKE: str(self._root)},
            )

        if not isinstance(self.files, BucketStorage):
            raise UnusableInputError("ROUTING_PIPELINE_CATALOG needs ROUTING_PIPELINE_WAREHOUSE=s3://bucket/prefix")
        return SqlCatalog(
            CATALOG_IN_POSTGRES,
            uri=coordination.sqlalchemy_uri,
            pool_pre_ping="true",
            **{
                "py-io-impl": f"{file_io.__name__}.{file_io.BucketIO.__name__}",
                file_io.WAREHOUSE: self.files.uri(),
                file_io.COPIES: str(self.files.copies),
            },
        )


def below_the_lake(location: str) -> str | None:
    """The name of a file by an address that was right where the home lay once: what follows its folder `lake`."""
    _, found, name = location.rpartition("/lake/")
    return name if found and ".." not in PurePosixPath(name).parts else None


def side_names(properties: Mapping[str, str], name: str) -> list[str]:
    """Names of a side table's files, oldest first: a property of the table, so that they change with its rows in one step."""
    names: Iterable[str] = json.loads(properties.get(name, "[]"))
    return list(names)


def _iceberg_schema() -> Any:
    from pyiceberg.schema import Schema
    from pyiceberg.types import BooleanType, DoubleType, LongType, NestedField, StringType, TimestampType

    types: dict[ColumnType, Any] = {
        "text": StringType(),
        "double": DoubleType(),
        "bigint": LongType(),
        "boolean": BooleanType(),
        "timestamp": TimestampType(),
    }
    # Optional throughout: DuckDB writes every Parquet column as nullable, and `add_files` takes none that is laxer than the table.
    fields = [NestedField(number, column.name, types[column.type], doc=column.description) for number, column in enumerate(REQUEST_LOG, 1)]
    return Schema(*fields)


def _iso(seconds: float) -> str:
    kept = min(max(seconds, _EARLIEST_S), _LATEST_S)
    return datetime.fromtimestamp(kept, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
