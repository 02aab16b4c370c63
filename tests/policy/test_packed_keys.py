"""Keys that stand in one number come apart as they were, on both sides of where one number is full."""

from __future__ import annotations

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.policy.packed_keys import packed_keys, unpacked, with_packed

WIDE = range(-1, 2**20)


@pytest.mark.parametrize(
    ("keys", "columns"),
    [
        ({"cluster": range(256), "level": range(-2, 5), "arm": range(9)}, 1),
        ({"one": WIDE, "two": WIDE, "three": WIDE}, 2),
        ({"only": range(1)}, 1),
    ],
)
def test_groups_of_packed_keys_are_the_groups_of_the_keys(keys: dict[str, range], columns: int) -> None:
    rng = np.random.default_rng(5)
    drawn = {name: rng.integers(values.start, values.stop, 400) for name, values in keys.items()}
    ends = {name: np.array([values.start, values.stop - 1]) for name, values in keys.items()}
    rows = ibis.memtable(pa.table({name: np.concatenate([drawn[name], ends[name], ends[name]]) for name in keys}))
    packed = packed_keys(keys)
    assert len(packed) == columns
    found = unpacked(with_packed(rows, packed).group_by(*packed).agg(n=lambda table: table.count()), packed)
    expected = rows.group_by(*keys).agg(n=rows.count())
    order = (*keys, "n")
    assert found.select(*order).order_by(order).to_pyarrow().equals(expected.select(*order).order_by(order).to_pyarrow())
