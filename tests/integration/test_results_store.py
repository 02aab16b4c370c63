"""What the results store promises: never the past for the present, the same answer at once, the same report again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.ingest.feedback import ingest_feedback
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.parameters import ModelOverride, Parameters
from routing_pipeline.report.model import Report
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.scope import AnalysisScope
from tests.delivered_week import DeliveredWeek

FILES = ("report.md", "report.html", "report.json", "rules.json")


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    write_demo(folder, requests=1_000)
    return folder


def ingested(week: Path, root: Path) -> Home:
    home = Home(root).create()
    ingest_logs(home, str(week / "logs"))
    return home


@pytest.fixture(scope="module")
def home(week: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Read by all, ingested into by none."""
    return ingested(week, tmp_path_factory.mktemp("home"))


def scope_of(home: Home, parameters: Parameters) -> AnalysisScope:
    """Where an analysis would be kept; without the gate, which says nothing about addresses."""
    with open_engine() as engine:
        return resolve_scope(Lake(home), parameters, engine=engine, engine_name="duckdb")


@pytest.fixture(scope="module")
def plain(home: Home) -> AnalysisScope:
    """What the home answers a plain question with."""
    return scope_of(home, Parameters())


def test_late_scores_and_late_logs_are_not_answered_from_the_past(week: Path, tmp_path: Path) -> None:
    home = ingested(week, tmp_path / "home")
    analyst = Analyst(home)
    unscored = scope_of(home, Parameters())
    assert analyst.answer("quality_metrics", unscored).overall.labelled == unscored.labelled
    assert Lake(Home(tmp_path / "empty")).version() is None
    versions = [Lake(home).version(), Lake(home).version()]

    ingest_feedback(home, str(week / "feedback"))
    scored = scope_of(home, Parameters())
    versions.append(Lake(home).version())
    assert scored.snapshot_id == unscored.snapshot_id
    assert scored.key != unscored.key
    assert analyst.answer("quality_metrics", scored).overall.labelled > unscored.labelled

    write_demo(tmp_path / "more", requests=1_000, seed=7)
    ingest_logs(home, str(tmp_path / "more" / "logs"), add_source=True)
    later = scope_of(home, Parameters())
    versions.append(Lake(home).version())
    assert later.key not in {scored.key, unscored.key}
    assert later.requests > scored.requests
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


def test_new_prices_are_not_answered_from_the_past(home: Home, plain: AnalysisScope, monkeypatch: pytest.MonkeyPatch) -> None:
    dear = Parameters(models={"gpt-4o": ModelOverride(input_usd_per_million=99.0, output_usd_per_million=99.0)})
    overridden = scope_of(home, dear)
    monkeypatch.setattr(Catalog, "version", property(lambda _: "genai-prices 99"))
    repriced = scope_of(home, Parameters())
    assert len({each.key for each in (plain, overridden, repriced)}) == 3
    assert len({each.rows_key for each in (plain, overridden, repriced)}) == 3


@pytest.mark.parametrize(
    "asked",
    [
        Parameters(goal="cost"),
        Parameters(quality_threshold=0.7),
        Parameters(budget=10.0),
        Parameters(timeframe="24h"),
        Parameters(task_types=("code",)),
        Parameters(as_of=datetime(2026, 11, 20, tzinfo=UTC)),
        Parameters(quality_feedback="helpfulness"),
    ],
    ids=lambda asked: ",".join(sorted(asked.model_dump(exclude_defaults=True))),
)
def test_every_parameter_is_part_of_the_address(home: Home, plain: AnalysisScope, asked: Parameters) -> None:
    assert scope_of(home, asked).key != plain.key


def test_other_code_is_another_address(home: Home, plain: AnalysisScope, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scope_of(home, Parameters()).key == plain.key
    monkeypatch.setattr("routing_pipeline.window.resolve.code_key", lambda _: "another")
    assert scope_of(home, Parameters()).key != plain.key


def test_what_comes_from_the_rows_alone_is_shared_by_all_that_is_asked_of_them(home: Home) -> None:
    analyst, said = Analyst(home), []
    cheap, good = scope_of(home, Parameters(goal="cost")), scope_of(home, Parameters(goal="quality"))
    assert cheap.key != good.key
    assert cheap.rows_key == good.rows_key
    assert cheap.requests_uri == good.requests_uri
    first = analyst.answer("routing_evidence", cheap, said.append)
    assert analyst.answer("routing_evidence", good, said.append) == first
    assert said == ["routing evidence"]


def test_a_stored_answer_is_not_computed_again(home: Home) -> None:
    analyst = Analyst(home)
    scope, said = scope_of(home, Parameters()), []
    first = analyst.answer("optimization_plan", scope, said.append)
    assert "routing rules" in said
    said.clear()
    assert Analyst(home).answer("optimization_plan", scope, said.append) == first
    assert said == []


def test_rows_that_were_dropped_are_made_again(home: Home, plain: AnalysisScope) -> None:
    shutil.rmtree(home.windows)
    assert scope_of(home, Parameters()) == plain
    assert Path(plain.requests_uri).exists()


HEAVY = ("ibis", "duckdb", "pyarrow", "numpy", "scipy", "pandas", "pyiceberg", "dagster", "sqlalchemy", "genai_prices")


def heavy_imports(program: str, *words: str) -> list[str]:
    """Heavy libraries that a program has loaded at its end."""
    said = f"{program}\nimport sys, json\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", said, *words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_finding_what_is_stored_loads_no_heavy_library(home: Home) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from routing_pipeline.storage.home import Home\nfrom routing_pipeline.lake.table import Lake\n"
        "from routing_pipeline.catalog import Catalog\nfrom routing_pipeline.parameters import read_parameters\n"
        "home = Home(Path(sys.argv[1]))\n"
        "assert Lake(home).version() and Catalog().version and read_parameters().timeframe\n"
        "home.results.load_answer('0' * 16)\nassert home.runs.all() == ()"
    )
    assert heavy_imports(program, str(home.root)) == []


def run(home: Path, out: Path, *words: str) -> None:
    command = [
        sys.executable,
        "-c",
        "from routing_pipeline.cli import main; main()",
        *words,
        "--home",
        str(home),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={"PATH": "", "PYTHONHASHSEED": "random"})
    assert done.returncode == 0, done.stderr
    assert all(re.fullmatch(r"starting|\[ *\d+/\d+\] [a-z ]+", line) for line in done.stderr.splitlines()), "progress alone"


def test_a_report_is_made_again_byte_for_byte_from_its_run(delivered_week: DeliveredWeek, tmp_path: Path) -> None:
    home = delivered_week.copy(tmp_path / "home")
    first = {path.name: path.read_bytes() for path in delivered_week.out.iterdir()}
    assert set(FILES) <= set(first)
    (stored,) = Home(home).runs.all()
    # Also where the files themselves are gone, and it is drawn and written anew.
    run(home, tmp_path / "kept", "report", stored.run_id[:8])
    stored.storage.delete_below("files")
    run(home, tmp_path / "again", "report", stored.run_id[:8])
    assert {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()} == first
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == first
    rules = stored.load("report", Report).routing_rule_set
    assert Home(home).results.key_of_rule_set(rules.rule_set_id) == stored.key
    assert (stored.load("exploration", RuleSet) is not None) == ("exploration.json" in first)
