"""The store of finished analyses, addressed by what they were computed from.

Belongs here: saving and loading frozen results under (name, key), ready answers under what was asked, charts, what each
run delivered, and dropping what nobody has asked for in a while. Does not belong here: deciding what goes into a key (`scope`
does), and computing anything. Nothing here takes long to import: what is stored is answered in milliseconds.

Under the store's root:
    <key>/<name>.json    one result; the key is a hash of everything that it depends on
    answers/<key>.json   an answer as it was given, with its text for people
    pictures/<key>.svg   a chart as it was drawn
    rule_sets/<id>       the key under which the rules of that id were computed
    runs/<run id>/       the run's key, its report, its exploration, and digests of the files that it published
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from routing_pipeline.estimates import Result
from routing_pipeline.storage import FolderStorage, Storage, write_whole

__all__ = ["ResultStore", "StoredRun", "code_version", "key_of", "write_whole"]

AnyResult = TypeVar("AnyResult", bound=Result)

UNUSED_DAYS = 30
"""Results that nobody has read for so long are dropped: they can be computed again."""
READERS = 8
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


@dataclass(frozen=True)
class StoredRun:
    """One run that delivered a report; `files` are SHA-256 digests of what it published, by name.

    A run that an alert started tells of one day; it is never the newest report, about whose rules people decide.
    """

    run_id: str
    key: str
    code: str
    published_s: float
    files: Mapping[str, str]
    storage: Storage
    is_of_alert: bool = False

    def load(self, name: str, kind: type[AnyResult]) -> AnyResult | None:
        """`report` or `exploration` as it was published; None when there is none, or another version of the model wrote it."""
        return _read(self.storage, f"{name}.json", kind)

    def content(self, name: str) -> bytes | None:
        """The same as JSON."""
        return self.storage.read(f"{name}.json")


class ResultStore:
    """Results as JSON files; see the module's own words for where."""

    def __init__(self, place: Path | Storage) -> None:
        self.storage: Storage = FolderStorage(place) if isinstance(place, Path) else place

    # Results

    def save(self, name: str, key: str, value: Result) -> str:
        """Store a result and give its address; an existing one of the same name and key is replaced whole."""
        file = f"{key}/{name}.json"
        self.storage.write(file, value.model_dump_json(indent=1).encode())
        return self.storage.uri(file)

    def load(self, name: str, key: str, kind: type[AnyResult]) -> AnyResult | None:
        """The stored result, or None when there is none or it was written by another version of its model."""
        value = _read(self.storage, f"{key}/{name}.json", kind)
        if value is not None:
            self.storage.mark_used(key)
        return value

    def content(self, name: str, key: str) -> bytes | None:
        """The stored result as JSON."""
        return self.storage.read(f"{key}/{name}.json")

    def beside(self, name: str, key: str) -> Path:
        """Where a file that belongs to the results of a key is written before it is shared (`share`)."""
        return self.storage.path(f"{key}/{name}")

    def share(self, path: Path) -> str:
        """Make what was written to `beside` readable for all; gives its address."""
        return self.storage.share(path)

    def has(self, location: str) -> bool:
        """Whether what `share` gave this address is still there."""
        name = self.storage.name_of(location)
        return name is not None and self.storage.has(name)

    # Answers

    def save_answer(self, key: str, answer: Mapping[str, Any]) -> None:
        """Store what was answered to a question."""
        self.storage.write(f"answers/{key}.json", json.dumps(answer, ensure_ascii=False, allow_nan=False).encode())

    def load_answer(self, key: str) -> dict[str, Any] | None:
        """The stored answer to the same question, None when there is none."""
        stored = self.storage.read(f"answers/{key}.json")
        try:
            answer: dict[str, Any] | None = None if stored is None else json.loads(stored)
        except ValueError:
            return None
        if answer is not None:
            self.storage.mark_used(f"answers/{key}.json")
        return answer

    # Pictures

    def picture(self, key: str, draw: Callable[[], str]) -> str:
        """The SVG of this key; drawn and stored where there is none yet."""
        file = f"pictures/{key}.svg"
        stored = _text(self.storage, file)
        if stored is not None:
            self.storage.mark_used(file)
            return stored
        drawn = draw()
        self.storage.write(file, drawn.encode())
        return drawn

    # Rule sets

    def remember_rule_set(self, rule_set_id: str, key: str) -> None:
        """Let `key_of_rule_set` find the analysis that a rule set came from."""
        self.storage.write(f"rule_sets/{_safe(rule_set_id)}", key.encode())

    def key_of_rule_set(self, rule_set_id: str) -> str | None:
        """The key under which the rules of this id were computed; None when this home knows no such id."""
        return _text(self.storage, f"rule_sets/{_safe(rule_set_id)}") if _ID.fullmatch(rule_set_id) else None

    # Runs

    def begin_run(self, run_id: str, key: str, *, is_of_alert: bool = False) -> None:
        """Remember which analysis a run is about; it is the newest from now on, unless an alert started it."""
        for name in (run_id,) if is_of_alert else (run_id, "latest"):
            self.storage.write(f"runs/{_safe(name)}/key", key.encode())

    def key_of_run(self, *run_ids: str | None) -> str | None:
        """The analysis of the first of these runs that began one, else that of the newest; None when there is none."""
        for name in (*filter(None, run_ids), "latest"):
            if (found := _text(self.storage, f"runs/{_safe(name)}/key")) is not None:
                return found
        return None

    def keep_run(
        self,
        run_id: str,
        report: Result,
        exploration: Result | None,
        files: Mapping[str, bytes],
        *,
        key: str | None = None,
        is_of_alert: bool = False,
    ) -> None:
        """Keep what a run published, so that the files can be made again from it; the last to be kept without an alert is the latest.

        `key` names the analysis of a run that went on where another one ended, and never began it by itself.
        """
        folder = f"runs/{_safe(run_id)}"
        if key is not None:
            self.storage.write(f"{folder}/key", key.encode())
        self.storage.write(f"{folder}/report.json", report.model_dump_json().encode())
        if exploration is not None:
            self.storage.write(f"{folder}/exploration.json", exploration.model_dump_json().encode())
        published = {
            "code": code_version(),
            "published_s": time.time(),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "is_of_alert": is_of_alert,
        }
        self.storage.write(f"{folder}/published.json", json.dumps(published, indent=1).encode())
        if not is_of_alert:
            self.storage.write("runs/latest/delivered", run_id.encode())

    def latest_run(self) -> StoredRun | None:
        """The run that delivered last and that no alert started, without looking at the others; None when there is none."""
        run_id = _text(self.storage, "runs/latest/delivered")
        run = None if run_id is None else self.run(run_id)
        return run or next((each for each in self.runs() if not each.is_of_alert), None)

    def runs(self) -> tuple[StoredRun, ...]:
        """Runs that delivered a report, newest first."""
        names = [_last(each.name) for each in self.storage.children("runs")]
        # A bucket takes a while to answer, and as long for several.
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(self.run, names))
        return tuple(sorted((run for run in found if run is not None), key=lambda run: (-run.published_s, run.run_id)))

    def run(self, run_id: str) -> StoredRun | None:
        """The run of this id, None when it never delivered a report here."""
        if not _ID.fullmatch(run_id):
            return None
        kept = self.storage.below(f"runs/{_safe(run_id)}")
        published = _text(kept, "published.json")
        key = None if published is None else _text(kept, "key")
        return None if key is None or published is None else StoredRun(run_id=run_id, key=key, storage=kept, **json.loads(published))

    # Clearing up

    def clear(self) -> None:
        """Drop everything."""
        self.storage.delete_below()

    def prune(self, now_s: float | None = None) -> int:
        """Drop runs beyond RUNS_KEPT, alerts' apart, and results, answers and pictures that nobody has read for UNUSED_DAYS; gives how many.

        In a bucket reading leaves no trace: there they go when they were written so long ago.
        """
        runs = self.runs()
        before_s = (time.time() if now_s is None else now_s) - UNUSED_DAYS * SECONDS_PER_DAY
        reviews, of_alerts = ([run for run in runs if run.is_of_alert is wanted] for wanted in (False, True))
        delivered = {_safe(run.run_id) for run in runs} | {"latest"}
        dropped = [f"runs/{_safe(run.run_id)}" for run in (*reviews[RUNS_KEPT:], *of_alerts[RUNS_KEPT:])]
        dropped += [each.name for each in self.storage.children("runs") if _last(each.name) not in delivered and each.modified_s < before_s]
        kept = {run.key for run in (*reviews[:RUNS_WITH_RESULTS], *of_alerts[:RUNS_WITH_RESULTS])} | {self.key_of_run()}
        for each in (*self.storage.children(), *self.storage.children("answers"), *self.storage.children("pictures")):
            name = _last(each.name)
            is_result = _KEY.fullmatch(name.partition(".")[0]) is not None and name not in kept
            if is_result and each.modified_s < before_s:
                dropped.append(each.name)
        for place in dropped:
            self.storage.delete([place]) if place.endswith((".json", ".svg")) else self.storage.delete_below(place)
        there = {each.name for each in self.storage.children()}
        self.storage.delete(
            [each.name for each in self.storage.children("rule_sets") if (_text(self.storage, each.name) or "-") not in there]
        )
        return len(dropped)


def _read(storage: Storage, name: str, kind: type[AnyResult]) -> AnyResult | None:
    content = storage.read(name)
    try:
        return None if content is None else kind.model_validate_json(content)
    except ValueError:
        return None


def _text(storage: Storage, name: str) -> str | None:
    content = storage.read(name)
    return None if content is None else content.decode()


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _safe(identifier: str) -> str:
    """An id as one name of a file.

    Raises:
        ValueError: it has characters that no id of ours has.
    """
    if not _ID.fullmatch(identifier):
        raise ValueError(f"not an id: {identifier[:40]!r}")
    return identifier.replace(":", "")
