"""Random requests under random rule sets: our evaluator, its form in the engine and LiteLLM's classifier have to agree on every one.

    python benchmarks/gateway_agreement.py [--requests 100000] [--rule-sets 50] [--seed N]

The seed is fresh unless given, and printed. Ends with an error where one disagrees. The last line is how long a decision of the classifier takes.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import time
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from routing_pipeline.gateways.litellm import write
from routing_pipeline.gateways.litellm_classifier import Classifier
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.gateways.reachability import never_holds, shadowing
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.deciding import decided, decisions
from routing_pipeline.rules.model import NEEDS, RuleSet
from routing_pipeline.rules.reading import read_given_rules

OWN, SHARES = "gpt-4o", (1.0, 0.5, 0.05)
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-haiku-4-5")
NAMES = {"task_type": ("code", "chat", "summary", "other"), "team": ("growth", "ops", "other"), "tier": ("premium", "economy", "other")}
TIMED = 50
TYPES = {"complexity": pa.float64(), "prompt_tokens": pa.int64(), **dict.fromkeys(NEEDS, pa.bool_())}


def made_up_requests(draw: random.Random, count: int) -> list[dict[str, Any]]:
    """Requests with any field unknown one time in five, several to a session."""
    return [_request(draw, place, max(count // 5, 1)) for place in range(count)]


def _request(draw: random.Random, place: int, sessions: int) -> dict[str, Any]:
    fields: dict[str, Any] = {name: draw.choice(values) for name, values in NAMES.items()}
    fields |= {
        "complexity": draw.choice((0.0, 0.2, 0.5, 0.8, draw.random())),
        "prompt_tokens": draw.choice((0, 100, 2000, draw.randrange(9000))),
    }
    fields |= {name: draw.random() < 0.5 for name in NEEDS}
    fields = {name: None if draw.random() < 0.2 else value for name, value in fields.items()}
    return {**fields, "session_id": f"s{draw.randrange(sessions)}", "request_id": f"q{place:07d}", "started_s": float(place)}


def made_up_rules(draw: random.Random) -> RuleSet:
    """A rule set of which every rule can decide about something."""
    while True:
        rules = read_given_rules([_rule(draw) for _ in range(draw.randint(1, 8))], Parameters())
        kept = tuple(rule for rule in rules.rules if not never_holds(rule.when))
        shadowed = shadowing(kept)
        kept = tuple(rule for rule in kept if rule.id not in shadowed)
        if any(rule.route != "unchanged" for rule in kept):
            return rules.model_copy(update={"rules": kept})


def _rule(draw: random.Random) -> dict[str, Any]:
    asked: dict[str, Any] = {name: draw.sample(values[:-1], 1) for name, values in NAMES.items()}
    asked |= {"complexity": {"gte": draw.choice((0.2, 0.5))}, "prompt_tokens": {"lt": draw.choice((100, 2000))}}
    asked |= {name: draw.random() < 0.5 for name in NEEDS}
    weights = draw.choice(((1.0,), (0.9, 0.1), (0.34, 0.33, 0.33)))
    route = [{"model": model, "weight": weight} for model, weight in zip(draw.sample(MODELS, len(weights)), weights, strict=True)]
    when = {name: asked[name] for name in draw.sample(sorted(asked), draw.randint(0, 3))}
    return {"per": draw.choice(("request", "session")), "when": when, "route": draw.choice(("unchanged", route, route, route))}


def disagreements(rule_set: RuleSet, share: float, asked: list[dict[str, Any]], rows: ibis.Table) -> tuple[int, list[float]]:
    """Requests on which the three do not agree, and seconds that a decision of the classifier took, of one in TIMED."""
    table = decisions(rows, rule_set, share=share, own=OWN).order_by("request_id")
    engine = table.select("decided_rule", "decided_arm", "decided_propensity").to_pyarrow()
    content = json.loads(write(plan_of(rule_set, share), None, OWN).files["routing_rules.json"])
    classifier, firsts = Classifier(content=content), {}
    ours, theirs, took = [], [], []
    for place, request in enumerate(asked):
        unit = request["session_id"]
        first = firsts.setdefault(unit, request)
        decision = decided(rule_set, request, unit, share=share, first=first, own=OWN)
        ours.append((decision.rule_id, decision.arm, decision.propensity))
        if place % TIMED:
            _, names = classifier.decide(request, unit)
        else:
            began = time.perf_counter()
            _, names = classifier.decide(request, unit)
            took.append(time.perf_counter() - began)
        rule = names.get("routing_rule_id")
        theirs.append((rule and rule.split("/")[1], names.get("arm"), names.get("propensity")))
    expected = _columns(ours)
    of_engine = [engine[name].to_numpy(zero_copy_only=False) for name in engine.column_names]
    return int((_differ(expected, of_engine) | _differ(expected, _columns(theirs))).sum()), took


def _columns(told: list[tuple[Any, ...]]) -> list[np.ndarray]:
    return [np.array(each, dtype=object) for each in zip(*told, strict=True)]


def _differ(ours: list[np.ndarray], told: list[np.ndarray]) -> np.ndarray:
    """Whether rule, arm or probability differ, by request; nothing told equals nothing told alone."""
    chances, others = (np.array(each[2], dtype=np.float64) for each in (ours, told))
    same = (ours[0] == told[0]) & (ours[1] == told[1]) & np.isclose(chances, others, rtol=0, atol=1e-9, equal_nan=True)
    return ~same.astype(bool)


def main() -> None:
    """Compare and measure."""
    options = argparse.ArgumentParser()
    options.add_argument("--requests", type=int, default=100_000)
    options.add_argument("--rule-sets", type=int, default=50)
    options.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    given = options.parse_args()
    seed = secrets.randbelow(2**31) if given.seed is None else given.seed
    draw = random.Random(seed)  # noqa: S311  made-up traffic
    asked = made_up_requests(draw, given.requests)
    columns = {name: pa.array([each[name] for each in asked], TYPES.get(name)) for name in asked[0]}
    rows = ibis.memtable(pa.table(columns))
    wrong, took = 0, []
    for place in range(given.rule_sets):
        found, seconds = disagreements(made_up_rules(draw), SHARES[place % len(SHARES)], asked, rows)
        wrong += found
        took += seconds
        print(f"   after {place + 1} rule sets: {wrong} disagreements", file=sys.stderr, flush=True)
    print(f"seed {seed}: {given.requests} requests x {given.rule_sets} rule sets: {wrong} disagreements")
    print(f"classifier: median {np.median(took) * 1e6:.1f} us, 99th percentile {np.percentile(took, 99) * 1e6:.1f} us a decision")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
