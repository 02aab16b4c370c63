"""The library's face: what it exports, what it loads, and the same answers as `ask`, as frames."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

import routing_pipeline as rp
from routing_pipeline.estimates import Estimate, Result, Unidentifiable
from routing_pipeline.frames import frame_of, tables_of
from routing_pipeline.operations.table import OPERATIONS
from routing_pipeline.recommendation.optimization_risks import WHOLE_SET
from routing_pipeline.rules.model import When
from routing_pipeline.serving.mcp.tools import TOOLS, Tool
from tests.delivered_week import DeliveredWeek

DOCS = Path(__file__).parent.parent / "docs"
HEAVY = ("ibis", "pandas", "numpy", "pyarrow", "pyiceberg", "dagster", "mcp", "boto3")


@pytest.fixture(scope="module")
def demo(delivered_week: DeliveredWeek, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `demo/home`, as `make run` leaves it, on 3,000 requests."""
    folder = tmp_path_factory.mktemp("repository")
    delivered_week.copy(folder / "demo" / "home")
    return folder


@pytest.fixture(scope="module")
def home(demo: Path) -> rp.OpenedHome:
    return rp.open_home(demo / "demo" / "home")


def test_every_public_name_is_there_and_no_other_is() -> None:
    assert all(getattr(rp, name) is not None for name in rp.__all__)
    assert set(rp.__all__) <= set(dir(rp))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rp.nothing  # type: ignore[attr-defined]


def test_opening_a_home_loads_no_heavy_library_and_importing_loads_no_module_of_ours(tmp_path: Path) -> None:
    said = (
        "import sys, routing_pipeline as rp\n"
        "assert not [name for name in sys.modules if name.startswith('routing_pipeline.')]\n"
        f"rp.open_home({str(tmp_path)!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", said], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_a_home_that_is_not_there_is_refused_as_on_the_command_line_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(rp.UnusableInputError, match="there is no such home") as raised:
        rp.open_home(tmp_path / "none")
    command = [sys.executable, "-m", "routing_pipeline", "ask", "get_routing_costs", "--home", str(tmp_path / "none")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, str(raised.value) in done.stderr) == (2, True)
    assert not (tmp_path / "none").exists()


def test_an_engine_or_a_configuration_that_cannot_be_used_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(rp.UnusableInputError, match="duckbd"):
        rp.open_home(tmp_path, engine="duckbd")
    (tmp_path / "routing.toml").write_text("goal = 'fame'")
    with pytest.raises(rp.UnusableInputError, match="goal"):
        rp.open_home(tmp_path, config=tmp_path / "routing.toml")


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_tool_of_ask_is_a_method_with_its_arguments(tool: Tool) -> None:
    method = getattr(rp.OpenedHome, tool.operation)
    assert tool.description in method.__doc__
    assert {each.name for each in tool.parameters} <= set(method.__signature__.parameters)


def test_costs_come_with_a_row_per_combination_and_a_column_per_dimension(home: rp.OpenedHome) -> None:
    costs = home.routing_costs(timeframe="7d", group_by=("model", "task_type"))
    frame = costs.to_pandas()
    assert list(frame.columns[:3]) == ["model", "task_type", "requests"]
    assert len(frame) == len(costs.groupings[0].lines)
    assert frame["cost_usd"].sum() + costs.groupings[0].cost_not_listed_usd == pytest.approx(costs.total_usd)
    assert list(costs.by("task_type").to_pandas().columns[:2]) == ["task_type", "requests"]
    assert len(costs.to_pandas("days")) == len(costs.days)


def test_an_answer_is_that_of_ask(home: rp.OpenedHome, demo: Path) -> None:
    command = [sys.executable, "-m", "routing_pipeline", "ask", "get_routing_analytics", "timeframe=24h", "--json"]
    done = subprocess.run([*command, "--home", str(demo / "demo" / "home")], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == home.routing_analytics(timeframe="24h").model_dump(mode="json")


def test_parameters_of_the_analysis_are_heeded_beside_the_tools_own(home: rp.OpenedHome) -> None:
    alone = home.routing_analytics(task_types=("code",))
    assert 0 < alone.requests < home.routing_analytics().requests
    assert home.routing_costs(budget=1.0).budgets[0].budget_usd_per_month == 1.0


def test_the_configuration_file_stands_behind_what_is_asked(demo: Path) -> None:
    (demo / "routing.toml").write_text("budget = 100.0")
    home = rp.open_home(demo / "demo" / "home", config=demo / "routing.toml")
    assert home.routing_costs().budgets[0].budget_usd_per_month == 100.0
    assert home.routing_costs(budget=200.0).budgets[0].budget_usd_per_month == 200.0


def test_rules_are_handed_over_by_id_or_as_the_models_that_a_result_holds(home: rp.OpenedHome) -> None:
    found = home.routing_rules(goal="cost").rule_set
    assert found.rules
    assert [change.id for change in home.optimization_risks(changes=found.rule_set_id).changes] == [
        WHOLE_SET,
        *(rule.id for rule in found.rules),
    ]
    rule = {"when": {"task_type": ["chat"]}, "route": "gpt-4o-mini"}
    by_hand = home.optimization_risks(changes=[rule])
    assert by_hand == home.optimization_risks(changes=[Given.model_validate(rule)])
    assert list(by_hand.to_pandas()["id"]) == [change.id for change in by_hand.changes] != []


def test_what_is_not_known_is_refused_with_what_is_meant(home: rp.OpenedHome) -> None:
    with pytest.raises(rp.UnusableInputError, match="did you mean 'timeframe'"):
        home.routing_costs(time_frame="7d")
    with pytest.raises(rp.UnusableInputError, match="one or several of model"):
        home.routing_costs(group_by=("colour",))
    with pytest.raises(rp.UnusableInputError, match=r"did you mean 'days'.*its tables are operations, groupings, units"):
        home.routing_costs().to_pandas("day")


class Given(BaseModel):
    when: When
    route: str


class Line(Result):
    name: str
    quality: Estimate | Unidentifiable
    usd: float | None = None


class Lines(Result):
    lines: tuple[Line, ...]
    drift: tuple[Line, ...] | Unidentifiable


UNKNOWN = Unidentifiable(unidentifiable="too few")


def test_columns_are_the_same_whatever_the_data_hold() -> None:
    known = Line(name="a", quality=Estimate(estimate=0.5, low=0.4, high=0.6), usd=1.0)
    full, poor, none = (
        frame_of(Lines(lines=lines, drift=UNKNOWN), "lines") for lines in ((known,), (Line(name="b", quality=UNKNOWN),), ())
    )
    assert list(full.columns) == list(poor.columns) == list(none.columns)
    assert (full["quality.low"][0], poor["quality.unidentifiable"][0], len(none)) == (0.4, "too few", 0)


def test_a_table_that_the_logs_cannot_tell_is_the_reason_and_not_empty() -> None:
    assert frame_of(Lines(lines=(), drift=UNKNOWN), "drift").to_dict("list") == {"unidentifiable": ["too few"]}


def test_a_result_without_a_main_table_asks_for_a_name() -> None:
    with pytest.raises(rp.UnusableInputError, match="Lines: name a table; its tables are lines, drift"):
        Lines(lines=(), drift=()).to_pandas()
    with pytest.raises(rp.UnusableInputError, match="it has no tables"):
        UNKNOWN.to_pandas()


def test_the_documented_tables_are_those_that_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| [^|]+ \|([^|]*)\|$", (DOCS / "library.md").read_text(encoding="utf-8"), re.MULTILINE)
    documented = {method: (main, set(re.findall(r"`([\w.]+)`", others))) for method, main, others in rows}
    results = {tool.operation: OPERATIONS[tool.operation].result for tool in TOOLS}
    assert documented == {name: (kind.main_table, set(tables_of(kind)) - {kind.main_table}) for name, kind in results.items()}


def cells() -> list[str]:
    notebook = json.loads((DOCS / "library.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) >= (4, 5)
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def documented_example() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / "library.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("program", [cells, documented_example], ids=["the notebook", "the page"])
def test_what_the_documents_show_runs(program: Callable[[], list[str]], demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    names: dict[str, object] = {}
    for source in program():
        exec(compile(source, "docs", "exec"), names)  # noqa: S102
    assert isinstance(names["home"], rp.OpenedHome)


def test_modules_that_the_documents_promise_stay_where_they_are() -> None:
    promised = (DOCS / "library.md").read_text(encoding="utf-8").partition("## What stays")[2]
    modules = set(re.findall(r"`routing_pipeline\.([a-z_.]+)`", promised)) - {"__all__"}
    assert len(modules) == 7
    folder = Path(rp.__file__).parent
    assert all((folder / f"{module.replace('.', '/')}.py").is_file() for module in modules)
