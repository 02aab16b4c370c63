"""Brief answers: small, schema-valid, and honest about what is not in them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, strategies as st

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.operations.table import OPERATIONS
from routing_pipeline.serving.mcp.answer import Answer
from routing_pipeline.serving.mcp.brief import MOST_CHARACTERS, brief, detailed, loose_schema, read_detail
from routing_pipeline.serving.mcp.tools import TOOLS

LARGE: dict[str, Any] = {
    "total_usd": 12.345678901,
    "verdict": "fine",
    "models": [{"model": f"m{number}", "cost": {"estimate": 1 / 3, "low": 0.1, "high": 0.5, "level": 0.95}} for number in range(150)],
    "rule_set": {"rule_set_id": "id", "rules": [{"id": f"r{number}", "route": "a", "rationale": "x" * 300} for number in range(30)]},
    "nothing": None,
    "few": [1, 2],
}


def size(content: object) -> int:
    return len(json.dumps(content, ensure_ascii=False))


def test_a_brief_answer_fits_and_says_what_it_leaves_out() -> None:
    found, left_out = brief(LARGE)
    assert size(found) + size(left_out) <= MOST_CHARACTERS
    assert (found["total_usd"], found["verdict"], found["few"]) == (12.3457, "fine", [1, 2])
    assert left_out["models"] == 150 - len(found["models"])
    assert found["models"][0] == {"model": "m0", "cost": {"estimate": 0.333333, "low": 0.1, "high": 0.5}}
    assert found["rule_set"]["rule_set_id"] == "id"
    assert found["rule_set"]["rules"][0] == {"id": "r0", "route": "a"}


def test_what_fits_is_left_whole() -> None:
    small = {"a": 1, "b": [{"c": "d"}]}
    assert brief(small) == (small, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=8),
    max_leaves=60,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), JSON, max_size=12))
def test_whatever_it_is_it_fits(content: dict[str, Any]) -> None:
    found, _ = brief(content)
    assert size(found) <= MOST_CHARACTERS


def test_pages_hold_every_item_once_and_what_is_no_list_once() -> None:
    answer = Answer("text", LARGE)
    first = detailed(answer, "full", 1).structured
    assert (first["page"], first["pages"], first["total_usd"], len(first["models"])) == (1, 8, 12.345678901, 20)
    pages = [detailed(answer, "full", page).structured for page in range(1, 9)]
    assert [each for page in pages for each in page["models"]] == LARGE["models"]
    assert "total_usd" not in pages[1]
    with pytest.raises(UnusableInputError, match="has 8 pages, with 20 items of each list on a page"):
        detailed(answer, "full", 9)


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"detail": "short"}, "one of brief, full"), ({"page": 0}, "from 1"), ({"page": "x"}, "from 1"), ({"page": True}, "from 1")],
)
def test_what_cannot_be_asked_is_told(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UnusableInputError, match=said):
        read_detail(asked)


def test_without_a_word_an_answer_is_whole_and_a_page_is_of_the_whole() -> None:
    given_: dict[str, Any] = {"timeframe": "7d", "page": "2"}
    assert read_detail(given_) == ("full", 2)
    assert given_ == {"timeframe": "7d"}
    assert read_detail({}) == ("full", None)


def test_a_long_text_loses_whole_lines_and_keeps_its_last() -> None:
    lines = [f"- line {number} " + "x" * 90 for number in range(100)]
    text = detailed(Answer("\n".join([*lines, "note"]), {}), "brief", None).text
    assert len(text) <= MOST_CHARACTERS
    assert text.splitlines()[-2:] == ['- More with `detail="full"`', "note"]
    assert set(text.splitlines()[:-2]) <= set(lines)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_the_schema_is_small_and_says_no_more_than_holds_for_all_three(tool: Any) -> None:
    schema = loose_schema(OPERATIONS[tool.operation].result.model_json_schema(mode="serialization"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"left_out": {"models": 3}}, schema)
    assert size(schema) < 1_500
