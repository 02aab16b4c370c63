"""Numbers, dates and names as people read them.

Belongs here: formatting of one value; the same for Markdown, HTML and charts, so that a number never reads differently
in two places; and the type of a name that comes from a log. Does not belong here: escaping (`markdown`, `html`), deciding
what is said (`headline`, the templates).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from routing_pipeline.clock import SECONDS_PER_DAY, WEEKDAYS
from routing_pipeline.estimates import LEVEL, Estimate, Unidentifiable
from routing_pipeline.schema import Operation

LONGEST_TEXT = 900
"""A sentence with names from logs in it may be as long as the longest name; it is read by people."""
MAX_NAME = 60
"""Longest name from logs that a table or a chart shows; report.json has it whole."""
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EM DASH}"
CANNOT_TELL = "cannot tell"
DECIMALS = 12
LEAST = 1e-11
"""What is less is what sums of floating-point numbers leave over."""

FROM_LOG = "x-from-log"
"""Keyword of the JSON Schema of whatever comes from a log."""

_HIDDEN = re.compile("[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")

_PERCENT = re.compile(r"(?<![\w/])([\d.,]*\d)%(?![\w%])")
# A blank is part of every case, and no address holds one.
_NEGATIVE = re.compile(r"(?<=[ (])-(?=\d+(?:\.\d+)?(?: %| points| and [+-]| to [+-]))|(?<= )-(?=\d+(?:\.\d+)?\))")

Value = Estimate | Unidentifiable | float | int | None


class LogName(str):
    """A name that a log, a score or a rule handed over holds: a model, a task, a team, an object. Data, never words of ours.

    In every other way a `str`. Fields of results are declared with it, so that whoever renders a result (Markdown, HTML, MCP, the
    live page) knows by type what has to be escaped, shortened or marked. Its JSON Schema says `x-from-log`.
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), FROM_LOG: True}


Format = Callable[[float], str]


def printable(text: object) -> str:
    """One line without control or direction-changing characters: those could hide or reorder what a reader sees."""
    kept = (" " if unicodedata.category(each) in {"Cc", "Zl", "Zp"} else each for each in str(text) if unicodedata.category(each) != "Cf")
    return " ".join("".join(kept).split())


def visible(text: str) -> str:
    """JSON in which characters that hide, reorder or steer are written as escapes: the same to a machine, inert in a terminal."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def name(text: object, longest: int = MAX_NAME) -> str:
    """A name from logs, shortened to what fits."""
    # Cut first: a name may be megabytes long, and blanks and hidden characters in it may shorten it later.
    line = printable(str(text)[: 8 * longest])
    return line if len(line) <= longest else line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _signed(value: float, digits: str) -> str:
    return f"{MINUS}{digits}" if value < 0 and _is_something(digits) else digits


def _is_something(digits: str) -> bool:
    """Whether anything is left of a number once it is rounded."""
    return any(each in "123456789" for each in digits)


def _reaches(size: float, limit: float, decimals: int) -> bool:
    """Whether a size reads as the limit or more once it is rounded: what reads as 1,000 is written like 1,000."""
    return round(size, decimals) >= limit


def _small(size: float, digits: int = 3) -> str:
    """A size below 1 with so many significant digits and without an exponent; 0 for what floating-point sums leave over."""
    if size < LEAST:
        return "0"
    exponent = int(f"{size:.{digits - 1}e}".partition("e")[2])
    return f"{size:.{min(digits - 1 - exponent, DECIMALS)}f}"


def number(value: float) -> str:
    """1,234 or 12.3 or 0.0123."""
    size = abs(value)
    if _reaches(size, 100, 1) or value == int(value):
        return _signed(value, f"{size:,.0f}")
    return _signed(value, f"{size:.1f}" if _reaches(size, 1, 3) else _small(size))


def usd(value: float) -> str:
    """$1,234 or $12.34 or $0.0123."""
    size = abs(value)
    if _reaches(size, 1_000, 2):
        return _signed(value, f"${size:,.0f}")
    return _signed(value, f"${size:.2f}" if _reaches(size, 1, 3) or size < LEAST else f"${_small(size)}")


KINDS: Mapping[Operation, str] = {
    "chat": "chat",
    "embedding": "embeddings",
    "rerank": "reranking",
    "image": "images",
    "transcription": "transcription",
    "speech": "speech",
    "moderation": "moderation",
    "batch": "batches",
    "tool": "tools",
    "other": "other calls",
}
"""Kinds of call as a reader knows them."""


def signed_usd(value: float) -> str:
    """A change of cost with its sign: +$12.34 or -$12.34."""
    return f"+{usd(value)}" if value > 0 and _is_something(usd(value)) else usd(value)


def spaced(text: str) -> str:
    """68 % and a true minus sign throughout: sentences of other parts write 68% and -0.4. What stands in a word or an address stays."""
    return _NEGATIVE.sub(MINUS, _PERCENT.sub("\\1 %", text))


def tenths(value: float) -> str:
    """12.3, always with one decimal."""
    return _signed(value, f"{abs(value):,.1f}")


def usd_per_1000(value: float) -> str:
    """A cost per request as dollars per 1,000 requests, where dollars per request are too small to read."""
    return usd(value * 1000)


def percent(share: float, decimals: int = 1) -> str:
    """A share (0..1) as 12.3 %; a tiny one keeps a digit that is not zero."""
    size = abs(share) * 100
    if decimals > 1:
        return _signed(share, f"{size:,.{decimals}f} %")
    if LEAST < size < 0.001:
        return f"{MINUS if share < 0 else ''}<0.001 %"
    digits = f"{size:,.0f}" if _reaches(size, 1_000, 1) else f"{size:.1f}" if size >= 0.05 or size < LEAST else _small(size, 1)
    return _signed(share, f"{digits.removesuffix('.0') if digits == '0.0' or size == 100.0 else digits} %")


def chance(probability: float) -> str:
    """A probability: 12.3 %; below 0.1 % or above 99.9 % the approximation behind it says no more than that."""
    if probability < 0.001:
        return "<0.1 %"
    return ">99.9 %" if probability > 0.999 else percent(probability)


def change(share: float, decimals: int = 1) -> str:
    """A relative change with its sign: +12.3 % or -12.3 %; none at all is 0 %."""
    told = percent(share, decimals)
    return f"+{told}" if share > 0 and _is_something(told) else told


_BY_DECIMALS: tuple[Callable[..., str], ...] = (percent, change)


def fitting(form: Format, value: Estimate) -> Format:
    """The format with decimals enough that the ends of a narrow interval do not read the same."""
    width = (value.high - value.low) * 100
    known = next((each for each in _BY_DECIMALS if each is form), None)
    if known is None or width >= 0.2 or width <= 0:
        return form
    return partial(known, decimals=min(max(-math.floor(math.log10(width)), 1), 4))


def score(value: float) -> str:
    """A quality, 0..1."""
    return _signed(value, f"{abs(value):.3f}")


def points(difference: float) -> str:
    """A difference of qualities with its sign, in points of 0.01."""
    size = abs(difference) * 100
    digits = f"{size:,.1f}" if _reaches(size, 10, 2) else f"{size:.2f}"
    sign = "" if not _is_something(digits) else "+" if difference > 0 else MINUS
    return f"{sign}{digits} points"


def size_in_points(difference: float) -> str:
    """The size of a difference of qualities, where its direction is said in words."""
    return points(abs(difference)).removeprefix("+")


def ms(value: float) -> str:
    """Milliseconds; from ten seconds on, seconds."""
    size = abs(value)
    if _reaches(size, 10_000, 0):
        return _signed(value, f"{size / 1000:,.1f} s")
    if _reaches(size, 100, 1):
        return _signed(value, f"{size:,.0f} ms")
    return _signed(value, f"{size:.1f} ms" if size >= 0.05 or size < LEAST else f"{_small(size, 1)} ms")


def terse(value: float) -> str:
    """1 or 3.5 or 140 or 0.04: no digit that says nothing."""
    size = abs(value)
    digits = f"{size:,.0f}" if _reaches(size, 100, 1) else f"{size:.1f}".removesuffix(".0") if size >= 0.05 else _small(size, 1)
    return _signed(value, digits)


def days(value: float) -> str:
    """1 day, 3.5 days, 12 days, 0.04 days."""
    digits = terse(value)
    return f"{digits} day" if digits.lstrip(MINUS) == "1" else f"{digits} days"


def count(value: float) -> str:
    """1,234."""
    return _signed(value, f"{abs(value):,.0f}")


def counted(value: int, noun: str) -> str:
    """1 request, 2 requests."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def whole_percent(share: float) -> str:
    """A share (0..1) as 12 %, where decimals would distract."""
    return f"{100 * share:.0f} %"


def interval(value: Estimate, form: Format) -> str:
    """An interval in brackets; a unit that all three numbers end with is said once, at the estimate."""
    form = fitting(form, value)
    estimate, low, high = form(value.estimate), form(value.low), form(value.high)
    _, space, unit = estimate.partition(" ")
    if space and low.endswith(f" {unit}") and high.endswith(f" {unit}"):
        low, high = low.removesuffix(f" {unit}"), high.removesuffix(f" {unit}")
    level = "" if value.level == LEVEL else f" at {percent(value.level)}"
    return f"[{low}, {high}]{level}"


def measured(value: Value, form: Format, *, brief: bool = False) -> str:
    """A number with its interval in brackets, or why there is none; `brief` leaves the reason to another place.

    An interval of no width is how "nothing changes" reads: the number is exact and needs no brackets.
    """
    if value is None:
        return NONE
    if isinstance(value, Unidentifiable):
        return CANNOT_TELL if brief else f"{CANNOT_TELL}: {name(value.unidentifiable, LONGEST_TEXT)}"
    if not isinstance(value, Estimate):
        return form(value)
    if value.low == value.high:
        return form(value.estimate)
    return f"{fitting(form, value)(value.estimate)} {interval(value, form)}"


def likely(value: Value, form: Format) -> str | None:
    """The interval in plain words, for readers who do not read brackets; None for what is exact or cannot be told."""
    if not isinstance(value, Estimate) or value.low == value.high:
        return None
    form = fitting(form, value)
    return f"likely between {form(value.low)} and {form(value.high)}"


def plainly(value: Value, form: Format, then: str = "") -> str:
    """A number with what it counts and its interval in plain words: $7.05 per call (likely between $6.97 and $7.13)."""
    shown = measured(value, form, brief=True) if not isinstance(value, Estimate) else fitting(form, value)(value.estimate)
    between = likely(value, form)
    return " ".join(part for part in (shown, then, None if between is None else f"({between})") if part)


def of_scored(share: float) -> str:
    """What part of the answers a mean of quality speaks of, to follow it; nothing where it speaks of all, or of none."""
    return "" if share > 0.9995 or share <= 0 else f", of the {percent(share)} of answers whose models and teams are scored"


def of_100(difference: float) -> str:
    """A difference of qualities with its sign, on a scale of 100: -0.65."""
    return points(difference).removesuffix(" points")


def size_of_100(difference: float) -> str:
    """The size of such a difference where its direction is said in words: 1 point of 100, 0.65 points of 100."""
    digits = f"{abs(difference) * 100:,.2f}".rstrip("0").rstrip(".")
    return f"{digits} point{'' if digits == '1' else 's'} of 100"


def from_seconds(seconds: float) -> datetime:
    """A moment from seconds since 1970-01-01 UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def moment(value: datetime | str | float) -> str:
    """16 Nov 2026 09:00 UTC."""
    when = value if isinstance(value, datetime) else from_seconds(value) if isinstance(value, int | float) else _parsed(value)
    if when is None:
        return name(value)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return f"{when.day} {when:%b %Y %H:%M} UTC"


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def day(days_since_1970: float) -> str:
    """Mon 16 Nov."""
    when = from_seconds(days_since_1970 * SECONDS_PER_DAY)
    return f"{when:%a} {when.day} {when:%b}"


def hour_of_week(hour: int) -> str:
    """Monday 09:00 to 10:00 UTC."""
    return f"{WEEKDAYS[hour // 24 % 7]} {hour % 24:02d}:00 to {(hour + 1) % 24:02d}:00 UTC"


def listed(items: tuple[str, ...] | list[str], most: int = 8) -> str:
    """a, b and c; a long list is cut and the rest counted."""
    shown = [name(each) for each in items[:most]]
    if len(items) > most:
        return f"{', '.join(shown)} and {len(items) - most} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"


def clauses(items: tuple[str, ...], most: int = 4) -> str:
    """Sentences as the clauses of one: a; b; c."""
    shown = [name(each, LONGEST_TEXT).rstrip(".") for each in items[:most]]
    return "; ".join(shown + ([f"{len(items) - most} more"] if len(items) > most else [])) or "none named"
