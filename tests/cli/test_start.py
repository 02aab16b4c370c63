"""What is settled before a command is loaded."""

from __future__ import annotations

import gc
import sys

import pytest

from routing_pipeline import beside
from routing_pipeline.__main__ import LOOKED_FOR_CYCLES, main


def test_a_command_looks_for_cycles_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["routing-pipeline", "--version"])
    # Put back at the end: what the other tests call is called as a library.
    monkeypatch.setattr(beside, "_is_command", False)
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        main()
        assert gc.get_threshold() == LOOKED_FOR_CYCLES
    finally:
        gc.set_threshold(*before)
