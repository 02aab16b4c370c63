"""What a person sees of a result in Dagster's UI."""

from __future__ import annotations

from datetime import UTC, datetime

from assets import shown
from routing_pipeline.estimates import Estimate, Result, Unidentifiable


class Line(Result):
    group: str
    cost_usd: float


class Grouping(Result):
    by: tuple[str, ...]
    lines: tuple[Line, ...]
    lines_not_listed: int = 0


class Costs(Result):
    total_usd: float
    quality: Estimate | Unidentifiable
    days_not_listed: int
    groupings: tuple[Grouping, ...]


COSTS = Costs(
    total_usd=143.23904342499998,
    quality=Unidentifiable(unidentifiable="no scores"),
    days_not_listed=0,
    groupings=(
        Grouping(by=("model",), lines=(Line(group="gpt|4o", cost_usd=1 / 3), Line(group="<b>", cost_usd=4_392_814.4))),
        Grouping(by=("team", "model"), lines=(Line(group="a", cost_usd=2.0),)),
    ),
)


def test_lists_within_lists_are_tables_of_their_own_named_by_what_they_are_about() -> None:
    seen = shown.result(COSTS)
    assert list(seen) == ["total_usd", "quality", "groupings: model", "groupings: team, model"]
    rows = [record.data for record in seen["groupings: model"].records]
    assert rows == [{"group": "gpt\\|4o", "cost_usd": 0.333333}, {"group": "&lt;b>", "cost_usd": 4_392_814.0}]


def test_numbers_have_the_digits_that_a_person_compares() -> None:
    seen = shown.result(COSTS)
    assert (seen["total_usd"].value, seen["quality"].value) == (143.239, "cannot tell: no scores")
    assert shown.text(datetime(2026, 11, 16, 7, 30, tzinfo=UTC)) == "2026-11-16 07:30"
