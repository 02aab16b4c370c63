"""What became of each object: the rows of the ledger and of the quarantine.

Belongs here: which objects are new, and the two tables that commit beside the data. Does not belong here: the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from routing_pipeline.ingest.lake import Lake, SideTable, arrow_schema
from routing_pipeline.ingest.objects import Source, StoredObject
from routing_pipeline.ingest.quarantine import Refused
from routing_pipeline.schema import LEDGER, QUARANTINE

if TYPE_CHECKING:
    import pyarrow as pa

UNKNOWN_FORMAT = "unknown"


@dataclass
class Account:
    """Records of one object version. records = ingested + quarantined + duplicates, by construction."""

    format: str = UNKNOWN_FORMAT
    counts: Counter[str] = field(default_factory=Counter)

    def row(self) -> dict[str, Any]:
        """The counting columns of schema.LEDGER."""
        counts = {name: self.counts[name] for name in ("ingested", "quarantined", "duplicates")}
        return {"format": self.format, "records": sum(counts.values()), **counts}


def unknown_objects(lake: Lake, ledger: SideTable, source: Source, listed: Sequence[StoredObject]) -> list[StoredObject]:
    """Objects that the ledger does not hold in this version."""
    known = set(zip(*_columns(lake, ledger, source, ["object", "etag", "size_bytes"]), strict=True))
    return [each for each in listed if (each.key, each.etag, each.size_bytes) not in known]


def known_keys(lake: Lake, source: Source, etag: str | None = None) -> set[str]:
    """Keys of the objects that the ledger holds in any version, or in this one."""
    keys, etags = _columns(lake, "ledger", source, ["object", "etag"])
    return set(keys) if etag is None else {key for key, held in zip(keys, etags, strict=True) if held == etag}


def _columns(lake: Lake, ledger: SideTable, source: Source, names: list[str]) -> list[list[Any]]:
    import pyarrow.compute as pc

    rows = lake.side_table(ledger)
    return list(rows.filter(pc.equal(rows["source"], source.uri)).select(names).to_pydict().values())


def ledger_rows(source: Source, accounts: Iterable[tuple[StoredObject, Account]], now_s: float) -> pa.Table:
    """One row of schema.LEDGER per object."""
    import pyarrow as pa

    rows = [
        {
            "object": listed.key,
            "source": source.uri,
            "etag": listed.etag,
            "size_bytes": listed.size_bytes,
            "committed_at": int(now_s * 1e6),
            **account.row(),
        }
        for listed, account in accounts
    ]
    return pa.Table.from_pylist(rows, arrow_schema(LEDGER))


def quarantine_rows(
    objects: Sequence[StoredObject],
    refused: Iterable[Refused],
    now_s: float,
    called: Callable[[StoredObject], str] = attrgetter("key"),
) -> pa.Table:
    """One row of schema.QUARANTINE per refused record; `Refused.object` counts into `objects`, which go by what `called` says."""
    import pyarrow as pa

    rows = [
        {
            "source_object": called(objects[each.object]),
            "line": each.line,
            "reason": each.reason,
            "excerpt": each.excerpt,
            "quarantined_at": int(now_s * 1e6),
        }
        for each in refused
    ]
    return pa.Table.from_pylist(rows, arrow_schema(QUARANTINE))
