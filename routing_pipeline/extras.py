"""Parts of the package that are installed when they are asked for, and what is said where one is missing.

Belongs here: the extras that a command may need, by the modules that they bring. Does not belong here: versions (pyproject.toml).
"""

from __future__ import annotations

import importlib.util

from routing_pipeline.errors import UnusableInputError

BRINGS: dict[str, tuple[str, ...]] = {
    "alerts": ("apprise",),
    "dashboard": ("starlette", "uvicorn"),
    "mcp": ("mcp", "starlette", "uvicorn"),
    "metrics": ("prometheus_client", "starlette", "uvicorn"),
    "postgres": ("psycopg2",),
    "spark": ("pyspark",),
    "ui": ("dagster_webserver",),
}
"""Modules by extra."""


def is_installed(extra: str) -> bool:
    """Whether everything of an extra can be imported; imports nothing."""
    return all(importlib.util.find_spec(module) is not None for module in BRINGS[extra])


def how_to_install(extra: str) -> str:
    """The command that adds an extra to an installation."""
    return f"pip install 'routing-pipeline[{extra}]'"


def check_installed(extra: str, what: str) -> None:
    """Raises UnusableInputError where an extra is missing that `what` needs."""
    if not is_installed(extra):
        raise UnusableInputError(f"{what} needs more than the basic installation: {how_to_install(extra)}")
