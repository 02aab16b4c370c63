"""The live page over HTTP: one page made on the server, one small script that fetches it again while logs arrive.

Belongs here: addresses, headers, filters from the address, filling the templates. Does not belong here: figures (`model`), who may
look (`auth`).

Everything that comes from logs is escaped by the templates, and the page forbids its browser every script, style, font and
address but its own, so that what slipped through would not run. Filters travel as digests: a name may be megabytes long.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

import duckdb
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from routing_pipeline import text as wording
from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.errors import PipelineError, ServiceUnavailableError, UnusableInputError
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Timeframe
from routing_pipeline.report import periods
from routing_pipeline.rules.in_words import quality_change
from routing_pipeline.serving import http
from routing_pipeline.serving.auth import door
from routing_pipeline.serving.dashboard import reports
from routing_pipeline.serving.dashboard.charts import Chart, chart
from routing_pipeline.serving.dashboard.data import Follower
from routing_pipeline.serving.dashboard.model import Bucket, LivePage, PageQuery, Snapshot, live_page
from routing_pipeline.serving.dashboard.rows import MOST_ROWS, can_be_told, counted, rows_behind
from routing_pipeline.window.engine import open_engine

TEMPLATES = Path(__file__).parent / "templates"
FILES: Mapping[str, str] = {"page.css": "text/css", "page.js": "text/javascript"}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TOKEN_VARIABLE = "ROUTING_PIPELINE_DASHBOARD_TOKEN"  # noqa: S105  (its name, not a token)
PAGES_KEPT = 64
TRIES, AGAIN_AFTER_S = 3, 0.3
LONGEST_SENTENCE = 400
SENSORS: Mapping[str, str] = {
    "cost_spike": "Spend",
    "latency_spike": "Latency",
    "quality_drop": "Quality",
    "silent_feed": "Silence",
}
TIMEFRAMES: Mapping[Timeframe, str] = {"1h": "this hour", "24h": "24 hours", "7d": "7 days", "30d": "30 days"}


class _Pages:
    """Pages as they were worked out, by what was known and what was asked."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._known: OrderedDict[tuple[int, PageQuery], LivePage] = OrderedDict()
        self._lock = threading.Lock()

    def page(self, asked: PageQuery) -> tuple[Snapshot | None, LivePage | None]:
        """What is known now, and the page of it; sums that were replaced meanwhile are looked for again."""
        for _ in range(TRIES):
            snapshot = self._follower.snapshot
            if snapshot is None or not snapshot.requests:
                return snapshot, None
            with self._lock:
                found = self._known.get((snapshot.serial, asked))
            if found is not None:
                return snapshot, found
            try:
                with open_engine("duckdb", memory_limit="500MB", spill_to=self._follower.home.scratch / "spill") as engine:
                    made = live_page(snapshot, asked, engine, self._follower.parameters.alerts)
            except (duckdb.IOException, OSError):
                # Sums are replaced, or were dropped with what was forgotten: the follower makes them again.
                time.sleep(AGAIN_AFTER_S)
                continue
            with self._lock:
                self._known[snapshot.serial, asked] = made
                while len(self._known) > PAGES_KEPT:
                    self._known.popitem(last=False)
            return snapshot, made
        return self._follower.snapshot, None


class _Site:
    """Answers to every kind of address."""

    def __init__(self, follower: Follower, dagster_url: str) -> None:
        self._follower, self._pages, self._templates = follower, _Pages(follower), _environment()
        self._dagster_url, self._reading_rows = dagster_url.rstrip("/"), threading.Lock()

    def _rendered(self, template: str, query: Mapping[str, str]) -> str:
        asked, choices = _query_of(self._follower.snapshot, query)
        snapshot, page = self._pages.page(asked)
        return self._templates.get_template(template).render(_context(self._follower, snapshot, page, asked, choices, self._dagster_url))

    def _figures(self, query: Mapping[str, str]) -> str | None:
        page = self._pages.page(_query_of(self._follower.snapshot, query)[0])[1]
        return None if page is None else page.model_dump_json(indent=1)

    def _rows(self, query: Mapping[str, str]) -> tuple[str, str]:
        follower, snapshot = self._follower, self._follower.snapshot
        if snapshot is None or not snapshot.requests:
            raise ServiceUnavailableError("nothing to show yet")
        # Rows are read off the lake and not off kept sums: one reader at a time, so that the page stays quick.
        if not self._reading_rows.acquire(blocking=False):
            raise ServiceUnavailableError("rows are being read for somebody else; try again in a moment")
        try:
            with open_engine("duckdb", memory_limit="500MB", spill_to=follower.home.scratch / "spill") as engine:
                asked, _ = _query_of(snapshot, query)
                return rows_behind(Lake(follower.home), snapshot, asked, counted(query.get("of")), engine, follower.parameters)
        except (duckdb.IOException, OSError) as error:
            raise ServiceUnavailableError("the lake changed while its rows were read; try again") from error
        finally:
            self._reading_rows.release()

    def warm(self) -> None:
        """Make the page that most will ask for."""
        self._rendered("page.html.j2", {})

    async def whole(self, request: Request) -> Response:
        """The page with its figures, also for browsers that run no script."""
        return Response(await run_in_threadpool(self._rendered, "page.html.j2", dict(request.query_params)), media_type="text/html")

    async def live(self, request: Request) -> Response:
        """The figures alone; 304 where they are those that were sent before."""
        text = await run_in_threadpool(self._rendered, "live.html.j2", dict(request.query_params))
        tag = f'"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(text, media_type="text/html", headers={"ETag": tag})

    async def figures(self, request: Request) -> Response:
        """The same as data (`LivePage`)."""
        text = await run_in_threadpool(self._figures, dict(request.query_params))
        if text is None:
            return PlainTextResponse("nothing to show yet", status_code=503, headers={"Retry-After": "2"})
        return Response(text, media_type="application/json")

    async def rows(self, request: Request) -> Response:
        """The newest attempts behind a figure, as CSV."""
        try:
            content, name = await run_in_threadpool(self._rows, dict(request.query_params))
        except ServiceUnavailableError as error:
            return PlainTextResponse(str(error), status_code=503, headers={"Retry-After": "2"})
        except PipelineError as error:
            return PlainTextResponse(wording.name(error, LONGEST_SENTENCE), status_code=404)
        return Response(content, media_type="text/csv", headers={"Content-Disposition": f'attachment; filename="{name}"'})

    async def run(self, request: Request) -> Response:
        """To the run that made a report, in the Dagster UI."""
        try:
            run_id = await run_in_threadpool(reports.run_id_of, self._follower.home, request.path_params["run"])
        except UnusableInputError as error:
            return PlainTextResponse(wording.name(error, LONGEST_SENTENCE), status_code=404)
        if not self._dagster_url:
            return PlainTextResponse(f"run {run_id}; dagster_url under [notifications] says where Dagster's UI is", status_code=404)
        return RedirectResponse(reports.run_in_dagster(self._dagster_url, run_id))

    async def reports(self, _: Request) -> Response:
        """The index of the home's reports."""
        return Response(
            await run_in_threadpool(reports.index, self._follower.home, self._follower.record, self._dagster_url), media_type="text/html"
        )

    async def report(self, request: Request) -> Response:
        """One report, with the policy that it brings."""
        try:
            page, policy = await run_in_threadpool(reports.report_page, self._follower.home, request.path_params["run"])
        except UnusableInputError as error:
            return PlainTextResponse(wording.name(error, LONGEST_SENTENCE), status_code=404)
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})

    async def file(self, request: Request) -> Response:
        """Style and script."""
        name = request.path_params["name"]
        if name not in FILES:
            return PlainTextResponse("not found", status_code=404)
        return Response((TEMPLATES / name).read_bytes(), media_type=FILES[name])


def app_of(follower: Follower, dagster_url: str = "") -> Starlette:
    """The application; it starts its follower and stops it, and has started once it can answer at once."""
    site = _Site(follower, dagster_url)

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        follower.start()
        # What the first page would wait for: packages that load on first use, and the figures of what was known before.
        await run_in_threadpool(site.warm)
        yield
        follower.stop()

    async def with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers.update({name: value for name, value in HEADERS.items() if name not in response.headers})
        return response

    return Starlette(
        routes=[
            Route("/", site.whole),
            Route("/live", site.live),
            Route("/figures.json", site.figures),
            Route("/rows.csv", site.rows),
            Route("/runs/{run}", site.run),
            Route("/reports", site.reports),
            Route("/reports/{run}", site.report),
            Route("/{name}", site.file),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=with_headers)],
        lifespan=running,
    )


def serve(follower: Follower, host: str, port: int, *, token: str | None, ready: Callable[[str], None], dagster_url: str = "") -> None:
    """Serve until interrupted; port 0 takes a free one. `dagster_url` is where runs are linked to; empty: nowhere.

    Raises:
        UnusableInputError: the address cannot be listened on, or a token is needed and missing.
    """
    option = f"--host {host} --port {port}"
    found = door(host, port, token, variable=TOKEN_VARIABLE, option=option, for_browsers=True)
    http.serve(app_of(follower, dagster_url), found, lambda url: ready(f"{url}/"))


# What the templates are given


def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    forms: dict[str, wording.Format] = {
        "usd": wording.usd,
        "percent": wording.percent,
        "chance": wording.chance,
        "change": wording.change,
        "points": wording.points,
        "score": wording.score,
        "ms": wording.ms,
        "number": wording.number,
    }

    def shown(value: Any, form: str) -> str:
        if value is None:
            return wording.NONE
        if isinstance(value, Unidentifiable):
            return wording.CANNOT_TELL
        return forms[form](value.estimate if isinstance(value, Estimate) else value)

    def interval(value: Any, form: str) -> str:
        if not isinstance(value, Estimate):
            return ""
        show = wording.fitting(forms[form], value)
        return f"{show(value.low)} to {show(value.high)}"

    def difference(value: Any, form: str) -> str:
        """With its sign, and the bounds it lies between."""
        if isinstance(value, Unidentifiable):
            return value.unidentifiable

        def signed(number: float) -> str:
            return wording.points(number) if form == "score" else ("+" if number >= 0 else wording.MINUS) + forms[form](abs(number))

        if not isinstance(value, Estimate):
            return signed(value)
        return f"{signed(value.estimate)} ({signed(value.low)} to {signed(value.high)})"

    made.filters |= {
        "shown": shown,
        "difference": difference,
        "interval": interval,
        "change_of": wording.change,
        "quality_change": quality_change,
        "name": wording.name,
        "sentence": lambda text: wording.name(text, LONGEST_SENTENCE),
        "moment": lambda value: f"{value:%d %b %Y %H:%M} UTC",
        "day": lambda value: f"{datetime.fromtimestamp(value, UTC):%d %b}",
        "short": lambda value: f"{value:%d %b %H:%M}",
    }
    return made


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _query_of(snapshot: Snapshot | None, query: Mapping[str, str]) -> tuple[PageQuery, dict[str, list[dict[str, Any]]]]:
    """The filters, and for each what can be chosen; a digest that is no name's filters nothing."""
    timeframe: Timeframe = next((each for each in get_args(Timeframe) if each == query.get("timeframe")), "24h")
    names = {} if snapshot is None else snapshot.names
    chosen = {
        kind: next((name for name in names.get(kind, ()) if _digest(name) == query.get(kind)), None) for kind in ("task", "model", "team")
    }
    choices: dict[str, list[dict[str, Any]]] = {
        kind: [{"value": _digest(name), "name": name, "is_chosen": name == chosen[kind]} for name in names.get(kind, ())] for kind in chosen
    }
    return PageQuery(timeframe=timeframe, **chosen), choices


def _context(
    follower: Follower,
    snapshot: Snapshot | None,
    page: LivePage | None,
    asked: PageQuery,
    choices: Mapping[str, list[dict[str, Any]]],
    dagster_url: str,
) -> dict[str, Any]:
    tiles = {} if page is None else {tile.measured: tile for tile in page.tiles}
    spend = tiles.get("spend")
    return {
        "home": str(follower.home.root),
        "trouble": follower.trouble,
        "has_looked": follower.has_looked,
        "snapshot": snapshot,
        "seen_at": None if snapshot is None else datetime.fromtimestamp(snapshot.seen_s, UTC),
        "page": page,
        "tiles": tiles,
        "of_days": page is not None and any(tile.usual_is_of_days for tile in page.tiles),
        "charts": () if page is None else _charts(page.buckets),
        "asked": asked,
        "choices": choices,
        "timeframes": TIMEFRAMES,
        "sensors": SENSORS,
        "is_filtered": asked.task is not None or asked.model is not None or asked.team is not None,
        "per_day": None if spend is None or spend.now is None else spend.now * 24,
        "month_gone": None if snapshot is None or snapshot.projection is None else _gone(snapshot),
        "budget_use": periods.budget_use,
        "unknown_budget": periods.unknown_budget,
        "dagster_url": dagster_url,
        "query": urlencode({"timeframe": asked.timeframe} | _chosen(choices)),
        "has_rows": can_be_told(asked),
        "most_rows": MOST_ROWS,
    }


def _chosen(choices: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Digests of the names that are chosen, by filter."""
    return {kind: each["value"] for kind, options in choices.items() for each in options if each["is_chosen"]}


def _gone(snapshot: Snapshot) -> float | None:
    """Share of the month that has passed."""
    if snapshot.projection is None:
        return None
    month = snapshot.projection.month
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() for day in (month.start, month.end))
    return min(max((snapshot.newest_s - start) / (end - start), 0.0), 1.0)


def _charts(buckets: tuple[Bucket, ...]) -> tuple[Chart, ...]:
    starts = [bucket.start for bucket in buckets]
    complete = sum(bucket.is_complete for bucket in buckets)
    steps = (buckets[1].start - buckets[0].start).total_seconds() / SECONDS_PER_HOUR if len(buckets) > 1 else 1
    per = {1.0: "hour", 24.0: "day"}.get(steps, f"{steps:.0f} hours")
    return (
        chart(
            f"Spend per {per}, USD",
            starts,
            [bucket.cost_usd for bucket in buckets],
            wording.usd,
            usual=[bucket.usual_usd for bucket in buckets],
            complete=complete,
        ),
        chart(f"Requests per {per}", starts, [float(bucket.requests) for bucket in buckets], wording.number, complete=complete),
        chart("Failed requests", starts, [bucket.failed for bucket in buckets], wording.percent, complete=complete, least_top=0.02),
        chart("Latency, 95th percentile", starts, [bucket.p95_ms for bucket in buckets], wording.ms, complete=complete),
        chart(
            "Quality, mean of scored answers",
            starts,
            [bucket.quality for bucket in buckets],
            wording.score,
            complete=complete,
            ends_at=0.05,
        ),
    )
