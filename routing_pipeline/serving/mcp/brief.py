"""An answer as short as an agent needs it first, and the rest of it in pages.

Belongs here: what of a result is left out of a brief answer, pages of its lists, the loose schema that fits all of them. Does not belong
here: what is computed (`computing`), lines for people (`text`).

What a model is handed stands in its context from then on. A brief answer holds every number that is no item of a list, and of the lists
their first items, as many as fit; `left_out` counts the others by their path. Nothing is rounded in a full answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.serving.mcp.answer import Answer
from routing_pipeline.text import counted

BRIEF, FULL = "brief", "full"
DETAILS = (BRIEF, FULL)
MOST_CHARACTERS = 3_800
"""Of a brief answer, of its text as of its structure."""
PAGE_ITEMS = 20
DIGITS = 6
"""Significant ones of a number in a brief answer."""
LEFT_OUT = "left_out"
_USUAL = {"level": 0.95}
"""Values that are not said where they are the usual ones."""
_LATER = frozenset({"rationale", "validation_criteria", "assumptions", "schema_version", "degrees"})
"""Fields that a brief answer leaves to the full one wherever they stand."""

_OF_AN_ITEM: Mapping[str, frozenset[str]] = {
    "rules": frozenset({"id", "per", "when", "route", "risk"}),
    "impacts": frozenset({"rule_id", "share", "saving_usd_per_day", "quality_change"}),
    "walk": frozenset({"label", "passed", "cost_change", "quality_change"}),
    "performances": frozenset({"task_type", "model", "requests", "quality_adjusted", "cost_usd_adjusted", "reliability"}),
    "opportunities": frozenset({"label", "model", "saving_usd", "requests"}),
    "items": frozenset({"id", "title", "phase", "impact_level", "effort", "risk", "expected_impact"}),
    "lines": frozenset({"group", "requests", "cost_usd", "share", "per_request_usd"}),
}
"""Of the items of these lists a brief answer says what they are and what they do."""
_WORTH = {"rules": 0.15, "rule_set": 0.15, "performances": 0.4, "lines": 0.5, "items": 0.5, "reasons": 0.3}
"""What an answer is about goes last: its size counts for so much when it is chosen what is cut."""


def read_detail(given: dict[str, Any]) -> tuple[str, int | None]:
    """Take `detail` and `page` out of the arguments of a call.

    Raises:
        UnusableInputError: they say nothing usable; the message says what is allowed.
    """
    detail, page = given.pop("detail", None) or FULL, given.pop("page", None)
    if detail not in DETAILS:
        raise UnusableInputError(f"detail: one of {', '.join(DETAILS)} (got {json.dumps(str(detail)[:40], ensure_ascii=False)})")
    if page is None:
        return detail, None
    text = str(page).strip()
    if isinstance(page, bool) or not text.isdecimal() or not 1 <= int(text[:6]) <= 999:
        raise UnusableInputError(
            f"page: a whole number from 1, of {PAGE_ITEMS} items of each list (got {json.dumps(text[:40], ensure_ascii=False)})"
        )
    return FULL, int(text)


def detailed(answer: Answer, detail: str, page: int | None) -> Answer:
    """The answer as it was asked for."""
    if page is not None:
        return _paged(answer, page)
    if detail == FULL:
        return answer
    structured, left_out = brief(answer.structured)
    return replace(answer, text=_cut_text(answer.text), structured=structured | ({LEFT_OUT: left_out} if left_out else {}))


def brief(content: Mapping[str, Any], most: int = MOST_CHARACTERS) -> tuple[dict[str, Any], dict[str, int]]:
    """The content in so many characters of JSON, and by path how many items or fields are left out."""
    kept: dict[str, Any] = _shortened(content)
    left_out: dict[str, int] = {}
    # Room for the account itself, which grows with what is cut.
    while _size(kept) + _size(_told(left_out)) > most - 40 and (place := _largest(kept)) is not None:
        holder, key, path = place
        value = holder[key]
        if isinstance(value, list) and len(value) > 1:
            stays = len(value) // 2
            left_out[path] = left_out.get(path, 0) + len(value) - stays
            holder[key] = value[:stays]
        else:
            left_out[path] = left_out.get(path, 0) + (len(value) if isinstance(value, list) else 1)
            del holder[key]
    return kept, _told(left_out)


def _told(left_out: dict[str, int]) -> dict[str, int]:
    """What was cut out of something that is gone itself needs no line."""
    return {path: count for path, count in left_out.items() if not any(path.startswith(f"{other}.") for other in left_out)}


def _shortened(value: Any, field: str = "") -> Any:
    if isinstance(value, Mapping):
        value = {key: each for key, each in value.items() if key in _OF_AN_ITEM[field]} if field in _OF_AN_ITEM else value
        return {
            key: _shortened(each, key if isinstance(each, list | tuple) else "")
            for key, each in value.items()
            if each is not None and each != [] and key not in _LATER and _USUAL.get(key) != each
        }
    if isinstance(value, list | tuple):
        return [_shortened(each, field) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False))


def _largest(content: dict[str, Any]) -> tuple[dict[str, Any], str, str] | None:
    """Where the list stands that takes most room; once every list holds one item, where the largest field does that is no list's item."""
    lists = [place for place in _places(content) if isinstance(place[0][place[1]], list) and len(place[0][place[1]]) > 1]
    places = lists or [place for place in _places(content) if not _holds_more(place[0][place[1]])]
    return max(places, key=lambda place: _size(place[0][place[1]]) * _WORTH.get(place[1], 1.0), default=None)


def _holds_more(value: Any) -> bool:
    """Whether something in it can go by itself."""
    return isinstance(value, dict | list) and next(_places(value), None) is not None


def _places(content: Any, path: str = "") -> Iterator[tuple[dict[str, Any], str, str]]:
    """Every field that holds more than a number, with what holds it and its path; items of one list share theirs."""
    if isinstance(content, dict):
        for key, value in content.items():
            here = f"{path}.{key}" if path else key
            if isinstance(value, dict | list | str):
                yield content, key, here
            yield from _places(value, here)
    elif isinstance(content, list):
        for value in content:
            yield from _places(value, path)


def _cut_text(text: str) -> str:
    """Whole lines alone, the last of them too: it says what text from logs is."""
    if len(text) <= MOST_CHARACTERS:
        return text
    *lines, note = text.split("\n")
    more = '- More with `detail="full"`'
    kept: list[str] = []
    for line in lines:
        if sum(map(len, kept)) + len(kept) + len(line) + len(more) + len(note) + 3 > MOST_CHARACTERS:
            break
        kept.append(line)
    return "\n".join([*kept, more, note])


# Pages


def _paged(answer: Answer, page: int) -> Answer:
    pages = max(1, -(-max(_lengths(answer.structured), default=0) // PAGE_ITEMS))
    if page > pages:
        raise UnusableInputError(
            f"page: this answer has {counted(pages, 'page')}, with {PAGE_ITEMS} items of each list on a page (got {page})"
        )
    return replace(answer, structured={**_page_of(answer.structured, page), "page": page, "pages": pages})


def _lengths(content: Any) -> Iterator[int]:
    if isinstance(content, Mapping):
        for each in content.values():
            yield len(each) if isinstance(each, list) else 0
    # Lists within items stay whole: an item is of one piece.


def _page_of(content: Mapping[str, Any], page: int) -> dict[str, Any]:
    """So many items of each list of the answer; what is no list stands on the first page."""
    first = (page - 1) * PAGE_ITEMS
    return {
        key: each[first : first + PAGE_ITEMS] if isinstance(each, list) else each
        for key, each in content.items()
        if isinstance(each, list) or page == 1
    }


# Schema


def loose_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Of a result's JSON Schema what holds for a brief answer, for a page and for the whole: which fields there may be, and of what kind."""
    fields = {name: _kind_of(field, schema) for name, field in schema.get("properties", {}).items()}
    fields |= {LEFT_OUT: {"type": "object"}, "page": {"type": "integer"}, "pages": {"type": "integer"}}
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _kind_of(field: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in field:
        return _kind_of(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in field or "oneOf" in field:
        kinds = [_kind_of(each, schema).get("type") for each in (*field.get("anyOf", ()), *field.get("oneOf", ()))]
        flat = list(dict.fromkeys(name for kind in kinds for name in (kind if isinstance(kind, list) else [kind]) if name))
        return {"type": flat[0] if len(flat) == 1 else flat} if flat else {}
    kind = field.get("type")
    return {"type": kind} if kind else {}
