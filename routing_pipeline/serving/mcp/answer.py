"""What a tool gives: text for people, the result for programs, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """What a tool gives: text for people, the result for programs, and where it comes from."""

    text: str
    structured: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    """Window, snapshot, what was left out."""
    source: Literal["store", "computed"] = "store"
