"""What Prometheus gets to read: over real HTTP, by prometheus_client's own parser, held against the stored report."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from in_process import delivered
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from routing_pipeline.alerts import state
from routing_pipeline.alerts.incidents import SAME_INCIDENT_H, Incident, Memory
from routing_pipeline.cli.main import app
from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.data_quality.expectations import BLOCKING
from routing_pipeline.data_quality.suite import note_blocked
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.errors import DataQualityError, UnusableInputError
from routing_pipeline.estimates import Estimate
from routing_pipeline.lake import table
from routing_pipeline.lake.table import Lake
from routing_pipeline.report.model import Report
from routing_pipeline.rules.record import record_of
from routing_pipeline.serving import metrics, metrics_endpoint
from routing_pipeline.storage.home import Home
from tests.recommendation.test_realized_outcomes import promise

COMMAND = [sys.executable, "-c", "from routing_pipeline.cli import main; main()"]
TOKEN = "a-token-of-enough-length"
EVERYWHERE = "0.0.0.0"  # noqa: S104  (what the token is for)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a report on 2,000 made-up requests and a budget."""
    folder = tmp_path_factory.mktemp("gateway")
    write_demo(folder, requests=2_000)
    words = ["run", "--logs", str(folder / "logs"), "--feedback", str(folder / "feedback"), "--home", str(folder / "home")]
    delivered(*words, "--budget", "1000", "--out", folder / "out")
    return Home(folder / "home")


def read(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name.removeprefix(metrics.PREFIX), tuple(sorted(sample.labels.items())))
            assert key not in found, "Prometheus refuses a scrape with the same sample twice"
            found[key] = sample.value
    return found


def of(home: Home) -> Samples:
    return read(metrics.exposition(home).decode())


@pytest.fixture(scope="module")
def served(home: Home) -> Iterator[str]:
    """The endpoint as others would reach it, so that it demands the token; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    words = ["metrics", "--home", str(home.root), "--http", f"{EVERYWHERE}:{port}"]
    environment = os.environ | {metrics_endpoint.TOKEN_VARIABLE: TOKEN}
    with subprocess.Popen([*COMMAND, *words], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "/metrics" in process.stderr.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def get(url: str, authorization: str = f"Bearer {TOKEN}", accept: str = "*/*") -> tuple[int, str]:
    asked = urllib.request.Request(url, headers={"Authorization": authorization, "Accept": accept})  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_endpoint_says_what_the_report_says(home: Home, served: str) -> None:
    report = home.runs.all()[0].load("report", Report)
    assert report is not None
    status, text = get(f"{served}/metrics")
    _, modern = get(f"{served}/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    found = read(text)
    assert found["requests", ()] == report.routing_analytics.requests
    assert found["spend_usd", ()] == report.routing_costs.total_usd
    success = report.routing_analytics.success_rate
    assert isinstance(success, Estimate)
    for bound in ("low", "high"):
        assert found["success_ratio", (("bound", bound),)] == getattr(success, bound)
    quality = report.quality_metrics.overall.quality_corrected
    assert isinstance(quality, Estimate)
    assert found["quality_ratio", (("bound", "estimate"),)] == quality.estimate
    assert found["rule_set_status", (("status", report.routing_rule_set.status),)] == 1
    assert sum(value for (name, _), value in found.items() if name == "rule_set_status") == 1
    assert found["month_budget_usd", ()] == 1000
    assert sum(value for (name, _), value in found.items() if name == "model_requests") == 2_000
    assert len(list(openmetrics(modern))) == len(list(text_string_to_metric_families(text)))


def test_what_is_served_is_what_is_printed_and_is_packed_where_prometheus_asks(home: Home, served: str) -> None:
    plain = ask(f"{served}/metrics")
    assert (plain.content, plain.headers["Content-Type"]) == (metrics.exposition(home), CONTENT_TYPE_PLAIN_0_0_4)
    packed = ask(f"{served}/metrics", **{"Accept-Encoding": "gzip"})
    assert (packed.content, packed.headers["Content-Encoding"]) == (plain.content, "gzip")
    assert requests.post(f"{served}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30).status_code == 405


def ask(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers={"Authorization": f"Bearer {TOKEN}", "Accept-Encoding": "identity", **headers}, timeout=30)


def test_the_lakes_counts_add_up_and_its_clocks_are_there(home: Home) -> None:
    found, totals = of(home), Lake(home).totals()
    assert found["lake_records", (("outcome", "ingested"),)] == totals.ingested
    by_reason = [value for (name, _), value in found.items() if name == "quarantined_records"]
    assert sum(by_reason) == totals.quarantined > 0
    assert found["newest_request_timestamp_seconds", ()] == pytest.approx(Lake(home).newest_s(), abs=1)
    assert found["last_ingest_timestamp_seconds", ()] <= found["last_report_timestamp_seconds", ()] <= time.time()
    assert {found["unreadable", (("part", part),)] for part in ("lake", "report", "sensors")} == {0}


def test_a_scrape_reads_no_rows_and_nothing_twice(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = metrics.HomeMetrics(home)
    first = [(family.name, family.samples) for family in collector.collect()]
    for name in ("totals", "newest_s", "side_files", "side_table", "all_files", "attempt_files"):
        monkeypatch.setattr(table.Lake, name, lambda *_: pytest.fail("a scrape read the lake again"))
    monkeypatch.setattr("routing_pipeline.storage.runs.StoredRun.load", lambda *_: pytest.fail("a scrape read the report again"))
    assert [(family.name, family.samples) for family in collector.collect()] == first


def test_an_empty_home_has_counts_of_nothing_and_no_made_up_zeros(tmp_path: Path) -> None:
    names = {name for name, _ in of(Home(tmp_path).create())}
    assert names == {"build_info", "lake_records", "lake_objects", "unreadable"}


def test_a_part_that_cannot_be_read_is_said_and_the_rest_still_comes(home: Home, tmp_path: Path) -> None:
    broken = Home(tmp_path / "home")
    shutil.copytree(home.root / "results", broken.root / "results")
    (broken.root / "lake").mkdir()
    (broken.root / "lake" / "catalog.db").write_text("no database", encoding="utf-8")
    found = of(broken)
    assert found["unreadable", (("part", "lake"),)] == 1
    assert ("lake_objects", ()) not in found
    assert found["requests", ()] == 2_000


@pytest.fixture
def copied(home: Home, tmp_path: Path) -> Home:
    """The home once more, for who changes it."""
    shutil.copytree(home.root, tmp_path / "copied")
    return Home(tmp_path / "copied")


def blocking(found: Samples) -> tuple[float, set[str]]:
    claims = {labels[0][1] for (name, labels) in found if name == "blocking_claim_failed"}
    return found["data_quality_failures", (("severity", "blocking"),)], claims


def test_a_run_that_is_stopped_is_seen_though_it_delivers_no_report(home: Home, tmp_path: Path) -> None:
    assert blocking(of(home)) == (0, set())
    stopped, logs = Home(tmp_path / "home"), tmp_path / "logs"
    logs.mkdir()
    good = {"id": "i", "litellm_call_id": "c", "startTime": 1.7e9, "endTime": 1.7e9 + 1, "model": "gpt-4o", "status": "success"}
    (logs / "good.jsonl").write_text(json.dumps(good), encoding="utf-8")
    (logs / "refused.jsonl").write_text('{"litellm_call_id": "r", "startTime": "never"}', encoding="utf-8")
    with pytest.raises(DataQualityError, match="quarantine_share"):
        app(args=["ingest", "--logs", str(logs), "--home", str(stopped.root)], standalone_mode=False)
    assert blocking(of(stopped)) == (1, {"quarantine_share_is_below_5_percent"})
    app(args=["forget", "--object", "refused.jsonl", "--home", str(stopped.root)], standalone_mode=False)
    assert blocking(of(stopped)) == (0, set()), "the ledger speaks for itself"


def test_a_window_that_is_refused_alarms_until_a_report_comes_after_it(copied: Home) -> None:
    claim = next(rule for rule in BLOCKING if rule.name == "cost_is_never_negative")
    published_s = copied.runs.all()[0].published_s
    note_blocked(copied, [claim.result("passed", "none")], now_s=published_s + 1)
    assert blocking(of(copied)) == (0, set())
    note_blocked(copied, [claim.result("failed", "3 attempts")], now_s=published_s - 1)
    assert blocking(of(copied)) == (0, set())
    note_blocked(copied, [claim.result("failed", "3 attempts")], now_s=published_s + 1)
    assert blocking(of(copied)) == (1, {claim.name})
    shutil.rmtree(copied.root / "results" / "runs")
    assert blocking(of(copied)) == (1, {claim.name}), "there may never have been a report"
    copied.results.clear()
    assert blocking(of(copied)) == (0, set()), "forgotten with the reports; what is read of the lake still counts"


def test_the_configuration_says_where_approvals_are_kept(copied: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules, elsewhere = promise("2026-11-01T00:00:00Z-abcd"), tmp_path / "elsewhere"
    settings = tmp_path / "routing.toml"
    settings.write_text(f'[publishing]\nto = "{elsewhere}"\n', encoding="utf-8")
    newest = copied.runs.all()[0]
    report = newest.load("report", Report)
    assert report is not None
    copied.runs.keep(newest.run_id, report.model_copy(update={"routing_rule_set": rules}), None, {})
    record = record_of(copied, str(elsewhere))
    record.propose(rules.model_copy(update={"status": "proposed"}), 0.4, 0.4)
    record.approve(rules.rule_set_id, "Ada")
    approved = ("rule_set_status", (("status", "approved"),))

    def printed(*words: str) -> Samples:
        app(args=["metrics", "--home", str(copied.root), *words], standalone_mode=False)
        return read(capsys.readouterr().out)

    assert printed()[approved] == 0
    assert printed("--config", str(settings))[approved] == 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ROUTING_PIPELINE_CONFIG", str(settings))
        assert printed()[approved] == 1


def test_an_incident_is_open_until_it_has_been_quiet_for_long(tmp_path: Path) -> None:
    home, sensor = Home(tmp_path).create(), (("sensor", "cost_spike"),)
    open_now = Memory(seen=500_006, incident=Incident(began=500_000, last_alarm=500_004, told_size=1.0))
    state.save_state(home, "cost_spike", state.state_of(open_now.model_dump_json(), 1_800_021_700.0))
    found = of(home)
    assert found["incident_open", sensor] == 1
    assert found["incident_began_timestamp_seconds", sensor] == 500_000 * SECONDS_PER_HOUR
    assert found["sensor_last_look_timestamp_seconds", sensor] == 1_800_021_700
    assert ("incident_open", (("sensor", "latency_spike"),)) not in found, "a sensor that never looked says nothing"
    over = open_now.model_copy(update={"seen": 500_005 + SAME_INCIDENT_H})
    state.save_state(home, "cost_spike", state.state_of(over.model_dump_json(), 1_800_030_000.0))
    assert of(home)["incident_open", sensor] == 0
    state.save_state(home, "silent_feed", state.state_of(json.dumps({"told": [["all", ""]]}), 1.0))
    assert of(home)["incident_open", (("sensor", "silent_feed"),)] == 1
    (tmp_path / "alerts" / "silent_feed.json").write_text("{", encoding="utf-8")
    assert ("incident_open", (("sensor", "silent_feed"),)) not in of(home)


def test_who_is_not_on_this_machine_has_to_know_the_token(home: Home, served: str) -> None:
    for wrong in ("", "Bearer wrong", f"Basic {TOKEN}", "Bearer \xff"):
        assert get(f"{served}/metrics", authorization=wrong)[0] == 401
    assert get(f"{served}/healthz", authorization="") == (200, "ok\n")
    assert get(f"{served}/anything")[0] == 404
    for token in (None, "short"):
        with pytest.raises(UnusableInputError, match=metrics_endpoint.TOKEN_VARIABLE):
            metrics_endpoint.serve(home, f"{EVERYWHERE}:9464", token=token, ready=pytest.fail)


def test_an_address_that_is_taken_is_one_line(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UnusableInputError, match="another address"):
        metrics_endpoint.serve(home, f"127.0.0.1:{taken.getsockname()[1]}", token=None, ready=pytest.fail)


def test_the_textfile_is_whole_and_named_as_the_collector_asks(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "routing.prom"
    for _ in range(2):
        app(args=["metrics", "--home", str(home.root), "--textfile", str(path)], standalone_mode=False)
        assert read(path.read_text(encoding="utf-8"))["requests", ()] == 2_000
    assert [each.name for each in tmp_path.iterdir()] == ["routing.prom"]
    with pytest.raises(UnusableInputError, match=r"\*\.prom"):
        metrics.write_textfile(home, tmp_path / "routing.txt")
    with pytest.raises(UnusableInputError, match=r"there is no folder .*colector; name the one that the collector reads"):
        metrics.write_textfile(home, tmp_path / "colector" / "routing.prom")
    assert not (tmp_path / "colector").exists()


def test_a_real_prometheus_reads_the_endpoint(served: str, tmp_path: Path) -> None:
    server = shutil.which("prometheus")
    if server is None:
        pytest.skip("needs a Prometheus server (Debian's package prometheus)")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    settings = tmp_path / "prometheus.yml"
    job = {
        "job_name": "home",
        "scrape_interval": "1s",
        "authorization": {"credentials": TOKEN},
        "static_configs": [{"targets": [served.removeprefix("http://")]}],
    }
    settings.write_text(json.dumps({"scrape_configs": [job]}), encoding="utf-8")
    words = [f"--config.file={settings}", f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen([server, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            value = _asked(port, "routing_pipeline_requests")
        finally:
            process.terminate()
    assert value == "2000"


def _asked(port: int, query: str) -> str | None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            _, text = get(f"http://127.0.0.1:{port}/api/v1/query?query={query}")
            found = json.loads(text)["data"]["result"]
        except (OSError, ValueError, KeyError):
            found = []
        if found:
            return str(found[0]["value"][1])
        time.sleep(0.2)
    return None
