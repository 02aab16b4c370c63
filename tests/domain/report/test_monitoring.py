"""The dashboard and the alert rules ask for metrics that exist, with labels and values that they have."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import promql_parser
import pytest
import yaml

from routing_pipeline import metrics
from routing_pipeline.alerts import standing
from routing_pipeline.analysis.budget_projection import BudgetProjection
from routing_pipeline.home import Home
from routing_pipeline.report.assembly import Report

INFRA = Path(__file__).parents[3] / "infra"
DASHBOARD: dict[str, Any] = json.loads((INFRA / "grafana" / "dashboards" / "routing-pipeline.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
BY_PROMETHEUS = {"up": {"job": {"routing-pipeline"}}}
OPEN_ENDED = {"model", "team", "reason", "id", "version"}
"""Labels whose values come from logs or releases."""

Known = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def known(full_of: Callable[[str], Report], worlds: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Known:
    """Every metric, its labels and their values."""
    home = Home(tmp_path_factory.mktemp("home")).create()
    home.results.begin_run("run", "0123456789abcdef")
    home.results.keep_run("run", full_of("a name"), None, {})
    home.results.save("budget_projection", "0123456789abcdef", worlds.filled(BudgetProjection, "a name"))
    for sensor in ("cost_spike", "latency_spike", "quality_drop", "silent_feed"):
        standing.note(home, sensor, standing.standing_of("{}", 1.0))
    found: Known = {name: dict(labels) for name, labels in BY_PROMETHEUS.items()}
    for family in metrics.HomeMetrics(home).collect():
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
            assert matcher.name in OPEN_ENDED or matcher.value in labels[matcher.name], where


def test_what_is_measured_is_on_the_dashboard_or_left_out_on_purpose(known: Known) -> None:
    asked = {selector.name for _, query in queries() for selector in selectors(promql_parser.parse(query))}
    left = {name.removeprefix(metrics.PREFIX) for name in set(known) - asked}
    details = {"build", "build_info", "rule_set", "rule_set_info", "attempts", "requests", "scored_ratio", "lake_objects"}
    details |= {"incident_began_timestamp_seconds", "month_over_budget_probability", "rule_set_quality_change_ratio"}
    assert {name for name in left if not name.startswith(("quarter_", "team_month_"))} == details


def test_labels_in_legends_are_labels_of_the_metric(known: Known) -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            labels = {name for each in selectors(promql_parser.parse(target["expr"])) for name in known[each.name]}
            shown = {part.partition("}}")[0] for part in target["legendFormat"].split("{{")[1:]}
            assert shown <= labels | OPEN_ENDED, panel["title"]


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
