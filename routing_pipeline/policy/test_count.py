"""How often the held-out half of the same rows was asked: each question after the first is held to a stricter level.

Belongs here: numbering the questions in the order in which they come, also when several come at once. Does not belong here:
what a question is (`recommendation.routing_rules`), what its number costs (`policy.proof`).

A number is claimed by writing under it first: of two who claim the same one, one finds the other's question there and claims
the next. Not kept with the results, which are dropped after a while: a look that was forgotten would be had twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from routing_pipeline.storage.locks import Coordination
from routing_pipeline.storage.results import key_of


def look(coordination: Coordination, rows_key: str, question: Mapping[str, Any]) -> int:
    """Which look at the same held-out sessions a question is, from 1; asked again, it is the same look."""
    asked = key_of(**question)
    return next(number for number in count(1) if coordination.write_first(f"looks/{rows_key}/{number}", asked) == asked)
