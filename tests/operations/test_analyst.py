"""An analysis is added with a function and a row: asset, answer, tool and report follow; and what is kept is what would be computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dagster as dg
import ibis
import pytest

from assets.operations import asset_of
from assets.resources import HomeResource
from routing_pipeline.alerts.window_incidents import Incidents
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.estimates import Result
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.operations.declared import UndeclaredError
from routing_pipeline.operations.table import OPERATIONS, Operation, Operations, table
from routing_pipeline.parameters import Parameters
from routing_pipeline.report.model import Report
from routing_pipeline.serving.mcp import text
from routing_pipeline.serving.mcp.computing import Computing
from routing_pipeline.serving.mcp.tools import TIMEFRAME, Tool
from routing_pipeline.storage.home import Home
from routing_pipeline.window.scope import AnalysisScope


class LongestPrompt(Result):
    prompt_tokens: int


class Headroom(Result):
    free_tokens: int


def longest_prompt(requests: ibis.Table) -> LongestPrompt:
    return LongestPrompt(prompt_tokens=int(requests.prompt_tokens.max().execute()))


def shorter_prompt(requests: ibis.Table, _: AnalysisScope) -> LongestPrompt:
    return LongestPrompt(prompt_tokens=longest_prompt(requests).prompt_tokens - 1)


def headroom(prompt_tokens: int) -> Headroom:
    return Headroom(free_tokens=1_000_000 - prompt_tokens)


LONGEST = Operation("longest_prompt", LongestPrompt, longest_prompt, ("requests",), "patterns", "The longest prompt of the window.")
HEADROOM = Operation("headroom", Headroom, headroom, ("longest_prompt.prompt_tokens",), "planning", "What a context window leaves free.")
TABLE = table((*OPERATIONS.values(), LONGEST, HEADROOM))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("gateway")
    write_demo(folder, requests=1_000)
    home = Home(tmp_path_factory.mktemp("home")).create()
    ingest_logs(home, str(folder / "logs"))
    return home


@pytest.fixture(scope="module")
def scope(home: Home) -> AnalysisScope:
    return Analyst(home).scope(Parameters())


def computed(home: Home, scope: AnalysisScope, operations: Operations, given: dict[str, Any] | None = None) -> tuple[Any, list[str]]:
    """The headroom, and what was computed for it."""
    said: list[str] = []
    return Analyst(home, operations=operations).answer("headroom", scope, said.append, given), said


def test_a_new_row_is_an_asset_after_what_it_takes(home: Home, scope: AnalysisScope) -> None:
    assets = {each.name: asset_of(each, TABLE) for each in (LONGEST, HEADROOM)}
    (spec,) = assets["headroom"].specs
    assert {dep.asset_key.to_user_string() for dep in spec.deps} == {"analysis_scope", "longest_prompt"}
    assert (spec.group_name, spec.description, spec.code_version) == ("planning", HEADROOM.description, HEADROOM.code)
    resource = HomeResource(root=str(home.root))
    longest = assets["longest_prompt"](dg.build_asset_context(), analysis_scope=scope, home=resource)
    found = assets["headroom"](dg.build_asset_context(), analysis_scope=scope, home=resource, longest_prompt=longest)
    assert found == Headroom(free_tokens=1_000_000 - longest.prompt_tokens)


def test_it_is_computed_once_and_again_only_when_it_could_be_another(home: Home, scope: AnalysisScope) -> None:
    found, _ = computed(home, scope, TABLE)
    assert computed(home, scope, TABLE) == (found, [])
    # Other code that finds the same leaves what rests on it as it is.
    asked_otherwise = TABLE | {"longest_prompt": replace(LONGEST, inputs=("sample",))}
    assert computed(home, scope, asked_otherwise) == (found, ["longest prompt"])
    shorter = TABLE | {"longest_prompt": replace(LONGEST, compute=shorter_prompt, inputs=("requests", "scope"))}
    other, said = computed(home, scope, shorter)
    assert (other.free_tokens, said) == (found.free_tokens + 1, ["longest prompt", "headroom"])
    assert computed(home, scope, TABLE) == (found, [])


ALL = Parameters(
    cost_threshold=0.01,
    quality_threshold=0.5,
    budget=1_000.0,
    budgets_by_team={"search": 100.0},
    capacities={"gpt-4o-mini": {"max_share": 0.5}},
    router_inputs=("task_type",),
)
"""Questions that have every operation look at what it can look at."""


def test_operations_read_what_they_declare_and_another_goal_computes_what_looks_at_the_goal(home: Home) -> None:
    declaring = [each.name for each in OPERATIONS.values() if each.asks is not None]
    analyst, said = Analyst(home), []
    asked = analyst.scope(ALL)
    # What reads more than its row says ends in an error.
    for name in declaring:
        analyst.answer(name, asked, given={"promised": (), "carried": None, "models": None})
    other = analyst.scope(ALL.model_copy(update={"goal": "cost"}))
    assert other.key != asked.key
    for name in declaring:
        analyst.answer(name, other, said.append, {"promised": (), "carried": None, "models": None})
    assert said == ["routing decisions"]


class Asked(Result):
    goal: str


def asked_for(scope: AnalysisScope) -> Asked:
    return Asked(goal=scope.parameters.goal)


def all_that_was_asked(scope: AnalysisScope) -> Asked:
    return Asked(goal=scope.parameters.model_dump_json())


def key_of_the_question(scope: AnalysisScope) -> Asked:
    return Asked(goal=scope.key)


@pytest.mark.parametrize(
    ("compute", "what"), [(asked_for, "reads goal"), (all_that_was_asked, "reads all parameters"), (key_of_the_question, "reads key")]
)
def test_what_an_operation_does_not_declare_it_cannot_read(
    home: Home, scope: AnalysisScope, compute: Callable[[AnalysisScope], Asked], what: str
) -> None:
    row = Operation("asked", Asked, compute, ("scope",), asks=("budget",))
    with pytest.raises(UndeclaredError, match=f"asked {what}"):
        Analyst(home, operations=table((row,))).answer("asked", scope)


def test_what_it_declares_is_part_of_its_key(home: Home, scope: AnalysisScope) -> None:
    analyst = Analyst(home, operations=table((Operation("asked", Asked, asked_for, ("scope",), asks=("goal",)),)))
    goals = [analyst.answer("asked", analyst.scope(Parameters(goal=goal))).goal for goal in ("cost", "speed", "cost")]
    assert goals == ["cost", "speed", "cost"]


def test_a_result_that_is_handed_over_is_taken_and_never_mistaken_for_the_homes_own(home: Home, scope: AnalysisScope) -> None:
    own, _ = computed(home, scope, TABLE)
    given, said = computed(home, scope, TABLE, {"longest_prompt": LongestPrompt(prompt_tokens=1)})
    assert (given.free_tokens, said) == (999_999, ["headroom"])
    assert computed(home, scope, TABLE) == (own, [])


def test_a_tool_of_its_name_answers_with_it(home: Home, scope: AnalysisScope, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Tool("get_longest_prompt", "cost-tracker", "Longest prompt", LONGEST.description, (TIMEFRAME,))
    computing = Computing(home, "duckdb", TABLE)
    assert computing.schemas((tool,)) == {tool.name: LongestPrompt.model_json_schema(mode="serialization")}
    monkeypatch.setitem(text._SAYS, LongestPrompt, lambda found: [f"Longest prompt: {found.prompt_tokens:,} tokens"])
    answer = computing.answer(tool, tool.question({}, Parameters()), None)
    longest = Analyst(home, operations=TABLE).answer("longest_prompt", scope)
    assert answer.structured == longest.model_dump()
    assert f"Longest prompt: {longest.prompt_tokens:,} tokens" in answer.text


def test_a_report_with_a_field_of_its_name_holds_it_and_one_without_refuses_it(full_of: Callable[[str], Report]) -> None:
    class Wider(Report):
        longest_prompt: LongestPrompt

    report = full_of("a name")
    results = {each.name: getattr(report, each.name) for each in OPERATIONS.values() if each.group}
    results |= {"incidents": Incidents(incidents=()), "longest_prompt": LongestPrompt(prompt_tokens=7)}
    about = {name: getattr(report, name) for name in Report.model_fields if name not in {*results, "incident"}}
    assert Wider.of(results, **about).longest_prompt.prompt_tokens == 7
    with pytest.raises(ValueError, match="longest_prompt"):
        Report.of(results, **about)
