"""What a format takes out of JSON is taken out once per record, whatever is made of it."""

from __future__ import annotations

import pytest

from routing_pipeline.ingest.formats.column_map import column_map, time_of
from routing_pipeline.ingest.formats.langfuse import LANGFUSE
from routing_pipeline.ingest.formats.log_format import json_texts


def test_a_field_of_json_is_parsed_in_one_place_however_many_columns_it_fills() -> None:
    said = json_texts("metadata", ("team", "tier"))
    made = column_map(
        "made",
        structure=dict.fromkeys(("id", "at", "model", "metadata"), "VARCHAR"),
        keys=(frozenset({"id", "metadata"}),),
        started=time_of("at", "at"),
        given={"attempt_id": "id", "model": "model", "team": said["team"], "routing_reason": said["tier"], "status": "'success'"},
    )
    texts = [made.select_list(), made.reject_reason, *(each for step in made.worked_out for each in step.values())]
    assert sum(each.count("json_extract_string") for each in texts) == 1


@pytest.mark.parametrize("text", [LANGFUSE.select_list(), LANGFUSE.reject_reason, LANGFUSE.lone_id, LANGFUSE.ignores])
def test_the_columns_of_langfuse_are_made_of_names(text: str) -> None:
    assert "json_extract_string" not in text
