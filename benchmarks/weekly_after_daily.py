"""A weekly analysis after daily ones against one from scratch: making its rows ready, and the asset `analysis_scope`.

Two million requests over eight days come in day by day, with the scores that were given by then (one to thirty hours after the
answer), and a daily scope of 24 hours is made after each. Then the scope of 7 days:

- from scratch: nothing is kept;
- six days kept: the newest day has only just come in, and the one before it has got scores since;
- all days kept: the newest day's own daily scope was made.

Times are wall and processor time of this process, with all that resolving does: planning, conforming, describing.

Run: python benchmarks/weekly_after_daily.py [requests]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg
import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from assets.resources import HomeResource, ResultsIOManager
from assets.running import instance_of
from assets.scope import analysis_scope
from routing_pipeline.demo import traffic
from routing_pipeline.lake.side_tables import SIDE_COLUMNS, arrow_schema
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters, Timeframe
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.resolve import resolve_scope

DAYS = 8
TO_REACH_SIX, TO_REACH_ALL = 0.50, 0.20

Seconds = tuple[float, float]
"""Wall and processor time."""


class Gateway:
    """Eight days of traffic: a made-up week, and its first day once more."""

    def __init__(self, requests: int) -> None:
        week = traffic.traffic(requests * 7 // DAYS)
        self.connection = duckdb.connect()
        for name, table, moment in (("attempts", week.attempts, "started_at"), ("feedback", week.feedback, "scored_at")):
            self.connection.register("week", table)
            ids = ", ".join(f"{each} || '-again' AS {each}" for each in ("attempt_id", "request_id"))
            first = (
                "request_id IN (SELECT request_id FROM attempts WHERE started_at < $until)" if name == "feedback" else "started_at < $until"
            )
            self.connection.execute(f"CREATE TABLE {name} AS SELECT * FROM week")  # noqa: S608 (our own SQL)
            moments = ", ".join(f"{each} + to_days(7) AS {each}" for each in (moment, "ingested_at") if each in table.column_names)
            again = f"INSERT INTO {name} SELECT * REPLACE ({ids}, {moments}) FROM week WHERE {first}"  # noqa: S608
            self.connection.execute(again, {"until": self.start(1)})

    def start(self, day: int) -> object:
        return traffic.WEEK_START.replace(tzinfo=None) + timedelta(days=day)

    def day_into(self, lake: Lake, day: int) -> None:
        """One object of attempts, and the scores of that day."""
        given = {"from": self.start(day), "until": self.start(day + 1)}
        data = lake.new_data_folder()
        within = "BETWEEN $from AND $until::TIMESTAMP - to_microseconds(1)"
        attempts = self.connection.sql(f"SELECT * FROM attempts WHERE started_at {within}", params=given)  # noqa: S608
        attempts.write_parquet(str(data / f"{day}.parquet"), compression="zstd")
        scores = self.connection.sql(f"SELECT *, NULL::VARCHAR AS source_object FROM feedback WHERE scored_at {within}", params=given)  # noqa: S608
        lake.commit(data, feedback=scores.select(*arrow_schema(SIDE_COLUMNS["feedback"]).names).to_arrow_table())


def timed(work: Callable[[], object]) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def keep_days(home: Home, days: Path | None) -> None:
    """Let the home hold these days and nothing else that was made."""
    shutil.rmtree(home.windows, ignore_errors=True)
    shutil.rmtree(home.days, ignore_errors=True)
    home.results.clear()
    if days is not None:
        shutil.copytree(days, home.days)


def resolved(home: Home, timeframe: Timeframe) -> Seconds:
    def work() -> None:
        with open_engine("duckdb", spill_to=home.scratch / "spill") as engine:
            scope = resolve_scope(Lake(home), Parameters(timeframe=timeframe), engine=engine, engine_name="duckdb")
        assert scope.timeframe == timeframe

    return timed(work)


def asset(home: Home) -> Seconds:
    """The asset in a run of its own, with Dagster's part and without the checks."""
    place = {"root": str(home.root)}
    with instance_of(home) as instance:
        return timed(
            lambda: dg.materialize(
                [analysis_scope],
                instance=instance,
                resources={"home": HomeResource(**place), "io_manager": ResultsIOManager(**place)},
                run_config={
                    "ops": {"analysis_scope": {"config": {"timeframe": "7d"}}},
                    "loggers": {"console": {"config": {"log_level": "ERROR"}}},
                },
            )
        )


def main(requests: int) -> bool:
    with tempfile.TemporaryDirectory() as name:
        home, kept, before = Home(Path(name) / "home").create(), Path(name) / "kept", Path(name) / "before"
        gateway, lake = Gateway(requests), Lake(home)
        for day in range(DAYS):
            gateway.day_into(lake, day)
            if day == DAYS - 1:
                shutil.copytree(home.days, before)
            wall, processor = resolved(home, "24h")
            print(f"daily scope of day {day + 1}: {wall:.1f} s, processor {processor:.1f} s")
        gateway.connection.close()
        shutil.copytree(home.days, kept)
        starts = {"scratch": None, "six": before, "all": kept}
        by_itself: dict[str, Seconds] = {}
        for what, days in starts.items():
            keep_days(home, days)
            by_itself[what] = resolved(home, "7d")
        asset(home)  # loads what has to be loaded
        found: dict[str, Seconds] = {}
        for what, days in starts.items():
            keep_days(home, days)
            found[what] = asset(home)
        sizes = [path.stat().st_size for path in kept.iterdir()]
    for subject, wholly, pairs in (
        ("scope of 7 days", by_itself["scratch"], (by_itself["six"], by_itself["all"])),
        ("asset analysis_scope", found["scratch"], (found["six"], found["all"])),
    ):
        for what, pair in zip(("six days kept", "all days kept"), pairs, strict=True):
            print(f"{subject}, {what}: processor {pair[1]:.1f} s = {pair[1] / wholly[1]:.0%} of {wholly[1]:.1f} s from scratch", end="; ")
            print(f"wall {pair[0]:.1f} s = {pair[0] / wholly[0]:.0%} of {wholly[0]:.1f} s")
    print(f"{requests:,} requests: {len(sizes)} kept days in {sum(sizes) / 1e6:.0f} MB, those made anew since with them: no upkeep ran")
    print(f"to reach: {TO_REACH_SIX:.0%} with six days kept, {TO_REACH_ALL:.0%} with all, of processor time")
    processor_s = {what: processor for what, (_, processor) in by_itself.items()}
    return processor_s["six"] <= TO_REACH_SIX * processor_s["scratch"] and processor_s["all"] <= TO_REACH_ALL * processor_s["scratch"]


if __name__ == "__main__":
    raise SystemExit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000) else "not reached")
