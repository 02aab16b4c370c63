"""Dictionaries and lists as Python prints them, where JSON was meant: `str()` of metadata, a table's columns written by pandas.

Belongs here: telling such a text and writing it as JSON. Does not belong here: where it may stand.
"""

from __future__ import annotations

import ast
import json

_OPENS = ("{'", "['", "[{'", "{}", "[]")
LONGEST = 1 << 20
"""Longer texts stay as they are: what is read of a log's labels and counts is short."""


def as_json(text: str) -> str | None:
    """The same as JSON; None where the text is nothing that Python prints so."""
    if not text.startswith(_OPENS) or len(text) > LONGEST:
        return None
    try:
        return json.dumps(ast.literal_eval(text))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
