"""Numbers as people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from routing_pipeline import text as wording
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.ingest.pace import _amount
from routing_pipeline.report import periods


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
        (999.994, "$999.99"),
        (999.996, "$1,000"),
        (0.99949, "$0.999"),
        (0.9996, "$1.00"),
        (0.09996, "$0.100"),
        (1e-14, "$0.00"),
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
        (9.9996, "1,000 %"),
        (0.9996, "100.0 %"),
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


@pytest.mark.parametrize(
    ("value", "told"),
    [(1.0, "1 day"), (0.96, "1 day"), (0.5, "0.5 days"), (0.04, "0.04 days"), (3.46, "3.5 days"), (99.96, "100 days"), (140.2, "140 days")],
)
def test_days(value: float, told: str) -> None:
    assert wording.days(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3.21, "3.2 ms"),
        (950.4, "950 ms"),
        (12_345.0, "12.3 s"),
        (9_999.7, "10.0 s"),
        (99.96, "100 ms"),
        (0.04, "0.04 ms"),
        (-5.0, "\N{MINUS SIGN}5.0 ms"),
    ],
)
def test_times(value: float, told: str) -> None:
    assert wording.ms(value) == told


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("move 68% of 1,000.5%", "move 68 % of 1,000.5 %"),
        ("(-77.3% to +4%).", "(\N{MINUS SIGN}77.3 % to +4 %)."),
        ("s3://logs/a%20b/5%/c", "s3://logs/a%20b/5%/c"),
        ("68 % stays", "68 % stays"),
    ],
)
def test_a_share_reads_alike_whoever_wrote_the_sentence(text: str, read: str) -> None:
    assert wording.spaced(text) == read


FORMS = {
    "usd": (wording.usd, 1.0, 0.0051),
    "signed_usd": (wording.signed_usd, 1.0, 0.0051),
    "usd_per_1000": (wording.usd_per_1000, 1000.0, 0.0051),
    "number": (wording.number, 1.0, 0.051),
    "terse": (wording.terse, 1.0, 0.51),
    "tenths": (wording.tenths, 1.0, 0.051),
    "count": (wording.count, 1.0, 0.51),
    "percent": (wording.percent, 100.0, 0.51),
    "change": (wording.change, 100.0, 0.51),
    "points": (wording.points, 100.0, 0.051),
    "size_in_points": (wording.size_in_points, 100.0, 0.051),
    "of_100": (wording.of_100, 100.0, 0.051),
    "size_of_100": (wording.size_of_100, 100.0, 0.0051),
    "ms": (wording.ms, 1.0, 0.0),
    "days": (wording.days, 1.0, 0.51),
}
"""Every form of a number, what its unit multiplies by, and the most that it may round off of 1."""
MAGNITUDES = st.builds(lambda digits, exponent: digits * 10.0**exponent, st.floats(1.0, 9.999_999), st.integers(-14, 8))
NEAR_POWERS = st.builds(
    lambda exponent, less: 10.0**exponent * (1 - less), st.integers(-6, 7), st.sampled_from([0.0, 1e-6, 3e-5, 4e-4, 6e-4, 5e-3])
)
SIZES = MAGNITUDES | NEAR_POWERS


def read_back(told: str) -> float:
    """The number that a reader takes a text for."""
    found = re.search(r"[\d,]*\.?\d+", told)
    assert found is not None
    seconds = 1000.0 if told.endswith(" s") else 1.0
    return float(found[0].replace(",", "")) * seconds


@pytest.mark.parametrize("form", FORMS)
@given(size=SIZES)
def test_a_number_of_any_magnitude_is_written_as_numbers_of_its_size_are(form: str, size: float) -> None:
    form_of, times, rounds = FORMS[form]
    told = form_of(size)
    digits = re.sub(r"[^\d.,]", "", told.removesuffix(" of 100"))
    assert not re.search(r"\d{4}", digits.partition(".")[0]), f"{told}: thousands are told apart"
    assert not re.fullmatch(r"0[\d,]+", digits.partition(".")[0]), told
    # From one on at most three digits and cents; below it three digits that mean something.
    decimals = digits.partition(".")[2]
    assert len(decimals.lstrip("0") if digits.startswith("0") else decimals) <= (2 if not digits.startswith("0") else 3), told
    if "<" not in told:
        error = abs(read_back(told) - size * times)
        assert error <= max(rounds, 0.0051 * size * times, 0.051 if told.endswith(("ms", " s")) else 0.0), told


@pytest.mark.parametrize("form", FORMS)
@given(size=SIZES)
def test_a_sign_stands_where_something_is_left_to_sign(form: str, size: float) -> None:
    form_of = FORMS[form][0]
    up, down = form_of(size), form_of(-size)
    assert down.lstrip(wording.MINUS) == up.lstrip("+")
    is_nothing = not re.search(r"[1-9]", up)
    assert not is_nothing or (up, down) == (up.lstrip("+"), up.lstrip("+"))
    assert wording.MINUS not in up


@pytest.mark.parametrize("form", FORMS)
@given(first=SIZES, second=SIZES)
def test_what_is_more_never_reads_as_less(form: str, first: float, second: float) -> None:
    form_of = FORMS[form][0]
    small, large = sorted((first, second))
    told = form_of(small), form_of(large)
    if not any("<" in each for each in told):
        assert read_back(told[0]) <= read_back(told[1]), told


@given(st.integers(-12, 8))
def test_a_whole_power_of_ten_has_no_digit_too_many(exponent: int) -> None:
    assert not re.search(r"\d{4}", wording.usd(10.0**exponent).partition(".")[0])
    assert re.sub(r"[^1-9]", "", wording.usd(10.0**exponent)) in {"1", ""}


@pytest.mark.parametrize(("days", "told"), [(0.0208, "0.5 hours"), (1 / 24, "1 hour"), (1.5, "36 hours"), (7.0, "7 days")])
def test_a_span_of_less_than_two_days_is_told_in_hours(days: float, told: str) -> None:
    assert periods.length(days) == told


@given(st.floats(1, 1e13))
def test_an_amount_of_bytes_never_reads_as_a_thousand_of_its_unit(size: float) -> None:
    assert float(_amount(size).split()[0]) < 1000 or size >= 1e12


def test_what_the_rounding_of_a_sum_leaves_is_nothing() -> None:
    assert (wording.usd(3e-14), wording.usd(-3e-14), wording.number(2e-13)) == ("$0.00", "$0.00", "0")
    assert wording.usd(2.5e-7) == "$0.000000250"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (
            "cost by -58.9 % (between -59.8 and -58.0 %)",
            "cost by \N{MINUS SIGN}58.9 % (between \N{MINUS SIGN}59.8 and \N{MINUS SIGN}58.0 %)",
        ),
        ("quality by -0.39 points (-0.72 to -0.07)", "quality by \N{MINUS SIGN}0.39 points (\N{MINUS SIGN}0.72 to \N{MINUS SIGN}0.07)"),
        (
            "gpt-4 of 2026-11-18, level-5 and s3://a/b-7 stay; so does --at -5",
            "gpt-4 of 2026-11-18, level-5 and s3://a/b-7 stay; so does --at -5",
        ),
    ],
)
def test_numbers_below_zero_have_a_true_minus_sign(written: str, read: str) -> None:
    assert wording.spaced(written) == read
