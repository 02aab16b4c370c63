"""How many names an analysis spells out: the largest by traffic, all others under one name.

Belongs here: keeping aggregates small when a log holds thousands of model or task names, as a hostile or broken one does.
Does not belong here: shortening or escaping a name (the report does that).
"""

from __future__ import annotations

import ibis

LISTED = 50
"""Names of one column that are spelled out."""
OTHERS = "(others)"


def fold_rare(requests: ibis.Table, column: str, distinct: int, *, keep: int = LISTED) -> ibis.Table:
    """Rename all but the `keep` most frequent names of a text column to `(others)`; null stays null.

    Asks the engine only when `distinct`, the number of names known to be in the column, is above `keep`.
    """
    if distinct <= keep:
        return requests
    counted = requests.filter(requests[column].notnull()).group_by(column).agg(n=lambda t: t.count())
    largest = counted.order_by(ibis.desc("n"), column).limit(keep).to_pyarrow().to_pylist()
    names = [row[column] for row in largest]
    is_rare = requests[column].notnull() & ~requests[column].isin(names)
    return requests.mutate(**{column: ibis.ifelse(is_rare, OTHERS, requests[column])})
