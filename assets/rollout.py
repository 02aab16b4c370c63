"""Roll-out of what is live: one look at canary and control, and what follows from it.

Belongs here: the asset that looks, its job, and the sensor that has it look every hour. Does not belong here: what a look allows and how it is
done (routing_pipeline.gateways.rollout).
"""

import time

import dagster as dg

from assets.ingest import OWNERS
from assets.resources import HomeResource
from routing_pipeline.alerts.notifications import tell
from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.errors import PipelineError
from routing_pipeline.gateways.rollout import Rollout, RolloutStatus
from routing_pipeline.gateways.rollout_looks import look_at
from routing_pipeline.gateways.rollout_settings import read_rollout
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import read_parameters
from routing_pipeline.rules.rollout_record import Transition
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.text import percent


@dg.asset(
    group_name="delivery",
    owners=OWNERS,
    kinds={"json"},
    code_version=code_key("routing_pipeline.gateways.rollout"),
    deps=["request_log", "feedback"],
)
def rollout(context: dg.AssetExecutionContext, home: HomeResource) -> None:
    """The steps of the rule set that is live: canary against control, and, with [rollout] automatic, the next step or the way back. One look per run."""
    settings = read_rollout(home.config_file())
    found = Rollout(home.open(), home.record(), settings, home.config_file())
    if settings.automatic:
        # What a person decided, or an ended process left, comes first.
        found.settle()
    live = found.live()
    look = None
    if live is not None and live[1].steps:
        with home.reading() as engine:
            look = look_at(home.open(), engine, read_parameters(home.config_file()), *live, trust_proof=settings.trust_proof)
    done = found.go(look)
    status = found.status(look, written=found.written)
    for line in _news(done, status):
        for failure in tell(home.config_file(), "roll-out", line):
            context.log.warning(failure)
    context.add_output_metadata(
        {
            "rule set": status.rule_set_id or "none",
            "share": status.share,
            "next": f"{status.next}: {status.because}",
            "done": "nothing" if done is None else f"{done.change} to {percent(done.share)}: {done.because}",
            "look": dg.MetadataValue.json({} if look is None else look.model_dump(mode="json")),
        }
    )


def _news(done: Transition | None, status: RolloutStatus) -> list[str]:
    """What everybody hears of: each transition, and a boundary that was crossed while nothing acts by itself."""
    if done is not None:
        what = "Rolled back" if done.change == "roll_back" else f"{percent(done.share)} of the sessions follow the rules now"
        return [f"Rule set {done.rule_set_id}: {what}. {done.because}."]
    if status.next == "roll_back":
        return [
            f"Rule set {status.rule_set_id} should be rolled back: {status.because}. Nothing is done automatically: routing-pipeline rollout rollback --by NAME"
        ]
    return []


look_at_rollout = dg.define_asset_job(
    "look_at_rollout", selection=dg.AssetSelection.assets("rollout"), description="One check of the canary, and the decision that follows."
)


@dg.sensor(
    job=look_at_rollout,
    minimum_interval_seconds=300,
    description="One check of the roll-out for every hour that has new requests; none while no rule set is live, or [rollout] names no gateway.",
)
def rollout_looks(context: dg.SensorEvaluationContext, home: HomeResource) -> dg.SensorResult | dg.SkipReason:
    """Reads where the roll-out stands and how new the lake is; the look itself is a run."""
    try:
        settings = read_rollout(home.config_file())
        if not settings.gateway:
            return dg.SkipReason("[rollout] names no gateway")
        found = Rollout(home.open(), home.record(), settings, home.config_file())
        live = found.live()
        newest_s = Lake(home.open()).newest_s()
    except PipelineError as error:
        return dg.SkipReason(f"where the roll-out stands cannot be read: {error}"[:400])
    if live is None and not found.steps.transitions():
        return dg.SkipReason("no rule set is live")
    hour = int((newest_s or time.time()) // SECONDS_PER_HOUR)
    state = "none" if live is None else f"{live[0].rule_set_id}:{live[1].share:g}:{len(live[1].transitions)}"
    key = f"rollout:{state}:{hour}"
    if key == context.cursor:
        return dg.SensorResult(skip_reason="no new hour since the last check", cursor=key)
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, tags={"reason": "a check of the roll-out"})], cursor=key)
