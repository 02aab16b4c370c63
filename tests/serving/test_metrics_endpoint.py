"""The metrics over HTTP: on this machine under its own name, and never in each other's way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.core import Metric

from routing_pipeline.serving import http, metrics_endpoint
from routing_pipeline.serving.auth import Door
from routing_pipeline.serving.metrics import HomeMetrics
from routing_pipeline.storage.home import Home


@pytest.fixture
def url(tmp_path: Path) -> str:
    ready: queue.Queue[str] = queue.Queue()
    app = metrics_endpoint.app_of(Home(tmp_path).create())
    threading.Thread(target=http.serve, args=(app, Door("127.0.0.1", 0, None, "--http"), ready.put), daemon=True).start()
    return ready.get(timeout=60)


def test_a_scrape_keeps_nobody_waiting_who_asks_whether_it_is_alive(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(_: HomeMetrics) -> Iterator[Metric]:
        begun.set()
        may_end.wait(60)
        return iter([Metric("slow", "Read slowly", "gauge")])

    monkeypatch.setattr(HomeMetrics, "collect", slow)
    scraped: list[str] = []
    scrape = threading.Thread(target=lambda: scraped.append(requests.get(f"{url}/metrics", timeout=60).text))
    scrape.start()
    assert begun.wait(60)
    try:
        assert requests.get(f"{url}/healthz", timeout=30).text == "ok\n"
    finally:
        may_end.set()
    scrape.join()
    assert "slow" in scraped[0]


def test_what_is_not_there_says_where_the_metrics_are(url: str) -> None:
    answer = requests.get(f"{url}/metric", timeout=60)
    assert (answer.status_code, answer.text) == (404, "the metrics are at /metrics\n")
    assert requests.get(f"{url}/metrics", headers={"Host": "evil.example"}, timeout=60).status_code == 421
