"""Great Expectations as the checks need it, loaded without statistics and charts that none of them uses.

Belongs here: how it is imported. Does not belong here: what is asked of it (`row_checks`).

It imports `scipy.stats` for one expectation that compares distributions, two fifths of what loading it takes, and `altair` for its
picture, a fifth of the rest. Here these modules are bound at once and loaded when somebody looks into them (`importlib.util.LazyLoader`),
so that nothing is missing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

LOADED_ON_FIRST_LOOK = ("scipy.stats", "altair")

# It is read on import: no analytics over the network.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


class _OnFirstLook(MetaPathFinder):
    """Finds those modules, and leaves the loading for later."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, path, target) if fullname in LOADED_ON_FIRST_LOOK else None
        if found is not None and found.loader is not None:
            found.loader = LazyLoader(found.loader)
        return found


@contextmanager
def _later() -> Iterator[None]:
    finder = _OnFirstLook()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


with _later():
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # Its names are exported at run time only.
    expectations: Any = import_module("great_expectations.expectations")
    row_conditions: Any = import_module("great_expectations.expectations.row_conditions")

__all__ = ["ProgressBarsConfig", "expectations", "gx", "row_conditions"]
