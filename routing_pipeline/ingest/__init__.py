"""From object storage to the lake: list, stage, conform, refuse, commit.

In the order in which a record passes: `objects` lists and fetches (`bodies` at speed), `manifests` leaves out what its writer
has not finished, `staging` turns any object into lines that DuckDB can read, `formats` says how a record maps onto
schema.REQUEST_LOG, `batch` conforms and refuses, `quarantine` says why, `lake` commits. `ingestion` is the one function that
does all of it for logs, `feedback` for scores; `pace` says how fast.
"""
