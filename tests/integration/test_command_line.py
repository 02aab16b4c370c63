"""The command line as its user meets it: what it delivers, how it ends, what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline import suggested
from routing_pipeline.cli import analyze, jobs, main
from routing_pipeline.cli.inputs import open_home
from routing_pipeline.cli.progress import shown
from routing_pipeline.demo.logs import write_demo
from tests.delivered_week import DeliveredWeek

OUT_FILES = ("report.md", "report.html", "report.json", "rules.json")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def first_line(self) -> str:
        return (self.err.splitlines() or [""])[0]


class Terminal:
    """Calls the command in this process, as a shell would call it in its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Ended:
        self.monkeypatch.setattr(sys, "argv", ["routing-pipeline", *map(str, words)])
        self.capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = self.capsys.readouterr()
        return Ended(code, said.out, said.err)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


@pytest.fixture(scope="module")
def ingested(delivered_week: DeliveredWeek, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has read 3,000 made-up requests and reported on them."""
    return delivered_week.copy(tmp_path_factory.mktemp("ingested") / "home")


def test_a_run_delivers_the_four_files_and_names_the_report_last(
    terminal: Terminal, delivered_week: DeliveredWeek, ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, words = tmp_path / "out", (*delivered_week.asked, "--home", ingested)
    ended = terminal(*words, "--out", out)
    assert ended.code == 0, ended.err
    assert ended.out.strip().splitlines()[-1] == str(out / "report.html")
    assert {path.name for path in out.iterdir()} >= set(OUT_FILES)
    report = json.loads((out / "report.json").read_text())
    ingest = report["ingest"]
    assert ingest["records"] == ingest["ingested"] + ingest["quarantined"] + ingest["duplicates"]
    again = terminal(*words, "--out", out)
    assert again.code == 0, again.err
    assert json.loads((out / "report.json").read_text()) == report, "nothing has changed, so it is the same report"
    assert again.out == ended.out
    assert f"the report of run {report['run']['run_id']} is delivered again" in again.err
    monkeypatch.setenv("DAGSTER_HOME", str(ingested / "dagster"))
    recorded = terminal(*words, "--out", out, "--json")
    assert recorded.code == 0, recorded.err
    made = json.loads((out / "report.json").read_text())
    assert json.loads(recorded.out) == made
    assert made["run"]["run_id"] != report["run"]["run_id"], "who keeps runs in Dagster has one"
    assert made["ingest"] == ingest, "reading the same logs twice counts nothing twice"


def test_results_as_json_are_the_report(terminal: Terminal, ingested: Path, tmp_path: Path) -> None:
    ended = terminal("analyze", "--out", tmp_path / "out", "--home", ingested, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == json.loads((tmp_path / "out" / "report.json").read_text())


def test_a_run_that_fails_leaves_the_previous_files_untouched(terminal: Terminal, ingested: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert terminal("analyze", "--out", out, "--home", ingested).code == 0
    before = {name: (out / name).read_bytes() for name in OUT_FILES}
    ended = terminal("analyze", "--out", out, "--home", ingested, "--as-of", "2020-01-01")
    assert ended.code == 2
    assert {name: (out / name).read_bytes() for name in OUT_FILES} == before


REFUSED: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("an unknown goal", ("--goal", "nonsense"), "goal: "),
    ("a threshold out of range", ("--quality-threshold", "1.5"), "quality-threshold: "),
    ("a negative cost threshold", ("--cost-threshold", "-1"), "cost-threshold: "),
    ("an unknown timeframe", ("--timeframe", "2w"), "timeframe: "),
    ("a window with no rows", ("--as-of", "2020-01-01"), "no request in the window"),
    ("a task type nobody has", ("--task-types", "alchemy"), "no request in the window"),
    ("a configuration that is not there", ("--config", "/nonexistent.toml"), "--config"),
    ("an engine that is not there", ("--engine", "quantum"), "--engine"),
    ("an option that is not there", ("--frobnicate",), "frobnicate"),
)


@pytest.mark.parametrize(("options", "said"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_used_is_refused_in_one_line(
    terminal: Terminal, ingested: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    ended = terminal("analyze", "--out", tmp_path / "out", "--home", ingested, *options)
    assert ended.code == 2, ended.err
    assert said in ended.first_line
    assert "Traceback" not in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "report.md").exists()


def test_a_folder_that_is_not_there_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    ended = terminal("run", "--logs", tmp_path / "nowhere", "--out", tmp_path / "out", "--home", tmp_path / "home")
    assert (ended.code, "nowhere" in ended.first_line) == (2, True), ended.err


def test_an_empty_folder_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    ended = terminal("run", "--logs", tmp_path / "logs", "--out", tmp_path / "out", "--home", tmp_path / "home")
    assert ended.code == 2, ended.err
    assert not (tmp_path / "home").exists(), "a home that was made for nothing goes again"


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_read(
    terminal: Terminal, delivered_week: DeliveredWeek, tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    ended = terminal("run", "--logs", delivered_week.logs, "--out", tmp_path / "out", "--home", tmp_path / "home")
    assert (ended.code, "--out" in ended.first_line) == (2, True), ended.err
    assert not (tmp_path / "home" / "lake").exists()


def test_logs_from_another_place_are_refused_unless_added(terminal: Terminal, tmp_path: Path, ingested: Path) -> None:
    other = tmp_path / "other"
    write_demo(other, requests=1_000, seed=7)
    ended = terminal("ingest", "--logs", other / "logs", "--home", ingested)
    assert (ended.code, "--add-source" in ended.first_line) == (2, True), ended.err


def test_logs_none_of_which_can_be_used_end_with_three_and_publish_nothing(terminal: Terminal, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    record = {
        "id": "a",
        "litellm_call_id": "a",
        "startTime": 1.7e12,
        "endTime": 1.7e12,
        "model": "m",
        "status": "success",
        "call_type": "acompletion",
    }
    (logs / "batch.jsonl").write_text("\n".join(json.dumps(record | {"id": str(number)}) for number in range(20)))
    ended = terminal("run", "--logs", logs, "--out", tmp_path / "out", "--home", tmp_path / "home")
    assert ended.code == 3, ended.err
    assert "20 of 20 records, 100.00 %: startTime is in milliseconds; seconds" in ended.first_line
    assert "(20, as in 'batch.jsonl' line 1). What to do: " in ended.first_line
    assert "reprocess --prefix" in ended.first_line
    assert not (tmp_path / "out" / "report.md").exists()


def test_a_demo_with_a_home_of_its_own_writes_nowhere_else(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(analyze, "_deliver", lambda *_, ops, **__: read.append(ops["request_log"]["logs"]))
    monkeypatch.chdir(tmp_path)
    for words, logs in ((("--home", "mine"), "mine/demo/logs"), ((), "demo/logs")):
        assert terminal("demo", "--requests", 1000, *words).code == 0
        assert read.pop() == str(tmp_path / logs)
        assert any((tmp_path / logs).rglob("*.jsonl*"))
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"mine", logs.split("/")[0]})
    assert "default: demo/home" in " ".join(terminal("demo", "--help").out.split())


def test_an_environment_that_makes_no_sense_is_refused_in_one_line(delivered_week: DeliveredWeek, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from routing_pipeline.cli import main; main()", "ingest", "--logs", str(delivered_week.logs)]
    environment = os.environ | {"ROUTING_PIPELINE_TIMEZONE": "Mars/X"}
    done = subprocess.run([*command, "--home", str(tmp_path)], check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("routing-pipeline: ROUTING_PIPELINE_TIMEZONE=Mars/X: no time zone; give one such as Europe/Berlin")


def test_an_object_store_that_does_not_answer_ends_with_four(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "hush-hush",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    ended = terminal("run", "--logs", "s3://bucket/logs", "--out", tmp_path / "out", "--home", tmp_path / "home")
    assert ended.code == 4, ended.err
    assert "hush-hush" not in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_a_store_that_goes_down_gives_the_last_good_analysis_marked_as_such(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delivered_week: DeliveredWeek
) -> None:
    home, out = delivered_week.copy(tmp_path / "home"), tmp_path / "out"
    (home / "sources.json").write_text(json.dumps(["s3://bucket/logs"]))
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    ended = terminal("run", "--logs", "s3://bucket/logs", "--out", out, "--home", home)
    assert ended.code == 0, ended.err
    assert "last good analysis" in (out / "report.md").read_text()
    assert terminal("ingest", "--logs", "s3://bucket/logs", "--home", home).code == 4


def hand_written(model: str) -> dict[str, Any]:
    """The least that a person has to write to ask about one rule."""
    unknown = {"unidentifiable": "written by hand"}
    outcomes = {"cost_usd": unknown, "quality": unknown, "latency_ms": unknown}
    change = {name: {"relative": unknown} for name in outcomes}
    return {
        "rule_set_id": "by-hand",
        "status": "proposed",
        "goal": "cost",
        "constraints": {},
        "window": {"start": "", "end": "", "snapshot_id": ""},
        "rules": [
            {
                "id": "r1",
                "priority": 1,
                "when": {"task_type": ["summarization"]},
                "route": [{"model": model, "weight": 1.0}],
                "rationale": "a hunch",
                "evidence": {"requests": 0, "labelled": 0, "effective_sample_size": 0, "min_propensity": 0, "grade": "C"},
                "expected": outcomes,
                "effort": "Low",
                "risk": "Low",
                "validation_criteria": [],
            }
        ],
        "expected": {"baseline": outcomes, "proposed": outcomes, "change": change},
        "assumptions": [],
        "warnings": [],
    }


def test_a_rule_for_a_model_nobody_has_seen_gets_no_number(terminal: Terminal, ingested: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps(hand_written("gpt-99")))
    ended = terminal("simulate", "--rules", tmp_path / "rules.json", "--home", ingested, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert "unidentifiable" in told["expected"]["proposed"]["cost_usd"]
    assert any("gpt-99" in part for part in told["unsupported"])


@pytest.mark.parametrize("content", ["", "[]", '{"rules": []}', "not json", '[{"when": {}}]'])
def test_rules_that_break_the_contract_are_refused(terminal: Terminal, ingested: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "rules.json").write_text(content)
    ended = terminal("simulate", "--rules", tmp_path / "rules.json", "--home", ingested)
    assert (ended.code, "--rules" in ended.first_line) == (2, True), ended.err


def test_a_bare_call_shows_what_there_is(terminal: Terminal) -> None:
    ended = terminal()
    assert (ended.code, "analyze" in ended.out) == (0, True)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("foo",), "routing-pipeline --help shows"),
        (("--foo",), "routing-pipeline --help"),
        (("roll-back", "--foo"), "routing-pipeline roll-back --help"),
    ],
)
def test_what_is_not_known_is_told_with_a_hint_that_works(terminal: Terminal, words: tuple[str, ...], hint: str) -> None:
    ended = terminal(*words)
    assert (ended.code, f"({hint}" in ended.first_line) == (2, True), ended.err
    assert terminal(*hint.split(" --help")[0].split()[1:], "--help").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--goal", "nonsense"), "goal: must be 'cost', 'speed', 'quality' or 'balanced' (got 'nonsense')"),
        (("--cost-threshold", "-1"), "cost-threshold: must be greater than 0 (got '-1.0')"),
    ],
)
def test_a_value_that_is_refused_is_told_in_words_of_ours(terminal: Terminal, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    assert terminal("analyze", "--out", tmp_path / "out", "--home", tmp_path / "home", *options).err == f"routing-pipeline: {said}\n"


def test_progress_never_counts_beyond_its_end_nor_to_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ingested: Path, delivered_week: DeliveredWeek
) -> None:
    from assets.running import run_job

    told: list[tuple[int, int]] = []
    ops = jobs.ingestion(str(delivered_week.logs))
    home = open_home(ingested)
    run_job(home, "ingest_logs", resources=jobs.resources(home, None), ops=ops, progress=lambda _, *counts: told.append(counts))
    assert told[-1] == (4, 4)
    assert all(done <= of == 4 for done, of in told)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with shown() as progress:
        progress("asking", 0, None)
    said = capsys.readouterr().err
    assert ("asking" in said, "None" in said) == (True, False)


def nothing_but(folder: Path, **objects: str) -> Path:
    folder.mkdir()
    for name, content in objects.items():
        (folder / name).write_text(content)
    return folder


def test_logs_in_which_nothing_is_a_call_are_told_as_what_they_hold(terminal: Terminal, tmp_path: Path) -> None:
    spans = [{"traceId": "t", "spanId": f"{number:x}", "startTimeUnixNano": "1", "attributes": []} for number in range(12)]
    traces = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
    logs = nothing_but(tmp_path / "logs", traces=traces, empty="[]", lines="\n\n")
    ended = terminal("ingest", "--logs", logs, "--home", tmp_path / "home")
    counts = "0 records from 3 objects: 0 ingested, 0 quarantined, 0 duplicates"
    assert (ended.code, ended.out) == (0, f"read now: {counts}\nin the home: {counts}; left out: 12 spans that are no model calls\n")
    ended = terminal("ingest", "--logs", logs, "--home", tmp_path / "home", "--json")
    assert json.loads(ended.out)["left_out"] == {"spans that are no model calls": 12}
    ended = terminal("run", "--logs", logs, "--home", tmp_path / "home", "--out", tmp_path / "out")
    assert (ended.code, "the lake is empty" in ended.err, len(ended.err.strip().splitlines())) == (2, False, 1), ended.err
    assert "3 objects were read and nothing in them is a call to a model that could be used: no records at all" in ended.err
    assert "left out: 12 spans that are no model calls; see docs/formats.md" in ended.err


def test_logs_of_a_shape_that_nobody_knows_stop_the_run_and_are_told_by_their_names(terminal: Terminal, tmp_path: Path) -> None:
    unknown = json.dumps({"uuid": "u", "llm": "m", "spent": 1})
    logs = nothing_but(tmp_path / "logs", lines=f"{unknown}\n" * 3, table="when,llm,usd\n1,m,2\n2,m,3\n")
    ended = terminal("run", "--logs", logs, "--home", tmp_path / "home", "--out", tmp_path / "out")
    assert (ended.code, len(ended.err.strip().splitlines())) == (3, 1), ended.err
    assert "5 of 5 records" in ended.err
    assert "no known log format: its fields are uuid, llm, spent; name its format with --format, or describe it in a TOML file" in ended.err
    assert "CSV whose columns are those of no known log format: its columns are when, llm, usd" in ended.err
    ended = terminal("analyze", "--home", tmp_path / "home", "--out", tmp_path / "out")
    assert (ended.code, "5 of 5 records, 100.00 %: no known log format" in ended.err) == (3, True), ended.err


def test_the_doctor_names_what_works(terminal: Terminal, tmp_path: Path) -> None:
    ended = terminal("doctor", "--home", tmp_path / "home", "--json")
    assert ended.code == 0, ended.err
    assert {"python", "duckdb", "home", "lake"} <= {finding["name"] for finding in json.loads(ended.out)}


def test_help_answers_without_loading_dagster() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-c",
            "import sys; sys.argv = ['routing-pipeline', 'run', '--help']; from routing_pipeline.cli import main; main()",
        ],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    assert loaded.returncode == 0
    for module in ("dagster", "duckdb", "pyiceberg", "ibis", "pandas"):
        assert f"| {module}\n" not in loaded.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mcp", "tea-maker"), "intelligence-router and cost-tracker"),
        (("mcp", "cost-tracker", "--http", "nowhere"), "HOST:PORT"),
        (("mcp", "cost-tracker", "--goal", "fame"), "goal: "),
        (("ask", "make_tea"), "get_routing_costs"),
        (("ask", "get_routing_costs", "timeframe=2w"), "one of 1h, 24h, 7d, 30d"),
        (("ask", "create_optimization_plan"), "no report yet"),
        (("report", "--out", "somewhere"), "no report has been made"),
        (("report",), "--out"),
    ],
)
def test_what_agents_and_readers_cannot_be_given_is_refused_in_one_line(
    terminal: Terminal, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "home").mkdir()
    ended = terminal(*words, "--home", tmp_path / "home")
    assert (ended.code, said in ended.first_line, len(ended.err.strip().splitlines())) == (2, True, 1), ended.err


def test_the_configuration_may_be_named_by_the_environment_and_the_option_wins(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTING_PIPELINE_CONFIG", str(tmp_path / "deployed.toml"))
    ended = terminal("analyze", "--out", tmp_path / "out", "--home", tmp_path / "home")
    assert (ended.code, "deployed.toml" in ended.first_line) == (2, True)
    ended = terminal("analyze", "--out", tmp_path / "out", "--home", tmp_path / "home", "--config", tmp_path / "mine.toml")
    assert (ended.code, "mine.toml" in ended.first_line) == (2, True)
    monkeypatch.setenv("ROUTING_PIPELINE_CONFIG", "")
    assert "toml" not in terminal("analyze", "--out", tmp_path / "out", "--home", tmp_path / "home").first_line


@pytest.mark.parametrize(
    "words",
    [
        ("ingest", "--logs", "logs"),
        ("mcp", "cost-tracker"),
        ("ask", "get_routing_costs"),
        ("metrics",),
        ("approve", "latest", "--by", "Ada"),
        ("dashboard",),
    ],
)
def test_every_command_that_has_a_configuration_takes_it_from_the_environment(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ROUTING_PIPELINE_CONFIG", str(tmp_path / "deployed.toml"))
    ended = terminal(*words, "--home", tmp_path / "home")
    assert (ended.code, "deployed.toml" in ended.err) == (2, True), ended.err


NEEDS_A_HOME = (
    ("analyze", "--out", "out"),
    ("simulate", "--rules", "latest"),
    ("approve", "latest", "--by", "Ada"),
    ("publish", "latest", "--by", "Ada"),
    ("roll-back", "--by", "Ada"),
    ("report", "--list"),
    ("report", "--out", "out"),
    ("mcp", "cost-tracker"),
    ("mcp", "cost-tracker", "--http", "127.0.0.1:8123"),
    ("dashboard",),
    ("ask", "get_routing_costs"),
    ("metrics",),
    ("metrics", "--textfile", "home.prom"),
    ("reprocess", "--day", "2026-11-24"),
    ("compact",),
    ("forget", "--team", "growth"),
)


@pytest.mark.parametrize("words", NEEDS_A_HOME, ids=" ".join)
def test_a_mistyped_home_is_named_and_not_made(terminal: Terminal, tmp_path: Path, words: tuple[str, ...]) -> None:
    home = tmp_path / "hmoe"
    ended = terminal(*words, "--home", home)
    assert (ended.code, str(home) in ended.first_line, len(ended.err.strip().splitlines())) == (2, True, 1), ended.err
    assert not home.exists()


def test_the_doctor_says_that_a_home_is_not_there_and_makes_none(terminal: Terminal, tmp_path: Path) -> None:
    ended = terminal("doctor", "--home", tmp_path / "home")
    assert (ended.code, f"{tmp_path / 'home'} is not there yet" in ended.out) == (0, True)
    assert not (tmp_path / "home").exists()


LOADED_FOR_A_RUN = ("dagster", "duckdb", "pyiceberg", "ibis", "pandas", "great_expectations", "scipy")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--logs", "nowhere", "--out", "out"), "nowhere: there is no such file or directory"),
        (("run", "--logs", "logs", "--feedback", "nowhere", "--out", "out"), "nowhere: there is no such file or directory"),
        (("run", "--logs", "ftp://host/logs", "--out", "out"), "ftp:// is not supported"),
        (("run", "--logs", "logs", "--out", "a file"), "--out a file: "),
        (("run", "--logs", "logs", "--out", "out", "--engine", "duckbd"), "(did you mean 'duckdb'?)"),
        (("run", "--logs", "logs", "--out", "out", "--format", "litelm"), "(did you mean 'litellm'?)"),
        (("run", "--logs", "logs", "--out", "out", "--goal", "cheap"), "goal: "),
        (("run", "--logs", "logs", "--out", "out", "--config", "no.toml"), "--config no.toml: "),
        (("ingest", "--logs", "nowhere"), "nowhere: there is no such file or directory"),
        (("analyze", "--out", "out"), "there is no such home"),
        (("simulate", "--rules", "no.json", "--home", "home"), "--rules no.json: there is no such file"),
        (("approve", "by-heart", "--by", "Ada", "--home", "home"), "no rule set by-heart was proposed"),
        (("report", "0815", "--out", "out", "--home", "home"), "no report has been made"),
        (("ask", "get_routing_cost"), "(did you mean 'get_routing_costs'?)"),
        (("mcp", "cost-traker"), "(did you mean 'cost-tracker'?)"),
        (("metrics",), "there is no such home"),
        (("dashboard",), "there is no such home"),
    ],
    ids=lambda each: " ".join(each)[:60] if isinstance(each, tuple) else "",
)
def test_what_cannot_be_used_is_told_before_anything_is_loaded_that_takes_long(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "a file").touch()
    program = f"import sys; sys.argv = ['routing-pipeline', *{words!r}]; from routing_pipeline.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    told = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert (done.returncode, len(told), said in told[0]) == (2, 1, True), told
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not loaded.intersection(LOADED_FOR_A_RUN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "home", "logs"], "nothing was made"


def test_the_version_is_told_and_help_has_a_short_name(terminal: Terminal) -> None:
    told = terminal("--version")
    assert (told.code, told.out.split()[0], told.out.count("\n")) == (0, "routing-pipeline", 1)
    for words in ((), ("run",)):
        assert terminal(*words, "-h").out == terminal(*words, "--help").out != ""


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "routing_pipeline", "-h"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Usage: routing-pipeline [OPTIONS] COMMAND [ARGS]...")


@pytest.mark.parametrize(
    ("message", "pasteable"),
    [
        (
            "an approval again: routing-pipeline approve 2026-X --by NAME",
            "an approval again: routing-pipeline approve 2026-X --by NAME --home my/home",
        ),
        (
            "(routing-pipeline reprocess --prefix OBJECT --format FORMAT), or",
            "(routing-pipeline reprocess --prefix OBJECT --format FORMAT --home my/home), or",
        ),
        (
            "make one with routing-pipeline run or routing-pipeline analyze, then",
            "make one with routing-pipeline run --home my/home or routing-pipeline analyze --home my/home, then",
        ),
        ("routing-pipeline report --list shows", "routing-pipeline report --list --home my/home shows"),
        ("made by another version of routing-pipeline; install that one", "made by another version of routing-pipeline; install that one"),
        ("give --home another folder, or routing-pipeline run", "give --home another folder, or routing-pipeline run"),
    ],
)
def test_a_command_that_a_message_suggests_is_about_the_home_that_was_named(message: str, pasteable: str) -> None:
    assert suggested.about(message, "my/home") == pasteable


def test_what_is_suggested_names_the_home(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    for words in (("report", "--out", "out"), ("ask", "get_routing_costs"), ("analyze", "--out", tmp_path / "out")):
        for given in (("--home", tmp_path / "home"), (f"--home={tmp_path / 'home'}",)):
            ended = terminal(*words, *given)
            assert (ended.code, f"--home {tmp_path / 'home'}" in ended.err) == (2, True), ended.err


def test_the_live_page_for_others_needs_a_token(terminal: Terminal, tmp_path: Path) -> None:
    ended = terminal("dashboard", "--host", "192.0.2.1", "--home", tmp_path)
    assert (ended.code, "ROUTING_PIPELINE_DASHBOARD_TOKEN" in ended.first_line) == (2, True)


@pytest.mark.parametrize("option", ["--as-of", "--task-types", "--goal", "--timeframe"])
def test_the_live_page_offers_no_option_that_it_would_not_heed(option: str, terminal: Terminal, tmp_path: Path) -> None:
    ended = terminal("dashboard", option, "7d", "--home", tmp_path)
    assert (ended.code, option in ended.first_line) == (2, True)
