"""Windows put together from kept days: equal to windows conformed whole, and nothing conformed twice."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.lake.side_tables import arrow_schema
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import ModelOverride, Parameters
from routing_pipeline.schema import FEEDBACK, KEPT_FEEDBACK, REQUEST_LOG
from routing_pipeline.storage.home import Home
from routing_pipeline.window import day_cache, resolve
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.rows import are_there, rows_at
from routing_pipeline.window.scope import AnalysisScope, Window
from tests.lakes import put, with_columns

FIRST = datetime(2026, 3, 2, tzinfo=UTC)
DAY_S = 86_400
FIRST_DAY = int(FIRST.timestamp()) // DAY_S


def attempt(request: str, at: datetime, number: int = 1, **given: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(column.name for column in REQUEST_LOG)
    row |= {"attempt_id": f"{request}/{number}", "request_id": request, "started_at": at, "status": "success", "latency_ms": 800.0}
    row |= {"model": "gpt-4o", "provider": "openai", "task_type": "code", "prompt_tokens": 100, "completion_tokens": 50, "cost_usd": 0.25}
    row |= {"source_format": "test", "source_object": "object", "ingested_at": at}
    return row | given


def score(at: datetime, value: float, **given: Any) -> dict[str, Any]:
    return dict.fromkeys(column.name for column in FEEDBACK) | {
        "name": "quality",
        "value": value,
        "source": "judge",
        "scored_at": at,
        **given,
    }


class SmallLake:
    """A lake that grows object by object. Whatever is added or replaced is a new data file."""

    def __init__(self, home: Home) -> None:
        self.home, self.lake = home, Lake(home)
        self.objects: dict[str, list[str]] = {}

    def put(self, rows: list[dict[str, Any]], name: str) -> None:
        """Add an object, or replace it; an object without rows leaves."""
        self.objects[name] = put(self.lake, table_of(REQUEST_LOG, rows), replaced=self.objects.get(name, ()))

    def score(self, rows: list[dict[str, Any]]) -> None:
        self.lake.commit(feedback=with_columns(table_of(FEEDBACK, rows), arrow_schema(KEPT_FEEDBACK)))

    def forget_scores(self) -> None:
        self.lake.commit(rewritten={"feedback": []})


def table_of(columns: Any, rows: list[dict[str, Any]]) -> pa.Table:
    naive = [{name: value.replace(tzinfo=None) if isinstance(value, datetime) else value for name, value in row.items()} for row in rows]
    return pa.Table.from_pylist(naive, arrow_schema(columns))


class Asking:
    """Resolves scopes on a lake; remembers which days were conformed for the last one, and which were written from what was kept."""

    def __init__(self, lake: SmallLake, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lake, self.engine, self.home = lake, engine, lake.home
        self.conformed: list[int] = []
        self.scored: list[int] = []
        conform_days = day_cache.conform_days

        def noted(attempts: Any, window: Window, **options: Any) -> Any:
            first, last = window.start_s / DAY_S, window.end_s / DAY_S
            self.conformed += [day - FIRST_DAY for day in range(math.floor(first), math.ceil(last))]
            return conform_days(attempts, window, **options)

        monkeypatch.setattr(day_cache, "conform_days", noted)
        # However few rows there are, the window is the one that was asked for.
        monkeypatch.setattr(resolve, "MIN_REQUESTS", 1)

    def __call__(self, timeframe: str = "24h", as_of: datetime | None = None, **asked: Any) -> AnalysisScope:
        self.conformed.clear()
        before = self.kept()
        parameters = Parameters(timeframe=timeframe, as_of=as_of, **asked)  # type: ignore[arg-type]
        scope = resolve_scope(self.lake.lake, parameters, engine=self.engine, engine_name="duckdb")
        self.scored = sorted({int(name.partition("-")[0]) - FIRST_DAY for name in self.kept() - before} - set(self.conformed))
        return scope

    def kept(self) -> set[str]:
        return {path.name for path in self.home.days.glob("*")}

    def check(self, scope: AnalysisScope) -> None:
        """Both windows of a scope hold what conforming them whole gives."""
        parameters = scope.parameters
        attempts = self.engine.read_parquet(self.lake.lake.all_files())
        scores = self.lake.lake.feedback_files()
        feedback = self.engine.read_parquet(scores) if scores else None
        window = Window(scope.start_s, scope.end_s)
        for location, part in ((scope.requests_uri, window), (scope.previous_uri, window.previous)):
            whole = conform(
                attempts,
                part,
                catalog=Catalog(parameters.models),
                feedback=feedback,
                quality_name=parameters.quality_feedback,
                task_types=parameters.task_types,
            )
            assert rows_of(rows_at(self.engine, location)) == rows_of(whole)


def rows_of(table: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pyarrow().to_pylist()
    return sorted(found, key=lambda row: str(row["attempt_id"]))


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    with open_engine("duckdb") as engine:
        yield Asking(SmallLake(Home(tmp_path)), engine, monkeypatch)


def plain_day(day: int, requests: int = 100) -> list[dict[str, Any]]:
    """A request every quarter of an hour, most of them scored."""
    begins = FIRST + timedelta(days=day)
    return [
        attempt(f"{day}-{number}", begins + timedelta(seconds=number * 860), quality_score=0.5 if number % 4 else None)
        for number in range(requests)
    ]


def awkward_traffic(rng: np.random.Generator, days: int, requests: int) -> list[dict[str, Any]]:
    """Chains that cross midnight, failures with their success a day or more later, columns that are not always logged."""
    rows = []
    for number in range(requests):
        at = FIRST + timedelta(seconds=float(rng.uniform(0, days * DAY_S)))
        for place in range(int(rng.integers(1, 5))):
            status = str(rng.choice(["success", "failure", "cancelled"], p=[0.5, 0.4, 0.1]))
            given: dict[str, Any] = {
                "status": status,
                "model": str(rng.choice(["gpt-4o", "gpt-4o-mini", "own"])),
                "cost_usd": None if rng.random() < 0.2 else float(rng.integers(1, 64)) / 64,
                "complexity": None if rng.random() < 0.5 else 0.25,
                "task_type": [None, "code", "chat"][int(rng.integers(3))],
                "prompt_tokens": int(rng.integers(1, 30)) * 10,
                "session_id": None if rng.random() < 0.2 else f"s{number % 40}",
                "quality_score": 0.5 if rng.random() < 0.3 else None,
                "user_rating": 0.25 if rng.random() < 0.2 else None,
            }
            rows.append(attempt(f"r{number}", at, place, **given))
            at += timedelta(seconds=float(rng.choice([1, 600, 20_000, 80_000, 180_000])))
            if at >= FIRST + timedelta(days=days):
                break
    return rows


def some_scores(rng: np.random.Generator, rows: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    scores = []
    for row in rng.choice(np.array(rows, dtype=object), number):
        whom = {"request_id": row["request_id"]} if rng.random() < 0.5 else {"attempt_id": row["attempt_id"]}
        by = {"source": "user", "name": "stars"} if rng.random() < 0.3 else {}
        scores.append(score(row["started_at"] + timedelta(hours=float(rng.uniform(1, 90))), float(rng.integers(0, 9)) / 8, **whom, **by))
    return scores


def test_a_window_of_kept_days_is_equal_to_the_window_conformed_whole_whatever_comes_late(asking: Asking) -> None:
    rng = np.random.default_rng(1)
    lake, rows = asking.lake, awkward_traffic(rng, 7, 500)
    is_late = [rng.random() < 0.05 for _ in rows]
    arriving, held_back = ([row for row, late in zip(rows, is_late, strict=True) if late is which] for which in (False, True))
    by_day = [[row for row in arriving if row["started_at"].date() == (FIRST + timedelta(days=day)).date()] for day in range(7)]
    for day, mine in enumerate(by_day):
        lake.put(mine, f"day-{day}")
        if day == 4:
            lake.score(some_scores(rng, rows, 120))
            asking("24h")
    asking.check(asking("7d"))
    lake.put(held_back, "late")
    lake.score(some_scores(rng, rows, 30))
    asking("24h", as_of=FIRST + timedelta(days=5, hours=3))
    lake.put([row | {"status": "success"} for row in by_day[4] if row["attempt_id"] < "r3"], "day-4")
    lake.put([], "day-1")
    asking.check(asking("7d", task_types=("code",), as_of=FIRST + timedelta(days=6, hours=float(rng.uniform(0, 24)))))


def test_a_row_reads_the_same_in_every_window_that_holds_it(asking: Asking) -> None:
    rows = awkward_traffic(np.random.default_rng(4), 6, 400)
    asking.lake.put(rows, "all")
    attempts = asking.engine.read_parquet(asking.lake.lake.all_files())

    def read(start: float, end: float) -> dict[str, dict[str, Any]]:
        window = Window((FIRST_DAY + start) * DAY_S, (FIRST_DAY + end) * DAY_S)
        found = rows_of(conform(attempts, window, catalog=Catalog()))
        # Ranks of lengths are those among the window's own.
        return {row["attempt_id"]: {name: value for name, value in row.items() if name != "complexity"} for row in found}

    whole = read(0, 6)
    for start, end in ((0, 1), (2.4, 3.1), (3, 5.5)):
        part = read(start, end)
        assert part == {name: whole[name] for name in part}
        assert part


def test_a_weekly_run_after_daily_ones_conforms_nothing_again_and_has_an_empty_week_before_it(asking: Asking) -> None:
    for day in range(3):
        asking.lake.put(plain_day(day), f"{day}")
        asking("24h")
        # The day before may have gone on in what came now.
        assert set(asking.conformed) - {-1} <= {day - 2, day - 1, day}
        assert day in asking.conformed
    scope = asking("7d")
    assert asking.conformed == []
    assert (scope.requests, scope.previous_requests) == (300, 0)
    asking.check(scope)


def test_the_day_before_is_made_again_once_the_next_day_is_known_and_older_ones_are_not(asking: Asking) -> None:
    for day in range(7):
        asking.lake.put(plain_day(day), f"{day}")
    asking("7d")
    assert asking.conformed == [0, 1, 2, 3, 4, 5, 6]
    asking.lake.put(plain_day(7), "7")
    asking.check(asking("7d"))
    assert [day for day in asking.conformed if day > 0] == [6, 7]


def test_a_late_score_is_put_into_its_own_day_and_nothing_is_conformed(asking: Asking) -> None:
    for day in range(5):
        asking.lake.put(plain_day(day), f"{day}")
    asking("7d")
    asking.lake.score([score(FIRST + timedelta(days=9), 0.125, request_id="3-5"), score(FIRST + timedelta(days=9), 0.125, request_id="x")])
    scope = asking("7d")
    assert (asking.conformed, asking.scored) == ([], [3])
    asking.check(scope)
    found = {row["attempt_id"]: row["quality"] for row in rows_of(rows_at(asking.engine, scope.requests_uri))}
    assert found["3-5/1"] == 0.125
    asking.lake.score([score(FIRST + timedelta(days=8), 0.75, request_id="3-5")])
    asking("7d")
    assert (asking.conformed, asking.scored) == ([], []), "an older score than the newest changes nothing"
    asking.lake.score([score(FIRST + timedelta(days=10), 0.75, attempt_id="2-5/1", source="user", name="stars")])
    scope = asking("7d")
    assert (asking.conformed, asking.scored) == ([], [2])
    found = {row["attempt_id"]: row["user_rating"] for row in rows_of(rows_at(asking.engine, scope.requests_uri))}
    assert found["2-5/1"] == 0.75
    asking.lake.forget_scores()
    asking.check(asking("7d"))
    assert asking.conformed == [], "without its scores a day is the one that was kept before they came"


def test_late_and_replaced_rows_make_their_day_and_the_days_next_to_it_anew(asking: Asking) -> None:
    for day in range(5):
        asking.lake.put(plain_day(day), f"{day}")
    asking("7d")
    asking.lake.put([attempt("late", FIRST + timedelta(days=2, hours=23, minutes=59), status="failure")], "late")
    asking.lake.put([attempt("late", FIRST + timedelta(days=3), 2)], "later")
    scope = asking("7d")
    assert asking.conformed == [1, 2, 3, 4]
    asking.lake.put([], "late")
    scope = asking("7d")
    # Of day 1 all is as it was before, and what was kept then is still there.
    assert asking.conformed == [2, 3]
    asking.check(scope)
    assert "late/1" not in {row["attempt_id"] for row in rows_of(rows_at(asking.engine, scope.requests_uri))}


def test_a_short_window_conforms_no_whole_days_and_takes_those_that_are_kept(asking: Asking) -> None:
    for day in range(3):
        asking.lake.put(plain_day(day), f"{day}")
    noon = FIRST + timedelta(days=1, hours=12)
    scope = asking("24h", as_of=noon)
    folder = Path(scope.requests_uri).parent
    assert {path.name for path in folder.glob("*.parquet") if "lengths" not in path.name} == {f"{FIRST_DAY + 1}.parquet"}
    assert len(list(asking.home.days.iterdir())) == 1
    asking.check(scope)
    asking("24h")
    later = asking("24h", as_of=noon + timedelta(hours=1))
    assert asking.conformed == []
    assert not list(Path(later.requests_uri).parent.glob("[0-9]*.parquet"))
    asking.check(later)


def test_other_prices_another_quality_and_other_code_have_days_of_their_own(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    asking.lake.put(plain_day(0), "0")
    asking.lake.put(plain_day(1), "1")
    asking.lake.score([score(FIRST + timedelta(days=3), 0.125, request_id="1-5", name="helpful", source="eval")])
    asking("24h")
    asking("24h", quality_feedback="helpful")
    assert (asking.conformed, asking.scored) == ([], [1])
    asking("24h", models={"gpt-4o": ModelOverride(input_usd_per_million=99.0)})
    assert asking.conformed == [0, 1]
    monkeypatch.setattr(day_cache, "code_key", lambda _: "another")
    monkeypatch.setattr(resolve, "code_key", lambda _: "another")
    asking("24h")
    assert 1 in asking.conformed


def test_days_that_were_dropped_are_made_again(asking: Asking) -> None:
    for day in range(3):
        asking.lake.put(plain_day(day), f"{day}")
    scope = asking("24h")
    for path in asking.home.days.iterdir():
        path.unlink()
    assert not are_there(scope.requests_uri)
    again = asking("24h")
    assert again.requests_uri == scope.requests_uri
    assert are_there(again.requests_uri)
    asking.check(again)


def test_rows_that_are_gone_are_named_in_one_line(asking: Asking) -> None:
    with pytest.raises(UnusableInputError, match=r"the rows of this analysis were dropped; ask for it again"):
        rows_at(asking.engine, asking.home.windows / "0" / "requests.json")


def test_two_who_make_the_same_window_at_once_end_with_the_same_rows_and_leave_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    lake = SmallLake(home)
    for day in range(4):
        lake.put(plain_day(day), f"{day}")
    found, begin = list[AnalysisScope](), threading.Barrier(3)

    monkeypatch.setattr(resolve, "MIN_REQUESTS", 1)

    def ask(timeframe: Any) -> None:
        with open_engine("duckdb", threads=1) as engine:
            begin.wait()
            found.append(resolve_scope(Lake(home), Parameters(timeframe=timeframe), engine=engine, engine_name="duckdb"))

    threads = [threading.Thread(target=ask, args=(timeframe,)) for timeframe in ("24h", "24h", "7d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_timeframe = {scope.timeframe: scope for scope in found}
    assert len(found) == 3
    assert sorted(path.name for path in home.windows.iterdir()) == sorted({scope.rows_key for scope in found})
    assert len(list(home.days.iterdir())) == 4
    with open_engine("duckdb") as engine:
        for timeframe, days in (("24h", 1), ("7d", 4)):
            assert len(rows_of(rows_at(engine, by_timeframe[timeframe].requests_uri))) == days * 100
