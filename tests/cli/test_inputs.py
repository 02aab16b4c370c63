"""What commands are given, as it reaches the analysis."""

from __future__ import annotations

from pathlib import Path

import pytest

from routing_pipeline.cli.inputs import read_asked
from routing_pipeline.errors import UnusableInputError


def test_a_list_of_capabilities_is_named_so_that_a_run_elsewhere_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    asked = read_asked({"capabilities": Path("api.json")})
    assert asked.values == {"capabilities": str(tmp_path / "api.json")}
    assert asked.parameters.capabilities is not None
    assert asked.parameters.capabilities.path == str(tmp_path / "api.json")
    with pytest.raises(UnusableInputError, match=r"^capabilities: No such file"):
        read_asked({"capabilities": Path("other.json")})
