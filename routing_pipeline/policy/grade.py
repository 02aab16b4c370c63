"""How far the logs allow conclusions about choices not made: the grade of the evidence, and what it rests on, in words.

Belongs here: the grade, whether logged propensities can be those of the choices. Does not belong here: the tests of logged columns
(`policy.steering`), estimates (`policy.scores`).

A: the router's own probabilities are logged. B: what decides is logged as far as anything logged can tell: every logged column was
tested, and those that steer are part of the context. C: something that steers is not, or cannot be told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from routing_pipeline.policy.binning import Binning
from routing_pipeline.policy.cells import Cells, Floats, sum_by
from routing_pipeline.policy.evidence_model import ConfoundingAudit, PropensityCheck, SteeringTest
from routing_pipeline.rules.model import Grade
from routing_pipeline.text import counted
from routing_pipeline.window.scope import CLUSTERS

CHECK_TOLERANCE = 0.10
MIN_SEEN = 5
"""Requests of a model in one half of the sessions from which on the other half is expected to see it in that context."""
CAUGHT_BY_HARDNESS = 0.1
"""How far answers may differ between values of a column that steers; their product with its spread is what it may flatter."""
HIDDEN_BIAS: dict[Grade, float] = {"A": 0.0, "B": 0.0, "C": 0.01}
"""By how much unlogged difficulty may flatter moved requests, on average, without undoing the quality limit, by grade.

Where the logs lack what routers go by, such flattery is to be expected and not merely possible.
"""
_OWN_NAMES = {"team": "team", "user": "user", "prompt_tokens": "prompt length", "tier": "router tier"}
"""What configurations call the columns that are tested."""
_ROUTERS_OWN = ("router tier", "router score")


def hidden_bias(grade: Grade, steering: Sequence[SteeringTest]) -> float:
    """What the quality limit keeps to spare on every moved request: more where a column steers and is not corrected for."""
    left = max((each.spread for each in steering if each.verdict == "steers"), default=0.0)
    return 0.0 if grade == "A" else max(HIDDEN_BIAS[grade], CAUGHT_BY_HARDNESS * left)


def tested_in_words(steering: Sequence[SteeringTest]) -> str:
    """What was tested beside task type and level, and what came of it; empty where nothing could be."""
    if not steering:
        return ""

    def names(*verdicts: str) -> str:
        return ", ".join(each.column for each in steering if each.verdict in verdicts)

    said = [f"Tested beside task and complexity: {', '.join(each.column for each in steering)}."]
    if corrected := names("corrected for"):
        said.append(f"Today's routing goes by {corrected} as well, and the evidence corrects for that.")
    if left := names("steers"):
        said.append(f"Today's routing goes by {left} as well, for which the evidence cannot correct.")
    if slight := names("slight"):
        said.append(f"It follows {slight} too little to matter.")
    if names("no sign"):
        said.append("Of the others it shows no sign." if len(said) > 1 else "Of none of them it shows a sign.")
    return " ".join(said)


def held_by(binning: Binning, steering: Sequence[SteeringTest]) -> set[str]:
    """What the context corrects for, or what was tested and does not steer, by the names that configurations use."""
    held = {"chance"} | ({"task_type"} if binning.tasks_logged else set()) | ({binning.axis} if binning.axis != "none" else set())
    if binning.axis == "complexity" and binning.lengths > 1:
        held.add("prompt_tokens")
    fine = {each.column for each in steering if each.verdict != "steers"}
    return held | {name for name, column in _OWN_NAMES.items() if column in fine}


def grade_of(
    cells: Cells,
    *,
    weights_match: bool,
    router_inputs: frozenset[str] = frozenset(),
    steering: Sequence[SteeringTest] = (),
    audit: ConfoundingAudit | None = None,
) -> tuple[Grade, str]:
    """The grade with its reason.

    Args:
        cells: of the window.
        weights_match: the logged propensities are those of the choices.
        router_inputs: all that the router decides by, where its owner has said so; else task type and complexity are taken for it.
        steering: what was tested beside them.
        audit: what the requests whose probability is known tell of the others.
    """
    binning = cells.binning
    if weights_match and cells.knows_weights:
        return "A", "The router's own probabilities are logged and agree with what it chose."
    tested = _joined(tested_in_words(steering), "" if audit is None or audit.verdict == "cannot tell" else audit.told)
    if audit is not None and audit.verdict == "differ":
        return "C", f"{tested} Results are worth an A/B test at most."
    left = [each.column for each in steering if each.verdict == "steers"]
    lacking = sorted(router_inputs - held_by(binning, steering))
    if lacking:
        return "C", (
            f"The router decides by {', '.join(lacking)} too, as the configuration says, for which the evidence cannot correct; harder requests "
            "may hide behind equal-looking ones. Results are worth an A/B test at most."
        )
    if left:
        return "C", f"{tested} Harder requests may hide behind equal-looking ones. Results are worth an A/B test at most."
    if router_inputs:
        return "B", _joined(
            f"The router decides by {', '.join(sorted(router_inputs))}, as the configuration says, and the evidence corrects for that; "
            "that nothing else decides cannot be tested without random routing.",
            tested,
            "Results are worth an A/B test.",
        )
    own = [each.column for each in steering if each.column in _ROUTERS_OWN and each.verdict == "corrected for"]
    if binning.tasks_logged and (binning.axis == "complexity" or own):
        decides = "complexity" if binning.axis == "complexity" else f"its own {own[0].removeprefix('router ')}"
        return "B", _joined(
            f"The router decides by task type and {decides}, which are logged.",
            tested,
            "That nothing unlogged influences it is assumed and cannot be tested without random routing. Results are worth an A/B test.",
        )
    missing = [name for name, has in (("task type", binning.tasks_logged), ("complexity", binning.axis == "complexity")) if not has]
    return "C", _joined(
        f"The router may have used fields that are not logged ({' and '.join(missing)} not logged); harder requests may hide behind "
        "equal-looking ones.",
        tested,
        "Results are worth an A/B test at most.",
    )


def _joined(*sentences: str) -> str:
    return " ".join(each for each in sentences if each)


def steering_warning(steering: Sequence[SteeringTest]) -> list[str]:
    """What steers and is not corrected for, so that nobody has to look for it."""
    left = [each for each in steering if each.verdict == "steers"]
    if not left:
        return []
    named = ", ".join(f"{each.column} ({100 * each.spread:.0f} %)" for each in left)
    return [
        (
            f"Today's routing follows {counted(len(left), 'logged column')} that the evidence cannot correct for: {named}; in brackets, by how much a model's "
            "share typically differs between its values. Moved requests may be harder or easier than they look, and every limit on quality "
            "was held with that much more to spare."
        )
    ]


def audit_warning(audit: ConfoundingAudit | None) -> list[str]:
    """That something hidden steers the router, so that nobody has to look for it."""
    return [] if audit is None or audit.verdict != "differ" else [audit.told]


def propensity_check(cells: Cells) -> tuple[PropensityCheck, ...]:
    """Whether 1 / logged propensity adds up to the requests of the contexts where a model may be chosen (Horvitz and Thompson 1952).

    Where one half of the sessions has seen a model MIN_SEEN times it may be chosen, and the other half's sum of 1 / p over requests sent to it
    estimates that half's requests: looking where it was seen often in the same requests would find too many of them. Off by
    more than CHECK_TOLERANCE and three standard errors, clustered by session and at least those that the probabilities let expect, the numbers are not the probabilities of these choices.
    """
    if cells.weighted is None:
        return ()
    binning = cells.binning
    reach = cells.is_logged & (cells.level < binning.levels) & (cells.task < len(binning.tasks))
    contexts, arms = len(binning.tasks) * binning.levels, len(binning.models) + 1
    context, cluster, arm = (cells.task * binning.levels + cells.level)[reach], cells.cluster[reach], cells.arm[reach]
    n, weight = cells.sums["n"][reach], cells.weighted["n"][reach]
    half = (cluster % 2).astype(np.int64)
    seen: Floats = sum_by((half, context, arm), n, (2, contexts, arms))
    found = []
    for place, model in enumerate(binning.models):
        may = seen[1 - half, context, place] >= MIN_SEEN
        own = may & (arm == place)
        of = np.bincount(cluster[may], n[may], minlength=CLUSTERS)
        total = np.bincount(cluster[own], weight[own], minlength=CLUSTERS)
        if of.sum() == 0 or total.sum() == 0:
            continue
        ratio = float(total.sum() / of.sum())
        error = math.sqrt(float(((total - ratio * of) ** 2).sum())) / float(of.sum())
        sent = float(n[own].sum())
        # Few requests happen to vary little, and those that are not there not at all: at least what 1 / p lets expect, sum (1 - p) / p.
        error = max(error, math.sqrt(float(of.sum()) * max(float(total.sum()) / sent - 1.0, 0.0)) / float(of.sum()))
        found.append(
            PropensityCheck(
                model=model,
                observed_share=sent / float(of.sum()),
                mean_propensity=min(sent / float(total.sum()), 1.0),
                matches=bool(abs(ratio - 1.0) <= CHECK_TOLERANCE + 3 * error),
            )
        )
    return tuple(found)
