"""Whether records are scores at all: which columns of schema.FEEDBACK they lack, and which of theirs may have been meant.

Belongs here: names of columns, and what is said about them. Does not belong here: values (`feedback`), other tools' own
names, which are read as they are (`formats`).

A file none of whose records has a column that every score needs is no feedback, and says so as a whole: refused line by
line, a misspelt header would read as thousands of bad scores. A guess is a name of the file's own, close to the one missing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from routing_pipeline.ingest.formats import recognised
from routing_pipeline.schema import FEEDBACK, column_names

NAMES = column_names(FEEDBACK)
NEEDED: tuple[tuple[str, ...], ...] = (("request_id", "attempt_id"), ("name",), ("value",), ("source",), ("scored_at",))
"""One of each has to be there."""
MEANT: dict[str, tuple[str, ...]] = {
    "request_id": ("id", "call_id", "litellm_call_id", "x_litellm_call_id", "trace_id", "response_id", "generation_id", "x_request_id"),
    "attempt_id": ("observation_id", "span_id"),
    "name": ("metric", "metric_name", "score_name", "criterion", "key", "label", "title", "type"),
    "value": ("score", "rating", "points", "grade", "stars", "result", "quality", "quality_score", "val"),
    "source": ("scorer", "evaluator", "rater", "annotator", "author", "origin", "scored_by", "kind"),
    "scored_at": ("timestamp", "time", "ts", "created_at", "updated_at", "evaluated_at", "datetime", "date"),
    "scale_max": ("max", "maximum", "max_value", "max_score", "out_of", "upper", "high", "scale"),
}
"""What the columns are called elsewhere, the most telling first."""
CONTRACT = "scores have the columns request_id or attempt_id, name, value, scale_min, scale_max, source, scored_at"
MOST_NAMES = 200
LISTED = 6
_CLOSE = 0.7
_TELLING = 4
"""A name from elsewhere that is part of a longer one (`judge_score`) says something from so many letters on."""
_PLAIN = re.compile(r"[\w.-]{1,40}")


@dataclass
class Columns:
    """The names that the records of one object were seen to have, until all that is needed is there."""

    names: dict[str, None] = field(default_factory=dict)
    is_complete: bool = False

    def add(self, names: Iterable[str]) -> None:
        """One more record."""
        if not self.is_complete:
            for name in names:
                if name in NAMES or len(self.names) < MOST_NAMES:
                    self.names[name] = None
            self.is_complete = not _missing(self.names)

    @property
    def complaint(self) -> str | None:
        """Why an object with these records holds no scores; None when it may, or holds no record."""
        if self.is_complete or not self.names:
            return None
        log = recognised(self.names)
        if log is not None:
            return f"holds log records ({log.name}) and no scores; {CONTRACT}"
        missing = _missing(self.names)
        labels = [" or ".join(f"`{name}`" for name in each) for each in missing]
        guesses = [found for each in missing if (found := _guess(each, self.names)) is not None]
        here = [name for name in self.names if _PLAIN.fullmatch(name)][:LISTED]
        has = f"; it has {', '.join(f'`{name}`' for name in here)}" if here else ""
        meant = f"; did you mean {', '.join(f'`{name}`' for name in dict.fromkeys(guesses))}?" if guesses else f"{has};"
        return f"no column{'s' if len(missing) > 1 else ''} {', '.join(labels)}{meant} {CONTRACT}"

    @property
    def scale_hint(self) -> str:
        """What to add to a score that lies outside its scale, where the object names the scale in a column of another name."""
        found = None if "scale_max" in self.names else _guess(("scale_max",), self.names)
        return "" if found is None else f"; did you mean scale_max by `{found}`?"


def problem_of(names: Iterable[str]) -> str | None:
    """Why a record with these names is no score, where another name of it may have been meant; None when nothing comes to mind."""
    return _problem(tuple(names)[:MOST_NAMES])


@lru_cache(maxsize=256)
def _problem(names: tuple[str, ...]) -> str | None:
    for missing in _missing(names):
        found = _guess(missing, names)
        if found is not None:
            return f"no column {' or '.join(f'`{name}`' for name in missing)}; did you mean `{found}`?"
    return None


def _missing(names: Iterable[str]) -> list[tuple[str, ...]]:
    there = set(names)
    return [each for each in NEEDED if not there.intersection(each)]


def _guess(missing: tuple[str, ...], names: Iterable[str]) -> str | None:
    """The name that is closest to a missing one, of those that are no columns of ours; None when none is close."""
    others = {_bare(name): name for name in reversed(list(names)) if name not in NAMES and _PLAIN.fullmatch(name)}
    for column in missing:
        wanted = [_bare(column), *map(_bare, MEANT[column])]
        for each in wanted:
            if each in others:
                return others[each]
        close = difflib.get_close_matches(_bare(column), others, n=1, cutoff=_CLOSE)
        held = (bare for each in wanted if len(each) >= _TELLING for bare in others if each in bare)
        found = next(iter((*close, *held)), None)
        if found is not None:
            return others[found]
    return None


def _bare(name: str) -> str:
    """Letters and digits alone: requestId, Request-ID and request_id are one name."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
