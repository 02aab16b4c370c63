"""The wheel and the source archive as whoever installs them meets them: away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = [
    {"request_id": f"r{number}", "call_type": "completion", "model": ("large", "small")[number % 2], "spend": 0.01, "total_tokens": 30}
    | {
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "startTime": f"2026-11-16 0{number % 10}:00:00",
        "endTime": f"2026-11-16 0{number % 10}:00:01",
    }
    for number in range(40)
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source archive."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installer unpacks from the wheel; what it depends on is what the tests have."""
    folder = tmp_path_factory.mktemp("site")
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(folder)  # noqa: S202 - made a moment ago
    return folder


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the installed package, from a folder that holds nothing of ours."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "routing_pipeline", *words]
    environment = known | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_installed_package_says_its_version_and_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    (about,) = installed.glob("*.dist-info")
    said = run(installed, tmp_path, "--version")
    assert said.stdout.strip() == f"routing-pipeline {about.name.removesuffix('.dist-info').split('-')[1]}"
    where = "import routing_pipeline, assets, checks; print(*(each.__file__ for each in (routing_pipeline, assets, checks)))"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    found = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert all(place.startswith(str(installed)) for place in found.stdout.split())


def test_the_installed_package_audits_a_file(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "spend.jsonl").write_text("".join(json.dumps(call) + "\n" for call in CALLS))
    said = run(installed, tmp_path, "audit", "spend.jsonl")
    assert said.returncode == 0, said.stderr
    assert "large" in said.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spend.jsonl"], "an audit leaves nothing behind"


def test_both_archives_hold_what_the_program_reads_and_nothing_of_the_workshop(built: Path, installed: Path) -> None:
    packaged = [path for folder in ("routing_pipeline", "assets", "checks") for path in (ROOT / folder).rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(ROOT)) for path in packaged if "__pycache__" not in path.parts}
    assert "routing_pipeline/py.typed" in wanted
    held = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert wanted <= held
    assert {each.split("/")[0] for each in held if ".dist-info" not in each} == {"routing_pipeline", "assets", "checks"}
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as opened:
        inside = {name.split("/", 1)[1] for name in opened.getnames()}
    assert wanted <= inside
    assert {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "benchmarks/"))]
