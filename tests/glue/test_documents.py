"""What the documents say of the tree, held to the tree."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATH = re.compile(r"`((?:[A-Za-z0-9_.-]+/)+[A-Za-z0-9_.-]*)`")
LINK = re.compile(r"\]\(([^):#]+)(?:#[^)]*)?\)")
ABOUT_THE_TREE = ("AGENTS.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md", "docs/architecture.md", "docs/library.md")
ELSEWHERE = (".venv/", "lake/", "scratch/", "results/", "rules/", "proposed/", "~", "s3:")


def rows() -> list[str]:
    """What each row of the tables is about: a file or a folder."""
    return re.findall(r"^\| `([^`]+)` \|", ARCHITECTURE, re.MULTILINE)


@pytest.mark.parametrize("document", ABOUT_THE_TREE)
def test_every_path_that_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = {path for path in (*PATH.findall(text), *LINK.findall(text)) if not path.startswith(ELSEWHERE)}
    named -= {"tests/ingest/formats/test_acme.py"}  # the example's
    assert named
    homes = (ROOT, (ROOT / document).parent, ROOT / "routing_pipeline")
    assert [path for path in sorted(named) if not any((home / path).exists() for home in homes)] == []


def test_the_flow_names_each_file_once() -> None:
    assert sorted(rows()) == sorted(set(rows()))


def test_the_architecture_names_every_folder_of_the_library() -> None:
    folders = {path.parent.name for path in (ROOT / "routing_pipeline").glob("*/__init__.py")}
    named = {path.removeprefix("routing_pipeline/").split("/")[0] for path in rows() if path.startswith("routing_pipeline/")}
    assert folders == named


def test_every_page_of_the_documents_begins_with_an_example() -> None:
    """Within the first thirty lines: what to type, or what one sees."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        head = page.read_text(encoding="utf-8").splitlines()[:30]
        assert any(line.startswith("```") for line in head), page.name


BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?routing-pipeline (?=[a-z-])(.*)$")
MAKE = re.compile(r"^make ([a-z]+)")
PLACEHOLDER = re.compile(r"\[[^]]*\]|<[^>]*>")


def command_lines(text: str) -> Iterator[str]:
    """Every line of a document's blocks, those that go on in the next one joined."""
    for block in BLOCK.findall(text):
        yield from block.replace("\\\n", " ").splitlines()


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_command_in_a_block_is_one_that_the_product_takes(document: Path) -> None:
    from routing_pipeline.cli.main import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in command_lines(document.read_text(encoding="utf-8")):
        found = COMMAND.match(line)
        if found is None:
            continue
        words = shlex.split(PLACEHOLDER.sub("", found[1]).partition("  ")[0], comments=True)
        words = words[: words.index("|")] if "|" in words else words
        assert words[0] in commands, line
        commands[words[0]].make_context(words[0], words[1:])


def test_every_target_of_make_in_a_block_is_there() -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {found[1] for path in documents() for line in command_lines(path.read_text(encoding="utf-8")) if (found := MAKE.match(line))}
    assert asked
    assert asked <= made


def test_every_page_of_the_documents_is_in_the_site() -> None:
    listed = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_every_option_is_in_the_documents_and_every_command_in_the_table_of_the_readme() -> None:
    from routing_pipeline.cli.main import app

    everything = "\n".join(path.read_text(encoding="utf-8") for path in documents())
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## All commands")[2]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {name for each in commands.values() for option in each.params for name in option.opts if name.startswith("--")}
    assert [name for name in sorted(options) if not re.search(rf"{re.escape(name)}(?![\w-])", everything)] == []
    assert [name for name in commands if not re.search(rf"^\|.*`(routing-pipeline )?{name}\b", table, re.MULTILINE)] == []


def keys_of(model: Any) -> Iterator[str]:
    """Names of a table of the configuration as its file writes them, with those of the tables in it."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from keys_of(inner)


def test_every_key_of_the_configuration_is_on_its_page() -> None:
    from routing_pipeline.alerts.notifications import Channels
    from routing_pipeline.gateways.rollout_settings import RolloutSettings
    from routing_pipeline.parameters import OTHER_TABLES, Parameters
    from routing_pipeline.rules.record import Publishing
    from routing_pipeline.window.router_health import RouterConfig

    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    keys = {*OTHER_TABLES, *keys_of(Parameters), *keys_of(RouterConfig), *keys_of(Channels)}
    keys |= {field.name for table in (RolloutSettings, Publishing) for field in dataclasses.fields(table)}
    # What a list of capabilities held when it was named is no key of the file.
    assert [key for key in sorted(keys - {"path", "md5"}) if not re.search(rf"\b{key}\b", page)] == []
