"""What the logs teach of what models can."""

from __future__ import annotations

import ibis
import pyarrow as pa
import pytest

from routing_pipeline.feasibility.learned import Lesson, Refusals, ShownByErrors, lengths_answered, lessons_of, shown_by_errors
from routing_pipeline.feasibility.needs import NEEDS


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


def with_needs(rows: list[tuple[int, str, str | None, bool, bool]]) -> ibis.Table:
    """Attempts of one model: how many, status, class of the error, whether they carry an image and tools."""
    times, status, error, image, tools = ([row[column] for row in rows for _ in range(row[0])] for column in range(5))
    return ibis.memtable(
        pa.table(
            {
                "model": ["m"] * len(times),
                "status": status,
                "error_type": pa.array(error, pa.string()),
                "has_image": pa.array(image, pa.bool_()),
                "has_tools": pa.array(tools, pa.bool_()),
            }
        )
    )


def test_what_was_refused_for_an_image_says_nothing_of_the_tools_that_came_with_it() -> None:
    found = lessons_of(with_needs([(400, "success", None, False, True), (40, "failure", "BadRequestError", True, True)]))
    assert found["m", "image"].able is False
    assert found["m", "tools"] == Lesson(successes=400)
    # Even where most requests with tools carried an image.
    found = lessons_of(
        with_needs([(35, "success", None, False, True), (400, "failure", None, True, True), (20, "failure", None, True, False)])
    )
    assert [found["m", need].able for need in ("image", "tools")] == [False, True]


def test_needs_that_only_ever_come_together_are_refused_together() -> None:
    found = lessons_of(with_needs([(500, "success", None, False, False), (40, "failure", "BadRequestError", True, True)]))
    assert [found["m", need].able for need in ("image", "tools")] == [False, False]


def test_an_error_that_names_another_need_or_the_length_of_a_prompt_refuses_no_tools() -> None:
    found = lessons_of(
        with_needs(
            [
                (100, "success", None, False, True),
                (5, "failure", "ImageNotSupported", True, True),
                (5, "failure", "ContextWindowExceededError", False, True),
                (2, "failure", "ToolUseUnsupported", True, True),
            ]
        )
    )
    assert found["m", "tools"] == Lesson(successes=100, refusals=2)
    assert found["m", "image"] == Lesson(refusals=5)


def test_errors_show_who_refuses_what_a_task_needs() -> None:
    fine = [("good", "success", None, None)] * 100 + [("bad", "success", None, None)] * 100
    assert shown_by_errors(attempts(fine)).refusing({}, ()) == {}
    said = shown_by_errors(attempts([*fine, *[("bad", "failure", "ImageNotSupported", None)] * 3]))
    assert said.by_need({}, ()) == {"image": 3}
    assert list(said.refusing({}, ())) == [("chat", "bad")]
    # Without a reason: ten, and far more often than others.
    assert list(shown_by_errors(attempts([*fine, *[("bad", "failure", "BadRequestError", None)] * 10])).refusing({}, ())) == [
        ("chat", "bad")
    ]
    both = [*[("bad", "failure", "BadRequestError", None)] * 10, *[("good", "failure", "BadRequestError", None)] * 10]
    assert shown_by_errors(attempts([*fine, *both])).refusing({}, ()) == {}


@pytest.mark.parametrize(
    ("refused", "left_alone"),
    [
        ({"chat": 8, "code": 3, "mail": 1}, ["chat", "code", "mail"]),
        ({"chat": 2, "code": 2}, []),
        ({"chat": 4, "code": 0}, []),
        # None where eight would be expected by the rate elsewhere, and none where two or three would.
        ({"chat": 8, "code": 0}, ["chat"]),
        ({"chat": 2, "code": 3, "mail": 0}, ["chat", "code", "mail"]),
    ],
)
def test_where_a_model_is_seen_to_refuse_over_all_tasks_a_few_are_enough_in_one(refused: dict[str, int], left_alone: list[str]) -> None:
    by_pair = {(task, "bad"): Refusals(200, count, {}) for task, count in refused.items()}
    by_pair |= {(task, "good"): Refusals(200, 0, {}) for task in refused}
    found = ShownByErrors(by_pair).refusing({}, ())
    assert list(found) == [(task, "bad") for task in left_alone]
    # As often as others is nothing unusual.
    assert ShownByErrors(by_pair | {(task, "good"): Refusals(200, count, {}) for task, count in refused.items()}).refusing({}, ()) == {}


def test_errors_show_nothing_more_of_needs_that_the_logs_tell_of() -> None:
    fine = [("good", "success", None, None)] * 100 + [("bad", "success", None, None)] * 100
    named = shown_by_errors(attempts([*fine, *[("bad", "failure", "ImageNotSupported", True)] * 3]))
    assert named.refusing({"chat": ("image",)}, ()) == {}
    assert list(named.refusing({"chat": ("tools",)}, ())) == [("chat", "bad")]
    # Without a reason, the logged need is the reason.
    with_images = shown_by_errors(attempts([*fine, *[("bad", "failure", "BadRequestError", True)] * 20]))
    assert with_images.refusing({"chat": ("image",)}, ()) == {}
    without = shown_by_errors(attempts([*fine, *[("bad", "failure", "BadRequestError", False)] * 20]))
    assert list(without.refusing({"chat": ("image",)}, ())) == [("chat", "bad")]
    assert without.refusing({"chat": NEEDS}, ()) == {}


def test_prompts_that_were_too_long_leave_a_task_open_where_it_is_known_what_fits() -> None:
    fine = [("good", "success", None, None)] * 100 + [("bad", "success", None, None)] * 100
    said = shown_by_errors(attempts([*fine, *[("bad", "failure", "ContextWindowExceededError", None)] * 5]))
    assert said.over_length("bad") == 5
    assert list(said.refusing({}, ())) == [("chat", "bad")]
    assert said.refusing({}, ("bad",)) == {}


def test_what_thirty_answered_prompts_reach_fits_and_what_was_refused_does_not() -> None:
    rows = {"model": ["m"] * 100 + ["few"] * 10, "status": ["success"] * 110, "prompt_tokens": [*range(1, 101), *range(1, 11)]}
    assert lengths_answered(ibis.memtable(pa.table(rows)), ["m", "few"]) == {"m": 71.0}
    refused = {"model": ["m"], "status": ["failure"], "prompt_tokens": [50], "error_type": ["ContextWindowExceededError"]}
    both = pa.concat_tables([pa.table(rows | {"error_type": pa.nulls(110, pa.string())}), pa.table(refused)])
    assert lengths_answered(ibis.memtable(both), ["m"]) == {"m": 49.0}
    assert lengths_answered(ibis.memtable(both), []) == {}
