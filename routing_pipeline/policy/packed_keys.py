"""Several small whole numbers in one: an engine groups rows by one column several times as quickly as by ten.

Belongs here: putting keys together for a `group_by`, and taking them apart again. Does not belong here: what rows are grouped by
(`policy.decided_sums`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import ibis

_EXACT = 2**53
"""Whole numbers below are exact on every engine, whatever it divides them by."""
Packed = dict[str, dict[str, range]]
"""Which keys stand in a column, by its name, each with the values that it may have."""


def packed_keys(keys: Mapping[str, range]) -> Packed:
    """Columns for these keys, as few as hold them; `keys`: the values that each may have, without a step."""
    found: list[dict[str, range]] = [{}]
    for name, values in keys.items():
        if math.prod(map(len, found[-1].values())) * len(values) > _EXACT:
            found.append({})
        found[-1][name] = values
    return {f"packed_{place}": packed for place, packed in enumerate(found)}


def with_packed(rows: ibis.Table, packed: Packed) -> ibis.Table:
    """Rows with the columns of `packed_keys` beside the keys."""
    numbers = {}
    for column, keys in packed.items():
        number = ibis.literal(0, "int64")
        for name, values in keys.items():
            number = number * len(values) + (rows[name].cast("int64") - values.start)
        numbers[column] = number
    return rows.mutate(**numbers)


def unpacked(table: ibis.Table, packed: Packed) -> ibis.Table:
    """A table that was grouped by such columns with the keys in their place, all of them whole numbers."""
    found = {}
    for column, keys in packed.items():
        below = 1
        for name, values in reversed(keys.items()):
            found[name] = ((table[column] // below) % len(values) + values.start).cast("int64")
            below *= len(values)
    return table.mutate(**found).drop(*packed)
