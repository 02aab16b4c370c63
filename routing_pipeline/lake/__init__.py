"""The Iceberg tables: committing files, reading snapshots, exchanging what an object gave before.

How a record becomes a row is `ingest`'s, what a row means to an analysis is `window`'s.
"""
