"""The live page over ten million requests: seconds until figures are painted, and until what is new shows.

A lake of six weeks, made of a demo week shifted and repeated; scores for a third of the answers. Measured in Chromium, each
time in a new context (nothing cached), from the navigation to the first paint that holds the figures:

- the first time ever, with no sums kept: until the newest day shows, and until all days are summed up;
- with sums kept, as sensors, ingestion and an earlier page leave them: medians of seven, by window and filter;
- after one more object of 1,000 requests is committed: until the open page shows it;
- beside it, how long the analyses themselves take for the same figures of a day (`routing_analytics`, `routing_costs`).

    python benchmarks/dashboard.py [--requests 10000000] [--home DIR (kept, used again)]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import requests
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integration"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import browser

from benchmarks.analyses import peak_gb
from routing_pipeline.analysis.routing_analytics import routing_analytics
from routing_pipeline.analysis.routing_costs import routing_costs
from routing_pipeline.demo import traffic as demo_traffic
from routing_pipeline.lake.side_tables import SIDE_COLUMNS, arrow_schema
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.rows import rows_at

WEEKS, WEEK = 6, 200_000
REPEATS = 7
TO_REACH_S = 2.0
PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def lake_of(home: Home, requests: int) -> None:
    """A demo week, repeated `requests` / (weeks x week) times and shifted back by whole weeks, one data file a day."""
    traffic, lake = demo_traffic.traffic(WEEK), Lake(home)
    copies, data = max(requests // (WEEKS * WEEK), 1), lake.new_data_folder()
    with duckdb.connect() as connection:
        connection.register("attempts", traffic.attempts)
        connection.register("feedback", traffic.feedback)
        days = [row[0] for row in connection.execute("SELECT DISTINCT date_trunc('day', started_at) FROM attempts ORDER BY 1").fetchall()]
        shifted = "started_at - to_days($back::INT) + to_microseconds(copy) AS started_at"
        ids = ", ".join(f"{name} || '/' || $back || '.' || copy AS {name}" for name in ("attempt_id", "request_id", "session_id"))
        for back in range(0, WEEKS * 7, 7):
            for day in days:
                query = f"SELECT * REPLACE ({ids}, {shifted}) FROM (SELECT * FROM attempts WHERE date_trunc('day', started_at) = $day), range({copies}) copies(copy)"  # noqa: S608
                made = connection.sql(f"SELECT * EXCLUDE copy FROM ({query})", params={"back": back, "day": day})  # noqa: S608
                made.write_parquet(str(data / f"{back:02d}-{day:%Y-%m-%d}.parquet"), compression="zstd")
        keys = ", ".join(f"{name} || '/' || 7 * week || '.' || copy AS {name}" for name in ("request_id", "attempt_id"))
        scores = connection.sql(
            f"SELECT * REPLACE ({keys}, scored_at - to_days(7 * week::INT) AS scored_at), NULL::VARCHAR AS source_object FROM feedback, range({WEEKS}) w(week), range({copies}) c(copy)"  # noqa: S608
        )
        columns = arrow_schema(SIDE_COLUMNS["feedback"]).names
        lake.commit(data, feedback=scores.select(*columns).to_arrow_table())


def one_more_object(home: Home, number: int) -> None:
    """A thousand more requests in the newest hour."""
    lake = Lake(home)
    newest, data = lake.newest_s(), lake.new_data_folder()
    with duckdb.connect() as connection:
        connection.read_parquet(list(lake.attempt_files(newest - 3600, newest))).create_view("attempts")
        made = connection.sql(
            f"SELECT * REPLACE ('new{number}-' || attempt_id AS attempt_id, 'new{number}-' || request_id AS request_id) FROM attempts "  # noqa: S608
            "WHERE status = 'success' ORDER BY started_at DESC LIMIT 1000"
        )
        made.write_parquet(str(data / "more.parquet"))
    lake.commit(data)


@contextmanager
def served(home: Home) -> Iterator[tuple[str, subprocess.Popen[str], float]]:
    """The command itself, from its start until it listens."""
    begun = time.perf_counter()
    command = [str(Path(sys.executable).with_name("routing-pipeline")), "dashboard", "--home", str(home.root), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        url = process.stderr.readline().split()[-1]
        try:
            yield url, process, time.perf_counter() - begun
        finally:
            process.terminate()


def painted_s(chromium: Browser, url: str) -> float:
    """Navigation to the frame after the figures are there, in a context of its own; an earlier paint without them does not count."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        begun = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.wait_for_selector("[data-figure=requests]", timeout=600_000)
        page.evaluate(PAINTED)
        return time.perf_counter() - begun
    finally:
        context.close()


def waited(page: Page, condition: str) -> float:
    begun = time.perf_counter()
    # Asked from outside: the page's policy forbids Playwright's own way to wait.
    while not page.evaluate(condition):
        page.wait_for_timeout(20)
    return time.perf_counter() - begun


def analysed_s(home: Home) -> float:
    """The same figures of a day straight from the rows."""
    for kept in (home.windows, home.days):
        shutil.rmtree(kept, ignore_errors=True)
    begun = time.perf_counter()
    with open_engine("duckdb") as engine:
        scope = resolve_scope(Lake(home), Parameters(timeframe="24h"), engine=engine, engine_name="duckdb")
        rows, previous = rows_at(engine, scope.requests_uri), rows_at(engine, scope.previous_uri)
        routing_analytics(rows, scope)
        routing_costs(rows, previous, scope)
    return time.perf_counter() - begun


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--home", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, browser.running() as chromium:
        home = Home(asked.home or Path(name) / "home").create()
        if Lake(home).newest_s() is None:
            lake_of(home, asked.requests)
        measure(home, chromium)
    print(f"peak of this process {peak_gb():.2f} GB")


def measure(home: Home, chromium: Browser) -> None:
    """Every figure on one home."""
    if not home.sums.exists():
        with served(home) as (url, _, start_s):
            print(f"no sums kept: the command listens after {start_s:.1f} s", flush=True)
            context = chromium.new_context()
            page, begun = context.new_page(), time.perf_counter()
            page.goto(url)
            waited(page, "!!document.querySelector('[data-figure=requests]')")
            print(f"no sums kept: figures of the newest day after {time.perf_counter() - begun:.1f} s", flush=True)
            waited(page, "!document.querySelector('.asof .badge') && !!document.querySelector('[data-figure=requests]')")
            print(f"no sums kept: everything summed up after {time.perf_counter() - begun:.1f} s", flush=True)
            context.close()
    with served(home) as (url, process, start_s):
        print(f"sums kept: the command listens after {start_s:.1f} s", flush=True)
        begun = time.perf_counter()
        first = painted_s(chromium, url)
        print(
            f"sums kept: figures {time.perf_counter() - begun:.1f} s after it listens (painted {first:.2f} s after the navigation)",
            flush=True,
        )
        while requests.get(f"{url}figures.json", timeout=600).status_code != 200:
            time.sleep(0.1)
        counted = requests.get(f"{url}figures.json?timeframe=30d", timeout=600).json()["requests"]
        for query in ("", "?timeframe=1h", "?timeframe=7d", "?timeframe=30d"):
            times = [painted_s(chromium, url + query) for _ in range(REPEATS)]
            print(
                f"first paint {query or '?timeframe=24h'}: median {statistics.median(times):.2f} s, first {times[0]:.2f} s, "
                f"largest {max(times):.2f} s (to reach {TO_REACH_S:.0f} s; {counted:,} requests in 30 days)",
                flush=True,
            )
        context = chromium.new_context()
        page = context.new_page()
        page.goto(url)
        shown = []
        for number in range(3):
            before = page.locator("[data-figure=requests]").inner_text()
            one_more_object(home, int(time.time()) + number)
            shown.append(waited(page, f"document.querySelector('[data-figure=requests]').textContent !== {before!r}"))
        print(
            f"a new object of 1,000 requests shows on the open page after {statistics.median(shown):.1f} s (median of {len(shown)})",
            flush=True,
        )
        context.close()
        used = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(f"peak of the command {int(used.split()[1]) / 1e6:.2f} GB")
    print(f"the analyses of a day straight from the rows: {analysed_s(home):.1f} s", flush=True)


if __name__ == "__main__":
    main()
