"""Numbers as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.report import wording


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1234.4, "$1,234"),
        (12.345, "$12.35"),
        (0.0, "$0.00"),
        (0.0123456, "$0.0123"),
        (0.00000123, "$0.00000123"),
        (-5.0, "\N{MINUS SIGN}$5.00"),
        (-1_234_567.0, "\N{MINUS SIGN}$1,234,567"),
    ],
)
def test_dollars(value: float, told: str) -> None:
    assert wording.usd(value) == told


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.123, "12.3 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.0004, "0.04 %"),
        (0.0000001, "<0.001 %"),
        (-0.2, "\N{MINUS SIGN}20.0 %"),
        (12.0, "1,200 %"),
    ],
)
def test_shares(share: float, told: str) -> None:
    assert wording.percent(share) == told


def test_a_change_always_shows_its_sign_unless_there_is_none() -> None:
    assert [wording.change(share) for share in (0.1, -0.1, 0.0)] == ["+10.0 %", "\N{MINUS SIGN}10.0 %", "0 %"]
    assert [wording.points(difference) for difference in (0.0042, -0.0042, 0.0)] == [
        "+0.42 points",
        "\N{MINUS SIGN}0.42 points",
        "0.00 points",
    ]


def test_an_interval_says_a_unit_once_and_another_level_aloud() -> None:
    value = Estimate(estimate=0.5, low=0.4, high=0.6)
    assert wording.measured(value, wording.percent) == "50.0 % [40.0, 60.0]"
    assert wording.measured(value, wording.usd) == "$0.500 [$0.400, $0.600]"
    assert wording.measured(value.model_copy(update={"level": 0.9}), wording.percent) == "50.0 % [40.0, 60.0] at 90.0 %"


def test_a_narrow_interval_has_ends_that_read_apart() -> None:
    assert wording.measured(Estimate(estimate=0.998, low=0.9976, high=0.9983), wording.percent) == "99.80 % [99.76, 99.83]"


def test_an_exact_number_has_no_brackets_and_ignorance_has_a_reason() -> None:
    assert wording.measured(Estimate(estimate=0.0, low=0.0, high=0.0), wording.change) == "0 %"
    unknown = Unidentifiable(unidentifiable="no\nscores")
    assert wording.measured(unknown, wording.percent) == "cannot tell: no scores"
    assert wording.measured(unknown, wording.percent, brief=True) == "cannot tell"


def test_chances_near_the_ends_claim_no_more_than_the_approximation_can() -> None:
    assert [wording.chance(value) for value in (0.0, 1e-9, 0.05, 1.0)] == ["<0.1 %", "<0.1 %", "5.0 %", ">99.9 %"]


def test_moments_are_utc() -> None:
    assert wording.moment(datetime(2026, 11, 16, 9, 5, tzinfo=UTC)) == "16 Nov 2026 09:05 UTC"
    assert wording.moment("2026-11-16T10:05:00+01:00") == "16 Nov 2026 09:05 UTC"
    assert wording.moment("<not a date>") == "<not a date>"
    assert wording.hour_of_week(24 + 9) == "Tuesday 09:00 to 10:00 UTC"


def test_names_are_one_line_without_hidden_characters_and_fit() -> None:
    assert wording.name("a\nb\u202e\u0000c") == "ab c".replace("ab", "a b")
    assert len(wording.name("x" * 1_000_000)) == wording.MAX_NAME


@pytest.mark.parametrize(("value", "told"), [(1.0, "1 day"), (3.46, "3.5 days"), (140.2, "140 days")])
def test_days(value: float, told: str) -> None:
    assert wording.days(value) == told


@pytest.mark.parametrize(("value", "told"), [(3.21, "3.2 ms"), (950.4, "950 ms"), (12_345.0, "12.3 s"), (-5.0, "\N{MINUS SIGN}5.0 ms")])
def test_times(value: float, told: str) -> None:
    assert wording.ms(value) == told


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("move 68% of 1,000.5%", "move 68 % of 1,000.5 %"),
        ("(-77.3% to +4%).", "(-77.3 % to +4 %)."),
        ("s3://logs/a%20b/5%/c", "s3://logs/a%20b/5%/c"),
        ("68 % stays", "68 % stays"),
    ],
)
def test_a_share_reads_alike_whoever_wrote_the_sentence(text: str, read: str) -> None:
    assert wording.spaced(text) == read
