"""From object storage to the lake: list, stage, conform, refuse, commit.

In the order in which a record passes: `objects` and `bodies` list and fetch, `manifests` leaves out what is not finished,
`staging` turns any object into files that DuckDB can read (`packs`, `parquet_files`), `shapes` takes records out of whatever
stands around them (`json_values` out of what stands between them), `formats` says how a record maps onto schema.REQUEST_LOG, `batch`
conforms and refuses, `quarantine` says why (`unknown` of what nobody knows), `lake` commits. `ingestion` is the one function that does all of it for logs,
`feedback` for scores.

Afterwards: `lake.overwrite` takes out what an object gave before, `reprocessing` has objects of a day or a prefix read again (`days_in_keys`), `erasure`
takes rows out for good, `compaction` joins small files and drops old snapshots.
"""
