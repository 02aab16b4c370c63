"""From object storage to the lake: list, stage, conform, refuse, commit.

In the order in which a record passes: `objects` and `bodies` list and fetch, `manifests` leaves out what is not finished,
`staging` turns any object into lines that DuckDB can read, `formats` says how a record maps onto schema.REQUEST_LOG, `batch`
conforms and refuses, `quarantine` says why, `lake` commits. `ingestion` is the one function that does all of it for logs,
`feedback` for scores.

Afterwards: `replacing` takes out what an object gave before, `reprocessing` marks objects to be read again, `forgetting`
takes rows out for good, `maintenance` joins small files and drops old snapshots.
"""
