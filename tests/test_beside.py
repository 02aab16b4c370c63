"""A second process or thread beside a command's own: what it is given is done there, and nobody waits for what cannot be done."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from routing_pipeline import beside

EITHER = pytest.mark.parametrize("opened", [beside.second_process, beside.second_thread])
Opened = Callable[[], AbstractContextManager[None]]


@EITHER
def test_who_calls_as_a_library_gets_neither(tmp_path: Path, opened: Opened) -> None:
    with opened():
        assert not beside.begin("folder", os.mkdir, str(tmp_path / "made")), "who begins is told that it will not be done"
        beside.settle("folder")
    assert not (tmp_path / "made").exists()


@EITHER
def test_neither_does_a_machine_with_one_core(tmp_path: Path, of_a_command: None, monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.setattr(beside.os, "cpu_count", lambda: 1)
    with opened():
        beside.begin("folder", os.mkdir, str(tmp_path / "made"))
        beside.settle("folder")
    assert not (tmp_path / "made").exists()


@EITHER
def test_work_is_done_in_the_order_in_which_it_was_begun(tmp_path: Path, of_a_command: None, opened: Opened) -> None:
    with opened():
        assert beside.begin("outer", os.mkdir, str(tmp_path / "made"))
        beside.begin("inner", os.mkdir, str(tmp_path / "made" / "within"))
        beside.settle("inner")
        assert (tmp_path / "made" / "within").exists()
        beside.settle("outer")


@EITHER
def test_work_that_fails_is_waited_for_like_any_other_and_what_follows_is_done(tmp_path: Path, of_a_command: None, opened: Opened) -> None:
    with opened():
        beside.begin("fails", os.mkdir, str(tmp_path))
        beside.begin("succeeds", os.mkdir, str(tmp_path / "made"))
        beside.settle("fails")
        beside.settle("succeeds")
        assert (tmp_path / "made").exists()


def test_a_module_that_is_not_there_is_no_error_of_the_second_process(tmp_path: Path, of_a_command: None) -> None:
    with beside.second_process("a module that is not there"):
        beside.begin("succeeds", os.mkdir, str(tmp_path / "made"))
        beside.settle("succeeds")
        assert (tmp_path / "made").exists()


def test_the_owner_goes_on_while_the_thread_works_and_leaves_without_waiting(of_a_command: None) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        has_begun.set()
        may_end.wait(600)

    later: list[int] = []
    with beside.second_thread():
        beside.begin("long", work)
        beside.begin("after", later.append, 1)
        assert has_begun.wait(30)
    working = [each for each in threading.enumerate() if each.name == "beside"]
    may_end.set()
    for each in working:
        each.join(30)
    assert working
    assert not later, "what nobody waits for any more is not begun"


def test_nobody_waits_for_a_process_that_has_died(tmp_path: Path, of_a_command: None) -> None:
    with beside.second_process():
        beside.begin("dies", os._exit, 3)
        beside.begin("after", os.mkdir, str(tmp_path / "made"))
        beside.settle("after")
        beside.settle("dies")
        assert not beside.begin("later", os.mkdir, str(tmp_path / "made")), "who begins is told that it will not be done"
        beside.settle("later")
    assert not (tmp_path / "made").exists()


def test_the_process_is_gone_with_the_block_whatever_it_was_doing(of_a_command: None) -> None:
    with beside.second_process():
        second = beside._open.get()
        assert isinstance(second, beside._Process)
        beside.begin("long", time.sleep, 600)
    assert second._process.wait(timeout=30) != 0


def test_no_module_of_the_folder_that_a_command_is_called_in_is_taken_for_an_installed_one(
    tmp_path: Path, of_a_command: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("import os\nos.mkdir('trapped')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with beside.second_process("json"):
        beside.settle("json")
    assert not (tmp_path / "trapped").exists()
