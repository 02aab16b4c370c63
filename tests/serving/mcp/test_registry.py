"""server.json of the MCP registry says how each server is really started."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.serving.mcp.tools import SERVERS

ROOT = Path(__file__).parents[3]
FORMATS = {"string", "number", "boolean", "filepath"}


def described(server: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((ROOT / "infra" / "mcp-registry" / server / "server.json").read_text(encoding="utf-8"))
    return said


@pytest.mark.parametrize("server", SERVERS)
def test_each_server_is_described_for_the_registry(server: str) -> None:
    said = described(server)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (package,) = said["packages"]
    assert said["version"] == package["version"] == project["version"]
    assert package["identifier"] == project["name"]
    assert said["name"].split("/")[1] == server
    assert f"mcp-name: {said['name']} " in (ROOT / "README.md").read_text(), "the registry looks for the owner there"
    positional = [each["value"] for each in package["packageArguments"] if each["type"] == "positional"]
    assert positional == ["mcp", server]
    assert [each["name"] for each in package["packageArguments"] if each["type"] == "named"] == ["--home"]
    (extra,) = package["runtimeArguments"]
    assert (extra["name"], extra["value"]) == ("--with", f"{project['name']}[mcp]=={project['version']}"), (
        "the basic installation serves no agents"
    )


@pytest.mark.parametrize("server", SERVERS)
def test_the_description_keeps_to_what_the_registrys_schema_of_its_date_demands(server: str) -> None:
    said = described(server)
    assert said["$schema"] == "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", said["name"])
    assert 3 <= len(said["name"]) <= 200
    assert all(1 <= len(said[text]) <= 100 for text in ("title", "description"))
    (package,) = said["packages"]
    assert package["transport"] == {"type": "stdio"}
    for version in (said["version"], package["version"]):
        assert re.fullmatch(r"\d+\.\d+\.\d+([-.+]\w+)*", version), "one version: no range, not `latest`"
    for argument in (*package["runtimeArguments"], *package["packageArguments"]):
        assert argument["type"] in {"named", "positional"}
        assert "name" in argument if argument["type"] == "named" else {"value", "valueHint"} & argument.keys()
    for given in (*package["packageArguments"], *package["environmentVariables"]):
        assert given.get("format", "string") in FORMATS
        assert all(isinstance(given.get(flag, False), bool) for flag in ("isRequired", "isSecret", "isRepeated"))
    read = {each["name"] for each in package["environmentVariables"]}
    assert read <= set(re.findall(r"`(ROUTING_PIPELINE_[A-Z_]+)`", (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")))


def test_no_server_is_described_that_there_is_not() -> None:
    assert {each.name for each in (ROOT / "infra" / "mcp-registry").iterdir()} == set(SERVERS)
