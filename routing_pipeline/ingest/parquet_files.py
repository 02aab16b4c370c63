"""Parquet as the readers can be trusted with it.

Belongs here: which columns are read and how, what has to be written anew first, rows of a few columns for formats that look into
them. Does not belong here: what a column means (`formats`), which files there are (`staging`).

Trap: DuckDB reads decimals of more than 38 digits by a fixed layout and gets values that are wrong by any factor, without an
error (duckdb#25058, in 1.5). Files with such a column are written anew with text in its place, by Arrow, which reads them right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from routing_pipeline.ingest.formats.log_format import LogFormat

WIDEST_DECIMAL = 38
"""Digits of a decimal that DuckDB reads right."""
_ROWS = 10_000


def schema_of(path: Path) -> Any:
    """The file's columns as an Arrow schema; raises OSError or ArrowException where it cannot be read."""
    import pyarrow.parquet as pq

    return pq.read_schema(path)


def row_count(path: Path) -> int:
    """Rows by the file's footer; 1, for the file, where that cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 1


def parquet_source(path: Path, log_format: LogFormat) -> str:
    """A query that reads a Parquet file with exactly the format's fields, as text; fields the file lacks are null."""
    import pyarrow as pa

    types = {field.name: field.type for field in schema_of(path)}
    fields = []
    for name in log_format.structure:
        value = "NULL" if name not in types else f'"{name}"'
        if name in types and pa.types.is_nested(types[name]):
            # What is nested reads as in JSON lines.
            value = f"to_json({value})"
        elif name in types and (pa.types.is_binary(types[name]) or pa.types.is_large_binary(types[name])):
            # Writers that do not say that their bytes are text.
            value = f"coalesce(TRY(decode({value})), {value}::VARCHAR)"
        fields.append(f'{value}::VARCHAR AS "{name}"')
    return f"SELECT {', '.join(fields)}, filename, file_row_number FROM read_parquet($files, filename=true, file_row_number=true)"  # noqa: S608


def readable(path: Path, columns: Collection[str], to: Path) -> Path:
    """The file itself, or `to`, into which these columns were written so that DuckDB reads them right."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    read = [field for field in schema_of(path) if field.name in columns]
    if not any(_is_wide(field.type) for field in read):
        return path
    schema = pa.schema([field.with_type(_narrow(field.type)) for field in read])
    with pq.ParquetFile(path) as file, pq.ParquetWriter(to, schema, compression="zstd") as writer:
        for batch in file.iter_batches(batch_size=_ROWS, columns=[field.name for field in read]):
            arrays = [batch.column(field.name).cast(field.type) for field in schema]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return to


def rows(path: Path, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """Row by row what these columns hold; times as text, null left out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        read = [field for field in file.schema_arrow if field.name in columns]
        for batch in file.iter_batches(batch_size=_ROWS, columns=[field.name for field in read]):
            values = []
            for field in read:
                column = batch.column(field.name)
                values.append((column.cast(pa.string()) if pa.types.is_temporal(field.type) else column).to_pylist())
            for row in zip(*values, strict=True):
                yield {field.name: value for field, value in zip(read, row, strict=True) if value is not None}


def _is_wide(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return bool(kind.precision > WIDEST_DECIMAL)
    return any(_is_wide(kind.field(place).type) for place in range(kind.num_fields))


def _narrow(kind: Any) -> Any:
    """The type with text in the place of wide decimals, at any depth."""
    import pyarrow as pa

    if not _is_wide(kind):
        return kind
    if pa.types.is_decimal(kind):
        return pa.string()
    fields = [kind.field(place).with_type(_narrow(kind.field(place).type)) for place in range(kind.num_fields)]
    if pa.types.is_struct(kind):
        return pa.struct(fields)
    if pa.types.is_map(kind):
        return pa.map_(_narrow(kind.key_type), _narrow(kind.item_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(fields[0])
    return pa.list_(fields[0], kind.list_size) if pa.types.is_fixed_size_list(kind) else pa.list_(fields[0])
