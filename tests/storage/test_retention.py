"""What goes and what stays, from names and when they were last used."""

from __future__ import annotations

import pytest

from routing_pipeline.storage.files import Entry
from routing_pipeline.storage.retention import Limits, unused


def entries(**idle_s: float) -> list[Entry]:
    return [Entry(name, 1_000.0 - idle) for name, idle in idle_s.items()]


@pytest.mark.parametrize(
    ("limits", "gone"),
    [
        (Limits(), []),
        (Limits(unused_s=20.0), ["c", "d"]),
        (Limits(most=1), ["b", "c", "d"]),
        (Limits(most=1, spare_s=20.0), ["c", "d"]),
        (Limits(unused_s=30.0, most=2, spare_s=20.0), ["c", "d"]),
        (Limits(unused_s=-1.0), ["a", "b", "c", "d"]),
    ],
)
def test_what_was_not_used_for_too_long_goes_and_sooner_where_there_are_many(limits: Limits, gone: list[str]) -> None:
    assert unused(entries(d=40.0, a=10.0, b=20.0, c=30.0), limits, now_s=1_000.0) == gone


def test_what_somebody_can_reach_stays_however_old_and_counts_among_the_most() -> None:
    found = unused(entries(a=1.0, b=2.0, c=3.0), Limits(most=1, unused_s=2.5), now_s=1_000.0, reachable={"a", "c"})
    assert found == ["b"]


def test_of_several_versions_the_one_used_last_counts() -> None:
    days = [Entry("days/1-old", 10.0), Entry("days/1-new", 20.0), Entry("days/2-a", 15.0), Entry("days/3-a", 5.0)]
    assert unused(days, Limits(most=2), now_s=30.0, same=lambda name: name.split("-")[0]) == ["days/1-old", "days/3-a"]
