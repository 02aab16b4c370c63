"""The store of finished analyses, addressed by what they were computed from.

Belongs here: saving and loading frozen results under (name, key). Does not belong here: deciding what goes into a key
(`scope` does), and computing anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from routing_pipeline.estimates import Result

AnyResult = TypeVar("AnyResult", bound=Result)


def key_of(**inputs: Any) -> str:
    """md5 of everything that a result depends on, 16 hexadecimal digits; order of arguments does not matter."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:16]


@lru_cache(maxsize=1)
def code_version() -> str:
    """md5 over the library's own source and templates: results of other code are never taken for this code's."""
    digest = hashlib.md5(usedforsecurity=False)
    root = Path(__file__).parent
    for path in sorted(path for path in root.rglob("*") if path.suffix in {".py", ".j2", ".css"}):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def write_whole(path: Path, content: bytes) -> None:
    """Write so that a reader sees the old file or the new one, never half of either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class ResultStore:
    """Results as JSON files under `root/<key>/<name>.json`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str, key: str) -> Path:
        """Where the result called `name` of the analysis `key` lies."""
        return self.root / key / f"{name}.json"

    def save(self, name: str, key: str, value: Result) -> Path:
        """Store a result; an existing one of the same name and key is replaced whole."""
        path = self.path(name, key)
        write_whole(path, value.model_dump_json(indent=1).encode())
        return path

    def load(self, name: str, key: str, kind: type[AnyResult]) -> AnyResult | None:
        """The stored result, or None when there is none or it was written by another version of its model."""
        try:
            return kind.model_validate_json(self.path(name, key).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
