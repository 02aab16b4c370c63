"""The metrics of a home over HTTP, for Prometheus to scrape.

Belongs here: /metrics. Does not belong here: what the metrics are (`metrics`), who may connect (`auth`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import make_asgi_app
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from routing_pipeline.rules.record import RuleSetRecord
from routing_pipeline.serving import http
from routing_pipeline.serving.auth import door_of_option
from routing_pipeline.serving.metrics import HomeMetrics, registry_of
from routing_pipeline.storage.home import Home

TOKEN_VARIABLE = "ROUTING_PIPELINE_METRICS_TOKEN"  # noqa: S105  (its name, not a token)
PATH = "/metrics"


def serve(home: Home, address: str, *, token: str | None, ready: Callable[[str], None], record: RuleSetRecord | None = None) -> None:
    """Serve the metrics at /metrics until interrupted.

    Raises:
        UnusableInputError: the address cannot be listened on, or a token is needed and missing.
    """
    door = door_of_option(address, token, variable=TOKEN_VARIABLE)
    http.serve(app_of(home, record), door, lambda url: ready(f"metrics at {url}{PATH}"))


def app_of(home: Home, record: RuleSetRecord | None = None) -> Starlette:
    """The application: /metrics and nothing else."""
    route = Route(PATH, _Scrape(HomeMetrics(home, record)), methods=["GET"])
    return Starlette(routes=[route], exception_handlers={404: _elsewhere})


def _elsewhere(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse(f"the metrics are at {PATH}\n", 404)


class _Scrape:
    """Prometheus' own application over what is read in another thread: while one scrape reads, everything else is answered."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = await run_in_threadpool(lambda: tuple(self._collector.collect()))
        await make_asgi_app(registry_of(_Read(read)))(scope, receive, send)


class _Read(Collector):
    """Metrics that were read already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Them."""
        return self._families
