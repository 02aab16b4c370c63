"""What each half of the sessions would do by itself: who speaks of a proposal later proves it as it was proven.

Belongs here: writing a pair down by kind of request, and reading it back. Does not belong here: what follows of a pair
(`policy.pairs`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from routing_pipeline.estimates import Result
from routing_pipeline.policy.halves import Halves
from routing_pipeline.policy.pairs import Pair, paired
from routing_pipeline.policy.scores import ScoreCube
from routing_pipeline.text import LogName


class HalfChoice(Result):
    """One kind of request that at least one half would move."""

    segment: str = Field(description="Id of the kind of request, as in the evidence")
    first: LogName | None = Field(description="What was learnt on the first half of the sessions; null: leave it as it is")
    second: LogName | None = Field(description="What was learnt on the second half")


def told_by_half(cube: ScoreCube, pair: Pair) -> tuple[HalfChoice, ...]:
    """A pair, in the order of the segments."""
    names = (*cube.models, None)
    return tuple(
        HalfChoice(segment=segment.id, first=names[one], second=names[other])
        for segment, one, other in zip(cube.segments, pair.first, pair.second, strict=True)
        if (one, other) != (cube.keep, cube.keep)
    )


def pair_of(halves: Halves, told: Sequence[HalfChoice], *, single: bool) -> Pair | None:
    """The pair that was told; None where the cube knows other kinds of request or models."""
    cube = halves.first
    by_id = {each.segment: each for each in told}
    arms: dict[str | None, int] = {name: arm for arm, name in enumerate(cube.models)} | {None: cube.keep}
    known = {segment.id for segment in cube.segments}
    if not by_id or not known.issuperset(by_id) or not all(each.first in arms and each.second in arms for each in told):
        return None

    def of(name: str) -> list[int]:
        return [arms[getattr(by_id[segment.id], name)] if segment.id in by_id else cube.keep for segment in cube.segments]

    return paired(halves, of("first"), of("second"), single=single)
