"""Every score that was given ends as matched, unmatched, given twice, or refused with its line and why; none is lost in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.erasure import forget
from routing_pipeline.ingest.feedback import FeedbackIngestResult, is_up_to_date
from routing_pipeline.ingest.feedback_totals import FeedbackTotals, feedback_totals
from routing_pipeline.ingest.ingestion import ingest_feedback, ingest_logs
from routing_pipeline.ingest.reprocessing import mark_for_reading_again
from routing_pipeline.lake.table import Lake
from routing_pipeline.schema import FEEDBACK, column_names
from routing_pipeline.storage.home import Home
from tests.ingest.formats import test_langfuse as langfuse

NOW_S = 1_795_500_000.0
START_S = NOW_S - 100_000.0
REQUESTS = 50


def call(number: int, **changes: Any) -> dict[str, Any]:
    """Request `call-0003` began 1,000 s after `call-0002`; users and teams take turns."""
    made = {"attempt_id": f"try-{number:04d}", "request_id": f"call-{number:04d}", "started_at": START_S + 1_000 * number}
    return made | {"model": "m", "status": "success", "user_id": f"user-{number % 2}", "team": f"team-{number % 5}"} | changes


def score(number: int, **changes: Any) -> dict[str, Any]:
    made = {"request_id": f"call-{number:04d}", "name": "quality", "value": 0.25 + number % 3 / 4, "source": "judge"}
    return made | {"scored_at": START_S + 1_000 * number + 60} | changes


class Place:
    """Folders of logs and of scores, and a home that reads them."""

    def __init__(self, root: Path) -> None:
        self.logs, self.scores, self.home = root / "logs", root / "scores", Home(root / "home")
        self.logs.mkdir(exist_ok=True)
        self.scores.mkdir(exist_ok=True)

    def write_logs(self, calls: Iterable[dict[str, Any]], name: str = "a.jsonl") -> None:
        (self.logs / name).write_text("".join(json.dumps(each) + "\n" for each in calls), encoding="utf-8")

    def ingest(self, calls: Iterable[dict[str, Any]] | None = None) -> None:
        self.write_logs((call(number) for number in range(REQUESTS)) if calls is None else calls)
        ingest_logs(self.home, str(self.logs), now_s=NOW_S)

    def write(self, scores: list[dict[str, Any]], name: str = "s.jsonl") -> None:
        place, kind = self.scores / name, name.rpartition(".")[2]
        names = list(dict.fromkeys(key for each in scores for key in each))
        texts = [{key: None if each.get(key) is None else str(each[key]) for key in names} for each in scores]
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(texts, pa.schema([(key, pa.string()) for key in names])), place)
        elif kind == "jsonl":
            place.write_text("".join(json.dumps(each) + "\n" for each in scores), encoding="utf-8")
        else:
            by = {"csv": ",", "tsv": "\t", "txt": ";"}[kind]
            place.write_text("\n".join([by.join(names), *(by.join(each[key] or "" for key in names) for each in texts)]), encoding="utf-8")

    def read(self, **options: Any) -> FeedbackIngestResult:
        return ingest_feedback(self.home, str(self.scores), now_s=NOW_S, **options)

    def give(self, scores: list[dict[str, Any]], name: str = "s.jsonl", **options: Any) -> FeedbackTotals:
        self.write(scores, name)
        self.read(**options)
        return self.totals()

    def totals(self) -> FeedbackTotals:
        found = feedback_totals(self.home)
        assert found.records == found.ingested + found.quarantined + found.duplicates
        assert found.ingested == found.matched + found.unmatched
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place whose logs were read; once, as a home's logs stay where they are."""
    root = tmp_path_factory.mktemp("full") / "place"
    root.mkdir()
    Place(root).ingest()
    shutil.copytree(root, root.with_name("kept"))
    return root


@pytest.fixture
def full(made: Path) -> Place:
    """The same at the same place, whatever the test before did with it."""
    shutil.rmtree(made)
    shutil.copytree(made.with_name("kept"), made)
    return Place(made)


KINDS = ["jsonl", "csv", "tsv", "txt", "parquet"]


def test_without_feedback_all_is_zero(place: Place) -> None:
    assert place.totals().records == 0
    place.ingest()
    assert (place.totals().records, place.totals().is_lost) == (0, False)


# Read, matched, refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_which_part_is_refused_is_accounted_for_line_by_line(kind: str, full: Place) -> None:
    scores = [score(number) for number in range(40)] + [score(90), score(91, value="good"), score(4, value=7), score(5, source="me")]
    found = full.give(scores, f"s.{kind}")
    assert (found.records, found.ingested, found.quarantined, found.duplicates, found.objects) == (44, 41, 3, 0, 1)
    assert (found.matched, found.unmatched) == (40, 1)
    header = 0 if kind in {"jsonl", "parquet"} else 1
    lines = {each.reason.partition(";")[0]: each.line for each in found.reasons}
    assert lines == {
        "value is missing or not a finite number": 42 + header,
        "value lies outside its scale": 43 + header,
        "source is none of judge, user, check, eval": 44 + header,
    }
    assert {each.object for each in found.reasons} == {f"s.{kind} in {full.scores}"}


@pytest.mark.parametrize(
    ("kind", "column", "called"),
    [
        ("jsonl", "value", "score"),
        ("jsonl", "request_id", "requestId"),
        ("csv", "value", "Rating"),
        ("csv", "scored_at", "ts"),
        ("tsv", "request_id", "requestId"),
        ("txt", "scored_at", "ts"),
        ("parquet", "value", "score"),
    ],
)
def test_a_file_with_another_column_is_refused_whole_with_the_nearest_guess(kind: str, column: str, called: str, full: Place) -> None:
    full.write([{called if key == column else key: value for key, value in score(number).items()} for number in range(9)], f"s.{kind}")
    result = full.read()
    assert (result.records, result.ingested, result.quarantined) == (1, 0, 1)
    with pytest.raises(UnusableInputError, match=rf"`{column}`.*did you mean `{called}`\?.*forget --object 's\.{kind} in "):
        result.check_readable()
    assert full.read().unreadable, "it stays unusable until it is mended"
    assert not is_up_to_date(full.home, str(full.scores))
    full.write([score(number) for number in range(9)], f"s.{kind}")
    full.read().check_readable()
    assert full.totals().matched == 9


def test_what_can_be_read_beside_an_unusable_file_is_read(full: Place) -> None:
    full.write([{"a": 1, "b": 2}], "bad.csv")
    full.write([score(1)], "good.jsonl")
    result = full.read()
    assert (result.ingested, [each.line for each in result.unreadable]) == (1, [None])
    (full.scores / "bad.csv").unlink()
    assert full.read().unreadable == (), "what was taken away is nobody's mistake any more"


def test_an_object_that_holds_logs_and_scores_is_forgotten_with_what_was_refused_of_either(place: Place) -> None:
    both = [langfuse.generation(1), langfuse.score(observation_id="obs-1"), langfuse.score(observation_id="obs-1", value=7, id="bad")]
    (place.logs / "both.jsonl").write_text("".join(json.dumps(each) + "\n" for each in both), encoding="utf-8")
    ingest_logs(place.home, str(place.logs), now_s=NOW_S)
    ingest_feedback(place.home, str(place.logs), now_s=NOW_S)
    assert (place.totals().matched, place.totals().quarantined) == (1, 1)
    assert forget(place.home, "object", "both.jsonl", now_s=NOW_S).scores == 1
    assert (place.totals().records, place.totals().objects) == (0, 1)


def test_an_unusable_file_that_was_forgotten_stops_nothing(full: Place) -> None:
    full.write([{"a": 1, "b": 2}], "bad.csv")
    full.write([score(1)], "good.jsonl")
    forget(full.home, "object", full.read().unreadable[0].object, now_s=NOW_S)
    full.read().check_readable()
    assert (full.totals().quarantined, full.totals().ingested) == (0, 1)


def test_a_writers_own_marks_beside_the_scores_are_nobodys_mistake(full: Place) -> None:
    full.write([score(1)], "part-0.jsonl")
    (full.scores / "_SUCCESS").write_text("done", encoding="utf-8")
    (full.scores / "_committed_17").write_text('{"added": ["part-0.jsonl"], "removed": []}', encoding="utf-8")
    full.read().check_readable()
    assert (full.totals().ingested, full.totals().quarantined, full.totals().objects) == (1, 0, 3)


def test_one_line_with_another_column_among_others_is_refused_alone(full: Place) -> None:
    misnamed = score(5)
    misnamed["score"] = misnamed.pop("value")
    found = full.give([*(score(number) for number in range(5)), misnamed])
    assert [(each.reason, each.line) for each in found.reasons] == [("no column `value`; did you mean `score`?", 6)]


def test_a_first_line_that_broke_off_spoils_itself_alone(full: Place) -> None:
    (full.scores / "s.jsonl").write_text('"value": 0.5}\n' + "".join(json.dumps(score(number)) + "\n" for number in range(3)), "utf-8")
    full.read().check_readable()
    assert (full.totals().ingested, [each.line for each in full.totals().reasons]) == (3, [1])


# CSV as logs take it


def test_a_long_comment_is_read_whatever_the_process_read_before(full: Place) -> None:
    import csv

    before = csv.field_size_limit(131_072)
    try:
        found = full.give([score(1, comment="x" * 200_000)], "s.csv")
    finally:
        csv.field_size_limit(before)
    assert (found.ingested, found.quarantined) == (1, 0)


def test_quoted_fields_bytes_that_are_no_text_and_short_rows_cost_nothing_but_themselves(full: Place) -> None:
    header = ",".join(column_names(FEEDBACK)) + ",comment"
    row = "call-{0:04d},,quality,0.5,,,judge,2026-11-24T00:00:00Z,{1}"
    rows = [header, row.format(1, '"two\nlines, and a ""quote"""'), row.format(2, "caf\xe9"), "call-0003,,quality", row.format(4, "")]
    (full.scores / "s.csv").write_bytes("\n".join(rows).encode("latin-1"))
    full.read()
    found = full.totals()
    assert (found.ingested, found.matched) == (3, 3)
    assert [(each.reason, each.line) for each in found.reasons] == [("3 fields where the header names 9", 5)]


def test_a_quote_without_end_is_refused_from_there_on(full: Place) -> None:
    header = ",".join(column_names(FEEDBACK))
    row = "call-{0:04d},,quality,0.5,,,judge,2026-11-24T00:00:00Z"
    (full.scores / "s.csv").write_text("\n".join([header, row.format(1), '"call-0002,,quality', row.format(3)]), encoding="utf-8")
    full.read()
    assert (full.totals().ingested, full.totals().quarantined) == (1, 1)


# Matching


@pytest.mark.parametrize("changed", ["req-{}", "{}-v2", "x/{}/y"])
def test_keys_that_are_not_those_of_the_log_are_told_with_one_of_each(changed: str, full: Place) -> None:
    found = full.give([score(number, request_id=changed.format(f"call-{number:04d}")) for number in range(40)])
    assert (found.matched, found.unmatched, found.scored_within, found.unmatched_within, found.is_lost) == (0, 40, 40, 40, True)
    assert found.example is not None
    assert (found.example.score_column, found.example.log_column) == ("request_id", "request_id")
    assert found.example.is_alike is (changed != "x/{}/y")
    if found.example.is_alike:
        assert found.example.score_key == changed.format(found.example.log_key), "the same request, in both spellings"


def test_half_and_half_is_not_yet_lost(full: Place) -> None:
    scores = [score(number, request_id=f"call-{number:04d}{'-x' * (number % 2)}") for number in range(40)]
    assert not full.give(scores).is_lost
    assert full.give([*scores, score(1, request_id="y")]).is_lost


def test_scores_of_attempts_match_by_attempt_and_one_in_the_wrong_column_is_told(full: Place) -> None:
    by_attempt = [score(number, request_id=None, attempt_id=f"try-{number:04d}") for number in range(10)]
    assert full.give(by_attempt).matched == 10
    either = [score(20, attempt_id="unknown"), score(21, request_id="unknown", attempt_id="try-0021")]
    assert full.give(either, "either.jsonl").matched == 12
    found = full.give([score(number, request_id=f"try-{number:04d}") for number in range(30)], "wrong.jsonl")
    assert found.is_lost
    assert found.example is not None
    assert (found.example.score_column, found.example.log_column) == ("request_id", "attempt_id")


def test_a_score_of_a_failed_attempt_is_matched_too(place: Place) -> None:
    calls = [call(1, status="failure"), call(1, attempt_id="try-again", started_at=START_S + 1_010)]
    place.ingest(calls)
    found = place.give([score(1, request_id=None, attempt_id="try-0001"), score(1)])
    assert (found.matched, found.unmatched) == (2, 0)


def test_feedback_that_comes_before_its_logs_matches_once_they_are_there(place: Place) -> None:
    found = place.give([score(number) for number in range(10)])
    assert (found.matched, found.unmatched, found.scored_within, found.example) == (0, 10, 0, None)
    place.ingest(call(number) for number in range(5))
    found = place.totals()
    assert (found.matched, found.unmatched) == (5, 5)
    assert not found.is_lost, "the logs of these times have not come yet"
    place.ingest()
    assert (place.totals().matched, place.totals().unmatched) == (10, 0)


def test_feedback_given_twice_under_two_names_or_two_places_counts_once(full: Place, tmp_path: Path) -> None:
    scores = [score(number) for number in range(10)]
    full.give(scores, "a.jsonl")
    found = full.give(scores, "b.jsonl")
    assert (found.records, found.ingested, found.duplicates, found.matched) == (20, 10, 10, 10)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.jsonl").write_bytes((full.scores / "a.jsonl").read_bytes())
    ingest_feedback(full.home, str(elsewhere), now_s=NOW_S)
    assert (full.totals().duplicates, full.totals().matched) == (20, 10)
    full.read()
    assert full.totals().records == 30, "read again, nothing is counted again"


def test_names_are_counted_with_what_was_refused_of_each(full: Place) -> None:
    scores = [score(number, name="tone") for number in range(6)] + [score(1, name="stars", value=number) for number in (1, 2, 3, 4, 5)]
    found = full.give(scores)
    assert {each.name: (each.ingested, each.quarantined) for each in found.names} == {"tone": (6, 0), "stars": (1, 4)}


# Scales


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("jsonl", 0.0, 100.0), ("csv", 1.0, 5.0), ("parquet", -1.0, 1.0), ("jsonl", 0.0, 10.0), ("csv", -1.0, 1.0)]
)
def test_a_scale_that_was_not_declared_is_guessed_and_once_it_is_declared_the_scores_are_read_again(
    kind: str, low: float, high: float, full: Place
) -> None:
    given = [score(number, value=low + (high - low) * number / 39) for number in range(40)]
    found = full.give(given, f"s.{kind}")
    (name,) = found.names
    assert name.outside_scale is not None
    assert (name.outside_scale.likely_min, name.outside_scale.likely_max) == (low, high)
    assert (name.outside_scale.lowest, name.outside_scale.highest) == (low, high)
    assert found.refused_share > 0.05
    assert not is_up_to_date(full.home, str(full.scores), {"quality": (low, high)})
    assert full.read(scales={"quality": (low, high)}).objects_new == 1
    found = full.totals()
    assert (found.ingested, found.quarantined, found.matched) == (40, 0, 40)
    assert is_up_to_date(full.home, str(full.scores), {"quality": (low, high)})
    assert full.read(scales={"quality": (low, high)}).objects_new == 0


def test_a_scale_that_is_no_longer_declared_leaves_what_was_read_as_it_is(full: Place) -> None:
    full.give([score(number, value=50) for number in range(4)], scales={"quality": (0, 100)})
    assert full.read().objects_new == 0
    assert full.totals().ingested == 4
    assert full.read(scales={"quality": (0, 200)}).replaced == 4


def test_only_files_with_scores_of_that_name_are_read_again(full: Place) -> None:
    full.write([score(1, name="tone")], "a.jsonl")
    full.write([score(1, value=50)], "b.jsonl")
    full.read()
    assert full.read(scales={"quality": (0, 100)}).objects_new == 1


def test_an_end_that_a_score_does_not_name_is_that_of_its_declared_scale(full: Place) -> None:
    half = [score(1, scale_max=5, value=4), score(2, scale_min=1, value=4), score(3, value=4), score(4, scale_min=0, scale_max=8, value=6)]
    full.give(half, scales={"quality": (1, 5)})
    kept = sorted((row["scale_min"], row["scale_max"]) for row in Lake(full.home).side_table("feedback").to_pylist())
    assert kept == [(0, 8), (1, 5), (1, 5), (1, 5)]


def test_a_scale_that_the_file_names_in_another_column_is_hinted_at(full: Place) -> None:
    found = full.give([score(number, value=number, max_score=40) for number in range(40)])
    assert found.reasons[0].reason.endswith("did you mean scale_max by `max_score`?")


# Scores of tools


def test_a_langfuse_folder_without_manifests_gives_its_scores_and_words_are_no_defect(place: Place) -> None:
    (place.scores / "observations_v2").mkdir()
    (place.scores / "scores").mkdir()
    observations = [langfuse.generation(number) for number in range(3)]
    (place.scores / "observations_v2" / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in observations), encoding="utf-8")
    scores = [
        langfuse.score(id="1"),
        langfuse.score(id="2", observation_id="obs-1", name="category", data_type="CATEGORICAL", string_value="good"),
        langfuse.score(id="3", observation_id=None, trace_id="tr-2"),
        langfuse.score(id="4", observation_id="obs-9"),
        langfuse.score(id="5", observation_id=None, trace_id=None, session_id="s"),
    ]
    (place.scores / "scores" / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in scores), encoding="utf-8")
    ingest_logs(place.home, str(place.scores), now_s=NOW_S)
    place.read().check_readable()
    found = place.totals()
    assert (found.records, found.matched, found.unmatched, found.quarantined, found.in_words) == (5, 2, 1, 2, 2)
    assert found.refused_share == 0.0


def test_yes_and_no_are_1_and_0_in_every_kind_of_file_and_a_page_of_scores_is_opened(place: Place) -> None:
    scores = [score(number, name="passed", source="check", value=value) for number, value in enumerate((True, False, "TRUE", "no"))]
    for name in ("s.jsonl", "s.csv", "s.parquet"):
        place.write(scores, name)
    (place.scores / "page.json").write_text(json.dumps({"data": [score(9, value=0.5)], "meta": {"page": 1}}), encoding="utf-8")
    result = place.read()
    assert (result.ingested, result.duplicates, result.quarantined) == (4, 6, 3)
    assert [(each.reason, each.count) for each in place.totals().reasons] == [("value is missing or not a finite number", 3)]


def test_logs_handed_over_as_feedback_are_told_apart(full: Place) -> None:
    result = ingest_feedback(full.home, str(full.logs), now_s=NOW_S)
    with pytest.raises(UnusableInputError, match="holds log records \\(canonical\\) and no scores"):
        result.check_readable()


# Erasure


def test_scores_of_a_forgotten_user_are_gone_and_are_not_unmatched_when_they_are_given_again(full: Place) -> None:
    scores = [score(number) for number in range(REQUESTS)]
    full.give([*scores, score(1, value=7)])
    forget(full.home, "user", "user-1", now_s=NOW_S)
    found = full.totals()
    assert (found.records, found.ingested, found.matched, found.unmatched, found.quarantined) == (26, 25, 25, 0, 1)
    full.write(scores, "again.jsonl")
    # Of attempts, too, and newer ones.
    full.write([score(number, request_id=None, attempt_id=f"try-{number:04d}", value=1) for number in range(10)], "attempts.jsonl")
    full.read()
    found = full.totals()
    assert (found.matched, found.unmatched, found.is_lost) == (30, 0, False)
    held = Lake(full.home).side_table("feedback").to_pylist()
    assert not [row for row in held if int((row["request_id"] or row["attempt_id"])[-4:]) % 2]


def test_scores_of_logs_that_were_left_out_because_of_whom_they_are_of_are_not_unmatched(place: Place) -> None:
    place.ingest(call(number) for number in range(10))
    forget(place.home, "team", "team-3", now_s=NOW_S)
    place.write_logs((call(number) for number in range(10, REQUESTS)), "later.jsonl")
    ingest_logs(place.home, str(place.logs), now_s=NOW_S)
    found = place.give([score(number) for number in range(REQUESTS)])
    assert (found.records, found.matched, found.unmatched) == (40, 40, 0)
    before = len(Lake(place.home).side_table("forgotten"))
    mark_for_reading_again(place.home, prefix="")
    ingest_logs(place.home, str(place.logs), now_s=NOW_S)
    assert len(Lake(place.home).side_table("forgotten")) == before, "what is remembered is not remembered again"


def test_scores_from_before_a_moment_that_was_forgotten_stay_away(full: Place) -> None:
    full.give([score(number) for number in range(REQUESTS)])
    forget(full.home, "before", "2026-11-23T06:00:00", now_s=NOW_S)
    kept = full.totals().ingested
    assert 0 < kept < REQUESTS
    found = full.give([score(number, value=1) for number in range(REQUESTS)], "again.jsonl")
    assert found.unmatched == 0
    assert found.records <= 2 * kept


def test_a_request_that_comes_back_by_another_object_keeps_the_scores_it_is_given_then(full: Place) -> None:
    forget(full.home, "object", "a.jsonl", now_s=NOW_S)
    full.write_logs([call(3)], "b.jsonl")
    ingest_logs(full.home, str(full.logs), now_s=NOW_S)
    found = full.give([score(3), score(4)])
    assert (found.records, found.matched, found.unmatched) == (1, 1, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"value": [0.5, 0.7]}, "column `value` holds lists or structs, and a score has one plain value in each"),
        ({"name": {"of": "judge"}, "value": [0.5]}, "columns `name`, `value` hold lists or structs"),
    ],
)
def test_a_parquet_file_with_a_list_or_a_struct_where_a_value_belongs_names_the_column(
    full: Place, changed: dict[str, object], said: str
) -> None:
    full.scores.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([score(number) | changed for number in range(3)]), full.scores / "s.parquet")
    with pytest.raises(UnusableInputError, match=said):
        full.read().check_readable()
