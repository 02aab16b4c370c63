"""What an analysis may answer with: an estimate with its interval, or why it cannot tell.

Belongs here: the result base class, `Estimate`, `Unidentifiable`, and the units of fields. Does not belong here: where an
interval comes from (`stats.inference`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from routing_pipeline.frames import frame_of

if TYPE_CHECKING:
    from routing_pipeline.frames import Frame

LEVEL: float = 0.95


class Result(BaseModel):
    """A finished answer: frozen, finite, with nothing in it that its schema does not describe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    main_table: ClassVar[str | None] = None
    """The table that `to_pandas` gives when none is named."""

    def to_pandas(self, table: str | None = None) -> Frame:
        """One of the result's tables, the main one unless another is named; its columns are those that `frames.frame_of` describes.

        Raises:
            UnusableInputError: there is no such table; the message names those that there are.
        """
        return frame_of(self, table or self.main_table)


class Estimate(Result):
    """A number and the interval that holds the truth in `level` of repetitions."""

    estimate: float = Field(description="Point estimate, in the unit of the field that holds it")
    low: float = Field(description="Lower end of the interval")
    high: float = Field(description="Upper end of the interval")
    level: float = Field(default=LEVEL, description="Coverage the interval is built for")
    degrees: float | None = Field(
        default=None,
        description="Degrees of freedom of Student's t that the interval was taken from; missing: the normal distribution",
        exclude_if=lambda value: value is None,
    )

    def scaled(self, factor: float) -> Estimate:
        """The same estimate in another unit; `factor` may be negative."""
        ends = sorted((self.low * factor, self.high * factor))
        return self.model_copy(update={"estimate": self.estimate * factor, "low": ends[0], "high": ends[1]})

    def shifted(self, by: float) -> Estimate:
        """The same estimate from another zero."""
        return self.model_copy(update={"estimate": self.estimate + by, "low": self.low + by, "high": self.high + by})

    def within(self, least: float, most: float) -> Estimate:
        """The same estimate of what cannot lie outside [least, most]: its ends cut, and never beyond the estimate itself."""
        low, high = min(max(self.low, least), self.estimate), max(min(self.high, most), self.estimate)
        return self.model_copy(update={"low": low, "high": high})


class Unidentifiable(Result):
    """The honest answer when the logs cannot tell."""

    unidentifiable: str = Field(description="Why the logs cannot tell, and what would let them")


Measured = Annotated[Estimate | Unidentifiable, Field(union_mode="left_to_right")]

Known = Annotated[float | Unidentifiable, Field(union_mode="left_to_right")]
"""A number that is counted and not estimated (a sum over the window's rows); or why it could not be counted."""


def quantity(description: str, unit: str, **kwargs: Any) -> Any:
    """A pydantic field that states what it holds and in which unit; both reach the JSON Schema."""
    return Field(description=description, json_schema_extra={"unit": unit}, **kwargs)
