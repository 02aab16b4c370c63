"""One result for several sources: nothing of the first is forgotten by the last."""

from __future__ import annotations

import pytest

from routing_pipeline.ingest.ingestion import IngestResult, together


def result(source: str, count: int, **more: object) -> IngestResult:
    counts = dict.fromkeys(("objects_listed", "objects_new", "objects_skipped", "objects_changing", "records", "ingested"), count)
    kept: dict[str, object] = {
        "quarantined": count,
        "duplicates": count,
        "nulled": {"cost_usd": count},
        "left_out": {"lines of text": count},
    }
    return IngestResult.model_validate(
        {"source": source, **counts, **kept, "formats": (source,), "snapshot_id": source, "seconds": float(count), **more}
    )


def test_counts_of_all_sources_add_up() -> None:
    found = together([result("one", 1, left_out={"metrics": 4}), result("two", 2), result("three", 4)])
    numbers = {
        name: value for name, value in found.model_dump().items() if isinstance(value, (int, float)) and not name.startswith("objects_f")
    }
    assert numbers.pop("replaced") == 0
    assert set(numbers.values()) == {7}
    assert (found.left_out, found.nulled) == ({"lines of text": 6, "metrics": 4}, {"cost_usd": 7})
    assert (found.source, found.formats, found.snapshot_id) == ("one, two, three", ("one", "three", "two"), "three")


@pytest.mark.parametrize("down", ["first", "last"])
def test_a_source_that_was_down_is_told_whichever_it_was(down: str) -> None:
    of = [result("first", 0, unavailable="no answer") if down == "first" else result("first", 3)]
    of += [result("last", 0, unavailable="no answer") if down == "last" else result("last", 3)]
    found = together(of)
    assert (found.unavailable, found.records) == ("no answer", 3)
