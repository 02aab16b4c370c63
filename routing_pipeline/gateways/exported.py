"""What an export writes: files, notes, and what changes against what runs.

Belongs here: writing them together, the comparison, YAML that keeps comments and order. Does not belong here: what stands in them.
"""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.storage.files import write_whole

LAYOUTS = ((2, 2, 0), (2, 4, 2), (4, 4, 2), (4, 4, 0), (4, 6, 4))
"""Spaces before a key, before an entry of a list, and before its dash: as people write YAML."""
WIDTH = 4096


@dataclass(frozen=True)
class Exported:
    """Files by name; the first is the gateway's own configuration."""

    files: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def written(self, out: Path) -> list[Path]:
        """Write them at `out`: a file of that name where it has an ending, else a folder; the others beside the first.

        Raises:
            UnusableInputError: the place cannot be written to.
        """
        main, *others = self.files
        first = out if out.suffix and not out.is_dir() else out / main
        paths = [first, *(first.parent / name for name in others)]
        try:
            first.parent.mkdir(parents=True, exist_ok=True)
            # The configuration last: it names the others.
            for path, content in reversed(list(zip(paths, self.files.values(), strict=True))):
                write_whole(path, content.encode())
        except OSError as error:
            raise UnusableInputError(f"--out {out}: {error.strerror}; give a file or folder that can be written to") from error
        return paths

    def changes(self, current: Path, text: str) -> str:
        """What changes in the file that runs, as a unified diff; empty when nothing does."""
        main, content = next(iter(self.files.items()))
        lines = difflib.unified_diff(text.splitlines(keepends=True), content.splitlines(keepends=True), str(current), f"{main} (exported)")
        return "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)


def json_text(content: Any) -> str:
    """JSON as it is written everywhere: the same content, the same bytes."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain_number(value: float) -> float | int:
    """A weight or share without what sums of floating-point numbers leave over; whole numbers without a point."""
    rounded = round(value, 12)
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 2**53 else rounded


def plain_end(value: float) -> float | int:
    """An end of a range to its last digit, whole numbers without a point: a request that lies at the end is on one side of it everywhere."""
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def part_of(content: Any, name: str, empty: Any) -> Any:
    """A part of a configuration; made where it is missing, and where its name stands alone (`router_settings:`), which is no value in YAML."""
    if content.get(name) is None:
        content[name] = empty
    return content[name]


@contextmanager
def laid_out(what: str) -> Iterator[None]:
    """Whoever goes through a configuration goes by its layout; one whose parts are of other kinds is refused.

    Raises:
        UnusableInputError: a part is missing, or is of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
        raise UnusableInputError(
            f"{what}: is not laid out as this gateway's configurations are ({type(error).__name__}: {error})"
        ) from error


def read_json(text: str, what: str) -> Any:
    """JSON of a gateway.

    Raises:
        UnusableInputError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableInputError(f"{what}: is no JSON; give the configuration that the gateway runs with") from error


def read_yaml(text: str, what: str) -> Any:
    """YAML of a gateway, with its comments and order; aliases are followed.

    Raises:
        UnusableInputError: it is none.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    try:
        return yaml.load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        first = (str(error).strip().splitlines() or ["cannot be read"])[0]
        raise UnusableInputError(f"{what}: is no YAML ({first[:100]}); give the configuration that the gateway runs with") from error


def put_comments_behind(listed: Any) -> None:
    """Comments and blank lines after a list are read as of its last value, and would go where that goes; they are put behind the list."""
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    last = listed
    while True:
        place = next(reversed(last), None) if isinstance(last, dict) else len(last) - 1
        inner: Any = None if place in (None, -1) else last[place]
        if not hasattr(inner, "fa") or not inner or inner.fa.flow_style():
            break
        last = inner
    tokens = last.ca.items.get(place) or []
    token = next((each for each in tokens if isinstance(each, CommentToken) and "\n" in each.value), None)
    if token is not None:
        of_value, _, behind = token.value.partition("\n")
        token.value = of_value + "\n"
        if behind:
            # Without this, ruamel does not look for what is behind.
            listed.ca.comment = listed.ca.comment or [None, None]
            listed.ca.end = [CommentToken(behind, CommentMark(0), None), *(listed.ca.end or [])]


def plain_copy(content: Any) -> Any:
    """A part of a YAML file as plain values: a copy that names no anchor again, and says itself what it took over from another part."""
    if isinstance(content, dict):
        return {plain_copy(name): plain_copy(value) for name, value in content.items()}
    if isinstance(content, list):
        return [plain_copy(each) for each in content]
    kind = next((kind for kind in (bool, int, float, str) if isinstance(content, kind)), None)
    return content if kind is None else kind(content)


def yaml_text(content: Any, like: str = "") -> str:
    """YAML, laid out as `like` is."""
    layout = LAYOUTS[0] if not like else min(LAYOUTS, key=lambda each: _lines_changed(like, each))
    return _dumped(content, layout)


def _lines_changed(text: str, layout: tuple[int, int, int]) -> int:
    again = _dumped(read_yaml(text, "the current configuration"), layout)
    return sum(1 for line in difflib.ndiff(text.splitlines(), again.splitlines()) if line[:1] in "+-") if again != text else 0


def _dumped(content: Any, layout: tuple[int, int, int]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    # `[{a: b}]` is the same without its braces, but no longer what somebody wrote.
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.indent(mapping=layout[0], sequence=layout[1], offset=layout[2])
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()
