"""Whoever sits at a terminal is asked; programs are not, and no means that nothing happens."""

from __future__ import annotations

import io

import pytest

from routing_pipeline.cli.asking import agree
from routing_pipeline.errors import UnusableInputError


class Stream(io.StringIO):
    def __init__(self, text: str = "", *, is_terminal: bool = True) -> None:
        super().__init__(text)
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def asked(monkeypatch: pytest.MonkeyPatch, answer: str, *, is_terminal: bool = True, yes: bool = False) -> str:
    said = Stream(is_terminal=is_terminal)
    monkeypatch.setattr("sys.stdin", Stream(answer, is_terminal=is_terminal))
    monkeypatch.setattr("sys.stderr", said)
    agree("Approve this rule set?", ["r1: chat: a -> b"], yes=yes)
    return said.getvalue()


def test_on_a_terminal_it_is_shown_and_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, "y\n") == "r1: chat: a -> b\nApprove this rule set? [y/N] "


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yes please\n"])
def test_whatever_is_not_yes_is_no(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    with pytest.raises(UnusableInputError, match="nothing was changed"):
        asked(monkeypatch, answer)


def test_programs_and_whoever_agreed_before_are_shown_and_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, "", is_terminal=False) == asked(monkeypatch, "", yes=True) == "r1: chat: a -> b\n"
