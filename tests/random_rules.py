"""Random rule sets and random requests, for whoever has to agree about which rule decides."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st

from routing_pipeline.gateways.reachability import never_holds, shadowing
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.model import NEEDS, RuleSet
from routing_pipeline.rules.reading import read_given_rules

TASKS = ("code", "chat", "summary", 'a "quoted" && task')
TEAMS = ("growth", "ops")
TIERS = ("premium", "economy")
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-haiku-4-5")
COMPLEXITIES = (0.0, 0.2, 0.5, 0.8, 1.0)
LENGTHS = (0, 100, 500, 2000, 8000)
SPLITS = ((1.0,), (0.5, 0.5), (0.9, 0.1), (0.01, 0.99), (0.34, 0.33, 0.33))


def requests() -> st.SearchStrategy[dict[str, Any]]:
    """Fields of one request; any may be unknown."""
    numbers = {
        "complexity": st.sampled_from(COMPLEXITIES) | st.floats(0, 1, allow_nan=False),
        "prompt_tokens": st.sampled_from(LENGTHS) | st.integers(0, 10_000),
    }
    names = {"task_type": (*TASKS, "other"), "team": (*TEAMS, "other"), "tier": (*TIERS, "other")}
    fields = {name: st.none() | st.sampled_from(values) for name, values in names.items()}
    fields |= {name: st.none() | values for name, values in numbers.items()}
    fields |= {name: st.none() | st.booleans() for name in NEEDS}
    return st.fixed_dictionaries(fields)


@st.composite
def rule_sets(
    draw: st.DrawFn, *, most: int = 5, pers: tuple[str, ...] = ("request",), conditions: tuple[str, ...] | None = None
) -> RuleSet:
    """A rule set that a gateway may be given: every rule can decide about something."""
    listed = draw(st.lists(_rules(pers, conditions), min_size=1, max_size=most))
    given = read_given_rules([{**rule, "id": f"r{place}"} for place, rule in enumerate(listed, 1)], Parameters())
    kept = tuple(rule for rule in given.rules if not never_holds(rule.when))
    shadowed = shadowing(kept)
    kept = tuple(rule for rule in kept if rule.id not in shadowed)
    return given.model_copy(update={"rules": kept})


@st.composite
def _rules(draw: st.DrawFn, pers: tuple[str, ...], conditions: tuple[str, ...] | None) -> dict[str, Any]:
    asked: dict[str, st.SearchStrategy[Any]] = {
        "task_type": st.lists(st.sampled_from(TASKS), min_size=1, max_size=3, unique=True),
        "team": st.lists(st.sampled_from(TEAMS), min_size=1, unique=True),
        "tier": st.lists(st.sampled_from(TIERS), min_size=1, unique=True),
        "complexity": _ranges(COMPLEXITIES),
        "prompt_tokens": _ranges(LENGTHS),
        **{name: st.booleans() for name in NEEDS},
    }
    names = draw(st.lists(st.sampled_from(conditions or tuple(asked)), max_size=3, unique=True))
    split = draw(st.sampled_from(SPLITS))
    models = draw(st.permutations(MODELS))
    route = [{"model": model, "weight": weight} for model, weight in zip(models, split, strict=False)]
    fallbacks = draw(st.lists(st.sampled_from(MODELS), max_size=2, unique=True))
    return {
        "per": draw(st.sampled_from(pers)),
        "when": {name: draw(asked[name]) for name in names},
        "route": draw(st.sampled_from(("unchanged", route, route, route))),
        "fallbacks": fallbacks,
    }


def _ranges(ends: tuple[float, ...]) -> st.SearchStrategy[dict[str, float]]:
    pair = st.tuples(st.none() | st.sampled_from(ends), st.none() | st.sampled_from(ends))
    return pair.filter(lambda each: each[0] is None or each[1] is None or each[0] < each[1]).map(
        lambda each: {name: end for name, end in zip(("gte", "lt"), each, strict=True) if end is not None}
    )
