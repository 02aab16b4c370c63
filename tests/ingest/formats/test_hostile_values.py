"""Whatever a record holds where a format expects something else, it is read or refused, and every record is accounted for."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.ingest.formats import FORMATS
from tests.ingest.reading import read_logs
from tests.ingest.test_format_detection import RECORDS

HOSTILE: tuple[Any, ...] = (
    None,
    "",
    "x",
    0,
    -1,
    1e308,
    -1e308,
    10**30,
    float("nan"),
    float("inf"),
    True,
    [],
    {},
    [1, "a", None],
    {"a": {"b": [1]}},
    "{broken",
    '{"task_type": {"a": 1}}',
    '["rule:", "rule:x", 7]',
    "9999-12-31 23:59:59",
    "infinity",
    "-290308-12-22 (BC) 00:00:00",
    "1" * 400,
    "é\u0000😀\ud800"[:3],
    "'; DROP TABLE conformed; --",
    "x" * 5_000,
)
RECORDS_EACH = 400


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in below for place in places(inner, (*path, key)))]


def mutated(record: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    made = copy.deepcopy(record)
    for _ in range(chance.randint(1, 3)):
        *above, last = chance.choice([place for place in places(made) if place])
        held = made
        for step in above:
            held = held[step]
        if chance.random() < 0.2 and isinstance(held, dict):
            del held[last]
        else:
            held[last] = copy.deepcopy(chance.choice(HOSTILE))
        if not made:
            return dict(record)
    return made


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_every_mutated_record_is_read_or_refused(each: Any, tmp_path: Path) -> None:
    chance = random.Random(each.name)  # noqa: S311 (no secret)
    records = [mutated(RECORDS[each.name], chance) for _ in range(RECORDS_EACH)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    read = read_logs(tmp_path / "a.jsonl", tmp_path / "home", each.name)
    assert read.result.records <= RECORDS_EACH * 2
    assert read.result.quarantined == len(read.refused) > 0
    assert all(reason for _, reason in read.refused)
    for row in read.rows:
        assert row["model"]
        assert row["status"] in {"success", "failure", "cancelled"}
        assert row["latency_ms"] is None or 0 <= row["latency_ms"] <= 7 * 86_400_000
        assert row["cost_usd"] is None or 0 <= row["cost_usd"] <= 1e15
        assert row["ttft_ms"] is None or row["ttft_ms"] >= 0
