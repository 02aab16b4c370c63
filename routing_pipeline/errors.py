"""The ways in which a request to the pipeline can end badly, each with the exit code that the command line promises.

Belongs here: exceptions that a user should read as one line. Does not belong here: bugs (let those raise what they raise)
and records that cannot be used (those are quarantined, see `ingest`).
"""

from __future__ import annotations

import re
from typing import ClassVar

_PLAINER = {"Field required": "is missing", "Extra inputs are not permitted": "is not known here"}


def complaint(said: str) -> str:
    """A validation error of pydantic's without its turns of phrase; it follows the name of what it is about."""
    said = said.removeprefix("Value error, ")
    return _PLAINER.get(said) or re.sub(r"^\w+ should ", "must ", said)


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
