"""What is cleared up: what nobody can reach any more and nobody has used in a while.

Belongs here: the decision, from names, when each was last used, and which of them somebody can still reach. Does not belong
here: where it lies and how it goes (`files`, `bucket`), what reaches what (`window.retention`, `runs`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from routing_pipeline.storage.files import Entry


@dataclass(frozen=True)
class Limits:
    """How long files of one kind are kept, and how many."""

    unused_s: float = math.inf
    """What was not used for longer goes."""
    most: int | None = None
    """So many are kept, the most recently used first; the others are spare. None: however many there are."""
    spare_s: float = -math.inf
    """What is spare goes as soon as it was not used for longer than this."""


def unused(
    entries: Iterable[Entry],
    limits: Limits,
    *,
    now_s: float,
    reachable: Collection[str] = frozenset(),
    same: Callable[[str], str] = str,
) -> list[str]:
    """Names of the entries that go, the most recently used first; never one that is reachable.

    Args:
        entries: with when each was last used (`modified_s`), in any order.
        limits: how long and how many.
        now_s: seconds since 1970.
        reachable: names that stay, whatever their age.
        same: what a name is a version of. Of several versions the most recently used counts, and the others are spare.
    """
    seen: set[str] = set()
    gone = []
    for entry in sorted(entries, key=lambda entry: (-entry.modified_s, entry.name)):
        what = same(entry.name)
        is_spare = what in seen or (limits.most is not None and len(seen) >= limits.most)
        seen.add(what)
        idle_s = now_s - entry.modified_s
        is_over = idle_s > limits.unused_s or (is_spare and idle_s > limits.spare_s)
        if is_over and entry.name not in reachable:
            gone.append(entry.name)
    return gone
