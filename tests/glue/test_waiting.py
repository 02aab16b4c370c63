"""While the router or the store is down a scheduled step is tried again later; a person at a terminal does not wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import ingest, scope, waiting
from assets.resources import HomeResource, ResultsIOManager
from routing_pipeline.demo.logs import DemoFiles, write_demo

ASSETS = [ingest.request_log, ingest.feedback, scope.analysis_scope]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_demo(tmp_path_factory.mktemp("demo"), requests=1_000)


class Router:
    """Gives these statuses, one after the other, the last one for good."""

    def __init__(self) -> None:
        self.statuses, told = [200], self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(told.statuses.pop(0) if len(told.statuses) > 1 else told.statuses[0])
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def router() -> Iterator[Router]:
    made = Router()
    yield made
    made.server.shutdown()
    made.server.server_close()


def run(home: Path, demo: DemoFiles, router: Router, retries: int, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
    config, url = home.parent / "config.toml", f"http://127.0.0.1:{router.server.server_port}/health"
    config.write_text(f'[router]\nhealth_url = "{url}"\nretries = {retries}\nretry_after_minutes = 0.001\n')
    resource = HomeResource(root=str(home), logs=str(demo.logs), config=str(config))
    return dg.materialize(
        ASSETS,
        resources={"home": resource, "io_manager": ResultsIOManager(root=resource.root)},
        tags=tags or {},
        raise_on_error=False,
    )


def tries(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_events)


def test_a_router_that_comes_back_is_waited_for(demo: DemoFiles, router: Router, tmp_path: Path) -> None:
    router.statuses = [503, 503, 200]
    result = run(tmp_path / "home", demo, router, retries=3)
    assert (result.success, tries(result)) == (True, 2)
    found = result.output_for_node("analysis_scope")
    assert found.router.is_healthy
    assert found.stale_because is None


def test_when_the_tries_are_used_up_and_nothing_is_stored_the_step_fails(demo: DemoFiles, router: Router, tmp_path: Path) -> None:
    router.statuses = [503]
    result = run(tmp_path / "home", demo, router, retries=1)
    assert (result.success, tries(result)) == (False, 1)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "no recent analysis of the same question" in str(failure.step_failure_data.error)


def test_whoever_sits_at_a_terminal_is_told_at_once(demo: DemoFiles, router: Router, tmp_path: Path) -> None:
    router.statuses = [503]
    result = run(tmp_path / "home", demo, router, retries=3, tags={waiting.IMPATIENT: "yes"})
    assert (result.success, tries(result)) == (False, 0)


def test_a_store_that_is_down_is_waited_for_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(waiting, "STORE_RETRY_AFTER_S", 0.01)
    monkeypatch.setattr(waiting, "STORE_RETRIES", 1)
    resource = HomeResource(root=str(tmp_path), logs="s3://bucket/logs")
    result = dg.materialize(
        [ingest.request_log],
        resources={"home": resource, "io_manager": ResultsIOManager(root=resource.root)},
        raise_on_error=False,
    )
    assert (result.success, tries(result)) == (False, 1)
