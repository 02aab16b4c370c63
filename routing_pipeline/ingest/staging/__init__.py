"""From objects to files that DuckDB reads at full speed: `stager` runs what `fetch`, `unpack`, `detect` and `tables` can do."""
