"""What became of each object: the rows of the ledger and of the quarantine.

Belongs here: the two tables that commit beside the data. Does not belong here: the commit, which objects are new (`backlog`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from routing_pipeline.ingest.objects import Source, StoredObject
from routing_pipeline.ingest.quarantine import Refused
from routing_pipeline.lake.side_tables import arrow_schema
from routing_pipeline.schema import LEDGER, QUARANTINE, REFUSED_FEEDBACK

if TYPE_CHECKING:
    import pyarrow as pa

UNKNOWN_FORMAT = "unknown"


@dataclass
class Account:
    """Records of one object version, records = ingested + quarantined + duplicates by construction; beside them what was left out."""

    formats: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def row(self) -> dict[str, Any]:
        """The counting columns of schema.LEDGER."""
        counts = {name: self.counts[name] for name in ("ingested", "quarantined", "duplicates")}
        found = ", ".join(sorted(self.formats)) or UNKNOWN_FORMAT
        left_out = {"left_out": self.left_out.total(), "left_out_as": " or ".join(sorted(self.left_out)) or None}
        return {"format": found, "records": sum(counts.values()), **counts, **left_out}


@dataclass(frozen=True)
class RefusedScore(Refused):
    """A refused score, with what it says of itself."""

    name: str | None = None
    value: float | None = None
    scale_min: float | None = None
    scale_max: float | None = None
    has_scale: bool | None = None


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
            "record": each.record,
            "records": each.records,
            "reason": each.reason,
            "excerpt": each.excerpt,
            "quarantined_at": int(now_s * 1e6),
        }
        for each in refused
    ]
    return pa.Table.from_pylist(rows, arrow_schema(QUARANTINE))


def refused_scores(
    objects: Sequence[StoredObject], refused: Iterable[RefusedScore], now_s: float, called: Callable[[StoredObject], str]
) -> pa.Table:
    """One row of schema.REFUSED_FEEDBACK per refused score, as `quarantine_rows`."""
    import pyarrow as pa

    every = list(refused)
    rows, schema = quarantine_rows(objects, every, now_s, called), arrow_schema(REFUSED_FEEDBACK)
    for column in schema.names[rows.num_columns :]:
        rows = rows.append_column(schema.field(column), pa.array([getattr(each, column) for each in every], schema.field(column).type))
    return rows
