"""What is said of a record, or of a table's header, that no log format knows.

Belongs here: which of its names are shown, which known format it comes close to, what can be done. Does not belong here:
telling formats (`formats`), taking records out of what wraps them (`shapes`).

Names of fields come from logs: only what looks like a name is shown, shortened, and never a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from routing_pipeline.ingest.formats import FORMATS
from routing_pipeline.ingest.formats.log_format import LogFormat

MOST_NAMES = 8
LEAST_SHARED = 3
"""Fields that a record must share with a format to be told as close to it; two of them every log has."""
WHAT_TO_DO = "name its format with --format, or describe it in a TOML file (docs/formats.md)"
_NAME = re.compile(r"@?[A-Za-z_](?!.*\d{5})[A-Za-z0-9_.:-]{0,39}")


def unknown_record(names: Iterable[str]) -> str:
    """Why a record with these fields cannot be used."""
    return _record_said(tuple(names))


@lru_cache(maxsize=4_096)
def _record_said(names: tuple[str, ...]) -> str:
    # Whole files of them have the same names.
    return _said("no known log format", "fields", names, None)


def unknown_table(names: Iterable[str], kind: str, asked: LogFormat | None = None) -> str:
    """Why the rows of a table with these columns cannot be used; `kind` is CSV or Parquet."""
    of = "no known log format" if asked is None else asked.name
    return _said(
        f"{kind} whose columns are those of {of}" if asked is None else f"{kind} without the columns of {of}",
        "columns",
        tuple(names),
        asked,
    )


def _said(what: str, called: str, names: Sequence[str], asked: LogFormat | None) -> str:
    if not names:
        return f"{what}: it has no {called}"
    near = None if asked is not None else _nearest(names)
    return f"{what}: its {called} are {_shown(names)}{'' if near is None else f'; nearest is {near}'}; {WHAT_TO_DO}"


def _shown(names: Sequence[str]) -> str:
    shown = [name if _NAME.fullmatch(name) else "***" for name in names[:MOST_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(dict.fromkeys(shown)) + (f" and {more} more" if more else "")


def _nearest(names: Sequence[str]) -> str | None:
    """The format that knows most of the fields, with what a record of it has and this one has not."""
    held = set(names)
    shared, _, near = max(
        ((len(held & each.columns_read), -place, each) for place, each in enumerate(FORMATS)), key=lambda found: found[:2]
    )
    if shared < max(LEAST_SHARED, len(held) / 2):
        return None
    missing = min((keys - held for keys in near.keys), key=len)
    others = sorted(near.lacks & held)
    if missing:
        return f"{near.name}, which has {', '.join(sorted(missing))} too"
    return f"{near.name}, which has no {', '.join(others)}" if others else near.name
