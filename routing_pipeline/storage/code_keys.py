"""The part of a key that is code: it changes when what computes a result changes, and with nothing else.

Belongs here: from a module to the digest of its source and of all of ours that it imports. Stands beside the store, because
windows, sums and analyses are all kept under such keys, and windows lie below `operations`. Does not belong here: everything
else that a result depends on (`results.key_of`; who computes it says what).

Imports are read from the source: nothing is loaded, so that what is stored is still answered in milliseconds. An import inside
a function counts, one for types alone does not. Templates and stylesheets belong to the module that names their folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

LIBRARY = Path(__file__).parents[1]
_NAME = LIBRARY.name
_FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.MULTILINE)
_IMPORT = re.compile(
    rf"^[ \t]*(?:from ({_NAME}[\w.]*) import (\([^)]*\)|.*)|import ({_NAME}[\w.]*))",
    re.MULTILINE,
)
_TEMPLATES = 'Path(__file__).parent / "templates"'
_COMMENT = re.compile(r"#.*")
_IMPORTED = re.compile(r"(\w+)(?: as \w+)?")


@cache
def code_key(*modules: str, library: Path = LIBRARY) -> str:
    """16 hexadecimal digits: of the source of these modules, and of every module of ours that they lead to.

    Args:
        modules: by their full names; one of another package counts by itself and by what of ours it imports.
        library: the folder of `routing_pipeline`.

    Raises:
        ModuleNotFoundError: there is no source of that name.
    """
    digest = hashlib.md5(usedforsecurity=False)
    sources = {name: _source(name, library) for name in reached(*modules, library=library)}
    templates = {path for source in sources.values() for path in _templates(source)}
    for name, path in sorted([*sources.items(), *((path.name, path) for path in templates)]):
        digest.update(name.encode())
        digest.update(_digest(path))
    return digest.hexdigest()[:16]


def reached(*modules: str, library: Path = LIBRARY) -> frozenset[str]:
    """These modules and all of ours that they import, directly or over others."""
    found: set[str] = set()
    ahead = list(modules)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += _imported(_source(name, library), library)
    return frozenset(found)


@cache
def _digest(path: Path) -> bytes:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).digest()


@cache
def _imported(source: Path, library: Path) -> frozenset[str]:
    """The modules of ours that a source names."""
    text = _FOR_TYPES.sub("", source.read_text(encoding="utf-8"))
    return frozenset(name for match in _IMPORT.finditer(text) for name in _named(match[1], match[2], match[3], library))


def _named(package: str | None, names: str | None, module: str | None, library: Path) -> Iterator[str]:
    """What one import statement stands for: the modules that it names, or the one whose names it takes."""
    if module is not None:
        yield module
    elif package is not None and names is not None:
        for match in _IMPORTED.finditer(_COMMENT.sub("", names)):
            within = f"{package}.{match[1]}"
            yield package if _file(within, library) is None else within


def _source(name: str, library: Path) -> Path:
    found = _file(name, library)
    if found is None and name.partition(".")[0] != _NAME and (spec := find_spec(name)) is not None and spec.origin:
        found = Path(spec.origin)
    if found is None:
        raise ModuleNotFoundError(f"no source of {name}", name=name)
    return found


def _file(name: str, library: Path) -> Path | None:
    return _modules(library).get(name)


@cache
def _modules(library: Path) -> dict[str, Path]:
    """All of ours by name, from one look at each folder: asking for every name that an import could mean takes longer than all else."""
    found: dict[str, Path] = {}
    for folder, _, files in os.walk(library):
        parts = Path(folder).relative_to(library).parts
        if files and "__pycache__" not in parts:
            package = ".".join((_NAME, *parts))
            found |= {f"{package}.{name[:-3]}": Path(folder, name) for name in files if name.endswith(".py") and name != "__init__.py"}
            if "__init__.py" in files:
                found[package] = Path(folder, "__init__.py")
    return found


@cache
def _templates(source: Path) -> tuple[Path, ...]:
    """The files of the folder `templates` beside a source that names it."""
    named = _TEMPLATES in source.read_text(encoding="utf-8")
    return tuple(path for path in source.with_name("templates").glob("*") if path.is_file()) if named else ()
