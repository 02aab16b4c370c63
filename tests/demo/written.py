"""Reading what the demo wrote: lines, and the records among them that can be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any


def lines_of(path: Path) -> list[str]:
    """Of one object; one of a single record is one line."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return [text] if path.suffix == ".json" else text.split("\n")


def lines_below(folder: Path) -> list[str]:
    """Of all objects, by their names."""
    return [line for path in sorted(folder.rglob("*")) if path.is_file() for line in lines_of(path)]


def records_below(folder: Path) -> list[dict[str, Any]]:
    """Those that were not planted as broken."""
    records = []
    for line in lines_below(folder):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if "req-spoilt" not in line and "litellm_call_id" in record:
            records.append(record)
    return records
