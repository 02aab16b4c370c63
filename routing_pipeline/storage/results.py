"""The store of finished analyses, addressed by what they were computed from.

Belongs here: saving and loading frozen results under (name, key), ready answers under what was asked, charts, and dropping
what nobody has asked for in a while. Does not belong here: runs (`runs`), deciding what goes into a key (`scope` does), and
computing anything. Nothing here takes long to import: what is stored is answered in milliseconds.

Under the store's root:
    <key>/<name>.json    one result of an analysis, whose key is a hash of its rows and of what was asked; kept for use again, its
                         name ends in a hash of its code and of the results that it rests on
    answers/<key>.json   an answer as it was given, with its text for people
    pictures/<key>.svg   a chart as it was drawn
    rule_sets/<id>       the key under which the rules of that id were computed
    runs/                what each run published (`runs`)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Result
from routing_pipeline.storage.files import FolderStorage, Storage, read_text
from routing_pipeline.storage.retention import Limits, unused

AnyResult = TypeVar("AnyResult", bound=Result)

UNUSED_DAYS = 30
"""Results that nobody has read for so long are dropped: they can be computed again."""
ANSWERS, PICTURES, RULE_SETS = "answers", "pictures", "rule_sets"
_KEY = re.compile(r"[0-9a-f]{16}")
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.:_-]{0,99}")


def key_of(**inputs: Any) -> str:
    """md5 of everything that a result depends on, 16 hexadecimal digits; order of arguments does not matter."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:16]


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
        value = read_result(self.storage, f"{key}/{name}.json", kind)
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
        self.storage.write(f"{ANSWERS}/{key}.json", json.dumps(answer, ensure_ascii=False, allow_nan=False).encode())

    def load_answer(self, key: str) -> dict[str, Any] | None:
        """The stored answer to the same question, None when there is none."""
        stored = self.storage.read(f"{ANSWERS}/{key}.json")
        try:
            answer: dict[str, Any] | None = None if stored is None else json.loads(stored)
        except ValueError:
            return None
        if answer is not None:
            self.storage.mark_used(f"{ANSWERS}/{key}.json")
        return answer

    # Pictures

    def picture(self, key: str, draw: Callable[[], str]) -> str:
        """The SVG of this key; drawn and stored where there is none yet."""
        file = f"{PICTURES}/{key}.svg"
        stored = read_text(self.storage, file)
        if stored is not None:
            self.storage.mark_used(file)
            return stored
        drawn = draw()
        self.storage.write(file, drawn.encode())
        return drawn

    # Rule sets

    def remember_rule_set(self, rule_set_id: str, key: str) -> None:
        """Let `key_of_rule_set` find the analysis that a rule set came from."""
        self.storage.write(f"{RULE_SETS}/{file_of_id(rule_set_id)}", key.encode())

    def key_of_rule_set(self, rule_set_id: str) -> str | None:
        """The key under which the rules of this id were computed; None when this home knows no such id."""
        return read_text(self.storage, f"{RULE_SETS}/{file_of_id(rule_set_id)}") if is_id(rule_set_id) else None

    def keys_of_rule_sets(self, begins: str) -> tuple[str, ...]:
        """The same of all whose ids, as names of files, begin so; each key once."""
        names = sorted(each.name for each in self.storage.children(RULE_SETS))
        found = (read_text(self.storage, name) for name in names if Path(name).name.startswith(begins))
        return tuple(dict.fromkeys(key for key in found if key is not None))

    # Clearing up

    def clear(self) -> None:
        """Drop everything."""
        self.storage.delete_below()

    def prune(self, now_s: float, reachable: Collection[str] = ()) -> int:
        """Drop results, answers and pictures that nobody has read for UNUSED_DAYS, but those of `reachable` keys; gives how many.

        In a bucket reading leaves no trace: there they go when they were written so long ago.
        """
        entries = [each for folder in ("", ANSWERS, PICTURES) for each in self.storage.children(folder)]
        entries = [each for each in entries if _KEY.fullmatch(Path(each.name).stem)]
        stay = {name for key in reachable for name in (key, f"{ANSWERS}/{key}.json", f"{PICTURES}/{key}.svg")}
        dropped = unused(entries, Limits(unused_s=UNUSED_DAYS * SECONDS_PER_DAY), now_s=now_s, reachable=stay)
        for name in dropped:
            self.storage.delete([name]) if Path(name).suffix else self.storage.delete_below(name)
        there = {each.name for each in self.storage.children()}
        rule_sets = [each.name for each in self.storage.children(RULE_SETS)]
        self.storage.delete([name for name in rule_sets if read_text(self.storage, name) not in there])
        return len(dropped)


def read_result(storage: Storage, name: str, kind: type[AnyResult]) -> AnyResult | None:
    """A stored result; None when there is none, or another version of the model wrote it."""
    content = storage.read(name)
    try:
        return None if content is None else kind.model_validate_json(content)
    except ValueError:
        return None


def is_id(text: str) -> bool:
    """Whether a text may be the id of a run or of a rule set."""
    return _ID.fullmatch(text) is not None


def file_of_id(identifier: str) -> str:
    """An id as one name of a file.

    Raises:
        ValueError: it has characters that no id of ours has.
    """
    if not is_id(identifier):
        raise ValueError(f"not an id: {identifier[:40]!r}")
    return identifier.replace(":", "")
