"""Where a task is cut by what its requests need."""

from __future__ import annotations

from typing import Any

import ibis
import pyarrow as pa

from routing_pipeline.feasibility.needs import TaskNeeds, cuts_of, logged_at_all, needs_by_task

NONE = {"image": 0, "audio": 0, "tools": 0, "schema": 0}


def task(n: int = 1_000, longest: float = 0.0, logged: int | None = None, **needing: int) -> TaskNeeds:
    return TaskNeeds(n, {**NONE, **dict.fromkeys(needing, n if logged is None else logged)}, {**NONE, **needing}, longest, 0.0)  # type: ignore[dict-item]


def test_needs_are_counted_by_task_and_absent_columns_are_not_logged() -> None:
    rows = pa.table({"task_type": ["a", "a", "b"], "has_image": pa.array([True, None, False]), "prompt_tokens": [5, None, 7]})
    found = needs_by_task(ibis.memtable(rows))
    assert (found["a"].logged["image"], found["a"].needing["image"], found["a"].longest_prompt) == (1, 1, 5.0)
    assert (found["b"].logged["image"], found["b"].needing["image"], found["b"].logged["tools"]) == (1, 0, 0)
    assert logged_at_all(found) == ("image",)
    assert not logged_at_all(needs_by_task(ibis.memtable(rows.drop_columns("has_image"))))


def needs_cut(each: TaskNeeds, *unmet: Any) -> tuple[str, ...]:
    return cuts_of({"chat": each}, unmet, ()).needs["chat"]


def test_a_task_is_cut_where_a_need_varies_and_it_matters() -> None:
    assert needs_cut(task(image=1), "image") == ("image",)
    assert needs_cut(task(image=1)) == ()
    assert needs_cut(task(image=20)) == ("image",)
    assert needs_cut(task(image=0), "image") == ()
    assert needs_cut(task(image=1_000), "image") == ()
    # Logged for too few to tell the others apart.
    assert needs_cut(task(image=20, logged=800), "image") == ()


def test_prompts_are_cut_at_the_lengths_that_models_take_where_longer_ones_are_sent() -> None:
    tasks = {"chat": task(longest=500.0), "code": task(longest=9_000.0)}
    cuts = cuts_of(tasks, (), (8_001.0, 128_001.0, None))
    assert (cuts.edges, cuts.long_tasks, cuts.is_cut) == ((8_001.0,), {"code"}, True)
    assert not cuts_of(tasks, (), (128_001.0, None)).is_cut
