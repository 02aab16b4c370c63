"""Every command says what it does, shows an example that works, and stands in the documentation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from routing_pipeline import suggested
from routing_pipeline.cli.help import GROUPS
from routing_pipeline.cli.main import COMMANDS, app
from routing_pipeline.cli.options import Command

ROOT = Path(__file__).parents[2]
DOCUMENTATION = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
LIMIT = 80
"""Columns of a terminal."""


def parsed(words: list[str]) -> dict[str, Any]:
    """What a command would be called with."""
    group: Any = get_command(app)
    context = group.make_context("routing-pipeline", words[:1], resilient_parsing=True)
    found: dict[str, Any] = group.commands[words[0]].make_context(words[0], words[1:], parent=context).params
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_has_a_help_an_example_that_parses_and_a_place_in_the_documentation(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROUTING_PIPELINE_CONFIG", raising=False)
    group: Any = get_command(app)
    context = group.make_context("routing-pipeline", [command.name], resilient_parsing=True)
    helped = group.commands[command.name].make_context(command.name, [], parent=context, resilient_parsing=True).get_help()
    assert command.call.__doc__ is not None
    assert " ".join(command.call.__doc__.split()) in " ".join(helped.split())
    assert f"\nExample:\n  {command.example}" in "\n".join(line.removeprefix("  ") for line in helped.splitlines())
    assert all(len(line) <= LIMIT for line in helped.splitlines())
    program, *words = shlex.split(command.example)
    assert (program, words[0]) == ("routing-pipeline", command.name)
    assert any(parsed(words).values())
    assert re.search(rf"routing-pipeline {command.name}\b", DOCUMENTATION), "neither README.md nor docs/ mention it"


def test_a_suggested_command_names_its_home_where_it_takes_one() -> None:
    group: Any = get_command(app)
    own = {name for name, each in group.commands.items() if any(option.name == "home" for option in each.params)}
    assert set(suggested.COMMANDS) == own - {"demo"}


def test_the_first_page_names_every_command_once_under_a_heading_and_cuts_nothing() -> None:
    group: Any = get_command(app)
    page = group.make_context("routing-pipeline", [], resilient_parsing=True).get_help().splitlines()
    assert all(len(line) <= LIMIT for line in page)
    assert not [line for line in page[1:] if "..." in line]
    assert [line.rstrip(":") for line in page if line.rstrip(":") in GROUPS] == list(GROUPS)
    first_words = [line.split()[0] for line in page if line.startswith("  ") and line[2:3].isalpha()]
    assert [each.name for each in COMMANDS if first_words.count(each.name) != 1] == []
    assert len([line for line in page if line.startswith("  $ routing-pipeline ")]) == len(GROUPS)


def test_no_command_is_left_out_and_every_option_has_a_help() -> None:
    group: Any = get_command(app)
    assert list(group.commands) == [command.name for command in COMMANDS]
    for name, command in group.commands.items():
        assert [each.name for each in command.params if not each.help] == [], name
        assert [each.name for each in command.params if "--debug" in each.opts] == ["debug"], name


def test_what_is_given_reaches_a_command_and_what_is_not_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUTING_PIPELINE_CONFIG", raising=False)
    given = parsed(["analyze", "--out", "report", "--goal", "cost", "--budget", "100"])
    assert {name: value for name, value in given.items() if value not in (None, False)} == {
        "out": Path("report"),
        "engine": "duckdb",
        "goal": "cost",
        "budget": 100.0,
    }
