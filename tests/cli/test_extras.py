"""What a basic installation lacks is said in one line with the command that adds it; the lists of extras agree."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline import extras
from routing_pipeline.cli import main
from routing_pipeline.cli.doctor import examine

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Leave a module out, as a basic installation does."""
    found = importlib.util.find_spec

    def leave_out(extra: str) -> None:
        absent = extras.BRINGS[extra][0]
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == absent else found(name, *rest))

    return leave_out


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("mcp", ["mcp", "cost-tracker"]),
        ("dashboard", ["dashboard", "--port", "0"]),
        ("metrics", ["metrics"]),
        ("metrics", ["metrics", "--http", "127.0.0.1:9464"]),
    ],
)
def test_a_command_that_needs_more_than_is_installed_says_how_to_add_it(
    extra: str, words: list[str], without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(extra)
    monkeypatch.setattr(sys, "argv", ["routing-pipeline", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err == f"routing-pipeline: {words[0]} needs more than the basic installation: pip install 'routing-pipeline[{extra}]'\n"
    assert said.out == ""


def test_a_doctor_says_what_is_not_installed_and_finds_the_machine_well(without: Callable[[str], None], tmp_path: Path) -> None:
    without("ui")
    findings = {each.name: each for each in examine(tmp_path / "home")}
    assert findings["the Dagster UI"].detail == "not installed: pip install 'routing-pipeline[ui]'"
    assert not findings["the Dagster UI"].is_needed
    assert {findings[name].mark for name in ("python", "the Dagster UI")} == {"ok", "--"}


def test_each_extra_brings_the_modules_that_are_looked_for_and_the_basic_installation_none_of_them() -> None:
    named = {extra: {re.split(r"[\[<>=]", each)[0] for each in wanted} for extra, wanted in PROJECT["optional-dependencies"].items()}
    distributions = metadata.packages_distributions()
    basic = {re.split(r"[\[<>=]", each)[0] for each in PROJECT["dependencies"]}
    for extra, modules in extras.BRINGS.items():
        for module in modules:
            brought = {each.replace("_", "-") for each in distributions.get(module, ())}
            assert not brought & basic
            # Dagster's own package for Postgres brings the driver along.
            assert extra == "postgres" or brought & named[extra], (extra, module)
    assert PROJECT["optional-dependencies"]["serve"] == ["routing-pipeline[ui,mcp,dashboard,metrics]"]
