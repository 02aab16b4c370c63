"""Names from logs, few and short enough that sums by name stay small whatever a log calls its models.

Belongs here: putting rare names together, cutting long ones. Does not belong here: what is summed by them (`hourly`).
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis

from routing_pipeline.window.engine import Engine

NAMES_KEPT = 100
"""Names of one kind that are kept apart within a data file or a day, the most frequent ones; the rest is `OTHERS`."""
OTHERS = "(other names)"
LONGEST_NAME = 200
"""Longer names are cut and told apart by a digest: sums stay small whatever a log calls its models."""


def short_names(rows: ibis.Table, names: Sequence[str]) -> ibis.Table:
    """Names of at most LONGEST_NAME characters, a longer one with eight digits of its md5 in place of its end."""
    return rows.mutate(
        **{
            name: ibis.ifelse(
                rows[name].length() > LONGEST_NAME,
                rows[name].substr(0, LONGEST_NAME - 9) + "-" + rows[name].hexdigest("md5").substr(0, 8),
                rows[name],
            )
            for name in names
        }
    )


def with_few_names(engine: Engine, sums: ibis.Table, names: Sequence[str], weight: str) -> ibis.Table:
    """Sums, held in the engine, whose rare names within a `unit` are OTHERS, so that a million are no more than a hundred."""
    held = engine.held(sums)
    counted = held.group_by("unit").agg(**{name: held[name].nunique() for name in names}).to_pyarrow()
    for name in names:
        if max(counted[name].to_pylist(), default=0) > NAMES_KEPT:
            held = _with_others(held, name, weight)
    return held


def _with_others(sums: ibis.Table, name: str, weight: str) -> ibis.Table:
    counted = sums.group_by("unit", name).agg(of=sums[weight].sum())
    order = ibis.window(group_by="unit", order_by=[counted.of.desc(), counted[name].asc()])
    rare = counted.mutate(place=ibis.row_number().over(order))
    rare = rare.filter(rare.place >= NAMES_KEPT, rare[name].notnull()).select(rare_unit="unit", rare_name=name)
    sums = sums.left_join(rare, [sums.unit == rare.rare_unit, sums[name] == rare.rare_name])
    return sums.mutate(**{name: ibis.ifelse(sums.rare_name.notnull(), ibis.literal(OTHERS), sums[name])}).drop("rare_unit", "rare_name")
