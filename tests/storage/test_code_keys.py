"""The part of a key that is code: what is read of the imports, and which change makes which key another."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from routing_pipeline.operations.table import OPERATIONS
from routing_pipeline.report.rebuilding import report_code
from routing_pipeline.serving.mcp.answers import COMPUTING
from routing_pipeline.storage.code_keys import LIBRARY, code_key, reached

WINDOWS = ("routing_pipeline.window.resolve",)
DAYS = ("routing_pipeline.window.rows",)
SUMS = ("routing_pipeline.window.hourly", "routing_pipeline.window.roll_up")
KEPT = {
    "windows": WINDOWS,
    "days": DAYS,
    "sums": SUMS,
    "mcp answers": (COMPUTING,),
    "report": ("routing_pipeline.report.files",),
    **{name: each.modules for name, each in OPERATIONS.items()},
}
EVIDENCE_AND_RULES = {"routing_evidence", "routing_rules", "model_mix", "tradeoff_frontier", "simulation"}


def parsed_imports(path: Path) -> Iterator[str]:
    """What Python's own parser finds, imports for types alone apart."""
    ahead: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                name = f"{node.module}.{each.name}"
                is_module = LIBRARY.parent.joinpath(*name.split(".")).with_suffix(".py").exists()
                is_package = LIBRARY.parent.joinpath(*name.split("."), "__init__.py").exists()
                yield name if is_module or is_package else node.module
        ahead += ast.iter_child_nodes(node)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__")


def test_every_import_is_found_that_the_parser_finds() -> None:
    graph = {module_of(path): {n for n in parsed_imports(path) if n.startswith("routing_pipeline")} for path in LIBRARY.rglob("*.py")}

    def closed(name: str) -> set[str]:
        found, ahead = set(), [name]
        while ahead:
            each = ahead.pop()
            if each not in found:
                found.add(each)
                ahead += graph[each]
        return found

    assert {name: set(reached(name)) for name in graph} == {name: closed(name) for name in graph}


def keys(library: Path) -> dict[str, str]:
    return {name: code_key(*modules, library=library) for name, modules in KEPT.items()}


def changed_by(tmp_path: Path, file: str) -> set[str]:
    """What is kept under another key once a file reads differently."""
    library = tmp_path / LIBRARY.name
    shutil.copytree(LIBRARY, library, ignore=shutil.ignore_patterns("__pycache__"))
    with (library / file).open("a", encoding="utf-8") as source:
        source.write("\n")
    before, after = keys(LIBRARY), keys(library)
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    "file", ["report/templates/report.css", "report/templates/report.md.j2", "report/html.py", "report/charts/latency.py"]
)
def test_how_a_report_looks_changes_the_report_alone(tmp_path: Path, file: str) -> None:
    assert changed_by(tmp_path, file) == {"report"}


@pytest.mark.parametrize(
    "file", ["serving/dashboard/templates/page.css", "serving/dashboard/app.py", "serving/metrics.py", "cli/commands.py"]
)
def test_the_live_page_and_the_command_line_change_nothing_that_is_kept(tmp_path: Path, file: str) -> None:
    assert changed_by(tmp_path, file) == set()


def test_what_an_agent_is_told_changes_the_answers_alone(tmp_path: Path) -> None:
    assert changed_by(tmp_path, "serving/mcp/text.py") == {"mcp answers"}


def test_an_estimator_changes_the_evidence_and_what_recommends_and_no_description(tmp_path: Path) -> None:
    changed = changed_by(tmp_path, "policy/scores.py")
    assert changed >= EVIDENCE_AND_RULES | {"mcp answers"}
    assert not changed & {"windows", "days", "sums", "routing_costs", "routing_analytics", "request_patterns", "bottlenecks", "incidents"}


def test_one_analysis_changes_itself_and_what_takes_it(tmp_path: Path) -> None:
    changed = changed_by(tmp_path, "analysis/quality_issues.py")
    assert changed >= {"quality_issues", "optimization_plan"}
    assert not changed & {"windows", "days", "sums", "routing_evidence", "routing_rules", "routing_costs", "quality_metrics"}


def test_what_a_row_is_changes_all_that_is_kept(tmp_path: Path) -> None:
    assert changed_by(tmp_path, "window/scope.py") == set(KEPT)


def test_a_module_of_another_package_counts_with_what_of_ours_it_imports() -> None:
    assert reached(__name__) >= {__name__, "routing_pipeline.operations.table", "routing_pipeline.analysis.quality_issues"}


def test_a_module_without_a_source_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no source of routing_pipeline\.nowhere"):
        code_key("routing_pipeline.nowhere")


def test_a_run_is_marked_with_the_code_of_its_report() -> None:
    assert report_code() == code_key(*KEPT["report"])
