"""Logs with damage of every kind in them, from a seed, and what must hold after they were read.

Belongs here: mutating lines and objects, checking the accounts. Does not belong here: when and how many
(test_ingest_mutated_logs.py runs a few hundred, benchmarks/ingest_mutated.py ten thousand).
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import zstandard

from routing_pipeline.ingest.ingestion import IngestResult, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0
START_S = 1_795_400_000.0
BLANK = b" \t\r\n"
LINES_PER_FILE = 40
PIECES = (
    b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\", b"\\u0000", b"\\ud800", b'"', b"'", b"{", b"}", b"[", b"]", b",", b":",
    b"\r", b"\n", b"\r\n", b"\n\n", b"\t", b" ", b"null", b"NaN", b"-Infinity", b"1e999", b"-", b"0x1f", b"9" * 400, b"[" * 2_000,
    b'{"a":' * 500, b"x" * 5_000, b"'; DROP TABLE conformed; --", b"// comment", b"\xf0\x9f\x98\x80", b"\x1b[2J", b"\xe2\x80\xa8",
)  # fmt: skip


def record(number: int) -> dict[str, Any]:
    start = START_S + number
    return {
        "id": f"chatcmpl-{number}", "litellm_call_id": f"call-{number}", "call_type": "acompletion", "status": "success",
        "startTime": start, "endTime": start + 1.5, "model": "openai/gpt-4o", "model_group": "gpt-4o", "response_cost": 0.01,
        "prompt_tokens": 100, "completion_tokens": 10, "request_tags": ["task_type:code"], "messages": 'some text, "quoted"',
        "metadata": {"user_api_key_request_route": "/v1/chat/completions", "requester_metadata": {"task_type": "code"}},
    }  # fmt: skip


def damaged(line: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The line after one to three mutations."""
    for _ in range(chance.randint(1, 3)):
        at, upto = sorted(chance.randrange(len(line) + 1) for _ in range(2))
        kind = chance.randrange(8)
        if kind == 0:
            line = line[:at] + chance.choice(PIECES) + line[at:]
        elif kind == 1:
            line = line[:at] + chance.choice(PIECES) + line[upto:]
        elif kind == 2:
            line = line[:at]
        elif kind == 3:
            line = line[at:]
        elif kind == 4:
            line = line[:at] + line[min(upto, at + 3) :]
        elif kind == 5:
            line = line[:at] + bytes([chance.randrange(256)]) + line[at + 1 :]
        elif kind == 6:
            line = line[:at] + chance.choice(others)[at:]
        else:
            line = line[:upto] + line[at:]
    return line


@dataclass
class Written:
    """What lies in the folder: `sound` are the call ids of records that nobody touched, `lines` the records by object."""

    mutated: int = 0
    sound: set[str] = field(default_factory=set)
    lines: dict[str, int] = field(default_factory=dict)
    blank: dict[str, int] = field(default_factory=dict)


def write(folder: Path, mutated: int, seed: int) -> Written:
    """At least so many mutated records with as many sound ones between them, as lines, packed lines and single documents."""
    chance = random.Random(seed)  # noqa: S311 (no secret)
    written = Written()
    number = 0
    while written.mutated < mutated:
        sound = [number + place for place in range(LINES_PER_FILE)]
        number += LINES_PER_FILE
        whole = [json.dumps(record(each)).encode() for each in sound]
        name = f"{number:06d}"
        if chance.random() < 0.2:
            for place, document in enumerate(whole[:8]):
                (folder / f"{name}-{place}.json").write_bytes(damaged(document, whole, chance))
                written.mutated += 1
            continue
        lines = []
        for document, each in zip(whole, sound, strict=True):
            if chance.random() < 0.5:
                lines.append(damaged(document, whole, chance))
                written.mutated += 1
            else:
                lines.append(document)
                written.sound.add(f"call-{each}")
        content = b"\n".join(lines) + chance.choice([b"\n", b""])
        packs: tuple[Callable[[bytes], bytes], ...] = (bytes, gzip.compress, zstandard.compress)
        pack = chance.choice(packs)
        (folder / name).write_bytes(pack(content))
        written.lines[name] = sum(1 for line in content.split(b"\n") if line.strip(BLANK))
        written.blank[name] = content.count(b"\n") + 1 - written.lines[name]
    return written


def check(folder: Path, home: Home, written: Written) -> IngestResult:
    """Read the folder and assert what must hold whatever the damage; gives the result."""
    result = ingest_logs(home, str(folder), now_s=NOW_S)
    assert result.records == result.ingested + result.quarantined + result.duplicates
    lake = Lake(home)
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT attempt_id, source_object FROM read_parquet($f)", {"f": list(lake.attempt_files(0, NOW_S + 4_000))}
        ).fetchall()
        refused = connection.execute(
            "SELECT source_object, line, record, reason FROM read_parquet($f)", {"f": list(lake.quarantine_files())}
        ).fetchall()
    assert len(rows) == len({attempt for attempt, _ in rows}) == result.ingested
    assert len(refused) == result.quarantined
    assert {call for attempt, _ in rows for call in [attempt.split("/")[0]]} >= written.sound
    accounts = {row["object"]: row for row in lake.side_table("ledger").to_pylist()}
    for name, lines in written.lines.items():
        # A line may hold a record and something broken beside it.
        assert accounts[name]["records"] >= lines, name
        assert {at for of, at, _, _ in refused if of == name} <= set(range(1, lines + written.blank[name] + 1)), name
    for name, line, _, reason in refused:
        assert (folder / name).exists()
        assert reason
        assert line is not None or name not in written.lines, (name, reason)
        assert line is None or line >= 1
    assert len({(name, line, nth) for name, line, nth, _ in refused}) == len(refused)
    return result
