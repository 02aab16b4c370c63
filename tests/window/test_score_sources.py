"""Whose scores are an answer's quality: trusted sources alone where they give enough, all alike where not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import ibis
import pyarrow as pa

from routing_pipeline.window.conform import MIN_TRUSTED, newest_scores

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def feedback(scores: Sequence[tuple[str, str, float, int]]) -> ibis.Table:
    """(request, source, value, minutes after noon)."""
    request, source, value, minutes = zip(*scores, strict=True)
    n = len(scores)
    return ibis.memtable(
        pa.table(
            {
                "request_id": pa.array(request),
                "attempt_id": pa.nulls(n, pa.string()),
                "name": pa.array(["quality"] * n),
                "value": pa.array(value),
                "scale_min": pa.nulls(n, pa.float64()),
                "scale_max": pa.nulls(n, pa.float64()),
                "source": pa.array(source),
                "scored_at": pa.array([NOON + timedelta(minutes=each) for each in minutes], pa.timestamp("us", "UTC")),
            }
        )
    )


def newest(scores: Sequence[tuple[str, str, float, int]], **asked: Sequence[str]) -> dict[str, dict[str, float | None]]:
    by_request, _ = newest_scores(feedback(scores), "quality", **asked)
    return {row.pop("request_id"): row for row in by_request.to_pyarrow().to_pylist()}


REVIEWED = [(f"r{place}", "eval", 0.5, 0) for place in range(MIN_TRUSTED)]


def test_a_later_score_of_a_judge_does_not_replace_a_person_s() -> None:
    found = newest([*REVIEWED, ("r0", "judge", 0.9, 10), ("only judged", "judge", 0.8, 0), ("r1", "user", 1.0, 20)])
    assert found["r0"] == {"quality": 0.5, "rating": None, "judge": 0.9, "quality_source": "eval"}
    assert found["only judged"] == {"quality": None, "rating": None, "judge": 0.8, "quality_source": None}
    assert found["r1"] == {"quality": 0.5, "rating": 1.0, "judge": None, "quality_source": "eval"}


def test_with_few_trusted_scores_or_one_kind_alone_the_newest_counts_whoever_gave_it() -> None:
    found = newest([("a", "eval", 0.5, 0), ("a", "judge", 0.9, 10)])
    assert found["a"] == {"quality": 0.9, "rating": None, "judge": None, "quality_source": "judge"}
    assert newest([("a", "judge", 0.9, 10)])["a"]["quality"] == 0.9


def test_who_is_trusted_can_be_said() -> None:
    scores = [*((f"u{place}", "user", 0.4, 0) for place in range(MIN_TRUSTED)), ("u0", "eval", 0.9, 5)]
    assert newest(scores, trusted=("user",))["u0"] == {"quality": 0.4, "rating": None, "judge": 0.9, "quality_source": "user"}
    assert newest(scores)["u0"] == {"quality": 0.9, "rating": 0.4, "judge": None, "quality_source": "eval"}
