"""The store of finished analyses, addressed by what they were computed from.

Belongs here: saving and loading frozen results under (name, key), ready answers under what was asked, what each run
delivered, and dropping what nobody has asked for in a while. Does not belong here: deciding what goes into a key (`scope`
does), and computing anything. Nothing here takes long to import: what is stored is answered in milliseconds.

Under the store's root:
    <key>/<name>.json    one result; the key is a hash of everything that it depends on
    answers/<key>.json   an answer as it was given, with its text for people
    rule_sets/<id>       the key under which the rules of that id were computed
    looks/<rows>.json    which questions were put to the held-out half of these rows, in their order
    runs/<run id>/       the run's key, its report, its exploration, and digests of the files that it published
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from routing_pipeline.estimates import Result

AnyResult = TypeVar("AnyResult", bound=Result)

UNUSED_DAYS = 30
"""Results that nobody has read for so long are dropped: they can be computed again."""
RUNS_KEPT = 100
RUNS_WITH_RESULTS = 10
"""The newest runs keep every result beside their report, however long nobody reads them."""
SECONDS_PER_DAY = 86_400
_KEY = re.compile(r"[0-9a-f]{16}")
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.:_-]{0,99}")


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


@dataclass(frozen=True)
class StoredRun:
    """One run that delivered a report; `files` are SHA-256 digests of what it published, by name."""

    run_id: str
    key: str
    code: str
    published_s: float
    files: Mapping[str, str]
    folder: Path

    def load(self, name: str, kind: type[AnyResult]) -> AnyResult | None:
        """`report` or `exploration` as it was published; None when there is none, or another version of the model wrote it."""
        return _read(self.folder / f"{name}.json", kind)


class ResultStore:
    """Results as JSON files; see the module's own words for where."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # Results

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
        path = self.path(name, key)
        value = _read(path, kind)
        if value is not None:
            _mark_used(path.parent)
        return value

    # Answers

    def save_answer(self, key: str, answer: Mapping[str, Any]) -> None:
        """Store what was answered to a question."""
        write_whole(self._answer(key), json.dumps(answer, ensure_ascii=False, allow_nan=False).encode())

    def load_answer(self, key: str) -> dict[str, Any] | None:
        """The stored answer to the same question, None when there is none."""
        path = self._answer(key)
        try:
            answer: dict[str, Any] = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        _mark_used(path)
        return answer

    def _answer(self, key: str) -> Path:
        return self.root / "answers" / f"{key}.json"

    # Rule sets

    def remember_rule_set(self, rule_set_id: str, key: str) -> None:
        """Let `key_of_rule_set` find the analysis that a rule set came from."""
        write_whole(self.root / "rule_sets" / _safe(rule_set_id), key.encode())

    def key_of_rule_set(self, rule_set_id: str) -> str | None:
        """The key under which the rules of this id were computed; None when this home knows no such id."""
        return _text(self.root / "rule_sets" / _safe(rule_set_id)) if _ID.fullmatch(rule_set_id) else None

    # Looks

    def look(self, rows_key: str, question: Mapping[str, Any]) -> int:
        """Which look at the same held-out sessions a question is, from 1; asked again, it is the same look."""
        path, key = self.root / "looks" / f"{_safe(rows_key)}.json", key_of(**question)
        asked: list[str] = json.loads(_text(path) or "[]")
        if key not in asked:
            asked.append(key)
            write_whole(path, json.dumps(asked).encode())
        return asked.index(key) + 1

    # Runs

    def begin_run(self, run_id: str, key: str) -> None:
        """Remember which analysis a run is about; it is the newest from now on."""
        for name in (run_id, "latest"):
            write_whole(self._runs / _safe(name) / "key", key.encode())

    def key_of_run(self, run_id: str | None = None) -> str | None:
        """The analysis of a run that has begun, else that of the newest; None when there is none."""
        found = None if run_id is None else _text(self._runs / _safe(run_id) / "key")
        return found or _text(self._runs / "latest" / "key")

    def keep_run(self, run_id: str, report: Result, exploration: Result | None, files: Mapping[str, bytes]) -> None:
        """Keep what a run published, so that the files can be made again from it; the last to be kept is the latest."""
        folder = self._runs / _safe(run_id)
        write_whole(folder / "report.json", report.model_dump_json().encode())
        if exploration is not None:
            write_whole(folder / "exploration.json", exploration.model_dump_json().encode())
        published = {
            "code": code_version(),
            "published_s": time.time(),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        write_whole(folder / "published.json", json.dumps(published, indent=1).encode())
        write_whole(self._runs / "latest" / "delivered", run_id.encode())

    def latest_run(self) -> StoredRun | None:
        """The run that delivered last, without looking at the others; None when there is none."""
        run_id = _text(self._runs / "latest" / "delivered")
        run = None if run_id is None else self.run(run_id)
        return run or next(iter(self.runs()), None)

    def runs(self) -> tuple[StoredRun, ...]:
        """Runs that delivered a report, newest first."""
        found = [self.run(path.parent.name) for path in self._runs.glob("*/published.json")]
        return tuple(sorted((run for run in found if run is not None), key=lambda run: (-run.published_s, run.run_id)))

    def run(self, run_id: str) -> StoredRun | None:
        """The run of this id, None when it never delivered a report here."""
        if not _ID.fullmatch(run_id):
            return None
        folder = self._runs / _safe(run_id)
        key, published = _text(folder / "key"), _text(folder / "published.json")
        return None if key is None or published is None else StoredRun(run_id=run_id, key=key, folder=folder, **json.loads(published))

    @property
    def _runs(self) -> Path:
        return self.root / "runs"

    # Clearing up

    def prune(self, now_s: float | None = None) -> int:
        """Drop runs beyond RUNS_KEPT, and results and answers that nobody has read for UNUSED_DAYS; gives how many."""
        runs = self.runs()
        dropped = [run.folder for run in runs[RUNS_KEPT:]]
        before_s = (time.time() if now_s is None else now_s) - UNUSED_DAYS * SECONDS_PER_DAY
        delivered = {run.run_id for run in runs} | {"latest"}
        dropped += [path for path in _children(self._runs) if path.name not in delivered and path.stat().st_mtime < before_s]
        kept = {run.key for run in runs[:RUNS_WITH_RESULTS]} | {self.key_of_run()}
        for path in (*_children(self.root), *_children(self.root / "answers")):
            is_result = _KEY.fullmatch(path.stem) is not None and path.name not in kept
            if is_result and path.stat().st_mtime < before_s:
                dropped.append(path)
        for path in dropped:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for pointer in _children(self.root / "rule_sets"):
            if not (self.root / (_text(pointer) or "-")).is_dir():
                pointer.unlink(missing_ok=True)
        return len(dropped)


def _read(path: Path, kind: type[AnyResult]) -> AnyResult | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _mark_used(path: Path) -> None:
    """Reading counts as use; a store that can only be read is none the worse."""
    try:
        os.utime(path)
    except OSError:
        return


def _children(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())


def _safe(identifier: str) -> str:
    """An id as one name of a file.

    Raises:
        ValueError: it has characters that no id of ours has.
    """
    if not _ID.fullmatch(identifier):
        raise ValueError(f"not an id: {identifier[:40]!r}")
    return identifier.replace(":", "")
