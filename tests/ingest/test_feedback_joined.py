"""Scores that come late, from three places: read, kept apart by source, and joined when an analysis reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.feedback_totals import feedback_totals
from routing_pipeline.ingest.ingestion import ingest_feedback, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import read_parameters, read_scales
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.scope import Window
from tests.ingest.formats import test_langfuse as langfuse, test_otlp as otlp
from tests.ingest.reading import NOW_S, json_lines, read_scores

LATE = "2026-11-23T12:00:00Z"


def joined(home: Home, **options: Any) -> list[tuple[float | None, float | None]]:
    """Quality and user's rating of each attempt, in the order of their start."""
    lake = Lake(home)
    with open_engine() as engine:
        attempts = engine.read_parquet(lake.attempt_files(0, NOW_S))
        feedback = engine.read_parquet(lake.feedback_files())
        rows = conform(attempts, Window(0, NOW_S), catalog=Catalog(), feedback=feedback, **options)
        found = engine.backend.to_pyarrow(rows.order_by("started_at")).to_pylist()
    return [(row["quality"], row["user_rating"]) for row in found]


def test_scores_of_a_langfuse_export_reach_their_observation_and_the_trace_of_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (tmp_path / "logs.jsonl").write_bytes(json_lines([langfuse.generation(number) for number in range(2)]))
    (tmp_path / "scores.jsonl").write_bytes(
        json_lines(
            [
                langfuse.score(name="quality", value=0.25, timestamp="2026-11-20 14:00:00"),
                # The evaluator ran again, and a user said what he thought of the other one.
                langfuse.score(id="again", name="quality", value=0.75, timestamp="2026-11-21 14:00:00"),
                langfuse.score(id="u", trace_id="tr-1", observation_id=None, name="user_feedback", value=1.0, source="API"),
            ]
        )
    )
    ingest_logs(home, str(tmp_path / "logs.jsonl"), now_s=NOW_S)
    ingest_feedback(home, str(tmp_path / "scores.jsonl"), now_s=NOW_S)
    assert joined(home) == [(0.75, None), (None, 1.0)]


def test_a_side_file_names_requests_or_attempts_and_comes_after_the_logs_were_analysed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    rows = [
        {"attempt_id": f"a{n}", "request_id": f"r{n}", "started_at": NOW_S - 90_000 + n, "model": "m", "status": "success"}
        for n in range(3)
    ]
    (tmp_path / "logs.jsonl").write_bytes(json_lines(rows))
    ingest_logs(home, str(tmp_path / "logs.jsonl"), now_s=NOW_S)
    score = {"name": "quality", "source": "check", "scored_at": LATE}
    sides = [
        [score | {"request_id": "r0", "value": 1}],
        [score | {"attempt_id": "a1", "value": 4, "scale_min": 1, "scale_max": 5, "source": "CHECK "}],
    ]
    for number, scores in enumerate(sides):
        (tmp_path / f"scores-{number}.jsonl").write_bytes(json_lines(scores))
        ingest_feedback(home, str(tmp_path / f"scores-{number}.jsonl"), now_s=NOW_S)
    assert joined(home) == [(1.0, None), (0.75, None), (None, None)]


def test_evaluations_reach_the_call_by_its_span_and_by_its_response(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    traces = otlp.document(
        otlp.span(0, otlp.CALL | {"gen_ai.response.id": "one"}, events=[otlp.evaluation("quality", 0.25)]),
        otlp.span(1, otlp.CALL | {"gen_ai.response.id": "two"}),
    )
    event = otlp.evaluation("quality", 0.5)
    named = event | {"eventName": event.pop("name"), "attributes": [*event["attributes"], *otlp.pairs({"gen_ai.response.id": "two"})]}
    later = {"resourceLogs": [{"scopeLogs": [{"logRecords": [named | {"traceId": "evaluators", "spanId": "own"}]}]}]}
    (tmp_path / "logs.jsonl").write_bytes(json_lines([traces, later]))
    ingest_logs(home, str(tmp_path / "logs.jsonl"), now_s=NOW_S)
    ingest_feedback(home, str(tmp_path / "logs.jsonl"), now_s=NOW_S)
    assert [quality for quality, _ in joined(home)] == [0.25, 0.5]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_scale_declared_in_the_configuration_is_that_of_scores_without_one(kind: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    config = tmp_path / "routing.toml"
    config.write_text('goal = "cost"\n[scales]\nstars = [1, 5]\n"percent; --" = [0, 100]\n', encoding="utf-8")
    score = {"request_id": "r", "source": "user", "scored_at": LATE}
    given = [
        score | {"name": "stars", "value": 4.0},
        score | {"name": "percent; --", "value": 50.0},
        score | {"name": "stars", "value": 6.0, "scale_min": 0.0, "scale_max": 10.0},
        score | {"name": "stars", "value": 6.0},
        score | {"name": "points", "value": 6.0},
    ]
    given = [{"scale_min": None, "scale_max": None} | each for each in given]
    place = tmp_path / f"scores.{kind}"
    if kind == "jsonl":
        place.write_bytes(json_lines(given))
    else:
        pq.write_table(pa.Table.from_pylist(given), place)
    home = Home(tmp_path / "home")
    result = ingest_feedback(home, str(place), scales=read_scales(config), now_s=NOW_S)
    assert (result.ingested, result.quarantined) == (3, 2)
    kept = {(row["value"], row["scale_min"], row["scale_max"]) for row in read_scores(place, tmp_path / "home")[0]}
    assert kept == {(4.0, 1.0, 5.0), (50.0, 0.0, 100.0), (6.0, 0.0, 10.0)}
    assert read_parameters(config).goal == "cost"


@pytest.mark.parametrize("scale", ["[5, 1]", "[1]", '"1 to 5"', "[1, 1]", "[1, inf]", "[true, 5]", "5"])
def test_a_scale_that_is_none_is_refused_by_name(scale: str, tmp_path: Path) -> None:
    (tmp_path / "routing.toml").write_text(f"[scales]\nstars = {scale}\n", encoding="utf-8")
    with pytest.raises(UnusableInputError, match=r"scales\.stars: give its lowest and its highest value"):
        read_scales(tmp_path / "routing.toml")


def test_no_scales_are_none(tmp_path: Path) -> None:
    (tmp_path / "routing.toml").write_text(json.dumps("x").replace('"x"', 'goal = "cost"'), encoding="utf-8")
    assert read_scales(None) == read_scales(tmp_path / "routing.toml") == {}
    (tmp_path / "routing.toml").write_text("scales = 5", encoding="utf-8")
    with pytest.raises(UnusableInputError, match="scales: a table is expected"):
        read_scales(tmp_path / "routing.toml")


def test_a_source_is_the_same_in_letters_of_any_case(tmp_path: Path) -> None:
    score = {"request_id": "r0", "name": "quality", "value": 0.5, "scored_at": LATE}
    (tmp_path / "scores.jsonl").write_bytes(json_lines([{**score, "source": "judge"}, {**score, "source": " JUDGE"}]))
    found = ingest_feedback(Home(tmp_path / "home"), str(tmp_path / "scores.jsonl"), now_s=NOW_S)
    assert (found.quarantined, found.ingested, found.duplicates) == (0, 1, 1)


@pytest.mark.parametrize(("value", "said"), [("85%", "write 85% as 0.85"), ("0,5", "write 0,5 as 0.5"), ("good", "not a finite number")])
def test_a_value_in_percent_or_with_a_decimal_comma_is_refused_with_how_to_write_it(value: str, said: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    score = {"request_id": "r0", "name": "quality", "value": value, "source": "judge", "scored_at": LATE}
    (tmp_path / "scores.jsonl").write_bytes(json_lines([score]))
    assert ingest_feedback(home, str(tmp_path / "scores.jsonl"), now_s=NOW_S).quarantined == 1
    assert said in feedback_totals(home).reasons[0].reason
