"""Which tasks, models and teams the live page can be filtered by.

Belongs here: their names, by how much traffic they have. Does not belong here: what is shown under a filter (`model`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ibis

from routing_pipeline.window.engine import Engine
from routing_pipeline.window.kinds_of_call import chat_of


def names_in(engine: Engine, requests: Mapping[int, Path], most: int) -> dict[str, tuple[str, ...]]:
    """Tasks, models and teams by their requests of chat, most first: what can be filtered by."""
    if not requests:
        return {}
    table = chat_of(engine.read_parquet(list(requests.values())))
    found = {}
    for filtered, column in (("task", "task_type"), ("model", "model"), ("team", "team")):
        label = table[column].fill_null("unknown") if column == "task_type" else table[column]
        named = table.mutate(label=label).filter(lambda t: t.label.notnull())
        top = named.group_by("label").agg(n=named.requests.sum()).order_by(ibis.desc("n"), "label").limit(most)
        found[filtered] = tuple(top.to_pyarrow().column("label").to_pylist())
    return found
