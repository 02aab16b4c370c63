"""What a limit is called for readers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routing_pipeline.policy.proof import Evaluated, quality_margins
from routing_pipeline.policy.search import Limits
from routing_pipeline.stats.inference import Statistic


def test_what_unlogged_difficulty_may_flatter_is_told_in_two_digits() -> None:
    nothing = Statistic(0.0, np.zeros(2), 2)
    today = Evaluated(nothing, nothing, nothing, nothing, nothing, nothing)
    limits = Limits(None, 0.01, None, keeps_cost=False, max_slow=None, caps=(), hidden_bias=0.0108313)
    ((name, _),) = quality_margins(replace(today, moved=0.5), today, limits)
    assert name == "quality not more than 0.01 below today's even if unlogged difficulty flatters moved requests by 0.011"
