"""Made-up questions about documents, a part of them with pictures that one of the models cannot read; that model is served by two providers.

Belongs here: what a question takes of each model. An open model would do for those without a picture at a third of the price or less.
"""

from __future__ import annotations

import numpy as np

from routing_pipeline.demo.kinds import ARM_OF, Kind, Options, drawn_from, explored, texts
from routing_pipeline.demo.single_calls import costs, written
from routing_pipeline.demo.traffic import Arm

DOCUMENT_TASK = "document-questions"
TWO_PROVIDERS = "llama-3.3-70b"
"""Reads no pictures. One provider is dearer and answers sooner, the other the other way round."""
DEPLOYMENTS: tuple[Arm, ...] = (
    Arm(TWO_PROVIDERS, "openrouter", "economy", 0.59, 0.79, 0.59, 240, 5, 0.6, 0.006),
    Arm(TWO_PROVIDERS, "novita", "economy", 0.135, 0.40, 0.135, 520, 14, 0.6, 0.006),
    ARM_OF["claude-haiku-4-5"],
    ARM_OF["gpt-4o"],
)
PROVIDER_MODELS = ("meta-llama/llama-3.3-70b-instruct", "meta-llama/llama-3.3-70b-instruct", "claude-haiku-4-5", "gpt-4o")
DOCUMENT_MODELS = (TWO_PROVIDERS, "claude-haiku-4-5", "gpt-4o")
PICTURES = 0.3
"""Share of the questions that come with a picture."""
PICTURE_TOKENS = 900
SCORED = 0.45
EXPLORED = 0.10


def documents(rng: np.random.Generator, requests: int, seed: int) -> Kind:
    """So many questions."""
    complexity = rng.beta(1.8, 3.0, size=requests)
    has_image = rng.random(requests) < PICTURES
    prompt = np.floor(rng.lognormal(np.log(1500), 0.5, size=requests)) + 8 + np.where(has_image, PICTURE_TOKENS, 0)
    answer = np.floor(rng.lognormal(np.log(180), 0.4, size=requests)) + 1
    provider = rng.integers(0, 2, size=requests)
    at_each = costs(DEPLOYMENTS, prompt, answer)
    can = np.column_stack([~has_image, np.ones((requests, 2), dtype=bool)])
    preferred = np.exp(2.0 * (complexity[:, None] - 0.4) * np.array([-1.0, 0.0, 1.0])) * np.array([0.25, 0.35, 0.40])
    chosen = drawn_from(rng, explored(preferred, EXPLORED, can))
    mean = np.array([0.86, 0.865, 0.87]) - np.array([0.07, 0.06, 0.05]) * complexity[:, None]
    options = Options(
        models=DOCUMENT_MODELS,
        task=texts([DOCUMENT_TASK] * requests),
        team=texts(["field"] * requests),
        complexity=complexity.round(4),
        prompt_tokens=prompt,
        has_image=has_image,
        has_tools=np.zeros(requests, dtype=bool),
        chosen=chosen,
        cost=np.column_stack([at_each[np.arange(requests), provider], at_each[:, 2], at_each[:, 3]]),
        calls=np.ones(mean.shape),
        quality=np.clip(mean + rng.normal(0.0, 0.1, size=mean.shape), 0.0, 1.0),
        may=can,
    )
    place = np.where(chosen == 0, provider, chosen + 1)
    return written(rng, f"{seed:x}-d", options, DEPLOYMENTS, place, answer, SCORED, PROVIDER_MODELS)
