"""The ways in which a request to the pipeline can end badly, each with the exit code that the command line promises.

Belongs here: exceptions that a user should read as one line. Does not belong here: bugs (let those raise what they raise)
and records that cannot be used (those are quarantined, see `ingest`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import ClassVar

LONGEST_WORD = 200
NEAR = 0.6
"""How alike two words are, 0..1, before one is offered for the other."""
_KINDS = {"dictionary": "a table", "tuple": "a list", "list": "a list", "string": "text", "boolean": "true or false"}
_OF_A_KIND = re.compile(rf"a valid ({'|'.join(_KINDS)})( or instance of \w+)?")
_PLAINER = {"Field required": "is missing", "Extra inputs are not permitted": "is not known here"}


def complaint(said: str) -> str:
    """A validation error of pydantic's without its turns of phrase; it follows the name of what it is about."""
    said = said.removeprefix("Value error, ")
    return _PLAINER.get(said) or _OF_A_KIND.sub(lambda found: _KINDS[found[1]], re.sub(r"^\w+ should ", "must ", said))


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """` (did you mean 'code'?)` for the known word that is nearest to one that was given; empty where none is near."""
    near = nearest(given, known)
    return "" if near is None else f" (did you mean '{near}'?)"


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known word that is most like one that was given, whatever its case; None where none is like it."""
    spelt = {each.casefold(): each for each in sorted(known)}
    found = difflib.get_close_matches(given[:LONGEST_WORD].casefold(), spelt, n=1, cutoff=NEAR)
    return spelt[found[0]] if found else None


class PipelineError(Exception):
    """Ends a command with one line on stderr: what happened and what to do."""

    exit_code: ClassVar[int] = 1


class UnusableInputError(PipelineError):
    """The request or the input cannot be used; asking again in the same way will not help."""

    exit_code = 2


class DataQualityError(PipelineError):
    """A blocking data-quality check failed; nothing was published."""

    exit_code = 3


class ServiceUnavailableError(PipelineError):
    """A needed service could not be reached; asking again later may help."""

    exit_code = 4
