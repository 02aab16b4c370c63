"""The dashboard and the alert rules ask for metrics that exist, with labels and values that they have."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from routing_pipeline.alerts.state import save_state, state_of
from routing_pipeline.analysis.budget_projection import BudgetProjection
from routing_pipeline.data_quality.expectations import INGEST, CheckResult
from routing_pipeline.data_quality.suite import note_blocked
from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.report.model import Report
from routing_pipeline.rules.record import RuleSetRecord
from routing_pipeline.rules.record_files import RecordFiles
from routing_pipeline.serving import metrics
from routing_pipeline.storage.files import FolderStorage
from routing_pipeline.storage.home import Home
from tests.recommendation.test_realized_outcomes import promise

INFRA = Path(__file__).parents[2] / "infra"
DASHBOARD: dict[str, Any] = json.loads((INFRA / "grafana" / "dashboards" / "routing-pipeline.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
ALERTS = {rule["alert"] for rule in RULES}
BY_PROMETHEUS = {"up": {"job": {"routing-pipeline"}}}
OPEN_ENDED = {"model", "team", "reason", "id", "version", "claim"}
"""Labels whose values come from logs, releases or rules of data quality."""
LOGS = (
    '{"id": "i1", "litellm_call_id": "c1", "startTime": 1763337600.0, "endTime": 1763337601.0, "model": "gpt-4o", "status": "success"}',
    '{"id": "i2", "litellm_call_id": "c2", "startTime": "never"}',
)

Known = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def full_home(full_of: Callable[[str], Report], worlds: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which everything happened once."""
    folder = tmp_path_factory.mktemp("home")
    home = Home(folder / "home").create()
    (folder / "logs").mkdir()
    (folder / "logs" / "batch.jsonl").write_text("\n".join(LOGS), encoding="utf-8")
    ingest_logs(home, str(folder / "logs"))
    home.runs.begin("run", "0123456789abcdef")
    home.runs.keep("run", with_a_missed_promise(full_of("a name")), None, {})
    home.results.save("budget_projection", "0123456789abcdef", worlds.filled(BudgetProjection, "a name"))
    note_blocked(home, [check("cost_is_never_negative", "failed")])
    for sensor in ("cost_spike", "latency_spike", "quality_drop", "silent_feed"):
        save_state(home, sensor, state_of(json.dumps({"told": [["all", ""]]}), 1.0))
    return home


def with_a_missed_promise(report: Report) -> Report:
    (kept,) = report.realized_outcomes.rule_sets
    missed = kept.model_copy(update={"outcomes": tuple(each.model_copy(update={"verdict": "missed"}) for each in kept.outcomes)})
    outcomes = report.realized_outcomes.model_copy(update={"rule_sets": (missed,)})
    return report.model_copy(update={"realized_outcomes": outcomes})


def check(name: str, outcome: Any) -> CheckResult:
    return INGEST[0].result(outcome, "as was seen").model_copy(update={"name": name})


@pytest.fixture(scope="module")
def known(full_home: Home) -> Known:
    """Every metric, its labels and their values."""
    found: Known = {name: dict(labels) for name, labels in BY_PROMETHEUS.items()}
    for family in metrics.HomeMetrics(full_home).collect():
        for name in {family.name, *(sample.name for sample in family.samples)}:
            labels = found.setdefault(name, {})
            for sample in family.samples:
                for label, value in sample.labels.items():
                    labels.setdefault(label, set()).add(value)
    return found


def queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def selectors(node: Any) -> Iterator[Any]:
    """Every metric that a query selects."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    for part in ("lhs", "rhs", "expr", "vs"):
        inner = getattr(node, part, None)
        if inner is not None:
            yield from selectors(inner)
    for argument in getattr(node, "args", ()) or ():
        yield from selectors(argument)


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_a_query_asks_for_what_there_is(where: str, query: str, known: Known) -> None:
    found = list(selectors(promql_parser.parse(query)))
    assert found, "a query without a metric"
    for selector in found:
        assert selector.name in known, where
        labels = known[selector.name]
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, where
            assert matcher.name in OPEN_ENDED or matcher.value in labels[matcher.name], where


def test_what_is_measured_is_on_the_dashboard_or_left_out_on_purpose(known: Known) -> None:
    asked = {selector.name for _, query in queries() for selector in selectors(promql_parser.parse(query))}
    left = {name.removeprefix(metrics.PREFIX) for name in set(known) - asked}
    details = {
        "build",
        "build_info",
        "rule_set",
        "rule_set_info",
        "attempts",
        "requests",
        "scored_ratio",
        "quality_share_ratio",
        "lake_objects",
    }
    details |= {"incident_began_timestamp_seconds", "month_over_budget_probability", "rule_set_quality_change_ratio"}
    details |= {"window_covered_seconds", "month_budget_used_ratio", "unknown_budget_usd"}
    details |= {"operation_requests", "operation_success_ratio", "operation_spend_usd"}
    assert {name for name in left if not name.startswith(("quarter_", "team_month_", "tier_month_"))} == details


def test_labels_in_legends_are_labels_of_the_metric(known: Known) -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            labels = {name for each in selectors(promql_parser.parse(target["expr"])) for name in known[each.name]}
            shown = {part.partition("}}")[0] for part in target["legendFormat"].split("{{")[1:]}
            assert shown <= labels, panel["title"]
    for annotation in DASHBOARD["annotations"]["list"]:
        assert set(re.findall(r"{{(\w+)}}", annotation["titleFormat"])) <= labels_of(annotation["expr"], known)


def labels_of(query: str, known: Known) -> set[str]:
    return {label for selector in selectors(promql_parser.parse(query)) for label in known[selector.name]}


def test_a_rule_speaks_of_labels_that_its_alert_has(known: Known) -> None:
    for rule in RULES:
        said = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert said <= labels_of(rule["expr"], known), rule["alert"]


def test_every_rule_is_seen_to_be_silent_and_to_alarm() -> None:
    cases = yaml.safe_load((INFRA / "prometheus" / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    tried = [(each["alertname"], bool(each["exp_alerts"])) for case in cases for each in case["alert_rule_test"]]
    assert {name for name, alarms in tried if alarms} == {rule["alert"] for rule in RULES}
    assert {name for name, alarms in tried if not alarms} == {rule["alert"] for rule in RULES}


def test_the_dashboard_is_one_that_grafana_provisions() -> None:
    source = yaml.safe_load((INFRA / "grafana/provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8"))["datasources"][0]
    asked = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())}
    assert asked == {source["uid"]}
    assert DASHBOARD["uid"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


def test_every_rule_says_what_is_wrong_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}


def test_prometheus_own_tool_finds_settings_and_rules_sound_and_they_fire_when_they_should() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("needs promtool (Debian's package prometheus)")
    for words in (
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ):
        done = subprocess.run([tool, *words], check=False, capture_output=True, text=True, cwd=INFRA / "prometheus")
        assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_first_decision_about_large_changes_is_waited_for(full_of: Callable[[str], Report], tmp_path: Path) -> None:
    rules = promise("2026-11-01T00:00:00Z-abcd").model_copy(update={"status": "proposed"})
    home = Home(tmp_path / "home").create()
    home.runs.begin("run", "0123456789abcdef")
    home.runs.keep("run", full_of("a name").model_copy(update={"routing_rule_set": rules}), None, {})

    def stands(record: RuleSetRecord) -> tuple[str, dict[str, float]]:
        families = {each.name.removeprefix(metrics.PREFIX): each.samples for each in metrics.HomeMetrics(home, record).collect()}
        (status,) = (sample.labels["status"] for sample in families["rule_set_status"] if sample.value)
        return status, {sample.labels["id"]: sample.value for sample in families["rule_set_needs_approval"]}

    small, large = (RuleSetRecord(RecordFiles(FolderStorage(tmp_path / name))) for name in ("small", "large"))
    assert stands(large) == ("proposed", {rules.rule_set_id: 1}), "what nobody recorded, nobody has approved"
    small.propose(rules, 0.04, 0.05)
    assert stands(small) == ("proposed", {rules.rule_set_id: 0})
    large.propose(rules, 0.04, 0.06)
    assert stands(large) == ("proposed", {rules.rule_set_id: 1})
    for state, decide in (
        ("approved", lambda: large.approve(rules.rule_set_id, "Ada")),
        ("published", lambda: large.publish(rules.rule_set_id, "Ada")),
        ("rolled_back", lambda: large.roll_back("Ada")),
    ):
        decide()
        assert stands(large) == (state, {rules.rule_set_id: 0})

    class Unreachable(RecordFiles):
        def names(self, folder: str) -> Any:
            raise ServiceUnavailableError(folder)

    assert stands(RuleSetRecord(Unreachable(FolderStorage(tmp_path / "large")))) == ("proposed", {}), "cannot be told"


@pytest.fixture(scope="module")
def prometheus(full_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Prometheus itself, with the rules, on the metrics of the full home; asks its API."""
    server = shutil.which("prometheus")
    if server is None:
        pytest.skip("needs a Prometheus server (Debian's package prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics.HomeMetrics(full_home))
    endpoint, _ = start_http_server(0, "127.0.0.1", registry)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(INFRA / "prometheus" / "alerts.yml")],
        "scrape_configs": [
            {"job_name": "routing-pipeline", "static_configs": [{"targets": [f"127.0.0.1:{endpoint.server_port}"]}]},
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(settings), encoding="utf-8")
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]

    def ask(what: str, **arguments: str) -> Any:
        url = f"http://127.0.0.1:{port}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    with subprocess.Popen(
        [server, *words, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: ask("query", query="routing_pipeline_requests")["result"])
            yield ask
        finally:
            process.terminate()
            endpoint.shutdown()


def until(holds: Callable[[], Any]) -> None:
    give_up_s = time.monotonic() + 60
    while time.monotonic() < give_up_s:
        try:
            if holds():
                return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail("did not come to hold within a minute")


def test_every_panel_shows_something_of_a_home_in_which_everything_happened(prometheus: Callable[..., Any]) -> None:
    empty = [where for where, query in queries() if where not in ALERTS and not prometheus("query", query=query)["result"]]
    assert empty == []


def test_what_is_wrong_with_the_home_comes_to_an_alert(prometheus: Callable[..., Any]) -> None:
    def alerts() -> dict[str, dict[str, str]]:
        return {each["labels"]["alertname"]: each for each in prometheus("alerts")["alerts"]}

    wrong = {"IncidentOpen", "DataQualityBlocks", "PromiseMissed", "ReportStale", "RecordsQuarantined", "RulesWaitForApproval"}
    until(lambda: wrong <= set(alerts()))
    assert {name for name in wrong if alerts()[name]["state"] == "firing"} >= {"IncidentOpen", "DataQualityBlocks", "PromiseMissed"}
    assert not {"MetricsEndpointDown", "HomeUnreadable"} & set(alerts())
