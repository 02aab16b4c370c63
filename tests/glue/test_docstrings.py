"""What docstrings name is there: a module that moved takes its mentions with it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "routing_pipeline"
FOLDERS = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
MODULES = {str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__") for path in PACKAGE.rglob("*.py")}
NAMED = re.compile(r"`([a-z_]+(?:\.\w+)+)`")
FILES = ("report.css",)


def is_there(name: str) -> bool:
    """Whether a module is called so, or something within one."""
    module, _, rest = name.rpartition(".")
    while module:
        if name in MODULES or module in MODULES:
            path = PACKAGE.joinpath(*module.split("."))
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            return name in MODULES or re.search(rf"\b{rest.split('.')[0]}\b", file.read_text()) is not None
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}"
    return False


@pytest.mark.parametrize("folder", sorted(FOLDERS - {"__pycache__"}))
def test_modules_that_docstrings_name_are_there(folder: str) -> None:
    gone = set()
    for path in (PACKAGE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                for name in NAMED.findall(ast.get_docstring(node) or ""):
                    if name.split(".")[0] in FOLDERS and name not in FILES and not is_there(name):
                        gone.add((str(path.relative_to(PACKAGE)), name))
    assert not gone
