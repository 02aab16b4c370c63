"""SQL that any process of a test run has compiled, so that the others need not: a third of what a short run costs.

A home keeps its own beside its rows (`routing_pipeline.window.compiled_before`). Tests make a home each, and every process that runs
tests would compile the same queries again.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from routing_pipeline.storage.home import Home
from routing_pipeline.window import compiled_before
from routing_pipeline.window.compiled_before import QUERIES


class KnownQueries(dict[str, str]):
    """What `window.compiled` remembers, with what other processes remember behind it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        found = super().get(key)
        if found is None and (found := compiled_before.find(self._folder, key)) is not None:
            super().__setitem__(key, found)
        return default if found is None else found

    def __setitem__(self, key: str, query: str) -> None:
        super().__setitem__(key, query)
        compiled_before.keep(self._folder, key, query)


def folder_of(factory: pytest.TempPathFactory) -> Path:
    """One folder of the whole test run, whichever process asks."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / QUERIES
    folder.mkdir(exist_ok=True)
    return folder


def lend(folder: Path, root: Path) -> Path:
    """Let the processes of a home that is still to be made keep and find their queries in this folder; gives the home's own."""
    scratch = Home(root).scratch
    scratch.mkdir(parents=True)
    (scratch / QUERIES).symlink_to(folder, target_is_directory=True)
    return root
