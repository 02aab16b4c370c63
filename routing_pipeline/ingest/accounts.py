"""What became of each object: the rows of the ledger and of the quarantine.

Belongs here: the two tables that commit beside the data. Does not belong here: the commit, which objects are new (`backlog`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from routing_pipeline.ingest.lake import arrow_schema
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
