"""Formats that a user describes in TOML: what a description can say, and that nothing in it becomes SQL."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.formats import named
from routing_pipeline.ingest.formats.mapping import describes_format, steps_of
from routing_pipeline.parameters import read_parameters
from tests.ingest.reading import Read, json_lines, read_logs

ACME = """
name = "acme"
[columns]
attempt_id = "id"
request_id = "client.request"
started_at = { path = "time.start", unit = "milliseconds" }
latency_ms = { path = "time.seconds", multiply = 1000 }
model = ["route.chosen", "model"]
provider = 'backend."the provider"'
status = { path = "http", values = { "200" = "success", "499" = "cancelled" }, default = "failure" }
error_type = "errors[0].kind"
cost_usd = { path = "cents", multiply = 0.01 }
prompt_tokens = "usage.in"
is_cache_hit = { path = "cache", values = { "HIT" = "true", "MISS" = "false" } }
quality_score = "scores.quality"
user_id = "user"
"""
RECORD = {
    "id": "a",
    "client": {"request": "r"},
    "time": {"start": 1_795_400_000_123, "seconds": 1.5},
    "model": "m",
    "backend": {"the provider": "p"},
    "http": 200,
    "cents": 12.5,
    "usage": {"in": 100},
    "cache": "MISS",
    "scores": {"quality": 0.9},
    "user": "jane",
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*changes: dict[str, Any], description: str = ACME) -> Read:
        (tmp_path / "acme.toml").write_text(description, encoding="utf-8")
        (tmp_path / "logs").mkdir(exist_ok=True)
        records = [RECORD | {"id": f"a-{number}"} | change for number, change in enumerate(changes)]
        (tmp_path / "logs" / "a.jsonl").write_bytes(json_lines(records))
        return read_logs(tmp_path / "logs", tmp_path / "home", str(tmp_path / "acme.toml"))

    return rows


def test_columns_are_found_by_their_paths_and_brought_to_their_units(read: Any) -> None:
    row = read({}).row
    assert row["started_at"] == datetime(2026, 11, 23, 2, 13, 20, 123000)
    assert (row["attempt_id"], row["request_id"], row["source_format"]) == ("a-0", "r", "acme")
    assert (row["latency_ms"], row["cost_usd"], row["prompt_tokens"], row["quality_score"]) == (1500.0, 0.125, 100, 0.9)
    assert (row["model"], row["provider"], row["status"], row["is_cache_hit"]) == ("m", "p", "success", False)
    assert row["user_hash"] not in {None, "jane"}
    assert row["team"] is None


def test_of_several_paths_the_first_that_is_there_counts(read: Any) -> None:
    rows = read({"route": {"chosen": "c"}}, {"route": {"chosen": ""}}, {"route": None}, {"route": "text"})
    assert rows.column("model") == ["c", "m", "m", "m"]


def test_what_a_field_says_becomes_a_word_of_the_contract(read: Any) -> None:
    rows = read({}, {"http": 499}, {"http": 503, "errors": [{"kind": "busy"}, {"kind": "late"}]}, {"cache": "odd"}, {"http": None})
    assert rows.column("status") == ["success", "cancelled", "failure", "success"]
    assert rows.column("error_type") == [None, None, "busy", None]
    assert rows.column("is_cache_hit") == [False, False, False, None]
    assert rows.refused == [(5, "status is none of success, failure, cancelled")]


def test_a_status_without_words_is_a_word_or_a_code_of_http(read: Any) -> None:
    plain = ACME.replace('{ path = "http", values = { "200" = "success", "499" = "cancelled" }, default = "failure" }', '"http"')
    rows = read({}, {"http": "Failure"}, {"http": "429"}, {"http": 499}, {"http": "odd"}, description=plain)
    assert rows.column("status") == ["success", "failure", "failure", "cancelled"]
    assert len(rows.refused) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"id": None}, "no key: attempt_id"),
        ({"time": {"start": 1_795_400_000}}, "started_at is not in milliseconds"),
        ({"time": "broken"}, "started_at is missing"),
        ({"cents": "much"}, "cost_usd is not a number"),
        ({"cents": -1}, "cost_usd is negative"),
        ({"usage": {"in": "x"}}, "prompt_tokens is not a number"),
        ({"model": None}, "no model"),
    ],
)
def test_records_that_cannot_be_used_are_refused_with_the_reason(changes: dict[str, Any], why: str, read: Any) -> None:
    rows = read({}, changes)
    assert rows.result.ingested == 1
    assert why in rows.refused[0][1]


def test_values_out_of_range_become_null_and_are_counted(read: Any) -> None:
    assert read({"scores": {"quality": 90}}).result.nulled == {"quality_score": 1}


def test_csv_is_read_by_the_same_description(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(ACME, encoding="utf-8")
    cells = ["a", '"{""start"": 1795400000123}"', "m", "200", "12.5"]
    (tmp_path / "a.csv").write_text("id,time,model,http,cents\n" + ",".join(cells) + "\n", encoding="utf-8")
    row = read_logs(tmp_path / "a.csv", tmp_path / "home", str(tmp_path / "acme.toml")).row
    assert (row["cost_usd"], row["started_at"]) == (0.125, datetime(2026, 11, 23, 2, 13, 20, 123000))


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("a", ("a",)),
        ("a.b_c-d", ("a", "b_c-d")),
        ('a."b c/d"[3].e', ("a", "b c/d", 3, "e")),
        ('"x-request-id"', ("x-request-id",)),
        ("größe.wert", ("größe", "wert")),
    ],
)
def test_paths_are_taken_apart(path: str, steps: tuple[Any, ...]) -> None:
    assert steps_of(path) == steps


HOSTILE = [
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "a b",
    "a'b",
    'a"b',
    '"a',
    '"a""b"',
    '"a\'b"',
    '"a\\b"',
    '"a$b"',
    '"a*"',
    "a[*]",
    "a[-1]",
    "a[1",
    "a[99999]",
    "[0]",
    "a;b",
    "a) FROM x; --",
    "a::INTEGER",
    "read_text('/etc/passwd')",
    '"a\nb"',
    "a\x00",
    "_reason",
    "__object",
    "filename",
    "Filename",
    "file_row_number.x",
    "a" + ".a" * 16,
    "x" * 10_000 + "'",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_what_is_no_path_is_refused_before_anything_is_made_of_it(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no path|is taken"):
        steps_of(path)
    description = tmp_path / "a.toml"
    columns = {"attempt_id": path, "started_at": "t", "model": "m", "status": "s"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in columns.items()]
    description.write_text("[columns]\n" + "\n".join(lines).replace("\\u0000", "\\u0001") + "\n", encoding="utf-8")
    with pytest.raises(UnusableInputError, match=r"docs/formats\.md"):
        named(str(description))


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ("", "columns: is missing"),
        ("[columns]\nmodel = 'm'", "attempt_id, started_at, status must be said"),
        (ACME.replace("acme", "Robert'); DROP"), "name: must match"),
        (ACME.replace("acme", "litellm"), "litellm is the name of a format already"),
        (ACME + "colour = 'x'", "columns.colour: no such column"),
        (ACME + "user_hash = 'x'", "columns.user_hash: no such column"),
        (ACME + "team = { path = 'x', sql = '1' }", "columns.team.sql: is not known here"),
        (ACME + "team = { path = 'x', multiply = 2 }", "columns.team: multiply is for numbers"),
        (ACME + "retries = { path = 'x', multiply = nan }", "columns.retries.multiply"),
        (ACME + "retries = { path = 'x', unit = 'seconds' }", "columns.retries: unit is for started_at"),
        (ACME + "team = { path = 'x', default = 'success' }", "columns.team: values and default are for status"),
        (ACME + "team = []", "columns.team.path"),
        (ACME + "team = 'Model'", "differ in upper and lower case only"),
        (ACME.replace('"200" = ', '"200\' OR 1" = '), "columns.status.values"),
        (ACME.replace('= "cancelled"', '= "x\' OR 1"'), "columns.status.values.499"),
        ("name = ", "not TOML"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused_by_name(description: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(description, encoding="utf-8")
    with pytest.raises(UnusableInputError) as refused:
        named(str(tmp_path / "a.toml"))
    assert why in str(refused.value)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="No such file"):
        named(str(tmp_path / "none.toml"))


def test_the_configuration_file_may_hold_the_description(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('goal = "cost"\n[format]' + ACME.replace("[columns]", "[format.columns]"), encoding="utf-8")
    assert read_parameters(config).goal == "cost"
    assert describes_format(config)
    described = named(str(config))
    assert described is not None
    assert described.name == "acme"
    config.write_text('goal = "cost"\n', encoding="utf-8")
    assert not describes_format(config)


def test_tags_are_a_list_or_stand_between_commas(read: Any) -> None:
    description = ACME + 'tags = "labels"\n'
    given = (["beta", "alpha"], '["beta", "alpha"]', "beta,alpha", [], None)
    assert read(*({"labels": each} for each in given), description=description).column("tags") == ["alpha,beta"] * 2 + [
        "beta,alpha",
        None,
        None,
    ]


def test_a_time_is_read_as_logs_of_python_and_go_spell_it(read: Any) -> None:
    description = ACME.replace('started_at = { path = "time.start", unit = "milliseconds" }', 'started_at = "at"')
    times = ("2026-11-20 10:00:00,123", "2026-11-20T10:00:00.123456789Z", "2026-11-20T15:30:00.123+05:30", "2026-11-20 10:00:00.123+00")
    found = read(*({"at": each} for each in times), description=description).column("started_at")
    assert [each.replace(microsecond=123_000) for each in found] == [datetime(2026, 11, 20, 10, 0, 0, 123_000)] * 4
    assert sorted(each.microsecond for each in found) == [123_000, 123_000, 123_000, 123_456]
