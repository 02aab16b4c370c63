"""Reading what a look at a roll-out needs from the lake.

Belongs here: the requests that carry the rules of one set, since its first step. Does not belong here: comparing them (`recommendation.canary`).
"""

from __future__ import annotations

from routing_pipeline.catalog import Catalog
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.canary import CanaryLook, Step, canary_look, deciding_rules
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.rollout_record import RolloutState
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import LOOK_AROUND_S, conform, with_all_columns, with_time
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.kinds_of_call import chat_of
from routing_pipeline.window.scope import Window


def look_at(
    home: Home, engine: Engine, parameters: Parameters, rule_set: RuleSet, state: RolloutState, *, trust_proof: bool = False
) -> CanaryLook | None:
    """One look at everything since the first step; None before it, and while the lake holds nothing since. trust_proof: see `canary_look`."""
    steps = [Step(share=each.share, start_s=each.at.timestamp()) for each in state.steps]
    lake = Lake(home)
    newest_s = lake.newest_s()
    if not steps or newest_s is None or newest_s < steps[0].start_s:
        return None
    window = Window(steps[0].start_s, newest_s + 1e-6)
    files = lake.attempt_files(window.start_s - LOOK_AROUND_S, window.end_s + LOOK_AROUND_S)
    if not files:
        return None
    rows = with_all_columns(engine.read_parquet(files))
    mine = rows.filter(rows.routing_rule_id.isin(deciding_rules(rule_set))).select("request_id").distinct()
    feedback = lake.feedback_files()
    conformed = conform(
        rows.semi_join(mine, "request_id"),
        window,
        catalog=Catalog(parameters.models),
        feedback=engine.read_parquet(feedback) if feedback else None,
        quality_name=parameters.quality_feedback,
        trusted=parameters.trusted_scores,
    )
    timed = chat_of(with_time(rows))
    timed = timed.filter(timed.started_s >= window.start_s)
    return canary_look(conformed, int(timed.request_id.nunique().execute()), rule_set, steps, trust_proof=trust_proof)
