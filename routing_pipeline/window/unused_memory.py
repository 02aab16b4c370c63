"""Memory that this process used and uses no more, handed back to the system.

Belongs here: how. Does not belong here: what DuckDB may hold (`storage.memory_limit`), when it is about to fill that (`engine`).

Arrow's pool and the C library keep what was freed for whoever asks next. DuckDB, which has an allocator of its own, never does: what
they keep comes on top of its limit, 400 MB where the cells of 20 million rows have just been read.
"""

from __future__ import annotations

import ctypes
import os

import pyarrow as pa


def give_back_memory() -> None:
    """Let the system have it; takes milliseconds."""
    pa.default_memory_pool().release_unused()
    # Of glibc; where there is another C library there is no such function.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
