"""server.json of the MCP registry says how each server is really started."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from routing_pipeline.serving.mcp.tools import SERVERS

ROOT = Path(__file__).parents[3]
LONGEST = 100
"""Characters of a description that the registry takes."""


@pytest.mark.parametrize("server", SERVERS)
def test_each_server_is_described_for_the_registry(server: str) -> None:
    said = json.loads((ROOT / "infra" / "mcp-registry" / server / "server.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (package,) = said["packages"]
    assert said["version"] == package["version"] == project["version"]
    assert package["identifier"] == project["name"]
    assert len(said["description"]) <= LONGEST
    assert said["name"].split("/")[1] == server
    assert f"mcp-name: {said['name']} " in (ROOT / "README.md").read_text(), "the registry looks for the owner there"
    positional = [each["value"] for each in package["packageArguments"] if each["type"] == "positional"]
    assert positional == ["mcp", server]
    assert [each["name"] for each in package["packageArguments"] if each["type"] == "named"] == ["--home"]


def test_no_server_is_described_that_there_is_not() -> None:
    assert {each.name for each in (ROOT / "infra" / "mcp-registry").iterdir()} == set(SERVERS)
