"""Whether a model may serve a kind of request, or why not.

Belongs here: what each model of the window can, out of the list, the logs and the user's word; the verdict on a kind; how many
requests each model could not have served. Does not belong here: where these come from (`capabilities`, `learned`, `allowed`),
where tasks are cut (`needs`).

What is not known to be met is not met. Of needs of which the logs carry no sign nothing is asked, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import ibis
from pydantic import Field

from routing_pipeline.catalog import family_of
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.feasibility.allowed import forbidden
from routing_pipeline.feasibility.capabilities import CapabilityList
from routing_pipeline.feasibility.learned import MIN_SPECIFIC, Lessons, ShownByErrors, lengths_answered
from routing_pipeline.feasibility.needs import NEEDS, Need, TaskNeeds, column_of
from routing_pipeline.parameters import Parameters, RoutingPolicy
from routing_pipeline.text import LogName

NEED_IN_WORDS: Mapping[str, str] = {"image": "images", "audio": "audio", "tools": "tools", "schema": "structured output"}
PARTLY_LOGGED = "Every model can serve every request that needs {needs}: the logs do not say which do."
NOT_LOGGED = "Every model can serve every request: the logs do not say which requests carry images or audio, offer tools or ask for structured output."


@dataclass(frozen=True)
class Target:
    """One model of the window. cannot: needs that it does not meet, and why; prompts_below: prompts must be shorter, tokens.

    answers: a length of prompt that it was seen to take, where no limit is known. same_as: the model behind its name, whoever serves it
    and whichever version.
    """

    model: str
    cannot: Mapping[Need, str]
    prompts_below: float | None = None
    answers: float | None = None
    most_output: int | None = None
    provider: str | None = None
    region: str | None = None
    same_as: str = ""


@dataclass(frozen=True)
class Kind:
    """Requests that a rule can name. needs: those that they have, or may have; longest: of their prompts and of the answers asked for.

    long_from: the length from which on prompts of a task are apart; None: they are not, or these are the shorter ones.
    """

    task_type: str
    needs: tuple[Need, ...] = ()
    longest_prompt: float = 0.0
    longest_answer: float = 0.0
    long_from: float | None = None


class Shortfall(Result):
    """One reason for which a model cannot serve requests of the window."""

    need: str = Field(description="image, audio, tools, schema or prompt (its length)")
    why: str
    requests: int = quantity("Final requests of the window that it could not have served for this reason", "requests")


class ModelFeasibility(Result):
    """What of the window's requests one model could not have served."""

    model: LogName
    shortfalls: tuple[Shortfall, ...] = ()
    infeasible_requests: int = quantity("Final requests that it could not have served, for any reason", "requests")
    infeasible_share: float = quantity("Of all final requests", "0..1")
    prompts_below: float | None = quantity("Prompts must be shorter than this; null where no limit is known", "tokens", default=None)

    def scaled(self, factor: float) -> ModelFeasibility:
        """Of so many times the requests."""
        parts = tuple(each.model_copy(update={"requests": round(each.requests * factor)}) for each in self.shortfalls)
        return self.model_copy(update={"shortfalls": parts, "infeasible_requests": round(self.infeasible_requests * factor)})


def why_not(target: Target, kind: Kind, policy: RoutingPolicy) -> str | None:
    """Why a model may not serve a kind of request; None when it may."""
    said = forbidden(policy, kind.task_type, target.model, target.provider, target.region)
    if said is not None:
        return said
    for need in kind.needs:
        if need in target.cannot:
            return target.cannot[need]
    if kind.long_from is not None and target.prompts_below is None and (target.answers is None or target.answers < kind.long_from):
        return "how long its prompts may be is not known"
    if target.prompts_below is not None and kind.longest_prompt >= target.prompts_below:
        return f"prompts here have up to {kind.longest_prompt:,.0f} tokens, and it takes fewer than {target.prompts_below:,.0f}"
    if target.most_output is not None and kind.longest_answer > target.most_output:
        return f"answers of up to {kind.longest_answer:,.0f} tokens are asked for here, and it gives at most {target.most_output:,}"
    return None


def targets_of(attempts: ibis.Table, parameters: Parameters, lessons: Lessons, longest_answer: float) -> dict[str, Target]:
    """Every model of the window with what it can; one aggregate over attempts for who serves it."""
    file = None if parameters.capabilities is None else Path(parameters.capabilities.path)
    listed = CapabilityList(parameters.models, file)
    return {
        model: _target(model, *served, parameters, listed, lessons, longest_answer) for model, served in sorted(_served(attempts).items())
    }


def with_limits_shown(
    targets: Mapping[str, Target], attempts: ibis.Table, errors: ShownByErrors, longest_prompt: float
) -> dict[str, Target]:
    """Targets with the length of prompts that errors show, where no list has it and a model refused some for their length.

    Where that, or a list, cuts off some of the window's prompts, the other models are asked what they are seen to take.
    """
    open_ = [model for model, each in targets.items() if each.prompts_below is None]
    refusing = {model for model in open_ if errors.over_length(model) >= MIN_SPECIFIC}
    if not refusing and not any(each.prompts_below is not None and each.prompts_below <= longest_prompt for each in targets.values()):
        return dict(targets)
    seen = lengths_answered(attempts, open_)
    found = dict(targets)
    for model in open_:
        if model in refusing and model in seen:
            found[model] = replace(targets[model], prompts_below=seen[model] + 1.0)
        elif model not in refusing:
            found[model] = replace(targets[model], answers=seen.get(model))
    return found


def target_named(model: str, parameters: Parameters, longest_answer: float = 0.0) -> Target:
    """A model that the window has not seen, as the list and the user have it."""
    file = None if parameters.capabilities is None else Path(parameters.capabilities.path)
    return _target(model, None, None, parameters, CapabilityList(parameters.models, file), {}, longest_answer)


def _served(attempts: ibis.Table) -> dict[str, tuple[str | None, str | None]]:
    """By model its commonest provider and provider_model."""
    keys = [name for name in ("provider", "provider_model") if name in attempts.columns]
    counted = attempts.group_by("model", *keys).agg(n=attempts.count()).to_pyarrow().to_pylist()
    found: dict[str, tuple[str | None, str | None]] = {}
    for row in sorted(counted, key=lambda each: (-each["n"], str(each.get("provider")), str(each.get("provider_model")))):
        found.setdefault(row["model"], (row.get("provider"), row.get("provider_model")))
    return found


def _target(
    model: str,
    provider: str | None,
    provider_model: str | None,
    parameters: Parameters,
    listed: CapabilityList,
    lessons: Lessons,
    longest_answer: float,
) -> Target:
    override = parameters.models.get(model)
    can = listed.of(model, provider=provider, provider_model=provider_model)
    cannot: dict[Need, str] = {}
    for need in NEEDS:
        own = None if override is None else getattr(override, "schema_" if need == "schema" else need)
        lesson = lessons.get((model, need))
        taught = None if lesson is None else lesson.able
        able = next((each for each in (own, taught, getattr(can, need)) if each is not None), None)
        if able:
            continue
        words = NEED_IN_WORDS[need]
        if own is None and taught is False and lesson is not None:
            cannot[need] = f"it refused {lesson.refusals:,} of {lesson.refusals + lesson.successes:,} requests with {words}"
        else:
            cannot[need] = f"it does not take {words}" if able is False else f"that it takes {words} is not known"
    answer = min(longest_answer, can.output_tokens or longest_answer)
    room = [limit for limit in (can.input_tokens, None if can.context_tokens is None else can.context_tokens - answer) if limit is not None]
    return Target(
        model=model,
        cannot=cannot,
        prompts_below=None if not room else max(min(room), 0.0) + 1.0,
        most_output=can.output_tokens,
        provider=(override.provider if override is not None and override.provider else provider),
        region=None if override is None else override.region,
        same_as=family_of((None if override is None else override.provider_model) or provider_model or model),
    )


def unmet(targets: Iterable[Target]) -> frozenset[Need]:
    """Needs that one of the models does not meet."""
    return frozenset(need for each in targets for need in each.cannot)


def feasibility_of(final: ibis.Table, targets: Mapping[str, Target], by_task: Mapping[str, TaskNeeds]) -> tuple[ModelFeasibility, ...]:
    """How many of the window's final requests each model could not have served; one aggregate."""
    logged = [need for need in NEEDS if any(each.logged[need] for each in by_task.values())]
    n = sum(each.requests for each in by_task.values())
    sums: dict[str, Any] = {}
    for place, target in enumerate(targets.values()):
        parts = _unserved(final, target, logged)
        sums |= {f"n_{place}_{need}": part.sum().fill_null(0) for need, part in parts.items()}
        if parts:
            sums[f"n_{place}"] = reduce(or_, parts.values()).sum().fill_null(0)
    row = final.agg(**sums).to_pyarrow().to_pylist()[0] if sums else {}
    found = []
    for place, target in enumerate(targets.values()):
        counts = {need: int(row.get(f"n_{place}_{need}") or 0) for need in (*NEEDS, "prompt")}
        found.append(
            ModelFeasibility(
                model=target.model,
                shortfalls=tuple(Shortfall(need=need, why=_why(target, need), requests=count) for need, count in counts.items() if count),
                infeasible_requests=int(row.get(f"n_{place}") or 0),
                infeasible_share=int(row.get(f"n_{place}") or 0) / max(n, 1),
                prompts_below=target.prompts_below,
            )
        )
    return tuple(found)


def _why(target: Target, need: str) -> str:
    return next(
        (why for each, why in target.cannot.items() if each == need),
        f"it takes prompts of fewer than {target.prompts_below or 0:,.0f} tokens",
    )


def why_cannot(target: Target, needs: Iterable[Need]) -> str:
    """What of these needs a model does not meet, and how long its prompts may be."""
    said = [target.cannot[need] for need in needs if need in target.cannot]
    if target.prompts_below is not None:
        said.append(_why(target, "prompt"))
    return ", ".join(said)


def _unserved(rows: ibis.Table, target: Target, logged: Iterable[Need]) -> dict[str, ibis.expr.types.BooleanValue]:
    """By reason, whether a model cannot serve a row."""
    found: dict[str, ibis.expr.types.BooleanValue] = {
        str(need): rows[column_of(need)].fill_null(False) for need in logged if need in target.cannot
    }
    if target.prompts_below is not None and "prompt_tokens" in rows.columns:
        found["prompt"] = (rows.prompt_tokens >= target.prompts_below).fill_null(False)
    return found


def cannot_serve(rows: ibis.Table, target: Target) -> ibis.expr.types.BooleanValue:
    """Whether a row holds a need, as logged, that a model does not meet; never null."""
    found: ibis.expr.types.BooleanValue = ibis.literal(False)
    for part in _unserved(rows, target, [need for need in NEEDS if column_of(need) in rows.columns]).values():
        found = found | part
    return found
