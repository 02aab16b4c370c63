"""How the graph's snapshot is rewritten."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-graph", action="store_true", help="write tests/glue/graph.json anew")
