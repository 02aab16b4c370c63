"""What the kinds of made-up traffic share that are drawn with everything each model would have given.

Belongs here: models by name, drawing today's choice, the truth that no log shows. Does not belong here: any one kind (`demo.agents`,
`demo.documents`, `demo.replies`, `demo.embeddings`), and the week that they come on top of (`demo.traffic`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.demo.traffic import ARMS, RULE_VERSION, WEEK_START, Arm, Floats, Ints

Flags = NDArray[np.bool_]
Texts = NDArray[np.object_]
ARM_OF = {arm.model: arm for arm in ARMS}


@dataclass(frozen=True)
class Options:
    """What each unit (a session of an agent, a request of the others) would give under each model: (unit, model).

    chosen: the model that today's router takes. cost, USD; calls; quality of what ends well. may: the model can serve it at all.
    """

    models: tuple[str, ...]
    task: Texts
    team: Texts
    complexity: Floats
    prompt_tokens: Floats
    has_image: Flags
    has_tools: Flags
    chosen: Ints
    cost: Floats
    calls: Floats
    quality: Floats
    may: Flags


@dataclass(frozen=True)
class Kind:
    """One kind of traffic as logged, with its truth; None: of what no rule decides."""

    attempts: pa.Table
    feedback: pa.Table | None
    options: Options | None


def of_each(arms: tuple[Arm, ...], name: str) -> Floats:
    """A field of some models."""
    values: Floats = np.array([getattr(arm, name) for arm in arms], dtype=np.float64)
    return values


def drawn_from(rng: np.random.Generator, probability: Floats) -> Ints:
    """The place that each row's probabilities give."""
    chosen: Ints = (probability.cumsum(axis=1) < rng.random(len(probability))[:, None]).sum(axis=1).clip(0, probability.shape[1] - 1)
    return chosen


def explored(preferred: Floats, share: float, may: Flags | None = None) -> Floats:
    """Probabilities of a router that has preferences, and sends a share anywhere that can serve."""
    can = np.ones(preferred.shape) if may is None else may.astype(np.float64)
    likely = preferred * can
    return np.asarray((1 - share) * likely / likely.sum(axis=1, keepdims=True) + share * can / can.sum(axis=1, keepdims=True))


def started_us(hours: Floats) -> Ints:
    """Microseconds since 1970 of hours of the week."""
    began: Ints = (WEEK_START.timestamp() * 1e6 + hours * SECONDS_PER_HOUR * 1e6).astype(np.int64)
    return began


def texts(values: list[str]) -> Texts:
    """As a column."""
    return np.array(values, dtype=object)


def named_by(names: tuple[str, ...], which: Ints) -> Texts:
    """A name for each place."""
    named: Texts = texts(list(names))[which]
    return named


def rule_tag(name: str, count: int) -> Texts:
    """The rule of today's gateway that decided."""
    return texts([f"{name}@{RULE_VERSION}"] * count)
