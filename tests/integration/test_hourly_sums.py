"""Sums kept for each data file: equal to those of the rows, read once, gone with their rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pytest

from routing_pipeline.alerts.attribution import cause_from_sums
from routing_pipeline.alerts.decisions import AlertDecision
from routing_pipeline.alerts.series import series_from_sums
from routing_pipeline.catalog import Catalog
from routing_pipeline.ingest.compaction import maintain
from routing_pipeline.ingest.erasure import forget
from routing_pipeline.ingest.ingestion import ingest_feedback, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import conform_days
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.few_names import NAMES_KEPT, OTHERS
from routing_pipeline.window.hourly import CELL, FILES_AT_ONCE, KINDS, NAMES, Feedback, SumsStore, priced, quantile_ms
from routing_pipeline.window.scope import Window
from tests.alerts import from_rows

NOW_S = 1_795_500_000.0
FIRST_HOUR = int(NOW_S) // 3600 - 60


def drawing(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


def attempt(number: int, draw: random.Random) -> dict[str, Any]:
    hour = FIRST_HOUR + draw.randrange(50)
    return {
        "attempt_id": f"a{number}",
        "request_id": f"r{number}",
        "started_at": datetime.fromtimestamp(hour * 3600 + draw.random() * 3600, UTC).isoformat(),
        "model": draw.choice(("gpt-4o", "gpt-4o-mini")),
        "team": draw.choice(("search", "support", None)),
        "task_type": draw.choice(("answer", None)),
        "routing_rule_id": draw.choice(("r1", None)),
        "status": draw.choice(("success", "success", "success", "failure", "cancelled")),
        "latency_ms": draw.choice((None, 0.0, draw.lognormvariate(7, 1))),
        "quality_score": draw.choice((None, draw.random())),
        "cost_usd": draw.choice((None, draw.random())),
        "prompt_tokens": draw.randrange(1000),
        "completion_tokens": draw.randrange(100),
    }


class Place:
    """A lake that grows object by object, and the sums of it."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.logs, self.feedback_folder, self.home, self.engine = root / "logs", root / "feedback", Home(root / "home"), engine
        self.logs.mkdir()
        self.feedback_folder.mkdir()
        self.lake, self.store = Lake(self.home), SumsStore(self.home, engine)

    def ingest(self, rows: Iterable[dict[str, Any]]) -> None:
        name = f"{len(list(self.logs.iterdir()))}.jsonl"
        (self.logs / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ingest_logs(self.home, str(self.logs), now_s=NOW_S)

    def score(self, scores: Iterable[tuple[int, float]], at_s: float) -> None:
        name = f"{len(list(self.feedback_folder.iterdir()))}.jsonl"
        rows = [
            {"request_id": f"r{number}", "name": "quality", "value": value, "source": "judge", "scored_at": at_s}
            for number, value in scores
        ]
        (self.feedback_folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ingest_feedback(self.home, str(self.feedback_folder), now_s=NOW_S)

    @property
    def feedback(self) -> Feedback:
        return Feedback(self.lake.feedback_files(), self.lake.feedback_version(), "quality")

    def rows(self) -> ibis.Table:
        return priced(self.engine.read_parquet(self.lake.all_files()), Catalog())

    def kept_files(self, kind: str = "attempts") -> set[Path]:
        return set((self.home.root / "sums").glob(f"*/{kind}/*.cells.parquet"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with open_engine() as engine:
        yield Place(tmp_path, engine)


def by_series(table: ibis.Table, count: str, total: str, squares: str) -> dict[tuple[str, str], tuple[float, float, float]]:
    """(series, value) to sums, of the whole and by every name, as `alerts.hourly` watches them."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in table.filter(table.kind != "task and model").to_pyarrow().to_pylist():
        (name,) = KINDS[row["kind"]] or ("all",)
        value = row.get(name, "")
        value = "unknown" if name == "task_type" and value is None else value
        if value is None:
            continue
        of = found.setdefault((name, f"{row['hour']} {value}"), [0.0, 0.0, 0.0])
        for at, column in enumerate((count, total, squares)):
            of[at] += row[column]
    return {key: tuple(of) for key, of in found.items()}  # type: ignore[misc]


def watched(observations: ibis.Table) -> dict[tuple[str, str], tuple[float, float, float]]:
    """The same straight from the rows, as the sensors' own definitions have it."""
    found: dict[tuple[str, str], list[float]] = {}
    # Added up here: a query for each name takes longer than all rows of a test.
    for row in from_rows.with_hour(observations).select("hour", "value", *NAMES).to_pyarrow().to_pylist():
        for name in ("all", *NAMES):
            label = "" if name == "all" else row[name]
            label = "unknown" if name == "task_type" and label is None else label
            if label is not None:
                of = found.setdefault((name, f"{row['hour']} {label}"), [0.0, 0.0, 0.0])
                for at, added in enumerate((1.0, row["value"], row["value"] ** 2)):
                    of[at] += added
    return {key: tuple(of) for key, of in found.items()}  # type: ignore[misc]


def assert_same(kept: ibis.Table | None, columns: tuple[str, str, str], observations: ibis.Table) -> None:
    assert kept is not None
    found = {key: of for key, of in by_series(kept, *columns).items() if of[0] > 0}
    expected = watched(observations)
    assert found.keys() == expected.keys()
    for key, of in expected.items():
        assert found[key] == pytest.approx(of, rel=1e-9, abs=1e-9)


COSTS = ("attempts", "cost_usd", "cost_squares")
LATENCIES = ("timed", "log_latency", "log_latency_squares")
FAILURES = ("ended", "failures", "failures")
SCORES = ("scored", "quality", "quality_squares")


def test_sums_over_files_are_those_of_all_rows_for_every_measure_of_the_sensors(place: Place) -> None:
    draw = drawing(1)
    for part in range(3):
        place.ingest(attempt(part * 400 + number, draw) for number in range(400))
    kept = place.store.attempts(place.lake.all_files())
    rows = place.rows()
    assert kept.pending == 0
    assert_same(kept.series, COSTS, from_rows.costs(rows))
    assert_same(kept.series, LATENCIES, from_rows.log_latencies(rows))
    assert_same(kept.series, FAILURES, from_rows.failures(rows))
    assert_same(kept.series, SCORES, from_rows.qualities(rows, None, "quality"))
    assert_same(place.store.scores(place.lake.all_files(), place.feedback).series, SCORES, from_rows.qualities(rows, None, "quality"))


def test_series_from_kept_sums_are_those_from_the_rows(place: Place) -> None:
    draw = drawing(8)
    place.ingest(attempt(number, draw) for number in range(600))
    kept, rows = place.store.attempts(place.lake.all_files()).series, place.rows()
    assert kept is not None
    observed = {"spend": from_rows.costs(rows), "latency": from_rows.log_latencies(rows), "failed attempts": from_rows.failures(rows)}
    for measured, observations in (observed | {"quality": from_rows.qualities(rows, None, "quality")}).items():
        found = series_from_sums(kept, measured, FIRST_HOUR, FIRST_HOUR + 50)  # type: ignore[arg-type]
        expected = from_rows.hourly_sums(observations, FIRST_HOUR, FIRST_HOUR + 50)
        assert found is not None
        assert expected is not None
        assert (found.first_hour, found.series) == (expected.first_hour, expected.series)
        for name in ("count", "total", "squares"):
            assert np.allclose(getattr(found, name), getattr(expected, name))


def test_the_cause_from_kept_sums_is_that_from_the_rows(place: Place) -> None:
    draw = drawing(9)
    rows = [attempt(number, draw) for number in range(400)]
    earlier = [row | {"attempt_id": f"e{row['attempt_id']}", "started_at": week_before(row["started_at"])} for row in rows[:200]]
    place.ingest([*rows, *earlier])
    kept = place.store.attempts(place.lake.all_files()).series
    assert kept is not None
    for measured, is_sum in (("spend", True), ("latency", False)):
        window = {"start_s": (FIRST_HOUR + 4) * 3600.0, "end_s": (FIRST_HOUR + 40) * 3600.0}
        observations = from_rows.costs(place.rows()) if is_sum else from_rows.log_latencies(place.rows())
        expected = from_rows.attribution(observations, window["start_s"], window["end_s"], 4, is_sum=is_sum)
        alert = AlertDecision(kind="alert", reason="", cursor="", measured=measured, **window)
        assert expected is not None
        assert expected.sentences()
        assert cause_from_sums(kept, alert, 4) == expected.sentences()


def week_before(moment: str) -> str:
    return (datetime.fromisoformat(moment) - timedelta(days=7)).isoformat()


def test_a_new_object_makes_sums_of_its_own_data_files_only(place: Place) -> None:
    draw = drawing(2)
    place.ingest(attempt(number, draw) for number in range(200))
    place.store.attempts(place.lake.all_files())
    before = {path: path.stat().st_mtime_ns for path in place.kept_files()}
    place.ingest(attempt(1000 + number, draw) for number in range(200))
    kept = place.store.attempts(place.lake.all_files())
    assert {path: path.stat().st_mtime_ns for path in place.kept_files()}.items() > before.items()
    assert_same(kept.series, COSTS, from_rows.costs(place.rows()))


def test_late_scores_count_and_the_newest_of_them(place: Place) -> None:
    draw = drawing(3)
    for part in range(2):
        place.ingest(attempt(part * 200 + number, draw) for number in range(200))
    files = place.lake.all_files()
    place.store.scores(files, place.feedback)
    for later in (1, 2):
        place.score(((number, draw.random()) for number in range(0, 400, later)), NOW_S - 1000 + later)
        feedback = place.feedback
        kept = place.store.scores(files, feedback)
        assert kept.pending == 0
        assert_same(kept.series, SCORES, from_rows.qualities(place.rows(), place.engine.read_parquet(feedback.files), "quality"))
    # What stood there before goes with the next look.
    place.store.scores(files, place.feedback)
    assert len(place.kept_files("scores")) == len(files)


def test_what_a_budget_leaves_is_pending_and_stands_in_the_older_scores(place: Place) -> None:
    draw = drawing(4)
    for part in range(6):
        place.ingest({**attempt(part * 50 + number, draw), "status": "success"} for number in range(50))
    files = place.lake.all_files()
    assert len(files) > FILES_AT_ONCE
    left = [place.store.attempts(files, at_most=1).pending for _ in range(2)]
    assert left == [len(files) - FILES_AT_ONCE, max(len(files) - 2 * FILES_AT_ONCE, 0)]
    assert place.store.attempts(files, at_most=0).pending == left[-1]
    place.store.attempts(files)
    place.score(((number, 0.5) for number in range(300)), NOW_S - 1000)
    place.store.scores(files, place.feedback)
    place.score(((number, 0.9) for number in range(300)), NOW_S - 500)
    partly = place.store.scores(files, place.feedback, at_most=1)
    assert partly.pending == len(files) - FILES_AT_ONCE
    assert partly.cells is not None
    found = partly.cells.agg(n=partly.cells.scored.sum(), quality=partly.cells.quality.sum()).to_pyarrow().to_pylist()[0]
    assert 0.5 * found["n"] < found["quality"] < 0.9 * found["n"]


def test_sums_of_forgotten_rows_are_neither_read_nor_kept(place: Place) -> None:
    draw = drawing(5)
    place.ingest(attempt(number, draw) for number in range(300))
    place.store.attempts(place.lake.all_files())
    assert any(b"search" in path.read_bytes() for path in place.kept_files())
    forget(place.home, "team", "search", now_s=NOW_S)
    assert not place.kept_files()
    kept = place.store.attempts(place.lake.all_files())
    assert kept.series is not None
    assert "search" not in set(kept.series.select("team").to_pyarrow()["team"].to_pylist())


def test_files_joined_into_larger_ones_give_the_same_sums(place: Place) -> None:
    draw = drawing(6)
    for part in range(4):
        place.ingest(attempt(part * 100 + number, draw) for number in range(100))
    before = place.store.attempts(place.lake.all_files()).series
    assert before is not None
    sums = by_series(before, *COSTS)
    maintain(place.home)
    after = place.store.attempts(place.lake.all_files()).series
    assert after is not None
    joined = by_series(after, *COSTS)
    assert place.store.prune(place.lake.files_by_day()) > 0
    assert len(place.kept_files()) == len(place.lake.all_files())
    assert joined.keys() == sums.keys()
    assert np.allclose([joined[key] for key in sums], list(sums.values()))


def test_a_thousand_names_are_a_hundred_and_the_others_and_nothing_is_lost(place: Place) -> None:
    draw = drawing(7)
    rows = [attempt(number, draw) | {"team": f"team-{number}" if number % 4 else "big"} for number in range(1000)]
    place.ingest(rows)
    kept = place.store.attempts(place.lake.all_files()).series
    assert kept is not None
    teams = kept.filter(kept.kind == "team").group_by("team").agg(n=kept.attempts.sum()).to_pyarrow().to_pylist()
    counts = {row["team"]: row["n"] for row in teams}
    assert sum(counts.values()) == 1000
    assert counts["big"] == 250
    assert counts[OTHERS] > 0
    assert len(counts) <= NAMES_KEPT * len(place.lake.all_files()) + 1


def test_cells_are_for_those_who_filter_by_several_names_at_once(place: Place) -> None:
    draw = drawing(10)
    for part in range(2):
        place.ingest(attempt(part * 300 + number, draw) for number in range(300))
    rows = place.rows()
    scored = rows.filter(rows.status == "success", rows.quality_score.notnull())
    for kept, of, count in (
        (place.store.attempts(place.lake.all_files()), rows, "attempts"),
        (place.store.scores(place.lake.all_files(), place.feedback), scored, "scored"),
    ):
        assert kept.cells is not None
        cells = kept.cells.filter(kept.cells[count] > 0)
        found = cells.group_by("hour", *CELL).agg(n=cells[count].sum()).to_pyarrow().to_pylist()
        timed = from_rows.with_hour(of)
        expected = timed.group_by("hour", *CELL).agg(n=timed.count().cast("float64")).to_pyarrow().to_pylist()
        assert in_order(found) == in_order(expected)


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def test_series_grow_with_names_and_not_with_their_combinations(place: Place) -> None:
    draw, names = drawing(11), 12

    def one_of() -> dict[str, str]:
        return {name: f"{name}-{draw.randrange(names)}" for name in NAMES}

    place.ingest(attempt(number, draw) | one_of() | {"started_at": attempt(0, drawing(0))["started_at"]} for number in range(4_000))
    files = place.lake.all_files()
    kept, feedback = place.store.attempts(files), place.feedback
    for series in (kept.series, place.store.scores(files, feedback).series):
        assert series is not None
        assert series.count().execute() <= len(files) * (1 + 4 * names + names**2)
    assert kept.cells is not None
    assert kept.cells.count().execute() > names**2 * 4


def conformed(place: Place) -> ibis.Table:
    window = Window(FIRST_HOUR // 24 * 86_400.0, (FIRST_HOUR // 24 + 4) * 86_400.0)
    rows = conform_days(place.engine.read_parquet(place.lake.all_files()), window, catalog=Catalog())
    return rows.mutate(hour=(rows.started_s / 3600).floor().cast("int64"))


def test_sums_of_days_are_those_of_the_rows_that_an_analysis_reads(place: Place) -> None:
    draw = drawing(12)
    for part in range(2):
        # The second object begins with attempts of the requests that the first one ends with.
        place.ingest(attempt(part * 300 + number, draw) | {"request_id": f"r{part * 280 + number}"} for number in range(300))
    kept, rows = place.store.days(place.lake.files_by_day()), conformed(place)
    assert (kept.pending, kept.missing) == (0, 0)
    final = rows.filter(rows.is_final)
    requests = place.engine.read_parquet(list(kept.requests.values()))
    key = ("hour", "operation", *CELL)
    found = requests.group_by(*key).agg(
        requests=requests.requests.sum(),
        failures=requests.failures.sum(),
        attempts=requests.attempts.sum(),
        usd=requests.cost_usd.sum().round(6),
    )
    expected = rows.group_by(*key).agg(
        requests=rows.is_final.sum().cast("float64"),
        failures=(rows.is_final & (rows.status == "failure")).sum().cast("float64"),
        attempts=rows.count().cast("float64"),
        usd=rows.cost_usd.sum().fill_null(0.0).round(6),
    )
    assert in_order(found.to_pyarrow().to_pylist()) == in_order(expected.to_pyarrow().to_pylist())
    errors = place.engine.read_parquet(list(kept.errors.values()))
    failed = rows.filter(rows.status == "failure")
    assert errors.attempts.sum().execute() == failed.count().execute() > 0
    assert errors.failures.sum().execute() == failed.is_final.sum().execute()
    latency = place.engine.read_parquet(list(kept.latency.values())).to_pyarrow()
    upper = quantile_ms(latency["step"].to_numpy(), latency["requests"].to_numpy(), 0.75)
    assert upper == pytest.approx(final.request_latency_ms.quantile(0.75).execute(), rel=0.03)


def test_an_ingestion_makes_the_days_anew_that_it_touches_and_those_next_to_them(place: Place) -> None:
    draw, noon = drawing(13), datetime.fromtimestamp(FIRST_HOUR // 24 * 86_400, UTC) + timedelta(hours=12)
    for day in range(-6, 1):
        place.ingest(
            attempt(1000 * (day + 7) + number, draw) | {"started_at": (noon + timedelta(days=day)).isoformat()} for number in range(20)
        )
    first = place.store.days(place.lake.files_by_day(), at_most=1)
    # Where nothing is there yet, the newest day comes by itself.
    assert (len(first.requests), first.pending, first.missing) == (1, 6, 6)
    before = place.store.days(place.lake.files_by_day()).requests
    place.ingest([attempt(9000, draw) | {"started_at": (noon - timedelta(days=4)).isoformat()}])
    waiting = place.store.days(place.lake.files_by_day(), at_most=0)
    assert (waiting.requests, waiting.pending, waiting.missing) == (before, 3, 0)
    after = place.store.days(place.lake.files_by_day()).requests
    today = FIRST_HOUR // 24
    assert sorted(day - today for day in after if after[day] != before[day]) == [-5, -4, -3]
    place.store.days(place.lake.files_by_day())
    assert {path for path in before.values() if path.exists()} == {after[day] for day in before if after[day] == before[day]}
    assert place.store.prune([each for each in place.lake.files_by_day() if each[0] == today]) >= 6
    assert [path for path in after.values() if path.exists()] == [after[today]]


def test_an_empty_lake_has_no_sums(place: Place) -> None:
    kept = place.store.attempts(())
    assert (kept.cells, kept.series, kept.parts, kept.pending) == (None, None, (), 0)
