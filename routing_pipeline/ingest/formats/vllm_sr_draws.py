"""With what probability the vLLM Semantic Router chose the model of a replay record, where chance decided and the record says enough.

Belongs here: what of a record's diagnostics says that a draw decided, and what was drawn from. Does not belong here: the arithmetic
(`stats/highest_draw`), the columns of the format.

What the router does (`routing_sampling`, its default strategy of adaptation), by its source: for each candidate it draws from
Beta(1 + w q + good, 1 + w (1 - q) + underpowered), adds what is fixed (penalties for cost, overuse and failures, adjustments for latency
and cache, 0.001 for the base model), and proposes the highest, if that exceeds the base model by a margin of the candidate set and by
what it costs more. q and w are 0.5 and 2 unless the configuration gives a quality and nothing is known yet.

A record says of each candidate the mean of what was drawn from, the draw and all that was added, rounded to four places, but not how
many outcomes the mean rests on; without it (0.81 of 16, or of 1600) there is no probability. Newer versions estimate success beside it
(`success_estimates`), and there they count the outcomes of each candidate. The overprovisioned and failed ones among them follow from
their penalties, the rest are the good and the underpowered. So the probability is known where every candidate has such a count out of the
decision's own evidence, which is what was drawn from too. Whatever does not add up is left unknown.

It is known only where nothing overrides the draw afterwards: protection must be off, observing, without an identity, or without a model
that the session had before. A candidate that was never tried goes before all others (`cold_start`). LinUCB draws nothing, and linear
Thompson sampling does not record its variance.

`random` draws evenly; how many candidates there were only protection's `base_scores` say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

ROUNDED = 5e-5
"""Half of the last place that records keep."""
SUMMED = 8 * ROUNDED
"""What rounding may amount to in a sum of a record's eight numbers."""
FOR_BASE = 0.001
OVERUSE, FAILURE = 0.03, 0.10
"""Penalties where all outcomes were such."""
MARGINS = {"decision": 0.0, "tier": 0.03, "global": 0.08}
"""By candidate set: how much more than the base model its replacement must have."""
_ADDED = {"cost_penalty": -1, "overuse_penalty": -1, "reliability_penalty": -1, "latency_adjustment": 1, "cache_adjustment": 1}
_DRAWN = frozenset({"sampled_win", "base_best"})
_IDLE = frozenset({"observe", "bypass"})
_OPEN = frozenset({"previous_model", "session_context"})
"""Signals without which protection passes on whatever was proposed."""
_KEPT = 4096

Numbers = tuple[float, float, float, float]
"""Of a candidate: alpha, beta, what is added, its margin."""


def object_of(value: Any) -> Mapping[str, Any]:
    """An object as it is or as JSON text, as tables keep it; empty for anything else."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def word_of(value: Any) -> str:
    """A text; empty for anything else."""
    return value if isinstance(value, str) else ""


def number_of(value: Any) -> float | None:
    """A finite number; None for anything else, text included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def propensity(document: Mapping[str, Any]) -> float | None:
    """The probability with which the model of a record was chosen, given the base selector's choice; None where it is not known, or chance had no say."""
    learning, model = object_of(document.get("learning")), word_of(document.get("selected_model"))
    adaptation, protection = object_of(learning.get("adaptation")), object_of(learning.get("protection"))
    if not model or not _passes(protection, model):
        return None
    if adaptation and word_of(adaptation.get("mode")) == "apply":
        found = _of_sampling(adaptation, model)
    elif not adaptation or word_of(adaptation.get("mode")) in _IDLE:
        found = _of_even_draw(document, protection, model)
    else:
        found = None
    return found if found is not None and 0.0 < found < 1.0 else None


def _passes(protection: Mapping[str, Any], model: str) -> bool:
    """Whether protection passed on what was proposed, and would have passed on anything else."""
    if not protection or word_of(protection.get("mode")) in _IDLE:
        return True
    if protection.get("mode") != "apply":
        return False
    if protection.get("reason") == "missing_identity" and not protection.get("final_model"):
        return True
    missing = protection.get("missing_signals")
    return (
        isinstance(missing, list)
        and any(isinstance(each, str) and each in _OPEN for each in missing)
        and not protection.get("current_model")
        and not object_of(protection.get("rescue"))
        and protection.get("final_model") == model
    )


def _of_sampling(adaptation: Mapping[str, Any], model: str) -> float | None:
    base, margin = word_of(adaptation.get("base_model")), MARGINS.get(str(adaptation.get("candidate_set")))
    if (
        adaptation.get("strategy") != "routing_sampling"
        or object_of(adaptation.get("sampling")).get("used") is not True
        or word_of(adaptation.get("reason")) not in _DRAWN
        or adaptation.get("proposal_model") != model
        or margin is None
    ):
        return None
    scores, counted = object_of(adaptation.get("scores")), object_of(adaptation.get("success_estimates"))
    if scores.keys() != counted.keys() or model not in scores or base not in scores or len(scores) < 2:
        return None
    present = object_of(scores[base])
    names = sorted(scores)
    found = [_numbers(object_of(scores[name]), object_of(counted[name]), present, margin, is_base=name == base) for name in names]
    known = tuple(each for each in found if each is not None)
    if len(known) < len(found) or not _is_rule_followed(scores, known, names, base, model):
        return None
    return _chance(names.index(model), known, names.index(base))


def _numbers(
    score: Mapping[str, Any], estimate: Mapping[str, Any], base: Mapping[str, Any], margin: float, *, is_base: bool
) -> Numbers | None:
    """What was drawn from and added for one candidate; None where the record's numbers do not fit each other."""
    # Go leaves out what is 0; a mean never is.
    mean, drawn, total = (number_of(score.get(name, 0)) for name in ("posterior_mean", "predicted_quality", "score"))
    outcomes = number_of(estimate.get("sample_count", 0))
    parts = {name: number_of(score.get(name, 0)) for name in _ADDED}
    if mean is None or drawn is None or total is None or outcomes is None or None in parts.values():
        return None
    if estimate.get("evidence_scope") != "decision" or outcomes < 0 or outcomes != int(outcomes) or not 0 < mean < 1:
        return None
    added = math.fsum(sign * (parts[name] or 0.0) for name, sign in _ADDED.items()) + (FOR_BASE if is_base else 0.0)
    overused, failed = (
        _share(parts["overuse_penalty"] or 0.0, OVERUSE, outcomes),
        _share(parts["reliability_penalty"] or 0.0, FAILURE, outcomes),
    )
    if abs(drawn + added - total) > SUMMED or overused is None or failed is None or overused + failed > outcomes:
        return None
    told = outcomes - overused - failed
    weight = told + 4.0
    alpha = mean * weight
    # What was seen comes on top of 1 + w q: between 1 and 3 where q may be anything, 2 and a whole number where something was seen.
    if told == 0:
        fits = 1.0 - ROUNDED * weight <= alpha <= 3.0 + ROUNDED * weight
    else:
        fits = abs(alpha - round(alpha)) <= ROUNDED * weight + 1e-9 and 2 <= round(alpha) <= told + 2
    extra = max((parts["cost_penalty"] or 0.0) - (number_of(base.get("cost_penalty", 0)) or 0.0), 0.0)
    return (alpha, weight - alpha, round(added, 6), round(margin + extra, 6)) if fits else None


def _share(penalty: float, most: float, outcomes: float) -> float | None:
    """How many of the outcomes a penalty of `most` times their share stands for; None where no whole number does."""
    many = penalty * (outcomes + 1.0) / most
    if abs(many - round(many)) > ROUNDED * (outcomes + 1.0) / most + 1e-9 or round(many) < 0:
        return None
    return float(round(many))


def _is_rule_followed(scores: Mapping[str, Any], known: tuple[Numbers, ...], names: list[str], base: str, model: str) -> bool:
    """Whether the recorded draws lead to the recorded proposal, but for ties that rounding made: else another rule decided."""
    drawn = {name: number_of(object_of(scores[name]).get("score")) or 0.0 for name in names}
    highest = max(drawn.values())
    best = [name for name in names if drawn[name] >= highest - 2 * ROUNDED - 1e-9]
    asked = {name: drawn[base] + known[names.index(name)][3] for name in best}
    if model != base:
        return model in best and drawn[model] >= asked[model] - SUMMED
    return any(name == base or drawn[name] < asked[name] + SUMMED for name in best)


def _of_even_draw(document: Mapping[str, Any], protection: Mapping[str, Any], model: str) -> float | None:
    route = object_of(document.get("route_diagnostics"))
    methods = (document.get("selection_method"), route.get("selection_method"), protection.get("base_method"))
    scores = object_of(protection.get("base_scores"))
    if "random" not in methods or protection.get("base_selected_model") != model or model not in scores:
        return None
    even = 1.0 / len(scores)
    return even if all(abs((number_of(each) or 0.0) - even) < ROUNDED for each in scores.values()) else None


@lru_cache(maxsize=_KEPT)
def _chance(chosen: int, candidates: tuple[Numbers, ...], present: int) -> float:
    # SciPy is loaded by whoever reads such records, not by everybody who reads a log.
    from routing_pipeline.stats.highest_draw import Candidate, chance_of

    return chance_of(chosen, [Candidate(*each) for each in candidates], present)
