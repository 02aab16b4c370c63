"""Made-up replies to mails of four teams, one of which asks what is harder than its complexity says and is routed to the big model for it.

Belongs here: what a reply takes of each model. Whoever compares the models over all teams takes the small one for nearly as good: it is for
three of the teams, and nobody tries it on the fourth.
"""

from __future__ import annotations

import numpy as np

from routing_pipeline.demo.kinds import ARM_OF, Kind, Options, drawn_from, explored, named_by, texts
from routing_pipeline.demo.single_calls import costs, written

REPLY_TASK = "email-replies"
REPLY_MODELS = ("gpt-4o-mini", "claude-haiku-4-5", "claude-sonnet-4-5")
_ARMS = tuple(ARM_OF[name] for name in REPLY_MODELS)
TEAMS = ("sales", "billing", "success", "legal")
STEERING_TEAM = "legal"
_SHARES = (0.3, 0.25, 0.2, 0.25)
SCORED = 0.5
EXPLORED = 0.08


def replies(rng: np.random.Generator, requests: int, seed: int) -> Kind:
    """So many replies."""
    team = rng.choice(len(TEAMS), size=requests, p=_SHARES)
    is_hard = (team == TEAMS.index(STEERING_TEAM))[:, None]
    complexity = rng.beta(2.0, 3.0, size=requests)
    prompt = np.floor(rng.lognormal(np.log(800), 0.45, size=requests)) + 8
    answer = np.floor(rng.lognormal(np.log(220), 0.35, size=requests)) + 1
    steers = np.where(is_hard, np.array([0.02, 0.13, 0.85]), np.array([0.35, 0.40, 0.25]))
    preferred = np.exp(1.5 * (complexity[:, None] - 0.4) * np.array([-1.0, 0.0, 1.0])) * steers
    mean = np.where(is_hard, np.array([0.58, 0.74, 0.87]), np.array([0.865, 0.87, 0.88])) - 0.05 * complexity[:, None]
    options = Options(
        models=REPLY_MODELS,
        task=texts([REPLY_TASK] * requests),
        team=named_by(TEAMS, team),
        complexity=complexity.round(4),
        prompt_tokens=prompt,
        has_image=np.zeros(requests, dtype=bool),
        has_tools=np.zeros(requests, dtype=bool),
        chosen=drawn_from(rng, explored(preferred, EXPLORED)),
        cost=costs(_ARMS, prompt, answer),
        calls=np.ones(mean.shape),
        quality=np.clip(mean + rng.normal(0.0, 0.1, size=mean.shape), 0.0, 1.0),
        may=np.ones(mean.shape, dtype=bool),
    )
    return written(rng, f"{seed:x}-r", options, _ARMS, options.chosen, answer, SCORED)
