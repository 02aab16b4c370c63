"""The two servers as an agent meets them: the SDK's own client, standard input and output, and streamable HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jsonschema
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference, ResourceTemplateReference

from routing_pipeline.errors import DataQualityError
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.table import OPERATIONS
from routing_pipeline.parameters import Parameters
from routing_pipeline.report.model import Report
from routing_pipeline.rules.record import record_of
from routing_pipeline.serving.mcp.answers import Answers
from routing_pipeline.serving.mcp.server import TOKEN_VARIABLE, server_of
from routing_pipeline.serving.mcp.tools import BY_NAME, SERVERS, TOOLS
from routing_pipeline.serving.mcp.untrusted import NOTE
from routing_pipeline.storage.home import Home
from tests.delivered_week import DeliveredWeek
from tests.recommendation.test_realized_outcomes import promise

COMMAND = [sys.executable, "-c", "from routing_pipeline.cli import main; main()"]
TASK: dict[str, tuple[str, dict[str, Any]]] = {
    "get_routing_analytics": ("intelligence-router", {"timeframe": "7d"}),
    "get_routing_costs": ("cost-tracker", {"timeframe": "7d", "group_by": "model,task_type"}),
    "get_quality_metrics": ("intelligence-router", {"timeframe": "7d"}),
    "analyze_request_patterns": ("intelligence-router", {"timeframe": "7d"}),
    "evaluate_model_performance": ("intelligence-router", {"models": "all", "timeframe": "7d"}),
    "analyze_routing_decisions": ("intelligence-router", {"criteria": "balanced"}),
    "identify_bottlenecks": ("intelligence-router", {"type": "performance", "timeframe": "7d"}),
    "identify_cost_drivers": ("cost-tracker", {"timeframe": "7d"}),
    "identify_quality_issues": ("intelligence-router", {"threshold": "0.7"}),
    "optimize_routing_rules": ("intelligence-router", {"goal": "balanced", "constraints": "cost<0.01,quality>0.8"}),
    "optimize_model_mix": ("intelligence-router", {"based_on": "historical_performance", "timeframe": "7d"}),
    "generate_cost_optimization_plan": ("cost-tracker", {"target_reduction": "20%", "timeframe": "7d"}),
    "create_optimization_plan": ("intelligence-router", {"recommendations": "latest"}),
    "assess_optimization_risks": ("intelligence-router", {"changes": "latest"}),
}
"""The calls of the task, word for word (the cost plan over the seven days that there are)."""


@pytest.fixture(scope="module")
def home(delivered_week: DeliveredWeek) -> Home:
    """A home with a report on 3,000 made-up requests; others may ask it at the same time."""
    return Home(delivered_week.home)


@pytest.fixture(scope="module")
def report(home: Home) -> Report:
    stored = home.runs.all()[0].load("report", Report)
    assert stored is not None
    return stored


def by_stdio(server: str, home: Home, *words: str) -> StdioServerParameters:
    return StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "mcp", server, "--home", str(home.root), *words])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def serving(server: str, home: Home, host: str = "127.0.0.1", token: str | None = None) -> Iterator[str]:
    """A server on HTTP; gives its address."""
    port = free_port()
    environment = dict(os.environ) | ({TOKEN_VARIABLE: token} if token else {})
    words = ["mcp", server, "--home", str(home.root), "--http", f"{host}:{port}"]
    with subprocess.Popen([*COMMAND, *words], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "listens on" in process.stderr.readline()
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.terminate()


Talk = Callable[[Client], Awaitable[Any]]


def talk(server: Any, what: Talk, **options: Any) -> Any:
    async def talking() -> Any:
        async with Client(server, **options) as client:
            return await what(client)

    return anyio.run(talking)


def text_of(result: Any) -> str:
    return "\n".join(block.text for block in result.content)


def here(name: str, home: Home, base: Parameters | None = None) -> Any:
    """The same server without a process of its own."""
    return server_of(name, Answers(home, base))  # type: ignore[arg-type]


def call(home: Home, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    whole = {"detail": "full", **(arguments or {})}
    return talk(here(BY_NAME[tool].server, home), lambda client: client.call_tool(tool, whole, **options))


def refused_resource(home: Home, uri: str) -> str:
    """What a client is told that asks for a resource which is not there."""

    async def reading(client: Client) -> str:
        try:
            found = await client.read_resource(uri)
        except MCPError as error:
            return str(error)
        raise AssertionError(f"{uri} was read: {found}")

    return str(talk(here("cost-tracker", home), reading))


# All fourteen, over both transports


@dataclass(frozen=True)
class Told:
    """What one client saw of one server."""

    tools: dict[str, Any]
    results: dict[str, Any]
    steps: dict[str, list[str]]
    briefs: dict[str, Any]
    listing: str


async def use_everything(client: Client, server: str) -> Told:
    everything = await client.list_tools()
    listed = {tool.name: tool for tool in everything.tools}
    results, steps, briefs = {}, {}, {}
    for name, (of, arguments) in TASK.items():
        if of != server:
            continue
        steps[name] = []

        async def progress(_done: float, _total: float | None, message: str | None, into: list[str] = steps[name]) -> None:
            into.append(message or "")

        results[name] = await client.call_tool(name, {**arguments, "detail": "full"}, progress_callback=progress)
        briefs[name] = await client.call_tool(name, arguments)
    return Told(listed, results, steps, briefs, everything.model_dump_json(by_alias=True, exclude_none=True))


@pytest.fixture(scope="module")
def over_stdio(home: Home) -> dict[str, Told]:
    return {name: talk(by_stdio(name, home), lambda client, name=name: use_everything(client, name)) for name in SERVERS}


@pytest.fixture(scope="module")
def over_http(home: Home, over_stdio: dict[str, Told]) -> dict[str, Told]:
    told = {}
    for name in SERVERS:
        with serving(name, home) as url:
            told[name] = talk(url, lambda client, name=name: use_everything(client, name))
    return told


def test_there_are_the_fourteen_tools_with_exactly_the_parameters_of_the_task(over_stdio: dict[str, Told]) -> None:
    assert set(TASK) == set(BY_NAME)
    assert len(TASK) == 14
    for name, (server, arguments) in TASK.items():
        tool = over_stdio[server].tools[name]
        assert set(tool.input_schema["properties"]) == {*arguments, "detail", "page"}
        assert "required" not in tool.input_schema
        assert len(tool.description) > 100, "says what it is for"
        assert tool.annotations.read_only_hint
        fields = OPERATIONS[BY_NAME[name].operation].result.model_fields
        assert set(tool.output_schema["properties"]) == {*fields, "left_out", "page", "pages"}
    assert {len(told.tools) for told in over_stdio.values()} == {11, 3}


@pytest.mark.parametrize("name", TASK)
def test_each_tool_answers_in_the_type_of_its_result_and_in_words(
    name: str, over_stdio: dict[str, Told], over_http: dict[str, Told]
) -> None:
    server = TASK[name][0]
    first, second = over_stdio[server].results[name], over_http[server].results[name]
    assert not first.is_error, text_of(first)
    kind = OPERATIONS[BY_NAME[name].operation].result
    assert kind.model_validate(first.structured_content)
    jsonschema.validate(first.structured_content, over_stdio[server].tools[name].output_schema)
    assert text_of(first).startswith(f"**{name}**")
    assert text_of(first).endswith(NOTE)
    assert len(text_of(first)) < 6_000
    assert second.structured_content == first.structured_content
    assert text_of(second) == text_of(first)
    assert second.meta["routing-pipeline/answer"]["source"] == "store"
    assert over_http[server].steps[name] == []


def test_answers_are_brief_and_tools_are_listed_in_little_room_unless_more_is_asked_for(over_stdio: dict[str, Told]) -> None:
    for name, (server, _) in TASK.items():
        told = over_stdio[server].briefs[name]
        assert not told.is_error, text_of(told)
        assert len(text_of(told)) < 4_000
        assert len(json.dumps(told.structured_content, ensure_ascii=False)) < 4_000
        jsonschema.validate(told.structured_content, over_stdio[server].tools[name].output_schema)
    assert sum(len(told.listing) for told in over_stdio.values()) < 30_000


def test_arguments_are_completed_and_what_is_listed_says_how_long_it_stands(home: Home, report: Report) -> None:
    async def asking(client: Client) -> Any:
        template = ResourceTemplateReference(uri="routing-pipeline://rule-sets/{rule_set_id}")
        prompt = PromptReference(name="optimize_llm_routing")
        goals = await client.complete(prompt, {"name": "optimization_goal", "value": "b"})
        tasks = await client.complete(prompt, {"name": "task_types", "value": "code,ch"})
        known = await client.complete(template, {"name": "rule_set_id", "value": ""})
        view = await client.read_resource("ui://routing-pipeline/frontier.html")
        tools = await client.list_tools()
        return goals.completion.values, tasks.completion.values, known.completion.values, view, tools

    goals, tasks, known, view, tools = talk(here("intelligence-router", home), asking)
    assert (goals, tasks) == (["balanced"], ["code,chat"])
    assert known[0] == "latest"
    assert not report.routing_rule_set.rules or report.routing_rule_set.rule_set_id in known
    assert view.contents[0].mime_type == "text/html;profile=mcp-app"
    assert "http" not in view.contents[0].text.replace("http://www.w3.org/2000/svg", "")
    assert tools.ttl_ms == 3_600_000
    drawn = [tool.name for tool in tools.tools if (tool.meta or {}).get("ui")]
    assert drawn == ["optimize_routing_rules"]


def test_what_is_computed_says_so_and_shows_progress(over_stdio: dict[str, Told]) -> None:
    told = over_stdio["intelligence-router"]
    assert told.results["optimize_routing_rules"].meta["routing-pipeline/answer"]["source"] == "computed"
    assert told.steps["optimize_routing_rules"] == ["making the window's rows ready", "checking the data", "routing rules"]


def test_agents_and_the_report_read_the_same_results(over_stdio: dict[str, Told], report: Report) -> None:
    for name in ("get_routing_analytics", "get_quality_metrics", "analyze_request_patterns", "identify_bottlenecks"):
        results = over_stdio["intelligence-router"].results
        assert results[name].structured_content == getattr(report, BY_NAME[name].operation).model_dump(mode="json")
    costs = over_stdio["cost-tracker"].results["get_routing_costs"].structured_content
    assert costs["total_usd"] == report.routing_costs.total_usd
    assert [grouping["by"] for grouping in costs["groupings"]] == [["model", "task_type"], ["model"], ["task_type"]]


def test_standard_output_holds_nothing_but_the_protocol(home: Home) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    }
    done = subprocess.run(
        [*COMMAND, "mcp", "cost-tracker", "--home", str(home.root)],
        input=json.dumps(hello) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["result"]["serverInfo"]["name"] == "cost-tracker"
    assert "request logs alone" in json.loads(line)["result"]["instructions"]
    assert done.stderr == ""


def test_a_stored_answer_needs_no_heavy_library(home: Home, over_stdio: dict[str, Told]) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom routing_pipeline.storage.home import Home\n"
        "from routing_pipeline.serving.mcp.answers import Answers\nfrom routing_pipeline.serving.mcp.server import server_of\n"
        "from routing_pipeline.serving.mcp.tools import BY_NAME\n"
        "answers = Answers(Home(Path(sys.argv[1])))\nserver_of('intelligence-router', answers)\n"
        "assert answers.answer(BY_NAME['get_routing_analytics'], {'timeframe': '7d'}).source == 'store'\n"
        "print([name for name in ('ibis', 'duckdb', 'pyarrow', 'numpy', 'scipy', 'pandas', 'pyiceberg', 'dagster') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(home.root)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_shell_gets_the_answer_that_an_agent_gets(home: Home, over_stdio: dict[str, Told]) -> None:
    words = [*COMMAND, "ask", "get_routing_costs", "timeframe=7d", "group_by=model,task_type", "--home", str(home.root)]
    asked = over_stdio["cost-tracker"].results["get_routing_costs"]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() == text_of(asked)
    as_json = subprocess.run([*words, "--json"], check=True, capture_output=True, text=True).stdout
    assert json.loads(as_json) == asked.structured_content


# Arguments

REFUSED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("get_routing_analytics", {"timeframe": "2w"}, "timeframe: one of 1h, 24h, 7d, 30d"),
    ("get_routing_analytics", {"timeframe": 7}, "timeframe: one of 1h, 24h, 7d, 30d"),
    ("get_routing_analytics", {"timefame": "7d"}, "takes timeframe, detail, page; not 'timefame'"),
    ("get_routing_costs", {"group_by": "model,colour"}, "group_by: one or several of model, tier, task_type, provider, team, day"),
    ("get_routing_costs", {"group_by": []}, "group_by: one or several of"),
    ("evaluate_model_performance", {"models": ""}, 'models: "all", or names of models'),
    ("analyze_routing_decisions", {"criteria": "luck"}, "criteria: one of cost, speed, quality, balanced"),
    ("identify_bottlenecks", {"type": "cost"}, "identify_cost_drivers"),
    ("identify_quality_issues", {"threshold": 7}, "threshold: a number from 0 to 1"),
    ("identify_quality_issues", {"threshold": "${quality_threshold}"}, "threshold: a number from 0 to 1"),
    ("optimize_routing_rules", {"goal": "fame"}, "goal: one of cost, speed, quality, balanced"),
    ("optimize_routing_rules", {"constraints": "cost>0.01"}, "cost<USD per request and quality>0..1"),
    ("optimize_routing_rules", {"constraints": "cost<0.01;DROP TABLE"}, "cost<USD per request and quality>0..1"),
    ("optimize_routing_rules", {"constraints": "quality>80"}, "cost<USD per request and quality>0..1"),
    ("optimize_routing_rules", {"constraints": "quality_drop>0.1"}, "quality_drop<0..1"),
    ("optimize_model_mix", {"based_on": "tarot"}, "historical_performance"),
    ("generate_cost_optimization_plan", {"target_reduction": "120%"}, "more than 0, less than 100 %"),
    ("generate_cost_optimization_plan", {"target_reduction": "nan"}, "more than 0, less than 100 %"),
    ("create_optimization_plan", {"recommendations": "../../etc/passwd"}, "this home knows no rule set"),
    ("create_optimization_plan", {"recommendations": 5}, '"latest", the id of a rule set, or rules as JSON'),
    ("assess_optimization_risks", {"changes": [{"when": {"colour": ["red"]}, "route": "gpt-4o"}]}, "rule 1: when.colour"),
    ("assess_optimization_risks", {"changes": [{"route": [{"model": "gpt-4o", "weight": 0.5}]}]}, "weights of its route do not add up"),
    ("assess_optimization_risks", {"changes": [{"when": {"complexty": {"lt": 0.5}}, "route": "gpt-4o"}]}, "did you mean 'complexity'?"),
    ("assess_optimization_risks", {"changes": [{"wen": {"task_type": ["code"]}, "route": "gpt-4o"}]}, "did you mean 'when'?"),
    ("assess_optimization_risks", {"changes": {"rules": []}}, "0 rules; give 1 to 100"),
)


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("get_routing_analytic", "there is no tool \"get_routing_analytic\" (did you mean 'get_routing_analytics'?)"),
        ("get_routing_costs", "get_routing_costs is a tool of the server cost-tracker; ask it there"),
        ("make_tea", 'there is no tool "make_tea"'),
    ],
)
def test_a_tool_that_is_not_there_is_told_with_the_one_that_is_meant(home: Home, tool: str, said: str) -> None:
    async def asking() -> Any:
        async with Client(server_of("intelligence-router", Answers(home))) as client:
            return await client.call_tool(tool, {})

    result = anyio.run(asking)
    assert (result.is_error, text_of(result)) == (True, said)


@pytest.mark.parametrize(("tool", "arguments", "said"), REFUSED, ids=lambda value: value if isinstance(value, str) else None)
def test_a_bad_argument_is_told_what_is_allowed(home: Home, tool: str, arguments: dict[str, Any], said: str) -> None:
    result = call(home, tool, arguments)
    assert result.is_error
    assert said in text_of(result)
    assert "Traceback" not in text_of(result)
    assert "\n" not in text_of(result)


def test_an_empty_home_says_what_to_do(tmp_path: Path, home: Home) -> None:
    empty = Home(tmp_path / "home").create()
    for tool, said in (("get_routing_costs", "ingest logs first"), ("create_optimization_plan", "no report yet")):
        result = call(empty, tool)
        assert result.is_error
        assert said in text_of(result)
    assert "no report yet" in refused_resource(empty, "routing-pipeline://reports/latest")


def test_a_bug_of_ours_tells_a_client_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr(Answers, "answer", broken)
    result = call(home, "get_routing_analytics")
    assert result.is_error
    assert text_of(result) == "Error executing tool get_routing_analytics"


def test_rows_that_fail_the_gate_are_not_answered_from(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> None:
        raise DataQualityError("blocking data-quality check failed, nothing is answered from these rows: cost_is_never_negative")

    monkeypatch.setattr("routing_pipeline.operations.analyst.gate", failing)
    result = call(home, "get_routing_analytics", {"timeframe": "24h"})
    assert result.is_error
    assert "cost_is_never_negative" in text_of(result)


# Rules by name and by hand


def test_a_rule_set_is_taken_by_id_by_latest_or_as_it_is(home: Home, over_stdio: dict[str, Told], report: Report) -> None:
    found = over_stdio["intelligence-router"].results["optimize_routing_rules"].structured_content
    latest = over_stdio["intelligence-router"].results["assess_optimization_risks"].structured_content
    assert latest == report.optimization_risks.model_dump(mode="json")
    by_id = call(home, "assess_optimization_risks", {"changes": report.routing_rule_set.rule_set_id})
    assert by_id.structured_content == latest
    optimised = call(home, "assess_optimization_risks", {"changes": found["rule_set"]["rule_set_id"]})
    assert not optimised.is_error, text_of(optimised)
    rules = [{"when": {"task_type": ["chat"]}, "route": "gpt-4o-mini"}]
    by_hand = [
        call(home, "assess_optimization_risks", {"changes": given}) for given in (rules, json.dumps(rules), {"rules": rules}, rules[0])
    ]
    assert [each.is_error for each in by_hand] == [False] * 4
    assert len({json.dumps(each.structured_content, sort_keys=True) for each in by_hand}) == 1
    assert by_hand[0].structured_content["changes"][0]["blast_radius"]["task_types"] == ["chat"]
    plan = call(home, "create_optimization_plan", {"recommendations": rules})
    item, falls = plan.structured_content["items"][0], by_hand[0].structured_content["changes"][0]["quality_falls"]
    (quality,) = [effect["value"] for effect in item["expected_impact"] if effect["metric"] == "quality"]
    assert quality.get("estimate") == falls.get("estimate"), "plan and risks rest on the same replay"
    assert item["id"] == ("rules-canary" if falls.get("probability", 1.0) < 0.5 else "rules-not-started")


def test_a_misspelt_task_is_told_with_the_nearest_and_gets_neither_a_level_nor_a_trial(home: Home) -> None:
    rules = [{"when": {"task_type": "summarisation"}, "route": "gpt-9"}]
    risks = call(home, "assess_optimization_risks", {"changes": rules})
    assert (risks.structured_content["overall"], {change["risk"] for change in risks.structured_content["changes"]}) == (None, {None})
    assert "no request of the window has task_type 'summarisation'; did you mean 'summarization'?" in text_of(risks).replace("`", "'")
    assert "'gpt-9' was never seen in the window" in text_of(risks)
    plan = call(home, "create_optimization_plan", {"recommendations": rules})
    assert "Do not start the rule: no request of the window matches" in text_of(plan)
    assert "A/B test of the rule" not in text_of(plan)


def test_the_constraints_of_the_task_do_not_let_quality_fall_further_than_is_allowed(home: Home, over_stdio: dict[str, Told]) -> None:
    asked = over_stdio["intelligence-router"].results["optimize_routing_rules"].structured_content
    held = asked["rule_set"]["constraints"]
    assert (held["max_cost_usd"], held["min_quality"], held["max_quality_drop"]) == (0.01, 0.8, 0.01)
    quality = [limit["decides"] for limit in asked["limits"] if limit["kind"] == "quality"]
    assert quality == [True, False]
    assert "Limits that decide" in text_of(over_stdio["intelligence-router"].results["optimize_routing_rules"])
    wider = call(home, "optimize_routing_rules", {"goal": "balanced", "constraints": "quality>0.8,quality_drop<0.05"})
    assert wider.structured_content["rule_set"]["constraints"]["max_quality_drop"] == 0.05


def test_a_rule_that_names_an_unseen_model_gets_cannot_tell(home: Home) -> None:
    result = call(home, "assess_optimization_risks", {"changes": [{"when": {}, "route": "model-of-next-year"}]})
    assert "unidentifiable" in result.structured_content["changes"][0]["quality_falls"]
    assert result.structured_content["overall"] == "High"


def test_what_the_server_was_started_with_holds_where_a_call_says_nothing(home: Home) -> None:
    server = here("intelligence-router", home, Parameters(goal="speed", quality_threshold=0.6))
    result = talk(server, lambda client: client.call_tool("analyze_routing_decisions", {}))
    assert result.structured_content["goal"] == "speed"
    issues = talk(server, lambda client: client.call_tool("identify_quality_issues", {}))
    assert issues.structured_content["threshold"] == 0.6


# Resources and the prompt


def test_the_latest_report_and_rule_set_are_resources(home: Home, report: Report) -> None:
    async def reading(client: Client) -> dict[str, str]:
        uris = [resource.uri for resource in (await client.list_resources()).resources]
        uris.append(f"routing-pipeline://rule-sets/{report.routing_rule_set.rule_set_id}")
        return {str(uri): (await client.read_resource(uri)).contents[0].text for uri in uris}

    for name in SERVERS:
        read = talk(here(name, home), reading)
        assert read["routing-pipeline://reports/latest"].startswith("# LLM Routing Optimization Report")
        assert json.loads(read["routing-pipeline://reports/latest.json"])["scope"]["requests"] == report.scope.requests
        rules = report.routing_rule_set.model_dump(mode="json", exclude_none=True)
        assert json.loads(read["routing-pipeline://rule-sets/latest"])["rules"] == rules["rules"]
        assert json.loads(read[f"routing-pipeline://rule-sets/{rules['rule_set_id']}"])["rules"] == rules["rules"]


def test_where_a_rule_set_stands_is_a_resource_that_follows_what_people_decide(
    home: Home, delivered_week: DeliveredWeek, tmp_path: Path
) -> None:
    decided = Home(delivered_week.copy(tmp_path / "home"))
    proposed = promise("2026-10-01T00:00:00Z-feed").model_copy(update={"status": "proposed"})
    record_of(decided).propose(proposed, 0.5, 0.5)

    async def reading(client: Client) -> list[dict[str, Any]]:
        uri = f"routing-pipeline://rule-sets/{proposed.rule_set_id}"
        return [json.loads((await client.read_resource(each)).contents[0].text) for each in (uri, f"{uri}/status")]

    rules, status = talk(here("cost-tracker", decided), reading)
    assert (rules["status"], status["state"], status["needs_approval"]) == ("proposed", "proposed", True)
    record_of(decided).approve(proposed.rule_set_id, "Ada <script>", "reviewed")
    rules, status = talk(here("cost-tracker", decided), reading)
    assert (rules["status"], status["state"], status["history"][0]["move"]) == ("approved", "approved", "approve")
    # An answer that was stored before says so as well.
    answers, tool = Answers(decided), BY_NAME["optimize_routing_rules"]
    key = answers._key(tool.question({}, answers.base))
    answer = Answers(home).answer(tool, {})
    structured = {**answer.structured, "rule_set": proposed.model_dump(mode="json")}
    decided.results.save_answer(key, {"text": answer.text, "structured": structured, "about": {}})
    assert answers.answer(tool, {}).structured["rule_set"]["status"] == "approved"


@pytest.mark.parametrize(
    "uri", ["rule-sets/nope", "rule-sets/nope/status", "rule-sets/..%2F..%2Fsecret", "rule-sets/%2Fetc%2Fpasswd", "files/etc/passwd"]
)
def test_no_resource_leads_out_of_the_store(home: Home, uri: str) -> None:
    (home.root / "secret").write_text("hush-hush")
    assert "hush-hush" not in refused_resource(home, f"routing-pipeline://{uri}")


def test_the_prompt_walks_the_five_steps_with_every_tool(home: Home) -> None:
    async def asking(client: Client) -> str:
        asked = {"analysis_timeframe": "24h", "optimization_goal": "cost", "quality_threshold": "0.8", "task_types": "code\nIGNORE"}
        return str((await client.get_prompt("optimize_llm_routing", asked)).messages[0].content.text)

    async def asking_wrongly(client: Client) -> str:
        try:
            await client.get_prompt("optimize_llm_routing", {"analysis_timeframe": "2w"})
        except MCPError as error:
            return str(error)
        raise AssertionError("nothing was refused")

    assert "one of 1h, 24h, 7d, 30d" in talk(here("intelligence-router", home), asking_wrongly)
    text = talk(here("intelligence-router", home), asking)
    assert all(f"Step {number}" in text for number in range(1, 6))
    assert all(f"{server} {name}" in text for name, (server, _) in TASK.items())
    assert 'timeframe="24h"' in text
    assert 'constraints="quality>0.8"' in text
    assert "code IGNORE." in text


# Who may connect


def test_where_others_can_connect_a_token_is_demanded(home: Home) -> None:
    words = [*COMMAND, "mcp", "cost-tracker", "--home", str(home.root), "--http", "0.0.0.0:8931"]
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    refused = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    assert refused.returncode == 2
    assert TOKEN_VARIABLE in refused.stderr
    token = "a-token-that-nobody-guesses"
    with serving("cost-tracker", home, host="0.0.0.0", token=token) as url:  # noqa: S104
        for headers in ({}, {"Authorization": "Bearer wrong-wrong-wrong-wrong"}, {"Authorization": token}):
            answer = httpx2.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
            assert answer.status_code == 401
            assert token not in answer.text

        async def with_token() -> Any:
            async with (
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as web,
                Client(streamable_http_client(url, http_client=web)) as client,
            ):
                return await client.call_tool("get_routing_costs", TASK["get_routing_costs"][1])

        assert not anyio.run(with_token).is_error


def test_a_web_page_cannot_make_a_browser_ask_for_it(home: Home) -> None:
    with serving("cost-tracker", home) as url:
        for headers, status in (({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)):
            asked = httpx2.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
            assert asked.status_code == status


def test_asking_changes_nothing_but_the_store(home: Home, over_stdio: dict[str, Told], over_http: dict[str, Told]) -> None:
    version = Lake(home).version()
    reports = [run.run_id for run in home.runs.all()]
    kept = {path: path.stat().st_mtime_ns for path in home.root.rglob("*") if path.is_file() and path.is_relative_to(home.lake)}
    for tool in TOOLS:
        # Some compute over a window that nobody has asked about; the others find what is stored.
        assert not call(home, tool.name, {"timeframe": "24h"} if tool.name.startswith("get_") else {}).is_error
    assert Lake(home).version() == version
    assert [run.run_id for run in home.runs.all()] == reports
    assert {path: path.stat().st_mtime_ns for path in home.root.rglob("*") if path.is_file() and path.is_relative_to(home.lake)} == kept
