"""What the logs teach of what models can."""

from __future__ import annotations

import ibis
import pyarrow as pa
import pytest

from routing_pipeline.feasibility.learned import Lesson, Refusals, ShownByErrors, lessons_of, shown_by_errors


@pytest.mark.parametrize(
    ("successes", "refusals", "able"),
    [(30, 0, True), (29, 0, None), (1_000, 9, True), (1_000, 11, None), (10, 10, False), (11, 10, None), (0, 9, None), (0, 10, False)],
)
def test_thirty_successes_without_refusals_show_that_a_model_is_able(successes: int, refusals: int, able: bool | None) -> None:
    assert Lesson(successes, refusals).able is able


def attempts(rows: list[tuple[str, str, str | None, bool | None]]) -> ibis.Table:
    model, status, error, image = zip(*rows, strict=True)
    return ibis.memtable(
        pa.table(
            {
                "model": list(model),
                "task_type": ["chat"] * len(rows),
                "status": list(status),
                "error_type": pa.array(error, pa.string()),
                "has_image": pa.array(image, pa.bool_()),
            }
        )
    )


def test_only_attempts_with_the_need_count_and_only_refusals_among_failures() -> None:
    rows = attempts(
        [
            ("m", "success", None, True),
            ("m", "success", None, None),
            ("m", "success", None, False),
            ("m", "failure", "RateLimitError", True),
            ("m", "failure", "BadRequestError", True),
            ("m", "failure", None, True),
            ("m", "failure", "BadRequestError", False),
        ]
    )
    assert lessons_of(rows) == {("m", "image"): Lesson(successes=1, refusals=2)}


def test_errors_show_who_refuses_what_a_task_needs() -> None:
    fine = [("good", "success", None, None)] * 100 + [("bad", "success", None, None)] * 100
    assert shown_by_errors(attempts(fine)).refusing() == {}
    said = shown_by_errors(attempts([*fine, *[("bad", "failure", "ImageNotSupported", None)] * 3]))
    assert said.by_need == {"image": 3}
    assert list(said.refusing()) == [("chat", "bad")]
    # Without a reason: ten, and far more often than others.
    assert list(shown_by_errors(attempts([*fine, *[("bad", "failure", "BadRequestError", None)] * 10])).refusing()) == [("chat", "bad")]
    both = [*[("bad", "failure", "BadRequestError", None)] * 10, *[("good", "failure", "BadRequestError", None)] * 10]
    assert shown_by_errors(attempts([*fine, *both])).refusing() == {}


@pytest.mark.parametrize(
    ("refused", "left_alone"),
    [
        ({"chat": 8, "code": 3, "mail": 2}, ["chat", "code"]),
        ({"chat": 5, "code": 4}, []),
        ({"chat": 9, "code": 0}, []),
        ({"chat": 10, "code": 2}, ["chat"]),
    ],
)
def test_where_a_model_is_seen_to_refuse_over_all_tasks_a_few_are_enough_in_one(refused: dict[str, int], left_alone: list[str]) -> None:
    by_pair = {(task, "bad"): Refusals(200, count, {}) for task, count in refused.items()}
    by_pair |= {(task, "good"): Refusals(200, 0, {}) for task in refused}
    found = ShownByErrors(by_pair).refusing()
    assert list(found) == [(task, "bad") for task in left_alone]
    # As often as others is nothing unusual.
    assert ShownByErrors(by_pair | {(task, "good"): Refusals(200, count, {}) for task, count in refused.items()}).refusing() == {}
