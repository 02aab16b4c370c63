"""Names that a window's logs hold and that could read as something else, wherever a text of ours may mention them.

Belongs here: which columns hold names, and finding those of them that a text mentions. Does not belong here: marking them (`untrusted`).

A sentence does not say which of its words came from a log, and the fields beside it need not name them either: a plan's item
speaks of a team and has no field for it. So the logs are asked. A log may hold more names than fit into memory: they pass by,
and those stay that the texts mention.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import ibis

from routing_pipeline.lake.table import Lake
from routing_pipeline.schema import KEPT_FEEDBACK, REQUEST_LOG, Column
from routing_pipeline.serving.mcp.untrusted import LONGEST_KNOWN, LONGEST_PLAIN, is_plain, mentions_in
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine

_NO_NAMES = frozenset({"attempt_id", "request_id", "session_id", "user_hash", "status", "operation", "routing_reason", "source_format"})
"""Texts that are ours, or that no result holds outside of fields of their own."""
_ODD = "[^A-Za-z0-9_.:/@+-]"
"""Every name that is not plain for its characters has one of these, and some that are plain do too."""
_AT_ONCE = 10_000


def mentioned(home: Home, engine_name: str, start_s: float, end_s: float, texts: Iterable[str]) -> tuple[str, ...]:
    """Names in the logs of [start_s, end_s] and in scores that are not plain and that one of the texts mentions; cut to LONGEST_KNOWN."""
    lake, mentions = Lake(home), mentions_in(texts)
    tables = ((lake.attempt_files(start_s, end_s), REQUEST_LOG), (lake.feedback_files(), KEPT_FEEDBACK))
    found: set[str] = set()
    with open_engine(engine_name, spill_to=home.scratch / "spill") as engine:
        for files, columns in tables:
            if files:
                found.update(name for name in _passing(engine.read_parquet(files), columns) if mentions(name))
    return tuple(sorted(found))


def _passing(rows: ibis.Table, columns: tuple[Column, ...]) -> Iterator[str]:
    """Distinct names of the columns that are not plain, a few at a time."""
    named = [column.name for column in columns if column.type == "text" and column.name not in _NO_NAMES and column.name in rows.columns]
    # Cut first: a name may be megabytes long.
    names = [rows.select(name=rows[column].substr(0, LONGEST_KNOWN)) for column in named]
    odd = (each.filter(each.name.re_search(_ODD) | (each.name.length() > LONGEST_PLAIN)) for each in names)
    for batch in ibis.union(*odd, distinct=True).to_pyarrow_batches(chunk_size=_AT_ONCE):
        yield from (name for name in batch.column(0).to_pylist() if not is_plain(name))
