"""The demo's week: the traffic that is routed request by request, and beside it agents, questions with pictures, a team that steers, embeddings.

Belongs here: how much there is of each. Does not belong here: what any of them is like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from routing_pipeline.demo.agents import agents
from routing_pipeline.demo.documents import documents
from routing_pipeline.demo.embeddings import embeddings
from routing_pipeline.demo.kinds import Kind
from routing_pipeline.demo.replies import replies
from routing_pipeline.demo.traffic import Traffic, traffic

_KINDS: Mapping[str, tuple[float, Callable[[np.random.Generator, int, int], Kind]]] = {
    "agents": (0.10, agents),
    "documents": (0.05, documents),
    "replies": (0.05, replies),
    "embeddings": (0.02, embeddings),
}
"""Share of the week's requests, and who draws them."""


@dataclass(frozen=True)
class Week:
    """All of it as logged, and by kind with what the logs do not show."""

    traffic: Traffic
    kinds: Mapping[str, Kind]


def week(requests: int = 200_000, seed: int = 20261116) -> Week:
    """Draw a week of so many client requests. Same arguments, same week, to the byte."""
    kinds = {
        name: draw(np.random.default_rng([seed, place]), max(round(share * requests), 10), seed)
        for place, (name, (share, draw)) in enumerate(_KINDS.items())
    }
    rest = traffic(requests - sum(each.attempts.num_rows for each in kinds.values()), seed)
    attempts = pa.concat_tables([rest.attempts, *(each.attempts for each in kinds.values())])
    feedback = pa.concat_tables([rest.feedback, *(each.feedback for each in kinds.values() if each.feedback is not None)])
    order = np.argsort(attempts["started_at"].cast(pa.int64()).to_numpy(), kind="stable")
    return Week(Traffic(attempts.take(pa.array(order)), feedback), kinds)
