"""Made-up agents: sessions of several calls with tools, one model a session, whose prompts grow and are cached.

Belongs here: what a session takes of each model. A cheaper model needs more calls for the same task: for coding so many that the task costs
more, though each call costs less; for answering tickets a few, so that the task truly costs less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.demo.kinds import ARM_OF, Kind, Options, drawn_from, explored, named_by, of_each, rule_tag, started_us, texts
from routing_pipeline.demo.rows import attempts_table, scores_table
from routing_pipeline.demo.traffic import SCORED_AFTER_H, Floats, Ints, arrival_hours

AGENT_MODELS = ("claude-haiku-4-5", "claude-sonnet-4-5")
_ARMS = tuple(ARM_OF[name] for name in AGENT_MODELS)
CACHED = 0.95
"""Share of the previous prompt that the provider still has at the next call of a session."""
SCORED = 0.7
"""Share of the sessions whose last answer is scored."""
FAILS = 0.01
BETWEEN_CALLS_S = 8.0
EXPLORED = 0.12


@dataclass(frozen=True)
class AgentTask:
    """A task: its share, calls of the dearest model, tokens of the first prompt, what each call adds, tokens of an answer.

    factors, qualities: of each of AGENT_MODELS, calls relative to the others and quality of the last answer.
    """

    name: str
    share: float
    calls: float
    first_prompt: float
    grows: float
    answer: float
    factors: tuple[float, ...]
    qualities: tuple[float, ...]


AGENT_TASKS: tuple[AgentTask, ...] = (
    AgentTask("agent-coding", 0.4, 6.0, 2500, 900, 380, (3.6, 1.0), (0.82, 0.86)),
    AgentTask("agent-tickets", 0.6, 3.5, 1400, 350, 160, (1.3, 1.0), (0.865, 0.87)),
)
DEARER_PER_TASK = "agent-coding"
"""The task that the cheapest model makes dearer, call by call cheaper as it is."""
CHEAPER_PER_TASK = "agent-tickets"


def _of_tasks(name: str, task: Ints) -> Floats:
    values: Floats = np.array([getattr(each, name) for each in AGENT_TASKS], dtype=np.float64)[task]
    return values


def _options(rng: np.random.Generator, sessions: int) -> tuple[Options, Ints, Floats]:
    """The truth of some sessions; with their tasks' places and how long their texts are."""
    task = rng.choice(len(AGENT_TASKS), size=sessions, p=[each.share for each in AGENT_TASKS])
    complexity = rng.beta(2.0, 2.5, size=sessions)
    size = rng.lognormal(0.0, 0.25, size=sessions)
    more = (_of_tasks("calls", task) * (0.6 + 0.8 * complexity))[:, None] * _of_tasks("factors", task)
    calls = 1 + rng.poisson(np.maximum(more - 1.0, 0.05))
    preferred = np.exp(3.0 * (complexity[:, None] - 0.5) * np.array([-0.5, 0.5])) * np.array([0.25, 0.75])
    mean = _of_tasks("qualities", task) - 0.06 * (complexity[:, None] - 0.45)
    options = Options(
        models=AGENT_MODELS,
        task=named_by(tuple(each.name for each in AGENT_TASKS), task),
        team=texts(["agents"] * sessions),
        complexity=complexity.round(4),
        prompt_tokens=np.floor(size * _of_tasks("first_prompt", task)),
        has_image=np.zeros(sessions, dtype=bool),
        has_tools=np.ones(sessions, dtype=bool),
        chosen=drawn_from(rng, explored(preferred, EXPLORED)),
        cost=_cost(task, size, calls),
        calls=calls.astype(np.float64),
        quality=np.clip(mean + rng.normal(0.0, 0.1, size=mean.shape), 0.0, 1.0),
        may=np.ones(calls.shape, dtype=bool),
    )
    return options, task, size


def _cost(task: Ints, size: Floats, calls: Ints) -> Floats:
    """USD of a session of so many calls under each model: prompts grow by what was said, and most of the previous one is cached."""
    first, grows, answer = (_of_tasks(name, task) * size for name in ("first_prompt", "grows", "answer"))
    earlier = (calls - 1) * first[:, None] + grows[:, None] * (calls - 1) * (calls - 2) / 2
    prompts = earlier + first[:, None] + grows[:, None] * (calls - 1)
    price_in, price_cached, price_out = (of_each(_ARMS, name) for name in ("input_usd", "cached_usd", "output_usd"))
    usd: Floats = ((prompts - CACHED * earlier) * price_in + CACHED * earlier * price_cached + calls * answer[:, None] * price_out) / 1e6
    return usd


def agents(rng: np.random.Generator, calls: int, seed: int) -> Kind:
    """Sessions that take about so many calls, and never more."""
    options, task, size = _options(rng, max(calls // 3, 4))
    n = options.calls[np.arange(len(task)), options.chosen].astype(np.int64)
    kept = int((n.cumsum() <= calls).sum())
    options = Options(options.models, *(getattr(options, name)[:kept] for name in list(Options.__dataclass_fields__)[1:]))
    n, at = n[:kept], np.arange(kept)
    session = np.repeat(at, n)
    place = np.arange(len(session)) - np.repeat(n.cumsum() - n, n)
    is_last, arm = place == n[session] - 1, options.chosen[session]
    first, grows, answer = (_of_tasks(name, task[:kept])[session] * size[:kept][session] for name in ("first_prompt", "grows", "answer"))
    prompt = first + grows * place
    cached = np.where(place > 0, CACHED * (prompt - grows), 0.0)
    usd = (prompt - cached) * of_each(_ARMS, "input_usd")[arm] + cached * of_each(_ARMS, "cached_usd")[arm]
    usd = (usd + answer * of_each(_ARMS, "output_usd")[arm]) / 1e6
    latency = of_each(_ARMS, "first_token_ms")[arm] + answer * of_each(_ARMS, "ms_per_token")[arm] * rng.lognormal(0.0, 0.25, size=len(arm))
    began = started_us(arrival_hours(rng, kept) * 0.99)
    began = began[session] + (place * BETWEEN_CALLS_S * 1e6).astype(np.int64)
    fails = is_last & (rng.random(kept) < FAILS)[session]
    request = texts([f"req-{seed:x}-a{each:06d}" for each in range(len(session))])
    columns = {
        "attempt_id": request + "/1",
        "request_id": request,
        "session_id": texts([f"a-{each}" for each in session]),
        "started_at": began,
        "latency_ms": latency.round(3),
        "routing_latency_ms": rng.lognormal(np.log(9.0), 0.5, size=len(arm)).round(3),
        "model": named_by(AGENT_MODELS, arm),
        "provider": named_by(tuple(each.provider for each in _ARMS), arm),
        "provider_model": named_by(AGENT_MODELS, arm),
        "task_type": options.task[session],
        "complexity": options.complexity[session],
        "prompt_tokens": prompt.astype(np.int64),
        "completion_tokens": np.maximum(answer, 1).astype(np.int64),
        "cached_tokens": cached.astype(np.int64),
        "cost_usd": usd,
        "status": np.where(fails, "failure", "success").astype(object),
        "error_type": texts(["500_PROVIDER_INTERNAL_ERROR"] * len(arm)),
        "is_cache_hit": np.zeros(len(arm), dtype=bool),
        "team": options.team[session],
        "user_hash": texts([f"user-{each % 40}" for each in session]),
        "routing_rule_id": rule_tag("agents", len(arm)),
        "operation": texts(["chat"] * len(arm)),
        "has_image": options.has_image[session],
        "has_tools": options.has_tools[session],
    }
    unpaid = ("routing_latency_ms", "prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd")
    attempts = attempts_table(columns, {"error_type": ~fails, **dict.fromkeys(unpaid, fails)})
    scored = is_last & ~fails & (rng.random(kept) < SCORED)[session]
    value = options.quality[session, arm][scored]
    late = (rng.uniform(*SCORED_AFTER_H, size=len(value)) * SECONDS_PER_HOUR * 1e6).astype(np.int64)
    return Kind(attempts, scores_table(request[scored], value, began[scored] + late), options)
