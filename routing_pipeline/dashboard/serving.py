"""The live page over HTTP: one page made on the server, one small script that fetches it again while logs arrive.

Belongs here: addresses, headers, filters from the address, filling the templates. Does not belong here: figures (`live`).

Everything that comes from logs is escaped by the templates, and the page forbids its browser every script, style, font and
address but its own, so that what slipped through would not run. Filters travel as digests: a name may be megabytes long.
Who knows no token sees nothing but /healthz, where one is set; others can connect only where one is.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import duckdb
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from routing_pipeline.dashboard.charts import Chart, chart
from routing_pipeline.dashboard.following import Follower
from routing_pipeline.dashboard.live import Asked, Bucket, LivePage, Seen, live_page
from routing_pipeline.engine import open_engine
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.listening import checked_token, is_demanded, is_loopback, is_password, shown
from routing_pipeline.parameters import Timeframe
from routing_pipeline.report import wording

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
ASK_FOR_TOKEN: Mapping[str, str] = {"WWW-Authenticate": 'Basic realm="routing-pipeline: any name, the token as password", charset="UTF-8"'}
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
        self._known: OrderedDict[tuple[int, Asked], LivePage] = OrderedDict()
        self._lock = threading.Lock()

    def page(self, asked: Asked) -> tuple[Seen | None, LivePage | None]:
        """What is known now, and the page of it; sums that were replaced meanwhile are looked for again."""
        for _ in range(TRIES):
            seen = self._follower.seen
            if seen is None or not seen.requests:
                return seen, None
            with self._lock:
                found = self._known.get((seen.serial, asked))
            if found is not None:
                return seen, found
            try:
                with open_engine("duckdb", memory_limit="500MB", spill_to=self._follower.home.scratch / "spill") as engine:
                    made = live_page(seen, asked, engine, self._follower.parameters.alerts)
            except (duckdb.IOException, OSError):
                # Sums are replaced, or were dropped with what was forgotten: the follower makes them again.
                time.sleep(AGAIN_AFTER_S)
                continue
            with self._lock:
                self._known[seen.serial, asked] = made
                while len(self._known) > PAGES_KEPT:
                    self._known.popitem(last=False)
            return seen, made
        return self._follower.seen, None


class _Site:
    """Answers to the four kinds of address."""

    def __init__(self, follower: Follower) -> None:
        self._follower, self._pages, self._templates = follower, _Pages(follower), _environment()

    def _rendered(self, template: str, query: Mapping[str, str]) -> str:
        asked, choices = _asked(self._follower.seen, query)
        seen, page = self._pages.page(asked)
        return self._templates.get_template(template).render(_context(self._follower, seen, page, asked, choices))

    def _figures(self, query: Mapping[str, str]) -> str | None:
        page = self._pages.page(_asked(self._follower.seen, query)[0])[1]
        return None if page is None else page.model_dump_json(indent=1)

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

    async def file(self, request: Request) -> Response:
        """Style and script."""
        name = request.path_params["name"]
        if name not in FILES:
            return PlainTextResponse("not found", status_code=404)
        return Response((TEMPLATES / name).read_bytes(), media_type=FILES[name])


def app_of(follower: Follower, *, host: str = "127.0.0.1", token: str | None = None, ready: Callable[[], None] = lambda: None) -> Starlette:
    """The application; it starts its follower and stops it, and is `ready` once it can answer at once."""
    site = _Site(follower)

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        follower.start()
        # What the first page would wait for: packages that load on first use, and the figures of what was known before.
        await run_in_threadpool(site.warm)
        ready()
        yield
        follower.stop()

    async def guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        # Against pages of others that make a browser on this machine ask for ours under their own name.
        if is_loopback(host) and not is_loopback(request.url.hostname or ""):
            response: Response = PlainTextResponse("ask for this page by the address that the command named", status_code=421)
        elif request.url.path == "/healthz":
            response = PlainTextResponse("ok")
        elif token is not None and not _knows(request.headers.get("authorization", ""), token):
            response = PlainTextResponse("a token is needed: as password with any name, or as bearer token", 401, ASK_FOR_TOKEN)
        else:
            response = await answer(request)
        response.headers.update(HEADERS)
        return response

    return Starlette(
        routes=[
            Route("/", site.whole),
            Route("/live", site.live),
            Route("/figures.json", site.figures),
            Route("/{name}", site.file),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guarded)],
        lifespan=running,
    )


def _knows(authorization: str, token: str) -> bool:
    return is_password(authorization, token) or is_demanded(authorization, token)


def serve(follower: Follower, host: str, port: int, *, token: str | None, ready: Callable[[str], None]) -> None:
    """Serve until interrupted; port 0 takes a free one.

    Raises:
        UnusableInputError: the address cannot be listened on, or a token is needed and missing.
    """
    import uvicorn

    demanded = checked_token(host, token, TOKEN_VARIABLE, "--host")

    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UnusableInputError(f"--host {host} --port {port}: {error.strerror or error}; give another address") from error
    url = f"http://{shown(host)}:{listening.getsockname()[1]}/"
    app = app_of(follower, host=host, token=demanded, ready=lambda: ready(url))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    server.run(sockets=[listening])


# What the templates are given


def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    forms: dict[str, wording.Format] = {
        "usd": wording.usd,
        "percent": wording.percent,
        "chance": wording.chance,
        "change": wording.change,
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

    made.filters |= {
        "shown": shown,
        "interval": interval,
        "change_of": wording.change,
        "name": wording.name,
        "sentence": lambda text: wording.name(text, LONGEST_SENTENCE),
        "moment": lambda value: f"{value:%d %b %Y %H:%M} UTC",
        "short": lambda value: f"{value:%d %b %H:%M}",
    }
    return made


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _asked(seen: Seen | None, query: Mapping[str, str]) -> tuple[Asked, dict[str, list[dict[str, Any]]]]:
    """The filters, and for each what can be chosen; a digest that is no name's filters nothing."""
    timeframe: Timeframe = next((each for each in get_args(Timeframe) if each == query.get("timeframe")), "24h")
    names = {} if seen is None else seen.names
    chosen = {
        kind: next((name for name in names.get(kind, ()) if _digest(name) == query.get(kind)), None) for kind in ("task", "model", "team")
    }
    choices: dict[str, list[dict[str, Any]]] = {
        kind: [{"value": _digest(name), "name": name, "is_chosen": name == chosen[kind]} for name in names.get(kind, ())] for kind in chosen
    }
    return Asked(timeframe=timeframe, **chosen), choices


def _context(
    follower: Follower, seen: Seen | None, page: LivePage | None, asked: Asked, choices: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    tiles = {} if page is None else {tile.measured: tile for tile in page.tiles}
    spend = tiles.get("spend")
    return {
        "home": str(follower.home.root),
        "trouble": follower.trouble,
        "has_looked": follower.has_looked,
        "seen": seen,
        "seen_at": None if seen is None else datetime.fromtimestamp(seen.seen_s, UTC),
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
        "month_gone": None if seen is None or seen.projection is None else _gone(seen),
    }


def _gone(seen: Seen) -> float | None:
    """Share of the month that has passed."""
    if seen.projection is None:
        return None
    month = seen.projection.month
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() for day in (month.start, month.end))
    return min(max((seen.newest_s - start) / (end - start), 0.0), 1.0)


def _charts(buckets: tuple[Bucket, ...]) -> tuple[Chart, ...]:
    starts = [bucket.start for bucket in buckets]
    complete = sum(bucket.is_complete for bucket in buckets)
    steps = (buckets[1].start - buckets[0].start).total_seconds() / 3600 if len(buckets) > 1 else 1
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
            least_top=1.0,
        ),
    )
