"""What each DuckDB of a process may hold in memory before it spills.

Belongs here: the limit and the variable that sets it. Does not belong here: opening a DuckDB (`window.engine`, `ingest.batch`).
"""

from __future__ import annotations

import os
import re

from routing_pipeline.errors import UnusableInputError

VARIABLE = "ROUTING_PIPELINE_MEMORY_LIMIT"
MEMORY_LIMIT = "1GB"
"""Where the variable says nothing."""
OUT_OF_MEMORY = "OutOfMemoryException"
"""What DuckDB raises that cannot spill what it needs."""
LEAST_MB = 500.0
"""With less, DuckDB cannot hold the lines of log that its threads work on."""
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(MB|GB|TB|MiB|GiB|TiB)", re.IGNORECASE)
_MB = {"mb": 1.0, "gb": 1e3, "tb": 1e6, "mib": 1.048576, "gib": 1073.741824, "tib": 1099511.627776}


def memory_limit() -> str:
    """As DuckDB takes it, from ROUTING_PIPELINE_MEMORY_LIMIT.

    Raises:
        UnusableInputError: that is no size, or less than LEAST_MB.
    """
    said = os.environ.get(VARIABLE, "").strip()
    if not said:
        return MEMORY_LIMIT
    if _SIZE.fullmatch(said) is None or megabytes(said) < LEAST_MB:
        raise UnusableInputError(f"{VARIABLE}={said}: give a size of at least {LEAST_MB:.0f} MB, such as 1GB or 750MB")
    return said


def megabytes(size: str) -> float:
    """A size as DuckDB takes it, in megabytes of 1,000,000 bytes. Raises ValueError where it is none."""
    found = _SIZE.fullmatch(size)
    if found is None:
        raise ValueError(f"{size} is no size")
    return float(found[1]) * _MB[found[2].lower()]
