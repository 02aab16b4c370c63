"""The held-out half remembers every question that was put to it, also when several runs ask at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.policy.test_count import look
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.locks import InPostgres

QUESTIONS, KEYS, LONG = 8, 40, 2_000

# Each says when it has imported; then all begin at once.
BEGIN = """
import json, sys
from pathlib import Path
from routing_pipeline.storage.home import Home
from routing_pipeline.policy.test_count import look
root, warehouse, catalog, given = json.loads(sys.argv[1])
coordination = Home(Path(root), warehouse, catalog).coordination
print(flush=True)
sys.stdin.readline()
"""
LOOK = BEGIN + 'print(json.dumps([look(coordination, "rows", {"budget": budget}) for budget in given]))'
WRITE_FIRST = BEGIN + f'print(json.dumps([coordination.write_first(f"key-{{key}}", given * {LONG}) for key in range({KEYS})]))'


@pytest.fixture(params=["folder", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "folder":
        return Home(tmp_path).create()
    catalog = request.getfixturevalue("postgres").database()
    InPostgres(catalog).prepare()
    return Home(tmp_path, "s3://bucket/prefix", catalog)


def at_once(code: str, home: Home, given: Sequence[Any]) -> list[list[Any]]:
    """What one process for each of `given` says, all at the same time."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, json.dumps([str(home.root), home.warehouse, home.catalog, each])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in given
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [json.loads(process.communicate(timeout=60)[0]) for process in processes]


def test_runs_that_ask_at_once_lose_no_look(home: Home) -> None:
    budgets = list(range(QUESTIONS))
    orders = [budgets, budgets[::-1], budgets[4:] + budgets[:4], budgets[::2] + budgets[1::2]]
    numbered = {pair for order, said in zip(orders, at_once(LOOK, home, orders), strict=True) for pair in zip(order, said, strict=True)}
    assert len(numbered) == QUESTIONS, "the same question had two numbers"
    assert sorted(number for _, number in numbered) == list(range(1, QUESTIONS + 1))


def test_asked_again_it_is_the_same_look_and_other_rows_begin_anew(home: Home) -> None:
    asked = [look(home.coordination, "rows", {"goal": goal}) for goal in ("cost", "speed", "cost", "quality", "speed")]
    assert asked == [1, 2, 1, 3, 2]
    assert look(home.coordination, "other rows", {"goal": "speed"}) == 1


def test_dropped_results_do_not_give_a_look_back(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    look(home.coordination, "rows", {"goal": "cost"})
    home.results.clear()
    assert look(home.coordination, "rows", {"goal": "speed"}) == 2


def test_a_text_written_first_is_never_read_half(tmp_path: Path) -> None:
    """Two runs that make the key of user hashes at once must not hash with an empty one."""
    first, second = at_once(WRITE_FIRST, Home(tmp_path).create(), ["a", "b"])
    assert first == second
    assert {len(each) for each in first} == {LONG}
