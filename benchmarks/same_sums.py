"""The same sums over LiteLLM's lines in DuckDB, Polars, chdb and pandas: requests, spend, tokens and mean latency by model and team.

Belongs here: one way of each tool to read the lines, its streaming one where it has one. Does not belong here: measuring (`ratios`).
Prints the sums as JSON, in one order and shape for all, so that whoever measures can hold them against each other.

    python benchmarks/same_sums.py duckdb|polars|chdb|pandas FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

Sums = list[tuple[str, str, int, float, int, int, float]]
"""By model and team, in that order: requests, spend in USD, tokens of prompts and of completions, mean seconds."""

_SQL = """SELECT model_group, {team} AS team, count(*) AS n, sum(response_cost) AS cost, sum(prompt_tokens) AS prompt,
 sum(completion_tokens) AS completion, avg(endTime - startTime) AS seconds FROM {source} GROUP BY 1, 2 ORDER BY 1, 2"""


def with_duckdb(files: list[str]) -> Sums:
    import duckdb

    columns = {"model_group": "VARCHAR", "response_cost": "DOUBLE", "prompt_tokens": "BIGINT", "completion_tokens": "BIGINT"}
    columns |= {"startTime": "DOUBLE", "endTime": "DOUBLE", "metadata": "STRUCT(user_api_key_team_alias VARCHAR)"}
    source = "read_json($files, columns=$columns, format='newline_delimited')"
    sql = _SQL.format(team="metadata.user_api_key_team_alias", source=source)
    return duckdb.connect().execute(sql, {"files": files, "columns": columns}).fetchall()


def with_polars(files: list[str]) -> Sums:
    import polars as pl

    schema = {"model_group": pl.String, "response_cost": pl.Float64, "prompt_tokens": pl.Int64, "completion_tokens": pl.Int64}
    schema |= {"startTime": pl.Float64, "endTime": pl.Float64, "metadata": pl.Struct({"user_api_key_team_alias": pl.String})}
    rows = pl.scan_ndjson(files, schema=schema)
    sums = rows.group_by("model_group", pl.col("metadata").struct.field("user_api_key_team_alias").alias("team")).agg(
        pl.len().alias("n"),
        pl.col("response_cost").sum(),
        pl.col("prompt_tokens").sum(),
        pl.col("completion_tokens").sum(),
        (pl.col("endTime") - pl.col("startTime")).mean().alias("seconds"),
    )
    return sums.sort("model_group", "team").collect(engine="streaming").rows()


def with_chdb(files: list[str]) -> Sums:
    import chdb

    columns = "model_group String, response_cost Float64, prompt_tokens Int64, completion_tokens Int64, startTime Float64, endTime Float64"
    columns += ", metadata Tuple(user_api_key_team_alias String)"
    source = f"file('{Path(files[0]).parent}/*.jsonl', JSONEachRow, '{columns}')"
    found = chdb.query(_SQL.format(team="metadata.user_api_key_team_alias", source=source), "JSONCompact")
    # Whole numbers of 64 bits come as text.
    return [(*row[:2], int(row[2]), float(row[3]), int(row[4]), int(row[5]), float(row[6])) for row in json.loads(str(found))["data"]]


def with_pandas(files: list[str]) -> Sums:
    import pandas as pd

    # It has no reader that leaves fields out: file by file, so that one file's records are held and not all.
    parts = []
    for file in files:
        rows = pd.read_json(file, lines=True)
        rows["team"] = [each["user_api_key_team_alias"] for each in rows["metadata"]]
        rows["seconds"] = rows["endTime"] - rows["startTime"]
        sums = rows.groupby(["model_group", "team"])[["response_cost", "prompt_tokens", "completion_tokens", "seconds"]].sum()
        parts.append(sums.assign(n=rows.groupby(["model_group", "team"]).size()))
    total = pd.concat(parts).groupby(level=[0, 1]).sum().sort_index().reset_index()
    total["seconds"] /= total["n"]
    ordered = total[["model_group", "team", "n", "response_cost", "prompt_tokens", "completion_tokens", "seconds"]]
    return [tuple(row) for row in ordered.astype(object).to_numpy().tolist()]


TOOLS: dict[str, Callable[[list[str]], Sums]] = {
    "duckdb": with_duckdb,
    "polars": with_polars,
    "chdb": with_chdb,
    "pandas": with_pandas,
}

if __name__ == "__main__":
    print(json.dumps(TOOLS[sys.argv[1]](sorted(str(path) for path in Path(sys.argv[2]).glob("*.jsonl")))))
