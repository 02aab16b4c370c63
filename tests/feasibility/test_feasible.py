"""Whether a model may serve a kind of request."""

from __future__ import annotations

import ibis
import pyarrow as pa

from routing_pipeline.feasibility.feasible import Kind, Target, feasibility_of, targets_of, why_not
from routing_pipeline.feasibility.learned import Lesson
from routing_pipeline.feasibility.needs import needs_by_task
from routing_pipeline.parameters import Parameters, RoutingPolicy

ANY = RoutingPolicy()


def test_what_is_not_known_to_be_met_is_not_met_and_what_is_not_needed_is_not_asked() -> None:
    target = targets_of(ibis.memtable(pa.table({"model": ["ours"]})), Parameters(), {}, 0.0)["ours"]
    assert why_not(target, Kind("chat"), ANY) is None
    assert why_not(target, Kind("chat", needs=("image",)), ANY) == "that it takes images is not known"


def test_the_user_is_believed_before_the_logs_and_the_logs_before_the_list() -> None:
    rows = ibis.memtable(pa.table({"model": ["gpt-4o-mini"]}))

    def cannot(lesson: Lesson | None, **said: bool) -> bool:
        asked = Parameters.model_validate({"models": {"gpt-4o-mini": said}})
        lessons = {} if lesson is None else {("gpt-4o-mini", "image"): lesson}
        return "image" in targets_of(rows, asked, lessons, 0.0)["gpt-4o-mini"].cannot  # type: ignore[arg-type]

    assert not cannot(None)
    assert cannot(Lesson(0, 50))
    assert not cannot(Lesson(0, 50), image=True)
    assert cannot(Lesson(50, 0), image=False)


def test_prompt_and_answer_fit_the_limits() -> None:
    target = Target("m", {}, prompts_below=8_001.0, most_output=1_000)
    assert why_not(target, Kind("chat", longest_prompt=8_000, longest_answer=1_000), ANY) is None
    assert why_not(target, Kind("chat", longest_prompt=8_001), ANY) is not None
    assert why_not(target, Kind("chat", longest_answer=1_001), ANY) is not None
    unknown = Target("m", {})
    assert why_not(unknown, Kind("chat", longest_prompt=9_000), ANY) is None
    assert why_not(unknown, Kind("chat", longest_prompt=9_000, long_from=8_001.0), ANY) == "how long its prompts may be is not known"
    assert why_not(Target("m", {}, answers=8_500.0), Kind("chat", longest_prompt=9_000, long_from=8_001.0), ANY) is None
    assert why_not(Target("m", {}, answers=7_000.0), Kind("chat", longest_prompt=9_000, long_from=8_001.0), ANY) is not None


def test_room_is_left_for_the_answer_that_is_asked_for() -> None:
    rows = ibis.memtable(pa.table({"model": ["gpt-4o-mini"]}))
    assert targets_of(rows, Parameters(), {}, 4_000.0)["gpt-4o-mini"].prompts_below == 128_000 - 4_000 + 1


def test_requests_that_a_model_could_not_have_served_are_counted_once_each() -> None:
    final = ibis.memtable(
        pa.table(
            {
                "task_type": ["chat"] * 4,
                "prompt_tokens": pa.array([10, 9_000, 9_000, None]),
                "has_image": pa.array([True, True, False, None]),
            }
        )
    )
    targets = {"small": Target("small", {"image": "no"}, prompts_below=8_001.0), "big": Target("big", {})}
    small, big = feasibility_of(final, targets, needs_by_task(final))
    assert {each.need: each.requests for each in small.shortfalls} == {"image": 2, "prompt": 2}
    assert (small.infeasible_requests, small.infeasible_share) == (3, 0.75)
    assert (big.infeasible_requests, big.shortfalls) == (0, ())
