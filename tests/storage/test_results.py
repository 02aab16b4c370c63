"""How results are kept, and when they go."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from routing_pipeline.estimates import Estimate, Result
from routing_pipeline.storage.results import UNUSED_DAYS, ResultStore, key_of
from routing_pipeline.storage.runs import RunStore


class Answer(Result):
    value: Estimate


class OtherAnswer(Result):
    name: str


def test_a_result_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))
    store.save("answer", "key", answer)
    assert store.load("answer", "key", Answer) == answer


def test_a_result_of_another_shape_is_no_result(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save("answer", "key", OtherAnswer(name="a"))
    assert store.load("answer", "key", Answer) is None
    assert store.load("nothing", "key", Answer) is None


def test_a_key_depends_on_every_input_and_on_no_order() -> None:
    assert key_of(a=1, b=2) == key_of(b=2, a=1) != key_of(a=1, b=3)


def aged(path: Path, days: float) -> None:
    at_s = time.time() - days * 86_400
    os.utime(path, (at_s, at_s))


def test_what_nobody_reads_is_dropped_and_what_is_read_stays(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))
    for letter in "abc":
        store.save("answer", letter * 16, answer)
        store.save_answer(letter * 16, {"text": letter})
        store.remember_rule_set(f"rules-{letter}", letter * 16)
        aged(tmp_path / (letter * 16), UNUSED_DAYS + 1)
        aged(tmp_path / "answers" / f"{letter * 16}.json", UNUSED_DAYS + 1)
    assert store.load("answer", "a" * 16, Answer) == answer
    assert store.load_answer("a" * 16) == {"text": "a"}
    assert store.prune(time.time(), {"b" * 16}) == 2
    assert [store.load("answer", letter * 16, Answer) is None for letter in "abc"] == [False, False, True]
    assert [store.load_answer(letter * 16) is None for letter in "abc"] == [False, False, True]
    assert [store.key_of_rule_set(f"rules-{letter}") for letter in "abc"] == ["a" * 16, "b" * 16, None]


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "a/b", "", "a" * 200, "\x00", "..", "-"])
def test_an_id_never_reaches_beyond_the_store(tmp_path: Path, hostile: str) -> None:
    store = ResultStore(tmp_path / "results")
    assert store.key_of_rule_set(hostile) is None
    assert RunStore(store.storage).get(hostile) is None
    with pytest.raises(ValueError, match="not an id"):
        store.remember_rule_set(hostile, "key")
